// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The copy-on-write B+tree of items (Key -> up to Volume::max_item() bytes).
//
// Locking: every method may be called from any number of threads; methods may sleep for I/O, but hold no lock across it
// other than that of the very node being read. Two methods that change the same item are ordered by the leaf's lock;
// atomicity of several calls is the business of the Handle, isolation that of the caller's own locks.
//
// Errors: noent, exist, range are logical and change nothing. io, corrupt (a damaged node; logged), nomem (lookups
// only: mutations live on what begin() reserved).
#pragma once
#include "../base/lock.h"
#include "../base/memory.h"
#include "key.h"
#include "txn.h"

namespace vexfs::store {

struct Node;
struct TreeOps;

class Tree : Pinned {
 public:
  Tree(State &state, u8 id) : state_(&state), id_(id), root_lock_("vexfs_tree_root") {}

  // Copies the item's value to `out`, returns its full length. noent; range if `out` is too small (nothing copied).
  Result<usize> get(const Key &key, MutBytes out) const;

  struct Found {
    Key key;
    usize len = 0;
  };
  // First item with from <= key <= to. noent; range if `out` is too small.
  Result<Found> seek(const Key &from, const Key &to, MutBytes out) const;
  // Last item with low <= key <= from. noent; range.
  Result<Found> seek_back(const Key &from, const Key &low, MutBytes out) const;

  // Visits the items first..last (inclusive) in key order under the leaf's shared lock: fn must not sleep and must not
  // call the store. It returns true to go on. Each leaf is seen consistently; between leaves others may change the
  // tree.
  Status scan(const Key &first, const Key &last, FnRef<bool(const Key &, Bytes)> fn) const;

  Status insert(Handle &h, const Key &key, Bytes value);  // exist
  Status update(Handle &h, const Key &key, Bytes value);  // noent; the length may change
  Status upsert(Handle &h, const Key &key, Bytes value);
  Status patch(Handle &h, const Key &key, u32 at, Bytes bytes);  // overwrites bytes inside the item; noent, range
  // In-place edit under the leaf's exclusive lock (fn must not sleep or call the store). fn is called once; when it
  // returns an error it must not have written anything, and that error is returned.
  Status modify(Handle &h, const Key &key, FnRef<Status(MutBytes)> fn);
  Status erase(Handle &h, const Key &key);  // noent

  // Erases at most `limit` items of first..last, calling fn for each before it goes. Returns how many were erased;
  // fewer than `limit` means that none is left. Callers loop with fresh handles.
  Result<usize> erase_range(Handle &h, const Key &first, const Key &last, usize limit,
                            FnRef<void(const Key &, Bytes)> fn);

  u8 id() const { return id_; }
  u32 height() const { return height_.load(std::memory_order_relaxed); }  // levels; 0: there has never been an item

 private:
  friend struct State;
  friend struct TreeOps;
  friend class UnsharedWalk;
  friend class TreeDiff;
  friend class PastWalk;
  State *state_;
  u8 id_;
  mutable RwSem root_lock_;     // guards root_; taken before any node lock of this tree
  Node *root_ = nullptr;        // pinned while it is the root; null: the tree has never had an item
  std::atomic<u32> height_{0};  // levels: 0 = no root, 1 = the root is a leaf
};

}  // namespace vexfs::store
