// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Loading, publishing and evicting vector chunks, and handing dirty rows to commits.
#include "chunk_cache.h"

#include "table.h"

namespace vexfs::vector {
namespace chunk_cache_impl {
namespace {

void destroy_map(Retired *r) {
  auto *m = static_cast<ChunkMap *>(r);
  usize bytes = m->bytes;
  vx_free_large(m, bytes);
}

}  // namespace
}  // namespace chunk_cache_impl

ChunkMap *ChunkMap::make(u32 cap) {
  usize head = align_up<usize>(sizeof(ChunkMap), 64);
  usize bytes = head + usize{cap} * (sizeof(ChunkRef) + sizeof(std::atomic<Chunk *>));
  void *p = vx_alloc_large(bytes, VX_ALLOC_ZERO);
  if (!p) return nullptr;
  auto *m = new (p) ChunkMap;
  m->destroy = chunk_cache_impl::destroy_map;
  m->cap = cap;
  m->bytes = bytes;
  m->refs = reinterpret_cast<ChunkRef *>(static_cast<u8 *>(p) + head);
  m->chunks = reinterpret_cast<std::atomic<Chunk *> *>(m->refs + cap);
  for (u32 i = 0; i < cap; i++) {
    new (&m->refs[i]) ChunkRef;
    new (&m->chunks[i]) std::atomic<Chunk *>(nullptr);
  }
  return m;
}

ChunkCache::ChunkCache(store::Volume &v, u64 limit_bytes) : volume_(v), limit_(limit_bytes) {}

ChunkCache::~ChunkCache() {
  VX_ASSERT(active_.empty() && limbo_.empty());
  while (Retired *r = retired_.pop_front()) r->destroy(r);
  if (epoch_made_) vx_epoch_destroy(&epoch_);
}

Status ChunkCache::init() {
  if (vx_epoch_init(&epoch_) != 0) return Errno::nomem;
  epoch_made_ = true;
  return {};
}

// ------------------------------------------------------------------------------------------------------------ buffers
ChunkBuf *ChunkCache::make_buf(Table &t, u32 cap) {
  auto *b = static_cast<ChunkBuf *>(vx_alloc(sizeof(ChunkBuf), 0));
  if (!b) return nullptr;
  new (b) ChunkBuf;
  b->cap = cap;
  b->rows_at = t.aux_bytes();
  // Whole blocks are written, so the buffer ends at a block boundary, and what no row has filled yet is zero.
  b->base_bytes = b->rows_at + align_up<usize>(usize{cap} * t.stride(), volume_.block_size());
  b->base = static_cast<u8 *>(vx_alloc_large(b->base_bytes, VX_ALLOC_ZERO));
  b->meta = b->base ? ChunkMeta::make(cap, &resident_) : nullptr;
  if (!b->meta) {
    if (b->base) vx_free_large(b->base, b->base_bytes);
    vx_free(b);
    return nullptr;
  }
  resident_.fetch_add(b->base_bytes, std::memory_order_relaxed);
  b->destroy = nullptr;
  return b;
}

void ChunkCache::free_buf(ChunkBuf *b) {
  if (!b) return;
  resident_.fetch_sub(b->base_bytes, std::memory_order_relaxed);
  ChunkMeta::release(b->meta);
  vx_free_large(b->base, b->base_bytes);
  vx_free(b);
}

void ChunkCache::retire(Retired *r) {
  Guard g(lock_);
  retired_.push_back(*r);
  retired_count_.fetch_add(1, std::memory_order_relaxed);
}

// -------------------------------------------------------------------------------------------------------- publication
void ChunkCache::publish(Chunk &c) {
  ChunkMap *m = c.table->map();
  if (!c.meta.load(std::memory_order_relaxed)) c.table->shown_chunks_.fetch_add(1, std::memory_order_relaxed);
  c.meta.store(c.buf->meta, std::memory_order_release);
  m->refs[c.number].data.store(c.buf->rows(), std::memory_order_release);
}

void ChunkCache::unpublish(Chunk &c) {
  ChunkMap *m = c.table->map();
  m->refs[c.number].data.store(nullptr, std::memory_order_release);
  if (c.meta.load(std::memory_order_relaxed)) c.table->shown_chunks_.fetch_sub(1, std::memory_order_relaxed);
  c.meta.store(nullptr, std::memory_order_release);
}

// lock_ held. True: it is in memory, and not about to go any more if it was.
bool ChunkCache::rescue(Chunk &c) {
  if (c.place == Chunk::Place::limbo) {
    limbo_.remove(c);
    limbo_bytes_ -= c.buf->bytes();
    active_.push_back(c);
    c.place = Chunk::Place::active;
    publish(c);
    rescues.fetch_add(1, std::memory_order_relaxed);
  }
  return c.place == Chunk::Place::active;
}

bool ChunkCache::pin_present(Chunk &c) {
  Guard g(lock_);
  if (!rescue(c)) return false;
  c.pins++;
  return true;
}

void ChunkCache::install(Chunk &c, ChunkBuf *buf, u32 pins) {
  Guard g(lock_);
  c.pins += pins;
  VX_ASSERT(c.place != Chunk::Place::limbo);
  if (c.buf) {
    retired_.push_back(*c.buf);
    retired_count_.fetch_add(1, std::memory_order_relaxed);
  } else {
    chunks_.fetch_add(1, std::memory_order_relaxed);
    active_.push_back(c);
    c.place = Chunk::Place::active;
  }
  c.buf = buf;
  publish(c);
}

void ChunkCache::pack(Chunk &c) {
  ChunkMeta *m = c.buf->meta->packed(c.table->chunk_rows());
  if (!m) return;
  Guard g(lock_);
  VX_ASSERT(c.pins && c.place == Chunk::Place::active);
  retired_.push_back(*std::exchange(c.buf->meta, m));
  retired_count_.fetch_add(1, std::memory_order_relaxed);
  c.meta.store(m, std::memory_order_release);
}

void ChunkCache::replace_map(Table &t, ChunkMap *bigger) {
  Guard g(lock_);
  ChunkMap *old = t.map();
  if (old) {
    VX_ASSERT(bigger->cap > old->cap);
    for (u32 i = 0; i < old->cap; i++) {
      bigger->refs[i].data.store(old->refs[i].data.load(std::memory_order_relaxed), std::memory_order_relaxed);
      bigger->refs[i].dead.store(old->refs[i].dead.load(std::memory_order_relaxed), std::memory_order_relaxed);
      bigger->chunks[i].store(old->chunks[i].load(std::memory_order_relaxed), std::memory_order_relaxed);
    }
    retired_.push_back(*old);
    retired_count_.fetch_add(1, std::memory_order_relaxed);
  }
  t.map_.store(bigger, std::memory_order_release);
}

// ------------------------------------------------------------------------------------------------------------ faulting
Status ChunkCache::fault_common(Table &t, u32 number, bool pin) {
  Chunk *c = VX_TRY(t.chunk(number));
  for (;;) {
    {
      Guard g(lock_);
      if (rescue(*c)) {
        if (pin) c->pins++;
        return {};
      }
      if (!c->loading.load(std::memory_order_relaxed)) {
        c->loading.store(true, std::memory_order_relaxed);
        break;
      }
    }
    loaded_.wait([c] { return !c->loading.load(std::memory_order_acquire); });
  }
  Result<ChunkBuf *> r = t.load(*c);
  {
    Guard g(lock_);
    if (r.ok()) {
      c->buf = *r;
      c->place = Chunk::Place::active;
      active_.push_back(*c);
      chunks_.fetch_add(1, std::memory_order_relaxed);
      if (pin) c->pins++;
      publish(*c);
    }
    c->loading.store(false, std::memory_order_release);
  }
  loaded_.wake();
  c->single_reads.store(0, std::memory_order_relaxed);
  if (!r.ok()) return r.error();
  loads.fetch_add(1, std::memory_order_relaxed);
  return {};
}

Status ChunkCache::fault(Table &t, u32 number) { return fault_common(t, number, false); }
Status ChunkCache::fault_pin(Table &t, u32 number) { return fault_common(t, number, true); }

void ChunkCache::unpin(Chunk &c) {
  Guard g(lock_);
  VX_ASSERT(c.pins > 0);
  c.pins--;
}

// ------------------------------------------------------------------------------------------------------------- reclaim
// Unpublishes the oldest chunks until limbo holds bytes_wanted. One pass over the list at most.
void ChunkCache::to_limbo(usize bytes_wanted) {
  usize left = chunks_.load(std::memory_order_relaxed);
  while (left > 0) {
    Guard g(lock_);
    for (u32 burst = 0; burst < 64 && left > 0; burst++, left--) {
      if (limbo_bytes_ >= bytes_wanted) return;
      Chunk *c = active_.front();
      if (!c) return;
      active_.remove(*c);
      if (busy(*c)) {
        active_.push_back(*c);
        continue;
      }
      unpublish(*c);
      c->place = Chunk::Place::limbo;
      limbo_.push_back(*c);
      limbo_bytes_ += c->buf->bytes();
    }
  }
}

usize ChunkCache::reclaim(usize want, bool wait) {
  if (!reclaim_lock_.try_lock()) {
    if (!wait) return 0;
    reclaim_lock_.lock();
  }
  const usize freed = reclaim_locked(want);
  reclaim_lock_.unlock();
  return freed;
}

// All that is in limbo when it waits for readers was there before: chunks enter it under reclaim_lock_ alone.
usize ChunkCache::reclaim_locked(usize want) {
  List<Retired, &Retired::retired_hook> gone;
  if (want) to_limbo(want + want / 2);
  {
    Guard g(lock_);
    if (!io_active_) {
      gone.splice(retired_);
      retired_count_.store(0, std::memory_order_relaxed);
    }
  }
  bool any = !gone.empty();
  if (want && !any) {
    Guard g(lock_);
    any = !limbo_.empty();
  }
  if (any) vx_epoch_synchronize(&epoch_);
  usize freed = 0;
  while (freed < want) {
    ChunkBuf *b = nullptr;
    {
      Guard g(lock_);
      Chunk *c = limbo_.pop_front();
      if (!c) break;
      VX_ASSERT(!busy(*c));
      b = std::exchange(c->buf, nullptr);
      c->place = Chunk::Place::absent;
      limbo_bytes_ -= b->bytes();
    }
    chunks_.fetch_sub(1, std::memory_order_relaxed);
    evictions.fetch_add(1, std::memory_order_relaxed);
    freed += b->bytes();
    free_buf(b);
  }
  while (Retired *r = gone.pop_front()) {
    if (r->destroy) {
      r->destroy(r);
    } else {
      auto *b = static_cast<ChunkBuf *>(r);
      freed += b->bytes();
      free_buf(b);
    }
  }
  return freed;
}

void ChunkCache::relax_slow() {
  const u64 used = resident(), most = rows_limit();
  // Who is far over the limit brings in no more before what another is freeing is free.
  reclaim(used > most ? used - most + limit() / 16 : 0, used > most + most / 4);
}

usize ChunkCache::shrink(usize chunks_wanted) {
  usize have = chunks_.load(std::memory_order_relaxed);
  if (have == 0 || chunks_wanted == 0) return 0;
  usize average = resident() / have + 1;
  u64 before = evictions.load(std::memory_order_relaxed);
  reclaim(average * chunks_wanted);
  return evictions.load(std::memory_order_relaxed) - before;
}

// reclaim_lock_ also keeps the map: an old one is freed by reclaim. Every search of a compact table ends here, so where
// there is nothing to free (one chunk is always being filled) it neither waits nor looks at chunks.
void ChunkCache::trim(Table &t, u32 below) {
  if (t.shown_chunks_.load(std::memory_order_relaxed) <= 1) return;
  Guard serial(reclaim_lock_);
  usize bytes = 0;
  for (u32 i = below >> t.shift(); i-- > 0;) {
    if (!t.resident_meta(i)) continue;
    Guard g(lock_);
    Chunk *c = t.map()->chunks[i].load(std::memory_order_relaxed);
    if (c->place != Chunk::Place::active || busy(*c)) continue;
    active_.remove(*c);
    unpublish(*c);
    c->place = Chunk::Place::limbo;
    limbo_.push_front(*c);
    limbo_bytes_ += c->buf->bytes();
    bytes += c->buf->bytes();
  }
  if (bytes) reclaim_locked(bytes);
}

void ChunkCache::forget(Table &t, bool discard) {
  Guard serial(reclaim_lock_);
  Guard dirty(dirty_lock_);
  ChunkMap *m = t.map();
  for (u32 i = 0; m && i < m->cap; i++) {
    Chunk *c = m->chunks[i].load(std::memory_order_relaxed);
    if (!c) continue;
    Guard g(lock_);
    VX_ASSERT(!c->loading.load(std::memory_order_relaxed) && c->pins == 0);
    VX_ASSERT(discard || (c->dirty_hi == 0 && !c->writing));
    c->dirty_hook.unlink();
    c->writing_hook.unlink();
    c->dirty_hi = 0;
    c->writing = false;
    if (c->place == Chunk::Place::absent) continue;
    if (c->place == Chunk::Place::limbo) limbo_bytes_ -= c->buf->bytes();
    c->place_hook.unlink();
    unpublish(*c);
    c->place = Chunk::Place::absent;
    retired_.push_back(*std::exchange(c->buf, nullptr));
    retired_count_.fetch_add(1, std::memory_order_relaxed);
    chunks_.fetch_sub(1, std::memory_order_relaxed);
  }
}

// ------------------------------------------------------------------------------------------------------------- commits
void ChunkCache::mark_dirty(Chunk &c, u32 lo, u32 hi) {
  Guard d(dirty_lock_);
  Guard g(lock_);
  if (c.dirty_hi == 0) {
    c.dirty_lo = lo;
    c.dirty_hi = hi;
    dirty_.push_back(c);
  } else {
    c.dirty_lo = min_of(c.dirty_lo, lo);
    c.dirty_hi = max_of(c.dirty_hi, hi);
  }
}

bool ChunkCache::any_dirty() {
  Guard d(dirty_lock_);
  return !dirty_.empty();
}

u64 ChunkCache::dirty_bytes() {
  u64 sum = 0;
  Guard d(dirty_lock_);
  Guard g(lock_);
  for (Chunk *c = dirty_.front(); c; c = dirty_.next(*c)) sum += c->buf->bytes();
  return sum;
}

// The blocks of the dirty rows, piece by piece. The last block, when rows can still follow in it, goes out as a copy:
// the next transaction fills the original while this one is being written.
Status ChunkCache::add_writes(Chunk &c, Vec<vx_io> &ios) {
  Table &t = *c.table;
  u64 bs = volume_.block_size();
  u64 first = u64{c.dirty_lo} * t.stride() / bs;
  u64 end = div_up<u64>(u64{c.dirty_hi} * t.stride(), bs);
  bool partial = u64{c.dirty_hi} * t.stride() % bs != 0 && c.dirty_hi < t.chunk_rows();
  u64 at = 0;  // block of the chunk where the piece begins
  for (u32 i = 0; i < c.npieces && at < end; at += c.pieces[i].blocks, i++) {
    u64 lo = max_of(at, first), hi = min_of(at + c.pieces[i].blocks, end);
    while (lo < hi) {
      u64 n = min_of<u64>(hi - lo, (u64{1} << 20) / bs ? (u64{1} << 20) / bs : 1);
      u8 *from = c.buf->rows() + lo * bs;
      if (partial && lo == end - 1) {
        memcpy(t.bounce(), from, bs);
        from = t.bounce();
      } else if (partial && lo + n == end) {
        n--;
      }
      vx_io io{};
      io.off = (c.pieces[i].start + (lo - at)) * bs;
      io.len = n * bs;
      io.buf = from;
      io.flags = VX_IO_WRITE;
      VX_TRY(ios.push(io));
      lo += n;
    }
  }
  VX_ASSERT(at >= end || c.npieces > 0);
  return {};
}

Status ChunkCache::freeze(Vec<vx_io> &ios) {
  Guard d(dirty_lock_);
  while (Chunk *c = dirty_.front()) {
    VX_TRY(add_writes(*c, ios));
    Guard g(lock_);
    VX_ASSERT(!c->writing);
    dirty_.remove(*c);
    c->writing_lo = std::exchange(c->dirty_lo, 0);
    c->writing_hi = std::exchange(c->dirty_hi, 0);
    c->writing = true;
    writing_.push_back(*c);
    io_active_ = true;
  }
  return {};
}

void ChunkCache::done(int err) {
  Guard d(dirty_lock_);
  Guard g(lock_);
  while (Chunk *c = writing_.pop_front()) {
    c->writing = false;
    if (err == 0) continue;
    // Not written (a freeze that failed may be tried again): they are dirty as before, with what came since.
    if (c->dirty_hi == 0) dirty_.push_back(*c);
    c->dirty_lo = c->dirty_hi ? min_of(c->dirty_lo, c->writing_lo) : c->writing_lo;
    c->dirty_hi = max_of(c->dirty_hi, c->writing_hi);
  }
  io_active_ = false;
}

}  // namespace vexfs::vector
