// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The vector room of a mounted filesystem: all collections, the chunk cache, hooks into files, background work.
//
// Life: Filesystem::open -> Engine::create -> start (hooks, commit participant) -> Filesystem::recover -> recover ->
// ... -> stop (checkpoints, threads) -> Filesystem::shutdown -> Volume::commit -> ~Engine -> ~Filesystem.
//
// Locks, from the outside in: quiet_lock_, Inode::meta_lock, Volume::begin(), open_lock_, owners_, Collection's writer
// lock, map_lock_, the chunk cache's.
#pragma once
#include "collection.h"
#include "scratch.h"
#include "stats.h"

namespace vexfs::vector {

class Engine;

constexpr u64 default_cache_bytes = u64{1} << 30;

struct EngineOptions {
  u64 cache_bytes = 0;        // memory for rows and indexes together; 0: default_cache_bytes
  u32 threads = 0;            // background index threads
  Engine *present = nullptr;  // of a snapshot: the engine of the filesystem that it is one of; outlives this one
};

struct CollectionParams {
  u32 dim = 0;
  simd::Element element = simd::Element::f32;
  simd::Metric metric = simd::Metric::l2;
  IndexKind index = IndexKind::flat;
  u32 m = 16, ef_construction = 200, ef_search = 64;
  u32 lists = 0, probes = 0, pq_m = 0, tables = 0, bits = 0, codes = 0;  // as in IndexParams
  u32 recall = 0;        // per mille that searches are to reach; 0: ef_search is what counts
  bool compact = false;  // rows are not kept in memory
  char name[disk::kNameBytes] = {};
  char model[disk::kNameBytes] = {};
};

// Keeps a collection open while it is used.
class CollectionRef {
 public:
  CollectionRef() = default;
  CollectionRef(Engine *e, Collection *c) : e_(e), c_(c) {}
  CollectionRef(CollectionRef &&o) noexcept : e_(o.e_), c_(std::exchange(o.c_, nullptr)) {}
  CollectionRef &operator=(CollectionRef &&o) noexcept {
    if (this != &o) {
      reset();
      e_ = o.e_;
      c_ = std::exchange(o.c_, nullptr);
    }
    return *this;
  }
  ~CollectionRef() { reset(); }
  void reset();
  Collection *get() const { return c_; }
  Collection *operator->() const { return c_; }
  Collection &operator*() const { return *c_; }
  explicit operator bool() const { return c_ != nullptr; }

 private:
  Engine *e_ = nullptr;
  Collection *c_ = nullptr;
};

class Engine : Pinned {
 public:
  static Result<Box<Engine>> create(fs::Filesystem &fs, const EngineOptions &o);
  Engine(fs::Filesystem &fs, const EngineOptions &o);
  ~Engine();
  Status start();
  // Frees what a crash left of dropped collections. Nothing on a read-only volume.
  Status recover();
  // Brings the checkpoints of all indexes up to the rows: before the filesystem becomes read-only. Calls may be running.
  void save_indexes();
  // Stops threads, saves indexes. No call is running.
  void stop();

  fs::Filesystem &filesystem() const { return fs_; }
  store::Volume &volume() const { return volume_; }
  ChunkCache &cache() { return cache_; }
  VectorStats &stats() { return stats_; }
  FilterMemory &filter_memory() { return filter_memory_; }
  ScratchPool &scratches() { return scratches_; }
  Engine *present() const { return present_; }  // EngineOptions::present

  // ---- finding collections. noent; io, corrupt, nomem.
  Result<CollectionRef> find(u32 cid);
  Result<CollectionRef> of_directory(u64 ino);
  // The collection that the inode, or the nearest directory above it, carries.
  Result<CollectionRef> nearest(fs::Inode &ip);
  // The configuration of the first collection with id > after, without opening it. noent.
  Result<u32> next(u64 after, disk::ConfigItem *config, disk::StateItem *state);

  // exist: the directory carries one already; noent: it has been removed; inval; opnotsupp.
  Result<CollectionRef> create_collection(fs::Inode &dir, const CollectionParams &p);
  // Drops it and frees everything; `ref` is given up. After a crash in the middle the next mount goes on.
  Status drop_collection(CollectionRef ref);

