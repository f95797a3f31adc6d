// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The vector room: start and stop, finding and opening collections, background work.
#include "engine.h"

namespace vexfs::vector {
namespace engine_impl {
namespace {

constexpr u32 ancestors_max = 4096;
constexpr u64 unmount_ns = 2'000'000'000;  // that an unmount indexes rows that threads have not come to yet
constexpr u64 wait_ms = 5000;              // of a thread for work, at most

Engine &of(store::Participant *p) { return *static_cast<Engine *>(p->ctx); }
Status freeze(store::Participant *p, u64 txn, Vec<vx_io> &ios) {
  (void)txn;
  return of(p).cache().freeze(ios);
}
void done(store::Participant *p, u64 txn, int err) {
  (void)txn;
  of(p).cache().done(err);
}

}  // namespace
}  // namespace engine_impl

void CollectionRef::reset() {
  if (c_) e_->put(std::exchange(c_, nullptr));
}

Engine::Engine(fs::Filesystem &fs, const EngineOptions &o)
    : fs_(fs),
      present_(o.present),
      volume_(fs.volume()),
      tree_(volume_.tree(store::TreeId::collections)),
      refs_(volume_),
      cache_(volume_, o.cache_bytes ? o.cache_bytes : default_cache_bytes),
      nthreads_(o.threads) {}

Result<Box<Engine>> Engine::create(fs::Filesystem &fs, const EngineOptions &o) {
  Box<Engine> e = VX_TRY(Box<Engine>::make(fs, o));
  VX_TRY(e->cache_.init());
  return e;
}

Status Engine::start() {
  participant_.freeze = engine_impl::freeze;
  participant_.done = engine_impl::done;
  participant_.ctx = this;
  volume_.add_participant(participant_);
  fs::Hooks hooks;
  hooks.ctx = this;
  hooks.before_unlink = before_unlink;
  hooks.unlinked = unlinked;
  hooks.deleting = deleting;
  fs_.set_hooks(&hooks);
  started_ = true;
  VX_TRY(threads_.reserve(nthreads_));
  for (u32 i = 0; i < nthreads_; i++) {
    vx_thread *t = nullptr;
    if (int e = vx_thread_start(&t, "vexfs-index", thread_main, this); e != 0) return static_cast<Errno>(-e);
    VX_TRY(threads_.push(t));
  }
  return {};
}

Status Engine::recover() {
  if (volume_.read_only()) return {};
  u64 from = 0;
  for (;;) {
    u8 none[8];
    Result<store::Tree::Found> f = tree_.seek(registry_key(disk::kRegistryTombstone, from),
                                              registry_key(disk::kRegistryTombstone, ~u64{0}), {none, sizeof none});
    if (f.code() == Errno::noent) return {};
    if (!f.ok()) return f.error();
    VX_TRY(purge(static_cast<u32>(f->key.off)));
    from = f->key.off + 1;
  }
}

void Engine::stop() {
  stop_.store(true, std::memory_order_release);
  work_.wake();
  for (vx_thread *t : threads_) vx_thread_join(t);
  threads_.clear();
  save_indexes();
}

void Engine::save_indexes() {
  if (volume_.read_only()) return;
  u64 deadline = vx_clock_mono_ns() + engine_impl::unmount_ns;
  auto late = [](void *at) { return vx_clock_mono_ns() > *static_cast<u64 *>(at); };
  u32 cursor = 0;
  while (CollectionRef c = next_open(cursor)) {
    cursor = c->cid();
    if (c->dropped()) continue;
    // What is not done in time stays in the tail, which the next mount scans as this one did.
    if (c->index().backlog()) (void)c->index().work(~u32{0}, IndexKeeper::Saves::if_free, late, &deadline).ok();
    if (c->index().checkpoint_wanted_at_unmount()) (void)checkpoint(*c).ok();
    c->index().save_recall();
  }
}

Engine::~Engine() {
  if (started_) {
    fs_.set_hooks(nullptr);
    volume_.remove_participant(participant_);
  }
  for (u32 b = 0; b < buckets; b++)
    while (Collection *c = by_cid_[b]) {
      leave_map(*c);
      close(c);
    }
  cache_.reclaim(~usize{0} / 4);
}

// ------------------------------------------------------------------------------------------------------------- opening
Collection *Engine::lookup(u32 cid) {
  for (Collection *c = by_cid_[bucket(cid)]; c; c = c->next_by_cid) {
    if (c->cid() != cid) continue;
    c->users.fetch_add(1, std::memory_order_relaxed);
    return c;
  }
  return nullptr;
}

Collection *Engine::lookup_dir(u64 ino) {
  for (Collection *c = by_dir_[bucket(ino)]; c; c = c->next_by_dir) {
    if (c->dir_ino() != ino || c->dropped()) continue;
    c->users.fetch_add(1, std::memory_order_relaxed);
    return c;
  }
  return nullptr;
}

void Engine::enter_map(Collection &c) {
  map_lock_.lock();
  c.next_by_cid = std::exchange(by_cid_[bucket(c.cid())], &c);
  c.next_by_dir = std::exchange(by_dir_[bucket(c.dir_ino())], &c);
  map_lock_.unlock();
}

void Engine::leave_map(Collection &c) {
  map_lock_.lock();
  for (Collection **p = &by_cid_[bucket(c.cid())]; *p; p = &(*p)->next_by_cid)
    if (*p == &c) {
      *p = c.next_by_cid;
      break;
    }
  for (Collection **p = &by_dir_[bucket(c.dir_ino())]; *p; p = &(*p)->next_by_dir)
    if (*p == &c) {
      *p = c.next_by_dir;
      break;
    }
  map_lock_.unlock();
}

void Engine::put(Collection *c) {
  // The last user of a collection that is being closed wakes whoever waits; the object may be gone right after. (One
  // that is marked in between is found by close()'s time limit.)
  bool closing = c->dropped();
  if (c->users.fetch_sub(1, std::memory_order_acq_rel) == 1 && closing) idle_.wake();
}

void Engine::close(Collection *c) {
  while (!idle_.wait([c] { return c->users.load(std::memory_order_acquire) == 0; }, 20)) {
  }
  c->~Collection();
  vx_free_large(c, sizeof(Collection));
}

Status Engine::read_config(u32 cid, disk::ConfigItem *out) {
  Result<usize> r = tree_.get(item_key(cid, VectorItem::config), mut_bytes_of(*out));
  if (r.code() == Errno::range) return damaged(volume_, cid, "config", 0, "length");
  if (!r.ok()) return r.error();
  if (const char *bad = disk::verify_config({bytes_of(*out).data(), *r}, cid))
    return damaged(volume_, cid, "config", 0, bad);
  return {};
}

Result<Collection *> Engine::load(u32 cid) {
  disk::ConfigItem config;
  VX_TRY(read_config(cid, &config));
  if (config.flags & disk::kConfigDropped) return Errno::noent;
  Result<simd::Space> space = simd::Space::make(static_cast<simd::Element>(config.element),
                                                static_cast<simd::Metric>(config.metric), config.dim);
  if (!space.ok()) return damaged(volume_, cid, "config", 0, "space");
  void *p = vx_alloc_large(sizeof(Collection), 0);
  if (!p) return Errno::nomem;
  auto *c = new (p) Collection(*this, cid, config, *space);
  Status s = c->open();
  if (s.ok()) {
    owners_.lock_shared();
    s = hide_dead_owners(*c);
    if (s.ok()) enter_map(*c);
    owners_.unlock_shared();
  }
  if (s.ok()) return c;
  c->~Collection();
  vx_free_large(p, sizeof(Collection));
  return s.error();
}

Result<CollectionRef> Engine::open(u32 cid) {
  Guard g(open_lock_);
  map_lock_.lock_shared();
  Collection *c = lookup(cid);
  map_lock_.unlock_shared();
  if (!c) {
    c = VX_TRY(load(cid));
    c->users.fetch_add(1, std::memory_order_relaxed);
  }
  return CollectionRef(this, c);
}

Result<CollectionRef> Engine::find(u32 cid) {
  map_lock_.lock_shared();
  Collection *c = lookup(cid);
  map_lock_.unlock_shared();
  if (!c) return open(cid);
  CollectionRef ref(this, c);
  if (c->dropped()) return Errno::noent;
  return ref;
}

Result<CollectionRef> Engine::of_directory(u64 ino) {
  map_lock_.lock_shared();
  Collection *c = lookup_dir(ino);
  map_lock_.unlock_shared();
  if (c) return CollectionRef(this, c);
  disk::DirEntryItem d;
  Result<usize> r = tree_.get(registry_key(disk::kRegistryByDir, ino), mut_bytes_of(d));
  if (r.code() == Errno::range || (r.ok() && (*r != sizeof d || d.cid == 0 || d.cid > 0xffffffff)))
    return damaged(volume_, 0, "by_dir", ino, "cid");
  if (!r.ok()) return r.error();
  return find(static_cast<u32>(d.cid));
}

Result<CollectionRef> Engine::nearest(fs::Inode &ip) {
  fs::InodeRef held;
  fs::Inode *at = &ip;
  for (u32 depth = 0; depth < engine_impl::ancestors_max; depth++) {
    if (at->flags() & VX_INODE_COLLECTION) {
      Result<CollectionRef> c = of_directory(at->ino());
      if (c.ok() || c.code() != Errno::noent) return c;
    }
    u64 parent = at->attributes().parent;
    if (parent == at->ino() || parent == 0) break;
    held = VX_TRY(fs_.get(parent));
    at = held.get();
  }
  return Errno::noent;
}

Result<u32> Engine::next(u64 after, disk::ConfigItem *config, disk::StateItem *state) {
  u64 from = after + 1;
  while (from != 0 && from <= 0xffffffff) {
    disk::ConfigItem item;
    Result<store::Tree::Found> f = tree_.seek({from, 0, 0}, store::Key::max(), mut_bytes_of(item));
    if (f.code() == Errno::range) return damaged(volume_, from, "config", 0, "order");
    if (!f.ok()) return f.error();
    auto cid = static_cast<u32>(f->key.oid);
    from = f->key.oid + 1;
    if (f->key.oid > 0xffffffff || f->key.type != static_cast<u8>(VectorItem::config)) continue;  // what a drop left
    VX_TRY(read_config(cid, config));
    if (config->flags & disk::kConfigDropped) continue;
    Result<usize> r = tree_.get(item_key(cid, VectorItem::state), mut_bytes_of(*state));
    if (!r.ok()) return r.error();
    return cid;
  }
  return Errno::noent;
}

// The rows of files that lost their last name, but are still being marked dead one by one.
Status Engine::hide_dead_owners(Collection &c) {
  u64 from = 0;
  for (;;) {
    u8 none[8];
    Result<store::Tree::Found> f = tree_.seek(registry_key(disk::kRegistryDeadOwner, from),
                                              registry_key(disk::kRegistryDeadOwner, ~u64{0}), {none, sizeof none});
    if (f.code() == Errno::noent) return {};
    if (!f.ok()) return f.error();
    u32 slot = 0;
    for (;;) {
      Result<OwnerRefs::Run> r = refs_.next(f->key.off, c.cid(), slot);
      if (r.code() == Errno::noent || (r.ok() && r->cid != c.cid())) break;
      if (!r.ok()) return r.error();
      VX_TRY(c.hide(r->slot, r->count));
      slot = r->slot + r->count;
    }
    if (f->key.off == ~u64{0}) return {};
    from = f->key.off + 1;
  }
}

// ---------------------------------------------------------------------------------------------------------- background
CollectionRef Engine::next_open(u32 after) {
  map_lock_.lock_shared();
  Collection *best = nullptr;
  for (Collection *chain : by_cid_)
    for (Collection *c = chain; c; c = c->next_by_cid)
      if (c->cid() > after && (!best || c->cid() < best->cid())) best = c;
  if (best) best->users.fetch_add(1, std::memory_order_relaxed);
  map_lock_.unlock_shared();
  return CollectionRef(this, best);
}

Status Engine::checkpoint(Collection &c) {
  u64 start = vx_clock_mono_ns();
  Status s = c.index().checkpoint();
  if (s.ok()) {
    stats_.checkpoints.fetch_add(1, std::memory_order_relaxed);
    stats_.checkpoint_ns.fetch_add(vx_clock_mono_ns() - start, std::memory_order_relaxed);
  }
  return s;
}

// One turn over one collection. True: there is more to do. *again: when there will be, if that is known (else 0).
bool Engine::background_round(u32 *cursor, u64 *again) {
  if (*cursor == 0) relax_in_background();
  cache_.relax();
  CollectionRef c = next_open(*cursor);
  if (!c) {
    *cursor = 0;
    return false;
  }
  *cursor = c->cid();
  if (c->dropped()) return true;
  struct Turn {
    Engine *engine;
    Collection *collection;
  } turn{this, &*c};
  // Nothing of this touches the device, so a freeze need not end it; an unmount and a collection's end do.
  auto stopped = [](void *p) {
    auto *t = static_cast<Turn *>(p);
    return t->engine->stop_.load(std::memory_order_relaxed) || t->collection->dropped();
  };
  Result<u32> n = c->index().work(256, IndexKeeper::Saves::no, stopped, &turn);
  if (n.ok()) stats_.indexed.fetch_add(*n, std::memory_order_relaxed);
  if (n.ok() && *n == 256) *cursor = c->cid() - 1;
  (void)c->index()
      .renew(true, stopped, &turn)
      .ok();  // what fails is tried again later, or when the collection has grown
  if (const u64 at = c->index().renew_again_ns()) *again = *again ? min_of(*again, at) : at;
  if (c->index().measure_recall(false, stopped, &turn)) *again = vx_clock_mono_ns();  // others come in between
  trim(*c);
  SharedGuard g(quiet_lock_);
  if (!quiet_) c->index().save_recall();
  // What waits for the checkpoint goes on at once, unless it did not get on the last time either.
  if (!quiet_ && !volume_.read_only() && c->index().checkpoint_due() && checkpoint(*c).ok() && n.ok() && *n &&
      c->index().backlog())
    *cursor = c->cid() - 1;
  return true;
}

void Engine::quiesce(bool on) {
  Guard g(quiet_lock_);
  quiet_ = on;
}

void Engine::thread_main(void *arg) {
  auto *e = static_cast<Engine *>(arg);
  u64 seen = ~u64{0}, again = 0;
  while (!e->stop_.load(std::memory_order_acquire)) {
    u64 now = e->kicks_.load(std::memory_order_acquire);
    if (now == seen) {
      const u64 time = vx_clock_mono_ns();
      const u64 ms = again ? (again > time ? (again - time) / 1'000'000 + 1 : 1) : engine_impl::wait_ms;
      e->work_.wait([&] { return e->stop_.load() || e->kicks_.load() != seen; },
                    static_cast<s64>(min_of(ms, engine_impl::wait_ms)));
      now = e->kicks_.load(std::memory_order_acquire);
    }
    seen = now;
    u32 cursor = 0;
    again = 0;
    while (!e->stop_.load(std::memory_order_acquire) && e->background_round(&cursor, &again)) vx_yield();
  }
}

void Engine::rows_added(Collection &c, u32 n, bool (*interrupted)(void *), void *ctx) {
  trim(c);
  throttle();
  const u32 waiting = c.index().backlog();
  if (waiting == 0) return;
  if (nthreads_) kick();
  const u32 share = c.index().share_of(n, waiting, nthreads_ != 0);
  if (share == 0) return;
  // What fails here stays in the tail, which searches scan.
  Result<u32> done = c.index().work(share, IndexKeeper::Saves::if_free, interrupted, ctx);
  if (done.ok()) stats_.indexed.fetch_add(*done, std::memory_order_relaxed);
  const u32 got = done.ok() ? *done : 0;
  if (nthreads_) c.index().not_indexed(share - min_of(share, got));
  if (!nthreads_) (void)c.index().renew(false, interrupted, ctx).ok();
  if (!nthreads_) measure_recall(c, true, interrupted, ctx);
  if (!nthreads_ && !volume_.read_only() && c.index().checkpoint_due()) (void)checkpoint(c).ok();
}

void Engine::want_recall(Collection &c) {
  if (c.index().recall().want()) kick();
}

void Engine::measure_recall(Collection &c, bool wait, bool (*interrupted)(void *), void *ctx) {
  if (!c.index().recall().wanted()) return;
  if (nthreads_ && !wait) return kick();
  while (c.index().measure_recall(true, interrupted, ctx)) trim(c);
  c.index().save_recall();
  trim(c);
}

void Engine::count_insert(u32 rows, u64 ns) {
  stats_.inserts.fetch_add(rows, std::memory_order_relaxed);
  stats_.insert_ns.fetch_add(ns, std::memory_order_relaxed);
  stats_.insert_latency.add(ns);
}

}  // namespace vexfs::vector
