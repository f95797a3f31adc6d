// SPDX-License-Identifier: GPL-2.0-only OR MIT
// In what two trees differ: their items side by side, past every subtree that both have.
//
// The trees are of volumes on one device (views of snapshots, or one of them the current state), copied on write: a node
// at the same address, born in the same transaction, is the same subtree. The cost is that of what differs. A tree that
// is being changed meanwhile is seen leaf by leaf, each at one moment.
#pragma once
#include "tree_ops.h"

namespace vexfs::store {

class TreeDiff : Pinned {
 public:
  TreeDiff(const Tree &a, const Tree &b) : a_(a), b_(b) {}
  ~TreeDiff();
  // Calls fn(key, in a, in b) for every item from `from` on that only one has (the other's bytes are null), or that is not
  // the same in both, in key order. fn may sleep and use either volume; it returns false to stop. io, corrupt, nomem.
  Status each(const Key &from, FnRef<bool(const Key &, const Bytes *, const Bytes *)> fn);

 private:
  struct Leaf {
    u8 *buf = nullptr;
    bool empty = true;  // the tree is
    Range range;
  };
  Result<bool> skip_shared(Key *at, bool *end);
  Status read(const Tree &t, const Key &at, Leaf *leaf);
  Result<bool> merge(const Key &at, FnRef<bool(const Key &, const Bytes *, const Bytes *)> fn);
  const Tree &a_, &b_;
  Leaf leaf_[2];
};

}  // namespace vexfs::store
