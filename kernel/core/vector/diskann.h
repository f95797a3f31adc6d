// SPDX-License-Identifier: GPL-2.0-only OR MIT
// A graph on disk as an Index (DiskANN: Subramanya et al., NeurIPS 2019; inserting in place: Singh et al., 2021): for
// collections larger than memory. In memory is a code of each row, of 4 bits an element if nothing else was asked for and a
// sample's nearest are told by them, else 8. A node's list lies on disk beside a copy of its row, in one aligned unit, so
// that the read which tells where to go next gives the exact distance as well; several such reads are in flight at once. The
// graph is flat, of lists pruned with slack (alpha) so that few hops lead far.
//
// Dead rows leave in passes (diskann_mend.cc; FreshDiskANN's consolidation): those that are dead now are *leaving*, nobody links
// to them from then on; nodes that do are given the live ones behind them; then they are no more. Which they were is known in
// memory alone, that a pass was on is stored: after a crash it begins anew. A slot's first word: 0, or of one that leaves where its list is, plus 1.
//
// What a checkpoint does not have yet is kept in memory (diskann_nodes.h) until the next one. A checkpoint writes blobs of
// which some list changed, with their rows.
//
// The model: the centre that codes are taken from, f32, dim. A slot's record: le32 0, its code. Blobs of its own:
// diskann_format.h. Alpha is taken on the keys of distances, whose bits grow with the logarithm: no float is needed.
#pragma once
#include "../simd/codes.h"
#include "beam.h"
#include "diskann_cache.h"
#include "diskann_nodes.h"
#include "learnt_index.h"
#include "visited.h"

namespace vexfs::vector {

class DiskAnn final : public LearntIndex {
 public:
  DiskAnn(const simd::Space &space, const simd::CodeSpace &codes, const IndexParams &params);
  ~DiskAnn();
  Status start();  // once, before anything else; nomem

  u32 learn_min() const override { return 512; }
  Status learn(RowView &rows, u32 slots, Scratch &scratch, bool (*interrupted)(void *), void *ctx) override;
  bool outgrown(u32) const override { return stuck_.load(std::memory_order_acquire); }
  Status insert(RowView &rows, u32 slot, Scratch &scratch) override;
  bool contains(u32 slot) override;
  bool may_contain(u32 slot) override;
  bool mends() const override { return !stuck_.load(std::memory_order_acquire); }
  Result<bool> mend(RowView &rows, const MendParams &params, Scratch &scratch) override;
  bool mending() const override {
    return mending_.load(std::memory_order_acquire) || torn_.load(std::memory_order_acquire);
  }
  u64 departures() const override { return departures_.load(std::memory_order_acquire); }
  Result<u32> search(RowView &rows, const simd::Query &q, const SearchParams &params, Scratch &scratch, Hit *out,
                     SearchStats *stats) override;
  void saved(u32 covered, const BlobSource &blobs) override;
  usize unsaved_bytes() const override { return nodes_kept_.nodes_bytes(); }
  bool wants_saving() const override { return rid_.load(std::memory_order_relaxed); }
  Status verify(VerifyReport *out, Scratch &scratch, bool (*interrupted)(void *ctx), void *ctx) override;
  void print(const TextSink &sink) const override;
  usize memory_bytes() const override {
    return LearntIndex::memory_bytes() + nodes_kept_.memory_bytes() + cache_.memory_bytes() +
           mend_bytes_.load(std::memory_order_relaxed);
  }
  IndexCounts counts() const override;
  void destroy() override;

 private:
  class Walk;
  struct Edit;
  class Reading;
  struct Mend;
  class Traversal;
  static constexpr u32 width = 8;  // nodes read at once by a walk
  static_assert(width <= blob_parts_max);

  Status choose_codes(RowView &rows, u32 slots, bool (*interrupted)(void *), void *ctx);
  u32 entry() const;
  bool stored(u32 slot) const { return slot < stored_.load(std::memory_order_acquire); }
  // Their records, from disk, into buf (n * shape_.node_bytes(), page-aligned); n <= blob_parts_max. Null for what is not
  // stored. io, corrupt, nomem.
  Status fetch(const u32 *slots, u32 n, u8 *buf, const u8 **records);
  Status fetch_parts(const BlobPart *parts, u32 n);
  u32 first_unit(u32 slot) const { return (slot >> shape_.shift) * shape_.blob_units() + shape_.unit_of(slot); }
  void make_cache();
  bool units_good(u32 slot, const u8 *units) const;
  const u8 *open_record(u32 slot, u8 *units) const;
  Status read_stored_blob(u32 number, Vec<u8> &buf);
  Result<const u8 *> stored_record(u32 slot, Vec<u8> &blob);
  // The list in a record; hostile. Returns its length, at most cap.
  u32 list_of(const u8 *record, u32 *out) const;
  u32 list_of(const DiskNode *node, u32 *out) const;
  static usize row_at() { return sizeof(DiskRecordHeader); }
  const void *code_of(u32 slot) const;   // null: the slot is not in the index
  const void *raw_code(u32 slot) const;  // of one that may be on its way into it
  u32 word_of(u32 slot) const;           // the first of its words; record_none: it has none
  bool leaving(u32 slot) const;
  // In loops over all slots there are. A lock for edits may be held, and an epoch: who waits for either sleeps.
  static void breathe_at(u32 slot) {
    if (slot % 4096 == 0) vx_yield();
  }

