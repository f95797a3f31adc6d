// SPDX-License-Identifier: MIT
// Rollbacks and vectors: rows are appended in place behind those that a snapshot counts, so that going back to it and
// appending again must not touch the rows of the state that was replaced. VX_SEED replays a run.
#include <iostream>
#include <map>

#include "vector_fixture.h"

namespace vexfs::vector::test {
namespace {

constexpr uint32_t dim = 50;
using State = std::map<uint64_t, Row>;

class Rollbacks {
 public:
  explicit Rollbacks(uint64_t seed, uint16_t index) : rng_(seed), index_(index) {
    EXPECT_EQ(m_.create(m_.root(), dim, VEXFS_F32, VEXFS_L2, index, nullptr, 16, 100), 0);
  }

  void add(uint32_t n) {
    std::vector<float> data = random_rows(rng_, n, dim);
    uint64_t first = 0;
    ASSERT_EQ(m_.batch(m_.root(), VEXFS_BATCH_ADD, data, dim, nullptr, nullptr, &first), 0);
    for (uint32_t i = 0; i < n; i++) now_[first + i] = Row(data.begin() + i * dim, data.begin() + (i + 1) * dim);
  }
  void drop(uint32_t n) {
    while (n-- && !now_.empty()) {
      auto it = now_.lower_bound(rng_() % (now_.rbegin()->first + 1));
      ASSERT_EQ(m_.del(m_.root(), it->first), 0);
      now_.erase(it);
    }
  }
  uint64_t keep(const std::string &name) {
    vexfs_snapshot s = named(name);
    EXPECT_EQ(m_.ioctl(m_.root(), VEXFS_IOCTL_SNAPSHOT_CREATE, &s), 0);
    kept_[s.id] = now_;
    return s.id;
  }
  // Returns the id of what was there before.
  uint64_t go_back(uint64_t id, bool checked) {
    vexfs_snapshot s{};
    s.size = sizeof s;
    s.id = id;
    EXPECT_EQ(m_.ioctl(m_.root(), VEXFS_IOCTL_SNAPSHOT_ROLLBACK, &s), 0);
    EXPECT_TRUE(s.state & VEXFS_SNAPSHOT_S_NEXT);
    if (checked)
      EXPECT_TRUE(m_.check());
    else
      m_.remount();
    uint64_t before = 0;
    for (uint64_t at = id + 1; at < id + 1000; at++) {
      s = {};
      s.size = sizeof s;
      s.id = at;
      if (m_.ioctl(m_.root(), VEXFS_IOCTL_SNAPSHOT_INFO, &s) != 0) continue;
      if (s.replaced_by == id) before = at;
    }
    EXPECT_NE(before, 0u);
    kept_[before] = std::exchange(now_, kept_[id]);
    compare();
    return before;
  }
  void compare() {
    ASSERT_EQ(m_.info(m_.root()).rows, now_.size());
    Row got;
    for (auto &[id, row] : now_) {
      ASSERT_EQ(m_.get(m_.root(), id, &got), 0) << id;
      ASSERT_EQ(got, row) << id;
    }
    if (now_.empty()) return;
    for (int i = 0; i < 5; i++) {
      auto it = now_.lower_bound(rng_() % (now_.rbegin()->first + 1));
      std::vector<vexfs_hit> hits;
      ASSERT_EQ(m_.search(m_.root(), it->second, 1, &hits, index_ == VEXFS_INDEX_FLAT ? VEXFS_SEARCH_EXACT : 0, 400),
                0);
      ASSERT_EQ(hits.size(), 1u);
      asked_++;
      found_ += hits[0].id == it->first;
    }
  }
  void remount() {
    EXPECT_TRUE(m_.check());
    compare();
  }
  uint64_t some_kept() {
    auto it = kept_.begin();
    std::advance(it, static_cast<long>(rng_() % kept_.size()));
    return it->first;
  }
  // Exact without an index; a graph may miss one in a hundred.
  bool finds_them() const { return index_ == VEXFS_INDEX_FLAT ? found_ == asked_ : found_ * 100 >= asked_ * 99; }
  uint64_t pick(uint64_t n) { return rng_() % n; }
  size_t kept() const { return kept_.size(); }
  Mount &mount() { return m_; }

