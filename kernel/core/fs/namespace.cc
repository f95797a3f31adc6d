// SPDX-License-Identifier: GPL-2.0-only OR MIT
// lookup, create, tmpfile, link, unlink, rmdir, setattr, readlink.
#include "namespace.h"

#include "dirent.h"
#include "erase.h"
#include "filesystem.h"

namespace vexfs::fs {
namespace name_ops {

Attributes fresh_attributes(Filesystem &fs, const NewInode &init, u64 parent, u32 parent_flags, Time now, u64 txn) {
  Attributes a;
  a.mode = init.mode;
  a.uid = init.uid;
  a.gid = init.gid;
  u32 type = init.mode & disk::kModeType;
  a.nlink = type == disk::kModeDir ? 2 : 1;
  a.generation = fs.next_generation();
  a.flags = init.flags & kUserFlags;
  if (type == disk::kModeDir || type == disk::kModeFile) a.flags |= parent_flags & VX_INODE_NOSUM;
  a.size = type == disk::kModeLink ? init.target.size() : 0;
  a.rdev = type == disk::kModeChar || type == disk::kModeBlock ? init.rdev : 0;
  a.version = txn << 28;
  a.parent = parent;
  a.birth = txn;
  a.atime = a.mtime = a.ctime = a.btime = now;
  return a;
}

u32 new_inode_items(const Filesystem &fs, const NewInode &init) {
  return 1 + static_cast<u32>(div_up<usize>(init.target.size(), fs.symlink_piece()));
}

Status insert_inode(Filesystem &fs, store::Handle &h, u64 ino, const Attributes &a, Bytes target) {
  disk::DiskInode item;
  encode(a, item);
  VX_TRY(must(h, fs.tree().insert(h, fs_key(ino, FsItem::inode), bytes_of(item))));
  for (usize at = 0; at < target.size(); at += fs.symlink_piece()) {
    Bytes piece = target.subspan(at, min_of<usize>(fs.symlink_piece(), target.size() - at));
    VX_TRY(must(h, fs.tree().insert(h, fs_key(ino, FsItem::inline_data, at), piece)));
  }
  fs.count_inodes(h, 1);
  return {};
}

void touch_dir(Attributes &a, Time now, s64 entries, s64 bytes, s64 subdirs) {
  a.mtime = a.ctime = now;
  // A damaged directory can have too small counts; they must not wrap.
  auto add = [](u64 v, s64 d) { return d < 0 && v < static_cast<u64>(-d) ? 0 : v + static_cast<u64>(d); };
  a.entries = add(a.entries, entries);
  a.size = add(a.size, bytes);
  if (subdirs > 0 || a.nlink > 2) a.nlink += static_cast<u32>(subdirs);
}

Result<Victim> judge(Inode &ip) {
  Victim v{&ip, false, 0};
  v.last = ip.is_dir() || ip.attributes().nlink <= 1;
  const Hooks &hooks = ip.filesystem().hooks();
  if (v.last && ip.has_upper() && hooks.before_unlink) v.hook_items = VX_TRY(hooks.before_unlink(hooks.ctx, ip));
  return v;
}

Status remove_link(store::Handle &h, const Victim &v, Time now) {
  Filesystem &fs = v.ip->filesystem();
  if (!v.last) {
    return must(h, v.ip->change(h, [now](Attributes &a) -> Status {
      a.nlink--;
      a.ctime = now;
      return {};
    }));
  }
  disk::DiskOrphan record;
  record.generation = v.ip->generation();
  record.reserved = 0;
  VX_TRY(must(h, fs.tree().insert(h, fs_key(0, FsItem::orphan, v.ip->ino()), bytes_of(record))));
  v.ip->change_in_memory([now](Attributes &a) {
    a.nlink = 0;
    a.ctime = now;
  });
  const Hooks &hooks = fs.hooks();
  if (v.ip->has_upper() && hooks.unlinked) VX_TRY(must(h, hooks.unlinked(hooks.ctx, h, *v.ip)));
  return {};
}

}  // namespace name_ops

namespace namespace_impl {
namespace {

Status check_new(const NewInode &init) {
  if (!disk::valid_mode_type(init.mode)) return Errno::inval;
  bool is_link = (init.mode & disk::kModeType) == disk::kModeLink;
  if (is_link && init.target.empty()) return Errno::noent;
  if (is_link && init.target.size() > disk::kSymlinkMax) return Errno::nametoolong;
  if (!is_link && !init.target.empty()) return Errno::inval;
  return {};
}

// A new inode in memory, for which the cache has room.
Result<Box<Inode>> fresh_inode(Filesystem &fs, u64 ino, const Attributes &a) {
  VX_TRY(fs.cache().prepare_insert(ino));
  auto ip = VX_TRY(Box<Inode>::make(fs, ino, a));
  ip->extent_bound.store(0);
  return ip;
}

InodeRef into_cache(Filesystem &fs, Box<Inode> ip) {
  fs.cache().insert(*ip);
  return InodeRef(ip.release());
}

// The inode that a directory entry names. Anything but a good one is damage.
Result<InodeRef> inode_of(Inode &dir, const NameSlot &slot) {
  Filesystem &fs = dir.filesystem();
  auto r = fs.get(slot.ino);
  if (r.code() == Errno::noent || r.code() == Errno::stale) return fs.damaged(dir.ino(), "a name leads to no inode");
  if (r.ok() && (disk::dirent_type((*r)->type()) != slot.type || r->get() == &dir))
    return fs.damaged(dir.ino(), "a name leads to an inode of another kind");
  return r;
}

}  // namespace
}  // namespace namespace_impl

Result<u64> lookup(Inode &dir, Bytes name, u8 *type) {
  if (!dir.is_dir()) return Errno::notdir;
  Timed t(dir.filesystem().stats(), Op::lookup);
  SharedGuard g(dir.data_lock);
  NameSlot slot = VX_TRY(find_name(dir, name));
  if (type) *type = slot.type;
  return slot.ino;
}

Result<InodeRef> create(Inode &dir, Bytes name, const NewInode &init, Time now) {
  Filesystem &fs = dir.filesystem();
  if (!dir.is_dir()) return Errno::notdir;
  VX_TRY(check_name(name));
  VX_TRY(namespace_impl::check_new(init));
  Timed t(fs.stats(), Op::create);
  bool is_dir = (init.mode & disk::kModeType) == disk::kModeDir;
  Guard g(dir.data_lock);
  if (!dir.has_names()) return Errno::noent;
  auto h = VX_TRY(fs.volume().begin({.items = kInsertNameItems + name_ops::new_inode_items(fs, init) + 1}));
  u64 ino = fs.volume().take_object_id();
  Attributes a = name_ops::fresh_attributes(fs, init, dir.ino(), dir.flags(), now, h.txn());
  if (is_dir && dir.attributes().nlink >= kLinkMax) return Errno::mlink;
  Box<Inode> fresh = VX_TRY(namespace_impl::fresh_inode(fs, ino, a));
  VX_TRY(insert_name(h, dir, name, ino, disk::dirent_type(init.mode)));
  // In the cache before its item is in the tree, so that nobody else can load it.
  InodeRef ip = namespace_impl::into_cache(fs, std::move(fresh));
  VX_TRY(name_ops::insert_inode(fs, h, ino, a, init.target));
  VX_TRY(must(h, dir.change(h, [&](Attributes &d) -> Status {
    name_ops::touch_dir(d, now, 1, static_cast<s64>(dirent_size(name.size())), is_dir);
    return {};
  })));
  return ip;
}

Result<InodeRef> create_tmpfile(Inode &dir, const NewInode &init, Time now) {
  Filesystem &fs = dir.filesystem();
  if (!dir.is_dir()) return Errno::notdir;
  VX_TRY(namespace_impl::check_new(init));
  if ((init.mode & disk::kModeType) == disk::kModeDir) return Errno::inval;
  Timed t(fs.stats(), Op::tmpfile);
  auto h = VX_TRY(fs.volume().begin({.items = name_ops::new_inode_items(fs, init) + 1}));
  u64 ino = fs.volume().take_object_id();
  Attributes a = name_ops::fresh_attributes(fs, init, dir.ino(), dir.flags(), now, h.txn());
  a.nlink = 0;
  Box<Inode> fresh = VX_TRY(namespace_impl::fresh_inode(fs, ino, a));
  disk::DiskOrphan record;
  record.generation = a.generation;
  record.reserved = 0;
  VX_TRY(fs.tree().insert(h, fs_key(0, FsItem::orphan, ino), bytes_of(record)));
  fresh->linkable.store(true);
  InodeRef ip = namespace_impl::into_cache(fs, std::move(fresh));
  VX_TRY(name_ops::insert_inode(fs, h, ino, a, init.target));
  return ip;
}

Status link(Inode &dir, Bytes name, Inode &ip, Time now) {
  Filesystem &fs = dir.filesystem();
  if (!dir.is_dir()) return Errno::notdir;
  if (ip.is_dir()) return Errno::perm;
  VX_TRY(check_name(name));
  Timed t(fs.stats(), Op::link);
  Guard g(dir.data_lock);
  Guard m(ip.meta_lock);
  if (!dir.has_names()) return Errno::noent;
  u32 nlink = ip.attributes().nlink;
  if (nlink == 0 && !ip.linkable.load()) return Errno::noent;
  if (nlink >= kLinkMax) return Errno::mlink;
  auto h = VX_TRY(fs.volume().begin({.items = kInsertNameItems + 3}));
  VX_TRY(insert_name(h, dir, name, ip.ino(), disk::dirent_type(ip.type())));
  if (nlink == 0) VX_TRY(must(h, fs.tree().erase(h, fs_key(0, FsItem::orphan, ip.ino()))));
  VX_TRY(must(h, ip.change(h, [&](Attributes &a) -> Status {
    a.nlink++;
    a.ctime = now;
    a.parent = dir.ino();
    return {};
  })));
  ip.linkable.store(false);
  return must(h, dir.change(h, [&](Attributes &d) -> Status {
    name_ops::touch_dir(d, now, 1, static_cast<s64>(dirent_size(name.size())), 0);
    return {};
  }));
}

Status unlink(Inode &dir, Bytes name, Time now) {
  Filesystem &fs = dir.filesystem();
  if (!dir.is_dir()) return Errno::notdir;
  Timed t(fs.stats(), Op::unlink);
  InodeRef ip;  // dropped last, when no lock is held any more: that may delete it
  Guard g(dir.data_lock);
  NameSlot slot = VX_TRY(find_name(dir, name));
  if (slot.type == disk::dirent_type(disk::kModeDir)) return Errno::isdir;
  ip = VX_TRY(namespace_impl::inode_of(dir, slot));
  Guard m(ip->meta_lock);
  auto victim = VX_TRY(name_ops::judge(*ip));
  auto h = VX_TRY(fs.volume().begin(
      {.items = kEraseNameItems + 1 + name_ops::kRemoveLinkItems + victim.hook_items, .freeing = true}));
  VX_TRY(erase_name(h, dir, slot));
  VX_TRY(must(h, dir.change(h, [&](Attributes &d) -> Status {
    name_ops::touch_dir(d, now, -1, -static_cast<s64>(dirent_size(name.size())), 0);
    return {};
  })));
  return name_ops::remove_link(h, victim, now);
}

namespace namespace_impl {
namespace {

// The locks of rmdir are held. retry: `name` does not lead to `victim` any more.
Status rmdir_locked(Inode &dir, Bytes name, Inode &ip, Time now, bool &retry) {
  Filesystem &fs = dir.filesystem();
  NameSlot slot = VX_TRY(find_name(dir, name));
  retry = slot.ino != ip.ino();
  if (retry) return {};
  if (ip.attributes().entries != 0) return Errno::notempty;
  Guard m(ip.meta_lock);
  auto victim = VX_TRY(name_ops::judge(ip));
  auto h = VX_TRY(fs.volume().begin(
      {.items = kEraseNameItems + 1 + name_ops::kRemoveLinkItems + victim.hook_items, .freeing = true}));
  VX_TRY(erase_name(h, dir, slot));
  VX_TRY(must(h, dir.change(h, [&](Attributes &d) -> Status {
    name_ops::touch_dir(d, now, -1, -static_cast<s64>(dirent_size(name.size())), -1);
    return {};
  })));
  return name_ops::remove_link(h, victim, now);
}

}  // namespace
}  // namespace namespace_impl

Status rmdir(Inode &dir, Bytes name, Time now) {
  Filesystem &fs = dir.filesystem();
  if (!dir.is_dir()) return Errno::notdir;
  Timed t(fs.stats(), Op::unlink);
  for (;;) {
    InodeRef ip;
    {
      SharedGuard g(dir.data_lock);
      NameSlot slot = VX_TRY(find_name(dir, name));
      if (slot.type != disk::dirent_type(disk::kModeDir)) return Errno::notdir;
      ip = VX_TRY(namespace_impl::inode_of(dir, slot));
    }
    // Both locks in order of number; what was found must then be looked at again.
    bool retry = false;
    Inode &low = ip->ino() < dir.ino() ? *ip : dir, &high = ip->ino() < dir.ino() ? dir : *ip;
    low.data_lock.lock(0);
    high.data_lock.lock(1);
    Status st = namespace_impl::rmdir_locked(dir, name, *ip, now, retry);
    high.data_lock.unlock();
    low.data_lock.unlock();
    if (!retry) return st;
  }
}

Status set_attributes(Inode &ip, u32 mask, const Attributes &a) {
  Filesystem &fs = ip.filesystem();
  Timed t(fs.stats(), Op::setattr);
  if (fs.volume().read_only()) return Errno::rofs;
  auto apply = [&](Attributes &out) {
    if (mask & VX_SET_MODE) out.mode = (out.mode & disk::kModeType) | (a.mode & 07777);
    if (mask & VX_SET_UID) out.uid = a.uid;
    if (mask & VX_SET_GID) out.gid = a.gid;
    if (mask & VX_SET_ATIME) out.atime = a.atime;
    if (mask & VX_SET_MTIME) out.mtime = a.mtime;
    if (mask & VX_SET_CTIME) out.ctime = a.ctime;
    if (mask & VX_SET_BTIME) out.btime = a.btime;
    if (mask & VX_SET_FLAGS) out.flags = (out.flags & ~kUserFlags) | (a.flags & kUserFlags);
    if (mask & VX_SET_VERSION) out.version = max_of(out.version, a.version);
    if (mask & VX_SET_RDEV) out.rdev = a.rdev;
  };
  constexpr u32 kLazy = VX_SET_ATIME | VX_SET_MTIME | VX_SET_CTIME | VX_SET_VERSION;
  if (!(mask & ~kLazy)) {
    ip.touch(apply);
    return {};
  }
  // Nothing is added: it works on a full disk.
  auto h = VX_TRY(fs.volume().begin({.items = 1, .freeing = true}));
  return ip.change(h, [&](Attributes &out) -> Status {
    apply(out);
    return {};
  });
}

Result<usize> readlink(Inode &ip, MutBytes out) {
  Filesystem &fs = ip.filesystem();
  if (!ip.is_link()) return Errno::inval;
  Timed t(fs.stats(), Op::readlink);
  usize want = min_of<usize>(ip.size(), out.size()), done = 0;
  bool broken = false;
  auto copy = [&](const store::Key &key, Bytes piece) {
    broken = key.off > done || key.off + piece.size() < done;
    if (broken) return false;
    Bytes rest = piece.subspan(done - key.off);
    usize n = min_of(rest.size(), want - done);
    memcpy(out.data() + done, rest.data(), n);
    done += n;
    return done < want;
  };
  if (want)
    VX_TRY(fs.tree().scan(fs_key(ip.ino(), FsItem::inline_data), fs_key(ip.ino(), FsItem::inline_data, ~u64{0}), copy));
  if (broken || done < want) return fs.damaged(ip.ino(), "the target of the symlink is incomplete");
  return done;
}

}  // namespace vexfs::fs
