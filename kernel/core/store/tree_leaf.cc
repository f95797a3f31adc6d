// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What a mutation does once it has reached its leaf.
#include "tree_ops.h"

namespace vexfs::store {

Step TreeOps::finish(State &s, Mutation &m, Place &p, Status st) {
  m.status = st;
  release(s, p.leaf, true);
  return Step::done;
}

Step TreeOps::at_leaf(Tree &t, Handle &h, Mutation &m, Place &p, Missing *missing) {
  State &s = *t.state_;
  Node *leaf = p.leaf;
  m.leaf_range = p.range;
  Status ok = check_leaf_range(s, leaf, p.range, true);
  if (!ok.ok()) return finish(s, m, p, ok);
  bool found;
  u32 at = leaf_search(leaf->buf, m.key, &found);
  switch (m.verb) {
    case Verb::insert:
      if (found) return finish(s, m, p, Errno::exist);
      return put(t, h, m, p, at, false);
    case Verb::update:
      if (!found) return finish(s, m, p, Errno::noent);
      return put(t, h, m, p, at, true);
    case Verb::upsert:
      return put(t, h, m, p, at, found);
    case Verb::patch:
      if (!found) return finish(s, m, p, Errno::noent);
      if (m.at > leaf_items(leaf->buf)[at].len || m.value.size() > leaf_items(leaf->buf)[at].len - usize{m.at})
        return finish(s, m, p, Errno::range);
      return edit(t, h, m, p, at);
    case Verb::modify:
      if (!found) return finish(s, m, p, Errno::noent);
      return edit(t, h, m, p, at);
    case Verb::erase:
      if (!found) return finish(s, m, p, Errno::noent);
      return remove(t, h, m, p, at, 1, missing);
    case Verb::erase_range: {
      u32 n = 0, count = node_header(leaf->buf).count;
      const LeafItem *it = leaf_items(leaf->buf);
      while (at + n < count && n < m.limit - m.erased && key_of(it[at + n].key) <= m.last) n++;
      if (n == 0) return finish(s, m, p, {});
      return remove(t, h, m, p, at, n, missing);
    }
  }
  return finish(s, m, p, Errno::inval);
}

namespace tree_leaf_impl {
namespace {
bool is_ours(const Node *n, u64 txn) { return n->dirty_txn.load(std::memory_order_acquire) == txn; }
}  // namespace
}  // namespace tree_leaf_impl

Step TreeOps::put(Tree &t, Handle &h, Mutation &m, Place &p, u32 at, bool found) {
  State &s = *t.state_;
  u32 size = s.geo.node_size, len = static_cast<u32>(m.value.size());
  u32 old = found ? u32{leaf_items(p.leaf->buf)[at].len} : ~0u;
  bool fits = leaf_fits(p.leaf->buf, size, len, old);
  bool ours = tree_leaf_impl::is_ours(p.leaf, h.txn());
  if ((!ours || !fits) && !p.may_own()) {
    release(s, p.leaf, true);
    return Step::escalate;
  }
  if (!ours) {
    Result<Node *> r = own(t, h, p.parent, p.slot, p.leaf);
    if (!r.ok()) return finish(s, m, p, r.error());
    p.leaf = r.value();
  }
  Node *grown = nullptr;
  Status st;
  bool replace = found;
  if (!fits) {
    if (!p.parent) {
      Node *top = p.leaf;
      st = grow_root(t, h, top);
      if (st.ok()) p.parent = grown = top;
    }
    if (st.ok()) st = split_leaf(t, h, m, p, &at, replace);
    replace = false;
  }
  bool in_place = replace && len <= old && len > 0;
  if (st.ok() && !in_place && !leaf_fits_now(p.leaf->buf, len, !replace)) {
    // Room is there, but in pieces. An old value counts as room only once it is gone.
    if (replace) {
      Key k = m.key;
      leaf_erase(p.leaf->buf, size, at, 1);
      replace = false;
      VX_ASSERT(k == m.key);
    }
    st = leaf_fits_now(p.leaf->buf, len, true) ? Status() : compact(s, h, p.leaf);
  }
  if (st.ok()) {
    if (replace) {
      s.log.replace(t.id_, m.key, leaf_value(p.leaf->buf, at), m.value);
      leaf_replace_at(p.leaf->buf, size, at, m.value);
    } else {
      s.log.put(t.id_, m.key, m.value);
      leaf_insert_at(p.leaf->buf, size, at, m.key, m.value);
    }
    (found ? s.counters.updates : s.counters.inserts).fetch_add(1, std::memory_order_relaxed);
  }
  if (grown) {
    release(s, grown, true);
    p.parent = nullptr;
  }
  return finish(s, m, p, st);
}

Step TreeOps::edit(Tree &t, Handle &h, Mutation &m, Place &p, u32 at) {
  State &s = *t.state_;
  if (!tree_leaf_impl::is_ours(p.leaf, h.txn())) {
    if (!p.may_own()) {
      release(s, p.leaf, true);
      return Step::escalate;
    }
    Result<Node *> r = own(t, h, p.parent, p.slot, p.leaf);
    if (!r.ok()) return finish(s, m, p, r.error());
    p.leaf = r.value();
  }
  MutBytes v = leaf_value_mut(p.leaf->buf, at);
  Status st;
  if (m.verb == Verb::modify) {
    st = (*m.edit)(v);
    if (st.ok()) s.log.put(t.id_, m.key, v);
  } else if (!m.value.empty()) {
    s.log.patch(t.id_, m.key, m.at, m.value);
    memcpy(v.data() + m.at, m.value.data(), m.value.size());
  }
  if (st.ok()) s.counters.updates.fetch_add(1, std::memory_order_relaxed);
  return finish(s, m, p, st);
}

// Erases items [at, at+n). A leaf that becomes empty goes; one that becomes thin takes a neighbour in if both fit.
Step TreeOps::remove(Tree &t, Handle &h, Mutation &m, Place &p, u32 at, u32 n, Missing *missing) {
  State &s = *t.state_;
  u32 size = s.geo.node_size;
  const LeafItem *it = leaf_items(p.leaf->buf);
  u32 left = node_header(p.leaf->buf).count - n, used = leaf_used(p.leaf->buf);
  for (u32 i = at; i < at + n; i++) used -= static_cast<u32>(sizeof(LeafItem)) + it[i].len;
  bool thin = used < thin_leaf(s) && (p.leaf->merge_backoff == 0 || used < p.leaf->merge_backoff);
  bool fix = !p.is_root && (left == 0 || thin);
  if ((fix && !p.parent) || (!tree_leaf_impl::is_ours(p.leaf, h.txn()) && !p.may_own())) {
    release(s, p.leaf, true);
    return Step::escalate;
  }
  u32 siblings = p.parent ? node_header(p.parent->buf).count : 0;
  Node *sib = nullptr;
  bool right = p.slot + 1 < siblings;
  if (fix && left > 0 && siblings > 1) {
    Result<Node *> r = child(t, p.parent, right ? p.slot + 1 : p.slot - 1, missing);
    if (!r.ok()) return finish(s, m, p, r.error());
    sib = r.value();
    if (!sib && !m.sibling_tried) {
      m.sibling_tried = true;
      release(s, p.leaf, true);
      return Step::again;
    }
    if (!sib) {  // it was read once and is gone again: not worth another round
      s.cache.unpin(missing->node);
      missing->node = nullptr;
    } else {
      sib->lock.lock(lock_class(0, true));
    }
  }
  Result<Node *> r = own(t, h, p.parent, p.slot, p.leaf);
  if (!r.ok()) {
    if (sib) release(s, sib, true);
    return finish(s, m, p, r.error());
  }
  p.leaf = r.value();
  if (m.gone)
    for (u32 i = at; i < at + n; i++) (*m.gone)(key_of(leaf_items(p.leaf->buf)[i].key), leaf_value(p.leaf->buf, i));
  s.log.erase(t.id_, key_of(leaf_items(p.leaf->buf)[at].key), key_of(leaf_items(p.leaf->buf)[at + n - 1].key));
  leaf_erase(p.leaf->buf, size, at, n);
  m.erased += n;
  s.counters.erases.fetch_add(n, std::memory_order_relaxed);
  m.status = {};
  if (fix && left == 0 && siblings > 1) {
    remove_slot(p.parent, p.slot);
    free_node(s, p.leaf);
    s.counters.merges.fetch_add(1, std::memory_order_relaxed);
    return Step::done;
  }
  if (sib) merge_leaf(s, h, p, sib, right);
  return finish(s, m, p, {});
}

}  // namespace vexfs::store
