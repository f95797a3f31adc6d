// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Items of snapshots, and of blocks that only snapshots still need: layout, verifiers, printers.
//
// In the `snapshots` tree:
//
//   (id,    1 snapshot, 0)           -> SnapshotItem. Ids come from the counter in that tree's root blob, from 1 on.
//
// In the `dead` tree, of which the intent log says nothing (replaying frees the same blocks, and notes them, again):
//
//   (death, 1 dead,     first block) -> DeadItem: blocks that transaction `death` let go of, born in item.birth. They are
//                                       needed as long as there is a snapshot with birth <= its txn < death.
//
// A snapshot is the state of the fs, collections and refcounts trees as of the end of transaction `txn`. Whatever the current state
// lets go of that was born at or before the newest snapshot's txn enters the dead tree instead of becoming free; so
// bitmaps say "in use" exactly for what the current state refers to, or the dead tree lists. The blocks for which a
// snapshot S is the newest that needs them died after S and not after the next newer snapshot: deleting S means to look at
// just those, which is what the order of the keys is for. (ZFS keeps one dead list a snapshot and moves their entries,
// Bonwick et al., "The Zettabyte File System", 2003; with the death in the key nothing ever has to move.)
//
// A rollback makes the trees of a snapshot the current ones, after a snapshot of what they replace has been made. That is
// one commit; the notes about blocks follow: what only the replaced state refers to has died in that transaction, and
// what only the snapshot's refers to lives again, so that its entries go. Until both are done the replaced state's item
// says so (replaced_txn), and neither snapshot can be deleted. Afterwards a block can have had several lives; its entry
// counts from its first day to its last death, which keeps it for longer than needed, never for less.
#pragma once
#include "root.h"

namespace vexfs::disk {

inline constexpr u8 kSnapshotType = 1, kDeadType = 1;
inline constexpr u32 kSnapshotVersion = 1;
inline constexpr u32 kSnapshotNameBytes = 64;  // NUL-padded, at most 63 bytes of text

// creating: the commit that it is to hold may not have happened, nobody sees it. deleting: nobody sees it any more, its
// blocks are still being freed. A mount treats the first like the second.
enum class SnapshotState : u8 { creating = 1, live = 2, deleting = 3 };

struct SnapshotTree {
  TreeRootDisk root;
  u8 blob[kBlobBytes];
};
struct SnapshotItem {
  le32 version;  // kSnapshotVersion
  u8 state;      // SnapshotState
  u8 reserved0[3];
  le64 txn;  // creating: the transaction that was open when it began
  le64 created_sec;
  le32 created_nsec;
  le32 reserved1;
  le64 next_object_id;
  le64 used_blocks;  // when it was made
  char name[kSnapshotNameBytes];
  SnapshotTree trees[2];   // fs, collections
  le64 replaced_by;        // made by a rollback to the snapshot of that id; 0: was not
  le64 replaced_txn;       // by that transaction, and blocks have not all been noted yet; 0: there is nothing to do
  le64 node_blocks;        // in tree nodes when it was made; 0: not known
  TreeRootDisk refcounts;  // whose blob nobody uses. Empty in what a version without it has made
};
static_assert(sizeof(SnapshotItem) == 384 && offsetof(SnapshotItem, txn) == 8 && offsetof(SnapshotItem, name) == 48 &&
              offsetof(SnapshotItem, trees) == 112 && offsetof(SnapshotItem, replaced_by) == 320 &&
              offsetof(SnapshotItem, refcounts) == 344);

// The trees whose state a snapshot keeps, in the order in which they are gone through.
inline constexpr u8 kKeptTrees[] = {0, 1, 3};  // fs, collections, refcounts
constexpr bool tree_is_kept(u8 tree) { return tree < 2 || tree == 3; }
constexpr const TreeRootDisk &kept_root(const SnapshotItem &s, u8 tree) {
  return tree == 3 ? s.refcounts : s.trees[tree].root;
}

// Root blob of the snapshots tree.
struct SnapshotRootBlob {
  le64 next_id;       // 0 counts as 1
  le64 rollback_to;   // the next mount for writing goes back to that snapshot; 0: to none
  le64 rollback_txn;  // of the last rollback: what is older may not be appended to in place. 0: there was none
  le64 reserved[5];
};
static_assert(sizeof(SnapshotRootBlob) == kBlobBytes);

struct DeadItem {
  le64 birth;
  le32 count;  // blocks, >= 1, inside one group
  le32 reserved;
};
static_assert(sizeof(DeadItem) == 16);

// Each returns null for a sound item, else the name of the first field that is not.
const char *verify_snapshot(Bytes item, u64 id, const Geometry &g);
const char *verify_dead(Bytes item, u64 death, u64 start, const Geometry &g);
bool good_snapshot_name(Bytes name);  // 1..63 bytes of valid UTF-8 without control characters and '/', not "." or ".."

// One item as a line of text. Never fails.
void print_snapshot_item(Printer &out, u64 id, u8 type, Bytes item);
void print_dead_item(Printer &out, u64 death, u8 type, u64 start, Bytes item);

}  // namespace vexfs::disk
