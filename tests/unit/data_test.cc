// SPDX-License-Identifier: MIT
// The ground truth in tests/data is exact: every neighbour list is computed again from the vectors and compared.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "../../lib/vecfile/vecfile.h"

namespace {

const std::string kData = (std::filesystem::path(__FILE__).parent_path().parent_path() / "data").string();
constexpr size_t kDim = 256;

void append_rows(const std::string &name, std::vector<float> &values) {
  auto reader = vexfs::vecfile::open(kData + "/" + name);
  ASSERT_EQ(reader->dim(), kDim);
  ASSERT_EQ(reader->type(), vexfs::vecfile::Type::f16);
  size_t old = values.size();
  values.resize(old + reader->rows() * kDim);
  reader->read_f32(0, reader->rows(), values.data() + old);
}

double dot(const float *a, const float *b) {
  double sum = 0;
  for (size_t i = 0; i < kDim; i++) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

TEST(Data, GroundTruthIsExact) {
  std::vector<float> base, query;
  for (const char *name : {"rfc10k_base_0.npy", "rfc10k_base_1.npy", "rfc10k_base_2.npy"}) append_rows(name, base);
  append_rows("rfc10k_query.npy", query);
  const size_t rows = base.size() / kDim, queries = query.size() / kDim;
  ASSERT_EQ(rows, 10000u);
  ASSERT_EQ(queries, 200u);
  auto truth = vexfs::vecfile::open(kData + "/rfc10k_gt.ivecs");
  ASSERT_EQ(truth->rows(), queries);
  ASSERT_EQ(truth->dim(), 100u);

  std::vector<double> norm(rows);
  for (size_t row = 0; row < rows; row++) {
    norm[row] = std::sqrt(dot(&base[row * kDim], &base[row * kDim]));
    ASSERT_NEAR(norm[row], 1.0, 0.01) << "row " << row;
  }
  for (size_t q = 0; q < queries; q++) {
    const float *wanted = &query[q * kDim];
    const double wanted_norm = std::sqrt(dot(wanted, wanted));
    std::vector<std::pair<double, int64_t>> all(rows);
    for (size_t row = 0; row < rows; row++)
      all[row] = {1.0 - dot(wanted, &base[row * kDim]) / (wanted_norm * norm[row]), static_cast<int64_t>(row)};
    std::partial_sort(all.begin(), all.begin() + 101, all.end());
    std::vector<int64_t> listed(100);
    truth->read_i64(q, 1, listed.data());
    for (size_t i = 0; i < 100; i++) {
      // Summation order may swap two that are equal to the last bits; nothing else may differ.
      const auto found =
          std::find_if(all.begin(), all.begin() + 101, [&](const auto &e) { return e.second == listed[i]; });
      ASSERT_NE(found, all.begin() + 101) << "query " << q << " place " << i;
      ASSERT_NEAR(found->first, all[i].first, 1e-12) << "query " << q << " place " << i;
    }
  }
}

}  // namespace
