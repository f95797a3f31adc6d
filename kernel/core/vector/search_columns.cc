// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Evaluating filters of columns a block of rows at a time, and remembering what came of it.
#include "search.h"

namespace vexfs::vector {
namespace columns_search_impl {
namespace {

constexpr u32 rows_worth = 4096;         // of fewer, nothing is kept
constexpr u32 blocks_per_breath = 1024;  // a million rows

}  // namespace
}  // namespace columns_search_impl

// The columns that the ranges look at, held while they are read.
struct Searcher::Columns : Pinned {
  FilterCache &filters;
  Column *column[column_count] = {};
  u32 blocks = ~u32{0};  // that all of them have
  explicit Columns(FilterCache &f) : filters(f) {}
  ~Columns() {
    for (Column *c : column)
      if (c) filters.release(c);
  }
};

bool Searcher::compact() const {
  return ranges_.n && c_.table().slots() >= columns_search_impl::rows_worth &&
         c_.filters().fits(c_.table().slots(), min_of(ranges_.n, column_count));
}

bool Searcher::known() const {
  KnownRows *k = c_.filters().find(ranges_);
  if (k) c_.filters().release(k);
  return k != nullptr;
}

// One column of a block, from the rows. What was given up is dead: any number will do.
Status Searcher::fill_block(u32 column, u32 block, u64 *numbers) {
  constexpr u32 rows = FilterCache::block_rows;
  const Table &t = c_.table();
  const u32 first = block * rows;
  for (u32 at = first; at < first + rows;) {
    const u32 to = min_of(first + rows, (at | (t.chunk_rows() - 1)) + 1);
    const ChunkMeta *m = t.chunk_all_dead(at >> t.shift()) ? nullptr : VX_TRY(chunk_meta(at >> t.shift()));
    const ChunkMeta::Column c = m ? m->column(field_of(column)) : ChunkMeta::Column();
    for (; at < to; at++) numbers[at - first] = m ? c.at(at & (t.chunk_rows() - 1)) : 0;
  }
  return {};
}

// Makes columns as long as it can.
Status Searcher::take_columns(RowView &rows, u32 blocks, Columns *out) {
  for (u32 i = 0; i < ranges_.n; i++) {
    const u32 which = ranges_.range[i].column;
    Column *&c = out->column[which];
    if (c) continue;
    c = out->filters.column(which);
    if (!c || c->blocks.load(std::memory_order_acquire) < blocks) {
      auto fill = [&](u32 block, u64 *numbers) {
        Status s = block % 64 == 63 ? breathe(rows) : Status();
        return s.ok() ? fill_block(which, block, numbers) : s;
      };
      VX_TRY(out->filters.lengthen(which, blocks, fill));
      if (!c) c = out->filters.column(which);
    }
    out->blocks = min_of(out->blocks, c ? c->blocks.load(std::memory_order_acquire) : 0);
  }
  return {};
}

// The block's rows pass or do not, `count` of them; dead ones never.
void Searcher::decide_block(const u64 *words, u32 count, u32 block) {
  constexpr u32 rows = FilterCache::block_rows, n = FilterCache::block_words;
  const Table &t = c_.table();
  const u32 first = block * rows;
  if ((t.live() == t.slots() && !t.damaged_count()) ||
      (t.chunk_rows() >= rows && !t.chunk_any_dead(first >> t.shift()))) {
    selection_.append(words, n, count);
    return;
  }
  for (u32 w = 0; w < n; w++) selection_.append(words[w] & ~hidden_bits(first + w * 64), 64);
}

// Decides rows up to a number of whole blocks, as far as columns for it are to be had.
Status Searcher::extend_blocks(RowView &rows, u32 blocks) {
  constexpr u32 words = FilterCache::block_words;
  u32 block = selection_.end() / FilterCache::block_rows;
  if (selection_.end() % FilterCache::block_rows || block >= blocks) return {};
  FilterCache &filters = c_.filters();
  KnownRows *known = filters.find(ranges_);
  const u32 have = known ? min_of(known->blocks, blocks) : 0;
  KnownRows *longer = block == 0 && have < blocks ? filters.make(ranges_, blocks) : nullptr;
  for (; block < have; block++) {
    if (longer) memcpy(longer->bits() + usize{block} * words, known->bits() + usize{block} * words, words * 8);
    if (longer) longer->counts()[block] = known->counts()[block];
    decide_block(known->bits() + usize{block} * words, known->counts()[block], block);
  }
  if (known) filters.release(known);
  Columns columns(filters);
  Status s = block < blocks ? take_columns(rows, blocks, &columns) : Status();
  const u32 end = min_of(blocks, columns.blocks);
  for (; s.ok() && block < end; block++) {
    u64 mine[words];
    u64 *mask = longer ? longer->bits() + usize{block} * words : mine;
    memset(mask, 0xff, words * 8);
    for (u32 i = 0; i < ranges_.n; i++)
      FilterCache::keep_block(columns.column[ranges_.range[i].column]->at(block), ranges_.range[i], mask);
    u32 count = 0;
    for (u32 w = 0; w < words; w++) count += popcount(mask[w]);
    if (longer) longer->counts()[block] = static_cast<u16>(count);
    decide_block(mask, count, block);
    if (block % columns_search_impl::blocks_per_breath == columns_search_impl::blocks_per_breath - 1) s = breathe(rows);
  }
  if (longer && s.ok() && block == blocks)
    filters.keep(longer);
  else if (longer)
    filters.release(longer);
  return s;
}

}  // namespace vexfs::vector
