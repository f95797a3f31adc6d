// SPDX-License-Identifier: MIT
// Distance kernels: every level this CPU has, against a high-precision reference; keys, conversions, refusals.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "../../lib/host.h"
#include "simd_checks.h"

namespace {

using namespace simd_checks;  // NOLINT(google-build-using-namespace)

class Levels : public testing::TestWithParam<Level> {
 protected:
  void SetUp() override {
    if (!force_level(GetParam()).ok()) GTEST_SKIP() << "not run here: this CPU has no " << level_name(GetParam());
  }
  void TearDown() override { init(); }
};

TEST_P(Levels, AgreesWithReferenceAtEveryLengthAndAlignment) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  EXPECT_EQ(check_level(true, true), "");
#else
  EXPECT_EQ(check_level(false), "");
#endif
}

// Batches longer than one section, and of every size below, score like single rows.
TEST_P(Levels, BatchSizeDoesNotChangeBits) {
  std::mt19937 rng(7);
  for (const Case &c : all_cases())
    for (u32 dim : {3u, 100u, 4096u}) {
      Space s = Space::make(c.e, c.m, dim).take();
      const u32 n = 150;
      std::vector<u8> rows(n * s.row_bytes()), qbuf(s.query_bytes()), src(s.query_bytes());
      std::vector<u32> aux(n), one(n), many(n), scanned(n);
      std::vector<const void *> ptr(n);
      for (u32 i = 0; i < n; i++) {
        u8 *p = rows.data() + i * s.row_bytes();
        random_row(rng, c.e, p, dim);
        ASSERT_TRUE(s.check_row(p, &aux[i]).ok());
        ptr[i] = p;
      }
      random_row(rng, c.wide ? Element::f32 : c.e, src.data(), dim);
      Query q;
      ASSERT_TRUE(s.prepare_query(src.data(), c.wide ? Element::f32 : c.e, qbuf.data(), &q).ok());
      for (u32 i = 0; i < n; i++) one[i] = s.score_one(q, ptr[i], aux[i]);
      for (u32 size = 1; size <= n; size += 1 + size / 8) {
        s.score(q, ptr.data(), aux.data(), size, many.data());
        ASSERT_TRUE(std::equal(one.begin(), one.begin() + size, many.begin())) << label(c, dim) << " batch " << size;
        s.scan(q, rows.data(), s.row_bytes(), aux.data(), size, scanned.data());
        ASSERT_TRUE(std::equal(one.begin(), one.begin() + size, scanned.begin())) << label(c, dim);
      }
      Query twice[2] = {q, q};
      std::vector<u32> both(2 * n);
      s.scan_many(twice, 2, rows.data(), s.row_bytes(), aux.data(), n, both.data(), n);
      EXPECT_TRUE(std::equal(one.begin(), one.end(), both.begin()));
      EXPECT_TRUE(std::equal(one.begin(), one.end(), both.begin() + n));
    }
}

TEST_P(Levels, OverflowIsFarthestAndNeverNaN) {
  for (u32 dim : {2u, 16u, 67u}) {
    std::vector<float> big(dim, 3e38f), neg(dim, -3e38f), mixed(dim, 3e38f);
    for (u32 i = 0; i < dim; i += 2) mixed[i] = -3e38f;
    u32 none = 0;
    Space l2 = Space::make(Element::f32, Metric::l2, dim).take();
    EXPECT_EQ(l2.score_one(l2.row_query(big.data(), 0), neg.data(), none), key_from_f32(0x7f800000));
    EXPECT_EQ(l2.score_one(l2.row_query(big.data(), 0), big.data(), none), key_from_f32(0));
    Space ip = Space::make(Element::f32, Metric::ip, dim).take();
    EXPECT_EQ(ip.score_one(ip.row_query(big.data(), 0), neg.data(), none), key_from_f32(0x7f800000));
    EXPECT_EQ(ip.score_one(ip.row_query(big.data(), 0), big.data(), none), key_from_f32(0xff800000));
    const u32 k = ip.score_one(ip.row_query(big.data(), 0), mixed.data(), none);
    EXPECT_FALSE(std::isnan(key_float(k)));
  }
}

