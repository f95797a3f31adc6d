// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Reading what is on the device although memory has it too: the parts of a scrub that are the store's.
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

// What lies at fixed places. `number` says which copy, slot, descriptor block or group.
enum class FixedKind : u8 { super = 0, root = 1, descriptors = 2, bitmap = 3 };

struct ScrubbedFixed {
  bool read = false;
  FixedKind what = FixedKind::super;
  u64 number = 0;
  u64 byte = 0;           // where on the device
  Errno err = Errno::ok;  // io: cannot be read; corrupt: `why`
  disk::Refusal why;
  bool repaired = false;
};

}  // namespace vexfs::store
