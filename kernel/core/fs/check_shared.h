// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Checking blocks that several extents refer to: each reference is counted, and the refcounts tree has to agree.
#pragma once
#include "../disk/fs_items.h"
#include "../disk/refcount_items.h"
#include "../store/check.h"

namespace vexfs::fs {

// Gathers the extents that are marked as shared, then judges. The blocks of the others are claimed by whoever meets them, so
// one that is referred to twice without a mark is found by that.
class SharedCheck : Pinned {
 public:
  explicit SharedCheck(store::Checker &c) : c_(c) {}
  Status add(u64 ino, u64 block, const disk::DiskExtent &e);
  // All extents have been seen: claims their blocks, each once, and walks the refcounts tree. nomem, io.
  Status judge();

 private:
  struct Ref {
    u64 start, count, birth;
    u64 ino, block;
    u64 end() const { return start + count; }
  };
  struct Entry {
    u64 start, count, birth;
    u32 refs;
    u64 end() const { return start + count; }
  };
  Status read_entries();
  Status sweep();
  void compare(u64 start, u64 end, u64 refs, u64 birth);
  void differ(u64 start, u64 end, u64 refs, u32 counted);
  static constexpr u64 kReported = 64;

  store::Checker &c_;
  Vec<Ref> refs_;
  Vec<u64> ends_;
  Vec<Entry> entries_;  // ascending, without overlaps
  usize at_ = 0;        // entries before have been compared
  u64 differences_ = 0;
};

}  // namespace vexfs::fs
