// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Volume: the public face of the store.
#include "volume.h"

#include "state.h"
#include "super_io.h"

namespace vexfs::store {

// ------------------------------------------------------------- transactions
Tree &Volume::tree(TreeId id) { return s_->trees[static_cast<u8>(id)]; }
const Tree &Volume::tree(TreeId id) const { return s_->trees[static_cast<u8>(id)]; }
Result<Handle> Volume::begin(const Reserve &r) { return s_->begin(r); }
Status Volume::commit() { return s_->commit(true); }
Status Volume::sync(bool with_prepare) { return s_->sync(with_prepare); }
void Volume::data_written() { s_->log.data_written(); }
u64 Volume::open_txn() const { return s_->open_txn.load(std::memory_order_acquire); }
u64 Volume::durable_txn() const { return s_->durable_txn.load(std::memory_order_acquire); }
u64 Volume::next_object_id() const { return s_->next_object_id.load(std::memory_order_relaxed); }

u64 Volume::take_object_id() {
  Guard g(s_->lock);
  s_->changed = true;
  return s_->next_object_id.fetch_add(1, std::memory_order_relaxed);
}

void Volume::get_blob(TreeId owner, u8 (&out)[kUserBlobBytes]) const {
  Guard g(s_->lock);
  memcpy(out, s_->blobs[static_cast<u8>(owner)], sizeof out);
}

void Volume::set_blob(Handle &h, TreeId owner, const u8 (&in)[kUserBlobBytes]) {
  VX_ASSERT(h.active());
  s_->set_blob(owner, in);
}

void Volume::add_participant(Participant &p) {
  Guard g(s_->participants_lock);
  for (Participant *&slot : s_->participants) {
    if (!slot) {
      slot = &p;
      return;
    }
  }
  VX_ASSERT(!"too many commit participants");
}

void Volume::remove_participant(Participant &p) {
  for (u32 i = 0; i < State::kMaxParticipants; i++) {
    {
      Guard g(s_->participants_lock);
      if (s_->participants[i] != &p) continue;
      s_->participants[i] = nullptr;
    }
    s_->participants_idle.wait([&] { return s_->participant_users[i].load(std::memory_order_acquire) == 0; });
    return;
  }
}

// -------------------------------------------------------------------- space
SpaceInfo Volume::space() const {
  const State &s = s_->view_of ? *s_->view_of : *s_;
  SpaceInfo i;
  u64 stocked, surplus;
  {
    Guard g(s_->lock);
    stocked = s.stock.count;
    u32 held = s.stock.reserved + s.stock.target;
    surplus = s.stock.count > held ? s.stock.count - held : 0;
  }
  u64 nb = s.geo.place_blocks();
  i.total = s.geo.total_blocks;
  i.free = s.alloc.free_blocks() + stocked * nb;
  i.avail = s.alloc.avail() + surplus * nb;
  i.reserved = s.alloc.promised();
  i.pinned = s.alloc.pinned.load(std::memory_order_relaxed);
  u64 fixed = 2 * s.geo.groups + s.geo.head_blocks() + s.geo.tail_blocks() + s.geo.log_blocks;
  for (u64 g = 1; g < s.geo.groups; g *= 3) fixed += s.geo.super_blocks();
  i.meta = fixed + max_of<s64>(0, static_cast<s64>(s.alloc.node_blocks.load(std::memory_order_relaxed)));
  return i;
}

Status Volume::reserve_blocks(u64 n) {
  State &s = *s_;
  for (u32 forced = 0;; forced++) {
    if (s.read_only.load(std::memory_order_relaxed)) return Errno::rofs;
    if (s.stock_whole() && (s.alloc.promise(n) || (s.drain_slots() && s.alloc.promise(n)))) return {};
    if (forced == 2 || s.alloc.pinned.load(std::memory_order_relaxed) == 0) {
      s.counters.nospc.fetch_add(1, std::memory_order_relaxed);
      return Errno::nospc;
    }
    s.counters.commits_forced.fetch_add(1, std::memory_order_relaxed);
    VX_TRY(s.commit(false));
  }
}

void Volume::unreserve_blocks(u64 n) { s_->alloc.unpromise(n); }

Result<Extent> Volume::alloc(u64 goal, u64 min, u64 max, bool from_reservation) {
  if (min == 0 || min > max) return Errno::inval;
  if (!from_reservation && !s_->stock_whole()) return Errno::nospc;
  Result<Extent> r = s_->alloc.take(goal, min, max, from_reservation);
  if (!r.ok() && r.code() == Errno::nospc && s_->drain_slots()) return s_->alloc.take(goal, min, max, from_reservation);
  return r;
}

Result<Extent> Volume::alloc(Handle &h, u64 goal, u64 min, u64 max) {
  max = min_of(max, h.data_blocks_);
  if (min == 0 || min > max) return Errno::inval;
  Extent e = VX_TRY(s_->alloc.take(goal, min, max, true));
  h.data_blocks_ -= e.count;
  return e;
}

void Volume::publish(Handle &h, Extent e) {
  VX_ASSERT(h.active() && s_->geo.is_data(e.start, e.count));
  s_->add_delta(e, false);
  s_->log.extent(e, false, 0);
}

void Volume::cancel(Extent e) { s_->alloc.give_back(e, false); }
void Volume::cancel_to_reservation(Extent e) { s_->alloc.give_back(e, true); }

void Volume::free(Handle &h, Extent e, u64 birth) {
  VX_ASSERT(h.active());
  s_->free_blocks(e, birth);
}

// ----------------------------------------------------- geometry and identity
const disk::Geometry &Volume::geometry() const { return s_->geo; }
vx_bdev *Volume::device() const { return s_->dev; }
u32 Volume::block_size() const { return s_->geo.block_size; }
u32 Volume::block_shift() const { return s_->geo.block_shift; }
u32 Volume::node_size() const { return s_->geo.node_size; }
usize Volume::max_item() const { return s_->geo.max_item(); }
u64 Volume::total_blocks() const { return s_->geo.total_blocks; }
u64 Volume::group_count() const { return s_->geo.groups; }
u32 Volume::group_blocks() const { return s_->geo.group_blocks; }
const u8 (&Volume::uuid() const)[16] { return s_->uuid; }
const char *Volume::label() const { return s_->label; }
const SipKey &Volume::hash_key() const { return s_->hash_key; }
u64 Volume::feature_compat() const { return s_->super->compat; }
u64 Volume::feature_ro_compat() const { return s_->super->ro_compat; }
u64 Volume::feature_incompat() const { return s_->super->incompat; }
u32 Volume::version_major() const { return s_->super->version_major; }
u32 Volume::version_minor() const { return s_->super->version_minor; }
s64 Volume::created_sec() const { return static_cast<s64>(s_->super->created_sec.get()); }

// -------------------------------------------------------------------- state
bool Volume::read_only() const { return s_->read_only.load(std::memory_order_relaxed); }
bool Volume::aborted() const { return s_->abort_code.load(std::memory_order_relaxed) != 0; }
void Volume::abort(Error why) { s_->abort(why); }
void Volume::found_damage(Error why) { s_->damage(why); }

Status Volume::set_read_only(bool ro) {
  State &s = *s_;
  if (ro == s.read_only.load()) return {};
  if (ro) {
    VX_TRY(s.commit(true));
    s.read_only.store(true);
    // Handles that had passed the gate before: let them end, then make them durable too.
    Guard g(s.commit_lock);
    return s.commit_locked();
  }
  if (s.newer_is_lost) {
    log(VX_LOG_ERR).str("a later state is lost: stays read-only (fsck.vexfs -y accepts what is left)");
    return Errno::rofs;
  }
  if (s.abort_code.load() || s.ro_features || s.log_ignored || vx_bdev_read_only(s.dev)) return Errno::rofs;
  if (rollback_requested()) {
    log(VX_LOG_ERR).str("a rollback waits for the next mount for writing: unmount, and mount again");
    return Errno::busy;
  }
  s.opts.read_only = false;
  s.read_only.store(false);
  if (s.stock.target == 0) {
    Status st = s.start();
    if (!st.ok()) {
      s.read_only.store(true);
      return st;
    }
  }
  return {};
}

// ----------------------------------------------------------------- data I/O
Status Volume::read_blocks(u64 block, MutBytes out) const {
  const disk::Geometry &g = s_->geo;
  u64 n = out.size() >> g.block_shift;
  if (out.size() % g.block_size || block > g.total_blocks || n > g.total_blocks - block) return Errno::inval;
  if (n == 0) return {};
  return s_->read_bytes(block << g.block_shift, out, false);
}

Status Volume::read_scattered(vx_io *ios, usize n) const {
  const disk::Geometry &g = s_->geo;
  const u64 bytes = g.total_blocks << g.block_shift;
  for (usize i = 0; i < n; i++)
    if (ios[i].off % g.block_size || ios[i].len % g.block_size || ios[i].off > bytes || ios[i].len > bytes - ios[i].off)
      return Errno::inval;
  const int err = n ? vx_bdev_submit(s_->dev, ios, n) : 0;
  return err ? Status(static_cast<Errno>(-err)) : Status();
}

Status Volume::write_blocks(u64 block, Bytes in) {
  const disk::Geometry &g = s_->geo;
  u64 n = in.size() >> g.block_shift;
  if (in.size() % g.block_size || block > g.total_blocks || n > g.total_blocks - block) return Errno::inval;
  if (n == 0) return {};
  if (s_->abort_code.load() || s_->opts.read_only) return Errno::rofs;
  return device_write(s_->dev, block << g.block_shift, in, 0);
}

// ------------------------------------------------------------------- memory
usize Volume::cache_count() const {
  usize all = s_->cache.hashed_count(), dirty = s_->dirty_count.load(std::memory_order_relaxed);
  return all > dirty ? all - dirty : 0;
}
usize Volume::cache_shrink(usize want) { return s_->cache.shrink(want); }
Counters &Volume::counters() const { return s_->counters; }

}  // namespace vexfs::store
