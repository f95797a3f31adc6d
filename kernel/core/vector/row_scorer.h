// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Scores slots that come one by one, in batches, for indexes that find candidates without knowing how near they are.
#pragma once
#include "flat.h"

namespace vexfs::vector {

// Lives for one search. Slots must be offered once each. The nearest live, accepted rows end up in *top, whose storage
// is the caller's.
class RowScorer : Pinned {
 public:
  static constexpr u32 batch = 64;
  RowScorer(RowView &rows, const simd::Space &space, const simd::Query &q, const SearchParams &params, TopK *top)
      : rows_(rows), space_(space), query_(q), params_(params), top_(top) {}
  Status begin(Scratch &scratch);  // nomem
  Status offer(u32 slot) {
    gather(slot);
    return n_ == batch ? score() : Status();
  }
  // Scores what is left. Nothing may be offered behind it.
  Status end() { return n_ ? score() : Status(); }
  // SearchParams::distances_max was reached: what is offered now is left out.
  bool spent() const { return params_.distances_max && stats.distances >= params_.distances_max; }
  // Between batches of work of another kind, when no row pointer is held (nothing was offered since score()).
  Status breathe();

  SearchStats stats;

 private:
  struct Gathered {
    const void *row[batch];
    u32 slot[batch], aux[batch], key[batch];
    Hit order[batch];
  };
  void gather(u32 slot);
  Status bring_absent();
  Status score();
  bool wanted(u32 slot);

  RowView &rows_;
  const simd::Space &space_;
  const simd::Query query_;
  const SearchParams &params_;
  TopK *top_;
  Gathered *g_ = nullptr;
  u32 n_ = 0, since_breath_ = 0;
  bool absent_ = false;  // one of those gathered
};

}  // namespace vexfs::vector
