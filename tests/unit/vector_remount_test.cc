// SPDX-License-Identifier: MIT
// An index after a clean unmount is the index before it: the same searches give the same hits and the same bits of
// distance, whatever state the index was in. And a mount reads no more than a search touches.
// Thread sanitizer: VectorRemount.BackgroundWorkIsFinishedByTheUnmount VectorRemount.BuildWaitsForRowsThatOthersInsert
#include <chrono>
#include <thread>

#include "vector_fixture.h"

namespace vexfs::vector::test {
namespace {

constexpr uint32_t dim = 24;

using Answers = std::vector<std::vector<std::pair<uint64_t, uint32_t>>>;

Answers ask(Mount &m, vx_inode *d, uint32_t queries, uint32_t ef, uint32_t flags = 0) {
  std::mt19937_64 rng(99);
  Answers all;
  for (uint32_t i = 0; i < queries; i++) {
    std::vector<vexfs_hit> hits;
    EXPECT_EQ(m.search(d, random_row(rng, dim), 10, &hits, flags, ef), 0);
    all.emplace_back();
    for (auto &h : hits) all.back().push_back({h.id, h.distance});
  }
  return all;
}

vexfs_index status(Mount &m, vx_inode *d) {
  vexfs_index x{};
  EXPECT_EQ(m.index(d, VEXFS_INDEX_STATUS, &x), 0);
  return x;
}

// Rows in pieces, by the path that programs use.
void add_rows(Mount &m, vx_inode *d, uint32_t n, uint64_t seed) {
  std::mt19937_64 rng(seed);
  ASSERT_EQ(m.batch(d, VEXFS_BATCH_ADD, random_rows(rng, n, dim), dim, nullptr), 0);
}

// `ef` is so small that two graphs over the same rows would give themselves away.
void expect_same_after_remount(Mount &m, const char *what) {
  Answers before = ask(m, m.root(), 100, 12);
  m.remount();
  EXPECT_EQ(ask(m, m.root(), 100, 12), before) << what;
  m.remount();
  EXPECT_EQ(ask(m, m.root(), 100, 12), before) << what << ", once more";
}

TEST(VectorRemount, SearchesTheVerySameGraph) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), dim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW, nullptr, 6, 40), 0);
  add_rows(m, m.root(), 3000, 1);
  expect_same_after_remount(m, "never checkpointed");
  for (uint32_t more : {1u, 7u, 200u, 255u, 300u}) {
    add_rows(m, m.root(), more, more);
    expect_same_after_remount(m, ("rows added after a checkpoint: " + std::to_string(more)).c_str());
    EXPECT_EQ(status(m, m.root()).checkpoint_slots, m.info(m.root()).slots);
  }
  std::mt19937_64 rng(7);
  for (uint64_t id = 5; id < 1000; id += 3) ASSERT_EQ(m.del(m.root(), id), 0);
  for (uint64_t id = 1001; id < 1100; id++) ASSERT_EQ(m.update(m.root(), id, random_row(rng, dim)), 0);
  expect_same_after_remount(m, "deletes and updates");
  EXPECT_TRUE(m.check());
}

TEST(VectorRemount, SmallCollectionsAnswerTheSameToo) {
  for (uint32_t n : {1u, 2u, 100u, 500u, 511u, 512u, 513u, 600u}) {
    Mount m(Options{.size = 64 << 20});
    ASSERT_EQ(m.create(m.root(), dim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW, nullptr, 2, 10), 0);
    add_rows(m, m.root(), n, n);
    expect_same_after_remount(m, ("rows: " + std::to_string(n)).c_str());
  }
}

TEST(VectorRemount, BackgroundWorkIsFinishedByTheUnmount) {
  Options o;
  o.threads = 2;
  Mount m(o);
  ASSERT_EQ(m.create(m.root(), dim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW, nullptr, 6, 40), 0);
  constexpr uint32_t step =
      600;  // the two seconds that an unmount takes are enough for these, sanitized and starved too
  for (uint32_t round = 0; round < 4; round++) {
    add_rows(m, m.root(), step, round);
    m.remount();  // while the threads still index
    EXPECT_EQ(status(m, m.root()).checkpoint_slots, (round + 1) * step);
    EXPECT_EQ(status(m, m.root()).indexed, (round + 1) * step);
  }
  expect_same_after_remount(m, "background threads");
  EXPECT_TRUE(m.check());
}

