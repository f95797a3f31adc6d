// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Tree lookups and scans.
#include "tree_ops.h"

namespace vexfs::store {

void TreeOps::release(State &s, Node *n, bool exclusive) {
  if (exclusive) {
    n->lock.unlock();
  } else {
    n->lock.unlock_shared();
  }
  s.cache.unpin(n);
}

Result<Node *> TreeOps::read_node(const Tree &t, const Key &key, u8 level, Range *range, Pins &pins) {
  State &s = *t.state_;
  for (;;) {
    *range = {};
    t.root_lock_.lock_shared();
    Node *n = t.root_;
    if (!n) {
      t.root_lock_.unlock_shared();
      return static_cast<Node *>(nullptr);
    }
    NodeCache::pin(n);
    n->lock.lock_shared(lock_class(n->level, false));
    t.root_lock_.unlock_shared();
    if (n->level < level) {
      release(s, n, false);
      return static_cast<Node *>(nullptr);
    }
    Missing missing;
    while (n->level > level) {
      u32 i = branch_search(n->buf, key);
      Status ok = narrow(s, n, i, range);
      Result<Node *> c = ok.ok() ? child(t, n, i, &missing) : Result<Node *>(ok.error());
      if (!c.ok() || !c.value()) {
        release(s, n, false);
        if (!c.ok()) return c.error();
        break;
      }
      Node *next = c.value();
      next->lock.lock_shared(lock_class(next->level, false));
      release(s, n, false);
      n = next;
    }
    if (missing.node) {
      finish_load(s, missing, pins);
      continue;
    }
    Status ok = level ? Status() : check_leaf_range(s, n, *range, false);
    if (!ok.ok()) {
      release(s, n, false);
      return ok.error();
    }
    return n;
  }
}

namespace tree_read_impl {
namespace {
Result<usize> copy_out(Bytes v, MutBytes out) {
  if (v.size() > out.size()) return Errno::range;
  if (!v.empty()) memcpy(out.data(), v.data(), v.size());
  return v.size();
}

// The greatest key below k; false when there is none.
bool predecessor(Key *k) {
  if (k->off-- != 0) return true;
  if (k->type-- != 0) return true;
  return k->oid-- != 0;
}
}  // namespace
}  // namespace tree_read_impl

Result<usize> Tree::get(const Key &key, MutBytes out) const {
  State &s = *state_;
  s.counters.lookups.fetch_add(1, std::memory_order_relaxed);
  Pins pins(s.cache);
  Range range;
  Node *leaf = VX_TRY(TreeOps::read_leaf(*this, key, &range, pins));
  if (!leaf) return Errno::noent;
  bool found;
  u32 i = leaf_search(leaf->buf, key, &found);
  Result<usize> r = found ? tree_read_impl::copy_out(leaf_value(leaf->buf, i), out) : Result<usize>(Errno::noent);
  TreeOps::release(s, leaf, false);
  return r;
}

Result<Tree::Found> Tree::seek(const Key &from, const Key &to, MutBytes out) const {
  State &s = *state_;
  s.counters.lookups.fetch_add(1, std::memory_order_relaxed);
  Pins pins(s.cache);
  Key at = from;
  for (;;) {
    Range range;
    Node *leaf = VX_TRY(TreeOps::read_leaf(*this, at, &range, pins));
    if (!leaf) return Errno::noent;
    bool exact;
    u32 i = leaf_search(leaf->buf, at, &exact);
    if (i < node_header(leaf->buf).count) {
      Found f;
      f.key = key_of(leaf_items(leaf->buf)[i].key);
      Result<usize> r =
          f.key <= to ? tree_read_impl::copy_out(leaf_value(leaf->buf, i), out) : Result<usize>(Errno::noent);
      TreeOps::release(s, leaf, false);
      f.len = VX_TRY(std::move(r));
      return f;
    }
    TreeOps::release(s, leaf, false);
    if (range.open_end || range.hi > to) return Errno::noent;
    at = range.hi;
  }
}

Result<Tree::Found> Tree::seek_back(const Key &from, const Key &low, MutBytes out) const {
  State &s = *state_;
  s.counters.lookups.fetch_add(1, std::memory_order_relaxed);
  Pins pins(s.cache);
  Key at = from;
  for (;;) {
    if (at < low) return Errno::noent;
    Range range;
    Node *leaf = VX_TRY(TreeOps::read_leaf(*this, at, &range, pins));
    if (!leaf) return Errno::noent;
    bool exact;
    u32 i = leaf_search(leaf->buf, at, &exact);
    if (exact || i > 0) {
      if (!exact) i--;
      Found f;
      f.key = key_of(leaf_items(leaf->buf)[i].key);
      Result<usize> r =
          f.key >= low ? tree_read_impl::copy_out(leaf_value(leaf->buf, i), out) : Result<usize>(Errno::noent);
      TreeOps::release(s, leaf, false);
      f.len = VX_TRY(std::move(r));
      return f;
    }
    TreeOps::release(s, leaf, false);
    at = range.lo;
    if (!tree_read_impl::predecessor(&at)) return Errno::noent;
  }
}

Status Tree::scan(const Key &first, const Key &last, FnRef<bool(const Key &, Bytes)> fn) const {
  State &s = *state_;
  s.counters.scans.fetch_add(1, std::memory_order_relaxed);
  Key at = first;
  for (;;) {
    Pins pins(s.cache);
    Range range;
    Node *leaf = VX_TRY(TreeOps::read_leaf(*this, at, &range, pins));
    if (!leaf) return {};
    bool exact, more = true;
    const LeafItem *it = leaf_items(leaf->buf);
    for (u32 i = leaf_search(leaf->buf, at, &exact), n = node_header(leaf->buf).count; i < n && more; i++) {
      Key k = key_of(it[i].key);
      more = k <= last && fn(k, leaf_value(leaf->buf, i));
    }
    TreeOps::release(s, leaf, false);
    if (!more || range.open_end || range.hi > last) return {};
    at = range.hi;
    vx_yield();
  }
}

}  // namespace vexfs::store
