// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Merging two trees, leaf by leaf.
#include "tree_diff.h"

namespace vexfs::store {

TreeDiff::~TreeDiff() {
  for (Leaf &l : leaf_)
    if (l.buf) vx_free_large(l.buf, a_.state_->geo.node_size);
}

// Where both trees have one and the same node at `at`: goes on behind it. True if it did.
Result<bool> TreeDiff::skip_shared(Key *at, bool *end) {
  u32 levels = min_of(a_.height_.load(std::memory_order_relaxed), b_.height_.load(std::memory_order_relaxed));
  for (u32 level = levels; level-- > 0;) {
    u64 addr[2] = {}, birth[2] = {};
    Range range[2];
    const Tree *trees[2] = {&a_, &b_};
    for (u32 i = 0; i < 2; i++) {
      State &s = *trees[i]->state_;
      Pins pins(s.cache);
      Node *n = VX_TRY(TreeOps::read_node(*trees[i], *at, static_cast<u8>(level), &range[i], pins));
      if (!n) break;
      // What is not on the device yet may still change its address, or its contents at that address.
      if (n->dirty_txn.load(std::memory_order_acquire) == 0) addr[i] = n->addr, birth[i] = n->birth;
      TreeOps::release(s, n, false);
    }
    if (addr[0] == 0 || addr[0] != addr[1] || birth[0] != birth[1]) continue;
    const Range &r = range[0].open_end || (!range[1].open_end && range[1].hi < range[0].hi) ? range[1] : range[0];
    *end = r.open_end;
    *at = r.hi;
    return true;
  }
  return false;
}

Status TreeDiff::read(const Tree &t, const Key &at, Leaf *leaf) {
  State &s = *t.state_;
  if (!leaf->buf) leaf->buf = static_cast<u8 *>(vx_alloc_large(s.geo.node_size, 0));
  if (!leaf->buf) return Errno::nomem;
  Pins pins(s.cache);
  Node *n = VX_TRY(TreeOps::read_leaf(t, at, &leaf->range, pins));
  leaf->empty = !n;
  if (!n) return {};
  memcpy(leaf->buf, n->buf, s.geo.node_size);
  TreeOps::release(s, n, false);
  return {};
}

// The items of both leaves from `at` up to where the first of them ends. False: fn wants no more.
Result<bool> TreeDiff::merge(const Key &at, FnRef<bool(const Key &, const Bytes *, const Bytes *)> fn) {
  u32 i[2], n[2];
  for (u32 t = 0; t < 2; t++) {
    bool exact;
    n[t] = leaf_[t].empty ? 0 : node_header(leaf_[t].buf).count;
    i[t] = n[t] ? leaf_search(leaf_[t].buf, at, &exact) : 0;
  }
  for (;;) {
    Key k[2];
    bool have[2];
    for (u32 t = 0; t < 2; t++) {
      have[t] = i[t] < n[t];
      if (have[t]) k[t] = key_of(leaf_items(leaf_[t].buf)[i[t]].key);
      have[t] = have[t] && leaf_[0].range.below_hi(k[t]) && leaf_[1].range.below_hi(k[t]);
    }
    if (!have[0] && !have[1]) return true;
    bool first = have[0] && (!have[1] || k[0] <= k[1]), second = have[1] && (!have[0] || k[1] <= k[0]);
    Bytes v[2];
    if (first) v[0] = leaf_value(leaf_[0].buf, i[0]++);
    if (second) v[1] = leaf_value(leaf_[1].buf, i[1]++);
    if (first && second && v[0].size() == v[1].size() && memcmp(v[0].data(), v[1].data(), v[0].size()) == 0) continue;
    if (!fn(first ? k[0] : k[1], first ? &v[0] : nullptr, second ? &v[1] : nullptr)) return false;
  }
}

Status TreeDiff::each(const Key &from, FnRef<bool(const Key &, const Bytes *, const Bytes *)> fn) {
  Key at = from;
  for (bool end = false; !end;) {
    if (VX_TRY(skip_shared(&at, &end))) continue;
    VX_TRY(read(a_, at, &leaf_[0]));
    VX_TRY(read(b_, at, &leaf_[1]));
    if (leaf_[0].empty && leaf_[1].empty) return {};
    if (leaf_[0].empty) leaf_[0].range = {};
    if (leaf_[1].empty) leaf_[1].range = {};
    if (!VX_TRY(merge(at, fn))) return {};
    const Range &a = leaf_[0].range, &b = leaf_[1].range;
    end = a.open_end && b.open_end;
    at = a.open_end ? b.hi : b.open_end || a.hi < b.hi ? a.hi : b.hi;
    vx_yield();
  }
  return {};
}

}  // namespace vexfs::store
