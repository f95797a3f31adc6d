// SPDX-License-Identifier: MIT
// Large blocks in huge pages (lib/huge_pages.h): apart from each other, aligned, whatever comes and goes in whatever order.
// Thread sanitizer: none
#include "../../lib/huge_pages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

namespace vexfs::host {
namespace {

struct Block {
  uint8_t *p;
  size_t n;
  uint8_t mark;
  bool intact() const {
    return std::all_of(p, p + n, [this](uint8_t b) { return b == mark; });
  }
};

// Blocks of all sizes come and go; what one holds nobody else writes to.
void come_and_go(uint64_t seed, int rounds) {
  std::mt19937_64 rng(seed);
  std::vector<Block> held;
  for (int i = 0; i < rounds; i++) {
    if (held.size() > 24 || (!held.empty() && rng() % 3 == 0)) {
      const size_t at = rng() % held.size();
      ASSERT_TRUE(held[at].intact());
      ASSERT_TRUE(huge_free(held[at].p, held[at].n));
      held.erase(held.begin() + static_cast<long>(at));
      continue;
    }
    const size_t n = (64 << 10) + rng() % (3 << 20);
    auto *p = static_cast<uint8_t *>(huge_alloc(n));
    ASSERT_NE(p, nullptr);
    ASSERT_EQ(reinterpret_cast<uintptr_t>(p) % 4096, 0u);
    held.push_back({p, n, static_cast<uint8_t>(rng())});
    std::fill_n(p, n, held.back().mark);
  }
  for (const Block &b : held) {
    ASSERT_TRUE(b.intact());
    ASSERT_TRUE(huge_free(b.p, b.n));
  }
}

// Builds that look for errors of memory have none.
bool available() {
  void *p = huge_alloc(1 << 20);
  return p && huge_free(p, 1 << 20);
}

TEST(HugePages, BlocksComeAndGo) {
  if (!available()) GTEST_SKIP();
  come_and_go(1, 600);
}

TEST(HugePages, OfSeveralThreads) {
  if (!available()) GTEST_SKIP();
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 3; t++) threads.emplace_back([t] { come_and_go(t + 2, 300); });
  for (std::thread &t : threads) t.join();
}

TEST(HugePages, WhatIsNotFromHereIsLeftAlone) {
  EXPECT_EQ(huge_alloc(4096), nullptr);
  EXPECT_EQ(huge_alloc(size_t{1} << 40), nullptr);
  std::vector<uint8_t> other(1 << 20);
  EXPECT_FALSE(huge_free(other.data(), other.size()));
}

// What was freed is given away again before there is more: 4,000 times a megabyte fit into a machine.
TEST(HugePages, FreedIsUsedAgain) {
  if (!available()) GTEST_SKIP();
  for (int i = 0; i < 4000; i++) {
    auto *p = static_cast<uint8_t *>(huge_alloc(1 << 20));
    ASSERT_NE(p, nullptr);
    p[i] = 1;
    ASSERT_TRUE(huge_free(p, 1 << 20));
  }
  void *first = huge_alloc(1 << 20);
  void *second = huge_alloc(1 << 20);
  ASSERT_TRUE(huge_free(first, 1 << 20));
  EXPECT_EQ(huge_alloc(1 << 20), first) << "first fit";
  ASSERT_TRUE(huge_free(first, 1 << 20));
  ASSERT_TRUE(huge_free(second, 1 << 20));
  EXPECT_DEATH(
      {
        void *p = huge_alloc(1 << 20);
        huge_free(p, 2 << 20);
      },
      "");
}

}  // namespace
}  // namespace vexfs::host
