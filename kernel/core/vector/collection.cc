// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Collections: opening, and the transactions around changes of rows.
#include "collection.h"

#include "engine.h"
#include "writer.h"

namespace vexfs::vector {

Collection::Collection(Engine &e, u32 cid, const disk::ConfigItem &config, const simd::Space &space)
    : engine_(e),
      volume_(e.volume()),
      tree_(e.volume().tree(store::TreeId::collections)),
      cid_(cid),
      dir_ino_(config.dir_ino),
      table_(e.volume(), e.cache(), cid, space, config),
      ids_(e.volume(), cid),
      filters_(e.filter_memory()),
      refs_(e.volume()),
      index_(table_, config),
      groups_(e.volume(), cid, config.rows_per_group),
      config_(config) {}

Collection::~Collection() { table_.cache().forget(table_, true); }

Status Collection::open() {
  VX_TRY(table_.open());
  VX_TRY(tree_.get(item_key(cid_, VectorItem::state), mut_bytes_of(state_)));
  owned_.store(state_.owned, std::memory_order_relaxed);
  return index_.open();
}

disk::ConfigItem Collection::config() {
  Guard g(config_lock_);
  return config_;
}

Status Collection::store_config(const disk::ConfigItem &c) {
  store::Handle h = VX_TRY(volume_.begin({.items = 1}));
  if (dropped()) return Errno::noent;
  VX_TRY(tree_.update(h, item_key(cid_, VectorItem::config), bytes_of(c)));
  Guard g(config_lock_);
  config_ = c;
  return {};
}

u32 Collection::cost(RowOp op, const NewRow &r, const NewRow *before) {
  u32 n = 0;
  bool follows = before && (r.id == id_auto || r.id == before->id + 1);
  if (!follows) n += 3;
  if (r.owner && (!before || before->owner != r.owner)) n += 3;
  if (op != RowOp::add) n += 6;
  return n;
}

Status Collection::apply(RowOp op, NewRow *rows, u32 n, u32 *done) {
  *done = 0;
  u64 start = vx_clock_mono_ns();
  u32 items = 6 + n / table_.group_rows() + 2;
  bool owners = false;
  for (u32 i = 0; i < n; i++) {
    items += cost(op, rows[i], i ? &rows[i - 1] : nullptr);
    owners = owners || rows[i].owner || rows[i].keep_owner;
  }
  // Growing the table ahead of need is given up when the disk is nearly full, then the batch is.
  bool ahead = true;
  for (u32 tries = 0;; tries++) {
    u64 blocks = table_.blocks_wanted(n, ahead);
    Result<store::Handle> h = volume_.begin({.items = items, .data_blocks = blocks});
    Status s = h.ok() ? Status() : Status(h.error());
    if (s.ok()) {
      OwnersShared owners_guard(engine_, owners);
      Writer w(*this, *h);
      s = w.add(op, rows, n, blocks, ahead, done);
    }
    if (s.code() == Errno::again && tries < 64) continue;
    if (s.code() == Errno::again) s = Errno::nospc;
    if (s.code() == Errno::nospc && *done == 0 && ahead) {
      ahead = false;
      continue;
    }
    if (s.code() == Errno::nospc && *done == 0 && n > 1) {
      n = 1;
      continue;
    }
    u64 ns = vx_clock_mono_ns() - start;
    stats.inserts.fetch_add(*done, std::memory_order_relaxed);
    stats.insert_ns.fetch_add(ns, std::memory_order_relaxed);
    engine_.count_insert(*done, ns);
    return s;
  }
}

Status Collection::remove(const u64 *ids, u32 n, u32 *done) {
  *done = 0;
  VX_ASSERT(n <= remove_max);
  store::Handle h = VX_TRY(volume_.begin({.items = 2 + 5 * n, .freeing = true}));
  Writer w(*this, h);
  Status s = w.remove(ids, n, done);
  stats.deletes.fetch_add(*done, std::memory_order_relaxed);
  engine_.count_delete(*done);
  return s;
}

// The lowest id from next_id on with n vacant ones from there. The writer lock is held.
Result<u64> Collection::vacant_stretch(u32 n) {
  u64 first = max_of<u64>(state_.next_id, 1);
  while (free_until_ <= first || free_until_ - first < n) {
    Result<IdMap::Run> r = ids_.next(first);
    if (!r.ok() && r.code() != Errno::noent) return r.error();
    free_until_ = r.ok() ? r->first : id_auto;
    if (free_until_ > first && free_until_ - first >= n) break;
    if (!r.ok() || r->last() >= id_auto - 1) return Errno::nospc;  // the ids are used up
    first = r->last() + 1;
  }
  return first;
}

Result<u64> Collection::reserve_ids(u32 n) {
  Guard g(writer_);
  u64 first = VX_TRY(vacant_stretch(n));
  state_.next_id = first + n;
  return first;
}

Result<u32> Collection::locate(u64 id) {
  for (u32 tries = 0;; tries++) {
    Result<u32> slot = ids_.find(id);
    if (slot.ok() && *slot < table_.slots() && table_.exists(*slot)) {
      if (table_.hidden(*slot)) return Errno::corrupt;
      return *slot;
    }
    if (!slot.ok() && slot.code() != Errno::noent) return slot.error();
    if (tries == 1) return Errno::noent;
    Guard g(writer_);  // an update may be half way: look again when it is done
  }
}

Status Collection::hide(u32 slot, u32 count) {
  for (u32 s = slot; s < slot + count && s < table_.slots(); s++) {
    VX_TRY(table_.prepare_dead(s));
    table_.set_dead(s);
  }
  return {};
}

Status Collection::kill_owned(u64 ino, u32 slot, u32 count) {
  VX_ASSERT(count <= 32);
  store::Handle h = VX_TRY(volume_.begin({.items = 8 + count, .freeing = true}));
  Writer w(*this, h);
  return w.kill_owned(ino, slot, count);
}

// Whole chunks only, from the front; the last one is still being filled.
Status Collection::vacuum() {
  u32 full = table_.slots() >> table_.shift();
  for (u32 number = 0; number < full; number++) {
    if (!table_.chunk_all_dead(number)) continue;
    u32 begin = number << table_.shift();
    if (index_.holds_any(begin, begin + table_.chunk_rows())) continue;
    store::Handle h = VX_TRY(volume_.begin({.items = 2, .freeing = true}));
    Guard g(writer_);
    VX_TRY(table_.free_chunk(h, number));
  }
  return {};
}

}  // namespace vexfs::vector
