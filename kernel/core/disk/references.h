// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Which blocks an item refers to, whatever room it belongs to: for those who follow blocks and not meanings.
#pragma once
#include "../base/memory.h"
#include "../base/result.h"

namespace vexfs::disk {

struct BlockRef {
  u64 start = 0, count = 0;
  u64 birth = 0;        // transaction, as the item's owner would name it when it frees the blocks
  bool shared = false;  // other items of the tree may refer to them too: the refcounts tree knows
};

// Calls fn for each run of blocks that the item (oid, type) of that tree refers to; both rooms' trees, 0 and 1. What is
// too short to be sound is left out.
void block_refs(u8 tree, u64 oid, u8 type, Bytes item, FnRef<void(const BlockRef &)> fn);

}  // namespace vexfs::disk
