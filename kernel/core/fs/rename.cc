// SPDX-License-Identifier: GPL-2.0-only OR MIT
// rename: plain, NOREPLACE, EXCHANGE, WHITEOUT; replacing targets; no directory may become its own descendant.
#include "dirent.h"
#include "erase.h"
#include "filesystem.h"
#include "namespace.h"

namespace vexfs::fs {
namespace rename_impl {
namespace {

constexpr u8 kDirType = disk::dirent_type(disk::kModeDir);

// Up to three directories, each locked once, in order of inode number.
class DirLocks : Pinned {
 public:
  ~DirLocks() { release(); }
  void add(Inode &dir) {
    u32 at = 0;
    while (at < n_ && dirs_[at]->ino() < dir.ino()) at++;
    if (at < n_ && dirs_[at] == &dir) return;
    for (u32 i = n_; i > at; i--) dirs_[i] = dirs_[i - 1];
    dirs_[at] = &dir;
    n_++;
  }
  void lock() {
    for (u32 i = 0; i < n_; i++) dirs_[i]->data_lock.lock(static_cast<int>(i));
    locked_ = true;
  }
  bool has(const Inode &dir) const {
    for (u32 i = 0; i < n_; i++)
      if (dirs_[i] == &dir) return true;
    return false;
  }
  void release() {
    if (locked_)
      for (u32 i = n_; i > 0; i--) dirs_[i - 1]->data_lock.unlock();
    locked_ = false;
    n_ = 0;
  }

 private:
  Inode *dirs_[3] = {};
  u32 n_ = 0;
  bool locked_ = false;
};

struct Rename {
  Filesystem &fs;
  Inode &odir;
  Bytes oname;
  Inode &ndir;
  Bytes nname;
  u32 flags;
  const NewInode *whiteout;
  Time now;
  // Filled under the locks:
  NameSlot src{}, dst{};
  bool has_dst = false;
  Inode *sip = nullptr, *dip = nullptr;