TEST_P(Levels, CosineStaysWithinZeroAndTwo) {
  std::mt19937 rng(3);
  for (u32 dim : {1u, 9u, 128u, 1000u}) {
    Space s = Space::make(Element::f32, Metric::cosine, dim).take();
    std::vector<u8> a(4 * dim), b(4 * dim);
    random_row(rng, Element::f32, a.data(), dim);
    for (u32 i = 0; i < dim; i++) {
      float f;
      memcpy(&f, &a[4 * i], 4);
      f = -f;
      memcpy(&b[4 * i], &f, 4);
    }
    u32 aa, ab;
    ASSERT_TRUE(s.check_row(a.data(), &aa).ok() && s.check_row(b.data(), &ab).ok());
    float same = key_float(s.score_one(s.row_query(a.data(), aa), a.data(), aa));
    float opposite = key_float(s.score_one(s.row_query(a.data(), aa), b.data(), ab));
    EXPECT_GE(same, 0.0f);
    EXPECT_LE(same, 1e-6f);
    EXPECT_LE(opposite, 2.0f);
    EXPECT_GE(opposite, 2.0f - 1e-6f);
  }
}

TEST_P(Levels, Int8IsExact) {
  std::mt19937 rng(5);
  for (u32 dim : {1u, 31u, 128u, 8192u}) {
    std::vector<u8> lo(dim, 0x80), hi(dim, 0x7f);
    Space l2 = Space::make(Element::int8, Metric::l2, dim).take();
    EXPECT_EQ(key_float(l2.score_one(l2.row_query(lo.data(), 0), hi.data(), 0)),
              static_cast<float>(255.0 * 255.0 * dim));
    Space ip = Space::make(Element::int8, Metric::ip, dim).take();
    EXPECT_EQ(key_float(ip.score_one(ip.row_query(lo.data(), 0), lo.data(), 0)),
              static_cast<float>(-128.0 * 128.0 * dim));
    EXPECT_EQ(key_float(ip.score_one(ip.row_query(lo.data(), 0), hi.data(), 0)),
              static_cast<float>(128.0 * 127.0 * dim));
  }
}

INSTANTIATE_TEST_SUITE_P(Simd, Levels, testing::Values(Level::sse2, Level::avx2, Level::avx512, Level::neon),
                         [](const auto &p) { return std::string(level_name(p.param)); });

// ------------------------------------------------------------------------------------------------------------ keys
TEST(SimdKeys, KeepOrderAndComeBack) {
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> v = {-inf,   -3e38f, -1.5f, -1.0f, -1e-30f, -1e-45f, 0.0f,
                          1e-45f, 1e-30f, 0.5f,  1.0f,  2.0f,    3e38f,   inf};
  for (size_t i = 0; i < v.size(); i++) {
    EXPECT_EQ(as_bits(key_float(key_from_f32(as_bits(v[i])))), as_bits(v[i]));
    if (i) {
      EXPECT_LT(key_from_f32(as_bits(v[i - 1])), key_from_f32(as_bits(v[i])));
    }
    EXPECT_LT(key_from_f32(as_bits(v[i])), key_farthest);
  }
  EXPECT_EQ(key_from_f32(as_bits(-0.0f)), key_from_f32(as_bits(0.0f)));
}

// ------------------------------------------------------------------------------------------------- levels, dispatch
TEST(SimdLevels, InitPicksTheBestTheHostAllows) {
  init();
  Level best = level();
  EXPECT_TRUE(level_supported(best));
  for (Level l : {Level::sse2, Level::avx2, Level::avx512})
    if (level_supported(l)) {
      EXPECT_LE(level_width_bits(l), level_width_bits(best));
    }
#if defined(__x86_64__)
  host::limit_cpu_features(0);
  init();
  EXPECT_EQ(level(), Level::sse2);
  EXPECT_FALSE(force_level(Level::avx2).ok());
  EXPECT_EQ(force_level(Level::neon).code(), Errno::opnotsupp);
  host::limit_cpu_features(~0u);
  init();
  EXPECT_EQ(level(), best);
#endif
}

