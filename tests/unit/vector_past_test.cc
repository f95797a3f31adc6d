// SPDX-License-Identifier: MIT
// Searches of a snapshot by way of the live index: whatever has happened to the collection since, the answer is what it
// was then. Exact ones bit for bit; a walk of the graph within a point of recall. VX_SEED replays a run.
#include <algorithm>

#include "../../kernel/core/api_internal.h"
#include "vector_fixture.h"

namespace vexfs::vector::test {
namespace {

constexpr uint32_t dim = 24, k = 10;

uint64_t seed() {
  const char *s = getenv("VX_SEED");
  return s ? strtoull(s, nullptr, 0) : 7;
}

using Hits = std::vector<std::pair<uint64_t, uint32_t>>;  // id, bits of the distance

class Past : public ::testing::Test {
 protected:
  void SetUp() override {
    uint64_t id = 0;
    ASSERT_EQ(m_.create(m_.root(), dim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW, &id, 12, 100), 0);
    add(6000);
    for (int i = 0; i < 100; i++) queries_.push_back(random_row(rng_, dim));
  }
  void TearDown() override { leave(); }

  void add(uint32_t n) {
    uint64_t first = 0;
    std::vector<float> data = random_rows(rng_, n, dim);
    ASSERT_EQ(m_.batch(m_.root(), VEXFS_BATCH_ADD, data, dim, nullptr, nullptr, &first), 0);
    for (uint32_t i = 0; i < n; i++) ids_.push_back(first + i);
  }
  void drop(size_t n) {
    for (; n && !ids_.empty(); n--) {
      std::swap(ids_[rng_() % ids_.size()], ids_.back());
      ASSERT_EQ(m_.del(m_.root(), ids_.back()), 0);
      ids_.pop_back();
    }
  }
  void update(size_t n) {
    for (; n; n--) ASSERT_EQ(m_.update(m_.root(), ids_[rng_() % ids_.size()], random_row(rng_, dim)), 0);
  }

  Hits ask(vx_fs *fs, vx_inode *root, const Row &q, uint32_t flags,
           const std::vector<vexfs_filter> *filters = nullptr) {
    std::vector<vexfs_hit> hits(k);
    vexfs_hybrid_search h{};
    h.size = sizeof h;
    h.search.size = sizeof h.search;
    h.search.flags = flags;
    h.search.queries = reinterpret_cast<__u64>(q.data());
    h.search.hits = reinterpret_cast<__u64>(hits.data());
    h.search.nq = 1;
    h.search.dim = dim;
    h.search.element = VEXFS_F32;
    h.search.k = k;
    h.search.ef = 60;
    if (filters) {
      h.filters = reinterpret_cast<__u64>(filters->data());
      h.nfilters = static_cast<__u32>(filters->size());
    }
    EXPECT_EQ(vx_ioctl(fs, root, VEXFS_IOCTL_HYBRID_SEARCH, reinterpret_cast<vx_u64>(&h), &m_.caller), 0);
    Hits out;
    for (uint32_t i = 0; i < h.search.found; i++) out.emplace_back(hits[i].id, hits[i].distance);
    return out;
  }
  struct Answers {
    std::vector<Hits> exact, walked;
    double recall = 0;
  };
  Answers answers(vx_fs *fs, vx_inode *root) {
    Answers a;
    size_t found = 0, all = 0;
    for (const Row &q : queries_) {
      a.exact.push_back(ask(fs, root, q, VEXFS_SEARCH_EXACT));
      a.walked.push_back(ask(fs, root, q, 0));
      for (auto &hit : a.walked.back())
        found += static_cast<size_t>(std::count(a.exact.back().begin(), a.exact.back().end(), hit));
      all += a.exact.back().size();
    }
    a.recall = all ? static_cast<double>(found) / static_cast<double>(all) : 1;
    return a;
  }
  uint64_t keep(const char *name) {
    vexfs_snapshot s{};
    s.size = sizeof s;
    memcpy(s.name, name, strlen(name));
    EXPECT_EQ(m_.ioctl(m_.root(), VEXFS_IOCTL_SNAPSHOT_CREATE, &s), 0);
    return s.id;
  }
  void enter(uint64_t id) {
    leave();
    vx_mount_opts o{};
    o.read_only = true;
    ASSERT_EQ(vx_snapshot_mount(m_.fs(), id, &o, &view_), 0);
    ASSERT_EQ(vx_iget(view_, m_.fs_info().root_ino, 0, &view_root_), 0);
  }
  void leave() {
    if (view_root_) vx_iput(view_root_);
    if (view_) vx_fs_unmount(view_);
    view_ = nullptr;
    view_root_ = nullptr;
  }
  uint64_t past_searches() { return view_->engine->stats().past_searches.load(); }

  // The snapshot answers what was answered then; by the present or (present = false) by itself.
  void same(uint64_t id, const Answers &then, bool present) {
    enter(id);
    Answers now = answers(view_, view_root_);
    EXPECT_TRUE(now.exact == then.exact) << "exact answers are not those of the time";
    EXPECT_GE(now.recall, then.recall - 0.01);
    EXPECT_EQ(past_searches(), present ? 2 * queries_.size() : 0);
    if (present) {
      EXPECT_EQ(view_->engine->cache().loads.load() + view_->engine->cache().external(), 0u) << "rows were copied";
    }
    leave();
  }

