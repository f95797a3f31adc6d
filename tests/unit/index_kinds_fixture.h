// SPDX-License-Identifier: MIT
// Indexes that learn, for every kind of them: built over rows in memory.
#pragma once
#include "../../kernel/core/vector/index_kinds.h"
#include "hnsw_fixture.h"

namespace vexfs::vector {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr u32 kinds_scale = 4;  // sanitizers are slow: fewer rows and rounds
#else
constexpr u32 kinds_scale = 1;
#endif

const IndexKind learning_kinds[] = {IndexKind::ivf_flat, IndexKind::ivf_pq, IndexKind::lsh, IndexKind::diskann};

inline std::string kind_text(IndexKind k) {
  return k == IndexKind::ivf_flat ? "IvfFlat"
         : k == IndexKind::ivf_pq ? "IvfPq"
         : k == IndexKind::lsh    ? "Lsh"
                                  : "DiskAnn";
}

inline SearchParams ask(u32 k, u32 ef) {
  SearchParams p;
  p.k = k;
  p.ef = ef;
  return p;
}

inline IndexPtr make_kind(const simd::Space &space, IndexKind kind, u64 seed = 5, u32 codes = 0) {
  return index_create(space, IndexParams{.kind = kind, .seed = seed, .codes = codes}).take();
}

inline Status learn(Index &index, const MemoryRows &rows, u32 slots, bool (*interrupted)(void *) = nullptr,
                    void *ctx = nullptr) {
  Scratch scratch(false);
  RowView view = rows.view();
  return index.learn(
      view, slots, scratch, interrupted ? interrupted : [](void *) { return false; }, ctx);
}

// Rows around centres, and an index over them.
struct KindBuilt {
  KindBuilt(IndexKind kind, u32 count, simd::Element e = simd::Element::f32, simd::Metric m = simd::Metric::l2,
            u32 dim = 24, u32 room = 0, u32 codes = 0)
      : space(space_of(e, m, dim)), source(dim, 60, 11), rows(space, std::max(room, count)) {
    for (u32 i = 0; i < count; i++) EXPECT_TRUE(rows.add_f32(source.next().data()));
    index = make_kind(space, kind, 5, codes);
    EXPECT_TRUE(learn(*index.get(), rows, count).ok());
    insert_range(*index.get(), rows, 0, count);
  }
  simd::Space space;
  Clusters source;
  MemoryRows rows;
  IndexPtr index;
};

}  // namespace vexfs::vector
