// SPDX-License-Identifier: GPL-2.0-only OR MIT
// A tree node in memory, and the cache of them: hashed by address, clock replacement, bounded in bytes.
//
// Life of a Node: free (in the pool) -> hashed (unread, then ready or failed) -> dead (unhashed) -> free.
// `pins` keep it from being evicted or recycled; a dirty node holds one. Whoever turns pins from 0 to kDead owns it.
// Its fields are guarded by
//   lock        buf contents, level, tree, birth, err; addr and mirror change under it, the parent's exclusive lock and a pin
//   State.lock  dirty, dirty_txn's changes, superseded
//   hash stripe hash_next, hashed
// A node that belongs to the committing transaction (dirty_txn == committing) is never written to: it is copied first.
#pragma once
#include <atomic>

#include "../base/list.h"
#include "../base/lock.h"
#include "../base/memory.h"
#include "node_edit.h"
#include "types.h"

namespace vexfs::store {

enum class NodeState : u8 { unread, ready, failed };

struct Node : Pinned {
  Node() : lock("vexfs_node") {}
  // What every descent reads comes first, so that it lies in one cache line with the lock behind it.
  Node *hash_next = nullptr;
  u64 addr = 0;
  u8 *buf = nullptr;
  std::atomic<u32> pins{0};
  std::atomic<NodeState> state{NodeState::unread};
  std::atomic<u8> referenced{0};  // clock bit
  u8 level = 0;
  u8 tree = 0;
  std::atomic<u64> dirty_txn{0};  // 0: clean
  u64 birth = 0;                  // transaction of the contents
  RwSem lock;
  Errno err = Errno::ok;  // when failed
  bool hashed = false;
  bool superseded = false;                      // of the committing transaction, already replaced in memory
  std::atomic<u8> untold{0};                    // read from the second copy, and nobody has been told yet
  disk::Cause first_cause = disk::Cause::none;  // why the first copy was refused; none: it could not be read
  u64 mirror = 0;                               // like addr
  u32 merge_backoff = 0;                        // leaf: do not try to merge again before it holds fewer bytes than this
  Node *pool_next = nullptr;
  ListHook lru;
  ListHook dirty;

  static constexpr u32 kDead = u32{1} << 31;  // in pins: no longer to be found

  NodePlace place() const { return {addr, mirror}; }
  bool ready() const { return state.load(std::memory_order_acquire) == NodeState::ready; }
};

// Lock subclass of a node (for the host's lock checker): a child is locked under its parent, a sibling after it.
inline int lock_class(u8 level, bool sibling) { return (level < 3 ? level : 3) * 2 + (sibling ? 1 : 0); }

using NodeList = List<Node, &Node::dirty>;

class NodeCache : Pinned {
 public:
  NodeCache(Counters &counters, u32 node_size)
      : counters_(counters), node_size_(node_size), lru_lock_("vexfs_node_lru") {}
  ~NodeCache();
  Status init(u64 max_bytes);

  // Finds addr and pins it; null if it is not cached.
  Node *find(u64 addr);
  // Finds or enters an unread node, pinned. nomem.
  Result<Node *> find_or_enter(u64 addr);
  // Enters a new node under addr; a stale one of the same address (from a lost race of a reader) is driven out.
  void enter(Node *n, u64 addr);
  void move(Node *n, u64 addr);  // changes the address of a hashed node
  void forget(Node *n);          // unhashes; the node is recycled with its last pin
  void unpin(Node *n);
  static void pin(Node *n) { n->pins.fetch_add(1, std::memory_order_relaxed); }

  // A node with a buffer, not hashed, unpinned: evicts a clean one when the cache is full, else allocates. nullptr: no
  // memory.
  Node *fresh();
  Node *evict(u64 steps);  // one clean unpinned node among the next so many, or nullptr
  void recycle(Node *n);   // of a node that is not hashed and not pinned: frees it
  usize hashed_count() const { return lru_count_.load(std::memory_order_relaxed); }
  usize shrink(usize want);  // frees clean nodes; never waits
  u64 count() const { return total_.load(std::memory_order_relaxed); }
  u64 max_count() const { return max_nodes_; }
  void drop_all();  // at close: no pins, no users

 private:
  struct Stripe {
    Stripe() : lock("vexfs_node_hash") {}
    Spin lock;
  };
  static constexpr u32 kStripes = 64;
  u32 bucket_of(u64 addr) const;
  Stripe &stripe_of(u32 bucket) { return stripes_[bucket % kStripes]; }
  void unhash_locked(Node *n, u32 bucket);
  void lru_remove(Node *n);
  Node *allocate();
  u64 whole_turn() const { return 2 * lru_count_.load(std::memory_order_relaxed) + 1; }

  Counters &counters_;
  u32 node_size_;
  u64 max_nodes_ = 0;
  u32 bucket_bits_ = 0;
  Vec<Node *> buckets_;
  Stripe stripes_[kStripes];
  Spin lru_lock_;
  List<Node, &Node::lru> lru_;  // clock: the hand is the front
  std::atomic<u64> lru_count_{0};
  std::atomic<u64> total_{0};  // nodes that exist, those in the pool included
};

}  // namespace vexfs::store
