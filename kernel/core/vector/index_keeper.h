// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Keeps the index of one collection: which rows it holds, who inserts the others, replacing it, and its checkpoint.
//
// Rows are claimed for insertion in order, in small runs, by whoever has time: the caller that added rows, a background
// thread, a builder. Slots below upto are in the index (or dead); those from there on searches scan exactly, most
// of them only what nobody has claimed, or finished (index_backlog.cc). An index that turns out damaged is dropped and built again from the
// rows. One that must learn does so in the hands of the first thread that has rows for it when there are enough of them;
// until then all rows are scanned.
//
// When memory is short, an index that nobody uses is *parked*: dropped from memory, to be opened again from its checkpoint
// by whoever needs it next (index_parking.cc).
//
// Locks: lock_ (spin) guards the pointer and the claims; job_ (mutex) serialises checkpoint, rebuild, changes of kind and
// parking; open_lock_ (mutex, inside job_) serialises opening what was parked. No handle may be open and no view may be held
// when a function here is called, except acquire and release.
#pragma once
#include "index_kinds.h"
#include "recall_tuner.h"
#include "table.h"

namespace vexfs::vector {

// Collections of fewer rows ever added are searched by an exact scan, which is no slower than a walk there. Their graph
// has no checkpoint: inserting so few again costs less than a blob on disk.
constexpr u32 walked_slots_min = 512;

struct SlotRun {
  u32 begin = 0, end = 0;
};

// One index, referenced by those that use it.
struct LiveIndex : Pinned {
  LiveIndex() = default;
  IndexPtr index;
  std::atomic<u32> refs{1};
  std::atomic<u32> upto{0};
  std::atomic<bool> bad{false};  // a blob could not be read
  bool learning = false;         // lock_: a thread lets it learn
  u32 learn_after = 0;           // lock_: slots from which on to try again, after it could not
  u32 claimed = 0;               // lock_
  static constexpr u32 claims_max = 64;
  SlotRun claims[claims_max];  // lock_: runs being inserted
  u32 nclaims = 0;
  std::atomic<usize> accounted{0};  // bytes told to the cache; changes under lock_
  // where blobs come from
  Table *table = nullptr;
  std::atomic<u64> generation{0};  // of the checkpoint that it was opened from, or last saved as
  bool aside = false;              // it is being built by replace(), and saved aside
  u64 stored_as = 0;  // job_: what is clean lies in the checkpoint of this generation; 0: not all does, or nothing
};

struct IndexFigures {
  IndexKind kind = IndexKind::flat;
  u64 rows = 0, indexed = 0, dead = 0, memory_bytes = 0, checkpoint_slots = 0, checkpoint_bytes = 0;
  u32 max_level = 0;
  u16 codes = 0;                                  // enum vexfs_codes: what distances are taken on
  u32 lists = 0, pq_m = 0, tables = 0, bits = 0;  // what is used of them
};

IndexParams index_params_of(const disk::ConfigItem &config);

class IndexKeeper : Pinned {
 public:
  IndexKeeper(Table &t, const disk::ConfigItem &config);
  ~IndexKeeper();
  // Opens the checkpoint, or begins an empty index. nomem, io; damage of the checkpoint is logged and not an error.
  Status open();

  // The index, for searches; opened if it was parked. Null when no row is in it: the collection is flat, or too small for
  // an index that must learn, or the index has just been dropped as damaged; or there is no memory to open it.
  LiveIndex *acquire();
  void release(LiveIndex *l);
  // The caller of a search or insert got an error: if the index is to blame, it is replaced by an empty one, to be
  // built again. True: it was.
  bool blame(LiveIndex *l, Error why);

  // Inserts up to `budget` rows that are not indexed yet. Returns how many were done; errors of memory or I/O leave the
  // rows for later.
  // What keeps too much for its next checkpoint is not inserted into: the caller writes one, or that ends the work. Whether
  // it does: no; if nobody else has the index in hand, who may be long about it; or as soon as nobody has.
  enum class Saves : u8 { no, if_free, must };
  Result<u32> work(u32 budget, Saves saves, bool (*interrupted)(void *), void *ctx);
  // ---- rows not indexed yet (index_backlog.cc)
  u32 backlog();  // how many nobody is inserting; of a parked index, if they are worth opening it
  // Those below n that a walk that begins now may not meet, in ascending runs that do not touch; at most unindexed_runs.
  static constexpr u32 unindexed_runs = LiveIndex::claims_max + 1;
  u32 unindexed(const LiveIndex &l, u32 n, SlotRun *out);
  void tail_scanned(u64 rows);  // a search had to score so many
  // How many rows who has added some is to index now, of those that wait; threads: there are some that do it behind.
  u32 share_of(u32 added, u32 waiting, bool threads);
  void not_indexed(u32 rows);  // of such a share: others pay for them
  // Is somebody working through all rows, to learn from them or to insert them?
  bool building() const { return building_.load(std::memory_order_relaxed) != 0; }
  u32 reached();  // slots below are in the index, in memory or parked

