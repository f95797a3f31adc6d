// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What an open volume consists of. Private to the store.
//
// Lock order: commit_lock > (participants' freeze locks) > Tree::root_lock_ > node locks, parent before child >
// group stripes > State::lock, cache and space spinlocks (leaves). Nothing but node reads happens under a node lock.
#pragma once
#include "../disk/snapshot_items.h"
#include "alloc.h"
#include "dead.h"
#include "log.h"
#include "node.h"
#include "snapshots.h"
#include "super_io.h"
#include "tree.h"
#include "txn.h"

namespace vexfs::store {

// One change of the allocation state, recorded by handles and applied by the committer, in order.
struct Delta {
  u64 start;
  u32 count;
  u32 is_free;
};
struct DeltaChunk {
  DeltaChunk *next = nullptr;
  u32 n = 0;
  Delta d[254];
};
struct DeltaList {
  DeltaChunk *head = nullptr;
  DeltaChunk *tail = nullptr;
};

// Node places taken from the bitmaps ahead of need (busy in memory, unknown to the disk): a ring, oldest first.
struct SlotStock {
  Vec<NodePlace> ring;  // size is a power of two, or 0
  u32 head = 0;
  u32 count = 0;
  u32 reserved = 0;   // promised to open handles
  u32 emergency = 0;  // kept for handles that free
  u32 target = 0;     // refill goal
};

// Node buffers kept so that mutations never wait for memory.
struct NodePool {
  Node *head = nullptr;
  u32 count = 0;
  u32 reserved = 0;
};

struct RootCapture {  // what a commit writes into the root slot
  NodePlace place[disk::kTrees];
  u64 birth[disk::kTrees];
  u8 levels[disk::kTrees];
  u8 blobs[disk::kTrees][disk::kBlobBytes];
  u64 next_object_id;
  u64 node_blocks;
};

class RollbackCount;
class Volume;

struct NodeRead {       // how reading a node went
  bool second = false;  // the second copy is what was read
  disk::Refusal why;    // of the last copy that was looked at and refused
};

struct State : Pinned {
  State(vx_bdev *device, const OpenOptions &o, const disk::Geometry &g, const disk::SuperDisk &sb);
  ~State();

  // ---- open, close (volume.cc, open.cc)
  Status load_root();
  Status judge_root(const RootFound &found);
  Status newer_lost(const char *why, u64 txn);
  Status load_tree(u8 id, const disk::TreeRootDisk &root);
  Result<Node *> read_root(u8 id, const disk::TreeRootDisk &root);  // pinned; null: the tree is empty
  void replace_root(u8 id, Node *n);                                // nobody uses the tree
  Status start();
  Status close();

  // ---- handles (txn.cc)
  Result<Handle> begin(const Reserve &r);
  void end(Handle &h);
  u32 slots_for(u32 items) const;    // node places that so many mutations may take
  u32 buffers_for(u32 items) const;  // node buffers, likewise
  Status refill_slots(u32 want);
  bool drain_slots();  // gives unreserved places back; true if any
  bool stock_whole();
  Status fill_pool(u32 want_free);
  void trim_pool();
  NodePlace pop_slot(Handle &h);  // none left: the caller's estimate was wrong
  Node *pop_buffer(Handle &h);    // nullptr: no memory at all
  void push_buffer(Node *n);
  void add_delta(Extent e, bool is_free);  // cannot fail
  void free_blocks(Extent e, u64 birth);   // reusable once the open transaction is durable; cannot fail
  void free_node_place(const NodePlace &p, u64 birth, u8 tree);  // the same for a tree node
  void took_place(const NodePlace &p);                           // the transaction owns it now; cannot fail
  void give_back(const NodePlace &p);                            // that it never owned
  void set_blob(TreeId owner, const u8 *in);                     // kUserBlobBytes of them
  void node_dirtied(Node *n, u64 txn);                           // under n's exclusive lock
  bool supersede(Node *n);  // true: n belongs to the committing transaction and stays for the writer

  // ---- commits (commit.cc)
  Status commit(bool with_prepare);
  Status sync(bool with_prepare);
  Status commit_locked();
  bool switch_transaction(u64 txn, Status st);
  void became_durable(u64 txn);
  Status log_locked();  // writes what was recorded as a group; a commit if that cannot be done
  void shut_gate();     // no handle is open on return
  void open_gate();
  Status collect_ordered(u64 txn);  // the participants' data writes, gate shut
  Status write_ordered();
  void participants_done(u64 txn, Status st);
  void commit_thread();
  void run_prepare(Error *first);
  void abort(Error why);
  void damage(Error why);  // errors= policy
  bool dirty_enough() const;
  usize max_bitmaps() const;

  Status commit_and_capture(u64 *txn);  // what becomes durable now is to be kept by a snapshot

  // ---- snapshots (snapshots.cc, dead.cc)
  Status load_snapshots();
  Status reload_snapshots();
  Status load_view(State &owner, u64 id);
  Result<Box<Volume>> open_view(u64 id, const OpenOptions &options);
  // SnapshotList has counted the use, which is given up if this fails.
  Result<Box<Volume>> open_used_view(u64 id, const OpenOptions &options, bool brief);
  Result<u64> make_snapshot(Bytes name, bool reserve);  // reserve: from what is kept for a full disk
  Result<u64> find_snapshot(Bytes name);
  Result<bool> count_turn(u32 steps);
  Status take_roots(u64 replaced, u64 target, const disk::SnapshotItem &from);
  bool kept_for_snapshot(Extent e, u64 birth, u8 tree);
  void drain_dead(Handle &h);
  Result<bool> reclaim_turn(u32 items);
  Result<bool> reclaim_dead(u64 older, u64 after, u64 upto, Key *cursor, u32 *seen);
  // Notes about `slots` node places are made side by side in the dead tree, those of second copies in another place.
  u32 dead_items(u32 slots) const {
    if (!snapshot_txn.load(std::memory_order_relaxed)) return 0;
    return 2 + slots / (geo.mirrored ? 32 : 64);
  }

