// SPDX-License-Identifier: MIT
// A recall that is asked for instead of a breadth: what searches reach of it, when an index is measured and by what, and
// what is refused.
// Thread sanitizer: RecallHnsw.AThreadMeasuresWhatSearchesAskFor
#include <algorithm>
#include <chrono>
#include <thread>

#include "../../kernel/core/api_internal.h"
#include "vector_fixture.h"

namespace vexfs::vector::test {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint32_t scale = 4;  // sanitizers are slow
#else
constexpr uint32_t scale = 1;
#endif
constexpr uint32_t dim = 24, k = 10, many = 4000 / scale;

// Around centres that lie near each other, so that no index finds everything by itself.
std::vector<float> clustered(uint32_t n, uint64_t seed) {
  std::mt19937_64 rng(seed), centres(1);
  std::normal_distribution<float> gauss(0, 1);
  std::vector<float> centre(40 * dim), out(size_t{n} * dim);
  for (float &f : centre) f = gauss(centres) * 1.5f;
  for (uint32_t i = 0; i < n; i++) {
    const size_t c = rng() % 40;
    for (uint32_t j = 0; j < dim; j++) out[size_t{i} * dim + j] = centre[c * dim + j] + gauss(rng);
  }
  return out;
}

int add_rows(Mount &m, uint32_t n, uint64_t seed) {
  return m.batch(m.root(), VEXFS_BATCH_ADD, clustered(n, seed), dim, nullptr);
}

// An int: negative errno.
int alter(Mount &m, uint16_t recall) {
  vexfs_collection c{};
  c.size = sizeof c;
  c.recall = recall;
  return m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_ALTER, &c);
}

vexfs_index status(Mount &m, uint16_t recall = 0, int *err = nullptr) {
  vexfs_index x{};
  x.size = sizeof x;
  x.op = VEXFS_INDEX_STATUS;
  x.recall = recall;
  const int e = m.ioctl(m.root(), VEXFS_IOCTL_MANAGE_INDEX, &x);
  if (err)
    *err = e;
  else
    EXPECT_EQ(e, 0);
  return x;
}

int build(Mount &m) { return m.index(m.root(), VEXFS_INDEX_BUILD); }

struct Asked {
  int error = 0;
  uint32_t ef = 0, plan = 0;
  std::vector<std::vector<uint64_t>> ids;
};

// All queries in one call.
Asked ask(Mount &m, const std::vector<float> &queries, uint32_t recall, uint32_t flags = 0, uint32_t ef = 0) {
  const auto nq = static_cast<uint32_t>(queries.size() / dim);
  std::vector<vexfs_hit> hits(size_t{nq} * k);
  std::vector<__u32> counts(nq);
  vexfs_search s{};
  s.size = sizeof s;
  s.flags = flags;
  s.queries = reinterpret_cast<__u64>(queries.data());
  s.hits = reinterpret_cast<__u64>(hits.data());
  s.counts = reinterpret_cast<__u64>(counts.data());
  s.nq = nq;
  s.dim = dim;
  s.element = VEXFS_F32;
  s.k = k;
  s.ef = ef;
  s.recall = recall;
  s.ef_used = 12345;  // out only
  Asked a;
  a.error = m.ioctl(m.root(), VEXFS_IOCTL_VECTOR_SEARCH, &s);
  a.ef = s.ef_used;
  a.plan = s.plan;
  for (uint32_t q = 0; q < nq && a.error == 0; q++) {
    a.ids.emplace_back();
    for (uint32_t i = 0; i < counts[q]; i++) a.ids.back().push_back(hits[size_t{q} * k + i].id);
  }
  return a;
}

double share(const Asked &found, const Asked &truth) {
  uint64_t both = 0, all = 0;
  for (size_t q = 0; q < truth.ids.size(); q++) {
    all += truth.ids[q].size();
    for (uint64_t id : truth.ids[q]) both += std::count(found.ids[q].begin(), found.ids[q].end(), id) != 0;
  }
  return static_cast<double>(both) / static_cast<double>(all);
}

