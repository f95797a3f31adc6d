// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The floating-point side of learn.h. The caller holds an FPU section. Private to simd/.
#pragma once
#include "learn.h"

namespace vexfs::simd::learn_kernels {

void scale(void *f32, u32 dim, u32 by);
bool unit_length(void *f32, u32 dim);
void add_to(void *sum, const void *v, u32 dim);
bool average(const void *sum, u32 count, bool unit, void *out, u32 dim);
void split(const void *v, void *a, void *b, u32 dim);
void subtract(const void *a, const void *b, void *out, u32 dim);

// Parts [from, to) of a vector.
void pq_encode(const PqShape &s, const void *codebook, const void *residual, u32 from, u32 to, u8 *code);
void pq_gather(const PqShape &s, const void *codebook, const void *residual, u32 from, u32 to, void *sums, u32 *counts);
void pq_update(const PqShape &s, void *codebook, void *sums, u32 *counts, u32 from, u32 to);
void pq_products(const PqShape &s, const void *codebook, const void *query, bool l2, u32 from, u32 to, void *out);
u32 pq_term(const PqShape &s, const void *codebook, const void *centroid, const u8 *code, bool l2);
// Scale and bias of the tables; gives what pq_round() of all their parts, those behind the last that is used too, needs.
u32 pq_range(const PqShape &s, const void *products, PqTables *out);
void pq_round(const PqShape &s, const void *products, u32 per_step, u32 from, u32 to, PqTables *out);

void random_directions(u64 *state, void *f32, u32 n);
void add_moments(const u32 *ip_keys, u32 n, void *two_doubles);
void add_products(const u32 *ip_keys, u32 n, void *sums);
u32 width_of(const void *two_doubles, u64 count, u32 factor_percent);
void project(const u32 *ip_keys, u32 n, u32 width, const u32 *offsets, s32 *hash, u32 *below, u32 *above);

// Sums of table entries for the 32 codes of a block, then keys: key(base + (bias + scale * sum) + term).
using PqScanFn = void (*)(const u8 *entries, u32 code_bytes, const u8 *codes, const u32 *terms, u32 base, u32 scale,
                          u32 bias, u32 *keys);
void pq_scan_base(const u8 *entries, u32 code_bytes, const u8 *codes, const u32 *terms, u32 base, u32 scale, u32 bias,
                  u32 *keys);
void pq_scan_avx2(const u8 *entries, u32 code_bytes, const u8 *codes, const u32 *terms, u32 base, u32 scale, u32 bias,
                  u32 *keys);
void pq_scan_neon(const u8 *entries, u32 code_bytes, const u8 *codes, const u32 *terms, u32 base, u32 scale, u32 bias,
                  u32 *keys);

}  // namespace vexfs::simd::learn_kernels
