// SPDX-License-Identifier: MIT
// A graph on disk over rows that are much alike: copies of each other, tight clusters.
#include "index_kinds_fixture.h"

namespace vexfs::vector {
namespace {

// So many values, far from each other; rows lie around them, or are they.
struct Alike {
  Alike(u32 count, u32 values, float apart, float spread, simd::Metric metric = simd::Metric::l2, u32 dim = 16)
      : space(space_of(simd::Element::f32, metric, dim)), rows(space, count), rng(5) {
    std::normal_distribution<float> gauss(0, 1);
    std::vector<std::vector<float>> value(values, std::vector<float>(dim));
    for (auto &v : value)
      for (float &f : v) f = apart * gauss(rng);
    for (u32 i = 0; i < count; i++) {
      std::vector<float> v = value[rng() % values];
      for (float &f : v) f += spread * gauss(rng);
      EXPECT_TRUE(rows.add_f32(v.data()));
    }
  }
  void build(IndexKind kind = IndexKind::diskann) {
    index = index_create(space, IndexParams{.kind = kind, .m = 16, .ef_construction = 100, .seed = 5}).take();
    if (index->must_learn()) {
      ASSERT_TRUE(learn(*index.get(), rows, rows.size()).ok());
    }
    insert_range(*index.get(), rows, 0, rows.size());
  }
  // Of rows that live, how many of the ten nearest are found; copies stand for each other.
  double found(u32 ef) {
    u32 asked = 0, good = 0;
    for (u32 i = 0; i < rows.size(); i += 31) {
      if (rows.view().dead(i)) continue;
      const simd::Query q = space.row_query(rows.row(i), rows.view().aux(rows.row(i), i));
      const u32 last = exact(rows, q, ask(10, ef)).back().key;
      asked += 10;
      for (const Hit &h : search(*index.get(), rows, q, ask(10, ef))) good += h.key <= last;
    }
    return static_cast<double>(good) / asked;
  }
  simd::Space space;
  MemoryRows rows;
  std::mt19937 rng;
  IndexPtr index;
};

// Copies of one row are as near as can be, and do not stand in each other's light: they must not be all that a list has.
TEST(DiskAnnAlike, CopiesLeaveRoomInLists) {
  for (const auto metric : {simd::Metric::l2, simd::Metric::cosine, simd::Metric::ip}) {
    Alike a(3000, 10, 1, 0, metric);
    a.build();
    EXPECT_GE(a.found(64), 0.99) << static_cast<u32>(metric);
    // Nor where lists are made anew.
    for (u32 i = 0; i < a.rows.size(); i++)
      if (i % 4) a.rows.kill(i);
    Scratch scratch(false);
    for (bool more = true; more;) {
      RowView view = a.rows.view();
      Result<bool> r = a.index->mend(view, {.settled = a.rows.size(), .memory = usize{64} << 20}, scratch);
      ASSERT_TRUE(r.ok());
      more = *r;
    }
    EXPECT_GE(a.found(64), 0.99) << static_cast<u32>(metric);
    const VerifyReport r = verify(*a.index.get());
    EXPECT_TRUE(r.sound());
    EXPECT_EQ(r.nodes, a.rows.size() / 4);
    EXPECT_EQ(r.unreachable, 0u);
  }
}

// Of so many copies most are led to by nobody. Who mends looks for a place for each of them, which takes reads: it asks
// between any two whether to go on.
TEST(DiskAnnAlike, MendingCanBeInterruptedBetweenNodes) {
  Alike a(1500, 10, 1, 0);
  a.build();
  ASSERT_GT(verify(*a.index.get()).unreachable, 500u);
  a.rows.kill(7);
  Scratch scratch(false);
  for (const u32 limit : {20u, ~0u}) {  // as often as it may ask in one piece: in others it asks once for 32 slots
    u32 runs = 0, before = 0;
    struct Asked {
      u32 n, limit;
    } asked{0, limit};
    MendParams params{.settled = a.rows.size(), .memory = usize{64} << 20};
    params.ctx = &asked;
    params.interrupted = [](void *ctx) { return ++static_cast<Asked *>(ctx)->n > static_cast<Asked *>(ctx)->limit; };
    Errno said = Errno::ok;
    for (bool more = true; more;) {
      RowView view = a.rows.view();
      before = asked.n;
      asked.n = 0;
      Result<bool> r = a.index->mend(view, params, scratch);
      said = r.code();
      more = r.ok() && *r;
      runs += asked.n > 20 && before <= 20;
    }
    // First come those that no list has, then those that no path leads to.
    EXPECT_GE(runs, limit == 20 ? 1u : 2u);
    EXPECT_EQ(said, limit == 20 ? Errno::intr : Errno::ok);
    EXPECT_EQ(a.index->mending(), limit == 20);
    EXPECT_TRUE(verify(*a.index.get()).sound());
  }
  EXPECT_EQ(verify(*a.index.get()).unreachable, 0u);
}

// Within a cluster rows differ by less than 4 bits of the way to the centre of all: then codes have 8, and are said to.
TEST(DiskAnnAlike, TightClustersGetLongerCodes) {
  Alike a(4000, 40, 100, 1), wide(4000, 40, 1, 1);
  a.build();
  wide.build();
  EXPECT_EQ(a.index->counts().codes, 2);  // enum vexfs_codes
  EXPECT_EQ(wide.index->counts().codes, 3);
  EXPECT_GE(a.found(64), 0.98);
  EXPECT_EQ(verify(*a.index.get()).unreachable, 0u);
  Checkpoint c;
  c.save(*a.index.get(), a.rows.size(), a.rows.view());
  a.index = index_open(IndexKind::diskann, a.space, c.header, c.source()).take();
  EXPECT_EQ(a.index->counts().codes, 2);
  EXPECT_GE(a.found(64), 0.98);
  EXPECT_TRUE(verify(*a.index.get()).sound());
}

}  // namespace
}  // namespace vexfs::vector
