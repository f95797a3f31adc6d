// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Distance kernels for AVX-512 (F, BW, DQ, VL). Tails are masked loads, which touch no byte past the row.
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
  static constexpr u32 lanes = 16;
  struct Acc {
    __m512 v;
  };
  struct Reg {
    __m512 v;
  };
  static Acc zero() { return {_mm512_setzero_ps()}; }
  template <class E>
  static Reg load(const void *p) {
    return {Widen<E>::full(p)};
  }
  template <class E>
  static Reg load_tail(const void *p, u32 n, bool) {
    return {Widen<E>::tail(p, static_cast<__mmask16>((1u << n) - 1))};
  }
  template <bool L2>
  static Acc step(Acc a, Reg q, Reg x) {
    if (L2) {
      const __m512 d = _mm512_sub_ps(q.v, x.v);
      return {_mm512_fmadd_ps(d, d, a.v)};
    }
    return {_mm512_fmadd_ps(q.v, x.v, a.v)};
  }
  static Acc join(Acc a, Acc b) { return {_mm512_add_ps(a.v, b.v)}; }
};

template <>
struct Widen<EF32> {
  static __m512 full(const void *p) { return _mm512_loadu_ps(p); }
  static __m512 tail(const void *p, __mmask16 k) { return _mm512_maskz_loadu_ps(k, p); }
};
template <>
struct Widen<EF16> {
  static __m512 full(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i *>(p))); }
  static __m512 tail(const void *p, __mmask16 k) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(k, p)); }
};
template <>
struct Widen<EBF16> {
  static __m512 widen(__m256i h) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }
  static __m512 full(const void *p) { return widen(_mm256_loadu_si256(static_cast<const __m256i *>(p))); }
  static __m512 tail(const void *p, __mmask16 k) { return widen(_mm256_maskz_loadu_epi16(k, p)); }
};

struct Bytes8 {
  static constexpr u32 lanes = 32;
  struct Acc {
    __m512i v;
  };
  struct Reg {
    __m512i v;
  };  // 16-bit
  static Acc zero() { return {_mm512_setzero_si512()}; }
  template <class E>
  static Reg load(const void *p) {
    return {_mm512_cvtepi8_epi16(_mm256_loadu_si256(static_cast<const __m256i *>(p)))};
  }
  template <class E>
  static Reg load_tail(const void *p, u32 n, bool) {
    return {_mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(static_cast<__mmask32>((u32{1} << n) - 1), p))};
  }
  template <bool L2>
  static Acc step(Acc a, Reg q, Reg x) {
    if (L2) {
      const __m512i d = _mm512_sub_epi16(q.v, x.v);
      return {_mm512_add_epi32(a.v, _mm512_madd_epi16(d, d))};
    }
    return {_mm512_add_epi32(a.v, _mm512_madd_epi16(q.v, x.v))};
  }
  static Acc join(Acc a, Acc b) { return {_mm512_add_epi32(a.v, b.v)}; }
};

inline __m256 halves(__m512 v) { return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)); }
inline __m256i halves(__m512i v) {
  return _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
}

inline Four reduce(const Floats::Acc (&s)[4]) {
  const __m256 ab = _mm256_hadd_ps(halves(s[0].v), halves(s[1].v));
  const __m256 cd = _mm256_hadd_ps(halves(s[2].v), halves(s[3].v));
  const __m256 t = _mm256_hadd_ps(ab, cd);
  return {_mm_add_ps(_mm256_castps256_ps128(t), _mm256_extractf128_ps(t, 1))};
}
inline Four reduce(const Bytes8::Acc (&s)[4]) {
  const CodeSum halved[4] = {{halves(s[0].v)}, {halves(s[1].v)}, {halves(s[2].v)}, {halves(s[3].v)}};
  return reduce(halved);
}

#include "kernels.h"

}  // namespace

constinit const LevelOps ops_avx512 = all_ops();

}  // namespace vexfs::simd
