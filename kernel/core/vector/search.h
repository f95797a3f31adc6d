// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Searches of a collection: plan, walk or scan, permission and filters, and hits as the caller gets them.
//
// A search answers as of its start: rows added or removed meanwhile may or may not be seen, but a row that is being
// updated is always found, once. Nothing here takes a lock that a writer or another search holds for long.
//
// Which rows may be hits is asked in two ways. One by one, of rows that are near enough (accept(), search_accept.cc); or
// of all rows before anything is scored, into a Selection (search_select.cc). Which of the two, and whether then the index
// is walked or the selected rows are scored, is what search_plan.cc decides, once for all queries of a call.
#pragma once
#include "../uapi.h"
#include "engine.h"
#include "flat.h"
#include "selection.h"

namespace vexfs::vector {

// What is known of an inode met during a search, and the inode: asked once, unless there are too many to be kept.
struct InodeNote {
  u64 ino = 0;
  fs::InodeRef ref;
  bool asked = false, allowed = false;  // may the caller read it?
  bool present = false;
  u32 inside_known = 0, inside = 0;  // bit i: lies below the directory of subtree filter i
};

struct SearchOptions {
  u32 k = 10;
  u32 ef = 64;
  u32 recall = 0;  // per mille that is wanted; 0: ef is what counts
  bool exact = false;
  bool skip_stale = false;
  u64 exclude_owner = 0;  // 0: none
  const vexfs_filter *filters = nullptr;
  u32 nfilters = 0;
  u32 queries = 1;  // in the whole call
  // ---- bounds (see TopK)
  bool has_radius = false, has_after = false;
  u32 key_max = simd::key_farthest;
  Hit after{0, 0};
  bool by_owner = false;
  vx_caller *caller = nullptr;
};

class Searcher : Pinned {
 public:
  static constexpr u32 group_max = 16;  // queries answered together by an exact scan
  // Nothing of the scratch but what a searcher gets from it, and the searcher itself, is used until it is gone.
  Searcher(Engine &e, Collection &c, const SearchOptions &o, Scratch &scratch)
      : engine_(e), c_(c), o_(o), scratch_(scratch) {}
  ~Searcher();
  Status init();  // nomem
  // hits[j * k ...] and counts[j] of n queries: 1..group_max, not more than the call has. intr, nomem, io.
  Status run(const simd::Query *queries, u32 n, vexfs_hit *hits, u32 *counts);
  // What the caller may be told of the work: nothing if rows were counted that it may not read.
  SearchStats told() const;
  u32 plan() const { return plan_; }  // enum vexfs_plan, of the last run
  u32 ef() const { return o_.exact ? 0 : o_.ef; }

 private:
  static bool accept(void *ctx, u32 slot);
  static bool interrupted(void *ctx);
  bool accept_row(u32 slot);
  bool place_passes(const RowMeta &m);
  bool owner_passes(const RowMeta &m);
  static u64 owner_of(void *ctx, u32 slot);
  // ---- of all rows at once (search_select.cc)
  enum class Asked : u8 { none, columns, all };  // what a selection says: nothing; filters of columns; may be returned
  void find_ranges();
  u64 column_mask(const ChunkMeta &m, u32 at, u32 n) const;
  bool columns_pass(const RowMeta &m) const;
  u64 hidden_bits(u32 slot) const;
  Asked all_asked() const;
  struct Columns;
  Status extend_blocks(RowView &rows, u32 blocks);
  Status take_columns(RowView &rows, u32 blocks, Columns *out);
  Status fill_block(u32 column, u32 block, u64 *numbers);
  void decide_block(const u64 *words, u32 count, u32 block);
  bool compact() const;
  bool known() const;
  bool has_places() const;
  Status select(RowView &rows, u32 upto, Asked what);
  Result<bool> try_select(RowView &rows, u32 upto, Asked what);
  Status extend(RowView &rows, u32 upto);
  Status ask_selected(RowView &rows, u32 upto);
  Result<const ChunkMeta *> chunk_meta(u32 number);
  const ChunkMeta *resident_meta(u32 number) const;
  Status breathe(RowView &rows);
  // ---- the plan (search_plan.cc)
  enum class Way : u8 { scan, matching, walk };
  struct Estimate {
    u64 rows = 0;      // live
    u64 columns = 0;   // of them pass the filters of columns
    u64 matching = 0;  // and those of places
    u64 absent = 0;    // rows whose chunks are not in memory
  };
  Result<Estimate> estimate(u32 n);
  Result<Way> plan_filters(RowView &rows, u32 n, bool index);
  Result<Way> plan_anew(RowView &rows, u32 n, bool index);
  Way way_selected(bool index) const;
  u64 select_cost(const Estimate &e) const;
  u64 row_cost() const;
  u64 shared_cost(u64 rows) const;
  u64 walked_rows(u64 matching, u64 rows) const;
  u64 walk_cost(u64 matching, u64 rows) const;
  Status score_selected(FnRef<Status()> score);
  Status scan_matching(View &view, const simd::Query *q, u32 nq);
  Result<InodeNote *> note(u64 ino);
  Status grow_notes();
  Status forget_notes();
  Result<bool> below(u64 ino, u32 filter, u64 top);
  bool need_permission() const;
  bool need_accept(u32 upto, u32 n) const;
  // ---- of a snapshot, by way of the present (search_past.cc)
  void find_present();
  bool only_then(u32 slot) const;
  bool seen_then(u32 slot);
  Result<RowMeta> meta(u32 slot);
  Result<RowMeta> row_meta(Table &t, u32 slot);
  Status answer_past(const simd::Query *queries, u32 n, vexfs_hit *hits, u32 *counts);
  u32 given_up() const;
  Result<bool> search_past(View &then, View &now, const simd::Query *q, u32 nq);
  Result<bool> walk_past(View &then, View &now, const simd::Query *q, u32 nq, LiveIndex &l);
  Result<bool> find_apart(LiveIndex &l, u32 upto);
  Result<bool> find_died(LiveIndex *l, u32 upto, u32 most);
  Status scan_past(View &then, View &now, const simd::Query *q, u32 nq, u32 begin, u32 end);
  u64 all_past(u32 upto, bool filtered) const;
  Status matching_past(View &then, View &now, const simd::Query *q, u32 nq);
  Result<bool> answer_there(View &then, View &now, const simd::Query *q, u32 nq, LiveIndex *l);
  Status score_named(View &then, View &now, const simd::Query *q, u32 nq);

