// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The cache of vector chunks: bounded memory for rows of all tables of a filesystem, read without locks.
//
// Readers enter an epoch and follow ChunkRef pointers; a chunk that left the cache is freed only after every epoch that
// could have seen it has ended. Eviction is second-chance FIFO without marks on the read path: a victim is unpublished
// first and stays in limbo for a while; a reader that faults on it puts it back (no I/O), at the young end.
// Chunks with rows that are not on the device yet (dirty, or being written by a commit) are never evicted.
//
// Rows and indexes share the limit: rows may take what indexes leave, and a quarter of it in any case. That indexes keep to
// the other three is the engine's work (engine_memory.cc); what is dirty leaves with a commit, which inserters ask for.
//
// Locks: `lock_` (spin) guards all chunk state, both lists, and publication in maps; `dirty_lock_` guards the list of
// dirty chunks, and is taken by commits in freeze: nobody may call Volume::begin() under it. `reclaim_lock_` serialises
// reclaim, which waits for epochs: never call reclaim() or reap() inside an epoch.
#pragma once
#include "../base/lock.h"
#include "../base/memory.h"
#include "../disk/vector_items.h"
#include "../store/volume.h"
#include "row_meta.h"
#include "rows.h"

namespace vexfs::vector {

class Table;

// The memory of a chunk: [aux words][rows ...] and the metadata of the rows. `cap` rows fit; more can be put in where the
// metadata is wide.
struct ChunkBuf : Retired {
  u8 *base = nullptr;
  usize base_bytes = 0;
  u32 rows_at = 0;
  u32 cap = 0;
  ChunkMeta *meta = nullptr;
  u8 *rows() const { return base + rows_at; }
  usize bytes() const { return base_bytes + meta->bytes(); }
};

struct Chunk : Pinned {
  Chunk(Table &t, u32 n) : table(&t), number(n) {}
  enum class Place : u8 { absent, active, limbo };

  Table *table;
  u32 number;
  ListHook place_hook;                // active or limbo list
  ListHook dirty_hook, writing_hook;  // under dirty_lock_
  Place place = Place::absent;
  std::atomic<bool> loading{false};
  u32 pins = 0;                        // an appender is at work: not evictable
  u32 dirty_lo = 0, dirty_hi = 0;      // rows not yet handed to a commit; dirty_hi 0: none
  bool writing = false;                // a commit's or a sync's I/O is reading the buffer
  u32 writing_lo = 0, writing_hi = 0;  // the rows of that
  ChunkBuf *buf = nullptr;
  std::atomic<const ChunkMeta *> meta{nullptr};
  std::atomic<std::atomic<u64> *> dead{nullptr};  // bitmap of chunk_rows bits; kept for the table's life
  std::atomic<u32> dead_count{0};
  std::atomic<u32> single_reads{0};    // of its rows, since it was in memory last
  disk::ChunkPiece *pieces = nullptr;  // kChunkPieces of them, once the chunk was appended to
  u32 npieces = 0;
  bool replace =
      false;  // a state that a rollback replaced has other rows behind ours in them: the first append moves us
};

// The chunks of a table, by number. Replaced by a larger one when it is full; the old one is retired. All chunks of a
// full map are complete, so an old map never shows a chunk that is still growing.
struct ChunkMap : Retired {
  u32 cap = 0;
  usize bytes = 0;
  ChunkRef *refs = nullptr;
  std::atomic<Chunk *> *chunks = nullptr;
  static ChunkMap *make(u32 cap);  // null: no memory
};

class ChunkCache : Pinned {
 public:
  ChunkCache(store::Volume &v, u64 limit_bytes);
  ~ChunkCache();
  Status init();

  int enter() { return vx_epoch_enter(&epoch_); }
  void leave(int token) { vx_epoch_leave(&epoch_, token); }

  // Makes the chunk resident. May be called in an epoch. io, nomem, corrupt; noent: the chunk has no rows.
  Status fault(Table &t, u32 number);
  // The same, and it stays until unpin.
  Status fault_pin(Table &t, u32 number);
  void unpin(Chunk &c);
  // A new chunk, or a longer buffer of the chunk that is being filled (pinned): readers see it at once; the old is
  // retired.
  void install(Chunk &c, ChunkBuf *buf, u32 pins = 0);
  // Pins the chunk if it has a buffer. False: it has none.
  bool pin_present(Chunk &c);
  // The chunk is full (and pinned): its metadata gets smaller, if there is memory for that.
  void pack(Chunk &c);
  // The map is replaced by a copy in `bigger`.
  void replace_map(Table &t, ChunkMap *bigger);
  // Rows [lo, hi) of the pinned chunk were filled in under an open handle.
  void mark_dirty(Chunk &c, u32 lo, u32 hi);

