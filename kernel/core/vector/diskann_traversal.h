// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Which nodes of a graph on disk paths from one lead to. Blobs are read in order, again and again until no list leads
// anywhere new, those alone in which there is something to follow: two bits of memory a slot.
#pragma once
#include "diskann_walk.h"

namespace vexfs::vector {

class DiskAnn::Traversal : vexfs::Pinned {
 public:
  explicit Traversal(DiskAnn &index) : index_(index) {}
  Status begin(u32 from);  // slot_none: from nowhere. Slots that come later are not looked at. nomem
  // Nodes that no walk passes through are not reached.
  void reach(u32 slot) {
    if (slot < limit_ && index_.code_of(slot)) set(reached_, slot);
  }
  bool reached(u32 slot) const { return test(reached_, slot); }
  u32 blobs() const { return limit_ >> index_.shape_.shift; }
  usize bytes() const { return (reached_.capacity() + followed_.capacity()) * 8 + buf_.capacity(); }
  // Counts faults of the lists of a blob, and follows those that were reached.
  Status check(u32 number, VerifyReport &out);
  // Follows the others that were. *any: there were some.
  Status follow(u32 number, Scratch &scratch, bool *any);

 private:
  static bool test(const Vec<u64> &bits, u32 i) { return (bits[i >> 6] >> (i & 63)) & 1; }
  static void set(Vec<u64> &bits, u32 i) { bits[i >> 6] |= u64{1} << (i & 63); }
  bool pending(u32 slot) const { return test(reached_, slot) && !test(followed_, slot); }
  void lead(u32 slot, u32 n);
  u32 list(const DiskNode *node, const u8 *record) {
    return node ? index_.list_of(node, links_.data()) : record ? index_.list_of(record, links_.data()) : 0;
  }
  void faults(u32 slot, u32 n, VerifyReport &out);

  DiskAnn &index_;
  u32 limit_ = 0;
  Vec<u64> reached_, followed_;
  Vec<u32> links_;
  Vec<u8> buf_;
};

}  // namespace vexfs::vector
