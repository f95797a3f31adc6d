// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The checker's view of snapshots: their items, the dead tree, and looking at one as if it were the current state.
#include "check.h"

namespace vexfs::store {

Status Checker::check_snapshots() {
  Status st;
  VX_TRY(walk(TreeId::snapshots, [&](const Key &k, Bytes b) {
    const char *bad = k.type != disk::kSnapshotType || k.off != 0 ? "key" : disk::verify_snapshot(b, k.oid, geo_);
    disk::SnapshotItem item;
    memcpy(&item, b.data(), min_of(b.size(), sizeof item));
    if (!bad && item.txn > txn()) bad = "txn";
    if (bad) {
      error().str("snapshot ").dec(k.oid).str(": ").str(bad).str(" of its item makes no sense");
      return true;
    }
    if (item.state != static_cast<u8>(disk::SnapshotState::live)) return true;
    st = snapshots_.push(item);
    if (st.ok()) st = snapshot_ids_.push(k.oid);
    return st.ok();
  }));
  VX_TRY(st);
  u64 unneeded = 0;
  VX_TRY(walk(TreeId::dead, [&](const Key &k, Bytes b) {
    const char *bad = k.type != disk::kDeadType ? "key" : disk::verify_dead(b, k.oid, k.off, geo_);
    if (!bad && k.oid > txn()) bad = "death";
    if (bad) {
      error().str("dead tree, blocks at ").dec(k.off).str(" of transaction ").dec(k.oid).str(": ").str(bad);
      return true;
    }
    disk::DeadItem d;
    memcpy(&d, b.data(), sizeof d);
    bool needed = false;
    for (const disk::SnapshotItem &s : snapshots_) needed = needed || (d.birth <= s.txn && s.txn < k.oid);
    unneeded += !needed;
    st = claim({k.off, d.count}, "dead extent of transaction", k.oid, k.off);
    return st.ok();
  }));
  if (unneeded) note().dec(unneeded).str(" dead extents are needed by no snapshot: they wait to be freed");
  return st;
}

bool Checker::enter_snapshot(usize i) {
  if (i >= snapshots_.size()) return false;
  auto *r = reinterpret_cast<disk::RootDisk *>(root_);
  const disk::SnapshotItem &s = snapshots_[i];
  in_snapshot_ = snapshot_ids_[i];
  r->header.txn = s.txn;
  r->next_object_id = s.next_object_id;
  for (u8 t = 0; t < 2; t++) {
    r->trees[t] = s.trees[t].root;
    memcpy(r->blobs[t], s.trees[t].blob, disk::kBlobBytes);
    walked_[t] = damaged_[t] = false;
  }
  return true;
}

}  // namespace vexfs::store
