// SPDX-License-Identifier: MIT
// Reading benchmark sets, and exact truth for those that are cut short.
#include "dataset.h"

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <stdexcept>

#include "../../lib/vecfile/vecfile.h"

namespace vexfs::bench {
namespace {

// STEM.ending, or empty.
std::string file_of(const std::string &stem) {
  for (const char *ending : {".fvecs", ".bvecs", ".npy", ".ivecs"}) {
    struct stat st;
    if (stat((stem + ending).c_str(), &st) == 0) return stem + ending;
  }
  return "";
}

// The files that hold a set of rows: STEM.ending, or the pieces STEM_0.ending, STEM_1.ending ...
std::vector<std::unique_ptr<vecfile::Reader>> open_all(const std::string &stem) {
  std::vector<std::unique_ptr<vecfile::Reader>> files;
  if (std::string whole = file_of(stem); !whole.empty()) {
    files.push_back(vecfile::open(whole));
  } else {
    for (int i = 0; !(whole = file_of(stem + "_" + std::to_string(i))).empty(); i++)
      files.push_back(vecfile::open(whole));
  }
  if (files.empty()) throw std::runtime_error("no file " + stem + "[_0].{fvecs,bvecs,npy,ivecs}");
  for (const auto &f : files)
    if (f->dim() != files[0]->dim()) throw std::runtime_error(f->path() + ": another dimension than the other pieces");
  return files;
}

void read_all(const std::vector<std::unique_ptr<vecfile::Reader>> &files, uint64_t wanted, float *out) {
  for (const auto &f : files) {
    const uint64_t n = std::min(wanted, f->rows());
    if (n) f->read_f32(0, n, out);
    out += n * f->dim();
    wanted -= n;
  }
}

double distance_of(Distance kind, const float *a, const float *b, uint32_t dim) {
  double s = 0, aa = 0, bb = 0;
  for (uint32_t i = 0; i < dim; i++) {
    if (kind == Distance::l2) {
      double d = double{a[i]} - b[i];
      s += d * d;
    } else {
      s += double{a[i]} * b[i];
      aa += double{a[i]} * a[i];
      bb += double{b[i]} * b[i];
    }
  }
  if (kind == Distance::l2) return s;
  return kind == Distance::ip ? -s : 1 - s / std::sqrt(aa * bb);
}

void compute_truth(Dataset &d) {
  d.truth_k = std::min<uint32_t>(100, d.count);
  d.truth.resize(size_t{d.queries} * d.truth_k);
  std::vector<std::pair<double, int32_t>> all(d.count);
  for (uint32_t q = 0; q < d.queries; q++) {
    for (uint32_t i = 0; i < d.count; i++)
      all[i] = {distance_of(d.distance, d.q(q), d.row(i), d.dim), static_cast<int32_t>(i)};
    std::partial_sort(all.begin(), all.begin() + d.truth_k, all.end());
    for (uint32_t k = 0; k < d.truth_k; k++) d.truth[size_t{q} * d.truth_k + k] = all[k].second;
  }
}

}  // namespace

Dataset load_dataset(const std::string &prefix, Distance distance, uint32_t limit) {
  Dataset d;
  d.name = prefix.substr(prefix.find_last_of('/') + 1);
  d.distance = distance;
  const auto base = open_all(prefix + "_base");
  const auto query = open_all(prefix + "_query");
  d.dim = base[0]->dim();
  if (query[0]->dim() != d.dim) throw std::runtime_error(prefix + ": queries have another dimension than the base");
  uint64_t rows = 0, queries = 0;
  for (const auto &f : base) rows += f->rows();
  for (const auto &f : query) queries += f->rows();
  if (rows == 0 || queries == 0 || rows > 1u << 30 || queries > 1u << 30)
    throw std::runtime_error(prefix + ": too few or too many rows");
  const bool cut = limit && limit < rows;
  d.count = static_cast<uint32_t>(cut ? limit : rows);
  d.queries = static_cast<uint32_t>(queries);
  d.base.resize(size_t{d.count} * d.dim);
  d.query.resize(size_t{d.queries} * d.dim);
  read_all(base, d.count, d.base.data());
  read_all(query, d.queries, d.query.data());
  d.integral = base[0]->type() == vecfile::Type::u8;
  if (cut) {
    compute_truth(d);
    return d;
  }
  const auto gt = std::move(open_all(prefix + "_gt")[0]);
  if (gt->rows() != d.queries) throw std::runtime_error(prefix + ": ground truth is not of these queries");
  d.truth_k = gt->dim();
  std::vector<int64_t> wide(size_t{d.queries} * d.truth_k);
  gt->read_i64(0, d.queries, wide.data());
  d.truth.assign(wide.begin(), wide.end());
  return d;
}

double recall(const Dataset &d, const std::vector<int64_t> &found, uint32_t k) {
  size_t hits = 0;
  for (uint32_t q = 0; q < d.queries; q++) {
    const int32_t *want = &d.truth[size_t{q} * d.truth_k];
    for (uint32_t i = 0; i < k; i++)
      hits += std::find(want, want + k, static_cast<int32_t>(found[size_t{q} * k + i])) != want + k;
  }
  return static_cast<double>(hits) / (static_cast<double>(d.queries) * k);
}

}  // namespace vexfs::bench
