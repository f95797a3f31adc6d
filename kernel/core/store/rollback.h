// SPDX-License-Identifier: GPL-2.0-only OR MIT
// After a rollback: noting which blocks died with the state that was replaced, and which live again.
//
// The replaced state and the one that took its place are both snapshots, so neither changes while this goes on. Blocks
// that only the first refers to enter the dead tree, as having died in the transaction of the rollback; the entries of
// blocks that only the second refers to leave it. Which those are is found by following all nodes that the two do not
// share, into one bitmap each; an extent in two nodes that differ is in both bitmaps. A pass over both trees serves a
// window of block groups, so that memory is bounded (kWindow). Everything can be done twice: a crash begins anew.
//
// Blocks of file data can have several references. One of them may be in a node that both states share, which the walk
// does not see; but the replaced state's own refcounts say how many there are, so it is enough to count those that are
// seen: only if these are all, the block has died.
#pragma once
#include "unshared.h"

namespace vexfs::store {

class RollbackCount : Pinned {
 public:
  static constexpr u64 kWindow = 512;               // groups: 4 MiB of bitmaps with blocks of 4 KiB
  static constexpr u64 kCountBytes = u64{4} << 20;  // with shared blocks, a window is so small that counts fit in here
  // `replaced` is the snapshot whose item has replaced_txn.
  RollbackCount(State &s, u64 replaced, const disk::SnapshotItem &item)
      : s_(s), replaced_(replaced), target_(item.replaced_by), from_(0), death_(item.replaced_txn) {}
  ~RollbackCount();
  Status open();
  // Goes on for about so many nodes or notes. False: everything is noted, and the item says so.
  Result<bool> turn(u32 steps);

 private:
  enum class Phase : u8 { before, after, bury, revive };
  using Bits = Vec<u64 *>;
  struct Refs {  // what the refcounts of the replaced state say of the blocks start .. end
    u64 start = 0, end = 0;
    u32 refs = 1;
  };
  void next_walk();
  Status next_phase();
  Status see_node(const UnsharedWalk::Found &n);
  Extent in_window(Extent e) const;
  Status mark(Bits &bits, Extent e);
  Status count(Extent e);
  Result<bool> died(u64 block, bool shared, Refs &known) const;
  Status bury(Extent e, u64 birth, bool shared);
  void unmark(Bits &bits, Extent e);
  Status revive(const Key &key, const disk::DeadItem &item);
  Result<bool> walk_turn(u32 *steps);
  Result<bool> revive_turn(u32 *steps);
  Status finish();
  bool differs(const Bits &in, const Bits &but, u64 block) const;
  void free_bits();
  usize count_bytes() const;

  State &s_;
  const u64 replaced_, target_;
  u64 from_;         // what died at or before it does not matter: the target's transaction
  const u64 death_;  // the transaction of the rollback
  Box<Volume> before_, after_;
  u64 group_ = 0;  // first of the window
  Phase phase_ = Phase::before;
  u8 tree_ = 0;
  UnsharedWalk walk_;
  Key dead_at_;
  Bits bits_before_, bits_after_;
  u64 window_ = kWindow;
  Vec<u32 *>
      counts_;     // a group's blocks: references that were seen in the replaced state, of extents that may be shared
  s64 nodes_ = 0;  // more in the state that took the place
  u8 *buf_ = nullptr;
};

}  // namespace vexfs::store
