// SPDX-License-Identifier: MIT
// Searches that read single rows instead of chunks, because memory is short: the same answers, few bytes, and what is
// damaged or cannot be read is said.
#include <algorithm>

#include "../../kernel/core/store/volume.h"
#include "../../kernel/core/vector/keys.h"
#include "plane_rows.h"

namespace vexfs::vector::test {
namespace {

struct Case {
  const char *name;
  uint16_t index, metric;
  uint32_t dim;
  uint64_t bytes_most;  // read for a search; 0: not looked at, since lists are scanned on the rows
};
void PrintTo(const Case &c, std::ostream *out) { *out << c.name; }

constexpr uint32_t rows = 5000;
constexpr uint64_t tight = 4 << 20;

class VectorRowFetch : public ::testing::TestWithParam<Case> {
 protected:
  Mount m{Options{.size = 256 << 20, .cache_bytes = 256 << 20, .node_cache_bytes = 16 << 20}};
  host::FaultDevice device{&m.device()};  // counts

  void populate() {
    const Case &c = GetParam();
    ASSERT_EQ(m.create(m.root(), c.dim, VEXFS_F32, c.metric, c.index, nullptr, 8, 40), 0);
    for (uint32_t at = 0; at < rows; at += 500) {
      std::vector<float> data;
      std::vector<vexfs_row> ids(500);
      for (uint32_t i = 0; i < 500; i++) {
        Row r = plane_row(at + i, c.dim);
        data.insert(data.end(), r.begin(), r.end());
        ids[i].id = 1 + at + i;
        ids[i].tag = at + i;
      }
      ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, data, c.dim, &ids), 0);
    }
    for (uint64_t id = 10; id < rows; id += 100) ASSERT_EQ(m.del(m.root(), id), 0);
    ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_BUILD), 0);
  }
  void mount_tight() {
    m.unmount();
    m.use_device(&device);
    m.options().cache_bytes = tight;
    ASSERT_EQ(m.mount(), 0);
  }
  std::vector<vexfs_hit> ask(uint32_t i, uint32_t flags = 0, const std::vector<vexfs_filter> *filters = nullptr) {
    std::vector<vexfs_hit> hits;
    EXPECT_EQ(m.search(m.root(), plane_row(100000 + i, GetParam().dim), 10, &hits, flags, 64, nullptr, filters), 0);
    return hits;
  }
  static void same(const std::vector<vexfs_hit> &a, const std::vector<vexfs_hit> &b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); i++) {
      EXPECT_EQ(a[i].id, b[i].id);
      EXPECT_EQ(a[i].distance, b[i].distance);
      EXPECT_EQ(a[i].tag, b[i].tag);
      EXPECT_EQ(a[i].slot, b[i].slot);
    }
  }
  vexfs_filter tags(uint64_t from, uint64_t to) {
    vexfs_filter f{};
    f.kind = VEXFS_FILTER_TAG_RANGE;
    f.a = from;
    f.b = to;
    return f;
  }
};

TEST_P(VectorRowFetch, SameAnswersForFewBytes) {
  populate();
  constexpr uint32_t queries = 60;
  const std::vector<vexfs_filter> half{tags(0, rows / 2)}, few{tags(100, 140)};
  std::vector<std::vector<vexfs_hit>> plain, halved, named;
  for (uint32_t i = 0; i < queries; i++) {
    plain.push_back(ask(i));
    halved.push_back(ask(i, VEXFS_SEARCH_EXACT, &half));
    named.push_back(ask(i, VEXFS_SEARCH_EXACT, &few));
  }
  mount_tight();
  ASSERT_GT(m.stats(m.root()).table_bytes, tight) << "too small to tell anything";
  for (uint32_t i = 0; i < 10; i++) same(ask(i), plain[i]);
  const uint64_t before = device.counters().bytes_read;
  for (uint32_t i = 10; i < queries; i++) same(ask(i), plain[i]);
  const uint64_t each = (device.counters().bytes_read - before) / (queries - 10);
  printf("%llu bytes read for a search\n", static_cast<unsigned long long>(each));
  if (GetParam().bytes_most) {
    EXPECT_GT(each, 0u) << "all is in memory";
    EXPECT_LE(each, GetParam().bytes_most);
  }
  for (uint32_t i = 0; i < queries; i += 7) {
    same(ask(i, VEXFS_SEARCH_EXACT, &half), halved[i]);
    same(ask(i, VEXFS_SEARCH_EXACT, &few), named[i]);
  }
  EXPECT_LE(m.stats(m.root(), ~uint64_t{0}).resident_bytes, tight + (5 << 20));
}

