// SPDX-License-Identifier: MIT
// fsck.vexfs: the order in which the rooms of the filesystem are checked.
#pragma once
#include "../../kernel/core/fs/check.h"
#include "../../kernel/core/store/check.h"
#include "../../kernel/core/vector/check.h"
#include "data.h"

namespace vexfs::fsck {

struct RoomFigures {
  fs::CheckFigures files;
  vector::CheckFigures vectors;
  u64 snapshots = 0;  // each has been checked like the current state
  DataCheck::Figures data;
};

// Everything above open(): files, vectors, space; with data, what files contain. The error is a system one (io, nomem);
// findings go to the sink.
Status check_rooms(store::Checker &c, RoomFigures *figures, bool data = false);

}  // namespace vexfs::fsck
