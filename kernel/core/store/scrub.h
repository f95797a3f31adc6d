// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Reading what is on the device although memory has it too: the parts of a scrub that are the store's.
#pragma once
#include "../base/memory.h"
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

class Volume;
class PastWalk;

// A snapshot that is being scrubbed, and the one before it, which need not be there.
struct ScrubViews {
  u64 id = 0, txn = 0;
  Box<Volume> mine, older;
};

// Compares both copies of the next tree node that only w's snapshot has (store/past.h), as Volume::scrub_node() does;
// what is bad is written over where memory has it. buf has node_size() bytes. False: that was the last. nomem.
Result<bool> scrub_past_node(PastWalk &w, ScrubPlace &p, MutBytes buf, ScrubbedNode &out);

}  // namespace vexfs::store
