// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Evaluating filters for all rows: column by column over runs of 64 rows, then, where asked for, places and permission of
// what is left.
#include "search.h"

namespace vexfs::vector {
namespace select_impl {
namespace {

constexpr u32 window = 1 << 14;  // selected slots scored at a time

}  // namespace
}  // namespace select_impl

void Searcher::find_ranges() {
  constexpr auto owner = ColumnRange::owner;
  for (u32 i = 0; i < o_.nfilters; i++) {
    const vexfs_filter &f = o_.filters[i];
    const u32 outside = f.flags & VEXFS_FILTER_NOT ? 1 : 0;
    if (f.kind == VEXFS_FILTER_ID_RANGE) ranges_.add({ColumnRange::id, outside, f.a, f.b});
    if (f.kind == VEXFS_FILTER_TAG_RANGE) ranges_.add({ColumnRange::tag, outside, f.a, f.b});
    if (f.kind == VEXFS_FILTER_OWNER) ranges_.add({owner, outside, f.a, f.a});
  }
  if (o_.exclude_owner) ranges_.add({owner, 1, o_.exclude_owner, o_.exclude_owner});
  if (o_.by_owner) ranges_.add({owner, 0, 1, ~u64{0}});
}

bool Searcher::has_places() const {
  for (u32 i = 0; i < o_.nfilters; i++)
    if (o_.filters[i].kind == VEXFS_FILTER_SUBTREE) return true;
  return false;
}

// Of rows at .. at + n (1..64) of a chunk: bit i says whether row at + i passes all that its own columns can tell.
u64 Searcher::column_mask(const ChunkMeta &m, u32 at, u32 n) const {
  u64 mask = n == 64 ? ~u64{0} : (u64{1} << n) - 1;
  for (u32 i = 0; i < ranges_.n && mask; i++) {
    const ColumnRange &r = ranges_.range[i];
    const u64 in = r.to < r.from ? 0 : m.column(field_of(r.column)).in_range(at, n, r.from, r.to - r.from);
    mask &= r.outside ? ~in : in;
  }
  return mask;
}

// The same of one row.
bool Searcher::columns_pass(const RowMeta &m) const {
  for (u32 i = 0; i < ranges_.n; i++) {
    const ColumnRange &r = ranges_.range[i];
    const u64 v = r.column == ColumnRange::id ? m.id : r.column == ColumnRange::tag ? m.tag : m.owner;
    if ((v >= r.from && v <= r.to) == bool(r.outside)) return false;
  }
  return true;
}

// The metadata of a chunk's rows, as meta() finds it. Null: all of them are dead, and the chunk was given up.
Result<const ChunkMeta *> Searcher::chunk_meta(u32 number) {
  const u32 slot = number << c_.table().shift();
  Result<const ChunkMeta *> m =
      only_then(slot) ? Result<const ChunkMeta *>(Errno::noent) : present_->table().chunk_meta(number);
  if (m.code() != Errno::noent) return m;
  Result<const ChunkMeta *> own = c_.table().chunk_meta(number);
  if (own.code() == Errno::noent) return nullptr;
  return own;
}

const ChunkMeta *Searcher::resident_meta(u32 number) const {
  if (only_then(number << c_.table().shift())) return c_.table().resident_meta(number);
  return present_->table().resident_meta(number);
}

// Between chunks, when no pointer to one is held.
Status Searcher::breathe(RowView &rows) {
  if (interrupted(this)) return Errno::intr;
  if (rows.pause) rows.pause(rows);
  vx_yield();
  return {};
}

// Of 64 rows from `slot` on: those that are dead or damaged.
u64 Searcher::hidden_bits(u32 slot) const {
  const Table &t = c_.table();
  const std::atomic<u64> *bits = t.dead_bits(slot >> t.shift());
  return bits ? bits[(slot & (t.chunk_rows() - 1)) >> 6].load(std::memory_order_acquire) : 0;
}

// Rows that nobody has decided yet, below `upto`: whole blocks by compact columns, the rest one by one.
Status Searcher::extend(RowView &rows, u32 upto) {
  if (selection_.end() >= upto) return {};
  VX_TRY(selection_.reserve(upto));
  Table &t = c_.table();
  selection_.trim();
  if (compact()) VX_TRY(extend_blocks(rows, upto / FilterCache::block_rows));
  while (selection_.end() < upto) {
    const u32 number = selection_.end() >> t.shift();
    const u32 to = min_of(upto, (selection_.end() | (t.chunk_rows() - 1)) + 1);
    const ChunkMeta *m = t.chunk_all_dead(number) ? nullptr : VX_TRY(chunk_meta(number));
    while (selection_.end() < to) {
      const u32 at = selection_.end(), n = min_of<u32>(64, to - at);
      const u64 mask = m ? column_mask(*m, at & (t.chunk_rows() - 1), n) : 0;
      selection_.append(mask & ~hidden_bits(at), n);
    }
    if (number % 16 == 15) VX_TRY(breathe(rows));
  }
  return {};
}

// What is selected so far from slot `from` on is asked for the rest: places, permission, freshness.
Status Searcher::ask_selected(RowView &rows, u32 from) {
  Table &t = c_.table();
  narrowed_ = true;
  for (u32 at = from & ~u32{63}; at < selection_.end(); at += 64) {
    u64 &word = selection_.word(at >> 6);
    u64 left = word;
    if (at < from) left &= ~u64{0} << (from - at);
    const ChunkMeta *m = left ? VX_TRY(chunk_meta(at >> t.shift())) : nullptr;
    for (; left; left &= left - 1) {
      const auto i = static_cast<u32>(std::countr_zero(left));
      if (m) {
        const RowMeta row = m->at((at + i) & (t.chunk_rows() - 1));
        if (place_passes(row) && owner_passes(row)) continue;
        if (trouble_ != Errno::ok) return trouble_;
      }
      word &= ~(u64{1} << i);
      selection_.uncount(1);
    }
    if ((at >> 6) % 256 == 255) VX_TRY(breathe(rows));
  }
  return {};
}

// What is known when the columns are: everything, where there is nothing else to ask.
Searcher::Asked Searcher::all_asked() const {
  const bool more = has_places() || c_.has_owners() || o_.skip_stale;
  return more ? Asked::columns : Asked::all;
}

// Decides all rows below `upto`, as deep as `what` (or deeper, if they are already).
Status Searcher::select(RowView &rows, u32 upto, Asked what) {
  if (upto > Selection::slots_max) return Errno::nomem;
  if (what == Asked::columns) what = all_asked();
  const u32 asked = selected_ == Asked::all ? selection_.end() & ~u32{63} : 0;
  const bool all = what == Asked::all || selected_ == Asked::all;
  const bool more = selection_.end() < upto || selected_ != what;
  selected_ = Asked::columns;  // until it is done
  VX_TRY(extend(rows, upto));
  if (all && more && all_asked() != Asked::all) VX_TRY(ask_selected(rows, asked));
  if (all) selected_ = Asked::all;
  return {};
}

// As select(). False: memory does not suffice for it; what was decided so far holds.
Result<bool> Searcher::try_select(RowView &rows, u32 upto, Asked what) {
  Status s = select(rows, upto, what);
  if (s.ok()) return true;
  if (s.code() != Errno::nomem) return s.code();
  trouble_ = Errno::ok;
  return false;
}

// The selected slots, some at a time in slots_, each to be scored by `score`.
Status Searcher::score_selected(FnRef<Status()> score) {
  chosen_of_ = 0;
  for (u32 at = 0; at < selection_.end();) {
    slots_.clear();
    VX_TRY(selection_.gather(&at, select_impl::window, slots_));
    if (!slots_.empty()) VX_TRY(score());
  }
  slots_.clear();
  return {};
}

// Exactly the selected rows, and those that came since.
Status Searcher::scan_matching(View &view, const simd::Query *q, u32 nq) {
  const u32 n = view.slots();
  if (plan_ == VEXFS_PLAN_SCAN) plan_ = VEXFS_PLAN_MATCHING;
  VX_TRY(score_selected([&] {
    return scan_slots(view.rows(), c_.space(), q, nq, slots_.data(), static_cast<u32>(slots_.size()), params(),
                      scratch_, tops_, &stats_);
  }));
  return selection_.end() < n ? scan_all(view, q, nq, selection_.end(), n) : Status();
}

}  // namespace vexfs::vector
