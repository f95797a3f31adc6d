// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Making codes of 2 bits or 1 bit an element: a rotation, then of each element its sign, and for 2 bits whether it is a
// large one.
//
// The rotation is that of the RaBitQ library (FhtKac): rounds of random signs and a fast Walsh-Hadamard transform; where the
// length is no power of two the transform takes its first or its last part in turn, and a step of Kac's walk mixes the
// halves. Which signs is a hash of the place: codes are kept on disk, so it is the same everywhere and always.
#include "../base/bits.h"
#include "codec_floats.h"
#include "root.h"

namespace vexfs::simd::codec {
namespace {

typedef float Four4 __attribute__((vector_size(16)));
typedef s32 Words4 __attribute__((vector_size(16)));

constexpr float root_half = 0.70710678f;

inline Four4 load4(const float *p) {
  Four4 v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline void store4(float *p, Four4 v) { __builtin_memcpy(p, &v, sizeof v); }

inline Four4 flipped(Four4 v, Words4 signs) { return reinterpret_cast<Four4>(reinterpret_cast<Words4>(v) ^ signs); }

constexpr s32 minus = static_cast<s32>(0x80000000u);

// splitmix64's finaliser.
u64 mixed(u64 x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

void flip_signs(float *x, u32 n, u32 round) {
  for (u32 i = 0; i < n; i += 64) {
    u64 bits = mixed(u64{round} << 32 | i);
    for (u32 j = i; j < i + 64; j += 4, bits >>= 4) {
      const u32 b = static_cast<u32>(bits);
      const Words4 signs = {static_cast<s32>(b << 31), static_cast<s32>(b >> 1 << 31), static_cast<s32>(b >> 2 << 31),
                            static_cast<s32>(b >> 3 << 31)};
      store4(x + j, flipped(load4(x + j), signs));
    }
  }
}

// n: a power of two, 8 or more. Not scaled.
void hadamard(float *x, u32 n) {
  constexpr Words4 odd = {0, minus, 0, minus}, upper = {0, 0, minus, minus};
  for (u32 i = 0; i < n; i += 4) {
    Four4 v = load4(x + i);
    v = __builtin_shufflevector(v, v, 1, 0, 3, 2) + flipped(v, odd);
    v = __builtin_shufflevector(v, v, 2, 3, 0, 1) + flipped(v, upper);
    store4(x + i, v);
  }
  for (u32 h = 4; h < n; h *= 2)
    for (u32 i = 0; i < n; i += 2 * h)
      for (u32 j = i; j < i + h; j += 4) {
        const Four4 a = load4(x + j), b = load4(x + j + h);
        store4(x + j, a + b);
        store4(x + j + h, a - b);
      }
}

void scale_by(float *x, u32 n, float by) {
  for (u32 i = 0; i < n; i += 4) store4(x + i, load4(x + i) * by);
}

void kac_step(float *x, u32 n) {
  const u32 half = n / 2;
  for (u32 i = 0; i < half; i += 4) {
    const Four4 a = load4(x + i), b = load4(x + half + i);
    store4(x + i, (a + b) * root_half);
    store4(x + half + i, (a - b) * root_half);
  }
}

// 1 / sqrt(n) of a power of two.
float inverse_root(u32 n) {
  float f = 1;
  for (; n >= 4; n /= 4) f *= 0.5f;
  return n == 2 ? f * root_half : f;
}

// ------------------------------------------------------------------------------------------------------------ elements
constexpr u32 planes_of(CodeKind kind) { return 8 / element_bits(kind); }
constexpr s32 most_of(CodeKind kind) { return kind == CodeKind::rabitq2 ? 3 : 1; }

// Which elements are large: those from some multiple of the root of their mean square up, the one by which code and
// residual are most alike. Found among sixteenths of it.
struct Threshold {
  float per_bin;
  s32 from;
  s32 bin(float x) const {
    const s32 b = static_cast<s32>(magnitude(x) * per_bin);
    return b < bins ? b : bins - 1;
  }
  bool large(float x) const { return bin(x) >= from; }
  static constexpr s32 bins = 48;
};

Threshold best_threshold(const float *x, u32 n) {
  const double square = product(x, x, n);
  Threshold t{static_cast<float>(16 / root(square / n)), Threshold::bins};
  float sum[Threshold::bins] = {};
  u32 count[Threshold::bins] = {};
  double with = 0;
  for (u32 i = 0; i < n; i++) {
    const s32 b = t.bin(x[i]);
    sum[b] += magnitude(x[i]);
    count[b]++;
    with += static_cast<double>(magnitude(x[i]));
  }
  double best = with * with / n, own = n;
  for (s32 b = Threshold::bins - 1; b >= 0; b--) {
    with += static_cast<double>(2 * sum[b]);
    own += 8 * count[b];
    if (with * with <= best * own) continue;
    best = with * with / own;
    t.from = b;
  }
  return t;
}

// Adds an element of `bits` bits to a code: in 16 bytes, byte j has elements j, 16 + j, ... from the lowest bits up.
inline void put_element(u8 *to, u32 i, u32 planes, u32 value) {
  const u32 in = i % (16 * planes);
  u8 &b = to[i / (16 * planes) * 16 + in % 16];
  b = static_cast<u8>(b | value << (in / 16 * (8 / planes)));
}

void put_short_head(void *code, u32 off, u32 scale) {
  constexpr u32 low = short_scale_bits, half = u32{1} << (low - 1);
  const u32 s = (scale + (u32{1} << (30 - low))) >> (31 - low);
  const ShortHead head{((off + half) >> low << low) | (s & ((u32{1} << low) - 1))};
  __builtin_memcpy(code, &head, sizeof head);
}

ShortHead head_of(const void *code) {
  ShortHead h;
  __builtin_memcpy(&h, code, sizeof h);
  return h;
}

inline u64 load8(const u8 *p) {
  u64 v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

// Squared length of a code's elements.
u32 own_square(CodeKind kind, const u8 *elements, u32 padded) {
  if (kind == CodeKind::rabitq1) return padded;
  u32 large = 0;  // both bits alike
  for (u32 i = 0; i < padded / 4; i += 8) {
    const u64 v = load8(elements + i);
    large += popcount(~(v ^ (v >> 1)) & 0x5555555555555555);
  }
  return padded + 8 * large;
}

// 1 - the squared cosine between a rotated residual and its code: what random directions give (1 - 2/pi for signs alone),
// and a tenth more, since those of one length vary.
constexpr double unlike(CodeKind kind) { return kind == CodeKind::rabitq1 ? 0.40 : 0.13; }

// What a product of two codes is taken for. The errors of rows that are near each other are alike, so that it is too large:
// the more so the nearer they are, up to one part in the squared cosine (signs: asin for the cosine). A graph is made of
// near ones, but not of equal ones: half of that is taken off.
constexpr float alike(CodeKind kind) { return kind == CodeKind::rabitq1 ? 0.82f : 0.94f; }

}  // namespace

Turned begin_turn(const Space &space, void *r, const void *centre, u32 padded) {
  float *x = static_cast<float *>(r);
  const u32 dim = space.dim();
  for (u32 i = dim; i < padded; i++) x[i] = 0;
  const float top = greatest(x, dim);
  Turned t{bits_of(own_part(space.metric(), x, static_cast<const float *>(centre), dim)), 0, 0};
  if (!(top > top_min) || !finite(top)) return t;
  t.top = bits_of(top);
  t.length = __builtin_bit_cast(u64, product(x, x, dim));
  const float by = 1.0f / top;
  for (u32 i = 0; i < dim; i++) x[i] *= by;
  return t;
}

void turn(void *r, u32 padded, u32 round) {
  float *x = static_cast<float *>(r);
  flip_signs(x, padded, round);
  u32 part = 64;
  while (part * 2 <= padded) part *= 2;
  float *from = round % 2 ? x + (padded - part) : x;
  hadamard(from, part);
  scale_by(from, part, inverse_root(part));
  if (part != padded) kac_step(x, padded);
}

void encode_turned(CodeKind kind, const Turned &t, const void *r, u32 padded, void *code) {
  const float *x = static_cast<const float *>(r);
  u8 *to = static_cast<u8 *>(code) + sizeof(ShortHead);
  memset(to, 0, padded * element_bits(kind) / 8);
  // What is not a finite length has no direction: the farthest of all.
  if (!t.top) return put_short_head(code, finite(f32_of(t.off)) ? t.off : infinite_bits, 0);
  const Threshold threshold = kind == CodeKind::rabitq2 ? best_threshold(x, padded) : Threshold{};
  const u32 planes = planes_of(kind);
  const s32 most = most_of(kind);
  double with = 0;
  for (u32 i = 0; i < padded; i++) {
    const s32 large = kind == CodeKind::rabitq2 && threshold.large(x[i]) ? 3 : 1;
    const s32 v = x[i] < 0 ? -large : large;
    with += static_cast<double>(x[i]) * v;
    put_element(to, i, planes, static_cast<u32>((v + most) / 2));
  }
  // The scale makes of code . residual the residual's squared length.
  const double length = __builtin_bit_cast(double, t.length);
  const float scale = narrowed(length / (with * static_cast<double>(f32_of(t.top))));
  put_short_head(code, t.off, bits_of(scale));
}

void prepare_turned(const Space &space, CodeKind kind, const Turned &t, const void *r, u32 base, u32 padded, void *buf,
                    CodeQuery *out) {
  const float *x = static_cast<const float *>(r);
  constexpr s32 finest = 127;
  s8 *to = static_cast<s8 *>(buf);
  const float top = t.top ? greatest(x, padded) : 0;
  const float per_unit = top > 0 ? static_cast<float>(finest) / top : 0;
  s32 sum = 0;
  for (u32 i = 0; i < padded; i++) {
    const s32 v = top > 0 ? bounded(nearest(x[i] * per_unit), -finest, finest) : 0;
    to[i] = static_cast<s8>(v);
    sum += v;
  }
  const float both = both_ways(space.metric()), true_top = f32_of(t.top);
  out->data = buf;
  out->base = bits_of(f32_of(base) + f32_of(t.off));
  out->scale = bits_of(both * (top / static_cast<float>(finest)) * true_top);
  out->bias = most_of(kind) * sum;
  // An error is the query's part in a direction that chance has chosen among padded - 1.
  const double length = root(__builtin_bit_cast(double, t.length)) * static_cast<double>(both);
  out->error = bits_of(narrowed(length * root(unlike(kind) / (padded - 1))));
}

void prepare_turned_code(const Space &space, CodeKind kind, const void *code, u32 base, u32 padded, void *buf,
                         CodeQuery *out) {
  const ShortHead head = head_of(code);
  const u8 *from = static_cast<const u8 *>(code) + sizeof(ShortHead);
  u8 *to = static_cast<u8 *>(buf);
  const u32 bits = element_bits(kind), planes = planes_of(kind);
  const u64 low = ((u64{1} << bits) - 1) * every_byte, most = static_cast<u64>(most_of(kind)) * every_byte;
  u32 units = 0;
  for (u32 i = 0; i < padded / planes; i += 8) {
    u64 v = load8(from + i);
    u8 *at = to + i / 16 * 16 * planes + i % 16;
    for (u32 p = 0; p < planes; p++, v >>= bits, at += 16) {
      const u64 u = v & low, odd = ((u * 2 | top_bits) - most) ^ top_bits;  // the top bits keep borrows apart
      units += static_cast<u32>((u * every_byte) >> 56);
      __builtin_memcpy(at, &odd, sizeof odd);
    }
  }
  const s32 sum = 2 * static_cast<s32>(units) - most_of(kind) * static_cast<s32>(padded);
  out->data = buf;
  out->base = bits_of(f32_of(base) + f32_of(head.off()));
  out->scale = bits_of(both_ways(space.metric()) * alike(kind) * f32_of(head.scale()));
  out->bias = most_of(kind) * sum;
  out->error = infinite_bits;  // two errors come together, which have more in common the nearer the rows are
}

void lower(const CodeQuery &q, CodeKind kind, const void *const *codes, u32 padded, u32 n, u32 sixteenths, u32 *keys) {
  const float share = static_cast<float>(sixteenths) * 0.0625f * f32_of(q.error);
  for (u32 i = 0; i < n; i++) {
    const u8 *elements = static_cast<const u8 *>(codes[i]) + sizeof(ShortHead);
    const float length = static_cast<float>(root(own_square(kind, elements, padded)));
    const float error = share * (length * f32_of(head_of(codes[i]).scale()));
    keys[i] = finite(error) ? key_from_f32(bits_of(f32_of(f32_from_key(keys[i])) - error)) : 0;
  }
}

}  // namespace vexfs::simd::codec
