// SPDX-License-Identifier: GPL-2.0-only OR MIT
// SNAPSHOT_DIFF: files and collections that differ between two states.
#include "../fs/diff.h"
#include "../store/tree_diff.h"
#include "ioctl.h"

namespace vexfs::vector {

namespace ioctl_diff_impl {
namespace {

struct Rows {
  bool there = false;
  u64 dir = 0;
  disk::StateItem state{};
};

Result<Rows> rows_of(const store::Volume &v, u32 cid) {
  const store::Tree &t = v.tree(store::TreeId::collections);
  Rows r;
  disk::ConfigItem config;
  Result<usize> n = t.get(item_key(cid, VectorItem::config), mut_bytes_of(config));
  if (n.code() == Errno::noent) return r;
  if (!n.ok()) return n.error();
  r.dir = config.dir_ino;
  r.there = *n == sizeof config && !(config.flags & disk::kConfigDropped);
  if (!r.there) return r;
  VX_TRY(t.get(item_key(cid, VectorItem::state), mut_bytes_of(r.state)));
  return r;
}

// False: nothing that anybody would call a change (the index alone has been written, say).
Result<bool> describe(const store::Volume &from, const store::Volume &to, u32 cid, vexfs_change *out) {
  Rows a = VX_TRY(rows_of(from, cid)), b = VX_TRY(rows_of(to, cid));
  *out = {};
  out->what = VEXFS_CHANGED_COLLECTION;
  out->ino = b.there ? b.dir : a.dir;
  if (!a.there && !b.there) return false;
  if (!a.there) out->what |= VEXFS_CHANGED_CREATED;
  if (!b.there) out->what |= VEXFS_CHANGED_DELETED;
  if (!b.there) {
    out->gone = a.state.live;
  } else if (b.state.slots < a.state.slots || b.state.live + a.state.slots > a.state.live + b.state.slots) {
    out->added = out->gone = ~u64{0};  // `from` is the later one, or on a branch of its own
  } else {
    out->added = b.state.slots - a.state.slots;
    out->gone = a.state.live + out->added - b.state.live;
  }
  return out->added || out->gone || a.there != b.there;
}

}  // namespace
}  // namespace ioctl_diff_impl

// One into the caller's array. False: it is full, or the call has to end for another reason.
bool Call::give_change(vexfs_snapshot_diff &v, const vexfs_change &c, Status *st) {
  if (interrupted(this)) *st = Errno::intr;
  if (!st->ok() || v.count == v.capacity) return false;
  *st = copy_out(v.changes + u64{v.count} * v.entry_size, &c, min_of<usize>(v.entry_size, sizeof c));
  v.count += st->ok();
  return st->ok();
}

Status Call::diff_files(const store::Volume &from, const store::Volume &to, vexfs_snapshot_diff &v) {
  Status st;
  bool whole = true;
  VX_TRY(fs::diff(from, to, v.position[1], [&](const fs::Changed &c) {
    vexfs_change out{};
    out.ino = c.ino;
    out.generation = c.generation;
    out.mode = c.mode;
    out.what = c.what;
    out.size = c.size;
    whole = give_change(v, out, &st);
    v.position[1] = whole ? c.ino + 1 : c.ino;
    return whole;
  }));
  VX_TRY(std::move(st));
  if (whole) v.position[0] = 1, v.position[1] = 1;
  return {};
}

Status Call::diff_collections(const store::Volume &from, const store::Volume &to, vexfs_snapshot_diff &v) {
  Status st;
  bool whole = true;
  store::TreeDiff trees(from.tree(store::TreeId::collections), to.tree(store::TreeId::collections));
  u64 seen = 0;
  VX_TRY(trees.each({max_of<u64>(v.position[1], 1), 0, 0}, [&](const store::Key &k, const Bytes *, const Bytes *) {
    bool counts = k.type == static_cast<u8>(VectorItem::state) || k.type == static_cast<u8>(VectorItem::config);
    if (!counts || k.oid == seen || k.oid > ~u32{0}) return true;
    seen = k.oid;
    vexfs_change out;
    Result<bool> any = ioctl_diff_impl::describe(from, to, static_cast<u32>(k.oid), &out);
    if (!any.ok()) {
      st = any.error();
      return false;
    }
    whole = !*any || give_change(v, out, &st);
    v.position[1] = whole ? k.oid + 1 : k.oid;
    return whole;
  }));
  VX_TRY(std::move(st));
  v.done = whole;
  return {};
}

Status Call::snapshot_diff() {
  vexfs_snapshot_diff v;
  VX_TRY(read_arg(&v));
  if (v.flags || v.from == 0 || v.capacity == 0 || !all_zero(v.reserved, 4)) return Errno::inval;
  if (v.entry_size < 64 || v.entry_size > 4096 || v.position[0] > 1) return Errno::inval;
  store::Volume &volume = engine_.volume();
  store::OpenOptions o{.read_only = true};
  v.count = v.done = 0;
  Box<store::Volume> from = VX_TRY(volume.open_snapshot(v.from, o));
  Box<store::Volume> other;
  if (v.to) other = VX_TRY(volume.open_snapshot(v.to, o));
  const store::Volume &to = other ? *other : volume;
  if (v.position[0] == 0) VX_TRY(diff_files(*from, to, v));
  if (v.position[0] == 1 && v.count < v.capacity) VX_TRY(diff_collections(*from, to, v));
  return write_arg(v);
}

}  // namespace vexfs::vector
