// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Distance kernels for NEON (AArch64's base instruction set).
#include <arm_neon.h>

#include "level.h"

namespace vexfs::simd {
namespace {

struct EF32;
struct EF16;
struct EBF16;
struct EI8;

struct Four {
  float32x4_t v;
};

inline void fetch(const void *p) { __builtin_prefetch(p); }

template <Metric M>
inline __attribute__((always_inline)) void finish(Four s, u32 qaux, const u32 *aux, u32 *keys) {
  float32x4_t d;
  if (M == Metric::cosine) {
    const float32x4_t scale =
        vmulq_f32(vreinterpretq_f32_u32(vdupq_n_u32(qaux)), vreinterpretq_f32_u32(vld1q_u32(aux)));
    d = vsubq_f32(vdupq_n_f32(1.0f), vmulq_f32(s.v, scale));
    d = vmaxq_f32(vminnmq_f32(d, vdupq_n_f32(2.0f)), vdupq_n_f32(0.0f));  // minnm takes the number beside a NaN
  } else {
    d = M == Metric::ip ? vsubq_f32(vdupq_n_f32(0.0f), s.v) : s.v;
    d = vbslq_f32(vceqq_f32(d, d), d, vreinterpretq_f32_u32(vdupq_n_u32(0x7f800000u)));
  }
  const uint32x4_t b = vreinterpretq_u32_f32(d);
  const uint32x4_t sign = vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_u32(b), 31));
  vst1q_u32(keys, veorq_u32(b, vorrq_u32(sign, vdupq_n_u32(0x80000000u))));
}

// n < W bytes into a zeroed register image of W bytes.
template <u32 W>
struct Image {
  alignas(16) u8 b[W] = {};
  Image(const void *p, u32 n) {
    const u8 *s = static_cast<const u8 *>(p);
    for (u32 i = 0; i < n; i++) b[i] = s[i];
  }
};

template <class E>
struct Widen;

struct Floats {
  static constexpr u32 lanes = 4;
  struct Acc {
    float32x4_t v;
  };
  struct Reg {
    float32x4_t v;
  };
  static Acc zero() { return {vdupq_n_f32(0.0f)}; }
  template <class E>
  static Reg load(const void *p) {
    return {Widen<E>::four(p)};
  }
  template <class E>
  static Reg load_tail(const void *p, u32 n, bool) {
    Image<16> image(p, n * E::size);
    return {Widen<E>::four(image.b)};
  }
  template <bool L2>
  static Acc step(Acc a, Reg q, Reg x) {
    if (L2) {
      const float32x4_t d = vsubq_f32(q.v, x.v);
      return {vfmaq_f32(a.v, d, d)};
    }
    return {vfmaq_f32(a.v, q.v, x.v)};
  }
  static Acc join(Acc a, Acc b) { return {vaddq_f32(a.v, b.v)}; }
};

inline uint8x8_t load_8(const void *p) { return vld1_u8(static_cast<const u8 *>(p)); }
inline uint8x16_t load_16(const void *p) { return vld1q_u8(static_cast<const u8 *>(p)); }

template <>
struct Widen<EF32> {
  static float32x4_t four(const void *p) { return vreinterpretq_f32_u8(load_16(p)); }
};
template <>
struct Widen<EF16> {
  static float32x4_t four(const void *p) { return vcvt_f32_f16(vreinterpret_f16_u8(load_8(p))); }
};
template <>
struct Widen<EBF16> {
  static float32x4_t four(const void *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(load_8(p)), 16));
  }
};

struct Bytes8 {
  static constexpr u32 lanes = 16;
  struct Acc {
    uint32x4_t v;
  };
  struct Reg {
    int8x16_t v;
  };
  static Acc zero() { return {vdupq_n_u32(0)}; }
  template <class E>
  static Reg load(const void *p) {
    return {vreinterpretq_s8_u8(load_16(p))};
  }
  template <class E>
  static Reg load_tail(const void *p, u32 n, bool) {
    Image<16> image(p, n);
    return {vreinterpretq_s8_u8(load_16(image.b))};
  }
  template <bool L2>
  static Acc step(Acc a, Reg q, Reg x) {
    if (L2) {
      const uint8x16_t d = vreinterpretq_u8_s8(vabdq_s8(q.v, x.v));  // 0..255 as unsigned
      const uint32x4_t t = vpadalq_u16(a.v, vmull_u8(vget_low_u8(d), vget_low_u8(d)));
      return {vpadalq_u16(t, vmull_high_u8(d, d))};
    }
    const int32x4_t t = vpadalq_s16(vreinterpretq_s32_u32(a.v), vmull_s8(vget_low_s8(q.v), vget_low_s8(x.v)));
    return {vreinterpretq_u32_s32(vpadalq_s16(t, vmull_high_s8(q.v, x.v)))};
  }
  static Acc join(Acc a, Acc b) { return {vaddq_u32(a.v, b.v)}; }
};

inline Four reduce(const Floats::Acc (&s)[4]) {
  return {vpaddq_f32(vpaddq_f32(s[0].v, s[1].v), vpaddq_f32(s[2].v, s[3].v))};
}
inline Four reduce(const Bytes8::Acc (&s)[4]) {
  const uint32x4_t t = vpaddq_u32(vpaddq_u32(s[0].v, s[1].v), vpaddq_u32(s[2].v, s[3].v));
  return {vcvtq_f32_s32(vreinterpretq_s32_u32(t))};
}

#include "code_layouts.h"

struct CodeSum {
  int32x4_t v;
};
inline CodeSum no_sum() { return {vdupq_n_s32(0)}; }
inline Four reduce(const CodeSum (&s)[4]) {
  return {vcvtq_f32_s32(vpaddq_s32(vpaddq_s32(s[0].v, s[1].v), vpaddq_s32(s[2].v, s[3].v)))};
}

