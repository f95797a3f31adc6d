// SPDX-License-Identifier: GPL-2.0-only OR MIT
// crc32c (Castagnoli) of byte ranges and of self-describing blocks that carry their own checksum.
#pragma once
#include "../platform.h"
#include "types.h"

namespace vexfs {

// Raw crc32c: neither seed nor result is inverted (as the kernel's crc32c()).
inline u32 crc32c(u32 seed, Bytes b) { return vx_crc32c(seed, b.data(), b.size()); }

// Standard CRC-32C of a byte range (seed and result inverted): crc32c_of("123456789") == 0xe3069283.
inline u32 crc32c_of(Bytes b) { return ~vx_crc32c(~u32{0}, b.data(), b.size()); }

// Checksum of a block whose four bytes at `field` hold the checksum itself: they count as zero.
inline u32 crc32c_block(Bytes b, usize field) {
  static constexpr u8 zero[4] = {};
  u32 c = vx_crc32c(~u32{0}, b.data(), field);
  c = vx_crc32c(c, zero, sizeof zero);
  return ~vx_crc32c(c, b.data() + field + 4, b.size() - field - 4);
}

}  // namespace vexfs
