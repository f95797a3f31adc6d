// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The vector table of one collection: rows by slot number, in chunks, in memory and on disk.
//
// Readers (any number, no lock): enter a View, which holds an epoch; slots below slots() at that time can be read.
// Writers: one at a time (the collection's writer lock), inside an open handle. The order of a writer is make_room,
// put, then publish: rows become visible all at once. Row bytes never change afterwards.
#pragma once
#include "../simd/simd.h"
#include "chunk_cache.h"
#include "keys.h"
#include "row_fetch.h"

namespace vexfs::vector {

class Table : Pinned {
 public:
  Table(store::Volume &v, ChunkCache &cache, u32 cid, const simd::Space &space, const disk::ConfigItem &config);
  ~Table();
  // Reads the counters and the bitmaps of dead rows. io, corrupt, nomem.
  Status open();

  // ---- geometry
  u32 cid() const { return cid_; }
  u32 stride() const { return stride_; }
  u32 chunk_rows() const { return u32{1} << shift_; }
  u32 shift() const { return shift_; }
  u32 group_rows() const { return group_rows_; }
  u32 aux_bytes() const { return aux_bytes_; }
  const simd::Space &space() const { return space_; }
  store::Volume &volume() const { return volume_; }
  ChunkCache &cache() const { return cache_; }

  // ---- counters
  u32 slots() const { return slots_.load(std::memory_order_acquire); }
  u32 live() const { return live_.load(std::memory_order_relaxed); }
  u64 disk_bytes() const { return disk_blocks_.load(std::memory_order_relaxed) * volume_.block_size(); }
  u64 resident_bytes();
  // Dead rows whose bytes are not what was stored. Nobody looks at them but searches of snapshots.
  u32 bad_dead_rows() const { return bad_dead_.load(std::memory_order_relaxed); }
  u32 damaged_count() const { return damaged_count_.load(std::memory_order_relaxed); }

  // ---- reading, in a view
  ChunkMap *map() const { return map_.load(std::memory_order_acquire); }
  // The metadata of a published row. io, nomem, corrupt.
  Result<RowMeta> meta(u32 slot);
  // The same of a whole chunk; and if it is in memory, else null.
  Result<const ChunkMeta *> chunk_meta(u32 number);
  const ChunkMeta *resident_meta(u32 number) const;
  // Dead, or left out of searches because it is damaged.
  bool hidden(u32 slot) const;
  bool is_damaged(u32 slot);
  // The row exists: not dead (it may be damaged).
  bool exists(u32 slot) {
    return !hidden(slot) || (damaged_count_.load(std::memory_order_relaxed) && is_damaged(slot));
  }
  // Are all of the chunk's rows dead (so that nothing is left to scan, and its data may be gone)?
  bool chunk_all_dead(u32 number) const;
  bool chunk_any_dead(u32 number) const;
  // The bitmap of the chunk's dead rows; null: none is.
  const std::atomic<u64> *dead_bits(u32 number) const;

  // Is memory so short that single rows are long read without their chunks?
  bool sparse() const { return compact() || cache_.tight(usize{chunk_rows()} * (stride_ + ChunkMeta::wide_bytes)); }
  // Rows are not kept in memory, but for those of the last chunk, and those that no commit has written.
  bool compact() const { return compact_.load(std::memory_order_relaxed); }
  void set_compact(bool on) { compact_.store(on, std::memory_order_relaxed); }
  // Should this one not: is so much read of its chunk, row by row, that it had better be in memory?
  bool worth_chunk(u32 slot);

  // Where a chunk's data lies. noent: nowhere, all of its rows are dead. corrupt, io.
  Status read_pieces(u32 number, disk::ChunkItem *out);

