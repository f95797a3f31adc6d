// SPDX-License-Identifier: GPL-2.0-only OR MIT
// mkfs: geometry from options and device size, and writing the empty filesystem.
#include "format.h"

#include "../disk/group.h"
#include "../disk/node.h"
#include "super_io.h"

namespace vexfs::store {

namespace format_impl {
namespace {

using disk::Geometry;
using disk::SuperDisk;

// Group size: the largest that one bitmap block describes, or a quarter of a small device; then smaller until the last
// group is either complete enough to hold its fixed structures or empty.
u32 choose_group(const FormatOptions &o, u64 total) {
  u32 most = disk::bits_per_bitmap(o.block_size);
  if (o.group_blocks) return o.group_blocks;
  u64 want = align_up<u64>(div_up<u64>(total, 4), 512);
  return static_cast<u32>(min_of<u64>(max_of<u64>(want, min_of<u32>(most, 4096)), most));
}

struct Fields {
  u64 groups = 0, desc_count = 0;
  u32 root_blocks = 0;
  u64 boot = 0, head = 0, tail = 0;
};

Fields derive(u32 block_size, u64 total, u32 group_blocks) {
  Fields f;
  f.groups = div_up<u64>(total, group_blocks);
  f.desc_count = div_up<u64>(f.groups, disk::descriptors_per_block(block_size));
  f.root_blocks = static_cast<u32>(div_up<u64>(disk::root_bytes(f.desc_count), block_size));
  f.boot = div_up<u64>(disk::kBootBytes, block_size);
  f.head = f.boot + 2 * u64{f.root_blocks} + 2 * f.desc_count;
  f.tail = 2 * u64{f.root_blocks} + (block_size >= disk::kSuperBytes ? 1 : disk::kSuperBytes / block_size);
  return f;
}

bool last_group_fits(u32 block_size, u64 total, u32 group, const Fields &f) {
  u64 last = total - (f.groups - 1) * group;
  u64 front = f.groups == 1 ? f.head + 2 : 2 + disk::kSuperBytes / min_of(block_size, disk::kSuperBytes);
  return last >= front + f.tail + (f.groups == 1 ? 0 : 8);
}

Status fill_super(const FormatOptions &o, u64 device_bytes, SuperDisk *s, Geometry *geo) {
  u32 bs = o.block_size;
  if (!is_pow2(bs) || bs < disk::kMinBlock || bs > disk::kMaxBlock) return Errno::inval;
  u32 ns = o.node_size ? o.node_size : max_of<u32>(16384, bs);
  if (!is_pow2(ns) || ns < bs || ns > disk::kMaxNode) return Errno::inval;
  u64 total = o.total_blocks ? o.total_blocks : device_bytes / bs;
  if (total > device_bytes / bs) return Errno::inval;
  if (total * bs < kMinFormatBytes) return Errno::nospc;
  u32 group = choose_group(o, total);
  if (group == 0 || group % 64 || group > disk::bits_per_bitmap(bs)) return Errno::inval;
  Fields f = derive(bs, total, group);
  while (!o.group_blocks && !last_group_fits(bs, total, group, f) && group > 1024) {
    group -= 64;
    f = derive(bs, total, group);
  }
  if (!last_group_fits(bs, total, group, f)) {
    // The few blocks of a last group that cannot hold its own bitmaps are left out.
    total = (f.groups - 1) * group;
    if (f.groups < 2) return Errno::nospc;
    f = derive(bs, total, group);
  }
  if (f.head + 2 > group) return Errno::inval;
  memcpy(s->magic, disk::kSuperMagic, sizeof s->magic);
  s->bytes = disk::kSuperBytes;
  s->compat = o.feature_compat;
  s->ro_compat = o.feature_ro_compat;
  s->incompat = o.feature_incompat;
  s->total_blocks = total;
  s->block_size = bs;
  s->node_size = ns;
  s->group_blocks = group;
  s->groups = f.groups;
  s->desc_count = f.desc_count;
  s->root_blocks = f.root_blocks;
  s->desc_start = f.boot + 2 * u64{f.root_blocks};
  for (u32 i = 0; i < 2; i++) {
    s->root_slot[i] = f.boot + i * u64{f.root_blocks};
    s->root_mirror[i] = total - f.tail + i * u64{f.root_blocks};
  }
  s->checksum_kind = 1;
  s->incompat = s->incompat | disk::kIncompatSnapshots | disk::kIncompatReflink | disk::kIncompatDataSums;
  if (o.node_copies > 2) return Errno::inval;
  if (o.node_copies == 2 || (o.node_copies == 0 && total * bs >= kMirrorBytes))
    s->incompat = s->incompat | disk::kIncompatMirroredNodes;
  s->version_major = disk::kVersionMajor;
  s->version_minor = disk::kVersionMinor;
  disk::seal_super(*s, disk::kSuperOffset);
  disk::Refusal r = disk::verify_super(*s, disk::kSuperOffset, device_bytes, geo);
  return r.ok() ? Status() : Status(r.cause == disk::Cause::bad_field ? Errno::nospc : Errno::inval);
}

// The log goes to the first group with room behind its fixed structures, at most one group large.
Status place_log(const FormatOptions &o, SuperDisk *s, Geometry *geo) {
  u64 bytes = geo->total_blocks << geo->block_shift;
  u64 n = o.log_blocks;
  if (n == ~u64{0}) {
    u64 def = min_of<u64>(bytes / 64, u64{32} << 20);
    n = bytes < (u64{16} << 20) ? 0 : def >> geo->block_shift;
    n = min_of<u64>(n, geo->group_blocks / 2);
  }
  if (n == 0) return {};
  for (u64 g = 0; g < geo->groups; g++) {
    u64 start = geo->group_start(g) + geo->group_front(g);
    u64 end = geo->group_start(g) + geo->group_len(g);
    if (g + 1 == geo->groups) end = geo->tail_start();
    start = align_up<u64>(start, geo->node_blocks);
    if (start >= end || end - start < n) continue;
    s->log_start = start;
    s->log_blocks = n;
    if (n << geo->block_shift >= disk::kLogBytesMin) s->incompat = s->incompat | disk::kIncompatLog;
    geo->log_start = start;
    geo->log_blocks = n;
    return {};
  }
  return Errno::nospc;
}

void describe(const Geometry &g, const SuperDisk &s, Layout *l) {
  memcpy(l->uuid, s.uuid, sizeof l->uuid);
  l->block_size = g.block_size;
  l->node_size = g.node_size;
  l->node_copies = g.mirrored ? 2 : 1;
  l->total_blocks = g.total_blocks;
  l->group_blocks = g.group_blocks;
  l->groups = g.groups;
  l->boot_blocks = div_up<u64>(disk::kBootBytes, g.block_size);
  l->root_blocks = 4 * u64{g.root_blocks};
  l->descriptor_blocks = 2 * g.desc_count;
  l->bitmap_blocks = 2 * g.groups;
  l->backup_blocks = g.super_blocks();
  for (u64 b = 1; b < g.groups; b *= 3) l->backup_blocks += g.super_blocks();
  l->log_start = g.log_start;
  l->log_blocks = g.log_blocks;
  l->meta_blocks =
      l->boot_blocks + l->root_blocks + l->descriptor_blocks + l->bitmap_blocks + l->backup_blocks + l->log_blocks;
  l->free_blocks = g.total_blocks - l->meta_blocks;
  l->max_item = g.max_item();
}

// One buffer for everything that is written, zeroed for each piece.
class Out : Pinned {
 public:
  Out(vx_bdev *dev, const Geometry &g)
      : dev_(dev), g_(g), cap_(max_of<usize>(disk::kBootBytes, usize{g.root_blocks} * g.block_size)) {
    buf_ = static_cast<u8 *>(vx_alloc_large(cap_, VX_ALLOC_ZERO));
  }
  ~Out() {
    if (buf_) vx_free_large(buf_, cap_);
  }
  bool ok() const { return buf_ != nullptr; }
  u8 *blank(usize n) {
    VX_ASSERT(n <= cap_);
    memset(buf_, 0, n);
    return buf_;
  }
  Status at_byte(u64 off, usize n) { return device_write(dev_, off, {buf_, n}, VX_IO_META); }
  Status at_block(u64 block, usize n) { return at_byte(block << g_.block_shift, n); }

