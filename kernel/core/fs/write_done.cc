// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Completion of writes: mappings enter the tree when, and only when, their data is on the device.
#include "erase.h"
#include "file_map.h"
#include "filesystem.h"
#include "sums.h"

namespace vexfs::fs {
namespace write_done_impl {
namespace {

// One thing to do in the tree.
struct Unit {
  u64 first, count;
  u64 disk;             // publish: the blocks
  bool publish;         // else: what is mapped there becomes written
  bool shared = false;  // they take the place of blocks that other files may have: not always all in one handle
};
constexpr u32 kUnits = 8;           // per handle
constexpr u64 kSummedBlocks = 256;  // per handle, where they have checksums
// An extent that should not be there is cut out first; what is published may then join its neighbours.
constexpr u32 kUnitItems = kDropExtentItems + kPutExtentItems + 1;

// What has been written: blocks first .. end, and (or null) the checksum of each.
struct Written {
  u64 first, end;
  const vx_sum *sums;
  std::span<const vx_sum> of(const Unit &u) const { return {sums + (u.first - first), u.count}; }
  bool summed(const Unit &u) const {
    if (!sums) return false;
    for (vx_sum s : of(u))
      if (s == VX_SUM_NONE) return false;
    return true;
  }
};

// Collects up to kUnits things to do from `at` on, or one that is shared; returns where to go on.
Result<u64> collect(Inode &ip, u64 at, const Written &w, Unit (&units)[kUnits], u32 &n) {
  u64 end = w.sums ? min_of(w.end, at + kSummedBlocks) : w.end;
  while (at < end && n < kUnits) {
    MapRange *r = ip.overlay.find(at);
    if (r && r->first <= at) {
      u64 stop = min_of(end, r->end());
      if (r->cow && r->state == RangeState::inflight) {  // one extent goes for one that comes: the handle counts on it
        auto e = find_extent(ip, at);
        if (!e.ok() && e.code() != Errno::noent) return e.error();
        if (e.ok() && e->end() < stop) return ip.filesystem().damaged(ip.ino(), "extents are not what they were");
        if (e.ok() && e->first < stop && e->shared) {
          if (n) return at;
          units[n++] = {at, stop - at, r->disk + (at - r->first), true, true};
          return stop;
        }
      }
      if (r->state == RangeState::inflight) units[n++] = {at, stop - at, r->disk + (at - r->first), true};
      at = stop;
      continue;
    }
    u64 stop = r ? min_of(end, r->first) : end;
    auto e = find_extent(ip, at);
    if (!e.ok() && e.code() != Errno::noent) return e.error();
    if (!e.ok() || e->first >= stop) {
      at = stop;
      continue;
    }
    u64 from = max_of(at, e->first), to = min_of(stop, e->end());
    if (e->unwritten) units[n++] = {from, to - from, 0, false};
    at = to;
  }
  return at;
}

// The blocks of u take the place of whatever is mapped there: nothing, or what a snapshot or another file needs. u ends
// where this handle may not go on. An error aborts the volume, unless it comes before anything has changed.
Status publish(store::Handle &h, Inode &ip, Unit &u, const Written &w, u64 &replaced, bool changed) {
  for (u64 limit = u.count + 1; limit; limit--) {
    auto e = find_extent(ip, u.first);
    if (!e.ok() && e.code() != Errno::noent) return must(h, e.error());
    if (!e.ok() || e->first >= u.first + u.count) break;
    auto to = drop_extent(h, ip, *e, u.first, u.first + u.count);
    if (!to.ok()) return changed ? must(h, to.error()) : Status(to.error());
    changed = true;
    replaced += *to - max_of(e->first, u.first);
    if (*to < min_of(e->end(), u.first + u.count)) u.count = *to - u.first;
  }
  ip.filesystem().volume().publish(h, {u.disk, u.count});
  bool summed = w.summed(u);
  if (summed) VX_TRY(put_sums(h, ip, u.first, w.of(u)));
  return put_extent(h, ip, {u.first, u.count, u.disk, h.txn(), false, summed});
}

Status convert(store::Handle &h, Inode &ip, const Unit &u, const Written &w) {
  auto e = find_extent(ip, u.first);
  if (!e.ok()) return must(h, e.error());
  bool summed = w.summed(u);
  if (summed) VX_TRY(put_sums(h, ip, u.first, w.of(u)));
  return convert_extent(h, ip, *e, u.first, u.first + u.count, summed ? Become::summed : Become::written);
}

// What was in flight is over: published, or (cancel) given back. An aborted volume may own it already: then it stays.
void forget(Inode &ip, u64 first, u64 end, bool cancel, bool &direct) {
  if (ip.filesystem().volume().aborted()) cancel = false;
  MapRange *next;
  for (MapRange *r = ip.overlay.find(first); r && r->first < end; r = next) {
    next = ip.overlay.next(*r);
    if (r->state != RangeState::inflight) continue;
    VX_ASSERT(r->first >= first);  // it was split
    u64 count = min_of(r->end(), end) - r->first;
    direct |= r->direct;
    if (cancel) ip.filesystem().volume().cancel({r->disk, count});
    if (count < r->count) {
      ip.overlay.drop_front(*r, count);
      continue;
    }
    ip.overlay.remove(*r);
    vx_free(r);
  }
}

// One transaction's worth, up to `next`, which falls if it has to. With the last one the size grows too.
Status apply(Inode &ip, Unit (&units)[kUnits], u32 n, const Written &w, u64 &next, u64 new_size) {
  Filesystem &fs = ip.filesystem();
  u32 items = n * kUnitItems + 1 + (n && units[0].shared ? kShareItems : 0);
  for (u32 i = 0; i < n && w.sums; i++) items += put_sums_items(units[i].count);
  auto h = VX_TRY(fs.volume().begin({.items = items, .freeing = true}));
  u64 added = 0, replaced = 0;
  // Also when no mapping changes: the new size shows data in blocks that were there before.
  fs.volume().data_written();
  for (u32 i = 0; i < n; i++) {
    if (units[i].publish) {
      VX_TRY(publish(h, ip, units[i], w, replaced, i > 0));
      added += units[i].count;
      if (units[i].shared) next = units[i].first + units[i].count;
    } else {
      VX_TRY(convert(h, ip, units[i], w));
    }
  }
  return must(h, ip.change(h, [&](Attributes &a) -> Status {
    a.blocks += added;
    a.blocks -= min_of(a.blocks, replaced);
    if (next >= w.end) a.size = max_of(a.size, new_size);
    return {};
  }));
}

Status complete(Inode &ip, const Written &w, u64 new_size, bool &direct) {
  for (u64 at = w.first; at < w.end;) {
    Unit units[kUnits];
    u32 n = 0;
    u64 next = VX_TRY(collect(ip, at, w, units, n));
    if (n || (next >= w.end && new_size > ip.size())) VX_TRY(apply(ip, units, n, w, next, new_size));
    forget(ip, at, next, false, direct);
    at = next;
  }
  return {};
}

}  // namespace
}  // namespace write_done_impl

Status write_done(Inode &ip, u64 off, u64 len, u64 new_size, int err, const vx_sum *sums) {
  using namespace write_done_impl;  // NOLINT: of this file
  Filesystem &fs = ip.filesystem();
  if (!ip.is_file() || len == 0) return Errno::inval;
  if (off >= disk::kFileSizeMax || len > disk::kFileSizeMax - off || new_size > disk::kFileSizeMax) return Errno::fbig;
  Timed t(fs.stats(), Op::write_done);
  u64 first = off >> fs.block_shift(), end = div_up<u64>(off + len, fs.block_size());
  Guard g(ip.data_lock);
  Spares spares;
  // Host I/O that ended on a range that was truncated or punched meanwhile: only its blocks are left to give back.
  u64 disk = 0, count = 0;
  while (ip.overlay.take_ghost(first, end, disk, count, spares)) {
    fs.volume().cancel({disk, count});
    fs.stats().write_done_ghosts.fetch_add(1, std::memory_order_relaxed);
  }
  // Without memory nothing has happened yet, the range stays in flight: the host may say it again.
  VX_TRY(spares.fill(ip.overlay.splits_needed(first, end - first)));
  ip.overlay.split(first, end - first, spares);
  bool direct = false;
  Status st;
  if (err == 0) st = complete(ip, {first, end, sums}, new_size, direct);
  if (err != 0 || !st.ok()) forget(ip, first, end, true, direct);
  if (direct) ip.bump_version();
  return st;
}

}  // namespace vexfs::fs
