// SPDX-License-Identifier: MIT
// fsck.vexfs: what the next mount will recover from the intent log, as a device that can be checked.
#pragma once
#include <memory>

#include "../../kernel/core/store/check.h"
#include "../../lib/overlay.h"

namespace vexfs::fsck {

struct Recovered {
  std::unique_ptr<host::OverlayDevice>
      device;                       // the state after recovery; null: there is nothing to recover, or it failed
  uint64_t syncs = 0, records = 0;  // in the log
  bool failed = false;
  bool newer = false;  // damage: it goes on after a later root than the one that is there
  bool hole = false;   // damage: a part of what was synced is missing
};

// Reads the intent log of `dev` and replays it in memory; nothing is written to `dev`.
Recovered recover(vx_bdev *dev);

}  // namespace vexfs::fsck
