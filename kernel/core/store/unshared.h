// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What one tree does not share with another: walking its nodes, from the root down, past every subtree that the other
// one has too.
//
// Trees are copied on write, so a node at the same address that was born in the same transaction is the same node with
// the same subtree. It need not be responsible for the same range of keys in both trees (a parent lowers the key of the
// child behind one that it loses), so the other tree is asked for a key that is inside the node: then both walks, from
// here and from there, agree on what is shared. The cost is that of the nodes that differ, and one descent of the other tree for each node that is
// met. Both trees are those of views (Volume::open_snapshot), which do not change.
#pragma once
#include "state.h"

namespace vexfs::store {

class UnsharedWalk {
 public:
  struct Found {
    NodePlace place;
    u64 birth = 0;
    u8 level = 0;  // 0: a leaf
  };
  // Walks `mine`, a tree of the one, in which `other` of the other view is left out. From the beginning.
  void start(const Tree &mine, const Tree &other) {
    mine_ = &mine;
    other_ = &other;
    at_ = Key::min();
    fresh_ = true;
    done_ = false;
  }
  // The next node, copied to buf (node_size bytes); false: there is none. io, corrupt, nomem.
  Result<bool> next(MutBytes buf, Found *out);

 private:
  Result<bool> shared(const Found &n, MutBytes buf) const;
  const Tree *mine_ = nullptr, *other_ = nullptr;
  Key at_ = Key::min();  // everything before it has been seen
  u8 level_ = 0;         // of the node to look at, unless fresh_
  bool fresh_ = true;    // the highest node that begins at at_ comes next
  bool done_ = false;
};

}  // namespace vexfs::store
