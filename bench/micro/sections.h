// SPDX-License-Identifier: MIT
// How long FPU sections are, by what they are spent on.
#pragma once
#include "../../kernel/core/platform.h"

namespace vexfs::bench {

// Prints a table for a collection of so many f32 rows of each of ndims dimensions. 0, or 1: a step failed, as is said.
int run_sections(unsigned rows, const unsigned *dims, unsigned ndims);

}  // namespace vexfs::bench
