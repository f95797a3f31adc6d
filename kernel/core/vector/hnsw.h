// SPDX-License-Identifier: GPL-2.0-only OR MIT
// HNSW (Malkov & Yashunin 2018) as an Index: a graph of slots, walked on integer keys.
//
// Differences from the paper's text, all measured: a hop scores all unseen neighbours as one batch; nodes scored on
// the upper levels enter the level-0 beam with their distances instead of being scored again; a full list is thinned
// by the paper's heuristic (algorithm 4), dead rows first out. With codes, everything but the last step of a search is
// done on them, and the whole beam is scored again on the rows: a walk's cost is fetching what it compares.
#pragma once
#include "beam.h"
#include "hnsw_measure.h"
#include "visited.h"

namespace vexfs::vector {

// What one hop leads to, gathered and then scored in one go.
struct Batch {
  static constexpr u32 capacity = 2 * hnsw_m_max;  // a whole list
  u32 n;
  u32 slot[capacity];
  u32 key[capacity];
  u32 aux[capacity];
  const void *item[capacity];  // rows or codes
  bool copy[capacity];         // of a sorted batch: is what the one before is
  Entry entry[capacity];       // Walk::offer()'s
};

// Entry point: slot and level in one word, so that they change together.
struct EntryPoint {
  u64 word = 0;  // 0: empty graph; else (level + 1) << 32 | slot
  static EntryPoint of(u32 slot, u32 level) { return {u64{level + 1} << 32 | slot}; }
  bool empty() const { return word == 0; }
  u32 slot() const { return static_cast<u32>(word); }
  u32 level() const { return static_cast<u32>(word >> 32) - 1; }
};

// One walk through a graph for one query: visited set, beam, batches. Lives for one search, or one insert.
class Walk : Pinned {
 public:
  Walk(Graph &g, const Measure &measure, RowView &rows, Scratch &scratch)
      : graph_(g), measure_(measure), rows_(rows), scratch_(scratch), visited_(scratch) {}

  SearchStats stats;
  Beam beam;
  const SearchParams *params = nullptr;

  // Scores the entry point and descends to the nearest node found on level `stop`, greedily. Needs `begin` first.
  // The nodes scored on the way are in the beam.
  Status begin(const Probe &q, EntryPoint entry, u32 ef);
  Status descend(u32 stop);
  // Widens the beam on `level` until no entry that could improve it is left (algorithm 2), or none of its nearest `reach`.
  Status widen(u32 level, u32 reach = ~u32{0});
  // Forgets what was seen and starts again on the next level from what the beam holds.
  Status restart(u32 ef);
  // Level 0 with results apart from the candidates: only live, accepted rows count towards ef. Ascending entries in
  // *results, at most max(ef, k).
  Status widen_accepted(u32 ef, const Entry **results, u32 *n);
  // The distances of found[0..n), ascending, on the rows: the nearest `keep` of them, ascending, in *results. What cannot be
  // read any more, or died meanwhile, is left out; where codes say how wrong they may be, what would be too far as well.
  Status rescore(const simd::Query &q, const Entry *found, u32 n, u32 keep, const Entry **results, u32 *kept);

