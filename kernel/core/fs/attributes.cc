// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Conversion of attributes from and to the INODE item.
#include "attributes.h"

namespace vexfs::fs {
namespace attributes_impl {
namespace {

Time decode_time(const disk::DiskTime &t) { return {static_cast<s64>(t.sec.get()), t.nsec.get()}; }

void encode_time(const Time &t, disk::DiskTime &out) {
  out.sec = static_cast<u64>(t.sec);
  out.nsec = t.nsec;
}

}  // namespace
}  // namespace attributes_impl

void decode(const disk::DiskInode &d, Attributes &out) {
  using attributes_impl::decode_time;
  out.mode = d.mode;
  out.uid = d.uid;
  out.gid = d.gid;
  out.nlink = d.nlink;
  out.generation = d.generation;
  out.flags = static_cast<u32>(d.flags.get());
  out.xattrs = d.xattrs;
  out.size = d.size;
  out.blocks = d.blocks;
  out.rdev = d.rdev;
  out.version = d.version;
  out.parent = d.parent;
  out.entries = d.entries;
  out.birth = d.birth;
  out.atime = decode_time(d.atime);
  out.mtime = decode_time(d.mtime);
  out.ctime = decode_time(d.ctime);
  out.btime = decode_time(d.btime);
}

void encode(const Attributes &a, disk::DiskInode &out) {
  using attributes_impl::encode_time;
  out.mode = a.mode;
  out.uid = a.uid;
  out.gid = a.gid;
  out.nlink = a.nlink;
  out.size = a.size;
  out.blocks = a.blocks;
  out.rdev = a.rdev;
  out.version = a.version;
  out.parent = a.parent;
  out.flags = a.flags;
  out.generation = a.generation;
  out.xattrs = a.xattrs;
  encode_time(a.atime, out.atime);
  encode_time(a.mtime, out.mtime);
  encode_time(a.ctime, out.ctime);
  encode_time(a.btime, out.btime);
  out.entries = a.entries;
  out.birth = a.birth;
  out.project = 0;
  out.encryption = out.checksum = out.compression = out.layout = 0;
  for (u8 &b : out.reserved) b = 0;
}

}  // namespace vexfs::fs
