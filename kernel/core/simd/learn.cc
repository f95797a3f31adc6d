// SPDX-License-Identifier: GPL-2.0-only OR MIT
// FPU sections around the kernels of learning. No floating point here.
#include "learn.h"

#include "../base/lock.h"
#include "learn_kernels.h"
#include "level.h"

namespace vexfs::simd {
namespace learn_impl {
namespace {

constexpr u32 section_parts_work = 1 << 12;  // multiplications in one section, about: a dozen instructions each
constexpr u32 section_parts = 64;            // of a table, rounded in one section
constexpr u32 section_code_bytes = 1 << 10;  // of a code, times blocks, in one section

// Calls f(from, to) over all parts, in sections, and in ascending order: the odd of two parts adds its code to the even one's byte.
template <class F>
void over_parts(const PqShape &s, F f) {
  const u32 step = max_of<u32>(1, section_parts_work / (16 * s.part));
  for (u32 from = 0; from < s.m; from += step) {
    FpuSection fpu;
    f(from, min_of(s.m, from + step));
  }
}

learn_kernels::PqScanFn pq_scan_fn() {
#if defined(__aarch64__)
  return learn_kernels::pq_scan_neon;
#else
  return level() == Level::sse2 ? learn_kernels::pq_scan_base : learn_kernels::pq_scan_avx2;
#endif
}

}  // namespace
}  // namespace learn_impl

void widen_row(const Space &space, const void *row, u32 aux, void *f32) {
  FpuSection fpu;
  convert::to_f32(space.element(), row, f32, space.dim());
  if (space.has_aux()) learn_kernels::scale(f32, space.dim(), aux);
}

void widen_query(const Space &space, const Query &q, void *f32) {
  FpuSection fpu;
  convert::to_f32(q.wide ? Element::f32 : space.element(), q.data, f32, space.dim());
  if (space.has_aux()) learn_kernels::scale(f32, space.dim(), q.aux);
}

void add_to(void *sum, const void *v, u32 dim) {
  FpuSection fpu;
  learn_kernels::add_to(sum, v, dim);
}

bool average(const void *sum, u32 count, bool unit, void *out, u32 dim) {
  FpuSection fpu;
  return learn_kernels::average(sum, count, unit, out, dim);
}

void split(const void *v, void *a, void *b, u32 dim) {
  FpuSection fpu;
  learn_kernels::split(v, a, b, dim);
}

void subtract(const void *a, const void *b, void *out, u32 dim) {
  FpuSection fpu;
  learn_kernels::subtract(a, b, out, dim);
}

bool all_finite(const void *f32, usize n) {
  const u8 *p = static_cast<const u8 *>(f32);
  u32 bad = 0;
  for (usize i = 0; i < n; i++) {
    u32 w;
    __builtin_memcpy(&w, p + 4 * i, 4);
    bad |= (w & 0x7f800000u) == 0x7f800000u;
  }
  return !bad;
}

void pq_encode(const PqShape &s, const void *codebook, const void *residual, u8 *code) {
  learn_impl::over_parts(s, [&](u32 from, u32 to) { learn_kernels::pq_encode(s, codebook, residual, from, to, code); });
}

void pq_gather(const PqShape &s, const void *codebook, const void *residual, void *sums, u32 *counts) {
  learn_impl::over_parts(
      s, [&](u32 from, u32 to) { learn_kernels::pq_gather(s, codebook, residual, from, to, sums, counts); });
}

void pq_update(const PqShape &s, void *codebook, void *sums, u32 *counts) {
  learn_impl::over_parts(s, [&](u32 from, u32 to) { learn_kernels::pq_update(s, codebook, sums, counts, from, to); });
}

void pq_seed(const PqShape &s, void *codebook, u32 number, const void *residual) {
  for (u32 p = 0; p < s.m; p++) {
    u8 *word = static_cast<u8 *>(codebook) + (usize{p} * 16 + number) * s.part * 4;
    const u32 have = min_of(s.part, s.dim - p * s.part);
    memset(word, 0, usize{s.part} * 4);
    memcpy(word, static_cast<const u8 *>(residual) + usize{p} * s.part * 4, usize{have} * 4);
  }
}

u32 pq_term(const PqShape &s, const void *codebook, const void *centroid, const u8 *code, bool l2) {
  FpuSection fpu;
  return learn_kernels::pq_term(s, codebook, centroid, code, l2);
}

void pq_tables(const PqShape &s, const void *codebook, const void *query, bool l2, void *scratch, PqTables *out) {
  learn_impl::over_parts(
      s, [&](u32 from, u32 to) { learn_kernels::pq_products(s, codebook, query, l2, from, to, scratch); });
  u32 per_step;
  {
    FpuSection fpu;
    per_step = learn_kernels::pq_range(s, scratch, out);
  }
  for (u32 from = 0; from < 2 * s.code_bytes(); from += learn_impl::section_parts) {
    FpuSection fpu;
    learn_kernels::pq_round(s, scratch, per_step, from, min_of(2 * s.code_bytes(), from + learn_impl::section_parts),
                            out);
  }
}

void pq_scan(const PqTables &t, u32 code_bytes, u32 centroid_key, const u8 *const *codes, const u32 *const *terms,
             u32 blocks, u32 *keys) {
  const learn_kernels::PqScanFn fn = learn_impl::pq_scan_fn();
  const u32 at_once = max_of<u32>(1, learn_impl::section_code_bytes / code_bytes);
  for (u32 b = 0; b < blocks;) {
    FpuSection fpu;
    for (u32 end = min_of(blocks, b + at_once); b < end; b++)
      fn(t.entries, code_bytes, codes[b], terms[b], f32_from_key(centroid_key), t.scale, t.bias,
         keys + usize{b} * pq_block);
  }
}

void random_directions(u64 seed, void *f32, u32 n, u32 dim) {
  u64 state = seed;
  for (u32 i = 0; i < n; i++) {
    FpuSection fpu;
    learn_kernels::random_directions(&state, static_cast<u8 *>(f32) + usize{i} * dim * 4, dim);
  }
}

void add_moments(const u32 *ip_keys, u32 n, void *two_doubles) {
  FpuSection fpu;
  learn_kernels::add_moments(ip_keys, n, two_doubles);
}

void add_products(const u32 *ip_keys, u32 n, void *sums) {
  FpuSection fpu;
  learn_kernels::add_products(ip_keys, n, sums);
}

u32 width_of(const void *two_doubles, u64 count, u32 factor_percent) {
  FpuSection fpu;
  return learn_kernels::width_of(two_doubles, count, factor_percent);
}

void project(const u32 *ip_keys, u32 n, u32 width, const u32 *offsets, s32 *hash, u32 *below, u32 *above) {
  FpuSection fpu;
  learn_kernels::project(ip_keys, n, width, offsets, hash, below, above);
}

}  // namespace vexfs::simd