class Recall : public testing::TestWithParam<uint16_t> {
 protected:
  void fill(Mount &m, uint32_t n = many) {
    ASSERT_EQ(m.create(m.root(), dim, VEXFS_F32, VEXFS_L2, GetParam(), nullptr, 8, 60), 0);
    ASSERT_EQ(add_rows(m, n, 3), 0);
    ASSERT_EQ(build(m), 0);
  }
};
INSTANTIATE_TEST_SUITE_P(Kinds, Recall,
                         testing::Values(VEXFS_INDEX_HNSW, VEXFS_INDEX_LSH, VEXFS_INDEX_IVF_PQ, VEXFS_INDEX_DISKANN,
                                         VEXFS_INDEX_IVF_FLAT),
                         [](const auto &i) {
                           return i.param == VEXFS_INDEX_HNSW      ? "Hnsw"
                                  : i.param == VEXFS_INDEX_LSH     ? "Lsh"
                                  : i.param == VEXFS_INDEX_IVF_PQ  ? "IvfPq"
                                  : i.param == VEXFS_INDEX_DISKANN ? "DiskAnn"
                                                                   : "IvfFlat";
                         });

// By rows, then by queries: other queries get what was asked for, and a higher recall takes a wider walk.
TEST_P(Recall, IsReached) {
  Mount m;
  fill(m);
  EXPECT_EQ(status(m, 900).recall_by, VEXFS_RECALL_BY_NOTHING) << "nobody has asked";
  ASSERT_EQ(alter(m, 900), 0);
  ASSERT_EQ(build(m), 0);
  const std::vector<float> queries = clustered(200, 8);
  const Asked truth = ask(m, queries, 0, VEXFS_SEARCH_EXACT);
  EXPECT_EQ(truth.ef, 0u);
  for (const uint8_t by : {VEXFS_RECALL_BY_ROWS, VEXFS_RECALL_BY_QUERIES}) {
    uint32_t last = 0;
    for (const uint16_t target : {900, 950, 990}) {
      const vexfs_index x = status(m, target);
      EXPECT_EQ(x.recall_by, by);
      EXPECT_EQ(x.recall, target);
      EXPECT_EQ(x.recall_slots, many);
      EXPECT_GE(x.recall_queries, 64u);
      const Asked a = ask(m, queries, target);
      ASSERT_EQ(a.error, 0);
      EXPECT_EQ(a.ef, x.recall_ef);
      const double got = share(a, truth);
      EXPECT_GE(got, target / 1000.0 - 0.02) << "ef " << a.ef;
      printf("by %d, target %d: ef %u, measured %u, reached %.4f\n", by, target, a.ef, x.recall_measured, got);
      EXPECT_GE(x.recall_measured, target);
      EXPECT_GE(a.ef ? a.ef : ~0u, last);
      last = a.ef ? a.ef : ~0u;
    }
    const Asked usual = ask(m, queries, 0);
    EXPECT_EQ(usual.ef, status(m).recall_ef) << "the collection's recall";
    ASSERT_EQ(build(m), 0);  // by now there were enough queries
  }
  EXPECT_EQ(ask(m, queries, 0, 0, 33).ef, 33u) << "a breadth counts";
}

// What was measured serves at once after a mount.
TEST_P(Recall, ServesAfterAMount) {
  Mount m;
  fill(m);
  const uint32_t guess = status(m, 950).recall_ef;
  EXPECT_GE(guess, 160u) << "wide enough for most";
  EXPECT_EQ(ask(m, clustered(1, 5), 950).ef, guess);
  ASSERT_EQ(alter(m, 950), 0);
  ASSERT_EQ(build(m), 0);
  const vexfs_index before = status(m);
  EXPECT_EQ(before.recall_by, VEXFS_RECALL_BY_ROWS);
  EXPECT_LT(before.recall_ef, guess);
  auto same = [&](const vexfs_index &now) {
    EXPECT_EQ(now.recall, 950u);
    EXPECT_EQ(now.recall_by, before.recall_by);
    EXPECT_EQ(now.recall_slots, many);
    EXPECT_EQ(now.recall_ef, before.recall_ef);
    EXPECT_EQ(now.recall_measured, before.recall_measured);
    EXPECT_EQ(now.recall_queries, before.recall_queries);
  };
  m.remount();
  same(status(m));
  EXPECT_EQ(ask(m, clustered(1, 5), 0).ef, before.recall_ef);
  m.remount(true);
  same(status(m));
  ASSERT_TRUE(m.check());
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_REBUILD, nullptr, GetParam(), 0, 8), 0);
  const vexfs_index anew = status(m);
  EXPECT_EQ(anew.recall_by, VEXFS_RECALL_BY_ROWS);
  EXPECT_EQ(anew.recall_slots, many);
  m.remount();
  EXPECT_EQ(status(m).recall_measured, anew.recall_measured);
  EXPECT_EQ(status(m).recall_ef, anew.recall_ef);
}

