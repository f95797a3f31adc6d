// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Checking a filesystem that nobody has open: what fsck.vexfs does for the store, and what the rooms above add to.
//
// The checker trusts nothing: it reads superblock copies, root slots, descriptors, bitmaps and every tree node straight
// from the device, past the node cache, and goes on behind damage as far as that is possible. It never writes.
//
//   Checker c(dev, sink);
//   VX_TRY(c.open());                                          // superblock, roots, space maps
//   for each tree: VX_TRY(c.walk(id, visitor));                // every node; items of sound leaves, in key order
//   ... rooms above judge the items, call c.claim() for the blocks they refer to, c.error() for what is wrong ...
//   VX_TRY(c.compare_space());                                 // claims against bitmaps
//
// One thread. Errors returned: io, nomem, corrupt (nothing can be read at all); everything else goes to the sink.
#pragma once
#include "../base/printer.h"
#include "../disk/group.h"
#include "../disk/node.h"
#include "../disk/snapshot_items.h"
#include "key.h"
#include "types.h"

namespace vexfs::store {

enum class Severity : u8 { note = 0, warning = 1, error = 2 };

struct CheckSink {
  void (*line)(void *ctx, Severity severity, const char *text);        // one finding, one line
  void (*progress)(void *ctx, const char *what, u64 done, u64 total);  // may be null
  void *ctx;
};

class Checker : Pinned {
 public:
  Checker(vx_bdev *dev, CheckSink sink) : dev_(dev), sink_(sink) {}
  ~Checker();

  Status open();
  const disk::Geometry &geometry() const { return geo_; }
  const disk::SuperDisk &super() const { return *super_; }
  const disk::RootDisk &root() const { return *reinterpret_cast<const disk::RootDisk *>(root_); }
  u64 txn() const { return root().header.txn; }  // of the state that is checked
  bool tree_empty(TreeId id) const { return root().trees[static_cast<u8>(id)].levels == 0; }

  // Visits every item in key order. The visitor returns false to stop. Subtrees that cannot be used are reported and left
  // out; tree_damaged() then says that absence of an item proves nothing. A tree may be walked more than once; its nodes
  // are claimed by the first walk, which must not be stopped.
  Status walk(TreeId id, FnRef<bool(const Key &, Bytes)> visitor);
  bool tree_damaged(TreeId id) const { return damaged_[static_cast<u8>(id)]; }

  // The blocks belong to `what` (object a, offset b, for the message). Reports what lies outside and what was claimed
  // before. nomem.
  Status claim(Extent e, const char *what, u64 a, u64 b);
  Status compare_space();
  // Judges the items of snapshots and of the dead tree, whose blocks are claimed. Afterwards, what was walked by the
  // rooms above can be walked for each snapshot too: enter_snapshot() puts its trees in the place of the current ones,
  // and claim() then asks that the blocks are in use already. false: there is no i-th, and the current state is back in
  // place but for its roots. compare_space() comes last: of a rollback that is not noted in full yet, the state that it
  // replaced claims blocks (such snapshots come first).
  Status check_snapshots();
  bool enter_snapshot(usize i);
  usize snapshot_count() const { return snapshots_.size(); }
  bool in_snapshot() const { return in_snapshot_ != 0; }  // what is damaged in it stays so: it never changes
  // Whether each copy of the top node of every tree is what the root says: a quick look, without a report. nomem.
  Result<bool> tops_sound();

  // A finding: c.error().str("inode ").dec(ino).str(": ...");  sent when the temporary dies.
  class Finding : Pinned {
   public:
    Finding(Checker &c, Severity s) : c_(c), severity_(s), buf_{}, p_(buf_) {}
    ~Finding() { c_.emit(severity_, buf_); }
    Finding &str(const char *s) {
      p_.str(s);
      return *this;
    }
    Finding &quoted(Bytes s) {
      p_.quoted(s);
      return *this;
    }
    Finding &dec(u64 v) {
      p_.dec(v);
      return *this;
    }
    Finding &hex(u64 v) {
      p_.hex(v);
      return *this;
    }
    Printer &printer() { return p_; }

   private:
    Checker &c_;
    Severity severity_;
    char buf_[320];
    Printer p_;
  };
  Finding note() { return Finding(*this, Severity::note); }
  Finding warning() { return Finding(*this, Severity::warning); }
  Finding error() { return Finding(*this, Severity::error); }
  // Data that is damaged and that no repair brings back. Of a snapshot it is a warning (what is around it stays usable),
  // unless data is what was asked for.
  Finding lost() {
    bool counts = !in_snapshot_ || data_asked_;
    figures_.lost += counts;
    return Finding(*this, counts ? Severity::error : Severity::warning);
  }
  void ask_for_data() { data_asked_ = true; }
  void progress(const char *what, u64 done, u64 total) {
    if (sink_.progress) sink_.progress(sink_.ctx, what, done, total);
  }

  Status read_blocks(u64 block, MutBytes out);  // bounds-checked; io

  struct Figures {
    u64 nodes = 0, leaves = 0, items = 0, item_bytes = 0, claimed_blocks = 0, errors = 0, warnings = 0;
    u64 lost = 0;  // of the errors: those of lost()
  };
  const Figures &figures() const { return figures_; }

 private:
  struct Level;
  friend class Finding;
  void emit(Severity s, const char *text);
  Status open_super();
  Status open_root();
  Status check_backups();
  Status load_descriptors();
  Status claim_fixed();
  Status check_bitmap(u64 g);
  Status walk_nodes(TreeId id, FnRef<bool(const Key &, Bytes)> visitor);
  Result<bool> read_node(TreeId id, const disk::NodeExpect &e, u8 *buf);
  Status read_copy(const disk::NodeExpect &e, u64 addr, u8 *buf, disk::Refusal *why = nullptr);
  void report_copy(const disk::NodeExpect &e, u64 addr, Status st, const disk::Refusal &why, bool other_good);
  bool check_range(TreeId id, const u8 *buf, const Key &lo, const Key *hi, u64 addr);
  Result<u64 *> group_bits(u64 g);

  vx_bdev *dev_;
  CheckSink sink_;
  Box<disk::SuperDisk> super_;
  disk::Geometry geo_;
  u8 *root_ = nullptr;           // the chosen root slot
  Vec<disk::GroupDesc> groups_;  // of readable descriptor blocks
  Vec<u8> group_known_;
  Vec<u64 *> bits_;  // claims, a bitmap per group, made when first needed
  Vec<disk::SnapshotItem> snapshots_;
  Vec<u64> snapshot_ids_;
  u64 in_snapshot_ = 0;       // id; 0: the current state is looked at
  bool in_replaced_ = false;  // that snapshot is the state before a rollback, and its blocks are not all noted yet
  bool any_damaged_ = false;  // of all trees looked at
  bool data_asked_ = false;
  Status claimed_already(Extent e, const char *what, u64 a, u64 b);
  Status claim_quietly(Extent e);
  bool may_live_again(const disk::DeadItem &d, u64 death) const;
  u64 judged_[2] = {};  // bytes at which open_super() found and reported a bad copy
  bool damaged_[disk::kTrees] = {};
  bool walked_[disk::kTrees] = {};
  Figures figures_;
};

}  // namespace vexfs::store
