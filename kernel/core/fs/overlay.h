// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What a file promises beyond its extent items: ranges that are delayed, allocated ahead, or in flight.
//
// A range never overlaps an extent item (an inline file's delayed block 0 is no exception: it has no extents), unless it
// is marked cow: then a snapshot or another file needs what is mapped there, readers find it until the new data is on the device, and
// write_done() puts the new blocks in its place. Ranges never overlap each other. Everything here is guarded by the inode's data_lock, held exclusively for changes;
// blocks() alone may be read without it. Nothing here allocates except Spares.
//
//   delayed    space is promised by Volume::reserve_blocks, no blocks are chosen
//   allocated  blocks are chosen (busy in memory), but not yet handed to the host: like delayed for everyone else
//   inflight   blocks were handed to the host, which is writing into them
//
// A range in flight that is punched or truncated away becomes a ghost: its blocks may not be reused until the host says
// that its I/O has ended.
#pragma once
#include <atomic>

#include "../base/list.h"
#include "../base/memory.h"
#include "../base/rbtree.h"

namespace vexfs::fs {

enum class RangeState : u8 { delayed, allocated, inflight };

struct MapRange {
  RbHook hook;
  ListHook ghost_hook;
  u64 first = 0;  // file block
  u64 count = 0;  // blocks
  u64 disk = 0;   // first device block, unless delayed
  RangeState state = RangeState::delayed;
  bool direct = false;  // in flight by O_DIRECT: completion is a change of content
  bool cow = false;     // takes the place of an extent that must not be overwritten
  u64 end() const { return first + count; }
};

// Up to N ranges allocated before anything is changed; what is not taken is freed again.
class Spares : Pinned {
 public:
  ~Spares();
  Status fill(u32 n);       // makes sure that n are there; n <= kMax. nomem
  static MapRange *make();  // one more, the caller's own; null without memory
  MapRange *take();
  void give(MapRange *r);  // frees it, or keeps it for the next take()
  static constexpr u32 kMax = 4;

 private:
  MapRange *have_[kMax] = {};
  u32 n_ = 0;
};

class Overlay : Pinned {
 public:
  ~Overlay();
  bool empty() const { return tree_.empty() && ghosts_empty(); }
  u64 blocks() const {
    return blocks_.load(std::memory_order_relaxed);
  }  // of live ranges that add to the file's blocks

  // First range that ends after `block` (it may contain it), or null.
  MapRange *find(u64 block) const;
  MapRange *next(MapRange &r) const { return Tree::next(r); }
  MapRange *prev(MapRange &r) const { return Tree::prev(r); }
  MapRange *last() const { return tree_.last(); }

  void insert(MapRange &r);
  void remove(MapRange &r);
  void drop_front(MapRange &r, u64 count);  // fewer than it has; they are in no range any more
  // A delayed range whose blocks are in no range yet: joins neighbours that are delayed (then r is freed). One that is cow
  // stays alone, so that it takes the place of one extent.
  void add_delayed(MapRange *r);
  // Makes range boundaries at first and first+count. Needs two spares.
  void split(u64 first, u64 count, Spares &spares);
  u32 splits_needed(u64 first, u64 count) const;  // 0..2: spares that split() will take
  // The range goes, its blocks stay busy until write completion.
  void make_ghost(MapRange &r);
  // Removes the part of a ghost that lies in first .. end from the ghosts, if there is any: returns true and what it
  // was. A ghost that has to be cut in two needs memory; without it stays as it is until the inode goes.
  bool take_ghost(u64 first, u64 end, u64 &disk, u64 &count, Spares &spares);
  bool ghosts_empty() const { return !const_cast<Overlay *>(this)->ghosts_.front(); }
  usize audit() const { return tree_.audit(); }

 private:
  using Tree = RbTree<MapRange, &MapRange::hook, &MapRange::first>;
  void split_at(u64 block, Spares &spares);
  Tree tree_;
  List<MapRange, &MapRange::ghost_hook> ghosts_;
  std::atomic<u64> blocks_{0};
};

}  // namespace vexfs::fs
