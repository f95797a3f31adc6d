// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Noting the blocks of a rollback, a few nodes at a time.
#include "rollback.h"

#include "../disk/refcount_items.h"
#include "../disk/references.h"
#include "../disk/snapshot_items.h"
#include "volume.h"

namespace vexfs::store {

namespace rollback_impl {
namespace {
constexpr u32 kWordBits = 64;
usize bits_bytes(const disk::Geometry &g) { return div_up<usize>(g.group_blocks, kWordBits) * 8; }
}  // namespace
}  // namespace rollback_impl

RollbackCount::~RollbackCount() {
  free_bits();
  if (buf_) vx_free_large(buf_, s_.geo.node_size);
}

void RollbackCount::free_bits() {
  for (Bits *bits : {&bits_before_, &bits_after_})
    for (u64 *&b : *bits)
      if (b) vx_free_large(std::exchange(b, nullptr), rollback_impl::bits_bytes(s_.geo));
  for (u32 *&c : counts_)
    if (c) vx_free_large(std::exchange(c, nullptr), count_bytes());
}

usize RollbackCount::count_bytes() const { return usize{s_.geo.group_blocks} * sizeof(u32); }

Status RollbackCount::open() {
  SnapshotList::Entry e;
  if (!s_.snapshots.find(target_, &e)) return Errno::noent;
  from_ = e.txn;
  OpenOptions o{.read_only = true, .node_cache_bytes = u64{64} * s_.geo.node_size};
  before_ = VX_TRY(s_.open_view(replaced_, o));
  after_ = VX_TRY(s_.open_view(target_, o));
  buf_ = static_cast<u8 *>(vx_alloc_large(s_.geo.node_size, 0));
  if (!buf_) return Errno::nomem;
  if (before_->tree(TreeId::refcounts).height() > 0)
    window_ = max_of<u64>(1, min_of(kWindow, kCountBytes / count_bytes()));
  for (u64 i = 0; i < min_of(window_, s_.geo.groups); i++) {
    for (Bits *bits : {&bits_before_, &bits_after_}) VX_TRY(bits->push(nullptr));
    VX_TRY(counts_.push(nullptr));
  }
  next_walk();
  return {};
}

void RollbackCount::next_walk() {
  State &mine = phase_ == Phase::after ? after_->state() : before_->state();
  State &other = phase_ == Phase::after ? before_->state() : after_->state();
  walk_.start(mine.trees[tree_], other.trees[tree_]);
}

Status RollbackCount::next_phase() {
  switch (phase_) {
    case Phase::before:
      phase_ = Phase::after;
      break;
    case Phase::after:
      phase_ = Phase::bury;
      break;
    case Phase::bury:
      phase_ = Phase::revive;
      dead_at_ = {from_ + 1, 0, 0};
      return {};
    case Phase::revive:
      phase_ = Phase::before;
      group_ += window_;
      free_bits();
      break;
  }
  tree_ = 0;
  next_walk();
  return {};
}

// The part of e that lies in the window: what an item says of its length is not walked through outside of it. Nothing of
// what is no data: damage, the checker's business.
Extent RollbackCount::in_window(Extent e) const {
  const disk::Geometry &g = s_.geo;
  if (e.count == 0 || !g.is_data(e.start, e.count)) return {};
  u64 last = min_of(group_ + window_, g.groups) - 1;
  u64 from = max_of(e.start, g.group_start(group_)), to = min_of(e.end(), g.group_start(last) + g.group_len(last));
  return from < to ? Extent{from, to - from} : Extent{};
}

Status RollbackCount::mark(Bits &bits, Extent e) {
  const disk::Geometry &g = s_.geo;
  for (u64 block = e.start; block < e.end();) {
    u64 group = g.group_of(block), end = min_of(e.end(), g.group_start(group) + g.group_len(group));
    u64 *&b = bits[group - group_];
    if (!b) b = static_cast<u64 *>(vx_alloc_large(rollback_impl::bits_bytes(g), VX_ALLOC_ZERO));
    if (!b) return Errno::nomem;
    for (; block < end; block++) {
      u64 i = block - g.group_start(group);
      b[i / rollback_impl::kWordBits] |= u64{1} << (i % rollback_impl::kWordBits);
    }
  }
  return {};
}

bool RollbackCount::differs(const Bits &in, const Bits &but, u64 block) const {
  u64 group = s_.geo.group_of(block);
  if (group < group_ || group >= group_ + in.size()) return false;
  u64 i = block - s_.geo.group_start(group);
  const u64 *a = in[group - group_], *b = but[group - group_];
  auto bit = [&](const u64 *map) {
    return map && (map[i / rollback_impl::kWordBits] >> (i % rollback_impl::kWordBits) & 1);
  };
  return bit(a) && !bit(b);
}

// One more reference to each block of e, in the window.
Status RollbackCount::count(Extent e) {
  const disk::Geometry &g = s_.geo;
  for (u64 block = e.start; block < e.end(); block++) {
    u64 group = g.group_of(block);
    u32 *&c = counts_[group - group_];
    if (!c) c = static_cast<u32 *>(vx_alloc_large(count_bytes(), VX_ALLOC_ZERO));
    if (!c) return Errno::nomem;
    c[block - g.group_start(group)]++;
  }
  return {};
}

void RollbackCount::unmark(Bits &bits, Extent e) {
  const disk::Geometry &g = s_.geo;
  for (u64 block = e.start; block < e.end(); block++) {
    u64 i = block - g.group_start(g.group_of(block));
    bits[g.group_of(block) - group_][i / rollback_impl::kWordBits] &= ~(u64{1} << (i % rollback_impl::kWordBits));
  }
}

// Did the block, which an extent of the replaced state refers to, die with it? `known` is what was looked up last.
Result<bool> RollbackCount::died(u64 block, bool shared, Refs &known) const {
  if (!differs(bits_before_, bits_after_, block)) return false;
  if (!shared) return true;
  if (block < known.start || block >= known.end) {
    disk::RefcountItem item{};
    known = {block, block + 1, 1};
    auto f = before_->tree(TreeId::refcounts).seek_back({block, 0xff, ~u64{0}}, Key::min(), mut_bytes_of(item));
    if (!f.ok() && f.code() != Errno::noent && f.code() != Errno::range) return f.error();
    if (f.ok() && !disk::verify_refcount(bytes_of(item).first(f->len), f->key.oid, f->key.type, f->key.off, s_.geo) &&
        block < f->key.oid + item.blocks)
      known = {f->key.oid, f->key.oid + item.blocks, item.refs};
  }
  u64 group = s_.geo.group_of(block);
  const u32 *c = counts_[group - group_];
  return c && c[block - s_.geo.group_start(group)] >= known.refs;
}

// Enters what of e died with the replaced state into the dead tree, run by run. It is in no bitmap afterwards: another
// extent may refer to the same blocks.
Status RollbackCount::bury(Extent e, u64 birth, bool shared) {
  constexpr u32 kBatch = 16;
  Extent runs[kBatch];
  Refs known;
  for (u64 block = e.start; block < e.end();) {
    u32 n = 0;
    for (; block < e.end(); block++) {
      if (!VX_TRY(died(block, shared, known))) continue;
      Extent &last = runs[n ? n - 1 : 0];
      if (n && last.end() == block && s_.geo.group_of(last.start) == s_.geo.group_of(block)) {
        last.count++;
        continue;
      }
      if (n == kBatch) break;  // the next one begins with it
      runs[n++] = {block, 1};
    }
    if (n == 0) return {};
    Handle h = VX_TRY(s_.begin({.items = n, .last_reserve = true, .freeing = true}));
    for (u32 i = 0; i < n; i++) {
      disk::DeadItem item{};
      item.birth = birth;
      item.count = static_cast<u32>(runs[i].count);
      Status st =
          s_.trees[static_cast<u8>(TreeId::dead)].insert(h, {death_, disk::kDeadType, runs[i].start}, bytes_of(item));
      if (shared) unmark(bits_before_, runs[i]);
      if (st.code() == Errno::exist) continue;  // by a turn before a crash
      if (!st.ok()) {
        h.abort(st.error());
        return st;
      }
      s_.counters.dead_blocks.fetch_add(runs[i].count, std::memory_order_relaxed);
    }
  }
  return {};
}

Status RollbackCount::see_node(const UnsharedWalk::Found &n) {
  bool before = phase_ != Phase::after;
  Bits &bits = before ? bits_before_ : bits_after_;
  auto see = [&](Extent whole, u64 birth, bool shared) -> Status {
    Extent e = in_window(whole);
    if (phase_ == Phase::bury) return bury(e, birth, shared);
    if (shared && before) VX_TRY(count(e));
    return mark(bits, e);
  };
  if (group_ == 0 && phase_ != Phase::bury) nodes_ += before ? -1 : 1;
  VX_TRY(see({n.place.addr, s_.geo.node_blocks}, n.birth, false));
  if (n.place.mirror) VX_TRY(see({n.place.mirror, s_.geo.node_blocks}, n.birth, false));
  if (n.level) return {};
  Status st;
  for (u32 i = 0, count = node_header(buf_).count; i < count && st.ok(); i++) {
    const Key k = key_of(leaf_items(buf_)[i].key);
    disk::block_refs(tree_, k.oid, k.type, leaf_value(buf_, i), [&](const disk::BlockRef &r) {
      if (st.ok()) st = see({r.start, r.count}, r.birth, r.shared);
    });
  }
  return st;
}

// True: this phase is over.
Result<bool> RollbackCount::walk_turn(u32 *steps) {
  while (*steps) {
    UnsharedWalk::Found n;
    if (VX_TRY(walk_.next({buf_, s_.geo.node_size}, &n))) {
      VX_TRY(see_node(n));
      --*steps;
      continue;
    }
    while (++tree_ < disk::kTrees && !disk::tree_is_kept(tree_)) continue;
    if (tree_ == disk::kTrees) return true;
    next_walk();
  }
  return false;
}

// Takes what lives again out of one entry, run by run; the rest stays, with the same dates.
Status RollbackCount::revive(const Key &key, const disk::DeadItem &item) {
  Tree &dead = s_.trees[static_cast<u8>(TreeId::dead)];
  Extent left{key.off, item.count};
  while (left.count) {
    u64 a = left.start;
    while (a < left.end() && !differs(bits_after_, bits_before_, a)) a++;
    if (a == left.end()) return {};
    u64 b = a;
    while (b < left.end() && differs(bits_after_, bits_before_, b)) b++;
    Handle h = VX_TRY(s_.begin({.items = 3, .last_reserve = true, .freeing = true}));
    auto put = [&](u64 from, u64 to) -> Status {
      if (from == to) return {};
      disk::DeadItem rest = item;
      rest.count = static_cast<u32>(to - from);
      return dead.insert(h, {key.oid, key.type, from}, bytes_of(rest));
    };
    Status st = dead.erase(h, {key.oid, key.type, left.start});
    if (st.ok()) st = put(left.start, a);
    if (st.ok()) st = put(b, left.end());
    if (!st.ok()) {
      h.abort(st.error());
      return st;
    }
    left = {b, left.end() - b};
  }
  return {};
}

Result<bool> RollbackCount::revive_turn(u32 *steps) {
  constexpr u32 kBatch = 16;
  Key found[kBatch];
  disk::DeadItem item[kBatch];
  while (*steps) {
    u32 n = 0, looked = 0;
    constexpr u32 kLook = 1024;
    const Key last{death_ - 1, 0xff, ~u64{0}};
    VX_TRY(s_.trees[static_cast<u8>(TreeId::dead)].scan(dead_at_, last, [&](const Key &k, Bytes b) {
      dead_at_ = k;
      bool more = ++looked < kLook;
      if (disk::verify_dead(b, k.oid, k.off, s_.geo)) return more;
      memcpy(&item[n], b.data(), sizeof item[n]);
      bool any = false;
      for (u64 i = 0; i < item[n].count && !any; i++) any = differs(bits_after_, bits_before_, k.off + i);
      if (any) found[n++] = k;
      return more && n < kBatch;
    }));
    for (u32 i = 0; i < n; i++) VX_TRY(revive(found[i], item[i]));
    if (looked < kLook && n < kBatch) return true;
    dead_at_.off++;
    *steps -= min_of(*steps, looked);
  }
  return false;
}

// Everything is noted.
Status RollbackCount::finish() {
  before_.reset();
  after_.reset();
  VX_TRY(s_.commit(false));  // the log can say that everything is noted, but nothing of the dead tree
  Handle h = VX_TRY(s_.begin({.items = 1, .last_reserve = true, .freeing = true}));
  Status st = s_.trees[static_cast<u8>(TreeId::snapshots)].modify(
      h, {replaced_, disk::kSnapshotType, 0}, [&](MutBytes b) -> Status {
        if (b.size() != sizeof(disk::SnapshotItem)) return Errno::corrupt;
        reinterpret_cast<disk::SnapshotItem *>(b.data())->replaced_txn = 0;
        return {};
      });
  if (st.ok())
    s_.alloc.node_blocks.fetch_add(static_cast<u64>(nodes_ * s_.geo.place_blocks()), std::memory_order_relaxed);
  return st;
}

Result<bool> RollbackCount::turn(u32 steps) {
  while (steps && !s_.stop.load(std::memory_order_relaxed)) {
    bool over = phase_ == Phase::revive ? VX_TRY(revive_turn(&steps)) : VX_TRY(walk_turn(&steps));
    if (!over) continue;
    if (phase_ == Phase::revive && group_ + window_ >= s_.geo.groups) {
      VX_TRY(finish());
      return false;
    }
    VX_TRY(next_phase());
  }
  return true;
}

}  // namespace vexfs::store