class RecallHnsw : public testing::Test {
 protected:
  void fill(Mount &m, uint32_t n, uint16_t recall, uint16_t index = VEXFS_INDEX_HNSW) {
    ASSERT_EQ(m.create(m.root(), dim, VEXFS_F32, VEXFS_L2, index, nullptr, 6, 40), 0);
    if (recall) {
      ASSERT_EQ(alter(m, recall), 0);
    }
    ASSERT_EQ(add_rows(m, n, 3), 0);
  }
};

// When the index has grown by half, when a quarter of its rows have died, when it is another one; not before.
TEST_F(RecallHnsw, IsMeasuredAgainWhenTheIndexHasChanged) {
  constexpr uint32_t n = 1200;
  Mount m;
  fill(m, n, 950);
  EXPECT_EQ(status(m).recall_slots, n) << "in the hands of who added rows, as there is no thread";
  ASSERT_EQ(add_rows(m, n / 4, 4), 0);
  EXPECT_EQ(status(m).recall_slots, n);
  ASSERT_EQ(add_rows(m, n / 4, 5), 0);
  EXPECT_EQ(status(m).recall_slots, n + n / 2);
  for (uint32_t id = 1; id <= n / 5; id++) ASSERT_EQ(m.del(m.root(), id), 0);
  ASSERT_EQ(add_rows(m, 1, 6), 0);
  EXPECT_EQ(status(m).recall_slots, n + n / 2);
  for (uint32_t id = n / 5 + 1; id <= n / 2; id++) ASSERT_EQ(m.del(m.root(), id), 0);
  ASSERT_EQ(add_rows(m, 1, 6), 0);
  EXPECT_EQ(status(m).recall_slots, n + n / 2 + 2);
  // A graph of more links: what was measured of the other counts no more.
  const uint32_t was = status(m, 990).recall_ef;
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_REBUILD, nullptr, VEXFS_INDEX_HNSW, 0, 32), 0);
  EXPECT_GT(was, 0u);
  EXPECT_LT(status(m, 990).recall_ef, was);
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_DROP), 0);
  EXPECT_EQ(status(m).recall_by, VEXFS_RECALL_BY_NOTHING);
  ASSERT_TRUE(m.check());
}

TEST_F(RecallHnsw, WhatIsRefused) {
  Mount m;
  fill(m, 1000, 0);
  const std::vector<float> q = clustered(3, 9);
  EXPECT_EQ(ask(m, q, 950, 0, 64).error, -EINVAL) << "either of them";
  EXPECT_EQ(ask(m, q, 1001).error, -EINVAL);
  EXPECT_EQ(ask(m, q, ~0u).error, -EINVAL);
  EXPECT_EQ(alter(m, 1001), -EINVAL);
  int e = 0;
  status(m, 1001, &e);
  EXPECT_EQ(e, -EINVAL);
  EXPECT_EQ(status(m).recall, 0u);
  EXPECT_EQ(status(m).recall_ef, 0u);
  vx_inode *d = m.mkdir(m.root(), "d");
  vexfs_collection c{};
  c.size = sizeof c;
  c.dim = dim;
  c.element = VEXFS_F32;
  c.metric = VEXFS_L2;
  c.index = VEXFS_INDEX_HNSW;
  for (const uint16_t bad : {1001, int{VEXFS_RECALL_OFF}}) {
    c.recall = bad;
    EXPECT_EQ(m.ioctl(d, VEXFS_IOCTL_COLLECTION_CREATE, &c), -EINVAL) << bad;
  }
  c.recall = 930;
  ASSERT_EQ(m.ioctl(d, VEXFS_IOCTL_COLLECTION_CREATE, &c), 0);
  EXPECT_EQ(c.recall, 930u);
  EXPECT_EQ(m.info(d).recall, 930u);
  // All of them: a scan.
  const Asked all = ask(m, q, 1000);
  EXPECT_EQ(all.error, 0);
  EXPECT_EQ(all.plan, VEXFS_PLAN_SCAN);
  EXPECT_EQ(all.ef, 0u);
}