TEST(VectorRemount, BecomingReadOnlySavesTheIndexToo) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), dim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW, nullptr, 6, 40), 0);
  add_rows(m, m.root(), 2000, 1);
  Answers before = ask(m, m.root(), 100, 12);
  ASSERT_EQ(vx_fs_set_read_only(m.fs(), true), 0);
  m.remount();
  EXPECT_EQ(status(m, m.root()).checkpoint_slots, 2000u);
  EXPECT_EQ(ask(m, m.root(), 100, 12), before);
}

// Reads that the device served, and how long the first search after mounting took.
struct FirstSearch {
  uint64_t mount_bytes = 0, bytes = 0, reads = 0;
};

FirstSearch first_search(Mount &m, host::FaultDevice &device, const Row &query, uint64_t want, uint32_t flags) {
  FirstSearch f;
  uint64_t before = device.counters().bytes_read;
  EXPECT_EQ(m.mount(), 0);
  auto mounted = device.counters();
  f.mount_bytes = mounted.bytes_read - before;
  std::vector<vexfs_hit> hits;
  EXPECT_EQ(m.search(m.root(), query, 10, &hits, flags, 64), 0);
  EXPECT_EQ(hits.empty() ? 0 : uint64_t{hits[0].id}, want);
  auto done = device.counters();
  f.bytes = done.bytes_read - mounted.bytes_read;
  f.reads = done.reads - mounted.reads;
  return f;
}

// After a mount nothing is read until it is asked for: the first search through the index reads the checkpoint and the few
// rows that it scores, builds nothing, and the next one does not read the checkpoint again.
TEST(VectorRemount, FirstSearchReadsOnlyItsPages) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr uint32_t rows = 10000;
#else
  constexpr uint32_t rows = 100000;
#endif
  constexpr uint32_t wide = 128;
  Options o;
  o.size = 512 << 20;
  Mount m(o);
  ASSERT_EQ(m.create(m.root(), wide, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW, nullptr, 8, 16), 0);
  std::mt19937_64 rng(5);
  Row probe;
  for (uint32_t at = 0; at < rows; at += 10000) {
    auto data = random_rows(rng, 10000, wide);
    ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, data, wide, nullptr), 0);
    probe.assign(data.end() - wide, data.end());
  }
  m.unmount();
  host::FaultDevice device(&m.device());  // counts
  m.use_device(&device);
  FirstSearch walk = first_search(m, device, probe, rows, 0);
  vexfs_index x = status(m, m.root());
  EXPECT_EQ(x.indexed, rows);
  EXPECT_EQ(x.checkpoint_slots, rows);
  uint64_t table = m.stats(m.root()).table_bytes;
  printf("mount: %llu bytes; first search: %llu reads, %llu bytes; table %llu, checkpoint %llu\n",
         static_cast<unsigned long long>(walk.mount_bytes), static_cast<unsigned long long>(walk.reads),
         static_cast<unsigned long long>(walk.bytes), static_cast<unsigned long long>(table),
         static_cast<unsigned long long>(x.checkpoint_bytes));
  EXPECT_LT(walk.mount_bytes, table / 8) << "mounting reads the collection";
  // Of the three chunks of a small table enough rows are asked for that all are worth reading.
  const uint64_t few = rows < 100000 ? table + (1 << 20) : 4 << 20;
  EXPECT_LE(walk.bytes, x.checkpoint_bytes + few);
  EXPECT_LE(walk.reads, (table + x.checkpoint_bytes) / 4096 / 4) << "pages are read one by one";
  auto before = device.counters();
  EXPECT_EQ(device.counters().writes, 0u) << "a search after a mount writes nothing";
  std::vector<vexfs_hit> hits;
  vexfs_search s{};
  ASSERT_EQ(m.search(m.root(), probe, 10, &hits, 0, 64, &s), 0);
  EXPECT_EQ(s.scanned, 0u) << "rows are scanned because they are not in the index";
  EXPECT_LT(s.distances, rows / 10);
  EXPECT_LE(device.counters().bytes_read - before.bytes_read, table / 4);
  m.unmount();
  // By scan, and with a cache that holds an eighth of the table: the limit holds, the answer is the same.
  m.options().cache_bytes = table / 8;
  FirstSearch scan = first_search(m, device, probe, rows, VEXFS_SEARCH_EXACT);
  // Metadata of the ten hits may have been evicted again: their chunks come back.
  EXPECT_LE(scan.bytes, table + (4 << 20) + (10 * (2 << 20)));
  vexfs_stats st = m.stats(m.root(), ~uint64_t{0});
  EXPECT_EQ(st.resident_limit_bytes, table / 8);
  EXPECT_LE(st.resident_bytes + st.index_memory_bytes, table / 8 + (6 << 20));
  EXPECT_GT(st.chunk_evictions, 0u);
  for (int i = 0; i < 5; i++) {
    ASSERT_EQ(m.search(m.root(), probe, 10, &hits, VEXFS_SEARCH_EXACT), 0);
    st = m.stats(m.root(), ~uint64_t{0});
    EXPECT_LE(st.resident_bytes, table / 8 + (6 << 20));
  }
  m.unmount();
  m.use_device(nullptr);
  ASSERT_EQ(m.mount(), 0);
}

