// SPDX-License-Identifier: GPL-2.0-only OR MIT
// B+tree nodes as they lie on disk.
//
//   leaf:   [NodeHeader][LeafItem 0..n-1, keys ascending] ... free ... [values, from `heap` to the end, any order]
//   branch: [NodeHeader][BranchItem 0..n-1, keys ascending]; item i leads to the keys in [key i, key i+1);
//           the first key of a branch equals the key that leads to it (Key::min() at the root).
#pragma once
#include "root.h"

namespace vexfs::disk {

struct NodeHeader {
  BlockHeader header;
  u8 tree;
  u8 level;    // 0 = leaf
  le16 flags;  // 0
  le32 count;  // items
  le32 heap;   // leaf: lowest byte in use by values (node size when there is none); branch: 0
  le32 live;   // leaf: sum of all value lengths; branch: 0
  le64 reserved[2];
};
static_assert(sizeof(NodeHeader) == 64 && offsetof(NodeHeader, tree) == 32 && offsetof(NodeHeader, count) == 36);

struct DiskKey {
  le64 oid;
  le64 off;
  u8 type;
};
static_assert(sizeof(DiskKey) == 17);

struct LeafItem {
  DiskKey key;
  u8 reserved;
  le16 pos;  // of the value, bytes from the start of the node; 0 when len is 0
  le16 len;
  le16 reserved1;
};
static_assert(sizeof(LeafItem) == 24 && offsetof(LeafItem, pos) == 18 && offsetof(LeafItem, len) == 20);

struct BranchItem {
  DiskKey key;
  u8 reserved[7];
  NodePtr child;
};
static_assert(sizeof(BranchItem) == 48 && offsetof(BranchItem, child) == 24);

inline constexpr u32 branch_capacity(u32 node_size) { return (node_size - sizeof(NodeHeader)) / sizeof(BranchItem); }
inline constexpr u32 max_item_bytes(u32 node_size) {
  return (node_size - static_cast<u32>(sizeof(NodeHeader))) / 4 - static_cast<u32>(sizeof(LeafItem));
}

// What the pointer that led here says.
struct NodeExpect {
  u64 addr = 0;
  u64 birth = 0;
  u8 tree = 0;
  u8 level = 0;
  u64 mirror = 0;  // where the second copy lies; 0: there is none
};
// Header, checksum, identity, and the whole structure: nothing that reads a verified node can leave its bounds.
Refusal verify_node(Bytes node, const Geometry &geo, const NodeExpect &expect);
// The structure alone (what is checked again before a node is written).
Refusal verify_node_items(Bytes node, const Geometry &geo);
void print_node(Bytes node, bool with_items, TextSink out);
void print_key(Printer &p, const DiskKey &k);

}  // namespace vexfs::disk
