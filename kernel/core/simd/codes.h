// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Short codes of vectors, and distances taken on them: what a graph is walked on, before the rows themselves are asked.
//
// A row's residual from a common centre is rounded to 8 or 4 bits an element with a scale of its own (locally-adaptive
// vector quantisation, Aguerrebere et al., VLDB 2023). The scale is corrected so that inner products with the residual
// are right in the row's own direction (Gao & Long's estimator, SIGMOD 2024), and its true length is kept. Under cosine
// what is encoded is the row's direction.
//
// With 2 bits or 1 bit an element the residual is rotated first, by a rotation that is always the same (RaBitQ, Gao & Long,
// SIGMOD 2024; Gao et al., SIGMOD 2025): whatever the rows are like, an error is then spread over all elements by chance, so
// that the estimate is unbiased and its error has a bound that is known.
//
// As in simd.h no float crosses this interface, sums of products are exact integers, and every function opens its own
// bounded FPU sections. Distances of codes are comparable among themselves: of a query to codes, of codes to codes.
#pragma once
#include "simd.h"

namespace vexfs::simd {

namespace codec {
struct Turned;
}

enum class CodeKind : u8 { none = 0, sq8 = 1, sq4 = 2, rabitq1 = 3, rabitq2 = 4 };  // as enum vexfs_codes
constexpr bool valid(CodeKind k) { return k >= CodeKind::sq8 && k <= CodeKind::rabitq2; }
constexpr bool rotated(CodeKind k) { return k >= CodeKind::rabitq1; }
constexpr u32 element_bits(CodeKind k) {
  return k == CodeKind::sq8 ? 8 : k == CodeKind::sq4 ? 4 : k == CodeKind::rabitq2 ? 2 : 1;
}
// Elements of a code are padded to so many; rotated ones fill them all.
constexpr u32 element_block(CodeKind k) { return 128 / element_bits(k); }

// What stands before the elements of a code.
struct CodeHead {
  u32 off;    // f32: squared length of the residual (l2), minus its product with the centre (cosine, ip)
  u32 scale;  // f32: what an element's unit is worth
};
static_assert(sizeof(CodeHead) == 8);
// The same before those of 1 or 2 bits, in a word: less exact than floats are, and far more than such elements.
constexpr u32 short_scale_bits = 14;  // exponent and 6 bits of a float that is not negative, below off's upper bits
struct ShortHead {
  u32 word;
  u32 off() const { return word >> short_scale_bits << short_scale_bits; }
  u32 scale() const { return (word & ((u32{1} << short_scale_bits) - 1)) << (31 - short_scale_bits); }
};
static_assert(sizeof(ShortHead) == 4);
constexpr u32 head_bytes(CodeKind k) { return rotated(k) ? sizeof(ShortHead) : sizeof(CodeHead); }

// One prepared query. Plain view: the data must outlive it.
struct CodeQuery {
  const void *data = nullptr;  // int16 (sq8) or int8 elements, zeros behind
  u32 base = 0;                // f32: what every distance of it has in common
  u32 scale = 0;               // f32
  s32 bias = 0;                // but sq8: 15 (sq4), 3 or 1 times the sum of its elements
  u32 error = 0;               // f32, rotated kinds: standard error of a distance for a code of length 1
};

using CodeScoreFn = void (*)(const CodeQuery &query, const void *const *codes, u32 padded, u32 n, u32 *keys);

class CodeSpace {
 public:
  CodeSpace() = default;
  // inval: no such kind.
  static Result<CodeSpace> make(const Space &space, CodeKind kind);

  CodeKind kind() const { return kind_; }
  u32 bytes() const { return bytes_; }  // of a code, a multiple of 4
  usize query_bytes() const { return usize{padded_} * (kind_ == CodeKind::sq8 ? 2 : 1); }
  usize centre_bytes() const { return usize{4} * space_.dim(); }
  usize work_bytes() const { return usize{4} * (rotated(kind_) ? padded_ : space_.dim()); }

  // The mean of n >= 1 rows (of their directions, under cosine) into centre, f32, but for those that lie more than eight
  // times as far from a row among the others as is usual (a quarter at most; by distances, whose last bits depend on the level).
  // Means that overflow become 0. May sleep.
  void average(const void *const *rows, const u32 *aux, u32 n, void *centre) const;
  // Uses the centre from now on; its memory stays the caller's and unchanged. inval: not finite.
  Status set_centre(const void *centre);

  // work: work_bytes(), here and below.
  void encode(const void *row, u32 aux, void *work, void *code) const;
  // buf: query_bytes(). q is of the space.
  void prepare(const Query &q, void *work, void *buf, CodeQuery *out) const;
  void prepare_code(const void *code, void *buf, CodeQuery *out) const;

  // keys[i] = distance of q to codes[i]. Codes need no alignment beyond 4, and may hold anything.
  void score(const CodeQuery &q, const void *const *codes, u32 n, u32 *keys) const {
    FpuHold fpu;
    score(q, codes, n, keys, fpu);
  }
  // The same in a section that may be open already, and stays so.
  void score(const CodeQuery &q, const void *const *codes, u32 n, u32 *keys, FpuHold &fpu) const;

  // Of a rotated kind: by how much the true distance may be smaller is known. keys[i], codes[i]'s score of a query (not of a
  // code), becomes the key of what the true distance falls below by chance only: the score less so many (sixteenths)
  // standard errors, about. A code that makes no sense has no bound: 0.
  bool has_bound() const { return rotated(kind_); }
  void lower(const CodeQuery &q, const void *const *codes, u32 n, u32 sixteenths, u32 *keys) const;
  // The bits of CodeHead::off.
  u32 off(const void *code) const;
  // The rotation itself, in place, of padded() floats.
  u32 padded() const { return padded_; }
  void rotate(void *floats) const;

 private:
  codec::Turned turn_residual(void *work) const;

  Space space_;
  CodeScoreFn score_ = nullptr;
  const void *centre_ = nullptr;
  u32 base_ = 0;  // f32: of every query
  u32 padded_ = 0;
  u32 bytes_ = 0;
  u32 section_codes_ = 0;
  CodeKind kind_ = CodeKind::none;
};

}  // namespace vexfs::simd
