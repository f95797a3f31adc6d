// SPDX-License-Identifier: MIT
// Many copies of one row: the one that is left of them, or that the filter lets pass, or that the caller may read, is found
// although the lists of a graph are full of the others.
#include <bit>
#include <optional>

#include "../../kernel/core/api_internal.h"
#include "vector_fixture.h"

namespace vexfs::vector::test {
namespace {

constexpr uint32_t dim = 32, rows = 4000, others_tag = 7, copies_tag = 8;

vexfs_filter tagged(uint64_t tag, uint32_t flags) { return {VEXFS_FILTER_TAG_RANGE, flags, tag, tag, 0}; }

class Copies : public ::testing::TestWithParam<uint16_t> {
 protected:
  // `copies` of one row, spread among the others; one of them has the tag of every `common`-th of the others.
  void make(uint32_t copies, uint32_t common) {
    Mount &m = *mount;
    std::mt19937_64 rng(copies);
    std::vector<float> data = random_rows(rng, rows, dim);
    value = random_row(rng, dim);
    std::vector<vexfs_row> rs(rows);
    for (uint32_t i = 0; i < rows; i++) {
      rs[i].id = i;
      rs[i].tag = i % common == 0 ? others_tag : 0;
    }
    const uint32_t step = rows / copies;
    for (uint32_t c = 0; c < copies; c++) {
      const uint32_t at = c * step + 1;
      std::copy(value.begin(), value.end(), data.begin() + size_t{at} * dim);
      ids.push_back(at);
      rs[at].tag = copies_tag;
    }
    last = ids[copies / 2];
    rs[last].tag = others_tag;
    ASSERT_EQ(m.create(m.root(), dim, VEXFS_F32, VEXFS_COSINE, GetParam()), 0);
    ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, data, dim, &rs), 0);
    ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_BUILD), 0);
  }
  void expect_last(const std::vector<vexfs_filter> *filters = nullptr) {
    std::vector<vexfs_hit> hits;
    for (uint32_t ef : {0u, 200u}) {
      ASSERT_EQ(mount->search(mount->root(), value, 10, &hits, 0, ef, nullptr, filters), 0);
      ASSERT_EQ(hits.size(), 10u);
      EXPECT_EQ(hits[0].id, last) << "ef " << ef;
    }
  }
  uint64_t scans() { return mount->fs()->engine->stats().exact_fallbacks.load(); }

  std::optional<Mount> mount = std::optional<Mount>(std::in_place);
  Row value;
  std::vector<uint64_t> ids;
  uint64_t last = 0;
};

TEST_P(Copies, AllButOneAreDeleted) {
  ASSERT_NO_FATAL_FAILURE(make(200, 2));
  Mount &m = *mount;
  const uint64_t before = scans();
  std::vector<vexfs_hit> hits;
  ASSERT_EQ(m.search(m.root(), value, 10, &hits), 0);
  for (const vexfs_hit &h : hits) EXPECT_LT(std::bit_cast<float>(h.distance), 1e-6f);
  EXPECT_EQ(scans(), before);  // whoever wants any of them gets them from the index
  for (uint64_t id : ids)
    if (id != last) {
      ASSERT_EQ(m.del(m.root(), id), 0);
    }
  expect_last();
  // Where no copies are, the index answers.
  const uint64_t scanned = scans();
  std::mt19937_64 rng(77);
  for (int i = 0; i < 20; i++) ASSERT_EQ(m.search(m.root(), random_row(rng, dim), 3, &hits), 0);
  EXPECT_EQ(scans(), scanned);
}

// Matching rows are as common as a walk likes them, so that the plan is a walk.
TEST_P(Copies, AFilterLetsOnePass) {
  for (uint32_t common : {2u, 8u}) {
    SCOPED_TRACE("every " + std::to_string(common) + "th");
    ids.clear();
    mount.emplace();
    ASSERT_NO_FATAL_FAILURE(make(300, common));
    const std::vector<vexfs_filter> only = {tagged(others_tag, 0)}, wide = {tagged(copies_tag, VEXFS_FILTER_NOT)};
    expect_last(&only);
    expect_last(&wide);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, Copies,
                         ::testing::Values(uint16_t{VEXFS_INDEX_HNSW}, uint16_t{VEXFS_INDEX_DISKANN},
                                           uint16_t{VEXFS_INDEX_IVF_FLAT}, uint16_t{VEXFS_INDEX_LSH}),
                         [](const auto &i) { return "kind" + std::to_string(i.param); });

}  // namespace
}  // namespace vexfs::vector::test
