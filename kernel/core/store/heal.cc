// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Second copies of tree nodes: reading one where the first cannot be used, and writing such nodes anew.
//
// A node of the current state is cured by making it part of the open transaction, which writes both copies to new places:
// no block that a root refers to is ever written over, so nothing depends on whether a pointer is still true. The nodes
// of a snapshot cannot move; but as long as a view of it is open none of them is given away, so what the second copy
// says is written over the first. The same goes for a node of the present that a snapshot has too, while it is locked.
#include "tree_ops.h"

namespace vexfs::store {

bool State::write_over(u64 addr, Bytes node) {
  State &owner = view_of ? *view_of : *this;
  if (owner.read_only.load(std::memory_order_relaxed) || owner.quiet.load(std::memory_order_relaxed)) return false;
  vx_io io = {};
  io.off = addr << geo.block_shift;
  io.len = node.size();
  io.buf = const_cast<u8 *>(node.data());
  io.flags = VX_IO_WRITE | VX_IO_META;
  return vx_bdev_submit(dev, &io, 1) == 0;
}

Status State::read_node(const disk::NodeExpect &e, MutBytes out, NodeRead *how) {
  Status st;
  for (u64 addr : {e.addr, e.mirror}) {
    if (addr == 0) break;
    how->second = addr != e.addr;
    st = read_bytes(addr << geo.block_shift, out, true);
    counters.nodes_read.fetch_add(1, std::memory_order_relaxed);
    if (st.ok()) {
      disk::Refusal r = disk::verify_node(out, geo, e);
      if (r.ok()) return {};
      how->why = r;
      st = Errno::corrupt;
    }
  }
  return st;
}

void State::found_cured(Node &n, const disk::NodeExpect &e) {
  if (n.untold.load(std::memory_order_relaxed) == 0 || n.untold.exchange(0) == 0) return;
  counters.mirror_reads.fetch_add(1, std::memory_order_relaxed);
  bool in_place = view_of && !opts.leave_copies && write_over(e.addr, {n.buf, geo.node_size});
  LogLine line(dev, VX_LOG_WARN);
  line.str("tree ").dec(e.tree).str(" node ").dec(e.addr).str(" level ").dec(e.level).str(": ");
  line.str(n.first_cause == disk::Cause::none ? "read error" : disk::cause_name(n.first_cause));
  line.str("; its second copy at ").dec(e.mirror).str(in_place ? " is good, and written over it" : " is good");
  if (in_place) counters.nodes_cured.fetch_add(1, std::memory_order_relaxed);
  if (view_of || read_only.load(std::memory_order_relaxed) || node_header(n.buf).count == 0) return;
  Guard g(lock);
  if (to_heal_count == sizeof to_heal / sizeof to_heal[0]) return;
  auto &entry = to_heal[to_heal_count++];
  entry.tree = e.tree;
  entry.key = key_of(n.level ? branch_items(n.buf)[0].key : leaf_items(n.buf)[0].key);
}

bool State::write_anew(u8 tree, Key key) {
  if (read_only.load(std::memory_order_relaxed) || quiet.load()) return false;
  bool found = false;
  auto take = [&](const Key &k, Bytes) {
    key = k;
    found = true;
    return false;
  };
  if (!trees[tree].scan(key, Key::max(), take).ok() || !found) return false;
  Result<Handle> h = begin({.items = 1, .freeing = true});
  return h.ok() && trees[tree].modify(*h, key, [](MutBytes) -> Status { return {}; }).ok();
}

void State::heal() {
  if (quiet.load()) return;  // later
  for (;;) {
    u8 tree;
    Key key;
    {
      Guard g(lock);
      if (to_heal_count == 0) return;
      to_heal_count--;
      tree = to_heal[to_heal_count].tree;
      key = to_heal[to_heal_count].key;
    }
    if (write_anew(tree, key)) counters.nodes_cured.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace vexfs::store
