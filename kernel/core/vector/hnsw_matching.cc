// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Walking an HNSW graph among the rows that match a filter only (after ACORN, Patel et al. 2024).
//
// Where it is known which rows match, those that do not need not be scored: a node's matching neighbours are its next
// ones, and where these are few, the matching neighbours of neighbours that do not match. So the beam holds nothing but
// rows that match, and a walk among one row in ten costs about what a walk among all of them costs. It may bring too
// little, where rows that match lie far from the query or apart: the caller then walks through all rows.
#include <bit>

#include "hnsw.h"
#include "matching_lists.h"

namespace vexfs::vector {
namespace hnsw_matching_impl {
namespace {

// Nodes that do not match and yet are begun from: the nearest ones of the upper levels.
constexpr u32 seeds_max = 2;
// Lists fetched ahead of those that are looked through.
constexpr u32 lists_ahead = 4;
// Codes scored at a time, where all rows that match are looked at, and words of bits between breaths.
constexpr u32 scanned_batch = 32, words_per_breath = 1024;
// Neighbours looked at to see whether a node is one of many copies, and how many of them are copies then.
constexpr u32 crowd_sample = 8, crowd_share = 3;
// Matching neighbours after which a node's others are not looked through.
constexpr u32 enough(u32 m) { return m + m / 4; }

}  // namespace
}  // namespace hnsw_matching_impl

bool Walk::matches(u32 slot) const {
  return slot < params->matching_end && (params->matching[slot >> 6] >> (slot & 63) & 1);
}

// A node's neighbours: those that match, and the others, if wanted. Room for a list in each.
Status Walk::split_list(u32 slot, u32 *matching, u32 *nmatching, u32 *bridges, u32 *nbridges) {
  u32 found = 0, others = 0;
  *nmatching = *nbridges = 0;
  u8 *segment = VX_TRY(segment_of(slot));
  if (!segment) return {};
  const Link *list = graph_.list(segment, slot, 0);
  const u32 degree = graph_.shape.degree(0);
  const u64 *bits = params->matching;
  const u32 end = params->matching_end;
  // Without a branch: which neighbours match is a coin's toss.
  for (u32 i = 0; i < degree; i++) {
    const u32 next = list[i].load(std::memory_order_acquire);
    if (next == slot_none) break;
    const u32 inside = next < end ? next : 0;
    const bool in = (next < end) & (bits[inside >> 6] >> (inside & 63));
    matching[found] = next;
    found += in;
    if (bridges) bridges[others] = next;
    others += !in;
  }
  *nmatching = found;
  *nbridges = others;
  return {};
}

// Gathers rows that match, of those that were not seen yet.
Status Walk::gather_unseen(const u32 *matching, u32 n) {
  VX_TRY(visited_.reserve(n));
  Batch &b = *batch_;
  const u32 lines = item_lines();
  const bool coded = measure_.coded();
  const GraphShape shape = graph_.shape;
  const Graph::Segments segments = graph_.segments();
  for (u32 i = 0; i < n && b.n < Batch::capacity; i++) {
    const u32 next = matching[i];
    if (!visited_.insert(next)) continue;
    u8 *there = coded ? segments.peek(next >> shape.shift) : nullptr;
    if (!there) {
      VX_TRY(gather(next));
      continue;
    }
    gather_code(shape, there, next, lines);
  }
  return {};
}

// The same of a node's neighbours; its others go to bridges[0..*n), if wanted.
Status Walk::gather_matching(u32 slot, u32 *bridges, u32 *n) {
  u32 *matching = batch_->key, found, others;  // keys come later
  VX_TRY(split_list(slot, matching, &found, bridges, &others));
  if (n) *n = others;
  return gather_unseen(matching, found);
}

// A node that does not match is looked through once, unless there were enough others each time it was met.
Status Walk::collect_matching(u32 slot) {
  if (params->lists && params->lists->has(slot) && VX_TRY(collect_listed(slot))) return {};
  u32 *bridges = VX_TRY(scratch_.array<u32>(Scratch::select, Batch::capacity));
  u32 n = 0;
  batch_->n = 0;
  VX_TRY(gather_matching(slot, bridges, &n));
  const u32 enough = min_of(hnsw_matching_impl::enough(graph_.shape.m), Batch::capacity / 2);
  if (batch_->n >= enough) return {};
  for (u32 i = 0; i < min_of(n, hnsw_matching_impl::lists_ahead); i++) prefetch_list(bridges[i]);
  for (u32 i = 0; i < n && batch_->n < enough; i++) {
    if (i + hnsw_matching_impl::lists_ahead < n) prefetch_list(bridges[i + hnsw_matching_impl::lists_ahead]);
    VX_TRY(visited_.reserve(1));
    if (visited_.insert(bridges[i])) VX_TRY(gather_matching(bridges[i], nullptr, nullptr));
  }
  return {};
}

// Up to `most` rows that match, from a node's neighbours on, then from those of the neighbours that do not: each once, but
// not the node itself.
Status Walk::find_matching(u32 slot, u32 most, u32 *found, u32 *n) {
  u32 *bridges = VX_TRY(scratch_.array<u32>(Scratch::select, Batch::capacity));
  u32 *matching = batch_->key, nmatching, nbridges, none;
  VX_TRY(split_list(slot, matching, &nmatching, bridges, &nbridges));
  u32 kept = 0;
  for (u32 at = 0;; at++) {
    for (u32 i = 0; i < nmatching && kept < most; i++) {
      bool known = matching[i] == slot;
      for (u32 j = 0; j < kept && !known; j++) known = found[j] == matching[i];
      if (!known) found[kept++] = matching[i];
    }
    if (at == nbridges || kept == most) break;
    if (at + hnsw_matching_impl::lists_ahead < nbridges) prefetch_list(bridges[at + hnsw_matching_impl::lists_ahead]);
    VX_TRY(split_list(bridges[at], matching, &nmatching, nullptr, &none));
  }
  *n = kept;
  return {};
}

// A node whose next ones are kept, or will be. False: they are not, and there is no memory for it; or many of them have died,
// and what lies behind these is for looking through lists to find.
Result<bool> Walk::collect_listed(u32 slot) {
  MatchingLists &lists = *params->lists;
  u32 n = 0;
  batch_->n = 0;
  const u32 *listed = lists.find(slot, &n);
  if (!listed) {
    if (lists.full()) return false;
    u32 *found = VX_TRY(scratch_.array<u32>(Scratch::heap, Batch::capacity));
    VX_TRY(find_matching(slot, lists.most(), found, &n));
    lists.keep(slot, found, n);
    listed = found;
  }
  u32 *living = batch_->key, nliving = 0;
  for (u32 i = 0; i < n; i++) {
    living[nliving] = listed[i];
    nliving += matches(listed[i]);
  }
  if (nliving < n - n / 4) return false;
  VX_TRY(gather_unseen(living, nliving));
  return true;
}

// What the next step looks at first.
void Walk::prefetch_step(u32 slot) const {
  if (slot != slot_none && params->lists && params->lists->has(slot))
    params->lists->prefetch(slot);
  else
    prefetch_list(slot);
}

// Scores the rows that match and are next to `slot`, for the beam.
Status Walk::expand_matching(u32 slot) {
  VX_TRY(collect_matching(slot));
  stats.hops++;
  if (batch_->n) {
    score();
    offer(beam);
  }
  return breathe();
}

// From what the descent left in the beam: what matches stays, and the nearest of the rest are where else to begin.
Status Walk::widen_matching(u32 ef) {
  u32 seeds[hnsw_matching_impl::seeds_max], n = 0;
  Entry *kept = VX_TRY(scratch_.array<Entry>(Scratch::results, usize{ef} + 1));
  u32 nkept = 0;
  for (u32 i = 0; i < beam.size(); i++) {
    const Entry e = beam.entries()[i] & ~Entry{1};
    if (matches(entry_slot(e)))
      kept[nkept++] = e;
    else if (n < hnsw_matching_impl::seeds_max) {
      seeds[n++] = entry_slot(e);
      seed_ = min_of(seed_, e);
    }
  }
  beam.reset(VX_TRY(scratch_.array<Entry>(Scratch::beam, usize{ef} + 1)), ef);
  for (u32 i = 0; i < nkept; i++) beam.add(kept[i]);
  for (u32 i = 0; i < n; i++) VX_TRY(expand_matching(seeds[i]));
  while (beam.has_next()) {
    const u32 slot = beam.take_next();
    prefetch_step(beam.peek_next());
    VX_TRY(expand_matching(slot));
    if (params->distances_max && stats.distances >= params->distances_max) {
      stats.truncated = beam.has_next();
      return {};
    }
  }
  return {};
}

// What waits in `ahead` becomes the batch, of which what was there is scored meanwhile: so memory is never waited for alone.
Status Walk::score_ahead(Batch &ahead) {
  Batch &b = *batch_;
  if (b.n) {
    score();
    offer(beam);
    VX_TRY(breathe());
  }
  memcpy(b.slot, ahead.slot, usize{ahead.n} * sizeof b.slot[0]);
  memcpy(b.item, ahead.item, usize{ahead.n} * sizeof b.item[0]);
  b.n = std::exchange(ahead.n, 0);
  return {};
}

// The nearest `ef` of all rows that match, by their codes: of few rows or far apart ones the cheapest way, since a code is an
// eighth of a row or less.
Status Walk::scan_matching(const Probe &q, u32 ef) {
  VX_ASSERT(measure_.coded());
  query_ = q;
  batch_ = VX_TRY(scratch_.array<Batch>(Scratch::batch, 1));
  beam.reset(VX_TRY(scratch_.array<Entry>(Scratch::beam, usize{ef} + 1)), ef);
  Batch &ahead = *VX_TRY(scratch_.array<Batch>(Scratch::select, 1));
  batch_->n = ahead.n = 0;
  const GraphShape shape = graph_.shape;
  const u32 lines = item_lines(), end = min_of(params->matching_end, graph_.slot_limit());
  for (u32 base = 0; base < end; base += 64) {
    u64 left = params->matching[base >> 6];
    if (end - base < 64) left &= (u64{1} << (end - base)) - 1;
    for (; left; left &= left - 1) {
      const u32 slot = base + static_cast<u32>(std::countr_zero(left));
      u8 *segment = VX_TRY(segment_of(slot));
      if (!segment) continue;
      gather_code(shape, segment, slot, lines, ahead);
      if (ahead.n < hnsw_matching_impl::scanned_batch) continue;
      VX_TRY(score_ahead(ahead));
      if (params->distances_max && stats.distances >= params->distances_max) {
        stats.truncated = true;
        return {};
      }
    }
    if ((base >> 6) % hnsw_matching_impl::words_per_breath == 0) VX_TRY(breathe());
  }
  VX_TRY(score_ahead(ahead));
  return score_ahead(ahead);
}

// Those found that live and that the caller takes.
u32 Walk::take_wanted(const Entry *found, u32 n, Entry *into) {
  u32 taken = 0;
  for (u32 i = 0; i < n; i++)
    if (matches(entry_slot(found[i])) && wanted(entry_slot(found[i]))) into[taken++] = found[i] & ~Entry{1};
  return taken;
}

// Is the list of a node that does not match full of copies of it that do not match, either? Then one that does may have no way in.
Result<bool> Walk::in_crowd(u32 slot) {
  using namespace hnsw_matching_impl;
  u32 *others = VX_TRY(scratch_.array<u32>(Scratch::select, Batch::capacity)), *matching = batch_->key, none, n;
  VX_TRY(split_list(slot, matching, &none, others, &n));
  batch_->n = 0;
  VX_TRY(gather(slot));
  for (u32 i = 0; i < min_of(n, crowd_sample); i++) VX_TRY(gather(others[u64{i} * n / min_of(n, crowd_sample)]));
  u32 copies = 0;
  for (u32 i = 1; i < batch_->n; i++)
    copies += batch_->slot[0] == slot && memcmp(batch_->item[0], batch_->item[i], measure_.item_bytes()) == 0;
  return n >= crowd_min() && copies >= crowd_share;
}

// As walk_for(), where it is known which rows match. False: it brought too few.
Result<bool> Hnsw::walk_matching(Walk &walk, const simd::Query &q, const Probe &probe, EntryPoint from, u32 ef,
                                 const Entry **found, u32 *n) {
  const SearchParams &p = *walk.params;
  const u64 all = min_of<u64>(p.matching_end, max_of(walk.rows_.live, nodes_.load(std::memory_order_relaxed)));
  const bool common = p.matching_count * matching_common >= all;
  const bool rare = p.matching_count * matching_rare < all;
  const u32 scanned = p.lists && !p.lists->full() ? matching_scanned_listed : matching_scanned;
  const bool scan = measure_.coded() && !common && (rare || p.matching_count <= u64{ef} * scanned);
  if (p.matching_count == 0 || (rare && !scan)) return false;
  const u32 wide = common ? static_cast<u32>(max_of<u64>(ef, ef * all / p.matching_count)) : ef;
  if (scan) {
    VX_TRY(walk.scan_matching(probe, ef));
  } else {
    VX_TRY(walk.begin(probe, from, wide));
    VX_TRY(walk.descend(0));
    VX_TRY(common ? walk.widen(0) : walk.widen_matching(ef));
  }
  Entry *taken = VX_TRY(walk.scratch_.array<Entry>(Scratch::results, usize{wide} + 1));
  *n = walk.take_wanted(walk.beam.entries(), walk.beam.size(), taken);
  *found = taken;
  // Far fewer than were looked for: those that match do not lie where the query does.
  const u64 wanted = min_of<u64>(p.k, p.matching_count);
  const u64 enough = common ? max_of<u64>(wanted, min_of<u64>(ef, p.matching_count) / 2) : wanted;
  if (*n < enough && !walk.stats.truncated) return false;
  const u32 limit = *n < p.k ? simd::key_farthest : entry_key(taken[p.k - 1]);
  if (!walk.stats.truncated && !scan) {
    bool crowd = false;
    if (common)
      crowd = VX_TRY(walk.crowd_within(walk.beam.entries(), walk.beam.size(), limit));
    else if (walk.seed_ < entry_of(limit, 0))
      crowd = VX_TRY(walk.in_crowd(entry_slot(walk.seed_)));
    if (crowd) return false;
  }
  VX_TRY(on_rows(walk, q, found, n));
  return *n >= wanted || walk.stats.truncated;
}

}  // namespace vexfs::vector
