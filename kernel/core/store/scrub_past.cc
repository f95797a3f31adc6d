// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Scrubbing what only snapshots have: opening them for it, and their tree nodes.
//
// A view that a scrub has open does not keep its snapshot from being deleted: the deletion waits until the scrub has
// noticed, which looks after every piece.
#include "past.h"
#include "scrub.h"

namespace vexfs::store {
namespace scrub_past_impl {
namespace {

// Compares both copies of the node, which is in w.node(); what is bad is written over: no node of a snapshot can move.
void compare_copies(PastWalk &w, const PastWalk::Found &n, MutBytes buf, ScrubbedNode &out) {
  State &s = w.mine().state();
  bool cured = true;
  for (u64 addr : {n.addr, n.mirror}) {
    if (addr == 0) continue;
    Status st = s.read_bytes(addr << s.geo.block_shift, buf, true);
    disk::Refusal why;
    if (st.ok()) why = disk::verify_node(buf, s.geo, {n.addr, n.birth, out.tree, out.level, n.mirror});
    if (st.ok() && why.ok()) continue;
    if (out.err == Errno::ok) {
      out.err = st.ok() ? Errno::corrupt : st.code();
      out.why = why;
      out.block = addr;
    }
    cured = s.write_over(addr, w.node()) && cured;
  }
  out.repaired = out.err != Errno::ok && cured;
}

void tell(State &s, const ScrubbedNode &n) {
  LogLine line(s.dev, VX_LOG_ERR);
  line.str("scrub: snapshot ").dec(s.view_id).str(": tree ").dec(n.tree).str(" node ").dec(n.block);
  line.str(" level ").dec(n.level);
  if (n.err == Errno::corrupt)
    disk::add_refusal(line, n.why);
  else
    line.str(": read error");
  if (n.repaired) line.str("; it is written anew, where it is");
}

bool next_place(ScrubPlace &p, bool tree_ends) {
  p.at = Key::min();
  p.level++;
  if (!tree_ends && p.level < disk::kMaxLevels) return true;
  p.level = 0;
  return ++p.tree < disk::kTrees;
}

}  // namespace
}  // namespace scrub_past_impl

Result<bool> scrub_past_node(PastWalk &w, ScrubPlace &p, MutBytes buf, ScrubbedNode &out) {
  using namespace scrub_past_impl;  // NOLINT: of this file
  out = {};
  if (p.tree >= disk::kTrees) return false;
  if (!disk::tree_is_kept(p.tree)) return next_place(p, true);
  if (p.level >= w.mine().tree(static_cast<TreeId>(p.tree)).height()) return next_place(p, true);
  PastWalk::Found n;
  if (!VX_TRY(w.next(static_cast<TreeId>(p.tree), p.level, &p.at, &n))) return next_place(p, false);
  out.read = true;
  out.tree = p.tree;
  out.level = p.level;
  out.block = n.addr;
  if (n.err == Errno::ok) {
    compare_copies(w, n, buf.subspan(0, w.mine().node_size()), out);
    if (out.err != Errno::ok) tell(w.mine().state(), out);
  } else {
    out.err = n.err;  // whoever met it has said why
  }
  return n.last ? next_place(p, false) : true;
}

Status Volume::open_for_scrub(u64 txn, ScrubViews &out) {
  State &s = *s_;
  SnapshotList::Entry mine, older;
  if (!s.snapshots.use_briefly(txn, &mine, &older)) return Errno::noent;
  out.id = mine.id;
  out.txn = mine.txn;
  const OpenOptions o{.read_only = true, .node_cache_bytes = u64{4} << 20, .leave_copies = true};
  // Each call gives up the use that was counted for it, or hands it to the view.
  Result<Box<Volume>> first = s.open_used_view(mine.id, o, true);
  if (older.id) {
    Result<Box<Volume>> second = s.open_used_view(older.id, o, true);
    // One that cannot be opened has been reported as such when its turn was: nothing is shared with it then.
    if (second.ok())
      out.older = second.take();
    else if (second.code() == Errno::nomem)
      return Errno::nomem;
  }
  if (!first.ok()) return first.error();
  out.mine = first.take();
  return {};
}

bool Volume::scrub_unwanted(const ScrubViews &views) const {
  return s_->snapshots.unwanted(views.id) || (views.older && s_->snapshots.unwanted(views.older->view_id()));
}

}  // namespace vexfs::store
