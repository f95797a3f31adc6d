// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Bit counting that needs no library call: the kernel has no __popcountdi2 for GCC to call.
#pragma once
#include "types.h"

namespace vexfs {

// Ones in v. Sums in parallel: pairs, nibbles, bytes (H. S. Warren, "Hacker's Delight", 5-1).
constexpr u32 popcount(u64 v) {
  v -= (v >> 1) & 0x5555555555555555;
  v = (v & 0x3333333333333333) + ((v >> 2) & 0x3333333333333333);
  v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0f;
  return static_cast<u32>((v * 0x0101010101010101) >> 56);
}
static_assert(popcount(0) == 0 && popcount(~u64{0}) == 64 && popcount(0x8000000000000001) == 2);

}  // namespace vexfs
