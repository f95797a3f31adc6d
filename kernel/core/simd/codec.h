// SPDX-License-Identifier: GPL-2.0-only OR MIT
// simd_codes.cc and simd_rabitq.cc: the floating point of codes. Built for the baseline instruction set, the same at every level, since
// codes are kept on disk. The caller holds an FPU section. Private to simd/; see codes.h for what things mean.
#pragma once
#include "codes.h"

namespace vexfs::simd::codec {

// centre += row / n (its direction / n under cosine).
void add_share(const Space &space, const void *row, u32 aux, u32 n, void *centre);
void make_finite(void *centre, u32 dim);
// What queries have in common by the centre. false: it is not finite.
bool centre_base(const Space &space, const void *centre, u32 *base);
// r = row (or its direction) - centre, f32.
void residual(const Space &space, Element e, const void *row, u32 aux, const void *centre, void *r);
// The step of 4-bit codes of a residual, looked for in pieces that are short enough for an FPU section each.
struct StepSearch {
  u32 tried = 0;
  u32 top = 0;    // f32: the greatest element
  u32 step = 0;   // f32: the best so far
  u64 found = 0;  // double: how alike residual and code are at it
};
// Another step. false: the best is found.
bool try_step(const Space &space, const void *r, StepSearch *s);
// step: as found; of 4-bit codes alone.
void encode(const Space &space, CodeKind kind, const void *r, const void *centre, u32 padded, u32 step, void *code);
void prepare(const Space &space, CodeKind kind, const void *r, const void *centre, u32 base, u32 padded, void *buf,
             CodeQuery *out);
void prepare_code(const Space &space, CodeKind kind, const void *code, u32 base, u32 padded, void *buf, CodeQuery *out);

// ---- of the kinds that are rotated (simd_rabitq.cc)
// What is known of a residual before it is rotated. Bits, so that it may pass through code without floats.
struct Turned {
  u32 off;     // f32, as CodeHead's
  u32 top;     // f32: the greatest element, 0: there is nothing to encode
  u64 length;  // double: squared
};
// Takes r's measure and scales it so that its greatest element is 1; zeros up to `padded`.
Turned begin_turn(const Space &space, void *r, const void *centre, u32 padded);
constexpr u32 turn_rounds = 4;
// One round of a fixed rotation of `padded` elements, a multiple of 64.
void turn(void *r, u32 padded, u32 round);
void encode_turned(CodeKind kind, const Turned &t, const void *r, u32 padded, void *code);
void prepare_turned(const Space &space, CodeKind kind, const Turned &t, const void *r, u32 base, u32 padded, void *buf,
                    CodeQuery *out);
void prepare_turned_code(const Space &space, CodeKind kind, const void *code, u32 base, u32 padded, void *buf,
                         CodeQuery *out);
// keys[i]: of a distance less so many times (in sixteenths) its standard error.
void lower(const CodeQuery &q, CodeKind kind, const void *const *codes, u32 padded, u32 n, u32 sixteenths, u32 *keys);

}  // namespace vexfs::simd::codec
