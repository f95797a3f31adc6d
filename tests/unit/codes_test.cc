// SPDX-License-Identifier: MIT
// Codes of rows, and graphs that are walked on them: accuracy, extremes, recall, checkpoints, damage.
#include <cmath>
#include <functional>

#include "../../include/uapi/vexfs.h"
#include "../../kernel/core/vector/hnsw_format.h"
#include "../../kernel/core/vector/hnsw_graph.h"
#include "codes_checks.h"
#include "hnsw_fixture.h"

namespace vexfs::vector {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr u32 scale = 4;
#else
constexpr u32 scale = 1;
#endif

using Codes = HnswParams::Codes;
constexpr simd::CodeKind code_kinds[] = {simd::CodeKind::sq8, simd::CodeKind::sq4, simd::CodeKind::rabitq1,
                                         simd::CodeKind::rabitq2};
constexpr Codes coded[] = {Codes::sq8, Codes::sq4, Codes::rabitq1, Codes::rabitq2};

SearchParams ask(u32 k, u32 ef) {
  SearchParams p;
  p.k = k;
  p.ef = ef;
  return p;
}

HnswParams params(Codes codes, u32 m = 16) {
  HnswParams p;
  p.m = m;
  p.ef_construction = 80;
  p.seed = 5;
  p.codes = codes;
  return p;
}

class CodeLevels : public testing::TestWithParam<simd::Level> {
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

TEST_P(CodeLevels, AreWhatArithmeticSaysAndAsExactAsTheyOwe) { EXPECT_EQ(simd_checks::check_codes(), ""); }

INSTANTIATE_TEST_SUITE_P(Simd, CodeLevels,
                         testing::Values(simd::Level::sse2, simd::Level::avx2, simd::Level::avx512, simd::Level::neon),
                         [](const auto &i) { return simd::level_name(i.param); });

// --------------------------------------------------------------------------------------------------------- extremes
struct Coder {
  Coder(simd::Element e, simd::Metric m, u32 d, simd::CodeKind kind)
      : space(space_of(e, m, d)),
        codes(simd::CodeSpace::make(space, kind).take()),
        centre(d, 0.0f),
        work(codes.work_bytes() / 4) {
    EXPECT_TRUE(codes.set_centre(centre.data()).ok());
  }
  std::vector<u8> encode(const std::vector<float> &v) {
    std::vector<u8> row(space.row_bytes()), code(codes.bytes());
    u32 aux = 0;
    EXPECT_TRUE(space.encode_row(v.data(), row.data(), &aux).ok());
    codes.encode(row.data(), aux, work.data(), code.data());
    return code;
  }
  u32 key(const std::vector<float> &q, const std::vector<u8> &code) {
    PreparedQuery p(space, q);
    std::vector<u8> buf(codes.query_bytes());
    simd::CodeQuery cq;
    codes.prepare(p.q, work.data(), buf.data(), &cq);
    const void *one = code.data();
    u32 k;
    codes.score(cq, &one, 1, &k);
    return k;
  }
  simd::Space space;
  simd::CodeSpace codes;
  std::vector<float> centre, work;
};

TEST(Codes, ExtremesGiveDistancesAndNeverNaN) {
  for (const simd::CodeKind kind : code_kinds)
    for (const simd::Metric m : {simd::Metric::l2, simd::Metric::ip}) {
      Coder c(simd::Element::f32, m, 40, kind);
      const std::vector<float> zero(40, 0.0f), tiny(40, 1e-44f), small(40, 1e-30f), one(40, 1.0f), big(40, 3e19f),
          huge(40, 3.4e38f);
      for (const auto &row : {zero, tiny, small, one, big, huge})
        for (const auto &q : {zero, tiny, small, one, big, huge}) {
          const u32 k = c.key(q, c.encode(row));
          EXPECT_LE(k, simd::key_from_f32(0x7f800000u)) << "a NaN's key is beyond infinity";
        }
      const float most = simd::rotated(kind) ? 4.0f : 0.02f;
      EXPECT_NEAR(simd_checks::key_float(c.key(one, c.encode(one))), m == simd::Metric::l2 ? 0.0f : -40.0f, most);
      EXPECT_NEAR(simd_checks::key_float(c.key(one, c.encode(zero))), m == simd::Metric::l2 ? 40.0f : 0.0f, most);
    }
}

TEST(Codes, AnyBytesAreACode) {
  std::mt19937 rng(3);
  for (const simd::CodeKind kind : code_kinds) {
    Coder c(simd::Element::f32, simd::Metric::l2, 77, kind);
    const std::vector<float> q(77, 0.5f);
    std::vector<u8> code(c.codes.bytes()), buf(c.codes.query_bytes());
    for (u32 round = 0; round < 300; round++) {
      for (u8 &b : code) b = round == 0 ? 0xff : static_cast<u8>(rng());
      EXPECT_LE(c.key(q, code), simd::key_from_f32(0x7f800000u));
      simd::CodeQuery cq;
      c.codes.prepare_code(code.data(), buf.data(), &cq);
      const void *one = code.data();
      u32 k;
      c.codes.score(cq, &one, 1, &k);
      EXPECT_LE(k, simd::key_from_f32(0x7f800000u));
    }
  }
}

TEST(Codes, RowsFarFromAllOthersDoNotMoveTheCentre) {
  constexpr u32 dim = 40, n = 64;
  for (const auto metric : {simd::Metric::l2, simd::Metric::ip})
    for (const float value : {1e3f, 1e6f, 1e18f, 1e30f, -3e38f})
      for (const u32 bad : {0u, 1u, 7u}) {
        std::mt19937 rng(bad);
        std::normal_distribution<float> gauss(5, 1);
        std::vector<std::vector<float>> x(n, std::vector<float>(dim));
        for (auto &row : x)
          for (float &f : row) f = gauss(rng);
        for (u32 i = 0; i < bad; i++) x[9 * i][i] = value;
        std::vector<const void *> rows;
        for (auto &row : x) rows.push_back(row.data());
        const simd::Space space = space_of(simd::Element::f32, metric, dim);
        const simd::CodeSpace codes = simd::CodeSpace::make(space, simd::CodeKind::sq8).take();
        std::vector<float> centre(dim);
        codes.average(rows.data(), nullptr, n, centre.data());
        for (const float f : centre) EXPECT_NEAR(f, 5, 1) << value << " in " << bad;
      }
}

// What is usual may be enormous itself, or nothing at all, or not what most of the others are.
TEST(Codes, RowsAreLeftOutOfTheCentreAsExceptionsOnly) {
  constexpr u32 dim = 40, n = 64;
  const simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, dim);
  const simd::CodeSpace codes = simd::CodeSpace::make(space, simd::CodeKind::sq8).take();
  const auto mean = [&](const std::function<float(u32 row, u32 i)> &value) {
    std::vector<std::vector<float>> x(n, std::vector<float>(dim));
    std::vector<const void *> rows;
    for (u32 r = 0; r < n; r++) {
      for (u32 i = 0; i < dim; i++) x[r][i] = value(r, i);
      rows.push_back(x[r].data());
    }
    std::vector<float> centre(dim);
    codes.average(rows.data(), nullptr, n, centre.data());
    return centre[1];
  };
  std::mt19937 rng(3);
  std::normal_distribution<float> gauss(5, 1);
  for (const float unit : {1e17f, 5e17f, 1e18f, 3e18f, 1e19f, 1e30f})
    EXPECT_NEAR(mean([&](u32, u32) { return unit * gauss(rng); }) / unit, 5, 1) << unit;
  EXPECT_EQ(mean([](u32, u32) { return 3.0f; }), 3) << "all equal";
  EXPECT_NEAR(mean([&](u32 r, u32) { return r == 9 ? 1e6f : r % 3 ? 0 : gauss(rng); }), 1.67, 0.6) << "most equal";
  EXPECT_NEAR(mean([&](u32 r, u32) { return r % 5 < 2 ? 1000 : gauss(rng); }), 403, 20) << "two heaps";
}

TEST(CodedGraphs, OneRowOfEnormousNumbersCostsNoRecall) {
  constexpr u32 dim = 32, n = 2000;
  std::mt19937 rng(7);
  std::normal_distribution<float> gauss(0, 1);
  std::vector<std::vector<float>> data(n + 50, std::vector<float>(dim));
  for (auto &row : data)
    for (float &f : row) f = gauss(rng);
  data[0][7] = 1e6f;
  const simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, dim);
  for (const Codes kind : coded) {
    MemoryRows rows(space, n);
    for (u32 i = 0; i < n; i++) ASSERT_TRUE(rows.add_f32(data[i].data()));
    IndexPtr index = hnsw_create(space, HnswParams{.m = 16, .ef_construction = 100, .codes = kind}).take();
    insert_range(*index.get(), rows, 0, n);
    u32 found = 0;
    for (u32 j = 0; j < 50; j++) {
      PreparedQuery q(space, data[n + j]);
      const auto want = slots_of(exact(rows, q.q, ask(10, 10))),
                 got = slots_of(search(*index.get(), rows, q.q, ask(10, 100)));
      for (const u32 s : got) found += std::find(want.begin(), want.end(), s) != want.end();
    }
    EXPECT_GT(found, 450u);
  }
}

