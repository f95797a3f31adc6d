// SPDX-License-Identifier: MIT
// The B+tree against std::map: point operations, ranges, deep trees, remounts, small caches.
#include <gtest/gtest.h>

#include "store_fixture.h"

namespace vexfs::test {
namespace {

using store::FormatOptions;
using store::Handle;
using store::Key;
using store::OpenOptions;
using store::Reserve;
using store::TreeId;

struct Param {
  uint32_t block_size, node_size;
  uint64_t cache_nodes;
};

class StoreTree : public StoreTest, public ::testing::WithParamInterface<Param> {
 protected:
  void SetUp() override {
    FormatOptions f;
    f.block_size = GetParam().block_size;
    f.node_size = GetParam().node_size;
    make(96 << 20, f);
    options_.node_cache_bytes = GetParam().cache_nodes * f.node_size;
    open();
  }
};

TEST_P(StoreTree, EmptyTreeHasNothing) {
  std::vector<uint8_t> buf(100);
  auto &t = vol().tree(TreeId::fs);
  EXPECT_EQ(t.get({1, 1, 1}, buf).code(), Errno::noent);
  EXPECT_EQ(t.seek(Key::min(), Key::max(), buf).code(), Errno::noent);
  EXPECT_EQ(t.seek_back(Key::max(), Key::min(), buf).code(), Errno::noent);
  auto h = begin();
  EXPECT_EQ(t.erase(h, {1, 1, 1}).code(), Errno::noent);
  EXPECT_EQ(t.update(h, {1, 1, 1}, bytes("x")).code(), Errno::noent);
}

TEST_P(StoreTree, LogicalErrorsChangeNothing) {
  auto &t = vol().tree(TreeId::fs);
  auto h = begin(8);
  ASSERT_TRUE(t.insert(h, {1, 2, 3}, bytes("hello")).ok());
  EXPECT_EQ(t.insert(h, {1, 2, 3}, bytes("other")).code(), Errno::exist);
  EXPECT_EQ(t.patch(h, {1, 2, 3}, 3, bytes("abc")).code(), Errno::range);
  EXPECT_EQ(t.patch(h, {1, 2, 4}, 0, bytes("abc")).code(), Errno::noent);
  EXPECT_EQ(t.modify(h, {1, 2, 3}, [](MutBytes) -> Status { return Errno::perm; }).code(), Errno::perm);
  std::vector<uint8_t> big(vol().max_item() + 1);
  EXPECT_EQ(t.insert(h, {9, 9, 9}, big).code(), Errno::toobig);
  EXPECT_EQ(get(t, {1, 2, 3}), "hello");
  ASSERT_TRUE(t.patch(h, {1, 2, 3}, 1, bytes("EL")).ok());
  EXPECT_EQ(get(t, {1, 2, 3}), "hELlo");
  uint8_t small[3];
  EXPECT_EQ(t.get({1, 2, 3}, small).code(), Errno::range);
}

TEST_P(StoreTree, LargestItemsFit) {
  auto &t = vol().tree(TreeId::fs);
  std::string v(vol().max_item(), 'q');
  for (uint64_t i = 0; i < 200; i++) {
    auto h = begin();
    v[0] = static_cast<char>(i);
    ASSERT_TRUE(t.insert(h, {i * 7919 % 211, 1, i}, bytes(v)).ok()) << i;
  }
  reopen();
  EXPECT_EQ(count(vol().tree(TreeId::fs)), 200u);
  check();
}

TEST_P(StoreTree, AscendingInsertsFillLeaves) {
  auto &t = vol().tree(TreeId::fs);
  std::string v(40, 'v');
  constexpr uint64_t n = 20000;
  for (uint64_t i = 0; i < n; i++) {
    auto h = begin();
    ASSERT_TRUE(t.insert(h, {5, 1, i}, bytes(v)).ok());
  }
  ASSERT_TRUE(vol().commit().ok());
  uint64_t used = vol().state().alloc.node_blocks.load() * vol().block_size();
  uint64_t need = n * (24 + 40);
  if (vol().state().geo.mirrored) used /= 2;
  EXPECT_LT(used, need * 13 / 10) << "leaves are not full under ascending inserts";
  check();
}

TEST_P(StoreTree, RandomOperationsAgainstMap) {
  uint64_t seed = seed_from_env(GetParam().node_size + GetParam().cache_nodes);
  SCOPED_TRACE("VX_SEED=" + std::to_string(seed));
  std::mt19937_64 rng(seed);
  Model model;
  for (int round = 0; round < 12; round++) {
    // Rounds that mostly grow alternate with rounds that mostly shrink.
    int grow = round % 3 == 2 ? 25 : 70;
    for (int i = 0; i < 10000; i++) random_op(rng, model, grow);
    compare(model);
    if (::testing::Test::HasFatalFailure()) return;
    if (round % 4 == 3) {
      reopen();
    } else if (round % 2) {
      ASSERT_TRUE(vol().commit().ok());
    }
  }
  reopen();
  compare(model);
  check();
}

TEST_P(StoreTree, EraseRangeEmptiesAndReturnsSpace) {
  auto &t = vol().tree(TreeId::fs);
  ASSERT_TRUE(vol().commit().ok());
  uint64_t free0 = vol().space().free;
  std::string v(60, 'v');
  for (uint64_t i = 0; i < 30000; i++) {
    auto h = begin();
    ASSERT_TRUE(t.insert(h, {i % 97, 1, i}, bytes(v)).ok());
  }
  ASSERT_TRUE(vol().commit().ok());
  size_t seen = 0;
  for (;;) {
    auto h = begin(16);
    auto r = t.erase_range(h, {10, 0, 0}, {80, 255, ~0ull}, 100, [&](const Key &k, Bytes b) {
      EXPECT_TRUE(k.oid >= 10 && k.oid <= 80);
      EXPECT_EQ(b.size(), 60u);
      seen++;
    });
    ASSERT_TRUE(r.ok());
    if (*r < 100) break;
  }
  size_t expect = 0;
  for (uint64_t i = 0; i < 30000; i++) expect += i % 97 >= 10 && i % 97 <= 80;
  EXPECT_EQ(seen, expect);
  EXPECT_EQ(count(t), 30000 - expect);
  check_commit();
  for (;;) {
    auto h = begin(16);
    auto r = t.erase_range(h, Key::min(), Key::max(), 1000, [](const Key &, Bytes) {});
    ASSERT_TRUE(r.ok());
    if (*r < 1000) break;
  }
  EXPECT_EQ(count(t), 0u);
  ASSERT_TRUE(vol().commit().ok());
  ASSERT_TRUE(vol().commit().ok());
  EXPECT_LE(free0 - vol().space().free, 2u * vol().node_size() / vol().block_size());
  check();
}

TEST_P(StoreTree, SeekBackAcrossLeaves) {
  auto &t = vol().tree(TreeId::fs);
  for (uint64_t i = 0; i < 5000; i++) {
    auto h = begin();
    ASSERT_TRUE(t.insert(h, {1, 1, i * 10}, bytes(std::string(20, 'x'))).ok());
  }
  uint8_t buf[64];
  for (uint64_t q = 0; q < 50000; q += 37) {
    auto r = t.seek_back({1, 1, q}, {1, 1, 0}, buf);
    ASSERT_TRUE(r.ok());
    EXPECT_EQ(r->key.off, q / 10 * 10);
    auto f = t.seek({1, 1, q}, {1, 1, ~0ull}, buf);
    uint64_t up = (q + 9) / 10 * 10;
    if (up < 50000) {
      ASSERT_TRUE(f.ok());
      EXPECT_EQ(f->key.off, up);
    }
  }
  EXPECT_EQ(t.seek_back({0, 255, ~0ull}, Key::min(), buf).code(), Errno::noent);
  EXPECT_EQ(t.seek_back({5, 0, 0}, {2, 0, 0}, buf).code(), Errno::noent);
}

INSTANTIATE_TEST_SUITE_P(Sizes, StoreTree,
                         ::testing::Values(Param{1024, 1024, 65536}, Param{1024, 2048, 256}, Param{4096, 4096, 4096},
                                           Param{4096, 16384, 2048}, Param{4096, 16384, 64}),
                         [](const auto &i) {
                           return "node" + std::to_string(i.param.node_size) + "cache" +
                                  std::to_string(i.param.cache_nodes);
                         });

}  // namespace
}  // namespace vexfs::test
