// SPDX-License-Identifier: MIT
// Rows that wait for the index while searches go on: how many there may be, and that none is missed or told twice.
#include <thread>

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
  uint64_t unindexed() {
    vexfs_index x;
    EXPECT_EQ(m_.index(m_.root(), VEXFS_INDEX_STATUS, &x), 0);
    return rows_ - x.indexed;
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

// A search now and then slows nobody down who inserts: threads are left behind.
TEST_P(VectorBacklog, BurstsAreTaken) {
  if (GetParam() == 0) return;
  for (uint32_t i = 0; i < 20; i++) {
    ASSERT_NO_FATAL_FAILURE(add(batch));
    std::vector<vexfs_hit> hits;
    ASSERT_EQ(m_.search(m_.root(), random_rows(rng_, 1, dim), 1, &hits), 0);
  }
  EXPECT_GT(unindexed(), 20 * batch / 4);
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
