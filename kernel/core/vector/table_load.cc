// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Reading a chunk of a vector table from disk: data, metadata, and the check of every row.
#include "../base/crc.h"
#include "../disk/vector_items_rows.h"
#include "table.h"

namespace vexfs::vector {

Status Table::read_pieces(u32 number, disk::ChunkItem *out) {
  store::Key key = item_key(cid_, VectorItem::chunk, number);
  Result<usize> r = volume_.tree(store::TreeId::collections).get(key, mut_bytes_of(*out));
  if (r.code() == Errno::range) return damaged(volume_, cid_, "chunk", number, "length");
  if (!r.ok()) return r.error();
  const char *bad = disk::verify_chunk({bytes_of(*out).data(), *r}, limits_of(volume_), u64{chunk_rows()} * stride_);
  if (bad) return damaged(volume_, cid_, "chunk", number, bad);
  return {};
}

Status Table::load_data(const Chunk &c, u32 rows, ChunkBuf &b) {
  disk::ChunkItem item{};
  Status s = read_pieces(c.number, &item);
  if (s.code() == Errno::noent && !chunk_all_dead(c.number))
    return damaged(volume_, cid_, "chunk", c.number, "presence");
  VX_TRY(s);
  u64 bs = volume_.block_size();
  u64 need = div_up<u64>(u64{rows} * stride_, bs), at = 0;
  for (u32 i = 0; i < item.npieces && at < need; i++) {
    u64 n = min_of<u64>(item.pieces[i].blocks, need - at);
    VX_TRY(volume_.read_blocks(item.pieces[i].start, {b.rows() + at * bs, n * bs}));
    at += n;
  }
  if (at < need) return damaged(volume_, cid_, "chunk", c.number, "pieces");
  return {};
}

Status Table::load_meta(const Chunk &c, u32 rows, ChunkBuf &b, u32 *crcs) {
  auto *group = static_cast<disk::RowRecord *>(vx_alloc(sizeof(disk::RowRecord) * disk::kGroupRowsMax, 0));
  if (!group) return Errno::nomem;
  u64 first_group = (u64{c.number} << shift_) / group_rows_;
  u64 expect = first_group;
  u64 groups = div_up(rows, group_rows_);
  const char *bad = nullptr;
  Status s =
      volume_.tree(store::TreeId::collections)
          .scan(item_key(cid_, VectorItem::rows, first_group),
                item_key(cid_, VectorItem::rows, first_group + groups - 1), [&](const store::Key &k, Bytes item) {
                  Result<u32> n = disk::decode_rows(item, group);
                  u32 at = static_cast<u32>(k.off - first_group) * group_rows_;
                  u32 want = min_of(group_rows_, rows - at);
                  if (k.off != expect || !n.ok() || *n > group_rows_ || *n < want) {
                    bad = k.off != expect ? "sequence" : !n.ok() ? "encoding" : "count";
                    return false;
                  }
                  for (u32 i = 0; i < want; i++) {
                    const disk::RowRecord &r = group[i];
                    b.meta->put(at + i, {r.id, r.owner, r.offset, r.length, r.owner_version, r.tag});
                    crcs[at + i] = r.crc;
                    if (aux_bytes_) memcpy(b.base + usize{4} * (at + i), &r.aux, 4);
                  }
                  expect++;
                  return true;
                });
  vx_free(group);
  VX_TRY(s);
  if (!bad && expect != first_group + groups) bad = "presence";
  if (bad) return damaged(volume_, cid_, "rows", expect, bad);
  return {};
}

// A row whose bytes are not those that were stored is hidden from searches, and reported; the others stay usable.
Status Table::check_rows(Chunk &c, u32 rows, ChunkBuf &b, const u32 *crcs) {
  usize n = space_.row_bytes();
  for (u32 i = 0; i < rows; i++) {
    const u8 *row = b.rows() + usize{i} * stride_;
    u32 found = crc32c_of({row, n});
    if (found == crcs[i]) [[likely]]
      continue;
    u32 slot = (c.number << shift_) + i;
    auto *dead = c.dead.load(std::memory_order_acquire);
    if (dead && (dead[i >> 6].load(std::memory_order_relaxed) >> (i & 63) & 1) && !is_damaged(slot)) {
      bad_dead_.fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    cache_.damaged_rows.fetch_add(1, std::memory_order_relaxed);
    volume_.log(VX_LOG_ERR)
        .str("collection ")
        .dec(cid_)
        .str(": vector ")
        .dec(b.meta->at(i).id)
        .str(" (slot ")
        .dec(slot)
        .str("): bad data checksum, found ")
        .hex(found)
        .str(", expected ")
        .hex(crcs[i])
        .str("; it is left out");
    VX_TRY(add_damaged(slot));
    auto *bits = c.dead.load(std::memory_order_acquire);
    bits[i >> 6].fetch_or(u64{1} << (i & 63), std::memory_order_acq_rel);
  }
  return {};
}

Result<ChunkBuf *> Table::load(Chunk &c) {
  u32 rows = min_of(chunk_rows(), slots() - (c.number << shift_));
  ChunkBuf *b = cache_.make_buf(*this, rows);  // who appends makes room
  if (!b) return Errno::nomem;
  auto *crcs = static_cast<u32 *>(vx_alloc_large(usize{4} * rows, 0));
  Status s = crcs ? load_data(c, rows, *b) : Status(Errno::nomem);
  if (s.ok()) s = load_meta(c, rows, *b, crcs);
  if (s.ok()) s = check_rows(c, rows, *b, crcs);
  if (crcs) vx_free_large(crcs, usize{4} * rows);
  if (!s.ok()) {
    cache_.free_buf(b);
    return s.error();
  }
  if (ChunkMeta *packed = b->meta->packed(rows)) ChunkMeta::release(std::exchange(b->meta, packed));
  return b;
}

}  // namespace vexfs::vector
