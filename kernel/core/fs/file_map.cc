// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Looking up mappings, and reserving space for delayed allocation.
#include "file_map.h"

#include "filesystem.h"
#include "sums.h"

namespace vexfs::fs {
namespace file_map_impl {
namespace {

u64 max_blocks(const Filesystem &fs) { return disk::kFileSizeMax >> fs.block_shift(); }

// Blocks that off .. off+len touches: first and end. inval, fbig.
Status blocks_of(const Filesystem &fs, u64 off, u64 len, u64 &first, u64 &end) {
  if (len == 0) return Errno::inval;
  if (off >= disk::kFileSizeMax || len > disk::kFileSizeMax - off) return Errno::fbig;
  first = off >> fs.block_shift();
  end = div_up<u64>(off + len, fs.block_size());
  return {};
}

void fill(const Filesystem &fs, MapOut &out, u64 first, u64 end, u64 disk, u32 type, u32 flags) {
  out.off = first << fs.block_shift();
  out.len = (end - first) << fs.block_shift();
  out.disk = disk << fs.block_shift();
  out.type = type;
  out.flags = flags;
}

// The holes of a range, as delayed ranges not yet in the overlay.
struct Holes : Pinned {
  ~Holes() {
    while (MapRange *r = list.pop_front()) vx_free(r);
  }
  Status add(u64 first, u64 count, bool cow) {
    MapRange *r = Spares::make();
    if (!r) return Errno::nomem;
    r->first = first;
    r->count = count;
    r->cow = cow;
    list.push_back(*r);
    blocks += count;
    return {};
  }
  List<MapRange, &MapRange::ghost_hook> list;
  u64 blocks = 0;
};

// Collects what is neither in the overlay nor mapped to blocks that may be overwritten. An inline file has no mappings.
Status find_holes(Inode &ip, u64 first, u64 end, Holes &holes) {
  MapRange *r = ip.overlay.find(first);
  for (u64 at = first; at < end;) {
    if (r && r->first <= at) {
      at = r->end();
      r = ip.overlay.next(*r);
      continue;
    }
    u64 stop = r ? min_of(end, r->first) : end;
    u64 hole = stop, skip = stop;
    bool kept = false;
    if (!ip.is_inline()) {
      auto e = find_extent(ip, at);
      if (!e.ok() && e.code() != Errno::noent) return e.error();
      if (e.ok() && e->first < stop) {
        hole = max_of(at, e->first);
        skip = min_of(stop, e->end());
        kept = write_moves(ip, *e);
      }
    }
    if (hole > at) VX_TRY(holes.add(at, hole - at, false));
    if (kept) VX_TRY(holes.add(hole, skip - hole, true));
    at = skip;
  }
  return {};
}

// What an extent, or the lack of one, says about `block`; the piece ends at `stop` at the latest.
Status map_extent(Inode &ip, u64 block, u64 stop, u32 hole_type, MapOut &out) {
  Filesystem &fs = ip.filesystem();
  auto e = find_extent(ip, block);
  if (!e.ok() && e.code() != Errno::noent) return e.error();
  if (e.ok() && e->first <= block)
    fill(fs, out, block, min_of(stop, e->end()), e->disk + (block - e->first),
         e->unwritten ? VX_MAP_UNWRITTEN : VX_MAP_MAPPED,
         (write_moves(ip, *e) ? VX_MAP_F_KEPT : 0) | (e->summed ? VX_MAP_F_SUMMED : 0) |
             (e->shared ? VX_MAP_F_SHARED : 0));
  else
    fill(fs, out, block, e.ok() ? min_of(stop, e->first) : stop, 0, hole_type, 0);
  return {};
}

}  // namespace
}  // namespace file_map_impl

Status map_locked(Inode &ip, u64 block, MapOut &out) {
  using file_map_impl::fill;
  Filesystem &fs = ip.filesystem();
  if (ip.is_inline()) {
    fill(fs, out, 0, max_of<u64>(1, div_up<u64>(ip.size(), fs.block_size())), 0, VX_MAP_INLINE, 0);
    return {};
  }
  MapRange *r = ip.overlay.find(block);
  if (r && r->first <= block) {
    if (r->cow) return file_map_impl::map_extent(ip, block, r->end(), VX_MAP_DELALLOC, out);
    if (r->state == RangeState::inflight)  // its contents are not on the device yet: it reads as zeroes from there
      fill(fs, out, block, r->end(), r->disk + (block - r->first), VX_MAP_UNWRITTEN, VX_MAP_F_INFLIGHT);
    else
      fill(fs, out, block, r->end(), 0, VX_MAP_DELALLOC, 0);
    return {};
  }
  return file_map_impl::map_extent(ip, block, r ? r->first : file_map_impl::max_blocks(fs), VX_MAP_HOLE, out);
}

Status map(Inode &ip, u64 off, u64 len, MapOut &out) {
  if (!ip.is_file()) return Errno::inval;
  Timed t(ip.filesystem().stats(), Op::map);
  u64 first, end;
  VX_TRY(file_map_impl::blocks_of(ip.filesystem(), off, len, first, end));
  SharedGuard g(ip.data_lock);
  if (ip.is_inline() && first >= max_of<u64>(1, div_up<u64>(ip.size(), ip.filesystem().block_size()))) {
    file_map_impl::fill(ip.filesystem(), out, first, end, 0, VX_MAP_HOLE, 0);
    return {};
  }
  return map_locked(ip, first, out);
}

Status map_sums(Inode &ip, u64 off, u64 len, std::span<vx_sum> sums, MapOut &out) {
  Filesystem &fs = ip.filesystem();
  if (!ip.is_file() || sums.empty()) return Errno::inval;
  Timed t(fs.stats(), Op::map);
  u64 first, end;
  VX_TRY(file_map_impl::blocks_of(fs, off, len, first, end));
  SharedGuard g(ip.data_lock);
  if (ip.is_inline() && first > 0) {
    file_map_impl::fill(fs, out, first, min_of(end, first + sums.size()), 0, VX_MAP_HOLE, 0);
    return {};
  }
  VX_TRY(map_locked(ip, first, out));
  u64 n = min_of(min_of<u64>(out.len >> fs.block_shift(), end - first), sums.size());
  out.len = n << fs.block_shift();
  if (out.type != VX_MAP_MAPPED) return {};
  if (out.flags & VX_MAP_F_SUMMED) return read_sums(ip, first, n, sums);
  for (u64 i = 0; i < n; i++) sums[i] = VX_SUM_NONE;
  return {};
}

Status map_reserve(Inode &ip, u64 off, u64 len, MapOut &out) {
  Filesystem &fs = ip.filesystem();
  if (!ip.is_file()) return Errno::inval;
  if (fs.volume().read_only()) return Errno::rofs;
  Timed t(fs.stats(), Op::reserve);
  u64 first, end;
  VX_TRY(file_map_impl::blocks_of(fs, off, len, first, end));
  Guard g(ip.data_lock);
  file_map_impl::Holes holes;
  VX_TRY(file_map_impl::find_holes(ip, first, end, holes));
  // What a reader of the map will find must be known before anything is promised.
  MapOut old;
  bool fresh = !holes.list.empty() && holes.list.front()->first == first && !holes.list.front()->cow;
  if (ip.is_inline() || !fresh) {
    VX_TRY(map_locked(ip, first, old));
    if (!holes.list.empty() && !ip.is_inline()) {  // the answer must not reach over what is reserved only now
      u64 next = holes.list.front()->first == first ? holes.list.front()->end() : holes.list.front()->first;
      old.len = min_of(old.len, (next << fs.block_shift()) - old.off);
    }
  } else {
    old.type = VX_MAP_HOLE;
  }
  if (holes.blocks) VX_TRY(fs.volume().reserve_blocks(holes.blocks));
  while (MapRange *r = holes.list.pop_front()) ip.overlay.add_delayed(r);
  ip.bump_version();
  if (old.type != VX_MAP_HOLE) {
    out = old;
    return {};
  }
  MapRange *r = ip.overlay.find(first);
  file_map_impl::fill(fs, out, first, r->end(), 0, VX_MAP_DELALLOC, 0);
  return {};
}

void map_unreserve(Inode &ip, u64 off, u64 len) {
  Filesystem &fs = ip.filesystem();
  u64 first, end;
  if (!ip.is_file() || !file_map_impl::blocks_of(fs, off, len, first, end).ok()) return;
  Guard g(ip.data_lock);
  Spares spares;
  // Without memory the promise stays until it is used, truncated or the inode goes: nothing is lost but space.
  if (!spares.fill(ip.overlay.splits_needed(first, end - first)).ok()) return;
  ip.overlay.split(first, end - first, spares);
  MapRange *next;
  for (MapRange *r = ip.overlay.find(first); r && r->first < end; r = next) {
    next = ip.overlay.next(*r);
    if (r->state == RangeState::inflight) continue;
    ip.overlay.remove(*r);
    if (r->state == RangeState::delayed)
      fs.volume().unreserve_blocks(r->count);
    else
      fs.volume().cancel({r->disk, r->count});
    spares.give(r);
  }
}

}  // namespace vexfs::fs