TEST_F(RecallHnsw, AScanNeedsNoMeasurement) {
  Mount m;
  fill(m, 1000, VEXFS_RECALL_ALL);
  const std::vector<float> q = clustered(100, 9);
  EXPECT_EQ(ask(m, q, 0).plan, VEXFS_PLAN_SCAN);
  EXPECT_EQ(ask(m, q, VEXFS_RECALL_ALL).plan, VEXFS_PLAN_SCAN);
  ASSERT_EQ(build(m), 0);
  EXPECT_EQ(status(m).recall_by, VEXFS_RECALL_BY_NOTHING);
  EXPECT_EQ(ask(m, q, 950).error, 0);
  ASSERT_EQ(build(m), 0);
  EXPECT_NE(status(m).recall_by, VEXFS_RECALL_BY_NOTHING) << "that one does";
}

TEST_F(RecallHnsw, ALTERKeepsItAndTakesItBack) {
  Mount m;
  fill(m, 1000, 940);
  vexfs_collection c{};
  c.size = sizeof c;
  c.ef_search = 70;
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_ALTER, &c), 0);
  EXPECT_EQ(c.recall, 940u) << "as it was";
  EXPECT_EQ(c.ef_search, 70u);
  // What INFO says can be handed to ALTER.
  c = m.info(m.root());
  c.flags = 0;
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_ALTER, &c), 0);
  EXPECT_EQ(c.recall, 940u);
  const std::vector<float> q = clustered(2, 9);
  EXPECT_NE(ask(m, q, 0).ef, 70u);
  ASSERT_EQ(alter(m, VEXFS_RECALL_OFF), 0);
  EXPECT_EQ(m.info(m.root()).recall, 0u);
  EXPECT_EQ(ask(m, q, 0).ef, 70u);
  ASSERT_TRUE(m.check());
  EXPECT_EQ(m.info(m.root()).recall, 0u);
}

// A search that is not answered yet what it asks for sees to it that the next ones are.
TEST_F(RecallHnsw, AThreadMeasuresWhatSearchesAskFor) {
  Options o;
  o.threads = 2;
  Mount m(o);
  fill(m, many, 0);
  const std::vector<float> queries = clustered(100, 21);
  const Asked first = ask(m, queries, 950);
  ASSERT_EQ(first.error, 0);
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) EXPECT_EQ(ask(m, queries, 900).error, 0);
  });
  uint32_t by = 0;
  for (int i = 0; i < 6000 && by != VEXFS_RECALL_BY_QUERIES; i++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    by = status(m, 950).recall_by;
    if (i % 100 == 50) {
      ASSERT_EQ(alter(m, 950), 0);  // wakes the threads
    }
  }
  stop = true;
  other.join();
  EXPECT_EQ(by, VEXFS_RECALL_BY_QUERIES);
  EXPECT_LT(ask(m, queries, 950).ef, first.ef);
  EXPECT_GE(share(ask(m, queries, 950), ask(m, queries, 0, VEXFS_SEARCH_EXACT)), 0.93);
}

