// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Which files differ between two states of a filesystem, and in what. The cost is that of what differs.
#pragma once
#include "filesystem.h"

namespace vexfs::fs {

inline constexpr u32 kChangedCreated = 1, kChangedDeleted = 2, kChangedData = 4, kChangedNames = 8,
                     kChangedAttributes = 16, kChangedXattrs = 32, kChangedVectors = 64, kChangedWritten = 256;

struct Changed {
  u64 ino = 0;
  u32 generation = 0;
  u32 mode = 0;
  u32 what = 0;  // kChanged*
  u64 size = 0;  // bytes; of a deleted file as it was
};

// Calls fn for every inode from `ino` on that is not the same in both, in the order of their numbers; it returns false to
// stop. Both volumes are on one device. Data: contents, or only how they are laid out, may differ. io, corrupt, nomem.
Status diff(const store::Volume &from, const store::Volume &to, u64 ino, FnRef<bool(const Changed &)> fn);

}  // namespace vexfs::fs
