// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Searching and editing a packed tree node in its buffer. Pure functions over memory: no locks, no allocation, no I/O.
// All nodes given here have been verified (disk::verify_node) or built by these functions.
#pragma once
#include "../disk/node.h"
#include "key.h"
#include "types.h"

namespace vexfs::store {

using disk::BranchItem;
using disk::LeafItem;
using disk::NodeHeader;
using disk::NodePtr;

inline NodeHeader &node_header(u8 *b) { return *reinterpret_cast<NodeHeader *>(b); }
inline const NodeHeader &node_header(const u8 *b) { return *reinterpret_cast<const NodeHeader *>(b); }
inline LeafItem *leaf_items(u8 *b) { return reinterpret_cast<LeafItem *>(b + sizeof(NodeHeader)); }
inline const LeafItem *leaf_items(const u8 *b) { return reinterpret_cast<const LeafItem *>(b + sizeof(NodeHeader)); }
inline BranchItem *branch_items(u8 *b) { return reinterpret_cast<BranchItem *>(b + sizeof(NodeHeader)); }
inline const BranchItem *branch_items(const u8 *b) {
  return reinterpret_cast<const BranchItem *>(b + sizeof(NodeHeader));
}

inline Key key_of(const disk::DiskKey &d) { return {d.oid, d.type, d.off}; }
inline void set_key(disk::DiskKey &d, const Key &k) {
  d.oid = k.oid;
  d.type = k.type;
  d.off = k.off;
}
// (oid, type, off) as a number of three limbs, compared without branches: when d.off < k.off, the upper two limbs of d
// need only be less or equal, which is less than one more.
inline bool key_less(const disk::DiskKey &d, const Key &k) {
  using Wide = unsigned __int128;
  Wide a = (Wide{d.oid.get()} << 64) | d.type;
  Wide b = (Wide{k.oid} << 64) | (u64{k.type} + (d.off.get() < k.off ? 1 : 0));
  return a < b;
}
inline bool key_equal(const disk::DiskKey &d, const Key &k) {
  return ((d.oid.get() ^ k.oid) | (u64{d.type} ^ k.type) | (d.off.get() ^ k.off)) == 0;
}

// First item whose key is >= k (n when there is none). Steps do not depend on branches, and both places where the next
// step may look are being fetched while this one is decided.
template <class Item>
inline u32 lower_bound(const Item *items, u32 n, const Key &k) {
  const Item *base = items;
  while (n > 1) {
    u32 half = n / 2;
    __builtin_prefetch(base + half / 2);
    __builtin_prefetch(base + half + half / 2);
    usize less = key_less(base[half - 1].key, k);
    asm("" : "+r"(less));  // keeps the compiler from turning the next line into a jump
    base += (usize{0} - less) & half;
    n -= half;
  }
  return static_cast<u32>(base - items) + (n == 1 && key_less(base->key, k) ? 1u : 0u);
}
inline u32 leaf_search(const u8 *b, const Key &k, bool *found) {
  u32 n = node_header(b).count;
  u32 i = lower_bound(leaf_items(b), n, k);
  *found = i < n && key_equal(leaf_items(b)[i].key, k);
  return i;
}
// The child that leads to k: the last item whose key is <= k, the first if there is none.
inline u32 branch_search(const u8 *b, const Key &k) {
  u32 n = node_header(b).count;
  u32 i = lower_bound(branch_items(b), n, k);
  if (i < n && key_equal(branch_items(b)[i].key, k)) return i;
  return i ? i - 1 : 0;
}

void node_init(u8 *b, u32 size, u8 tree, u8 level);

// ---- leaves
inline Bytes leaf_value(const u8 *b, u32 i) { return {b + leaf_items(b)[i].pos, leaf_items(b)[i].len}; }
inline MutBytes leaf_value_mut(u8 *b, u32 i) { return {b + leaf_items(b)[i].pos, leaf_items(b)[i].len}; }
// Bytes in use, headers included; at most leaf_room(size).
inline u32 leaf_used(const u8 *b) {
  return node_header(b).live + node_header(b).count * static_cast<u32>(sizeof(LeafItem));
}
inline u32 leaf_room(u32 size) { return size - static_cast<u32>(sizeof(NodeHeader)); }
// Would an item with a value of len bytes fit (compaction allowed)? `replaced`: length of the value it replaces, or
// ~0 for a new item.
bool leaf_fits(const u8 *b, u32 size, u32 len, u32 replaced = ~0u);
// Does it fit between the items and the heap as they are?
bool leaf_fits_now(const u8 *b, u32 len, bool new_item);
// Rebuilds src without gaps in dst (another buffer of the same size; the header's identity is copied).
void leaf_compact(const u8 *src, u8 *dst, u32 size);
// Precondition of both: leaf_fits_now.
void leaf_insert_at(u8 *b, u32 size, u32 at, const Key &k, Bytes v);
void leaf_replace_at(u8 *b, u32 size, u32 at, Bytes v);  // new length; the same length needs no room
void leaf_erase(u8 *b, u32 size, u32 at, u32 n);
// Appends items [from, from+n) of src to the end of dst, which has room for them as it is.
void leaf_append(u8 *dst, u32 size, const u8 *src, u32 from, u32 n);
// How to split a full leaf for a new item of len bytes at position `at`: items [cut, n) go to the right node, and the
// new item goes right or left. Balances bytes; an item at the end goes right alone, so that ascending inserts leave
// full leaves behind. Since no item takes more than a quarter of a leaf, both sides fit.
struct LeafCut {
  u32 cut;
  bool new_right;
};
LeafCut leaf_cut(const u8 *b, u32 at, u32 len);

// ---- branches
inline u32 branch_capacity(u32 size) { return disk::branch_capacity(size); }
void branch_insert(u8 *b, u32 at, const Key &k, const NodePlace &place, u64 birth);
void branch_erase(u8 *b, u32 at);
inline void branch_set_child(u8 *b, u32 at, const NodePlace &place, u64 birth) {
  NodePtr &p = branch_items(b)[at].child;
  p.addr = place.addr;
  p.mirror = place.mirror;
  p.birth = birth;
}
// Moves n items from the front of src to the end of dst, or from the end of src to the front of dst.
void branch_move_front_to_end(u8 *src, u8 *dst, u32 n);
void branch_move_end_to_front(u8 *src, u8 *dst, u32 n);

}  // namespace vexfs::store
