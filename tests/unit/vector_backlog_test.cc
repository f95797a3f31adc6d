// SPDX-License-Identifier: MIT
// Rows that wait for the index while searches go on: how many there may be, and that none is missed or told twice.
#include <condition_variable>
#include <mutex>
#include <thread>

#include "../../kernel/core/api_internal.h"
#include "vector_fixture.h"

namespace vexfs::vector::test {
namespace {

constexpr uint32_t dim = 32, batch = 100, group = 16;  // a search scans once for so many queries

// A collection whose index takes much longer to insert a row than the table does, with that many threads behind.
class VectorBacklog : public testing::TestWithParam<uint32_t> {
 protected:
  void SetUp() override {
    ASSERT_EQ(m_.create(m_.root(), dim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW, nullptr, 16, 150), 0);
    ASSERT_NO_FATAL_FAILURE(add(600));
    vexfs_index x;
    ASSERT_EQ(m_.index(m_.root(), VEXFS_INDEX_BUILD, &x), 0);
    ASSERT_EQ(x.indexed, 600u);
  }
  void add(uint32_t n) {
    ASSERT_EQ(m_.batch(m_.root(), VEXFS_BATCH_ADD, random_rows(rng_, n, dim), dim, nullptr), 0);
    rows_ += n;
  }
  // Rows that were scanned for each of the queries.
  uint64_t scanned(uint32_t groups) {
    const std::vector<float> q = random_rows(rng_, groups * group, dim);
    std::vector<vexfs_hit> hits(groups * group);
    std::vector<uint32_t> counts(groups * group);
    vexfs_search s{};
    s.size = sizeof s;
    s.queries = reinterpret_cast<__u64>(q.data());
    s.hits = reinterpret_cast<__u64>(hits.data());
    s.counts = reinterpret_cast<__u64>(counts.data());
    s.nq = groups * group;
    s.dim = dim;
    s.element = VEXFS_F32;
    s.k = 1;
    s.ef = 1;
    EXPECT_EQ(m_.ioctl(m_.root(), VEXFS_IOCTL_VECTOR_SEARCH, &s), 0);
    EXPECT_EQ(s.plan, uint32_t{VEXFS_PLAN_INDEX});
    return s.scanned / groups;
  }
  Mount m_{{.threads = GetParam()}};
  std::mt19937_64 rng_{11};
  uint32_t rows_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Threads, VectorBacklog, testing::Values(0u, 1u, 2u),
                         [](const auto &i) { return std::to_string(i.param); });

// With about as many searches as rows, what waits stays so small that its scan costs less than the walk: 320 rows, by the
// prices in index_backlog.cc, however slow the threads are. What is being inserted counts, 16 rows each.
TEST_P(VectorBacklog, SearchesKeepItSmall) {
  for (uint32_t i = 0; i < 15; i++) {
    ASSERT_NO_FATAL_FAILURE(add(batch));
    const uint64_t n = scanned(6);
    EXPECT_LE(n, 400u) << "after " << i + 1 << " batches";
    if (GetParam() == 0) {
      EXPECT_EQ(n, 0u) << "who inserts is the only one to index";
    }
  }
}

// What an insert has to index: nothing for a search now and then, more for many, until these are paid for; and whatever comes
// where too many wait.
TEST_P(VectorBacklog, InsertsPayForScans) {
  Result<CollectionRef> c = m_.fs()->engine->find(1);
  ASSERT_TRUE(c.ok());
  IndexKeeper &index = (*c)->index();
  EXPECT_EQ(index.share_of(100, 2000, false), 164u) << "nobody else does it";
  for (int i = 0; i < 20; i++) {
    index.tail_scanned(2000);
    EXPECT_EQ(index.share_of(100, 2000, true), 0u);
  }
  index.tail_scanned(1'000'000);
  u32 paid = 0, shares = 0;
  while (const u32 share = index.share_of(100, 2000, true)) {
    EXPECT_LE(share, 200u);
    paid += share;
    ASSERT_LT(shares++, 100u);
  }
  EXPECT_GT(paid, 3000u);
  EXPECT_LT(paid, 4000u);
  EXPECT_EQ(index.share_of(100, 9000, true), 164u);
  index.tail_scanned(1'000'000);
  EXPECT_EQ(index.share_of(100, 100, true), 0u) << "nothing waited";
}

// A run is given back while the one behind it is being inserted: that one is scanned until it is done, whatever others that
// begin there have done meanwhile.
TEST_P(VectorBacklog, ARunThatIsOpenIsScanned) {
  if (GetParam() != 0) return;  // threads would do it all
  Result<CollectionRef> c = m_.fs()->engine->find(1);
  ASSERT_TRUE(c.ok());
  IndexKeeper &index = (*c)->index();
  constexpr uint32_t first = 600, run = 16;
  struct Gate {
    std::mutex lock;
    std::condition_variable changed;
    bool there = false, open = false;
    IndexKeeper *index;
    std::thread other;
    static bool wait(void *p) {
      auto *g = static_cast<Gate *>(p);
      std::unique_lock l(g->lock);
      g->there = true;
      g->changed.notify_all();
      g->changed.wait(l, [g] { return g->open; });
      return false;
    }
    static bool give_back(void *p) {
      auto *g = static_cast<Gate *>(p);
      g->other = std::thread([g] { EXPECT_TRUE(g->index->work(run, IndexKeeper::Saves::no, wait, g).ok()); });
      std::unique_lock l(g->lock);
      g->changed.wait(l, [g] { return g->there; });
      return true;
    }
  } gate;
  gate.index = &index;
  // Rows that wait: who adds them is killed as soon as they are there.
  static Table *table;
  table = &(*c)->table();
  const auto usual = m_.caller.interrupted;
  m_.caller.interrupted = [](vx_caller *) -> vx_bool { return table->slots() > first; };
  (void)m_.batch(m_.root(), VEXFS_BATCH_ADD, random_rows(rng_, 100, dim), dim, nullptr);
  m_.caller.interrupted = usual;
  const uint32_t n = (*c)->table().slots();
  ASSERT_GE(n, first + 4 * run);
  EXPECT_EQ(index.work(run, IndexKeeper::Saves::no, Gate::give_back, &gate).code(), Errno::intr);
  ASSERT_EQ(*index.work(run, IndexKeeper::Saves::no, nullptr, nullptr), run);
  ASSERT_EQ(*index.work(4, IndexKeeper::Saves::no, nullptr, nullptr), 4u);
  ASSERT_EQ(*index.work(run, IndexKeeper::Saves::no, nullptr, nullptr), run);
  LiveIndex *l = index.acquire();
  ASSERT_TRUE(l);
  SlotRun runs[IndexKeeper::unindexed_runs];
  const u32 many = index.unindexed(*l, n, runs);
  ASSERT_GE(many, 1u);
  EXPECT_EQ(runs[0].begin, first + run);
  EXPECT_GE(runs[0].end, first + 2 * run);
  index.release(l);
  {
    const std::lock_guard g(gate.lock);
    gate.open = true;
  }
  gate.changed.notify_all();
  gate.other.join();
}

// Rows enter the index, and the table, while it is walked.
TEST_P(VectorBacklog, NoRowIsMissedOrToldTwice) {
  constexpr uint32_t k = 50, most = 1200;
  std::vector<float> data = random_rows(rng_, most, dim);
  // All near to where is searched, so that what comes is what is found.
  for (float &v : data) v *= 0.01f;
  std::atomic<uint32_t> there{0};
  std::atomic<bool> over{false};
  std::thread searcher([&] {
    std::vector<vexfs_hit> hits;
    for (uint32_t i = 0; !over; i++) {
      const uint32_t before = there;
      const uint32_t of = before ? i % before : 0;
      const Row q(data.begin() + of * dim, data.begin() + (of + 1) * dim);
      vexfs_search s{};
      ASSERT_EQ(m_.search(m_.root(), q, k, &hits, 0, 100, &s), 0);
      ASSERT_EQ(s.found, k);
      std::set<uint64_t> ids;
      for (uint32_t j = 0; j < s.found; j++) ids.insert(hits[j].id);
      EXPECT_EQ(ids.size(), k);
      for (uint32_t j = 1; j < s.found; j++) EXPECT_LE(distance_of(hits[j - 1]), distance_of(hits[j]));
    }
  });
  for (uint32_t at = 0; at < most; at += batch) {
    const std::vector<float> some(data.begin() + at * dim, data.begin() + (at + batch) * dim);
    ASSERT_EQ(m_.batch(m_.root(), VEXFS_BATCH_ADD, some, dim, nullptr), 0);
    there = at + batch;
    std::vector<vexfs_hit> hits;
    const Row last(data.begin() + (at + batch - 1) * dim, data.begin() + (at + batch) * dim);
    ASSERT_EQ(m_.search(m_.root(), last, 1, &hits, 0, 200), 0);
    EXPECT_EQ(distance_of(hits[0]), 0.0f) << "row " << at + batch - 1;
  }
  over = true;
  searcher.join();
}

}  // namespace
}  // namespace vexfs::vector::test
