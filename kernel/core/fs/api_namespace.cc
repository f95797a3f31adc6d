// SPDX-License-Identifier: GPL-2.0-only OR MIT
// api.h: inodes, names, xattrs.
#include "api_convert.h"
#include "filesystem.h"
#include "xattr.h"

using vexfs::Bytes;
using vexfs::Errno;

extern "C" {

// ------------------------------------------------------------------- inodes
void vx_ihold(vx_inode *ip) { (void)vexfs::fs::inode(ip).filesystem().hold(vexfs::fs::inode(ip)).release(); }

void vx_iput(vx_inode *ip) {
  auto &in = vexfs::fs::inode(ip);
  in.filesystem().put(&in);
}

vx_u64 vx_ino(const vx_inode *ip) { return vexfs::fs::inode(ip).ino(); }

void vx_getattr(vx_inode *ip, vx_attr *out) {
  auto &in = vexfs::fs::inode(ip);
  auto a = in.attributes();
  auto &fs = in.filesystem();
  *out = vx_attr{};
  out->ino = in.ino();
  out->generation = a.generation;
  out->mode = a.mode;
  out->uid = a.uid;
  out->gid = a.gid;
  out->nlink = a.nlink;
  out->flags = a.flags;
  out->size = a.size;
  out->blocks = (a.blocks + in.overlay.blocks()) << (fs.block_shift() - 9);
  // What is inside the tree counts as whole sectors, so that nobody takes a small file for a hole.
  if ((a.flags & VX_INODE_INLINE) && out->blocks == 0) out->blocks = vexfs::div_up<vx_u64>(a.size, 512);
  out->rdev = a.rdev;
  out->atime = vexfs::fs::from_time(a.atime);
  out->mtime = vexfs::fs::from_time(a.mtime);
  out->ctime = vexfs::fs::from_time(a.ctime);
  out->btime = vexfs::fs::from_time(a.btime);
  out->version = a.version;
  out->parent = a.parent;
}

int vx_inode_sync(vx_inode *ip) {
  vexfs::fs::Inode &i = vexfs::fs::inode(ip);
  return i.filesystem().sync(i).to_c();
}

int vx_setattr(vx_inode *ip, vx_u32 mask, const vx_attr *a) {
  vexfs::fs::Attributes in;
  in.mode = a->mode;
  in.uid = a->uid;
  in.gid = a->gid;
  in.flags = a->flags;
  in.rdev = a->rdev;
  in.version = a->version;
  in.atime = vexfs::fs::to_time(&a->atime);
  in.mtime = vexfs::fs::to_time(&a->mtime);
  in.ctime = vexfs::fs::to_time(&a->ctime);
  in.btime = vexfs::fs::to_time(&a->btime);
  return vexfs::fs::set_attributes(vexfs::fs::inode(ip), mask, in).to_c();
}

// -------------------------------------------------------------------- names
int vx_lookup(vx_inode *dir, const char *name, size_t len, vx_u64 *ino) {
  auto r = vexfs::fs::lookup(vexfs::fs::inode(dir), vexfs::fs::bytes(name, len));
  if (!r.ok()) return r.error().negative();
  *ino = *r;
  return 0;
}

int vx_create(vx_inode *dir, const char *name, size_t len, const vx_attr *init, const char *target, size_t target_len,
              const vx_time *now, vx_inode **out) {
  auto n = vexfs::fs::to_new(init);
  if (target) n.target = vexfs::fs::bytes(target, target_len);
  return vexfs::fs::give(
      vexfs::fs::create(vexfs::fs::inode(dir), vexfs::fs::bytes(name, len), n, vexfs::fs::to_time(now)), out);
}

int vx_tmpfile(vx_inode *dir, const vx_attr *init, const vx_time *now, vx_inode **out) {
  return vexfs::fs::give(
      vexfs::fs::create_tmpfile(vexfs::fs::inode(dir), vexfs::fs::to_new(init), vexfs::fs::to_time(now)), out);
}

int vx_link(vx_inode *dir, const char *name, size_t len, vx_inode *ip, const vx_time *now) {
  return vexfs::fs::link(vexfs::fs::inode(dir), vexfs::fs::bytes(name, len), vexfs::fs::inode(ip),
                         vexfs::fs::to_time(now))
      .to_c();
}

int vx_unlink(vx_inode *dir, const char *name, size_t len, vx_bool rmdir, const vx_time *now) {
  auto &d = vexfs::fs::inode(dir);
  Bytes b = vexfs::fs::bytes(name, len);
  auto t = vexfs::fs::to_time(now);
  return (rmdir ? vexfs::fs::rmdir(d, b, t) : vexfs::fs::unlink(d, b, t)).to_c();
}

int vx_rename(vx_inode *odir, const char *oname, size_t olen, vx_inode *ndir, const char *nname, size_t nlen,
              unsigned flags, const vx_attr *whiteout_init, const vx_time *now) {
  vexfs::fs::NewInode white;
  if (whiteout_init) white = vexfs::fs::to_new(whiteout_init);
  return vexfs::fs::rename(vexfs::fs::inode(odir), vexfs::fs::bytes(oname, olen), vexfs::fs::inode(ndir),
                           vexfs::fs::bytes(nname, nlen), flags, whiteout_init ? &white : nullptr,
                           vexfs::fs::to_time(now))
      .to_c();
}

int vx_readdir(vx_inode *dir, vx_u64 *pos, vx_bool (*emit)(void *, const char *, size_t, vx_u64, unsigned, vx_u64),
               void *ctx) {
  auto each = [&](const vexfs::fs::DirEntry &e) {
    return emit(ctx, vexfs::fs::chars(e.name), e.name.size(), e.ino, e.type, e.cookie);
  };
  return vexfs::fs::readdir(vexfs::fs::inode(dir), *pos, each).to_c();
}

int vx_readlink(vx_inode *ip, char *buf, size_t cap, size_t *len) {
  auto r = vexfs::fs::readlink(vexfs::fs::inode(ip), {reinterpret_cast<vexfs::u8 *>(buf), cap});
  if (!r.ok()) return r.error().negative();
  *len = *r;
  return 0;
}

int vx_get_parent(vx_inode *dir, vx_u64 *ino) {
  auto &d = vexfs::fs::inode(dir);
  if (!d.is_dir()) return vexfs::Error(Errno::notdir).negative();
  *ino = d.attributes().parent;
  return 0;
}

// ------------------------------------------------------------------- xattrs
int vx_xattr_get(vx_inode *ip, const char *name, size_t nlen, void *buf, size_t size, size_t *len) {
  auto r =
      vexfs::fs::xattr_get(vexfs::fs::inode(ip), vexfs::fs::bytes(name, nlen), {static_cast<vexfs::u8 *>(buf), size});
  if (!r.ok()) return r.error().negative();
  *len = *r;
  return 0;
}

int vx_xattr_set(vx_inode *ip, const char *name, size_t nlen, const void *v, size_t vlen, unsigned flags,
                 const vx_time *now) {
  return vexfs::fs::xattr_set(vexfs::fs::inode(ip), vexfs::fs::bytes(name, nlen), vexfs::fs::bytes(v, vlen), flags,
                              vexfs::fs::to_time(now))
      .to_c();
}

int vx_xattr_remove(vx_inode *ip, const char *name, size_t nlen, const vx_time *now) {
  return vexfs::fs::xattr_remove(vexfs::fs::inode(ip), vexfs::fs::bytes(name, nlen), vexfs::fs::to_time(now)).to_c();
}

int vx_xattr_list(vx_inode *ip, vx_bool (*emit)(void *, const char *, size_t), void *ctx) {
  auto each = [&](Bytes name) { return emit(ctx, vexfs::fs::chars(name), name.size()); };
  return vexfs::fs::xattr_list(vexfs::fs::inode(ip), each).to_c();
}

}  // extern "C"
