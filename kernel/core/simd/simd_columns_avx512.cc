// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Ranges of columns for AVX-512, whose comparisons are unsigned and give the bits themselves.
#include <immintrin.h>

#include "columns.h"

// GCC does not unroll these loops by itself at -O2.
#if defined(__clang__)
#define VX_EACH_PART _Pragma("unroll")
#else
#define VX_EACH_PART _Pragma("GCC unroll 8")
#endif

namespace vexfs::simd::column_kernels {

void keep_range32_avx512(const u32 *v, u32 n, u32 from, u32 span, u64 flip, u64 *mask) {
  const __m512i low = _mm512_set1_epi32(static_cast<int>(from)), most = _mm512_set1_epi32(static_cast<int>(span));
  for (u32 w = 0; w < n / 64; w++, v += 64) {
    u64 in = 0;
    VX_EACH_PART
    for (u32 i = 0; i < 64; i += 16)
      in |= u64{_mm512_cmple_epu32_mask(_mm512_sub_epi32(_mm512_loadu_si512(v + i), low), most)} << i;
    mask[w] &= in ^ flip;
  }
}

void keep_range64_avx512(const u64 *v, u32 n, u64 from, u64 span, u64 flip, u64 *mask) {
  const __m512i low = _mm512_set1_epi64(static_cast<long long>(from));
  const __m512i most = _mm512_set1_epi64(static_cast<long long>(span));
  for (u32 w = 0; w < n / 64; w++, v += 64) {
    u64 in = 0;
    VX_EACH_PART
    for (u32 i = 0; i < 64; i += 8)
      in |= u64{_mm512_cmple_epu64_mask(_mm512_sub_epi64(_mm512_loadu_si512(v + i), low), most)} << i;
    mask[w] &= in ^ flip;
  }
}

}  // namespace vexfs::simd::column_kernels