 private:
  friend class Hnsw;
  // These three end the section when they have to sleep, or score outside of one that is held.
  Result<Item> item(u32 slot, FpuHold *fpu = nullptr);
  Status gather(u32 slot, FpuHold *fpu = nullptr);
  void gather_item(u32 slot, const Item &item);
  // What most of a search's time is spent in, so without a call. `there`: the segment of `next`.
  static void gather_code(const GraphShape &shape, const u8 *there, u32 next, u32 lines, Batch &into) {
    const u8 *code = there + shape.codes_at + usize{next & shape.mask()} * shape.code_bytes;
    for (u32 l = 0; l < lines; l++) __builtin_prefetch(code + usize{64} * l);
    __builtin_prefetch(code + shape.code_bytes - 1);
    into.slot[into.n] = next;
    into.item[into.n++] = code;
  }
  void gather_code(const GraphShape &shape, const u8 *there, u32 next, u32 lines) {
    gather_code(shape, there, next, lines, *batch_);
  }
  u32 item_lines() const { return min_of((measure_.item_bytes() + 63) / 64, item_lines_ahead); }
  Status collect(u32 slot, u32 level, FpuHold &fpu);
  Status bring_absent();
  Status bound(const Entry *found, u32 n);
  Status gather_rows(const Entry *found, u32 n, bool bounded, u32 limit);
  void score(FpuHold &fpu);
  void score() {
    FpuHold fpu;
    score(fpu);
  }
  void offer(Beam &to);
  Status breathe(FpuHold &fpu);
  Status breathe() {
    FpuHold none;
    return breathe(none);
  }
  void prefetch_list(u32 slot) const;
  bool wanted(u32 slot);
  u32 crowd_min() const { return max_of<u32>(4, graph_.shape.m / 2); }
  Result<bool> crowd_within(const Entry *found, u32 n, u32 limit);
  u32 last_living(const Entry *found, u32 n, u32 k) const;
  void mark_copies();
  Status drop_dead(const Entry **found, u32 *n);
  void sort_batch();
  Status grow_heap(MinHeap &heap);
  Status push_candidates(MinHeap &heap, Beam &found);
  // ---- among the rows that match (hnsw_matching.cc)
  bool matches(u32 slot) const;
  // Null: there is none (any more).
  Result<u8 *> segment_of(u32 slot) {
    if (u8 *there = graph_.peek(slot >> graph_.shape.shift)) [[likely]]
      return there;
    Result<u8 *> r = graph_.get(slot >> graph_.shape.shift);
    if (r.code() == Errno::noent) return nullptr;
    return r;
  }
  Status split_list(u32 slot, u32 *matching, u32 *nmatching, u32 *bridges, u32 *nbridges);
  Status gather_unseen(const u32 *matching, u32 n);
  Status gather_matching(u32 slot, u32 *bridges, u32 *n);
  Status collect_matching(u32 slot);
  Status find_matching(u32 slot, u32 most, u32 *found, u32 *n);
  Result<bool> collect_listed(u32 slot);
  void prefetch_step(u32 slot) const;
  Status expand_matching(u32 slot);
  Status widen_matching(u32 ef);
  Status score_ahead(Batch &ahead);
  Status scan_matching(const Probe &q, u32 ef);
  u32 take_wanted(const Entry *found, u32 n, Entry *into);
  Result<bool> in_crowd(u32 slot);
  Entry seed_ = ~Entry{0};  // the nearest node that a walk began from and that does not match

  static constexpr u32 item_lines_ahead = 8;  // cache lines of a row or code fetched when it is gathered

  Graph &graph_;
  const Measure &measure_;
  RowView &rows_;
  Scratch &scratch_;
  Visited visited_;
  Batch *batch_ = nullptr;
  Probe query_;
  u32 current_ = slot_none;  // where the descent stands
  u32 current_key_ = simd::key_farthest;
  u32 level_ = 0;
  u32 ef_ = 0;
  u32 since_breath_ = 0;
  u32 crowd_key_ = simd::key_farthest;  // of the nearest crowd of copies that are not wanted
  bool heap_spare_ = false;
};

class Hnsw final : public Index {
 public:
  Hnsw(const simd::Space &space, const simd::CodeSpace &codes, const HnswParams &params, const BlobSource *source,
       u32 covered, EntryPoint entry)
      : params_(params),
        graph_(params, codes, source, covered),
        measure_(graph_, space, codes),
        entry_(entry.word),
        decided_(params.codes != HnswParams::Codes::automatic || codes.kind() == simd::CodeKind::none) {}

  IndexKind kind() const override { return IndexKind::hnsw; }
  const simd::Space &space() const override { return measure_.space(); }
  // Which codes: hnsw_learn.cc. An index that nobody lets learn takes the longer ones.
  bool must_learn() const override { return !decided_.load(std::memory_order_acquire); }
  u32 learn_min() const override { return 1; }
  Status learn(RowView &rows, u32 slots, Scratch &scratch, bool (*interrupted)(void *), void *ctx) override;
  bool outgrown(u32 slots) const override;
  bool damaged() const override { return graph_.damaged(); }
  Status insert(RowView &rows, u32 slot, Scratch &scratch) override;
  Status remove(RowView &rows, u32 slot, Scratch &scratch) override;
  Result<u32> search(RowView &rows, const simd::Query &q, const SearchParams &params, Scratch &scratch, Hit *out,
                     SearchStats *stats) override;
  bool contains(u32 slot) override;
  bool may_contain(u32 slot) override;

  usize header_bytes() const override;
  u32 blob_count(u32 covered) const override;
  usize blob_bytes(u32 blob) const override;
  Status save_header(u32 covered, MutBytes out) const override;
  Status save_blob(u32 blob, u32 covered, MutBytes out, RowView &rows) override;
  bool blob_dirty(u32 blob) const override;

