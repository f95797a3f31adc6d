// SPDX-License-Identifier: MIT
// Collections with an index that learns, on a filesystem: from the first row to the checkpoint, remounts, growth,
// change of kind, damage, failures.
// Thread sanitizer: KindMount.BackgroundThreadsDoIt KindMount.SearchesWhileRowsComeAndGo DiskAnnMount.DeadRowsLeaveTheGraph
#include <thread>

#include "vector_fixture.h"

namespace vexfs::vector::test {
namespace {

constexpr uint32_t dim = 16;

const uint16_t kinds[] = {VEXFS_INDEX_IVF_FLAT, VEXFS_INDEX_IVF_PQ, VEXFS_INDEX_LSH, VEXFS_INDEX_DISKANN};

class KindMount : public testing::TestWithParam<uint16_t> {
 protected:
  void create(Mount &m) { ASSERT_EQ(m.create(m.root(), dim, VEXFS_F32, VEXFS_L2, GetParam()), 0); }
};
INSTANTIATE_TEST_SUITE_P(Learning, KindMount, testing::ValuesIn(kinds), [](const auto &i) {
  return i.param == VEXFS_INDEX_IVF_FLAT ? "IvfFlat"
         : i.param == VEXFS_INDEX_IVF_PQ ? "IvfPq"
         : i.param == VEXFS_INDEX_LSH    ? "Lsh"
                                         : "DiskAnn";
});

std::vector<float> clustered(uint32_t n, uint64_t seed) {
  std::mt19937_64 rng(seed), centres(1);
  std::normal_distribution<float> gauss(0, 1);
  std::vector<float> centre(40 * dim), out(size_t{n} * dim);
  for (float &f : centre) f = gauss(centres) * 10;
  for (uint32_t i = 0; i < n; i++) {
    const size_t c = rng() % 40;
    for (uint32_t j = 0; j < dim; j++) out[size_t{i} * dim + j] = centre[c * dim + j] + gauss(rng) * 2;
  }
  return out;
}

void add_rows(Mount &m, uint32_t n, uint64_t seed) {
  ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, clustered(n, seed), dim, nullptr), 0);
}

// Until all rows are in the index.
void settle(Mount &m) { ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_BUILD), 0); }

vexfs_index status(Mount &m) {
  vexfs_index x;
  EXPECT_EQ(m.index(m.root(), VEXFS_INDEX_STATUS, &x), 0);
  return x;
}

std::vector<std::vector<uint64_t>> answers(Mount &m, uint32_t flags = 0) {
  std::vector<std::vector<uint64_t>> all;
  const std::vector<float> queries = clustered(40, 77);
  for (uint32_t i = 0; i < 40; i++) {
    std::vector<vexfs_hit> hits;
    const Row q(queries.begin() + i * dim, queries.begin() + (i + 1) * dim);
    EXPECT_EQ(m.search(m.root(), q, 10, &hits, flags), 0);
    all.emplace_back();
    for (const vexfs_hit &h : hits) all.back().push_back(h.id);
  }
  return all;
}

double share_found(Mount &m) {
  const auto exact = answers(m, VEXFS_SEARCH_EXACT), got = answers(m);
  size_t found = 0, all = 0;
  for (size_t i = 0; i < exact.size(); i++) {
    for (uint64_t id : got[i]) found += static_cast<size_t>(std::count(exact[i].begin(), exact[i].end(), id));
    all += exact[i].size();
  }
  return static_cast<double>(found) / static_cast<double>(all);
}

TEST_P(KindMount, FromTheFirstRowToARemount) {
  Mount m;
  create(m);
  EXPECT_EQ(m.info(m.root()).index, GetParam());
  for (uint32_t n : {1u, 100u, 400u}) {
    add_rows(m, n, n);
    EXPECT_EQ(status(m).indexed, 0u) << "too few to learn from";
    EXPECT_EQ(share_found(m), 1.0);
  }
  add_rows(m, 1500, 4);
  EXPECT_GE(status(m).indexed, 1500u);
  settle(m);
  EXPECT_EQ(status(m).indexed, 2001u);
  EXPECT_EQ(status(m).kind, GetParam());
  EXPECT_GE(share_found(m), 0.85);
  const auto before = answers(m);
  m.remount();
  EXPECT_EQ(status(m).checkpoint_slots, 2001u);
  EXPECT_EQ(status(m).indexed, 2001u);
  EXPECT_EQ(answers(m), before);
  vexfs_search s{};
  std::vector<vexfs_hit> hits;
  ASSERT_EQ(m.search(m.root(), Row(dim, 1.0f), 5, &hits, 0, 0, &s), 0);
  EXPECT_GT(s.hops, 0u);
  EXPECT_EQ(s.scanned, 0u) << "nothing is left to scan";
  add_rows(m, 300, 5);
  settle(m);
  EXPECT_EQ(status(m).indexed, 2301u);
  EXPECT_TRUE(m.check());
  EXPECT_GE(share_found(m), 0.85);
}

