// SPDX-License-Identifier: MIT
// Repair: turning the model into blocks to write. Private to the repair.
#pragma once
#include "model.h"

namespace vexfs::repair {

// Places for new nodes: none that the old state or the new one refers to.
class Places {
 public:
  Places(const Model &m, const BlockSet &used);
  bool take(u64 *addr, bool second);  // second: for a second copy, far from the first ones
  const BlockSet &taken() const { return taken_; }

 private:
  bool usable(u64 at, bool strict) const;
  const Model &m_;
  const BlockSet &used_;
  BlockSet taken_;
  struct Cursor {
    u64 at = 0;
    int turn = 0;  // 0, 1: what is free by the old bitmaps too
  };
  Cursor first_, second_;
};

// Nothing is added when the device says all of this already. nospc: no place for nodes.
Errno write_new_state(Model &m, std::vector<Write> &before, std::vector<Write> &root);
// The root of transaction txn with these contents, for its slot.
Write root_write(const Model &m, const Buffer &contents, u64 txn, unsigned mirror);

}  // namespace vexfs::repair
