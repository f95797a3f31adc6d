// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Tree mutations: the three ways down to a leaf, and the public operations.
#include "tree_ops.h"

namespace vexfs::store {

Step TreeOps::shallow(Tree &t, Handle &h, Mutation &m, u8 top, Pins &pins) {
  State &s = *t.state_;
  t.root_lock_.lock_shared();
  Node *n = t.root_;
  if (!n || n->level < top) {
    t.root_lock_.unlock_shared();
    if (n || m.adds()) return Step::escalate;
    m.status = m.verb == Verb::erase_range ? Status() : Status(Errno::noent);
    m.leaf_range = {};
    return Step::done;
  }
  Place p;
  p.is_root = n->level == 0;
  NodeCache::pin(n);
  bool ex = n->level <= top;
  if (ex) {
    n->lock.lock(lock_class(n->level, false));
  } else {
    n->lock.lock_shared(lock_class(n->level, false));
  }
  t.root_lock_.unlock_shared();
  Missing missing;
  while (n->level > 0) {
    p.slot = branch_search(n->buf, m.key);
    if (n->level == top) {
      u32 count = node_header(n->buf).count;
      if (n->dirty_txn.load(std::memory_order_acquire) != h.txn_ || count == branch_capacity(s.geo.node_size) ||
          (m.removes() && count <= min_branch(s))) {
        release(s, n, true);
        return Step::escalate;
      }
    }
    Status ok = narrow(s, n, p.slot, &p.range);
    Result<Node *> c = ok.ok() ? child(t, n, p.slot, &missing) : Result<Node *>(ok.error());
    if (!c.ok() || !c.value()) {
      release(s, n, ex);
      if (c.ok()) {
        finish_load(s, missing, pins);
        return Step::again;
      }
      m.status = c.error();
      return Step::done;
    }
    Node *next = c.value();
    bool next_ex = next->level <= top;
    if (next_ex) {
      next->lock.lock(lock_class(next->level, false));
    } else {
      next->lock.lock_shared(lock_class(next->level, false));
    }
    if (n->level == top) {
      p.parent = n;
    } else {
      release(s, n, ex);
    }
    n = next;
    ex = next_ex;
  }
  p.leaf = n;
  Step step = at_leaf(t, h, m, p, &missing);
  if (p.parent) release(s, p.parent, true);
  finish_load(s, missing, pins);
  return step;
}

// Exclusive from the root down. Every branch passed belongs to the transaction, has room for one more item, and (for
// removals) more than the minimum, unless it has no sibling to take from.
Step TreeOps::deep(Tree &t, Handle &h, Mutation &m, Pins &pins) {
  State &s = *t.state_;
  Missing missing;
  Place p;
  Node *n = nullptr;
  auto fail = [&](Error e) {
    m.status = e;
    if (n) release(s, n, true);
    return Step::done;
  };
  t.root_lock_.lock();
  struct RootLock {
    RwSem *l;
    ~RootLock() { drop(); }
    void drop() {
      if (l) l->unlock();
      l = nullptr;
    }
  } root_lock{&t.root_lock_};
  if (!t.root_) {
    if (!m.adds()) {
      m.status = m.verb == Verb::erase_range ? Status() : Status(Errno::noent);
      m.leaf_range = {};
      return Step::done;
    }
    Result<Node *> r = new_node(t, h, 0);
    if (!r.ok()) return fail(r.error());
    n = r.value();
    set_root(t, n);
  } else {
    n = t.root_;
    NodeCache::pin(n);
    n->lock.lock(lock_class(n->level, false));
  }
  // A root with a single child is not needed.
  while (n->level > 0 && node_header(n->buf).count == 1) {
    Result<Node *> c = child(t, n, 0, &missing);
    if (!c.ok()) return fail(c.error());
    if (!c.value()) {
      release(s, n, true);
      root_lock.drop();
      finish_load(s, missing, pins);
      return Step::again;
    }
    Node *only = c.value();
    only->lock.lock(lock_class(only->level, false));
    set_root(t, only);
    free_node(s, n);
    n = only;
    s.counters.root_shrinks.fetch_add(1, std::memory_order_relaxed);
  }
  Result<Node *> mine = own(t, h, nullptr, 0, n);
  if (!mine.ok()) return fail(mine.error());
  n = mine.value();
  if (n->level == 0) {
    p.leaf = n;
    p.is_root = p.root_held = true;
    return at_leaf(t, h, m, p, &missing);
  }
  u32 cap = branch_capacity(s.geo.node_size);
  if (node_header(n->buf).count == cap) {
    Node *top = n;
    Status st = grow_root(t, h, top);
    if (!st.ok()) return fail(st.error());
    Result<Node *> right = split_branch(t, h, top, 0, n, branch_search(n->buf, m.key) == cap - 1);
    if (!right.ok()) {
      release(s, top, true);
      return fail(right.error());
    }
    u32 i = branch_search(top->buf, m.key);
    release(s, i ? n : right.value(), true);
    n = i ? right.value() : n;
    st = narrow(s, top, i, &p.range);
    release(s, top, true);
    if (!st.ok()) return fail(st.error());
  }
  root_lock.drop();
  while (n->level > 1) {
    u32 i = branch_search(n->buf, m.key);
    Result<Node *> c = child(t, n, i, &missing);
    if (!c.ok()) return fail(c.error());
    if (!c.value()) {
      release(s, n, true);
      finish_load(s, missing, pins);
      return Step::again;
    }
    Node *next = c.value();
    next->lock.lock(lock_class(next->level, false));
    c.value() = nullptr;
    Result<Node *> owned = own(t, h, n, i, next);
    if (!owned.ok()) {
      release(s, next, true);
      return fail(owned.error());
    }
    next = owned.value();
    u32 count = node_header(next->buf).count;
    if (count == cap) {
      Result<Node *> right = split_branch(t, h, n, i, next, branch_search(next->buf, m.key) == cap - 1);
      if (!right.ok()) {
        release(s, next, true);
        return fail(right.error());
      }
      bool go_right = branch_search(n->buf, m.key) == i + 1;
      release(s, go_right ? next : right.value(), true);
      next = go_right ? right.value() : next;
      i += go_right;
    } else if (m.removes() && count <= min_branch(s)) {
      Status st;
      Step step = thicken(t, h, n, &i, next, &missing, &st);
      if (step == Step::again || !st.ok()) {
        release(s, next, true);
        if (!st.ok()) return fail(st.error());
        release(s, n, true);
        finish_load(s, missing, pins);
        return Step::again;
      }
    }
    Status ok = narrow(s, n, i, &p.range);
    release(s, n, true);
    n = next;
    if (!ok.ok()) return fail(ok.error());
  }
  p.parent = n;
  p.slot = branch_search(n->buf, m.key);
  Status ok = narrow(s, n, p.slot, &p.range);
  if (!ok.ok()) return fail(ok.error());
  Result<Node *> c = child(t, n, p.slot, &missing);
  if (!c.ok()) return fail(c.error());
  Step step = Step::again;
  if (c.value()) {
    p.leaf = c.value();
    p.leaf->lock.lock(lock_class(0, false));
    step = at_leaf(t, h, m, p, &missing);
  }
  release(s, n, true);
  finish_load(s, missing, pins);
  return step;
}

Status TreeOps::mutate(Tree &t, Handle &h, Mutation &m) {
  State &s = *t.state_;
  VX_ASSERT(h.active() && h.state_ == &s);
  if (m.value.size() > s.geo.max_item()) return Errno::toobig;
  Pins pins(s.cache);
  u8 top = 0;
  for (;;) {
    Step step = top < 2 ? shallow(t, h, m, top, pins) : deep(t, h, m, pins);
    if (step == Step::done) return m.status;
    if (step != Step::escalate) continue;
    top++;
    s.counters.escalations.fetch_add(1, std::memory_order_relaxed);
  }
}

Status Tree::insert(Handle &h, const Key &key, Bytes value) {
  Mutation m{};
  m.verb = Verb::insert;
  m.key = key;
  m.value = value;
  return TreeOps::mutate(*this, h, m);
}

Status Tree::update(Handle &h, const Key &key, Bytes value) {
  Mutation m{};
  m.verb = Verb::update;
  m.key = key;
  m.value = value;
  return TreeOps::mutate(*this, h, m);
}

Status Tree::upsert(Handle &h, const Key &key, Bytes value) {
  Mutation m{};
  m.verb = Verb::upsert;
  m.key = key;
  m.value = value;
  return TreeOps::mutate(*this, h, m);
}

Status Tree::patch(Handle &h, const Key &key, u32 at, Bytes bytes) {
  Mutation m{};
  m.verb = Verb::patch;
  m.key = key;
  m.value = bytes;
  m.at = at;
  return TreeOps::mutate(*this, h, m);
}

Status Tree::modify(Handle &h, const Key &key, FnRef<Status(MutBytes)> fn) {
  Mutation m{};
  m.verb = Verb::modify;
  m.key = key;
  m.edit = &fn;
  return TreeOps::mutate(*this, h, m);
}

Status Tree::erase(Handle &h, const Key &key) {
  Mutation m{};
  m.verb = Verb::erase;
  m.key = key;
  return TreeOps::mutate(*this, h, m);
}

Result<usize> Tree::erase_range(Handle &h, const Key &first, const Key &last, usize limit,
                                FnRef<void(const Key &, Bytes)> fn) {
  Mutation m{};
  m.verb = Verb::erase_range;
  m.key = first;
  m.last = last;
  m.limit = limit;
  m.gone = &fn;
  while (m.erased < limit && m.key <= last) {
    usize before = m.erased;
    m.sibling_tried = false;
    VX_TRY(TreeOps::mutate(*this, h, m));
    // Erasing may have merged the leaf's neighbours into reach of the same key; go on only when nothing was there.
    if (m.erased > before) continue;
    if (m.leaf_range.open_end) break;
    m.key = m.leaf_range.hi;
  }
  return m.erased;
}

}  // namespace vexfs::store
