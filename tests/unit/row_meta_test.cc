// SPDX-License-Identifier: MIT
// Packed metadata of rows: what was put in comes out, in as few bytes as the rows allow.
#include "../../kernel/core/vector/row_meta.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <random>
#include <vector>

namespace vexfs::vector::test {
namespace {

struct Release {
  void operator()(ChunkMeta *m) const { ChunkMeta::release(m); }
};
using MetaPtr = std::unique_ptr<ChunkMeta, Release>;

struct Packed {
  std::atomic<u64> bytes{0};
  std::vector<RowMeta> rows;
  MetaPtr wide, packed;

  Packed(u32 n, const std::function<RowMeta(u32)> &row) {
    wide.reset(ChunkMeta::make(n, &bytes));
    for (u32 i = 0; i < n; i++) {
      rows.push_back(row(i));
      wide->put(i, rows[i]);
    }
    packed.reset(wide->packed(n));
    EXPECT_TRUE(wide->wide());
    EXPECT_FALSE(packed->wide());
    EXPECT_EQ(bytes, wide->bytes() + packed->bytes());
    same(*wide);
    same(*packed);
    MetaPtr again(ChunkMeta::make(n + 3, &bytes));
    again->copy(*packed, n);
    same(*again);
  }
  void same(const ChunkMeta &m) const {
    for (u32 i = 0; i < rows.size(); i++) {
      const RowMeta r = m.at(i), &w = rows[i];
      ASSERT_EQ(r.id, w.id) << i;
      ASSERT_EQ(r.owner, w.owner) << i;
      ASSERT_EQ(r.offset, w.offset) << i;
      ASSERT_EQ(r.length, w.length) << i;
      ASSERT_EQ(r.owner_version, w.owner_version) << i;
      ASSERT_EQ(r.tag, w.tag) << i;
      ASSERT_EQ(m.column(ChunkMeta::id).at(i), w.id) << i;
      ASSERT_EQ(m.column(ChunkMeta::owner).at(i), w.owner) << i;
      ASSERT_EQ(m.column(ChunkMeta::tag).at(i), w.tag) << i;
      const u32 n = std::min<u32>(static_cast<u32>(rows.size()) - i, 64);
      for (const u64 span : {u64{0}, u64{300}, ~u64{0}, ~w.tag}) {
        u64 in = 0;
        for (u32 j = 0; j < n; j++) in |= u64{rows[i + j].tag - w.tag <= span} << j;
        ASSERT_EQ(m.column(ChunkMeta::tag).in_range(i, n, w.tag, span), in) << i;
      }
    }
  }
};

TEST(RowMeta, WhatFollowsTakesNothing) {
  Packed p(4096, [](u32 i) { return RowMeta{.id = 7 + i, .tag = ~u64{0}}; });
  EXPECT_EQ(p.packed->record_bytes(), 0u);
  Packed file(512, [](u32 i) {
    return RowMeta{.id = 1000 - i, .owner = 77, .offset = u64{i} * 4096, .length = 4096, .owner_version = 3};
  });
  EXPECT_EQ(file.packed->record_bytes(), 0u);
}

TEST(RowMeta, DifferencesTakeTheBytesTheyNeed) {
  const u64 far = u64{1} << 60;
  for (u32 bytes = 1; bytes <= 7; bytes++) {
    const u64 most = (u64{1} << (8 * bytes)) - 1;
    Packed p(100, [&](u32 i) { return RowMeta{.id = far + (i % 3 == 1 ? most : i % 3)}; });
    EXPECT_EQ(p.packed->record_bytes(), bytes);
    Packed q(100, [&](u32 i) { return RowMeta{.owner = far + (i % 3 == 1 ? most + 1 : i % 3 ? 1 : 0)}; });
    EXPECT_EQ(q.packed->record_bytes(), bytes + 1);
  }
}

TEST(RowMeta, EveryNumberComesOut) {
  std::mt19937_64 random(1);
  const u64 edges[] = {0, 1, 255, 256, ~u64{0}, ~u64{0} - 1, u64{1} << 63, (u64{1} << 63) - 1, (u64{1} << 63) + 1};
  for (u32 round = 0; round < 200; round++) {
    auto number = [&]() -> u64 {
      const u64 r = random();
      return round % 2 ? edges[r % std::size(edges)] : r >> (random() % 64);
    };
    const u32 n = 1 + static_cast<u32>(random() % 130);
    Packed p(n, [&](u32) { return RowMeta{number(), number(), number(), number(), number(), number()}; });
    EXPECT_LE(p.packed->record_bytes(), ChunkMeta::wide_bytes);
  }
}

TEST(RowMeta, WhatIsFreedIsNotCounted) {
  std::atomic<u64> bytes{0};
  MetaPtr wide(ChunkMeta::make(64, &bytes));
  MetaPtr packed(wide->packed(64));
  EXPECT_LT(packed->bytes(), wide->bytes());
  wide.reset();
  EXPECT_EQ(bytes, packed->bytes());
  packed.reset();
  EXPECT_EQ(bytes, 0u);
}

}  // namespace
}  // namespace vexfs::vector::test
