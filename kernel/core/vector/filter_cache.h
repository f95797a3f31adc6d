// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What makes evaluating filters over all rows of a collection cheap: the columns they look at, compact, and which rows
// passed the filters of recent searches.
//
// Both say of rows only what stands in them, which never changes: id, tag and owner of a slot. Who asks, which rows are
// dead, and where owners lie is no part of it and is asked by each search; so nothing here can be stale, or tell one caller
// what only another may know. Both grow behind the rows, in whole blocks; rows after them are looked at one by one.
//
// Readers take a reference under a spin lock, and none while they read. One thread at a time makes a column longer, others
// do without. The memory counts against that of the vectors (ChunkCache::set_external), of which it may be an eighth;
// what was asked for longest ago goes first. A search that gets no memory here does without.
#pragma once
#include "../base/list.h"
#include "../uapi.h"
#include "chunk_cache.h"
#include "matching_lists.h"

namespace vexfs::vector {

// A condition on a column of a row.
struct ColumnRange {
  enum Column : u32 { id, tag, owner };
  u32 column = id;
  u32 outside = 0;  // 1: the range is what does not pass
  u64 from = 0, to = 0;
  bool operator==(const ColumnRange &) const = default;
};
constexpr u32 column_count = 3;
// Where rows have that.
constexpr ChunkMeta::Field field_of(u32 column) {
  return column == ColumnRange::id ? ChunkMeta::id : column == ColumnRange::tag ? ChunkMeta::tag : ChunkMeta::owner;
}

// All conditions of a search on columns; what is known of recent searches goes by it.
struct ColumnRanges {
  static constexpr u32 most = VEXFS_FILTERS_MAX + 2;
  u32 n = 0;
  ColumnRange range[most];
  void add(ColumnRange r) {
    VX_ASSERT(n < most);
    range[n++] = r;
  }
  u64 hash() const;
  bool operator==(const ColumnRanges &o) const;
};

// One column of the rows of a table, block by block: as differences from the least of the block, where that is shorter.
struct Column : Counted {
  static constexpr u32 block_rows = 1024, segment_blocks = 1024, segments = 2048;
  struct Block {
    u64 least = 0, span = 0;  // of its numbers
    void *data = nullptr;     // u32 differences if span fits into them, else numbers; null: all are `least`
    bool narrow() const { return span <= ~u32{0}; }
    usize bytes() const { return span == 0 ? 0 : usize{block_rows} * (narrow() ? 4 : 8); }
  };
  struct Segment {
    Block block[segment_blocks];
  };
  static_assert(u64{block_rows} * segment_blocks * segments >= slot_max);
  std::atomic<Segment *> segment[segments] = {};
  std::atomic<u32> blocks{0};  // that can be read
  usize bytes = 0;             // by whom makes it longer
  const Block &at(u32 block) const {
    return segment[block / segment_blocks].load(std::memory_order_acquire)->block[block % segment_blocks];
  }
};

// Which rows of a collection pass: of whole blocks, dead ones too.
struct KnownRows : Counted {
  ListHook hook;
  ColumnRanges ranges;
  u64 hash = 0;
  u32 blocks = 0;
  usize bytes = 0;
  // How an index's graph leads from one of these rows to the next, and what it was when that was last asked for, so often, and
  // for how many times more it need not be; under the cache's lock.
  MatchingLists *lists = nullptr;
  MatchingOf asked;
  u32 times = 0, wait = 0;
  u64 *bits() { return reinterpret_cast<u64 *>(this + 1); }
  u16 *counts() { return reinterpret_cast<u16 *>(bits() + usize{blocks} * (Column::block_rows / 64)); }
  static usize bytes_for(u32 blocks) { return sizeof(KnownRows) + usize{blocks} * (Column::block_rows / 8 + 2); }
};

// The memory of all filter caches of a filesystem.
struct FilterMemory {
  ChunkCache *cache = nullptr;
  std::atomic<u64> bytes{0}, of_lists{0};
  u64 limit() const { return cache->limit() / 8; }
  bool take(u64 n);  // false: it would be too much
  void give(u64 n);
  // The same for lists of where walks go, which are longer than what they belong to: half of it at most.
  bool take_for_lists(u64 n);
  void give_of_lists(u64 n);
};

class FilterCache : Pinned {
 public:
  static constexpr u32 block_rows = Column::block_rows, block_words = block_rows / 64;
  explicit FilterCache(FilterMemory &memory) : memory_(memory) {}
  ~FilterCache() { drop(); }

  // Rows that passed such ranges before; null: not known. release() it.
  KnownRows *find(const ColumnRanges &ranges);
  // Room to remember those of so many blocks, if it pays: they have been asked for before. Null: it does not, or there is no
  // memory. keep() or release() it.
  KnownRows *make(const ColumnRanges &ranges, u32 blocks);
  void keep(KnownRows *k);
  void release(KnownRows *k);

  // How a graph in this state leads from one of the rows that pass to the next, as far as it was found out; release it. Null:
  // nothing is known, and *worth says whether the graph has stayed as it is for long enough to begin.
  MatchingLists *lists(const ColumnRanges &ranges, const MatchingOf &of, bool *worth);
  // Begins. bits: the rows; a list has up to `most`. Release it. Null: no memory, or the rows are not known any more.
  MatchingLists *make_lists(const ColumnRanges &ranges, const MatchingOf &of, const u64 *bits, u32 most);

  // The columns, as far as they are there; null: not at all.
  Column *column(u32 which);
  void release(Column *c);
  // Makes the column longer, up to `blocks`. fill: 1,024 numbers of the block, in order. False: another thread is doing it,
  // or there is no memory for it; the column may be longer nevertheless.
  Result<bool> lengthen(u32 which, u32 blocks, FnRef<Status(u32 block, u64 *numbers)> fill);
  // May it hold columns of so many rows?
  bool fits(u64 rows, u32 columns) const { return rows * 8 * columns <= memory_.limit() / 2; }

  // Of the block's rows, those that pass: clears the bits of others.
  static void keep_block(const Column::Block &b, const ColumnRange &r, u64 *words);

  // Forgets everything, for memory.
  void drop();
  // The same if nobody has searched with filters since the last call.
  void age() {
    if (!used_.exchange(false, std::memory_order_relaxed)) drop();
  }

 private:
  static constexpr u32 known_max = 64, asked_max = 64, searches_waited = 256;
  // Lists cost a look at a bit for each row to begin with: a search more is waited for beforehand for so many.
  static constexpr u32 lists_rows_waited = 1 << 16;
  bool asked_before(u64 hash);
  Result<Column *> take_column(u32 which);
  Status add_block(Column &c, const u64 *numbers);
  void free_column(Column *c);
  void free_known(KnownRows *k);
  KnownRows *look(const ColumnRanges &ranges, u64 hash);
  MatchingLists *oldest_lists(const ColumnRanges &but);
  bool make_room(u64 bytes);

  FilterMemory &memory_;
  Spin lock_{"vexfs_filters"};
  List<KnownRows, &KnownRows::hook> known_;  // latest first
  u32 nknown_ = 0;
  u64 asked_[asked_max] = {};  // hashes
  u32 asked_at_ = 0;
  Column *columns_[column_count] = {};
  std::atomic<bool> busy_[column_count] = {};
  u32 wait_[column_count] = {};  // by whom is busy: searches until memory is asked for again
  std::atomic<bool> used_{false};
};

}  // namespace vexfs::vector