  Result<bool> choose_slots(View &view);
  Status add_slots(u32 slot, u32 count, u32 limit);
  Status scan_all(View &view, const simd::Query *q, u32 nq, u32 begin, u32 end);
  // ---- the index (search_walk.cc)
  struct Breadth {  // how wide a walk for k hits has to be, and how many hits are all there can be
    FnRef<u32(u32 k)> ef;
    u64 all;
  };
  Result<bool> walk_one(RowView &rows, const simd::Query &q, LiveIndex &l, const Breadth &b, TopK &top);
  Result<bool> walk_deep(RowView &rows, const simd::Query &q, LiveIndex &l, const Breadth &b, TopK &top);
  Status walk(View &view, const simd::Query *q, u32 nq, LiveIndex &l);
  Status scan_tail(View &view, const simd::Query *q, u32 nq, const SlotRun *tail, u32 runs);
  MatchingLists *take_lists(const LiveIndex &l);
  void choose_breadth();
  u32 breadth(u32 k) const;
  void remember(const simd::Query *queries, u32 n);
  bool deep() const { return o_.has_after || o_.by_owner; }
  Status search(View &view, const simd::Query *q, u32 nq);
  Status catch_up(View &view, const simd::Query *q, u32 nq, u64 updates, bool *displaced);
  Status answer(const simd::Query *queries, u32 n, vexfs_hit *hits, u32 *counts);
  Status deliver(TopK &top, vexfs_hit *out, u32 *count);
  Status drop_duplicates(TopK &top);
  SearchParams params();

  Engine &engine_;
  Collection &c_;
  CollectionRef present_;  // what c_ is now, if c_ is a snapshot's and the live one may answer for it
  SearchOptions o_;
  RecallCurve curve_;  // of the index that is searched, if a recall is wanted
  Scratch &scratch_;
  SearchStats stats_;
  u32 plan_ = VEXFS_PLAN_SCAN;
  u32 limit_ = slot_none;  // accept: slots below this
  u32 upto_ = 0;           // slots below are reached by the index
  bool accepting_ = false;
  bool past_ = false;                         // present_ is what answers
  bool walking_ = false, walk_dead_ = false;  // of a snapshot, in the live graph; what died since is accepted there
  Errno trouble_ = Errno::ok;                 // in accept(), which cannot say so itself
  TopK tops_[group_max];
  u32 group_ = 0;  // of them that there may be queries for
  Vec<u64> owners_;
  Vec<Hit> found_;     // by a walk that brings more than is wanted
  u32 k_ = 0;          // one more than wanted where it is told whether there are more
  Vec<u32> slots_;     // chosen by filters
  u32 chosen_of_ = 0;  // slots there were when choose_slots() last found few; 0: it has not
  ColumnRanges ranges_;
  Selection selection_;
  Asked selected_ = Asked::none;
  bool narrowed_ = false;           // the selection, by what its columns do not say, perhaps of a part of its rows
  MatchingLists *lists_ = nullptr;  // of what is selected, during a walk
  bool planned_ = false;
  u32 code_bytes_ = 0;  // of the index, if it has codes
  Way way_ = Way::scan;
  GroupCache groups_;  // metadata of rows whose chunks are not in memory
  Vec<u64> ids_;
  InodeNote *notes_ = nullptr;
  u32 notes_cap_ = 0, notes_n_ = 0;
};

}  // namespace vexfs::vector
