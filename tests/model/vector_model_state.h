// SPDX-License-Identifier: MIT
// What the model of vector_model.h knows of collections and files, and searching a collection by hand.
#pragma once
#include <algorithm>
#include <functional>
#include <map>

#include "../../kernel/core/simd/simd.h"
#include "../unit/vector_fixture.h"

namespace vexfs::vector::test {
struct ModelRow {
  std::vector<uint8_t> bytes;  // in the collection's element type
  uint32_t aux = 0;
  uint64_t owner = 0, offset = 0, length = 0, tag = 0;
  bool fresh = true;  // the owner has not changed since
};

struct ModelCollection {
  uint64_t cid = 0;
  uint32_t dim = 0;
  uint16_t element = 0, metric = 0, index = 0;
  std::map<uint64_t, ModelRow> rows;
};

struct ModelFile {
  std::string dir, name;
  std::string second_dir, second_name;  // another link, unless the name is empty
  std::string content;
  // The directory that a subtree filter takes it to be in: the last that gave it a name.
  std::string home;
};

struct ModelState {
  std::map<std::string, uint64_t> dirs;                // name -> ino
  std::map<std::string, ModelCollection> collections;  // by directory
  std::map<uint64_t, ModelFile> files;                 // by inode
};

inline simd::Space space(const ModelCollection &c) {
  auto s = simd::Space::make(static_cast<simd::Element>(c.element), static_cast<simd::Metric>(c.metric), c.dim);
  EXPECT_TRUE(s.ok());
  return s.take();
}

// All distances, by the same kernels, of the rows that `take` lets through, the nearest first.
inline std::vector<std::pair<uint32_t, uint64_t>> brute(const ModelCollection &c, const Row &q,
                                                        const std::function<bool(uint64_t, const ModelRow &)> &take) {
  auto s = space(c);
  std::vector<uint8_t> buf(s.query_bytes() + 64);
  simd::Query query;
  EXPECT_TRUE(s.prepare_query(q.data(), simd::Element::f32, buf.data(), &query).ok());
  std::vector<std::pair<uint32_t, uint64_t>> all;
  for (auto &[id, r] : c.rows)
    if (take(id, r)) all.push_back({s.score_one(query, r.bytes.data(), r.aux), id});
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace vexfs::vector::test
