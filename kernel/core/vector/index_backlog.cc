// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Rows that are not in the index yet: which ones a search has to scan, and when those who insert help to index them.
//
// An insert returns as soon as its rows are stored; threads index behind it. That is what makes a burst fast, and costs
// whoever searches a scan of all that waits. So who inserts pays for these scans: each row that comes may cost the searches
// a few scans of a row for nothing, and for what they take beyond that, rows are indexed before the insert returns. A burst
// with hardly a search beside it is not slowed down; a stream of searches brings the backlog down to where its scans cost
// little beside the walks. Work is what is counted, not time, so it is the same on a fast machine and a slow one, busy or not.
#include "index_keeper.h"

namespace vexfs::vector {
namespace index_backlog_impl {
namespace {

constexpr u32 backlog_max = 8192;  // rows that threads may be behind whoever searches
constexpr u32 catch_up = 64;       // rows of others that a caller indexes beside its own, at least
constexpr u64 scans_free = 64;     // of a row, for each row that comes
constexpr u64 scans_a_row = 256;   // for which one is indexed, which takes about eight times as long
constexpr u64 owed_max = backlog_max * scans_a_row;
constexpr u32 helped_min = 16;  // rows: less waits for the next insert

}  // namespace
}  // namespace index_backlog_impl

u32 IndexKeeper::backlog() {
  const u32 n = table_.slots();
  Guard g(lock_);
  if (!live_) return parked_backlog(n);
  return n > live_->claimed ? n - live_->claimed : 0;
}

// Claims and the rest, in order. They may overlap: a run that was given back is claimed again, and what follows it with it.
u32 IndexKeeper::unindexed(const LiveIndex &l, u32 n, SlotRun *out) {
  u32 all;
  {
    Guard g(lock_);
    all = l.nclaims;
    for (u32 i = 0; i < all; i++) out[i] = l.claims[i];
    out[all++] = {l.claimed, n};
  }
  u32 sorted = 0;
  for (u32 i = 0; i < all; i++) {
    const SlotRun run{out[i].begin, min_of(out[i].end, n)};
    if (run.begin >= n) continue;
    u32 at = sorted++;
    for (; at && out[at - 1].begin > run.begin; at--) out[at] = out[at - 1];
    out[at] = run;
  }
  u32 kept = 0;
  for (u32 i = 0; i < sorted; i++) {
    if (kept && out[kept - 1].end >= out[i].begin)
      out[kept - 1].end = max_of(out[kept - 1].end, out[i].end);
    else
      out[kept++] = out[i];
  }
  return kept;
}

void IndexKeeper::tail_scanned(u64 rows) { owed_.fetch_add(rows, std::memory_order_relaxed); }

// Of `added` new rows, how many are to be indexed for the scans that are owed.
u32 IndexKeeper::pay(u32 added) {
  using namespace index_backlog_impl;
  u64 owed = owed_.load(std::memory_order_relaxed);
  for (;;) {
    const u64 rest = min_of(owed - min_of(owed, added * scans_free), owed_max);
    u32 rows = static_cast<u32>(min_of<u64>(rest / scans_a_row, u64{added} + max_of(added, catch_up)));
    if (rows < helped_min) rows = 0;
    if (owed_.compare_exchange_weak(owed, rest - rows * scans_a_row, std::memory_order_relaxed)) return rows;
  }
}

void IndexKeeper::not_indexed(u32 rows) {
  if (rows && backlog()) tail_scanned(rows * index_backlog_impl::scans_a_row);
}

u32 IndexKeeper::share_of(u32 added, u32 waiting, bool threads) {
  using namespace index_backlog_impl;
  if (!threads) return added + catch_up;
  // Nothing waited before: what is owed was for rows that threads have indexed.
  if (waiting <= added && owed_.load(std::memory_order_relaxed)) owed_.store(0, std::memory_order_relaxed);
  return max_of(pay(added), waiting > backlog_max ? added + catch_up : 0);
}

}  // namespace vexfs::vector
