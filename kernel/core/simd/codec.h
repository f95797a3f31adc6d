// SPDX-License-Identifier: GPL-2.0-only OR MIT
// simd_codes.cc: the floating point of codes. Built for the baseline instruction set, the same at every level, since
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
void encode(const Space &space, CodeKind kind, const void *r, const void *centre, u32 padded, void *code);
void prepare(const Space &space, CodeKind kind, const void *r, const void *centre, u32 base, u32 padded, void *buf,
             CodeQuery *out);
void prepare_code(const Space &space, CodeKind kind, const void *code, u32 base, u32 padded, void *buf, CodeQuery *out);

}  // namespace vexfs::simd::codec
