// SPDX-License-Identifier: MIT
// Rows of a collection: add, get, update, delete, search, over remounts and crashes.
#include <algorithm>

#include "vector_fixture.h"

namespace vexfs::vector::test {
namespace {

constexpr uint64_t any = VEXFS_ID_AUTO;

TEST(VectorBasic, AddGetSearchRemount) {
  Mount m;
  vx_inode *d = m.mkdir(m.root(), "c");
  ASSERT_EQ(m.create(d, 4), 0);
  uint64_t a = any, b = any, c = 77;
  ASSERT_EQ(m.add(d, {0, 0, 0, 0}, &a), 0);
  ASSERT_EQ(m.add(d, {1, 0, 0, 0}, &b, 0, 0, 5), 0);
  ASSERT_EQ(m.add(d, {5, 5, 5, 5}, &c), 0);
  EXPECT_EQ(a, 1u);
  EXPECT_EQ(b, 2u);
  EXPECT_EQ(c, 77u);
  for (int round = 0; round < 2; round++) {
    std::vector<vexfs_hit> hits;
    ASSERT_EQ(m.search(d, {0.9f, 0, 0, 0}, 2, &hits), 0);
    ASSERT_EQ(hits.size(), 2u);
    EXPECT_EQ(hits[0].id, b);
    EXPECT_EQ(hits[0].tag, 5u);
    EXPECT_EQ(hits[1].id, a);
    EXPECT_FLOAT_EQ(distance_of(hits[1]), 0.81f);
    Row v;
    ASSERT_EQ(m.get(d, 77, &v), 0);
    EXPECT_EQ(v, (Row{5, 5, 5, 5}));
    EXPECT_EQ(m.get(d, 78, &v), -ENOENT);
    m.remount();
    d = m.open(m.root(), "c");
    ASSERT_NE(d, nullptr);
  }
  EXPECT_TRUE(m.check());
}

TEST(VectorBasic, UpdateAndDelete) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), 2), 0);
  uint64_t id = 10;
  ASSERT_EQ(m.add(m.root(), {1, 1}, &id, 0, 0, 9), 0);
  EXPECT_EQ(m.add(m.root(), {1, 1}, &id), -EEXIST);
  ASSERT_EQ(m.update(m.root(), 10, {2, 2}), 0);
  EXPECT_EQ(m.update(m.root(), 11, {2, 2}), -ENOENT);
  Row v;
  vexfs_row row;
  ASSERT_EQ(m.get(m.root(), 10, &v, &row), 0);
  EXPECT_EQ(v, (Row{2, 2}));
  EXPECT_EQ(row.tag, 9u);
  std::vector<vexfs_hit> hits;
  ASSERT_EQ(m.search(m.root(), {0, 0}, 5, &hits), 0);
  ASSERT_EQ(hits.size(), 1u);
  EXPECT_FLOAT_EQ(distance_of(hits[0]), 8);
  ASSERT_EQ(m.del(m.root(), 10), 0);
  EXPECT_EQ(m.del(m.root(), 10), -ENOENT);
  ASSERT_EQ(m.search(m.root(), {0, 0}, 5, &hits), 0);
  EXPECT_TRUE(hits.empty());
  ASSERT_EQ(m.add(m.root(), {3, 3}, &id), 0);
  m.remount();
  ASSERT_EQ(m.get(m.root(), 10, &v), 0);
  EXPECT_EQ(v, (Row{3, 3}));
  EXPECT_EQ(m.info(m.root()).rows, 1u);
  EXPECT_EQ(m.info(m.root()).slots, 3u);
  EXPECT_TRUE(m.check());
}

