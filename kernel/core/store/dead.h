// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Blocks that the open transaction let go of while a snapshot needs them, on their way into the dead tree.
//
// They are met in the middle of tree operations, under node locks, where no tree can be changed: so they wait here until
// the handle ends (txn.cc), when nothing is locked and the transaction is still the same.
#pragma once
#include "../base/lock.h"
#include "types.h"

namespace vexfs::store {

struct DeadExtent {
  Extent blocks;
  u64 birth = 0, death = 0;  // transactions
};

class DeadList : Pinned {
 public:
  DeadList() : lock_("vexfs_dead") {}
  ~DeadList();
  void add(const DeadExtent &d, Counters &counters);  // cannot fail: without memory it waits
  bool take(DeadExtent *out);                         // any of them; false: there is none
  bool empty() const { return count_.load(std::memory_order_acquire) == 0; }

 private:
  struct Chunk {
    Chunk *next = nullptr;
    u32 n = 0;
    DeadExtent d[126];
  };
  Spin lock_;
  Chunk *first_ = nullptr;  // has at least one, or is the only one
  std::atomic<u64> count_{0};
};

}  // namespace vexfs::store
