// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What a snapshot has, and neither the one before it nor the present: its nodes, and the items in its own leaves.
//
// Trees are copied on write: a node at the same address that was born in the same transaction is the same node with the
// same subtree, so it is passed by with all that is below. (Births alone do not tell: after a rollback an old node of
// the present need not be one of the snapshot before.) A place in a tree is a key, so that any call can go on anywhere.
// What cannot be read in the other two counts as not there.
#pragma once
#include "tree_ops.h"
#include "volume.h"

namespace vexfs::store {

class PastWalk : Pinned {
 public:
  // mine, and older if there is one, are views; the present may change meanwhile.
  PastWalk(Volume &mine, const Volume *older, const Volume &present) : mine_(mine), others_{older, &present} {}
  ~PastWalk();
  Status make();  // before all else. nomem
  // Asked again and again while what is shared is passed by, which can be long: true ends the call with intr.
  void ask(bool (*stop)(void *), void *ctx) {
    stop_ = stop;
    stop_ctx_ = ctx;
  }
  Volume &mine() const { return mine_; }
  static constexpr u32 kOthers = 2;
  const Volume *other(u32 i) const { return others_[i]; }  // of the first there may be none

  struct Found {
    u64 addr = 0, mirror = 0, birth = 0;  // addr 0: not known
    Errno err = Errno::ok;                // io, corrupt: no copy of it can be used
    bool last = false;                    // nothing comes behind it
  };
  // The next node of its own on that level, from the one responsible for *at on; moves *at behind it. Its bytes are in
  // node(), unless err says that they cannot be had. False: there is none. nomem, intr.
  Result<bool> next(TreeId tree, u8 level, Key *at, Found *out);
  Bytes node() const { return {buf_, mine_.node_size()}; }

  // The first item from *at to last in a leaf of its own: *at becomes its key, *value is good until the next call.
  // Leaves that cannot be read are passed by. False: there is none. nomem, intr.
  Result<bool> item(TreeId tree, const Key &last, Key *at, Bytes *value);

 private:
  enum class Step : u8 { found, passed, end };
  Result<Step> descend(const Tree &t, u8 level, const Key &at, Range *range, Found *out);
  Result<bool> others_point(TreeId id, const Key &at, u8 level, const disk::NodePtr &ptr) const;
  Result<bool> others_have(TreeId id, const Key &inside, u8 level, const Found &n) const;
  Volume &mine_;
  const Volume *const others_[kOthers];
  bool (*stop_)(void *) = nullptr;
  void *stop_ctx_ = nullptr;
  u8 *buf_ = nullptr;
  bool leaf_known_ = false;  // buf_ holds a leaf of its own, of this tree and range
  TreeId leaf_tree_ = TreeId::fs;
  Range leaf_;
};

}  // namespace vexfs::store