TEST_F(RecallHnsw, AnInterruptedMeasurementIsDoneAgain) {
  Mount m;
  fill(m, 1000, 0);
  m.caller.killed = true;
  EXPECT_EQ(alter(m, 950), 0) << "what was asked for is done";
  EXPECT_EQ(status(m).recall_by, VEXFS_RECALL_BY_NOTHING);
  m.caller.killed = false;
  ASSERT_EQ(build(m), 0);
  EXPECT_EQ(status(m).recall_by, VEXFS_RECALL_BY_ROWS);
}

// Pages, groups, a radius, filters: they take the breadth too.
TEST_F(RecallHnsw, GoesWithTheOtherThingsThatSearchesDo) {
  Mount m;
  fill(m, 3000, 950);
  const std::vector<float> q = clustered(1, 9);
  const Row row(q.begin(), q.end());
  std::vector<vexfs_hit> page, behind;
  vexfs_search s{};
  s.after_distance = 0xff800000;
  ASSERT_EQ(m.search(m.root(), row, k, &page, VEXFS_SEARCH_AFTER, 0, &s), 0);
  ASSERT_EQ(page.size(), k);
  EXPECT_EQ(s.plan, VEXFS_PLAN_INDEX);
  EXPECT_GE(s.ef_used, k + 1);
  s.after_distance = page.back().distance;
  s.after_slot = page.back().slot;
  ASSERT_EQ(m.search(m.root(), row, k, &behind, VEXFS_SEARCH_AFTER, 0, &s), 0);
  ASSERT_EQ(behind.size(), k);
  EXPECT_GE(distance_of(behind[0]), distance_of(page.back()));
  const std::vector<vexfs_filter> half{{VEXFS_FILTER_ID_RANGE, 0, 1, 1500, 0}};
  ASSERT_EQ(m.search(m.root(), row, k, &page, 0, 0, &s, &half), 0);
  EXPECT_EQ(page.size(), k);
  for (const vexfs_hit &h : page) EXPECT_LE(h.id, 1500u);
}

TEST_F(RecallHnsw, RowsThatAreNotInMemory) {
  Options o;
  o.cache_bytes = 1 << 20;
  Mount m(o);
  vexfs_collection c{};
  c.size = sizeof c;
  c.flags = VEXFS_COLLECTION_COMPACT;
  c.dim = dim;
  c.element = VEXFS_F32;
  c.metric = VEXFS_L2;
  c.index = VEXFS_INDEX_HNSW;
  c.recall = 950;
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_CREATE, &c), 0);
  ASSERT_EQ(add_rows(m, many, 3), 0);
  ASSERT_EQ(m.commit(), 0);
  ASSERT_EQ(build(m), 0);
  EXPECT_NE(status(m).recall_by, VEXFS_RECALL_BY_NOTHING);
  const std::vector<float> queries = clustered(100, 8);
  EXPECT_GE(share(ask(m, queries, 0), ask(m, queries, 0, VEXFS_SEARCH_EXACT)), 0.93);
}

// ------------------------------------------------------------------------------------------ the tuner, and its curve
bool never(void *) { return false; }

// What a tuner of its own makes of the root's collection, of the slots below upto.
RecallCurve measure(Mount &m, uint32_t upto, uint64_t pairs_max) {
  Result<CollectionRef> r = m.fs()->engine->find(1);
  EXPECT_TRUE(r.ok());
  Collection &c = **r;
  RecallTuner t(c.table());
  t.set_pairs_max(pairs_max);
  t.want();
  LiveIndex *l = c.index().acquire();
  EXPECT_NE(l, nullptr);
  for (bool more = true; more;) {
    Result<bool> s = t.step(*l->index.get(), upto, false, never, nullptr);
    EXPECT_TRUE(s.ok());
    more = s.ok() && *s;
  }
  c.index().release(l);
  return t.curve();
}

TEST_F(RecallHnsw, ByRowsThatTheIndexDoesNotHold) {
  Mount m;
  fill(m, 2000, 0);
  const RecallCurve c = measure(m, 1700, ~0ull);
  EXPECT_EQ(c.by, VEXFS_RECALL_BY_NEW_ROWS);
  EXPECT_EQ(c.slots, 1700u);
  EXPECT_GE(c.queries, 200u);
  EXPECT_GE(c.mean[1][c.tried - 1], 9900u);
  EXPECT_EQ(measure(m, 1980, ~0ull).by, VEXFS_RECALL_BY_ROWS) << "too few";
}

