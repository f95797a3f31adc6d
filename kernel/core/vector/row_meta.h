// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What is kept in memory of a chunk's rows besides their data: one record for each row, its fields as short as the rows
// of the chunk let them be.
//
// A field of a row is base + step * (row in the chunk) + what its record holds in 0 to 8 bytes. Ids that were given one
// after the other, rows without an owner, or of one file, take no byte. A record lies in one piece, as who asks for one
// field of a hit asks for the others too. While a chunk is filled its records are wide (8 bytes a field), since nobody
// knows what will come; when it is full they are packed.
#pragma once
#include <atomic>

#include "../base/endian.h"
#include "../base/types.h"
#include "retired.h"

namespace vexfs::vector {

struct RowMeta {
  u64 id = 0;
  u64 owner = 0;  // inode number, 0: none
  u64 offset = 0, length = 0;
  u64 owner_version = 0;
  u64 tag = 0;
};

class ChunkMeta : public Retired {
 public:
  static constexpr u32 fields = 6, wide_bytes = fields * 8;
  enum Field : u32 { id, owner, offset, length, owner_version, tag };

  // Room for `cap` rows, wide, zero; `account` has its bytes added for as long as it lives. Null: no memory.
  static ChunkMeta *make(u32 cap, std::atomic<u64> *account);
  // The first n (>= 1) rows of this one, packed. Null: no memory.
  ChunkMeta *packed(u32 n) const;
  static void release(ChunkMeta *m);

  // One field of the rows, for loops.
  class Column {
   public:
    u64 at(u32 row) const {
      le64 v;
      memcpy(&v, from_ + usize{row} * record_, 8);
      return base_ + step_ * row + (v.get() & mask_);
    }
    // Bit i: the number of row first + i lies in [from, from + span], for i < n (1..64). Without a branch, so that it runs at
    // the speed of reading.
    u64 in_range(u32 first, u32 n, u64 from, u64 span) const {
      const u64 mask = mask_, step = step_;
      const u32 record = record_;
      const u8 *p = from_ + usize{first} * record;
      u64 less = base_ + step * first - from, out = 0;
      for (u32 i = 0; i < n; i++, p += record, less += step) {
        le64 v;
        memcpy(&v, p, 8);
        out |= u64{(v.get() & mask) + less <= span} << i;
      }
      return out;
    }

   private:
    friend class ChunkMeta;
    u64 base_ = 0, step_ = 0;  // modulo 2^64, as differences are
    u64 mask_ = 0;             // of as many bytes as the records hold of it
    const u8 *from_ = nullptr;
    u32 record_ = 0;
  };
  const Column &column(Field f) const { return column_[f]; }
  RowMeta at(u32 row) const {
    return {.id = column_[id].at(row),
            .owner = column_[owner].at(row),
            .offset = column_[offset].at(row),
            .length = column_[length].at(row),
            .owner_version = column_[owner_version].at(row),
            .tag = column_[tag].at(row)};
  }
  // Of a wide one alone. Nobody looks at the row yet.
  void put(u32 row, const RowMeta &m);
  // The first n rows of another, into a wide one.
  void copy(const ChunkMeta &from, u32 n);

  u32 record_bytes() const { return record_; }
  bool wide() const { return wide_; }
  usize bytes() const { return sizeof(ChunkMeta) + data_bytes_; }

 private:
  static ChunkMeta *make(usize data_bytes, u32 record, std::atomic<u64> *account);
  static void destroy_retired(Retired *r) { release(static_cast<ChunkMeta *>(r)); }

  Column column_[fields];
  u32 record_ = 0;
  bool wide_ = false;
  u8 *data_ = nullptr;
  usize data_bytes_ = 0;
  std::atomic<u64> *account_ = nullptr;
};

}  // namespace vexfs::vector
