// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The walk over what only a snapshot has.
#include "past.h"

namespace vexfs::store {
namespace past_impl {
namespace {

// Damage is another's to report; what says that nothing can be said goes to the caller.
bool unreadable(Errno e) { return e == Errno::corrupt || e == Errno::io; }

Key some_key(const u8 *buf, const Key &otherwise) {
  const disk::NodeHeader &h = node_header(buf);
  // The first key of a branch may be less than anything in it.
  if (h.level == 0) return h.count ? key_of(leaf_items(buf)[0].key) : otherwise;
  return h.count > 1 ? key_of(branch_items(buf)[h.count - 1].key) : otherwise;
}

// Narrows r, of the branch in buf, to its child for `at`.
disk::NodePtr child_of(const u8 *buf, const Key &at, Range *r) {
  u32 i = branch_search(buf, at), n = node_header(buf).count;
  if (i > 0) r->lo = key_of(branch_items(buf)[i].key);
  if (i + 1 < n) {
    r->hi = key_of(branch_items(buf)[i + 1].key);
    r->open_end = false;
  }
  return branch_items(buf)[i].child;
}

}  // namespace
}  // namespace past_impl

PastWalk::~PastWalk() {
  if (buf_) vx_free_large(buf_, mine_.node_size());
}

Status PastWalk::make() {
  buf_ = static_cast<u8 *>(vx_alloc_large(mine_.node_size(), 0));
  return buf_ ? Status() : Status(Errno::nomem);
}

// Is the child of `level` that another tree has for `at` the one that ptr points to?
Result<bool> PastWalk::others_point(TreeId id, const Key &at, u8 level, const disk::NodePtr &ptr) const {
  for (const Volume *v : others_) {
    if (!v) continue;
    const Tree &t = v->tree(id);
    Pins pins(t.state_->cache);
    Range range;
    Result<Node *> n = TreeOps::read_node(t, at, static_cast<u8>(level + 1), &range, pins);
    if (!n.ok() && !past_impl::unreadable(n.code())) return n.error();
    if (!n.ok() || !*n) continue;
    disk::NodePtr other = past_impl::child_of((*n)->buf, at, &range);
    TreeOps::release(*t.state_, *n, false);
    if (other.addr == ptr.addr && other.birth == ptr.birth) return true;
  }
  return false;
}

// The same asked for a key inside of the node: the range that it is responsible for may be another there.
Result<bool> PastWalk::others_have(TreeId id, const Key &inside, u8 level, const Found &node) const {
  for (const Volume *v : others_) {
    if (!v) continue;
    const Tree &t = v->tree(id);
    Pins pins(t.state_->cache);
    Range range;
    Result<Node *> n = TreeOps::read_node(t, inside, level, &range, pins);
    if (!n.ok() && !past_impl::unreadable(n.code())) return n.error();
    if (!n.ok() || !*n) continue;
    bool same = (*n)->addr == node.addr && (*n)->birth == node.birth;
    TreeOps::release(*t.state_, *n, false);
    if (same) return true;
  }
  return false;
}

// From the root to the node of `level` for `at`. passed: *range is shared with others, or cannot be read further up.
Result<PastWalk::Step> PastWalk::descend(const Tree &t, u8 level, const Key &at, Range *range, Found *out) {
  const TreeId id = static_cast<TreeId>(t.id());
  State &s = *t.state_;
  u32 height = t.height();
  if (level >= height) return Step::end;
  leaf_known_ = false;
  *range = {};
  for (u32 i = height; i-- > level;) {
    const u8 lv = static_cast<u8>(i);
    *out = {};
    if (i + 1 < height) {  // its parent is in buf_
      disk::NodePtr ptr = past_impl::child_of(buf_, at, range);
      out->addr = ptr.addr;
      out->mirror = ptr.mirror;
      out->birth = ptr.birth;
      if (VX_TRY(others_point(id, at, lv, ptr))) return Step::passed;
    }
    Pins pins(s.cache);
    Range seen;
    Result<Node *> n = TreeOps::read_node(t, at, lv, &seen, pins);
    if (!n.ok()) {
      if (!past_impl::unreadable(n.code())) return n.error();
      out->err = n.code();
      return lv == level ? Step::found : Step::passed;
    }
    if (!*n) return Step::end;
    *range = seen;
    out->addr = (*n)->addr;
    out->mirror = (*n)->mirror;
    out->birth = (*n)->birth;
    memcpy(buf_, (*n)->buf, s.geo.node_size);
    TreeOps::release(s, *n, false);
    if (VX_TRY(others_have(id, past_impl::some_key(buf_, at), lv, *out))) return Step::passed;
  }
  return Step::found;
}

Result<bool> PastWalk::next(TreeId tree, u8 level, Key *at, Found *out) {
  for (;;) {
    Range range;
    Step step = VX_TRY(descend(mine_.tree(tree), level, *at, &range, out));
    if (step == Step::end) return false;
    out->last = range.open_end || range.hi <= *at;
    if (level == 0 && step == Step::found && out->err == Errno::ok) {
      leaf_known_ = true;
      leaf_tree_ = tree;
      leaf_ = range;
    }
    if (!out->last) *at = range.hi;
    if (step == Step::found) return true;
    if (out->last) return false;
    if (stop_ && stop_(stop_ctx_)) return Errno::intr;
    vx_yield();
  }
}

Result<bool> PastWalk::item(TreeId tree, const Key &last, Key *at, Bytes *value) {
  while (*at <= last) {
    bool at_hand = leaf_known_ && leaf_tree_ == tree && *at >= leaf_.lo && leaf_.below_hi(*at);
    Found leaf;
    Key next_at = *at;
    if (!at_hand) {
      if (!VX_TRY(next(tree, 0, &next_at, &leaf))) return false;
    }
    if (at_hand || leaf.err == Errno::ok) {
      bool exact;
      u32 i = leaf_search(buf_, max_of(*at, leaf_.lo), &exact);
      if (i < node_header(buf_).count) {
        *at = key_of(leaf_items(buf_)[i].key);
        *value = leaf_value(buf_, i);
        return *at <= last;
      }
      if (leaf_.open_end) return false;
      next_at = leaf_.hi;
    } else if (leaf.last) {
      return false;
    }
    *at = next_at;
  }
  return false;
}

}  // namespace vexfs::store
