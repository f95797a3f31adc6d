// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Appending and killing rows inside one handle.
#include "writer.h"

#include "../base/crc.h"

namespace vexfs::vector {

Status Writer::fail(Error e) {
  if (changed_) {
    h_.abort(e);
    c_.groups_.drop();
  }
  return e;
}

// The slot of a row that is alive in this transaction's eyes.
Result<u32> Writer::live_slot(u64 id) {
  u32 slot = VX_TRY(c_.ids_.find(id));
  for (u32 i = 0; i < nkilled_; i++)
    if (killed_[i] == slot) return Errno::noent;
  if (slot < c_.table_.slots() && !c_.table_.exists(slot)) return Errno::noent;
  return slot;
}

// ---------------------------------------------------------------------------------------------------------------- add
// Gives ids to rows that want one: the next vacant stretch that holds all of them.
Status Writer::assign_auto(NewRow *rows, u32 n) {
  u32 wanted = 0;
  for (u32 i = 0; i < n; i++) wanted += rows[i].id == id_auto;
  if (!wanted) return {};
  u64 first = VX_TRY(c_.vacant_stretch(wanted));
  for (u32 i = 0; i < n; i++)
    if (rows[i].id == id_auto) rows[i].id = first++;
  c_.state_.next_id = first;
  return {};
}

Status Writer::check_owners(NewRow *rows, u32 n) {
  for (u32 i = 0; i < n; i++)
    if (rows[i].owner && !rows[i].owner->has_names()) return Errno::noent;
  return {};
}

// Everything that can be refused is refused here, before anything is changed: rows [0, *upto) will go through.
Status Writer::find_old(RowOp op, NewRow *rows, u32 n, u32 *upto) {
  *upto = n;
  if (op == RowOp::add) return {};
  for (u32 i = 0; i < n; i++) {
    Result<u32> slot = live_slot(rows[i].id);
    Status s;
    if (slot.ok())
      s = c_.table_.prepare_dead(*slot);
    else if (slot.code() != Errno::noent || op == RowOp::update)
      s = slot.error();
    if (s.ok()) continue;
    *upto = i;
    return s;
  }
  return {};
}

// Maps ids of as many rows as possible at once (at least one). exist: the first row's id is taken.
Status Writer::map_rows(RowOp op, NewRow *rows, u32 n, u32 slot, u32 *mapped) {
  IdMap &ids = c_.ids_;
  *mapped = 1;
  u32 run = 1;
  while (run < n && rows[run].id == rows[0].id + run) run++;
  if (op == RowOp::add) {
    bool vacant = VX_TRY(insist([&] { return ids.vacant(rows[0].id, run); }));
    if (vacant) {
      changed_ = true;
      *mapped = run;
      return insist([&] { return ids.set_run(h_, rows[0].id, slot, run); });
    }
  }
  Result<u32> old = insist([&] { return live_slot(rows[0].id); });
  if (!old.ok() && old.code() != Errno::noent) return old.error();
  if (old.ok()) {
    if (op == RowOp::add) return Errno::exist;
    changed_ = true;
    VX_TRY(kill(*old, true, &old_));
    if (rows[0].keep_tag) rows[0].tag = old_.tag;
  } else {
    old_ = {};
    rows[0].keep_owner = false;  // deleted since: the owner that was asked for then has the new row
  }
  changed_ = true;
  return insist([&] { return ids.set(h_, rows[0].id, slot); });
}

Status Writer::append_row(NewRow &r, u32 slot) {
  disk::RowRecord rec;
  rec.id = r.id;
  rec.tag = r.tag;
  rec.offset = r.offset;
  rec.length = r.length;
  if (r.keep_owner) {
    // The caller looked the owner up before; if that was overtaken by another update, the vector keeps its old version.
    rec.owner = old_.owner;
    rec.offset = old_.offset;
    rec.length = old_.length;
    rec.owner_version = old_.owner_version;
  }
  if (r.owner && (!r.keep_owner || rec.owner == r.owner->ino())) {
    VX_TRY(insist([&] { return r.owner->change_flags(h_, VX_INODE_HAS_VECTORS, 0); }));
    VX_TRY(insist([&] { return r.owner->flush(h_); }));
    rec.owner = r.owner->ino();
    rec.owner_version = r.owner->version() - r.stale;
  }
  rec.birth = h_.txn();
  rec.aux = r.aux;
  rec.crc = crc32c_of({static_cast<const u8 *>(r.data), c_.space().row_bytes()});
  c_.table_.put(slot, r.data, r.aux, {rec.id, rec.owner, rec.offset, rec.length, rec.owner_version, rec.tag});
  if (rec.owner) {
    VX_TRY(insist([&] { return c_.refs_.add(h_, rec.owner, c_.cid_, slot, 1); }));
    c_.state_.owned = c_.state_.owned + 1;
  }
  return insist([&] { return c_.groups_.append(h_, slot, rec); });
}

Status Writer::store_state() {
  c_.state_.last_txn = h_.txn();
  return c_.tree_.update(h_, item_key(c_.cid_, VectorItem::state), bytes_of(c_.state_));
}

// The rows become visible; then those they replace disappear. A search that began between the two sees both, and
// keeps the newer: it knows by updates(), which is odd in between.
Status Writer::finish(u32 first, u32 n) {
  VX_TRY(c_.groups_.flush(h_));
  c_.state_.slots = first + n;
  c_.state_.live = c_.state_.live + n;
  VX_TRY(store_state());
  if (c_.state_.owned) c_.owned_.store(c_.state_.owned, std::memory_order_release);
  if (n && nkilled_) c_.updates_.fetch_add(1, std::memory_order_acq_rel);
  if (n) c_.table_.publish(first, n);
  for (u32 i = 0; i < nkilled_; i++) c_.table_.set_dead(killed_[i]);
  if (n && nkilled_) c_.updates_.fetch_add(1, std::memory_order_acq_rel);
  return {};
}

Status Writer::add(RowOp op, NewRow *rows, u32 n, u64 blocks, bool ahead, u32 *done) {
  *done = 0;
  if (c_.dropped()) return Errno::noent;
  VX_TRY(check_owners(rows, n));
  u32 upto = n;
  Status why = find_old(op, rows, n, &upto);
  n = upto;
  if (n == 0) return why;
  Result<u32> fit = c_.table_.make_room(h_, n, blocks, ahead);
  if (!fit.ok()) return fit.error();
  if (*fit < n) why = Status();  // the rest is asked for again
  n = min_of(n, *fit);
  VX_TRY(assign_auto(rows, n));
  u32 first = c_.table_.slots(), i = 0;
  while (i < n) {
    u32 mapped = 0;
    Status s = map_rows(op, rows + i, n - i, first + i, &mapped);
    if (s.code() == Errno::exist) {
      why = s;
      break;
    }
    if (!s.ok()) return fail(s.error());
    for (u32 k = 0; k < mapped; k++) {
      s = append_row(rows[i + k], first + i + k);
      if (!s.ok()) return fail(s.error());
      c_.free_until_ = rows[i + k].id >= c_.state_.next_id ? min_of(c_.free_until_, rows[i + k].id) : c_.free_until_;
    }
    i += mapped;
  }
  if (i == 0) return why;
  Status s = finish(first, i);
  if (!s.ok()) return fail(s.error());
  *done = i;
  return why;
}

// --------------------------------------------------------------------------------------------------------------- kill
Status Writer::mark_bitmap(u32 slot) {
  u32 in_chunk = slot & (c_.table_.chunk_rows() - 1);
  store::Key key = item_key(c_.cid_, VectorItem::dead, slot >> c_.table_.shift());
  u32 bytes = c_.table_.chunk_rows() / 8;
  Status s = insist([&] {
    return c_.tree_.modify(h_, key, [&](MutBytes item) -> Status {
      if (item.size() != bytes) return Errno::corrupt;
      item[in_chunk / 8] = static_cast<u8>(item[in_chunk / 8] | 1u << (in_chunk % 8));
      return {};
    });
  });
  if (s.code() == Errno::corrupt) return damaged(c_.volume_, c_.cid_, "dead", key.off, "length");
  if (s.code() != Errno::noent) return s;
  auto *fresh = static_cast<u8 *>(nullptr);
  Status got = insist([&] {
    fresh = static_cast<u8 *>(vx_alloc(bytes, VX_ALLOC_ZERO));
    return fresh ? Status() : Status(Errno::nomem);
  });
  if (!got.ok()) return got;
  fresh[in_chunk / 8] = static_cast<u8>(1u << (in_chunk % 8));
  s = c_.tree_.insert(h_, key, {fresh, bytes});
  vx_free(fresh);
  return s;
}

Status Writer::kill(u32 slot, bool with_ref, disk::RowRecord *old) {
  VX_ASSERT(slot < c_.table_.slots() && nkilled_ < Collection::op_cost_max);
  changed_ = true;
  disk::RowRecord *r = VX_TRY(insist([&] { return c_.groups_.at(h_, slot); }));
  if (r->death != 0) return damaged(c_.volume_, c_.cid_, "rows", slot, "death");
  r->death = h_.txn();
  *old = *r;
  c_.groups_.touch();
  VX_TRY(mark_bitmap(slot));
  VX_TRY(insist([&] { return c_.ids_.drop(h_, old->id, slot); }));
  if (with_ref && old->owner) {
    Status s = insist([&] { return c_.refs_.remove(h_, old->owner, c_.cid_, slot, 1); });
    if (!s.ok() && s.code() != Errno::noent) return s;
  }
  if (c_.state_.live) c_.state_.live = c_.state_.live - 1;
  killed_[nkilled_++] = slot;
  return {};
}

Status Writer::remove(const u64 *ids, u32 n, u32 *done) {
  *done = 0;
  if (c_.dropped()) return Errno::noent;
  u32 slots[Collection::remove_max];
  u32 found = 0;
  Status why;
  for (; found < n && why.ok(); found++) {
    Result<u32> slot = live_slot(ids[found]);
    why = slot.ok() ? c_.table_.prepare_dead(*slot) : Status(slot.error());
    for (u32 i = 0; i < found && why.ok(); i++)
      if (slots[i] == *slot) why = Errno::noent;
    if (!why.ok()) break;
    slots[found] = *slot;
  }
  if (found == 0) return why;
  for (u32 i = 0; i < found; i++) {
    Status s = kill(slots[i], true, &old_);
    if (!s.ok()) return fail(s.error());
  }
  Status s = finish(c_.table_.slots(), 0);
  if (!s.ok()) return fail(s.error());
  *done = found;
  return why;
}

Status Writer::kill_owned(u64 ino, u32 slot, u32 count) {
  for (u32 s = slot; s < slot + count; s++)
    if (s < c_.table_.slots()) VX_TRY(c_.table_.prepare_dead(s));
  for (u32 s = slot; s < slot + count && s < c_.table_.slots(); s++) {
    Result<disk::RowRecord *> r = insist([&] { return c_.groups_.at(h_, s); });
    if (!r.ok()) return fail(r.error());
    if ((*r)->owner != ino || (*r)->death != 0) continue;
    Status k = kill(s, false, &old_);
    if (!k.ok()) return fail(k.error());
  }
  changed_ = true;
  Status s = insist([&] { return c_.refs_.remove(h_, ino, c_.cid_, slot, count); });
  if (s.ok() || s.code() == Errno::noent) s = finish(c_.table_.slots(), 0);
  return s.ok() ? s : fail(s.error());
}

}  // namespace vexfs::vector
