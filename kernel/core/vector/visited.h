// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The set of slots a walk has seen: a bitmap while the index is small, a hash set (sized by what is seen, not by what
// exists) when it is large.
#pragma once
#include "rows.h"
#include "scratch.h"

namespace vexfs::vector {

class Visited : Pinned {
 public:
  static constexpr u32 bitmap_slots_max = u32{1} << 19;  // 64 KiB of bits: clearing costs about a microsecond

  explicit Visited(Scratch &scratch) : scratch_(scratch) {}

  // Empties the set for slots below `slots`; `expected` is a guess of how many will be seen.
  Status reset(u32 slots, u32 expected) {
    if (slots <= bitmap_slots_max) {
      limit_ = align_up<u32>(max_of<u32>(slots, 64), 64);
      bits_ = VX_TRY(scratch_.array<u64>(Scratch::visited, limit_ / 64));
      memset(bits_, 0, limit_ / 8);
      return {};
    }
    bits_ = nullptr;
    spare_ = false;
    u32 want = 4096;
    while (want < expected * 2 && want < (1u << 30)) want *= 2;
    table_ = VX_TRY(scratch_.array<u32>(Scratch::visited, want));
    clear_table(table_, want);
    return {};
  }

  // Makes room for n more insertions without failing. Call before a run of insert().
  Status reserve(u32 n) { return has_room(n) ? Status() : grow(n); }
  // reserve() has nothing to do, and does not sleep.
  bool has_room(u32 n) const { return bits_ || count_ + n <= mask_ / 2; }

  // True when the slot was not in the set yet. reserve() covers it.
  bool insert(u32 slot) {
    if (bits_) {
      if (slot >= limit_) return false;  // appeared after the walk began: not part of it
      u64 &w = bits_[slot >> 6];
      const u64 bit = u64{1} << (slot & 63);
      const bool fresh = !(w & bit);
      w |= bit;
      return fresh;
    }
    for (u32 h = hash(slot);; h++) {
      u32 &e = table_[h & mask_];
      if (e == slot) return false;
      if (e == slot_none) {
        e = slot;
        count_++;
        return true;
      }
    }
  }

 private:
  static u32 hash(u32 slot) {
    u32 x = slot * 0x9e3779b1u;
    return x ^ (x >> 15);
  }
  void clear_table(u32 *t, u32 n) {
    memset(t, 0xff, usize{n} * 4);
    mask_ = n - 1;
    count_ = 0;
  }
  Status grow(u32 n) {
    const u32 old_n = mask_ + 1;
    u32 want = old_n;
    while (count_ + n > want / 2) want *= 2;
    // The two buffers swap roles at each growth.
    const Scratch::Use other = spare_ ? Scratch::visited : Scratch::visited_spare;
    u32 *old = table_, *bigger = VX_TRY(scratch_.array<u32>(other, want));
    spare_ = !spare_;
    table_ = bigger;
    clear_table(bigger, want);
    for (u32 i = 0; i < old_n; i++)
      if (old[i] != slot_none) insert(old[i]);
    return {};
  }

  Scratch &scratch_;
  u64 *bits_ = nullptr;
  u32 *table_ = nullptr;
  u32 limit_ = 0;
  u32 mask_ = 0;
  u32 count_ = 0;
  bool spare_ = false;
};

}  // namespace vexfs::vector
