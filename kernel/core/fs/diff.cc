// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Files that differ: the items that do, gathered by inode.
#include "diff.h"

#include "../store/tree_diff.h"

namespace vexfs::fs {

namespace diff_impl {
namespace {

u32 what_of(u8 type) {
  switch (static_cast<disk::FsItem>(type)) {
    case disk::FsItem::inline_data:
    case disk::FsItem::extent:
    case disk::FsItem::extent_checksum:
      return kChangedData;
    case disk::FsItem::dirent:
      return kChangedNames;
    case disk::FsItem::xattr:
    case disk::FsItem::xattr_chunk:
      return kChangedXattrs;
    case disk::FsItem::vector_ref:
      return kChangedVectors;
    default:
      return kChangedAttributes;
  }
}

// Whether other files have the blocks of an extent too is no business of this one.
bool says_the_same(const store::Key &k, Bytes a, Bytes b) {
  disk::DiskExtent x, y;
  if (k.type != static_cast<u8>(disk::FsItem::extent) || a.size() != sizeof x || b.size() != sizeof y) return false;
  memcpy(&x, a.data(), sizeof x);
  memcpy(&y, b.data(), sizeof y);
  x.flags = x.flags & ~disk::kExtentShared;
  y.flags = y.flags & ~disk::kExtentShared;
  return memcmp(&x, &y, sizeof x) == 0;
}

// Of an inode that both have: the size is contents, the rest of the item is attributes.
u32 what_of_inode(const disk::DiskInode &a, const disk::DiskInode &b) {
  disk::DiskInode same = b;
  same.size = a.size;
  same.blocks = a.blocks;
  same.version = a.version;
  same.entries = a.entries;
  bool file = (b.mode & disk::kModeType) == disk::kModeFile;
  return (memcmp(&same, &a, sizeof same) != 0 ? kChangedAttributes : 0) |
         (file && a.size != b.size ? kChangedData : 0) | (file && a.version != b.version ? kChangedWritten : 0);
}

Result<bool> read_inode(const store::Volume &v, u64 ino, disk::DiskInode *out) {
  Result<usize> n = v.tree(store::TreeId::fs).get({ino, static_cast<u8>(disk::FsItem::inode), 0}, mut_bytes_of(*out));
  if (n.code() == Errno::noent) return false;
  if (!n.ok()) return n.error();
  return *n == sizeof *out ? Result<bool>(true) : Result<bool>(Errno::corrupt);
}

// Completes what is known of c.ino. False: it is in neither state (items that a crash has left, an orphan).
Result<bool> complete(const store::Volume &from, const store::Volume &to, Changed *c) {
  disk::DiskInode a, b;
  bool before = VX_TRY(read_inode(from, c->ino, &a)), now = VX_TRY(read_inode(to, c->ino, &b));
  if (!before && !now) return false;
  const disk::DiskInode &d = now ? b : a;
  c->generation = d.generation;
  c->mode = d.mode;
  c->size = d.size;
  if (!before) c->what |= kChangedCreated;
  if (!now) c->what |= kChangedDeleted;
  if (before && now) c->what |= what_of_inode(a, b);
  return c->what != 0;
}

}  // namespace
}  // namespace diff_impl

Status diff(const store::Volume &from, const store::Volume &to, u64 ino, FnRef<bool(const Changed &)> fn) {
  Changed c;
  Status st;
  bool more = true;
  auto finish = [&] {
    if (c.ino == 0) return;
    Result<bool> there = diff_impl::complete(from, to, &c);
    if (!there.ok()) st = there.error();
    if (there.ok() && *there) more = fn(c);
    c = {};
  };
  store::TreeDiff trees(from.tree(store::TreeId::fs), to.tree(store::TreeId::fs));
  VX_TRY(trees.each({max_of<u64>(ino, 1), 0, 0}, [&](const store::Key &k, const Bytes *a, const Bytes *b) {
    if (a && b && diff_impl::says_the_same(k, *a, *b)) return true;
    if (k.oid != c.ino) finish();
    if (!more || !st.ok()) return false;
    c.ino = k.oid;
    if (k.type != static_cast<u8>(disk::FsItem::inode)) c.what |= diff_impl::what_of(k.type);
    return true;
  }));
  if (more && st.ok()) finish();
  return st;
}

}  // namespace vexfs::fs
