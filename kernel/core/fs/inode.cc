// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Attributes of an inode: changing them in memory and in the tree, and keeping some of them lazily.
#include "inode.h"

#include "filesystem.h"

namespace vexfs::fs {

Inode::Inode(Filesystem &fs, u64 ino, const Attributes &a)
    : data_lock((a.mode & disk::kModeType) == disk::kModeDir ? "vexfs_dir" : "vexfs_data"),
      meta_lock("vexfs_meta"),
      fs_(fs),
      ino_(ino),
      type_(a.mode & disk::kModeType),
      generation_(a.generation),
      attr_lock_("vexfs_attr") {
  publish(a);
}

Inode::~Inode() { VX_ASSERT(!listed_.load() && overlay.empty()); }

void Inode::publish(const Attributes &a) {
  attr_ = a;
  version_.store(a.version, std::memory_order_release);
  size_.store(a.size, std::memory_order_release);
  flags_.store(a.flags, std::memory_order_release);
  nlink_.store(a.nlink, std::memory_order_release);
}

Attributes Inode::attributes() const {
  Guard g(attr_lock_);
  return attr_;
}

void Inode::change_in_memory(FnRef<void(Attributes &)> fn) {
  Guard g(attr_lock_);
  Attributes a = attr_;
  fn(a);
  publish(a);
}

Status Inode::change(store::Handle &h, FnRef<Status(Attributes &)> fn) {
  auto edit = [&](MutBytes item) -> Status {
    if (item.size() != sizeof(disk::DiskInode)) return Errno::corrupt;
    Guard g(attr_lock_);
    Attributes a = attr_;
    VX_TRY(fn(a));
    encode(a, *reinterpret_cast<disk::DiskInode *>(item.data()));
    publish(a);
    dirty_.store(false);
    return {};
  };
  Status st = fs_.tree().modify(h, fs_key(ino_, FsItem::inode), edit);
  if (st.code() == Errno::noent) return fs_.damaged(ino_, "its INODE item is missing");
  return st;
}

Status Inode::change_flags(store::Handle &h, u32 set, u32 clear) {
  u32 now = flags();
  if (((now | set) & ~clear) == now) return {};
  return change(h, [=](Attributes &a) -> Status {
    a.flags = (a.flags | set) & ~clear;
    return {};
  });
}

void Inode::touch(FnRef<void(Attributes &)> fn) {
  {
    Guard g(attr_lock_);
    Attributes a = attr_;
    fn(a);
    publish(a);
    dirty_.store(true);
  }
  // dirty_ is set before listed_ is read, and flush_lazy() clears listed_ before it reads dirty_: one of both sees it.
  if (!listed_.load()) fs_.add_lazy(*this);
}

Status Inode::flush(store::Handle &h) {
  if (!dirty_.load()) return {};
  return change(h, [](Attributes &) -> Status { return {}; });
}

u64 Inode::next_version(u64 now) const { return max_of(now + 1, fs_.volume().open_txn() << 28); }

void Inode::bump_version() {
  u64 version = 0;
  touch([&](Attributes &a) { version = a.version = next_version(a.version); });
  fs_.content_changed(*this, version);
}

void InodeRef::reset() {
  if (Inode *ip = release()) ip->filesystem().put(ip);
}

bool InodeRef::reset_named() {
  if (ip_ && !ip_->filesystem().put_named(ip_)) return false;
  ip_ = nullptr;
  return true;
}

}  // namespace vexfs::fs
