// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Walking an HNSW graph.
#include "hnsw.h"

namespace vexfs::vector {
namespace hnsw_search_impl {
namespace {

constexpr u32 few_dead_share = 16;      // live rows for each dead one that may take a place in a beam
constexpr u32 batches_per_breath = 32;  // between checks for a kill and for the CPU being wanted

// Where codes know how wrong they are: rows read whatever they say, and the sixteenths of a standard error by which a row
// must be farther than the last of those that are kept to be left out.
constexpr u32 first_rows(u32 keep) { return max_of<u32>(2 * keep, 32); }
constexpr u32 hopeless = 32;
// Where they do not, how many of those found by a wide walk are scored on their rows: by 8 and 4 bits the nearest k are well
// within the nearest 2 k by code, which is what these were chosen for (hnsw_learn.cc).
constexpr u32 rescored(u32 k, u32 found) { return 3 * k + found / 4; }

}  // namespace
}  // namespace hnsw_search_impl

Status Walk::begin(const Probe &q, EntryPoint entry, u32 ef) {
  query_ = q;
  ef_ = ef;
  batch_ = VX_TRY(scratch_.array<Batch>(Scratch::batch, 1));
  Entry *storage = VX_TRY(scratch_.array<Entry>(Scratch::beam, usize{ef} + 1));
  beam.reset(storage, ef);
  VX_TRY(visited_.reset(graph_.slot_limit(), ef * 32));
  level_ = entry.level();
  current_ = entry.slot();
  batch_->n = 0;
  VX_TRY(visited_.reserve(2));
  if (params && params->without != slot_none) visited_.insert(params->without);
  visited_.insert(current_);
  VX_TRY(gather(current_));
  if (batch_->n == 0) return {};
  score();
  current_key_ = batch_->key[0];
  beam.add(entry_of(current_key_, current_));
  return {};
}

Status Walk::restart(u32 ef) {
  VX_TRY(visited_.reset(graph_.slot_limit(), ef * 32));
  VX_TRY(visited_.reserve(beam.size()));
  for (u32 i = 0; i < beam.size(); i++) visited_.insert(entry_slot(beam.entries()[i]));
  beam.expand_again();
  return {};
}

// noent: a row that exists no more (its chunk is gone for good).
Result<Item> Walk::item(u32 slot, FpuHold *fpu) {
  if (measure_.coded()) {
    u8 *segment = graph_.peek(slot >> graph_.shape.shift);
    if (!segment) [[unlikely]] {
      if (fpu) fpu->leave();
      segment = VX_TRY(graph_.get(slot >> graph_.shape.shift));
    }
    return Item{graph_.code(segment, slot), 0};
  }
  const u8 *p = rows_.peek(slot);
  if (!p) [[unlikely]] {
    if (fpu) fpu->leave();
    p = VX_TRY(rows_.row(slot));
  }
  return Item{p, rows_.aux(p, slot)};
}

void Walk::gather_item(u32 slot, const Item &what) {
  Batch &b = *batch_;
  b.slot[b.n] = slot;
  b.item[b.n] = what.bytes;
  b.aux[b.n] = what.aux;
  b.n++;
}

// Adds an item to the batch, unless it exists no more.
Status Walk::gather(u32 slot, FpuHold *fpu) {
  Result<Item> r = item(slot, fpu);
  if (!r.ok()) return r.code() == Errno::noent ? Status() : Status(r.error());
  simd::prefetch(r->bytes, measure_.item_bytes(), item_lines_ahead);
  gather_item(slot, *r);
  return {};
}

// Gathers the neighbours of a node that were not seen yet.
Status Walk::collect(u32 slot, u32 level, FpuHold &fpu) {
  batch_->n = 0;
  u8 *segment = graph_.peek(slot >> graph_.shape.shift);
  if (!segment) [[unlikely]] {
    fpu.leave();
    Result<u8 *> r = graph_.get(slot >> graph_.shape.shift);
    if (!r.ok()) return r.code() == Errno::noent ? Status() : Status(r.error());
    segment = *r;
  }
  if (level && !graph_.has_level(segment, slot, level)) return {};
  const Link *list = graph_.list(segment, slot, level);
  const u32 degree = graph_.shape.degree(level);
  if (!visited_.has_room(degree)) [[unlikely]] {
    fpu.leave();
    VX_TRY(visited_.reserve(degree));
  }
  const u32 lines = item_lines();
  const bool coded = measure_.coded();
  const GraphShape shape = graph_.shape;  // here, where loads of links do not make it be read again
  const Graph::Segments segments = graph_.segments();
  for (u32 i = 0; i < degree; i++) {
    const u32 next = list[i].load(std::memory_order_acquire);
    if (next == slot_none) break;
    if (!visited_.insert(next)) continue;
    u8 *there = coded ? segments.peek(next >> shape.shift) : nullptr;
    if (!there) {
      VX_TRY(gather(next, &fpu));
      continue;
    }
    gather_code(shape, there, next, lines);
  }
  return {};
}

void Walk::score(FpuHold &fpu) {
  Batch &b = *batch_;
  measure_.score(query_, b.item, b.aux, b.n, b.key, fpu);
  stats.distances += b.n;
}

// The scored batch.
void Walk::offer(Beam &to) {
  Batch &b = *batch_;
  const Entry limit = to.limit();
  u32 n = 0;
  for (u32 i = 0; i < b.n; i++) {
    const Entry e = entry_of(b.key[i], b.slot[i]);
    b.entry[n] = e;
    n += e < limit;
  }
  if (n) to.add_below(b.entry, n);
}

// Between batches, when no row pointer is held.
Status Walk::breathe(FpuHold &fpu) {
  if (++since_breath_ < hnsw_search_impl::batches_per_breath) return {};
  since_breath_ = 0;
  fpu.leave();
  if (params && params->interrupted && params->interrupted(params->ctx)) return Errno::intr;
  if (rows_.pause) rows_.pause(rows_);
  vx_yield();
  return {};
}

void Walk::prefetch_list(u32 slot) const {
  if (slot == slot_none) return;
  if (u8 *s = graph_.peek(slot >> graph_.shape.shift))
    simd::prefetch(graph_.list(s, slot, 0), graph_.shape.list_bytes, 4);
}

Status Walk::descend(u32 stop) {
  FpuHold fpu;
  while (level_ > stop) {
    for (bool moved = true; moved;) {
      VX_TRY(collect(current_, level_, fpu));
      moved = false;
      if (batch_->n == 0) break;
      score(fpu);
      stats.hops++;
      offer(beam);
      for (u32 i = 0; i < batch_->n; i++) {
        if (batch_->key[i] >= current_key_) continue;
        current_key_ = batch_->key[i];
        current_ = batch_->slot[i];
        moved = true;
      }
      VX_TRY(breathe(fpu));
    }
    level_--;
  }
  return {};
}

Status Walk::widen(u32 level, u32 reach) {
  const u64 distances_max = params ? params->distances_max : 0;
  FpuHold fpu;
  while (beam.has_next(reach)) {
    const u32 slot = beam.take_next();
    if (level == 0) prefetch_list(beam.peek_next());
    VX_TRY(collect(slot, level, fpu));
    stats.hops++;
    if (batch_->n) {
      score(fpu);
      offer(beam);
    }
    if (distances_max && stats.distances >= distances_max) {
      stats.truncated = beam.has_next();
      return {};
    }
    VX_TRY(breathe(fpu));
  }
  return {};
}

bool Walk::wanted(u32 slot) {
  if (rows_.dead(slot)) return false;
  if (!params || !params->accept) return true;
  stats.accepts++;
  return params->accept(params->ctx, slot);
}

// Nearest first, so that accept() is asked as rarely as possible. Insertion sort: a batch is short.
void Walk::sort_batch() {
  Batch &b = *batch_;
  for (u32 i = 1; i < b.n; i++) {
    const u32 key = b.key[i], slot = b.slot[i];
    const void *item = b.item[i];
    u32 j = i;
    for (; j && b.key[j - 1] > key; j--) {
      b.key[j] = b.key[j - 1];
      b.slot[j] = b.slot[j - 1];
      b.item[j] = b.item[j - 1];
    }
    b.key[j] = key;
    b.slot[j] = slot;
    b.item[j] = item;
  }
}

// Of a sorted batch, before anything may sleep.
void Walk::mark_copies() {
  Batch &b = *batch_;
  for (u32 i = 0; i < b.n; i++)
    b.copy[i] = i && b.key[i] == b.key[i - 1] && memcmp(b.item[i], b.item[i - 1], measure_.item_bytes()) == 0;
}

// Are there, among found[0..n), ascending, and no farther than `limit`, as many copies that are not wanted as may fill a list?
Result<bool> Walk::crowd_within(const Entry *found, u32 n, u32 limit) {
  for (u32 i = 0, end; i < n && entry_key(found[i]) <= limit; i = end) {
    for (end = i + 1; end < n && entry_key(found[end]) == entry_key(found[i]);) end++;
    if (end - i < crowd_min()) continue;  // the rule: nobody is asked
    const void *first = nullptr;
    u32 refused = 0;
    for (u32 j = i; j < end; j++) {
      if (wanted(entry_slot(found[j]))) continue;
      Result<Item> r = item(entry_slot(found[j]));
      if (r.code() == Errno::noent) continue;
      const void *bytes = VX_TRY(std::move(r)).bytes;
      if (!first) first = bytes;
      refused += memcmp(bytes, first, measure_.item_bytes()) == 0;
    }
    if (refused >= crowd_min()) return true;
    VX_TRY(breathe());
  }
  return false;
}

// The key of the k-th that lives.
u32 Walk::last_living(const Entry *found, u32 n, u32 k) const {
  for (u32 i = 0; i < n; i++)
    if (!rows_.dead(entry_slot(found[i])) && --k == 0) return entry_key(found[i]);
  return simd::key_farthest;
}

// Doubles the heap's room: two buffers in turn, since a buffer that grows loses its contents.
Status Walk::grow_heap(MinHeap &heap) {
  const u32 cap = heap.capacity() * 2 + Batch::capacity;
  Entry *storage = VX_TRY(scratch_.array<Entry>(heap_spare_ ? Scratch::heap : Scratch::heap_spare, cap));
  heap_spare_ = !heap_spare_;
  heap.move_to(storage, cap);
  return {};
}

// Offers the scored batch: candidates while they could lead anywhere, results if they may be returned.
Status Walk::push_candidates(MinHeap &heap, Beam &found) {
  const Batch &b = *batch_;
  if (heap.size() + b.n > heap.capacity()) VX_TRY(grow_heap(heap));
  u32 refused = 0;
  for (u32 i = 0; i < b.n; i++) {
    const Entry e = entry_of(b.key[i], b.slot[i]);
    if (e >= found.limit()) break;  // the batch is sorted
    heap.push(e);
    if (!b.copy[i]) refused = 0;
    if (wanted(b.slot[i]))
      found.add(e);
    else if (++refused >= crowd_min())
      crowd_key_ = min_of(crowd_key_, b.key[i]);
  }
  return {};
}

Status Walk::widen_accepted(u32 ef, const Entry **results, u32 *n) {
  Beam found;
  found.reset(VX_TRY(scratch_.array<Entry>(Scratch::results, usize{ef} + 1)), ef);
  const u32 cap = max_of<u32>(1024, beam.size() + Batch::capacity);
  MinHeap heap;
  heap.reset(VX_TRY(scratch_.array<Entry>(Scratch::heap, cap)), cap);
  for (u32 i = 0; i < beam.size(); i++) {
    const Entry e = beam.entries()[i] & ~Entry{1};
    heap.push(e);
    if (wanted(entry_slot(e))) found.add(e);
  }
  while (!heap.empty() && heap.top() <= found.limit()) {  // the farthest found is expanded as well
    const u32 slot = entry_slot(heap.top());
    heap.pop();
    if (!heap.empty()) prefetch_list(entry_slot(heap.top()));
    FpuHold fpu;  // not beyond this hop: whether a row is accepted may take sleep to find out
    VX_TRY(collect(slot, 0, fpu));
    stats.hops++;
    if (batch_->n) {
      score(fpu);
      fpu.leave();
      sort_batch();
      mark_copies();
      VX_TRY(push_candidates(heap, found));
    }
    if (params->distances_max && stats.distances >= params->distances_max) {
      stats.truncated = !heap.empty();
      break;
    }
    VX_TRY(breathe());
  }
  *results = found.entries();
  *n = found.size();
  const bool enough = *n >= params->k;
  stats.crowded = crowd_key_ != simd::key_farthest && (!enough || crowd_key_ <= entry_key((*results)[params->k - 1]));
  return {};
}

// The rows of the batch that are not in memory; without those that exist no more, or turned out damaged.
Status Walk::bring_absent() {
  Batch &b = *batch_;
  VX_TRY(rows_.fetch_absent(b.slot, b.item, b.aux, b.n));
  u32 kept = 0;
  for (u32 i = 0; i < b.n; i++) {
    if (!b.item[i] || (rows_.any_dead && rows_.dead(b.slot[i]))) continue;
    b.slot[kept] = b.slot[i];
    b.item[kept] = b.item[i];
    b.aux[kept++] = b.aux[i];
  }
  b.n = kept;
  return {};
}

// What the distances of found[0..n) cannot be less than, but by chance, into the batch's keys.
Status Walk::bound(const Entry *found, u32 n) {
  Batch &b = *batch_;
  for (u32 i = 0; i < n; i++) {
    b.item[i] = VX_TRY(item(entry_slot(found[i]))).bytes;
    b.key[i] = entry_key(found[i]);
  }
  measure_.lower(query_, b.item, n, hnsw_search_impl::hopeless, b.key);
  return {};
}

// Their rows into the batch, but for those that are bounded and beyond the limit.
Status Walk::gather_rows(const Entry *found, u32 n, bool bounded, u32 limit) {
  Batch &b = *batch_;
  bool absent = false;
  b.n = 0;
  for (u32 i = 0; i < n; i++) {
    const u32 slot = entry_slot(found[i]);
    if ((bounded && b.key[i] > limit) || (rows_.any_dead && rows_.dead(slot))) continue;
    const u8 *r = rows_.peek(slot);
    if (!r) [[unlikely]] {
      absent = true;
      gather_item(slot, Item{nullptr, 0});
      continue;
    }
    simd::prefetch(r, measure_.space().row_bytes(), item_lines_ahead);
    gather_item(slot, Item{r, rows_.aux(r, slot)});
  }
  return absent ? bring_absent() : Status();
}

Status Walk::rescore(const simd::Query &q, const Entry *found, u32 n, u32 keep, const Entry **results, u32 *kept) {
  Beam best;
  best.reset(VX_TRY(scratch_.array<Entry>(Scratch::heap_spare, usize{keep} + 1)), keep);
  Batch &b = *batch_;
  const bool has_bound = measure_.has_bound();
  u32 now, some = has_bound ? min_of(hnsw_search_impl::first_rows(keep), Batch::capacity) : Batch::capacity;
  u32 wanted = has_bound ? n : hnsw_search_impl::rescored(keep, n);  // rows that live
  for (u32 i = 0; i < n && wanted; i += now, some = Batch::capacity) {
    now = min_of(min_of(some, wanted), n - i);
    const bool bounded = has_bound && best.full();
    if (bounded) VX_TRY(bound(found + i, now));
    VX_TRY(gather_rows(found + i, now, bounded, entry_key(best.limit())));
    measure_.space().score(q, b.item, b.aux, b.n, b.key);
    stats.distances += b.n;
    if (!has_bound) wanted -= b.n;
    offer(best);
    VX_TRY(breathe());
  }
  *results = best.entries();
  *kept = best.size();
  return {};
}

Status Walk::drop_dead(const Entry **found, u32 *n) {
  Entry *living = VX_TRY(scratch_.array<Entry>(Scratch::results, usize{*n} + 1));
  u32 kept = 0;
  for (u32 i = 0; i < *n; i++)
    if (!rows_.dead(entry_slot((*found)[i]))) living[kept++] = (*found)[i];
  *found = living;
  *n = kept;
  return {};
}

// So few that they may take places in the beam and be dropped from it in the end.
bool Hnsw::few_dead(const RowView &rows) const {
  const u32 nodes = nodes_.load(std::memory_order_relaxed);
  return rows.live && nodes <= rows.live + rows.live / hnsw_search_impl::few_dead_share;
}

// What a walk on codes found, on the rows.
Status Hnsw::on_rows(Walk &walk, const simd::Query &q, const Entry **found, u32 *n) {
  if (!measure_.coded()) return {};
  const u64 most = walk.params->distances_max;  // this many more are few beside those
  if (most) *n = static_cast<u32>(min_of<u64>(*n, max_of<u64>(walk.params->k, most / 8)));
  return walk.rescore(q, *found, *n, walk.params->k, found, n);
}

// The walk itself: what it found, nearest first, in *found.
Status Hnsw::walk_for(Walk &walk, const simd::Query &q, EntryPoint from, u32 ef, const Entry **found, u32 *n) {
  VX_TRY(measure_.ready(walk.rows_));
  const Probe probe = VX_TRY(measure_.probe(q, walk.scratch_));
  RowView &rows = walk.rows_;
  if (walk.params->matching && VX_TRY(walk_matching(walk, q, probe, from, ef, found, n))) return {};
  if (!walk.params->accept && (!rows.any_dead || few_dead(rows))) {
    VX_TRY(walk.begin(probe, from, ef));
    VX_TRY(walk.descend(0));
    VX_TRY(walk.widen(0));
    *found = walk.beam.entries();
    *n = walk.beam.size();
    bool crowd = false;
    if (rows.any_dead) crowd = VX_TRY(walk.crowd_within(*found, *n, walk.last_living(*found, *n, walk.params->k)));
    if (rows.any_dead && !measure_.coded()) VX_TRY(walk.drop_dead(found, n));  // else it is done with scoring the rows
    VX_TRY(on_rows(walk, q, found, n));
    // Those that died may all have been near, or copies of one that lives: then only what lives counts.
    if (!rows.any_dead || (*n >= walk.params->k && !crowd) || walk.stats.truncated) return {};
  }
  VX_TRY(walk.begin(probe, from, ef));
  VX_TRY(walk.descend(0));
  VX_TRY(walk.widen_accepted(ef, found, n));
  return on_rows(walk, q, found, n);
}

Result<u32> Hnsw::search(RowView &rows, const simd::Query &q, const SearchParams &params, Scratch &scratch, Hit *out,
                         SearchStats *stats) {
  const EntryPoint from = entry();
  if (from.empty() || params.k == 0) return u32{0};
  Walk walk(graph_, measure_, rows, scratch);
  walk.params = &params;
  const Entry *found = nullptr;
  u32 n = 0;
  Status st = walk_for(walk, q, from, max_of(params.ef, params.k), &found, &n);
  if (stats) stats->add(walk.stats);
  if (!st.ok()) return st.error();
  n = min_of(n, params.k);
  for (u32 i = 0; i < n; i++) out[i] = Hit{entry_key(found[i]), entry_slot(found[i])};
  return n;
}

}  // namespace vexfs::vector
