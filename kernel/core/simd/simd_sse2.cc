// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Distance kernels for SSE2: the baseline of every x86-64.
#include <emmintrin.h>

#include "level.h"

namespace vexfs::simd {
namespace {

#include "code_layouts.h"
#include "x86_finish.h"

struct EF32;
struct EF16;
struct EBF16;
struct EI8;

template <class E>
struct Widen;

struct Floats {
  static constexpr u32 lanes = 4;
  struct Acc {
    __m128 v;
  };
  struct Reg {
    __m128 v;
  };
  static Acc zero() { return {_mm_setzero_ps()}; }
  template <class E>
  static Reg load(const void *p) {
    return {Widen<E>::four(p)};
  }
  template <class E>
  static Reg load_tail(const void *p, u32 n, bool prior) {
    return {Widen<E>::tail(p, n, prior)};
  }
  template <bool L2>
  static Acc step(Acc a, Reg q, Reg x) {
    if (L2) {
      const __m128 d = _mm_sub_ps(q.v, x.v);
      return {_mm_add_ps(a.v, _mm_mul_ps(d, d))};
    }
    return {_mm_add_ps(a.v, _mm_mul_ps(q.v, x.v))};
  }
  static Acc join(Acc a, Acc b) { return {_mm_add_ps(a.v, b.v)}; }
};

template <>
struct Widen<EF32> {
  static __m128 four(const void *p) { return _mm_loadu_ps(static_cast<const float *>(p)); }
  static __m128 tail(const void *p, u32 n, bool prior) { return _mm_castsi128_ps(tail_16(p, n * 4, prior)); }
};

inline __m128i load_8(const void *p) { return _mm_loadl_epi64(static_cast<const __m128i *>(p)); }
// n < 4 16-bit elements into the low 8 bytes.
inline __m128i tail_8(const void *p, u32 n, bool prior) {
  const u8 *b = static_cast<const u8 *>(p);
  if (prior) {
    const __m128i keep = load_8(zeros_then_ones + 32 - 8 + 2 * n);
    return _mm_and_si128(load_8(b - (8 - 2 * n)), keep);
  }
  return tail_16(p, 2 * n, false);
}

// Four f16 in the low half of h. Subnormals by subtracting a normal number, so that no denormal operand slows it down.
inline __m128 f16_to_f32(__m128i h) {
  const __m128i w = _mm_unpacklo_epi16(h, _mm_setzero_si128());
  const __m128i sign = _mm_slli_epi32(_mm_and_si128(w, _mm_set1_epi32(0x8000)), 16);
  const __m128i em = _mm_slli_epi32(_mm_and_si128(w, _mm_set1_epi32(0x7fff)), 13);
  const __m128i exp = _mm_and_si128(em, _mm_set1_epi32(0x0f800000));
  const __m128i normal = _mm_add_epi32(em, _mm_set1_epi32(112 << 23));
  const __m128i top = _mm_set1_epi32(0x0f800000);
  const __m128i special = _mm_and_si128(_mm_cmpeq_epi32(exp, top), _mm_set1_epi32(112 << 23));
  const __m128i magic = _mm_set1_epi32(113 << 23);
  const __m128 small = _mm_sub_ps(_mm_castsi128_ps(_mm_add_epi32(em, magic)), _mm_castsi128_ps(magic));
  const __m128i is_small = _mm_cmpeq_epi32(exp, _mm_setzero_si128());
  const __m128i big = _mm_add_epi32(normal, special);
  const __m128i r = _mm_or_si128(_mm_and_si128(is_small, _mm_castps_si128(small)), _mm_andnot_si128(is_small, big));
  return _mm_castsi128_ps(_mm_or_si128(r, sign));
}

template <>
struct Widen<EF16> {
  static __m128 four(const void *p) { return f16_to_f32(load_8(p)); }
  static __m128 tail(const void *p, u32 n, bool prior) { return f16_to_f32(tail_8(p, n, prior)); }
};
template <>
struct Widen<EBF16> {
  static __m128 widen(__m128i h) { return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), h)); }
  static __m128 four(const void *p) { return widen(load_8(p)); }
  static __m128 tail(const void *p, u32 n, bool prior) { return widen(tail_8(p, n, prior)); }
};

struct CodeSum {
  __m128i v;
};
inline CodeSum no_sum() { return {_mm_setzero_si128()}; }

