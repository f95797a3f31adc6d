// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The square root of the baseline instruction sets, which no math library stands behind. Private to simd/.
#pragma once
#if defined(__aarch64__)
#include <arm_neon.h>
#else
#include <emmintrin.h>
#endif

namespace vexfs::simd {
namespace {

inline __attribute__((always_inline)) double root(double x) {
#if defined(__aarch64__)
  return vget_lane_f64(vsqrt_f64(vdup_n_f64(x)), 0);
#else
  return _mm_cvtsd_f64(_mm_sqrt_pd(_mm_set1_pd(x)));
#endif
}

}  // namespace
}  // namespace vexfs::simd