  bool cross() const { return &odir != &ndir; }
  bool exchange() const { return flags & VX_RENAME_EXCHANGE; }
};

// Is `dir` the directory `top` or below it? rename_lock is held, so parents do not change.
Result<bool> is_below(Filesystem &fs, u64 dir, u64 top) {
  u64 limit = fs.inode_count() + 2;
  for (u64 at = dir; at != fs.root_ino(); limit--) {
    if (at == top) return true;
    if (limit == 0) return fs.damaged(dir, "the way up to the root never ends");
    auto ip = fs.get(at);
    if (ip.code() == Errno::noent || ip.code() == Errno::stale)
      return fs.damaged(at, "a directory on the way to the root is missing");
    if (!ip.ok()) return ip.error();
    if (!(*ip)->is_dir()) return fs.damaged(at, "the parent of a directory is none");
    at = (*ip)->attributes().parent;
  }
  return fs.root_ino() == top;
}

Status check_kinds(const Rename &r) {
  bool sdir = r.sip->is_dir();
  if (r.has_dst && !r.exchange()) {
    if (sdir && !r.dip->is_dir()) return Errno::notdir;
    if (!sdir && r.dip->is_dir()) return Errno::isdir;
    if (r.dip->is_dir() && r.dip->attributes().entries != 0) return Errno::notempty;
  }
  if (!r.cross()) return {};
  if (sdir && VX_TRY(is_below(r.fs, r.ndir.ino(), r.sip->ino()))) return Errno::inval;
  if (r.exchange() && r.dip->is_dir() && VX_TRY(is_below(r.fs, r.odir.ino(), r.dip->ino()))) return Errno::inval;
  bool gains = sdir && !(r.has_dst && r.dip->is_dir());
  if (gains && r.ndir.attributes().nlink >= kLinkMax) return Errno::mlink;
  if (r.exchange() && r.dip->is_dir() && !sdir && r.odir.attributes().nlink >= kLinkMax) return Errno::mlink;
  return {};
}

// The moved inode's ctime, and its parent. Within one directory only the time changes: that can be lazy.
Status moved(store::Handle &h, const Rename &r, Inode &ip, const Inode &to) {
  if (!r.cross()) {
    ip.touch([&](Attributes &a) { a.ctime = r.now; });
    return {};
  }
  return must(h, ip.change(h, [&](Attributes &a) -> Status {
    a.ctime = r.now;
    a.parent = to.ino();
    return {};
  }));
}

struct DirDelta {
  s64 entries = 0, bytes = 0, subdirs = 0;
};

Status update_dirs(store::Handle &h, const Rename &r, const DirDelta &o, const DirDelta &n) {
  auto update = [&](Inode &dir, const DirDelta &d) {
    return must(h, dir.change(h, [&](Attributes &a) -> Status {
      name_ops::touch_dir(a, r.now, d.entries, d.bytes, d.subdirs);
      return {};
    }));
  };
  if (r.cross()) {
    VX_TRY(update(r.odir, o));
    return update(r.ndir, n);
  }
  return update(r.odir, {o.entries + n.entries, o.bytes + n.bytes, o.subdirs + n.subdirs});
}

Status do_exchange(Rename &r) {
  auto h = VX_TRY(r.fs.volume().begin({.items = 2 * kReplaceNameItems + 4}));
  VX_TRY(replace_name(h, r.odir, r.src, r.oname, r.dst.ino, r.dst.type));
  VX_TRY(must(h, replace_name(h, r.ndir, r.dst, r.nname, r.src.ino, r.src.type)));
  s64 sdir = r.sip->is_dir(), ddir = r.dip->is_dir();
  VX_TRY(update_dirs(h, r, {0, 0, ddir - sdir}, {0, 0, sdir - ddir}));
  VX_TRY(moved(h, r, *r.sip, r.ndir));
  return moved(h, r, *r.dip, r.odir);
}

// What stays at the old name: nothing, or a whiteout.
Status vacate(store::Handle &h, const Rename &r, const NewInode &white, u64 white_ino) {
  if (!(r.flags & VX_RENAME_WHITEOUT)) return must(h, erase_name(h, r.odir, r.src));
  Attributes a = name_ops::fresh_attributes(r.fs, white, r.odir.ino(), r.odir.flags(), r.now, h.txn());
  VX_TRY(must(h, replace_name(h, r.odir, r.src, r.oname, white_ino, disk::dirent_type(white.mode))));
  return name_ops::insert_inode(r.fs, h, white_ino, a, {});
}

Status do_move(Rename &r) {
  bool leave = r.flags & VX_RENAME_WHITEOUT;
  NewInode white;
  white.mode = disk::kModeChar;
  if (r.whiteout) {
    white = *r.whiteout;
    white.mode = disk::kModeChar | (white.mode & 07777);
    white.rdev = 0;
    white.target = {};
  }
  name_ops::Victim victim;
  if (r.has_dst) victim = VX_TRY(name_ops::judge(*r.dip));
  auto h = VX_TRY(r.fs.volume().begin(
      {.items = kInsertNameItems + kEraseNameItems + name_ops::kRemoveLinkItems + 4 + victim.hook_items,
       .freeing = r.has_dst}));
  u64 white_ino = leave ? r.fs.volume().take_object_id() : 0;
  if (r.has_dst)
    VX_TRY(replace_name(h, r.ndir, r.dst, r.nname, r.src.ino, r.src.type));
  else
    VX_TRY(insert_name(h, r.ndir, r.nname, r.src.ino, r.src.type));
  if (!r.cross() && !r.has_dst && r.fs.name_cookie(r.nname) == (r.src.cookie & ~disk::kCookieSeqMask)) {
    // Both names have one hash: the insert may have chained the new name to the old one.
    auto again = find_name(r.odir, r.oname);
    VX_TRY(must(h, again.ok() ? Status() : Status(again.error())));
    r.src = *again;
  }
  VX_TRY(vacate(h, r, white, white_ino));
  s64 sdir = r.sip->is_dir();
  DirDelta o, n;
  o.subdirs = -sdir;
  if (!leave) {
    o.entries = -1;
    o.bytes = -static_cast<s64>(dirent_size(r.oname.size()));
  }
  n.subdirs = sdir;
  if (r.has_dst) {
    n.subdirs -= r.dip->is_dir();
  } else {
    n.entries = 1;
    n.bytes = static_cast<s64>(dirent_size(r.nname.size()));
  }
  VX_TRY(update_dirs(h, r, o, n));
  VX_TRY(moved(h, r, *r.sip, r.ndir));
  return r.has_dst ? name_ops::remove_link(h, victim, r.now) : Status();
}

// The directories' locks are held (and that of a target directory, if dip is one and it is not exchanged).
Status run(Rename &r) {
  if (!r.exchange() && r.has_dst) {
    Guard m(r.dip->meta_lock);
    return do_move(r);
  }
  return r.exchange() ? do_exchange(r) : do_move(r);
}

Result<InodeRef> inode_of(const Rename &r, const Inode &dir, const NameSlot &slot) {
  auto ip = r.fs.get(slot.ino);
  if (ip.code() == Errno::noent || ip.code() == Errno::stale)
    return r.fs.damaged(dir.ino(), "a name leads to no inode");
  if (ip.ok() && disk::dirent_type((*ip)->type()) != slot.type)
    return r.fs.damaged(dir.ino(), "a name leads to an inode of another kind");
  return ip;
}

}  // namespace
}  // namespace rename_impl

Status rename(Inode &odir, Bytes oname, Inode &ndir, Bytes nname, u32 flags, const NewInode *whiteout, Time now) {
  using namespace rename_impl;  // NOLINT: of this file
  Filesystem &fs = odir.filesystem();
  if (!odir.is_dir() || !ndir.is_dir()) return Errno::notdir;
  if (flags & ~u32{VX_RENAME_NOREPLACE | VX_RENAME_EXCHANGE | VX_RENAME_WHITEOUT}) return Errno::inval;
  if ((flags & VX_RENAME_EXCHANGE) && (flags & (VX_RENAME_NOREPLACE | VX_RENAME_WHITEOUT))) return Errno::inval;
  VX_TRY(check_name(oname));
  VX_TRY(check_name(nname));
  Timed t(fs.stats(), Op::rename);
  Rename r{fs, odir, oname, ndir, nname, flags, whiteout, now};
  InodeRef sref, dref, extra, next;  // dropped after the locks: that may delete an inode
  if (r.cross()) fs.rename_lock.lock();
  Status st;
  for (bool again = true; again;) {
    again = false;
    DirLocks locks;
    locks.add(odir);
    locks.add(ndir);
    if (extra) locks.add(*extra);
    locks.lock();
    st = [&]() -> Status {
      if (!odir.has_names() || !ndir.has_names()) return Errno::noent;
      r.src = VX_TRY(find_name(odir, oname));
      auto found = find_name(ndir, nname);
      if (!found.ok() && found.code() != Errno::noent) return found.error();
      r.has_dst = found.ok();
      if (r.has_dst && (flags & VX_RENAME_NOREPLACE)) return Errno::exist;
      if (!r.has_dst && r.exchange()) return Errno::noent;
      if (r.has_dst && found->ino == r.src.ino) return {};  // two names of one inode: nothing to do
      sref = VX_TRY(inode_of(r, odir, r.src));
      r.sip = sref.get();
      r.dip = nullptr;
      if (r.has_dst) {
        r.dst = *found;
        dref = VX_TRY(inode_of(r, ndir, r.dst));
        r.dip = dref.get();
        if (r.dip->is_dir() && !r.exchange() && !locks.has(*r.dip)) {
          // The target must stay empty: its lock is needed too, in order. Start over with it.
          next = fs.hold(*r.dip);
          again = true;
          return {};
        }
      }
      VX_TRY(check_kinds(r));
      return run(r);
    }();
    locks.release();
    sref.reset();
    dref.reset();
    extra = std::exchange(next, InodeRef());  // not earlier: the one of the last round was locked
  }
  if (r.cross()) fs.rename_lock.unlock();
  return st;
}

}  // namespace vexfs::fs
