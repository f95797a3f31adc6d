// SPDX-License-Identifier: MIT
// The arithmetic of learning: product quantisers at every level of instruction set, means, projections.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "../../kernel/core/simd/learn.h"

namespace vexfs::simd {
namespace {

float as_float(u32 bits) { return __builtin_bit_cast(float, bits); }

struct Quantiser {
  Quantiser(u32 dim, u32 m) : shape(PqShape::of(dim, m)), book(shape.codebook_floats()) {
    std::mt19937 rng(dim * 1000 + m);
    std::normal_distribution<float> gauss;
    for (float &f : book) f = gauss(rng);
    for (u32 p = 0; p < shape.m; p++)  // what lies behind the last element is zero
      for (u32 w = 0; w < 16; w++)
        for (u32 i = 0; i < shape.part; i++)
          if (p * shape.part + i >= dim) book[(p * 16 + w) * shape.part + i] = 0;
  }
  std::vector<float> decode(const u8 *code) const {
    std::vector<float> v(shape.dim);
    for (u32 i = 0; i < shape.dim; i++) {
      const u32 p = i / shape.part, c = (p & 1) ? code[p / 2] >> 4 : code[p / 2] & 15;
      v[i] = book[(p * 16 + c) * shape.part + i % shape.part];
    }
    return v;
  }
  PqShape shape;
  std::vector<float> book;
};

std::vector<float> random_vector(std::mt19937 &rng, u32 dim) {
  std::normal_distribution<float> gauss;
  std::vector<float> v(dim);
  for (float &f : v) f = gauss(rng);
  return v;
}

TEST(Learn, CodesAreOfTheNearestWords) {
  std::mt19937 rng(1);
  for (auto [dim, m] : {std::pair<u32, u32>{8, 4}, {7, 3}, {1, 1}, {130, 65}, {700, 256}}) {
    Quantiser q(dim, m);
    EXPECT_GE(q.shape.m * q.shape.part, dim);
    const std::vector<float> v = random_vector(rng, dim);
    std::vector<u8> code(q.shape.code_bytes());
    pq_encode(q.shape, q.book.data(), v.data(), code.data());
    const std::vector<float> d = q.decode(code.data());
    for (u32 p = 0; p < q.shape.m; p++) {
      auto far = [&](auto &&word) {
        double s = 0;
        for (u32 i = 0; i < q.shape.part && p * q.shape.part + i < dim; i++)
          s += std::pow(static_cast<double>(v[p * q.shape.part + i]) - static_cast<double>(word(i)), 2);
        return s;
      };
      const double chosen = far([&](u32 i) { return d[p * q.shape.part + i]; });
      for (u32 w = 0; w < 16; w++)
        EXPECT_LE(chosen, far([&](u32 i) { return q.book[(p * 16 + w) * q.shape.part + i]; }) + 1e-5);
    }
  }
}

// Against sums in double, and the same bits at every level.
TEST(Learn, ScansOfCodesAgreeAtEveryLevel) {
  init();
  const Level best = level();
  std::mt19937 rng(2);
  for (auto [dim, m] : {std::pair<u32, u32>{8, 4}, {7, 3}, {128, 64}, {31, 31}, {700, 256}}) {
    for (bool l2 : {true, false}) {
      Quantiser q(dim, m);
      const std::vector<float> query = random_vector(rng, dim), centroid = random_vector(rng, dim);
      const u32 bytes = q.shape.code_bytes();
      std::vector<u8> codes(bytes * pq_block), one(bytes);
      std::vector<u32> terms(pq_block);
      std::vector<double> wanted(pq_block);
      const float base = 3.5f;
      for (u32 i = 0; i < pq_block; i++) {
        for (u32 j = 0; j < bytes; j++) one[j] = static_cast<u8>(rng());
        if (q.shape.m & 1) one[bytes - 1] &= 15;
        for (u32 j = 0; j < bytes; j++) codes[j * pq_block + i] = one[j];
        terms[i] = pq_term(q.shape, q.book.data(), centroid.data(), one.data(), l2);
        const std::vector<float> r = q.decode(one.data());
        double dot = 0, term = 0;
        for (u32 x = 0; x < dim; x++) {
          const double rx = static_cast<double>(r[x]), c = static_cast<double>(centroid[x]);
          dot += static_cast<double>(query[x]) * rx;
          term += (c + rx) * (c + rx) - c * c;
        }
        EXPECT_NEAR(static_cast<double>(as_float(terms[i])), l2 ? term : 0, 1e-3 * (1 + std::fabs(term)));
        wanted[i] = 3.5 - (l2 ? 2 : 1) * dot + (l2 ? term : 0);
      }
      std::vector<float> products(32 * bytes);
      std::vector<u8> entries(32 * bytes);
      PqTables t;
      t.entries = entries.data();
      pq_tables(q.shape, q.book.data(), query.data(), l2, products.data(), &t);
      const u8 *code_at = codes.data();
      const u32 *term_at = terms.data();
      std::vector<u32> first;
      for (Level l : {Level::sse2, Level::avx2, Level::avx512, Level::neon}) {
        if (!force_level(l).ok()) continue;
        std::vector<u32> keys(pq_block);
        pq_scan(t, bytes, key_from_f32(__builtin_bit_cast(u32, base)), &code_at, &term_at, 1, keys.data());
        if (first.empty()) first = keys;
        EXPECT_EQ(keys, first) << level_name(l);
        // Each part's entry is rounded to the scale.
        const double off = static_cast<double>(as_float(t.scale)) * q.shape.m * 0.51 + 1e-3;
        for (u32 i = 0; i < pq_block; i++)
          EXPECT_NEAR(static_cast<double>(as_float(f32_from_key(keys[i]))), wanted[i], off);
      }
      force_level(best).ok();
    }
  }
}

TEST(Learn, ScansOfCodesSurviveWhatIsNoNumber) {
  init();
  const Level best = level();
  std::vector<u8> codes(4 * pq_block, 0x5a), entries(32 * 4, 255);
  std::vector<u32> terms(pq_block, 0x7fc00000);
  terms[3] = 0x7f800000;
  terms[4] = 0;
  PqTables t;
  t.entries = entries.data();
  t.scale = 0x3f800000;
  const u8 *code_at = codes.data();
  const u32 *term_at = terms.data();
  for (Level l : {Level::sse2, Level::avx2, Level::avx512, Level::neon}) {
    if (!force_level(l).ok()) continue;
    std::vector<u32> keys(pq_block);
    pq_scan(t, 4, key_from_f32(0), &code_at, &term_at, 1, keys.data());
    EXPECT_EQ(keys[0], key_farthest);
    EXPECT_EQ(keys[3], key_from_f32(0x7f800000));
    EXPECT_EQ(as_float(f32_from_key(keys[4])), 8 * 255.0f) << "sums do not overflow";
  }
  force_level(best).ok();
}

TEST(Learn, QuantisersConverge) {
  std::mt19937 rng(3);
  const PqShape s = PqShape::of(6, 3);
  std::vector<std::vector<float>> rows;
  for (int i = 0; i < 2000; i++) rows.push_back(random_vector(rng, 6));
  std::vector<float> book(s.codebook_floats());
  for (u32 w = 0; w < 16; w++) pq_seed(s, book.data(), w, rows[w].data());
  auto error = [&] {
    double sum = 0;
    Quantiser q(6, 3);
    q.book = book;
    std::vector<u8> code(s.code_bytes());
    for (const auto &r : rows) {
      pq_encode(s, book.data(), r.data(), code.data());
      const std::vector<float> d = q.decode(code.data());
      for (u32 i = 0; i < 6; i++) sum += std::pow(static_cast<double>(r[i] - d[i]), 2);
    }
    return sum;
  };
  double before = error();
  for (int round = 0; round < 5; round++) {
    std::vector<float> sums(book.size());
    std::vector<u32> counts(s.m * 16);
    for (const auto &r : rows) pq_gather(s, book.data(), r.data(), sums.data(), counts.data());
    pq_update(s, book.data(), sums.data(), counts.data());
    const double now = error();
    EXPECT_LE(now, before * 1.001);
    before = now;
  }
  EXPECT_LT(before, 2000 * 6 * 0.15);
}

TEST(Learn, MeansAndSplits) {
  const float sum[3] = {6, 0, 8};
  float out[3], a[3], b[3];
  ASSERT_TRUE(average(sum, 2, false, out, 3));
  EXPECT_EQ(out[0], 3.0f);
  EXPECT_EQ(out[2], 4.0f);
  ASSERT_TRUE(average(sum, 2, true, out, 3));
  EXPECT_FLOAT_EQ(out[0], 0.6f);
  EXPECT_FLOAT_EQ(out[2], 0.8f);
  const float zero[3] = {};
  EXPECT_FALSE(average(zero, 2, true, out, 3));
  split(sum, a, b, 3);
  EXPECT_NE(a[0], b[0]);
  EXPECT_FLOAT_EQ((a[0] + b[0]) / 2, 6.0f);
  const float bad[2] = {1, INFINITY};
  EXPECT_FALSE(all_finite(bad, 2));
  EXPECT_TRUE(all_finite(sum, 3));
}

TEST(Learn, DirectionsAreAboutNormalAndSeeded) {
  std::vector<float> d(64 * 100), again(64 * 100), other(64 * 100);
  random_directions(5, d.data(), 64, 100);
  random_directions(5, again.data(), 64, 100);
  random_directions(6, other.data(), 64, 100);
  EXPECT_EQ(d, again);
  EXPECT_NE(d, other);
  double mean = 0, square = 0;
  for (float f : d) {
    mean += static_cast<double>(f) / 6400;
    square += static_cast<double>(f) * static_cast<double>(f) / 6400;
  }
  EXPECT_NEAR(mean, 0, 0.05);
  EXPECT_NEAR(square, 1, 0.06);
}

TEST(Learn, HashesAndWhatTheirNeighboursCost) {
  auto key = [](float x) { return key_from_f32(__builtin_bit_cast(u32, -x)); };  // of an inner product of x
  const u32 keys[4] = {key(2.5f), key(-0.25f), key(0), key(7.75f)};
  const u32 offsets[4] = {0, 0, 1u << 31, 0};
  s32 h[4];
  u32 below[4], above[4];
  project(keys, 4, __builtin_bit_cast(u32, 2.0f), offsets, h, below, above);
  EXPECT_EQ(h[0], 1);
  EXPECT_EQ(h[1], -1);
  EXPECT_EQ(h[2], 0);
  EXPECT_EQ(h[3], 3);
  EXPECT_LT(below[0], above[0]) << "2.5 lies nearer to 2 than to 4";
  EXPECT_LT(above[1], below[1]);
  EXPECT_EQ(below[2], above[2]);
  const u32 middles[4] = {0, 0, __builtin_bit_cast(u32, 1.0f), 0};
  project(keys, 4, 0, middles, h, below, above);
  EXPECT_EQ(h[2], 0) << "0 lies below 1";
  EXPECT_EQ(h[0], 1);
  EXPECT_EQ(h[1], 0);
  EXPECT_EQ(above[0], ~u32{0}) << "a sign has one neighbour";
  EXPECT_EQ(below[1], ~u32{0});
  EXPECT_LT(above[1], below[0]) << "the smaller, the less certain";
  const u32 wild[4] = {key_farthest, 0, key(3e38f), key(-3e38f)};
  project(wild, 4, __builtin_bit_cast(u32, 1e-20f), offsets, h, below, above);
  for (s32 v : h) EXPECT_LE(std::abs(static_cast<double>(v)), 1.1e9);
}

}  // namespace
}  // namespace vexfs::simd
