// SPDX-License-Identifier: GPL-2.0-only OR MIT
// EXTENT items of a file: finding, inserting with merging, cutting out, converting. data_lock is held (shared is enough
// for finding).
#pragma once
#include "inode.h"
#include "shares.h"

namespace vexfs::fs {

struct Mapped {
  u64 first = 0;  // file block
  u64 count = 0;  // blocks, at most kExtentMaxBlocks
  u64 disk = 0;   // device block
  u64 birth = 0;  // transaction
  bool unwritten = false;
  bool summed = false;  // its blocks have checksums (sums.h)
  bool shared = false;  // other extents may refer to its blocks (shares.h)
  u64 end() const { return first + count; }
};

// The first extent that ends after `block` (it may contain it). noent; corrupt.
Result<Mapped> find_extent(Inode &ip, u64 block);
// The last extent that begins at or before `block`. noent; corrupt.
Result<Mapped> extent_before(Inode &ip, u64 block);

// Inserts an extent into a hole, joining it with neighbours of the same kind and birth that continue it. Failures after
// a change abort the volume.
inline constexpr u32 kPutExtentItems = 3;
Status put_extent(store::Handle &h, Inode &ip, const Mapped &e);
// Removes what is mapped in first .. end of the one extent `e` (which overlaps it); the blocks are the caller's then.
inline constexpr u32 kCutExtentItems = 2;
Status cut_extent(store::Handle &h, Inode &ip, const Mapped &e, u64 first, u64 end);
// The same, and the file lets go of the blocks: they become free, unless another extent refers to them. Of a shared extent
// one handle may not get to the end: returns up to where it got, min(end, e.end()) if all is done. An error that comes
// before a change does not abort the volume.
inline constexpr u32 kDropExtentItems = kCutExtentItems;
inline constexpr u32 kDropSharedItems = kCutExtentItems + kShareItems;
Result<u64> drop_extent(store::Handle &h, Inode &ip, const Mapped &e, u64 first, u64 end);
// From now on other extents may refer to its blocks. One tree mutation, or none.
Status mark_shared(store::Handle &h, Inode &ip, const Mapped &e);
// Turns first .. end of the one extent `e` (which overlaps it) into written, with checksums or without, or unwritten.
inline constexpr u32 kConvertExtentItems = kCutExtentItems + kPutExtentItems;
enum class Become : u8 { unwritten, written, summed };
Status convert_extent(store::Handle &h, Inode &ip, const Mapped &e, u64 first, u64 end, Become what);

}  // namespace vexfs::fs
