// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The course of a measurement: queries, the exact answers, walks.
#include "recall_tuner.h"

#include "../uapi.h"
#include "index_keeper.h"

namespace vexfs::vector {
namespace recall_tuner_impl {
namespace {

constexpr u32 queries_max = 256, queries_min = 64;
constexpr usize query_bytes_max = 1 << 20;  // of all queries
constexpr u64 slice_ns = 20'000'000;
constexpr u64 retry_ns = 10'000'000'000;  // after a failure
constexpr u32 grown_share = 2, replaced_share = 4;
constexpr u32 backlog_share = 4;  // with more than this share to be inserted the index is another one soon
constexpr u32 ratio = 1 << 16;    // what the recall of one query counts in
constexpr u32 rows_errors =
    2;  // standard errors that are taken off what was measured with rows, of kinds without links
constexpr u32 complete = 9995;  // of recall_scale: no wider walks are of interest
constexpr u32 top_k = RecallCurve::neighbours[RecallCurve::classes - 1];
constexpr u32 found_max = top_k + top_k / 4;  // some of the hits may be of rows that came since the scan

// Walked from link to link, around SearchParams::without.
bool is_graph(const Index &i) { return i.kind() == IndexKind::hnsw || i.kind() == IndexKind::diskann; }

// Queries that rows are scanned for together. Between two pauses are as many rows as scan_exact() takes without one, about
// 2048, for all of them: some milliseconds.
u32 at_once(u32 dim) {
  constexpr u32 most = 32, components = 1 << 15;
  return max_of<u32>(min_of(most, components / dim), 1);
}

u32 root(u64 v) {
  u64 r = 0;
  for (u64 bit = u64{1} << 31; bit; bit >>= 1)
    if ((r + bit) * (r + bit) <= v) r += bit;
  return static_cast<u32>(r);
}

}  // namespace
}  // namespace recall_tuner_impl

struct RecallTuner::Job {
  static constexpr u32 classes = RecallCurve::classes;
  u64 changes = 0;  // of the index, when this began
  u32 limit = 0;    // slots below were scanned
  u32 every = 1;    // of so many chunks one was
  RecallCurve curve;
  // ---- queries
  u32 n = 0;
  Vec<u8> data;
  Vec<simd::Query> query;
  Vec<u32> own;  // the slot that the query is; slot_none: none
  // ---- exact answers
  Vec<Hit> hits;  // top_k + 1 of each query, as it may be among them itself
  Vec<TopK> top;
  Vec<u32> bound;  // classes of each: the key that the k nearest are within
  // ---- where it is
  u32 chunk = 0;                  // to be scanned next
  u32 bounded = 0;                // queries whose bounds are known
  u32 point = 0, of = 0, at = 0;  // breadth, class, query
  bool done = false;
  u64 walked = 0;  // by `walks`, of this breadth
  u32 walks = 0;
  Vec<Hit> found;  // by a walk
  Vec<Hit> near;
  struct Sum {
    u64 sum = 0, squares = 0;
    u32 n = 0;
  } sums[classes];
  Scratch scratch{false};

