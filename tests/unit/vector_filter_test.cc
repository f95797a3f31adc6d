// SPDX-License-Identifier: MIT
// What is kept of filters across searches (compact columns, rows that passed): that answers stay those by hand while rows
// come, go and change, whoever asks, with too little memory for it, and in many threads. And the loops over columns.
// Thread sanitizer: FiltersInThreads.WhileRowsComeAndGo
#include <thread>

#include "../../kernel/core/simd/columns.h"
#include "search_fixture.h"

namespace vexfs::vector::test {
namespace {

// ------------------------------------------------------------------------------------------------------------- columns
class ColumnLevels : public ::testing::TestWithParam<simd::Level> {
 protected:
  void SetUp() override {
    simd::init();
    before_ = simd::level();
    if (!simd::level_supported(GetParam()))
      GTEST_SKIP() << "not run here: this CPU has no " << simd::level_name(GetParam());
    ASSERT_TRUE(simd::force_level(GetParam()).ok());
  }
  void TearDown() override { EXPECT_TRUE(simd::force_level(before_).ok()); }
  simd::Level before_;
};

template <class T>
void check_column() {
  std::mt19937_64 rng(3);
  const T edges[] = {
      0, 1, static_cast<T>(~T{0} / 2), static_cast<T>(~T{0} / 2 + 1), static_cast<T>(~T{0} - 1), static_cast<T>(~T{0})};
  auto any = [&] { return rng() % 3 ? static_cast<T>(rng()) : static_cast<T>(edges[rng() % 6] + rng() % 3); };
  for (int round = 0; round < 200; round++) {
    const u32 n = 64 * static_cast<u32>(1 + rng() % (simd::column_run / 64));
    std::vector<T> v(n);
    for (T &x : v) x = any();
    T from = any(), to = any();
    if (from > to) std::swap(from, to);
    if (round % 7 == 0) to = from = v[rng() % n];
    const bool outside = rng() % 2;
    std::vector<u64> before(n / 64), mask;
    for (u64 &w : before) w = rng() | rng();
    mask = before;
    simd::keep_range(v.data(), n, from, static_cast<T>(to - from), outside, mask.data());
    for (u32 i = 0; i < n; i++) {
      const bool was = before[i / 64] >> (i % 64) & 1, in = v[i] >= from && v[i] <= to;
      ASSERT_EQ(mask[i / 64] >> (i % 64) & 1, u64{was && in != outside}) << v[i] << " in " << from << ".." << to;
    }
  }
}

TEST_P(ColumnLevels, KeepWhatIsInARange) {
  check_column<u32>();
  check_column<u64>();
}
INSTANTIATE_TEST_SUITE_P(Simd, ColumnLevels,
                         ::testing::Values(simd::Level::sse2, simd::Level::avx2, simd::Level::avx512,
                                           simd::Level::neon),
                         [](const auto &i) { return simd::level_name(i.param); });

// --------------------------------------------------------------------------------------------------------- by searches
class Filters : public SearchTest {
 protected:
  explicit Filters(const Options &o = {}) : SearchTest(o) {}
  // Those that come again, and one that does not.
  std::vector<std::vector<vexfs_filter>> asked() {
    const uint64_t from = rng() % 990, id = rng() % next_id;
    return {{tags(0, 499)},
            {tags(100, 199)},
            {tags(200, 209)},
            {tags(0, 899), tags(300, 599, VEXFS_FILTER_NOT)},
            {{VEXFS_FILTER_ID_RANGE, 0, 1000, 5000, 0}},
            {{VEXFS_FILTER_ID_RANGE, VEXFS_FILTER_NOT, 2000, ~0ull, 0}, tags(0, 499)},
            {{VEXFS_FILTER_OWNER, VEXFS_FILTER_NOT, 0, 0, 0}},
            {{VEXFS_FILTER_SUBTREE, 0, vx_ino(dir), 0, 0}, tags(100, 199)},
            {{VEXFS_FILTER_TAG_RANGE, 0, 0, ~0ull, 0}},
            {{VEXFS_FILTER_TAG_RANGE, 0, 1000, ~0ull, 0}},
            {{VEXFS_FILTER_TAG_RANGE, 0, 9, 8, 0}},
            {tags(from, from + rng() % 200)},
            {{VEXFS_FILTER_ID_RANGE, 0, id, id + 3000, 0}}};
  }
  void check(const char *what) {
    SCOPED_TRACE(what);
    for (const auto &f : asked()) {
      Question a;
      a.filters = f;
      const auto q = points(6);
      expect_exact(q, a);
      EXPECT_GT(expect_sound(q, a), 0.7);
      a.flags = VEXFS_SEARCH_BY_OWNER;
      expect_exact({q[0]}, a);
    }
  }
};

class FiltersOf : public Filters, public ::testing::WithParamInterface<uint16_t> {};
INSTANTIATE_TEST_SUITE_P(Kinds, FiltersOf, ::testing::Values(VEXFS_INDEX_FLAT, VEXFS_INDEX_HNSW));

TEST_P(FiltersOf, AnswersFollowTheRows) {
  make(GetParam());
  add(5000);
  for (int i = 0; i < 3; i++) check("asked again");  // from the second time on it is remembered
  add(3000);
  check("longer");
  check("longer, and remembered");
  drop(2500);
  check("some died");
  update(400);
  check("some moved");
  add(10);
  check("a few more");
  m.unmount();
  ASSERT_EQ(m.mount(), 0);
  dir = m.open(m.root(), "c");
  ASSERT_TRUE(dir);
  check("mounted again");
  check("and again");
}

// The same filters, asked by one who may read all, by one who may not, and by the first one again.
TEST_P(FiltersOf, NothingOfOneCallerIsToldAnother) {
  make(GetParam());
  add(6000);
  for (int round = 0; round < 4; round++) {
    m.caller.denied.clear();
    if (round % 2)
      for (size_t i = 0; i + 1 < owners.size(); i++) m.caller.denied.insert({owners[i], 4});
    check(round % 2 ? "may not" : "may");
  }
}

// Files are deleted, and with them their rows, while filters for them are remembered.
TEST_P(FiltersOf, RowsOfFilesThatGo) {
  make(GetParam());
  add(6000);
  for (int i = 0; i < 2; i++) check("before");
  for (int i = 0; i < 5; i++) {
    const uint64_t gone = owners[static_cast<size_t>(i)];
    ASSERT_EQ(m.unlink(dir, "f" + std::to_string(i)), 0);
    for (auto it = rows.begin(); it != rows.end();) it = it->second.owner == gone ? rows.erase(it) : std::next(it);
  }
  check("after");
}

Options of_memory(uint64_t bytes) {
  Options o;
  o.cache_bytes = bytes;
  return o;
}

// Room for one column, and not for another.
class FiltersInLittle : public Filters {
 protected:
  FiltersInLittle() : Filters(of_memory(1 << 20)) {}
};

TEST_F(FiltersInLittle, AnswersAreTheSame) {
  make(VEXFS_INDEX_FLAT);
  add(7000);
  for (int i = 0; i < 3; i++) check("little memory");
  drop(500);
  check("some died");
}

Options with_thread() {
  Options o;
  o.threads = 1;
  return o;
}
class FiltersInThreads : public Filters {
 protected:
  FiltersInThreads() : Filters(with_thread()) {}
};

// The same few filters from several threads, while rows come and go and memory is asked back. Rows of the first 6000
// stay, and are always enough.
TEST_F(FiltersInThreads, WhileRowsComeAndGo) {
  make(VEXFS_INDEX_HNSW);
  add(6000);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    Caller caller;
    auto batch = [&](uint16_t op, uint64_t first, uint32_t n) {
      std::vector<vexfs_row> rs(n);
      const Row v(size_t{n} * dim, 3.0f);
      for (uint32_t i = 0; i < n; i++) {
        rs[i].id = first + i;
        rs[i].tag = rs[i].id % 1000;
      }
      vexfs_batch b{};
      b.size = sizeof b;
      b.op = op;
      b.rows = reinterpret_cast<__u64>(rs.data());
      b.data = op == VEXFS_BATCH_DELETE ? 0 : reinterpret_cast<__u64>(v.data());
      b.count = n;
      b.dim = dim;
      b.element = VEXFS_F32;
      EXPECT_EQ(vx_ioctl(m.fs(), dir, VEXFS_IOCTL_BATCH_OPERATIONS, reinterpret_cast<vx_u64>(&b), &caller), 0);
    };
    for (uint64_t i = 0; !stop.load(); i++) {
      batch(VEXFS_BATCH_ADD, 100000 + 300 * i, 300);
      if (i > 3) batch(VEXFS_BATCH_DELETE, 100000 + 300 * (i - 3), 300);
      if (i % 4 == 0) vx_fs_cache_shrink(m.fs(), 1, 1);
      if (i > 60) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  std::vector<std::thread> readers;
  for (int t = 0; t < 3; t++)
    readers.emplace_back([&, t] {
      Caller caller;
      std::mt19937_64 r(static_cast<uint64_t>(t));
      for (int i = 0; i < 200; i++) {
        const uint64_t from = 100 * (r() % 9), width = 50 + 100 * (r() % 4);
        Question a;
        a.filters = {tags(from, from + width)};
        const Reply reply = ask({Row(dim, static_cast<float>(r() % 10))}, a, nullptr, nullptr, &caller);
        EXPECT_EQ(reply.error, 0);
        for (const auto &hits : reply.hits) {
          EXPECT_EQ(hits.size(), a.k);
          for (const Found &f : hits) EXPECT_TRUE(f.id % 1000 >= from && f.id % 1000 <= from + width) << f;
        }
      }
    });
  for (auto &t : readers) t.join();
  stop = true;
  writer.join();
}

}  // namespace
}  // namespace vexfs::vector::test