TEST(SimdSpace, RefusesNonsense) {
  EXPECT_EQ(Space::make(Element{0}, Metric::l2, 4).code(), Errno::inval);
  EXPECT_EQ(Space::make(Element{5}, Metric::l2, 4).code(), Errno::inval);
  EXPECT_EQ(Space::make(Element::f32, Metric{0}, 4).code(), Errno::inval);
  EXPECT_EQ(Space::make(Element::f32, Metric{4}, 4).code(), Errno::inval);
  EXPECT_EQ(Space::make(Element::f32, Metric::l2, 0).code(), Errno::inval);
  EXPECT_EQ(Space::make(Element::f32, Metric::l2, dim_max + 1).code(), Errno::inval);
  EXPECT_TRUE(Space::make(Element::f32, Metric::l2, dim_max).ok());
}

// ----------------------------------------------------------------------------------------------------- conversions
TEST(SimdConvert, F16IsExactBackAndNearestEvenForth) {
  Space s = Space::make(Element::f16, Metric::l2, 1).take();
  u32 aux;
  std::vector<long double> values;  // of all finite non-negative f16
  for (u32 h = 0; h < 0x7c00; h++) {
    u16 in = static_cast<u16>(h), back;
    float f;
    s.decode_row(&in, &f);
    ASSERT_EQ(static_cast<long double>(f), f16_value(in)) << h;
    ASSERT_TRUE(s.encode_row(&f, &back, &aux).ok());
    ASSERT_EQ(back, in);
    float n = -f;
    ASSERT_TRUE(s.encode_row(&n, &back, &aux).ok());
    ASSERT_EQ(back, in | 0x8000);
  }
  std::mt19937 rng(1);
  for (int i = 0; i < 300000; i++) {
    u32 bits = rng();
    float f = as_float(bits);
    u16 got;
    const bool ok = s.encode_row(&f, &got, &aux).ok();
    if (!(std::fabs(f) < 65520.0f)) {
      ASSERT_FALSE(ok) << f;
      continue;
    }
    ASSERT_TRUE(ok) << f;
    long double err = std::fabs(f16_value(got) - f);
    for (int step : {-1, 1}) {
      u16 other = static_cast<u16>(got + step);
      if ((other & 0x7c00) == 0x7c00 || (got & 0x7fff) == 0) continue;
      long double e2 = std::fabs(f16_value(other) - f);
      ASSERT_TRUE(err < e2 || (err == e2 && !(got & 1))) << f;
    }
  }
}

TEST(SimdConvert, Bf16RoundsToNearestEven) {
  Space s = Space::make(Element::bf16, Metric::l2, 1).take();
  u32 aux;
  auto conv = [&](u32 bits) {
    float f = as_float(bits);
    u16 h = 0;
    EXPECT_TRUE(s.encode_row(&f, &h, &aux).ok());
    return h;
  };
  EXPECT_EQ(conv(0x3f800000), 0x3f80);
  EXPECT_EQ(conv(0x3f808000), 0x3f80);
  EXPECT_EQ(conv(0x3f818000), 0x3f82);
  EXPECT_EQ(conv(0x3f808001), 0x3f81);
  EXPECT_EQ(conv(0xbf818000), 0xbf82);
  float max = std::numeric_limits<float>::max();
  u16 h;
  EXPECT_EQ(s.encode_row(&max, &h, &aux).code(), Errno::inval);
}

