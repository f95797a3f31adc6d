// SPDX-License-Identifier: MIT
// Searches of a snapshot by way of the live index while that is being changed, rebuilt and thinned out: the exact answer
// never changes.
#include <atomic>
#include <thread>

#include "vector_fixture.h"

namespace vexfs::vector::test {
namespace {

constexpr uint32_t dim = 8, k = 10, rows = 1200;

std::vector<uint64_t> ask(vx_fs *fs, vx_inode *root, Caller &caller, const Row &q, uint32_t flags) {
  std::vector<vexfs_hit> hits(k);
  vexfs_search s{};
  s.size = sizeof s;
  s.flags = flags;
  s.queries = reinterpret_cast<__u64>(q.data());
  s.hits = reinterpret_cast<__u64>(hits.data());
  s.nq = 1;
  s.dim = dim;
  s.element = VEXFS_F32;
  s.k = k;
  EXPECT_EQ(vx_ioctl(fs, root, VEXFS_IOCTL_VECTOR_SEARCH, reinterpret_cast<vx_u64>(&s), &caller), 0);
  std::vector<uint64_t> out;
  for (uint32_t i = 0; i < s.found; i++) out.push_back(hits[i].id);
  return out;
}

TEST(PastThreads, WhileThePresentGoesOn) {
  Mount m({.threads = 1});
  std::mt19937_64 rng(5);
  ASSERT_EQ(m.create(m.root(), dim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW, nullptr, 6, 24), 0);
  uint64_t first = 0;
  ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, random_rows(rng, rows, dim), dim, nullptr, nullptr, &first), 0);
  std::vector<Row> queries;
  std::vector<std::vector<uint64_t>> then;
  for (int i = 0; i < 8; i++) {
    queries.push_back(random_row(rng, dim));
    then.push_back(ask(m.fs(), m.root(), m.caller, queries.back(), VEXFS_SEARCH_EXACT));
  }
  vexfs_snapshot s{};
  s.size = sizeof s;
  memcpy(s.name, "then", 4);
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SNAPSHOT_CREATE, &s), 0);
  vx_mount_opts o{};
  o.read_only = true;
  vx_fs *view = nullptr;
  vx_inode *root = nullptr;
  ASSERT_EQ(vx_snapshot_mount(m.fs(), s.id, &o, &view), 0);
  ASSERT_EQ(vx_iget(view, m.fs_info().root_ino, 0, &root), 0);

  std::atomic<bool> over{false};
  std::thread present([&] {
    std::mt19937_64 r(6);
    for (uint64_t at = first; at < first + rows; at++) {  // in the end none of them is left
      m.del(m.root(), at);
      uint64_t id = VEXFS_ID_AUTO;
      EXPECT_EQ(m.add(m.root(), random_row(r, dim), &id), 0);
      if (at % 400 == 0) {
        EXPECT_EQ(m.index(m.root(), VEXFS_INDEX_REBUILD, nullptr, VEXFS_INDEX_HNSW), 0);
      }
    }
    EXPECT_EQ(m.index(m.root(), VEXFS_INDEX_REBUILD, nullptr, VEXFS_INDEX_HNSW), 0);
    over.store(true);
  });
  Caller caller;
  uint64_t asked = 0, found = 0;
  for (bool last = false; !last;) {
    last = over.load();
    for (size_t i = 0; i < queries.size(); i++) {
      EXPECT_EQ(ask(view, root, caller, queries[i], VEXFS_SEARCH_EXACT), then[i]);
      for (uint64_t id : ask(view, root, caller, queries[i], 0))
        found += std::count(then[i].begin(), then[i].end(), id);
      asked += k;
    }
  }
  present.join();
  EXPECT_GE(found * 10, asked * 8);
  vx_iput(root);
  vx_fs_unmount(view);
  EXPECT_TRUE(m.check());
}

}  // namespace
}  // namespace vexfs::vector::test
