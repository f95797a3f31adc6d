// SPDX-License-Identifier: GPL-2.0-only OR MIT
// An open volume: trees, transactions and space of one block device. Everything above stands on this interface.
//
// Threads: all methods may be called concurrently, except open and close. Block numbers are absolute, in filesystem
// blocks. See txn.h for handles and participants, tree.h for the trees.
#pragma once
#include "../base/printer.h"
#include "../base/siphash.h"
#include "../disk/group.h"
#include "format.h"
#include "scrub.h"
#include "snapshots.h"
#include "tree.h"
#include "txn.h"
#include "types.h"

namespace vexfs::store {

class Volume : Pinned {
 public:
  // Mounts: newest valid root (mirrors and superblock backups as fallbacks). Errors: inval (no VexFS), opnotsupp
  // (unknown incompatible features), rofs (unknown read-only features or a read-only device, and !read_only),
  // corrupt, io, nomem.
  static Result<Box<Volume>> open(vx_bdev *dev, const OpenOptions &options);
  // Final commit (unless read-only or aborted), stops the commit thread. No handle is open, no other call is running.
  // Afterwards only the destructor may be called. Returns the final commit's error.
  Status close();
  explicit Volume(State *s) : s_(s) {}
  ~Volume();

  Tree &tree(TreeId id);
  const Tree &tree(TreeId id) const;

  // ---- transactions
  // Opens a handle on the open transaction. rofs (read-only, or aborted), nospc, nomem, io. May wait for a commit that
  // is freezing, and may run a commit (without prepare) when space or memory is short: the caller must not hold locks
  // that a participant's freeze or done takes.
  Result<Handle> begin(const Reserve &r);
  // Makes everything that was done before this call durable, the device's cache included (concurrent callers share
  // commits). No handle of the caller is open. rofs after an abort, io; on a read-only volume there is nothing to do:
  // ok.
  Status commit();
  // The same by way of the intent log: what was recorded since the last commit is written in one go. A commit if there
  // is no log, or it cannot hold that much. with_prepare: participants write lazily kept items first. Errors as commit.
  Status sync(bool with_prepare);
  // File data has been written in place of unwritten or newly taken blocks: a sync that contains what comes next must
  // have it on the device first. Before the items that say so are changed.
  void data_written();
  u64 open_txn() const;
  u64 durable_txn() const;
  void add_participant(Participant &p);
  void remove_participant(Participant &p);  // waits until no callback of p is running
  u64 take_object_id();  // never returned again; durable with the transaction that uses it. Needs an open handle.
  u64 next_object_id() const;
  void get_blob(TreeId owner, u8 (&out)[kUserBlobBytes]) const;
  // The caller sees to it that two calls for one owner do not overlap.
  void set_blob(Handle &h, TreeId owner, const u8 (&in)[kUserBlobBytes]);

  // ---- space
  SpaceInfo space() const;
  // Delayed allocation: promises n data blocks and their metadata share. nospc, rofs. May run a commit (without
  // prepare) when space is short: the caller has no open handle, and holds no lock that a participant's freeze or done
  // takes.
  Status reserve_blocks(u64 n);
  void unreserve_blocks(u64 n);
  // Allocates min..max contiguous data blocks near `goal` (0: anywhere), in memory only: nothing on disk says so until
  // publish(). from_reservation: they were promised by reserve_blocks(), the promise of as many as returned is used up.
  // A promise guarantees success for min = 1 only. nospc, io, corrupt, nomem.
  Result<Extent> alloc(u64 goal, u64 min, u64 max, bool from_reservation);
  Result<Extent> alloc(Handle &h, u64 goal, u64 min, u64 max);  // from the handle's data_blocks
  void publish(Handle &h, Extent e);                            // the transaction now owns them. Cannot fail.
  void cancel(Extent e);                      // gives blocks that were never published back. Cannot fail.
  void cancel_to_reservation(Extent e);       // the same, and promises them again
  void free(Handle &h, Extent e, u64 birth);  // reusable once this transaction is durable. Cannot fail.

