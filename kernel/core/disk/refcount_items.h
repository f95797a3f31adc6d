// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Items of the refcounts tree: which blocks of file data belong to more than one file, and to how many.
//
//   (first block, 1 refcount, 0) -> RefcountItem: so many EXTENT items of the fs tree refer to each of these blocks.
//
// Blocks that one EXTENT item refers to have no entry here, so files that were never cloned cost nothing. The entries do not
// overlap; how runs of blocks with one count are divided into entries means nothing. An EXTENT item that has blocks with
// an entry carries kExtentShared; it may carry it when the others have gone.
#pragma once
#include "../base/endian.h"
#include "../base/printer.h"
#include "group.h"

namespace vexfs::disk {

inline constexpr u8 kRefcountType = 1;

struct RefcountItem {
  le32 refs;    // >= 2
  le32 blocks;  // >= 1, inside one group
  le64 birth;   // transaction that allocated the blocks, as the EXTENT items say
};
static_assert(sizeof(RefcountItem) == 16 && offsetof(RefcountItem, birth) == 8);

// Null for a sound item, else the name of the first field that is not.
const char *verify_refcount(Bytes item, u64 start, u8 type, u64 off, const Geometry &g);

// One item as a line of text. Never fails.
void print_refcount_item(Printer &out, u64 start, u8 type, Bytes item);

}  // namespace vexfs::disk
