// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Distances between vectors, as integers: the one door to floating point.
//
// No float crosses this interface: vectors are `const void *`, single floats are u32 bit patterns, and a distance is an
// order-preserving u32 key (unsigned integer order = float order), so that heaps, visited sets and graph walks never
// touch the FPU. Every function here opens and closes its own FPU sections, each bounded (at most section_rows rows and
// about section_bytes bytes), so callers stay preemptible, may hold spin locks, and must not be inside an FPU section.
//
// Distances (smaller is nearer), computed in f32 with a summation order that is fixed per instruction set, so kernel
// and host give the same bits at the same level; batch and scan forms give the same bits as each other:
//   l2      sum (q - x)^2
//   cosine  1 - (q . x) / (|q| |x|), clamped to 0..2; a row's 1/|x| is its `aux` word, kept by the owner of the rows
//   ip      -(q . x)
// int8 sums are exact integers, rounded once to f32. An overflow counts as +infinity, the farthest.
//
// Queries: f32 queries against f16/bf16 rows stay f32 (rows are widened, nothing of the query is lost). Against int8
// rows a query is int8 itself: an f32 query is rounded to nearest even and refused when it leaves -128..127.
#pragma once
#include "../base/lock.h"
#include "../base/result.h"
#include "../platform.h"

namespace vexfs::simd {

// Numbers as in the ABI (enum vexfs_element, vexfs_metric, vexfs_simd).
enum class Element : u8 { f32 = 1, f16 = 2, bf16 = 3, int8 = 4 };
enum class Metric : u8 { l2 = 1, cosine = 2, ip = 3 };
enum class Level : u8 { sse2 = 1, avx2 = 2, avx512 = 3, neon = 4 };

constexpr u32 dim_max = 8192;
constexpr u32 section_rows = 64;             // rows scored in one FPU section, at most
constexpr usize section_bytes = 128 * 1024;  // row bytes touched in one section (but never less than 4 rows)
// What a row or code weighs in a section besides its bytes: it lies anywhere, and its caller has to find the next ones.
constexpr usize scored_weight = 384;
constexpr usize query_align = 64;  // alignment wanted for query buffers (not required)

constexpr bool valid(Element e) { return e >= Element::f32 && e <= Element::int8; }
constexpr bool valid(Metric m) { return m >= Metric::l2 && m <= Metric::ip; }
constexpr u32 element_bytes(Element e) { return e == Element::f32 ? 4 : e == Element::int8 ? 1 : 2; }

// ---------------------------------------------------------------------------------------------------- level in use
// Picks the best level the CPU and host allow and tests it against the baseline; on a mismatch warns and takes the
// next lower one. Call once before anything else (vx_core_init does). Idempotent; not to be raced with itself.
void init();
Level level();
const char *level_name(Level);
u32 level_width_bits(Level);
// For tests and benchmarks: opnotsupp when the CPU lacks it. Spaces made before keep their old level.
Status force_level(Level);
bool level_supported(Level);

// ------------------------------------------------------------------------------------------------------------ keys
// f32 bits -> key: flips so that unsigned order is float order (-inf < ... < -0 = +0 < ... < +inf).
constexpr u32 key_from_f32(u32 bits) {
  if (bits == 0x80000000u) bits = 0;
  return (bits & 0x80000000u) ? ~bits : bits | 0x80000000u;
}
constexpr u32 f32_from_key(u32 key) { return (key & 0x80000000u) ? key & 0x7fffffffu : ~key; }
constexpr u32 key_farthest = 0xffffffffu;  // larger than every distance's key

// ----------------------------------------------------------------------------------------------------------- query
// One prepared query, or a stored row used as one (Space::row_query). Plain view: the data must outlive it.
struct Query {
  const void *data = nullptr;
  u32 aux = 0;        // f32 bits of 1/|q| (cosine), else 0
  bool wide = false;  // data is f32 although rows are f16/bf16
};

using ScoreFn = void (*)(const void *query, u32 qaux, const void *const *rows, const u32 *aux, u32 dim, u32 n,
                         u32 *keys);
using ScanFn = void (*)(const void *query, u32 qaux, const void *base, usize stride, const u32 *aux, u32 dim, u32 n,
                        u32 *keys);
struct Kernels {  // of one (element, metric, query form) at one level
  ScoreFn score;
  ScanFn scan;
};

// A vector space: element type, metric and dimension, resolved once to function pointers. Copyable, immutable.
class Space {
 public:
  Space() = default;
  // inval: unknown element or metric, dim 0 or above dim_max.
  static Result<Space> make(Element e, Metric m, u32 dim);

  Element element() const { return element_; }
  Metric metric() const { return metric_; }
  u32 dim() const { return dim_; }
  usize row_bytes() const { return row_bytes_; }  // dim * element size, no padding
  bool has_aux() const { return metric_ == Metric::cosine; }
  // Bytes prepare_query may write.
  usize query_bytes() const { return element_ == Element::int8 ? dim_ : usize{4} * dim_; }

  // ---- bringing vectors in and out (any alignment)
  // Checks a row in the space's own element type and computes its aux word (0 unless cosine). inval: NaN, infinity,
  // and under cosine a length outside 1e-18 .. 1e18 (the zero vector included).
  Status check_row(const void *row, u32 *aux) const;
  // f32 -> row: to nearest even. inval: as check_row, or a value that rounds out of the element type's range.
  Status encode_row(const void *f32, void *row, u32 *aux) const;
  void decode_row(const void *row, void *f32) const;
  // A query given as `from` (f32, or the space's own element) into buf of query_bytes(). inval: as check_row, or
  // another element type.
  Status prepare_query(const void *src, Element from, void *buf, Query *out) const;
  Query row_query(const void *row, u32 aux) const { return {row, aux, false}; }

  // ---- scoring
  // keys[i] = distance of q to rows[i]. aux[i]: the rows' aux words; may be null unless has_aux(). Rows may lie
  // anywhere; the following rows are prefetched while one is scored. Rows must be resident (no page faults).
  void score(const Query &q, const void *const *rows, const u32 *aux, u32 n, u32 *keys) const {
    FpuHold fpu;
    score(q, rows, aux, n, keys, fpu);
  }
  // The same in a section that may be open already, and stays so.
  void score(const Query &q, const void *const *rows, const u32 *aux, u32 n, u32 *keys, FpuHold &fpu) const;
  // The same for n rows at base, base + stride, ...
  void scan(const Query &q, const void *base, usize stride, const u32 *aux, u32 n, u32 *keys) const;
  // Several queries over one run of rows, tile by tile so that rows are read from memory once:
  // keys[j * key_stride + i] = distance of q[j] to row i.
  void scan_many(const Query *q, u32 nq, const void *base, usize stride, const u32 *aux, u32 n, u32 *keys,
                 usize key_stride) const;
  u32 score_one(const Query &q, const void *row, u32 aux) const {
    u32 key;
    score(q, &row, &aux, 1, &key);
    return key;
  }

 private:
  Kernels narrow_{}, wide_{};
  usize row_bytes_ = 0;
  u32 dim_ = 0;
  u32 section_rows_ = 0;
  Element element_ = Element::f32;
  Metric metric_ = Metric::l2;
};

// Fetches the cache lines of a row that will be scored soon: the first `lines` of them.
inline void prefetch(const void *p, usize bytes, u32 lines) {
  const u8 *c = static_cast<const u8 *>(p);
  u32 n = static_cast<u32>(min_of<usize>((bytes + 63) / 64, lines));
  for (u32 i = 0; i < n; i++) __builtin_prefetch(c + 64 * i);
}

}  // namespace vexfs::simd