 private:
  static vexfs_snapshot named(const std::string &name) {
    vexfs_snapshot s{};
    s.size = sizeof s;
    memcpy(s.name, name.data(), name.size());
    return s;
  }
  Mount m_;
  std::mt19937_64 rng_;
  uint16_t index_;
  uint64_t asked_ = 0, found_ = 0;
  State now_;
  std::map<uint64_t, State> kept_;
};

TEST(VectorRollback, RowsBehindThoseOfASnapshot) {
  Rollbacks r(1, VEXFS_INDEX_FLAT);
  r.add(100);
  uint64_t first = r.keep("first");
  r.add(57);
  uint64_t before = r.go_back(first, false);
  r.add(90);  // in the places that the 57 have in the state before
  r.remount();
  r.add(3);
  r.remount();
  uint64_t other = r.go_back(before, true);
  r.add(10);
  r.remount();
  r.go_back(other, true);
  r.add(2000);
  r.remount();
}

// A crash right after the first append: what was synced is there, in its new place.
TEST(VectorRollback, CrashAfterTheFirstAppend) {
  Rollbacks r(2, VEXFS_INDEX_FLAT);
  r.add(100);
  uint64_t first = r.keep("first");
  r.add(40);
  uint64_t before = r.go_back(first, false);
  r.add(20);
  ASSERT_EQ(vx_fs_sync(r.mount().fs()), 0);
  r.mount().crash();
  r.compare();
  r.go_back(before, true);
}

// The same differences however few a call may give: files first, then collections, each once.
TEST(SnapshotDiff, OneAtATimeOrAllAtOnce) {
  Mount m;
  vx_inode *kept = m.mkdir(m.root(), "kept"), *gone = m.make(m.root(), "gone");
  ASSERT_EQ(m.create(kept, 4), 0);
  vexfs_snapshot s{};
  s.size = sizeof s;
  s.name[0] = 's';
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SNAPSHOT_CREATE, &s), 0);
  for (int i = 0; i < 20; i++) ASSERT_EQ(m.write(m.make(kept, "f" + std::to_string(i)), "text"), 0);
  m.close(gone);
  ASSERT_EQ(m.unlink(m.root(), "gone"), 0);
  uint64_t id = 0;
  for (uint64_t i = 1; i <= 3; i++) ASSERT_EQ(m.add(kept, {1, 2, 3, 4}, &(id = i)), 0);
  ASSERT_EQ(m.commit(), 0);
  auto all = [&](uint32_t capacity) {
    std::vector<std::tuple<uint64_t, uint32_t, uint64_t, uint64_t>> found;
    std::vector<vexfs_change> some(capacity);
    vexfs_snapshot_diff d{};
    d.size = sizeof d;
    d.from = s.id;
    d.changes = reinterpret_cast<__u64>(some.data());
    d.capacity = capacity;
    d.entry_size = sizeof(vexfs_change);
    for (int calls = 0; !d.done && calls < 100; calls++) {
      EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SNAPSHOT_DIFF, &d), 0);
      for (uint32_t i = 0; i < d.count; i++) found.push_back({some[i].ino, some[i].what, some[i].added, some[i].gone});
    }
    return found;
  };
  auto whole = all(100);
  ASSERT_EQ(whole.size(), 24u);  // 20 files, their directory and the root, what was deleted, the collection
  EXPECT_EQ(std::get<1>(whole.back()), VEXFS_CHANGED_COLLECTION);
  EXPECT_EQ(std::get<2>(whole.back()), 3u);
  for (uint32_t capacity : {1u, 2u, 7u, 24u}) EXPECT_EQ(all(capacity), whole) << capacity;
}

class VectorRollbackRuns : public ::testing::TestWithParam<uint16_t> {};

TEST_P(VectorRollbackRuns, BackAndForth) {
  const char *env = getenv("VX_SEED");
  uint64_t seed = env ? strtoull(env, nullptr, 0) : 20261122;
  std::cout << "seed " << seed << "\n";
  Rollbacks r(seed, GetParam());
  r.add(50);
  r.keep("0");
  uint32_t rollbacks = 0;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr int steps = 60;
#else
  constexpr int steps = 200;
#endif
  for (int i = 1; i < steps && !::testing::Test::HasFatalFailure(); i++) {
    uint64_t dice = r.pick(20);
    if (dice < 10)
      r.add(static_cast<uint32_t>(1 + r.pick(dice == 0 ? 700 : 40)));
    else if (dice < 14)
      r.drop(static_cast<uint32_t>(1 + r.pick(30)));
    else if (dice < 16 && r.kept() < 20)
      r.keep(std::to_string(i));
    else if (dice < 18)
      r.remount();
    else {
      r.go_back(r.some_kept(), r.pick(2));
      rollbacks++;
    }
  }
  r.remount();
  EXPECT_GT(rollbacks, 1u);
  EXPECT_TRUE(r.finds_them());
}

INSTANTIATE_TEST_SUITE_P(Indexes, VectorRollbackRuns, ::testing::Values(VEXFS_INDEX_FLAT, VEXFS_INDEX_HNSW),
                         [](const auto &p) { return p.param == VEXFS_INDEX_FLAT ? "flat" : "hnsw"; });

}  // namespace
}  // namespace vexfs::vector::test
