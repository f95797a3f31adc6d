// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Choosing device blocks at writeback: a delayed range is allocated as a whole, next to what the file has before it.
#include "file_map.h"
#include "filesystem.h"
#include "sums.h"

namespace vexfs::fs {
namespace file_alloc_impl {
namespace {

constexpr u64 kRunMax = 32768;  // blocks of one allocation: 128 MiB with 4 KiB blocks
constexpr u64 kRunGood = 256;   // a run this long is as good as any
// Of blocks that nobody was promised, for writeback: no more than a folio or so. What is not written is not given back soon.
constexpr u64 kUnpromisedMax = 16;

void fill(const Filesystem &fs, MapOut &out, u64 block, u64 count, u64 disk, u32 type, u32 flags) {
  out.off = block << fs.block_shift();
  out.len = count << fs.block_shift();
  out.disk = disk << fs.block_shift();
  out.type = type;
  out.flags = flags;
}

// Marks block .. block+want of the range that contains it (blocks chosen) as in flight. Needs two spares.
void hand_out(Inode &ip, u64 block, u64 want, bool direct, Spares &spares, MapOut &out) {
  MapRange *r = ip.overlay.find(block);
  u64 count = min_of(want, r->end() - block);
  ip.overlay.split(block, count, spares);
  r = ip.overlay.find(block);
  r->state = RangeState::inflight;
  r->direct = direct;
  fill(ip.filesystem(), out, block, count, r->disk, VX_MAP_MAPPED, VX_MAP_F_NEW | VX_MAP_F_INFLIGHT);
}

// The delayed range from `block` on gets blocks, as many as are found in a row.
Status allocate_delayed(Inode &ip, u64 block, Spares &spares) {
  MapRange *r = ip.overlay.find(block);
  auto run = VX_TRY(alloc_run(ip, block, min_of(r->end() - block, kRunMax), true));
  ip.overlay.split(block, run.count, spares);
  r = ip.overlay.find(block);
  VX_ASSERT(r->first == block && r->count == run.count);
  r->state = RangeState::allocated;
  r->disk = run.start;
  return {};
}

// A hole that nobody reserved, or (cow) an extent that must not be overwritten: O_DIRECT, or a page that came in by mmap before
// its reservation.
Status allocate_hole(Inode &ip, u64 block, u64 count, bool direct, bool cow, MapOut &out) {
  Spares spares;
  VX_TRY(spares.fill(1));
  auto run = VX_TRY(alloc_run(ip, block, min_of(count, direct ? kRunMax : kUnpromisedMax), false));
  MapRange *r = spares.take();
  *r = MapRange{};
  r->first = block;
  r->count = run.count;
  r->disk = run.start;
  r->state = RangeState::inflight;
  r->direct = direct;
  r->cow = cow;
  ip.overlay.insert(*r);
  fill(ip.filesystem(), out, block, run.count, run.start, VX_MAP_MAPPED, VX_MAP_F_NEW | VX_MAP_F_INFLIGHT);
  return {};
}

}  // namespace
}  // namespace file_alloc_impl

u64 goal_for(Inode &ip, u64 block) {
  if (ip.goal_disk && ip.goal_block == block) return ip.goal_disk;
  if (block > 0) {
    MapRange *r = ip.overlay.find(block - 1);
    if (r && r->end() == block && r->state != RangeState::delayed) return r->disk + r->count;
    auto e = extent_before(ip, block);
    if (e.ok()) {
      u64 goal = e->disk + (block - e->first);  // as if what lies between were there too
      return goal < ip.filesystem().volume().total_blocks() ? goal : e->disk + e->count;
    }
  }
  return ip.filesystem().alloc_goal.load(std::memory_order_relaxed);
}

Result<store::Extent> alloc_run(Inode &ip, u64 block, u64 count, bool from_reservation) {
  Filesystem &fs = ip.filesystem();
  u64 goal = goal_for(ip, block);
  u64 good = min_of(count, file_alloc_impl::kRunGood);
  auto best = fs.volume().alloc(goal, good, count, from_reservation);
  store::Extent run;
  if (best.ok())
    run = *best;
  else if (best.code() == Errno::nospc && good > 1)
    run = VX_TRY(fs.volume().alloc(goal, 1, count, from_reservation));
  else
    return best.error();
  VX_ASSERT(run.count >= 1 && run.count <= count);
  ip.goal_block = block + run.count;
  ip.goal_disk = run.end();
  fs.alloc_goal.store(run.end(), std::memory_order_relaxed);
  return run;
}

Status map_allocate(Inode &ip, u64 off, u64 len, bool direct, MapOut &out) {
  using namespace file_alloc_impl;  // NOLINT: of this file
  Filesystem &fs = ip.filesystem();
  if (!ip.is_file()) return Errno::inval;
  if (fs.volume().read_only()) return Errno::rofs;
  if (len == 0) return Errno::inval;
  if (off >= disk::kFileSizeMax || len > disk::kFileSizeMax - off) return Errno::fbig;
  Timed t(fs.stats(), Op::allocate);
  u64 block = off >> fs.block_shift(), want = div_up<u64>(off + len, fs.block_size()) - block;
  Guard g(ip.data_lock);
  if (ip.is_inline()) return Errno::busy;
  if (direct) ip.bump_version();
  MapRange *r = ip.overlay.find(block);
  if (r && r->first <= block) {
    if (r->state == RangeState::inflight) {
      fill(fs, out, block, min_of(want, r->end() - block), r->disk + (block - r->first), VX_MAP_MAPPED,
           VX_MAP_F_INFLIGHT);
      return {};
    }
    Spares spares;
    VX_TRY(spares.fill(4));
    if (r->state == RangeState::delayed) VX_TRY(allocate_delayed(ip, block, spares));
    hand_out(ip, block, want, direct, spares, out);
    return {};
  }
  u64 stop = r ? min_of(block + want, r->first) : block + want;
  auto e = find_extent(ip, block);
  if (!e.ok() && e.code() != Errno::noent) return e.error();
  if (e.ok() && e->first <= block && write_moves(ip, *e))
    return allocate_hole(ip, block, min_of(stop, e->end()) - block, direct, true, out);
  if (e.ok() && e->first <= block) {
    fill(fs, out, block, min_of(stop, e->end()) - block, e->disk + (block - e->first),
         e->unwritten ? VX_MAP_UNWRITTEN : VX_MAP_MAPPED, 0);
    return {};
  }
  if (e.ok()) stop = min_of(stop, e->first);
  return allocate_hole(ip, block, stop - block, direct, false, out);
}

}  // namespace vexfs::fs
