// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Single rows from the device, when their chunks are not in memory and there is no room for them: the blocks that they lie
// in are read, all at once, for the caller alone; and metadata of single rows from the tree.
//
// This is the way for what a search looks at last, a few dozen rows anywhere. Every row is compared with its checksum.
// Whatever is not as it should be (a damaged row, a read error, a chunk that is moved meanwhile) is left to the chunk
// cache's fault, which reads the whole chunk, says what is wrong and hides it from searches.
#pragma once
#include "../base/memory.h"
#include "../disk/vector_items_rows.h"
#include "row_meta.h"
#include "rows.h"

namespace vexfs::vector {

class Table;

class RowFetch : Pinned {
 public:
  explicit RowFetch(Table &t) : table_(t) {}
  ~RowFetch();
  // Sets rows[i], and aux[i], where rows[i] is null and the row can be had. The memory is this object's, until the next
  // call. nomem.
  Status run(const u32 *slots, const void **rows, u32 *aux, u32 n);

 private:
  struct Want {
    u32 slot;
    u32 at;     // index in the caller's arrays
    u32 block;  // of buffer_, where its first block lies
  };
  Status place(const u32 *slots, const void *const *rows, u32 n);
  Status place_row(Want &w);
  Status add_block(u32 block, bool follows);
  Status read();
  Status check(const void **rows, u32 *aux);

  Table &table_;
  Vec<Want> wants_;
  Vec<vx_io> ios_;
  u32 blocks_ = 0;  // in buffer_, as placed so far
  u8 *buffer_ = nullptr;
  usize buffer_bytes_ = 0;
  Vec<u8> item_;
  Vec<disk::RowRecord> group_;
  // what place_row() knows of the chunk before
  u32 chunk_ = slot_none;
  u32 last_block_ = 0, last_at_ = 0;
  Box<disk::ChunkItem> pieces_;
};

// The metadata of some row groups, as read from the tree.
class GroupCache : Pinned {
 public:
  // corrupt, io, nomem; noent: no such row.
  Result<RowMeta> get(Table &t, u32 slot);
  ~GroupCache();

 private:
  static constexpr u32 ways = 64;
  struct Group;
  Group *groups_ = nullptr;
  Vec<u8> item_;
  Vec<disk::RowRecord> decoded_;
};

}  // namespace vexfs::vector
