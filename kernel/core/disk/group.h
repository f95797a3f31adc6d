// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Block groups: allocation bitmaps and group descriptors. Each has two fixed homes, written in turn.
#pragma once
#include "root.h"

namespace vexfs::disk {

// A bitmap block: header, then one bit a block of the group, least significant bit first; 1 = in use. Bits beyond the
// group's end are 1.
struct BitmapDisk {
  BlockHeader header;
  le64 group;
  le32 bits;  // blocks in the group
  le32 free;  // zero bits among them
  le64 reserved[2];
};
static_assert(sizeof(BitmapDisk) == 64 && offsetof(BitmapDisk, group) == 32);

struct GroupDesc {
  le64 bitmap;  // {home, flags, txn} of the current bitmap
  le32 free;    // blocks
  le32 reserved;
};
static_assert(sizeof(GroupDesc) == 16);
inline constexpr u64 kGroupUninit = u64{1} << 62;  // no bitmap was ever written: only fixed structures are in use
inline constexpr u64 kGroupMeta = u64{1} << 61;    // preferred for tree nodes
inline constexpr u64 kGroupTxnMask = kGroupMeta - 1;

struct DescBlockDisk {
  BlockHeader header;
  le64 index;  // which descriptor block
  le64 first;  // group of the first descriptor
  le32 count;  // descriptors
  le32 reserved0;
  le64 reserved1;
};
static_assert(sizeof(DescBlockDisk) == 64);

inline GroupDesc *desc_array(void *block) { return reinterpret_cast<GroupDesc *>(static_cast<u8 *>(block) + 64); }
inline const GroupDesc *desc_array(const void *block) {
  return reinterpret_cast<const GroupDesc *>(static_cast<const u8 *>(block) + 64);
}

// Marks the fixed structures of group g (and everything beyond its end) in `bits`; returns the free count.
u32 fill_fixed_bits(const Geometry &geo, u64 g, MutBytes bits);
u32 count_zero_bits(Bytes bits, u32 n);

Refusal verify_bitmap(Bytes block, const Geometry &geo, u64 g, unsigned home, u64 txn, u32 free);
Refusal verify_desc_block(Bytes block, const Geometry &geo, u64 index, unsigned home, u64 txn);
void print_desc_block(Bytes block, TextSink out);

}  // namespace vexfs::disk
