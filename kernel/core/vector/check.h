// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The vector room's part of checking a filesystem that nobody has open.
#pragma once
#include "../store/check.h"

namespace vexfs::vector {

struct CheckFigures {
  u64 collections = 0, dropped = 0, rows = 0, dead = 0, chunks = 0, blobs = 0, owned = 0;
};

// Walks the collections tree: every item by itself; row groups against ids, bitmaps of dead rows, counters and chunks;
// the checksum of every row; the index checkpoint with all its links. Then the fs tree: references of owners against
// rows, both ways, and the flags of inodes. Claims the blocks of chunks and blobs. Memory: 24 bytes for each row of the
// collection at hand, 16 for each row that a file owns. Errors: io, nomem; findings go to the checker.
// fs::check() must have run on the same checker, so that names and inodes are known to make sense.
Status check(store::Checker &checker, CheckFigures *figures = nullptr);

}  // namespace vexfs::vector
