// SPDX-License-Identifier: MIT
// mkfs.vexfs: writing the filesystem.
#pragma once
#include "../../kernel/core/store/format.h"
#include "options.h"

namespace vexfs::mkfs {

// Formats the device, makes the root directory and, when asked, its collection. With dry_run computes the layout only.
// Throws std::runtime_error.
store::Layout make(const Options &o, vx_bdev *device);

}  // namespace vexfs::mkfs