// Passes searches on to another index, and notes what they ask for.
class Noting final : public Index {
 public:
  explicit Noting(Index &index) : index_(index) {}
  std::set<std::pair<uint32_t, uint32_t>> asked;  // k, ef
  uint32_t searches = 0;

  Result<u32> search(RowView &rows, const simd::Query &q, const SearchParams &params, Scratch &scratch, Hit *out,
                     SearchStats *stats) override {
    asked.emplace(params.k, params.ef);
    searches++;
    return index_.search(rows, q, params, scratch, out, stats);
  }
  IndexKind kind() const override { return index_.kind(); }
  const simd::Space &space() const override { return index_.space(); }
  Status insert(RowView &, u32, Scratch &) override { return Errno::inval; }
  Status remove(RowView &, u32, Scratch &) override { return Errno::inval; }
  bool contains(u32 slot) override { return index_.contains(slot); }
  usize header_bytes() const override { return 0; }
  u32 blob_count(u32) const override { return 0; }
  usize blob_bytes(u32) const override { return 0; }
  Status save_header(u32, MutBytes) const override { return Errno::inval; }
  Status save_blob(u32, u32, MutBytes, RowView &) override { return Errno::inval; }
  bool blob_dirty(u32) const override { return false; }
  Status verify(VerifyReport *, Scratch &, bool (*)(void *), void *) override { return Errno::inval; }
  void print(const TextSink &) const override {}
  usize memory_bytes() const override { return 0; }
  IndexCounts counts() const override { return index_.counts(); }
  void destroy() override {}

 private:
  Index &index_;
};

void step_to_the_end(RecallTuner &t, Index &index, uint32_t upto) {
  for (bool more = true; more;) {
    Result<bool> s = t.step(index, upto, false, never, nullptr);
    ASSERT_TRUE(s.ok());
    more = *s;
  }
}

// Of a large collection, of which not all queries that are known can be tried: it is not begun again for ever.
TEST_F(RecallHnsw, ManyQueriesAreNoReasonToMeasureAgain) {
  constexpr uint32_t n = 1000;
  Mount m;
  fill(m, n, 0);
  Result<CollectionRef> r = m.fs()->engine->find(1);
  ASSERT_TRUE(r.ok());
  Collection &c = **r;
  LiveIndex *l = c.index().acquire();
  ASSERT_NE(l, nullptr);
  Noting index(*l->index.get());
  RecallTuner t(c.table());
  t.set_pairs_max(64 * n);
  t.want();
  const std::vector<float> data = clustered(2000, 5);
  for (size_t i = 0; i < 2000; i++) {
    const simd::Query q{.data = &data[i * dim], .aux = 0, .wide = false};
    t.remember(&q, 1);
  }
  step_to_the_end(t, index, n);
  EXPECT_EQ(t.curve().by, VEXFS_RECALL_BY_QUERIES);
  EXPECT_EQ(t.curve().queries, 64u);
  const uint32_t searches = index.searches;
  EXPECT_GE(searches, 64u);
  step_to_the_end(t, index, n);
  EXPECT_EQ(index.searches, searches);
  t.set_pairs_max(256 * n);  // now more of them can be
  step_to_the_end(t, index, n);
  EXPECT_GT(index.searches, searches);
  EXPECT_GE(t.curve().queries, 128u);
  c.index().release(l);
}

