// SPDX-License-Identifier: GPL-2.0-only OR MIT
// From a recall that is wanted to the breadth of a search.
#include "recall_curve.h"

#include "../uapi.h"

namespace vexfs::vector {
namespace recall_curve_impl {
namespace {

// A row that a walk looks at costs as much as this many of an exact scan, which meets them in order.
constexpr u32 walked_cost = 2;

// The first of the measured k that is not less than k; classes: none.
u32 class_of(u32 k) {
  u32 c = 0;
  while (c < RecallCurve::classes && RecallCurve::neighbours[c] < k) c++;
  return c;
}

}  // namespace
}  // namespace recall_curve_impl

// Of k = neighbours[c]. Between two breadths the line between them counts: the recall lies above it.
u32 RecallCurve::needed(u32 c, u32 recall, bool *reached) const {
  const u32 wanted = recall * (recall_scale / recall_all), k = neighbours[c];
  u32 i = 0;
  while (i < tried && sure[c][i] < wanted) i++;
  *reached = i < tried;
  if (!*reached) return tried ? max_of(breadth[tried - 1], k) : k;
  if (i == 0 || breadth[i - 1] < k) return breadth[i];
  const u32 low = sure[c][i - 1], high = sure[c][i], step = breadth[i] - breadth[i - 1];
  return breadth[i - 1] + div_up((wanted - low) * step, high - low);
}

RecallChoice RecallCurve::choose(u32 k, u32 recall) const {
  if (recall >= recall_all) return {.exact = true};
  if (!measured()) return recall_guess(k, recall);
  const u32 c = recall_curve_impl::class_of(k);
  bool reached = false;
  u32 ef = needed(min_of(c, classes - 1), recall, &reached);
  if (c == classes) {
    ef = static_cast<u32>(min_of<u64>(div_up<u64>(u64{ef} * k, neighbours[classes - 1]), VEXFS_EF_MAX));
  } else if (c >= 2 && k < neighbours[c]) {
    bool ignored;
    const u32 less = min_of(needed(c - 1, recall, &ignored), ef);
    ef = less + div_up((ef - less) * (k - neighbours[c - 1]), neighbours[c] - neighbours[c - 1]);
  }
  if (!reached && slots <= u64{walked} * recall_curve_impl::walked_cost) return {.exact = true};
  return {.exact = false, .ef = max_of(ef, k)};
}

u32 RecallCurve::reached(u32 k, u32 ef) const {
  const u32 c = min_of(recall_curve_impl::class_of(k), classes - 1);
  constexpr u32 unit = recall_scale / recall_all;
  u32 i = 0;
  while (i < tried && breadth[i] <= ef) i++;
  if (i == 0) return 0;
  const u32 low = mean[c][i - 1], high = i < tried ? mean[c][i] : low;
  if (i == tried || !low || high <= low) return low / unit;
  return (low + (high - low) * (ef - breadth[i - 1]) / (breadth[i] - breadth[i - 1])) / unit;
}

RecallChoice recall_guess(u32 k, u32 recall) {
  if (recall >= recall_all) return {.exact = true};
  const u32 times = recall <= 900 ? 8 : recall <= 950 ? 16 : recall <= 990 ? 32 : 64;
  return {.exact = false, .ef = max_of(k, min_of(max_of<u32>(k, 10) * times, recall_breadth_max))};
}

}  // namespace vexfs::vector
