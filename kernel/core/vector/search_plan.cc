// SPDX-License-Identifier: GPL-2.0-only OR MIT
// How a search with filters is done: what it costs to evaluate them for all rows, and then to score those that match or to
// walk the index, against asking for near rows alone. Decided once for all queries of a call, from a sample of the rows.
#include "search.h"

namespace vexfs::vector {
namespace plan_impl {
namespace {

// Tenths of nanoseconds, measured on an x86 server (AVX-512; 50,000 rows of 32, 128 and 768 f32, graph with m = 16).
// Their ratios are what matters.
constexpr u64 column_cost = 16;      // a filter of one row's column, of rows in order
constexpr u64 compact_cost = 2;      // the same by a compact column
constexpr u64 place_cost = 600;      // place and permission of a row whose owner is known
constexpr u64 ask_cost = 140;        // of each row that a walk scores, for asking about some of them one by one
constexpr u64 row_cost = 180;        // a row, anywhere, fetched and scored ...
constexpr u64 row_bytes_cost = 5;    // ... and each of ten of its bytes
constexpr u64 absent_byte_cost = 5;  // a byte that has to be read from the device first
// A row that is scored for g queries together costs each of them a part (shared + 1 / g) / (shared + 1) of that.
constexpr u64 shared = 4;
// Rows scored in a walk that keeps ef of those that match: ef * (walked_ef + walked_missed / share that matches).
constexpr u64 walked_ef = 12, walked_missed = 14;
// A walk that scores matching rows only (hnsw_matching.cc): rows for each of ef, and the lists it looks through besides.
constexpr u64 stepped_rows = 14, stepped_lists_cost = 12000;
// A code that is looked at for being of a row that matches, and each of ten of its bytes; beside that what a search of the
// index costs, the rows of those found among it.
constexpr u64 code_cost = 80, code_bytes_cost = 8, code_search_cost = 60000;
constexpr u64 codes_worth = 128;  // fewer rows are scored themselves: exact, and hardly dearer

constexpr u32 samples = 512, places_sampled = 48;
constexpr u32 sample_worth = 4096;      // of fewer rows no sample is taken
constexpr u32 evaluated_max = 1 << 18;  // of so many rows the filters are evaluated at once where columns are compact

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
  u32 seen = 0, columns = 0, asked = 0, inside = 0, number = ~u32{0};
  const ChunkMeta *m = nullptr;  // of that chunk
  for (u32 at = 0, i = 0; at < n; at += step, i++) {
    const u32 slot = at + (i * 0x9e3779b1u >> 8) % min_of(step, n - at);
    if (slot >> t.shift() != number) m = resident_meta(number = slot >> t.shift());
    if (!m || t.hidden(slot)) continue;
    const u32 row = slot & (t.chunk_rows() - 1);
    seen++;
    if (!column_mask(*m, row, 1)) continue;
    columns++;
    if (!has_places() || asked == places_sampled) continue;
    asked++;
    inside += place_passes(m->at(row));
    if (trouble_ != Errno::ok) return trouble_;
  }
  // One more than there were: nothing is ever taken to match not at all.
  e.columns = seen ? min_of(e.rows, e.rows * (columns + 1) / (seen + 1)) : e.rows;
  e.matching = asked ? min_of(e.columns, e.columns * (inside + 1) / (asked + 1)) : e.columns;
  return e;
}

u64 Searcher::select_cost(const Estimate &e) const {
  const u64 each = compact() ? plan_impl::compact_cost : plan_impl::column_cost;
  return c_.table().slots() * ranges_.n * each + e.absent * c_.table().stride() * plan_impl::absent_byte_cost +
         (has_places() ? e.columns * plan_impl::place_cost : 0);
}

u64 Searcher::row_cost() const { return plan_impl::row_cost + c_.space().row_bytes() * plan_impl::row_bytes_cost / 10; }

// Of so many rows, for each query, if all queries of a group look at the same.
u64 Searcher::shared_cost(u64 rows) const {
  const u64 group = min_of(o_.queries, group_max);
  return rows * row_cost() * (group + plan_impl::shared) / (group * (plan_impl::shared + 1));
}

// Rows that a walk scores until it has met `ef` that match, if those lie anywhere among all.
u64 Searcher::walked_rows(u64 matching, u64 rows) const {
  const u64 ef = max_of(o_.ef, k_);
  return min_of(rows, ef * (plan_impl::walked_ef + plan_impl::walked_missed * (rows + 1) / (matching + 1)));
}

// A walk by a query's index, when it is known which rows match.
u64 Searcher::walk_cost(u64 matching, u64 rows) const {
  const u64 ef = max_of(o_.ef, k_);
  const u64 any = walked_rows(matching, rows) * row_cost();
  if (past_ || c_.config().index != static_cast<u8>(IndexKind::hnsw)) return any;
  if (matching * matching_common >= rows) return ef * plan_impl::walked_ef * (rows + 1) / (matching + 1) * row_cost();
  const bool rare = matching * matching_rare < rows;
  if (code_bytes_ && matching >= plan_impl::codes_worth && (rare || matching <= ef * matching_scanned))
    return min_of(any, plan_impl::code_search_cost +
                           matching * (plan_impl::code_cost + code_bytes_ * plan_impl::code_bytes_cost / 10));
  return rare ? any : min_of(any, ef * (plan_impl::stepped_rows * row_cost() + plan_impl::stepped_lists_cost));
}

Result<Searcher::Way> Searcher::plan_anew(RowView &rows, u32 n, bool index) {
  const Way usual = index ? Way::walk : Way::scan;
  if (!o_.nfilters || n > Selection::slots_max) return usual;
  const u64 queries = o_.queries;
  Estimate e;
  e.rows = c_.table().live();
  bool worth =
      !has_places() && (n < plan_impl::sample_worth || (compact() && (n <= plan_impl::evaluated_max || known())));
  if (!worth) {
    e = VX_TRY(estimate(n));
    const u64 walk = walked_rows(e.matching, e.rows), matching = shared_cost(e.matching);
    // A scan meets rows in order, and asks for few of them.
    const u64 asking = index ? walk * (row_cost() + plan_impl::ask_cost) : shared_cost(e.rows) / 2;
    worth = select_cost(e) + queries * (index ? min_of(matching, walk_cost(e.matching, e.rows)) : matching) <
            queries * asking;
  }
  if (!worth) return usual;
  if (!VX_TRY(try_select(rows, n, has_places() ? Asked::all : Asked::columns))) return usual;
  return way_selected(index);
}

// When it is known how many match.
Searcher::Way Searcher::way_selected(bool index) const {
  const u64 matching = selection_.count(), rows = c_.table().live();
  if (index) return shared_cost(matching) <= walk_cost(matching, rows) ? Way::matching : Way::walk;
  return matching < rows / 2 ? Way::matching : Way::scan;
}

// For the queries that come after the first ones, what is known by then counts: a walk may have brought too few.
Result<Searcher::Way> Searcher::plan_filters(RowView &rows, u32 n, bool index) {
  if (!planned_) {
    way_ = VX_TRY(plan_anew(rows, n, index));
    planned_ = true;
  } else if (selected_ != Asked::none) {
    const bool known = VX_TRY(try_select(rows, n, selected_));  // what came since
    way_ = known ? way_selected(index) : index ? Way::walk : Way::scan;
  }
  return way_ == Way::walk && !index ? Way::scan : way_;
}

}  // namespace vexfs::vector
