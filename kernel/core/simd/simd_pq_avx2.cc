// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Scanning of 4-bit codes by table lookups in registers (Andre, Kermarrec, Le Scouarnec 2015, 2017) for AVX2. AVX-512
// uses it as well: blocks are of 32 codes.
#include <immintrin.h>

#include "learn_kernels.h"

namespace vexfs::simd::learn_kernels {
namespace {

// Eight sums of 16 bits to keys. No fused multiplication: the baseline gives the same bits.
inline __attribute__((always_inline)) void finish(__m128i sum, const u32 *terms, __m256 base, __m256 scale, u32 *keys) {
  const __m256 s = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(sum));
  const __m256 t = _mm256_loadu_ps(reinterpret_cast<const float *>(terms));
  const __m256 d = _mm256_add_ps(base, _mm256_add_ps(_mm256_mul_ps(s, scale), t));
  const __m256 zero = _mm256_setzero_ps();
  const __m256i b = _mm256_castps_si256(_mm256_add_ps(d, zero));  // -0 becomes 0
  const __m256i flip = _mm256_or_si256(_mm256_srai_epi32(b, 31), _mm256_set1_epi32(static_cast<int>(0x80000000u)));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(d, d, _CMP_UNORD_Q));
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(keys), _mm256_or_si256(_mm256_xor_si256(b, flip), nan));
}

}  // namespace

void pq_scan_avx2(const u8 *entries, u32 code_bytes, const u8 *codes, const u32 *terms, u32 base, u32 scale_bits,
                  u32 bias, u32 *keys) {
  const __m256i low = _mm256_set1_epi8(15), even = _mm256_set1_epi16(255);
  // Sums of codes 0, 2, 4 ... and 1, 3, 5 ... of the block, 16 bits each: at most 256 entries of 8 bits.
  __m256i sum0 = _mm256_setzero_si256(), sum1 = _mm256_setzero_si256();
  for (u32 j = 0; j < code_bytes; j++, entries += 32, codes += pq_block) {
    const __m256i c = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(codes));
    const __m256i t = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(entries));
    const __m256i t0 = _mm256_permute2x128_si256(t, t, 0x00), t1 = _mm256_permute2x128_si256(t, t, 0x11);
    const __m256i a = _mm256_shuffle_epi8(t0, _mm256_and_si256(c, low));
    const __m256i b = _mm256_shuffle_epi8(t1, _mm256_and_si256(_mm256_srli_epi16(c, 4), low));
    sum0 = _mm256_add_epi16(sum0, _mm256_add_epi16(_mm256_and_si256(a, even), _mm256_and_si256(b, even)));
    sum1 = _mm256_add_epi16(sum1, _mm256_add_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8)));
  }
  const __m256 from = _mm256_set1_ps(__builtin_bit_cast(float, base) + __builtin_bit_cast(float, bias));
  const __m256 scale_all = _mm256_set1_ps(__builtin_bit_cast(float, scale_bits));
  const __m256i lo = _mm256_unpacklo_epi16(sum0, sum1), hi = _mm256_unpackhi_epi16(sum0, sum1);
  finish(_mm256_castsi256_si128(lo), terms, from, scale_all, keys);
  finish(_mm256_castsi256_si128(hi), terms + 8, from, scale_all, keys + 8);
  finish(_mm256_extracti128_si256(lo, 1), terms + 16, from, scale_all, keys + 16);
  finish(_mm256_extracti128_si256(hi, 1), terms + 24, from, scale_all, keys + 24);
}

}  // namespace vexfs::simd::learn_kernels
