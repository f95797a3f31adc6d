// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Reading single rows.
#include "row_fetch.h"

#include <algorithm>

#include "../base/crc.h"
#include "table.h"

namespace vexfs::vector {
namespace row_fetch_impl {
namespace {

constexpr u32 merged_bytes = 128 << 10;  // blocks that lie together are read together, up to this

// A row group of the table into group[kGroupRowsMax]; returns how many rows it has. noent: there is none.
Result<u32> read_group(Table &t, u64 number, Vec<u8> &item, Vec<disk::RowRecord> &group) {
  if (item.empty()) VX_TRY(item.resize(disk::group_bytes_max(disk::kGroupRowsMax)));
  if (group.empty()) VX_TRY(group.resize(disk::kGroupRowsMax));
  const usize n = VX_TRY(t.volume()
                             .tree(store::TreeId::collections)
                             .get(item_key(t.cid(), VectorItem::rows, number), {item.data(), item.size()}));
  return disk::decode_rows({item.data(), n}, group.data());
}

}  // namespace
}  // namespace row_fetch_impl

RowFetch::~RowFetch() {
  if (buffer_) vx_free_large(buffer_, buffer_bytes_);
}

// The next block of the chunk gets the next place in the buffer. follows: its predecessor has the place before.
Status RowFetch::add_block(u32 block, bool follows) {
  const u32 bs = table_.volume().block_size();
  u64 left = block;
  for (u32 i = 0; i < pieces_->npieces; i++) {
    const disk::ChunkPiece &p = pieces_->pieces[i];
    if (left >= p.blocks) {
      left -= p.blocks;
      continue;
    }
    const u64 off = (p.start + left) * bs;
    last_block_ = block;
    last_at_ = blocks_++;
    if (follows && !ios_.empty()) {
      vx_io &before = ios_[ios_.size() - 1];
      if (before.off + before.len == off && before.len < row_fetch_impl::merged_bytes) {
        before.len += bs;
        return {};
      }
    }
    vx_io io{};
    io.off = off;
    io.len = bs;
    io.flags = VX_IO_READ;
    return ios_.push(io);
  }
  return Errno::corrupt;
}

// Rows come in ascending order, so a block that is placed already is the last one, or one of those right before it.
Status RowFetch::place_row(Want &w) {
  const u32 bs = table_.volume().block_size(), number = w.slot >> table_.shift();
  const u64 begin = u64{w.slot & (table_.chunk_rows() - 1)} * table_.stride();
  const u32 first = static_cast<u32>(begin / bs);
  const u32 last = static_cast<u32>((begin + table_.space().row_bytes() - 1) / bs);
  bool same = number == chunk_;
  if (!same) {
    chunk_ = slot_none;
    VX_TRY(table_.read_pieces(number, pieces_.get()));
    chunk_ = number;
  }
  same = same && first <= last_block_;
  w.block = same ? last_at_ - (last_block_ - first) : blocks_;
  for (u32 b = same ? last_block_ + 1 : first; b <= last; b++) VX_TRY(add_block(b, blocks_ != 0));
  return {};
}

// Which blocks to read, and where each row will be.
Status RowFetch::place(const u32 *slots, const void *const *rows, u32 n) {
  wants_.clear();
  ios_.clear();
  blocks_ = 0;
  chunk_ = slot_none;
  VX_TRY(wants_.reserve(n));
  if (!pieces_) pieces_ = VX_TRY(Box<disk::ChunkItem>::make());
  for (u32 i = 0; i < n; i++)
    if (!rows[i]) VX_TRY(wants_.push({slots[i], i, 0}));
  std::sort(wants_.begin(), wants_.end(), [](const Want &a, const Want &b) { return a.slot < b.slot; });
  usize kept = 0;
  for (usize i = 0; i < wants_.size(); i++) {
    Want w = wants_[i];
    Status s = place_row(w);
    if (s.code() == Errno::nomem) return s;
    if (!s.ok()) {  // the fault will say what is wrong
      chunk_ = slot_none;
      continue;
    }
    VX_ASSERT(w.block < blocks_);
    wants_[kept++] = w;
  }
  return wants_.resize(kept);
}

Status RowFetch::read() {
  const u32 bs = table_.volume().block_size();
  const usize bytes = usize{blocks_} * bs;
  if (bytes > buffer_bytes_) {
    if (buffer_) vx_free_large(buffer_, buffer_bytes_);
    buffer_bytes_ = 0;
    buffer_ = static_cast<u8 *>(vx_alloc_large(bytes, VX_ALLOC_ACCOUNT));
    if (!buffer_) return Errno::nomem;
    buffer_bytes_ = bytes;
  }
  u8 *at = buffer_;
  for (usize i = 0; i < ios_.size(); i++) {
    ios_[i].buf = at;
    at += ios_[i].len;
  }
  VX_ASSERT(at == buffer_ + bytes);
  return table_.volume().read_scattered(ios_.data(), ios_.size());
}

// Rows whose bytes are what was stored are given out.
Status RowFetch::check(const void **rows, u32 *aux) {
  const u32 bs = table_.volume().block_size(), group_rows = table_.group_rows();
  u64 have = ~u64{0};
  u32 count = 0;
  for (usize i = 0; i < wants_.size(); i++) {
    const Want &w = wants_[i];
    const u64 group = w.slot / group_rows;
    if (group != have) {
      Result<u32> r = row_fetch_impl::read_group(table_, group, item_, group_);
      if (r.code() == Errno::nomem) return r.error();
      count = r.ok() ? *r : 0;
      have = group;
    }
    const u32 in = w.slot % group_rows;
    if (in >= count) continue;
    const u64 begin = u64{w.slot & (table_.chunk_rows() - 1)} * table_.stride();
    const u8 *row = buffer_ + usize{w.block} * bs + begin % bs;
    if (crc32c_of({row, table_.space().row_bytes()}) != group_[in].crc) continue;
    rows[w.at] = row;
    aux[w.at] = group_[in].aux;
  }
  return {};
}

Status RowFetch::run(const u32 *slots, const void **rows, u32 *aux, u32 n) {
  VX_TRY(place(slots, rows, n));
  if (wants_.empty()) return {};
  ChunkCache &cache = table_.cache();
  cache.row_reads.fetch_add(wants_.size(), std::memory_order_relaxed);
  cache.row_read_bytes.fetch_add(u64{blocks_} * table_.volume().block_size(), std::memory_order_relaxed);
  Status s = read();
  if (!s.ok()) return s.code() == Errno::nomem ? s : Status();
  return check(rows, aux);
}

// ------------------------------------------------------------------------------------------------------------ metadata
struct GroupCache::Group {
  const Table *table = nullptr;
  u32 number = 0, n = 0;
  RowMeta rows[disk::kGroupRowsMax];
};

GroupCache::~GroupCache() {
  if (groups_) vx_free_large(groups_, ways * sizeof(Group));
}

Result<RowMeta> GroupCache::get(Table &t, u32 slot) {
  if (!groups_) {
    groups_ = static_cast<Group *>(vx_alloc_large(ways * sizeof(Group), VX_ALLOC_ACCOUNT));
    if (!groups_) return Errno::nomem;
    for (u32 i = 0; i < ways; i++) new (&groups_[i]) Group;
  }
  const u32 number = slot / t.group_rows(), in = slot % t.group_rows();
  Group &g = groups_[number % ways];
  if (g.table != &t || g.number != number || in >= g.n) {
    g.table = nullptr;
    Result<u32> n = row_fetch_impl::read_group(t, number, item_, decoded_);
    if (!n.ok()) return n.code() == Errno::noent ? damaged(t.volume(), t.cid(), "rows", number, "presence") : n.error();
    for (u32 i = 0; i < *n; i++) {
      const disk::RowRecord &r = decoded_[i];
      g.rows[i] = {r.id, r.owner, r.offset, r.length, r.owner_version, r.tag};
    }
    g.table = &t;
    g.number = number;
    g.n = *n;
    if (in >= g.n) return damaged(t.volume(), t.cid(), "rows", number, "count");
  }
  return g.rows[in];
}

}  // namespace vexfs::vector
