// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The machinery under Tree: descents with lock coupling, node loading, copy on write, splits and merges.
//
// A descent locks a child while its parent is locked, then lets the parent go. A child that is not in memory is pinned,
// everything is unlocked, the node is read, and the descent starts again: no lock is held across I/O but that of the
// node being read. Nodes read that way stay pinned until the operation ends, so it cannot starve.
//
// Mutations try, in this order: (0) shared locks and the leaf exclusive: enough when the leaf already belongs to the
// open transaction and neither overflows nor underflows; (1) the leaf's parent exclusive too, when that belongs to the
// transaction and can take a split or lose an item; (2) exclusive locks from the root down, making every branch on
// the way part of the transaction and roomy, so that changes never have to climb.
#pragma once
#include "state.h"

namespace vexfs::store {

// The key range that a node is responsible for, [lo, hi) (hi of the last node of a level is beyond every key).
struct Range {
  Key lo = Key::min();
  Key hi = Key::max();
  bool open_end = true;  // hi does not count: everything from lo on
  bool below_hi(const Key &k) const { return open_end || k < hi; }
};

class Pins : Pinned {  // nodes held in memory for the length of one operation
 public:
  explicit Pins(NodeCache &c) : cache_(c) {}
  ~Pins() {
    for (u32 i = 0; i < n_; i++) cache_.unpin(nodes_[i]);
  }
  void keep(Node *n) {  // takes over the caller's pin
    if (n_ == kMax) {
      cache_.unpin(nodes_[at_]);
      nodes_[at_] = n;
      at_ = (at_ + 1) % kMax;
    } else {
      nodes_[n_++] = n;
    }
  }

 private:
  static constexpr u32 kMax = 2 * disk::kMaxLevels;
  NodeCache &cache_;
  Node *nodes_[kMax];
  u32 n_ = 0, at_ = 0;
};

enum class Step : u8 {
  done,      // finished, status in the operation
  again,     // something was loaded: descend again
  escalate,  // needs more exclusive locks
};

enum class Verb : u8 { insert, update, upsert, patch, modify, erase, erase_range };

struct Mutation {
  Verb verb;
  Key key;
  Bytes value;
  u32 at = 0;                                             // patch
  const FnRef<Status(MutBytes)> *edit = nullptr;          // modify
  const FnRef<void(const Key &, Bytes)> *gone = nullptr;  // erase_range
  Key last;                                               // erase_range
  usize limit = 0;
  usize erased = 0;
  Range leaf_range;  // of the leaf worked on last
  bool sibling_tried = false;
  Status status;
  bool removes() const { return verb == Verb::erase || verb == Verb::erase_range; }
  bool adds() const { return verb == Verb::insert || verb == Verb::upsert; }
};

struct TreeOps {
  // ---- loading (tree_load.cc)
  // Reads an unread node (pinned by the caller, no lock held). Failures are kept in the node.
  static void load(State &s, Node *n, const disk::NodeExpect &e);
  // Child `i` of branch `p` (locked by the caller): pinned and ready, or null with *step = again (everything must be
  // unlocked, then finish_load) or *status set.
  struct Missing {
    Node *node = nullptr;
    disk::NodeExpect expect;
  };
  static Result<Node *> child(Tree const &t, Node *p, u32 i, Missing *missing);
  static void finish_load(State &s, Missing &m, Pins &pins);
  // Narrows r to item i of branch p; corrupt if its keys leave it.
  static Status narrow(State &s, Node *p, u32 i, Range *r);
  static Status check_leaf_range(State &s, Node *leaf, const Range &r, bool both_ends);
  static Error damaged(State &s, Node *n, const char *what);

  // ---- reading (tree_read.cc)
  // The node of that level responsible for key, locked shared and pinned; null: the tree is not that high. After an error
  // the range is that of the node which cannot be had.
  static Result<Node *> read_node(const Tree &t, const Key &key, u8 level, Range *range, Pins &pins);
  // The leaf; null: the tree is empty.
  static Result<Node *> read_leaf(const Tree &t, const Key &key, Range *range, Pins &pins) {
    return read_node(t, key, 0, range, pins);
  }
  static void release(State &s, Node *n, bool exclusive);

  // ---- writing (tree_write.cc, tree_leaf.cc)
  static Status mutate(Tree &t, Handle &h, Mutation &m);
  static Step shallow(Tree &t, Handle &h, Mutation &m, u8 top, Pins &pins);
  static Step deep(Tree &t, Handle &h, Mutation &m, Pins &pins);
  // Works on the leaf (locked exclusive), and releases it and what else it locks, but not the parent.
  struct Place {
    Node *leaf = nullptr;
    Node *parent = nullptr;  // locked exclusive, part of the transaction, roomy; or null
    u32 slot = 0;            // of the leaf in the parent
    bool is_root = false;    // the leaf is the root
    bool root_held = false;  // and the root lock is held exclusive
    Range range;             // of the leaf
    bool may_own() const { return parent || root_held; }
  };
  static Step at_leaf(Tree &t, Handle &h, Mutation &m, Place &p, Missing *missing);
  static Step put(Tree &t, Handle &h, Mutation &m, Place &p, u32 at, bool found);
  static Step edit(Tree &t, Handle &h, Mutation &m, Place &p, u32 at);
  static Step remove(Tree &t, Handle &h, Mutation &m, Place &p, u32 at, u32 n, Missing *missing);
  static Step finish(State &s, Mutation &m, Place &p, Status st);

  // ---- shape (tree_shape.cc); nodes given are locked exclusive
  static Result<Node *> own(Tree &t, Handle &h, Node *parent, u32 slot, Node *n);  // makes n part of the transaction
  static Result<Node *> new_node(Tree &t, Handle &h, u8 level);                    // locked, pinned, dirty
  static void free_node(State &s, Node *n);                                        // unlocks and unpins it
  static void set_root(Tree &t, Node *n);
  static Status grow_root(Tree &t, Handle &h, Node *&root);  // root becomes the new parent
  // Makes room for m's item by splitting the leaf, drops item `at` first if it is to be replaced; leaf and at follow
  // to where the item goes.
  static Status split_leaf(Tree &t, Handle &h, Mutation &m, Place &p, u32 *at, bool replace);
  static Result<Node *> split_branch(Tree &t, Handle &h, Node *parent, u32 slot, Node *n,
                                     bool at_end);  // right sibling
  static Status compact(State &s, Handle &h, Node *leaf);
  // Merges the sibling into the leaf when both fit into one; releases the sibling.
  static void merge_leaf(State &s, Handle &h, Place &p, Node *sibling, bool right);
  // Gives a branch that is near empty items of a sibling, or all of them. again: *missing is to be loaded.
  static Step thicken(Tree &t, Handle &h, Node *parent, u32 *slot, Node *n, Missing *missing, Status *st);
  static void remove_slot(Node *parent, u32 slot);
  static u32 min_branch(const State &s) { return max_of(branch_capacity(s.geo.node_size) / 4, 2u); }
  static u32 thin_leaf(const State &s) { return leaf_room(s.geo.node_size) / 3; }
};

}  // namespace vexfs::store
