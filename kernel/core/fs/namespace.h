// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Operations on names: each is one handle, all or nothing. `now` becomes mtime/ctime of what it changes.
//
// Errors are POSIX's: noent, exist, notdir, isdir, notempty, nametoolong, inval, mlink, nospc, rofs, perm; besides
// nomem, io, corrupt. The host has checked permissions, sticky and append-only bits.
#pragma once
#include "inode.h"

namespace vexfs::fs {

struct NewInode {
  u32 mode = 0;  // st_mode: any type
  u32 uid = 0, gid = 0;
  u64 rdev = 0;
  u32 flags = 0;  // VX_INODE_* of the low 16 bits
  Bytes target;   // symlinks: 1..kSymlinkMax bytes
};
inline constexpr u32 kLinkMax = 0x7ffffffe;
// Flags that hosts may set; the others are the core's own.
inline constexpr u32 kUserFlags = 0xffff;

Result<u64> lookup(Inode &dir, Bytes name, u8 *type = nullptr);
Result<InodeRef> create(Inode &dir, Bytes name, const NewInode &init, Time now);
// An inode without a name, which link() may give one.
Result<InodeRef> create_tmpfile(Inode &dir, const NewInode &init, Time now);
Status link(Inode &dir, Bytes name, Inode &ip, Time now);
Status unlink(Inode &dir, Bytes name, Time now);  // isdir for a directory
Status rmdir(Inode &dir, Bytes name, Time now);
// flags: VX_RENAME_*. whiteout: what to leave behind with VX_RENAME_WHITEOUT (null: a 0/0 character device of root).
Status rename(Inode &odir, Bytes oname, Inode &ndir, Bytes nname, u32 flags, const NewInode *whiteout, Time now);

// Entries with cookie >= pos in cookie order; pos becomes where to go on. emit may sleep and may call the core; it
// returns false to stop before that entry.
struct DirEntry {
  Bytes name;
  u64 ino;
  u8 type;
  u64 cookie;
};
Status readdir(Inode &dir, u64 &pos, FnRef<bool(const DirEntry &)> emit);
Result<usize> readlink(Inode &ip, MutBytes out);  // bytes copied, at most out.size()

// mask: VX_SET_*. Times and version alone are kept lazily.
Status set_attributes(Inode &ip, u32 mask, const Attributes &a);

// ---- shared by namespace.cc and rename.cc
namespace name_ops {
struct Victim {  // an inode about to lose a name
  Inode *ip = nullptr;
  bool last = false;  // it is the last one
  u32 hook_items = 0;
};
// Asks the hooks. ip's meta_lock is held (and a directory's data_lock).
Result<Victim> judge(Inode &ip);
inline constexpr u32 kRemoveLinkItems = 1;
// Takes the link away in h: the link count falls, or the inode becomes an orphan.
Status remove_link(store::Handle &h, const Victim &v, Time now);
// Writes the new inode and its symlink target. Not counted in items: nothing but symlinks has more than one.
Status insert_inode(Filesystem &fs, store::Handle &h, u64 ino, const Attributes &a, Bytes target);
u32 new_inode_items(const Filesystem &fs, const NewInode &init);
Attributes fresh_attributes(Filesystem &fs, const NewInode &init, u64 parent, u32 parent_flags, Time now, u64 txn);
void touch_dir(Attributes &a, Time now, s64 entries, s64 bytes, s64 subdirs);
}  // namespace name_ops

}  // namespace vexfs::fs
