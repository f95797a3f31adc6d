// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Learning from a sample of rows: which rows, and k-means over them (Lloyd, from a random start).
//
// Rows are read again in each round instead of being copied: a sample may be larger than what a kernel should allocate,
// and lies in the chunk cache anyway. The result depends on rows and seed alone.
#pragma once
#include "../simd/learn.h"
#include "index.h"

namespace vexfs::vector {

// What a learner needs of its surroundings.
struct Lesson {
  RowView &rows;
  const simd::Space &space;  // of the rows
  bool (*interrupted)(void *ctx);
  void *ctx;
  u32 since_breath = 0;
  // Every few rows, when no row pointer is held. intr.
  Status breathe();
};

// Up to `most` slots below `slots` whose rows are alive, spread evenly by chance, ascending.
Status sample_slots(Lesson &lesson, u32 slots, u32 most, u64 seed, Vec<u32> *out);

// Calls f(i, f32 vector) for the rows of slots[0..n), in order; under cosine they are of length 1. Rows that have gone are
// left out. buf: dim f32.
template <class F>
Status each_sampled(Lesson &lesson, const u32 *slots, u32 n, void *buf, F &&f) {
  for (u32 i = 0; i < n; i++) {
    Result<const u8 *> row = lesson.rows.row(slots[i]);
    // (One that turns out damaged is dead from then on.)
    if (!row.ok() && row.code() != Errno::noent && !lesson.rows.dead(slots[i])) return row.error();
    if (row.ok()) {
      const u32 aux = lesson.rows.aux_off ? lesson.rows.aux(*row, slots[i]) : 0;
      simd::widen_row(lesson.space, *row, aux, buf);
      VX_TRY(f(i, buf));
    }
    VX_TRY(lesson.breathe());
  }
  return {};
}

// The space of centroids: f32 under l2, or the inner product for the other two metrics.
Result<simd::Space> centroid_space(const simd::Space &space);

// Position of the least key, the first of equal ones.
u32 least_key(const u32 *keys, u32 n);

// k centroids (f32, k * dim) of the sampled rows, n >= k. Under cosine and ip they are of length 1. nomem, intr, or the
// view's fault.
Status kmeans(Lesson &lesson, const simd::Space &centroids, const u32 *slots, u32 n, u32 k, u64 seed, void *out);

}  // namespace vexfs::vector
