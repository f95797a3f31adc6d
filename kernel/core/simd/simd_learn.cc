// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Means, residuals, product quantisers and projections in plain arithmetic, for the baseline instruction set. What is
// computed here is kept on disk, so it is the same code at every level.
#include "learn_kernels.h"
#include "root.h"

namespace vexfs::simd::learn_kernels {
namespace {

inline float as_float(u32 b) { return __builtin_bit_cast(float, b); }
inline u32 as_bits(float f) { return __builtin_bit_cast(u32, f); }
inline const float *floats(const void *p) { return static_cast<const float *>(p); }
inline float *floats(void *p) { return static_cast<float *>(p); }
inline u32 minimum(u32 a, u32 b) { return a < b ? a : b; }
inline u32 part_length(const PqShape &s, u32 p) { return minimum(s.part, s.dim - p * s.part); }

// Number of the codeword nearest to x, the lower of two.
inline u32 nearest(const float *words, const float *x, u32 stride, u32 n) {
  u32 best = 0;
  float least = 3.4e38f;
  for (u32 w = 0; w < 16; w++, words += stride) {
    float d = 0;
    for (u32 i = 0; i < n; i++) {
      const float e = x[i] - words[i];
      d += e * e;
    }
    if (d < least) {
      least = d;
      best = w;
    }
  }
  return best;
}

}  // namespace

void scale(void *f32, u32 dim, u32 by) {
  float *v = floats(f32);
  const float f = as_float(by);
  for (u32 i = 0; i < dim; i++) v[i] *= f;
}

bool unit_length(void *f32, u32 dim) {
  float *v = floats(f32);
  double s = 0;
  for (u32 i = 0; i < dim; i++) s += static_cast<double>(v[i]) * static_cast<double>(v[i]);
  if (!(s >= 1e-36 && s <= 1e36)) return false;
  const float f = static_cast<float>(1.0 / root(s));
  for (u32 i = 0; i < dim; i++) v[i] *= f;
  return true;
}

void add_to(void *sum, const void *v, u32 dim) {
  float *s = floats(sum);
  const float *x = floats(v);
  for (u32 i = 0; i < dim; i++) s[i] += x[i];
}

bool average(const void *sum, u32 count, bool unit, void *out, u32 dim) {
  const float *s = floats(sum);
  float *o = floats(out);
  double square = 0;
  const double f = 1.0 / static_cast<double>(count);
  for (u32 i = 0; i < dim; i++) {
    const double x = static_cast<double>(s[i]) * f;
    square += x * x;
  }
  if (!(square <= 1e36) || (unit && !(square >= 1e-36))) return false;
  const double g = unit ? f / root(square) : f;
  for (u32 i = 0; i < dim; i++) o[i] = static_cast<float>(static_cast<double>(s[i]) * g);
  return true;
}

void split(const void *v, void *a, void *b, u32 dim) {
  const float *x = floats(v);
  float *p = floats(a), *q = floats(b);
  for (u32 i = 0; i < dim; i++) {
    const float d = (i & 1 ? -x[i] : x[i]) * (1.0f / 1024), w = x[i];
    p[i] = w + d;
    q[i] = w - d;
  }
}

void subtract(const void *a, const void *b, void *out, u32 dim) {
  const float *x = floats(a), *y = floats(b);
  float *o = floats(out);
  for (u32 i = 0; i < dim; i++) o[i] = x[i] - y[i];
}

// -------------------------------------------------------------------------------------------------------- quantisers
void pq_encode(const PqShape &s, const void *codebook, const void *residual, u32 from, u32 to, u8 *code) {
  for (u32 p = from; p < to; p++) {
    const float *words = floats(codebook) + usize{p} * 16 * s.part;
    const u32 c = nearest(words, floats(residual) + usize{p} * s.part, s.part, part_length(s, p));
    if (p & 1)
      code[p / 2] = static_cast<u8>(code[p / 2] | c << 4);
    else
      code[p / 2] = static_cast<u8>(c);
  }
}

void pq_gather(const PqShape &s, const void *codebook, const void *residual, u32 from, u32 to, void *sums,
               u32 *counts) {
  for (u32 p = from; p < to; p++) {
    const float *x = floats(residual) + usize{p} * s.part;
    const u32 n = part_length(s, p);
    const u32 c = p * 16 + nearest(floats(codebook) + usize{p} * 16 * s.part, x, s.part, n);
    float *sum = floats(sums) + usize{c} * s.part;
    for (u32 i = 0; i < n; i++) sum[i] += x[i];
    counts[c]++;
  }
}

void pq_update(const PqShape &s, void *codebook, void *sums, u32 *counts, u32 from, u32 to) {
  for (u32 p = from; p < to; p++) {
    u32 *count = counts + usize{p} * 16;
    float *words = floats(codebook) + usize{p} * 16 * s.part;
    const float *sum = floats(sums) + usize{p} * 16 * s.part;
    for (u32 w = 0; w < 16; w++) {
      if (!count[w]) continue;
      const float f = 1.0f / static_cast<float>(count[w]);
      for (u32 i = 0; i < s.part; i++) words[w * s.part + i] = sum[w * s.part + i] * f;
    }
    for (u32 w = 0; w < 16; w++) {
      if (count[w]) continue;
      u32 most = 0;
      for (u32 o = 1; o < 16; o++)
        if (count[o] > count[most]) most = o;
      float *a = words + most * s.part;
      split(a, a, words + w * s.part, s.part);
      count[w] = count[most] / 2;
      count[most] -= count[w];
    }
  }
}

void pq_products(const PqShape &s, const void *codebook, const void *query, bool l2, u32 from, u32 to, void *out) {
  const float factor = l2 ? -2.0f : -1.0f;
  for (u32 p = from; p < to; p++) {
    const float *words = floats(codebook) + usize{p} * 16 * s.part, *q = floats(query) + usize{p} * s.part;
    const u32 n = part_length(s, p);
    for (u32 w = 0; w < 16; w++, words += s.part) {
      float sum = 0;
      for (u32 i = 0; i < n; i++) sum += q[i] * words[i];
      floats(out)[p * 16 + w] = factor * sum;
    }
  }
}

// One scale for all parts, the widest one's, so that entries of all parts can be summed as integers.
u32 pq_range(const PqShape &s, const void *products, PqTables *out) {
  const float *x = floats(products);
  float widest = 0, bias = 0;
  for (u32 p = 0; p < s.m; p++) {
    float lo = x[p * 16], hi = lo;
    for (u32 w = 1; w < 16; w++) {
      const float v = x[p * 16 + w];
      lo = v < lo ? v : lo;
      hi = v > hi ? v : hi;
    }
    bias += lo;
    widest = hi - lo > widest ? hi - lo : widest;
  }
  const bool usable = widest > 0 && widest < 3e38f;
  out->scale = as_bits(usable ? widest / 255.0f : 1.0f);
  out->bias = as_bits(bias);
  return as_bits(usable ? 255.0f / widest : 0.0f);
}

void pq_round(const PqShape &s, const void *products, u32 per_step, u32 from, u32 to, PqTables *out) {
  const float *x = floats(products);
  const float inverse = as_float(per_step);
  for (u32 p = from; p < to; p++) {
    float lo = p < s.m ? x[p * 16] : 0;
    for (u32 w = 1; w < 16 && p < s.m; w++) lo = x[p * 16 + w] < lo ? x[p * 16 + w] : lo;
    for (u32 w = 0; w < 16; w++) {
      const float v = p < s.m ? (x[p * 16 + w] - lo) * inverse + 0.5f : 0.0f;
      out->entries[p * 16 + w] = static_cast<u8>(v < 255.0f ? static_cast<s32>(v) : 255);
    }
  }
}

u32 pq_term(const PqShape &s, const void *codebook, const void *centroid, const u8 *code, bool l2) {
  if (!l2) return 0;
  float sum = 0;
  for (u32 p = 0; p < s.m; p++) {
    const u32 c = (p & 1) ? code[p / 2] >> 4 : code[p / 2] & 15;
    const float *r = floats(codebook) + (usize{p} * 16 + c) * s.part, *x = floats(centroid) + usize{p} * s.part;
    const u32 n = part_length(s, p);
    for (u32 i = 0; i < n; i++) sum += r[i] * (r[i] + 2.0f * x[i]);
  }
  return as_bits(sum);
}

void pq_scan_base(const u8 *entries, u32 code_bytes, const u8 *codes, const u32 *terms, u32 base, u32 scale_bits,
                  u32 bias, u32 *keys) {
  u32 sum[pq_block] = {};
  for (u32 j = 0; j < code_bytes; j++, entries += 32, codes += pq_block)
    for (u32 i = 0; i < pq_block; i++) sum[i] += u32{entries[codes[i] & 15]} + entries[16 + (codes[i] >> 4)];
  const float b = as_float(base) + as_float(bias), f = as_float(scale_bits);
  for (u32 i = 0; i < pq_block; i++) {
    const float d = b + (static_cast<float>(static_cast<s32>(sum[i])) * f + as_float(terms[i]));
    keys[i] = d == d ? key_from_f32(as_bits(d)) : key_farthest;
  }
}

// ------------------------------------------------------------------------------------------------------- projections
// Sum of 12 uniform numbers, less 6: mean 0, variance 1, near enough to normal, without a logarithm.
void random_directions(u64 *state, void *f32, u32 n) {
  for (u32 i = 0; i < n; i++) {
    s32 sum = 0;
    for (u32 j = 0; j < 3; j++) {  // splitmix64, four numbers of 16 bits each
      u64 x = *state += 0x9e3779b97f4a7c15ull;
      x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
      x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
      x ^= x >> 31;
      for (u32 k = 0; k < 4; k++) sum += static_cast<s32>((x >> (16 * k)) & 0xffff);
    }
    floats(f32)[i] = static_cast<float>(sum - 6 * 65535) * (1.0f / 65536);
  }
}

void add_moments(const u32 *ip_keys, u32 n, void *two_doubles) {
  double *m = static_cast<double *>(two_doubles);
  for (u32 i = 0; i < n; i++) {
    const double x = static_cast<double>(-as_float(f32_from_key(ip_keys[i])));
    m[0] += x;
    m[1] += x * x;
  }
}

void add_products(const u32 *ip_keys, u32 n, void *sums) {
  for (u32 i = 0; i < n; i++) floats(sums)[i] -= as_float(f32_from_key(ip_keys[i]));
}

u32 width_of(const void *two_doubles, u64 count, u32 factor_percent) {
  const double *m = static_cast<const double *>(two_doubles);
  const double n = static_cast<double>(static_cast<s64>(count)), mean = m[0] / n, variance = m[1] / n - mean * mean;
  if (!(variance > 1e-30 && variance < 1e36)) return 0;
  return as_bits(static_cast<float>(root(variance) * static_cast<double>(factor_percent) / 100.0));
}

namespace {

// Below the sign bit the bits of floats sort as the floats do, but sums are wanted: 2^20 is a square of 1.
inline u32 cost(float square) {
  const float c = square * 1048576.0f;
  return c < 4.0e9f ? static_cast<u32>(static_cast<s64>(c)) : 4000000000u;
}

}  // namespace

void project(const u32 *ip_keys, u32 n, u32 width, const u32 *offsets, s32 *hash, u32 *below, u32 *above) {
  const float inverse = width ? 1.0f / as_float(width) : 1.0f;
  float spread = 0;  // hyperplanes: lengths differ, so costs are relative to the mean square
  for (u32 i = 0; i < n && !width; i++) {
    const float x = -as_float(f32_from_key(ip_keys[i])) - as_float(offsets[i]);
    spread += x * x;
  }
  const float norm = spread > 1e-30f ? static_cast<float>(static_cast<s32>(n)) / spread : 1.0f;
  for (u32 i = 0; i < n; i++) {
    float x = -as_float(f32_from_key(ip_keys[i]));
    if (!width) {
      x -= as_float(offsets[i]);
      hash[i] = x >= 0;
      const u32 c = cost(x * x * norm);
      below[i] = x >= 0 ? c : ~u32{0};
      above[i] = x >= 0 ? ~u32{0} : c;
      continue;
    }
    float t = x * inverse + static_cast<float>(static_cast<s32>(offsets[i] >> 8)) * (1.0f / 16777216);
    t = t > -1.0e9f ? t < 1.0e9f ? t : 1.0e9f : -1.0e9f;  // a NaN becomes the lower bound
    s32 h = static_cast<s32>(t);
    if (static_cast<float>(h) > t) h--;
    const float over = t - static_cast<float>(h), under = 1.0f - over;
    hash[i] = h;
    below[i] = cost(over * over);
    above[i] = cost(under * under);
  }
}

}  // namespace vexfs::simd::learn_kernels
