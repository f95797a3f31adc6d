// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Making codes of rows and of queries.
#include "codec_floats.h"
#include "level.h"

namespace vexfs::simd::codec {
namespace {

constexpr u32 judged_max = 1024;  // elements by which a step is chosen: time in an FPU section is bounded
constexpr u64 low_nibbles = 15 * every_byte;
constexpr u32 nibble_block = 32;  // elements of 16 bytes: low nibbles the first 16, high nibbles the others

// The element of a 4-bit code in units of half a step, -15..15, odd.
inline s32 odd_of(float x, float per_step) { return 2 * bounded(nearest(x * per_step + 7.5f), 0, 15) - 15; }

// Squared cosine between the residual and its 4-bit form at this step.
double likeness(const float *r, u32 dim, float per_step) {
  double with = 0, own = 0;
  for (u32 i = 0; i < dim; i++) {
    const s32 v = odd_of(r[i], per_step);
    with += static_cast<double>(r[i]) * v;
    own += static_cast<double>(v * v);
  }
  return with > 0 ? with * with / own : 0;
}

inline u8 *elements(void *code) { return static_cast<u8 *>(code) + sizeof(CodeHead); }
inline const u8 *elements(const void *code) { return static_cast<const u8 *>(code) + sizeof(CodeHead); }

void put_head(void *code, float off, float scale) {
  const CodeHead head{bits_of(off), bits_of(scale)};
  __builtin_memcpy(code, &head, sizeof head);
}

// The elements of a query, with zeros behind; gives their sum. x * per_unit is within most, but for rounding.
template <class T>
s32 fill_query(const float *x, u32 dim, u32 padded, float per_unit, s32 most, T *to) {
  s32 sum = 0;
  for (u32 i = 0; i < dim; i++) {
    const s32 v = bounded(nearest(x[i] * per_unit), -most, most);
    to[i] = static_cast<T>(v);
    sum += v;
  }
  memset(to + dim, 0, usize{padded - dim} * sizeof(T));
  return sum;
}

// Writes the elements; gives the value of a unit before correction, and the product of residual and code in it.
float fill_sq8(const float *r, u32 dim, float top, u8 *to, double *with) {
  const float per_unit = 127.0f / top;
  *with = 0;
  for (u32 i = 0; i < dim; i++) {
    const s32 v = bounded(nearest(r[i] * per_unit), -127, 127);
    to[i] = static_cast<u8>(v);
    *with += static_cast<double>(r[i]) * v;
  }
  return top / 127.0f;
}

float fill_sq4(const float *r, u32 dim, float step, u8 *to, double *with) {
  const float per_step = 1.0f / step;
  *with = 0;
  for (u32 i = 0; i < dim; i++) {
    const s32 v = odd_of(r[i], per_step);
    const u32 in = i % nibble_block;
    u8 &b = to[i / nibble_block * 16 + in % 16];
    b = static_cast<u8>(b | static_cast<u32>((v + 15) / 2) << (in < 16 ? 0 : 4));
    *with += static_cast<double>(r[i]) * v;
  }
  return step * 0.5f;
}

// Eight nibbles v as bytes 2v - 15. The top bits keep borrows apart.
inline u64 odd_bytes(u64 nibbles) { return ((nibbles * 2 | top_bits) - 15 * every_byte) ^ top_bits; }

}  // namespace

void residual(const Space &space, Element e, const void *row, u32 aux, const void *centre, void *r) {
  float *out = static_cast<float *>(r);
  const float *c = static_cast<const float *>(centre);
  convert::to_f32(e, row, out, space.dim());
  const float unit = space.metric() == Metric::cosine ? f32_of(aux) : 1.0f;
  for (u32 i = 0; i < space.dim(); i++) out[i] = out[i] * unit - c[i];
}

void add_share(const Space &space, const void *row, u32 aux, u32 n, void *centre) {
  float *c = static_cast<float *>(centre);
  const float share = (space.metric() == Metric::cosine ? f32_of(aux) : 1.0f) / static_cast<float>(n);
  constexpr u32 piece = 64;
  float x[piece];
  const u32 size = element_bytes(space.element());
  for (u32 at = 0; at < space.dim(); at += piece) {
    const u32 some = space.dim() - at < piece ? space.dim() - at : piece;
    convert::to_f32(space.element(), static_cast<const u8 *>(row) + usize{at} * size, x, some);
    for (u32 i = 0; i < some; i++) c[at + i] += x[i] * share;
  }
}

void make_finite(void *centre, u32 dim) {
  float *c = static_cast<float *>(centre);
  for (u32 i = 0; i < dim; i++)
    if (!finite(c[i])) c[i] = 0;
}

bool centre_base(const Space &space, const void *centre, u32 *base) {
  const float *c = static_cast<const float *>(centre);
  for (u32 i = 0; i < space.dim(); i++)
    if (!finite(c[i])) return false;
  float b = 0;
  if (space.metric() != Metric::l2) b = narrowed(-product(c, c, space.dim()));
  if (space.metric() == Metric::cosine) b += 1.0f;
  *base = bits_of(b);
  return true;
}

// Outliers are better cut off than paid for by all others.
bool try_step(const Space &space, const void *r, StepSearch *s) {
  constexpr float shares[] = {1.0f, 0.9f, 0.8f, 0.7f, 0.6f, 0.5f, 0.4f};
  constexpr u32 number = sizeof shares / sizeof *shares;
  const float *x = static_cast<const float *>(r);
  const u32 dim = space.dim();
  if (s->tried == 0) s->top = bits_of(greatest(x, dim));
  const float top = f32_of(s->top);
  if (s->tried == number || !(top > top_min) || !finite(top)) return false;
  const float step = shares[s->tried] * top / 7.5f;
  const double like = likeness(x, dim < judged_max ? dim : judged_max, 1.0f / step);
  if (s->tried && like <= __builtin_bit_cast(double, s->found)) return false;  // it has one peak, nearly
  s->found = __builtin_bit_cast(u64, like);
  s->step = bits_of(step);
  return ++s->tried < number;
}

void encode(const Space &space, CodeKind kind, const void *r, const void *centre, u32 padded, u32 step, void *code) {
  const float *x = static_cast<const float *>(r);
  const u32 dim = space.dim();
  u8 *to = elements(code);
  memset(to, 0, kind == CodeKind::sq8 ? padded : padded / 2);
  const float top = greatest(x, dim);
  // A residual that is nothing, or so small or so large that its share of the scale is not a float.
  if (!(top > top_min)) return put_head(code, own_part(space.metric(), x, static_cast<const float *>(centre), dim), 0);
  if (!finite(top)) return put_head(code, f32_of(infinite_bits), 0);
  const double length = product(x, x, dim);
  double with = 0;
  const float unit =
      kind == CodeKind::sq8 ? fill_sq8(x, dim, top, to, &with) : fill_sq4(x, dim, f32_of(step), to, &with);
  // with * unit is residual . code: the scale makes it residual . residual.
  const float scale = with > 0 ? narrowed(length / with) : unit;
  put_head(code, own_part(space.metric(), x, static_cast<const float *>(centre), dim), scale);
}

void prepare(const Space &space, CodeKind kind, const void *r, const void *centre, u32 base, u32 padded, void *buf,
             CodeQuery *out) {
  const float *x = static_cast<const float *>(r);
  const u32 dim = space.dim();
  // The largest that no sum of products overflows.
  s32 most = 127;
  if (kind == CodeKind::sq8) {
    most = static_cast<s32>(0x7fffffffu / (127u * padded));
    if (most > 8191) most = 8191;
  }
  float top = greatest(x, dim);
  if (!(top > top_min) || !finite(top)) top = 0;
  const float per_unit = top > 0 ? static_cast<float>(most) / top : 0;
  const u32 own = top > 0 ? dim : 0;
  const s32 sum = kind == CodeKind::sq8 ? fill_query(x, own, padded, per_unit, most, static_cast<s16 *>(buf))
                                        : fill_query(x, own, padded, per_unit, most, static_cast<s8 *>(buf));
  const float both = both_ways(space.metric());
  out->data = buf;
  out->base = bits_of(f32_of(base) + own_part(space.metric(), x, static_cast<const float *>(centre), dim));
  out->scale = bits_of(both * (top / static_cast<float>(most)));
  out->bias = kind == CodeKind::sq8 ? 0 : 15 * sum;
}

void prepare_code(const Space &space, CodeKind kind, const void *code, u32 base, u32 padded, void *buf,
                  CodeQuery *out) {
  CodeHead head;
  __builtin_memcpy(&head, code, sizeof head);
  const u8 *from = elements(code);
  s32 sum = 0;
  if (kind == CodeKind::sq8) {
    s16 *to = static_cast<s16 *>(buf);
    for (u32 i = 0; i < padded; i++) to[i] = static_cast<s16>((from[i] ^ 128) - 128);
  } else {
    u8 *to = static_cast<u8 *>(buf);
    u32 nibbles = 0;
    for (u32 i = 0; i < padded / 2; i += 8) {
      u64 eight;
      __builtin_memcpy(&eight, from + i, 8);
      const u64 lo = eight & low_nibbles, hi = (eight >> 4) & low_nibbles;
      nibbles += static_cast<u32>((lo * every_byte) >> 56) + static_cast<u32>((hi * every_byte) >> 56);
      const u64 odd[2] = {odd_bytes(lo), odd_bytes(hi)};
      u8 *at = to + i / 16 * nibble_block + i % 16;
      __builtin_memcpy(at, &odd[0], 8);
      __builtin_memcpy(at + 16, &odd[1], 8);
    }
    for (u32 i = space.dim(); i < padded; i++) to[i] = 0;
    sum = 2 * static_cast<s32>(nibbles) - 15 * static_cast<s32>(space.dim());  // nibbles behind the last are 0
  }
  const float both = both_ways(space.metric());
  out->data = buf;
  out->base = bits_of(f32_of(base) + f32_of(head.off));
  out->scale = bits_of(both * f32_of(head.scale));
  out->bias = 15 * sum;
}

}  // namespace vexfs::simd::codec