TEST(SimdConvert, Int8RoundsAndRefusesWhatDoesNotFit) {
  Space s = Space::make(Element::int8, Metric::l2, 1).take();
  u32 aux;
  const std::pair<float, int> good[] = {{0.5f, 0},       {1.5f, 2},     {2.5f, 2},      {-0.5f, 0},
                                        {-1.5f, -2},     {127.0f, 127}, {127.49f, 127}, {-128.0f, -128},
                                        {-128.5f, -128}, {3.49f, 3},    {-7.51f, -8}};
  for (auto [f, want] : good) {
    s8 got = 99;
    EXPECT_TRUE(s.encode_row(&f, &got, &aux).ok()) << f;
    EXPECT_EQ(got, want) << f;
  }
  for (float f : {127.5f, 128.0f, -128.6f, 1e30f, -1e30f, std::numeric_limits<float>::infinity(),
                  std::numeric_limits<float>::quiet_NaN()}) {
    s8 got;
    EXPECT_EQ(s.encode_row(&f, &got, &aux).code(), Errno::inval) << f;
  }
}

TEST(SimdConvert, RefusesNaNInfinityAndZeroUnderCosine) {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity()};
  for (Element e : {Element::f32, Element::f16, Element::bf16, Element::int8})
    for (Metric m : {Metric::l2, Metric::cosine, Metric::ip})
      for (u32 dim : {1u, 7u, 100u})
        for (u32 at : {0u, dim / 2, dim - 1}) {
          Space s = Space::make(e, m, dim).take();
          std::vector<float> v(dim, 1.0f);
          std::vector<u8> row(s.query_bytes());
          u32 aux;
          Query q;
          ASSERT_TRUE(s.encode_row(v.data(), row.data(), &aux).ok());
          for (float b : bad) {
            v[at] = b;
            EXPECT_EQ(s.encode_row(v.data(), row.data(), &aux).code(), Errno::inval);
            EXPECT_EQ(s.prepare_query(v.data(), Element::f32, row.data(), &q).code(), Errno::inval);
          }
          std::fill(v.begin(), v.end(), 0.0f);
          EXPECT_EQ(s.encode_row(v.data(), row.data(), &aux).ok(), m != Metric::cosine);
          EXPECT_EQ(s.prepare_query(v.data(), Element::f32, row.data(), &q).ok(), m != Metric::cosine);
          std::fill(row.begin(), row.end(), 0);
          EXPECT_EQ(s.check_row(row.data(), &aux).ok(), m != Metric::cosine);
          EXPECT_FALSE(s.prepare_query(row.data(), Element{9}, row.data(), &q).ok());
        }
  u16 inf16 = 0x7c00, nan16 = 0x7e00, infb = 0x7f80, nanb = 0xffc0;
  u32 aux;
  for (u16 h : {inf16, nan16}) EXPECT_FALSE(Space::make(Element::f16, Metric::l2, 1).take().check_row(&h, &aux).ok());
  for (u16 h : {infb, nanb}) EXPECT_FALSE(Space::make(Element::bf16, Metric::l2, 1).take().check_row(&h, &aux).ok());
}

TEST(SimdConvert, AuxIsTheInverseLengthAndBounded) {
  Space s = Space::make(Element::f32, Metric::cosine, 2).take();
  u32 aux;
  float v[2] = {3.0f, 4.0f};
  ASSERT_TRUE(s.check_row(v, &aux).ok());
  EXPECT_EQ(as_float(aux), 0.2f);
  float tiny[2] = {1e-20f, 0}, huge[2] = {1e20f, 0}, small[2] = {2e-18f, 0}, large[2] = {5e17f, 0};
  EXPECT_FALSE(s.check_row(tiny, &aux).ok());
  EXPECT_FALSE(s.check_row(huge, &aux).ok());
  u32 sa, la;
  ASSERT_TRUE(s.check_row(small, &sa).ok());
  ASSERT_TRUE(s.check_row(large, &la).ok());
  EXPECT_NEAR(key_float(s.score_one(s.row_query(small, sa), large, la)), 0.0f, 1e-6f);
}

}  // namespace
