// SPDX-License-Identifier: MIT
// What this processor can do at most. Twelve chains of dependent operations hide the latency of each.
#include "peak.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace vexfs::bench {
namespace {

constexpr int chains = 12;
// The compiler must neither see through the values nor keep them in memory.
#define VEXFS_OPAQUE(reg, v) asm volatile("" : "+" reg(v))

// LANES multiply-adds for each STEP(accumulator) of each chain.
#define VEXFS_PEAK(NAME, TARGET, REG, TYPE, LANES, INIT, STEP)             \
  TARGET double NAME(size_t rounds) {                                      \
    TYPE a[chains];                                                        \
    TYPE x = INIT, y = INIT;                                               \
    VEXFS_OPAQUE(REG, x);                                                  \
    VEXFS_OPAQUE(REG, y);                                                  \
    _Pragma("GCC unroll 12") for (int i = 0; i < chains; i++) a[i] = INIT; \
    for (size_t r = 0; r < rounds; r++) {                                  \
      _Pragma("GCC unroll 12") for (int i = 0; i < chains; i++) {          \
        a[i] = STEP;                                                       \
        VEXFS_OPAQUE(REG, a[i]);                                           \
      }                                                                    \
    }                                                                      \
    return static_cast<double>(rounds) * chains * (LANES);                 \
  }

#if defined(__x86_64__)
VEXFS_PEAK(f32_sse2, , "x", __m128, 4, _mm_set1_ps(0.5f), _mm_add_ps(a[i], _mm_mul_ps(x, y)))
VEXFS_PEAK(i16_sse2, , "x", __m128i, 8, _mm_set1_epi16(1), _mm_add_epi32(a[i], _mm_madd_epi16(x, y)))
#define VEXFS_AVX2 __attribute__((target("avx2,fma")))
VEXFS_PEAK(f32_avx2, VEXFS_AVX2, "x", __m256, 8, _mm256_set1_ps(0.5f), _mm256_fmadd_ps(x, y, a[i]))
VEXFS_PEAK(i16_avx2, VEXFS_AVX2, "x", __m256i, 16, _mm256_set1_epi16(1),
           _mm256_add_epi32(a[i], _mm256_madd_epi16(x, y)))
#define VEXFS_AVX512 __attribute__((target("avx512f,avx512bw")))
VEXFS_PEAK(f32_avx512, VEXFS_AVX512, "v", __m512, 16, _mm512_set1_ps(0.5f), _mm512_fmadd_ps(x, y, a[i]))
VEXFS_PEAK(i16_avx512, VEXFS_AVX512, "v", __m512i, 32, _mm512_set1_epi16(1),
           _mm512_add_epi32(a[i], _mm512_madd_epi16(x, y)))

__attribute__((target("avx2"))) uint64_t read_avx2(const void *p, size_t n) {
  const auto *v = static_cast<const __m256i *>(p);
  __m256i s[8];
#pragma GCC unroll 8
  for (size_t j = 0; j < 8; j++) s[j] = _mm256_setzero_si256();
  for (size_t i = 0; i < n / 32; i += 8) {
#pragma GCC unroll 8
    for (size_t j = 0; j < 8; j++) s[j] = _mm256_xor_si256(s[j], _mm256_load_si256(v + i + j));
  }
#pragma GCC unroll 8
  for (size_t j = 1; j < 8; j++) s[0] = _mm256_xor_si256(s[0], s[j]);
  return static_cast<uint64_t>(_mm256_extract_epi64(s[0], 0));
}
#elif defined(__aarch64__)
VEXFS_PEAK(f32_neon, , "w", float32x4_t, 4, vdupq_n_f32(0.5f), vfmaq_f32(a[i], x, y))
// Rows of 16 bits: vmlal takes four.
double i16_neon(size_t rounds) {
  int32x4_t a[chains];
  int16x4_t x = vdup_n_s16(1), y = vdup_n_s16(1);
  VEXFS_OPAQUE("w", x);
  VEXFS_OPAQUE("w", y);
#pragma GCC unroll 12
  for (int i = 0; i < chains; i++) a[i] = vdupq_n_s32(0);
  for (size_t r = 0; r < rounds; r++) {
    _Pragma("GCC unroll 12") for (int i = 0; i < chains; i++) {
      a[i] = vmlal_s16(a[i], x, y);
      VEXFS_OPAQUE("w", a[i]);
    }
  }
  return static_cast<double>(rounds) * chains * 4;
}
#endif

}  // namespace

double multiply_adds(simd::Level level, bool integers, size_t rounds) {
  switch (level) {
#if defined(__x86_64__)
    case simd::Level::sse2:
      return integers ? i16_sse2(rounds) : f32_sse2(rounds);
    case simd::Level::avx2:
      return integers ? i16_avx2(rounds) : f32_avx2(rounds);
    case simd::Level::avx512:
      return integers ? i16_avx512(rounds) : f32_avx512(rounds);
#elif defined(__aarch64__)
    case simd::Level::neon:
      return integers ? i16_neon(rounds) : f32_neon(rounds);
#endif
    default:
      return 0;
  }
}

uint64_t read_all(const void *p, size_t n) {
#if defined(__x86_64__)
  if (simd::level_supported(simd::Level::avx2)) return read_avx2(p, n);
#endif
  const auto *w = static_cast<const uint64_t *>(p);
  uint64_t s[8] = {};
  for (size_t i = 0; i < n / 8; i += 8)
    for (size_t j = 0; j < 8; j++) s[j] ^= w[i + j];
  for (size_t j = 1; j < 8; j++) s[0] ^= s[j];
  return s[0];
}

}  // namespace vexfs::bench