// A search for more neighbours does more work at the same breadth: what is measured of k is by searches for k.
TEST_F(RecallHnsw, EachNumberOfNeighboursByItself) {
  constexpr uint32_t n = 3000 / scale;
  Mount m;
  fill(m, n, 0);
  Result<CollectionRef> r = m.fs()->engine->find(1);
  ASSERT_TRUE(r.ok());
  Collection &c = **r;
  LiveIndex *l = c.index().acquire();
  ASSERT_NE(l, nullptr);
  Noting index(*l->index.get());
  RecallTuner t(c.table());
  step_to_the_end(t, index, n);
  EXPECT_FALSE(t.curve().measured()) << "nobody wants it";
  t.want();
  step_to_the_end(t, index, n);
  const RecallCurve curve = t.curve();
  ASSERT_TRUE(curve.measured());
  ASSERT_GT(curve.tried, 7u);  // 100 neighbours were tried
  bool left_out = false;
  for (uint32_t i = 0; i < curve.tried; i++)
    for (uint32_t j = 0; j < RecallCurve::classes; j++) {
      const uint32_t neighbours = RecallCurve::neighbours[j], ef = RecallCurve::breadth[i];
      const bool known = i && curve.mean[j][i - 1] >= 9995;
      EXPECT_EQ(index.asked.count({neighbours, ef}), ef >= neighbours && !known) << neighbours << " at " << ef;
      left_out = left_out || known;
      if (known) {
        EXPECT_EQ(curve.mean[j][i], curve.mean[j][i - 1]);
        EXPECT_EQ(curve.sure[j][i], curve.sure[j][i - 1]);
      }
    }
  EXPECT_TRUE(left_out || scale > 1) << "what was found already";
  for (const auto &[neighbours, ef] : index.asked)
    EXPECT_TRUE(std::count(std::begin(RecallCurve::neighbours), std::end(RecallCurve::neighbours), neighbours))
        << neighbours << " at " << ef;
  c.index().release(l);
}

// A sample of the chunks tells nearly the same.
TEST_F(RecallHnsw, ASampleOfMany) {
  constexpr uint32_t wide = 2048, n = 1300, latent = 12;  // 256 rows to a chunk; most of a row is zero
  Mount m(Options{.size = 64 << 20});
  ASSERT_EQ(m.create(m.root(), wide, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW, nullptr, 4, 20), 0);
  std::mt19937_64 rng(2);
  std::vector<float> rows(size_t{n} * wide);
  for (uint32_t i = 0; i < n; i++) {
    const Row at = random_row(rng, latent);
    std::copy(at.begin(), at.end(), rows.begin() + size_t{i} * wide);
  }
  ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, rows, wide, nullptr), 0);
  const RecallCurve all = measure(m, n, ~0ull), some = measure(m, n, n * 64 / 2);
  EXPECT_EQ(all.queries, 128u);
  EXPECT_EQ(some.queries, 64u);
  ASSERT_GE(all.tried, 3u);
  ASSERT_GE(some.tried, 3u);
  for (uint32_t i = 0; i < 3; i++) EXPECT_NEAR(some.mean[1][i], all.mean[1][i], 600) << i;
}

TEST(RecallCurve, ChoosesTheLeastBreadthThatIsEnough) {
  RecallCurve c;
  EXPECT_EQ(c.choose(10, 950).ef, recall_guess(10, 950).ef) << "not measured";
  EXPECT_TRUE(c.choose(10, 1000).exact);
  c.slots = 100000;
  c.walked = 5000;
  c.tried = 10;
  for (uint32_t i = 0; i < c.tried; i++)
    for (uint32_t j = 0; j < RecallCurve::classes; j++)
      c.sure[j][i] =
          RecallCurve::breadth[i] < RecallCurve::neighbours[j] ? 0 : static_cast<u16>(8000 + 200 * i - 200 * j);
  EXPECT_EQ(c.choose(10, 780).ef, 10u);
  EXPECT_EQ(c.choose(10, 900).ef, 80u);  // 8000 + 6 * 200 - 200
  EXPECT_EQ(c.choose(10, 910).ef, 96u) << "halfway to the next";
  EXPECT_EQ(c.choose(10, 911).ef, 98u) << "never less than the line says";
  EXPECT_LT(c.choose(10, 900).ef, c.choose(20, 900).ef);
  EXPECT_LT(c.choose(20, 900).ef, c.choose(32, 900).ef);
  EXPECT_EQ(c.choose(200, 850).ef, 2 * c.choose(100, 850).ef);
  EXPECT_GE(c.choose(VEXFS_K_MAX, 850).ef, u32{VEXFS_K_MAX});
  // Not among those tried: the widest, or a scan where that is no more work.
  EXPECT_EQ(c.choose(10, 999).ef, RecallCurve::breadth[9]);
  EXPECT_FALSE(c.choose(10, 999).exact);
  c.slots = 10000;
  EXPECT_TRUE(c.choose(10, 999).exact);
  EXPECT_FALSE(c.choose(10, 900).exact);
  for (uint32_t n : {1u, 10u, 100u, 4096u})
    for (uint32_t r = 1; r < 1000; r++) {
      ASSERT_GE(recall_guess(n, r).ef, n);
      ASSERT_LE(recall_guess(n, r).ef, recall_guess(n, r + (r < 999)).ef);
      ASSERT_LE(c.choose(n, r).exact ? ~0u : c.choose(n, r).ef,
                c.choose(n, std::min(r + 1, 999u)).exact ? ~0u : c.choose(n, std::min(r + 1, 999u)).ef);
    }
}

