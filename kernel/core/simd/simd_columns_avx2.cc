// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Ranges of columns for AVX2.
#include <immintrin.h>

#include "columns.h"

namespace vexfs::simd::column_kernels {

void keep_range32_avx2(const u32 *v, u32 n, u32 from, u32 span, u64 flip, u64 *mask) {
  const __m256i low = _mm256_set1_epi32(static_cast<int>(from)), most = _mm256_set1_epi32(static_cast<int>(span));
  for (u32 w = 0; w < n / 64; w++, v += 64) {
    u64 in = 0;
    for (u32 i = 0; i < 64; i += 8) {
      const __m256i d = _mm256_sub_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(v + i)), low);
      const __m256i le = _mm256_cmpeq_epi32(_mm256_min_epu32(d, most), d);
      in |= u64{static_cast<u32>(_mm256_movemask_ps(_mm256_castsi256_ps(le)))} << i;
    }
    mask[w] &= in ^ flip;
  }
}

// There is no unsigned comparison: with the highest bit turned it is the signed one.
void keep_range64_avx2(const u64 *v, u32 n, u64 from, u64 span, u64 flip, u64 *mask) {
  const u64 top = u64{1} << 63;
  const __m256i turn = _mm256_set1_epi64x(static_cast<long long>(top));
  const __m256i low = _mm256_set1_epi64x(static_cast<long long>(from));
  const __m256i most = _mm256_set1_epi64x(static_cast<long long>(span ^ top));
  for (u32 w = 0; w < n / 64; w++, v += 64) {
    u64 out = 0;
    for (u32 i = 0; i < 64; i += 4) {
      const __m256i d = _mm256_sub_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(v + i)), low);
      const __m256i gt = _mm256_cmpgt_epi64(_mm256_xor_si256(d, turn), most);
      out |= u64{static_cast<u32>(_mm256_movemask_pd(_mm256_castsi256_pd(gt)))} << i;
    }
    mask[w] &= ~out ^ flip;
  }
}

}  // namespace vexfs::simd::column_kernels
