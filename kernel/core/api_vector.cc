// SPDX-License-Identifier: GPL-2.0-only OR MIT
// api.h: commands on vectors.
#include "api_internal.h"
#include "vector/ioctl.h"

extern "C" int vx_ioctl(vx_fs *fs, vx_inode *ip, vx_u32 cmd, vx_u64 uarg, vx_caller *c) {
  if ((cmd >> 8 & 0xff) != VEXFS_IOC) return vexfs::Error(vexfs::Errno::notty).negative();
  return vexfs::vector::dispatch(*fs->engine, *static_cast<vexfs::fs::Inode *>(ip), cmd, uarg, *c);
}
