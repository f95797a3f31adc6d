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
  bool any_doubtful = false;
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
    bool doubtful = may_live_again(d, k.oid);
    any_doubtful = any_doubtful || doubtful;
    if (!doubtful) st = claim({k.off, d.count}, "dead extent of transaction", k.oid, k.off);
    return st.ok();
  }));
  // What lives again may have died once more: so these come last.
  if (st.ok() && any_doubtful)
    VX_TRY(walk(TreeId::dead, [&](const Key &k, Bytes b) {
      disk::DeadItem d{};
      if (disk::verify_dead(b, k.oid, k.off, geo_)) return true;
      memcpy(&d, b.data(), sizeof d);
      if (may_live_again(d, k.oid)) st = claim_quietly({k.off, d.count});
      return st.ok();
    }));
  for (usize i = 0, first = 0; i < snapshots_.size(); i++) {
    if (snapshots_[i].replaced_txn == 0) continue;
    note()
        .str("the blocks of the rollback in transaction ")
        .dec(snapshots_[i].replaced_txn)
        .str(" are not noted in full");
    std::swap(snapshots_[i], snapshots_[first]);
    std::swap(snapshot_ids_[i], snapshot_ids_[first++]);
  }
  if (unneeded) note().dec(unneeded).str(" dead extents are needed by no snapshot: they wait to be freed");
  return st;
}

// An entry of the dead tree that a rollback has made void: whoever notes its blocks has not come to it yet.
bool Checker::may_live_again(const disk::DeadItem &d, u64 death) const {
  for (usize i = 0; i < snapshots_.size(); i++) {
    if (snapshots_[i].replaced_txn == 0 || death >= snapshots_[i].replaced_txn) continue;
    for (usize t = 0; t < snapshots_.size(); t++)
      if (snapshot_ids_[t] == snapshots_[i].replaced_by && d.birth <= snapshots_[t].txn && snapshots_[t].txn < death)
        return true;
  }
  return false;
}

bool Checker::enter_snapshot(usize i) {
  for (bool d : damaged_) any_damaged_ = any_damaged_ || d;
  if (i >= snapshots_.size()) {
    in_snapshot_ = 0;
    in_replaced_ = false;
    return false;
  }
  in_replaced_ = snapshots_[i].replaced_txn != 0;
  auto *r = reinterpret_cast<disk::RootDisk *>(root_);
  const disk::SnapshotItem &s = snapshots_[i];
  in_snapshot_ = snapshot_ids_[i];
  r->header.txn = s.txn;
  r->next_object_id = s.next_object_id;
  for (u8 t : disk::kKeptTrees) {
    r->trees[t] = disk::kept_root(s, t);
    if (t < 2) memcpy(r->blobs[t], s.trees[t].blob, disk::kBlobBytes);
    walked_[t] = damaged_[t] = false;
  }
  return true;
}

}  // namespace vexfs::store