struct Sq8 : Layout8 {
  static constexpr u32 wide = 16, narrow = 16;
  struct Query {
    int16x8_t lo, hi;
  };
  template <u32>
  static Query load(const u8 *q) {
    return {vreinterpretq_s16_u8(load_16(q)), vreinterpretq_s16_u8(load_16(q + 16))};
  }
  template <u32>
  static CodeSum step(CodeSum a, Query q, const u8 *code) {
    const int8x16_t x = vreinterpretq_s8_u8(load_16(code));
    const int16x8_t lo = vmovl_s8(vget_low_s8(x)), hi = vmovl_high_s8(x);
    int32x4_t t = vmlal_s16(a.v, vget_low_s16(q.lo), vget_low_s16(lo));
    t = vmlal_high_s16(t, q.lo, lo);
    t = vmlal_s16(t, vget_low_s16(q.hi), vget_low_s16(hi));
    return {vmlal_high_s16(t, q.hi, hi)};
  }
};

struct Sq4 : Layout4 {
  static constexpr u32 wide = 32, narrow = 32;
  struct Query {
    int8x16_t low, high;
  };
  template <u32>
  static Query load(const u8 *q) {
    return {vreinterpretq_s8_u8(load_16(q)), vreinterpretq_s8_u8(load_16(q + 16))};
  }
  template <u32>
  static CodeSum step(CodeSum a, Query q, const u8 *code) {
    const uint8x16_t x = load_16(code);
    const int8x16_t lo = vreinterpretq_s8_u8(vandq_u8(x, vdupq_n_u8(15))), hi = vreinterpretq_s8_u8(vshrq_n_u8(x, 4));
    // 15 * 127 * 2 * 2 fits 16 bits.
    int16x8_t t = vmlal_s8(vmull_s8(vget_low_s8(q.low), vget_low_s8(lo)), vget_low_s8(q.high), vget_low_s8(hi));
    const int32x4_t s = vpadalq_s16(a.v, t);
    t = vmlal_high_s8(vmull_high_s8(q.low, lo), q.high, hi);
    return {vpadalq_s16(s, t)};
  }
};

// Codes of few bits, plane by plane: `planes` products of 127 * 3, or of 127 at most, fit 16 bits.
template <class Layout, u32 planes>
struct Planes : Layout {
  static constexpr u32 wide = 16 * planes, narrow = wide, bits = 8 / planes;
  struct Query {
    int8x16_t v[planes];
  };
  template <u32>
  static Query load(const u8 *q) {
    Query x;
    for (u32 p = 0; p < planes; p++) x.v[p] = vreinterpretq_s8_u8(load_16(q + 16 * p));
    return x;
  }
  template <u32>
  static CodeSum step(CodeSum a, const Query &q, const u8 *code) {
    uint8x16_t x = load_16(code);
    int16x8_t lo = vdupq_n_s16(0), hi = lo;
    for (u32 p = 0; p < planes; p++, x = vshrq_n_u8(x, bits)) {
      const int8x16_t u = vreinterpretq_s8_u8(vandq_u8(x, vdupq_n_u8((1 << bits) - 1)));
      lo = vmlal_s8(lo, vget_low_s8(q.v[p]), vget_low_s8(u));
      hi = vmlal_high_s8(hi, q.v[p], u);
    }
    return {vpadalq_s16(vpadalq_s16(a.v, lo), hi)};
  }
};
using Rb2 = Planes<Layout2, 4>;
using Rb1 = Planes<Layout1, 8>;

// Of four codes: what stands before their elements.
struct FourHeads {
  float32x4_t off, scale;
};
template <bool packed>
inline __attribute__((always_inline)) FourHeads load_heads(const u8 *const *codes) {
  if constexpr (packed) {
    u32 word[4];
    for (u32 i = 0; i < 4; i++) __builtin_memcpy(&word[i], codes[i], sizeof word[i]);
    const uint32x4_t h = vld1q_u32(word);
    constexpr int low = short_scale_bits;
    return {vreinterpretq_f32_u32(vshlq_n_u32(vshrq_n_u32(h, low), low)),
            vreinterpretq_f32_u32(vshrq_n_u32(vshlq_n_u32(h, 32 - low), 1))};
  }
  CodeHead h[4];
  for (u32 i = 0; i < 4; i++) __builtin_memcpy(&h[i], codes[i], sizeof h[i]);
  const uint32x4x2_t heads = vld2q_u32(&h[0].off);
  return {vreinterpretq_f32_u32(heads.val[0]), vreinterpretq_f32_u32(heads.val[1])};
}

template <class C>
inline __attribute__((always_inline)) void finish_codes(Four dot, const CodeQuery &q, const u8 *const *codes,
                                                        u32 *keys) {
  const FourHeads h = load_heads<C::packed>(codes);
  const auto everywhere = [](u32 bits) { return vreinterpretq_f32_u32(vdupq_n_u32(bits)); };
  float32x4_t sum = dot.v;
  if (C::doubled) sum = vsubq_f32(vaddq_f32(sum, sum), vcvtq_f32_s32(vdupq_n_s32(q.bias)));
  const float32x4_t with = vmulq_f32(vmulq_f32(everywhere(q.scale), h.scale), sum);
  const float32x4_t own = vaddq_f32(everywhere(q.base), h.off);
  finish<Metric::l2>(Four{vsubq_f32(own, with)}, 0, nullptr, keys);
}

#include "kernels.h"

}  // namespace

constinit const LevelOps ops_neon = all_ops();

}  // namespace vexfs::simd
