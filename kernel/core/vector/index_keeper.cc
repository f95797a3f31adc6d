// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Ownership of a collection's index, and the work of inserting rows into it. Checkpoints are in index_checkpoint.cc.
#include "index_keeper.h"

namespace vexfs::vector {
namespace index_keeper_impl {
namespace {

constexpr u32 run_rows = 16;  // claimed at a time

// An index is built anew when it has more dead rows than this and a share of the live ones: walks still pass through
// them, so a search costs that share more. Each row is inserted again at most once for so many that died.
constexpr u32 dead_min = 512, dead_share = 4;
// One that mends itself does so earlier: of its searches dead rows take a share of what they may read.
constexpr u32 mended_share = 8;
constexpr u64 mend_retry_ns = 60'000'000'000;  // after it failed
constexpr u64 mend_save_ns = 50'000'000;       // when a checkpoint has to come first
constexpr u64 mend_pause_min_ns = 5'000'000;   // also when somebody else is at work
constexpr usize lists_share = 8;               // of the memory limit: for the lists of dead rows while mending
// Of the memory limit: what an index may keep for its next checkpoint.
constexpr usize unsaved_share = 4, unsaved_min = usize{256} << 10;

constexpr s64 wait_ms = 20;  // between looks whether the caller was killed

bool never(void *) { return false; }

}  // namespace
}  // namespace index_keeper_impl

IndexParams index_params_of(const disk::ConfigItem &c) {
  return {.kind = static_cast<IndexKind>(c.index),
          .m = c.m,
          .ef_construction = c.ef_construction,
          .seed = c.index_seed,
          .lists = c.lists,
          .probes = c.probes,
          .pq_m = c.pq_m,
          .tables = c.tables,
          .bits = c.bits,
          .codes = c.codes};
}

IndexKeeper::IndexKeeper(Table &t, const disk::ConfigItem &config)
    : table_(t), volume_(t.volume()), params_(index_params_of(config)), recall_(t) {
  if (config.recall && config.recall < recall_all) recall_.want();
}

IndexKeeper::~IndexKeeper() { install(nullptr); }

// --------------------------------------------------------------------------------------------------------- references
LiveIndex *IndexKeeper::hold() {
  Guard g(lock_);
  if (live_) live_->refs.fetch_add(1, std::memory_order_relaxed);
  return live_;
}

LiveIndex *IndexKeeper::acquire() {
  LiveIndex *l = hold_open();
  touch();
  if (!l || l->upto.load(std::memory_order_acquire) != 0) return l;
  release(l);
  return nullptr;
}

IndexParams IndexKeeper::params() {
  Guard g(lock_);
  return params_;
}

void IndexKeeper::release(LiveIndex *l) {
  if (!l) return;
  account(*l);  // blobs that were read, nodes that were inserted
  if (l->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy(l, table_.cache());
}

void IndexKeeper::destroy(LiveIndex *l, ChunkCache &cache) {
  cache.set_external(-static_cast<s64>(l->accounted.load(std::memory_order_relaxed)));
  l->~LiveIndex();
  vx_free(l);
}

void IndexKeeper::install(LiveIndex *l) {
  LiveIndex *old;
  {
    Guard g(lock_);
    old = std::exchange(live_, l);
    parked_ = {};
  }
  owed_.store(0, std::memory_order_relaxed);
  release(old);
}

Result<LiveIndex *> IndexKeeper::make_empty(const IndexParams &params) {
  void *p = vx_alloc(sizeof(LiveIndex), 0);
  if (!p) return Errno::nomem;
  auto *l = new (p) LiveIndex;
  l->table = &table_;
  IndexParams wanted = params;
  wanted.compact = table_.compact();
  Result<IndexPtr> index = index_create(table_.space(), wanted);
  if (!index.ok()) {
    l->~LiveIndex();
    vx_free(l);
    return index.error();
  }
  l->index = index.take();
  return l;
}

Status IndexKeeper::open() {
  const IndexParams p = params();
  if (p.kind == IndexKind::flat) return {};
  touch();
  VX_TRY(load_recall());
  Result<LiveIndex *> l = open_checkpoint(true);
  if (l.code() == Errno::nomem) return l.error();
  if (!l.ok()) {
    if (l.code() != Errno::noent) {
      warn_unusable();
      recall_.index_changed(false);
    }
    install(VX_TRY(make_empty(p)));
    return {};
  }
  install(*l);
  return {};
}

void IndexKeeper::warn_unusable() const {
  volume_.log(VX_LOG_WARN)
      .str("collection ")
      .dec(table_.cid())
      .str(": the index checkpoint cannot be used; the index will be built again");
}

bool IndexKeeper::blame(LiveIndex *l, Error why) {
  if (!l->bad.load(std::memory_order_acquire) && !l->index->damaged()) return false;
  if (why.code() == Errno::nomem || why.code() == Errno::intr) return false;
  {
    Guard g(lock_);
    if (live_ != l) return true;  // another has done it
  }
  volume_.log(VX_LOG_WARN)
      .str("collection ")
      .dec(table_.cid())
      .str(": the index is damaged; it is dropped and will be built again");
  Result<LiveIndex *> fresh = make_empty(params());
  LiveIndex *old = nullptr;
  {
    Guard g(lock_);
    if (live_ == l) old = std::exchange(live_, fresh.ok() ? *fresh : nullptr);
  }
  if (old)
    release(old);
  else if (fresh.ok())
    destroy(*fresh, table_.cache());
  covered_.store(0, std::memory_order_relaxed);
  recall_.index_changed(false);
  return true;
}

// ----------------------------------------------------------------------------------------------------------- learning
// Nothing can be inserted before more rows come.
bool IndexKeeper::waits_for_rows(LiveIndex &l) {
  Guard g(lock_);
  const u32 n = table_.slots();
  return l.index->must_learn() && !l.learning && (n < l.index->learn_min() || n < l.learn_after);
}

Status IndexKeeper::learn(LiveIndex &l, bool (*interrupted)(void *), void *ctx) {
  if (!l.index->must_learn()) return {};
  Scratch scratch(false);
  View view(table_);
  return l.index->learn(view.rows(), view.slots(), scratch, interrupted, ctx);
}

// Lets the index learn if it has to. False: there are too few rows for that, or another thread is at it.
Result<bool> IndexKeeper::learnt(LiveIndex &l, bool (*interrupted)(void *), void *ctx) {
  if (!l.index->must_learn()) return true;
  if (waits_for_rows(l)) return false;
  {
    Guard g(lock_);
    if (l.learning) return false;
    l.learning = true;
  }
  building_.fetch_add(1, std::memory_order_relaxed);
  Status s = learn(l, interrupted, ctx);
  building_.fetch_sub(1, std::memory_order_relaxed);
  {
    Guard g(lock_);
    l.learning = false;
    const u32 n = table_.slots();
    if (!s.ok() && s.code() != Errno::intr) l.learn_after = n + n / 8;
  }
  finished_.wake();
  if (s.code() == Errno::again) return false;
  VX_TRY(s);
  account(l);
  return true;
}

// ---------------------------------------------------------------------------------------------------------- insertion
bool IndexKeeper::claim(LiveIndex &l, u32 max, u32 *lo, u32 *hi) {
  u32 n = table_.slots();
  Guard g(lock_);
  if (l.claimed >= n || l.nclaims == LiveIndex::claims_max) return false;
  *lo = l.claimed;
  *hi = static_cast<u32>(min_of<u64>(n, u64{l.claimed} + max));
  l.claimed = *hi;
  l.claims[l.nclaims++] = {*lo, *hi};
  return true;
}

// The run is over; slots from resume_at on (slot_none: none) were not inserted.
void IndexKeeper::finish(LiveIndex &l, const SlotRun &run, u32 resume_at) {
  {
    Guard g(lock_);
    retire(l, run, resume_at);
  }
  finished_.wake();
}

// Of one that was given back before, others may begin where it did, and end elsewhere.
void IndexKeeper::retire(LiveIndex &l, const SlotRun &run, u32 resume_at) {
  for (u32 i = 0; i < l.nclaims; i++) {
    if (l.claims[i].begin != run.begin || l.claims[i].end != run.end) continue;
    l.claims[i] = l.claims[--l.nclaims];
    break;
  }
  if (resume_at != slot_none) l.claimed = min_of(l.claimed, resume_at);
  u32 upto = l.claimed;
  for (u32 i = 0; i < l.nclaims; i++) upto = min_of(upto, l.claims[i].begin);
  // Never backwards: what was inserted stays so. (A run given back lies at or above every claim that was open.)
  if (upto > l.upto.load(std::memory_order_relaxed)) l.upto.store(upto, std::memory_order_release);
}

Status IndexKeeper::insert_run(LiveIndex &l, u32 lo, u32 hi, Scratch &scratch, bool (*interrupted)(void *), void *ctx,
                               u32 *stopped) {
  View view(table_);
  for (u32 slot = lo; slot < hi; slot++) {
    *stopped = slot;
    if (table_.hidden(slot)) continue;
    if (interrupted(ctx)) return Errno::intr;
    Result<const u8 *> row = view.rows().row(slot);
    if (!row.ok() || table_.hidden(slot)) {
      if (!row.ok() && !table_.hidden(slot)) return row.error();
      continue;  // found damaged while its chunk was read
    }
    Status s = l.index->insert(view.rows(), slot, scratch);
    if (!s.ok() && s.code() != Errno::exist) return s;
  }
  *stopped = slot_none;
  return {};
}

Result<u32> IndexKeeper::work_on(LiveIndex &l, u32 budget, Saves saves, bool (*interrupted)(void *), void *ctx) {
  Scratch scratch(false);
  u32 done = 0;
  if (!VX_TRY(learnt(l, interrupted, ctx))) return 0u;
  while (done < budget) {
    u32 lo, hi, stopped = 0;
    if (full(l)) {
      if (saves == Saves::no || !VX_TRY(relieve(l, saves, interrupted, ctx))) break;
      if (interrupted(ctx)) return Errno::intr;
    }
    if (!claim(l, min_of(index_keeper_impl::run_rows, budget - done), &lo, &hi)) break;
    Status s = insert_run(l, lo, hi, scratch, interrupted, ctx, &stopped);
    finish(l, {lo, hi}, stopped);
    if (!s.ok()) {
      return s.error();
    }
    done += hi - lo;
    account(l);
    table_.cache().relax();
    vx_yield();
  }
  if (done) touch();
  return done;
}

Result<u32> IndexKeeper::work(u32 budget, Saves saves, bool (*interrupted)(void *), void *ctx) {
  LiveIndex *l = backlog() ? hold_open() : nullptr;
  if (!l) return 0u;
  Result<u32> r = work_on(*l, budget, saves, interrupted ? interrupted : index_keeper_impl::never, ctx);
  if (!r.ok()) blame(l, r.error());
  release(l);
  return r;
}

// -------------------------------------------------------------------------------------------------------------- build
struct IndexKeeper::Job {
  IndexKeeper *keeper;
  LiveIndex *live;
  bool (*interrupted)(void *);
  void *ctx;
  std::atomic<bool> stop{false};
  std::atomic<int> err{0};
  static bool stopped(void *p) { return static_cast<Job *>(p)->stop.load(std::memory_order_relaxed); }
  static void run(void *p) {
    auto *j = static_cast<Job *>(p);
    Result<u32> r = j->keeper->work_on(*j->live, ~u32{0}, Saves::must, stopped, j);
    if (!r.ok() && r.code() != Errno::intr) j->err.store(r.error().negative(), std::memory_order_relaxed);
  }
};

Status IndexKeeper::build_on(LiveIndex &l, u32 threads, bool (*interrupted)(void *), void *ctx) {
  building_.fetch_add(1, std::memory_order_relaxed);
  Status s = build_all(l, threads, interrupted, ctx);
  building_.fetch_sub(1, std::memory_order_relaxed);
  return s;
}

Status IndexKeeper::build_all(LiveIndex &l, u32 threads, bool (*interrupted)(void *), void *ctx) {
  if (!interrupted) interrupted = index_keeper_impl::never;
  (void)VX_TRY(learnt(l, interrupted, ctx));  // helpers would find nothing to do before
  Job job{this, &l, interrupted, ctx};
  Vec<vx_thread *> helpers;
  for (u32 i = 1; i < min_of(threads, min_of(vx_cpu_count(), LiveIndex::claims_max / 2)); i++) {
    vx_thread *t = nullptr;
    if (!helpers.reserve(helpers.size() + 1).ok() || vx_thread_start(&t, "vexfs-build", Job::run, &job) != 0) break;
    VX_ASSERT(helpers.push(t).ok());
  }
  Result<u32> mine = work_on(l, ~u32{0}, Saves::must, interrupted, ctx);
  if (!mine.ok()) job.stop.store(true, std::memory_order_relaxed);
  for (vx_thread *t : helpers) vx_thread_join(t);
  if (!mine.ok()) return mine.error();
  // What a helper had to leave (no memory, say) is tried once more, and its error shows.
  return settle(l, interrupted, ctx);
}

// Until every row that is there now is in the index. Other threads may hold some of them: they finish them, or give
// them back, and then they are inserted here.
Status IndexKeeper::settle(LiveIndex &l, bool (*interrupted)(void *), void *ctx) {
  const u32 n = table_.slots();
  for (;;) {
    Result<u32> done = work_on(l, ~u32{0}, Saves::must, interrupted, ctx);
    if (!done.ok()) return done.error();
    if (l.upto.load(std::memory_order_acquire) >= n || waits_for_rows(l)) return {};
    if (interrupted(ctx)) return Errno::intr;
    auto ready = [&] {
      Guard g(lock_);
      if (l.learning) return false;
      return l.claimed < n || l.upto.load(std::memory_order_relaxed) >= n;
    };
    finished_.wait(ready, index_keeper_impl::wait_ms);
  }
}

Status IndexKeeper::build(u32 threads, bool (*interrupted)(void *), void *ctx) {
  LiveIndex *l = hold_open();
  if (!l) return {};
  Status s = build_on(*l, threads, interrupted, ctx);
  bool dropped = !s.ok() && blame(l, s.error());
  release(l);
  if (!dropped) return s;
  l = hold();
  if (!l) return Errno::nomem;
  s = build_on(*l, threads, interrupted, ctx);
  release(l);
  return s;
}

Status IndexKeeper::replace(const IndexParams &wanted, bool build_first, u32 threads, bool (*interrupted)(void *),
                            void *ctx) {
  Guard g(job_);
  // Of the index that is there; what is to go needs no place on a disk that may be full.
  if (aside_.of && wanted.kind != IndexKind::flat) VX_TRY(checkpoint_locked());
  aside_ = {};
  LiveIndex *fresh = nullptr;
  IndexParams p = wanted;
  p.seed = params().seed;
  if (p.kind != IndexKind::flat) {
    fresh = VX_TRY(make_empty(p));
    fresh->aside = true;
    Status s = build_first ? build_on(*fresh, threads, interrupted, ctx) : Status();
    fresh->aside = false;
    if (!s.ok()) {
      release(fresh);
      drop_aside();
      return s;
    }
  }
  recall_.index_changed(
      true);  // first, so that what was measured of the last one is not stored under the new one's name
  {
    Guard guard(lock_);
    params_ = p;
  }
  install(fresh);
  recall_.index_changed(true);  // nor what has been begun since
  renew_after_.store(0, std::memory_order_relaxed);
  dead_kept_.store(0, std::memory_order_relaxed);
  covered_.store(0, std::memory_order_relaxed);
  return {};
}

// Dead rows beyond those that building anew did not get rid of (there are none, unless the counts are not to be trusted).
bool IndexKeeper::worn(LiveIndex &l, u32 slots) {
  const u32 live = table_.live();
  const u64 nodes = l.index->counts().nodes, kept = u64{live} + dead_kept_.load(std::memory_order_relaxed);
  const u32 share = l.index->mends() ? index_keeper_impl::mended_share : index_keeper_impl::dead_share;
  const u32 most = max_of(index_keeper_impl::dead_min, live / share);
  return nodes > kept + most || l.index->outgrown(slots);
}

Status IndexKeeper::renew(bool pieces, bool (*interrupted)(void *), void *ctx) {
  if (renewing_.exchange(true, std::memory_order_acquire)) return {};
  LiveIndex *l = hold();
  const u32 slots = table_.slots();
  Status s;
  if (l && l->index->mends()) {
    s = mend(*l, pieces, interrupted, ctx);
    if (!s.ok()) blame(l, s.error());
  } else if (mend_again_.store(0, std::memory_order_relaxed);
             l && slots >= renew_after_.load(std::memory_order_relaxed) && worn(*l, slots))
    s = renew_from(*l, interrupted, ctx);
  if (!s.ok() && s.code() != Errno::intr) renew_after_.store(slots + slots / 8, std::memory_order_relaxed);
  release(l);
  renewing_.store(false, std::memory_order_release);
  return s;
}

// What may be kept in memory for the next checkpoint.
usize IndexKeeper::unsaved_max() const {
  using namespace index_keeper_impl;
  return max_of(static_cast<usize>(table_.cache().limit() / unsaved_share), unsaved_min);
}

bool IndexKeeper::full(LiveIndex &l) const { return l.index->unsaved_bytes() > unsaved_max() && !volume_.read_only(); }

// Saves what is full, unless somebody else does so first. False: there is no more to do for this index now, as it is none
// of the collection's any more, or somebody is at work who may be so for long (who must waits).
Result<bool> IndexKeeper::relieve(LiveIndex &l, Saves saves, bool (*interrupted)(void *), void *ctx) {
  if (l.aside) {
    Guard g(relief_);
    if (full(l)) VX_TRY(save(l, l.upto.load(std::memory_order_acquire)));
    return true;
  }
  while (!job_.try_lock()) {
    if (saves != Saves::must) return false;
    if (interrupted(ctx)) return Errno::intr;
    finished_.wait([&] { return !full(l); }, index_keeper_impl::wait_ms);
  }
  Result<bool> r = relieve_locked(l);
  job_.unlock();
  return r;
}

Result<bool> IndexKeeper::relieve_locked(LiveIndex &l) {
  {
    Guard g(lock_);
    if (live_ != &l) return false;
  }
  if (!full(l)) return true;
  if (save_later()) return Errno::nospc;
  VX_TRY(checkpoint_locked());
  return true;
}

Status IndexKeeper::mend(LiveIndex &l, bool pieces, bool (*interrupted)(void *), void *ctx) {
  using namespace index_keeper_impl;
  const u64 began = vx_clock_mono_ns();
  if (pieces && began < mend_again_.load(std::memory_order_relaxed)) return {};
  mend_again_.store(0, std::memory_order_relaxed);
  if (volume_.read_only()) return {};
  if (!interrupted) interrupted = never;
  while (l.index->mending() || worn(l, table_.slots())) {
    if (full(l)) {
      mend_again_.store(pieces ? began + mend_save_ns : 0, std::memory_order_relaxed);
      if (pieces) return {};  // that is the caller's work
      VX_TRY(checkpoint());
    }
    Result<bool> more = mend_piece(l, pieces, interrupted, ctx);
    account(l);
    table_.cache().relax();
    const u64 now = vx_clock_mono_ns();
    if (more.code() == Errno::intr) return more.error();
    if (!more.ok()) {
      mend_again_.store(now + mend_retry_ns, std::memory_order_relaxed);
      return more.error();
    }
    if (pieces) {
      mend_again_.store(now + max_of(now - began, mend_pause_min_ns), std::memory_order_relaxed);
      return {};
    }
    vx_yield();
  }
  return {};
}

// Under job_, so that no checkpoint is taken meanwhile. Nothing, if others are not to be waited for.
Result<bool> IndexKeeper::mend_piece(LiveIndex &l, bool now, bool (*interrupted)(void *), void *ctx) {
  if (!now) job_.lock();
  if (now && !job_.try_lock()) return true;
  Result<bool> more = mend_locked(l, interrupted, ctx);
  job_.unlock();
  return more;
}

Result<bool> IndexKeeper::mend_locked(LiveIndex &l, bool (*interrupted)(void *), void *ctx) {
  Scratch scratch(false);
  View view(table_);
  const MendParams params{.settled = l.upto.load(std::memory_order_acquire),
                          .memory = static_cast<usize>(table_.cache().limit() / index_keeper_impl::lists_share),
                          .interrupted = interrupted,
                          .ctx = ctx};
  return l.index->mend(view.rows(), params, scratch);
}

// Built without job_, which others wait for and must get soon: if the index was replaced meanwhile, that counts.
Status IndexKeeper::renew_from(LiveIndex &l, bool (*interrupted)(void *), void *ctx) {
  LiveIndex *fresh = VX_TRY(make_empty(params()));
  Status s = build_on(*fresh, 1, interrupted, ctx);
  if (s.ok() && fresh->index->must_learn()) s = Errno::again;  // most rows are dead
  if (!s.ok()) {
    release(fresh);
    return s;
  }
  Guard g(job_);
  LiveIndex *now = hold();
  const bool same = now == &l;
  release(now);
  if (!same) {
    release(fresh);
    return {};
  }
  const u32 nodes = fresh->index->counts().nodes, live = table_.live();
  dead_kept_.store(nodes > live ? nodes - live : 0, std::memory_order_relaxed);
  install(fresh);
  recall_.index_changed(false);
  covered_.store(0, std::memory_order_relaxed);
  return {};
}

// Of an index that is in memory: one that was let go of is not brought back for this.
bool IndexKeeper::measure_recall(bool wait, bool (*interrupted)(void *), void *ctx) {
  if (!recall_.wanted()) return false;
  LiveIndex *l = hold();
  if (!l) return false;
  const u32 upto = l->upto.load(std::memory_order_acquire);
  Result<bool> more =
      recall_.step(*l->index.get(), upto, wait, interrupted ? interrupted : index_keeper_impl::never, ctx);
  if (!more.ok()) blame(l, more.error());
  release(l);
  return more.ok() && *more;
}

void IndexKeeper::figures(IndexFigures *out) {
  out->kind = params().kind;
  out->rows = table_.live();
  out->checkpoint_slots = covered_.load(std::memory_order_relaxed);
  out->checkpoint_bytes = checkpoint_bytes_.load(std::memory_order_relaxed);
  LiveIndex *l = hold();
  const u32 upto = reached();
  IndexCounts counts;
  if (l) {
    out->memory_bytes = l->index->memory_bytes();
    counts = l->index->counts();
    release(l);
  } else {
    Guard g(lock_);
    counts = parked_.counts;
  }
  for (u32 slot = 0; slot < upto;) {
    u32 end = min_of(upto, (slot | (table_.chunk_rows() - 1)) + 1);
    u32 dead = 0;
    if (table_.chunk_any_dead(slot >> table_.shift()))
      for (u32 s = slot; s < end; s++) dead += table_.hidden(s);
    out->indexed += end - slot - dead;
    slot = end;
  }
  out->dead = counts.nodes > out->indexed ? counts.nodes - out->indexed : 0;
  out->max_level = counts.max_level;
  out->codes = counts.codes;
  out->lists = counts.lists;
  out->pq_m = counts.pq_m;
  out->tables = counts.tables;
  out->bits = counts.bits;
}

bool IndexKeeper::holds_any(u32 begin, u32 end) {
  LiveIndex *l = hold_open();
  if (!l) {
    Guard g(lock_);
    return parked_.is;  // it cannot be opened now
  }
  bool any = false;
  for (u32 s = begin; s < end && !any; s++) any = l->index->may_contain(s);
  release(l);
  return any;
}

}  // namespace vexfs::vector
