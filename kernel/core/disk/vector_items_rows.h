// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Row groups: the metadata of some rows, column by column, each column as small as its values allow.
//
// An item is GroupHeader, then for every column in the order of enum RowColumn, by its code in the header:
//   zero      nothing: all values are 0
//   constant  base (8 bytes): all values are base
//   counting  base (8 bytes): value i is base + i
//   w1 w2 w4  base (8 bytes), then `count` unsigned little-endian numbers of 1, 2, 4 bytes: value i is base + number i
//   w8        `count` 8-byte values
// crc and aux are 32-bit columns: zero, constant, or w4 without a base.
#pragma once
#include "vector_items.h"

namespace vexfs::disk {

struct RowRecord {
  u64 id = 0;
  u64 owner = 0;  // inode number, 0: none
  u64 offset = 0, length = 0;
  u64 owner_version = 0;
  u64 tag = 0;
  u64 birth = 0, death = 0;  // transactions; death 0: alive
  u32 crc = 0;               // crc32c of the row's data (without padding)
  u32 aux = 0;               // see simd.h: f32 bits of 1/|x| under cosine
};

enum class RowColumn : u8 { id, owner, offset, length, owner_version, tag, birth, death, crc, aux };
inline constexpr u32 kRowColumns = 10, kWideColumns = 8;
enum class ColumnCode : u8 { zero = 0, constant = 1, counting = 2, w1 = 3, w2 = 4, w4 = 5, w8 = 6 };

struct GroupHeader {
  u8 version;  // kVectorVersion
  u8 count;    // 1..kGroupRowsMax
  u8 code[kRowColumns];
};
static_assert(sizeof(GroupHeader) == 12);

// Most bytes that n rows can take.
constexpr usize group_bytes_max(u32 n) {
  return sizeof(GroupHeader) + kWideColumns * (8 + usize{8} * n) + 2 * usize{4} * n;
}
static_assert(group_bytes_max(kGroupRowsMax) <= 2400);

// Encodes n (1..kGroupRowsMax) rows; returns the bytes written. `out` has group_bytes_max(n).
usize encode_rows(const RowRecord *rows, u32 n, MutBytes out);
// Decodes into rows[kGroupRowsMax]; returns how many. corrupt: malformed (any contents are accepted otherwise).
Result<u32> decode_rows(Bytes item, RowRecord *rows);

}  // namespace vexfs::disk
