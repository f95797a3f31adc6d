// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Loading, changing and writing back row groups.
#include "row_groups.h"

namespace vexfs::vector {

Status RowGroups::hold(u64 group) {
  VX_ASSERT(!dirty_);
  held_ = none;
  store::Key key = item_key(cid_, VectorItem::rows, group);
  Result<usize> r = tree_.get(key, {item_, sizeof item_});
  if (r.code() == Errno::range) return damaged(volume_, cid_, "rows", group, "length");
  if (!r.ok()) return r.error();
  Result<u32> n = disk::decode_rows({item_, *r}, rows_);
  if (!n.ok() || *n > group_rows_) return damaged(volume_, cid_, "rows", group, n.ok() ? "count" : "encoding");
  count_ = *n;
  held_ = group;
  return {};
}

Status RowGroups::flush(store::Handle &h) {
  if (!dirty_) return {};
  usize n = disk::encode_rows(rows_, count_, {item_, sizeof item_});
  dirty_ = false;
  return tree_.upsert(h, item_key(cid_, VectorItem::rows, held_), {item_, n});
}

Result<disk::RowRecord *> RowGroups::at(store::Handle &h, u32 slot) {
  u64 group = slot / group_rows_;
  if (held_ != group) {
    VX_TRY(flush(h));
    VX_TRY(hold(group));
  }
  u32 i = slot % group_rows_;
  if (i >= count_) return Errno::noent;
  return &rows_[i];
}

Result<const disk::RowRecord *> RowGroups::read(u32 slot) {
  VX_ASSERT(!dirty_);
  u64 group = slot / group_rows_;
  if (held_ != group) VX_TRY(hold(group));
  u32 i = slot % group_rows_;
  if (i >= count_) return Errno::noent;
  return const_cast<const disk::RowRecord *>(&rows_[i]);
}

Status RowGroups::append(store::Handle &h, u32 slot, const disk::RowRecord &r) {
  u64 group = slot / group_rows_;
  u32 i = slot % group_rows_;
  if (held_ != group) {
    VX_TRY(flush(h));
    if (i == 0) {
      held_ = group;
      count_ = 0;
    } else {
      VX_TRY(hold(group));
    }
  }
  // A group may hold more than the state counts only after damage: slots are written once.
  if (count_ != i) return damaged(volume_, cid_, "rows", group, "count");
  rows_[i] = r;
  count_++;
  dirty_ = true;
  return {};
}

}  // namespace vexfs::vector
