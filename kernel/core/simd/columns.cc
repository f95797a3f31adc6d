// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Ranges of columns: the plain loop, and the choice of a faster one.
#include "columns.h"

#include "../base/lock.h"

namespace vexfs::simd {
namespace columns_impl {
namespace {

// Without a branch.
template <class T>
void keep_plain(const T *v, u32 n, T from, T span, u64 flip, u64 *mask) {
  for (u32 w = 0; w < n / 64; w++, v += 64) {
    u64 in = 0;
    for (u32 i = 0; i < 64; i++) in |= u64{static_cast<T>(v[i] - from) <= span} << i;
    mask[w] &= in ^ flip;
  }
}

#if defined(__aarch64__)
// The compiler's own code for the plain loop is what there is.
bool fast(const u32 *, u32, u32, u32, u64, u64 *) { return false; }
bool fast(const u64 *, u32, u64, u64, u64, u64 *) { return false; }
#else
template <class T>
using Kernel = void (*)(const T *v, u32 n, T from, T span, u64 flip, u64 *mask);

template <class T>
bool by_level(Kernel<T> avx2, Kernel<T> avx512, const T *v, u32 n, T from, T span, u64 flip, u64 *mask) {
  const Level l = level();
  if (l == Level::sse2) return false;
  FpuSection fpu;
  (l == Level::avx512 ? avx512 : avx2)(v, n, from, span, flip, mask);
  return true;
}
bool fast(const u32 *v, u32 n, u32 from, u32 span, u64 flip, u64 *mask) {
  return by_level<u32>(column_kernels::keep_range32_avx2, column_kernels::keep_range32_avx512, v, n, from, span, flip,
                       mask);
}
bool fast(const u64 *v, u32 n, u64 from, u64 span, u64 flip, u64 *mask) {
  return by_level<u64>(column_kernels::keep_range64_avx2, column_kernels::keep_range64_avx512, v, n, from, span, flip,
                       mask);
}
#endif

template <class T>
void keep(const T *v, u32 n, T from, T span, bool outside, u64 *mask) {
  VX_ASSERT(n % 64 == 0 && n <= column_run);
  const u64 flip = outside ? ~u64{0} : 0;
  if (!fast(v, n, from, span, flip, mask)) keep_plain(v, n, from, span, flip, mask);
}

}  // namespace
}  // namespace columns_impl

void keep_range(const u32 *v, u32 n, u32 from, u32 span, bool outside, u64 *mask) {
  columns_impl::keep(v, n, from, span, outside, mask);
}

void keep_range(const u64 *v, u32 n, u64 from, u64 span, bool outside, u64 *mask) {
  columns_impl::keep(v, n, from, span, outside, mask);
}

}  // namespace vexfs::simd