// What an upsert is told to keep stays as it was; of a row that is new there is nothing to keep.
TEST(VectorBasic, UpsertKeepsWhatItIsTold) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), 2), 0);
  const uint64_t f = vx_ino(m.make(m.root(), "f")), g = vx_ino(m.make(m.root(), "g"));
  struct Case {
    uint32_t flags;
    uint64_t owner, offset, tag;  // of the row that there was
  };
  for (const Case &c :
       {Case{0, g, 0, 9}, Case{VEXFS_BATCH_F_KEEP_OWNER, f, 40, 9}, Case{VEXFS_BATCH_F_KEEP_TAG, g, 0, 7},
        Case{VEXFS_BATCH_F_KEEP_OWNER | VEXFS_BATCH_F_KEEP_TAG, f, 40, 7}}) {
    SCOPED_TRACE(c.flags);
    std::vector<vexfs_row> r(2);
    r[0].id = 1, r[0].owner = f, r[0].tag = 7, r[0].offset = 40, r[0].length = 2;
    r[1].id = 2;  // nobody's
    ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_UPSERT, {1, 2, 3, 4}, 2, &r), 0);
    std::vector<vexfs_row> by(3);
    for (uint32_t i = 0; i < 3; i++) by[i].id = 1 + i, by[i].owner = g, by[i].tag = 9;
    ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_UPSERT, {5, 6, 7, 8, 9, 9}, 2, &by, nullptr, nullptr, c.flags), 0);
    Row v;
    vexfs_row row;
    ASSERT_EQ(m.get(m.root(), 1, &v, &row), 0);
    EXPECT_EQ(v, (Row{5, 6}));
    EXPECT_EQ(row.owner, c.owner);
    EXPECT_EQ(row.offset, c.offset);
    EXPECT_EQ(row.tag, c.tag);
    ASSERT_EQ(m.get(m.root(), 2, &v, &row), 0);
    EXPECT_EQ(v, (Row{7, 8}));
    EXPECT_EQ(row.owner, c.flags & VEXFS_BATCH_F_KEEP_OWNER ? 0 : g);
    EXPECT_EQ(row.tag, c.flags & VEXFS_BATCH_F_KEEP_TAG ? 0u : 9u);
    ASSERT_EQ(m.get(m.root(), 3, &v, &row), 0);
    EXPECT_EQ(row.owner, g);
    EXPECT_EQ(row.tag, 9u);
    ASSERT_EQ(m.del(m.root(), 3), 0);
  }
  std::vector<vexfs_row> r(1);
  EXPECT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, {1, 2}, 2, &r, nullptr, nullptr, VEXFS_BATCH_F_KEEP_TAG), -EINVAL);
  r[0].id = 1;
  EXPECT_EQ(m.batch(m.root(), VEXFS_BATCH_UPDATE, {1, 2}, 2, &r, nullptr, nullptr, VEXFS_BATCH_F_KEEP_OWNER), -EINVAL);
  EXPECT_TRUE(m.check());
}

TEST(VectorBasic, BatchesAgreeWithBruteForce) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), 24), 0);
  std::mt19937_64 rng(1);
  const uint32_t n = 3000;
  auto data = random_rows(rng, n, 24);
  uint32_t done = 0;
  uint64_t first = 0;
  ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, data, 24, nullptr, &done, &first), 0);
  EXPECT_EQ(done, n);
  EXPECT_EQ(first, 1u);
  for (int round = 0; round < 2; round++) {
    for (int q = 0; q < 20; q++) {
      Row query = random_row(rng, 24);
      std::vector<std::pair<float, uint64_t>> want;
      for (uint32_t i = 0; i < n; i++) want.push_back({l2(query.data(), &data[i * 24], 24), first + i});
      std::sort(want.begin(), want.end());
      std::vector<vexfs_hit> hits;
      ASSERT_EQ(m.search(m.root(), query, 10, &hits), 0);
      ASSERT_EQ(hits.size(), 10u);
      for (int i = 0; i < 10; i++) EXPECT_EQ(hits[i].id, want[i].second);
    }
    m.remount();
  }
  EXPECT_TRUE(m.check());
}

TEST(VectorBasic, OwnersGoAndTheirRowsGo) {
  Mount m;
  vx_inode *d = m.mkdir(m.root(), "c");
  ASSERT_EQ(m.create(d, 2), 0);
  vx_inode *f = m.make(d, "f"), *g = m.make(d, "g");
  uint64_t a = any, b = any, c = any;
  ASSERT_EQ(m.add(f, {1, 0}, &a), 0);
  ASSERT_EQ(m.add(f, {2, 0}, &b), 0);
  ASSERT_EQ(m.add(g, {3, 0}, &c), 0);
  std::vector<vexfs_hit> hits;
  ASSERT_EQ(m.search(d, {0, 0}, 5, &hits), 0);
  ASSERT_EQ(hits.size(), 3u);
  EXPECT_EQ(hits[0].owner, vx_ino(f));
  EXPECT_EQ(hits[0].flags & VEXFS_ROW_STALE, 0u);
  ASSERT_EQ(m.write(g, "new"), 0);
  ASSERT_EQ(m.search(d, {0, 0}, 5, &hits), 0);
  ASSERT_EQ(hits.size(), 3u);
  EXPECT_NE(hits[2].flags & VEXFS_ROW_STALE, 0u);
  ASSERT_EQ(m.search(d, {0, 0}, 5, &hits, VEXFS_SEARCH_SKIP_STALE), 0);
  EXPECT_EQ(hits.size(), 2u);
  ASSERT_EQ(m.unlink(d, "f"), 0);  // still open
  ASSERT_EQ(m.search(d, {0, 0}, 5, &hits), 0);
  ASSERT_EQ(hits.size(), 1u);
  Row v;
  EXPECT_EQ(m.get(d, a, &v), -ENOENT);
  ASSERT_EQ(m.commit(), 0);
  m.crash();
  d = m.open(m.root(), "c");
  ASSERT_EQ(m.search(d, {0, 0}, 5, &hits), 0);
  ASSERT_EQ(hits.size(), 1u);
  EXPECT_EQ(hits[0].id, c);
  EXPECT_EQ(m.info(d).rows, 1u);
  EXPECT_TRUE(m.check());
}

