// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Searches of a collection: plan, walk or scan, permission and filters, and hits as the caller gets them.
//
// A search answers as of its start: rows added or removed meanwhile may or may not be seen, but a row that is being
// updated is always found, once. Nothing here takes a lock that a writer or another search holds for long.
#pragma once
#include "../uapi.h"
#include "engine.h"
#include "flat.h"

namespace vexfs::vector {

// What is known of an inode met during a search: asked once. Keeps the inode until the search is over.
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
  bool exact = false;
  bool skip_stale = false;
  u64 exclude_owner = 0;  // 0: none
  const vexfs_filter *filters = nullptr;
  u32 nfilters = 0;
  vx_caller *caller = nullptr;
};

class Searcher : Pinned {
 public:
  static constexpr u32 group_max = 16;  // queries answered together by an exact scan
  Searcher(Engine &e, Collection &c, const SearchOptions &o) : engine_(e), c_(c), o_(o) {}
  ~Searcher();
  Status init();  // nomem
  // hits[j * k ...] and counts[j] of n (1..group_max) queries. intr, nomem, io.
  Status run(const simd::Query *queries, u32 n, vexfs_hit *hits, u32 *counts);
  const SearchStats &stats() const { return stats_; }
  u32 plan() const { return plan_; }  // enum vexfs_plan, of the last run

 private:
  static bool accept(void *ctx, u32 slot);
  static bool interrupted(void *ctx);
  bool accept_row(u32 slot);
  bool passes(const RowMeta &m);
  bool owner_passes(const RowMeta &m);
  Result<InodeNote *> note(u64 ino);
  Status grow_notes();
  Result<bool> below(u64 ino, u32 filter, u64 top);
  bool need_accept(u32 upto, u32 n) const;
  // ---- of a snapshot, by way of the present (search_past.cc)
  void find_present();
  bool only_then(u32 slot) const;
  bool seen_then(u32 slot);
  Result<const RowMeta *> meta(u32 slot);
  Status answer_past(const simd::Query *queries, u32 n, vexfs_hit *hits, u32 *counts);
  u32 given_up() const;
  Result<bool> search_past(View &then, View &now, const simd::Query *q, u32 nq);
  Result<bool> walk_past(View &then, View &now, const simd::Query *q, u32 nq, LiveIndex &l);
  Result<bool> find_apart(LiveIndex &l, u32 upto);
  Result<bool> find_died(LiveIndex *l, u32 upto, u32 most);
  Status scan_past(View &then, View &now, const simd::Query *q, u32 nq, u32 begin, u32 end);
  Status score_named(View &then, View &now, const simd::Query *q, u32 nq);

  Result<bool> choose_slots(View &view);
  Status add_slots(u32 slot, u32 count, u32 limit);
  Status scan_all(View &view, const simd::Query *q, u32 nq, u32 begin, u32 end);
  Status walk(View &view, const simd::Query *q, u32 nq, LiveIndex &l);
  Status search(View &view, const simd::Query *q, u32 nq);
  Status catch_up(View &view, const simd::Query *q, u32 nq, u64 updates);
  Status answer(const simd::Query *queries, u32 n, vexfs_hit *hits, u32 *counts);
  Status deliver(TopK &top, vexfs_hit *out, u32 *count);
  void drop_duplicates(TopK &top);
  SearchParams params();

  Engine &engine_;
  Collection &c_;
  CollectionRef present_;  // what c_ is now, if c_ is a snapshot's and the live one may answer for it
  SearchOptions o_;
  Scratch scratch_;
  SearchStats stats_;
  u32 plan_ = VEXFS_PLAN_SCAN;
  u32 limit_ = slot_none;  // accept: slots below this
  u32 upto_ = 0;           // slots below are reached by the index
  bool accepting_ = false;
  bool past_ = false;                         // present_ is what answers
  bool walking_ = false, walk_dead_ = false;  // of a snapshot, in the live graph; what died since is accepted there
  Errno trouble_ = Errno::ok;                 // in accept(), which cannot say so itself
  TopK tops_[group_max];
  Vec<Hit> storage_;
  Vec<u32> slots_;  // chosen by filters
  InodeNote *notes_ = nullptr;
  u32 notes_cap_ = 0, notes_n_ = 0;
};

}  // namespace vexfs::vector
