// SPDX-License-Identifier: MIT
// fsck.vexfs: the order in which the rooms of the filesystem are checked.
#include "rooms.h"

namespace vexfs::fsck {

Status check_rooms(store::Checker &c, RoomFigures *figures, bool data) {
  DataCheck contents(c);
  if (data) c.ask_for_data();
  VX_TRY(fs::check(c, {}, &figures->files));
  VX_TRY(vector::check(c, &figures->vectors));
  if (data) VX_TRY(contents.run());
  VX_TRY(c.check_snapshots());
  // Each snapshot as if it were the current state; what it refers to has to be in use.
  for (usize i = 0; c.enter_snapshot(i); i++) {
    fs::CheckFigures files;
    vector::CheckFigures vectors;
    VX_TRY(fs::check(c, {}, &files));
    VX_TRY(vector::check(c, &vectors));
    if (data) VX_TRY(contents.run());
  }
  VX_TRY(c.compare_space());
  figures->snapshots = c.snapshot_count();
  figures->data = contents.figures();
  return {};
}

}  // namespace vexfs::fsck
