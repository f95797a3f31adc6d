// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The block allocator: which blocks are in use on disk, and which are busy in memory.
//
// Per group, loaded when first needed: `disk`, the bitmap as of the last commit (changed by the committer only), and
// `busy`, which adds what is allocated but not committed, in flight, or freed but not yet durable. Allocation looks at
// busy alone. Free space is counted, promised (delayed allocation) and claimed before any bitmap is searched.
//
// Locks: group stripes (mutexes, never held across I/O) > space_lock_ (spin). load_lock_ serialises bitmap reads.
#pragma once
#include "../base/lock.h"
#include "../base/memory.h"
#include "../disk/group.h"
#include "types.h"

namespace vexfs::store {

struct State;

struct GroupBits {
  u8 *block = nullptr;  // bitmap block image; its bits are the committed ones
  u64 *busy = nullptr;  // one bit a block, bits beyond the group are 1
};

struct Group {
  std::atomic<GroupBits *> bits{nullptr};
  std::atomic<u32> free{0};       // zero bits of busy
  std::atomic<u32> longest{0};    // upper bound of the longest free run
  u32 disk_free = 0;              // zero bits of disk; committer only
  u32 rotor = 0;                  // where the next search for data begins; group stripe
  u32 next_touched = 0;           // committer only: list of groups changed by this commit
  std::atomic<bool> bad{false};   // bitmap unreadable: nothing is allocated here
  std::atomic<bool> meta{false};  // preferred for tree nodes
  bool touched = false;           // committer only
  u64 word = 0;                   // GroupDesc::bitmap as of the last commit; committer only
};

class Allocator : Pinned {
 public:
  explicit Allocator(State &s);
  ~Allocator();
  // Reads the descriptor blocks named by the root.
  Status init(const le64 *root_desc);

  // ---- counting
  u64 free_blocks() const;  // not busy, promises included
  u64 promised() const;
  u64 avail() const;  // what may still be promised or taken without a promise
  bool promise(u64 n);
  void unpromise(u64 n);
  std::atomic<u64> pinned{0};       // freed, waiting for a commit
  std::atomic<u64> node_blocks{0};  // in tree nodes

  // ---- data
  Result<Extent> take(u64 goal, u64 min, u64 max, bool promised);
  void give_back(Extent e, bool promise_again);  // clears busy, counts free
  // Exactly these blocks, inside one group (what a log says was taken). corrupt: some of them are busy. io, nomem.
  Status take_exactly(Extent e);
  // ---- node places: aligned runs of node_blocks. At most n; fewer when there are no more. nomem, io.
  // Second copies lie in the upper half of the groups and first ones in the lower, as long as there is room.
  Result<u32> take_slots(NodePlace *out, u32 n);

  // ---- committer only
  Status load(u64 g);
  bool mark_used(Extent e);  // in disk; false: it is used already or out of range (damage)
  bool mark_unused(Extent e);
  u32 first_touched() const { return touched_; }  // chain through Group::next_touched; kNoGroup ends it
  void clear_touched();
  bool touch(u64 g);  // the next commit writes its bitmap. False: that is not in memory
  // Drops bitmaps in which memory knows nothing that the disk does not, until at most `keep` are loaded. Between
  // commits.
  void trim(usize keep);
  static constexpr u32 kNoGroup = ~0u;
  Group &group(u64 g) { return groups_[g]; }
  usize loaded_bitmaps() const { return loaded_.load(std::memory_order_relaxed); }
  u64 disk_free_total = 0;  // committer only

 private:
  static constexpr u32 kStripes = 64;
  struct Stripe {
    Stripe() : lock("vexfs_group") {}
    Mutex lock;
  };
  struct Search {
    u64 goal = 0;
    u32 min = 0;   // from the goal on, this much will do
    u32 want = 0;  // elsewhere, at least this much
    u32 max = 0;   // what is found is cut to this
  };
  Mutex &stripe(u64 g) { return stripes_[g % kStripes].lock; }
  Result<GroupBits *> read_bitmap(u64 g);
  void set_bad(u64 g, Error why);
  u64 claim(u64 min, u64 max, bool promised);
  void unclaim(u64 n, bool promised);
  Result<Extent> search(u64 goal, u32 min, u32 max);
  Extent search_group(u64 g, const Search &s);
  u32 slots_in_group(u64 g, u64 NodePlace::*which, NodePlace *out, u32 n);
  Result<u32> take_copies(u64 NodePlace::*which, NodePlace *out, u32 n);
  bool usable(u64 g, Errno *why);  // loaded
  u64 share(u64 promised) const;

  State &s_;
  Group *groups_ = nullptr;  // geometry's count of them
  Stripe stripes_[kStripes];
  Mutex load_lock_;
  mutable Spin space_lock_;
  u64 free_ = 0, promised_ = 0;
  std::atomic<u64> data_rotor_{0};           // group of the last data allocation without a goal
  std::atomic<u64> meta_rotor_[2] = {0, 0};  // of first and second copies
  std::atomic<usize> loaded_{0};
  u64 trim_hand_ = 0;
  u32 touched_ = kNoGroup;
};

}  // namespace vexfs::store
