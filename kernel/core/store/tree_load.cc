// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Bringing tree nodes into memory, and distrusting them.
#include "tree_ops.h"

namespace vexfs::store {

Error TreeOps::damaged(State &s, Node *n, const char *what) {
  LogLine(s.dev, VX_LOG_ERR)
      .str("tree ")
      .dec(n->tree)
      .str(" node ")
      .dec(n->addr)
      .str(" level ")
      .dec(n->level)
      .str(": ")
      .str(what);
  s.counters.corrupt_nodes.fetch_add(1, std::memory_order_relaxed);
  s.damage(Errno::corrupt);
  return Errno::corrupt;
}

void TreeOps::load(State &s, Node *n, const disk::NodeExpect &e) {
  n->lock.lock(lock_class(e.level, false));
  if (n->state.load(std::memory_order_relaxed) == NodeState::unread) {
    MutBytes b(n->buf, s.geo.node_size);
    NodeRead how;
    Status st = s.read_node(e, b, &how);
    n->level = e.level;
    n->tree = e.tree;
    n->birth = e.birth;
    n->mirror = e.mirror;
    n->first_cause = how.why.cause;
    n->untold.store(st.ok() && how.second, std::memory_order_relaxed);
    n->err = st.code();
    n->merge_backoff = 0;
    if (!st.ok()) {
      // Believed only when a descent that still holds the parent meets it: a reader that lost a race may have come here
      // by a pointer that is no longer true.
      n->state.store(NodeState::failed, std::memory_order_release);
      LogLine(s.dev, VX_LOG_DEBUG).str("node ").dec(e.addr).str(": ").str(disk::cause_name(how.why.cause));
    } else {
      n->state.store(NodeState::ready, std::memory_order_release);
    }
  }
  n->lock.unlock();
}

void TreeOps::finish_load(State &s, Missing &m, Pins &pins) {
  if (!m.node) return;
  s.counters.restarts.fetch_add(1, std::memory_order_relaxed);
  load(s, m.node, m.expect);
  pins.keep(m.node);
  m.node = nullptr;
}

namespace tree_load_impl {
namespace {
// A failed node met under its parent's lock: the failure is real. Reported, and forgotten so that a later try reads
// again.
Error report_failed(State &s, Node *n, const disk::NodeExpect &e) {
  Errno err = n->err;
  if (err == Errno::corrupt) {
    // Verified once more for the message, on the buffer as it was read.
    disk::Refusal r = disk::verify_node({n->buf, s.geo.node_size}, s.geo, e);
    s.log_refusal(e.mirror ? "both copies of a tree node, the first" : "tree node", e.addr, r);
    s.counters.corrupt_nodes.fetch_add(1, std::memory_order_relaxed);
  } else {
    LogLine(s.dev, VX_LOG_ERR)
        .str("tree ")
        .dec(e.tree)
        .str(" node ")
        .dec(e.addr)
        .str(": read error ")
        .sdec(Error(err).negative());
    s.counters.read_errors.fetch_add(1, std::memory_order_relaxed);
  }
  s.cache.forget(n);
  s.cache.unpin(n);
  if (err == Errno::corrupt) s.damage(err);
  return err;
}
}  // namespace
}  // namespace tree_load_impl

Result<Node *> TreeOps::child(Tree const &t, Node *p, u32 i, Missing *missing) {
  State &s = *t.state_;
  const disk::NodePtr &ptr = branch_items(p->buf)[i].child;
  u64 addr = ptr.addr;
  Node *n = s.cache.find(addr);
  if (n && n->ready()) [[likely]] {
    if (n->level + 1 != p->level || n->tree != t.id_ || n->birth != ptr.birth || n->mirror != ptr.mirror) {
      s.cache.unpin(n);
      return damaged(s, p, "a child is not what its pointer says");
    }
    if (n->untold.load(std::memory_order_relaxed)) [[unlikely]]
      s.found_cured(*n, {addr, ptr.birth, t.id_, static_cast<u8>(p->level - 1), ptr.mirror});
    return n;
  }
  disk::NodeExpect e{addr, ptr.birth, t.id_, static_cast<u8>(p->level - 1), ptr.mirror};
  if (n && n->state.load(std::memory_order_acquire) == NodeState::failed) {
    bool real = n->err != Errno::corrupt || !disk::verify_node({n->buf, s.geo.node_size}, s.geo, e).ok();
    if (real) return tree_load_impl::report_failed(s, n, e);
    s.cache.forget(n);
    s.cache.unpin(n);
    n = nullptr;
  }
  if (!n) n = VX_TRY(s.cache.find_or_enter(addr));
  s.counters.cache_misses.fetch_add(1, std::memory_order_relaxed);
  missing->node = n;
  missing->expect = e;
  return static_cast<Node *>(nullptr);
}

Status TreeOps::narrow(State &s, Node *p, u32 i, Range *r) {
  u32 n = node_header(p->buf).count;
  const BranchItem *it = branch_items(p->buf);
  if (i > 0) {
    Key k = key_of(it[i].key);
    if (k < r->lo || !r->below_hi(k)) return damaged(s, p, "a separator lies outside of the node's range");
    r->lo = k;
  }
  if (i + 1 < n) {
    Key k = key_of(it[i + 1].key);
    if (k <= r->lo || !(r->open_end || k <= r->hi))
      return damaged(s, p, "a separator lies outside of the node's range");
    r->hi = k;
    r->open_end = false;
  }
  return {};
}

// Every item must be where searches look for it. Leaves other than the root are never empty: so walking from leaf to
// leaf always makes progress, whatever an image contains.
Status TreeOps::check_leaf_range(State &s, Node *leaf, const Range &r, bool both_ends) {
  u32 n = node_header(leaf->buf).count;
  if (n == 0) {
    if (r.open_end && r.lo == Key::min()) return {};
    return damaged(s, leaf, "empty leaf");
  }
  Key first = key_of(leaf_items(leaf->buf)[0].key);
  if (first < r.lo || !r.below_hi(first)) return damaged(s, leaf, "an item lies outside of the leaf's range");
  if (both_ends && !r.below_hi(key_of(leaf_items(leaf->buf)[n - 1].key)))
    return damaged(s, leaf, "an item lies outside of the leaf's range");
  return {};
}

}  // namespace vexfs::store
