// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Floats as the makers of codes use them: of the baseline instruction set, in an order that is fixed. Private to simd/.
#pragma once
#include "codec.h"

namespace vexfs::simd::codec {
namespace {

constexpr float finite_max = 3.0e38f;
// Below, a residual is so small that its share of a scale is not a float.
constexpr float top_min = 1.0e-36f;
constexpr u32 infinite_bits = 0x7f800000u;
constexpr u64 every_byte = 0x0101010101010101, top_bits = 128 * every_byte;

inline float f32_of(u32 bits) { return __builtin_bit_cast(float, bits); }
inline u32 bits_of(float f) { return __builtin_bit_cast(u32, f); }
inline float magnitude(float x) { return x < 0 ? -x : x; }
inline bool finite(float x) { return magnitude(x) <= finite_max; }  // false for a NaN

// To nearest even, of |x| < 2^22.
inline s32 nearest(float x) { return static_cast<s32>(bits_of(x + 12582912.0f) - 0x4b400000u); }
inline s32 bounded(s32 v, s32 lo, s32 hi) { return v < lo ? lo : v > hi ? hi : v; }

// The greatest magnitude. Without their signs floats are in the order of their bits, with NaNs beyond infinity.
inline float greatest(const float *r, u32 dim) {
  s32 m[4] = {0, 0, 0, 0};
  const auto take = [](s32 *to, float x) {
    const s32 a = static_cast<s32>(bits_of(x) & 0x7fffffffu);
    *to = a > *to ? a : *to;
  };
  u32 i = 0;
  for (; i + 4 <= dim; i += 4)
    for (u32 j = 0; j < 4; j++) take(&m[j], r[i + j]);
  for (; i < dim; i++) take(&m[0], r[i]);
  for (u32 j = 1; j < 4; j++) m[0] = m[j] > m[0] ? m[j] : m[0];
  return f32_of(static_cast<u32>(m[0]));
}

// Sums in double: 8192 squares of the largest floats do not fit a float, and order hardly matters.
inline double product(const float *a, const float *b, u32 dim) {
  double s[4] = {0, 0, 0, 0};
  u32 i = 0;
  for (; i + 4 <= dim; i += 4)
    for (u32 j = 0; j < 4; j++) s[j] += static_cast<double>(a[i + j]) * static_cast<double>(b[i + j]);
  for (; i < dim; i++) s[0] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return (s[0] + s[1]) + (s[2] + s[3]);
}

inline float narrowed(double x) {
  return x > static_cast<double>(finite_max)    ? f32_of(infinite_bits)
         : x < -static_cast<double>(finite_max) ? f32_of(0x80000000u | infinite_bits)
                                                : static_cast<float>(x);
}

inline float own_part(Metric m, const float *r, const float *centre, u32 dim) {
  return m == Metric::l2 ? narrowed(product(r, r, dim)) : narrowed(-product(r, centre, dim));
}

// The share of a product in a distance.
inline float both_ways(Metric m) { return m == Metric::l2 ? 2.0f : 1.0f; }

}  // namespace
}  // namespace vexfs::simd::codec