TEST_P(KindMount, DeletesUpdatesAndRebuild) {
  Mount m;
  create(m);
  add_rows(m, 3000, 1);
  std::mt19937_64 rng(7);
  for (uint64_t id = 5; id < 1000; id += 3) ASSERT_EQ(m.del(m.root(), id), 0);
  for (uint64_t id = 1001; id < 1100; id++) ASSERT_EQ(m.update(m.root(), id, random_row(rng, dim)), 0);
  const auto got = answers(m);
  for (const auto &ids : got)
    for (uint64_t id : ids) EXPECT_FALSE(id >= 5 && id < 1000 && (id - 5) % 3 == 0) << id;
  EXPECT_GE(share_found(m), 0.85);
  EXPECT_GT(status(m).dead, 0u);
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_REBUILD, nullptr, 0, 2), 0);
  EXPECT_EQ(status(m).dead, 0u);
  EXPECT_EQ(status(m).kind, GetParam());
  EXPECT_GE(share_found(m), 0.85);
  EXPECT_TRUE(m.check());
}

// Rows come and go at the front: those that live are the last ones there were.
TEST_P(KindMount, LearnsOfTheFewThatLive) {
  Mount m;
  ASSERT_NO_FATAL_FAILURE(create(m));
  constexpr uint32_t n = 8000, live = 500;
  std::vector<vexfs_row> rs(n);
  for (uint32_t i = 0; i < n; i++) rs[i].id = i;
  ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, clustered(n, 5), dim, &rs), 0);
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_DROP), 0);
  rs.resize(n - live);
  ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_DELETE, {}, dim, &rs), 0);
  vexfs_index x{};
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_BUILD, nullptr, GetParam()), 0);
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_STATUS, &x), 0);
  EXPECT_EQ(x.indexed, live);
  EXPECT_EQ(x.kind, GetParam());
}

// A graph on disk is not built anew for its dead rows: they leave it, and its checkpoint.
TEST(DiskAnnMount, DeadRowsLeaveTheGraph) {
  Options o;
  o.threads = 1;
  Mount m(o);
  ASSERT_EQ(m.create(m.root(), dim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_DISKANN), 0);
  add_rows(m, 3000, 1);
  settle(m);
  for (uint64_t id = 1; id < 3000; id += 2) ASSERT_EQ(m.del(m.root(), id), 0);
  add_rows(m, 1500, 2);
  settle(m);
  for (int i = 0; i < 3000 && status(m).dead > 512; i++) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_LE(status(m).dead, 512u);
  EXPECT_EQ(status(m).indexed, 3000u);
  EXPECT_GE(share_found(m), 0.95);
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_CHECKPOINT), 0);
  const auto before = answers(m);
  m.remount();
  EXPECT_EQ(status(m).indexed, 3000u);
  EXPECT_LE(status(m).dead, 512u) << "the checkpoint has them no more";
  EXPECT_EQ(answers(m), before);
  EXPECT_TRUE(m.check());
}

TEST_P(KindMount, LearnsAnewWhenTheCollectionHasOutgrownIt) {
  Mount m;
  create(m);
  add_rows(m, 600, 1);
  settle(m);
  EXPECT_EQ(status(m).indexed, 600u);
  const uint64_t few = status(m).memory_bytes;
  add_rows(m, 6000, 2);
  settle(m);
  EXPECT_EQ(status(m).indexed, 6600u);
  EXPECT_GT(status(m).memory_bytes, few);
  EXPECT_GE(share_found(m), 0.85);
  const auto before = answers(m);
  EXPECT_TRUE(m.check());
  EXPECT_EQ(answers(m), before);
}