// Of a row whose bytes are not what was stored the search says nothing but the log does, and the others are there.
TEST_P(VectorRowFetch, DamagedRowIsLeftOut) {
  populate();
  const uint32_t victim = 1234;
  const Row row = plane_row(victim, GetParam().dim);
  m.unmount();
  uint64_t at = 0;
  if (GetParam().metric == VEXFS_L2) {
    std::vector<uint8_t> image(m.options().size);
    m.device().peek(0, image.data(), image.size());
    const auto *want = reinterpret_cast<const uint8_t *>(row.data());
    auto it = std::search(image.begin(), image.end(), want, want + row.size() * 4);
    ASSERT_NE(it, image.end());
    at = static_cast<uint64_t>(it - image.begin());
  }
  ASSERT_EQ(m.mount(), 0);
  mount_tight();
  for (uint32_t i = 0; i < 10; i++) ask(i);
  std::vector<vexfs_hit> hits;
  ASSERT_EQ(m.search(m.root(), row, 10, &hits, 0, 64), 0);
  ASSERT_FALSE(hits.empty());
  EXPECT_EQ(hits[0].id, victim + 1u);
  if (!at) return;
  std::string said;
  host::set_log_hook([&](vx_bdev *, int, const char *line) { said += line; });
  const uint8_t wrong = 0x5a;
  m.device().poke(at + 5, &wrong, 1);
  // It may be in memory now: other searches see to it that it is not.
  m.remount();
  for (uint32_t i = 0; i < 10; i++) ask(i);
  ASSERT_EQ(m.search(m.root(), row, 10, &hits, 0, 64), 0);
  for (auto &h : hits) EXPECT_NE(h.id, victim + 1u);
  EXPECT_EQ(hits.size(), 10u);
  EXPECT_NE(said.find("bad data checksum"), std::string::npos) << said;
  host::set_log_hook({});
}

// Chunks whose pieces hold fewer rows than there are, as no mkfs or mount writes them.
TEST_P(VectorRowFetch, PiecesThatEndEarlyAreNoticed) {
  populate();
  m.unmount();
  {
    auto v = store::Volume::open(&m.device(), {});
    ASSERT_TRUE(v.ok());
    for (u64 number = 1; number < 4; number += 2) {  // behind a whole one
      auto h = (*v)->begin({.items = 1});
      ASSERT_TRUE(h.ok());
      const store::Key key = item_key(1, VectorItem::chunk, number);
      Status s = (*v)->tree(store::TreeId::collections).modify(*h, key, [](MutBytes b) -> Status {
        disk::ChunkItem c{};
        memcpy(&c, b.data(), std::min(b.size(), sizeof c));
        for (u32 i = 0; i < c.npieces.get(); i++) c.pieces[i].blocks.set(1);
        memcpy(b.data(), &c, std::min(b.size(), sizeof c));
        return {};
      });
      ASSERT_TRUE(s.ok()) << number;
    }
    ASSERT_TRUE((*v)->close().ok());
  }
  std::string said;
  host::set_log_hook([&](vx_bdev *, int, const char *line) { said += line; });
  ASSERT_EQ(m.mount(), 0);
  mount_tight();
  uint32_t refused = 0;
  for (uint32_t i = 0; i < 200; i++) {
    std::vector<vexfs_hit> hits;
    const int e = m.search(m.root(), plane_row(i * 25, GetParam().dim), 10, &hits, 0, 64);
    EXPECT_TRUE(e == 0 || e == -EUCLEAN) << e;
    refused += e != 0;
  }
  EXPECT_GT(refused, 0u);
  EXPECT_NE(said.find("pieces"), std::string::npos) << said;
  host::set_log_hook({});
}

// A read error is that of the search; the next one is as if nothing had been.
TEST_P(VectorRowFetch, ReadErrorsAndNoMemory) {
  populate();
  std::vector<std::vector<vexfs_hit>> plain;
  for (uint32_t i = 0; i < 20; i++) plain.push_back(ask(i));
  mount_tight();
  host::set_log_hook([](vx_bdev *, int, const char *) {});
  for (uint32_t i = 0; i < 20; i++) ask(i);
  uint32_t failed = 0;
  for (uint32_t i = 0; i < 120; i++) {
    std::vector<vexfs_hit> hits;
    if (i % 2)
      host::fail_alloc_after(i / 4);
    else
      device.fail_after(host::FaultDevice::Kind::read, i / 8, -EIO, i % 4 == 0);
    const int e = m.search(m.root(), plane_row(100000 + i % 20, GetParam().dim), 10, &hits, 0, 64);
    host::fail_alloc_after(-1);
    device.clear();
    EXPECT_TRUE(e == 0 || e == -EIO || e == -ENOMEM) << e;
    failed += e != 0;
    if (e == 0) same(hits, plain[i % 20]);
  }
  EXPECT_GT(failed, 0u);
  for (uint32_t i = 0; i < 20; i++) same(ask(i), plain[i]);
  host::set_log_hook({});
}

INSTANTIATE_TEST_SUITE_P(Kinds, VectorRowFetch,
                         ::testing::Values(Case{"Hnsw", VEXFS_INDEX_HNSW, VEXFS_L2, 512, 600 << 10},
                                           Case{"HnswCosineStraddling", VEXFS_INDEX_HNSW, VEXFS_COSINE, 300, 900 << 10},
                                           Case{"IvfPq", VEXFS_INDEX_IVF_PQ, VEXFS_L2, 300, 1800 << 10},
                                           Case{"IvfFlat", VEXFS_INDEX_IVF_FLAT, VEXFS_COSINE, 512, 0},
                                           Case{"Lsh", VEXFS_INDEX_LSH, VEXFS_L2, 512, 0}),
                         [](const auto &i) { return std::string(i.param.name); });

}  // namespace
}  // namespace vexfs::vector::test
