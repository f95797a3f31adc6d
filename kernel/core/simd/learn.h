// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What learning from vectors computes: means, residuals, product quantisers, random projections. As in simd.h, no float
// crosses this interface (f32 arrays are void *, single ones their bits), and every function opens and closes FPU
// sections of bounded length by itself. Plain IEEE arithmetic in a fixed order: the same bits on every machine.
#pragma once
#include "simd.h"

namespace vexfs::simd {

// ---------------------------------------------------------------------------------------------------------- vectors
// A row, or a query, of the space as f32; under cosine divided by its length.
void widen_row(const Space &space, const void *row, u32 aux, void *f32);
void widen_query(const Space &space, const Query &q, void *f32);
// sum += v
void add_to(void *sum, const void *v, u32 dim);
// sum[i] / count; unit: of length 1 then. False: the length is not a number to divide by; out is as it was.
bool average(const void *sum, u32 count, bool unit, void *out, u32 dim);
// Two vectors near v, one on each side, for splitting a cluster in two. a may be v.
void split(const void *v, void *a, void *b, u32 dim);
void subtract(const void *a, const void *b, void *out, u32 dim);
// Are all of n numbers finite?
bool all_finite(const void *f32, usize n);

// ------------------------------------------------------------------------------------------------ product quantisers
// A vector is cut into m parts of `part` elements (the last one may be shorter); each is a code of 4 bits, for the nearest
// of the 16 codewords of its part. Two codes a byte: byte j has part 2j in its low bits and part 2j + 1 in its high ones.
// The codebook is f32, [part number][16][part].
struct PqShape {
  u32 dim = 0;
  u32 m = 0;     // 1..256
  u32 part = 0;  // elements: m * part >= dim, (m - 1) * part < dim
  static PqShape of(u32 dim, u32 m_wanted) {
    const u32 part = (dim + m_wanted - 1) / m_wanted;
    return {dim, (dim + part - 1) / part, part};
  }
  u32 code_bytes() const { return (m + 1) / 2; }
  usize codebook_floats() const { return usize{m} * 16 * part; }
};
constexpr u32 pq_block = 32;  // codes that are scanned at a time

void pq_encode(const PqShape &s, const void *codebook, const void *residual, u8 *code);
// Adds the residual to the sums of the codewords that are nearest to its parts (sums as the codebook, counts m * 16).
void pq_gather(const PqShape &s, const void *codebook, const void *residual, void *sums, u32 *counts);
// New codewords from sums and counts. A codeword that nothing is near to becomes a neighbour of the fullest one.
void pq_update(const PqShape &s, void *codebook, void *sums, u32 *counts);
// Makes the parts of the residual codeword `number` of their codebooks.
void pq_seed(const PqShape &s, void *codebook, u32 number, const void *residual);
// What a code adds to the distance besides its product with the query (f32 bits): under l2, with r the residual as it is
// coded and c the centroid, |c + r|^2 - |c|^2; else 0.
u32 pq_term(const PqShape &s, const void *codebook, const void *centroid, const u8 *code, bool l2);

// A query, prepared for scans: for each part 16 entries of 8 bits. A product is bias + scale * (sum of entries).
struct PqTables {
  u8 *entries = nullptr;    // 16 * 2 * code_bytes
  u32 scale = 0, bias = 0;  // f32 bits
};
// scratch: 16 * 2 * code_bytes f32.
void pq_tables(const PqShape &s, const void *codebook, const void *query, bool l2, void *scratch, PqTables *out);
// Distances of one block. codes: byte j of code i at j * pq_block + i; terms: those of pq_term. keys[i] =
// key(centroid's distance + product + term).
void pq_scan(const PqTables &t, u32 code_bytes, u32 centroid_key, const u8 *const *codes, const u32 *const *terms,
             u32 blocks, u32 *keys);

// ------------------------------------------------------------------------------------------------ random projections
// n directions: elements from about a normal distribution, by seed.
void random_directions(u64 seed, void *f32, u32 n, u32 dim);
// Sums of x and of x^2 over n products, given as keys of the inner product (simd::Space, ip) of the directions.
void add_moments(const u32 *ip_keys, u32 n, void *two_doubles);
// Where width = factor * (standard deviation) of `count` products, f32 bits; 0: the spread is nothing, or no number.
u32 width_of(const void *two_doubles, u64 count, u32 factor_percent);
// sums[i] += x[i], f32
void add_products(const u32 *ip_keys, u32 n, void *sums);
// The hash of each product x: width 0: x >= offset (f32 bits); else floor((x + offset * width) / width), offset of 2^32
// in 0..1.
// below[i], above[i]: what changing the hash by -1 and +1 costs, the square of how far x is from there, in an integer
// scale; ~0: there is no such neighbour.
void project(const u32 *ip_keys, u32 n, u32 width, const u32 *offsets, s32 *hash, u32 *below, u32 *above);

}  // namespace vexfs::simd
