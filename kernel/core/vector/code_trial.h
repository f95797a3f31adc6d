// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Do codes of a kind rank rows nearly as the rows themselves do? Judged by a sample of the rows there are.
#pragma once
#include "index.h"

namespace vexfs::vector {

class CodeTrial : Pinned {
 public:
  static constexpr u32 sampled = 1024;
  CodeTrial() = default;
  ~CodeTrial();
  // Takes the sample, from rows below `slots`; these kinds may be tried. Nobody may pause the view before the trial is over.
  // again: no row lives; nomem, or the view's fault.
  Status begin(const simd::Space &space, RowView &rows, u32 slots, const simd::CodeKind *kinds, u32 n);
  // Of one of these kinds. intr.
  Result<bool> ranks_well(simd::CodeSpace &codes, bool (*interrupted)(void *), void *ctx);
  // By which they were judged, centre_bytes() of them.
  const u8 *centre() const { return bytes_; }

 private:
  struct Sample;
  Status take(RowView &rows, u32 slots);
  u32 agreement();
  void encode(simd::CodeSpace &codes, u8 *work, u8 *at);

  simd::Space space_;
  Sample *sample_ = nullptr;
  u8 *bytes_ = nullptr;
  usize size_ = 0;
};

}  // namespace vexfs::vector