  Status verify(VerifyReport *out, Scratch &scratch, bool (*interrupted)(void *ctx), void *ctx) override;
  void print(const TextSink &sink) const override;
  usize memory_bytes() const override {
    return must_learn() ? sizeof(*this) : sizeof(*this) + graph_.memory_bytes() + measure_.memory_bytes();
  }
  IndexCounts counts() const override {
    EntryPoint e = entry();
    const u32 codes = must_learn() ? 0 : static_cast<u32>(measure_.kind()) + 1;
    return {.nodes = nodes_.load(std::memory_order_relaxed),
            .max_level = e.empty() ? 0 : e.level(),
            .codes = static_cast<u16>(codes),
            .code_bytes = must_learn() ? 0 : graph_.shape.code_bytes,
            .links = 2 * params_.m};
  }
  u64 edits() const override { return edits_.load(std::memory_order_acquire); }
  void destroy() override;
  // After opening from a checkpoint: is the entry point what the levels say? corrupt.
  Status adopt(u32 nodes, u32 learnt);

 private:
  // Neighbours being chosen, and the lists that takes.
  struct Selection {
    static constexpr u32 capacity = Batch::capacity;
    u32 n = 0;
    u32 slot[capacity];
    u32 aux[capacity];
    const void *item[capacity];
    u32 key[capacity];
    void add(u32 s, const Item &what) {
      slot[n] = s;
      item[n] = what.bytes;
      aux[n++] = what.aux;
    }
    u32 before[capacity];  // a list as it was when thinning began
    u32 target[capacity];  // nodes to link back from
    Entry candidate[capacity + 1];
  };

  void decide(u32 slots);
  void start_over(const simd::CodeSpace &codes);
  struct Part {
    enum What : u8 { centre, lists, codes } what;
    u32 segment;
  };
  Part part_of(u32 blob) const;
  Status save_lists(u32 segment, u32 covered, MutBytes out);
  Status save_codes(u32 segment, MutBytes out);
  bool few_dead(const RowView &rows) const;
  Status on_rows(Walk &walk, const simd::Query &q, const Entry **found, u32 *n);
  Status walk_for(Walk &walk, const simd::Query &q, EntryPoint from, u32 ef, const Entry **found, u32 *n);
  Result<bool> walk_matching(Walk &walk, const simd::Query &q, const Probe &probe, EntryPoint from, u32 ef,
                             const Entry **found, u32 *n);
  void verify_node(u8 *segment, u32 slot, VerifyReport *out) const;
  Status count_unreachable(EntryPoint e, VerifyReport *out, Scratch &scratch, bool (*interrupted)(void *), void *ctx);
  u32 segment_end() const { return graph_.segment_count() << graph_.shape.shift; }
  EntryPoint entry() const { return {entry_.load(std::memory_order_acquire)}; }
  Status insert_claimed(RowView &rows, u8 *segment, u32 slot, Scratch &scratch);
  Status find_links(Walk &walk, u8 *segment, u32 slot, u32 level, EntryPoint from, Selection &sel);
  Status choose_own(Walk &walk, u8 *segment, u32 slot, u32 level, Selection &sel);
  Status choose(Walk &walk, const Entry *candidates, u32 n, u32 degree, Selection &sel);
  bool occluded(const Probe &candidate, u32 key, Selection &sel) const;
  void clear_lists(u8 *segment, u32 slot);
  void link_back(Walk &walk, u8 *segment, u32 slot, u32 level, Selection &sel);
  bool connect(Walk &walk, u32 from, u32 to, u32 level, bool must, Selection &sel);
  bool thin(Walk &walk, u32 base, u32 added, u32 n, u32 degree, bool must, Selection &sel);
  bool replace_list(u8 *segment, u32 slot, u32 level, u32 n, const Selection &sel);
  Status bridge(Walk &walk, u32 from, u32 gone, u32 level, Selection &sel);
  Status bridge_all(RowView &rows, u32 slot, Scratch &scratch);
  u32 snapshot(const Link *list, u32 degree, u32 *out) const;

  static u64 first_edit();
  void edited() { edits_.fetch_add(1, std::memory_order_release); }

  const HnswParams params_;
  Graph graph_;
  Measure measure_;
  std::atomic<u64> entry_;
  std::atomic<u32> nodes_{0};
  std::atomic<u64> edits_{first_edit()};
  Mutex entry_lock_{"hnsw_entry"};
  std::atomic<bool> decided_;  // graph_ and measure_ stay as they are
  u32 learnt_ = 0;             // slots that codes were chosen by, 0: they were given
};

}  // namespace vexfs::vector
