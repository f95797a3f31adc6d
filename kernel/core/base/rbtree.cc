// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Red-black tree: rotations and rebalancing. `side` is 0 for smaller, 1 for larger; each case is written once for both.
#include "rbtree.h"

namespace vexfs {

// `node` goes down to `side`, its child on the other side comes up.
void RbShape::rotate(RbHook *&root, RbHook *node, int side) {
  RbHook *up = node->child[1 - side];
  node->child[1 - side] = up->child[side];
  if (up->child[side]) up->child[side]->parent = node;
  replace(root, node, up);
  up->child[side] = node;
  node->parent = up;
}

// `by` takes the place of `old` below old's parent.
void RbShape::replace(RbHook *&root, RbHook *old, RbHook *by) {
  RbHook *p = old->parent;
  if (!p)
    root = by;
  else
    p->child[p->child[1] == old] = by;
  if (by) by->parent = p;
}

void RbShape::insert(RbHook *&root, RbHook *at, int side, RbHook *node) {
  VX_ASSERT(!node->linked);
  *node = RbHook{};
  node->linked = node->red = true;
  node->parent = at;
  if (!at) {
    root = node;
  } else {
    VX_ASSERT(!at->child[side]);
    at->child[side] = node;
  }
  while (node->parent && node->parent->red) {
    RbHook *p = node->parent, *g = p->parent;  // a red parent is not the root, so g exists
    int ps = g->child[1] == p;
    RbHook *uncle = g->child[1 - ps];
    if (uncle && uncle->red) {
      p->red = uncle->red = false;
      g->red = true;
      node = g;
      continue;
    }
    if (p->child[1 - ps] == node) {  // an inner grandchild: turn it into an outer one
      rotate(root, p, ps);
      p = node;
    }
    p->red = false;
    g->red = true;
    rotate(root, g, 1 - ps);
    break;
  }
  root->red = false;
}

void RbShape::erase(RbHook *&root, RbHook *node) {
  VX_ASSERT(node->linked);
  RbHook *child, *parent;
  bool black;
  if (!node->child[0] || !node->child[1]) {
    child = node->child[node->child[0] == nullptr];
    parent = node->parent;
    black = !node->red;
    replace(root, node, child);
  } else {  // the next larger node takes its place and colour
    RbHook *heir = node->child[1];
    while (heir->child[0]) heir = heir->child[0];
    black = !heir->red;
    child = heir->child[1];
    parent = heir->parent;
    if (parent == node) {
      parent = heir;
    } else {
      replace(root, heir, child);
      heir->child[1] = node->child[1];
      heir->child[1]->parent = heir;
    }
    replace(root, node, heir);
    heir->child[0] = node->child[0];
    heir->child[0]->parent = heir;
    heir->red = node->red;
  }
  if (black) erase_fixup(root, child, parent);
  *node = RbHook{};
}

// The subtree at `node` (maybe empty) below `parent` is one black node short.
void RbShape::erase_fixup(RbHook *&root, RbHook *node, RbHook *parent) {
  while (node != root && (!node || !node->red)) {
    int side = parent->child[1] == node && (node || parent->child[0]);
    RbHook *sib = parent->child[1 - side];
    VX_ASSERT(sib);  // its side has at least one black node more
    if (sib->red) {
      sib->red = false;
      parent->red = true;
      rotate(root, parent, side);
      sib = parent->child[1 - side];
    }
    RbHook *near = sib->child[side], *far = sib->child[1 - side];
    if (!(near && near->red) && !(far && far->red)) {
      sib->red = true;
      node = parent;
      parent = node->parent;
      continue;
    }
    if (!(far && far->red)) {
      near->red = false;
      sib->red = true;
      rotate(root, sib, 1 - side);
      sib = parent->child[1 - side];
      far = sib->child[1 - side];
    }
    VX_ASSERT(far);
    sib->red = parent->red;
    parent->red = false;
    far->red = false;
    rotate(root, parent, side);
    node = root;
    break;
  }
  if (node) node->red = false;
}

RbHook *RbShape::end(RbHook *root, int side) {
  while (root && root->child[side]) root = root->child[side];
  return root;
}

RbHook *RbShape::step(RbHook *node, int side) {
  if (node->child[side]) return end(node->child[side], 1 - side);
  while (node->parent && node->parent->child[side] == node) node = node->parent;
  return node->parent;
}

usize RbShape::audit(const RbHook *root) {
  if (!root) return 0;
  if (root->red || root->parent) return ~usize{0};
  usize count = 0, want_black = 0;
  auto *n = const_cast<RbHook *>(root);
  for (n = end(n, 0); n; n = step(n, 1), count++) {
    for (int s = 0; s < 2; s++) {
      if (n->child[s] && n->child[s]->parent != n) return ~usize{0};
      if (n->red && n->child[s] && n->child[s]->red) return ~usize{0};
    }
    if (n->child[0] && n->child[1]) continue;
    usize black = 0;  // from here to the root: the same for every node with a free side
    for (const RbHook *u = n; u; u = u->parent) black += !u->red;
    if (want_black == 0) want_black = black;
    if (black != want_black) return ~usize{0};
  }
  return count;
}

}  // namespace vexfs
