// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The intent log: what makes a change durable between two commits.
//
// Every change of a tree's item, of the allocation and of a root blob leaves a record in memory, in the order in which
// the changes are made (under the lock of the leaf, for items). A sync stops the gate as a commit does, so that no
// operation is half done, takes the records that have gathered, and writes them as one group of pieces behind the last
// group: one sequential write instead of all the nodes, bitmaps and the root. A commit contains everything that was
// recorded before it, so records end with it, and their room in the region is free again.
//
// Mounting applies the groups that the newest root does not contain (replay.cc). As groups begin and end where no
// operation is open, what comes out is what a commit at that point would have left: always a prefix of history.
//
// When records cannot be kept (too many of them, no memory, no room in the region), the next sync is a commit.
//
// Locks: lock_ (spin, a leaf) guards what is recorded. Taking, writing and forgetting happen under the commit lock.
#pragma once
#include "../base/lock.h"
#include "../disk/log.h"
#include "key.h"
#include "types.h"

namespace vexfs::store {

struct State;

// The memory of one piece. Records begin behind the header.
struct LogChunk {
  LogChunk *next = nullptr;
  u8 *data = nullptr;  // disk::kLogPieceMax bytes
  u32 used = 0;
  u32 records = 0;
};

// What a sync takes: the pieces of one group.
struct LogCut {
  LogChunk *head = nullptr;
  bool after_data = false;  // file data was written that must be on the device before the group is
};

class Log : Pinned {
 public:
  explicit Log(State &s);
  ~Log();
  // Where the next piece goes, and whose it is. Without a region nothing is ever recorded.
  void position(u64 tail, u64 session);
  bool enabled() const { return recording_.load(std::memory_order_relaxed); }
  void enable(bool on);  // no handle is open

  // ---- while a handle is open; none of them can fail
  void put(u8 tree, const Key &key, Bytes value);
  void replace(u8 tree, const Key &key, Bytes old, Bytes value);  // before it is done
  void patch(u8 tree, const Key &key, u32 at, Bytes bytes);
  void erase(u8 tree, const Key &first, const Key &last);
  void extent(Extent e, bool is_free, u64 birth);
  void blob(u8 tree, const u8 (&blob)[kUserBlobBytes]);
  void data_written();

  // ---- under the commit lock
  bool must_commit();  // no handle is open: what was recorded cannot be written, or not yet
  LogCut take();       // no handle is open
  // Seals and writes the pieces, in one go; the caller flushes (fua: the last one is durable on return). io.
  Status write(LogCut &cut, u64 txn, u64 next_object_id, bool fua);
  void drop(LogCut &cut);
  void forget();     // no handle is open: what was recorded is in the transaction that is being committed
  void committed();  // ... and now on the device: the region is empty, and a root says where the next group begins
  bool filling() const { return used_ > blocks_ / 2; }
  u64 next_seq() const { return seq_; }
  u64 head() const { return head_; }
  u64 session() const { return session_; }
  bool rooted() const { return rooted_; }
  u64 used_blocks() const { return used_.load(std::memory_order_relaxed); }

 private:
  static constexpr u32 kSpareMax = 4;
  template <class F>
  void record(usize bytes, F &&fill);
  LogChunk *fresh();
  void give(LogChunk *list);
  u32 blocks_of(const LogChunk &c) const;
  void item(disk::LogOp op, u8 tree, const Key &key, Bytes bytes, usize at, usize removed);

  State &s_;
  Spin lock_;  // down to the next blank line
  LogChunk *first_ = nullptr, *last_ = nullptr, *spare_ = nullptr;
  u32 chunks_ = 0, spares_ = 0;
  bool overflow_ = false;  // records were lost: only a commit helps
  bool after_data_ = false;

  std::atomic<bool> recording_{false};
  u32 chunks_max_ = 0;
  u32 piece_blocks_ = 0;      // kLogPieceMax in blocks
  u64 blocks_ = 0;            // of the region
  u64 head_ = 0;              // where the next piece goes, in blocks from the start of the region; commit lock
  std::atomic<u64> used_{0};  // blocks from the first piece that counts to head_; commit lock
  u64 seq_ = 1;               // of the next piece; commit lock
  u64 session_ = 0;
  bool rooted_ = false;  // a root on the device says seq_, head_ and session_ of this mount; commit lock
};

}  // namespace vexfs::store