  // ---- the log of the last mount (replay.cc)
  Status replay();  // before the commit thread runs

  // ---- second copies of nodes (heal.cc)
  Status read_node(const disk::NodeExpect &e, MutBytes out, NodeRead *how);
  void found_cured(Node &n, const disk::NodeExpect &e);  // met where the pointer to it is known to be true
  void heal();                                           // writes what was found anew, by handles
  bool write_over(u64 addr, Bytes node);                 // a damaged copy of what cannot move
  bool write_anew(u8 tree, Key key);  // the nodes on the way to the first item from key on; false: there is none

  // ---- I/O
  Status read_bytes(u64 off, MutBytes out, bool meta) const;
  void log_refusal(const char *what, u64 block, const disk::Refusal &r) const;

  vx_bdev *dev;
  OpenOptions opts;
  disk::Geometry geo;
  Box<disk::SuperDisk> super;
  char label[disk::kLabelBytes + 1] = {};
  u8 uuid[16] = {};
  SipKey hash_key;
  bool ro_features = false;    // unknown ro_compat features: never writable
  bool log_ignored = false;    // it holds something: never writable
  bool newer_is_lost = false;  // a later state than this one was there: never writable
  mutable Counters counters;
  NodeCache cache;
  Allocator alloc;
  Log log;
  Tree trees[disk::kTrees];
  DeadList dead;
  SnapshotList snapshots;
  std::atomic<u64> snapshot_txn{0};  // of the newest snapshot: what was born at or before it is kept. 0: there is none
  std::atomic<bool> quiet{false};    // nothing is given back: the device is not to change
  std::atomic<u64> rollback_txn{0};  // of the last rollback; 0: there was none
  Box<RollbackCount> counting;       // snapshots.change: the rollback whose blocks are being noted
  bool counting_told = false;        // that it fails, in the log
  u64 reclaim_id = 0;                // snapshots.change: the one being given back, and how far that is
  Key reclaim_at;
  State *view_of = nullptr;  // this is a snapshot of that volume
  u64 view_id = 0;
  bool view_is_brief = false;  // SnapshotList::Entry::brief

  Spin lock;  // everything down to the next blank line
  u32 handles = 0;
  bool changed = false;  // the open transaction has something to commit
  DeltaList deltas;      // of the open transaction
  DeltaChunk *spare_chunks = nullptr;
  u32 spare_chunk_count = 0;
  NodeList dirty[2];  // [dirty_now]: open, the other: committing
  u32 dirty_now = 0;
  SlotStock stock;
  NodePool pool;
  u8 blobs[disk::kTrees][disk::kBlobBytes] = {};
  struct {
    u8 tree;
    Key key;
  } to_heal[16];  // more are found again when they are read again
  u32 to_heal_count = 0;

  std::atomic<u64> open_txn{0}, durable_txn{0}, committing_txn{0};
  std::atomic<u64> syncs_begun{0};  // commits and syncs; one that begins later than a call covers what was done before
  std::atomic<bool> frozen{false};
  std::atomic<u32> open_handles{0};  // == handles, for the freezer to wait on
  std::atomic<u64> dirty_count{0};   // dirty nodes, both lists
  std::atomic<u64> next_object_id{1};
  std::atomic<bool> read_only{false};
  std::atomic<int> abort_code{0};  // Errno; not 0: aborted
  std::atomic<u32> root_state{0};  // disk::kRootState*
  WaitQueue gate;                  // handles waiting for the freeze to end, the freezer for handles

  Mutex commit_lock;                     // one commit at a time; all below
  Vec<vx_io> batch;                      // capacity fixed at open
  Vec<vx_io> ordered;                    // participants' data writes
  u8 *root_buf[2] = {nullptr, nullptr};  // primary and mirror image
  bool root_bad[2][2] = {};              // by slot and copy: found unusable, and not written since
  u8 *desc_buf = nullptr;                // kDescBatch blocks
  static constexpr u32 kDescBatch = 8;
  static constexpr u32 kIoBatch = 128;
  Vec<u64> desc_word;  // root's descriptor array
  Vec<u8> desc_touched;
  u64 sync_done = 0;     // ordinal of the last commit or sync that succeeded
  DeltaList committing;  // deltas of the committing transaction
  RootCapture capture = {};
  bool capture_wanted = false;  // a snapshot is being made of this commit
  u64 captured_txn = 0;
  RootCapture captured = {};  // snapshots.change

  static constexpr u32 kMaxParticipants = 8;
  Spin participants_lock;
  Participant *participants[kMaxParticipants] = {};
  std::atomic<u32> participant_users[kMaxParticipants] = {};
  WaitQueue participants_idle;

  vx_thread *thread = nullptr;
  std::atomic<bool> stop{false}, kicked{false};
  WaitQueue thread_wake;
};

}  // namespace vexfs::store