  // Inserts all rows that are there now, by several threads, and waits for those that others are inserting.
  Status build(u32 threads, bool (*interrupted)(void *), void *ctx);
  // A new index with these parameters (the seed stays), built aside, then put in place. flat: drops the index.
  Status replace(const IndexParams &params, bool build_first, u32 threads, bool (*interrupted)(void *), void *ctx);
  // If the collection has outgrown what the index has learnt, or much of the index is dead rows: builds a new one aside,
  // and puts it in place. Takes long, and holds up nobody; background work. One thread at a time: others return. An index
  // that mends itself does instead: a piece in each call, while `pieces`, and half of the time at most; else all of it.
  Status renew(bool pieces, bool (*interrupted)(void *), void *ctx);
  // When renew() is to be called again because there is more to mend; 0: whenever it suits.
  u64 renew_again_ns() const { return mend_again_.load(std::memory_order_relaxed); }
  Status checkpoint();
  bool checkpoint_due();  // by policy, while mounted
  // Is the graph ahead of its checkpoint, so that the next mount would search another one?
  bool checkpoint_wanted_at_unmount();
  Status drop_checkpoint();                                                 // frees it on disk
  u32 covered() const { return covered_.load(std::memory_order_relaxed); }  // slots in the checkpoint
  void figures(IndexFigures *out);
  // ---- memory (index_parking.cc)
  // Parks the index if nobody uses it. One that is ahead of its checkpoint stays, unless `write` lets that be brought up to
  // it first. Returns the bytes freed.
  usize evict(bool write);
  usize evictable_bytes();  // what that would free, but for what is not saved
  u64 used_ns() const { return used_.load(std::memory_order_relaxed); }  // the last use
  // ---- recall
  RecallTuner &recall() { return recall_; }
  // A slice of measuring it, if it is wanted and due. True: there is more to do. wait: for another thread that is at it.
  bool measure_recall(bool wait, bool (*interrupted)(void *), void *ctx);
  // Stores what was measured, if that has changed (recall_item.cc), in a transaction of its own. A failure is of no
  // consequence: it is tried again with the next checkpoint, or the next round of the background.
  void save_recall();
  // The index holds no slot of [begin, end) that a walk could reach (so that its rows may be freed).
  bool holds_any(u32 begin, u32 end);

