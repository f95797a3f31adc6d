// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Nodes' units as they were read: the few that most walks pass through. Sets of four, of which the one goes that was not
// asked for since it was last passed by (second chance). What a checkpoint replaces is forgotten, all of it: it is soon back.
#pragma once
#include <atomic>

#include "../base/lock.h"
#include "diskann_format.h"

namespace vexfs::vector {

class DiskCache : Pinned {
 public:
  static constexpr u32 ways = 4;

  ~DiskCache();
  // Room for so many bytes of entries of entry_bytes each, always the same; where there is much less, it is empty then.
  // One thread at a time. Without memory it stays as it was.
  void make(usize bytes, u32 entry_bytes);
  // Is it there? Copies it.
  bool get(u32 key, u8 *out);
  // What put() needs to know: taken before the entry is read from disk.
  u64 version() const { return version_.load(std::memory_order_acquire); }
  void put(u32 key, const u8 *in, u64 version);
  void forget();
  usize memory_bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  struct Set {
    u32 key[ways];  // 0: none; else one more than it
    u8 asked[ways];
    u32 hand;
    u32 pad[2];
  };
  static constexpr u32 locks = 64;
  struct StripedLock {
    Spin spin{"vexfs_diskann_cache"};
  };
  struct Table {
    Table *older;  // smaller predecessors, kept until the end: a reader may still look at one
    u32 nsets, entry_bytes;
    Set *sets() { return reinterpret_cast<Set *>(this + 1); }
    Set &set_of(u32 key, u32 *at) {
      *at = (key * 0x9e3779b1u) >> 7 & (nsets - 1);
      return sets()[*at];
    }
    u8 *entry(u32 set, u32 way) {
      return reinterpret_cast<u8 *>(sets() + nsets) + (usize{set} * ways + way) * entry_bytes;
    }
    usize bytes() const { return sizeof(Table) + usize{nsets} * (sizeof(Set) + usize{ways} * entry_bytes); }
  };

  std::atomic<Table *> table_{nullptr};
  std::atomic<usize> bytes_{0};
  std::atomic<u64> version_{0};
  StripedLock locks_[locks];
};

}  // namespace vexfs::vector
