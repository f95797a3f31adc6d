// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Changing the size of a file. A long truncate is several transactions: the first sets the size and leaves a TRUNCATE
// record, the last removes it; a mount finishes what a crash has interrupted.
#include "erase.h"
#include "file_map.h"
#include "filesystem.h"
#include "sums.h"

namespace vexfs::fs {
namespace file_truncate_impl {
namespace {

// First transaction of a shrinking truncate: new size, the extent across the new end is cut, some extents behind it go.
// *more: there may be others.
Status shrink(Inode &ip, u64 size, Time now, bool &more) {
  Filesystem &fs = ip.filesystem();
  u64 first = div_up<u64>(size, fs.block_size());
  auto e = find_extent(ip, first);
  if (!e.ok() && e.code() != Errno::noent) return e.error();
  constexpr u32 kItems = kDropSharedItems + kErasePieceItems + kErasePiece + 2;
  auto h = VX_TRY(fs.volume().begin({.items = kItems, .freeing = true}));
  u64 freed = 0;
  more = false;
  if (e.ok()) {
    u64 from = e->first;
    if (from < first) {
      u64 to = VX_TRY(drop_extent(h, ip, *e, first, e->end()));
      freed += to - first;
      more = to < e->end();
    }
    u64 n = 0;
    if (!more) {
      const store::Key begin = fs_key(ip.ino(), FsItem::extent, first), end = fs_key(ip.ino(), FsItem::extent, ~u64{0});
      auto piece = erase_piece(fs, h, begin, end, &n);
      if (!piece.ok()) return from < first ? must(h, piece.error()) : Status(piece.error());
      more = *piece;
    }
    freed += n;
    if (!more) more = VX_TRY(erase_sums(h, ip, first, ~u64{0}));
    u64 bound = ip.extent_bound.load(std::memory_order_relaxed);
    ip.extent_bound.store(min_of(bound, first), std::memory_order_relaxed);
  }
  if (more) {
    disk::DiskTruncate record;
    record.size = size;
    VX_TRY(must(h, fs.tree().upsert(h, fs_key(0, FsItem::truncate, ip.ino()), bytes_of(record))));
  }
  return must(h, ip.change(h, [&](Attributes &a) -> Status {
    a.size = size;
    a.blocks -= min_of(a.blocks, freed);
    a.mtime = a.ctime = now;
    return {};
  }));
}

Status resize_only(Inode &ip, u64 size, FnRef<void(Attributes &)> also) {
  auto h = VX_TRY(ip.filesystem().volume().begin({.items = 1, .freeing = true}));
  ip.filesystem().volume().data_written();  // the zeros behind the old end
  return ip.change(h, [&](Attributes &a) -> Status {
    a.size = size;
    also(a);
    return {};
  });
}

}  // namespace
}  // namespace file_truncate_impl

Status drop_overlay(Inode &ip, u64 first, u64 end) {
  Filesystem &fs = ip.filesystem();
  Spares spares;
  u64 count = end - first;
  VX_TRY(spares.fill(ip.overlay.splits_needed(first, count)));
  ip.overlay.split(first, count, spares);
  MapRange *next;
  for (MapRange *r = ip.overlay.find(first); r && r->first < end; r = next) {
    next = ip.overlay.next(*r);
    switch (r->state) {
      case RangeState::inflight:
        ip.overlay.make_ghost(*r);
        continue;
      case RangeState::delayed:
        fs.volume().unreserve_blocks(r->count);
        break;
      case RangeState::allocated:
        fs.volume().cancel({r->disk, r->count});
        break;
    }
    ip.overlay.remove(*r);
    vx_free(r);
  }
  return {};
}

Status truncate(Inode &ip, u64 size, Time now) {
  using namespace file_truncate_impl;  // NOLINT: of this file
  Filesystem &fs = ip.filesystem();
  if (!ip.is_file()) return Errno::inval;
  if (size > disk::kFileSizeMax) return Errno::fbig;
  if (fs.volume().read_only()) return Errno::rofs;
  Timed t(fs.stats(), Op::truncate);
  auto times = [now](Attributes &a) { a.mtime = a.ctime = now; };
  Guard g(ip.data_lock);
  if (ip.is_inline() && size > fs.inline_max()) VX_TRY(uninline_locked(ip));
  VX_TRY(drop_overlay(ip, div_up<u64>(size, fs.block_size()), ~u64{0}));
  if (ip.is_inline()) {
    VX_TRY(inline_resize_locked(ip, size, times));
  } else if (size > ip.size()) {
    VX_TRY(resize_only(ip, size, times));
  } else {
    // Also when the size stays: fallocate may have put extents beyond it.
    bool more = false;
    VX_TRY(shrink(ip, size, now, more));
    if (more) VX_TRY(finish_truncate(ip));
  }
  ip.bump_version();
  return {};
}

Status set_size(Inode &ip, u64 size) {
  Filesystem &fs = ip.filesystem();
  if (!ip.is_file()) return Errno::inval;
  if (size > disk::kFileSizeMax) return Errno::fbig;
  Guard g(ip.data_lock);
  if (size <= ip.size()) return {};
  auto nothing = [](Attributes &) {};
  if (ip.is_inline() && size > fs.inline_max()) VX_TRY(uninline_locked(ip));
  if (ip.is_inline()) return inline_resize_locked(ip, size, nothing);
  return file_truncate_impl::resize_only(ip, size, nothing);
}

}  // namespace vexfs::fs
