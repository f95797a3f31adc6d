// SPDX-License-Identifier: MIT
// Codes of 1 and 2 bits: the rotation, the estimate's bias, and the bound of its error.
#include <cmath>

#include "codes_checks.h"
#include "hnsw_fixture.h"

namespace vexfs::vector {
namespace {

using simd::CodeKind;

TEST(Rabitq, TheRotationIsOneAndTheSameEverywhere) { EXPECT_EQ(simd_checks::check_rotation(), ""); }

// What n rows and some queries of a distribution come to, in standard errors of the estimate.
struct Errors {
  double mean = 0, square = 0, beyond = 0;  // beyond: the share whose distance is less than the bound says
  u32 n = 0;
};

constexpr u32 bound = 53;  // sixteenths: 3.3 standard errors, beyond which is one of a thousand

Errors errors_of(const std::vector<std::vector<float>> &x, u32 queries, simd::Metric m, CodeKind kind) {
  const u32 dim = static_cast<u32>(x[0].size()), n = static_cast<u32>(x.size()) - queries;
  const simd::Space space = space_of(simd::Element::f32, m, dim);
  simd::CodeSpace codes = simd::CodeSpace::make(space, kind).take();
  std::vector<float> centre(dim), work(codes.work_bytes() / 4);
  std::vector<std::vector<u8>> code(n, std::vector<u8>(codes.bytes()));
  std::vector<const void *> rows, at;
  std::vector<u32> aux(n), exact(n), estimate(n), lower(n);
  for (u32 i = 0; i < n; i++) {
    EXPECT_TRUE(space.check_row(x[i].data(), &aux[i]).ok());
    rows.push_back(x[i].data());
    at.push_back(code[i].data());
  }
  codes.average(rows.data(), aux.data(), n, centre.data());
  EXPECT_TRUE(codes.set_centre(centre.data()).ok());
  for (u32 i = 0; i < n; i++) codes.encode(x[i].data(), aux[i], work.data(), code[i].data());
  Errors e;
  std::vector<u8> buf(codes.query_bytes());
  for (u32 j = 0; j < queries; j++) {
    PreparedQuery q(space, x[n + j]);
    simd::CodeQuery cq;
    codes.prepare(q.q, work.data(), buf.data(), &cq);
    codes.score(cq, at.data(), n, estimate.data());
    space.score(q.q, rows.data(), aux.data(), n, exact.data());
    lower = estimate;
    codes.lower(cq, at.data(), n, 16, lower.data());
    for (u32 i = 0; i < n; i++) {
      const double guess = simd_checks::key_float(estimate[i]), one = guess - simd_checks::key_float(lower[i]);
      EXPECT_GT(one, 0);
      const double wrong = (guess - simd_checks::key_float(exact[i])) / one;
      e.mean += wrong, e.square += wrong * wrong, e.n++;
    }
    lower = estimate;
    codes.lower(cq, at.data(), n, bound, lower.data());
    for (u32 i = 0; i < n; i++) e.beyond += exact[i] < lower[i];
  }
  e.mean /= e.n, e.square /= e.n, e.beyond /= e.n;
  return e;
}

struct Case {
  CodeKind kind;
  simd::Metric metric;
  u32 dim;
};
class Estimate : public testing::TestWithParam<Case> {};

TEST_P(Estimate, IsUnbiasedAndWithinItsBound) {
  const auto [kind, metric, dim] = GetParam();
  std::mt19937 rng(dim);
  std::normal_distribution<float> gauss(0, 1);
  const u32 queries = 40, n = 250;
  // Rows of ordinary numbers; and rows that differ in few elements, which is what the rotation is for.
  for (const bool sparse : {false, true}) {
    std::vector<std::vector<float>> x(n + queries, std::vector<float>(dim, 3.0f));
    for (auto &row : x)
      for (u32 i = 0; i < dim; i++)
        if (!sparse || rng() % 16 == 0 || i < 2) row[i] += gauss(rng);
    const Errors e = errors_of(x, queries, metric, kind);
    EXPECT_LT(std::fabs(e.mean), 0.06) << sparse;
    EXPECT_LT(e.square, 1.15) << sparse;
    EXPECT_GT(e.square, 0.5) << "a bound without need " << sparse;
    EXPECT_LT(e.beyond, 0.001) << sparse;
  }
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const CodeKind k : {CodeKind::rabitq1, CodeKind::rabitq2})
    for (const simd::Metric m : {simd::Metric::l2, simd::Metric::cosine, simd::Metric::ip})
      for (const u32 dim : {63u, 65u, 100u, 128u, 300u, 768u}) all.push_back({k, m, dim});
  return all;
}
INSTANTIATE_TEST_SUITE_P(Kinds, Estimate, testing::ValuesIn(cases()), [](const auto &i) {
  return std::string(simd_checks::name(i.param.kind)) + simd_checks::name(i.param.metric) + std::to_string(i.param.dim);
});

TEST(Rabitq, WhatHasNoSenseHasNoBound) {
  for (const CodeKind kind : {CodeKind::rabitq1, CodeKind::rabitq2})
    for (const u32 dim : {1u, 2u, 3u, 65u, 4096u}) {
      const simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, dim);
      simd::CodeSpace codes = simd::CodeSpace::make(space, kind).take();
      std::vector<float> centre(dim, 0.0f), work(codes.work_bytes() / 4), v(dim, 2.0f);
      ASSERT_TRUE(codes.set_centre(centre.data()).ok());
      std::vector<u8> code(codes.bytes(), 0xff), buf(codes.query_bytes());
      const void *at = code.data();
      PreparedQuery q(space, v);
      simd::CodeQuery cq;
      codes.prepare(q.q, work.data(), buf.data(), &cq);
      u32 key;
      codes.score(cq, &at, 1, &key);
      codes.lower(cq, &at, 1, 32, &key);
      EXPECT_EQ(key, 0u) << dim;
      // Its own code: next to no distance, and the bound is below it.
      codes.encode(v.data(), 0, work.data(), code.data());
      codes.score(cq, &at, 1, &key);
      EXPECT_LT(std::fabs(simd_checks::key_float(key)), 4.0f * static_cast<float>(dim) * 0.1f) << dim;
      codes.lower(cq, &at, 1, 32, &key);
      EXPECT_LE(key, simd::key_from_f32(simd_checks::as_bits(0.1f))) << dim;
      // Two codes together have no bound.
      codes.prepare_code(code.data(), buf.data(), &cq);
      codes.score(cq, &at, 1, &key);
      codes.lower(cq, &at, 1, 32, &key);
      EXPECT_EQ(key, 0u);
    }
}

}  // namespace
}  // namespace vexfs::vector