 private:
  vx_bdev *dev_;
  const Geometry &g_;
  usize cap_;
  u8 *buf_;
};

u32 group_free(const Geometry &g, u64 i) {
  u64 fixed = 0;
  g.for_fixed(i, [&](u64, u64 n) { fixed += n; });
  return static_cast<u32>(g.group_len(i) - fixed);
}

Status write_descriptors(const Geometry &g, Out &out) {
  u32 per = disk::descriptors_per_block(g.block_size);
  for (u64 d = 0; d < g.desc_count; d++) {
    for (u32 home = 0; home < 2; home++) {
      u8 *b = out.blank(g.block_size);
      auto *h = reinterpret_cast<disk::DescBlockDisk *>(b);
      u64 first = d * per, n = min_of<u64>(per, g.groups - first);
      h->index = d;
      h->first = first;
      h->count = static_cast<u32>(n);
      for (u64 i = 0; i < n; i++) {
        disk::desc_array(b)[i].bitmap = disk::kGroupUninit;
        disk::desc_array(b)[i].free = group_free(g, first + i);
      }
      u64 at = g.desc_start + home * g.desc_count + d;
      disk::seal_block({b, g.block_size}, disk::Magic::descriptor, g.fs_hash, at, 1);
      VX_TRY(out.at_block(at, g.block_size));
    }
  }
  return {};
}

// Transactions 1 and 2, the same contents: so both slots are valid from the start.
Status write_roots(const Geometry &g, u64 free_blocks, Out &out) {
  usize bytes = usize{g.root_blocks} * g.block_size;
  s64 sec;
  u32 nsec;
  vx_clock_real(&sec, &nsec);
  for (u64 txn = 1; txn <= 2; txn++) {
    for (u32 mirror = 0; mirror < 2; mirror++) {
      u8 *b = out.blank(bytes);
      auto *r = reinterpret_cast<disk::RootDisk *>(b);
      u32 slot = txn % 2;
      r->slot = static_cast<u8>(slot);
      r->mirror = static_cast<u8>(mirror);
      r->bytes = disk::root_bytes(g.desc_count);
      r->desc_count = g.desc_count;
      r->next_object_id = 1;
      r->free_blocks = free_blocks;
      r->commit_sec = static_cast<u64>(sec);
      r->commit_nsec = nsec;
      for (u64 i = 0; i < g.desc_count; i++) disk::root_desc(r)[i] = 1;
      u64 at = mirror ? g.root_mirror[slot] : g.root_slot[slot];
      disk::seal_block({b, bytes}, disk::Magic::root, g.fs_hash, at, txn);
      VX_TRY(out.at_block(at, bytes));
    }
  }
  return {};
}

Status write_supers(const Geometry &g, SuperDisk *s, Out &out) {
  auto put = [&](u64 off) -> Status {
    disk::seal_super(*s, off);
    memcpy(out.blank(disk::kSuperBytes), s, disk::kSuperBytes);
    return out.at_byte(off, disk::kSuperBytes);
  };
  for (u64 b = 1; b < g.groups; b *= 3) VX_TRY(put(g.backup_block(b) << g.block_shift));
  VX_TRY(put(g.last_backup_byte()));
  return put(disk::kSuperOffset);
}

Status flush(vx_bdev *dev) {
  int e = vx_bdev_flush(dev);
  return e ? Status(static_cast<Errno>(-e)) : Status();
}

// The superblock comes last and after a flush: a device on which mkfs was interrupted carries no filesystem.
Status write_all(vx_bdev *dev, const Geometry &g, SuperDisk *s, bool discard, u64 free_blocks) {
  Out out(dev, g);
  if (!out.ok()) return Errno::nomem;
  out.blank(disk::kBootBytes);
  VX_TRY(out.at_byte(0, disk::kBootBytes));
  VX_TRY(flush(dev));
  if (discard) (void)vx_bdev_discard(dev, 0, g.total_blocks << g.block_shift);
  out.blank(disk::kBootBytes);
  VX_TRY(out.at_byte(0, disk::kBootBytes));
  VX_TRY(write_descriptors(g, out));
  VX_TRY(write_roots(g, free_blocks, out));
  VX_TRY(flush(dev));
  VX_TRY(write_supers(g, s, out));
  return flush(dev);
}

}  // namespace
}  // namespace format_impl

Status format(vx_bdev *dev, const FormatOptions &o, Layout *layout) {
  Box<disk::SuperDisk> s = VX_TRY(Box<disk::SuperDisk>::make());
  memset(s.get(), 0, sizeof *s);
  disk::Geometry geo;
  bool given = false;
  for (u8 b : o.uuid) given = given || b;
  if (given) {
    memcpy(s->uuid, o.uuid, sizeof s->uuid);
  } else {
    vx_random_bytes(s->uuid, sizeof s->uuid);
    s->uuid[6] = static_cast<u8>((s->uuid[6] & 0x0f) | 0x40);
    s->uuid[8] = static_cast<u8>((s->uuid[8] & 0x3f) | 0x80);
  }
  usize n = 0;
  while (n < sizeof o.label && o.label[n]) n++;
  if (n >= disk::kLabelBytes) return Errno::inval;
  memcpy(s->label, o.label, n);
  vx_random_bytes(s->hash_key, sizeof s->hash_key);
  s64 sec;
  u32 nsec;
  vx_clock_real(&sec, &nsec);
  s->created_sec = static_cast<u64>(sec);
  s->created_nsec = nsec;
  memcpy(s->creator, "mkfs.vexfs 0.1.0", 16);
  if (o.block_size < vx_bdev_logical_block(dev)) return Errno::inval;
  VX_TRY(format_impl::fill_super(o, vx_bdev_size(dev), s.get(), &geo));
  VX_TRY(format_impl::place_log(o, s.get(), &geo));
  disk::seal_super(*s, disk::kSuperOffset);
  disk::Refusal r = disk::verify_super(*s, disk::kSuperOffset, vx_bdev_size(dev), &geo);
  if (!r.ok()) return Errno::inval;
  Layout l;
  format_impl::describe(geo, *s, &l);
  if (layout) *layout = l;
  if (o.dry_run) return {};
  if (vx_bdev_read_only(dev)) return Errno::rofs;
  return format_impl::write_all(dev, geo, s.get(), o.discard, l.free_blocks);
}

}  // namespace vexfs::store
