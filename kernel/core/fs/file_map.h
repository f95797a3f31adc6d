// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The mapping of file blocks to device blocks: what api.h's "file data" section promises, in C++.
//
// All offsets and lengths are bytes. Each function takes the inode's data_lock itself, except those ending in _locked.
#pragma once
#include <span>

#include "extents.h"

namespace vexfs::fs {

using MapOut = struct ::vx_map;  // the function of that name hides it

// --- file_map.cc
Status map(Inode &ip, u64 off, u64 len, MapOut &out);
// What is at the block of `off`, with the checksums of what is mapped there: at most sums.size() blocks.
Status map_sums(Inode &ip, u64 off, u64 len, std::span<vx_sum> sums, MapOut &out);
Status map_reserve(Inode &ip, u64 off, u64 len, MapOut &out);
void map_unreserve(Inode &ip, u64 off, u64 len);
Status map_locked(Inode &ip, u64 block, MapOut &out);  // data_lock held

// --- file_alloc.cc
Status map_allocate(Inode &ip, u64 off, u64 len, bool direct, MapOut &out);
// Device block near which the data of `block` would best go. data_lock held exclusively.
u64 goal_for(Inode &ip, u64 block);
// Allocates at most `count` contiguous blocks, preferring long runs. from_reservation as Volume::alloc.
Result<store::Extent> alloc_run(Inode &ip, u64 block, u64 count, bool from_reservation);

// --- write_done.cc
// sums: null, or one for each block.
Status write_done(Inode &ip, u64 off, u64 len, u64 new_size, int err, const vx_sum *sums = nullptr);

// --- file_inline.cc
Result<usize> inline_read(Inode &ip, MutBytes out);  // range if it does not fit; noent when the file is not inline
Status inline_write(Inode &ip, Bytes data);
Status uninline(Inode &ip);
Status uninline_locked(Inode &ip);
// Makes an inline file `size` bytes long, padding with zeroes; size <= inline_max. data_lock held exclusively. `also`
// changes further attributes in the same handle.
Status inline_resize_locked(Inode &ip, u64 size, FnRef<void(Attributes &)> also);

// Under data_lock: the whole contents into out, which holds inline_max bytes; and inline_write() with further attributes,
// which does not count as a new version.
Result<usize> inline_load_locked(Inode &ip, MutBytes out);
Status inline_store_locked(Inode &ip, Bytes data, FnRef<void(Attributes &)> also);

// --- clone.cc
struct CloneRange {
  u64 src_off = 0, dst_off = 0;  // bytes, multiples of the block size
  u64 len = 0;                   // bytes; not whole blocks only if both files end there, or before
  bool dedupe = false;           // the contents are the same already: nothing that can be seen changes
};
// The range of dst becomes one of src, by sharing blocks. `done` says how far it got, also after an error; without one the
// caller goes on behind it until that is all. The host has written back what is dirty of both ranges, keeps both from being
// changed, and (dst grows) has zeroed what its last block has behind the end. inval: not aligned, ranges of one file
// that overlap, one file with checksums and one without; opnotsupp: made without the feature; busy: being written; mlink,
// nospc, rofs, fbig.
Status clone_range(Inode &src, Inode &dst, const CloneRange &r, Time now, u64 &done);

// --- file_truncate.cc
Status truncate(Inode &ip, u64 size, Time now);
Status set_size(Inode &ip, u64 size);
// Drops what the overlay has from `first` to `end` (blocks): promises and blocks go back, what is in flight becomes a
// ghost. nomem: nothing changed. data_lock held exclusively.
Status drop_overlay(Inode &ip, u64 first, u64 end);

// --- file_fallocate.cc
Status fallocate(Inode &ip, u32 mode, u64 off, u64 len, u64 new_size, Time now);
// Every mapping of the blocks first .. end goes, in as many transactions as it takes. `also` changes further attributes in
// each of them, and is told before which block nothing of the range is left by it; not called where nothing was mapped.
// data_lock held exclusively, nothing of them is in the overlay.
Status punch_locked(Inode &ip, u64 first, u64 end, FnRef<void(Attributes &, u64 upto)> also);

// --- file_io.cc: hosts without a page cache
Result<usize> read_file(Inode &ip, MutBytes out, u64 off);
Result<usize> write_file(Inode &ip, Bytes in, u64 off, Time now);
// Clones all of it; or with r.dedupe if the contents are the same: false, if they differ.
Result<bool> clone_file(Inode &src, Inode &dst, const CloneRange &r, Time now);
Status truncate_file(Inode &ip, u64 size,
                     Time now);  // truncate, and the tail of the last block is zeroed on the device

}  // namespace vexfs::fs