TEST(Codes, CentresThatAreNotFiniteAreRefused) {
  Coder c(simd::Element::f32, simd::Metric::ip, 20, simd::CodeKind::sq8);
  std::vector<float> bad(20, 1.0f);
  bad[19] = INFINITY;
  EXPECT_EQ(c.codes.set_centre(bad.data()).code(), Errno::inval);
  bad[19] = NAN;
  EXPECT_EQ(c.codes.set_centre(bad.data()).code(), Errno::inval);
  EXPECT_FALSE(simd::CodeSpace::make(c.space, simd::CodeKind::none).ok());
}

// ------------------------------------------------------------------------------------------------------------ graphs
struct Graphed {
  Graphed(simd::Element e, simd::Metric m, u32 dim, Codes codes, u32 count, float off = 0, u32 links = 16)
      : space(space_of(e, m, dim)), source(dim, 40, 13), rows(space, count + 10) {
    for (u32 i = 0; i < count; i++) {
      std::vector<float> v = source.next();
      for (float &f : v) f += off;
      EXPECT_TRUE(rows.add_f32(v.data()));
    }
    index = hnsw_create(space, params(codes, links)).take();
    insert_range(*index.get(), rows, 0, count);
  }
  double recall(u32 queries, const SearchParams &p, float off = 0) {
    size_t found = 0, all = 0;
    for (u32 i = 0; i < queries; i++) {
      std::vector<float> v = source.next();
      for (float &f : v) f += off;
      PreparedQuery q(space, v);
      const std::vector<u32> want = slots_of(exact(rows, q.q, p)), got = slots_of(search(*index.get(), rows, q.q, p));
      const std::set<u32> set(want.begin(), want.end());
      for (u32 s : got) found += set.count(s);
      all += want.size();
    }
    return static_cast<double>(found) / static_cast<double>(all);
  }
  simd::Space space;
  Clusters source;
  MemoryRows rows;
  IndexPtr index;
};

