// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The table of inodes in memory, by number: makes them unique. Sharded; each shard is a hash table that grows.
#pragma once
#include "inode.h"

namespace vexfs::fs {

class InodeCache : Pinned {
 public:
  InodeCache();
  ~InodeCache();

  // The inode in memory, or what `load` makes of it. At most one load of a number runs at a time; others wait for it.
  // stale: it is being deleted. The reference is the caller's.
  Result<InodeRef> get(u64 ino, FnRef<Result<Inode *>()> load);
  Status prepare_insert(u64 ino);  // memory for an insert() to come: nomem
  void insert(Inode &ip);          // a fresh inode with one reference, whose number nobody else knows
  enum class Last : u8 { no, free, erase, kept };
  enum class Nameless : u8 { free, erase, keep };  // what is to become of an inode without names
  // Drops a reference. no: others remain. free: it was the last, the inode is out of the table and may be freed.
  // erase: it was the last of an inode without names: it stays in the table, as dying, until forget(). kept: it would
  // have been, and is still the caller's.
  Last drop(Inode &ip, Nameless what);
  void forget(Inode &ip);
  usize count() const;

 private:
  struct Pending {
    u64 ino;
    Pending *next;
  };
  struct Shard {
    Shard() : lock("vexfs_icache"), loaded("vexfs_icache_wait") {}
    Spin lock;
    WaitQueue loaded;
    std::atomic<u64> loads{0};  // finished loads: what waiters watch
    Inode **buckets = nullptr;
    usize nbuckets = 0;  // power of two
    std::atomic<usize> count{0};
    Pending *pending = nullptr;
  };
  static constexpr u32 kShards = 32;
  Shard &shard(u64 ino) { return shards_[(ino * 0x9e3779b97f4a7c15) >> 59]; }
  static usize slot(const Shard &s, u64 ino) { return (ino * 0x9e3779b97f4a7c15 >> 20) & (s.nbuckets - 1); }
  static Inode *find(Shard &s, u64 ino);
  static void link(Shard &s, Inode &ip);
  static void unlink(Shard &s, Inode &ip);
  static Status grow(Shard &s);

  Shard shards_[kShards];
};

}  // namespace vexfs::fs