// Where nothing can be measured no queries are kept.
TEST_F(RecallHnsw, QueriesAreKeptForAnIndexAlone) {
  Mount m;
  const std::vector<float> q = clustered(10, 9);
  auto taken = [&] {
    ChunkCache &cache = m.fs()->engine->cache();
    const uint64_t before = cache.external();
    EXPECT_EQ(ask(m, q, 950).error, 0);
    return cache.external() - before;
  };
  fill(m, 10, 950, VEXFS_INDEX_FLAT);
  EXPECT_EQ(taken(), 0u) << "no index";
  ASSERT_EQ(add_rows(m, 990, 4), 0);
  EXPECT_EQ(taken(), 0u) << "no index, of more rows";
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_BUILD, nullptr, VEXFS_INDEX_HNSW), 0);
  EXPECT_GT(taken(), 0u);
}

TEST_F(RecallHnsw, QueriesAreKeptOnceAndHandedOut) {
  Mount m;
  fill(m, 10, 0);
  Result<CollectionRef> r = m.fs()->engine->find(1);
  ASSERT_TRUE(r.ok());
  ChunkCache &cache = (*r)->table().cache();
  const uint64_t before = cache.external();
  {
    QuerySample sample((*r)->table().space(), cache);
    std::atomic<bool> wanted{true};
    const std::vector<float> data = clustered(2000, 5);
    auto query = [&](size_t i) { return simd::Query{.data = &data[i * dim], .aux = 0, .wide = true}; };
    for (int times = 0; times < 3; times++)
      for (size_t i = 0; i < 10; i++) {
        const simd::Query q = query(i);
        sample.remember(&q, 1, wanted);
      }
    EXPECT_LE(sample.count(), 10u);
    EXPECT_GE(sample.count(), 8u) << "two may have one place";
    EXPECT_GT(cache.external(), before) << "it counts as memory of vectors";
    for (size_t i = 0; i < 2000; i++) {
      const simd::Query q = query(i);
      sample.remember(&q, 1, wanted);
    }
    EXPECT_GE(sample.count(), sample.places() / 2);
    std::vector<u8> bytes(100 * sample.query_bytes());
    std::vector<simd::Query> out(100);
    ASSERT_EQ(sample.copy(100, bytes.data(), out.data()), 100u);
    std::set<std::vector<float>> different;
    for (const simd::Query &q : out) {
      const float *f = static_cast<const float *>(q.data);
      bool known = false;
      for (size_t i = 0; i < 2000 && !known; i++) known = memcmp(f, &data[i * dim], dim * 4) == 0;
      EXPECT_TRUE(known);
      different.emplace(f, f + dim);
    }
    EXPECT_EQ(different.size(), 100u);
    sample.forget();
    EXPECT_EQ(sample.count(), 0u);
    EXPECT_EQ(cache.external(), before);
    wanted = false;
    const simd::Query late = query(0);
    sample.remember(&late, 1, wanted);
    EXPECT_EQ(cache.external(), before) << "nobody would forget it";
  }
}

}  // namespace
}  // namespace vexfs::vector::test