  // Rows were added: index them, here or in the background.
  void rows_added(Collection &c, u32 n, bool (*interrupted)(void *), void *ctx);
  // A recall is wanted of the collection's searches, and what its index reaches was not measured: by a thread, soon.
  void want_recall(Collection &c);
  // The same, here and now, if it is due; or in the background where there are threads, unless `wait`.
  void measure_recall(Collection &c, bool wait, bool (*interrupted)(void *), void *ctx);
  void count_insert(u32 rows, u64 ns);
  void count_delete(u32 rows) { stats_.deletes.fetch_add(rows, std::memory_order_relaxed); }
  Status checkpoint(Collection &c);
  // On: threads write no checkpoints from here on (waits for one that is under way). Indexing in memory goes on.
  void quiesce(bool on);

  // ---- memory (engine_memory.cc)
  // Lets go of what is over the limit, if anything is. No view, no handle, no lock is held.
  void relax();
  void set_limit(u64 bytes);  // 0: the default
  void trim(Collection &c);   // of a compact collection: rows that need not be in memory go
  // In units of about 2 MiB, for the host's shrinker.
  usize shrinkable() const;
  usize shrink(usize wanted);
  // "stats", "performance", "simd", "cache": this room's lines of each. False: not one of these.
  bool print(const char *what, TextSink out);

 private:
  friend class CollectionRef;
  friend class OwnersShared;
  static constexpr u32 buckets = 256;
  static u32 bucket(u64 v) { return static_cast<u32>((v * 0x9e3779b97f4a7c15) >> 56); }
  Collection *lookup(u32 cid);  // map_lock_ held; counts a user
  Collection *lookup_dir(u64 ino);
  Result<CollectionRef> open(u32 cid);
  Result<Collection *> load(u32 cid);
  void enter_map(Collection &c);
  void leave_map(Collection &c);
  void put(Collection *c);
  Status read_config(u32 cid, disk::ConfigItem *out);
  Status hide_dead_owners(Collection &c);
  Status drop_items(store::Handle &h, u32 cid, u64 dir_ino, bool unlink_dir);
  void close(Collection *c);  // waits for its users, frees the object

  Status purge(u32 cid);
  Status purge_rows(u32 cid);
  Status purge_extents(u32 cid, VectorItem type);
  Status purge_items(u32 cid);
  Status purge_config(u32 cid);

  // hooks
  static Result<u32> before_unlink(void *ctx, fs::Inode &ip);
  static Status unlinked(void *ctx, store::Handle &h, fs::Inode &ip);
  static Status deleting(void *ctx, fs::Inode &ip);
  Status hide_owned(store::Handle &h, u64 ino, bool with_record);
  Status prepare_hide(u64 ino);
  Result<bool> holds_rows(u64 dir_ino);
  Status delete_owned(u64 ino);
  Status delete_directory(u64 ino);

  CollectionRef coldest_index(u64 *after, u32 *cid);
  usize evict_indexes(u64 keep, u64 until, bool write);
  void relax_in_background();
  usize shrink_rows(usize wanted);
  void throttle();
  void kick();
  static void thread_main(void *arg);
  bool background_round(u32 *cursor, u64 *again);
  CollectionRef next_open(u32 after);

  fs::Filesystem &fs_;
  Engine *const present_;
  store::Volume &volume_;
  store::Tree &tree_;
  OwnerRefs refs_;
  ChunkCache cache_;
  FilterMemory filter_memory_{&cache_};
  ScratchPool scratches_;
  VectorStats stats_;
  u32 nthreads_;
  store::Participant participant_;
  bool started_ = false;

  Mutex open_lock_{"vexfs_collection_open"};
  RwSem owners_{"vexfs_vector_owners"};
  RwSem map_lock_{"vexfs_collections"};
  Collection *by_cid_[buckets] = {};
  Collection *by_dir_[buckets] = {};
  WaitQueue idle_{"vexfs_collection_idle"};

  Vec<vx_thread *> threads_;
  WaitQueue work_{"vexfs_vector_work"};
  std::atomic<bool> stop_{false};
  std::atomic<u64> kicks_{0};
  std::atomic<usize> shrink_wanted_{0};
  std::atomic<u64> evict_again_{0};         // when callers look for indexes to let go again
  RwSem quiet_lock_{"vexfs_vector_quiet"};  // shared by a thread while it writes; outermost
  bool quiet_ = false;
};

// Held while rows with owners are added, so that an owner cannot lose its last name in between.
class OwnersShared : Pinned {
 public:
  OwnersShared(Engine &e, bool wanted) : lock_(wanted ? &e.owners_ : nullptr) {
    if (lock_) lock_->lock_shared();
  }
  ~OwnersShared() {
    if (lock_) lock_->unlock_shared();
  }

 private:
  RwSem *lock_;
};

}  // namespace vexfs::vector