  // ---- snapshots of the fs and collections trees (snapshots.h). Those being deleted are not there for anybody.
  // Everything that ended before the call is in it; what happens during the call may be. name: 1..63 bytes of UTF-8.
  // Returns the id. inval (name), exist, opnotsupp (made without the feature), rofs, nospc, io, nomem. No handle is
  // open.
  Result<u64> snapshot_create(Bytes name);
  // Its space comes back in the background; a host without a commit thread calls snapshot_reclaim until it says false.
  // busy: a view is open. noent. rofs, io.
  Status snapshot_delete(u64 id);
  Result<bool> snapshot_reclaim(u32 items);     // looks at so many blocks' notes; whether there is more to do
  Result<u64> snapshot_find(Bytes name) const;  // noent
  Result<u64> snapshot_next(u64 from, SnapshotInfo *out) const;  // the first with an id >= from; noent
  // What deleting it would free. noent; intr when stopped() says so. Takes time.
  Result<u64> snapshot_own_blocks(u64 id, FnRef<bool()> stopped) const;
  void quiesce(bool on);  // on: no space is given back, so that the device does not change by itself
  // The next open for writing makes the state of that snapshot the current one, in one commit, after keeping the state
  // that it replaces as a snapshot "before-rollback-N"; so a rollback can be undone by another. 0: the request is taken
  // back. The space is counted in the background, as that of deleted snapshots; until then neither of the two can be
  // deleted (busy). noent, opnotsupp, rofs, nospc, io.
  Status rollback_request(u64 id);
  u64 rollback_requested() const;  // 0: none
  // What was born before this transaction may be shared with a state that a rollback replaced, beyond what the current
  // one knows of: nothing may be appended to it in place. 0: nothing was.
  u64 rollback_txn() const;
  // The snapshot as a volume of its own, read-only, on the same device. Must be gone before this volume is.
  Result<Box<Volume>> open_snapshot(u64 id, const OpenOptions &options);  // noent
  u64 view_id() const;  // of the snapshot that this volume is; 0: it is none
  // Does a snapshot need what was born then? It must not be overwritten; free() knows by itself.
  bool kept(u64 birth) const;

  // ---- geometry and identity
  const disk::Geometry &geometry() const;
  vx_bdev *device() const;
  u32 block_size() const;   // bytes
  u32 block_shift() const;  // log2(block_size)
  u32 node_size() const;    // bytes
  usize max_item() const;   // bytes of one item's value at most
  u64 total_blocks() const;
  u64 group_count() const;
  u32 group_blocks() const;
  const u8 (&uuid() const)[16];
  const char *label() const;
  const SipKey &hash_key() const;  // for names in directories; random per filesystem
  u64 feature_compat() const;
  u64 feature_ro_compat() const;
  u64 feature_incompat() const;
  u32 version_major() const;
  u32 version_minor() const;
  s64 created_sec() const;

  // ---- state
  bool read_only() const;  // opened so, set so, or aborted
  bool aborted() const;
  Status set_read_only(bool ro);  // ro: commits, then refuses handles. rw: rofs if the device or features forbid it
  void abort(Error why);          // forced shutdown: nothing more reaches the disk
  // Damage was found by an upper room (message already logged): acts by the errors= policy.
  void found_damage(Error why);
  void report(int level, const char *text) const { vx_log(device(), level, text); }
  LogLine log(int level) const { return LogLine(device(), level); }

  // ---- data I/O of upper rooms, whole blocks, buffers at least 512-byte aligned, bounds-checked (io, inval)
  Status read_blocks(u64 block, MutBytes out) const;
  // Reads of whole blocks anywhere, all under way at once; flags are VX_IO_READ. The first error, if there is one.
  Status read_scattered(vx_io *ios, usize n) const;
  Status write_blocks(u64 block, Bytes in);

  // ---- scrub: reads the next tree node from the device, whatever memory has; buf has node_size() bytes. False: that was
  // the last. A node that is bad on the device but good in memory is written anew. nomem, and what stops everything.
  Result<bool> scrub_node(ScrubPlace &p, MutBytes buf, ScrubbedNode &out);

  // The same for superblock copies, roots and space maps; at: 0 to begin with, any value is accepted. What is bad is
  // written anew where memory or a copy has it, with a commit if need be: no handle of the caller is open. nomem.
  Result<bool> scrub_fixed(u64 &at, ScrubbedFixed &out);

  // For the scrub of snapshots, in the order of their transactions (scrub_past_node(), and the rooms above): opens the
  // first of transaction txn or later, and the one before it. noent: there is none. corrupt, io: out says which cannot be
  // opened. nomem. A deletion waits for both to be closed: asked for between pieces of work, scrub_unwanted() says so.
  Status open_for_scrub(u64 txn, ScrubViews &out);
  bool scrub_unwanted(const ScrubViews &views) const;

  // ---- memory pressure: tree nodes that could be dropped, and dropping them. Never waits for locks or I/O.
  usize cache_count() const;
  usize cache_shrink(usize nodes_wanted);
  Counters &counters() const;
  void print_stats(TextSink out) const;  // "name value\n" lines
  void print_space(TextSink out) const;
  void print_cache(TextSink out) const;

  State &state() { return *s_; }  // store's own rooms only

 private:
  Status apply_rollback();
  State *s_;
};

}  // namespace vexfs::store
