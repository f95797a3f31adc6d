// SPDX-License-Identifier: MIT
// A whole repair: planned, tried on an overlay, checked there, and only then written.
#pragma once
#include "repair.h"

namespace vexfs::repair {

// Counts the errors of the filesystem on that device (a full check). The error is one of the system's.
using Check = std::function<Result<u64>(vx_bdev *)>;

struct Mended {
  Errno failure = Errno::ok;    // why nothing could be planned or written
  std::vector<Action> actions;  // that were done; with refused or errors_left: that would have been needed
  bool written = false;
  bool replayed = false;  // the intent log
  bool refused = false;   // it takes more than what is safe, and that was all that was allowed
  u64 errors_left = 0;    // the check would still find these: nothing was written
};

// found: whether a check has found errors. all: also what loses something (fsck -y), else what is safe (-p).
Mended mend(vx_bdev *dev, bool found, bool all, const Check &check);

}  // namespace vexfs::repair
