// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Edits row groups (the metadata of rows in the collections tree), one group at a time, written back when another one
// is touched. Used under the collection's writer lock.
#pragma once
#include "../disk/vector_items_rows.h"
#include "keys.h"

namespace vexfs::vector {

class RowGroups : Pinned {
 public:
  RowGroups(store::Volume &v, u32 cid, u32 group_rows)
      : volume_(v), tree_(v.tree(store::TreeId::collections)), cid_(cid), group_rows_(group_rows) {}

  // The record of a slot, to be read or changed (then call touch()). Writes back the group held before, if that was
  // changed. noent: the slot was never used; io, corrupt.
  Result<disk::RowRecord *> at(store::Handle &h, u32 slot);
  // The same for reading without a handle: what was changed must have been flushed.
  Result<const disk::RowRecord *> read(u32 slot);
  // Adds the record of the next slot (the caller's count of slots says which).
  Status append(store::Handle &h, u32 slot, const disk::RowRecord &r);
  void touch() { dirty_ = true; }
  Status flush(store::Handle &h);
  // Forgets what is held (after an aborted operation).
  void drop() {
    dirty_ = false;
    held_ = none;
  }

 private:
  static constexpr u64 none = ~u64{0};
  Status hold(u64 group);

  store::Volume &volume_;
  store::Tree &tree_;
  u32 cid_, group_rows_;
  u64 held_ = none;
  u32 count_ = 0;
  bool dirty_ = false;
  disk::RowRecord rows_[disk::kGroupRowsMax];
  u8 item_[disk::group_bytes_max(disk::kGroupRowsMax)];
};

}  // namespace vexfs::vector
