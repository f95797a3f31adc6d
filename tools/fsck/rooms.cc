// SPDX-License-Identifier: MIT
// fsck.vexfs: the order in which the rooms of the filesystem are checked.
#include "rooms.h"

namespace vexfs::fsck {

Status check_rooms(store::Checker &c, RoomFigures *figures) {
  VX_TRY(fs::check(c, {}, &figures->files));
  VX_TRY(vector::check(c, &figures->vectors));
  // Trees that no room of this version writes: their nodes are checked and counted all the same.
  for (store::TreeId id : {store::TreeId::snapshots, store::TreeId::refcounts})
    VX_TRY(c.walk(id, [](const store::Key &, Bytes) { return true; }));
  return c.compare_space();
}

}  // namespace vexfs::fsck
