// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Between the C types of api.h and those of the core.
#pragma once
#include "namespace.h"

namespace vexfs::fs {

inline Inode &inode(vx_inode *ip) { return *static_cast<Inode *>(ip); }
inline const Inode &inode(const vx_inode *ip) { return *static_cast<const Inode *>(ip); }
inline Bytes bytes(const void *p, usize n) { return {static_cast<const u8 *>(p), n}; }
inline const char *chars(Bytes b) { return reinterpret_cast<const char *>(b.data()); }

inline Time to_time(const vx_time *t) { return {t->sec, t->nsec < 1000000000 ? t->nsec : 999999999}; }
inline vx_time from_time(const Time &t) { return {t.sec, t.nsec, 0}; }

inline NewInode to_new(const vx_attr *init) {
  NewInode n;
  n.mode = init->mode;
  n.uid = init->uid;
  n.gid = init->gid;
  n.rdev = init->rdev;
  n.flags = init->flags;
  return n;
}

// Hands an inode with its reference to the host.
inline int give(Result<InodeRef> r, vx_inode **out) {
  if (!r.ok()) return r.error().negative();
  *out = r->release();
  return 0;
}

}  // namespace vexfs::fs
