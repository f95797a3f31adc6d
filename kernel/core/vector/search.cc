// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The course of a search: what filters name, scan of what is not indexed, merging, delivery.
#include "search.h"

#include <algorithm>

namespace vexfs::vector {
namespace search_impl {
namespace {

constexpr u32 chosen_max = 1 << 18;  // slots gathered from filters, at most
constexpr u32 again_max = 8;         // searches again, as updates took places of other rows
constexpr u32 rounds_max = 4;        // looks for rows that replaced others meanwhile

}  // namespace
}  // namespace search_impl

Status Searcher::init() {
  k_ = o_.k + (o_.has_radius || o_.has_after || o_.by_owner);
  group_ = min_of(o_.queries, group_max);
  Hit *hits = VX_TRY(scratch_.array<Hit>(Scratch::tops, usize{k_} * group_));
  if (o_.by_owner) VX_TRY(owners_.resize(usize{k_} * group_));
  for (u32 i = 0; i < group_; i++) {
    tops_[i] = TopK{.hits = hits + usize{i} * k_,
                    .k = k_,
                    .key_max = o_.key_max,
                    .has_after = o_.has_after,
                    .after = o_.after,
                    .owner_of = owner_of,
                    .ctx = this};
    if (o_.by_owner) tops_[i].owners = owners_.data() + usize{i} * k_;
  }
  find_ranges();
  find_present();
  choose_breadth();
  return {};
}

bool Searcher::interrupted(void *ctx) {
  vx_caller *c = static_cast<Searcher *>(ctx)->o_.caller;
  return c && c->interrupted && c->interrupted(c);
}

SearchParams Searcher::params() {
  SearchParams p;
  p.k = k_;
  p.ef = o_.ef;
  p.ctx = this;
  p.accept = accepting_ ? accept : nullptr;
  p.interrupted = interrupted;
  if (accepting_ && !past_ && selection_.end() && selection_.end() >= limit_) {
    p.matching = selection_.data();
    p.matching_end = limit_;
    p.matching_count = selection_.count();
    p.lists = lists_;
  }
  return p;
}

// Slots [begin, end), without chunks that hold dead rows only (their data may be gone).
Status Searcher::scan_all(View &view, const simd::Query *q, u32 nq, u32 begin, u32 end) {
  Table &t = c_.table();
  u32 at = begin;
  while (at < end) {
    u32 run = at;
    while (run < end && !t.chunk_all_dead(run >> t.shift())) run = min_of(end, (run | (t.chunk_rows() - 1)) + 1);
    if (run > at)
      VX_TRY(scan_exact(view.rows(), c_.space(), q, nq, at, run, params(), scratch_, tops_, &stats_));
    else
      run = min_of(end, (run | (t.chunk_rows() - 1)) + 1);
    at = run;
  }
  return {};
}

Status Searcher::add_slots(u32 slot, u32 count, u32 limit) {
  for (u32 s = slot; s < slot + count && s < limit; s++)
    if (!c_.table().hidden(s)) VX_TRY(slots_.push(s));
  return {};
}

// When a filter names few rows, they are gathered and only they are scored. False: it does not pay.
Result<bool> Searcher::choose_slots(View &view) {
  if (chosen_of_ && chosen_of_ == view.slots()) return true;  // for the queries before
  chosen_of_ = 0;
  slots_.clear();
  OwnerRefs refs(engine_.volume());
  for (u32 i = 0; i < o_.nfilters; i++) {
    const vexfs_filter &f = o_.filters[i];
    if (f.flags & VEXFS_FILTER_NOT) continue;
    if (f.kind == VEXFS_FILTER_OWNER && f.a != 0) {
      u32 slot = 0;
      for (;;) {
        Result<OwnerRefs::Run> r = refs.next(f.a, c_.cid(), slot);
        if (r.code() == Errno::noent || (r.ok() && r->cid != c_.cid())) {
          chosen_of_ = view.slots();
          return true;
        }
        if (!r.ok()) return r.error();
        if (slots_.size() + r->count > search_impl::chosen_max) break;
        VX_TRY(add_slots(r->slot, r->count, view.slots()));
        slot = r->slot + r->count;
      }
    } else if (f.kind == VEXFS_FILTER_ID_RANGE && f.b >= f.a && f.b - f.a < max_of<u32>(64, c_.table().live() / 32)) {
      u64 id = f.a;
      while (id <= f.b && slots_.size() < search_impl::chosen_max) {
        Result<IdMap::Run> r = c_.ids().next(id);
        if (r.code() == Errno::noent || (r.ok() && r->first > f.b)) break;
        if (!r.ok()) return r.error();
        u64 from = max_of(id, r->first), to = min_of<u64>(f.b, r->last());
        VX_TRY(add_slots(static_cast<u32>(r->slot + (from - r->first)), static_cast<u32>(to - from + 1), view.slots()));
        if (to == ~u64{0}) break;
        id = to + 1;
      }
      std::sort(slots_.begin(), slots_.end());
      chosen_of_ = view.slots();
      return true;
    }
    slots_.clear();
  }
  return false;
}

Status Searcher::search(View &view, const simd::Query *q, u32 nq) {
  u32 n = view.slots();
  upto_ = 0;
  limit_ = slot_none;
  accepting_ = need_accept(n, n);
  plan_ = VEXFS_PLAN_SCAN;
  if (VX_TRY(choose_slots(view))) {
    plan_ = VEXFS_PLAN_NAMED;
    return scan_slots(view.rows(), c_.space(), q, nq, slots_.data(), static_cast<u32>(slots_.size()), params(),
                      scratch_, tops_, &stats_);
  }
  LiveIndex *l = o_.exact || n < walked_slots_min ? nullptr : c_.index().acquire();
  code_bytes_ = l && o_.nfilters ? l->index->counts().code_bytes : 0;
  Result<Way> way = plan_filters(view.rows(), n, l != nullptr);
  Status s = way.ok() ? Status() : Status(way.error());
  if (s.ok() && *way == Way::matching) s = scan_matching(view, q, nq);
  if (s.ok() && *way == Way::scan) s = scan_all(view, q, nq, 0, n);
  if (s.ok() && *way == Way::walk) {
    VX_ASSERT(l);
    s = walk(view, q, nq, *l);
    if (!s.ok() && c_.index().blame(l, s.error())) {
      engine_.stats().index_dropped.fetch_add(1, std::memory_order_relaxed);
      plan_ = VEXFS_PLAN_SCAN;
      upto_ = 0;
      limit_ = slot_none;
      accepting_ = need_accept(n, n);
      planned_ = false;
      for (u32 j = 0; j < nq; j++) tops_[j].n = 0;
      s = scan_all(view, q, nq, 0, n);
    }
  }
  if (l) c_.index().release(l);
  return s;
}

// Rows were updated since the search began: a row that died before it was scored has its successor among the newest
// slots. Bounded: under a storm of updates the last of them may be missed.
// *displaced: a row may have lost its place to two of one id.
Status Searcher::catch_up(View &view, const simd::Query *q, u32 nq, u64 updates, bool *displaced) {
  for (u32 round = 0; round < search_impl::rounds_max && c_.updates() != updates; round++) {
    u32 seen = view.slots();
    updates = c_.updates();
    view.refresh();
    if (view.slots() == seen) break;
    accepting_ = need_accept(view.slots(), view.slots());  // the first row of a file may be among them
    VX_TRY(scan_all(view, q, nq, seen, view.slots()));
  }
  for (u32 j = 0; j < nq; j++) {
    const u32 n = tops_[j].n;
    VX_TRY(drop_duplicates(tops_[j]));
    *displaced |= tops_[j].n < n && n >= k_;
  }
  return {};
}

// Of two rows with one id (an update was between its two steps) the newer is kept.
Status Searcher::drop_duplicates(TopK &top) {
  VX_TRY(ids_.resize(top.n));
  for (u32 i = 0; i < top.n; i++) {
    Result<RowMeta> m = row_meta(c_.table(), top.hits[i].slot);
    ids_[i] = m.ok() ? m->id : id_auto;  // which no row has
  }
  u32 kept = 0;
  for (u32 i = 0; i < top.n; i++) {
    bool older = false;
    for (u32 j = 0; ids_[i] != id_auto && j < top.n && !older; j++)
      older = ids_[j] == ids_[i] && top.hits[j].slot > top.hits[i].slot;
    if (older) continue;
    ids_[kept] = ids_[i];
    top.hits[kept++] = top.hits[i];
  }
  top.n = kept;
  return {};
}

Status Searcher::deliver(TopK &top, vexfs_hit *out, u32 *count) {
  *count = 0;
  for (u32 i = 0; i < min_of(top.n, o_.k); i++) {
    u32 slot = top.hits[i].slot;
    Result<RowMeta> r = meta(slot);
    if (r.code() == Errno::noent) continue;  // died meanwhile, and its chunk was given up
    if (!r.ok()) return r.error();
    const RowMeta *m = &*r;
    vexfs_hit hit{};
    hit.id = m->id;
    hit.owner = m->owner;
    hit.offset = m->offset;
    hit.length = m->length;
    hit.tag = m->tag;
    hit.slot = slot;
    hit.distance = simd::f32_from_key(top.hits[i].key);
    if (slot < upto_) hit.flags |= VEXFS_ROW_INDEXED;
    if (m->owner) {
      // The first row of a file may have come while rows were found that nobody had to be asked about. Asked first: a note is
      // good until the next one is made.
      if ((need_permission() || o_.skip_stale) && !owner_passes(*m)) {
        if (trouble_ != Errno::ok) return trouble_;
        continue;
      }
      InodeNote *n = VX_TRY(note(m->owner));
      if (!n->present) continue;  // its last name went while we searched
      hit.generation = n->ref->generation();
      if (n->ref->version() != m->owner_version) hit.flags |= VEXFS_ROW_STALE;
    }
    out[(*count)++] = hit;
  }
  if (*count && top.n > o_.k) out[*count - 1].flags |= VEXFS_ROW_MORE;
  return {};
}

Status Searcher::answer(const simd::Query *queries, u32 n, vexfs_hit *hits, u32 *counts) {
  for (u32 round = 0;; round++) {
    const u64 updates = c_.updates();  // before the view: an update in between is looked at again
    View view(c_.table());
    bool displaced = false;
    Status s;
    if (c_.table().live() != 0) s = search(view, queries, n);
    if (s.ok() && (c_.updates() != updates || updates % 2)) s = catch_up(view, queries, n, updates, &displaced);
    if (s.ok() && trouble_ != Errno::ok) s = trouble_;
    if (s.ok() && displaced && round < search_impl::again_max) {
      for (u32 j = 0; j < n; j++) tops_[j].n = 0;
      continue;
    }
    for (u32 j = 0; j < n && s.ok(); j++) s = deliver(tops_[j], hits + usize{j} * o_.k, &counts[j]);
    return s;
  }
}

Status Searcher::run(const simd::Query *queries, u32 n, vexfs_hit *hits, u32 *counts) {
  VX_ASSERT(n >= 1 && n <= group_);
  u64 start = vx_clock_mono_ns();
  SearchStats before = stats_;
  for (u32 j = 0; j < n; j++) {
    tops_[j].n = 0;
    counts[j] = 0;
  }
  trouble_ = Errno::ok;
  remember(queries, n);
  Status s = present_ ? answer_past(queries, n, hits, counts) : answer(queries, n, hits, counts);
  engine_.trim(c_);
  engine_.relax();
  if (Engine *present = engine_.present()) {
    if (present_) present->trim(*present_);
    present->relax();
  }
  u64 ns = vx_clock_mono_ns() - start;
  auto add = [](std::atomic<u64> &a, u64 v) { a.fetch_add(v, std::memory_order_relaxed); };
  VectorStats &g = engine_.stats();
  add(g.searches, 1);
  add(g.queries, n);
  add(g.search_ns, ns);
  add(g.distances, stats_.distances - before.distances);
  add(g.hops, stats_.hops - before.hops);
  add(g.scanned, stats_.scanned - before.scanned);
  g.search_latency.add(ns / n);
  add(c_.stats.searches, n);
  add(c_.stats.search_ns, ns);
  add(c_.stats.distances, stats_.distances - before.distances);
  add(c_.stats.hops, stats_.hops - before.hops);
  return s;
}

}  // namespace vexfs::vector
