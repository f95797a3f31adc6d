// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Verifying and printing the items of snapshots.
#include "snapshot_items.h"
#include "../base/utf8.h"

namespace vexfs::disk {

namespace snapshot_items_impl {
namespace {

usize text_length(const char (&s)[kSnapshotNameBytes]) {
  usize n = 0;
  while (n < sizeof s && s[n]) n++;
  return n;
}

const char *verify_tree(const TreeRootDisk &t, u64 txn, const Geometry &g) {
  if (t.levels > kMaxLevels) return "levels";
  if (t.levels == 0) return t.node.addr == 0 ? nullptr : "node";
  if (!sound_pointer(t.node, g)) return "node";
  if (t.node.birth == 0 || t.node.birth > txn) return "birth";
  return nullptr;
}

}  // namespace
}  // namespace snapshot_items_impl

bool good_snapshot_name(Bytes name) {
  if (name.empty() || name.size() >= kSnapshotNameBytes) return false;
  if (name[0] == '.' && (name.size() == 1 || (name.size() == 2 && name[1] == '.'))) return false;
  for (usize at = 0; at < name.size();) {
    if (name[at] < 0x20 || name[at] == 0x7f || name[at] == '/') return false;
    usize n = utf8_character(name, at);
    if (n == 0) return false;
    at += n;
  }
  return true;
}

const char *verify_snapshot(Bytes item, u64 id, const Geometry &g) {
  SnapshotItem s;
  if (item.size() != sizeof s) return "length";
  memcpy(&s, item.data(), sizeof s);
  if (id == 0 || id == ~u64{0}) return "id";
  if (s.version != kSnapshotVersion) return "version";
  if (s.state < static_cast<u8>(SnapshotState::creating) || s.state > static_cast<u8>(SnapshotState::deleting))
    return "state";
  if (s.txn == 0 || s.txn > kTxnMask) return "txn";
  if (s.created_nsec > 999999999) return "created";
  usize n = snapshot_items_impl::text_length(s.name);
  if (!good_snapshot_name({reinterpret_cast<const u8 *>(s.name), n})) return "name";
  for (; n < sizeof s.name; n++)
    if (s.name[n]) return "name";
  if (s.state == static_cast<u8>(SnapshotState::creating)) return nullptr;
  if (s.replaced_txn && (s.replaced_txn <= s.txn || s.replaced_txn > kTxnMask)) return "replaced_txn";
  if (s.replaced_txn && (s.replaced_by == 0 || s.replaced_by >= id)) return "replaced_by";
  if (s.node_blocks > g.total_blocks) return "node_blocks";
  for (const SnapshotTree &t : s.trees)
    if (const char *bad = snapshot_items_impl::verify_tree(t.root, s.txn, g)) return bad;
  return snapshot_items_impl::verify_tree(s.refcounts, s.txn, g);
}

const char *verify_dead(Bytes item, u64 death, u64 start, const Geometry &g) {
  DeadItem d;
  if (item.size() != sizeof d) return "length";
  memcpy(&d, item.data(), sizeof d);
  if (d.birth == 0 || d.birth >= death) return "birth";
  if (d.count == 0 || !g.is_data(start, d.count)) return "count";
  if (g.group_of(start) != g.group_of(start + d.count - 1)) return "group";
  return nullptr;
}

void print_snapshot_item(Printer &out, u64 id, u8 type, Bytes item) {
  out.str("snapshot ").dec(id);
  SnapshotItem s;
  if (type != kSnapshotType || item.size() != sizeof s) {
    out.str(" unknown, ").dec(item.size()).str(" bytes");
    return;
  }
  memcpy(&s, item.data(), sizeof s);
  out.str(" ").quoted({reinterpret_cast<const u8 *>(s.name), snapshot_items_impl::text_length(s.name)});
  out.str(s.state == 1 ? " creating" : s.state == 2 ? " live" : s.state == 3 ? " deleting" : " state?");
  out.str(" txn ").dec(s.txn).str(" created ").dec(s.created_sec);
  for (u32 i = 0; i < 2; i++)
    out.str(i ? " collections at " : " fs at ")
        .dec(s.trees[i].root.node.addr)
        .str(" born ")
        .dec(s.trees[i].root.node.birth)
        .str(" levels ")
        .dec(s.trees[i].root.levels);
  if (s.refcounts.levels)
    out.str(" refcounts at ")
        .dec(s.refcounts.node.addr)
        .str(" born ")
        .dec(s.refcounts.node.birth)
        .str(" levels ")
        .dec(s.refcounts.levels);
  if (s.replaced_by) out.str(" replaced by ").dec(s.replaced_by);
  if (s.replaced_txn) out.str(" in ").dec(s.replaced_txn).str(", blocks still to be noted");
}

void print_dead_item(Printer &out, u64 death, u8 type, u64 start, Bytes item) {
  out.str("died ").dec(death).str(" blocks ").dec(start);
  DeadItem d;
  if (type != kDeadType || item.size() != sizeof d) {
    out.str(" unknown, ").dec(item.size()).str(" bytes");
    return;
  }
  memcpy(&d, item.data(), sizeof d);
  out.ch('+').dec(d.count).str(" born ").dec(d.birth);
}

}  // namespace vexfs::disk
