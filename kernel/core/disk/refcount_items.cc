// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Verifying and printing the items of the refcounts tree.
#include "refcount_items.h"

namespace vexfs::disk {

const char *verify_refcount(Bytes item, u64 start, u8 type, u64 off, const Geometry &g) {
  RefcountItem r;
  if (type != kRefcountType || off != 0) return "key";
  if (item.size() != sizeof r) return "length";
  memcpy(&r, item.data(), sizeof r);
  if (r.refs < 2) return "refs";
  if (r.blocks == 0 || !g.is_data(start, r.blocks)) return "blocks";
  if (g.group_of(start) != g.group_of(start + r.blocks - 1)) return "group";
  if (r.birth == 0) return "birth";
  return nullptr;
}

void print_refcount_item(Printer &out, u64 start, u8 type, Bytes item) {
  out.str("blocks ").dec(start);
  RefcountItem r;
  if (type != kRefcountType || item.size() != sizeof r) {
    out.str(" unknown, ").dec(item.size()).str(" bytes");
    return;
  }
  memcpy(&r, item.data(), sizeof r);
  out.ch('+').dec(r.blocks).str(" refs ").dec(r.refs).str(" born ").dec(r.birth);
}

}  // namespace vexfs::disk
