// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Searching a snapshot by way of the present: the live index and the live table's rows in memory, seen through what the
// snapshot knows of which rows there were.
//
// Rows are never overwritten and slots never given out twice. So the rows of a snapshot are those below its number of
// slots that its own bitmaps do not call dead, and they are the same bytes in the live table. The live graph holds them
// too: a row that died since is still a node of it, one that came since is walked through and not returned. What died and
// is not in the graph (it was built anew in between) is scored one by one; what the live table has given up is read from
// the snapshot's own. So nothing is copied that the present has in memory, and the answer is that of the snapshot: bit for bit when exact.
//
// Not after a rollback: slots of the state that was replaced were given out again. Then, and when too much has died, or
// the collection is gone, the snapshot's own index is what is searched.
#include <algorithm>

#include "search.h"

namespace vexfs::vector {

namespace past_impl {
namespace {

// So many rows that have died since are scored one by one: what was inserted since then took care to link the living.
constexpr u32 died_max = 8192;
// More rows than this that the graph does not have are not: the snapshot's own index is better.
u32 apart_max(u32 live) { return max_of<u32>(4096, live / 4); }

// As wide a walk as finds, among all nodes that there are now, as many of those that were there then; and wider where it
// is to find dead ones, to which fewer links lead.
u32 ef_now(u32 ef, u32 nodes, u32 then, bool dead) {
  u64 wide = u64{ef} * max_of(nodes, then) / max_of<u32>(then, 1);
  if (nodes != then) wide += wide / 2;
  return static_cast<u32>(min_of<u64>(dead ? 2 * wide : wide, VEXFS_EF_MAX));
}

bool same_rows(const Table &then, const Table &now) {
  const simd::Space &a = then.space(), &b = now.space();
  return a.dim() == b.dim() && a.element() == b.element() && a.metric() == b.metric() && then.shift() == now.shift() &&
         then.stride() == now.stride() && then.slots() <= now.slots();
}

}  // namespace
}  // namespace past_impl

void Searcher::find_present() {
  Engine *present = engine_.present();
  if (!present || present->volume().rollback_txn() > engine_.volume().durable_txn()) return;
  Result<CollectionRef> r = present->find(c_.cid());
  if (!r.ok()) return;
  Collection &now = **r;
  if (now.dropped() || !past_impl::same_rows(c_.table(), now.table())) return;
  present_ = r.take();
}

// Has the live table given the chunk's data up, or may it at any moment?
bool Searcher::only_then(u32 slot) const {
  return !past_ || present_->table().chunk_all_dead(slot >> c_.table().shift());
}

bool Searcher::seen_then(u32 slot) {
  if (c_.table().hidden(slot)) return false;
  if (walking_ && std::binary_search(slots_.begin(), slots_.end(), slot)) return false;  // scored apart
  Table &now = present_->table();
  return !now.damaged_count() || !now.is_damaged(slot);
}

Result<RowMeta> Searcher::meta(u32 slot) {
  if (!only_then(slot)) {
    Result<RowMeta> m = row_meta(present_->table(), slot);
    if (m.code() != Errno::noent) return m;  // else it was given up just now
  }
  return row_meta(c_.table(), slot);
}

// When memory is short, the chunk does not come in for it, nor else for the first few.
Result<RowMeta> Searcher::row_meta(Table &t, u32 slot) {
  if (const ChunkMeta *m = t.resident_meta(slot >> t.shift())) return m->at(slot & (t.chunk_rows() - 1));
  if (!t.chunk_all_dead(slot >> t.shift()) && (t.sparse() || !t.worth_chunk(slot))) return groups_.get(t, slot);
  return t.meta(slot);
}

// Rows that are named, from wherever they are.
Status Searcher::score_named(View &then, View &now, const simd::Query *q, u32 nq) {
  usize first = 0, n = slots_.size();
  while (first < n) {
    bool own = only_then(slots_[first]);
    usize end = first + 1;
    while (end < n && only_then(slots_[end]) == own) end++;
    VX_TRY(scan_slots(own ? then.rows() : now.rows(), c_.space(), q, nq, slots_.data() + first,
                      static_cast<u32>(end - first), params(), scratch_, tops_, &stats_));
    first = end;
  }
  return {};
}

Status Searcher::scan_past(View &then, View &now, const simd::Query *q, u32 nq, u32 begin, u32 end) {
  const Table &t = c_.table();
  for (u32 at = begin; at < end;) {
    u32 to = min_of(end, (at | (t.chunk_rows() - 1)) + 1);
    bool own = only_then(at);
    while (to < end && only_then(to) == own && !t.chunk_all_dead(to >> t.shift()))
      to = min_of(end, (to | (t.chunk_rows() - 1)) + 1);
    if (!t.chunk_all_dead(at >> t.shift()))
      VX_TRY(scan_exact(own ? then.rows() : now.rows(), c_.space(), q, nq, at, to, params(), scratch_, tops_, &stats_));
    at = to;
  }
  return {};
}

// Rows below `upto` that were there then and that the walk is not to look for: all that died since, or, if those are many,
// the ones that are not in the graph any more. False: there are too many even of them.
Result<bool> Searcher::find_apart(LiveIndex &l, u32 upto) {
  walk_dead_ = false;
  if (VX_TRY(find_died(nullptr, upto, past_impl::died_max))) return true;
  walk_dead_ = true;
  return find_died(&l, upto, past_impl::apart_max(c_.table().live()));
}

// Rows that died since; l: only those that are not in its graph. False: more than `most`.
Result<bool> Searcher::find_died(LiveIndex *l, u32 upto, u32 most) {
  slots_.clear();
  const Table &then = c_.table();
  Table &now = present_->table();
  for (u32 at = 0; at < upto;) {
    u32 number = at >> then.shift(), to = min_of(upto, (at | (then.chunk_rows() - 1)) + 1);
    bool any = now.chunk_any_dead(number) && !then.chunk_all_dead(number);
    for (; any && at < to; at++) {
      if (then.hidden(at) || !now.hidden(at) || (l && l->index->contains(at))) continue;
      if (slots_.size() == most) return false;
      VX_TRY(slots_.push(at));
    }
    at = to;
  }
  return true;
}

Status Searcher::matching_past(View &then, View &now, const simd::Query *q, u32 nq) {
  return score_selected([&] { return score_named(then, now, q, nq); });
}

// How many hits a walk of slots below `upto` can bring at most: of the rows there were, or of those that match, without
// the ones in slots_, which are scored apart.
u64 Searcher::all_past(u32 upto, bool filtered) const {
  const u64 live = c_.table().live(), apart = slots_.size();
  if (!filtered) return live - min_of(live, apart);
  if (selection_.end() < upto) return ~u64{0};
  u64 n = selection_.count();
  for (u32 slot : slots_) n -= selection_.has(slot);
  return n;
}

// False: the snapshot's own index is to be asked.
Result<bool> Searcher::walk_past(View &then, View &now, const simd::Query *q, u32 nq, LiveIndex &l) {
  const u32 n = then.slots(), upto = min_of(n, l.upto.load(std::memory_order_acquire));
  const u64 departures = l.index->departures();
  if (!VX_TRY(find_apart(l, upto))) return false;
  const u32 live = c_.table().live(), nodes = l.index->counts().nodes;
  const bool filtered = need_accept(n, n);
  const u64 all = all_past(upto, filtered);
  auto ef = [&](u32 k) { return past_impl::ef_now(breadth(k), nodes, live, walk_dead_); };
  bool thin = false;
  limit_ = upto;
  walking_ = true;
  plan_ = selection_.end() ? VEXFS_PLAN_FILTERED_INDEX : VEXFS_PLAN_INDEX;
  for (u32 j = 0; j < nq && !thin; j++) thin = VX_TRY(walk_one(now.rows(), q[j], l, {ef, all}, tops_[j]));
  walking_ = false;
  limit_ = n;
  upto_ = upto;
  if (l.index->departures() != departures) return false;  // what has left meanwhile was neither scored nor to be met
  if (thin) {  // filters, or what came since, hide most of what the walk meets
    engine_.stats().exact_fallbacks.fetch_add(1, std::memory_order_relaxed);
    for (u32 j = 0; j < nq; j++) tops_[j].n = 0;
    const bool few = filtered && VX_TRY(try_select(now.rows(), n, Asked::all));
    plan_ = few ? VEXFS_PLAN_INDEX_MATCHING : VEXFS_PLAN_SCAN;
    VX_TRY(few ? matching_past(then, now, q, nq) : scan_past(then, now, q, nq, 0, n));
    return true;
  }
  VX_TRY(score_named(then, now, q, nq));
  VX_TRY(scan_past(then, now, q, nq, upto, n));
  return true;
}

// Of the snapshot's chunks: how many the live table may have given up.
u32 Searcher::given_up() const {
  u32 n = 0, chunks = div_up(c_.table().slots(), c_.table().chunk_rows());
  for (u32 i = 0; i < chunks; i++) n += present_->table().chunk_all_dead(i);
  return n;
}

// As the plan says. False: the present cannot tell.
Result<bool> Searcher::answer_there(View &then, View &now, const simd::Query *q, u32 nq, LiveIndex *l) {
  const u32 n = then.slots();
  const Way way = VX_TRY(plan_filters(now.rows(), n, l != nullptr));
  if (way == Way::matching) {
    plan_ = VEXFS_PLAN_MATCHING;
    VX_TRY(matching_past(then, now, q, nq));
    return true;
  }
  if (l) return walk_past(then, now, q, nq, *l);
  if (!o_.exact && n >= walked_slots_min && c_.index().backlog() < n) return false;  // there was an index then
  VX_TRY(scan_past(then, now, q, nq, 0, n));
  return true;
}

// As search(), through the present. False: it cannot tell.
Result<bool> Searcher::search_past(View &then, View &now, const simd::Query *q, u32 nq) {
  const u32 n = then.slots(), before = given_up();
  if (present_->table().bad_dead_rows()) return false;
  upto_ = 0;
  limit_ = n;
  accepting_ = true;
  plan_ = VEXFS_PLAN_SCAN;
  bool known = true;
  if (VX_TRY(choose_slots(then))) {
    plan_ = VEXFS_PLAN_NAMED;
    VX_TRY(score_named(then, now, q, nq));
  } else {
    LiveIndex *l = o_.exact || n < walked_slots_min ? nullptr : present_->index().acquire();
    Result<bool> r = answer_there(then, now, q, nq, l);
    if (l && !r.ok()) (void)present_->index().blame(l, r.error());
    if (l) present_->index().release(l);
    known = VX_TRY(std::move(r));
  }
  // What was given up meanwhile may have been passed over, and what is damaged taken for sound.
  return known && given_up() == before && present_->table().bad_dead_rows() == 0;
}

Status Searcher::answer_past(const simd::Query *queries, u32 n, vexfs_hit *hits, u32 *counts) {
  {
    View then(c_.table()), now(present_->table(), true);
    then.link(now);
    past_ = true;
    Result<bool> r = c_.table().live() ? search_past(then, now, queries, n) : Result<bool>(true);
    bool known = r.ok() && *r && trouble_ == Errno::ok;
    Status s;
    if (known) engine_.stats().past_searches.fetch_add(n, std::memory_order_relaxed);
    for (u32 j = 0; j < n && known && s.ok(); j++) s = deliver(tops_[j], hits + usize{j} * o_.k, &counts[j]);
    past_ = walking_ = false;
    if (r.code() == Errno::intr || r.code() == Errno::nomem) s = r.error();
    if (known || !s.ok()) {
      return s;
    }
  }
  trouble_ = Errno::ok;
  planned_ = false;
  chosen_of_ = 0;
  for (u32 j = 0; j < n; j++) {
    tops_[j].n = 0;
    counts[j] = 0;
  }
  return answer(queries, n, hits, counts);
}

}  // namespace vexfs::vector
