// SPDX-License-Identifier: GPL-2.0-only OR MIT
// An inode's attributes in memory, and their conversion from and to the INODE item.
#pragma once
#include "../disk/fs_items.h"

namespace vexfs::fs {

struct Time {
  s64 sec = 0;
  u32 nsec = 0;
  friend constexpr bool operator==(const Time &, const Time &) = default;
};

struct Attributes {
  u32 mode = 0;  // st_mode
  u32 uid = 0, gid = 0;
  u32 nlink = 0;  // 0: has no name (an orphan)
  u32 generation = 0;
  u32 flags = 0;   // VX_INODE_* of api.h
  u32 xattrs = 0;  // number of xattrs
  u64 size = 0;    // bytes
  u64 blocks = 0;  // filesystem blocks that extents map (delayed ones not included)
  u64 rdev = 0;
  u64 version = 0;  // content version
  u64 parent = 0;   // inode number of the directory of the most recent name
  u64 entries = 0;  // directories: names in it
  u64 birth = 0;    // transaction
  Time atime, mtime, ctime, btime;
};

// `item` is one that verify_inode() found good.
void decode(const disk::DiskInode &item, Attributes &out);
void encode(const Attributes &a, disk::DiskInode &out);  // every byte of out

}  // namespace vexfs::fs
