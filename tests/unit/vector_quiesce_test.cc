// SPDX-License-Identifier: MIT
// Background threads leave the device alone while they are told to, as for a frozen filesystem.
#include <chrono>
#include <thread>

#include "vector_fixture.h"

namespace vexfs::vector::test {
namespace {

vexfs_index status_of(Mount &m) {
  vexfs_index x;
  EXPECT_EQ(m.index(m.root(), VEXFS_INDEX_STATUS, &x), 0);
  return x;
}

template <class F>
bool wait_for(F &&f) {
  for (int i = 0; i < 3000; i++) {
    if (f()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return false;
}

TEST(VectorQuiesce, NoCheckpointUntilItEnds) {
  constexpr uint32_t rows = 17000, dim = 4;  // more than a checkpoint falls due after
  Options o;
  o.threads = 1;
  Mount m(o);
  ASSERT_EQ(m.create(m.root(), dim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW, nullptr, 4, 16), 0);
  std::mt19937_64 rng(7);
  vx_fs_quiesce(m.fs(), true);
  ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, random_rows(rng, rows, dim), dim, nullptr), 0);
  ASSERT_TRUE(wait_for([&] { return status_of(m).indexed == rows; }));
  ASSERT_EQ(m.commit(), 0);
  uint64_t txn = m.fs_info().txn_durable;
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(status_of(m).checkpoint_slots, 0u);
  ASSERT_EQ(m.commit(), 0);
  EXPECT_EQ(m.fs_info().txn_durable, txn) << "somebody changed something";

  vx_fs_quiesce(m.fs(), false);
  uint64_t id = VEXFS_ID_AUTO;
  ASSERT_EQ(m.add(m.root(), {1, 2, 3, 4}, &id), 0);  // wakes the thread
  EXPECT_TRUE(wait_for([&] { return status_of(m).checkpoint_slots >= rows; }));
  EXPECT_TRUE(m.check());
}

}  // namespace
}  // namespace vexfs::vector::test
