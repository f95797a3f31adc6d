// SPDX-License-Identifier: MIT
// Reading benchmark sets, and exact truth for those that are cut short.
#include "dataset.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <thread>

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

// Sums in four lanes, so that one addition need not wait for the one before.
double distance_of(Distance kind, const float *a, const float *b, uint32_t dim) {
  double s[4] = {}, aa[4] = {}, bb[4] = {};
  for (uint32_t i = 0; i < dim; i++) {
    const uint32_t lane = i % 4;
    if (kind == Distance::l2) {
      const double d = double{a[i]} - b[i];
      s[lane] += d * d;
    } else {
      s[lane] += double{a[i]} * b[i];
      aa[lane] += double{a[i]} * a[i];
      bb[lane] += double{b[i]} * b[i];
    }
  }
  const auto sum = [](const double *v) { return (v[0] + v[1]) + (v[2] + v[3]); };
  if (kind == Distance::l2) return sum(s);
  return kind == Distance::ip ? -sum(s) : 1 - sum(s) / std::sqrt(sum(aa) * sum(bb));
}

// Fills truth with the 100 nearest among the rows that are each query's, by all processors.
void compute_truth(Dataset &d, const std::function<std::vector<int32_t>(uint32_t query)> &rows_for) {
  d.truth_k = 100;
  d.truth.assign(size_t{d.queries} * d.truth_k, -1);
  std::atomic<uint32_t> next{0};
  const auto work = [&] {
    std::vector<std::pair<double, int32_t>> all;
    for (uint32_t q; (q = next++) < d.queries;) {
      const std::vector<int32_t> rows = rows_for(q);
      all.resize(rows.size());
      for (size_t i = 0; i < rows.size(); i++)
        all[i] = {distance_of(d.distance, d.q(q), d.row(static_cast<uint32_t>(rows[i])), d.dim), rows[i]};
      const size_t n = std::min<size_t>(d.truth_k, all.size());
      std::partial_sort(all.begin(), all.begin() + static_cast<ptrdiff_t>(n), all.end());
      for (size_t k = 0; k < n; k++) d.truth[size_t{q} * d.truth_k + k] = all[k].second;
    }
  };
  std::vector<std::thread> threads;
  for (unsigned t = 1; t < std::max(1u, std::thread::hardware_concurrency()); t++) threads.emplace_back(work);
  work();
  for (auto &t : threads) t.join();
}

std::vector<int32_t> rows_below(uint32_t count, const std::function<bool(uint32_t)> &keep) {
  std::vector<int32_t> rows;
  for (uint32_t i = 0; i < count; i++)
    if (!keep || keep(i)) rows.push_back(static_cast<int32_t>(i));
  return rows;
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
    compute_truth(d, [&](uint32_t) { return rows_below(d.count, nullptr); });
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

Dataset part_of(const Dataset &d, uint32_t rows, uint32_t queries, const std::function<bool(uint32_t)> &keep) {
  Dataset p;
  p.name = d.name;
  p.distance = d.distance;
  p.dim = d.dim;
  p.integral = d.integral;
  p.count = std::min(rows, d.count);
  p.queries = std::min(queries, d.queries);
  p.base.assign(d.base.begin(), d.base.begin() + static_cast<ptrdiff_t>(size_t{p.count} * d.dim));
  p.query.assign(d.query.begin(), d.query.begin() + static_cast<ptrdiff_t>(size_t{p.queries} * d.dim));
  if (!keep && p.count == d.count) {
    p.truth_k = d.truth_k;
    p.truth.assign(d.truth.begin(), d.truth.begin() + static_cast<ptrdiff_t>(size_t{p.queries} * d.truth_k));
  } else {
    const std::vector<int32_t> kept = rows_below(p.count, keep);
    compute_truth(p, [&](uint32_t) { return kept; });
  }
  return p;
}

Dataset part_each(const Dataset &d, uint32_t queries, const std::function<bool(uint32_t, uint32_t)> &keep) {
  Dataset p = part_of(d, d.count, queries, nullptr);
  compute_truth(p, [&](uint32_t query) { return rows_below(p.count, [&](uint32_t row) { return keep(query, row); }); });
  return p;
}

Dataset rows_of(const Dataset &d, const std::vector<uint32_t> &rows) {
  Dataset p;
  p.name = d.name;
  p.distance = d.distance;
  p.dim = d.dim;
  p.integral = d.integral;
  p.count = static_cast<uint32_t>(rows.size());
  p.base.reserve(rows.size() * d.dim);
  for (const uint32_t i : rows) p.base.insert(p.base.end(), d.row(i), d.row(i) + d.dim);
  return p;
}

double recall(const Dataset &d, const std::vector<int64_t> &found, uint32_t k) {
  size_t hits = 0, wanted = 0;
  for (uint32_t q = 0; q < d.queries; q++) {
    const int32_t *want = d.nearest(q), *end = std::find(want, want + std::min(k, d.truth_k), -1);
    wanted += static_cast<size_t>(end - want);
    for (uint32_t i = 0; i < k; i++) {
      const int64_t id = found[size_t{q} * k + i];
      hits += id >= 0 && std::find(want, end, static_cast<int32_t>(id)) != end;
    }
  }
  return wanted ? static_cast<double>(hits) / static_cast<double>(wanted) : 1;
}

uint32_t tag_of(uint32_t row) {  // the finaliser of MurmurHash3
  uint32_t h = row + 1;
  h = (h ^ (h >> 16)) * 0x85ebca6bu;
  h = (h ^ (h >> 13)) * 0xc2b2ae35u;
  return h ^ (h >> 16);
}

}  // namespace vexfs::bench
