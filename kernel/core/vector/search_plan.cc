// SPDX-License-Identifier: GPL-2.0-only OR MIT
// How a search with filters is done: what it costs to evaluate them for all rows, and then to score those that match or to
// walk the index, against asking for near rows alone. Decided once for all queries of a call, from a sample of the rows.
#include "search.h"

namespace vexfs::vector {
namespace plan_impl {
namespace {

// Nanoseconds, measured on an x86 server of 2023 (AVX-512, 50,000 rows of 128 to 256 f32). Their ratios are what matters.
constexpr u32 column_ns = 1;     // one filter over one row's column, of rows in order
constexpr u32 place_ns = 60;     // place and permission of a row whose owner is known
constexpr u32 ask_ns = 30;       // all filters of one row, anywhere
constexpr u32 row_ns = 25;       // a row, anywhere, fetched and scored ...
constexpr u32 row_bytes = 24;    // ... and so many of its bytes for each nanosecond more
constexpr u32 absent_bytes = 1;  // as many of a row that has to be read from the device first
constexpr u32 walked = 14;       // rows scored in a walk for each that is kept (ef)

constexpr u32 samples = 512, places_sampled = 48;
constexpr u32 sample_worth = 4096;  // of fewer rows no sample is taken

}  // namespace
}  // namespace plan_impl

// A sample of the rows in memory, spread over all of them, the same for the same collection.
Result<Searcher::Estimate> Searcher::estimate(u32 n) {
  using namespace plan_impl;
  Table &t = c_.table();
  Estimate e;
  e.rows = t.live();
  for (u32 i = 0; i << t.shift() < n; i++)
    if (!t.chunk_all_dead(i) && !resident_meta(i)) e.absent += min_of(t.chunk_rows(), n - (i << t.shift()));
  const u32 step = max_of<u32>(n / samples, 1);
  u32 seen = 0, columns = 0, asked = 0, inside = 0;
  for (u32 at = 0, i = 0; at < n; at += step, i++) {
    const u32 slot = at + (i * 0x9e3779b1u >> 8) % min_of(step, n - at);
    const RowMeta *m = resident_meta(slot >> t.shift());
    if (!m || t.hidden(slot)) continue;
    m += slot & (t.chunk_rows() - 1);
    seen++;
    if (!column_mask(m, 1)) continue;
    columns++;
    if (!has_places() || asked == places_sampled) continue;
    asked++;
    inside += place_passes(*m);
    if (trouble_ != Errno::ok) return trouble_;
  }
  // One more than there were: nothing is ever taken to match not at all.
  e.columns = seen ? min_of(e.rows, e.rows * (columns + 1) / (seen + 1)) : e.rows;
  e.matching = asked ? min_of(e.columns, e.columns * (inside + 1) / (asked + 1)) : e.columns;
  return e;
}

u64 Searcher::select_cost(const Estimate &e) const {
  u64 columns = 0;
  for (u32 i = 0; i < o_.nfilters; i++) columns += o_.filters[i].kind != VEXFS_FILTER_SUBTREE;
  const u64 absent = e.absent * c_.table().stride() / plan_impl::absent_bytes;
  return c_.table().slots() * columns * plan_impl::column_ns + absent +
         (has_places() ? e.columns * plan_impl::place_ns : 0);
}

u64 Searcher::row_cost() const { return plan_impl::row_ns + c_.space().row_bytes() / plan_impl::row_bytes; }

// Rows that a walk looks at until it has met `ef` that match, if those lie anywhere among all.
u64 Searcher::walked_rows(u64 matching, u64 rows) const {
  const u64 ef = max_of(o_.ef, k_);
  return min_of(rows, ef * plan_impl::walked * (rows + 1) / (matching + 1));
}

Result<Searcher::Way> Searcher::plan_anew(RowView &rows, u32 n, bool index) {
  const Way usual = index ? Way::walk : Way::scan;
  if (!o_.nfilters || n > Selection::slots_max) return usual;
  const u64 queries = o_.queries;
  Estimate e;
  e.rows = c_.table().live();
  bool worth = n < plan_impl::sample_worth && !has_places();
  if (!worth) {
    e = VX_TRY(estimate(n));
    const u64 walk = walked_rows(e.matching, e.rows);
    const u64 select = select_cost(e);
    // A scan meets rows in order, and asks for few of them.
    const u64 asking = index ? queries * walk * (row_cost() + plan_impl::ask_ns) : queries * e.rows * row_cost() / 2;
    const u64 least = min_of(e.matching, index ? walk : e.matching);
    worth = select + queries * least * row_cost() < asking;
  }
  if (!worth) return usual;
  Status s = select(rows, n, has_places() ? Asked::all : Asked::columns);
  if (s.code() == Errno::nomem) return usual;  // what was decided so far holds
  VX_TRY(s);
  // Now it is known how many match.
  const u64 matching = selection_.count();
  if (index) return matching <= walked_rows(matching, e.rows) ? Way::matching : Way::walk;
  return matching < e.rows / 2 ? Way::matching : Way::scan;
}

Result<Searcher::Way> Searcher::plan_filters(RowView &rows, u32 n, bool index) {
  if (!planned_) {
    way_ = VX_TRY(plan_anew(rows, n, index));
    planned_ = true;
  } else if (way_ == Way::matching || selected_ == Asked::all) {
    VX_TRY(select(rows, n, selected_));  // what came since
  }
  if (way_ == Way::walk && !index) return Way::scan;
  return way_;
}

}  // namespace vexfs::vector
