// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Distance kernels for AVX2 with FMA and F16C.
#include <immintrin.h>

#include "level.h"

namespace vexfs::simd {
namespace {

#include "x86_codes_256.h"

struct EF32;
struct EF16;
struct EBF16;
struct EI8;

template <class E>
struct Widen;

struct Floats {
  static constexpr u32 lanes = 8;
  struct Acc {
    __m256 v;
  };
  struct Reg {
    __m256 v;
  };
  static Acc zero() { return {_mm256_setzero_ps()}; }
  template <class E>
  static Reg load(const void *p) {
    return {Widen<E>::eight(p)};
  }
  template <class E>
  static Reg load_tail(const void *p, u32 n, bool prior) {
    return {Widen<E>::tail(p, n, prior)};
  }
  template <bool L2>
  static Acc step(Acc a, Reg q, Reg x) {
    if (L2) {
      const __m256 d = _mm256_sub_ps(q.v, x.v);
      return {_mm256_fmadd_ps(d, d, a.v)};
    }
    return {_mm256_fmadd_ps(q.v, x.v, a.v)};
  }
  static Acc join(Acc a, Acc b) { return {_mm256_add_ps(a.v, b.v)}; }
};

template <>
struct Widen<EF32> {
  static __m256 eight(const void *p) { return _mm256_loadu_ps(static_cast<const float *>(p)); }
  static __m256 tail(const void *p, u32 n, bool prior) {  // in the lanes where the 16-bit types have it
    const u8 *mask = prior ? zeros_then_ones + 4 * n : ones_then_zeros + 32 - 4 * n;
    const float *from = static_cast<const float *>(p) - (prior ? 8 - n : 0);
    return _mm256_maskload_ps(from, _mm256_loadu_si256(reinterpret_cast<const __m256i *>(mask)));
  }
};
template <>
struct Widen<EF16> {
  static __m256 eight(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i *>(p))); }
  static __m256 tail(const void *p, u32 n, bool prior) { return _mm256_cvtph_ps(tail_16(p, 2 * n, prior)); }
};
template <>
struct Widen<EBF16> {
  static __m256 widen(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }
  static __m256 eight(const void *p) { return widen(_mm_loadu_si128(static_cast<const __m128i *>(p))); }
  static __m256 tail(const void *p, u32 n, bool prior) { return widen(tail_16(p, 2 * n, prior)); }
};

struct Bytes8 {
  static constexpr u32 lanes = 16;
  using Acc = CodeSum;
  struct Reg {
    __m256i v;
  };  // 16-bit
  static Acc zero() { return {_mm256_setzero_si256()}; }
  template <class E>
  static Reg load(const void *p) {
    return {_mm256_cvtepi8_epi16(_mm_loadu_si128(static_cast<const __m128i *>(p)))};
  }
  template <class E>
  static Reg load_tail(const void *p, u32 n, bool prior) {
    return {_mm256_cvtepi8_epi16(tail_16(p, n, prior))};
  }
  template <bool L2>
  static Acc step(Acc a, Reg q, Reg x) {
    if (L2) {
      const __m256i d = _mm256_sub_epi16(q.v, x.v);
      return {_mm256_add_epi32(a.v, _mm256_madd_epi16(d, d))};
    }
    return {_mm256_add_epi32(a.v, _mm256_madd_epi16(q.v, x.v))};
  }
  static Acc join(Acc a, Acc b) { return {_mm256_add_epi32(a.v, b.v)}; }
};

inline Four reduce(const Floats::Acc (&s)[4]) {
  const __m256 ab = _mm256_hadd_ps(s[0].v, s[1].v), cd = _mm256_hadd_ps(s[2].v, s[3].v);
  const __m256 t = _mm256_hadd_ps(ab, cd);
  return {_mm_add_ps(_mm256_castps256_ps128(t), _mm256_extractf128_ps(t, 1))};
}

#include "kernels.h"

}  // namespace

constinit const LevelOps ops_avx2 = all_ops();

}  // namespace vexfs::simd
