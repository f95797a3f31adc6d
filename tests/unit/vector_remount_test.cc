// SPDX-License-Identifier: MIT
// An index after a clean unmount is the index before it: the same searches give the same hits and the same bits of
// distance, whatever state the index was in. And a mount reads no more than a search touches.
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
  for (uint32_t round = 0; round < 4; round++) {
    add_rows(m, m.root(), 1000, round);
    m.remount();  // while the threads still index
    EXPECT_EQ(status(m, m.root()).checkpoint_slots, (round + 1) * 1000);
    EXPECT_EQ(status(m, m.root()).indexed, (round + 1) * 1000);
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
