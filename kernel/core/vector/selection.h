// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The rows that pass the filters of a call, as a bit per slot: made once for all queries, and longer when rows are added.
#pragma once
#include <bit>

#include "../base/bits.h"
#include "../base/memory.h"
#include "scratch.h"

namespace vexfs::vector {

class Selection : Pinned {
 public:
  static constexpr u32 slots_max = u32{1} << 28;  // 32 MiB of bits
  u32 end() const { return end_; }                // slots below are decided
  u64 count() const { return count_; }            // of them selected
  const u64 *data() const { return bits(); }
  bool has(u32 slot) const { return bits()[slot >> 6] >> (slot & 63) & 1; }

  // Makes room for slots below `upto`, what is decided stays. nomem.
  Status reserve(u32 upto) {
    const usize bytes = align_up<usize>(div_up<usize>(upto, 8), 4096);
    if (bytes <= bits_.bytes()) return {};
    ScratchBuffer &other = spare_;
    if (!other.ensure(bytes, VX_ALLOC_ACCOUNT)) return Errno::nomem;
    if (end_) memcpy(other.data(), bits_.data(), words(end_) * 8);
    bits_.swap(other);
    other.release();
    return {};
  }
  // Decides slots [end(), end() + n), n <= 64, whose first is a multiple of 64. reserve() covers them.
  void append(u64 mask, u32 n) {
    VX_ASSERT(end_ % 64 == 0 && n <= 64);
    bits()[end_ >> 6] = mask;
    count_ += popcount(mask);
    end_ += n;
  }
  // Decides n * 64 slots, of which `count` are selected.
  void append(const u64 *words, u32 n, u32 count) {
    VX_ASSERT(end_ % 64 == 0);
    memcpy(bits() + (end_ >> 6), words, usize{n} * 8);
    count_ += count;
    end_ += n * 64;
  }
  // Forgets the last, unfinished word, so that append() can go on.
  void trim() {
    if (end_ % 64 == 0) return;
    count_ -= popcount(bits()[end_ >> 6]);
    end_ &= ~u32{63};
  }
  u64 &word(u32 i) { return bits()[i]; }
  void uncount(u32 n) { count_ -= n; }
  // Up to `most` selected slots from *at on; *at is where to go on.
  Status gather(u32 *at, u32 most, Vec<u32> &out) const {
    while (*at < end_ && most) {
      u64 w = bits()[*at >> 6] >> (*at & 63);
      if (w == 0) {
        *at = min_of(end_, (*at | 63) + 1);
        continue;
      }
      const u32 slot = *at + static_cast<u32>(std::countr_zero(w));
      VX_TRY(out.push(slot));
      *at = slot + 1;
      most--;
    }
    return {};
  }

 private:
  static usize words(u32 slots) { return div_up<usize>(slots, 64); }
  u64 *bits() const { return static_cast<u64 *>(bits_.data()); }
  ScratchBuffer bits_, spare_;
  u32 end_ = 0;
  u64 count_ = 0;
};

}  // namespace vexfs::vector
