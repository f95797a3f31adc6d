// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Scrubbing tree nodes. What the node cache holds was verified when it was read, or made here: so a node that is good in
// memory and bad on the device is cured by making it part of the open transaction, which writes it to a new place.
#include "scrub.h"

#include "tree_ops.h"
#include "volume.h"

namespace vexfs::store {
namespace scrub_impl {
namespace {

// Compares the node (locked shared, pinned) with its blocks, both copies; clean nodes only, for others have none yet.
// What a snapshot has too stays where it is when the present moves on: it is written over as well.
void read_again(State &s, const Node &n, MutBytes buf, ScrubbedNode &out) {
  if (n.dirty_txn.load(std::memory_order_acquire)) return;
  out.read = true;
  out.tree = n.tree;
  out.level = n.level;
  out.block = n.addr;
  bool kept = !s.view_of && disk::tree_is_kept(n.tree) && n.birth <= s.snapshot_txn.load(std::memory_order_acquire);
  bool cured = true;
  for (u64 addr : {n.addr, n.mirror}) {
    if (addr == 0) break;
    disk::Refusal why;
    Status st = s.read_bytes(addr << s.geo.block_shift, buf, true);
    if (st.ok()) why = disk::verify_node(buf, s.geo, {n.addr, n.birth, n.tree, n.level});
    if (st.ok() && why.ok()) continue;
    if (out.err == Errno::ok) {
      out.block = addr;
      out.err = st.ok() ? Errno::corrupt : st.code();
      out.why = why;
    }
    cured = (kept || s.view_of) && s.write_over(addr, {n.buf, s.geo.node_size}) && cured;
  }
  out.repaired = out.err != Errno::ok && cured;
}

// Goes on to the next level, or the next tree; false: that was all.
bool next_level(ScrubPlace &p, bool tree_ends) {
  p.at = Key::min();
  p.level++;
  if (!tree_ends && p.level < disk::kMaxLevels) return true;
  p.level = 0;
  return ++p.tree < disk::kTrees;
}

// Reads the node that p says, and the key range that it stands for. False: the tree is not that high.
Result<bool> look(State &s, const Tree &t, const ScrubPlace &p, MutBytes buf, Range &range, Key &first,
                  ScrubbedNode &out) {
  Pins pins(s.cache);
  Result<Node *> n = TreeOps::read_node(t, p.at, p.level, &range, pins);
  if (n.ok() && !*n) return false;
  if (n.ok()) {
    const Node &node = **n;
    if (node_header(node.buf).count)
      first = key_of(node.level ? branch_items(node.buf)[0].key : leaf_items(node.buf)[0].key);
    read_again(s, node, buf, out);
    TreeOps::release(s, *n, false);
    return true;
  }
  if (n.code() != Errno::corrupt && n.code() != Errno::io) return n.error();
  // On the way there, or the node itself: memory has none that is good, and the message has been given.
  out.read = true;
  out.tree = p.tree;
  out.level = p.level;
  out.err = n.code();
  return true;
}

}  // namespace
}  // namespace scrub_impl

Result<bool> Volume::scrub_node(ScrubPlace &p, MutBytes buf, ScrubbedNode &out) {
  using namespace scrub_impl;  // NOLINT: of this file
  State &s = *s_;
  VX_ASSERT(buf.size() >= s.geo.node_size);
  out = {};
  if (p.tree >= disk::kTrees) return false;
  Tree &t = s.trees[p.tree];
  Key first = p.at;
  Range range;
  if (!VX_TRY(look(s, t, p, buf.subspan(0, s.geo.node_size), range, first, out))) return next_level(p, true);
  if (out.err != Errno::ok && out.block) {
    LogLine line(s.dev, VX_LOG_ERR);
    line.str("scrub: tree ").dec(out.tree).str(" node ").dec(out.block).str(" level ").dec(out.level);
    if (out.err == Errno::corrupt)
      disk::add_refusal(line, out.why);
    else
      line.str(": read error");
    if (!s.view_of) out.repaired |= s.write_anew(p.tree, first);
    if (out.repaired) line.str("; it is written anew");
  }
  if (range.open_end) return next_level(p, false);
  p.at = range.hi;
  return true;
}

}  // namespace vexfs::store
