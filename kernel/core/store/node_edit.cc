// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Editing packed tree nodes: insert, replace, erase, compact, cut and move.
#include "node_edit.h"

namespace vexfs::store {

namespace node_edit_impl {
namespace {
void set_item(LeafItem &it, const Key &k, u32 pos, u32 len) {
  set_key(it.key, k);
  it.reserved = 0;
  it.pos = static_cast<u16>(pos);
  it.len = static_cast<u16>(len);
  it.reserved1 = 0;
}

// Takes room for a value from the heap; its position, or 0 for an empty value.
u32 take_heap(NodeHeader &h, u32 len) {
  if (len == 0) return 0;
  h.heap = h.heap - len;
  return h.heap;
}
u32 items_end(const NodeHeader &h) {
  return static_cast<u32>(sizeof(NodeHeader)) + h.count * static_cast<u32>(sizeof(LeafItem));
}
}  // namespace
}  // namespace node_edit_impl

void node_init(u8 *b, u32 size, u8 tree, u8 level) {
  memset(b, 0, size);
  NodeHeader &h = node_header(b);
  h.tree = tree;
  h.level = level;
  h.heap = level ? 0 : size;
}

bool leaf_fits(const u8 *b, u32 size, u32 len, u32 replaced) {
  u32 used = leaf_used(b);
  if (replaced == ~0u) {
    used += static_cast<u32>(sizeof(LeafItem));
  } else {
    used -= replaced;
  }
  return used + len <= leaf_room(size);
}

bool leaf_fits_now(const u8 *b, u32 len, bool new_item) {
  const NodeHeader &h = node_header(b);
  u32 end = node_edit_impl::items_end(h) + (new_item ? static_cast<u32>(sizeof(LeafItem)) : 0);
  return end + len <= h.heap;
}

void leaf_compact(const u8 *src, u8 *dst, u32 size) {
  const NodeHeader &sh = node_header(src);
  NodeHeader &dh = node_header(dst);
  memcpy(dst, src, node_edit_impl::items_end(sh));
  dh.heap = size;
  for (u32 i = 0, n = sh.count; i < n; i++) {
    LeafItem &it = leaf_items(dst)[i];
    u32 len = it.len, from = it.pos;
    u32 pos = node_edit_impl::take_heap(dh, len);
    if (len) memcpy(dst + pos, src + from, len);
    it.pos = static_cast<u16>(pos);
  }
}

void leaf_insert_at(u8 *b, u32 size, u32 at, const Key &k, Bytes v) {
  NodeHeader &h = node_header(b);
  u32 n = h.count, len = static_cast<u32>(v.size());
  VX_ASSERT(at <= n && leaf_fits_now(b, len, true) && h.heap <= size);
  LeafItem *it = leaf_items(b);
  memmove(it + at + 1, it + at, (n - at) * sizeof(LeafItem));
  u32 pos = node_edit_impl::take_heap(h, len);
  if (len) memcpy(b + pos, v.data(), len);
  node_edit_impl::set_item(it[at], k, pos, len);
  h.count = n + 1;
  h.live = h.live + len;
}

void leaf_replace_at(u8 *b, u32 size, u32 at, Bytes v) {
  NodeHeader &h = node_header(b);
  LeafItem &it = leaf_items(b)[at];
  u32 old = it.len, len = static_cast<u32>(v.size());
  VX_ASSERT(at < h.count && h.heap <= size);
  if (len <= old && len) {
    memcpy(b + it.pos, v.data(), len);  // in place; the rest becomes a gap
  } else {
    if (old && it.pos == h.heap) h.heap = h.heap + old;
    VX_ASSERT(leaf_fits_now(b, len, false));
    u32 pos = node_edit_impl::take_heap(h, len);
    if (len) memcpy(b + pos, v.data(), len);
    it.pos = static_cast<u16>(pos);
  }
  it.len = static_cast<u16>(len);
  h.live = h.live - old + len;
}

void leaf_erase(u8 *b, u32 size, u32 at, u32 n) {
  NodeHeader &h = node_header(b);
  u32 count = h.count;
  VX_ASSERT(at <= count && n <= count - at);
  LeafItem *it = leaf_items(b);
  u32 gone = 0;
  for (u32 i = at; i < at + n; i++) {
    gone += it[i].len;
    if (it[i].len && it[i].pos == h.heap) h.heap = h.heap + it[i].len;
  }
  memmove(it + at, it + at + n, (count - at - n) * sizeof(LeafItem));
  h.count = count - n;
  h.live = h.live - gone;
  if (h.live == 0) h.heap = size;
}

void leaf_append(u8 *dst, u32 size, const u8 *src, u32 from, u32 n) {
  NodeHeader &h = node_header(dst);
  VX_ASSERT(from + n <= node_header(src).count && h.heap <= size);
  for (u32 i = from; i < from + n; i++) {
    const LeafItem &s = leaf_items(src)[i];
    u32 len = s.len;
    VX_ASSERT(leaf_fits_now(dst, len, true));
    u32 pos = node_edit_impl::take_heap(h, len);
    if (len) memcpy(dst + pos, src + s.pos, len);
    node_edit_impl::set_item(leaf_items(dst)[h.count], key_of(s.key), pos, len);
    h.count = h.count + 1;
    h.live = h.live + len;
  }
}

LeafCut leaf_cut(const u8 *b, u32 at, u32 len) {
  const LeafItem *it = leaf_items(b);
  u32 n = node_header(b).count;
  VX_ASSERT(n > 0 && at <= n);
  if (at == n) return {n, true};
  // The n + 1 items in order, the new one included: take items to the left until it holds half of all bytes.
  u32 fresh = len + static_cast<u32>(sizeof(LeafItem));
  u32 total = leaf_used(b) + fresh, left = 0, taken = 0;
  while (taken < n) {
    u32 old = taken - (taken > at ? 1 : 0);
    u32 one = taken == at ? fresh : it[old].len + static_cast<u32>(sizeof(LeafItem));
    if (taken > 0 && left + one / 2 > total / 2) break;
    left += one;
    taken++;
  }
  if (taken <= at) return {taken, true};
  return {taken - 1, false};
}

void branch_insert(u8 *b, u32 at, const Key &k, const NodePlace &place, u64 birth) {
  NodeHeader &h = node_header(b);
  u32 n = h.count;
  VX_ASSERT(at <= n);
  BranchItem *it = branch_items(b);
  memmove(it + at + 1, it + at, (n - at) * sizeof(BranchItem));
  set_key(it[at].key, k);
  memset(it[at].reserved, 0, sizeof it[at].reserved);
  h.count = n + 1;
  branch_set_child(b, at, place, birth);
}

void branch_erase(u8 *b, u32 at) {
  NodeHeader &h = node_header(b);
  u32 n = h.count;
  VX_ASSERT(at < n);
  BranchItem *it = branch_items(b);
  memmove(it + at, it + at + 1, (n - at - 1) * sizeof(BranchItem));
  h.count = n - 1;
}

void branch_move_front_to_end(u8 *src, u8 *dst, u32 n) {
  NodeHeader &s = node_header(src), &d = node_header(dst);
  u32 have = s.count;
  VX_ASSERT(n <= have);
  memcpy(branch_items(dst) + d.count, branch_items(src), n * sizeof(BranchItem));
  memmove(branch_items(src), branch_items(src) + n, (have - n) * sizeof(BranchItem));
  s.count = have - n;
  d.count = d.count + n;
}

void branch_move_end_to_front(u8 *src, u8 *dst, u32 n) {
  NodeHeader &s = node_header(src), &d = node_header(dst);
  u32 have = s.count;
  VX_ASSERT(n <= have);
  memmove(branch_items(dst) + n, branch_items(dst), d.count * sizeof(BranchItem));
  memcpy(branch_items(dst), branch_items(src) + (have - n), n * sizeof(BranchItem));
  s.count = have - n;
  d.count = d.count + n;
}

}  // namespace vexfs::store
