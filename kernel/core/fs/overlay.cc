// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The overlay: an interval map on a red-black tree.
#include "overlay.h"

#include "../platform.h"

namespace vexfs::fs {

Spares::~Spares() {
  while (n_) vx_free(have_[--n_]);
}

Status Spares::fill(u32 n) {
  VX_ASSERT(n <= kMax);
  while (n_ < n) {
    MapRange *r = make();
    if (!r) return Errno::nomem;
    have_[n_++] = r;
  }
  return {};
}

MapRange *Spares::make() {
  void *m = vx_alloc(sizeof(MapRange), 0);
  return m ? new (m) MapRange() : nullptr;
}

MapRange *Spares::take() {
  VX_ASSERT(n_ > 0);
  return have_[--n_];
}

void Spares::give(MapRange *r) {
  if (n_ == kMax) {
    vx_free(r);
    return;
  }
  *r = MapRange{};
  have_[n_++] = r;
}

Overlay::~Overlay() {
  while (MapRange *r = tree_.first()) {
    tree_.erase(*r);
    vx_free(r);
  }
  while (MapRange *r = ghosts_.pop_front()) vx_free(r);
}

MapRange *Overlay::find(u64 block) const {
  MapRange *r = tree_.at_or_before(block);
  if (r && r->end() > block) return r;
  return tree_.at_or_after(block);
}

void Overlay::insert(MapRange &r) {
  VX_ASSERT(r.count > 0);
  tree_.insert(r);
  if (!r.cow) blocks_.fetch_add(r.count, std::memory_order_relaxed);
}

void Overlay::remove(MapRange &r) {
  tree_.erase(r);
  if (!r.cow) blocks_.fetch_sub(r.count, std::memory_order_relaxed);
}

void Overlay::drop_front(MapRange &r, u64 count) {
  VX_ASSERT(count < r.count);
  r.first += count;  // still less than every key behind it
  r.count -= count;
  if (r.state != RangeState::delayed) r.disk += count;
  if (!r.cow) blocks_.fetch_sub(count, std::memory_order_relaxed);
}

void Overlay::add_delayed(MapRange *r) {
  MapRange *before = r->first ? tree_.at_or_before(r->first - 1) : nullptr;
  MapRange *after = tree_.at_or_after(r->first);
  VX_ASSERT(!before || before->end() <= r->first);
  VX_ASSERT(!after || r->end() <= after->first);
  auto alike = [r](const MapRange &o) { return o.state == RangeState::delayed && !o.cow && !r->cow; };
  bool join_before = before && before->end() == r->first && alike(*before);
  bool join_after = after && after->first == r->end() && alike(*after);
  if (!join_before && !join_after) {
    insert(*r);
    return;
  }
  if (!r->cow) blocks_.fetch_add(r->count, std::memory_order_relaxed);
  if (join_before) {
    before->count += r->count;
    if (join_after) {
      before->count += after->count;
      tree_.erase(*after);
      vx_free(after);
    }
  } else {
    after->first = r->first;  // still larger than every key before it
    after->count += r->count;
  }
  vx_free(r);
}

u32 Overlay::splits_needed(u64 first, u64 count) const {
  auto inside = [this](u64 block) -> u32 {
    MapRange *r = tree_.at_or_before(block);
    return r && r->first < block && block < r->end();
  };
  return inside(first) + inside(first + count);
}

void Overlay::split(u64 first, u64 count, Spares &spares) {
  split_at(first, spares);
  split_at(first + count, spares);
}

void Overlay::split_at(u64 block, Spares &spares) {
  MapRange *r = tree_.at_or_before(block);
  if (!r || r->first == block || block >= r->end()) return;
  MapRange *tail = spares.take();
  *tail = MapRange{};
  u64 head = block - r->first;
  tail->first = block;
  tail->count = r->count - head;
  tail->disk = r->state == RangeState::delayed ? 0 : r->disk + head;
  tail->state = r->state;
  tail->direct = r->direct;
  tail->cow = r->cow;
  r->count = head;
  tree_.insert(*tail);
}

void Overlay::make_ghost(MapRange &r) {
  VX_ASSERT(r.state == RangeState::inflight);
  remove(r);
  ghosts_.push_back(r);
}

bool Overlay::take_ghost(u64 first, u64 end, u64 &disk, u64 &count, Spares &spares) {
  for (MapRange *g = ghosts_.front(); g; g = ghosts_.next(*g)) {
    u64 from = max_of(first, g->first), to = min_of(end, g->end());
    if (from >= to) continue;
    bool head = from > g->first, tail = to < g->end();
    if (head && tail) {
      // Both ends stay: the tail becomes a ghost of its own.
      if (spares.fill(1).ok()) {
        MapRange *t = spares.take();
        *t = MapRange{};
        t->first = to;
        t->count = g->end() - to;
        t->disk = g->disk + (to - g->first);
        t->state = RangeState::inflight;
        ghosts_.push_back(*t);
        disk = g->disk + (from - g->first);
        count = to - from;
        g->count = from - g->first;
        return true;
      }
      // Without memory the tail's blocks stay busy until the inode goes: keep all of it.
      continue;
    }
    disk = g->disk + (from - g->first);
    count = to - from;
    if (head) {
      g->count = from - g->first;
    } else if (tail) {
      u64 cut = to - g->first;
      g->first += cut;
      g->disk += cut;
      g->count -= cut;
    } else {
      g->ghost_hook.unlink();
      spares.give(g);
    }
    return true;
  }
  return false;
}

}  // namespace vexfs::fs