  Status link_in(const Beam &near, u32 slot, Scratch &scratch);
  Status link_back(const u32 *targets, u32 n, u32 slot, bool must, bool *linked, Edit &e, Scratch &scratch);
  Status connect(u32 from, u32 to, bool must, bool *linked, Edit &e, Scratch &scratch);
  Status choose(const Entry *near, u32 n, u32 but, u32 most, Edit &e, Scratch &scratch);
  bool occluded(const void *code, u32 key, Edit &e, void *query);
  void set_list(DiskNode *node, const u32 *links, u32 n);
  u32 storable(u32 slot, u32 covered, u32 *links, u32 n, bool *left_out) const;
  void put_record(u32 slot, const u8 *record, u8 *blob) const;
  Status save_node(u32 slot, u32 covered, Vec<u8> &before, Vec<u8> &record, u8 *out, RowView &rows, bool *left_out);

  // diskann_mend.cc
  Result<bool> mend_piece(Mend &m, RowView &rows, const MendParams &params, Scratch &scratch);
  Status begin_mend(RowView &rows, Scratch &scratch);
  void end_mend();
  Status new_entry(RowView &rows, Scratch &scratch);
  Status gather(Mend &m, u32 number, RowView &rows, const MendParams &params);
  Status mend_lists(Mend &m, u32 number, const MendParams &params, Scratch &scratch);
  Status mend_list(Mend &m, u32 slot, const u8 *record, Edit &e, Scratch &scratch);
  Status choose_behind(Mend &m, u32 slot, u32 n, Edit &e, Scratch &scratch);
  void fill(const Entry *near, u32 n, u32 but, Edit &e);
  Status link_again(Mend &m, u32 number, RowView &rows, const MendParams &params, Scratch &scratch);
  Result<bool> next_phase(Mend &m, bool all, const MendParams &params);
  Status begin_round(Mend &m);
  Result<bool> reach_piece(Mend &m, const MendParams &params, Scratch &scratch);
  Status join_blob(Mend &m, u32 number, const MendParams &params, Scratch &scratch, bool *any);
  Status join(Mend &m, u32 slot, Scratch &scratch);
  Status put_between(u32 from, u32 slot, const simd::CodeQuery &q, Edit &e, Scratch &scratch);
  Status bring_lists(const u32 *slots, u32 n, Edit &e);
  Status keep_lists(const u32 *slots, u32 n, const u8 *const *records, Edit &e);
  Status forget(Mend &m);
  Status walk_in(RowView &rows, const simd::CodeQuery &q, u32 slot, Scratch &scratch);
  void release_segments(u32 covered, Vec<void *> &out);

  bool plausible() const override { return params_.m >= hnsw_m_min && params_.m <= hnsw_m_max; }
  usize model_bytes() const override { return codes_.centre_bytes(); }
  Status begin() override;
  Status place(RowView &rows, const u8 *row, u32 aux, u32 slot, SlotRecords::Word *words, u32 *first,
               Scratch &scratch) override;
  u32 record_words() const override { return 1 + codes_.bytes() / 4; }
  u32 record_bytes() const override { return 4 + codes_.bytes(); }
  void save_record(const SlotRecords::Word *words, u8 *out) const override;
  Status load_record(u32 slot, const u8 *in, SlotRecords::Word *words) override;
  bool entry_right(u32, u32, const SlotRecords::Word *) const override { return false; }
  u32 own_blobs() const override { return SlotRecords::segment_slots >> shape_.shift; }
  u32 own_blob_slots() const override { return shape_.slots(); }
  usize own_blob_bytes() const override { return shape_.blob_bytes(); }
  bool own_blob_dirty(u32 number) const override { return nodes_kept_.dirty(number); }
  Status save_own_blob(u32 number, u32 covered, MutBytes out, RowView &rows) override;
  void put_header(u32 covered, LearntHeader *out) const override;
  bool take_header(const LearntHeader &h) override;
  bool brought_right() const override;

  simd::CodeSpace codes_;
  DiskShape shape_;
  DiskNodes nodes_kept_;
  DiskCache cache_;
  std::atomic<u32> stored_{0};          // slots that the checkpoint on disk covers
  std::atomic<u32> entry_{slot_none};   // the first node there was
  std::atomic<u32> middle_{slot_none};  // a row near the centre: where walks begin as soon as it is in the graph
  std::atomic<u64> drops_{0};           // how often lists were taken out of nodes_kept_
  Box<Mend> mend_;                      // who mends alone
  std::atomic<bool> mending_{false};
  std::atomic<bool> torn_{false};   // a pass took links away, and none has ended since; stored
  std::atomic<bool> stuck_{false};  // passes do not help: only building anew does
  std::atomic<bool> rid_{false};    // slots were forgotten that a checkpoint has
  std::atomic<u64> departures_{0};
  std::atomic<usize> mend_bytes_{0};
  u32 settled_ = 0;  // by the last pass; who mends or saves
  vx_epoch epoch_;
  bool epoch_made_ = false;
  Mutex edit_{"vexfs_diskann_edit"};
};

Result<IndexPtr> diskann_create(const simd::Space &space, const IndexParams &params);
Result<IndexPtr> diskann_open(const simd::Space &space, Bytes header, const BlobSource &blobs);

}  // namespace vexfs::vector
