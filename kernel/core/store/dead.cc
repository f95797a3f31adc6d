// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Blocks let go of while a snapshot needs them: the waiting list, the way into the dead tree, and the way out.
#include "dead.h"

#include "../disk/snapshot_items.h"
#include "state.h"

namespace vexfs::store {

DeadList::~DeadList() {
  while (Chunk *c = first_) {
    first_ = c->next;
    vx_free(c);
  }
}

void DeadList::add(const DeadExtent &d, Counters &counters) {
  Chunk *extra = nullptr;
  for (;;) {
    {
      Guard g(lock_);
      if (extra) {
        extra->next = first_;
        first_ = extra;
      }
      if (first_ && first_->n < sizeof first_->d / sizeof first_->d[0]) {
        first_->d[first_->n++] = d;
        count_.fetch_add(1, std::memory_order_release);
        return;
      }
    }
    void *m = vx_alloc(sizeof(Chunk), 0);
    extra = m ? new (m) Chunk : nullptr;
    if (extra) continue;
    counters.memory_waits.fetch_add(1, std::memory_order_relaxed);
    vx_yield();
  }
}

bool DeadList::take(DeadExtent *out) {
  Chunk *drop = nullptr;
  {
    Guard g(lock_);
    if (first_ && first_->n == 0 && first_->next) {
      drop = first_;
      first_ = drop->next;
    }
    if (!first_ || first_->n == 0) return false;
    *out = first_->d[--first_->n];
    count_.fetch_sub(1, std::memory_order_relaxed);
  }
  if (drop) vx_free(drop);
  return true;
}

// -------------------------------------------------------------------- in and out of the tree
// A handle of its own may be ending on another thread at the same time: whoever takes an extent sees to it. All are of
// the transaction that is open, which cannot end before this handle has.
void State::drain_dead(Handle &h) {
  DeadExtent d;
  while (dead.take(&d)) {
    if (abort_code.load(std::memory_order_relaxed)) continue;
    VX_ASSERT(d.death == h.txn());
    disk::DeadItem item{};
    item.birth = d.birth;
    item.count = static_cast<u32>(d.blocks.count);
    Status st =
        trees[static_cast<u8>(TreeId::dead)].insert(h, {d.death, disk::kDeadType, d.blocks.start}, bytes_of(item));
    if (st.ok()) continue;
    if (st.code() == Errno::nospc && open_handles.load(std::memory_order_acquire) > 1) {
      dead.add(d, counters);  // what was kept for this extent is with another handle, which ends after this one
      return;
    }
    LogLine(dev, VX_LOG_ERR).str("the dead tree cannot take blocks ").dec(d.blocks.start).str("+").dec(d.blocks.count);
    abort(st.error());
  }
}

// True when the blocks stay in use for a snapshot: the caller must not free them.
bool State::kept_for_snapshot(Extent e, u64 birth, u8 tree) {
  u64 newest = snapshot_txn.load(std::memory_order_acquire);  // 0: there is none
  if (newest == 0 || birth > newest) return false;
  if (!disk::tree_is_kept(tree)) return false;
  u64 death = open_txn.load(std::memory_order_relaxed);
  while (e.count) {  // an item stays within a group
    u64 g = geo.group_of(e.start);
    u64 n = min_of<u64>(e.count, geo.group_start(g) + geo.group_len(g) - e.start);
    dead.add({{e.start, n}, birth, death}, counters);
    counters.dead_blocks.fetch_add(n, std::memory_order_relaxed);
    e.start += n;
    e.count -= n;
  }
  return true;
}

// Frees what died in (after, upto] and was born after `older`, the next older snapshot. Looks at some items from *cursor
// on, counts them in *seen, and returns whether it came to the end.
Result<bool> State::reclaim_dead(u64 older, u64 after, u64 upto, Key *cursor, u32 *seen) {
  Tree &t = trees[static_cast<u8>(TreeId::dead)];
  constexpr u32 kBatch = 16;
  Key found[kBatch];
  disk::DeadItem item[kBatch];
  constexpr u32 kLook = 1024;
  u32 n = 0, looked = 0;
  *cursor = max_of(*cursor, Key{after + 1, 0, 0});
  Key last{upto, 0xff, ~u64{0}};
  Status st = t.scan(*cursor, last, [&](const Key &k, Bytes b) {
    *cursor = k;
    bool more = ++looked < kLook;
    if (disk::verify_dead(b, k.oid, k.off, geo)) return more;  // damage: the checker's business
    memcpy(&item[n], b.data(), sizeof item[n]);
    if (item[n].birth > older) found[n++] = k;
    return more && n < kBatch;
  });
  VX_TRY(st);
  *seen += looked;
  bool end = looked < kLook && n < kBatch;
  if (n) {
    Handle h = VX_TRY(begin({.items = n, .last_reserve = true, .freeing = true}));
    for (u32 i = 0; i < n; i++) {
      Status e = t.erase(h, found[i]);
      if (!e.ok()) {
        h.abort(e.error());
        return e.error();
      }
      alloc.pinned.fetch_add(item[i].count, std::memory_order_relaxed);
      add_delta({found[i].off, item[i].count}, true);
      counters.dead_freed.fetch_add(item[i].count, std::memory_order_relaxed);
    }
  }
  cursor->off++;  // a block number: far from wrapping around
  return end;
}

}  // namespace vexfs::store
