// SPDX-License-Identifier: MIT
// Rows near a plane of few dimensions, so that every index finds each of them although their dimension is high.
#pragma once
#include "vector_fixture.h"

namespace vexfs::vector::test {

inline Row plane_row(uint64_t seed, uint32_t dim) {
  constexpr uint32_t latent = 5;
  static const std::vector<float> basis = [] {
    std::mt19937_64 rng(1);
    return random_rows(rng, latent, 1024);
  }();
  EXPECT_LE(dim, 1024u);
  std::mt19937_64 rng(seed);
  const Row at = random_row(rng, latent);
  Row r(dim);
  for (uint32_t j = 0; j < dim; j++)
    for (uint32_t k = 0; k < latent; k++) r[j] += at[k] * basis[k * 1024 + j];
  return r;
}

}  // namespace vexfs::vector::test
