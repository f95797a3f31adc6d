// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The fs room's part of checking a filesystem that nobody has open.
#pragma once
#include "../store/check.h"

namespace vexfs::fs {

struct CheckOptions {
  u32 name_hash_bits = 56;  // as in fs::Options
};

struct CheckFigures {
  u64 inodes = 0, directories = 0, names = 0, extents = 0, orphans = 0, xattrs = 0, inline_files = 0, summed_blocks = 0;
  u64 shared_blocks = 0;  // of extents that are marked so, each as often as it is referred to
};

// Walks the fs tree: every item by itself, everything of an inode together (size, blocks, entries, xattrs, chains of
// names), then all inodes together (names against link counts, parents, the way to the root, orphans, the inode count).
// Claims the blocks of all extents, and compares the refcounts tree with the references that there are. Memory: about 72
// bytes for each inode, 24 for each name, 48 for each shared extent and 32 for each entry of that tree. Errors: io, nomem;
// findings go to the checker.
Status check(store::Checker &checker, const CheckOptions &options = {}, CheckFigures *figures = nullptr);

}  // namespace vexfs::fs
