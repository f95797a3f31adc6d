// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Adding nodes to an HNSW graph, and mending it around dead ones.
#include "hnsw.h"

namespace vexfs::vector {
namespace hnsw_insert_impl {
namespace {

constexpr u32 connect_attempts = 4;  // optimistic changes of one list before the plain one under the lock
constexpr u32 bridges_tried = 3;     // candidates to take a dead neighbour's place
// Of the ef_construction candidates so many percent are expanded, the nearest: those behind them hardly ever bring one that
// is chosen, but are chosen from themselves.
constexpr u32 expanded_percent = 40;
constexpr u32 occlusion_batch = 8;  // rows compared at once before looking whether it is decided

}  // namespace
}  // namespace hnsw_insert_impl

u32 Hnsw::snapshot(const Link *list, u32 degree, u32 *out) const {
  u32 n = 0;
  for (; n < degree; n++) {
    const u32 s = list[n].load(std::memory_order_acquire);
    if (s == slot_none) break;
    out[n] = s;
  }
  return n;
}

void Hnsw::clear_lists(u8 *segment, u32 slot) {
  Guard g(graph_.lock_of(slot));
  const u32 levels = NodeWord::level(graph_.word(segment, slot).load(std::memory_order_relaxed));
  for (u32 l = 0; l <= levels; l++) {
    Link *list = graph_.list(segment, slot, l);
    for (u32 i = 0; i < graph_.shape.degree(l); i++) list[i].store(slot_none, std::memory_order_relaxed);
  }
}

// Is one already chosen nearer to the candidate than the base is? Then the base reaches it through that one.
bool Hnsw::occluded(const Probe &candidate, u32 key, Selection &sel) const {
  for (u32 j = 0; j < sel.n; j += hnsw_insert_impl::occlusion_batch) {
    const u32 n = min_of(hnsw_insert_impl::occlusion_batch, sel.n - j);
    measure_.score(candidate, sel.item + j, sel.aux + j, n, sel.key + j);
    for (u32 i = 0; i < n; i++)
      if (sel.key[j + i] < key) return true;
  }
  return false;
}

// Algorithm 4: of the candidates (ascending by distance from a base), those not occluded, up to `degree`.
Status Hnsw::choose(Walk &walk, const Entry *candidates, u32 n, u32 degree, Selection &sel) {
  sel.n = 0;
  for (u32 i = 0; i < n && sel.n < degree; i++) {
    const u32 slot = entry_slot(candidates[i]);
    Result<Item> item = walk.item(slot);
    if (!item.ok()) {
      if (item.code() == Errno::noent) continue;
      return item.error();
    }
    const u32 before = sel.n;
    bool hidden = false;
    if (before) {
      const Probe probe = VX_TRY(measure_.probe(*item, walk.scratch_, Scratch::other_code));
      hidden = occluded(probe, entry_key(candidates[i]), sel);
    }
    walk.stats.distances += before;
    if (i % 64 == 63) vx_yield();
    if (!hidden) sel.add(slot, *item);
  }
  return {};
}

// Fills the new node's list on one level from the beam. Nobody can see the node yet.
Status Hnsw::choose_own(Walk &walk, u8 *segment, u32 slot, u32 level, Selection &sel) {
  Entry *live = VX_TRY(walk.scratch_.array<Entry>(Scratch::results, walk.beam.size() + 1));
  u32 n = 0;
  for (u32 i = 0; i < walk.beam.size(); i++) {
    const u32 s = entry_slot(walk.beam.entries()[i]);
    if (s == slot || (walk.rows_.any_dead && walk.rows_.dead(s))) continue;
    live[n++] = walk.beam.entries()[i];
  }
  if (n == 0)  // nothing but dead rows around: they still lead somewhere
    for (u32 i = 0; i < walk.beam.size(); i++)
      if (entry_slot(walk.beam.entries()[i]) != slot) live[n++] = walk.beam.entries()[i];
  VX_TRY(choose(walk, live, n, params_.m, sel));
  Link *own = graph_.list(segment, slot, level);
  u32 kept = 0;
  for (u32 i = 0; i < sel.n; i++) {
    u8 *other = VX_TRY(graph_.get(sel.slot[i] >> graph_.shape.shift));
    if (level && !graph_.has_level(other, sel.slot[i], level)) continue;
    own[kept++].store(sel.slot[i], std::memory_order_relaxed);
  }
  return {};
}

Status Hnsw::find_links(Walk &walk, u8 *segment, u32 slot, u32 level, EntryPoint from, Selection &sel) {
  const u32 top = min_of(level, from.level());
  const u32 expanded = max_of<u32>(2 * params_.m, params_.ef_construction * hnsw_insert_impl::expanded_percent / 100);
  VX_TRY(walk.descend(top));
  for (u32 l = top;; l--) {
    VX_TRY(walk.widen(l, expanded));
    VX_TRY(choose_own(walk, segment, slot, l, sel));
    if (l == 0) return {};
    VX_TRY(walk.restart(params_.ef_construction));
  }
}

// Thins base's list and the node to add into sel.slot[0..n), nearest first. False: the list cannot be judged (what
// distances are taken on is not to be had). Rows that cannot be read count as farthest; dead ones are left out.
bool Hnsw::thin(Walk &walk, u32 base, u32 added, u32 n, u32 degree, bool must, Selection &sel) {
  RowView &rows = walk.rows_;
  Result<Item> item = walk.item(base);
  if (!item.ok()) return false;
  Result<Probe> probe = measure_.probe(*item, walk.scratch_, Scratch::code);
  if (!probe.ok()) return false;
  walk.query_ = *probe;
  Batch &b = *walk.batch_;
  b.n = 0;
  bool added_there = false;
  for (u32 i = 0; i <= n; i++) {
    const u32 s = i < n ? sel.before[i] : added;
    if (i < n && rows.any_dead && rows.dead(s)) continue;
    if (b.n == Batch::capacity) break;  // a list of the greatest length, all live: the new one is scored below
    if (!walk.gather(s).ok()) continue;
    added_there |= i == n;
  }
  walk.score();
  Beam sorted;
  sorted.reset(sel.candidate, Selection::capacity + 1);
  for (u32 i = 0; i < b.n; i++) sorted.add(entry_of(b.key[i], b.slot[i]));
  if (!added_there) {
    Result<Item> last = walk.item(added);
    if (last.ok()) {
      u32 key;
      measure_.score(walk.query_, &last->bytes, &last->aux, 1, &key);
      sorted.add(entry_of(key, added));
    }
  }
  if (!choose(walk, sel.candidate, sorted.size(), degree, sel).ok()) return false;
  bool in = false;
  for (u32 i = 0; i < sel.n; i++) in |= sel.slot[i] == added;
  if (!in && must) {
    if (sel.n == degree) sel.n--;
    sel.slot[sel.n++] = added;
  }
  return true;
}

// Writes sel.slot over the list unless it changed since sel.before[0..n) was taken.
bool Hnsw::replace_list(u8 *segment, u32 slot, u32 level, u32 n, const Selection &sel) {
  Link *list = graph_.list(segment, slot, level);
  const u32 degree = graph_.shape.degree(level);
  Guard g(graph_.lock_of(slot));
  for (u32 i = 0; i < n; i++)
    if (list[i].load(std::memory_order_relaxed) != sel.before[i]) return false;
  if (n < degree && list[n].load(std::memory_order_relaxed) != slot_none) return false;
  for (u32 i = 0; i < degree; i++) list[i].store(i < sel.n ? sel.slot[i] : slot_none, std::memory_order_release);
  graph_.mark_dirty(segment);
  return true;
}

// Adds `to` to the list of `from`. Cannot fail; false when the list's owner is better off without it.
bool Hnsw::connect(Walk &walk, u32 from, u32 to, u32 level, bool must, Selection &sel) {
  u8 *segment = graph_.peek(from >> graph_.shape.shift);
  VX_ASSERT(segment);
  Link *list = graph_.list(segment, from, level);
  const u32 degree = graph_.shape.degree(level);
  for (u32 attempt = 0; attempt < hnsw_insert_impl::connect_attempts; attempt++) {
    const u32 n = snapshot(list, degree, sel.before);
    for (u32 i = 0; i < n; i++)
      if (sel.before[i] == to) return true;
    if (n < degree) {
      for (u32 i = 0; i < n; i++) sel.slot[i] = sel.before[i];
      sel.slot[n] = to;
      sel.n = n + 1;
    } else if (!thin(walk, from, to, n, degree, must, sel)) {
      break;
    }
    if (!replace_list(segment, from, level, n, sel)) continue;
    for (u32 i = 0; i < sel.n; i++)
      if (sel.slot[i] == to) return true;
    return false;
  }
  if (!must) return false;
  Guard g(graph_.lock_of(from));
  u32 n = 0;
  while (n < degree - 1 && list[n].load(std::memory_order_relaxed) != slot_none) n++;
  list[n].store(to, std::memory_order_release);
  graph_.mark_dirty(segment);
  return true;
}

void Hnsw::link_back(Walk &walk, u8 *segment, u32 slot, u32 level, Selection &sel) {
  // Others may be adding to the new node's list already; their links go both ways by their own doing.
  const u32 n = snapshot(graph_.list(segment, slot, level), graph_.shape.degree(level), sel.target);
  u32 linked = 0;
  for (u32 i = 0; i < n; i++) linked += connect(walk, sel.target[i], slot, level, false, sel);
  if (!linked && n) connect(walk, sel.target[0], slot, level, true, sel);  // every node keeps a way in
}

Status Hnsw::insert_claimed(RowView &rows, u8 *segment, u32 slot, Scratch &scratch) {
  VX_TRY(measure_.ready(rows));
  const simd::Space &space = measure_.space();
  const u8 *row = VX_TRY(rows.row(slot));
  u8 *copy = VX_TRY(scratch.array<u8>(Scratch::query, space.row_bytes()));
  memcpy(copy, row, space.row_bytes());
  const u32 aux = rows.aux(row, slot);
  if (measure_.coded()) VX_TRY(measure_.encode(segment, slot, Item{copy, aux}, scratch));
  const Probe q = VX_TRY(measure_.probe(space.row_query(copy, aux), scratch));
  Selection *sel = VX_TRY(scratch.array<Selection>(Scratch::select, 1));
  const u32 level = graph_.level_of(slot);
  std::atomic<u32> &word = graph_.word(segment, slot);

  // A node that will be the entry point goes in alone, so that the top never has two owners.
  EntryPoint from = entry();
  const bool top = from.empty() || level > from.level();
  if (top) {
    entry_lock_.lock();
    from = entry();
  }
  Walk walk(graph_, measure_, rows, scratch);
  Status st;
  if (!from.empty()) {
    st = walk.begin(q, from, params_.ef_construction);
    if (st.ok()) st = find_links(walk, segment, slot, level, from, *sel);
  }
  if (st.ok()) {
    word.fetch_or(NodeWord::present, std::memory_order_release);
    graph_.mark_dirty(segment);
    graph_.codes_dirty(segment).store(1, std::memory_order_release);
    nodes_.fetch_add(1, std::memory_order_relaxed);
    if (!from.empty())
      for (u32 l = min_of(level, from.level()) + 1; l-- > 0;) link_back(walk, segment, slot, l, *sel);
    if (from.empty() || level > from.level()) {
      VX_ASSERT(top);
      entry_.store(EntryPoint::of(slot, level).word, std::memory_order_release);
    }
  }
  if (top) entry_lock_.unlock();
  return st;
}

Status Hnsw::insert(RowView &rows, u32 slot, Scratch &scratch) {
  if (slot > slot_max) return Errno::inval;
  if (must_learn()) decided_.store(true, std::memory_order_release);
  u8 *segment = VX_TRY(graph_.get_or_make(slot >> graph_.shape.shift));
  std::atomic<u32> &word = graph_.word(segment, slot);
  if (word.fetch_or(NodeWord::claimed, std::memory_order_acq_rel) & NodeWord::claimed) return Errno::exist;
  Status st = insert_claimed(rows, segment, slot, scratch);
  if (!st.ok()) {
    clear_lists(segment, slot);
    word.fetch_and(~NodeWord::claimed, std::memory_order_release);
  }
  edited();
  return st;
}

// `from` has a dead neighbour: puts the nearest useful of the dead one's own neighbours in its place, or nothing.
Status Hnsw::bridge(Walk &walk, u32 from, u32 gone, u32 level, Selection &sel) {
  u8 *segment = VX_TRY(graph_.get(from >> graph_.shape.shift));
  if (level && !graph_.has_level(segment, from, level)) return {};
  const u32 degree = graph_.shape.degree(level);
  const u32 n = snapshot(graph_.list(segment, from, level), degree, sel.before);
  bool links_to_gone = false;
  for (u32 i = 0; i < n; i++) links_to_gone |= sel.before[i] == gone;
  if (!links_to_gone) return {};
  // What `from` keeps.
  RowView &rows = walk.rows_;
  sel.n = 0;
  for (u32 i = 0; i < n; i++) {
    const u32 s = sel.before[i];
    if (s == gone) continue;
    const Item kept = VX_TRY(walk.item(s));
    sel.add(s, kept);
  }
  // What the dead one offers.
  const Item base = VX_TRY(walk.item(from));
  walk.query_ = VX_TRY(measure_.probe(base, walk.scratch_, Scratch::code));
  u8 *gone_segment = VX_TRY(graph_.get(gone >> graph_.shape.shift));
  const Link *offered = graph_.list(gone_segment, gone, level);
  Batch &b = *walk.batch_;
  b.n = 0;
  for (u32 i = 0; i < degree; i++) {
    const u32 s = offered[i].load(std::memory_order_acquire);
    if (s == slot_none) break;
    bool known = s == from || rows.dead(s);
    for (u32 j = 0; j < sel.n && !known; j++) known = sel.slot[j] == s;
    if (!known) VX_TRY(walk.gather(s));
  }
  walk.score();
  Beam nearest;
  nearest.reset(sel.candidate, hnsw_insert_impl::bridges_tried);
  for (u32 i = 0; i < b.n; i++) nearest.add(entry_of(b.key[i], b.slot[i]));
  for (u32 i = 0; i < nearest.size(); i++) {
    const u32 s = entry_slot(nearest.entries()[i]);
    const Item item = VX_TRY(walk.item(s));
    const Probe probe = VX_TRY(measure_.probe(item, walk.scratch_, Scratch::other_code));
    if (occluded(probe, entry_key(nearest.entries()[i]), sel)) continue;
    u8 *other = VX_TRY(graph_.get(s >> graph_.shape.shift));
    if (level && !graph_.has_level(other, s, level)) continue;
    sel.slot[sel.n++] = s;
    break;
  }
  replace_list(segment, from, level, n, sel);  // a list that changed meanwhile keeps its dead link: still a way through
  return {};
}

Status Hnsw::bridge_all(RowView &rows, u32 slot, Scratch &scratch) {
  VX_TRY(measure_.ready(rows));
  u8 *segment = VX_TRY(graph_.get(slot >> graph_.shape.shift));
  Selection *sel = VX_TRY(scratch.array<Selection>(Scratch::select, 1));
  u32 *neighbours = VX_TRY(scratch.array<u32>(Scratch::heap, Batch::capacity));
  Walk walk(graph_, measure_, rows, scratch);
  walk.batch_ = VX_TRY(scratch.array<Batch>(Scratch::batch, 1));
  const u32 levels = NodeWord::level(graph_.word(segment, slot).load(std::memory_order_relaxed));
  for (u32 l = 0; l <= levels; l++) {
    const u32 n = snapshot(graph_.list(segment, slot, l), graph_.shape.degree(l), neighbours);
    for (u32 i = 0; i < n; i++)
      if (!rows.dead(neighbours[i])) VX_TRY(bridge(walk, neighbours[i], slot, l, *sel));
  }
  return {};
}

Status Hnsw::remove(RowView &rows, u32 slot, Scratch &scratch) {
  if (!rows.dead(slot)) return Errno::inval;
  if (!contains(slot)) return {};
  Status st = bridge_all(rows, slot, scratch);
  edited();
  return st;
}

}  // namespace vexfs::vector
