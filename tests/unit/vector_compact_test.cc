// SPDX-License-Identifier: MIT
// Compact collections: what memory holds is a small part of the raw vectors, and searches are as good as without.
#include "plane_rows.h"

namespace vexfs::vector::test {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint32_t rows = 12000;
#else
constexpr uint32_t rows = 30000;
#endif

// Noise of all dimensions beside the plane, as real embeddings have it.
Row noisy_row(uint64_t seed, uint32_t dim) {
  Row r = plane_row(seed, dim);
  std::mt19937_64 rng(~seed);
  std::normal_distribution<float> d(0, 0.3f);
  for (float &x : r) x += d(rng);
  return r;
}

struct Case {
  const char *name;
  uint16_t index, m;
  uint32_t dim, ef;
  uint16_t codes;
};
void PrintTo(const Case &c, std::ostream *out) { *out << c.name; }

class VectorCompact : public ::testing::TestWithParam<Case> {
 protected:
  Mount m{Options{.size = 512 << 20, .cache_bytes = 256 << 20}};
  const Case &c = GetParam();

  void add(uint32_t first, uint32_t n) {
    std::vector<float> data;
    for (uint32_t i = 0; i < n; i++) {
      Row r = noisy_row(first + i, c.dim);
      data.insert(data.end(), r.begin(), r.end());
    }
    ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, data, c.dim, nullptr), 0);
  }
  void populate(uint32_t flags) {
    vexfs_collection v{};
    v.size = sizeof v;
    v.flags = flags;
    v.dim = c.dim;
    v.element = VEXFS_F32;
    v.metric = VEXFS_L2;
    v.index = c.index;
    v.m = c.m;
    v.ef_construction = 60;
    v.codes = c.codes;
    ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_CREATE, &v), 0);
    EXPECT_EQ(v.flags, flags);
    for (uint32_t at = 0; at < rows; at += 1000) add(at, 1000);
    ASSERT_EQ(m.commit(), 0);
    ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_BUILD), 0);
  }
  uint64_t in_memory() {
    const vexfs_stats s = m.stats(m.root());
    return s.resident_bytes + s.index_memory_bytes;
  }
  double recall(uint32_t flags = 0) {
    constexpr uint32_t queries = 40;
    double found = 0;
    for (uint32_t q = 0; q < queries; q++) {
      const Row query = noisy_row(1000000 + q, c.dim);
      std::vector<vexfs_hit> hits, exact;
      EXPECT_EQ(m.search(m.root(), query, 10, &exact, VEXFS_SEARCH_EXACT), 0);
      EXPECT_EQ(m.search(m.root(), query, 10, &hits, flags, c.ef), 0);
      for (auto &e : exact)
        for (auto &h : hits) found += e.id == h.id && e.distance == h.distance;
    }
    return found / (10 * queries);
  }
};

TEST_P(VectorCompact, SmallAndRight) {
  populate(VEXFS_COLLECTION_COMPACT);
  const uint64_t raw = m.stats(m.root()).raw_bytes;
  ASSERT_EQ(raw, uint64_t{rows} * c.dim * 4);
  const double good = recall();
  printf("%s: %.1f %% of the raw bytes in memory, recall %.3f\n", c.name,
         100.0 * static_cast<double>(in_memory()) / static_cast<double>(raw), good);
  EXPECT_GE(good, 0.95);
  EXPECT_LE(in_memory(), raw / 4 + (5 << 19)) << "with the chunk that is being filled";
  m.remount();
  EXPECT_EQ(m.info(m.root()).flags, VEXFS_COLLECTION_COMPACT);
  EXPECT_GE(recall(), 0.95);
  EXPECT_LE(in_memory(), raw / 4 + (5 << 19));
  // New rows are found at once, and leave memory when they are written and indexed.
  add(rows, 3000);
  std::vector<vexfs_hit> hits;
  ASSERT_EQ(m.search(m.root(), noisy_row(rows + 2990, c.dim), 3, &hits, 0, c.ef), 0);
  ASSERT_FALSE(hits.empty());
  EXPECT_EQ(hits[0].id, rows + 2991u);
  ASSERT_EQ(m.commit(), 0);
  EXPECT_GE(recall(), 0.95);
  EXPECT_LE(in_memory(), (raw + 3000 * c.dim * 4) / 4 + (5 << 19));
  EXPECT_TRUE(m.check());
}

TEST_P(VectorCompact, ComesAndGoesByAlter) {
  populate(0);
  const uint64_t raw = m.stats(m.root()).raw_bytes;
  const double good = recall();
  EXPECT_GE(in_memory(), raw);
  vexfs_collection v{};
  v.size = sizeof v;
  v.flags = VEXFS_COLLECTION_COMPACT | VEXFS_COLLECTION_RESIDENT;
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_ALTER, &v), -EINVAL);
  v.flags = VEXFS_COLLECTION_COMPACT;
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_ALTER, &v), 0);
  EXPECT_LE(in_memory(), raw / 4 + (5 << 19));
  EXPECT_EQ(recall(), good);
  v = {};
  v.size = sizeof v;
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_ALTER, &v), 0);
  EXPECT_EQ(v.flags, VEXFS_COLLECTION_COMPACT) << "as it is";
  v = {};
  v.size = sizeof v;
  v.flags = VEXFS_COLLECTION_RESIDENT;
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_ALTER, &v), 0);
  EXPECT_EQ(v.flags, 0u);
  EXPECT_EQ(recall(), good);
  EXPECT_GE(in_memory(), raw);
}

INSTANTIATE_TEST_SUITE_P(Kinds, VectorCompact,
                         ::testing::Values(Case{"IvfPq128", VEXFS_INDEX_IVF_PQ, 0, 128, 256, 0},
                                           Case{"Hnsw128", VEXFS_INDEX_HNSW, 8, 128, 200, VEXFS_CODES_RABITQ2},
                                           Case{"Hnsw256", VEXFS_INDEX_HNSW, 8, 256, 200, VEXFS_CODES_SQ4}),
                         [](const auto &i) { return std::string(i.param.name); });

}  // namespace
}  // namespace vexfs::vector::test