struct Bytes8 {
  static constexpr u32 lanes = 16;
  using Acc = CodeSum;
  struct Reg {
    __m128i lo, hi;
  };  // 16-bit
  static Acc zero() { return {_mm_setzero_si128()}; }
  static Reg widen(__m128i b) {
    return {_mm_srai_epi16(_mm_unpacklo_epi8(b, b), 8), _mm_srai_epi16(_mm_unpackhi_epi8(b, b), 8)};
  }
  template <class E>
  static Reg load(const void *p) {
    return widen(_mm_loadu_si128(static_cast<const __m128i *>(p)));
  }
  template <class E>
  static Reg load_tail(const void *p, u32 n, bool prior) {
    return widen(tail_16(p, n, prior));
  }
  template <bool L2>
  static Acc step(Acc a, Reg q, Reg x) {
    __m128i lo, hi;
    if (L2) {
      const __m128i dl = _mm_sub_epi16(q.lo, x.lo), dh = _mm_sub_epi16(q.hi, x.hi);
      lo = _mm_madd_epi16(dl, dl);
      hi = _mm_madd_epi16(dh, dh);
    } else {
      lo = _mm_madd_epi16(q.lo, x.lo);
      hi = _mm_madd_epi16(q.hi, x.hi);
    }
    return {_mm_add_epi32(a.v, _mm_add_epi32(lo, hi))};
  }
  static Acc join(Acc a, Acc b) { return {_mm_add_epi32(a.v, b.v)}; }
};

inline Four reduce(const Floats::Acc (&s)[4]) {
  __m128 a = s[0].v, b = s[1].v, c = s[2].v, d = s[3].v;
  _MM_TRANSPOSE4_PS(a, b, c, d);
  return {_mm_add_ps(_mm_add_ps(a, b), _mm_add_ps(c, d))};
}
inline Four reduce(const Bytes8::Acc (&s)[4]) {
  __m128 a = _mm_castsi128_ps(s[0].v), b = _mm_castsi128_ps(s[1].v), c = _mm_castsi128_ps(s[2].v),
         d = _mm_castsi128_ps(s[3].v);
  _MM_TRANSPOSE4_PS(a, b, c, d);
  const __m128i ab = _mm_add_epi32(_mm_castps_si128(a), _mm_castps_si128(b));
  const __m128i cd = _mm_add_epi32(_mm_castps_si128(c), _mm_castps_si128(d));
  return {_mm_cvtepi32_ps(_mm_add_epi32(ab, cd))};
}

inline CodeSum add_products(CodeSum a, __m128i q0, __m128i q1, Bytes8::Reg x) {
  const __m128i t = _mm_add_epi32(_mm_madd_epi16(q0, x.lo), _mm_madd_epi16(q1, x.hi));
  return {_mm_add_epi32(a.v, t)};
}
inline __m128i load_register(const u8 *p) { return _mm_loadu_si128(reinterpret_cast<const __m128i *>(p)); }

struct Sq8 : Layout8 {
  static constexpr u32 wide = 16, narrow = 16;
  struct Query {
    __m128i lo, hi;
  };
  template <u32>
  static Query load(const u8 *q) {
    return {load_register(q), load_register(q + 16)};
  }
  template <u32>
  static CodeSum step(CodeSum a, Query q, const u8 *code) {
    return add_products(a, q.lo, q.hi, Bytes8::widen(load_register(code)));
  }
};

struct Sq4 : Layout4 {
  static constexpr u32 wide = 32, narrow = 32;
  struct Query {
    Bytes8::Reg low, high;
  };
  template <u32>
  static Query load(const u8 *q) {
    return {Bytes8::widen(load_register(q)), Bytes8::widen(load_register(q + 16))};
  }
  template <u32>
  static CodeSum step(CodeSum a, Query q, const u8 *code) {
    const __m128i x = load_register(code), low = _mm_set1_epi8(15);
    a = add_products(a, q.low.lo, q.low.hi, Bytes8::widen(_mm_and_si128(x, low)));
    return add_products(a, q.high.lo, q.high.hi, Bytes8::widen(_mm_and_si128(_mm_srli_epi16(x, 4), low)));
  }
};

// Codes of few bits: plane by plane, the query from memory, which is nearer than more registers would be.
template <class Layout, u32 planes>
struct Planes : Layout {
  static constexpr u32 wide = 16 * planes, narrow = wide, bits = 8 / planes;
  struct Query {
    const u8 *at;
  };
  template <u32>
  static Query load(const u8 *q) {
    return {q};
  }
  template <u32>
  static CodeSum step(CodeSum a, Query q, const u8 *code) {
    const __m128i low = _mm_set1_epi8((1 << bits) - 1);
    __m128i x = load_register(code);
    for (u32 p = 0; p < planes; p++, x = _mm_srli_epi16(x, bits)) {
      const Bytes8::Reg with = Bytes8::widen(load_register(q.at + 16 * p));
      a = add_products(a, with.lo, with.hi, Bytes8::widen(_mm_and_si128(x, low)));
    }
    return a;
  }
};
using Rb2 = Planes<Layout2, 4>;
using Rb1 = Planes<Layout1, 8>;

#include "kernels.h"

}  // namespace

constinit const LevelOps ops_sse2 = all_ops();

}  // namespace vexfs::simd
