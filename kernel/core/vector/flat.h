// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Exact search: scores every row of a range of slots. Serves flat collections, rows that no index holds yet, ground
// truth, and filters so selective that a scan beats a walk.
#pragma once
#include "index.h"

namespace vexfs::vector {

// The order of hits: nearer first, of rows that are equally far the one in the lower slot.
constexpr bool nearer(const Hit &a, const Hit &b) { return a.key < b.key || (a.key == b.key && a.slot < b.slot); }

// The k nearest of all that was offered, for merging: an ascending array.
// Storage is the caller's: k hits.
struct TopK {
  Hit *hits = nullptr;
  u32 k = 0;
  u32 n = 0;
  // ---- bounds: nothing farther than key_max, nothing up to and including `after`
  u32 key_max = simd::key_farthest;
  bool has_after = false;
  Hit after{0, 0};
  // ---- grouped: of rows with one owner the nearest alone. k owners' room, and who tells a row's owner.
  u64 *owners = nullptr;
  u64 (*owner_of)(void *ctx, u32 slot) = nullptr;
  void *ctx = nullptr;
  // Slots from here on may be offered again: by a scan, after an index that had them already. The first offer counts.
  u32 twice_from = ~u32{0};

  // The key beyond which nothing can enter any more.
  u32 limit() const { return n < k ? key_max : hits[n - 1].key; }
  bool wants(u32 key, u32 slot) const {
    const Hit h{key, slot};
    return key <= key_max && (n < k || nearer(h, hits[n - 1])) && (!has_after || nearer(after, h));
  }
  // wants() must be true; a slot below twice_from must be offered once.
  void add(u32 key, u32 slot);
};

// Offers every live, accepted row of [begin, end) to the queries' results (tops[j] belongs to queries[j]; they may
// hold hits already, such as those of an index). Rows are read once for all queries. intr, nomem, or the view's fault.
Status scan_exact(RowView &rows, const simd::Space &space, const simd::Query *queries, u32 nq, u32 begin, u32 end,
                  const SearchParams &params, Scratch &scratch, TopK *tops, SearchStats *stats);
// The same for chosen slots (ascending, each once): the pre-filtered scan.
Status scan_slots(RowView &rows, const simd::Space &space, const simd::Query *queries, u32 nq, const u32 *slots, u32 n,
                  const SearchParams &params, Scratch &scratch, TopK *tops, SearchStats *stats);

}  // namespace vexfs::vector
