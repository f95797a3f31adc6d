// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The walk over nodes that another tree does not have.
#include "unshared.h"

#include "tree_ops.h"

namespace vexfs::store {

Result<bool> UnsharedWalk::shared(const Found &n, MutBytes buf) const {
  u32 count = node_header(buf.data()).count;
  // The first key of a branch may be less than anything in it; and an empty leaf has none.
  if (count == 0 || (n.level && count == 1)) return false;
  const Key inside = n.level ? key_of(branch_items(buf.data())[count - 1].key) : key_of(leaf_items(buf.data())[0].key);
  State &s = *other_->state_;
  Pins pins(s.cache);
  Range range;
  Node *same = VX_TRY(TreeOps::read_node(*other_, inside, n.level, &range, pins));
  if (!same) return false;
  bool yes = same->addr == n.place.addr && same->birth == n.birth;
  TreeOps::release(s, same, false);
  return yes;
}

Result<bool> UnsharedWalk::next(MutBytes buf, Found *out) {
  State &s = *mine_->state_;
  while (!done_) {
    u32 height = mine_->height_.load(std::memory_order_relaxed);
    if (height == 0) break;
    if (fresh_) level_ = static_cast<u8>(height - 1);
    Range range;
    {
      Pins pins(s.cache);
      Node *n = VX_TRY(TreeOps::read_node(*mine_, at_, level_, &range, pins));
      VX_ASSERT(n);
      *out = {n->place(), n->birth, n->level};
      memcpy(buf.data(), n->buf, s.geo.node_size);
      TreeOps::release(s, n, false);
    }
    if (range.lo < at_) {  // it began before, and has been seen
      VX_ASSERT(level_ > 0);
      level_--;
      fresh_ = false;
      continue;
    }
    bool known = VX_TRY(shared(*out, buf));
    if (known || level_ == 0) {
      done_ = range.open_end;
      at_ = range.hi;
      fresh_ = true;
    } else {
      level_--;
      fresh_ = false;
    }
    if (!known) return true;
  }
  return false;
}

}  // namespace vexfs::store
