// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Intrusive red-black tree: inserting cannot run out of memory; O(log n) insert, erase and search.
// Algorithm: L. Guibas, R. Sedgewick, "A dichromatic framework for balanced trees", 1978, in its bottom-up form.
#pragma once
#include "types.h"

namespace vexfs {

struct RbHook {
  RbHook *parent = nullptr;
  RbHook *child[2] = {nullptr, nullptr};  // smaller, larger
  bool red = false;
  bool linked = false;
};

// The shape alone, without knowing what hangs in it.
class RbShape {
 public:
  static void insert(RbHook *&root, RbHook *at, int side, RbHook *node);  // node becomes at->child[side] (or the root)
  static void erase(RbHook *&root, RbHook *node);
  static RbHook *end(RbHook *root, int side);   // smallest (0) or largest (1)
  static RbHook *step(RbHook *node, int side);  // next smaller (0) or larger (1), null at the end
  // Number of nodes, or ~0 when the tree's rules are broken (tests).
  static usize audit(const RbHook *root);

 private:
  static void rotate(RbHook *&root, RbHook *node, int side);
  static void replace(RbHook *&root, RbHook *old, RbHook *by);
  static void erase_fixup(RbHook *&root, RbHook *node, RbHook *parent);
};

// T has a member `RbHook hook` named by Hook, and KeyOf::key(const T &) gives a u64 by which the tree is ordered.
template <class T, RbHook T::*Hook, u64 T::*KeyField>
class RbTree : Pinned {
 public:
  bool empty() const { return !root_; }
  T *first() const { return owner(RbShape::end(root_, 0)); }
  T *last() const { return owner(RbShape::end(root_, 1)); }
  static T *next(T &t) { return owner(RbShape::step(&(t.*Hook), 1)); }
  static T *prev(T &t) { return owner(RbShape::step(&(t.*Hook), 0)); }

  // The element with the largest key <= key, or null.
  T *at_or_before(u64 key) const {
    RbHook *n = root_, *best = nullptr;
    while (n) {
      bool right = owner(n)->*KeyField <= key;
      if (right) best = n;
      n = n->child[right];
    }
    return owner(best);
  }
  // The element with the smallest key >= key, or null.
  T *at_or_after(u64 key) const {
    RbHook *n = root_, *best = nullptr;
    while (n) {
      bool right = owner(n)->*KeyField < key;
      if (!right) best = n;
      n = n->child[right];
    }
    return owner(best);
  }
  // Keys are unique.
  void insert(T &t) {
    RbHook *at = nullptr, *n = root_;
    int side = 0;
    while (n) {
      VX_ASSERT(owner(n)->*KeyField != t.*KeyField);
      at = n;
      side = owner(n)->*KeyField < t.*KeyField;
      n = n->child[side];
    }
    RbShape::insert(root_, at, side, &(t.*Hook));
  }
  void erase(T &t) { RbShape::erase(root_, &(t.*Hook)); }
  usize audit() const { return RbShape::audit(root_); }

 private:
  static T *owner(RbHook *h) {
    if (!h) return nullptr;
    const T *probe = nullptr;
    auto off = reinterpret_cast<usize>(&(probe->*Hook));
    return reinterpret_cast<T *>(reinterpret_cast<u8 *>(h) - off);
  }
  RbHook *root_ = nullptr;
};

}  // namespace vexfs