  bool scanned(u32 slot, u32 shift) const { return slot < limit && (every == 1 || (slot >> shift) % every == 0); }
};

RecallTuner::RecallTuner(Table &t) : table_(t), sample_(t.space(), t.cache()) {}
RecallTuner::~RecallTuner() = default;

// Waits for a slice that is under way, as nobody would free after it what it has begun.
void RecallTuner::unwant() {
  wanted_.store(false, std::memory_order_relaxed);
  sample_.forget();
  Guard g(job_lock_);
  job_.reset();
}

void RecallTuner::let_go() {
  sample_.forget();
  if (!job_lock_.try_lock()) return;
  job_.reset();
  job_lock_.unlock();
}

RecallCurve RecallTuner::curve() {
  Guard g(lock_);
  return curve_;
}

void RecallTuner::index_changed(bool other) {
  Guard g(lock_);
  changes_++;
  again_ = true;
  if (other || curve_.measured()) version_++;  // something may be stored, even if nothing was measured
  if (!curve_.measured()) return;
  outdated_ = true;
  if (other) curve_ = {};
}

void RecallTuner::restore(const RecallCurve &curve, bool outdated) {
  Guard g(lock_);
  curve_ = curve;
  again_ = outdated_ = outdated;
}

bool RecallTuner::unsaved(Measured *out) {
  Guard g(lock_);
  *out = {.curve = curve_, .outdated = outdated_, .version = version_};
  return version_ != saved_version_;
}

void RecallTuner::saved(u64 version) {
  Guard g(lock_);
  saved_version_ = version;
}

// Queries of searches from which on these are what is measured by.
u32 RecallTuner::enough() const { return min_of(recall_tuner_impl::queries_min, max_of<u32>(sample_.places() / 2, 1)); }

// With how many an index of so many slots is measured, if there are as many.
u32 RecallTuner::queries_for(u32 upto) const {
  using namespace recall_tuner_impl;
  const u32 n = static_cast<u32>(min_of<usize>(queries_max, query_bytes_max / sample_.query_bytes()));
  return static_cast<u32>(min_of<u64>(n, max_of<u64>(queries_min, pairs_max_ / upto)));
}

bool RecallTuner::due(u32 upto) {
  using namespace recall_tuner_impl;
  const u32 slots = table_.slots(), live = table_.live(), dead = slots - min_of(slots, live);
  if (upto < walked_slots_min || live == 0 || slots - min_of(slots, upto) > upto / backlog_share) return false;
  if (vx_clock_mono_ns() < retry_at_) return false;
  const u32 asked = min_of(sample_.count(), queries_for(upto));  // that it would be measured with now
  Guard g(lock_);
  const RecallCurve &c = curve_;
  if (again_ || !c.measured() || upto - min_of(upto, c.slots) >= c.slots / grown_share) return true;
  if (dead > c.dead && dead - c.dead > live / replaced_share) return true;
  return c.by == VEXFS_RECALL_BY_QUERIES ? asked >= 2 * c.queries : asked >= enough();
}

// ------------------------------------------------------------------------------------------------------------- queries
// Live rows of [begin, end), spread over them, as queries.
Status RecallTuner::take_rows(Job &j, u32 begin, u32 end) {
  constexpr u32 batch = 16;
  const usize stride = sample_.query_bytes();
  const u32 step = max_of<u32>((end - begin) / static_cast<u32>(j.query.size()), 1);
  View view(table_);
  for (u32 from = begin; from < end && j.n < j.query.size();) {
    u32 slot[batch], aux[batch] = {}, n = 0;
    const void *row[batch];
    for (; from < end && n < batch && j.n + n < j.query.size(); from = min_of(end - from, step) + from) {
      u32 s = from + (from * 0x9e3779b1u >> 8) % min_of(step, end - from);
      while (s < end && s < from + step && table_.hidden(s)) s++;
      if (s >= end || table_.hidden(s)) continue;
      slot[n] = s;
      const u8 *p = view.rows().peek(s);
      row[n] = p;
      aux[n++] = p ? view.rows().aux(p, s) : 0;
    }
    VX_TRY(view.rows().fetch_absent(slot, row, aux, n));
    for (u32 i = 0; i < n; i++) {
      if (!row[i]) continue;
      u8 *to = j.data.data() + j.n * stride;
      memcpy(to, row[i], table_.space().row_bytes());
      j.query[j.n] = table_.space().row_query(to, aux[i]);
      j.own[j.n++] = slot[i];
    }
    if (view.rows().pause) view.rows().pause(view.rows());
  }
  return {};
}

Status RecallTuner::begin(u32 upto) {
  using namespace recall_tuner_impl;
  Job &j = *(job_ = VX_TRY(Box<Job>::make()));
  {
    Guard g(lock_);
    j.changes = changes_;
    again_ = false;
  }
  const u32 slots = table_.slots(), live = table_.live();
  j.limit = upto;
  j.curve.slots = upto;
  j.curve.dead = slots - min_of(slots, live);
  const usize stride = sample_.query_bytes();
  const u32 n = queries_for(upto);
  j.every = static_cast<u32>(max_of<u64>(div_up<u64>(u64{upto} * n, pairs_max_), 1));
  j.every = max_of<u32>(min_of(j.every, upto >> table_.shift()), 1);
  VX_TRY(j.data.resize(n * stride));
  VX_TRY(j.query.resize(n));
  VX_TRY(j.own.resize(n));
  for (u32 &own : j.own) own = slot_none;
  if (sample_.count() >= enough()) {
    j.n = sample_.copy(n, j.data.data(), j.query.data());
    if (j.n) j.curve.by = VEXFS_RECALL_BY_QUERIES;
  }
  if (!j.n && slots > upto && slots - upto >= queries_min) {
    VX_TRY(take_rows(j, upto, slots));
    j.curve.by = VEXFS_RECALL_BY_NEW_ROWS;
  }
  if (j.n < min_of(queries_min, n) && j.curve.by != VEXFS_RECALL_BY_QUERIES) {
    j.n = 0;
    VX_TRY(take_rows(j, 0, upto));
    j.curve.by = VEXFS_RECALL_BY_ROWS;
  }
  if (!j.n) return Errno::noent;
  j.curve.queries = j.n;
  VX_TRY(j.hits.resize(usize{j.n} * (top_k + 1)));
  VX_TRY(j.top.resize(j.n));
  VX_TRY(j.bound.resize(usize{j.n} * Job::classes));
  VX_TRY(j.found.resize(found_max));
  VX_TRY(j.near.resize(top_k));
  for (u32 i = 0; i < j.n; i++) j.top[i] = TopK{.hits = j.hits.data() + usize{i} * (top_k + 1), .k = top_k + 1};
  return {};
}

// ------------------------------------------------------------------------------------------------------- exact answers
Status RecallTuner::scan(Job &j, bool (*interrupted)(void *), void *ctx) {
  const u32 number = j.chunk, first = number << table_.shift();
  j.chunk += j.every;
  if (table_.chunk_all_dead(number)) return {};
  View view(table_);
  SearchParams p;
  p.ctx = ctx;
  p.interrupted = interrupted;
  const u32 end = min_of(j.limit, first + table_.chunk_rows());
  const u32 some = recall_tuner_impl::at_once(table_.space().dim());
  for (u32 q = 0; q < j.n; q += some) {
    VX_TRY(scan_exact(view.rows(), table_.space(), j.query.data() + q, min_of(some, j.n - q), first, end, p, j.scratch,
                      j.top.data() + q, nullptr));
    if (interrupted(ctx)) return Errno::intr;
    vx_yield();
  }
  return {};
}

// A search for the k nearest of the query that is next, into j.found: for that k and no more, since how many rows are
// scored, lists looked into and codes believed depends on it.
Result<u32> RecallTuner::ask(Job &j, Index &index, Wanted w, bool (*interrupted)(void *), void *ctx) {
  const u32 i = j.bounded < j.n ? j.bounded : j.at;
  const u32 own = !recall_tuner_impl::is_graph(index) && j.own[i] < j.limit;  // itself takes a place
  SearchParams p;
  p.without = j.own[i];
  p.ef = w.ef + own;
  p.k = w.k + own;
  p.ctx = ctx;
  p.interrupted = interrupted;
  View view(table_);
  for (const u32 wanted = p.k;;) {
    const u32 n = VX_TRY(index.search(view.rows(), j.query[i], p, j.scratch, j.found.data(), w.stats));
    u32 since = 0;  // rows that came since the scan take places too
    for (u32 h = 0; h < n; h++) since += j.found[h].slot >= j.limit && j.found[h].slot != j.own[i];
    const u32 k = min_of(wanted + since, recall_tuner_impl::found_max);
    if (n < p.k || k <= p.k) return n;
    p.k = k;
  }
}

// How far the k nearest of a query lie. If not all rows were scanned, a wide walk says where the others are.
Status RecallTuner::bound(Job &j, Index &index, bool (*interrupted)(void *), void *ctx) {
  using namespace recall_tuner_impl;
  const u32 i = j.bounded;
  const u32 nfound = j.every > 1 ? VX_TRY(ask(j, index, {top_k, recall_breadth_max}, interrupted, ctx)) : 0;
  TopK near{.hits = j.near.data(), .k = top_k};
  auto offer = [&](const Hit &h) {
    if (h.slot != j.own[i] && !table_.hidden(h.slot) && near.wants(h.key, h.slot)) near.add(h.key, h.slot);
  };
  for (u32 h = 0; h < j.top[i].n; h++) offer(j.top[i].hits[h]);
  for (u32 h = 0; h < nfound; h++)
    if (j.found[h].slot < j.limit && !j.scanned(j.found[h].slot, table_.shift())) offer(j.found[h]);
  for (u32 c = 0; c < Job::classes; c++) {
    const u32 k = min_of(RecallCurve::neighbours[c], near.n);
    j.bound[i * Job::classes + c] = k ? j.near[k - 1].key : 0;
  }
  j.bounded++;
  return {};
}

// --------------------------------------------------------------------------------------------------------------- walks
// What a search for neighbours[c] found of them. Rows that are equally far count as each other.
void RecallTuner::count(Job &j, u32 c, u32 n) {
  const u32 i = j.at;
  const Hit *found = j.found.data();
  const u32 bound = j.bound[i * Job::classes + c];
  u32 there = 0, seen = 0;
  const TopK &top = j.top[i];
  for (u32 h = 0; h < top.n && top.hits[h].key <= bound && there < RecallCurve::neighbours[c]; h++)
    there += top.hits[h].slot != j.own[i] && !table_.hidden(top.hits[h].slot);
  for (u32 h = 0; h < n && found[h].key <= bound; h++)
    seen += found[h].slot != j.own[i] && j.scanned(found[h].slot, table_.shift());
  if (!there) return;
  const u64 r = u64{min_of(seen, there)} * recall_tuner_impl::ratio / there;
  j.sums[c].sum += r;
  j.sums[c].squares += r * r;
  j.sums[c].n++;
}

// Was all of this class found at the breadth before? A wider walk finds it too.
bool RecallTuner::complete(const Job &j, u32 c) {
  return j.point && j.curve.mean[c][j.point - 1] >= recall_tuner_impl::complete;
}

// One query, or on to the next class, or breadth.
Status RecallTuner::walk(Job &j, Index &index, bool (*interrupted)(void *), void *ctx) {
  const u32 ef = RecallCurve::breadth[j.point], k = RecallCurve::neighbours[j.of];
  if (k <= ef && !complete(j, j.of)) {
    SearchStats stats;
    const u32 n = VX_TRY(ask(j, index, {k, ef, &stats}, interrupted, ctx));
    j.walked += stats.distances;
    j.walks++;
    count(j, j.of, n);
    if (++j.at < j.n) return {};
  }
  j.at = 0;
  if (++j.of == Job::classes) end_point(j, recall_tuner_impl::is_graph(index));
  return {};
}

// All queries were asked for all classes at one breadth.
void RecallTuner::end_point(Job &j, bool graph) {
  using namespace recall_tuner_impl;
  // Lists and tables were made of the rows themselves, and cannot be walked as if they had not been.
  const u32 errors = graph || j.curve.by == VEXFS_RECALL_BY_QUERIES ? 1 : rows_errors;
  bool all = true;
  for (u32 c = 0; c < Job::classes; c++) {
    if (complete(j, c)) {
      j.curve.mean[c][j.point] = j.curve.mean[c][j.point - 1];
      j.curve.sure[c][j.point] = j.curve.sure[c][j.point - 1];
      continue;
    }
    const Job::Sum s = std::exchange(j.sums[c], {});
    u64 mean = 0, sure = 0;
    if (s.n) {
      mean = s.sum / s.n;
      // Had there been one neighbour more, it might have been missed.
      const u64 total = u64{s.n} * RecallCurve::neighbours[c], most = mean * total / (total + 1);
      const u64 square = s.squares / s.n;
      const u32 error = root((square - min_of(square, mean * mean)) / s.n);
      sure = most - min_of<u64>(most, u64{errors} * error);
    }
    j.curve.mean[c][j.point] = static_cast<u16>(mean * recall_scale / ratio);
    j.curve.sure[c][j.point] = static_cast<u16>(sure * recall_scale / ratio);
    all = all && j.curve.mean[c][j.point] >= recall_tuner_impl::complete;
  }
  if (j.walks) j.curve.walked = static_cast<u32>(min_of<u64>(j.walked / j.walks, ~u32{0}));
  j.walked = 0;
  j.walks = 0;
  j.of = 0;
  j.curve.tried = static_cast<u8>(++j.point);
  j.done = all || j.point == RecallCurve::points || j.curve.walked >= j.limit / 2;
}

void RecallTuner::publish(Job &j) {
  Guard g(lock_);
  if (changes_ != j.changes) return;
  curve_ = j.curve;
  outdated_ = false;
  version_++;
}

// -------------------------------------------------------------------------------------------------------------- slices
Result<bool> RecallTuner::advance(Index &index, u32 upto, bool (*interrupted)(void *), void *ctx) {
  if (!wanted()) return false;
  if (!job_) {
    if (!due(upto)) return false;
    VX_TRY(begin(upto));
  }
  Job &j = *job_;
  {
    Guard g(lock_);
    if (changes_ != j.changes) return Errno::again;
  }
  const u64 until = vx_clock_mono_ns() + recall_tuner_impl::slice_ns;
  while (!j.done) {
    if (interrupted(ctx)) return Errno::intr;
    if (u64{j.chunk} << table_.shift() < j.limit)
      VX_TRY(scan(j, interrupted, ctx));
    else if (j.bounded < j.n)
      VX_TRY(bound(j, index, interrupted, ctx));
    else
      VX_TRY(walk(j, index, interrupted, ctx));
    vx_yield();
    if (vx_clock_mono_ns() >= until) break;
  }
  if (!j.done) return true;
  publish(j);
  job_.reset();
  return false;
}

Result<bool> RecallTuner::step(Index &index, u32 upto, bool wait, bool (*interrupted)(void *), void *ctx) {
  if (wait)
    job_lock_.lock();
  else if (!job_lock_.try_lock())
    return false;
  Result<bool> r = advance(index, upto, interrupted, ctx);
  if (!r.ok()) {
    job_.reset();
    const Errno why = r.code();
    if (why != Errno::intr && why != Errno::again) retry_at_ = vx_clock_mono_ns() + recall_tuner_impl::retry_ns;
    Guard g(lock_);
    again_ = true;
  }
  job_lock_.unlock();
  return r;
}

}  // namespace vexfs::vector
