// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Vector tables: opening, the state of rows, and views. Appending is in table_append.cc, reading in table_load.cc.
#include "table.h"

namespace vexfs::vector {
namespace table_impl {
namespace {

constexpr u32 roomy_share = 64;  // of a chunk's blocks; read row by row before it is read as a whole, if there is room

}  // namespace
}  // namespace table_impl

Error damaged(store::Volume &v, u64 cid, const char *item, u64 off, const char *field) {
  v.log(VX_LOG_ERR)
      .str("collection ")
      .dec(cid)
      .str(": damaged item ")
      .str(item)
      .str(" ")
      .dec(off)
      .str(": bad ")
      .str(field);
  v.found_damage(Errno::corrupt);
  return Errno::corrupt;
}

Table::Table(store::Volume &v, ChunkCache &cache, u32 cid, const simd::Space &space, const disk::ConfigItem &config)
    : volume_(v), cache_(cache), cid_(cid), space_(space), stride_(config.stride), group_rows_(config.rows_per_group) {
  shift_ = static_cast<u32>(std::countr_zero(config.chunk_rows.get()));
  set_compact(config.flags & disk::kConfigCompact);
  if (space.has_aux()) aux_bytes_ = align_up<u32>(chunk_rows() * 4, 4096);
}

Table::~Table() {
  ChunkMap *m = map();
  if (!m) return;
  for (u32 i = 0; i < m->cap; i++) {
    Chunk *c = m->chunks[i].load(std::memory_order_relaxed);
    if (!c) continue;
    VX_ASSERT(c->place == Chunk::Place::absent);
    if (auto *bits = c->dead.load(std::memory_order_relaxed)) vx_free(bits);
    if (c->pieces) vx_free(c->pieces);
    c->~Chunk();
    vx_free(c);
  }
  m->destroy(m);
  if (bounce_) vx_free_large(bounce_, volume_.block_size());
}

Status Table::open() {
  disk::StateItem s;
  Result<usize> r = volume_.tree(store::TreeId::collections).get(item_key(cid_, VectorItem::state), mut_bytes_of(s));
  if (!r.ok() && r.code() != Errno::noent && r.code() != Errno::range) return r.error();
  if (!r.ok()) return damaged(volume_, cid_, "state", 0, "presence");
  if (const char *bad = disk::verify_state({bytes_of(s).data(), *r})) return damaged(volume_, cid_, "state", 0, bad);
  slots_.store(static_cast<u32>(s.slots), std::memory_order_relaxed);
  live_.store(static_cast<u32>(s.slots), std::memory_order_relaxed);
  u32 chunks = static_cast<u32>(div_up<u64>(s.slots, chunk_rows()));
  u32 cap = 4;
  while (cap < chunks) cap *= 2;
  VX_TRY(grow_map(cap - 1));
  return open_dead();
}

// Counts the blocks of all chunks and loads the bitmaps of dead rows.
Status Table::open_dead() {
  store::Tree &tree = volume_.tree(store::TreeId::collections);
  u64 blocks = 0;
  u32 bitmap_bytes = chunk_rows() / 8;
  VX_TRY(tree.scan(item_key(cid_, VectorItem::chunk), item_key(cid_, VectorItem::chunk, ~u64{0}),
                   [&](const store::Key &, Bytes b) {
                     disk::ChunkItem item{};
                     memcpy(&item, b.data(), min_of(b.size(), sizeof item));
                     for (u32 i = 0; i < item.npieces && i < disk::kChunkPieces; i++) blocks += item.pieces[i].blocks;
                     return true;
                   }));
  disk_blocks_.store(blocks, std::memory_order_relaxed);
  auto *buf = static_cast<u8 *>(vx_alloc(bitmap_bytes, 0));
  if (!buf) return Errno::nomem;
  Status out;
  for (u64 from = 0;; from++) {
    Result<store::Tree::Found> f = tree.seek(item_key(cid_, VectorItem::dead, from),
                                             item_key(cid_, VectorItem::dead, ~u64{0}), {buf, bitmap_bytes});
    if (f.code() == Errno::noent) break;
    if (!f.ok() && f.code() != Errno::range) {
      out = f.error();
      break;
    }
    if (!f.ok() || f->len != bitmap_bytes || f->key.off * chunk_rows() >= slots()) {
      out = damaged(volume_, cid_, "dead", f.ok() ? f->key.off : from, "length");
      break;
    }
    from = f->key.off;
    auto number = static_cast<u32>(from);
    out = prepare_dead(number << shift_);
    if (!out.ok()) break;
    Chunk *c = map()->chunks[number].load(std::memory_order_relaxed);
    auto *bits = c->dead.load(std::memory_order_relaxed);
    u32 count = 0;
    for (u32 w = 0; w < bitmap_bytes / 8; w++) {
      le64 v;
      memcpy(&v, buf + usize{8} * w, 8);
      const u64 first = (u64{number} << shift_) + u64{64} * w, left = slots() > first ? slots() - first : 0;
      const u64 there = left >= 64 ? v.get() : v.get() & ((u64{1} << left) - 1);  // no slot: no dead row
      bits[w].store(there, std::memory_order_relaxed);
      count += static_cast<u32>(std::popcount(there));
    }
    c->dead_count.store(count, std::memory_order_relaxed);
    live_.fetch_sub(min_of(count, live()), std::memory_order_relaxed);
  }
  vx_free(buf);
  return out;
}

// ------------------------------------------------------------------------------------------------------------- chunks
Result<Chunk *> Table::chunk(u32 number) {
  ChunkMap *m = map();
  if (number >= m->cap || (u64{number} << shift_) >= slots()) return Errno::noent;
  if (Chunk *c = m->chunks[number].load(std::memory_order_acquire)) return c;
  void *p = vx_alloc(sizeof(Chunk), 0);
  if (!p) return Errno::nomem;
  auto *made = new (p) Chunk(*this, number);
  Chunk *c = nullptr;
  {
    Guard g(cache_.lock_);
    m = map();
    c = m->chunks[number].load(std::memory_order_relaxed);
    if (!c) {
      m->chunks[number].store(made, std::memory_order_release);
      return made;
    }
  }
  made->~Chunk();
  vx_free(p);
  return c;
}

u64 Table::resident_bytes() {
  u64 sum = 0;
  Guard g(cache_.lock_);
  ChunkMap *m = map();
  u32 chunks = static_cast<u32>(div_up<u64>(slots(), chunk_rows()));
  for (u32 i = 0; i < m->cap && i < chunks; i++)
    if (Chunk *c = m->chunks[i].load(std::memory_order_relaxed))
      if (c->buf) sum += c->buf->bytes();
  return sum;
}

Result<const ChunkMeta *> Table::chunk_meta(u32 number) {
  for (;;) {
    Chunk *c = VX_TRY(chunk(number));
    if (const ChunkMeta *m = c->meta.load(std::memory_order_acquire)) return m;
    VX_TRY(cache_.fault(*this, number));
  }
}

Result<RowMeta> Table::meta(u32 slot) {
  const ChunkMeta *m = VX_TRY(chunk_meta(slot >> shift_));
  return m->at(slot & (chunk_rows() - 1));
}

const ChunkMeta *Table::resident_meta(u32 number) const {
  ChunkMap *m = map();
  if (number >= m->cap) return nullptr;
  Chunk *c = m->chunks[number].load(std::memory_order_acquire);
  return c ? c->meta.load(std::memory_order_acquire) : nullptr;
}

// When all blocks of a chunk could have been read for what its rows were, it is read, and others go for it.
bool Table::worth_chunk(u32 slot) {
  if (compact()) return false;
  Result<Chunk *> c = chunk(slot >> shift_);
  if (!c.ok()) return true;
  const u32 blocks = max_of<u32>(static_cast<u32>(u64{chunk_rows()} * stride_ / volume_.block_size()), 1);
  // Where there is room, little is needed: the first search after a mount scores a few dozen rows of any chunks, and should
  // not have to read them all; but what goes on being searched should be in memory soon.
  const u32 singles = sparse() ? blocks : blocks / table_impl::roomy_share;
  return (*c)->single_reads.fetch_add(1, std::memory_order_relaxed) >= singles;
}

// ---------------------------------------------------------------------------------------------------------- dead rows
bool Table::hidden(u32 slot) const {
  ChunkMap *m = map();
  u32 number = slot >> shift_;
  if (number >= m->cap) return false;
  Chunk *c = m->chunks[number].load(std::memory_order_acquire);
  if (!c) return false;
  auto *bits = c->dead.load(std::memory_order_acquire);
  if (!bits) return false;
  u32 i = slot & (chunk_rows() - 1);
  return (bits[i >> 6].load(std::memory_order_acquire) >> (i & 63)) & 1;
}

bool Table::is_damaged(u32 slot) {
  Guard g(damaged_lock_);
  for (u32 s : damaged_)
    if (s == slot) return true;
  return false;
}

Status Table::add_damaged(u32 slot) {
  VX_TRY(prepare_dead(slot));
  Guard g(damaged_lock_);
  for (u32 s : damaged_)
    if (s == slot) return {};
  VX_TRY(damaged_.push(slot));
  damaged_count_.fetch_add(1, std::memory_order_relaxed);
  return {};
}

bool Table::chunk_all_dead(u32 number) const {
  ChunkMap *m = map();
  if (number >= m->cap) return false;
  Chunk *c = m->chunks[number].load(std::memory_order_acquire);
  return c && c->dead_count.load(std::memory_order_acquire) == chunk_rows();
}

bool Table::chunk_any_dead(u32 number) const {
  ChunkMap *m = map();
  if (number >= m->cap) return false;
  Chunk *c = m->chunks[number].load(std::memory_order_acquire);
  return c && c->dead_count.load(std::memory_order_acquire) != 0;
}

const std::atomic<u64> *Table::dead_bits(u32 number) const {
  ChunkMap *m = map();
  if (number >= m->cap) return nullptr;
  Chunk *c = m->chunks[number].load(std::memory_order_acquire);
  return c ? c->dead.load(std::memory_order_acquire) : nullptr;
}

Status Table::prepare_dead(u32 slot) {
  Chunk *c = VX_TRY(chunk(slot >> shift_));
  if (c->dead.load(std::memory_order_acquire)) return {};
  void *p = vx_alloc(chunk_rows() / 8, VX_ALLOC_ZERO);
  if (!p) return Errno::nomem;
  auto *bits = static_cast<std::atomic<u64> *>(p);
  Guard g(cache_.lock_);
  if (c->dead.load(std::memory_order_relaxed)) {
    vx_free(p);
    return {};
  }
  c->dead.store(bits, std::memory_order_release);
  map()->refs[c->number].dead.store(bits, std::memory_order_release);
  return {};
}

bool Table::set_dead(u32 slot) {
  Chunk *c = map()->chunks[slot >> shift_].load(std::memory_order_acquire);
  VX_ASSERT(c != nullptr);
  auto *bits = c->dead.load(std::memory_order_acquire);
  VX_ASSERT(bits != nullptr);
  u32 i = slot & (chunk_rows() - 1);
  u64 bit = u64{1} << (i & 63);
  bool was = bits[i >> 6].fetch_or(bit, std::memory_order_acq_rel) & bit;
  if (was && damaged_count_.load(std::memory_order_relaxed) != 0) {
    Guard g(damaged_lock_);
    for (usize k = 0; k < damaged_.size(); k++) {
      if (damaged_[k] != slot) continue;
      damaged_.erase(k);
      damaged_count_.fetch_sub(1, std::memory_order_relaxed);
      was = false;
      break;
    }
  }
  if (was) return false;
  c->dead_count.fetch_add(1, std::memory_order_acq_rel);
  live_.fetch_sub(1, std::memory_order_relaxed);
  return true;
}

// --------------------------------------------------------------------------------------------------------------- views
View::View(Table &t, bool show_dead) : t_(t), token_(t.cache().enter()) {
  view_.show_dead = show_dead;
  view_.slots = slots_ = t.slots();
  view_.shift = t.shift();
  view_.stride = t.stride();
  view_.aux_off = -static_cast<s32>(t.aux_bytes());
  view_.ctx = this;
  view_.fault = fault;
  view_.fetch = fetch;
  view_.pause = pause;
  take();
}

View::~View() { t_.cache().leave(token_); }

void View::take() {
  ChunkMap *m = t_.map();
  view_.chunks = m->refs;
  view_.nchunks = m->cap;
  view_.live = t_.live();
  view_.any_dead = t_.live() != t_.slots() || t_.damaged_count() != 0;
}

void View::refresh() {
  view_.slots = slots_ = t_.slots();
  take();
}

Status View::fault(RowView &v, u32 number) {
  auto *self = static_cast<View *>(v.ctx);
  VX_TRY(self->t_.cache().fault(self->t_, number));
  self->take();
  return {};
}

Status View::fetch(RowView &v, const u32 *slots, const void **rows, u32 *aux, u32 n) {
  auto *self = static_cast<View *>(v.ctx);
  Table &t = self->t_;
  for (u32 i = 0; i < n; i++)
    if (!rows[i] && !v.peek(slots[i]) && t.worth_chunk(slots[i])) VX_TRY(v.fault_each(slots + i, rows + i, aux + i, 1));
  bool absent = false;
  for (u32 i = 0; i < n; i++) {
    if (rows[i]) continue;
    const u8 *p = v.peek(slots[i]);
    absent = absent || !p;
    rows[i] = p;
    if (p) aux[i] = v.aux(p, slots[i]);
  }
  if (!absent) return {};
  if (!self->fetch_) self->fetch_ = VX_TRY(Box<RowFetch>::make(t));
  VX_TRY(self->fetch_->run(slots, rows, aux, n));
  return v.fault_each(slots, rows, aux, n);
}

void View::pause(RowView &v) {
  auto *self = static_cast<View *>(v.ctx);
  View *both[] = {self, self->linked_};
  for (View *w : both)
    if (w) w->t_.cache().leave(w->token_);
  for (View *w : both)
    if (w) w->t_.cache().relax();
  for (View *w : both)
    if (w) {
      w->token_ = w->t_.cache().enter();
      w->take();
    }
}

}  // namespace vexfs::vector
