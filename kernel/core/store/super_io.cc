// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Finding and reading superblocks and root slots.
#include "super_io.h"

namespace vexfs::store {

Status device_read(vx_bdev *dev, u64 off, MutBytes out, bool meta) {
  u64 size = vx_bdev_size(dev);
  if (off > size || out.size() > size - off) return Errno::io;
  vx_io io = {};
  io.off = off;
  io.len = out.size();
  io.buf = out.data();
  io.flags = meta ? static_cast<u32>(VX_IO_META) : 0;  // VX_IO_READ is 0
  int e = vx_bdev_submit(dev, &io, 1);
  return e ? Status(static_cast<Errno>(-e)) : Status();
}

Status device_write(vx_bdev *dev, u64 off, Bytes in, u32 flags) {
  u64 size = vx_bdev_size(dev);
  if (off > size || in.size() > size - off) return Errno::io;
  vx_io io = {};
  io.off = off;
  io.len = in.size();
  io.buf = const_cast<u8 *>(in.data());
  io.flags = VX_IO_WRITE | flags;
  int e = vx_bdev_submit(dev, &io, 1);
  return e ? Status(static_cast<Errno>(-e)) : Status();
}

namespace super_io_impl {
namespace {

struct SuperBuffer : Pinned {
  disk::SuperDisk *p = static_cast<disk::SuperDisk *>(vx_alloc_large(sizeof(disk::SuperDisk), 0));
  ~SuperBuffer() { vx_free_large(p, sizeof(disk::SuperDisk)); }
};

Status read_super(vx_bdev *dev, u64 at, disk::SuperDisk *buf, disk::Geometry *geo, disk::Refusal *why) {
  VX_TRY(device_read(dev, at, mut_bytes_of(*buf), true));
  *why = disk::verify_super(*buf, at, vx_bdev_size(dev), geo);
  return why->ok() ? Status() : Status(Errno::corrupt);
}

}  // namespace
}  // namespace super_io_impl

// Backups lie at the start of groups 1, 3, 9 ... and in the last bytes of the filesystem. Without the primary neither
// block size nor group size is known, so the end of the device is tried for every block size, and then the places that
// follow from the usual group size of each.
Result<SuperFound> find_super(vx_bdev *dev) {
  using namespace super_io_impl;
  u64 size = vx_bdev_size(dev);
  if (size < disk::kSuperOffset + disk::kSuperBytes) return Errno::inval;
  SuperBuffer b;
  if (!b.p) return Errno::nomem;
  SuperFound f;
  f.super = VX_TRY(Box<disk::SuperDisk>::make());
  Status first = read_super(dev, disk::kSuperOffset, b.p, &f.geo, &f.primary);
  Status st = first;
  for (u32 bs = disk::kMinBlock; !st.ok() && bs <= disk::kMaxBlock; bs *= 2) {
    disk::Refusal why;
    f.at = align_down<u64>(size, bs) - disk::kSuperBytes;
    st = read_super(dev, f.at, b.p, &f.geo, &why);
    f.at = u64{disk::bits_per_bitmap(bs)} * bs;
    if (!st.ok() && f.at + disk::kSuperBytes <= size) st = read_super(dev, f.at, b.p, &f.geo, &why);
    if (!st.ok()) {
      f.at = disk::kSuperOffset;
    } else {
      f.at = b.p->self;
    }
  }
  if (!st.ok()) {
    if (first.code() == Errno::corrupt && f.primary.cause == disk::Cause::bad_magic) return Errno::inval;
    return first.error();
  }
  memcpy(f.super.get(), b.p, sizeof *b.p);
  return f;
}

Status read_root(vx_bdev *dev, const disk::Geometry &g, unsigned slot, unsigned mirror, MutBytes buf,
                 disk::Refusal *why) {
  u64 at = mirror ? g.root_mirror[slot] : g.root_slot[slot];
  VX_TRY(device_read(dev, at << g.block_shift, buf, true));
  *why = disk::verify_root(buf, g, slot, mirror);
  return why->ok() ? Status() : Status(Errno::corrupt);
}

Status copy_root(vx_bdev *dev, const disk::Geometry &g, MutBytes from, unsigned mirror) {
  auto *r = reinterpret_cast<disk::RootDisk *>(from.data());
  const u64 at = mirror ? g.root_mirror[r->slot] : g.root_slot[r->slot];
  r->mirror = static_cast<u8>(mirror);
  disk::seal_block(from, disk::Magic::root, g.fs_hash, at, r->header.txn);
  return device_write(dev, at << g.block_shift, from, VX_IO_META | VX_IO_FUA);
}

Result<RootFound> newest_root(vx_bdev *dev, const disk::Geometry &g, MutBytes buf,
                              FnRef<void(unsigned, unsigned, Errno, const disk::Refusal &)> told) {
  RootFound best;
  u64 txn[2][2] = {};  // by slot and copy; 0: not usable
  Errno err = Errno::corrupt;
  for (unsigned slot = 0; slot < 2; slot++) {
    for (unsigned mirror = 0; mirror < 2; mirror++) {
      disk::Refusal why;
      Status st = read_root(dev, g, slot, mirror, buf, &why);
      if (!st.ok()) {
        told(slot, mirror, st.code(), why);
        if (st.code() != Errno::corrupt) err = st.code();
        continue;
      }
      txn[slot][mirror] = reinterpret_cast<const disk::RootDisk *>(buf.data())->header.txn;
      if (txn[slot][mirror] > best.txn) best = {.slot = slot, .mirror = mirror, .txn = txn[slot][mirror]};
    }
  }
  if (best.txn == 0) return err;
  const u64(&other)[2] = txn[1 - best.slot];
  for (unsigned i = 0; i < 4; i++) best.bad[i / 2][i % 2] = txn[i / 2][i % 2] == 0;
  if (other[1] == 0) best.newer = other[0] ? NewerRoot::possible : NewerRoot::likely;
  disk::Refusal why;
  VX_TRY(read_root(dev, g, best.slot, best.mirror, buf, &why));
  return best;
}

}  // namespace vexfs::store
