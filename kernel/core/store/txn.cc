// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Handles: reservation of space and memory at begin, consumption by mutations, return at end.
#include "txn.h"

#include "state.h"

namespace vexfs::store {

namespace txn_impl {
namespace {
constexpr u32 kItemsFull = 16;        // mutations of one handle that are reserved for at full worst-case cost
constexpr u32 kItemsLeaf = 1024;      // further ones: a leaf each
constexpr u32 kSlotBatch = 128;       // node places fetched from the bitmaps at a time
constexpr u32 kPoolSlack = 64;        // node buffers kept beyond what is reserved
constexpr u32 kMemoryRetries = 2000;  // of an allocation that must not fail, before giving up
constexpr u32 kSpareChunks = 4;
}  // namespace
}  // namespace txn_impl

// ------------------------------------------------------------------- Handle
Handle::Handle(Handle &&o) noexcept
    : state_(std::exchange(o.state_, nullptr)),
      txn_(o.txn_),
      slots_(std::exchange(o.slots_, 0)),
      buffers_(std::exchange(o.buffers_, 0)),
      data_blocks_(std::exchange(o.data_blocks_, 0)) {}

Handle &Handle::operator=(Handle &&o) noexcept {
  if (this != &o) {
    end();
    state_ = std::exchange(o.state_, nullptr);
    txn_ = o.txn_;
    slots_ = std::exchange(o.slots_, 0);
    buffers_ = std::exchange(o.buffers_, 0);
    data_blocks_ = std::exchange(o.data_blocks_, 0);
  }
  return *this;
}

void Handle::abort(Error why) {
  if (state_) state_->abort(why);
}

void Handle::end() {
  if (state_) state_->end(*this);
}

// Worst case of one mutation: every level is given a new place, every level splits, and the root grows.
u32 State::buffers_for(u32 items) const {
  u32 levels = 1;
  for (const Tree &t : trees) levels = max_of(levels, t.height_.load(std::memory_order_relaxed));
  return min_of(items, txn_impl::kItemsFull) * (2 * levels + 1) + 1;
}

// Many mutations of one operation share their branches: those beyond the first few count a leaf each.
u32 State::slots_for(u32 items) const {
  u32 more = items > txn_impl::kItemsFull ? items - txn_impl::kItemsFull : 0;
  return buffers_for(items) + min_of(more, txn_impl::kItemsLeaf);
}

// -------------------------------------------------------------- node places
// Fetches node places until `want` are in stock. ok also when there are not that many; the caller looks.
Status State::refill_slots(u32 want) {
  constexpr u32 kStep = txn_impl::kSlotBatch / 4;
  NodePlace got[kStep];
  for (;;) {
    u32 have;
    u32 cap;
    {
      Guard g(lock);
      have = stock.count;
      cap = static_cast<u32>(stock.ring.size());
    }
    if (have >= want) return {};
    if (want + kStep > cap) {
      Vec<NodePlace> bigger;
      VX_TRY(bigger.resize(std::bit_ceil(usize{want} + kStep * 4)));
      Guard g(lock);
      if (bigger.size() > stock.ring.size()) {
        for (u32 i = 0; i < stock.count; i++) bigger[i] = stock.ring[(stock.head + i) & (stock.ring.size() - 1)];
        stock.head = 0;
        std::swap(stock.ring, bigger);
      }
    }
    u32 n = VX_TRY(alloc.take_slots(got, min_of(want - have, kStep)));
    u32 kept = 0;
    {
      Guard g(lock);
      for (; kept < n && stock.count < stock.ring.size(); kept++) {
        stock.ring[(stock.head + stock.count) & (stock.ring.size() - 1)] = got[kept];
        stock.count++;
      }
    }
    for (u32 i = kept; i < n; i++) give_back(got[i]);
    if (n == 0 || kept < n) return {};
  }
}

// Is what is kept for operations that free, and for completions, all there? File data must not take the last places of a
// full disk away from the items that say where it is.
bool State::stock_whole() {
  u32 want;
  {
    Guard g(lock);
    want = stock.reserved + stock.emergency;
    if (stock.count >= want) return true;
  }
  if (!refill_slots(want).ok()) return false;
  Guard g(lock);
  return stock.count >= want;
}

bool State::drain_slots() {
  bool any = false;
  for (;;) {
    NodePlace place;
    {
      Guard g(lock);
      if (stock.count <= stock.reserved + stock.emergency) return any;
      stock.count--;
      place = stock.ring[(stock.head + stock.count) & (stock.ring.size() - 1)];
    }
    give_back(place);
    any = true;
  }
}

NodePlace State::pop_slot(Handle &h) {
  {
    Guard g(lock);
    bool own = h.slots_ > 0;
    if (own || stock.count > stock.reserved) {
      if (own) {
        h.slots_--;
        stock.reserved--;
      }
      VX_ASSERT(stock.count > 0);
      NodePlace place = stock.ring[stock.head];
      stock.head = (stock.head + 1) & static_cast<u32>(stock.ring.size() - 1);
      stock.count--;
      return place;
    }
  }
  // The operation turned out larger than it said, and nothing is in stock: one place straight from the bitmaps, even if
  // one must be read for that.
  NodePlace place;
  Result<u32> n = alloc.take_slots(&place, 1);
  return n.ok() && *n == 1 ? place : NodePlace{};
}

// ------------------------------------------------------------- node buffers
Status State::fill_pool(u32 want_free) {
  for (;;) {
    {
      Guard g(lock);
      if (pool.count >= want_free) return {};
    }
    Node *n = cache.fresh();
    if (!n) return Errno::nomem;
    push_buffer(n);
  }
}

void State::push_buffer(Node *n) {
  Guard g(lock);
  n->pool_next = pool.head;
  pool.head = n;
  pool.count++;
}

void State::trim_pool() {
  for (;;) {
    Node *n;
    {
      Guard g(lock);
      if (pool.count <= pool.reserved + 2 * txn_impl::kPoolSlack) return;
      n = pool.head;
      pool.head = n->pool_next;
      pool.count--;
    }
    cache.recycle(n);
  }
}

Node *State::pop_buffer(Handle &h) {
  for (u32 tries = 0;; tries++) {
    {
      Guard g(lock);
      bool own = h.buffers_ > 0;
      if (own || pool.count > pool.reserved) {
        VX_ASSERT(pool.head);
        if (own) {
          h.buffers_--;
          pool.reserved--;
        }
        Node *n = pool.head;
        pool.head = n->pool_next;
        pool.count--;
        n->pool_next = nullptr;
        return n;
      }
    }
    if (Node *n = cache.fresh()) return n;
    if (tries == txn_impl::kMemoryRetries) return nullptr;
    counters.memory_waits.fetch_add(1, std::memory_order_relaxed);
    vx_yield();
  }
}

// -------------------------------------------------------------- begin, end
Result<Handle> State::begin(const Reserve &r) {
  u32 forced = 0;
  bool drained = false;  // since the last commit: places and data blocks are wanted, and cannot both be had in plenty
  for (;;) {
    if (int e = abort_code.load(std::memory_order_relaxed)) {
      (void)e;
      return Errno::rofs;
    }
    if (read_only.load(std::memory_order_relaxed)) return Errno::rofs;
    if (dirty_count.load(std::memory_order_relaxed) > cache.max_count() / 2) {
      counters.commits_forced.fetch_add(1, std::memory_order_relaxed);
      VX_TRY(commit(false));
    }
    u32 need = slots_for(r.items), buffers = buffers_for(r.items), notes = 0, floor, had, wanted;
    bool wait = false, short_slots, short_pool;
    {
      Guard g(lock);
      wait = frozen.load(std::memory_order_relaxed);
      // With a snapshot, what is let go of is noted in the dead tree: in the order of transactions, so at its end. Deleting
      // gives nothing back then; half of the emergency reserve is kept for deleting the snapshot. (Whether there is one
      // changes only while the gate is shut.)
      if (!r.last_reserve) notes = dead_items(need);
      if (notes) {
        need += slots_for(notes);
        buffers += buffers_for(1);
      }
      floor = !r.freeing ? stock.emergency : notes ? stock.emergency / 2 : 0;
      short_slots = stock.count < stock.reserved + need + floor;
      short_pool = pool.count < pool.reserved + buffers;
      had = stock.count;
      wanted = stock.reserved + need + floor;
      if (!drained) wanted = max_of(stock.target, wanted + txn_impl::kSlotBatch);
      if (short_slots && r.freeing && notes == 0 && forced > 0 && stock.count > stock.reserved) {
        // The last places on a full disk: as many as there are.
        need = min_of(need, stock.count - stock.reserved);
        short_slots = false;
      }
      if (!wait && !short_slots && !short_pool && (r.data_blocks == 0 || alloc.promise(r.data_blocks))) {
        stock.reserved += need;
        pool.reserved += buffers;
        handles++;
        open_handles.store(handles, std::memory_order_relaxed);
        Handle h;
        h.state_ = this;
        h.txn_ = open_txn.load(std::memory_order_relaxed);
        h.slots_ = need;
        h.buffers_ = buffers;
        h.data_blocks_ = r.data_blocks;
        counters.handles.fetch_add(1, std::memory_order_relaxed);
        return h;
      }
    }
    if (wait) {
      counters.handle_waits.fetch_add(1, std::memory_order_relaxed);
      gate.wait([this] { return !frozen.load(std::memory_order_acquire); });
      continue;
    }
    if (short_pool) {
      u32 goal;
      {
        Guard g(lock);
        goal = pool.reserved + buffers + txn_impl::kPoolSlack / 2;
      }
      Status st = fill_pool(goal);
      if (!st.ok()) {
        Guard g(lock);
        if (pool.count < pool.reserved + buffers) return st.error();
      }
      if (!short_slots) continue;
    }
    if (short_slots) {
      Status st = refill_slots(wanted);
      Guard g(lock);
      if (!st.ok() && stock.count <= had) return st.error();
      if (stock.count > had) continue;
    } else if (!drained && drain_slots()) {
      drained = true;  // data blocks were short
      continue;
    }
    // Space is short. Blocks freed by transactions that are not durable yet come back with a commit.
    bool hope = alloc.pinned.load(std::memory_order_relaxed) > 0;
    if (!(hope && forced < 3) && !(r.freeing && forced == 0)) {
      counters.nospc.fetch_add(1, std::memory_order_relaxed);
      return Errno::nospc;
    }
    forced++;
    drained = false;
    if (hope) {
      counters.commits_forced.fetch_add(1, std::memory_order_relaxed);
      VX_TRY(commit(false));
    }
  }
}

void State::end(Handle &h) {
  bool last, trim;
  if (!dead.empty()) [[unlikely]]
    drain_dead(h);
  {
    Guard g(lock);
    VX_ASSERT(handles > 0);
    stock.reserved -= h.slots_;
    pool.reserved -= h.buffers_;
    handles--;
    open_handles.store(handles, std::memory_order_release);
    last = handles == 0 && frozen.load(std::memory_order_relaxed);
    trim = pool.count > pool.reserved + 4 * txn_impl::kPoolSlack;
  }
  if (h.data_blocks_) alloc.unpromise(h.data_blocks_);
  h.state_ = nullptr;
  h.slots_ = h.buffers_ = 0;
  h.data_blocks_ = 0;
  if (last) gate.wake();
  if (trim) trim_pool();
  if (thread && dirty_enough() && !kicked.exchange(true)) thread_wake.wake();
}

bool State::dirty_enough() const { return dirty_count.load(std::memory_order_relaxed) > cache.max_count() / 4; }

// ------------------------------------------------------------------- deltas
void State::add_delta(Extent e, bool is_free) {
  DeltaChunk *extra = nullptr;
  for (;;) {
    {
      Guard g(lock);
      changed = true;
      if (extra) {
        extra->next = spare_chunks;
        spare_chunks = extra;
        spare_chunk_count++;
        extra = nullptr;
      }
      DeltaChunk *t = deltas.tail;
      if (t && t->n) {
        Delta &last = t->d[t->n - 1];
        if (last.is_free == is_free && last.start + last.count == e.start && last.count + e.count < (1u << 30) &&
            geo.group_of(last.start) == geo.group_of(e.start)) {
          last.count += static_cast<u32>(e.count);
          return;
        }
      }
      if (!t || t->n == sizeof t->d / sizeof t->d[0]) {
        DeltaChunk *c = spare_chunks;
        if (c) {
          spare_chunks = c->next;
          spare_chunk_count--;
          c->next = nullptr;
          c->n = 0;
          if (t) {
            t->next = c;
          } else {
            deltas.head = c;
          }
          deltas.tail = t = c;
        } else {
          t = nullptr;
        }
      }
      if (t) {
        t->d[t->n++] = {e.start, static_cast<u32>(e.count), is_free};
        return;
      }
    }
    void *m = vx_alloc(sizeof(DeltaChunk), 0);
    if (m) {
      extra = new (m) DeltaChunk;
    } else {
      // A few hundred bytes short of memory in the middle of an operation: wait, there is nothing else to be done.
      counters.memory_waits.fetch_add(1, std::memory_order_relaxed);
      vx_yield();
    }
  }
}

void State::free_blocks(Extent e, u64 birth) {
  if (e.count == 0) return;
  // An extent that a damaged image made up must not take fixed structures with it.
  if (!geo.is_data(e.start, e.count) || birth > open_txn.load(std::memory_order_relaxed)) {
    LogLine(dev, VX_LOG_ERR)
        .str("freeing blocks ")
        .dec(e.start)
        .str("+")
        .dec(e.count)
        .str(" born in ")
        .dec(birth)
        .str(": not a data extent");
    damage(Errno::corrupt);
    return;
  }
  counters.frees.fetch_add(1, std::memory_order_relaxed);
  counters.free_blocks.fetch_add(e.count, std::memory_order_relaxed);
  log.extent(e, true, birth);
  if (kept_for_snapshot(e, birth, static_cast<u8>(TreeId::fs))) return;
  alloc.pinned.fetch_add(e.count, std::memory_order_relaxed);
  add_delta(e, true);
}

void State::free_node_place(const NodePlace &p, u64 birth, u8 tree) {
  for (u64 addr : {p.addr, p.mirror}) {
    Extent e{addr, geo.node_blocks};
    if (addr == 0 || kept_for_snapshot(e, birth, tree)) continue;
    alloc.pinned.fetch_add(e.count, std::memory_order_relaxed);
    add_delta(e, true);
  }
}

void State::took_place(const NodePlace &p) {
  add_delta({p.addr, geo.node_blocks}, false);
  if (p.mirror) add_delta({p.mirror, geo.node_blocks}, false);
}

void State::give_back(const NodePlace &p) {
  alloc.give_back({p.addr, geo.node_blocks}, false);
  if (p.mirror) alloc.give_back({p.mirror, geo.node_blocks}, false);
}

void State::set_blob(TreeId owner, const u8 *in) {
  auto i = static_cast<u8>(owner);
  {
    Guard g(lock);
    changed = true;
    memcpy(blobs[i], in, sizeof blobs[i]);
  }
  log.blob(i, blobs[i]);
}

// -------------------------------------------------------------- dirty nodes
void State::node_dirtied(Node *n, u64 txn) {
  NodeCache::pin(n);
  Guard g(lock);
  VX_ASSERT(!n->dirty.linked() && n->dirty_txn.load(std::memory_order_relaxed) == 0);
  n->dirty_txn.store(txn, std::memory_order_relaxed);
  n->superseded = false;
  dirty[dirty_now].push_back(*n);
  changed = true;
  dirty_count.fetch_add(1, std::memory_order_relaxed);
}

bool State::supersede(Node *n) {
  Guard g(lock);
  u64 t = n->dirty_txn.load(std::memory_order_relaxed);
  if (t == 0 || t != committing_txn.load(std::memory_order_relaxed)) return false;
  n->superseded = true;
  return true;
}

}  // namespace vexfs::store
