// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The part of the index in a search: as many hits as are wanted, and for pages and groups as many as it takes.
#include "search.h"

namespace vexfs::vector {
namespace walk_impl {
namespace {

// A page, or k owners, are looked for among this many times as many hits, then among four times as many ...
constexpr u32 first_times = 2, first_times_grouped = 4, next_times = 4;
// ... but a walk for more hits than this costs what an exact scan costs: a hit takes about a dozen rows to score, which do
// not lie together.
u32 deepest(u32 slots) { return min_of<u32>(VEXFS_EF_MAX, max_of<u32>(512, slots / 16)); }
// Deaths, of so many slots one at least, after which lists are begun anew: they name too many of the dead.
constexpr u32 deaths_min = 256, deaths_share = 64;

}  // namespace
}  // namespace walk_impl

// The breadth for the recall that is wanted. Nothing is waited for: before it was measured what is likely to do counts.
void Searcher::choose_breadth() {
  if (!o_.recall || o_.exact) return;
  if (o_.recall >= recall_all) {  // nothing that is measured matters
    o_.exact = true;
    return;
  }
  Engine &e = present_ ? *engine_.present() : engine_;
  Collection &c = present_ ? *present_ : c_;
  e.want_recall(c);
  curve_ = c.index().recall().curve();
  const RecallChoice choice = curve_.choose(k_, o_.recall);
  o_.exact = choice.exact;
  o_.ef = curve_.measured() ? choice.ef : max_of(choice.ef, o_.ef);
}

u32 Searcher::breadth(u32 k) const {
  if (!o_.recall || k <= k_) return max_of(o_.ef, k);
  const RecallChoice wider = curve_.choose(k, o_.recall);
  return max_of(max_of(o_.ef, wider.exact ? recall_breadth_max : wider.ef), k);
}

// Where a recall is wanted it is measured with queries such as these; so not where no index, too small a one or a
// snapshot's is searched. A row of the collection is not one of them.
void Searcher::remember(const simd::Query *queries, u32 n) {
  if (o_.exclude_owner || engine_.present() || !c_.index().recall().wanted()) return;
  if (c_.index().reached() >= walked_slots_min) c_.index().recall().remember(queries, n);
}

// Walks until enough hits lie behind the last page, or are of different owners. True: the index does not bring as many.
Result<bool> Searcher::walk_deep(RowView &rows, const simd::Query &q, LiveIndex &l, const Breadth &b, TopK &top) {
  const u32 most = walk_impl::deepest(c_.table().slots());
  u64 want = u64{k_} * (o_.by_owner ? walk_impl::first_times_grouped : walk_impl::first_times);
  for (; want <= most; want *= walk_impl::next_times) {
    VX_TRY(found_.resize(want));
    SearchParams p = params();
    p.k = static_cast<u32>(want);
    p.ef = b.ef(p.k);
    stats_.crowded = false;
    const u32 n = VX_TRY(l.index->search(rows, q, p, scratch_, found_.data(), &stats_));
    if (stats_.crowded) return true;
    top.n = 0;
    for (u32 i = 0; i < n; i++)
      if (top.wants(found_[i].key, found_[i].slot)) top.add(found_[i].key, found_[i].slot);
    if (top.n == k_ || (n && found_[n - 1].key > o_.key_max)) return false;
    if (n < want) return n < b.all;
  }
  return true;
}

// One query's hits from the index. True: fewer than there may be.
Result<bool> Searcher::walk_one(RowView &rows, const simd::Query &q, LiveIndex &l, const Breadth &b, TopK &top) {
  if (deep()) return walk_deep(rows, q, l, b, top);
  SearchParams p = params();
  p.ef = b.ef(k_);
  stats_.crowded = false;
  top.n = VX_TRY(l.index->search(rows, q, p, scratch_, top.hits, &stats_));
  const bool thin = stats_.crowded || (top.n < k_ && top.n < b.all);
  while (top.n && top.hits[top.n - 1].key > o_.key_max) top.n--;
  return thin;
}

Status Searcher::scan_tail(View &view, const simd::Query *q, u32 nq, const SlotRun *tail, u32 runs) {
  u64 rows = 0;
  for (u32 i = 0; i < runs; i++) {
    VX_TRY(scan_all(view, q, nq, tail[i].begin, tail[i].end));
    rows += tail[i].end - tail[i].begin;
  }
  if (rows) c_.index().tail_scanned(rows * nq);
  return {};
}

// What earlier searches with these filters found out about the graph. Good where columns alone say which rows match, and these
// are so many that a walk goes from one to the next.
MatchingLists *Searcher::take_lists(const LiveIndex &l) {
  const Table &t = c_.table();
  const u64 rows = t.live(), matching = selection_.count();
  const u32 most = l.index->counts().links;
  if (!accepting_ || narrowed_ || !ranges_.n || !most || !compact()) return nullptr;
  if (!selection_.end() || selection_.end() < limit_) return nullptr;
  if (matching * matching_common >= rows || matching * matching_rare < rows) return nullptr;
  const u32 many = max_of(walk_impl::deaths_min, t.slots() / walk_impl::deaths_share);
  const MatchingOf of{.edits = l.index->edits(),
                      .end = limit_,
                      .damaged = t.damaged_count(),
                      .deaths = (t.slots() - min_of(t.slots(), t.live())) / many};
  if (!of.edits) return nullptr;
  bool worth = false;
  MatchingLists *lists = c_.filters().lists(ranges_, of, &worth);
  return worth ? c_.filters().make_lists(ranges_, of, selection_.data(), most - 1) : lists;
}

Status Searcher::walk(View &view, const simd::Query *q, u32 nq, LiveIndex &l) {
  const u32 n = view.slots();
  const bool filtered = need_accept(n, n), whole = !filtered && !deep();
  plan_ = selection_.end() ? VEXFS_PLAN_FILTERED_INDEX : VEXFS_PLAN_INDEX;
  // Rows that are not in the index are scanned below. Without a filter the walk may bring some of them, too: asking it to leave
  // them out would cost more than to see that there are two. Else rows from `upto` on are scanned, and it brings none.
  SlotRun tail[IndexKeeper::unindexed_runs];
  u32 runs = c_.index().unindexed(l, n, tail);
  const u32 upto = runs ? tail[0].begin : n;
  if (!whole && runs) {
    tail[0].end = n;
    runs = 1;
  }
  for (u32 j = 0; j < nq; j++) tops_[j].twice_from = whole ? upto : slot_none;
  limit_ = whole ? slot_none : upto;
  upto_ = upto;
  accepting_ = filtered || (!whole && upto != n);
  // More than are selected there are not, of rows that are decided: those that came since are scanned in any case.
  const u64 all = !filtered ? c_.table().live() : selection_.end() >= upto ? selection_.count() : ~u64{0};
  auto ef = [this](u32 k) { return breadth(k); };
  bool thin = false;
  Status s;
  lists_ = take_lists(l);
  for (u32 j = 0; j < nq && s.ok() && !thin; j++) {
    Result<bool> fewer = walk_one(view.rows(), q[j], l, {ef, all}, tops_[j]);
    if (fewer.ok())
      thin = *fewer;
    else
      s = fewer.error();
  }
  MatchingLists::release(std::exchange(lists_, nullptr));
  VX_TRY(std::move(s));
  limit_ = slot_none;
  accepting_ = filtered;
  if (!thin) return scan_tail(view, q, nq, tail, runs);
  // Fewer although there may be more: the filter hides most of what the walk meets. Or what it hides are copies of one row.
  engine_.stats().exact_fallbacks.fetch_add(1, std::memory_order_relaxed);
  for (u32 j = 0; j < nq; j++) tops_[j].n = 0;
  if (filtered && VX_TRY(try_select(view.rows(), n, Asked::all))) {
    plan_ = VEXFS_PLAN_INDEX_MATCHING;
    return scan_matching(view, q, nq);
  }
  plan_ = VEXFS_PLAN_SCAN;
  return scan_all(view, q, nq, 0, n);
}

}  // namespace vexfs::vector
