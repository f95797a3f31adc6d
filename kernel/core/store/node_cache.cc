// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The node cache: hash table in stripes, clock replacement, allocation of node buffers.
#include "node.h"

namespace vexfs::store {

namespace node_cache_impl {
namespace {
// Fails for a node that is being evicted at this moment.
bool try_pin(Node *n) {
  u32 p = n->pins.load(std::memory_order_relaxed);
  do {
    if (p & Node::kDead) return false;
  } while (!n->pins.compare_exchange_weak(p, p + 1, std::memory_order_acquire, std::memory_order_relaxed));
  return true;
}
}  // namespace
}  // namespace node_cache_impl

NodeCache::~NodeCache() { VX_ASSERT(total_.load() == 0); }

Status NodeCache::init(u64 max_bytes) {
  max_nodes_ = max_of<u64>(max_bytes / node_size_, 64);
  u64 want = max_nodes_ * 2;
  bucket_bits_ = 8;
  while ((u64{1} << bucket_bits_) < want && bucket_bits_ < 24) bucket_bits_++;
  return buckets_.resize(usize{1} << bucket_bits_);
}

u32 NodeCache::bucket_of(u64 addr) const {
  return static_cast<u32>((addr * 0x9e3779b97f4a7c15ull) >> (64 - bucket_bits_));
}

Node *NodeCache::find(u64 addr) {
  u32 b = bucket_of(addr);
  Guard g(stripe_of(b).lock);
  for (Node *n = buckets_[b]; n; n = n->hash_next) {
    if (n->addr == addr && node_cache_impl::try_pin(n)) {
      if (!n->referenced.load(std::memory_order_relaxed)) n->referenced.store(1, std::memory_order_relaxed);
      return n;
    }
  }
  return nullptr;
}

Result<Node *> NodeCache::find_or_enter(u64 addr) {
  if (Node *n = find(addr)) return n;
  Node *n = fresh();
  if (!n) return Errno::nomem;
  u32 b = bucket_of(addr);
  Node *other = nullptr;
  {
    Guard g(stripe_of(b).lock);
    for (other = buckets_[b]; other; other = other->hash_next)
      if (other->addr == addr && node_cache_impl::try_pin(other)) break;
    if (!other) {
      n->addr = addr;
      n->state.store(NodeState::unread, std::memory_order_relaxed);
      n->dirty_txn.store(0, std::memory_order_relaxed);
      n->pins.store(1, std::memory_order_relaxed);
      n->hash_next = buckets_[b];
      n->hashed = true;
      buckets_[b] = n;
    }
  }
  if (other) {
    recycle(n);
    return other;
  }
  Guard g(lru_lock_);
  if (!n->lru.linked()) lru_.push_back(*n);
  lru_count_.fetch_add(1, std::memory_order_relaxed);
  return n;
}

void NodeCache::unhash_locked(Node *n, u32 bucket) {
  VX_ASSERT(n->hashed);
  Node **p = &buckets_[bucket];
  while (*p != n) p = &(*p)->hash_next;
  *p = n->hash_next;
  n->hash_next = nullptr;
  n->hashed = false;
}

void NodeCache::lru_remove(Node *n) {
  Guard g(lru_lock_);
  if (n->lru.linked()) {
    n->lru.unlink();
    lru_count_.fetch_sub(1, std::memory_order_relaxed);
  }
}

void NodeCache::enter(Node *n, u64 addr) {
  u32 b = bucket_of(addr);
  Node *stale;
  {
    Guard g(stripe_of(b).lock);
    for (stale = buckets_[b]; stale; stale = stale->hash_next)
      if (stale->addr == addr && node_cache_impl::try_pin(stale)) break;
    if (stale) {
      unhash_locked(stale, b);
      stale->pins.fetch_or(Node::kDead, std::memory_order_relaxed);
    }
    n->addr = addr;
    n->hash_next = buckets_[b];
    n->hashed = true;
    buckets_[b] = n;
  }
  if (stale) {
    VX_ASSERT(stale->dirty_txn.load() == 0);
    unpin(stale);
  }
  Guard g(lru_lock_);
  if (!n->lru.linked()) {
    lru_.push_back(*n);
    lru_count_.fetch_add(1, std::memory_order_relaxed);
  }
}

void NodeCache::move(Node *n, u64 addr) {
  {
    u32 b = bucket_of(n->addr);
    Guard g(stripe_of(b).lock);
    unhash_locked(n, b);
  }
  enter(n, addr);
}

void NodeCache::forget(Node *n) {
  u32 b = bucket_of(n->addr);
  Guard g(stripe_of(b).lock);
  if (!n->hashed) return;
  unhash_locked(n, b);
  n->pins.fetch_or(Node::kDead, std::memory_order_relaxed);
}

// The node is not touched after its last pin is gone, unless it is dead: then nobody can find it any more, and exactly
// one thread sees the last pin go.
void NodeCache::unpin(Node *n) {
  u32 before = n->pins.fetch_sub(1, std::memory_order_acq_rel);
  VX_ASSERT((before & ~Node::kDead) > 0);
  if (before == (Node::kDead | 1)) {
    lru_remove(n);  // while it still counts as dead: the clock must not take it for an idle node
    n->pins.store(0, std::memory_order_relaxed);
    recycle(n);
  }
}

Node *NodeCache::allocate() {
  void *m = vx_alloc(sizeof(Node), 0);
  if (!m) return nullptr;
  u8 *buf = static_cast<u8 *>(vx_alloc_large(node_size_, 0));
  if (!buf) {
    vx_free(m);
    return nullptr;
  }
  Node *n = new (m) Node();
  n->buf = buf;
  total_.fetch_add(1, std::memory_order_relaxed);
  return n;
}

void NodeCache::recycle(Node *n) {
  VX_ASSERT(n->pins.load() == 0 && !n->hashed && !n->dirty.linked());
  lru_remove(n);
  vx_free_large(n->buf, node_size_);
  n->~Node();
  vx_free(n);
  total_.fetch_sub(1, std::memory_order_relaxed);
}

Node *NodeCache::fresh() {
  // A short look only: when nearly all is dirty, growing for a moment is better than walking the whole clock each time
  // (begin() makes a commit when too much is dirty, and the hand moves on with every call).
  constexpr u64 kShortLook = 64;
  if (count() >= max_nodes_) {
    if (Node *n = evict(kShortLook)) return n;
  }
  if (Node *n = allocate()) return n;
  return evict(whole_turn());
}

// A node that was used since the hand last passed gets another chance.
Node *NodeCache::evict(u64 steps) {
  for (; steps > 0; steps--) {
    Node *n;
    {
      Guard g(lru_lock_);
      n = lru_.front();
      if (!n) return nullptr;
      n->lru.unlink();
      lru_.push_back(*n);
      if (n->pins.load(std::memory_order_relaxed) || n->referenced.exchange(0, std::memory_order_relaxed)) continue;
      u32 none = 0;
      if (!n->pins.compare_exchange_strong(none, Node::kDead, std::memory_order_acquire)) continue;
      n->lru.unlink();
    }
    {
      u32 b = bucket_of(n->addr);
      Guard s(stripe_of(b).lock);
      unhash_locked(n, b);
    }
    lru_count_.fetch_sub(1, std::memory_order_relaxed);
    counters_.cache_evictions.fetch_add(1, std::memory_order_relaxed);
    n->pins.store(0, std::memory_order_relaxed);
    n->state.store(NodeState::unread, std::memory_order_relaxed);
    // A new life, maybe at another level: for lock checkers this is another lock.
    n->lock.~RwSem();
    new (&n->lock) RwSem("vexfs_node");
    n->merge_backoff = 0;
    n->superseded = false;
    return n;
  }
  return nullptr;
}

usize NodeCache::shrink(usize want) {
  usize done = 0;
  while (done < want) {
    Node *n = evict(whole_turn());
    if (!n) break;
    recycle(n);
    done++;
  }
  return done;
}

void NodeCache::drop_all() {
  for (;;) {
    Node *n;
    {
      Guard g(lru_lock_);
      n = lru_.front();
    }
    if (!n) break;
    n->dirty.unlink();
    forget(n);
    n->pins.store(0, std::memory_order_relaxed);
    recycle(n);
  }
}

}  // namespace vexfs::store
