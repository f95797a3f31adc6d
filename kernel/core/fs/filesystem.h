// SPDX-License-Identifier: GPL-2.0-only OR MIT
// A mounted filesystem above its volume: inode cache, recovery, lazily kept attributes, hooks, figures.
//
// Life: Volume::open -> Filesystem::open -> (the vector room registers its hooks) -> recover -> ... -> shutdown ->
// (the vector room lets go) -> ~Filesystem -> Volume::close.
#pragma once
#include "../disk/super.h"
#include "../store/volume.h"
#include "hooks.h"
#include "inode.h"
#include "inode_cache.h"
#include "shares.h"
#include "stats.h"

namespace vexfs::fs {

struct Options {
  u32 name_hash_bits = 56;  // fewer make names collide (tests); must be the same at every mount
  bool data_sums = true;    // new data of files gets checksums, if the format allows
};

class Filesystem : Pinned {
 public:
  // A volume fresh from store::format() gets its root directory, unless it is read-only. Errors: corrupt (no root
  // directory, bad root record), io, nomem, opnotsupp.
  static Result<Box<Filesystem>> open(store::Volume &volume, const Options &options);
  // Deletes what a crash left on the orphan list and finishes truncates. Nothing on a read-only volume.
  Status recover();
  // Writes lazily kept attributes. All references of hosts have been dropped.
  Status shutdown();
  explicit Filesystem(store::Volume &volume, const Options &options);
  ~Filesystem();

  store::Volume &volume() const { return volume_; }
  store::Tree &tree() const { return tree_; }
  u32 block_size() const { return volume_.block_size(); }
  u32 block_shift() const { return volume_.block_shift(); }
  u64 root_ino() const { return root_ino_; }
  u64 inode_count() const { return inodes_.load(std::memory_order_relaxed); }
  u32 inline_max() const { return inline_max_; }
  // Large xattr values and symlink targets are stored in pieces of so many bytes.
  u32 xattr_piece() const { return static_cast<u32>(min_of<usize>(disk::kXattrPiece, volume_.max_item())); }
  u32 symlink_piece() const { return static_cast<u32>(min_of<usize>(disk::kSymlinkPiece, volume_.max_item())); }
  Stats &stats() { return stats_; }
  Shares &shares() { return shares_; }
  bool can_share() const { return volume_.feature_incompat() & disk::kIncompatReflink; }  // files may share blocks
  bool data_sums() const { return data_sums_.load(std::memory_order_relaxed); }
  void set_data_sums(bool on);

  // The inode, with a reference. noent: none; stale: another generation (0: any), or it has no names any more; corrupt,
  // io, nomem.
  Result<InodeRef> get(u64 ino, u32 generation = 0);
  InodeRef hold(Inode &ip);  // one more reference
  void put(Inode *ip);       // drops one; the last one of an inode without names deletes it
  bool put_named(
      Inode *ip);  // as put(), where nothing may be deleted. False: it has no names, and is still the caller's

  // Makes everything that was done before durable.
  Status commit();
  // Everything that was done before the call is on the device when it returns ok, by way of the intent log.
  Status sync();
  // The same for one inode's attributes and everything that is not kept lazily.
  Status sync(Inode &ip);
  // A snapshot of all files as they are (store/snapshots.h, Volume::snapshot_create). Whole writes of hosts without a page
  // cache wait; a host with one has stopped its writers and written its pages back. Errors as there.
  Result<u64> snapshot_create(Bytes name);
  // The vector room takes part. Set once, after open() and before recover(); null to let go, when nothing runs.
  void set_hooks(const Hooks *hooks) { hooks_ = hooks ? *hooks : Hooks{}; }
  const Hooks &hooks() const { return hooks_; }

  u32 next_generation();

  // A name's cookie with seq 0.
  u64 name_cookie(Bytes name) const;

  struct ::vx_fs *handle = nullptr;  // the mount that this belongs to, for vx_inode_fs()
  void print_cache(TextSink out) const;

  Mutex rename_lock;
  // Whole reads and writes of hosts without a page cache are serialised per inode by these, outside all other locks.
  RwSem &io_lock(u64 ino) { return io_locks_[ino % kIoLocks].lock; }
  RwSem whole_lock{"vexfs_whole"};  // shared by whole writes, outside of io_lock(); exclusive: there is none
  std::atomic<u64> alloc_goal{0};   // device block near which the next new file's data goes

  // ---- the fs room's own
  InodeCache &cache() { return cache_; }
  void count_inodes(store::Handle &h, s64 delta);  // writes the root record; no tree mutation
  void add_lazy(Inode &ip);                        // see Inode::touch
  void drop_lazy(Inode &ip);                       // forgets what touch() left
  Status flush_lazy();
  void content_changed(Inode &ip, u64 version);  // calls the hook
  disk::FsLimits limits() const;
  // Damage: logs "inode N: what", tells the volume, returns corrupt.
  Error damaged(u64 ino, const char *what) const;

 private:
  static constexpr u32 kIoLocks = 32;
  struct IoLock {
    RwSem lock{"vexfs_io"};
  };
  static Status prepare_commit(store::Participant *p);
  Status read_root();
  bool fresh_volume(const disk::DiskFsRoot &root) const;
  Status make_root();
  Status flush_batch(Inode *const *batch, u32 n);
  Result<Inode *> load(u64 ino, bool orphans_too);
  Result<InodeRef> get_any(u64 ino, bool orphans_too);
  void free_inode(Inode *ip);  // that is out of the cache
  Status recover_orphans();
  Status recover_truncates();

  store::Volume &volume_;
  store::Tree &tree_;
  Options options_;
  u64 root_ino_ = 0;
  u32 inline_max_ = 0;
  std::atomic<bool> data_sums_{false};
  std::atomic<u64> inodes_{0};
  std::atomic<u32> generation_{0};
  Mutex root_lock_;  // orders changes of the inode count
  Hooks hooks_;
  InodeCache cache_;
  Shares shares_;
  Stats stats_;

  IoLock io_locks_[kIoLocks];
  Mutex flush_lock_;  // one flush_lazy() at a time: the second waits for what the first has taken
  Spin lazy_lock_;
  List<Inode, &Inode::lazy_hook_> lazy_;
  usize lazy_count_ = 0;  // lazy_lock_
  store::Participant participant_;
  bool registered_ = false;
};

}  // namespace vexfs::fs
