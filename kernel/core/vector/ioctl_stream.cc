// SPDX-License-Identifier: GPL-2.0-only OR MIT
// SNAPSHOT_ROWS, PARENT, FS_INFO: what copying a snapshot to another filesystem needs to know beyond what files tell.
#include "../disk/vector_items_rows.h"
#include "../store/tree_diff.h"
#include "ioctl.h"

namespace vexfs::vector {

// One state's side of a group of rows.
struct RowSide {
  u32 n = 0;      // rows that count
  u64 slots = 0;  // of the collection; 0: this state has none
  disk::RowRecord rows[disk::kGroupRowsMax];
};

struct Call::RowDiff : Pinned {
  RowDiff(const store::Volume *f, store::Volume &t) : from(f), to(t) {}
  const store::Volume *from;  // null: nothing
  store::Volume &to;
  u32 cid = 0, group_rows = 0;
  RowSide a, b;
  Status st;
  u8 item[disk::group_bytes_max(disk::kGroupRowsMax)];

  // The state's counters; slots stays 0 where there is no such collection.
  Status open_side(const store::Volume &v, RowSide &s) {
    s.slots = 0;
    s.n = 0;
    const store::Tree &t = v.tree(store::TreeId::collections);
    disk::ConfigItem config;
    Result<usize> r = t.get(item_key(cid, VectorItem::config), mut_bytes_of(config));
    if (r.code() == Errno::noent) return {};
    if (!r.ok()) return r.error();
    if (*r != sizeof config || config.rows_per_group == 0 || config.rows_per_group > disk::kGroupRowsMax)
      return Errno::corrupt;
    if (config.flags & disk::kConfigDropped) return {};
    group_rows = config.rows_per_group;
    disk::StateItem state;
    if (VX_TRY(t.get(item_key(cid, VectorItem::state), mut_bytes_of(state))) != sizeof state) return Errno::corrupt;
    if (state.slots > disk::kSlotsMax) return Errno::corrupt;
    s.slots = state.slots;
    return {};
  }
  // noent: neither state has the collection.
  Status open(u32 wanted) {
    cid = wanted;
    group_rows = 0;
    if (from) VX_TRY(open_side(*from, a));
    VX_TRY(open_side(to, b));
    return group_rows ? Status() : Status(Errno::noent);
  }
  Status decode(u64 group, const Bytes *bytes, RowSide &s) {
    s.n = 0;
    u64 first = group * group_rows;
    if (!bytes || first >= s.slots) return {};
    u32 n = VX_TRY(disk::decode_rows(*bytes, s.rows));
    s.n = static_cast<u32>(min_of<u64>(min_of(n, group_rows), s.slots - first));
    return {};
  }
  Status load(const store::Volume &v, u64 group, RowSide &s) {
    Result<usize> r =
        v.tree(store::TreeId::collections).get(item_key(cid, VectorItem::rows, group), {item, sizeof item});
    if (r.code() == Errno::noent) {
      s.n = 0;
      return {};
    }
    if (!r.ok()) return r.code() == Errno::range ? Errno::corrupt : r.error();
    Bytes bytes{item, *r};
    return decode(group, &bytes, s);
  }
  static bool live(const RowSide &s, u32 i) { return i < s.n && s.rows[i].death == 0; }
  // Slots are used again after a rollback: the same slot may hold another row.
  bool both(u32 i) const {
    if (!live(a, i) || !live(b, i)) return false;
    const disk::RowRecord &x = a.rows[i], &y = b.rows[i];
    return x.id == y.id && x.birth == y.birth && x.crc == y.crc && x.owner == y.owner &&
           x.owner_version == y.owner_version && x.tag == y.tag && x.offset == y.offset && x.length == y.length;
  }
};

// Of the loaded group, whose first slot is `first`, what is wanted from slot `begin` on. False: it has to end here.
bool Call::give_rows(RowDiff &d, vexfs_snapshot_rows &v, u64 first, u64 begin) {
  bool gone = v.flags & VEXFS_ROWS_GONE;
  const RowSide &side = gone ? d.a : d.b;
  for (u32 i = 0; i < side.n; i++) {
    if (first + i < begin || !RowDiff::live(side, i) || d.both(i)) continue;
    const disk::RowRecord &r = side.rows[i];
    if (v.owner != VEXFS_OWNER_ANY && r.owner != v.owner) continue;
    v.position[1] = first + i;
    if (v.count == v.capacity) return false;
    if (interrupted(this)) d.st = Errno::intr;
    vexfs_snapshot_row out{};
    out.row.id = r.id;
    out.row.owner = r.owner;
    out.row.offset = r.offset;
    out.row.length = r.length;
    out.row.owner_version = r.owner_version;
    out.row.owner_fd = -1;
    out.row.tag = r.tag;
    out.collection = d.cid;
    out.slot = static_cast<u32>(first + i);
    if (d.st.ok()) d.st = copy_out(v.rows + u64{v.count} * v.entry_size, &out, min_of<usize>(v.entry_size, sizeof out));
    if (!d.st.ok()) return false;
    v.count++;
  }
  v.position[1] = max_of(begin, first + d.group_rows);
  return true;
}

Status Call::rows_of_collection(RowDiff &d, vexfs_snapshot_rows &v) {
  if (v.collection > 0xffffffff) return Errno::noent;
  VX_TRY(d.open(static_cast<u32>(v.collection)));
  u64 begin = v.position[1];
  if (begin > disk::kSlotsMax + disk::kGroupRowsMax) return Errno::inval;
  store::Key key = item_key(d.cid, VectorItem::rows, begin / d.group_rows);
  bool whole = true;
  if (d.from) {
    store::TreeDiff trees(d.from->tree(store::TreeId::collections), d.to.tree(store::TreeId::collections));
    VX_TRY(trees.each(key, [&](const store::Key &k, const Bytes *a, const Bytes *b) {
      if (k.oid != d.cid || k.type != static_cast<u8>(VectorItem::rows) || k.off > disk::kSlotsMax) return false;
      d.st = d.decode(k.off, a, d.a);
      if (d.st.ok()) d.st = d.decode(k.off, b, d.b);
      whole = d.st.ok() && give_rows(d, v, k.off * d.group_rows, begin);
      return whole;
    }));
  } else {
    while (whole && d.st.ok()) {
      Result<store::Tree::Found> f =
          d.to.tree(store::TreeId::collections)
              .seek(key, item_key(d.cid, VectorItem::rows, disk::kSlotsMax), {d.item, sizeof d.item});
      if (f.code() == Errno::noent) break;
      if (!f.ok()) return f.code() == Errno::range ? Errno::corrupt : f.error();
      Bytes bytes{d.item, f->len};
      VX_TRY(d.decode(f->key.off, &bytes, d.b));
      whole = give_rows(d, v, f->key.off * d.group_rows, begin);
      key.off = f->key.off + 1;
      if (interrupted(this)) return Errno::intr;
    }
  }
  v.done = whole;
  return std::move(d.st);
}

Status Call::rows_of_owner(RowDiff &d, vexfs_snapshot_rows &v) {
  OwnerRefs refs(d.to);
  if (v.position[0] > 0xffffffff || v.position[1] > disk::kSlotsMax) return Errno::inval;
  if (v.collection > 0xffffffff) return Errno::noent;
  if (v.collection && v.position[0] < v.collection) v.position[0] = v.collection, v.position[1] = 0;
  for (;;) {
    if (interrupted(this)) return Errno::intr;
    Result<OwnerRefs::Run> r = refs.next(v.owner, static_cast<u32>(v.position[0]), static_cast<u32>(v.position[1]));
    if (r.code() == Errno::noent || (r.ok() && v.collection && r->cid != v.collection)) break;
    if (!r.ok()) return r.error();
    u64 end = u64{r->slot} + r->count;
    u64 at = r->cid == v.position[0] ? max_of<u64>(r->slot, v.position[1]) : r->slot;
    v.position[0] = r->cid;
    v.position[1] = at;
    Status s = d.open(r->cid);
    if (!s.ok() && s.code() != Errno::noent) return s;
    for (; s.ok() && at < end; at = v.position[1]) {
      u64 group = at / d.group_rows;
      if (d.from) VX_TRY(d.load(*d.from, group, d.a));
      VX_TRY(d.load(d.to, group, d.b));
      if (!give_rows(d, v, group * d.group_rows, at)) return std::move(d.st);
    }
    v.position[1] = max_of(end, at);  // of a dropped collection: past it
    if (v.position[1] > disk::kSlotsMax) v.position[0]++, v.position[1] = 0;
  }
  v.done = 1;
  return {};
}

Status Call::snapshot_rows() {
  vexfs_snapshot_rows v;
  VX_TRY(read_arg(&v));
  bool gone = v.flags & VEXFS_ROWS_GONE;
  if ((v.flags & ~VEXFS_ROWS_GONE) || v.capacity == 0 || !all_zero(v.reserved, 4)) return Errno::inval;
  if (v.entry_size < 64 || v.entry_size > 4096) return Errno::inval;
  if (gone && (v.from == 0 || v.owner != VEXFS_OWNER_ANY)) return Errno::inval;
  bool one_file = v.owner != 0 && v.owner != VEXFS_OWNER_ANY;
  if (v.collection == 0 && !one_file) return Errno::inval;
  store::Volume &volume = engine_.volume();
  store::OpenOptions o{.read_only = true};
  v.count = v.done = 0;
  Box<store::Volume> from, other;
  if (v.from) from = VX_TRY(volume.open_snapshot(v.from, o));
  if (v.to) other = VX_TRY(volume.open_snapshot(v.to, o));
  Box<RowDiff> d = VX_TRY(Box<RowDiff>::make(from.get(), other ? *other : volume));
  VX_TRY(one_file ? rows_of_owner(*d, v) : rows_of_collection(*d, v));
  return write_arg(v);
}

Status Call::parent() {
  vexfs_parent v;
  VX_TRY(read_arg(&v));
  if (v.flags || !all_zero(v.reserved, 4)) return Errno::inval;
  Result<fs::InodeRef> ip = engine_.filesystem().get(v.ino);
  if (ip.code() == Errno::stale) return Errno::noent;
  if (!ip.ok()) return ip.error();
  if (!(*ip)->has_names() && v.ino != engine_.filesystem().root_ino()) return Errno::noent;
  fs::Attributes a = (*ip)->attributes();
  v.parent = a.parent;
  v.generation = (*ip)->generation();
  v.mode = a.mode;
  return write_arg(v);
}

Status Call::fs_info() {
  vexfs_fs_info v;
  VX_TRY(read_arg(&v));
  if (v.flags || !all_zero(v.reserved, 4)) return Errno::inval;
  store::Volume &volume = engine_.volume();
  memcpy(v.uuid, volume.uuid(), sizeof v.uuid);
  v.root_ino = engine_.filesystem().root_ino();
  v.view = volume.view_id();
  v.block_size = volume.block_size();
  v.abi_version = VEXFS_ABI_VERSION;
  return write_arg(v);
}

}  // namespace vexfs::vector
