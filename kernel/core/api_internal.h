// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What stands behind the opaque objects of api.h, for the files that implement it.
#pragma once
#include "api.h"
#include "fs/filesystem.h"
#include "vector/engine.h"

struct vx_fs {
  vexfs::Box<vexfs::store::Volume> volume;
  vexfs::Box<vexfs::fs::Filesystem> fs;
  vexfs::Box<vexfs::vector::Engine> engine;
};
