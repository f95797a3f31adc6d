// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Where a walk among the rows that match a filter goes on from each of them: lists that the first walks find out, for the
// next ones with the same filter, as if there were a graph of these rows alone.
//
// They are good for one state of one graph (MatchingOf): whoever holds them compares that first, so that no row is missed
// that an up-to-date walk would find. What a list names is still to be asked for, as a row may have died since. Readers
// and writers need no lock: a list is written once, by whoever claims it first. The memory is that of the filters
// (FilterMemory), taken as lists are found out.
#pragma once
#include "../base/bits.h"
#include "rows.h"

namespace vexfs::vector {

struct FilterMemory;

// Something that readers hold by counting.
struct Counted {
  std::atomic<u32> refs{1};
};

// What lists were found in.
struct MatchingOf {
  u64 edits = 0;    // Index::edits()
  u32 end = 0;      // rows below could be in them
  u32 damaged = 0;  // rows that are left out for it: one may come back
  u32 deaths = 0;   // of rows, coarsely: what is dead leads nowhere in a list
  bool operator==(const MatchingOf &) const = default;
};

class MatchingLists : public Counted, Pinned {
 public:
  // For the rows below of.end whose bits are set; a list has up to `most` rows, or most_max. Null: there is no memory.
  static MatchingLists *make(FilterMemory &memory, const u64 *bits, u32 most, const MatchingOf &of);
  static void release(MatchingLists *l) {
    if (l && l->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) l->free();
  }

  const MatchingOf &of() const { return of_; }
  static constexpr u32 most_max = 127;
  u32 most() const { return stride_ - 1; }
  bool has(u32 slot) const { return slot < of_.end && words_[slot >> 6].bits >> (slot & 63) & 1; }
  // The list of a row that it has; null: not found out yet.
  const u32 *find(u32 slot, u32 *n) const {
    const u32 *list = list_of(place(slot));
    const u32 state = list ? state_of(list).load(std::memory_order_acquire) : empty;
    if (state < ready) return nullptr;
    *n = state - ready;
    return list + 1;
  }
  void prefetch(u32 slot) const {
    if (const u32 *list = list_of(place(slot)))
      for (u32 i = 0; i < stride_; i += 16) __builtin_prefetch(list + i);
  }
  // Writes it down, unless somebody else did, or there is no memory.
  void keep(u32 slot, const u32 *list, u32 n);
  // There was no memory for some: what is not found here is not to be found out for it.
  bool full() const { return full_.load(std::memory_order_relaxed); }

 private:
  static constexpr u32 segment_lists = 64;
  static constexpr u32 empty = 0, claimed = 1, ready = 2;  // states; ready + n: n rows follow
  struct Word {
    u64 bits;
    u32 before;  // bits that are set in earlier words
    u32 unused;
  };
  MatchingLists(FilterMemory &memory, const MatchingOf &of, u32 stride) : memory_(memory), of_(of), stride_(stride) {}
  static std::atomic_ref<u32> state_of(const u32 *list) { return std::atomic_ref<u32>(*const_cast<u32 *>(list)); }
  // How many rows that it has come before.
  u32 place(u32 slot) const {
    VX_ASSERT(has(slot));
    const Word &w = words_[slot >> 6];
    return w.before + popcount(w.bits & ((u64{1} << (slot & 63)) - 1));
  }
  u32 *list_of(u32 place) const {
    u32 *s = segments_[place / segment_lists].load(std::memory_order_acquire);
    return s ? s + usize{place % segment_lists} * stride_ : nullptr;
  }
  usize segment_bytes() const { return usize{segment_lists} * stride_ * 4; }
  u32 *bring(u32 number);
  void free();

  FilterMemory &memory_;
  const MatchingOf of_;
  const u32 stride_;  // numbers of a list, its state first
  std::atomic<bool> full_{false};
  u32 nsegments_ = 0;
  usize bytes_ = 0;  // without segments
  Word *words_ = nullptr;
  std::atomic<u32 *> *segments_ = nullptr;
};

}  // namespace vexfs::vector