struct Kind {
  simd::Element e;
  simd::Metric m;
  Codes codes;
};
class CodedGraph : public testing::TestWithParam<Kind> {};

TEST_P(CodedGraph, FindsWhatIsNear) {
  Graphed g(GetParam().e, GetParam().m, 48, GetParam().codes, 4000 / scale);
  EXPECT_GE(g.recall(100 / scale, ask(10, 100)), GetParam().codes == Codes::rabitq1 ? 0.92 : 0.95);
  EXPECT_TRUE(verify(*g.index.get()).sound());
  // Distances are those of the rows.
  PreparedQuery q(g.space, g.source.next());
  for (const Hit &h : search(*g.index.get(), g.rows, q.q, ask(20, 60)))
    EXPECT_EQ(h.key, g.space.score_one(q.q, g.rows.row(h.slot), g.rows.aux(h.slot)));
}

std::vector<Kind> kinds() {
  std::vector<Kind> k;
  for (const Codes c : coded)
    for (const simd::Element e : {simd::Element::f32, simd::Element::f16, simd::Element::bf16, simd::Element::int8})
      for (const simd::Metric m : {simd::Metric::l2, simd::Metric::cosine, simd::Metric::ip})
        if (c == Codes::sq8 || c == Codes::sq4 || e == simd::Element::f32 || m == simd::Metric::l2)
          k.push_back({e, m, c});
  return k;
}
INSTANTIATE_TEST_SUITE_P(EveryKind, CodedGraph, testing::ValuesIn(kinds()), [](const auto &i) {
  return std::string(simd_checks::name(i.param.e)) + simd_checks::name(i.param.m) +
         simd_checks::name(static_cast<simd::CodeKind>(i.param.codes));
});

TEST(CodedGraphs, FarFromTheOriginAsNearIt) {
  for (const Codes codes : coded) {
    Graphed g(simd::Element::f32, simd::Metric::l2, 32, codes, 3000 / scale, 1000.0f);
    EXPECT_GE(g.recall(60 / scale, ask(10, 100), 1000.0f), 0.94) << static_cast<int>(codes);
  }
}

