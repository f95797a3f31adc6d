// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Exact search: scores every row of a range of slots. Serves flat collections, rows that no index holds yet, ground
// truth, and filters so selective that a scan beats a walk.
#pragma once
#include "index.h"

namespace vexfs::vector {

// The k nearest of all that was offered, for merging: an ascending array.
// Storage is the caller's: k hits.
struct TopK {
  Hit *hits = nullptr;
  u32 k = 0;
  u32 n = 0;
  // The key from which on nothing can enter any more.
  u32 limit() const { return n < k ? simd::key_farthest : hits[n - 1].key; }
  bool wants(u32 key, u32 slot) const {
    return n < k || key < hits[n - 1].key || (key == hits[n - 1].key && slot < hits[n - 1].slot);
  }
  // wants() must be true; a slot must be offered once.
  void add(u32 key, u32 slot);
};

// Offers every live, accepted row of [begin, end) to the queries' results (tops[j] belongs to queries[j]; they may
// hold hits already, such as those of an index). Rows are read once for all queries. intr, nomem, or the view's fault.
Status scan_exact(RowView &rows, const simd::Space &space, const simd::Query *queries, u32 nq, u32 begin, u32 end,
                  const SearchParams &params, Scratch &scratch, TopK *tops, SearchStats *stats);
// The same for chosen slots (ascending, each once): the pre-filtered scan.
Status scan_slots(RowView &rows, const simd::Space &space, const simd::Query &query, const u32 *slots, u32 n,
                  const SearchParams &params, Scratch &scratch, TopK *top, SearchStats *stats);

}  // namespace vexfs::vector
