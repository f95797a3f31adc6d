// SPDX-License-Identifier: GPL-2.0-only OR MIT
// BATCH_OPERATIONS: many rows in one call, taken in pieces so that memory and transactions stay small whatever is
// asked.
#include <bit>

#include "ioctl.h"

namespace vexfs::vector {
namespace batch_impl {
namespace {

constexpr u32 piece_rows = 256;
constexpr usize piece_bytes = 128 << 10;  // of elements copied in or out at a time: a ScratchPool keeps as much
constexpr usize encoded_bytes = piece_bytes / 2;
// Buffers grow to powers of two.
static_assert(piece_bytes + encoded_bytes + 4 * piece_rows * sizeof(vexfs_row) <= ScratchPool::keep_max);
static_assert(std::has_single_bit(piece_bytes) && sizeof(NewRow) <= 2 * sizeof(vexfs_row));

}  // namespace
}  // namespace batch_impl

// A run of rows on its way through. Its memory is that of earlier calls, and holds what they left: nothing goes out to the
// caller that was not written before.
struct Call::Piece : Pinned {
  explicit Piece(ScratchPool &pool) : lease(pool) {}
  const ScratchLease lease;
  vexfs_row *user_rows = nullptr;
  NewRow *rows = nullptr;
  fs::InodeRef *owners = nullptr;
  u8 *source = nullptr;   // rows as the caller has them
  u8 *encoded = nullptr;  // in the collection's element type; null: they are of it
  u32 cap = 0;            // rows that fit
  u32 n = 0;              // rows taken
  u32 first = 0;          // number of the first in the batch
  usize source_bytes = 0, row_bytes = 0;
  bool as_f32 = false;
  Status stop;  // why the row after these cannot be taken
  vexfs_row *user(u32 i) { return user_rows + i; }
  NewRow *row(u32 i) { return rows + i; }
  fs::InodeRef *owner(u32 i) { return owners + i; }
  u8 *data(u32 i) { return source + i * source_bytes; }
  ~Piece() {
    for (u32 i = 0; i < cap && owners; i++) owner(i)->~InodeRef();
  }
  Status make(Collection &c, u32 count, bool from_f32) {
    if (!lease.get()) return Errno::nomem;
    Scratch &scratch = *lease.get();
    as_f32 = from_f32;
    row_bytes = align_up<usize>(c.space().row_bytes(), 16);
    source_bytes = usize{c.space().dim()} * (from_f32 ? 4 : simd::element_bytes(c.space().element()));
    cap = min_of<u32>(min_of(count, batch_impl::piece_rows),
                      static_cast<u32>(max_of<usize>(batch_impl::piece_bytes / source_bytes, 1)));
    if (as_f32) cap = min_of(cap, static_cast<u32>(max_of<usize>(batch_impl::encoded_bytes / row_bytes, 1)));
    cap = min_of(cap, c.table().chunk_rows());
    user_rows = VX_TRY(scratch.array<vexfs_row>(Scratch::call_user_rows, cap));
    rows = VX_TRY(scratch.array<NewRow>(Scratch::call_rows, cap));
    source = VX_TRY(scratch.array<u8>(Scratch::call_raw, cap * source_bytes));
    if (as_f32) encoded = VX_TRY(scratch.array<u8>(Scratch::call_queries, cap * row_bytes));
    owners = VX_TRY(scratch.array<fs::InodeRef>(Scratch::call_owners, cap));
    for (u32 i = 0; i < cap; i++) new (owner(i)) fs::InodeRef;
    return {};
  }
};

// Checks row i of the piece, and finds its owner. An error is the row's own.
Status Call::take_row(Collection &c, const vexfs_batch &b, RowOp op, Piece &p, u32 i) {
  NewRow &r = *p.row(i);
  const vexfs_row &u = *p.user(i);
  if (u.reserved0 || u.offset + u.length < u.offset) return Errno::inval;
  if (op == RowOp::update && u.id == VEXFS_ID_AUTO) return Errno::inval;
  if (b.flags & VEXFS_BATCH_F_ROW_FLAGS) {
    if (u.flags & ~VEXFS_ROW_STALE) return Errno::inval;
    r.stale = u.flags != 0;
  }
  if (p.as_f32) {
    u8 *encoded = p.encoded + i * p.row_bytes;
    VX_TRY(c.space().encode_row(p.data(i), encoded, &r.aux));
    r.data = encoded;
  } else {
    VX_TRY(c.space().check_row(p.data(i), &r.aux));
    r.data = p.data(i);
  }
  r.id = u.id;
  r.tag = u.tag;
  r.offset = u.offset;
  r.length = u.length;
  if (op == RowOp::update) return inherit_owner(c, u.id, &r, p.owner(i));
  u64 ino = u.owner;
  if (b.flags & VEXFS_BATCH_F_OWNER_FD && u.owner_fd != -1) {
    if (u.owner) return Errno::inval;
    vx_u64 found = 0;
    int e = caller_.fd_to_ino(&caller_, u.owner_fd, &found);
    if (e != 0) return static_cast<Errno>(-e);
    ino = found;
  }
  if (op == RowOp::upsert) {
    NewRow old;
    fs::InodeRef its;
    Status s = inherit_owner(c, u.id, &old, &its);
    if (!s.ok() && s.code() != Errno::noent) return s;
    r.keep_tag = s.ok() && (b.flags & VEXFS_BATCH_F_KEEP_TAG);
    r.keep_owner = s.ok() && (b.flags & VEXFS_BATCH_F_KEEP_OWNER);
    if (r.keep_owner) {
      *p.owner(i) = std::move(its);
      r.owner = p.owner(i)->get();
      return {};
    }
  }
  if (i && ino && p.row(i - 1)->owner && p.row(i - 1)->owner->ino() == ino) {
    r.owner = p.row(i - 1)->owner;  // held by an earlier row of the piece
    return {};
  }
  const bool asked = i && !p.row(i - 1)->owner && !p.row(i - 1)->keep_owner;  // whether nobody's rows may be changed
  if (ino || !asked) VX_TRY(may_change(c, ino));
  if (!ino) return {};
  *p.owner(i) = VX_TRY(owner_inode(ino));
  r.owner = p.owner(i)->get();
  return {};
}

// Fills the piece with rows from number p.first on: as many as fit one transaction. p.n may be 0 when p.stop says why.
Status Call::take_piece(Collection &c, const vexfs_batch &b, RowOp op, u64 first_id, Piece &p) {
  u32 want = min_of(p.cap, b.count - p.first);
  p.stop = {};
  p.n = 0;
  if (b.rows) VX_TRY(copy_in(p.user_rows, b.rows + u64{p.first} * sizeof(vexfs_row), want * sizeof(vexfs_row)));
  VX_TRY(copy_in(p.source, b.data + u64{p.first} * p.source_bytes, want * p.source_bytes));
  u32 cost = 0;
  for (u32 i = 0; i < want; i++) {
    p.owner(i)->reset();
    new (p.row(i)) NewRow;
    if (!b.rows) {
      *p.user(i) = {};
      p.user(i)->id = first_id + p.first + i;
    }
    // Ids are assigned for a whole piece at once: none of its other rows may bring an id of its own.
    if (i > 0 && (p.user(i)->id == VEXFS_ID_AUTO) != (p.row(i - 1)->id == VEXFS_ID_AUTO)) break;
    if (op != RowOp::add && p.user(i)->id != VEXFS_ID_AUTO) {  // one row a piece may have the id
      bool twice = false;
      for (u32 j = 0; j < i && !twice; j++) twice = p.row(j)->id == p.user(i)->id;
      if (twice) break;
    }
    p.stop = take_row(c, b, op, p, i);
    if (!p.stop.ok()) break;
    cost += Collection::cost(op, *p.row(i), i ? p.row(i - 1) : nullptr);
    if (cost > Collection::op_cost_max && i > 0) break;
    p.n = i + 1;
  }
  return {};
}

// Tells the caller ids and owners of the rows that went in.
Status Call::give_piece(const vexfs_batch &b, Piece &p) {
  if (!b.rows) return {};
  for (u32 i = 0; i < p.n; i++) {
    vexfs_row *u = p.user(i);
    u->id = p.row(i)->id;
    u->flags = 0;
    if (fs::Inode *o = p.row(i)->owner) {
      u->owner = o->ino();
      u->generation = o->generation();
      u->owner_version = o->version() - p.row(i)->stale;
    }
  }
  return copy_out(b.rows + u64{p.first} * sizeof(vexfs_row), p.user_rows, p.n * sizeof(vexfs_row));
}

Status Call::batch_write(Collection &c, vexfs_batch &b, RowOp op) {
  Piece p(engine_.scratches());
  bool as_f32 = false;
  VX_TRY(check_source(c, b.dim, b.element, &as_f32));
  VX_TRY(p.make(c, b.count, as_f32));
  if (!b.rows) {
    VX_TRY(may_change(c, 0));
    b.first_id = VX_TRY(c.reserve_ids(b.count));
  }
  while (b.done < b.count) {
    if (interrupted(this)) return Errno::intr;
    p.first = b.done;
    VX_TRY(take_piece(c, b, op, b.first_id, p));
    if (p.n == 0) return p.stop.ok() ? Status(Errno::inval) : p.stop;
    u32 done = 0;
    Status s = c.apply(op, p.row(0), p.n, &done);
    bool all = done == p.n;
    p.n = done;
    b.done += done;
    if (done) engine_.rows_added(c, done, interrupted, this);
    VX_TRY(give_piece(b, p));
    VX_TRY(s);
    if (all && !p.stop.ok()) return p.stop;
    if (done == 0) return Errno::nospc;
  }
  return {};
}

Status Call::batch_delete(Collection &c, vexfs_batch &b) {
  CallBuffer rows;
  constexpr u32 step = Collection::remove_max;
  VX_TRY(rows.make(step * sizeof(vexfs_row)));
  while (b.done < b.count) {
    if (interrupted(this)) return Errno::intr;
    u32 n = min_of(step, b.count - b.done);
    VX_TRY(copy_in(rows.bytes(), b.rows + u64{b.done} * sizeof(vexfs_row), n * sizeof(vexfs_row)));
    u64 ids[step];
    Status stop;
    u32 may_go = 0;
    for (; may_go < n && stop.ok(); may_go++) {
      ids[may_go] = rows.as<vexfs_row>()[may_go].id;
      NewRow old;
      fs::InodeRef unused;
      stop = inherit_owner(c, ids[may_go], &old, &unused);
      if (stop.code() == Errno::corrupt) stop = may_change(c, 0);
      if (!stop.ok()) break;
    }
    u32 done = 0;
    Status s = may_go ? c.remove(ids, may_go, &done) : Status();
    b.done += done;
    VX_TRY(s);
    VX_TRY(stop);
  }
  return {};
}

Status Call::batch_get(Collection &c, vexfs_batch &b) {
  Piece p(engine_.scratches());
  bool as_f32 = false;
  VX_TRY(check_source(c, b.dim, b.element, &as_f32));
  VX_TRY(p.make(c, b.count, as_f32));
  while (b.done < b.count) {
    if (interrupted(this)) return Errno::intr;
    u32 n = min_of(p.cap, b.count - b.done);
    VX_TRY(copy_in(p.user_rows, b.rows + u64{b.done} * sizeof(vexfs_row), n * sizeof(vexfs_row)));
    Status stop;
    u32 got = 0;
    for (; got < n; got++) {
      Result<u32> slot = c.locate(p.user(got)->id);
      stop = slot.ok() ? fill_row(c, *slot, p.user(got), p.data(got), as_f32) : Status(slot.error());
      if (stop.ok() && p.user(got)->owner) stop = may(p.user(got)->owner, 4);
      if (!stop.ok()) break;
    }
    VX_TRY(copy_out(b.rows + u64{b.done} * sizeof(vexfs_row), p.user_rows, got * sizeof(vexfs_row)));
    if (b.data) VX_TRY(copy_out(b.data + u64{b.done} * p.source_bytes, p.source, got * p.source_bytes));
    b.done += got;
    VX_TRY(stop);
  }
  return {};
}

Status Call::batch() {
  vexfs_batch b;
  VX_TRY(read_arg(&b));
  constexpr u32 keeping = VEXFS_BATCH_F_KEEP_OWNER | VEXFS_BATCH_F_KEEP_TAG;
  constexpr u32 known = VEXFS_BATCH_F_DURABLE | VEXFS_BATCH_F_OWNER_FD | VEXFS_BATCH_F_ROW_FLAGS | keeping;
  if ((b.flags & ~known) || !all_zero(b.reserved, 4)) return Errno::inval;
  if ((b.flags & VEXFS_BATCH_F_ROW_FLAGS) && (!b.rows || (b.op != VEXFS_BATCH_ADD && b.op != VEXFS_BATCH_UPSERT)))
    return Errno::inval;
  if ((b.flags & keeping) && b.op != VEXFS_BATCH_UPSERT) return Errno::inval;
  if (b.count == 0 || b.count > VEXFS_BATCH_MAX || b.op < VEXFS_BATCH_ADD || b.op > VEXFS_BATCH_GET)
    return Errno::inval;
  if (!b.rows && b.op != VEXFS_BATCH_ADD) return Errno::inval;
  CollectionRef c = VX_TRY(target(b.collection, false));
  b.done = 0;
  b.first_id = 0;
  Status s;
  switch (b.op) {
    case VEXFS_BATCH_ADD:
      s = batch_write(*c, b, RowOp::add);
      break;
    case VEXFS_BATCH_UPDATE:
      s = batch_write(*c, b, RowOp::update);
      break;
    case VEXFS_BATCH_UPSERT:
      s = batch_write(*c, b, RowOp::upsert);
      break;
    case VEXFS_BATCH_DELETE:
      s = batch_delete(*c, b);
      break;
    default:
      s = batch_get(*c, b);
      break;
  }
  if (b.done && b.op != VEXFS_BATCH_GET) {
    Status d = durable(b.flags & VEXFS_BATCH_F_DURABLE);
    if (s.ok()) s = d;
  }
  // `done` tells also after an error how far it went.
  Status w = write_arg(b);
  return s.ok() ? w : s;
}

}  // namespace vexfs::vector
