// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Which numbers of a column lie in a range, as a bit each. Integers only; FPU sections, because registers are used, are
// opened and closed here.
#pragma once
#include "simd.h"

namespace vexfs::simd {

constexpr u32 column_run = 1024;  // numbers looked at in one call, at most; a multiple of 64

// Of n (a multiple of 64, at most column_run) numbers: clears the bits of mask[0 .. n / 64) whose number v does not have
// from <= v <= from + span; outside: whose number has.
void keep_range(const u32 *v, u32 n, u32 from, u32 span, bool outside, u64 *mask);
void keep_range(const u64 *v, u32 n, u64 from, u64 span, bool outside, u64 *mask);

// ---- private to simd/
namespace column_kernels {
void keep_range32_avx512(const u32 *v, u32 n, u32 from, u32 span, u64 flip, u64 *mask);
void keep_range64_avx512(const u64 *v, u32 n, u64 from, u64 span, u64 flip, u64 *mask);
void keep_range32_avx2(const u32 *v, u32 n, u32 from, u32 span, u64 flip, u64 *mask);
void keep_range64_avx2(const u64 *v, u32 n, u64 from, u64 span, u64 flip, u64 *mask);
}  // namespace column_kernels

}  // namespace vexfs::simd
