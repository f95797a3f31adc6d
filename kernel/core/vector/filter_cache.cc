// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Compact columns, and which rows passed recent filters.
#include "filter_cache.h"

#include "../base/memory.h"
#include "../simd/columns.h"

namespace vexfs::vector {

static_assert(Column::block_rows <= simd::column_run);

u64 ColumnRanges::hash() const {
  u64 h = n;
  auto mix = [&](u64 v) {
    h = (h ^ v) * 0x9e3779b97f4a7c15;
    h ^= h >> 29;
  };
  for (u32 i = 0; i < n; i++) {
    mix(range[i].column | u64{range[i].outside} << 32);
    mix(range[i].from);
    mix(range[i].to);
  }
  return h ? h : 1;
}

bool ColumnRanges::operator==(const ColumnRanges &o) const {
  if (n != o.n) return false;
  for (u32 i = 0; i < n; i++)
    if (!(range[i] == o.range[i])) return false;
  return true;
}

bool FilterMemory::take(u64 n) {
  if (bytes.fetch_add(n, std::memory_order_relaxed) + n > limit()) {
    bytes.fetch_sub(n, std::memory_order_relaxed);
    return false;
  }
  cache->set_external(static_cast<s64>(n));
  return true;
}

void FilterMemory::give(u64 n) {
  bytes.fetch_sub(n, std::memory_order_relaxed);
  cache->set_external(-static_cast<s64>(n));
}

bool FilterMemory::take_for_lists(u64 n) {
  if (of_lists.fetch_add(n, std::memory_order_relaxed) + n <= limit() / 2 && take(n)) return true;
  of_lists.fetch_sub(n, std::memory_order_relaxed);
  return false;
}

void FilterMemory::give_of_lists(u64 n) {
  of_lists.fetch_sub(n, std::memory_order_relaxed);
  give(n);
}

// ---------------------------------------------------------------------------------------------------------- known rows
// lock_ held.
KnownRows *FilterCache::look(const ColumnRanges &ranges, u64 hash) {
  for (KnownRows *k = known_.front(); k; k = known_.next(*k))
    if (k->hash == hash && k->ranges == ranges) return k;
  return nullptr;
}

KnownRows *FilterCache::find(const ColumnRanges &ranges) {
  if (!used_.load(std::memory_order_relaxed)) used_.store(true, std::memory_order_relaxed);
  const u64 hash = ranges.hash();
  Guard g(lock_);
  KnownRows *k = look(ranges, hash);
  if (!k) return nullptr;
  k->refs.fetch_add(1, std::memory_order_relaxed);
  if (k != known_.front()) {
    k->hook.unlink();
    known_.push_front(*k);
  }
  return k;
}

// What is asked for once is not worth the memory.
bool FilterCache::asked_before(u64 hash) {
  Guard g(lock_);
  for (u64 h : asked_)
    if (h == hash) return true;
  asked_[asked_at_++ % asked_max] = hash;
  return false;
}

// Takes memory, of this collection's older ones if need be.
bool FilterCache::make_room(u64 bytes) {
  while (!memory_.take(bytes)) {
    KnownRows *oldest;
    {
      Guard g(lock_);
      oldest = known_.back();
      if (!oldest) return false;
      oldest->hook.unlink();
      nknown_--;
    }
    release(oldest);
  }
  return true;
}

KnownRows *FilterCache::make(const ColumnRanges &ranges, u32 blocks) {
  const u64 hash = ranges.hash();
  if (!blocks || !asked_before(hash)) return nullptr;
  const usize bytes = KnownRows::bytes_for(blocks);
  if (!make_room(bytes)) return nullptr;
  void *p = vx_alloc_large(bytes, 0);
  if (!p) {
    memory_.give(bytes);
    return nullptr;
  }
  auto *k = new (p) KnownRows;
  k->ranges = ranges;
  k->hash = hash;
  k->blocks = blocks;
  k->bytes = bytes;
  return k;
}

// In place of the same of fewer rows. What is too many goes.
void FilterCache::keep(KnownRows *k) {
  KnownRows *gone[2] = {};
  {
    Guard g(lock_);
    gone[0] = look(k->ranges, k->hash);
    if (gone[0] && gone[0]->blocks >= k->blocks) {
      gone[0] = k;  // another search was as quick
    } else {
      if (gone[0]) gone[0]->hook.unlink();
      known_.push_front(*k);
      nknown_ += gone[0] == nullptr;
      if (nknown_ > known_max) {
        gone[1] = known_.back();
        gone[1]->hook.unlink();
        nknown_--;
      }
    }
  }
  for (KnownRows *o : gone)
    if (o) release(o);
}

void FilterCache::release(KnownRows *k) {
  if (k->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) free_known(k);
}

void FilterCache::free_known(KnownRows *k) {
  const usize bytes = k->bytes;
  MatchingLists::release(k->lists);
  k->~KnownRows();
  vx_free_large(k, bytes);
  memory_.give(bytes);
}

// -------------------------------------------------------------------------------------------------------------- lists
MatchingLists *FilterCache::lists(const ColumnRanges &ranges, const MatchingOf &of, bool *worth) {
  const u64 hash = ranges.hash();
  MatchingLists *gone = nullptr;
  *worth = false;
  {
    Guard g(lock_);
    KnownRows *k = look(ranges, hash);
    if (!k) return nullptr;
    if (k->lists && k->lists->of() == of) {
      k->lists->refs.fetch_add(1, std::memory_order_relaxed);
      return k->lists;
    }
    gone = std::exchange(k->lists, nullptr);  // at once: what it takes others may need
    if (!(k->asked == of)) {
      k->asked = of;
      k->times = 0;
    }
    if (k->wait)
      k->wait--;
    else
      *worth = ++k->times > 1 + of.end / lists_rows_waited;
  }
  MatchingLists::release(gone);
  return nullptr;
}

// Those of the filter that was asked for longest ago, taken from it.
MatchingLists *FilterCache::oldest_lists(const ColumnRanges &but) {
  Guard g(lock_);
  KnownRows *oldest = nullptr;
  for (KnownRows *k = known_.front(); k; k = known_.next(*k))
    if (k->lists && !(k->ranges == but)) oldest = k;
  return oldest ? std::exchange(oldest->lists, nullptr) : nullptr;
}

MatchingLists *FilterCache::make_lists(const ColumnRanges &ranges, const MatchingOf &of, const u64 *bits, u32 most) {
  MatchingLists *made = MatchingLists::make(memory_, bits, most, of);
  while (!made) {
    MatchingLists *other = oldest_lists(ranges);
    if (!other) break;
    MatchingLists::release(other);
    made = MatchingLists::make(memory_, bits, most, of);
  }
  MatchingLists *gone = made;  // if its filter is not known any more
  {
    const u64 hash = ranges.hash();
    Guard g(lock_);
    KnownRows *k = look(ranges, hash);
    if (k && !made) {
      k->wait = searches_waited;
      k->times = 0;
    } else if (k && k->lists && k->lists->of() == of) {  // another search was as quick
      made = k->lists;
      made->refs.fetch_add(1, std::memory_order_relaxed);
    } else if (k) {
      gone = std::exchange(k->lists, made);
      made->refs.fetch_add(1, std::memory_order_relaxed);
    }
  }
  MatchingLists::release(gone);
  return gone == made ? nullptr : made;
}

// ------------------------------------------------------------------------------------------------------------- columns
Column *FilterCache::column(u32 which) {
  Guard g(lock_);
  if (columns_[which]) columns_[which]->refs.fetch_add(1, std::memory_order_relaxed);
  return columns_[which];
}

void FilterCache::release(Column *c) {
  if (c->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) free_column(c);
}

void FilterCache::free_column(Column *c) {
  const u32 blocks = c->blocks.load(std::memory_order_acquire);
  for (u32 i = 0; i < blocks; i++)
    if (c->at(i).data) vx_free_large(c->at(i).data, c->at(i).bytes());
  for (auto &s : c->segment)
    if (Column::Segment *p = s.load(std::memory_order_relaxed)) vx_free_large(p, sizeof *p);
  const usize bytes = c->bytes;
  c->~Column();
  vx_free_large(c, sizeof(Column));
  memory_.give(bytes);
}

// The column, with a reference, made if there is none.
Result<Column *> FilterCache::take_column(u32 which) {
  if (Column *c = column(which)) return c;
  if (!make_room(sizeof(Column))) return Errno::nomem;
  void *p = vx_alloc_large(sizeof(Column), 0);
  if (!p) {
    memory_.give(sizeof(Column));
    return Errno::nomem;
  }
  auto *c = new (p) Column;
  c->bytes = sizeof(Column);
  c->refs.store(2, std::memory_order_relaxed);
  Guard g(lock_);
  columns_[which] = c;
  return c;
}

Status FilterCache::add_block(Column &c, const u64 *numbers) {
  constexpr u32 rows = Column::block_rows;
  const u32 number = c.blocks.load(std::memory_order_relaxed);
  Column::Block b;
  u64 most = numbers[0];
  b.least = numbers[0];
  for (u32 i = 1; i < rows; i++) {
    b.least = min_of(b.least, numbers[i]);
    most = max_of(most, numbers[i]);
  }
  b.span = most - b.least;
  auto &segment = c.segment[number / Column::segment_blocks];
  Column::Segment *s = segment.load(std::memory_order_relaxed);
  const usize more = b.bytes() + (s ? 0 : sizeof *s);
  if (!make_room(more)) return Errno::nomem;
  if (b.span) b.data = vx_alloc_large(b.bytes(), 0);
  if (!s) {
    void *p = vx_alloc_large(sizeof *s, 0);
    if (p) s = new (p) Column::Segment;
  }
  if (!s || (b.span && !b.data)) {
    if (b.data) vx_free_large(b.data, b.bytes());
    if (s && !segment.load(std::memory_order_relaxed)) vx_free_large(s, sizeof *s);
    memory_.give(more);
    return Errno::nomem;
  }
  segment.store(s, std::memory_order_release);
  c.bytes += more;
  if (b.span && b.narrow())
    for (u32 i = 0; i < rows; i++) static_cast<u32 *>(b.data)[i] = static_cast<u32>(numbers[i] - b.least);
  else if (b.span)
    memcpy(b.data, numbers, b.bytes());
  s->block[number % Column::segment_blocks] = b;
  c.blocks.store(number + 1, std::memory_order_release);
  return {};
}

Result<bool> FilterCache::lengthen(u32 which, u32 blocks, FnRef<Status(u32 block, u64 *numbers)> fill) {
  if (busy_[which].exchange(true, std::memory_order_acquire)) return false;
  if (wait_[which]) {
    wait_[which]--;
    busy_[which].store(false, std::memory_order_release);
    return false;
  }
  Status s;
  Result<Column *> column = take_column(which);
  auto *numbers = static_cast<u64 *>(vx_alloc(usize{Column::block_rows} * 8, 0));
  if (!column.ok()) s = column.error();
  if (!numbers) s = Errno::nomem;
  while (s.ok() && (*column)->blocks.load(std::memory_order_relaxed) < blocks) {
    s = fill((*column)->blocks.load(std::memory_order_relaxed), numbers);
    if (s.ok()) s = add_block(**column, numbers);
  }
  if (numbers) vx_free(numbers);
  if (column.ok()) release(*column);
  if (s.code() == Errno::nomem) wait_[which] = searches_waited;
  busy_[which].store(false, std::memory_order_release);
  if (s.ok()) return true;
  if (s.code() == Errno::nomem) return false;
  return s.code();
}

void FilterCache::keep_block(const Column::Block &b, const ColumnRange &r, u64 *words) {
  const u64 most = b.least + b.span;
  const bool none = r.to < r.from || r.from > most || r.to < b.least;
  if (none || (r.from <= b.least && most <= r.to)) {  // all of them, or none
    if (none != (r.outside != 0)) memset(words, 0, block_words * 8);
    return;
  }
  const u64 from = max_of(r.from, b.least), span = min_of(r.to, most) - from;
  if (b.narrow())
    simd::keep_range(static_cast<const u32 *>(b.data), block_rows, static_cast<u32>(from - b.least),
                     static_cast<u32>(span), r.outside, words);
  else
    simd::keep_range(static_cast<const u64 *>(b.data), block_rows, from, span, r.outside, words);
}

void FilterCache::drop() {
  for (;;) {
    KnownRows *k;
    {
      Guard g(lock_);
      k = known_.pop_front();
      nknown_ = 0;
    }
    if (!k) break;
    release(k);
  }
  for (Column *&column : columns_) {
    Column *c;
    {
      Guard g(lock_);
      c = std::exchange(column, nullptr);
    }
    if (c) release(c);
  }
}

}  // namespace vexfs::vector
