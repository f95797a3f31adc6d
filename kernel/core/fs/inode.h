// SPDX-License-Identifier: GPL-2.0-only OR MIT
// An inode in memory: unique per (filesystem, number), reference counted.
//
// Lock order, from the outside in (a lock may be taken while those above it are held, never the other way round):
//
//   0  Filesystem::io_lock()       whole reads and writes of hosts without a page cache
//   1  Filesystem::rename_lock     one rename across directories at a time
//   2  Inode::data_lock            of directories: their names. Several: in order of inode number
//   3  Inode::meta_lock            link count transitions, orphan state, xattrs. Several: in order of inode number
//   4  Inode::data_lock            of everything else: extents, overlay, inline data, size
//   5  Volume::begin()             open handle; the store's own locks lie below
//   6  Inode::attr_lock_ (spin)    the attributes; taken inside a leaf's lock when the item is rewritten
//   7  inode cache shards, the filesystem's list of lazy inodes (spins)
//
// Attributes: what is in memory is what the INODE item says or will say when the handle that is changing it ends.
// change() alters both under the leaf's lock, so two writers cannot cross. Times and the content version may also run
// ahead in memory (touch()); every commit that is asked for, and the commit timer, write them first.
#pragma once
#include <atomic>

#include "../api.h"
#include "../base/list.h"
#include "../base/lock.h"
#include "../store/tree.h"
#include "attributes.h"
#include "overlay.h"

struct vx_inode {};  // what a host holds is the base of an Inode

namespace vexfs::fs {

class Filesystem;
using FsItem = disk::FsItem;
constexpr store::Key fs_key(u64 ino, FsItem type, u64 off = 0) { return {ino, static_cast<u8>(type), off}; }

class Inode : public vx_inode, Pinned {
 public:
  Inode(Filesystem &fs, u64 ino, const Attributes &a);
  ~Inode();

  u64 ino() const { return ino_; }
  Filesystem &filesystem() const { return fs_; }
  u32 type() const { return type_; }  // st_mode's type bits; never change
  bool is_dir() const { return type_ == disk::kModeDir; }
  bool is_file() const { return type_ == disk::kModeFile; }
  bool is_link() const { return type_ == disk::kModeLink; }
  u32 generation() const { return generation_; }

  Attributes attributes() const;                                            // a consistent copy
  u64 version() const { return version_.load(std::memory_order_acquire); }  // content version
  u32 flags() const { return flags_.load(std::memory_order_acquire); }      // VX_INODE_*
  u64 size() const { return size_.load(std::memory_order_acquire); }        // bytes, as on disk
  bool has_names() const { return nlink_.load(std::memory_order_acquire) != 0; }
  bool has_upper() const { return flags() & (VX_INODE_HAS_VECTORS | VX_INODE_COLLECTION); }

  // Alters attributes in memory and in the tree at once. One tree mutation. fn must not sleep; when it returns an
  // error nothing has changed. Other errors (io, corrupt) change nothing either.
  Status change(store::Handle &h, FnRef<Status(Attributes &)> fn);
  // The same for flags alone (HAS_VECTORS, COLLECTION). At most one tree mutation; none when nothing changes.
  Status change_flags(store::Handle &h, u32 set, u32 clear);
  // Alters attributes in memory now, in the tree at the next commit: for times and the content version. fn must not
  // sleep.
  void touch(FnRef<void(Attributes &)> fn);
  // Writes what touch() left, in this handle: at most one tree mutation. Who stores a content version elsewhere (a
  // vector's row) calls this in the same handle, so that no crash can make the file older than the row says.
  Status flush(store::Handle &h);
  bool dirty() const { return dirty_.load(); }
  // The content changes: a new content version. Versions grow by at least 1, and are never given twice, also not after
  // a crash that loses the latest (they are drawn from the number of the open transaction).
  void bump_version();
  u64 next_version(u64 now) const;  // what bump_version() makes of `now`

  // A place for the vector room (for instance the collection of a directory). Dropped in Hooks::released.
  std::atomic<void *> upper{nullptr};

  RwSem data_lock;
  RwSem meta_lock;

  // ---- regular files; guarded by data_lock
  Overlay overlay;
  std::atomic<u64> extent_bound{~u64{0}};  // no extent item ends beyond this block; ~0: not known yet
  u64 goal_block = 0, goal_disk = 0;       // data of file block goal_block would best go to device block goal_disk
  bool is_inline() const { return flags() & VX_INODE_INLINE; }

  std::atomic<bool> linkable{false};  // made by tmpfile and not linked yet: link() may give it a first name

  // ---- the fs room's own
  // Alters attributes in memory only, not lazily: for what the item need not say (the last name of an orphan).
  void change_in_memory(FnRef<void(Attributes &)> fn);

 private:
  friend class InodeCache;
  friend class Filesystem;
  void publish(const Attributes &a);  // attr_lock_ held

  Filesystem &fs_;
  const u64 ino_;
  const u32 type_;
  const u32 generation_;
  std::atomic<u64> version_{0}, size_{0};
  std::atomic<u32> flags_{0}, nlink_{0};
  mutable Spin attr_lock_;
  Attributes attr_;                  // attr_lock_
  std::atomic<bool> dirty_{false};   // touch() ran ahead of the tree
  std::atomic<bool> listed_{false};  // is on the filesystem's lazy list
  ListHook lazy_hook_;               // being on that list holds a reference

  std::atomic<u32> refs_{1};
  bool dying_ = false;          // shard lock: being deleted, nobody may have it any more
  Inode *hash_next_ = nullptr;  // shard lock
};

// Owns one reference.
class InodeRef {
 public:
  InodeRef() = default;
  explicit InodeRef(Inode *ip) : ip_(ip) {}  // takes over the caller's reference
  InodeRef(InodeRef &&o) noexcept : ip_(o.release()) {}
  InodeRef &operator=(InodeRef &&o) noexcept {
    if (this != &o) {
      reset();
      ip_ = o.release();
    }
    return *this;
  }
  ~InodeRef() { reset(); }
  Inode *get() const { return ip_; }
  Inode *operator->() const { return ip_; }
  Inode &operator*() const { return *ip_; }
  explicit operator bool() const { return ip_ != nullptr; }
  Inode *release() { return std::exchange(ip_, nullptr); }
  void reset();
  bool reset_named();  // as reset(), but a reference to an inode without names stays: false

 private:
  Inode *ip_ = nullptr;
};

}  // namespace vexfs::fs
