// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Copy on write of tree nodes, and the changes of a tree's shape: splits, merges, growing and shrinking.
#include "tree_ops.h"

namespace vexfs::store {

namespace tree_shape_impl {
namespace {

// Identity in the buffer; the rest of the header is filled when the node is written.
void stamp(Node *n, const NodePlace &place, u64 txn) {
  node_header(n->buf).header.addr = place.addr;
  node_header(n->buf).header.txn = txn;
  n->birth = txn;
  n->mirror = place.mirror;
  n->untold.store(0, std::memory_order_relaxed);
}

// Copies what is in use of a node, the block header excepted: the committer may be sealing the original right now.
void copy_contents(const u8 *src, u8 *dst, u32 size) {
  constexpr usize head = sizeof(disk::BlockHeader);
  const NodeHeader &h = node_header(src);
  memset(dst, 0, head);
  usize items = sizeof(NodeHeader) + usize{h.count} * (h.level ? sizeof(BranchItem) : sizeof(LeafItem));
  memcpy(dst + head, src + head, items - head);
  usize heap = h.level ? size : usize{h.heap};
  memset(dst + items, 0, heap - items);
  memcpy(dst + heap, src + heap, size - heap);
}

// A locked, pinned node of our own; nobody can know it yet, so the lock is free.
Node *claim_buffer(State &s, Handle &h, u8 tree, u8 level) {
  Node *n = s.pop_buffer(h);
  if (!n) return nullptr;
  bool got = n->lock.try_lock(lock_class(level, false));
  VX_ASSERT(got);
  n->tree = tree;
  n->level = level;
  n->err = Errno::ok;
  n->merge_backoff = 0;
  n->pins.store(1, std::memory_order_relaxed);
  n->referenced.store(1, std::memory_order_relaxed);
  n->state.store(NodeState::ready, std::memory_order_release);
  return n;
}

void unclaim_buffer(State &s, Node *n) {
  n->lock.unlock();
  n->pins.store(0, std::memory_order_relaxed);
  s.push_buffer(n);
}

}  // namespace
}  // namespace tree_shape_impl

void TreeOps::set_root(Tree &t, Node *n) {
  NodeCache::pin(n);
  Node *old = std::exchange(t.root_, n);
  t.height_.store(n->level + 1u, std::memory_order_relaxed);
  if (old) t.state_->cache.unpin(old);
}

// Gives n a new place on disk, unless it has one in this transaction already. A node that the committer still has to
// write stays as it is and a copy goes on; the caller's lock and pin pass over to the copy.
Result<Node *> TreeOps::own(Tree &t, Handle &h, Node *parent, u32 slot, Node *n) {
  using namespace tree_shape_impl;
  State &s = *t.state_;
  u64 txn = h.txn_;
  if (n->dirty_txn.load(std::memory_order_acquire) == txn) return n;
  const NodePlace place = s.pop_slot(h), old = n->place();
  u64 born = n->birth;
  if (!place) return Errno::nospc;
  Node *copy = nullptr;
  if (n->dirty_txn.load(std::memory_order_acquire) != 0) {
    copy = claim_buffer(s, h, n->tree, n->level);
    if (!copy) {
      s.give_back(place);
      return Errno::nomem;
    }
    if (!s.supersede(n)) {  // it was written in the meantime
      unclaim_buffer(s, copy);
      copy = nullptr;
    }
  }
  if (copy) {
    copy_contents(n->buf, copy->buf, s.geo.node_size);
    stamp(copy, place, txn);
    s.cache.enter(copy, place.addr);
    s.counters.node_copies.fetch_add(1, std::memory_order_relaxed);
  } else {
    s.cache.move(n, place.addr);
    stamp(n, place, txn);
    s.counters.readdressed.fetch_add(1, std::memory_order_relaxed);
  }
  Node *mine = copy ? copy : n;
  s.node_dirtied(mine, txn);
  s.took_place(place);
  s.free_node_place(old, born, t.id_);
  if (parent) {
    branch_set_child(parent->buf, slot, place, txn);
  } else if (copy) {
    set_root(t, copy);
  }
  if (copy) release(s, n, true);
  return mine;
}

Result<Node *> TreeOps::new_node(Tree &t, Handle &h, u8 level) {
  using namespace tree_shape_impl;
  State &s = *t.state_;
  const NodePlace place = s.pop_slot(h);
  if (!place) return Errno::nospc;
  Node *n = claim_buffer(s, h, t.id_, level);
  if (!n) {
    s.give_back(place);
    return Errno::nomem;
  }
  node_init(n->buf, s.geo.node_size, t.id_, level);
  stamp(n, place, h.txn_);
  s.cache.enter(n, place.addr);
  s.node_dirtied(n, h.txn_);
  s.took_place(place);
  s.alloc.node_blocks.fetch_add(s.geo.place_blocks(), std::memory_order_relaxed);
  return n;
}

void TreeOps::free_node(State &s, Node *n) {
  s.free_node_place(n->place(), n->birth, n->tree);
  s.alloc.node_blocks.fetch_sub(s.geo.place_blocks(), std::memory_order_relaxed);
  bool was_dirty = false;
  if (!s.supersede(n)) {
    {
      Guard g(s.lock);
      was_dirty = n->dirty.linked();
      if (was_dirty) {
        n->dirty.unlink();
        n->dirty_txn.store(0, std::memory_order_relaxed);
        s.dirty_count.fetch_sub(1, std::memory_order_relaxed);
      }
    }
    s.cache.forget(n);
  }
  n->lock.unlock();
  if (was_dirty) s.cache.unpin(n);
  s.cache.unpin(n);
}

Status TreeOps::grow_root(Tree &t, Handle &h, Node *&root) {
  State &s = *t.state_;
  if (root->level + 1u >= disk::kMaxLevels) return damaged(s, root, "the tree is too deep");
  Node *top = VX_TRY(new_node(t, h, static_cast<u8>(root->level + 1)));
  branch_insert(top->buf, 0, Key::min(), root->place(), root->birth);
  set_root(t, top);
  s.counters.root_grows.fetch_add(1, std::memory_order_relaxed);
  root = top;
  return {};
}

Status TreeOps::split_leaf(Tree &t, Handle &h, Mutation &m, Place &p, u32 *at, bool replace) {
  State &s = *t.state_;
  u32 size = s.geo.node_size;
  Node *right = VX_TRY(new_node(t, h, 0));
  if (replace) leaf_erase(p.leaf->buf, size, *at, 1);
  LeafCut c = leaf_cut(p.leaf->buf, *at, static_cast<u32>(m.value.size()));
  u32 n = node_header(p.leaf->buf).count;
  leaf_append(right->buf, size, p.leaf->buf, c.cut, n - c.cut);
  leaf_erase(p.leaf->buf, size, c.cut, n - c.cut);
  bool leads = c.new_right && *at == c.cut;  // the new item will be the right leaf's first
  Key sep = leads ? m.key : key_of(leaf_items(right->buf)[0].key);
  branch_insert(p.parent->buf, p.slot + 1, sep, right->place(), right->birth);
  s.counters.splits.fetch_add(1, std::memory_order_relaxed);
  if (c.new_right) {
    release(s, p.leaf, true);
    p.leaf = right;
    p.slot++;
    *at -= c.cut;
  } else {
    release(s, right, true);
  }
  return {};
}

Result<Node *> TreeOps::split_branch(Tree &t, Handle &h, Node *parent, u32 slot, Node *n, bool at_end) {
  State &s = *t.state_;
  Node *right = VX_TRY(new_node(t, h, n->level));
  u32 count = node_header(n->buf).count;
  // Ascending inserts keep hitting the last child: leave the left branch nearly full.
  u32 moved = at_end ? max_of(count / 8, 2u) : count / 2;
  branch_move_end_to_front(n->buf, right->buf, moved);
  branch_insert(parent->buf, slot + 1, key_of(branch_items(right->buf)[0].key), right->place(), right->birth);
  s.counters.splits.fetch_add(1, std::memory_order_relaxed);
  return right;
}

Status TreeOps::compact(State &s, Handle &h, Node *leaf) {
  Node *scratch = s.pop_buffer(h);
  if (!scratch) return Errno::nomem;
  leaf_compact(leaf->buf, scratch->buf, s.geo.node_size);
  std::swap(leaf->buf, scratch->buf);
  s.push_buffer(scratch);
  s.counters.compactions.fetch_add(1, std::memory_order_relaxed);
  return {};
}

void TreeOps::remove_slot(Node *parent, u32 slot) {
  BranchItem *it = branch_items(parent->buf);
  // The range of the first child falls to the second.
  if (slot == 0) it[1].key = it[0].key;
  branch_erase(parent->buf, slot);
}

void TreeOps::merge_leaf(State &s, Handle &h, Place &p, Node *sibling, bool right) {
  u32 size = s.geo.node_size, used = leaf_used(p.leaf->buf);
  // Not to the brim: the next insert would split it again.
  bool fits = used + leaf_used(sibling->buf) <= leaf_room(size) - leaf_room(size) / 8;
  Node *scratch = fits ? s.pop_buffer(h) : nullptr;
  if (!scratch) {
    p.leaf->merge_backoff = used - used / 4;
    release(s, sibling, true);
    return;
  }
  const Node *first = right ? p.leaf : sibling, *second = right ? sibling : p.leaf;
  node_init(scratch->buf, size, p.leaf->tree, 0);
  leaf_append(scratch->buf, size, first->buf, 0, node_header(first->buf).count);
  leaf_append(scratch->buf, size, second->buf, 0, node_header(second->buf).count);
  std::swap(p.leaf->buf, scratch->buf);
  s.push_buffer(scratch);
  tree_shape_impl::stamp(p.leaf, p.leaf->place(), p.leaf->birth);
  p.leaf->merge_backoff = 0;
  if (right) {
    branch_erase(p.parent->buf, p.slot + 1);
  } else {
    branch_set_child(p.parent->buf, p.slot - 1, p.leaf->place(), p.leaf->birth);
    branch_erase(p.parent->buf, p.slot);
    p.slot--;
  }
  free_node(s, sibling);
  s.counters.merges.fetch_add(1, std::memory_order_relaxed);
}

Step TreeOps::thicken(Tree &t, Handle &h, Node *parent, u32 *slot, Node *n, Missing *missing, Status *st) {
  State &s = *t.state_;
  u32 have = node_header(parent->buf).count;
  if (have < 2) return Step::done;
  bool right = *slot + 1 < have;
  u32 other = right ? *slot + 1 : *slot - 1;
  Result<Node *> r = child(t, parent, other, missing);
  if (!r.ok()) {
    *st = r.error();
    return Step::done;
  }
  if (!r.value()) return Step::again;
  Node *sib = r.value();
  sib->lock.lock(lock_class(sib->level, true));
  Result<Node *> mine = own(t, h, parent, other, sib);
  if (!mine.ok()) {
    release(s, sib, true);
    *st = mine.error();
    return Step::done;
  }
  sib = mine.value();
  u32 cap = branch_capacity(s.geo.node_size), left_slot = right ? *slot : other;
  u8 *lower = right ? n->buf : sib->buf, *upper = right ? sib->buf : n->buf;
  u32 ln = node_header(lower).count, un = node_header(upper).count;
  // The separator is what the upper one's first key stands for; make it so before items move.
  BranchItem *pi = branch_items(parent->buf);
  branch_items(upper)[0].key = pi[left_slot + 1].key;
  if (ln + un <= cap) {
    if (right) {
      branch_move_front_to_end(upper, lower, un);
      branch_erase(parent->buf, other);
    } else {
      branch_move_end_to_front(lower, upper, ln);
      branch_set_child(parent->buf, other, n->place(), n->birth);
      branch_erase(parent->buf, *slot);
      *slot = other;
    }
    free_node(s, sib);
    s.counters.merges.fetch_add(1, std::memory_order_relaxed);
    return Step::done;
  }
  if (ln > un) {
    branch_move_end_to_front(lower, upper, (ln - un) / 2);
  } else {
    branch_move_front_to_end(upper, lower, (un - ln) / 2);
  }
  pi[left_slot + 1].key = branch_items(upper)[0].key;
  release(s, sib, true);
  s.counters.rebalances.fetch_add(1, std::memory_order_relaxed);
  return Step::done;
}

}  // namespace vexfs::store
