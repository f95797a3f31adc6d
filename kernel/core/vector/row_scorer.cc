// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Scoring of candidates in batches.
#include "row_scorer.h"

namespace vexfs::vector {
namespace row_scorer_impl {
namespace {

constexpr u32 row_lines_ahead = 8;      // cache lines of a row fetched when it is gathered
constexpr u32 batches_per_breath = 32;  // between checks for a kill and for the CPU being wanted

}  // namespace
}  // namespace row_scorer_impl

Status RowScorer::begin(Scratch &scratch) {
  g_ = VX_TRY(scratch.array<Gathered>(Scratch::batch, 1));
  return {};
}

// Rows that exist no more (their chunk is gone for good) are passed over.
void RowScorer::gather(u32 slot) {
  if (rows_.any_dead && rows_.dead(slot)) return;
  const u8 *p = rows_.peek(slot);
  g_->slot[n_] = slot;
  g_->row[n_] = p;
  if (!p) [[unlikely]] {
    absent_ = true;
    n_++;
    return;
  }
  simd::prefetch(p, space_.row_bytes(), row_scorer_impl::row_lines_ahead);
  g_->aux[n_] = rows_.aux_off ? rows_.aux(p, slot) : 0;
  n_++;
}

// Those of the batch that are not in memory.
Status RowScorer::bring_absent() {
  absent_ = false;
  VX_TRY(rows_.fetch_absent(g_->slot, g_->row, g_->aux, n_));
  u32 kept = 0;
  for (u32 i = 0; i < n_; i++) {
    if (!g_->row[i]) continue;
    g_->slot[kept] = g_->slot[i];
    g_->row[kept] = g_->row[i];
    g_->aux[kept++] = g_->aux[i];
  }
  n_ = kept;
  return {};
}

bool RowScorer::wanted(u32 slot) {
  if (rows_.dead(slot)) return false;
  if (!params_.accept) return true;
  stats.accepts++;
  return params_.accept(params_.ctx, slot);
}

// Of a batch the nearest first, so that accept() is asked as rarely as possible.
Status RowScorer::score() {
  if (absent_) [[unlikely]]
    VX_TRY(bring_absent());
  space_.score(query_, g_->row, g_->aux, n_, g_->key);
  stats.distances += n_;
  u32 near = 0;
  for (u32 i = 0; i < n_; i++) {
    if (!top_->wants(g_->key[i], g_->slot[i])) continue;
    const Hit h{g_->key[i], g_->slot[i]};
    u32 j = near++;
    for (; j && (g_->order[j - 1].key > h.key || (g_->order[j - 1].key == h.key && g_->order[j - 1].slot > h.slot));
         j--)
      g_->order[j] = g_->order[j - 1];
    g_->order[j] = h;
  }
  n_ = 0;
  for (u32 i = 0; i < near; i++) {
    const Hit h = g_->order[i];
    if (!top_->wants(h.key, h.slot)) break;
    if (wanted(h.slot)) top_->add(h.key, h.slot);
  }
  return breathe();
}

Status RowScorer::breathe() {
  if (++since_breath_ < row_scorer_impl::batches_per_breath) return {};
  since_breath_ = 0;
  if (params_.interrupted && params_.interrupted(params_.ctx)) return Errno::intr;
  if (rows_.pause) rows_.pause(rows_);
  vx_yield();
  return {};
}

}  // namespace vexfs::vector
