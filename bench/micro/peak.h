// SPDX-License-Identifier: MIT
// What this processor can do at most, measured: multiply-adds in registers, and bytes read from a working set.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../../kernel/core/simd/simd.h"

namespace vexfs::bench {

// Does `rounds` rounds of independent multiply-adds with the widest registers of that level; returns how many it did.
// integers: 16-bit products summed in pairs to 32 bits, what int8 rows are scored with; else of f32.
double multiply_adds(simd::Level level, bool integers, size_t rounds);

// Reads n bytes (a multiple of 512, aligned to 64) once, with the widest registers that this processor has.
uint64_t read_all(const void *p, size_t n);

}  // namespace vexfs::bench
