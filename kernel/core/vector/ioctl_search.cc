// SPDX-License-Identifier: GPL-2.0-only OR MIT
// VECTOR_SEARCH and HYBRID_SEARCH.
#include <type_traits>

#include "ioctl.h"

namespace vexfs::vector {
namespace ioctl_search_impl {
namespace {

constexpr usize group_bytes = 512 << 10;  // of queries, and of hits, in the kernel at a time

bool is_nan(u32 f32) { return (f32 & 0x7fffffff) > 0x7f800000; }

struct Group {
  simd::Query q[Searcher::group_max];
  u32 counts[Searcher::group_max];
};

// What of a buffer goes to the caller was written for it: there is nothing in a hit but its fields.
static_assert(std::has_unique_object_representations_v<vexfs_hit>);

// A searcher within a scratch.
class Placed : Pinned {
 public:
  explicit Placed(Searcher *s) : s_(s) {}
  ~Placed() { s_->~Searcher(); }
  Searcher *operator->() const { return s_; }

 private:
  Searcher *s_;
};

SearchOptions options(const vexfs_search &s, const disk::ConfigItem &config) {
  SearchOptions o;
  o.k = s.k;
  o.ef = max_of<u32>(s.ef ? s.ef : config.ef_search.get(), s.k);
  o.recall = s.ef ? 0 : s.recall ? s.recall : u32{config.recall.get()};
  o.exact = s.flags & VEXFS_SEARCH_EXACT;
  o.skip_stale = s.flags & VEXFS_SEARCH_SKIP_STALE;
  o.queries = s.nq;
  o.by_owner = s.flags & VEXFS_SEARCH_BY_OWNER;
  o.has_radius = s.flags & VEXFS_SEARCH_RADIUS;
  if (o.has_radius) o.key_max = simd::key_from_f32(s.radius);
  o.has_after = s.flags & VEXFS_SEARCH_AFTER;
  if (o.has_after) o.after = {simd::key_from_f32(s.after_distance), static_cast<u32>(s.after_slot)};
  return o;
}

}  // namespace
}  // namespace ioctl_search_impl

Status Call::check_search(Collection &c, const vexfs_search &s) {
  constexpr u32 known = VEXFS_SEARCH_EXACT | VEXFS_SEARCH_LIKE | VEXFS_SEARCH_SKIP_STALE | VEXFS_SEARCH_RADIUS |
                        VEXFS_SEARCH_AFTER | VEXFS_SEARCH_BY_OWNER;
  if (s.flags & ~known) return Errno::inval;
  if (s.reserved0 || s.reserved1 || s.recall > recall_all || (s.recall && s.ef)) return Errno::inval;
  if (s.flags & VEXFS_SEARCH_RADIUS ? ioctl_search_impl::is_nan(s.radius) : s.radius != 0) return Errno::inval;
  if (s.flags & VEXFS_SEARCH_AFTER) {
    if (ioctl_search_impl::is_nan(s.after_distance) || s.after_slot > slot_max) return Errno::inval;
    if (s.nq != 1 || s.flags & VEXFS_SEARCH_BY_OWNER) return Errno::inval;
  } else if (s.after_distance || s.after_slot) {
    return Errno::inval;
  }
  // Of another time: the host opens the snapshot and asks there (a snapshot's own id is what it is).
  if (s.as_of && s.as_of != engine_.volume().view_id()) return Errno::opnotsupp;
  if (s.nq == 0 || s.nq > VEXFS_QUERIES_MAX || s.k == 0 || s.k > VEXFS_K_MAX || s.ef > VEXFS_EF_MAX)
    return Errno::inval;
  if (!s.hits || (!s.counts && s.nq != 1)) return Errno::inval;
  if (s.flags & VEXFS_SEARCH_LIKE) return s.nq == 1 && !s.queries ? Status() : Status(Errno::inval);
  if (s.like_owner || s.dim != c.space().dim()) return Errno::inval;
  if (s.element != static_cast<u16>(c.space().element()) && s.element != VEXFS_F32) return Errno::inval;
  return {};
}

// The first vector of the owner, as a query.
Status Call::like_query(Collection &c, vexfs_search &s, void *row, simd::Query *q, u64 *owner) {
  *owner = s.like_owner ? u64{s.like_owner} : ip_.ino();
  VX_TRY(may(*owner, 4));
  OwnerRefs refs(engine_.volume());
  u32 at = 0;
  for (;;) {
    OwnerRefs::Run r = VX_TRY(refs.next(*owner, c.cid(), at));  // noent: it has none
    if (r.cid != c.cid()) return Errno::noent;
    for (u32 slot = r.slot; slot < r.slot + r.count; slot++) {
      if (slot >= c.table().slots() || c.table().hidden(slot)) continue;
      View view(c.table());
      const u8 *bytes = VX_TRY(view.rows().row(slot));
      if (c.table().hidden(slot)) continue;
      memcpy(row, bytes, c.space().row_bytes());
      *q = c.space().row_query(row, view.rows().aux(bytes, slot));
      return {};
    }
    at = r.slot + r.count;
  }
}

Status Call::run_search(Collection &c, vexfs_search &s, const vexfs_filter *filters, u32 nfilters, u32 *plan) {
  u64 start = vx_clock_mono_ns();
  SearchOptions o = ioctl_search_impl::options(s, c.config());
  o.filters = filters;
  o.nfilters = nfilters;
  o.caller = &caller_;
  bool like = s.flags & VEXFS_SEARCH_LIKE;
  const simd::Space &space = c.space();
  auto from = static_cast<simd::Element>(like ? static_cast<u16>(space.element()) : s.element);
  usize source = usize{space.dim()} * simd::element_bytes(from);
  usize prepared = align_up<usize>(max_of(space.query_bytes(), space.row_bytes()), 64);
  u32 group = static_cast<u32>(
      min_of<usize>(min_of<usize>(Searcher::group_max, s.nq),
                    min_of(max_of<usize>(ioctl_search_impl::group_bytes / (usize{s.k} * sizeof(vexfs_hit)), 1),
                           max_of<usize>(ioctl_search_impl::group_bytes / prepared, 1))));
  const ScratchLease lease(engine_.scratches());
  if (!lease.get()) return Errno::nomem;
  Scratch &scratch = *lease.get();
  u8 *queries = VX_TRY(scratch.array<u8>(Scratch::call_queries, group * prepared));
  u8 *raw = VX_TRY(scratch.array<u8>(Scratch::call_raw, group * source));
  vexfs_hit *hits = VX_TRY(scratch.array<vexfs_hit>(Scratch::call_hits, usize{group} * s.k));
  auto *state = VX_TRY(scratch.array<ioctl_search_impl::Group>(Scratch::call_group, 1));
  simd::Query *q = state->q;
  u32 *counts = state->counts;
  if (like) VX_TRY(like_query(c, s, queries, &q[0], &o.exclude_owner));
  void *place = VX_TRY(scratch.array<Searcher>(Scratch::searcher, 1));
  const ioctl_search_impl::Placed searcher(new (place) Searcher(engine_, c, o, scratch));
  VX_TRY(searcher->init());
  for (u32 done = 0; done < s.nq;) {
    if (interrupted(this)) return Errno::intr;
    u32 n = min_of(group, s.nq - done);
    if (!like) VX_TRY(copy_in(raw, s.queries + u64{done} * source, n * source));
    for (u32 j = 0; j < n && !like; j++)
      VX_TRY(space.prepare_query(raw + j * source, from, queries + j * prepared, &q[j]));
    VX_TRY(searcher->run(q, n, hits, counts));
    for (u32 j = 0; j < n; j++)
      VX_TRY(copy_out(s.hits + (u64{done} + j) * s.k * sizeof(vexfs_hit), hits + usize{j} * s.k,
                      usize{counts[j]} * sizeof(vexfs_hit)));
    if (s.counts) VX_TRY(copy_out(s.counts + u64{done} * 4, counts, n * 4));
    s.found = counts[n - 1];
    done += n;
  }
  const SearchStats told = searcher->told();
  s.distances = told.distances;
  s.hops = told.hops;
  s.scanned = told.scanned;
  s.elapsed_ns = vx_clock_mono_ns() - start;
  s.plan = searcher->plan();
  s.ef_used = searcher->ef();
  if (plan) *plan = s.plan;
  return {};
}

Status Call::search() {
  vexfs_search s;
  VX_TRY(read_arg(&s));
  CollectionRef c = VX_TRY(target(s.collection, false));
  VX_TRY(check_search(*c, s));
  VX_TRY(run_search(*c, s, nullptr, 0, nullptr));
  return write_arg(s);
}

Status Call::hybrid() {
  vexfs_hybrid_search h;
  VX_TRY(read_arg(&h));
  if (h.flags || h.nfilters > VEXFS_FILTERS_MAX || !all_zero(h.reserved, 4)) return Errno::inval;
  u32 inner = h.search.size;
  if (inner < 8) return Errno::inval;
  if (inner > sizeof h.search) return Errno::toobig;
  memset(reinterpret_cast<u8 *>(&h.search) + inner, 0, sizeof h.search - inner);
  vexfs_filter filters[VEXFS_FILTERS_MAX];
  VX_TRY(copy_in(filters, h.filters, h.nfilters * sizeof(vexfs_filter)));
  for (u32 i = 0; i < h.nfilters; i++) {
    if ((filters[i].flags & ~VEXFS_FILTER_NOT) || filters[i].reserved) return Errno::inval;
    if (filters[i].kind == 0) return Errno::inval;
    if (filters[i].kind > VEXFS_FILTER_TAG_RANGE) return Errno::opnotsupp;
  }
  CollectionRef c = VX_TRY(target(h.search.collection, false));
  VX_TRY(check_search(*c, h.search));
  vexfs_search s = h.search;
  VX_TRY(run_search(*c, s, filters, h.nfilters, &h.plan));
  memcpy(&h.search, &s, inner);
  return write_arg(h);
}

}  // namespace vexfs::vector