// Few rows of the graph are dead, but they are those that a walk finds first.
TEST(CodedGraphs, EnoughComesBackThoughAllThatIsNearDied) {
  Graphed g(simd::Element::f32, simd::Metric::l2, 32, Codes::sq4, 4000 / scale);
  for (u32 round = 0; round < 3; round++) {
    PreparedQuery q(g.space, g.source.next());
    const SearchParams wide = ask(60 / scale, 300), p = ask(10, 20);
    for (const Hit &h : exact(g.rows, q.q, wide)) g.rows.kill(h.slot);
    const std::vector<u32> got = slots_of(search(*g.index.get(), g.rows, q.q, p)),
                           want = slots_of(exact(g.rows, q.q, p));
    ASSERT_EQ(got.size(), 10u);
    const std::set<u32> set(want.begin(), want.end());
    u32 found = 0;
    for (u32 s : got) found += static_cast<u32>(set.count(s));
    EXPECT_GE(found, 6u);
  }
}

TEST(CodedGraphs, EqualRowsAndRowsOfZeros) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 24);
  MemoryRows rows(space, 400);
  const std::vector<float> zero(24, 0.0f), five(24, 5.0f);
  for (u32 i = 0; i < 400; i++) ASSERT_TRUE(rows.add_f32(i % 2 ? zero.data() : five.data()));
  for (const Codes codes : coded) {
    IndexPtr index = hnsw_create(space, params(codes)).take();
    insert_range(*index.get(), rows, 0, 400);
    PreparedQuery q(space, five);
    const std::vector<Hit> hits = search(*index.get(), rows, q.q, ask(10, 250));
    ASSERT_EQ(hits.size(), 10u);
    for (const Hit &h : hits) EXPECT_EQ(h.slot % 2, 0u);
  }
}

TEST(CodedGraphs, AutomaticMeansCodesWhereTheyPay) {
  const auto kind = [](simd::Element e, u32 dim) {
    return hnsw_code_space(space_of(e, simd::Metric::l2, dim), Codes::automatic)->kind();
  };
  EXPECT_EQ(kind(simd::Element::f32, 15), simd::CodeKind::none);
  EXPECT_EQ(kind(simd::Element::int8, 128), simd::CodeKind::none);
  EXPECT_NE(kind(simd::Element::f32, 16), simd::CodeKind::none);
  EXPECT_NE(kind(simd::Element::bf16, 128), simd::CodeKind::none);
}

// What an automatic choice comes to.
u16 chosen(const MemoryRows &rows, u32 slots, bool *grows = nullptr, bool compact = false) {
  IndexPtr index = hnsw_create(rows.space(), HnswParams{.compact = compact}).take();
  EXPECT_TRUE(index->must_learn());
  EXPECT_EQ(index->counts().codes, 0u);
  Scratch scratch;
  RowView view = rows.view();
  EXPECT_TRUE(index
                  ->learn(
                      view, slots, scratch, [](void *) { return false; }, nullptr)
                  .ok());
  EXPECT_FALSE(index->must_learn());
  insert_range(*index.get(), rows, 0, std::min<u32>(slots, 600));
  EXPECT_TRUE(verify(*index.get()).sound());
  if (grows) *grows = index->outgrown(8192);
  return index->counts().codes;
}

// Rows about a surface of few dimensions, as those of real data lie: near and far differ by much.
std::unique_ptr<MemoryRows> about(u32 dimensions, u32 dim) {
  std::mt19937 rng(9);
  std::normal_distribution<float> gauss(0, 1);
  std::vector<float> axes(dimensions * dim), v(dim);
  for (float &f : axes) f = gauss(rng);
  auto rows = std::make_unique<MemoryRows>(space_of(simd::Element::f32, simd::Metric::l2, dim), 2048);
  for (u32 i = 0; i < 2048; i++) {
    for (float &f : v) f = 0.1f * gauss(rng);
    for (u32 a = 0; a < dimensions; a++) {
      const float along = gauss(rng);
      for (u32 j = 0; j < dim; j++) v[j] += along * axes[a * dim + j];
    }
    EXPECT_TRUE(rows->add_f32(v.data()));
  }
  return rows;
}