  // ---- writing
  // Blocks that appending n rows may take, with and without growing ahead; an estimate good for begin().
  u64 blocks_wanted(u32 n, bool ahead) const;
  // Makes memory and disk space for up to n rows; returns how many fit (>= 1). Before any change: io, nomem, nospc,
  // corrupt; again: the handle's promise of blocks is too small (another writer came first): begin anew.
  Result<u32> make_room(store::Handle &h, u32 n, u64 blocks_promised, bool ahead);
  void put(u32 slot, const void *row, u32 aux, const RowMeta &meta);
  // Rows [first, first + n) become visible, and go to the device with h's transaction.
  void publish(u32 first, u32 n);
  void release_room();  // after publish, or instead of it
  // Makes the row invisible; needs prepare_dead() for its chunk before. False: it was already.
  bool set_dead(u32 slot);
  Status prepare_dead(u32 slot);
  u8 *bounce() const { return bounce_; }

  // Frees a chunk whose rows are all dead: its blocks and items.
  Status free_chunk(store::Handle &h, u32 number);

 private:
  friend class ChunkCache;
  Result<Chunk *> chunk(u32 number);
  Result<ChunkBuf *> load(Chunk &c);
  Status load_data(const Chunk &c, u32 rows, ChunkBuf &b);
  Status load_meta(const Chunk &c, u32 rows, ChunkBuf &b, u32 *crcs);
  Status check_rows(Chunk &c, u32 rows, ChunkBuf &b, const u32 *crcs);
  Status open_dead();
  Status grow_map(u32 number);
  u32 buffer_rows(u32 number, u32 rows) const;
  Status grow_memory(Chunk &c, u32 rows);
  Status grow_disk(store::Handle &h, Chunk &c, u64 want_blocks);
  Status replace_disk(store::Handle &h, Chunk &c, u64 want_blocks, u32 rows);
  Status take_pieces(store::Handle &h, Chunk &c, u64 want_blocks, u64 *got);
  Status store_pieces(store::Handle &h, const Chunk &c, bool moved);
  void free_pieces(store::Handle &h, const disk::ChunkPiece *pieces, u32 n, u64 birth);
  Status start_chunk(u32 number, u32 rows);
  Status room_in(u32 number, u32 rows);
  u64 blocks_of(const Chunk &c) const;
  u64 blocks_for(const Chunk &c, u32 rows, bool ahead) const;
  Status add_damaged(u32 slot);

  store::Volume &volume_;
  ChunkCache &cache_;
  const u32 cid_;
  const simd::Space space_;
  const u32 stride_, group_rows_;
  u32 shift_ = 0;
  u32 aux_bytes_ = 0;
  std::atomic<ChunkMap *> map_{nullptr};
  std::atomic<u32> slots_{0}, live_{0};
  std::atomic<u64> disk_blocks_{0};
  std::atomic<bool> compact_{false};
  std::atomic<u32> shown_chunks_{0};  // that readers see; changed by the cache under its lock
  u8 *bounce_ = nullptr;
  Chunk *room_[2] = {};  // pinned chunks of the rows being appended
  u32 rooms_ = 0;
  Mutex damaged_lock_{"vexfs_damaged_rows"};
  Vec<u32> damaged_;
  std::atomic<u32> damaged_count_{0}, bad_dead_{0};
};

// A reader's section: the rows that were published when it began stay readable until it ends. May sleep inside.
class View : Pinned {
 public:
  // show_dead: what is dead looks alive, for a caller that knows better.
  explicit View(Table &t, bool show_dead = false);
  ~View();
  RowView &rows() { return view_; }
  u32 slots() const { return slots_; }  // published when the view began, or was refreshed
  void refresh();
  Table &table() { return t_; }
  // Two views, of tables with caches of their own, that are held together: a pause of one is one of both. While a cache
  // waits for its readers to go, nobody must be waited for who waits for the other cache's.
  void link(View &other) {
    linked_ = &other;
    other.linked_ = this;
  }

 private:
  static Status fault(RowView &v, u32 number);
  static Status fetch(RowView &v, const u32 *slots, const void **rows, u32 *aux, u32 n);
  static void pause(RowView &v);
  void take();
  Table &t_;
  RowView view_;
  View *linked_ = nullptr;
  Box<RowFetch> fetch_;  // from the first use on
  int token_;
  u32 slots_;
};

}  // namespace vexfs::vector