TEST_P(KindMount, KindsChange) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), dim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW, nullptr, 6, 40), 0);
  add_rows(m, 2000, 1);
  vexfs_index x{};
  x.size = sizeof x;
  x.op = VEXFS_INDEX_BUILD;
  x.kind = GetParam();
  x.threads = 2;
  x.lists = 30;
  x.probes = 12;
  x.pq_m = 8;
  x.tables = 5;
  x.bits = 6;
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_MANAGE_INDEX, &x), 0);
  EXPECT_EQ(x.indexed, 2000u);
  m.remount();
  const vexfs_collection c = m.info(m.root());
  EXPECT_EQ(c.index, GetParam());
  EXPECT_EQ(c.lists, 30u);
  EXPECT_EQ(c.probes, 12u);
  EXPECT_EQ(c.pq_m, 8u);
  EXPECT_EQ(c.tables, 5u);
  EXPECT_EQ(c.bits, 6u);
  EXPECT_EQ(status(m).checkpoint_slots, 2000u);
  EXPECT_GE(share_found(m), 0.8);
  const vexfs_index used = status(m);
  const bool ivf = GetParam() == VEXFS_INDEX_IVF_FLAT || GetParam() == VEXFS_INDEX_IVF_PQ;
  EXPECT_EQ(used.lists_used, ivf ? 30u : 0);
  EXPECT_EQ(used.pq_m_used, GetParam() == VEXFS_INDEX_IVF_PQ ? 8u : 0);
  EXPECT_EQ(used.tables_used, GetParam() == VEXFS_INDEX_LSH ? 5u : 0);
  EXPECT_EQ(used.bits_used, GetParam() == VEXFS_INDEX_LSH ? 6u : 0);
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_BUILD, nullptr, VEXFS_INDEX_HNSW), 0);
  EXPECT_EQ(status(m).lists_used + status(m).pq_m_used + status(m).tables_used + status(m).bits_used, 0u);
  EXPECT_EQ(m.info(m.root()).index, VEXFS_INDEX_HNSW);
  EXPECT_GE(share_found(m), 0.8);
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_DROP), 0);
  EXPECT_EQ(share_found(m), 1.0);
  EXPECT_TRUE(m.check());
}

TEST_P(KindMount, BackgroundThreadsDoIt) {
  Options o;
  o.threads = 2;
  Mount m(o);
  create(m);
  for (uint32_t round = 0; round < 4; round++) {
    add_rows(m, 1000, round);
    EXPECT_GE(share_found(m), 0.8);
  }
  while (status(m).indexed < 4000)
    std::this_thread::sleep_for(std::chrono::milliseconds(25));  // as long as ctest lets it
  EXPECT_EQ(status(m).indexed, 4000u);
  EXPECT_TRUE(m.check());
  EXPECT_GE(share_found(m), 0.8);
}

TEST_P(KindMount, SearchesWhileRowsComeAndGo) {
  Options o;
  o.threads = 1;
  Mount m(o);
  m.caller.may = [](vx_caller *, vx_u64, unsigned) { return 0; };
  create(m);
  add_rows(m, 800, 1);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; t++)
    threads.emplace_back([&, t] {
      const std::vector<float> queries = clustered(20, 70 + static_cast<uint64_t>(t));
      for (uint32_t i = 0; !stop.load(); i = (i + 1) % 20) {
        std::vector<vexfs_hit> hits;
        const Row q(queries.begin() + i * dim, queries.begin() + (i + 1) * dim);
        EXPECT_EQ(m.search(m.root(), q, 10, &hits), 0);
        EXPECT_EQ(hits.size(), 10u);
      }
    });
  for (uint32_t round = 0; round < 8; round++) {
    add_rows(m, 500, 10 + round);
    for (uint64_t id = round * 50 + 1; id < round * 50 + 50; id++) EXPECT_EQ(m.del(m.root(), id), 0);
  }
  EXPECT_EQ(m.index(m.root(), VEXFS_INDEX_REBUILD, nullptr, 0, 2), 0);
  stop = true;
  for (std::thread &t : threads) t.join();
  EXPECT_TRUE(m.check());
}

TEST_P(KindMount, AKilledBuildLeavesWhatWas) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), dim), 0);
  add_rows(m, 3000, 1);
  static int questions;
  for (int after : {0, 2, 9}) {
    questions = after;
    m.caller.interrupted = [](vx_caller *) -> vx_bool { return questions-- <= 0; };
    EXPECT_EQ(m.index(m.root(), VEXFS_INDEX_BUILD, nullptr, GetParam()), -EINTR);
  }
  m.caller.interrupted = [](vx_caller *) -> vx_bool { return false; };
  EXPECT_EQ(m.info(m.root()).index, VEXFS_INDEX_FLAT);
  EXPECT_EQ(share_found(m), 1.0);
  EXPECT_TRUE(m.check());
}

}  // namespace
}  // namespace vexfs::vector::test
