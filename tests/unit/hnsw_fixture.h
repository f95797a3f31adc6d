// SPDX-License-Identifier: MIT
// Clustered random rows, exact answers, and a store for checkpoints: what the index tests share.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <set>
#include <vector>

#include "../../bench/common/memory_rows.h"
#include "../../kernel/core/vector/flat.h"
#include "../../lib/host.h"

namespace vexfs::vector {

using bench::MemoryRows;

// Points around random centres, as embeddings tend to lie.
class Clusters {
 public:
  Clusters(u32 dim, u32 centres, u32 seed) : dim_(dim), rng_(seed), centre_(centres * dim) {
    for (float &f : centre_) f = gauss_(rng_) * 10;
  }
  std::vector<float> next() {
    std::vector<float> v(dim_);
    const u32 c = static_cast<u32>(rng_() % (centre_.size() / dim_));
    for (u32 i = 0; i < dim_; i++) v[i] = centre_[c * dim_ + i] + gauss_(rng_) * 3;
    return v;
  }

 private:
  u32 dim_;
  std::mt19937 rng_;
  std::normal_distribution<float> gauss_{0, 1};
  std::vector<float> centre_;
};

inline simd::Space space_of(simd::Element e, simd::Metric m, u32 dim) {
  simd::init();
  return simd::Space::make(e, m, dim).take();
}

struct PreparedQuery {
  PreparedQuery(const simd::Space &space, const std::vector<float> &v) : buf(space.query_bytes()) {
    EXPECT_TRUE(space.prepare_query(v.data(), simd::Element::f32, buf.data(), &q).ok());
  }
  std::vector<u8> buf;
  simd::Query q;
};

inline std::vector<u32> slots_of(const std::vector<Hit> &hits) {
  std::vector<u32> s;
  for (const Hit &h : hits) s.push_back(h.slot);
  return s;
}

// The answer of an exact scan over [0, rows.size()).
inline std::vector<Hit> exact(const MemoryRows &rows, const simd::Query &q, const SearchParams &p) {
  Scratch scratch;
  RowView view = rows.view();
  std::vector<Hit> hits(p.k);
  TopK top{hits.data(), p.k, 0};
  EXPECT_TRUE(scan_exact(view, rows.space(), &q, 1, 0, rows.size(), p, scratch, &top, nullptr).ok());
  hits.resize(top.n);
  return hits;
}

inline std::vector<Hit> search(Index &index, const MemoryRows &rows, const simd::Query &q, const SearchParams &p,
                               SearchStats *stats = nullptr) {
  Scratch scratch;
  RowView view = rows.view();
  std::vector<Hit> hits(p.k);
  Result<u32> n = index.search(view, q, p, scratch, hits.data(), stats);
  EXPECT_TRUE(n.ok()) << static_cast<int>(n.code());
  hits.resize(n.ok() ? *n : 0);
  return hits;
}

// Share of the exact answer that the index gives, over `queries` fresh points.
inline double recall(Index &index, const MemoryRows &rows, Clusters &source, u32 queries, const SearchParams &p) {
  size_t found = 0, all = 0;
  for (u32 i = 0; i < queries; i++) {
    PreparedQuery q(rows.space(), source.next());
    std::vector<u32> want = slots_of(exact(rows, q.q, p)), got = slots_of(search(index, rows, q.q, p));
    const std::set<u32> set(want.begin(), want.end());
    for (u32 s : got) found += set.count(s);
    all += want.size();
  }
  return all ? static_cast<double>(found) / static_cast<double>(all) : 1.0;
}

inline void insert_range(Index &index, const MemoryRows &rows, u32 begin, u32 end) {
  Scratch scratch;
  RowView view = rows.view();
  for (u32 i = begin; i < end; i++) ASSERT_TRUE(index.insert(view, i, scratch).ok()) << i;
}

inline VerifyReport verify(Index &index) {
  Scratch scratch;
  VerifyReport r;
  EXPECT_TRUE(index.verify(&r, scratch).ok());
  return r;
}

// A checkpoint in memory, as its owner would keep it on disk.
struct Checkpoint {
  std::vector<u8> header;
  std::vector<std::vector<u8>> blobs;
  u32 reads = 0;
  bool fail = false;

  void save(Index &index, u32 covered, RowView rows = {}) {
    header.resize(index.header_bytes());
    ASSERT_TRUE(index.save_header(covered, header).ok());
    blobs.resize(index.blob_count(covered));
    for (u32 b = 0; b < blobs.size(); b++) {
      blobs[b].resize(index.blob_bytes(b));
      ASSERT_TRUE(index.save_blob(b, covered, blobs[b], rows).ok());
    }
  }
  BlobSource source() {
    return {this, [](void *ctx, u32 blob, MutBytes out) -> Status {
              auto *c = static_cast<Checkpoint *>(ctx);
              if (c->fail) return Errno::io;
              std::atomic_ref<u32>(c->reads).fetch_add(1);
              if (blob >= c->blobs.size() || c->blobs[blob].size() != out.size()) return Errno::corrupt;
              memcpy(out.data(), c->blobs[blob].data(), out.size());
              return {};
            }};
  }
};

}  // namespace vexfs::vector