// Half of the rows deleted and as many put in their place: as good as an index built afresh, also after a mount.
TEST(VectorRemount, HalfReplacedIsAsGoodAsFresh) {
  constexpr uint32_t n = 6000;
  std::mt19937_64 rng(11);
  auto first = random_rows(rng, n, dim), second = random_rows(rng, n / 2, dim);
  Mount churned, fresh;
  for (Mount *m : {&churned, &fresh})
    ASSERT_EQ(m->create(m->root(), dim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW, nullptr, 8, 60), 0);
  ASSERT_EQ(churned.batch(churned.root(), VEXFS_BATCH_ADD, first, dim, nullptr), 0);
  for (uint64_t id = 1; id <= n; id += 2) ASSERT_EQ(churned.del(churned.root(), id), 0);
  ASSERT_EQ(churned.batch(churned.root(), VEXFS_BATCH_ADD, second, dim, nullptr), 0);
  std::vector<float> same;
  for (uint32_t i = 1; i < n; i += 2) same.insert(same.end(), &first[i * dim], &first[(i + 1) * dim]);
  same.insert(same.end(), second.begin(), second.end());
  ASSERT_EQ(fresh.batch(fresh.root(), VEXFS_BATCH_ADD, same, dim, nullptr), 0);
  auto recall = [](Mount &m) {
    std::mt19937_64 queries(3);
    double found = 0;
    for (int q = 0; q < 300; q++) {
      Row query = random_row(queries, dim);
      std::vector<vexfs_hit> exact, hits;
      EXPECT_EQ(m.search(m.root(), query, 10, &exact, VEXFS_SEARCH_EXACT), 0);
      EXPECT_EQ(m.search(m.root(), query, 10, &hits, 0, 80), 0);
      for (auto &e : exact)
        for (auto &h : hits) found += e.id == h.id;
    }
    return found / 3000;
  };
  double want = recall(fresh);
  EXPECT_GT(want, 0.8);
  EXPECT_LT(want, 1) << "too easy to tell anything";
  EXPECT_GE(recall(churned), want - 0.01);
  churned.remount();
  EXPECT_GE(recall(churned), want - 0.01);
}

// BUILD returns when every row is in the index, also those that background threads had taken on.
TEST(VectorRemount, BuildWaitsForRowsThatOthersInsert) {
  Options o;
  o.threads = 2;
  Mount m(o);
  ASSERT_EQ(m.create(m.root(), dim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW, nullptr, 16, 200), 0);
  uint32_t rows = 0;
  for (uint32_t round = 0; round < 30; round++) {
    add_rows(m, m.root(), 97, round);
    rows += 97;
    std::this_thread::sleep_for(std::chrono::microseconds(200 * round));
    vexfs_index x{};
    ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_BUILD, &x), 0);
    ASSERT_EQ(x.indexed, rows) << "round " << round;
    ASSERT_EQ(x.checkpoint_slots, rows) << "round " << round;
  }
}

}  // namespace
}  // namespace vexfs::vector::test
