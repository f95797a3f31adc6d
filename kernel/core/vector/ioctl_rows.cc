// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Commands on single vectors: add, get, update, delete; and what batches share with them.
#include "ioctl.h"

namespace vexfs::vector {

// The caller's elements: f32 (converted), or the collection's own.
Status Call::check_source(Collection &c, u32 dim, u16 element, bool *as_f32) {
  if (dim != c.space().dim()) return Errno::inval;
  auto own = static_cast<u16>(c.space().element());
  if (element != own && element != VEXFS_F32) return Errno::inval;
  *as_f32 = element != own;
  return {};
}

Status Call::encode(Collection &c, const void *src, bool as_f32, void *row, u32 *aux) {
  if (as_f32) return c.space().encode_row(src, row, aux);
  VX_TRY(c.space().check_row(src, aux));
  memcpy(row, src, c.space().row_bytes());
  return {};
}

// A regular file that still has a name.
Result<fs::InodeRef> Call::owner_inode(u64 ino) {
  Result<fs::InodeRef> r =
      ino == ip_.ino() ? Result<fs::InodeRef>(engine_.filesystem().hold(ip_)) : engine_.filesystem().get(ino);
  if (r.code() == Errno::stale) return Errno::noent;
  if (!r.ok()) return r;
  if (!(*r)->is_file()) return Errno::inval;
  if (!(*r)->has_names()) return Errno::noent;
  return r;
}

Status Call::resolve_owner(const vexfs_embedding &v, u64 *ino) {
  if (v.flags & VEXFS_VEC_OWNER_FD) {
    if (v.flags & VEXFS_VEC_NO_OWNER || v.row.owner) return Errno::inval;
    vx_u64 found = 0;
    int e = caller_.fd_to_ino(&caller_, v.row.owner_fd, &found);
    if (e != 0) return static_cast<Errno>(-e);
    *ino = found;
    return {};
  }
  *ino = v.row.owner;
  if (v.flags & VEXFS_VEC_NO_OWNER) return v.row.owner ? Status(Errno::inval) : Status();
  if (!ip_.is_file()) return {};
  if (v.row.owner && v.row.owner != ip_.ino()) return Errno::inval;
  *ino = ip_.ino();
  return {};
}

// An update that keeps the owner also takes the owner's present content version: the vector was made anew.
Status Call::inherit_owner(Collection &c, u64 id, NewRow *row, fs::InodeRef *ref) {
  u32 slot = VX_TRY(c.locate(id));
  u64 owner = 0;
  {
    View view(c.table());
    owner = VX_TRY(c.table().meta(slot)).owner;
  }
  VX_TRY(may_change(c, owner));
  row->keep_owner = row->keep_tag = true;
  if (!owner) return {};
  Result<fs::InodeRef> r = owner_inode(owner);
  if (!r.ok()) return r.code() == Errno::noent ? Status() : Status(r.error());
  *ref = r.take();
  row->owner = ref->get();
  return {};
}

Status Call::one_row(RowOp op, u32 known_flags) {
  vexfs_embedding v;
  VX_TRY(read_arg(&v));
  if ((v.flags & ~known_flags) || v.reserved0 || v.row.reserved0 || !all_zero(v.reserved, 4)) return Errno::inval;
  if (v.row.offset + v.row.length < v.row.offset) return Errno::inval;
  if (op != RowOp::add && v.row.id == VEXFS_ID_AUTO) return Errno::inval;
  CollectionRef c = VX_TRY(target(v.collection, false));
  bool as_f32 = false;
  VX_TRY(check_source(*c, v.dim, v.element, &as_f32));
  CallBuffer buf;
  usize source = usize{v.dim} * (as_f32 ? 4 : simd::element_bytes(c->space().element()));
  VX_TRY(buf.make(align_up<usize>(source, 64) + c->space().row_bytes()));
  void *row_data = buf.bytes() + align_up<usize>(source, 64);
  VX_TRY(copy_in(buf.bytes(), v.data, source));
  NewRow row;
  row.id = v.row.id;
  VX_TRY(encode(*c, buf.bytes(), as_f32, row_data, &row.aux));
  row.data = row_data;
  fs::InodeRef owner;
  bool keep = op == RowOp::update && !(v.flags & VEXFS_VEC_SET_OWNER);
  if (keep) {
    VX_TRY(inherit_owner(*c, v.row.id, &row, &owner));
  } else {
    u64 ino = 0;
    VX_TRY(resolve_owner(v, &ino));
    VX_TRY(may_change(*c, ino));
    if (op == RowOp::update) {
      NewRow old;
      fs::InodeRef unused;
      VX_TRY(inherit_owner(*c, v.row.id, &old, &unused));  // the right to change the row as it was
    }
    if (ino) owner = VX_TRY(owner_inode(ino));
    row.owner = owner.get();
    row.offset = v.row.offset;
    row.length = v.row.length;
    row.tag = v.row.tag;
  }
  u32 done = 0;
  VX_TRY(c->apply(op, &row, 1, &done));
  if (done != 1) return Errno::nospc;
  engine_.rows_added(*c, 1, interrupted, this);
  VX_TRY(durable(v.flags & VEXFS_VEC_DURABLE));
  v.row.id = row.id;
  // Gone again already, or no memory to look: what was asked for is returned. The row is in.
  Result<u32> slot = c->locate(row.id);
  if (slot.ok()) (void)fill_row(*c, *slot, &v.row, nullptr, false).ok();
  return write_arg(v);
}

Status Call::add() { return one_row(RowOp::add, VEXFS_VEC_NO_OWNER | VEXFS_VEC_DURABLE | VEXFS_VEC_OWNER_FD); }

Status Call::update() {
  return one_row(RowOp::update, VEXFS_VEC_NO_OWNER | VEXFS_VEC_SET_OWNER | VEXFS_VEC_DURABLE | VEXFS_VEC_OWNER_FD);
}

// The row as it is: metadata, and its elements into data (null: not wanted). owner_fd stays as the caller gave it.
Status Call::fill_row(Collection &c, u32 slot, vexfs_row *row, void *data, bool as_f32) {
  u64 owner = 0, version = 0;
  {
    View view(c.table());
    const u8 *bytes = data ? VX_TRY(view.rows().row(slot)) : nullptr;
    const RowMeta m = VX_TRY(c.table().meta(slot));
    if (c.table().is_damaged(slot)) return Errno::corrupt;
    row->id = m.id;
    row->owner = owner = m.owner;
    row->offset = m.offset;
    row->length = m.length;
    row->owner_version = version = m.owner_version;
    row->tag = m.tag;
    if (data && as_f32)
      c.space().decode_row(bytes, data);
    else if (data)
      memcpy(data, bytes, c.space().row_bytes());
  }
  row->flags = 0;
  row->generation = 0;
  row->reserved0 = 0;
  if (slot < c.index().reached()) row->flags |= VEXFS_ROW_INDEXED;
  if (!owner) return {};
  Result<fs::InodeRef> r = engine_.filesystem().get(owner);
  if (r.code() == Errno::noent || r.code() == Errno::stale) return Errno::noent;
  if (!r.ok()) return r.error();
  row->generation = (*r)->generation();
  if ((*r)->version() != version) row->flags |= VEXFS_ROW_STALE;
  return {};
}

Status Call::get() {
  vexfs_embedding v;
  VX_TRY(read_arg(&v));
  if (v.flags || v.reserved0 || v.row.reserved0 || !all_zero(v.reserved, 4)) return Errno::inval;
  CollectionRef c = VX_TRY(target(v.collection, false));
  bool as_f32 = false;
  u32 dim = c->space().dim();
  if (v.data) {
    if (v.dim < dim) return Errno::inval;
    VX_TRY(check_source(*c, dim, v.element, &as_f32));
  }
  u32 slot = VX_TRY(c->locate(v.row.id));
  usize bytes = usize{dim} * (as_f32 ? 4 : simd::element_bytes(c->space().element()));
  CallBuffer buf;
  VX_TRY(buf.make(bytes));
  VX_TRY(fill_row(*c, slot, &v.row, v.data ? buf.bytes() : nullptr, as_f32));
  if (v.row.owner && !may(v.row.owner, 4).ok()) return Errno::acces;
  if (v.data) VX_TRY(copy_out(v.data, buf.bytes(), bytes));
  v.dim = dim;
  v.element = as_f32 ? u16{VEXFS_F32} : static_cast<u16>(c->space().element());
  return write_arg(v);
}

Status Call::remove() {
  vexfs_embedding v;
  VX_TRY(read_arg(&v));
  if ((v.flags & ~VEXFS_VEC_DURABLE) || v.reserved0 || v.row.reserved0 || !all_zero(v.reserved, 4)) return Errno::inval;
  CollectionRef c = VX_TRY(target(v.collection, false));
  NewRow old;
  fs::InodeRef unused;
  Status s = inherit_owner(*c, v.row.id, &old, &unused);
  // A damaged row can be deleted too, by who may write the directory.
  if (s.code() == Errno::corrupt) s = may_change(*c, 0);
  VX_TRY(s);
  u64 id = v.row.id;
  u32 done = 0;
  VX_TRY(c->remove(&id, 1, &done));
  VX_TRY(durable(v.flags & VEXFS_VEC_DURABLE));
  return write_arg(v);
}

}  // namespace vexfs::vector
