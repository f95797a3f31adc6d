// SPDX-License-Identifier: MIT
// Repair: what the two halves of the files' repair share.
#pragma once
#include "model.h"

namespace vexfs::repair {

Key first_of(u64 ino, disk::FsItem t);
Key last_of(u64 ino, disk::FsItem t);
u64 name_hash(const Model &m, Bytes name);  // the upper bits of a cookie

struct Chains {
  u32 entries = 0;
  u64 bytes = 0;  // of their values
};
// Puts the chains of names or of xattrs of one inode in order; what is there then.
Chains repair_chains(Model &m, u64 ino, disk::FsItem type);

}  // namespace vexfs::repair
