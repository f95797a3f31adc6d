// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Making a filesystem: geometry, and what mkfs writes.
#pragma once
#include "../platform.h"
#include "types.h"

namespace vexfs::store {

struct FormatOptions {
  u32 block_size = 4096;     // bytes, 1024..65536, a power of two
  u32 node_size = 0;         // bytes, a power of two, block_size..65536; 0: 16 KiB or the block size if larger
  u64 total_blocks = 0;      // 0: the whole device
  u64 log_blocks = ~u64{0};  // intent log region (mkfs -J); ~0: 1/64 of the device up to 32 MiB; 0: none
  u32 group_blocks = 0;      // 0: chosen from the size
  u8 node_copies = 0;        // of tree nodes: 1 or 2; 0: 2, or 1 on a device below kMirrorBytes
  u8 uuid[16] = {};          // all zero: a random (version 4) one
  char label[64] = {};       // UTF-8, NUL-terminated
  u64 feature_compat = 0, feature_ro_compat = 0, feature_incompat = 0;
  bool dry_run = false;  // computes Layout, touches nothing
  bool discard = false;  // tells the device first that all blocks are unused
};

// What the filesystem looks like; counts in blocks unless said otherwise.
struct Layout {
  u8 uuid[16] = {};
  u32 block_size = 0, node_size = 0;  // bytes
  u8 node_copies = 0;                 // of tree nodes
  u64 total_blocks = 0;
  u32 group_blocks = 0;  // blocks of every group but possibly the last
  u64 groups = 0;
  u64 boot_blocks = 0;                // the first 64 KiB, which hold the superblock at byte 4096
  u64 root_blocks = 0;                // both root slots and their mirrors
  u64 descriptor_blocks = 0;          // group descriptors, both homes
  u64 bitmap_blocks = 0;              // allocation bitmaps, both homes
  u64 backup_blocks = 0;              // superblock copies
  u64 log_start = 0, log_blocks = 0;  // intent log region
  u64 meta_blocks = 0;                // all of the above
  u64 free_blocks = 0;                // total less meta
  u32 max_item = 0;                   // bytes
};

// Writes an empty filesystem. Errors: inval (geometry), nospc (the device is too small: see kMinFormatBytes), io,
// nomem. *out (may be null) is filled also when dry_run.
inline constexpr u64 kMinFormatBytes = 2u << 20;
inline constexpr u64 kMirrorBytes = u64{32} << 20;
Status format(vx_bdev *dev, const FormatOptions &options, Layout *out);

}  // namespace vexfs::store
