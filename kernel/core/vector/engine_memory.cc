// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Keeping to the memory limit: rows and indexes of all collections together.
//
// Rows go chunk by chunk (chunk_cache.h). Indexes may take three quarters of the limit; beyond that, and when rows are
// short of memory while an index has not been used for a while, whole indexes go, the longest unused first
// (index_parking.cc). What stays beyond the limit is what calls are using at the moment: an index is in memory as a whole
// while it is walked or built. Rows that no commit has written yet cannot go, so who inserts waits for a commit when they
// take too much.
#include "engine.h"

namespace vexfs::vector {
namespace engine_memory_impl {
namespace {

constexpr u32 victims_max = 256;                     // in one go
constexpr u64 idle_ns = 30'000'000'000;              // after which an index goes before rows do
constexpr u64 retry_ns = 10'000'000;                 // after nothing could go
constexpr u64 dirty_min = 4 << 20, dirty_share = 4;  // of rows: more than this, and than a share of the limit
constexpr u64 shrink_unit = 2 << 20;                 // what an object is that the host's shrinker counts

}  // namespace
}  // namespace engine_memory_impl

// The collection whose index was used the longest ago, of those after (*after, *cid) in that order.
CollectionRef Engine::coldest_index(u64 *after, u32 *cid) {
  map_lock_.lock_shared();
  Collection *best = nullptr;
  u64 when = 0;
  for (Collection *chain : by_cid_)
    for (Collection *c = chain; c; c = c->next_by_cid) {
      const u64 used = c->index().used_ns();
      if (used < *after || (used == *after && c->cid() <= *cid)) continue;
      if (best && (used > when || (used == when && c->cid() > best->cid()))) continue;
      if (c->dropped() || !c->index().evictable_bytes()) continue;
      best = c;
      when = used;
    }
  if (best) {
    best->users.fetch_add(1, std::memory_order_relaxed);
    *after = when;
    *cid = best->cid();
  }
  map_lock_.unlock_shared();
  return CollectionRef(this, best);
}

// Parks indexes until all of them take at most `keep` bytes, those alone that were last used before `until`. write: one
// that is ahead of its checkpoint may be saved first.
usize Engine::evict_indexes(u64 keep, u64 until, bool write) {
  usize freed = 0;
  u64 after = 0;
  u32 cid = 0;
  for (u32 i = 0; i < engine_memory_impl::victims_max && cache_.external() > keep; i++) {
    CollectionRef c = coldest_index(&after, &cid);
    if (!c || after >= until) break;
    freed += c->index().evict(write);
  }
  return freed;
}

// At a safe point of a caller (no epoch, no handle, no lock held), or of a thread.
void Engine::relax() {
  cache_.relax();
  if (cache_.external() <= cache_.indexes_limit()) return;
  const u64 now = vx_clock_mono_ns();
  if (now < evict_again_.load(std::memory_order_relaxed)) return;
  SharedGuard g(quiet_lock_);
  // Where there is a thread it is what writes checkpoints: callers only drop what is saved.
  const bool write = !nthreads_ && !quiet_ && !volume_.read_only();
  if (evict_indexes(cache_.indexes_limit(), ~u64{0}, write) == 0)
    evict_again_.store(now + engine_memory_impl::retry_ns, std::memory_order_relaxed);
  if (nthreads_ && cache_.external() > cache_.indexes_limit()) kick();
}

// The same of a thread, which may write, once in each round through the collections.
void Engine::relax_in_background() {
  SharedGuard g(quiet_lock_);
  const bool write = !quiet_ && !volume_.read_only();
  usize want = shrink_wanted_.exchange(0);
  if (want) {
    for (CollectionRef c = next_open(0); c; c = next_open(c->cid())) c->filters().age();
    want -= min_of(want, cache_.shrink(want));
  }
  cache_.relax();
  u64 keep = cache_.indexes_limit();
  if (want) {
    const u64 less = u64{want} * engine_memory_impl::shrink_unit, have = cache_.external();
    keep = min_of(keep, have > less ? have - less : 0);
  }
  if (cache_.external() > keep) evict_indexes(keep, ~u64{0}, write);
  if (cache_.resident() + cache_.external() > cache_.limit() - cache_.limit() / 8) {
    const u64 now = vx_clock_mono_ns();
    if (now > engine_memory_impl::idle_ns) evict_indexes(0, now - engine_memory_impl::idle_ns, write);
  }
}

// Rows were added: if those that no commit has written yet are what takes the memory, they are written now.
void Engine::throttle() {
  relax();
  if (!cache_.over_limit()) return;
  const u64 most = max_of(engine_memory_impl::dirty_min, cache_.limit() / engine_memory_impl::dirty_share);
  if (cache_.dirty_bytes() <= most) return;
  (void)volume_.sync(false).ok();  // what is wrong will be said to who syncs
  cache_.relax();
}

void Engine::trim(Collection &c) {
  if (!c.table().compact() || c.index().building()) return;
  // Rows that are still to be indexed are about to be read.
  const u32 slots = c.table().slots();
  cache_.trim(c.table(), c.index().backlog() ? min_of(slots, c.index().reached()) : slots);
}

void Engine::set_limit(u64 bytes) {
  cache_.set_limit(bytes ? bytes : default_cache_bytes);
  kick();
}

void Engine::kick() {
  kicks_.fetch_add(1, std::memory_order_release);
  work_.wake();
}

// ------------------------------------------------------------------------------------------------------ the host's wish
usize Engine::shrinkable() const {
  return cache_.shrinkable() + static_cast<usize>(cache_.external() / engine_memory_impl::shrink_unit) +
         div_up<usize>(scratches_.bytes(), engine_memory_impl::shrink_unit);
}

usize Engine::shrink(usize wanted) {
  const usize units = div_up<usize>(scratches_.drain(), engine_memory_impl::shrink_unit);
  return units + shrink_rows(wanted);
}

usize Engine::shrink_rows(usize wanted) {
  if (nthreads_) {
    // The caller may be in the middle of a search (memory reclaim): waiting for readers is the thread's work.
    shrink_wanted_.fetch_add(wanted, std::memory_order_relaxed);
    kick();
    return 0;
  }
  usize freed = cache_.shrink(wanted);
  if (freed >= wanted) return freed;
  const u64 less = u64{wanted - freed} * engine_memory_impl::shrink_unit, have = cache_.external();
  const usize bytes = evict_indexes(have > less ? have - less : 0, ~u64{0}, false);
  return freed + div_up<usize>(bytes, engine_memory_impl::shrink_unit);
}

}  // namespace vexfs::vector
