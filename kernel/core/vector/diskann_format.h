// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The stored form of a graph on disk: blobs of units of 4096 bytes, each read by itself. Little-endian.
//
// A unit: DiskUnitHeader, then as many node records as fit, by slot; a record that is longer takes several units, of which
// each has its header. A record: DiskRecordHeader, the row's bytes (padded to 4), the slots that the node leads to, le32,
// `degree` of them. What is not used is zero. A blob holds the units of 2^shift slots; where a slot's record lies follows.
#pragma once
#include "../base/crc.h"
#include "../base/endian.h"

namespace vexfs::vector {

constexpr u32 disk_unit_bytes = 4096;

struct DiskUnitHeader {
  le32 crc;     // crc32c of the rest of the unit; the index's seed is its seed
  le32 number;  // of the unit, in the whole index
};
static_assert(sizeof(DiskUnitHeader) == 8);
constexpr u32 disk_unit_payload = disk_unit_bytes - sizeof(DiskUnitHeader);

constexpr u8 disk_record_there = 1;
struct DiskRecordHeader {
  le32 aux;  // the row's
  le16 degree;
  u8 flags;
  u8 reserved;
};
static_assert(sizeof(DiskRecordHeader) == 8);

// Sizes that follow from the length of a row and m.
struct DiskShape {
  u32 row_bytes = 0;
  u32 cap = 0;     // links of a node at most
  u32 degree = 0;  // to which a list that is full is pruned
  u32 record_bytes = 0;
  u32 per_unit = 0;       // records in a unit, 0: a record takes several
  u32 units_of_node = 1;  // read for a node
  u32 shift = 8;          // log2 of slots in a blob

  DiskShape() = default;
  DiskShape(usize row, u32 m) : row_bytes(static_cast<u32>(row)), cap(3 * m), degree(2 * m) {
    record_bytes = static_cast<u32>(sizeof(DiskRecordHeader)) + align_up<u32>(row_bytes, 4) + 4 * cap;
    per_unit = disk_unit_payload / record_bytes;
    if (per_unit == 0) units_of_node = div_up(record_bytes, disk_unit_payload);
    while (shift > 2 && blob_bytes() > (u32{1} << 20)) shift--;
  }
  u32 slots() const { return u32{1} << shift; }
  u32 mask() const { return slots() - 1; }
  u32 blob_units() const { return per_unit ? div_up(slots(), per_unit) : slots() * units_of_node; }
  u32 blob_bytes() const { return blob_units() * disk_unit_bytes; }
  u32 node_bytes() const { return units_of_node * disk_unit_bytes; }
  // The first unit of a slot, in its blob.
  u32 unit_of(u32 slot) const { return per_unit ? (slot & mask()) / per_unit : (slot & mask()) * units_of_node; }
  // Where in its unit the record begins.
  u32 record_at(u32 slot) const {
    return static_cast<u32>(sizeof(DiskUnitHeader)) + (per_unit ? (slot & mask()) % per_unit * record_bytes : 0);
  }
  u32 links_at() const { return static_cast<u32>(sizeof(DiskRecordHeader)) + align_up<u32>(row_bytes, 4); }
};

inline u32 disk_unit_crc(u64 seed, const u8 *unit) {
  const u32 first = static_cast<u32>(seed) ^ static_cast<u32>(seed >> 32);
  return crc32c(first, Bytes(unit + sizeof(le32), disk_unit_bytes - sizeof(le32)));
}

}  // namespace vexfs::vector
