// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The root slot: what one commit makes true. Two slots, each with a mirror, written in turn.
#pragma once
#include "super.h"

namespace vexfs::disk {

inline constexpr u32 kTrees = 8;
inline constexpr u32 kBlobBytes = 64;
inline constexpr u32 kMaxLevels = 12;  // of a tree

// A pointer to a tree node. birth must equal the node's own transaction. The second copy is the same bytes, so that its
// header says where the first one lies.
struct NodePtr {
  le64 addr;    // 0: none
  le64 mirror;  // second copy; 0 unless kIncompatMirroredNodes
  le64 birth;
};
static_assert(sizeof(NodePtr) == 24);
bool sound_pointer(const NodePtr &p, const Geometry &g);  // both places are such as a node can have

struct TreeRootDisk {
  NodePtr node;
  u8 levels;  // 0: empty; 1: the root is a leaf
  u8 reserved[7];
  le64 reserved1;
};
static_assert(sizeof(TreeRootDisk) == 40);

inline constexpr u64 kHomeBit = u64{1} << 63;  // in a {txn, home} word: which of the two homes is current
inline constexpr u64 kTxnMask = kHomeBit - 1;

struct RootDisk {
  BlockHeader header;
  u8 slot;    // 0, 1
  u8 mirror;  // 0: primary, 1: mirror
  le16 reserved0;
  le32 bytes;  // of the slot's contents, this struct and the array after it
  le64 desc_count;
  le64 next_object_id;
  le64 free_blocks;
  le64 node_blocks;  // blocks in tree nodes, all copies
  le64 commit_sec;
  le32 commit_nsec;
  le32 state;        // kRootState*
  le64 log_seq;      // intent log: sequence number of the first piece that this root does not contain; 0 counts as 1
  le64 log_tail;     // where that piece will be, in blocks from the start of the log region
  le64 log_session;  // random, new with each mount that writes: pieces of the log must carry it
  le64 reserved[3];
  TreeRootDisk trees[kTrees];
  u8 blobs[kTrees][kBlobBytes];
  // le64 desc[desc_count]: {txn, home} of each group descriptor block
};
static_assert(sizeof(RootDisk) == 136 + kTrees * (40 + kBlobBytes) && offsetof(RootDisk, trees) == 136 &&
              offsetof(RootDisk, next_object_id) == 48 && offsetof(RootDisk, log_seq) == 88);
inline constexpr u32 kRootStateErrors = 1;  // damage was met while mounted; fsck is due
inline constexpr u32 kRootStateClosed = 2;  // unmounted: nothing was written to the log after this root

inline le64 *root_desc(RootDisk *r) { return reinterpret_cast<le64 *>(r + 1); }
inline const le64 *root_desc(const RootDisk *r) { return reinterpret_cast<const le64 *>(r + 1); }

// `block` is the whole slot (root_blocks * block_size bytes).
Refusal verify_root(Bytes block, const Geometry &g, unsigned slot, unsigned mirror);
void print_root(Bytes block, TextSink out);

}  // namespace vexfs::disk
