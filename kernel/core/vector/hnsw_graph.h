// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The links of an HNSW graph: by slot, in segments that never move, read without locks.
//
// A node's level is a hash of (seed, slot), so the room its upper lists take is known when its segment is made.
// A segment is one allocation: level-0 lists (2m u32 each, one or more whole cache lines), node words, a trailer, codes
// of the rows (if the graph is walked on codes), then the upper lists of its nodes, m u32 for each level above 0. A list
// ends at slot_none. A code is written before the first link to its node, and never again. Readers take list entries with
// acquire loads; writers hold the node's spin lock. Segments are made, or read from a checkpoint, at first touch.
#pragma once
#include <atomic>

#include "../base/lock.h"
#include "index.h"

namespace vexfs::vector {

using Link = std::atomic<u32>;
static_assert(sizeof(Link) == 4 && Link::is_always_lock_free);

constexpr u32 hnsw_level_max = 24;

// Sizes that follow from m and the length of a code alone.
struct GraphShape {
  u32 m = 0;
  u32 shift = 0;       // log2 of slots per segment
  u32 list_bytes = 0;  // of a level-0 list, a multiple of 64
  u32 code_bytes = 0;  // of a code, 0: there are none
  usize codes_at = 0;  // where in a segment they begin
  GraphShape(u32 links, const simd::CodeSpace &codes)
      : m(links), code_bytes(codes.kind() == simd::CodeKind::none ? 0 : codes.bytes()) {
    list_bytes = align_up<u32>(m * 8, 64);
    shift = 6;
    // The last segment is not full: where every byte counts, they are smaller.
    const u64 most = code_bytes && !simd::rotated(codes.kind()) ? coded_segment_bytes : segment_bytes;
    while ((u64{2} << shift) * (list_bytes + code_bytes) <= most) shift++;
    codes_at = dirty_off() + 64;
  }
  u32 slots() const { return u32{1} << shift; }
  u32 mask() const { return slots() - 1; }
  u32 degree(u32 level) const { return level ? m : 2 * m; }
  usize words_off() const { return usize{slots()} * list_bytes; }
  usize dirty_off() const { return words_off() + usize{slots()} * 4; }
  usize upper_off() const { return align_up<usize>(codes_at + usize{slots()} * code_bytes, 64); }
  usize bytes(u32 upper_lists) const { return upper_off() + usize{upper_lists} * m * 4; }

 private:
  static constexpr u64 segment_bytes = u64{512} << 10;
  static constexpr u64 coded_segment_bytes = u64{1} << 20;
};

// Node word: state in the top bits, level, place of the upper lists.
struct NodeWord {
  static constexpr u32 present = u32{1} << 31;  // its lists are complete
  static constexpr u32 claimed = u32{1} << 30;  // an insert works on it (stays set afterwards)
  static constexpr u32 level_shift = 24;
  static constexpr u32 upper_mask = (u32{1} << level_shift) - 1;
  static u32 level(u32 w) { return (w >> level_shift) & 31; }
  static u32 upper(u32 w) { return w & upper_mask; }
};

class Graph : Pinned {
 public:
  Graph(const HnswParams &params, const simd::CodeSpace &codes, const BlobSource *source, u32 source_slots);
  ~Graph();

  const GraphShape shape;

  // Level of a slot's node, 0..hnsw_level_max.
  u32 level_of(u32 slot) const;
  // Upper lists of a segment's nodes, in all.
  u32 upper_lists(u32 segment) const;

  // Slots that segments could hold now: a bound for visited sets. Grows.
  u32 slot_limit() const { return slot_limit_.load(std::memory_order_acquire); }
  u32 segment_count() const { return (slot_limit() + shape.mask()) >> shape.shift; }

  // Segments as they were; later ones may be missing. Good for the graph's life.
  class Segments {
   public:
    u8 *peek(u32 segment) const { return segment < n_ ? at_[segment].load(std::memory_order_acquire) : nullptr; }

   private:
    friend class Graph;
    Segments(u32 n, const std::atomic<u8 *> *at) : n_(n), at_(at) {}
    u32 n_;
    const std::atomic<u8 *> *at_;
  };
  Segments segments() const {
    const Table *t = table_.load(std::memory_order_acquire);
    return Segments(t->n, t->at);
  }
  // The segment, or null when it was not made or read yet.
  u8 *peek(u32 segment) const { return segments().peek(segment); }
  // Reads it from the checkpoint if it lies there. noent: it does not exist. Else io, corrupt, nomem.
  Result<u8 *> get(u32 segment);
  // Makes it if it does not exist. nomem, or as get.
  Result<u8 *> get_or_make(u32 segment);

