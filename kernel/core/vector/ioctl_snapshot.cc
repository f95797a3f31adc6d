// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The commands on snapshots. Who may is the host's business: these are no matter of one file's permissions.
#include "ioctl.h"

namespace vexfs::vector {

namespace ioctl_snapshot_impl {
namespace {

usize length_of(const char (&name)[VEXFS_SNAPSHOT_NAME_MAX + 1]) {
  usize n = 0;
  while (n < sizeof name && name[n]) n++;
  return n;
}

// The bytes of a name that ends inside its array, with nothing behind; an empty range otherwise.
Bytes name_of(const vexfs_snapshot &v) {
  usize n = length_of(v.name);
  for (usize i = n; i < sizeof v.name; i++)
    if (v.name[i]) return {};
  return {reinterpret_cast<const u8 *>(v.name), n < sizeof v.name ? n : 0};
}

// What only comes out is zero on the way in.
bool nothing_out(const vexfs_snapshot &v) {
  return v.state == 0 && v.replaced_by == 0 && !v.reserved[0] && !v.reserved[1] && !v.reserved[2];
}

}  // namespace
}  // namespace ioctl_snapshot_impl

Result<u64> Call::snapshot_id(const vexfs_snapshot &v) {
  store::Volume &volume = engine_.volume();
  if (v.id) {
    store::SnapshotInfo info;
    u64 id = VX_TRY(volume.snapshot_next(v.id, &info));
    return id == v.id ? Result<u64>(id) : Result<u64>(Errno::noent);
  }
  Bytes name = ioctl_snapshot_impl::name_of(v);
  if (name.empty()) return Errno::inval;
  return volume.snapshot_find(name);
}

Status Call::describe_snapshot(u64 id, bool account, vexfs_snapshot *out) {
  store::Volume &volume = engine_.volume();
  store::SnapshotInfo info;
  if (VX_TRY(volume.snapshot_next(id, &info)) != id) return Errno::noent;
  u32 size = out->size, flags = out->flags;
  *out = {};
  out->size = size;
  out->flags = flags;
  out->id = id;
  out->txn = info.txn;
  out->created_sec = static_cast<u64>(info.created_sec);
  out->created_nsec = info.created_nsec;
  out->state =
      (volume.rollback_requested() == id ? VEXFS_SNAPSHOT_S_NEXT : 0) | (info.counting ? VEXFS_SNAPSHOT_S_COUNTING : 0);
  out->replaced_by = info.replaced_by;
  out->used_bytes = info.used_blocks << volume.block_shift();
  out->own_bytes = account ? VX_TRY(volume.snapshot_own_blocks(id, [this] { return interrupted(this); }))
                                 << volume.block_shift()
                           : ~u64{0};
  static_assert(sizeof out->name == sizeof info.name);
  memcpy(out->name, info.name, sizeof out->name);
  return {};
}

Status Call::snapshot_create() {
  vexfs_snapshot v;
  VX_TRY(read_arg(&v));
  if (v.flags || v.id || !ioctl_snapshot_impl::nothing_out(v)) return Errno::inval;
  Bytes name = ioctl_snapshot_impl::name_of(v);
  if (name.empty()) return Errno::inval;
  u64 id = VX_TRY(engine_.filesystem().snapshot_create(name));
  // The snapshot is there: what remains is to say so.
  Status s = describe_snapshot(id, false, &v);
  if (!s.ok() && s.code() != Errno::noent) v.id = id;
  return write_arg(v);
}

Status Call::snapshot_delete() {
  vexfs_snapshot v;
  VX_TRY(read_arg(&v));
  if (v.flags || !ioctl_snapshot_impl::nothing_out(v)) return Errno::inval;
  u64 id = VX_TRY(snapshot_id(v));
  return engine_.volume().snapshot_delete(id);
}

Status Call::snapshot_rollback() {
  vexfs_snapshot v;
  VX_TRY(read_arg(&v));
  if ((v.flags & ~VEXFS_SNAPSHOT_CANCEL) || !ioctl_snapshot_impl::nothing_out(v)) return Errno::inval;
  if (v.flags & VEXFS_SNAPSHOT_CANCEL)
    return v.id || v.name[0] ? Status(Errno::inval) : engine_.volume().rollback_request(0);
  u64 id = VX_TRY(snapshot_id(v));
  VX_TRY(engine_.volume().rollback_request(id));
  VX_TRY(describe_snapshot(id, false, &v));
  return write_arg(v);
}

Status Call::snapshot_info() {
  vexfs_snapshot v;
  VX_TRY(read_arg(&v));
  if ((v.flags & ~VEXFS_SNAPSHOT_ACCOUNT) || !ioctl_snapshot_impl::nothing_out(v)) return Errno::inval;
  u64 id = VX_TRY(snapshot_id(v));
  VX_TRY(describe_snapshot(id, v.flags & VEXFS_SNAPSHOT_ACCOUNT, &v));
  return write_arg(v);
}

Status Call::snapshot_list() {
  vexfs_snapshot_list v;
  VX_TRY(read_arg(&v));
  if ((v.flags & ~VEXFS_SNAPSHOT_ACCOUNT) || v.reserved0 || !all_zero(v.reserved, 4)) return Errno::inval;
  if (v.entry_size < 64 || v.entry_size > 4096) return Errno::inval;
  v.count = 0;
  u64 after = v.after;
  while (v.count < v.capacity && after != ~u64{0}) {
    if (interrupted(this)) return Errno::intr;
    store::SnapshotInfo info;
    Result<u64> id = engine_.volume().snapshot_next(after + 1, &info);
    if (id.code() == Errno::noent) break;
    if (!id.ok()) return id.error();
    after = *id;
    vexfs_snapshot one{};
    one.size = sizeof one;
    Status s = describe_snapshot(*id, v.flags & VEXFS_SNAPSHOT_ACCOUNT, &one);
    if (s.code() == Errno::noent) continue;  // deleted just now
    VX_TRY(std::move(s));
    VX_TRY(copy_out(v.snapshots + u64{v.count} * v.entry_size, &one, min_of<usize>(v.entry_size, sizeof one)));
    v.count++;
  }
  return write_arg(v);
}

}  // namespace vexfs::vector
