// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Appending rows to a vector table: room in memory and on disk, filling in, publication; and freeing dead chunks.
#include "table.h"

namespace vexfs::vector {
namespace append_impl {
namespace {

constexpr u32 first_bytes = 64 << 10;  // of a chunk on disk, of the first also in memory; then it doubles

u32 pow2_up(u32 v) { return v <= 1 ? 1 : u32{1} << (32 - std::countl_zero(v - 1)); }

}  // namespace
}  // namespace append_impl

// Blocks that the chunk may append to.
u64 Table::blocks_of(const Chunk &c) const {
  u64 n = 0;
  if (c.replace) return 0;
  for (u32 i = 0; i < c.npieces; i++) n += c.pieces[i].blocks;
  return n;
}

// How many more blocks the chunk gets so that `rows` of its rows fit.
u64 Table::blocks_for(const Chunk &c, u32 rows, bool ahead) const {
  u64 bs = volume_.block_size();
  u64 have = blocks_of(c), need = div_up<u64>(u64{rows} * stride_, bs),
      all = div_up<u64>(u64{chunk_rows()} * stride_, bs);
  if (need <= have) return 0;
  if (ahead) need = max_of(need, max_of<u64>(2 * have, append_impl::first_bytes / bs));
  return min_of(need, all) - have;
}

u64 Table::blocks_wanted(u32 n, bool ahead) const {
  u64 bs = volume_.block_size();
  u64 blocks = div_up<u64>(u64{n} * stride_, bs) + 4;
  u32 in_chunk = slots() & (chunk_rows() - 1);
  if (volume_.rollback_txn()) {  // the rows that are there already may have to move
    u32 number = slots() >> shift_;
    ChunkMap *m = map();
    Chunk *c = m && number < m->cap ? m->chunks[number].load(std::memory_order_acquire) : nullptr;
    if (!c || !c->pieces || c->replace) blocks += div_up<u64>(u64{in_chunk} * stride_, bs);
  }
  if (!ahead) return blocks;
  u64 have = div_up<u64>(u64{in_chunk} * stride_, bs);
  u64 all = div_up<u64>(u64{chunk_rows()} * stride_, bs);
  u64 grow = min_of(all, max_of<u64>(2 * have, append_impl::first_bytes / bs));
  return blocks + grow + append_impl::first_bytes / bs;
}

Status Table::grow_map(u32 number) {
  ChunkMap *m = map();
  u32 cap = m ? m->cap : 4;
  if (m && number < cap) return {};
  while (cap <= number) cap *= 2;
  ChunkMap *bigger = ChunkMap::make(cap);
  if (!bigger) return Errno::nomem;
  cache_.replace_map(*this, bigger);
  return {};
}

// For how many rows a chunk gets memory when `rows` are to fit. Where a whole chunk was filled the next one gets all of its
// memory at once: growing clears, and copies, everything twice.
u32 Table::buffer_rows(u32 number, u32 rows) const {
  return number ? chunk_rows() : min_of(chunk_rows(), append_impl::pow2_up(rows));
}

// A chunk that has no rows yet gets its object, its first buffer and a pin.
Status Table::start_chunk(u32 number, u32 rows) {
  VX_TRY(grow_map(number));
  ChunkMap *m = map();
  Chunk *c = m->chunks[number].load(std::memory_order_relaxed);
  if (!c) {
    void *p = vx_alloc(sizeof(Chunk), 0);
    if (!p) return Errno::nomem;
    c = new (p) Chunk(*this, number);
    m->chunks[number].store(c, std::memory_order_release);
  }
  // An append that came to nothing may have left a buffer, which may have been about to go since.
  if (!cache_.pin_present(*c)) {
    u32 few = append_impl::pow2_up(append_impl::first_bytes / stride_ + 1) / 2;
    ChunkBuf *b = cache_.make_buf(*this, buffer_rows(number, max_of(rows, few)));
    if (!b) return Errno::nomem;
    cache_.install(*c, b, 1);
  }
  room_[rooms_++] = c;
  return {};
}

// A longer buffer with the same rows.
Status Table::grow_memory(Chunk &c, u32 rows) {
  ChunkBuf *old = c.buf;
  if (old->cap >= rows && old->meta->wide()) return {};
  ChunkBuf *b = cache_.make_buf(*this, buffer_rows(c.number, rows));
  if (!b) return Errno::nomem;
  memcpy(b->base, old->base, old->rows_at);
  memcpy(b->rows(), old->rows(), usize{old->cap} * stride_);
  const u32 first = c.number << shift_;
  b->meta->copy(*old->meta, slots() - min_of(slots(), first));
  cache_.install(c, b);
  return {};
}

// Memory for `rows` rows of the chunk, and its list of pieces.
Status Table::room_in(u32 number, u32 rows) {
  bool fresh = (u64{number} << shift_) >= slots();
  if (fresh) {
    VX_TRY(start_chunk(number, rows));
  } else {
    VX_TRY(cache_.fault_pin(*this, number));
    room_[rooms_++] = map()->chunks[number].load(std::memory_order_relaxed);
  }
  Chunk &c = *room_[rooms_ - 1];
  VX_TRY(grow_memory(c, rows));
  if (c.pieces) return {};
  auto *pieces =
      static_cast<disk::ChunkPiece *>(vx_alloc(sizeof(disk::ChunkPiece) * disk::kChunkPieces, VX_ALLOC_ZERO));
  if (!pieces) return Errno::nomem;
  disk::ChunkItem item{};
  Status s = read_pieces(number, &item);
  if (!s.ok() && s.code() != Errno::noent) {
    vx_free(pieces);
    return s;
  }
  if (s.ok()) {
    memcpy(pieces, item.pieces, sizeof item.pieces);
    c.npieces = item.npieces;
    c.replace = item.birth <= volume_.rollback_txn();
  }
  c.pieces = pieces;
  return {};
}

// Adds pieces of want_blocks together, or fewer when the disk is nearly full; the error says why.
Status Table::take_pieces(store::Handle &h, Chunk &c, u64 want_blocks, u64 *got) {
  *got = 0;
  while (*got < want_blocks) {
    u64 want = want_blocks - *got;
    u64 goal = c.npieces ? c.pieces[c.npieces - 1].start + c.pieces[c.npieces - 1].blocks : 0;
    Result<store::Extent> whole = volume_.alloc(h, goal, want, want);
    Result<store::Extent> e = whole.code() == Errno::nospc ? volume_.alloc(h, goal, 1, want) : std::move(whole);
    if (!e.ok()) return e.error();
    if (c.npieces && e->start == goal) {
      disk::ChunkPiece &last = c.pieces[c.npieces - 1];
      last.blocks = static_cast<u32>(last.blocks + e->count);
    } else if (c.npieces == disk::kChunkPieces) {
      volume_.cancel(*e);
      return Errno::nospc;
    } else {
      c.pieces[c.npieces].start = e->start;
      c.pieces[c.npieces++].blocks = static_cast<u32>(e->count);
    }
    volume_.publish(h, *e);
    *got += e->count;
  }
  return {};
}

// moved: the pieces are new, all of them.
Status Table::store_pieces(store::Handle &h, const Chunk &c, bool moved) {
  store::Tree &tree = volume_.tree(store::TreeId::collections);
  disk::ChunkItem item{};
  store::Key key = item_key(cid_, VectorItem::chunk, c.number);
  Result<usize> old = tree.get(key, mut_bytes_of(item));
  if (!old.ok() || moved) item.birth = h.txn();
  item.npieces = c.npieces;
  memcpy(item.pieces, c.pieces, sizeof item.pieces);
  Status s = tree.upsert(h, key, {bytes_of(item).data(), disk::ChunkItem::bytes(c.npieces)});
  if (!s.ok()) h.abort(s.error());
  return s;
}

void Table::free_pieces(store::Handle &h, const disk::ChunkPiece *pieces, u32 n, u64 birth) {
  for (u32 i = 0; i < n; i++) volume_.free(h, {pieces[i].start, pieces[i].blocks}, birth);
}

Status Table::grow_disk(store::Handle &h, Chunk &c, u64 want_blocks) {
  u64 got = 0;
  Status why = take_pieces(h, c, want_blocks, &got);
  if (got == 0) return why;
  VX_TRY(store_pieces(h, c, false));
  disk_blocks_.fetch_add(got, std::memory_order_relaxed);
  return {};
}

// New pieces take the place of those that we may not append to; our rows go out to them with this transaction.
Status Table::replace_disk(store::Handle &h, Chunk &c, u64 want_blocks, u32 rows) {
  disk::ChunkItem old{};
  VX_TRY(read_pieces(c.number, &old));
  c.npieces = 0;
  u64 got = 0, had = 0;
  for (u32 i = 0; i < old.npieces; i++) had += old.pieces[i].blocks;
  Status why = take_pieces(h, c, want_blocks, &got);
  if (!why.ok() && got < div_up<u64>(u64{rows + 1} * stride_, volume_.block_size())) {
    free_pieces(h, c.pieces, c.npieces, h.txn());
    memcpy(c.pieces, old.pieces, sizeof old.pieces);
    c.npieces = old.npieces;
    return why;
  }
  VX_TRY(store_pieces(h, c, true));
  free_pieces(h, old.pieces, old.npieces, old.birth);
  c.replace = false;
  if (rows) cache_.mark_dirty(c, 0, rows);
  disk_blocks_.fetch_add(got - had, std::memory_order_relaxed);
  return {};
}

Result<u32> Table::make_room(store::Handle &h, u32 n, u64 blocks_promised, bool ahead) {
  VX_ASSERT(rooms_ == 0 && n > 0);
  u32 first = slots();
  if (first >= disk::kSlotsMax) return Errno::nospc;
  n = min_of<u32>(min_of(n, chunk_rows()), static_cast<u32>(disk::kSlotsMax - first));
  if (!bounce_) {
    bounce_ = static_cast<u8 *>(vx_alloc_large(volume_.block_size(), 0));
    if (!bounce_) return Errno::nomem;
  }
  u32 from = first >> shift_, to = (first + n - 1) >> shift_;
  auto rows_in = [&](u32 number) { return min_of(chunk_rows(), first + n - (number << shift_)); };
  for (u32 number = from; number <= to; number++) {
    Status s = room_in(number, rows_in(number));
    if (!s.ok()) {
      release_room();
      return s.error();
    }
  }
  u64 needed = 0;
  for (u32 i = 0; i < rooms_; i++) needed += blocks_for(*room_[i], rows_in(room_[i]->number), ahead);
  if (needed > blocks_promised) {
    release_room();
    return Errno::again;
  }
  u32 fit = 0;
  Status s;
  for (u32 i = 0; i < rooms_; i++) {
    Chunk &c = *room_[i];
    u32 begin = c.number == from ? first & (chunk_rows() - 1) : 0, rows = rows_in(c.number);
    if (u64 more = blocks_for(c, rows, ahead)) s = c.replace ? replace_disk(h, c, more, begin) : grow_disk(h, c, more);
    u64 hold = blocks_of(c) * volume_.block_size() / stride_;
    u32 ok_rows = static_cast<u32>(min_of<u64>(hold, rows));
    if (ok_rows > begin) fit += ok_rows - begin;
    if (ok_rows < rows) break;
  }
  if (fit == 0) {
    release_room();
    return s.ok() ? Error(Errno::nospc) : s.error();
  }
  return fit;
}

void Table::put(u32 slot, const void *row, u32 aux, const RowMeta &meta) {
  u32 number = slot >> shift_, i = slot & (chunk_rows() - 1);
  Chunk *c = room_[0]->number == number ? room_[0] : room_[1];
  VX_ASSERT(c && c->number == number && i < c->buf->cap);
  memcpy(c->buf->rows() + usize{i} * stride_, row, space_.row_bytes());
  if (aux_bytes_) memcpy(c->buf->base + usize{4} * i, &aux, 4);
  c->buf->meta->put(i, meta);
}

void Table::publish(u32 first, u32 n) {
  VX_ASSERT(first == slots() && n > 0);
  for (u32 i = 0; i < rooms_; i++) {
    Chunk &c = *room_[i];
    u32 base = c.number << shift_;
    u32 lo = max_of(first, base), hi = min_of(first + n, base + chunk_rows());
    if (lo >= hi) continue;
    cache_.mark_dirty(c, lo - base, hi - base);
    if (hi - base == chunk_rows()) cache_.pack(c);
  }
  live_.fetch_add(n, std::memory_order_relaxed);
  slots_.store(first + n, std::memory_order_release);
}

void Table::release_room() {
  while (rooms_) {
    cache_.unpin(*room_[--rooms_]);
    room_[rooms_] = nullptr;
  }
}

Status Table::free_chunk(store::Handle &h, u32 number) {
  store::Tree &tree = volume_.tree(store::TreeId::collections);
  disk::ChunkItem item{};
  Status r = read_pieces(number, &item);
  if (r.code() == Errno::noent) return {};
  VX_TRY(r);
  Status s = tree.erase(h, item_key(cid_, VectorItem::chunk, number));
  if (!s.ok()) return s;
  u64 blocks = 0;
  for (u32 i = 0; i < item.npieces; i++) {
    volume_.free(h, {item.pieces[i].start, item.pieces[i].blocks}, item.birth);
    blocks += item.pieces[i].blocks;
  }
  disk_blocks_.fetch_sub(blocks, std::memory_order_relaxed);
  return {};
}

}  // namespace vexfs::vector
