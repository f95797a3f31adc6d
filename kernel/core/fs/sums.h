// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Checksums of file data: a crc32c for each block, in items beside the extents that say which blocks have one.
//
// A block with a checksum is never overwritten in place (Inode's overlay, `cow`): its mapping and its checksum change
// together, when the new data is on the device, so no crash can leave one without the other. What an item says of blocks
// that no summed extent maps means nothing: it need not be cleaned up when a block goes.
#pragma once
#include "extents.h"

namespace vexfs::fs {

// Is new data of this file to have checksums?
bool wants_sums(const Inode &ip);
// Does a write to what `e` maps go to new blocks? A snapshot or another file needs these, or they have checksums, or ought
// to have.
bool write_moves(const Inode &ip, const Mapped &e);

// Those of count blocks from `first` on, all of which a summed extent maps. data_lock held. corrupt: some are missing.
Status read_sums(Inode &ip, u64 first, u64 count, std::span<vx_sum> out);

// Tree mutations of put_sums() for so many blocks.
constexpr u32 put_sums_items(u64 blocks) {
  return static_cast<u32>((blocks + disk::kSumsPerItem - 2) / disk::kSumsPerItem) + 1;
}
// data_lock held exclusively. Failures after a change abort the volume.
Status put_sums(store::Handle &h, Inode &ip, u64 first, std::span<const vx_sum> sums);
// Erases items that speak of nothing outside first .. end, at most kErasePiece of them; returns whether there may be more.
Result<bool> erase_sums(store::Handle &h, Inode &ip, u64 first, u64 end);

// Has each block at data the checksum in `sums`, or none? Else what vx_sum_mismatch() says of the first that has not.
Status check_sums(Inode &ip, const struct ::vx_map &m, Bytes data, std::span<const vx_sum> sums);
Error sum_mismatch(Inode &ip, u64 off, u64 disk, vx_sum expected, vx_sum found);

}  // namespace vexfs::fs
