// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Short codes of vectors, and distances taken on them: what a graph is walked on, before the rows themselves are asked.
//
// A row's residual from a common centre is rounded to 8 or 4 bits an element with a scale of its own (locally-adaptive
// vector quantisation, Aguerrebere et al., VLDB 2023). The scale is corrected so that inner products with the residual
// are right in the row's own direction (Gao & Long's estimator, SIGMOD 2024), and its true length is kept. Under cosine
// what is encoded is the row's direction.
//
// As in simd.h no float crosses this interface, sums of products are exact integers, and every function opens its own
// bounded FPU sections. Distances of codes are comparable among themselves: of a query to codes, of codes to codes.
#pragma once
#include "simd.h"

namespace vexfs::simd {

enum class CodeKind : u8 { none = 0, sq8 = 1, sq4 = 2 };  // as enum vexfs_codes
constexpr bool valid(CodeKind k) { return k == CodeKind::sq8 || k == CodeKind::sq4; }

// What stands before the elements of a code.
struct CodeHead {
  u32 off;    // f32: squared length of the residual (l2), minus its product with the centre (cosine, ip)
  u32 scale;  // f32: what an element's unit is worth
};
static_assert(sizeof(CodeHead) == 8);

// One prepared query. Plain view: the data must outlive it.
struct CodeQuery {
  const void *data = nullptr;  // int16 (sq8) or int8 (sq4) elements, zeros behind
  u32 base = 0;                // f32: what every distance of it has in common
  u32 scale = 0;               // f32
  s32 bias = 0;                // sq4: 15 times the sum of its elements
};

using CodeScoreFn = void (*)(const CodeQuery &query, const void *const *codes, u32 padded, u32 n, u32 *keys);

class CodeSpace {
 public:
  CodeSpace() = default;
  // inval: no such kind.
  static Result<CodeSpace> make(const Space &space, CodeKind kind);

  CodeKind kind() const { return kind_; }
  u32 bytes() const { return bytes_; }  // of a code, a multiple of 8
  usize query_bytes() const { return usize{padded_} * (kind_ == CodeKind::sq8 ? 2 : 1); }
  usize centre_bytes() const { return usize{4} * space_.dim(); }
  usize work_bytes() const { return usize{4} * space_.dim(); }

  // The mean of n >= 1 rows (of their directions, under cosine) into centre, f32. Means that overflow become 0.
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

 private:
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