TEST(CodedGraphs, ChosenByTheRows) {
  std::mt19937 rng(9);
  std::normal_distribution<float> gauss(0, 1);
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 64);
  // Rows spread evenly: four bits rank them. Knots of rows that are next to equal, far from each other: they do not.
  MemoryRows even(space, 2048), knots(space, 2048);
  std::vector<float> v(64), knot(64);
  for (u32 i = 0; i < 2048; i++) {
    for (float &f : v) f = gauss(rng);
    ASSERT_TRUE(even.add_f32(v.data()));
    if (i % 64 == 0)
      for (float &f : knot) f = 100 * gauss(rng);
    for (u32 j = 0; j < 64; j++) v[j] = knot[j] + gauss(rng);
    ASSERT_TRUE(knots.add_f32(v.data()));
  }
  bool grows = false;
  EXPECT_EQ(chosen(even, 2048, &grows), VEXFS_CODES_SQ4);
  EXPECT_FALSE(grows);
  EXPECT_EQ(chosen(knots, 2048, &grows), VEXFS_CODES_SQ8);
  EXPECT_FALSE(grows) << "it was judged";
  // The shortest that will do, where that is what counts.
  EXPECT_EQ(chosen(even, 2048, &grows, true), VEXFS_CODES_SQ4) << "all as far as each other: 2 bits do not rank them";
  EXPECT_EQ(chosen(knots, 2048, &grows, true), VEXFS_CODES_SQ8);
  EXPECT_EQ(chosen(*about(4, 64), 2048), VEXFS_CODES_SQ4);
  EXPECT_EQ(chosen(*about(4, 64), 2048, nullptr, true), VEXFS_CODES_RABITQ1);
  EXPECT_EQ(chosen(*about(12, 64), 2048, nullptr, true), VEXFS_CODES_RABITQ2);
  EXPECT_EQ(chosen(*about(12, 512), 2048), VEXFS_CODES_RABITQ2) << "of many elements two bits are enough";
  EXPECT_EQ(chosen(even, 700, &grows), VEXFS_CODES_SQ8) << "too few to judge by";
  EXPECT_TRUE(grows) << "so it is judged when there are more";
}

TEST(CodedGraphs, ChoosingCanBeStoppedAndMayFindNoMemoryOrRows) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 32);
  Clusters source(32, 20, 4);
  MemoryRows rows(space, 1100);
  for (u32 i = 0; i < 1100; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
  IndexPtr index = hnsw_create(space, HnswParams{}).take();
  Scratch scratch;
  RowView view = rows.view();
  const auto learn = [&](bool stop) {
    return index
        ->learn(
            view, 1100, scratch, [](void *p) { return *static_cast<bool *>(p); }, &stop)
        .code();
  };
  EXPECT_EQ(learn(true), Errno::intr);
  for (int64_t at : {0, 1}) {
    host::fail_alloc_after(at, false);
    EXPECT_EQ(learn(false), Errno::nomem);
    host::fail_alloc_after(-1, false);
  }
  EXPECT_TRUE(index->must_learn());
  for (u32 i = 0; i < 1100; i++) rows.kill(i);
  view = rows.view();
  EXPECT_EQ(learn(false), Errno::again);
  EXPECT_TRUE(index->must_learn());
}

// ------------------------------------------------------------------------------------------------------- checkpoints
TEST(CodedCheckpoint, LoadsToTheSameAnswersAndBytes) {
  for (const Codes codes : {Codes::none, Codes::sq8, Codes::sq4, Codes::rabitq1, Codes::rabitq2}) {
    Graphed g(simd::Element::f32, simd::Metric::cosine, 32, codes, 6000 / scale, 0, 6);
    Checkpoint c;
    c.save(*g.index.get(), g.rows.size());
    for (u32 i = 0; i < c.blobs.size(); i++) EXPECT_FALSE(g.index->blob_dirty(i)) << i;
    BlobSource src = c.source();
    IndexPtr loaded = hnsw_open(g.space, c.header, src).take();
    EXPECT_EQ(c.reads, 0u);
    for (int i = 0; i < 40; i++) {
      PreparedQuery q(g.space, g.source.next());
      EXPECT_EQ(slots_of(search(*g.index.get(), g.rows, q.q, ask(10, 50))),
                slots_of(search(*loaded.get(), g.rows, q.q, ask(10, 50))));
    }
    EXPECT_TRUE(verify(*loaded.get()).sound());
    Checkpoint again;
    again.save(*loaded.get(), g.rows.size());
    EXPECT_EQ(c.blobs, again.blobs);
    EXPECT_EQ(c.header, again.header);
  }
}

