// SPDX-License-Identifier: MIT
// A base set, queries and their exact nearest neighbours, read from files.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace vexfs::bench {

enum class Distance { l2, cosine, ip };

struct Dataset {
  std::string name;
  Distance distance = Distance::l2;
  uint32_t dim = 0;
  uint32_t count = 0;
  uint32_t queries = 0;
  uint32_t truth_k = 0;
  bool integral = false;       // every component is an integer 0..255
  std::vector<float> base;     // count * dim
  std::vector<float> query;    // queries * dim
  std::vector<int32_t> truth;  // queries * truth_k, nearest first; -1: there are no more

  const float *row(uint32_t i) const { return &base[size_t{i} * dim]; }
  const float *q(uint32_t i) const { return &query[size_t{i} * dim]; }
  const int32_t *nearest(uint32_t q) const { return &truth[size_t{q} * truth_k]; }
};

// `prefix` names PREFIX_base.*, PREFIX_query.*, PREFIX_gt.ivecs (fvecs, bvecs or npy), cut to `limit` base rows when
// that is not 0 (the truth is then computed anew). Throws std::runtime_error.
Dataset load_dataset(const std::string &prefix, Distance distance, uint32_t limit);

// The first `rows` rows and `queries` queries of it, with the neighbours that are among the rows that `keep` accepts
// (null: all of these rows); computed by an exact scan.
Dataset part_of(const Dataset &d, uint32_t rows, uint32_t queries, const std::function<bool(uint32_t)> &keep);

// All rows and the first `queries` queries, each with the neighbours that are among the rows that `keep` accepts for it.
Dataset part_each(const Dataset &d, uint32_t queries, const std::function<bool(uint32_t query, uint32_t row)> &keep);

// These rows, in this order, without queries.
Dataset rows_of(const Dataset &d, const std::vector<uint32_t> &rows);

// Share of the k true nearest that are among the k found, over all queries. Where fewer exist, of those.
double recall(const Dataset &d, const std::vector<int64_t> &found, uint32_t k);

// What a filter looks at: 32 random bits that belong to a row number.
uint32_t tag_of(uint32_t row);

}  // namespace vexfs::bench
