// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What each instruction-set file provides, and the conversions that all of them share. Private to simd/.
#pragma once
#include "codes.h"

namespace vexfs::simd {

constexpr u32 element_count = 4;
constexpr u32 metric_count = 3;
constexpr u32 code_kind_count = 4;

// GCC does not unroll these loops by itself at -O2, and then keeps the accumulators in memory.
#if defined(__clang__)
#define VX_EACH_ROW _Pragma("unroll")
#else
#define VX_EACH_ROW _Pragma("GCC unroll 4")
#endif

// Every kernel of one instruction set.
struct LevelOps {
  Kernels narrow[element_count][metric_count];  // query in the rows' own element type
  Kernels wide[element_count][metric_count];    // f32 query; empty for f32 and int8
  CodeScoreFn codes[code_kind_count];           // by CodeKind, from 1
};
const LevelOps &ops_at(Level l);
extern const LevelOps ops_sse2;
extern const LevelOps ops_avx2;
extern const LevelOps ops_avx512;
extern const LevelOps ops_neon;

// simd_convert.cc. The same bits at every level and on every architecture, since aux words and converted rows are
// kept on disk. Caller holds an FPU section. dim <= dim_max.
namespace convert {
bool finite(Element e, const void *row, u32 dim);
// false: a value is NaN, infinite, or rounds out of the range of e. The row is then partly written.
bool from_f32(Element e, const void *f32, void *row, u32 dim);
void to_f32(Element e, const void *row, void *f32, u32 dim);
// f32 bits of 1/|x|, summed in double. false: |x| is not within 1e-18 .. 1e18.
bool inverse_norm(Element e, const void *row, u32 dim, u32 *aux);
}  // namespace convert

}  // namespace vexfs::simd
