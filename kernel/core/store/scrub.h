// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Reading what is on the device although memory has it too: the tree nodes' part of a scrub.
#pragma once
#include "../disk/block.h"
#include "key.h"
#include "types.h"

namespace vexfs::store {

// Where a scrub of tree nodes has got to: each tree, level by level from the leaves up. Any contents are accepted.
struct ScrubPlace {
  u8 tree = 0;
  u8 level = 0;
  Key at = Key::min();
};

struct ScrubbedNode {
  bool read = false;  // else it was changed in memory since it was written, and will be written elsewhere
  u8 tree = 0, level = 0;
  u64 block = 0;
  Errno err = Errno::ok;  // io: cannot be read; corrupt: `why`
  disk::Refusal why;
  bool repaired = false;  // memory has it as it was: it is written again with the next commit
};

}  // namespace vexfs::store
