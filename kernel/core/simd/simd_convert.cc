// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Element conversions, the check for NaN and infinity, and row lengths. Built for the baseline instruction set, the
// same code at every level: what it computes is kept on disk.
#include "level.h"
#include "root.h"

namespace vexfs::simd::convert {
namespace {

template <class T>
inline T load(const void *p, u32 i) {
  T v;
  __builtin_memcpy(&v, static_cast<const u8 *>(p) + usize{i} * sizeof(T), sizeof(T));
  return v;
}
template <class T>
inline void store(void *p, u32 i, T v) {
  __builtin_memcpy(static_cast<u8 *>(p) + usize{i} * sizeof(T), &v, sizeof(T));
}
inline float as_float(u32 b) { return __builtin_bit_cast(float, b); }
inline u32 as_bits(float f) { return __builtin_bit_cast(u32, f); }

inline u32 f16_to_f32(u16 h) {
  const u32 sign = (u32{h} & 0x8000u) << 16;
  const u32 em = (u32{h} & 0x7fffu) << 13;
  const u32 exp = em & 0x0f800000u;
  if (exp == 0) return as_bits(as_float(em + (113u << 23)) - as_float(113u << 23)) | sign;
  if (exp == 0x0f800000u) return (em + (224u << 23)) | sign;
  return (em + (112u << 23)) | sign;
}

// To nearest even; *ok = false for NaN, infinity, and values that round beyond 65504.
inline u16 f32_to_f16(u32 x, bool *ok) {
  const u32 sign = x & 0x80000000u;
  x ^= sign;
  if (x >= 0x477ff000u) {
    *ok = false;
    return 0;
  }
  u32 h;
  if (x < 0x38800000u)  // below the least normal f16: adding 0.5 rounds at the right bit
    h = as_bits(as_float(x) + 0.5f) - 0x3f000000u;
  else
    h = (x - (112u << 23) + 0xfffu + ((x >> 13) & 1)) >> 13;
  return static_cast<u16>(h | sign >> 16);
}

inline u16 f32_to_bf16(u32 x, bool *ok) {
  if ((x & 0x7fffffffu) >= 0x7f7f8000u) {  // would round to infinity, or is one, or a NaN
    *ok = false;
    return 0;
  }
  return static_cast<u16>((x + 0x7fffu + ((x >> 16) & 1)) >> 16);
}

inline s8 f32_to_int8(u32 x, bool *ok) {
  const float f = as_float(x);
  if (!(f >= -128.5f && f < 127.5f)) {
    *ok = false;
    return 0;
  }
  return static_cast<s8>(
      static_cast<s32>(as_bits(f + 12582912.0f) - 0x4b400000u));  // 1.5 * 2^23: rounds to nearest even
}

inline float element(Element e, const void *row, u32 i) {
  switch (e) {
    case Element::f32:
      return load<float>(row, i);
    case Element::f16:
      return as_float(f16_to_f32(load<u16>(row, i)));
    case Element::bf16:
      return as_float(u32{load<u16>(row, i)} << 16);
    case Element::int8:
      return static_cast<float>(load<s8>(row, i));
  }
  return 0;
}

// Element i goes to sum i % 4.
template <Element E>
double square_sum(const void *row, u32 dim) {
  double s[4] = {0, 0, 0, 0};
  u32 i = 0;
  for (; i + 4 <= dim; i += 4)
    for (u32 j = 0; j < 4; j++) {
      const double v = element(E, row, i + j);
      s[j] += v * v;
    }
  for (u32 j = 0; i < dim; i++, j++) {
    const double v = element(E, row, i);
    s[j] += v * v;
  }
  return (s[0] + s[1]) + (s[2] + s[3]);
}

}  // namespace

bool finite(Element e, const void *row, u32 dim) {
  u32 bad = 0;
  switch (e) {
    case Element::f32:
      for (u32 i = 0; i < dim; i++) bad |= (load<u32>(row, i) & 0x7f800000u) == 0x7f800000u;
      break;
    case Element::f16:
      for (u32 i = 0; i < dim; i++) bad |= (load<u16>(row, i) & 0x7c00u) == 0x7c00u;
      break;
    case Element::bf16:
      for (u32 i = 0; i < dim; i++) bad |= (load<u16>(row, i) & 0x7f80u) == 0x7f80u;
      break;
    case Element::int8:
      break;
  }
  return bad == 0;
}

bool from_f32(Element e, const void *f32, void *row, u32 dim) {
  bool ok = true;
  switch (e) {
    case Element::f32:
      ok = finite(e, f32, dim);
      if (ok && row != f32) __builtin_memcpy(row, f32, usize{dim} * 4);
      break;
    case Element::f16:
      for (u32 i = 0; i < dim; i++) store(row, i, f32_to_f16(load<u32>(f32, i), &ok));
      break;
    case Element::bf16:
      for (u32 i = 0; i < dim; i++) store(row, i, f32_to_bf16(load<u32>(f32, i), &ok));
      break;
    case Element::int8:
      for (u32 i = 0; i < dim; i++) store(row, i, f32_to_int8(load<u32>(f32, i), &ok));
      break;
  }
  return ok;
}

void to_f32(Element e, const void *row, void *f32, u32 dim) {
  switch (e) {
    case Element::f32:
      __builtin_memcpy(f32, row, usize{dim} * 4);
      break;
    case Element::f16:
      for (u32 i = 0; i < dim; i++) store(f32, i, f16_to_f32(load<u16>(row, i)));
      break;
    case Element::bf16:
      for (u32 i = 0; i < dim; i++) store(f32, i, u32{load<u16>(row, i)} << 16);
      break;
    case Element::int8:
      for (u32 i = 0; i < dim; i++) store(f32, i, static_cast<float>(load<s8>(row, i)));
      break;
  }
}

bool inverse_norm(Element e, const void *row, u32 dim, u32 *aux) {
  double s = 0;
  switch (e) {
    case Element::f32:
      s = square_sum<Element::f32>(row, dim);
      break;
    case Element::f16:
      s = square_sum<Element::f16>(row, dim);
      break;
    case Element::bf16:
      s = square_sum<Element::bf16>(row, dim);
      break;
    case Element::int8:
      s = square_sum<Element::int8>(row, dim);
      break;
  }
  if (!(s >= 1e-36 && s <= 1e36)) return false;
  *aux = as_bits(static_cast<float>(1.0 / root(s)));
  return true;
}

}  // namespace vexfs::simd::convert
