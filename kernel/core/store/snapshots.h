// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Snapshots of a volume: what Volume's snapshot functions return, and the list kept in memory.
//
// A snapshot is one item that holds the roots of a committed transaction (disk/snapshot_items.h). Making one is two
// commits, whatever the filesystem holds; deleting one marks it, and frees in the background what nothing else needs.
#pragma once
#include "../base/lock.h"
#include "../base/memory.h"
#include "types.h"

namespace vexfs::store {

struct SnapshotInfo {
  u64 id = 0;
  u64 txn = 0;  // the state it holds is that of the end of this transaction
  s64 created_sec = 0;
  u32 created_nsec = 0;
  u64 used_blocks = 0;  // of the whole filesystem, when it was made
  u64 own_blocks = 0;  // needed by this snapshot only: what deleting it gives back (Volume::snapshot_info with account)
  u64 replaced_by = 0;    // id of the snapshot that a rollback put into its place; 0: it is none of a rollback
  bool counting = false;  // that rollback's space is still being counted
  char name[64] = {};
};

// The snapshots that a volume knows, in the order of their transactions.
class SnapshotList : Pinned {
 public:
  struct Entry {
    u64 id = 0, txn = 0;
    u32 users = 0;          // views that are open
    u32 brief = 0;          // of these, a scrub's: a deletion waits for them
    bool unwanted = false;  // it does: no more of them
    bool leaving = false;   // being deleted, or never finished: nobody sees it
  };
  SnapshotList() : change("vexfs_snapshots"), lock_("vexfs_snapshot_list"), brief_ended_("vexfs_snapshot_scrubs") {}

  Mutex change;  // one creation, deletion or turn of reclaiming at a time; taken before any handle
  Status add(const Entry &e);
  void remove(u64 id);
  bool find(u64 id, Entry *out);
  bool finish(u64 id, u64 txn);  // a creation: visible from now on
  // busy (a view is open), noent. Views of scrubs are waited for; `change` is held.
  Status leave(u64 id);
  bool use(u64 id);  // false: there is no such snapshot
  // For a scrub: the oldest of transaction txn or later, and the one before it (id 0: there is none). Not those that a
  // deletion waits for. False: there is none.
  bool use_briefly(u64 txn, Entry *mine, Entry *older);
  bool unwanted(u64 id);  // a deletion waits
  void unuse(u64 id, bool brief);
  u64 newest(u64 below = ~u64{0});  // txn of the newest visible one that is older than `below`; 0: none
  bool first_leaving(Entry *out);
  Status visible(Vec<u64> *txns);  // ascending. nomem

 private:
  Status try_leave(u64 id);
  Spin lock_;
  Vec<Entry> list_;  // ascending by txn
  WaitQueue brief_ended_;
};

}  // namespace vexfs::store
