// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Products of codes in 256-bit registers, for every level that has them. Included inside an anonymous namespace.
#pragma once
#include "code_layouts.h"
#include "x86_finish.h"

struct CodeSum {
  __m256i v;
};
inline CodeSum no_sum() { return {_mm256_setzero_si256()}; }
inline CodeSum add_words(CodeSum a, __m256i v) { return {_mm256_add_epi32(a.v, v)}; }
inline Four reduce(const CodeSum (&s)[4]) {
  const __m256i ab = _mm256_hadd_epi32(s[0].v, s[1].v), cd = _mm256_hadd_epi32(s[2].v, s[3].v);
  const __m256i t = _mm256_hadd_epi32(ab, cd);
  return {_mm_cvtepi32_ps(_mm_add_epi32(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1)))};
}

struct Sq8 : Layout8 {
  static constexpr u32 wide = 16, narrow = 16;
  struct Query {
    __m256i v;
  };
  template <u32>
  static Query load(const u8 *q) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i *>(q))};
  }
  template <u32>
  static CodeSum step(CodeSum a, Query q, const u8 *code) {
    const __m256i x = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i *>(code)));
    return add_words(a, _mm256_madd_epi16(q.v, x));
  }
};

struct Sq4 : Layout4 {
  static constexpr u32 wide = 64, narrow = 32;
  struct Query {
    __m256i lo, hi;  // narrow: lo alone, in order
  };
  template <u32 N>
  static Query load(const u8 *q) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(q));
    if constexpr (N == narrow) return {a, a};
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(q + 32));
    return {_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31)};
  }
  template <u32 N>
  static CodeSum step(CodeSum a, Query q, const u8 *code) {
    const __m256i ones = _mm256_set1_epi16(1);
    if constexpr (N == narrow) {
      const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i *>(code)), low = _mm_set1_epi8(15);
      const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_and_si128(x, low)),
                                                   _mm_and_si128(_mm_srli_epi16(x, 4), low), 1);
      return add_words(a, _mm256_madd_epi16(_mm256_maddubs_epi16(both, q.lo), ones));
    }
    // 15 * 127 * 2 * 2 fits 16 bits.
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(code)), low = _mm256_set1_epi8(15);
    const __m256i l = _mm256_maddubs_epi16(_mm256_and_si256(x, low), q.lo);
    const __m256i h = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(x, 4), low), q.hi);
    return add_words(a, _mm256_madd_epi16(_mm256_add_epi16(l, h), ones));
  }
};

struct Rb2 : Layout2 {
  static constexpr u32 wide = 128, narrow = 64;
  struct Query {
    __m256i v[4];  // narrow: the first two, in order
  };
  static __m256i halves_of(const u8 *lo, const u8 *hi) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i *>(lo))),
                                   _mm_loadu_si128(reinterpret_cast<const __m128i *>(hi)), 1);
  }
  template <u32 N>
  static Query load(const u8 *q) {
    if constexpr (N == narrow) {
      const __m256i a = halves_of(q, q + 16), b = halves_of(q + 32, q + 48);
      return {{a, b, a, b}};
    }
    return {{halves_of(q, q + 64), halves_of(q + 16, q + 80), halves_of(q + 32, q + 96), halves_of(q + 48, q + 112)}};
  }
  static __m256i part(__m256i bits, __m256i q) {
    return _mm256_maddubs_epi16(_mm256_and_si256(bits, _mm256_set1_epi8(3)), q);
  }
  template <u32 N>
  static CodeSum step(CodeSum a, Query q, const u8 *code) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i t;
    if constexpr (N == narrow) {
      const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i *>(code));
      const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(x), _mm_srli_epi16(x, 2), 1);
      t = _mm256_add_epi16(part(both, q.v[0]), part(_mm256_srli_epi16(both, 4), q.v[1]));
    } else {
      // 3 * 127 * 2 * 4 fits 16 bits.
      const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(code));
      t = _mm256_add_epi16(
          _mm256_add_epi16(part(x, q.v[0]), part(_mm256_srli_epi16(x, 2), q.v[1])),
          _mm256_add_epi16(part(_mm256_srli_epi16(x, 4), q.v[2]), part(_mm256_srli_epi16(x, 6), q.v[3])));
    }
    return add_words(a, _mm256_madd_epi16(t, ones));
  }
};

struct Rb1 : Layout1 {
  static constexpr u32 wide = 128, narrow = 128;
  struct Query {
    __m256i v[4];
  };
  template <u32>
  static Query load(const u8 *q) {
    Query x;
    for (u32 i = 0; i < 4; i++) x.v[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(q + 32 * i));
    return x;
  }
  static __m256i part(__m256i bits, __m256i q) {
    return _mm256_maddubs_epi16(_mm256_and_si256(bits, _mm256_set1_epi8(1)), q);
  }
  template <u32>
  static CodeSum step(CodeSum a, Query q, const u8 *code) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i *>(code));
    const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(x), _mm_srli_epi16(x, 1), 1);
    const __m256i lo = _mm256_add_epi16(part(both, q.v[0]), part(_mm256_srli_epi16(both, 2), q.v[1]));
    const __m256i hi =
        _mm256_add_epi16(part(_mm256_srli_epi16(both, 4), q.v[2]), part(_mm256_srli_epi16(both, 6), q.v[3]));
    return add_words(a, _mm256_madd_epi16(_mm256_add_epi16(lo, hi), _mm256_set1_epi16(1)));
  }
};