  std::mt19937_64 rng_{seed()};
  Mount m_;
  std::vector<uint64_t> ids_;
  std::vector<Row> queries_;
  vx_fs *view_ = nullptr;
  vx_inode *view_root_ = nullptr;
};

TEST_F(Past, WhateverHappensToTheRows) {
  Answers then = answers(m_.fs(), m_.root());
  EXPECT_GT(then.recall, 0.9);
  uint64_t id = keep("then");
  same(id, then, true);
  drop(1500);
  same(id, then, true);
  add(5000);
  same(id, then, true);
  update(500);
  uint64_t later = keep("later");
  Answers then2 = answers(m_.fs(), m_.root());
  drop(2000);
  same(id, then, true);
  same(later, then2, true);
  update(9000);  // too many to be scored one by one
  same(id, then, true);
  same(later, then2, true);
  m_.remount();
  same(id, then, true);
  same(later, then2, true);
}

// What died is not in a graph that was built since: it is scored one by one.
TEST_F(Past, AnIndexThatWasBuiltAnew) {
  Answers then = answers(m_.fs(), m_.root());
  uint64_t id = keep("then");
  drop(900);
  add(1000);
  ASSERT_EQ(m_.index(m_.root(), VEXFS_INDEX_REBUILD, nullptr, VEXFS_INDEX_HNSW), 0);
  enter(id);
  Answers now = answers(view_, view_root_);
  EXPECT_TRUE(now.exact == then.exact);
  EXPECT_GE(now.recall, then.recall - 0.01);
  EXPECT_EQ(past_searches(), 2 * queries_.size());
}

// Whole chunks are dead, and the live table has given them up.
TEST_F(Past, RowsThatOnlyTheSnapshotHas) {
  Answers then = answers(m_.fs(), m_.root());
  uint64_t id = keep("then");
  drop(ids_.size());
  add(3000);
  ASSERT_EQ(m_.index(m_.root(), VEXFS_INDEX_REBUILD, nullptr, VEXFS_INDEX_HNSW), 0);
  enter(id);
  Answers now = answers(view_, view_root_);
  EXPECT_TRUE(now.exact == then.exact);
  EXPECT_GE(now.recall, then.recall - 0.01);
}

TEST_F(Past, ACollectionThatIsGone) {
  Answers then = answers(m_.fs(), m_.root());
  uint64_t id = keep("then");
  vexfs_collection c{};
  c.size = sizeof c;
  ASSERT_EQ(m_.ioctl(m_.root(), VEXFS_IOCTL_COLLECTION_DROP, &c), 0);
  same(id, then, false);
  // Another one in its place, with rows of the same size.
  ASSERT_EQ(m_.create(m_.root(), dim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW, nullptr, 12, 100), 0);
  add(8000);
  same(id, then, false);
}

// Slots of the state that was replaced are given out again: what is older than the rollback answers for itself.
TEST_F(Past, AfterARollback) {
  uint64_t first = keep("first");
  Answers at_first = answers(m_.fs(), m_.root());
  add(1500);
  Answers at_second = answers(m_.fs(), m_.root());
  uint64_t second = keep("second");
  vexfs_snapshot s{};
  s.size = sizeof s;
  s.id = first;
  ASSERT_EQ(m_.ioctl(m_.root(), VEXFS_IOCTL_SNAPSHOT_ROLLBACK, &s), 0);
  m_.remount();
  ids_.resize(6000);
  add(2500);
  same(second, at_second, false);
  same(first, at_first, false);
  Answers at_third = answers(m_.fs(), m_.root());
  uint64_t third = keep("third");
  add(500);
  drop(500);
  same(third, at_third, true);
}

TEST_F(Past, FiltersAndPermission) {
  std::vector<vx_u64> inos;
  for (int i = 0; i < 20; i++) {
    vx_attr a;
    vx_inode *ip = m_.make(m_.root(), "f" + std::to_string(i));
    vx_getattr(ip, &a);
    inos.push_back(a.ino);
    for (int j = 0; j < 5; j++) {
      uint64_t id = VEXFS_ID_AUTO;
      ASSERT_EQ(m_.add(ip, random_row(rng_, dim), &id, 0, a.ino, 77), 0);
    }
    m_.close(ip);
  }
  std::vector<vexfs_filter> tagged(1);
  tagged[0].kind = VEXFS_FILTER_TAG_RANGE;
  tagged[0].a = tagged[0].b = 77;
  m_.caller.denied.insert({inos[3], 4});
  std::vector<Hits> then;
  for (const Row &q : queries_) then.push_back(ask(m_.fs(), m_.root(), q, VEXFS_SEARCH_EXACT, &tagged));
  uint64_t id = keep("then");
  for (int i = 0; i < 10; i++) ASSERT_EQ(m_.unlink(m_.root(), "f" + std::to_string(i)), 0);
  drop(1000);
  add(2000);
  enter(id);
  for (size_t i = 0; i < queries_.size(); i++) {
    EXPECT_EQ(ask(view_, view_root_, queries_[i], VEXFS_SEARCH_EXACT, &tagged), then[i]);
    EXPECT_EQ(ask(view_, view_root_, queries_[i], 0, &tagged), then[i]) << "few rows pass: all are looked at";
  }
  EXPECT_GT(past_searches(), 0u);
}

}  // namespace
}  // namespace vexfs::vector::test
