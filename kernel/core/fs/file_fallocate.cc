// SPDX-License-Identifier: GPL-2.0-only OR MIT
// fallocate: allocation of unwritten extents, punching holes, zeroing ranges.
#include "erase.h"
#include "file_map.h"
#include "filesystem.h"
#include "sums.h"

namespace vexfs::fs {
namespace file_fallocate_impl {
namespace {

// Blocks of first .. end that are neither mapped nor promised; calls fn for each run of them. fn may map it.
Status each_hole(Inode &ip, u64 first, u64 end, FnRef<Status(u64 at, u64 count)> fn) {
  for (u64 at = first; at < end;) {
    MapRange *r = ip.overlay.find(at);
    if (r && r->first <= at) {
      at = r->end();
      continue;
    }
    u64 stop = r ? min_of(end, r->first) : end;
    auto e = find_extent(ip, at);
    if (!e.ok() && e.code() != Errno::noent) return e.error();
    if (e.ok() && e->first <= at) {
      at = e->end();
      continue;
    }
    if (e.ok()) stop = min_of(stop, e->first);
    VX_TRY(fn(at, stop - at));
    at = stop;
    vx_yield();
  }
  return {};
}

// Fills one hole with unwritten extents out of a reservation; *used says how much of it was used up.
Status fill_hole(Inode &ip, u64 at, u64 count, u64 &used) {
  Filesystem &fs = ip.filesystem();
  while (count) {
    auto run = VX_TRY(alloc_run(ip, at, min_of<u64>(count, 1u << 20), true));
    used += run.count;
    auto begun = fs.volume().begin({.items = kPutExtentItems + 1, .freeing = true});
    if (!begun.ok()) {
      fs.volume().cancel(run);
      return begun.error();
    }
    store::Handle h = begun.take();
    fs.volume().publish(h, run);
    VX_TRY(put_extent(h, ip, {at, run.count, run.start, h.txn(), true}));
    VX_TRY(must(h, ip.change(h, [&run](Attributes &a) -> Status {
      a.blocks += run.count;
      return {};
    })));
    at += run.count;
    count -= run.count;
  }
  return {};
}

// All holes of the range get unwritten extents. Says nospc before anything is done.
Status fill_holes(Inode &ip, u64 first, u64 end) {
  Filesystem &fs = ip.filesystem();
  u64 need = 0, used = 0;
  VX_TRY(each_hole(ip, first, end, [&need](u64, u64 count) -> Status {
    need += count;
    return {};
  }));
  if (need == 0) return {};
  VX_TRY(fs.volume().reserve_blocks(need));
  Status st = each_hole(ip, first, end, [&](u64 at, u64 count) { return fill_hole(ip, at, count, used); });
  if (used < need) fs.volume().unreserve_blocks(need - used);
  return st;
}

// The checksums of what was punched: in the way of nobody, but nobody will ask for them again.
Status forget_sums(Inode &ip, u64 first, u64 end) {
  for (bool more = true; more;) {
    auto h = VX_TRY(ip.filesystem().volume().begin({.items = kErasePiece, .freeing = true}));
    more = VX_TRY(erase_sums(h, ip, first, end));
  }
  return {};
}

}  // namespace
}  // namespace file_fallocate_impl

// Some extents in each transaction, or (a part of) one that is shared.
Status punch_locked(Inode &ip, u64 first, u64 end, FnRef<void(Attributes &, u64 upto)> also) {
  Filesystem &fs = ip.filesystem();
  for (;;) {
    auto e = find_extent(ip, first);
    if (e.code() == Errno::noent || (e.ok() && e->first >= end))
      return file_fallocate_impl::forget_sums(ip, first, end);
    if (!e.ok()) return e.error();
    constexpr u32 kItems = max_of(8 * kDropExtentItems, kDropSharedItems) + 1;
    auto h = VX_TRY(fs.volume().begin({.items = kItems, .freeing = true}));
    u64 freed = 0, upto = first;
    for (u32 i = 0; i < 8; i++) {
      if (i) {
        auto next = find_extent(ip, upto);
        if (!next.ok() && next.code() != Errno::noent) return must(h, next.error());
        upto = next.ok() ? min_of(end, next->first) : end;
        if (upto == end || next->shared) break;
        *e = *next;
      }
      u64 from = max_of(e->first, first);
      upto = VX_TRY(drop_extent(h, ip, *e, first, end));
      freed += upto - from;
      if (e->shared) break;
    }
    VX_TRY(must(h, ip.change(h, [&](Attributes &a) -> Status {
      a.blocks -= min_of(a.blocks, freed);
      also(a, upto);
      return {};
    })));
    h.end();
    vx_yield();
  }
}

namespace file_fallocate_impl {
namespace {

// Every written mapping in the range becomes unwritten; one whose blocks must not be written over becomes a hole, for what
// is unwritten is written in place, and a crash before the next commit would bring the mapping back.
Status unwrite(Inode &ip, u64 first, u64 end) {
  Filesystem &fs = ip.filesystem();
  for (u64 at = first; at < end;) {
    auto e = find_extent(ip, at);
    if (e.code() == Errno::noent || (e.ok() && e->first >= end)) return {};
    if (!e.ok()) return e.error();
    at = min_of(end, e->end());
    if (e->unwritten) continue;
    constexpr u32 kItems = max_of(kConvertExtentItems, kDropSharedItems) + 1;
    auto h = VX_TRY(fs.volume().begin({.items = kItems, .freeing = true}));
    if (write_moves(ip, *e)) {
      u64 from = max_of(first, e->first);
      at = VX_TRY(drop_extent(h, ip, *e, from, end));
      u64 freed = at - from;
      VX_TRY(must(h, ip.change(h, [freed](Attributes &a) -> Status {
        a.blocks -= min_of(a.blocks, freed);
        return {};
      })));
    } else {
      VX_TRY(convert_extent(h, ip, *e, first, end, Become::unwritten));
    }
    h.end();
    vx_yield();
  }
  return {};
}

}  // namespace
}  // namespace file_fallocate_impl

Status fallocate(Inode &ip, u32 mode, u64 off, u64 len, u64 new_size, Time now) {
  using namespace file_fallocate_impl;  // NOLINT: of this file
  Filesystem &fs = ip.filesystem();
  u64 bs = fs.block_size();
  bool keep = mode & VX_FALLOC_KEEP_SIZE, punching = mode & VX_FALLOC_PUNCH, zeroing = mode & VX_FALLOC_ZERO;
  if (!ip.is_file() || len == 0) return Errno::inval;
  if (mode & ~u32{VX_FALLOC_KEEP_SIZE | VX_FALLOC_PUNCH | VX_FALLOC_ZERO}) return Errno::opnotsupp;
  if (punching && zeroing) return Errno::opnotsupp;
  if (off >= disk::kFileSizeMax || len > disk::kFileSizeMax - off || new_size > disk::kFileSizeMax) return Errno::fbig;
  if ((punching || zeroing) && (off % bs || len % bs)) return Errno::inval;
  if (fs.volume().read_only()) return Errno::rofs;
  Timed t(fs.stats(), Op::fallocate);
  u64 first = off / bs, end = div_up(off + len, bs);
  Guard g(ip.data_lock);
  VX_TRY(uninline_locked(ip));
  if (punching || zeroing) VX_TRY(drop_overlay(ip, first, end));
  if (punching) VX_TRY(punch_locked(ip, first, end, [](Attributes &, u64) {}));
  if (zeroing) VX_TRY(unwrite(ip, first, end));
  if (!punching) VX_TRY(fill_holes(ip, first, end));
  bool grow = !keep && !punching && new_size > ip.size();
  {
    auto h = VX_TRY(fs.volume().begin({.items = 1, .freeing = true}));
    if (grow) fs.volume().data_written();  // the zeros behind the old end
    VX_TRY(ip.change(h, [&](Attributes &a) -> Status {
      a.ctime = now;
      if (punching || zeroing || grow) a.mtime = now;
      if (grow) a.size = new_size;
      return {};
    }));
  }
  if (punching || zeroing || grow) ip.bump_version();
  return {};
}

}  // namespace vexfs::fs