TEST(CodedCheckpoint, AnOpenedOneIsSavedWithItsCentreBeforeAnybodySearched) {
  Graphed g(simd::Element::f32, simd::Metric::l2, 32, Codes::sq4, 600);
  Checkpoint c, again;
  c.save(*g.index.get(), 600);
  BlobSource src = c.source();
  IndexPtr loaded = hnsw_open(g.space, c.header, src).take();
  again.save(*loaded.get(), 600);
  EXPECT_EQ(c.blobs, again.blobs);
}

TEST(CodedCheckpoint, DamageIsRefusedOrHarmless) {
  std::mt19937 rng(17);
  for (const Codes codes : coded) {
    Graphed g(simd::Element::f32, simd::Metric::l2, 32, codes, 700);
    Checkpoint c;
    c.save(*g.index.get(), 700);
    u32 refused = 0;
    for (u32 round = 0; round < 400 / scale; round++) {
      Checkpoint bad = c;
      std::vector<u8> &blob = bad.blobs[rng() % bad.blobs.size()];
      for (u32 i = 0; i < 1 + round % 20; i++)
        blob[round % 3 ? rng() % blob.size() : rng() % 64] = static_cast<u8>(rng());
      BlobSource src = bad.source();
      IndexPtr index = hnsw_open(g.space, bad.header, src).take();
      PreparedQuery q(g.space, g.source.next());
      Scratch scratch;
      RowView view = g.rows.view();
      std::vector<Hit> hits(10);
      Result<u32> n = index->search(view, q.q, ask(10, 40), scratch, hits.data(), nullptr);
      refused += !n.ok();
      EXPECT_TRUE(n.ok() || n.code() == Errno::corrupt);
      for (u32 i = 0; n.ok() && i < *n; i++)
        EXPECT_EQ(hits[i].key, g.space.score_one(q.q, g.rows.row(hits[i].slot), 0)) << "a wrong distance";
    }
    EXPECT_GT(refused, 10u / scale);
  }
}

TEST(CodedCheckpoint, HeadersThatLieAboutCodesAreRefused) {
  Graphed g(simd::Element::f32, simd::Metric::l2, 32, Codes::sq8, 300);
  Checkpoint c;
  c.save(*g.index.get(), 300);
  BlobSource src = c.source();
  const auto broken = [&](u8 codes, u16 version) {
    std::vector<u8> h = c.header;
    reinterpret_cast<HnswHeader *>(h.data())->codes = codes;
    reinterpret_cast<HnswHeader *>(h.data())->version = version;
    return hnsw_open(g.space, h, src).code();
  };
  EXPECT_EQ(broken(5, 2), Errno::corrupt);
  EXPECT_EQ(broken(255, 2), Errno::corrupt);
  EXPECT_EQ(broken(0, 2), Errno::corrupt);
  EXPECT_EQ(broken(1, 1), Errno::corrupt);
  EXPECT_EQ(broken(1, 2), Errno::ok);
}

TEST(CodedGraphs, EveryAllocationMayFail) {
  Graphed g(simd::Element::f32, simd::Metric::l2, 32, Codes::sq4, 300);
  Checkpoint c;
  c.save(*g.index.get(), 300);
  const host::AllocStats before = host::alloc_stats();
  {
    u32 failed = 0;
    for (int64_t at = 0; at < 40; at++) {
      BlobSource src = c.source();
      host::fail_alloc_after(at, false);
      Result<IndexPtr> loaded = hnsw_open(g.space, c.header, src);
      Status s = loaded.ok() ? Status() : Status(loaded.error());
      if (s.ok()) {
        Scratch scratch;
        RowView view = g.rows.view();
        std::vector<Hit> hits(10);
        Result<u32> n =
            (*loaded)->search(view, g.space.row_query(g.rows.row(5), 0), ask(10, 50), scratch, hits.data(), nullptr);
        if (!n.ok()) s = n.error();
      }
      const bool injected = host::alloc_failed();
      host::fail_alloc_after(-1, false);
      EXPECT_EQ(s.ok(), !injected) << at;
      EXPECT_TRUE(!injected || s.code() == Errno::nomem);
      failed += injected;
    }
    EXPECT_GT(failed, 8u);
  }
  EXPECT_EQ(host::alloc_stats().outstanding, before.outstanding);
}

}  // namespace
}  // namespace vexfs::vector