  ChunkBuf *make_buf(Table &t, u32 cap);  // null: no memory
  void free_buf(ChunkBuf *b);             // never published
  void retire(Retired *r);

  // Frees at least `want` bytes if that many can go, and what was retired. Returns what it freed. Not in an epoch. When
  // another is at it, 0, or it is waited for.
  usize reclaim(usize want, bool wait = false);
  // Cheap check at safe points (no epoch, no handle, no lock held).
  void relax() {
    if (over_limit() || retired_count_.load(std::memory_order_relaxed) >= 64) relax_slow();
  }
  u64 rows_limit() const {
    const u64 all = limit(), indexes = external();
    return max_of(all > indexes ? all - indexes : 0, all / rows_share);
  }
  bool over_limit() const { return resident() > rows_limit(); }
  // Would so many bytes more not fit?
  bool tight(usize bytes) const { return resident() + bytes > rows_limit(); }
  // What indexes may take.
  u64 indexes_limit() const { return limit() - limit() / rows_share; }
  // Lets go of a table's chunks that hold slots below `below` alone and are not in use.
  void trim(Table &t, u32 below);
  // Throws out all chunks of a table (not dirty ones unless `discard`); used when it is closed or dropped.
  void forget(Table &t, bool discard);

  usize shrinkable() const { return chunks_.load(std::memory_order_relaxed); }
  usize shrink(usize chunks_wanted);
  u64 resident() const { return resident_.load(std::memory_order_relaxed); }
  u64 limit() const { return limit_.load(std::memory_order_relaxed); }
  void set_limit(u64 bytes) { limit_.store(bytes, std::memory_order_relaxed); }
  // Memory of indexes, which counts against the limit.
  void set_external(s64 delta) { external_.fetch_add(static_cast<u64>(delta), std::memory_order_relaxed); }
  u64 external() const { return external_.load(std::memory_order_relaxed); }

  // Commit participant's part.
  Status freeze(Vec<vx_io> &ios);
  void done(int err);
  bool any_dirty();
  u64 dirty_bytes();  // of chunks that a commit has to write before they can go

  std::atomic<u64> loads{0}, evictions{0}, rescues{0}, damaged_rows{0};
  std::atomic<u64> index_evictions{0}, index_reopens{0};
  std::atomic<u64> row_reads{0}, row_read_bytes{0};  // rows read without their chunks (row_fetch.h)

 private:
  bool rescue(Chunk &c);
  friend class Table;
  void publish(Chunk &c);
  void unpublish(Chunk &c);
  static bool busy(const Chunk &c) {
    return c.pins || c.dirty_hi || c.writing || c.loading.load(std::memory_order_relaxed);
  }
  usize reclaim_locked(usize want);
  Status fault_common(Table &t, u32 number, bool pin);
  static constexpr u64 rows_share = 4;  // one part of so many of the limit is for rows, however large indexes are
  void relax_slow();
  void to_limbo(usize bytes_wanted);
  Status add_writes(Chunk &c, Vec<vx_io> &ios);

  store::Volume &volume_;
  std::atomic<u64> limit_;
  vx_epoch epoch_;
  bool epoch_made_ = false;
  Spin lock_{"vexfs_chunks"};
  Mutex dirty_lock_{"vexfs_dirty_chunks"};
  Mutex reclaim_lock_{"vexfs_chunk_reclaim"};
  WaitQueue loaded_{"vexfs_chunk_load"};
  List<Chunk, &Chunk::place_hook> active_, limbo_;
  List<Chunk, &Chunk::dirty_hook> dirty_;
  List<Chunk, &Chunk::writing_hook> writing_;
  List<Retired, &Retired::retired_hook> retired_;
  bool io_active_ = false;  // a commit's writes may still read retired buffers
  usize limbo_bytes_ = 0;
  std::atomic<u64> resident_{0}, external_{0};
  std::atomic<usize> chunks_{0}, retired_count_{0};
};

}  // namespace vexfs::vector
