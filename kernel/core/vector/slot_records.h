// SPDX-License-Identifier: GPL-2.0-only OR MIT
// A few words for each slot, in segments that are made at first touch and never move: where an index has put the slot.
//
// The first word says whether the slot is there: record_none, record_claimed (an insert works on it), or what the index
// keeps in it, stored last.
#pragma once
#include <atomic>

#include "../base/lock.h"
#include "../base/result.h"
#include "rows.h"

namespace vexfs::vector {

constexpr u32 record_none = ~u32{0};
constexpr u32 record_claimed = record_none - 1;
constexpr u32 record_value_max = record_claimed - 1;

class SlotRecords : Pinned {
 public:
  static constexpr u32 shift = 12;  // log2 of slots in a segment
  static constexpr u32 segment_slots = u32{1} << shift;
  using Word = std::atomic<u32>;

  SlotRecords() = default;
  ~SlotRecords() { reset(); }
  void make(u32 words) { words_ = words; }
  void reset();
  u32 words() const { return words_; }

  // The slot's words, or null when its segment was not made.
  Word *peek(u32 slot) const {
    Segment *s = segment(slot >> shift);
    return s ? s->words() + usize{slot & (segment_slots - 1)} * words_ : nullptr;
  }
  // Makes the segment. nomem.
  Result<Word *> get(u32 slot);
  bool present(u32 slot) const {
    const Word *w = slot <= slot_max ? peek(slot) : nullptr;
    return w && w->load(std::memory_order_acquire) <= record_value_max;
  }
  // Slots that segments could hold now.
  u32 limit() const { return limit_.load(std::memory_order_acquire); }

  // Changed since it was made or last stored.
  bool dirty(u32 number) const {
    Segment *s = segment(number);
    return s && s->dirty.load(std::memory_order_acquire);
  }
  void set_dirty(u32 number, bool on) {
    // Exchanged, so that who clears it sees the records that it was set for.
    if (Segment *s = segment(number)) s->dirty.exchange(on, std::memory_order_acq_rel);
  }
  // Takes out a segment in which no slot is, or null where there is none, or one with slots or with changes; release() it
  // when no reader can have it. Nobody may insert a slot of it any more.
  void *take_empty(u32 number);
  void release(void *taken);
  usize memory_bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  static constexpr u32 leaf_bits = 10, top_slots = 1u << (31 - shift - leaf_bits);
  struct Segment {
    std::atomic<u32> dirty;
    u32 pad[15];
    Word *words() { return reinterpret_cast<Word *>(this + 1); }
  };
  struct Leaf {
    std::atomic<Segment *> at[1u << leaf_bits];
  };
  usize segment_bytes() const { return sizeof(Segment) + usize{segment_slots} * words_ * 4; }
  Segment *segment(u32 number) const {
    const Leaf *l =
        (number >> leaf_bits) < top_slots ? top_[number >> leaf_bits].load(std::memory_order_acquire) : nullptr;
    return l ? l->at[number & ((1u << leaf_bits) - 1)].load(std::memory_order_acquire) : nullptr;
  }
  Status bring(u32 number);

  u32 words_ = 1;
  std::atomic<Leaf *> top_[top_slots] = {};
  std::atomic<u32> limit_{0};
  std::atomic<usize> bytes_{0};
  Mutex grow_lock_{"vexfs_records"};
};

}  // namespace vexfs::vector
