// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The file data's part of a scrub: every block that has a checksum is read from the device and compared with it.
#pragma once
#include "filesystem.h"

namespace vexfs::fs {

// Where it has got to: the next block of the next inode. Any contents are accepted.
struct ScrubPlace {
  u64 ino = 0;
  u64 block = 0;
};

struct ScrubFigures {
  u64 bytes = 0;      // read from the device
  u64 unchecked = 0;  // of data without checksums
};

struct DamagedData {
  u64 ino;
  u64 off;   // in the file, bytes
  u64 disk;  // on the device, bytes
};

// Goes on for about `budget` bytes of I/O, calling found for each damaged block (the log has its line already); it
// returns false to stop there. False: that was all. nomem; damage of metadata is logged and passed over.
Result<bool> scrub_data(Filesystem &fs, ScrubPlace &p, u64 budget, ScrubFigures &figures,
                        FnRef<bool(const DamagedData &)> found);

// The same for what only w's snapshot has.
Result<bool> scrub_past_data(store::PastWalk &w, ScrubPlace &p, u64 budget, ScrubFigures &figures,
                             FnRef<bool(const DamagedData &)> found);

}  // namespace vexfs::fs