 private:
  struct Job;
  // What is kept of an index that was let go of.
  struct Parked {
    bool is = false;
    u32 upto = 0;  // slots in its checkpoint; 0: it has none, and begins empty
    IndexCounts counts;
  };
  LiveIndex *hold();
  LiveIndex *hold_open();
  LiveIndex *reopen(const Parked &was, bool *lost);
  void touch();
  bool unsaved();
  usize park();
  u32 parked_backlog(u32 slots) const;  // lock_ held
  u32 pay(u32 added);
  Status checkpoint_locked();  // job_ held
  void warn_unusable() const;
  IndexParams params();
  Result<LiveIndex *> make_empty(const IndexParams &params);
  Result<bool> learnt(LiveIndex &l, bool (*interrupted)(void *), void *ctx);
  Status learn(LiveIndex &l, bool (*interrupted)(void *), void *ctx);
  bool waits_for_rows(LiveIndex &l);
  bool worn(LiveIndex &l, u32 slots);
  Status renew_from(LiveIndex &l, bool (*interrupted)(void *), void *ctx);
  Status mend(LiveIndex &l, bool pieces, bool (*interrupted)(void *), void *ctx);
  Result<bool> mend_piece(LiveIndex &l, bool now, bool (*interrupted)(void *), void *ctx);
  Result<bool> mend_locked(LiveIndex &l, bool (*interrupted)(void *), void *ctx);
  usize unsaved_max() const;
  Result<LiveIndex *> open_checkpoint(bool first);
  void install(LiveIndex *l);
  static void destroy(LiveIndex *l, ChunkCache &cache);
  static const char *try_blob(LiveIndex &l, u32 blob, MutBytes out, disk::BlobItem *used, Status *s);
  static Status read_blob(void *ctx, u32 blob, MutBytes out);
  static Status read_parts(void *ctx, const BlobPart *parts, u32 n);
  static Status try_parts(LiveIndex &l, const BlobPart *parts, u32 n);
  bool claim(LiveIndex &l, u32 max, u32 *lo, u32 *hi);
  void finish(LiveIndex &l, const SlotRun &run, u32 resume_at);
  static void retire(LiveIndex &l, const SlotRun &run, u32 resume_at);  // lock_ held
  Status insert_run(LiveIndex &l, u32 lo, u32 hi, Scratch &scratch, bool (*interrupted)(void *), void *ctx,
                    u32 *stopped);
  Result<u32> work_on(LiveIndex &l, u32 budget, Saves saves, bool (*interrupted)(void *), void *ctx);
  bool full(LiveIndex &l) const;
  Result<bool> relieve(LiveIndex &l, Saves saves, bool (*interrupted)(void *), void *ctx);
  Result<bool> relieve_locked(LiveIndex &l);
  bool save_later();
  void save_failed(const Status &s);
  Status build_all(LiveIndex &l, u32 threads, bool (*interrupted)(void *), void *ctx);
  Status build_on(LiveIndex &l, u32 threads, bool (*interrupted)(void *), void *ctx);
  Status settle(LiveIndex &l, bool (*interrupted)(void *), void *ctx);
  void account(LiveIndex &l);
  Status save(LiveIndex &l, u32 covered);
  struct SavedBlobs;
  Status save_blob(LiveIndex &l, u32 blob, u32 covered, SavedBlobs &out);
  Status publish_blobs(SavedBlobs &saved, Status s);
  Status save_blobs(LiveIndex &l, u32 covered, u64 generation);
  Status save_header(LiveIndex &l, u32 covered, u64 generation, u32 nblobs, u64 bytes);
  Status purge_blobs();
  Result<bool> counts_for(u32 blob, u64 off, u64 generation, u32 nblobs);
  void drop_aside();
  Result<store::Extent> take_blocks(u64 goal, u64 n);
  usize kept_for_reads() const;
  Result<usize> read_header(Vec<u8> &buf);
  Status load_recall();

  Table &table_;
  store::Volume &volume_;
  Spin lock_{"vexfs_index"};
  Mutex job_{"vexfs_index_job"};
  WaitQueue finished_{"vexfs_index_finished"};  // woken when a run is over
  Mutex open_lock_{"vexfs_index_open"};
  LiveIndex *live_ = nullptr;  // lock_
  Parked parked_;              // lock_; not while there is a live one
  IndexParams params_;         // lock_
  std::atomic<u64> used_{0};   // vx_clock_mono_ns()
  std::atomic<u64> owed_{0};   // scans of a row that searches had to do, and nobody has paid for
  RecallTuner recall_;
  Mutex recall_save_{"vexfs_recall_save"};  // inside job_
  std::atomic<u64> recall_save_after_{0};   // after a failure
  std::atomic<bool> renewing_{false};
  std::atomic<u32> building_{0};
  std::atomic<u32> renew_after_{0};  // slots from which on renewing is tried again, after it failed
  std::atomic<u32> dead_kept_{0};    // dead rows that the last one left
  std::atomic<u64> mend_again_{0};   // vx_clock_mono_ns() from which on mending goes on; 0: none has begun
  std::atomic<u32> covered_{0};
  std::atomic<u64> checkpoint_bytes_{0};
  // job_: the header on disk, and whether there may be blobs that do not count.
  u64 generation_ = 0;
  u32 nblobs_ = 0;
  bool header_on_disk_ = false;
  bool tidy_ = false;
  // Blobs that no header tells of: of an index that is being built, or was, and has no checkpoint yet.
  struct Aside {
    LiveIndex *of = nullptr;
    u64 generation = 0;
    u32 nblobs = 0;
  } aside_;
  Mutex relief_{"vexfs_index_relief"};  // who saves what is built aside
  // After a checkpoint for which there was no room: when another is tried, or with how many free blocks.
  std::atomic<u64> save_after_{0}, save_with_{0};
};

}  // namespace vexfs::vector
