// SPDX-License-Identifier: GPL-2.0-only OR MIT
// From a file to the rows it owns: runs of slots, in the fs tree under the file's inode number.
//
// Changes need the writer lock of the collection. A run never spans rows of another owner; slots of rows that died one
// by one leave their run at once.
#pragma once
#include "keys.h"

namespace vexfs::vector {

class OwnerRefs {
 public:
  explicit OwnerRefs(store::Volume &v) : volume_(v), tree_(v.tree(store::TreeId::fs)) {}

  struct Run {
    u32 cid = 0, slot = 0, count = 0;
  };
  // The first run of the owner at or after (cid, slot). noent.
  Result<Run> next(u64 ino, u32 cid, u32 slot) const;
  // n new rows, the first in `slot`. At most 1 mutation.
  Status add(store::Handle &h, u64 ino, u32 cid, u32 slot, u32 n);
  // n rows have died. They must lie in one run. At most 2 mutations. noent: they are in none.
  Status remove(store::Handle &h, u64 ino, u32 cid, u32 slot, u32 n);

 private:
  Result<Run> covering_or_before(u64 ino, u32 cid, u32 slot) const;
  Result<Run> parse(u64 ino, const store::Tree::Found &f, const disk::OwnerRefItem &item) const;
  Status put(store::Handle &h, u64 ino, const Run &r);

  store::Volume &volume_;
  store::Tree &tree_;
};

}  // namespace vexfs::vector