  Link *list(u8 *segment, u32 slot, u32 level) const {
    const u32 i = slot & shape.mask();
    if (level == 0) return reinterpret_cast<Link *>(segment + usize{i} * shape.list_bytes);
    const u32 w = word(segment, slot).load(std::memory_order_relaxed);
    return reinterpret_cast<Link *>(segment + shape.upper_off()) + usize{NodeWord::upper(w) + level - 1} * shape.m;
  }
  u8 *code(u8 *segment, u32 slot) const {
    return segment + shape.codes_at + usize{slot & shape.mask()} * shape.code_bytes;
  }
  std::atomic<u32> &word(u8 *segment, u32 slot) const {
    return reinterpret_cast<std::atomic<u32> *>(segment + shape.words_off())[slot & shape.mask()];
  }
  // Is the node there with complete lists? False also when its segment is not in memory.
  bool present(u32 slot) const {
    u8 *s = peek(slot >> shape.shift);
    return s && (word(s, slot).load(std::memory_order_acquire) & NodeWord::present);
  }
  // May `slot` have a list at `level`? (True level, not what a link claims.)
  bool has_level(u8 *segment, u32 slot, u32 level) const {
    return level <= NodeWord::level(word(segment, slot).load(std::memory_order_relaxed));
  }

  Spin &lock_of(u32 slot) { return locks_[(slot * 0x9e3779b1u) >> (32 - lock_bits)].spin; }

  // Changed since it was made, read or last stored. Cleared before a segment is stored, set after a list changed.
  std::atomic<u32> &dirty(u8 *segment) const {
    return *reinterpret_cast<std::atomic<u32> *>(segment + shape.dirty_off());
  }
  // After the change. Not only if it is clean: the flag could be on its way to being cleared by one who saw the lists as
  // they were before.
  void mark_dirty(u8 *segment) const { dirty(segment).store(1, std::memory_order_release); }

  // The same of its codes.
  std::atomic<u32> &codes_dirty(u8 *segment) const {
    return reinterpret_cast<std::atomic<u32> *>(segment + shape.dirty_off())[1];
  }

  // ---- where things lie in a checkpoint: segment by segment, or, with codes, the centre, then a segment's lists and
  // its codes in turn.
  bool coded() const { return shape.code_bytes != 0; }
  u32 blobs_of(u32 segments) const { return coded() ? 1 + 2 * segments : segments; }
  u32 lists_blob(u32 segment) const { return coded() ? 1 + 2 * segment : segment; }
  u32 codes_blob(u32 segment) const { return 2 + 2 * segment; }
  // Reads blob 0, the centre. From opened graphs with codes only.
  Status read_blob(u32 blob, MutBytes out) const { return source_.read(source_.ctx, blob, out); }
  bool opened() const { return source_.read != nullptr; }
  // What a blob said, under a right checksum, was refused.
  bool damaged() const { return damaged_.load(std::memory_order_acquire); }
  void set_damaged() { damaged_.store(true, std::memory_order_release); }

  usize memory_bytes() const { return bytes_.load(std::memory_order_relaxed); }

  // A new segment's memory, words set, lists empty, not yet visible; null: no memory. For the checkpoint reader.
  u8 *make_segment(u32 segment);
  void free_segment(u8 *p, u32 segment);

 private:
  struct Table {
    Table *older;  // smaller predecessors, kept until the end: a reader may still look at one
    u32 n;
    std::atomic<u8 *> *at;
  };
  static constexpr u32 lock_bits = 7;
  struct StripedLock {
    Spin spin{"hnsw_node"};
  };

  static Table *make_table(u32 n);
  static void free_table(Table *t);
  Status cover(u32 segment);  // grow_lock_ held
  Result<u8 *> bring(u32 segment, bool make);
  Status read_segment(u32 segment, u8 *into);

  const u64 seed_;
  u64 threshold_[hnsw_level_max];  // level > l when the hash is below threshold_[l]
  BlobSource source_{};
  u32 source_segments_ = 0;
  const u32 source_slots_;
  std::atomic<Table *> table_;
  std::atomic<u32> slot_limit_{0};
  std::atomic<usize> bytes_{0};
  std::atomic<bool> damaged_{false};
  Mutex grow_lock_{"hnsw_grow"};
  StripedLock locks_[1u << lock_bits];
  static constinit Table empty_table_;
};

// hnsw.cc: codes as asked for, `automatic` decided. A CodeSpace of kind `none`: rows. inval.
Result<simd::CodeSpace> hnsw_code_space(const simd::Space &space, HnswParams::Codes codes);

// hnsw_checkpoint.cc: the stored form of a segment.
usize hnsw_blob_bytes(const Graph &g, u32 segment);
usize hnsw_codes_blob_bytes(const Graph &g);
Status hnsw_decode_codes(const Graph &g, u32 segment, Bytes blob, u8 *into);
Status hnsw_decode_segment(Graph &g, u32 segment, u32 source_slots, Bytes blob, u8 *into);

}  // namespace vexfs::vector
