// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Packing the metadata of a chunk's rows.
#include "row_meta.h"

#include "../base/memory.h"

namespace vexfs::vector {
namespace row_meta_impl {
namespace {

constexpr usize load_bytes = 8;  // a field is read as so many, the last one of the last row too

u64 mask_of(u32 bytes) { return bytes == 8 ? ~u64{0} : (u64{1} << (8 * bytes)) - 1; }

// How a column is stored: `bytes` of each row's difference from base + step * row.
struct Fit {
  u64 base = 0, step = 0;
  u32 bytes = 8;
};

// Differences are taken from the first row, as signed numbers: whatever they are, base plus what is stored gives the number
// again, modulo 2^64.
Fit fit(const ChunkMeta::Column &c, u32 n, u64 step) {
  const u64 first = c.at(0);
  s64 low = 0, high = 0;
  for (u32 i = 1; i < n; i++) {
    const auto d = static_cast<s64>(c.at(i) - step * i - first);
    low = min_of(low, d);
    high = max_of(high, d);
  }
  const u64 span = static_cast<u64>(high) - static_cast<u64>(low);
  const u32 bits = span ? 64 - static_cast<u32>(std::countl_zero(span)) : 0;
  return {.base = first + static_cast<u64>(low), .step = step, .bytes = (bits + 7) / 8};
}

// All alike, or each so much more than the one before: whichever leaves less to store.
Fit best_fit(const ChunkMeta::Column &c, u32 n) {
  const Fit level = fit(c, n, 0);
  if (level.bytes == 0 || n < 2) return level;
  const Fit rising = fit(c, n, c.at(1) - c.at(0));
  return rising.bytes < level.bytes ? rising : level;
}

}  // namespace
}  // namespace row_meta_impl

ChunkMeta *ChunkMeta::make(usize data_bytes, u32 record, std::atomic<u64> *account) {
  void *p = vx_alloc(sizeof(ChunkMeta), 0);
  if (!p) return nullptr;
  auto *m = new (p) ChunkMeta;
  m->data_ = static_cast<u8 *>(vx_alloc_large(data_bytes, VX_ALLOC_ZERO));
  if (!m->data_) {
    vx_free(m);
    return nullptr;
  }
  m->destroy = destroy_retired;
  m->record_ = record;
  m->data_bytes_ = data_bytes;
  m->account_ = account;
  for (Column &c : m->column_) c.record_ = record;
  account->fetch_add(m->bytes(), std::memory_order_relaxed);
  return m;
}

ChunkMeta *ChunkMeta::make(u32 cap, std::atomic<u64> *account) {
  ChunkMeta *m = make(usize{cap} * wide_bytes, wide_bytes, account);
  if (!m) return nullptr;
  m->wide_ = true;
  for (u32 f = 0; f < fields; f++) {
    m->column_[f].mask_ = ~u64{0};
    m->column_[f].from_ = m->data_ + usize{8} * f;
  }
  return m;
}

ChunkMeta *ChunkMeta::packed(u32 n) const {
  VX_ASSERT(n > 0);
  row_meta_impl::Fit fit[fields];
  u32 record = 0;
  for (u32 f = 0; f < fields; f++) {
    fit[f] = row_meta_impl::best_fit(column_[f], n);
    record += fit[f].bytes;
  }
  ChunkMeta *m = make(usize{n} * record + row_meta_impl::load_bytes, record, account_);
  if (!m) return nullptr;
  u32 at = 0;
  for (u32 f = 0; f < fields; f++) {
    Column &to = m->column_[f];
    to.base_ = fit[f].base;
    to.step_ = fit[f].step;
    to.mask_ = row_meta_impl::mask_of(fit[f].bytes);
    to.from_ = m->data_ + at;
    for (u32 i = 0; i < n && fit[f].bytes; i++) {
      le64 v;
      v = column_[f].at(i) - fit[f].base - fit[f].step * i;
      memcpy(m->data_ + usize{i} * record + at, &v, fit[f].bytes);
    }
    at += fit[f].bytes;
  }
  return m;
}

void ChunkMeta::release(ChunkMeta *m) {
  if (!m) return;
  m->account_->fetch_sub(m->bytes(), std::memory_order_relaxed);
  vx_free_large(m->data_, m->data_bytes_);
  m->~ChunkMeta();
  vx_free(m);
}

void ChunkMeta::put(u32 row, const RowMeta &m) {
  VX_ASSERT(wide_);
  const u64 fields_of[fields] = {m.id, m.owner, m.offset, m.length, m.owner_version, m.tag};
  le64 record[fields];
  static_assert(sizeof record == wide_bytes);
  for (u32 f = 0; f < fields; f++) record[f] = fields_of[f];
  memcpy(data_ + usize{row} * wide_bytes, record, sizeof record);
}

void ChunkMeta::copy(const ChunkMeta &from, u32 n) {
  for (u32 i = 0; i < n; i++) put(i, from.at(i));
}

}  // namespace vexfs::vector