TEST(VectorBasic, UncommittedRowsVanishInACrash) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), 8), 0);
  std::mt19937_64 rng(3);
  auto one = random_rows(rng, 500, 8), two = random_rows(rng, 500, 8);
  ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, one, 8, nullptr), 0);
  ASSERT_EQ(m.commit(), 0);
  ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, two, 8, nullptr), 0);
  ASSERT_EQ(m.del(m.root(), 1), 0);
  m.crash();
  EXPECT_EQ(m.info(m.root()).rows, 500u);
  std::vector<vexfs_hit> hits;
  ASSERT_EQ(m.search(m.root(), Row(one.begin(), one.begin() + 8), 1, &hits), 0);
  ASSERT_EQ(hits.size(), 1u);
  EXPECT_EQ(hits[0].id, 1u);
  ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, two, 8, nullptr), 0);
  m.remount();
  EXPECT_EQ(m.info(m.root()).rows, 1000u);
  Row v;
  ASSERT_EQ(m.get(m.root(), 1000, &v), 0);
  EXPECT_EQ(v, Row(two.end() - 8, two.end()));
  EXPECT_TRUE(m.check());
}

TEST(VectorBasic, HnswIsFoundAgainAfterRemount) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), 32, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW), 0);
  std::mt19937_64 rng(4);
  const uint32_t n = 5000;
  auto data = random_rows(rng, n, 32);
  ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, data, 32, nullptr), 0);
  vexfs_index x;
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_STATUS, &x), 0);
  EXPECT_EQ(x.indexed, n);
  for (int round = 0; round < 2; round++) {
    int found = 0;
    for (int q = 0; q < 50; q++) {
      Row query = random_row(rng, 32);
      std::vector<vexfs_hit> exact, hits;
      vexfs_search s{};
      ASSERT_EQ(m.search(m.root(), query, 10, &exact, VEXFS_SEARCH_EXACT), 0);
      ASSERT_EQ(m.search(m.root(), query, 10, &hits, 0, 200, &s), 0);
      EXPECT_LT(s.distances, n);
      for (auto &e : exact)
        for (auto &h : hits) found += e.id == h.id;
    }
    EXPECT_GE(found, 475);
    m.remount();
    ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_STATUS, &x), 0);
    EXPECT_EQ(x.checkpoint_slots, n);
    EXPECT_EQ(x.indexed, n);
  }
  EXPECT_TRUE(m.check());
}

TEST(VectorBasic, DropFreesEverything) {
  Mount m;
  vx_inode *d = m.mkdir(m.root(), "c");
  vx_inode *f = m.make(d, "f");
  std::mt19937_64 rng(5);
  uint64_t free_blocks = 0;
  // The first round leaves the trees their root nodes; the second must leave nothing.
  for (int round = 0; round < 2; round++) {
    ASSERT_EQ(m.create(d, 16, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW), 0);
    EXPECT_EQ(m.create(d, 16), -EEXIST);
    uint64_t id = any;
    ASSERT_EQ(m.add(f, random_row(rng, 16), &id), 0);
    ASSERT_EQ(m.batch(d, VEXFS_BATCH_ADD, random_rows(rng, 4000, 16), 16, nullptr), 0);
    ASSERT_EQ(m.index(d, VEXFS_INDEX_CHECKPOINT), 0);
    vexfs_collection c{};
    c.size = sizeof c;
    ASSERT_EQ(m.ioctl(d, VEXFS_IOCTL_COLLECTION_DROP, &c), 0);
    int e = 0;
    m.info(d, &e);
    EXPECT_EQ(e, -ENOENT);
    ASSERT_EQ(m.commit(), 0);
    ASSERT_EQ(m.commit(), 0);
    if (round) {
      EXPECT_EQ(m.fs_info().blocks_free, free_blocks);
    }
    free_blocks = m.fs_info().blocks_free;
  }
  EXPECT_TRUE(m.check());
}

TEST(VectorBasic, RemovedDirectoryTakesItsCollection) {
  Mount m;
  vx_inode *d = m.mkdir(m.root(), "c");
  ASSERT_EQ(m.create(d, 4), 0);
  uint64_t cid = m.info(d).id;
  uint64_t id = any;
  ASSERT_EQ(m.add(d, {1, 2, 3, 4}, &id), 0);
  // Vectors are contents: a directory goes when it is empty.
  ASSERT_EQ(m.unlink(m.root(), "c", true), -ENOTEMPTY);
  m.close(d);
  m.remount();
  ASSERT_EQ(m.unlink(m.root(), "c", true), -ENOTEMPTY);
  d = m.open(m.root(), "c");
  ASSERT_EQ(m.del(d, id), 0);
  ASSERT_EQ(m.unlink(m.root(), "c", true), 0);
  int e = 0;
  m.info(m.root(), &e, cid);
  EXPECT_EQ(e, -ENOENT);
  m.close(d);
  m.remount();
  m.info(m.root(), &e, cid);
  EXPECT_EQ(e, -ENOENT);
  EXPECT_TRUE(m.check());
}

}  // namespace
}  // namespace vexfs::vector::test
