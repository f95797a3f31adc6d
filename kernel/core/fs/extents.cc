// SPDX-License-Identifier: GPL-2.0-only OR MIT
// EXTENT items.
#include "extents.h"

#include "erase.h"
#include "filesystem.h"

namespace vexfs::fs {
namespace extents_impl {
namespace {

store::Key key_of(const Inode &ip, u64 block) { return fs_key(ip.ino(), FsItem::extent, block); }

Result<Mapped> unpack(Inode &ip, Result<store::Tree::Found> found, const disk::DiskExtent &item) {
  if (found.code() == Errno::range) return ip.filesystem().damaged(ip.ino(), "extent: wrong length");
  if (!found.ok()) return found.error();
  u64 first = found->key.off;
  if (const char *what = disk::verify_extent(first, bytes_of(item).subspan(0, min_of(found->len, sizeof item)),
                                             ip.filesystem().limits()))
    return ip.filesystem().damaged(ip.ino(), what);
  return Mapped{first,
                item.count,
                item.disk,
                item.birth,
                (item.flags & disk::kExtentUnwritten) != 0,
                (item.flags & disk::kExtentSummed) != 0,
                (item.flags & disk::kExtentShared) != 0};
}

u32 flags_of(const Mapped &e) {
  return (e.unwritten ? disk::kExtentUnwritten : 0) | (e.summed ? disk::kExtentSummed : 0) |
         (e.shared ? disk::kExtentShared : 0);
}

void pack(const Mapped &e, disk::DiskExtent &item) {
  item.disk = e.disk;
  item.count = static_cast<u32>(e.count);
  item.flags = flags_of(e);
  item.birth = e.birth;
  item.checksum = 0;
  item.reserved = 0;
}

Status insert(store::Handle &h, Inode &ip, const Mapped &e) {
  disk::DiskExtent item;
  pack(e, item);
  return must(h, ip.filesystem().tree().insert(h, key_of(ip, e.first), bytes_of(item)));
}

Status set_count(store::Handle &h, Inode &ip, const Mapped &e, u64 count) {
  le32 c;
  c = static_cast<u32>(count);
  return must(h, ip.filesystem().tree().patch(h, key_of(ip, e.first), offsetof(disk::DiskExtent, count), bytes_of(c)));
}

Status erase(store::Handle &h, Inode &ip, const Mapped &e) {
  return must(h, ip.filesystem().tree().erase(h, key_of(ip, e.first)));
}

// Does b continue a, in the file and on the device?
bool joins(const Mapped &a, const Mapped &b) {
  return a.end() == b.first && a.disk + a.count == b.disk && a.unwritten == b.unwritten && a.summed == b.summed &&
         a.shared == b.shared && a.birth == b.birth && a.count + b.count <= disk::kExtentMaxBlocks;
}

// Learns where the last extent ends, once per inode in memory.
Result<u64> bound_of(Inode &ip) {
  u64 bound = ip.extent_bound.load(std::memory_order_relaxed);
  if (bound != ~u64{0}) return bound;
  disk::DiskExtent item;
  auto last =
      unpack(ip, ip.filesystem().tree().seek_back(key_of(ip, ~u64{0}), key_of(ip, 0), mut_bytes_of(item)), item);
  if (!last.ok() && last.code() != Errno::noent) return last.error();
  bound = last.ok() ? last->end() : 0;
  ip.extent_bound.store(bound, std::memory_order_relaxed);
  return bound;
}

}  // namespace
}  // namespace extents_impl

Result<Mapped> extent_before(Inode &ip, u64 block) {
  using namespace extents_impl;  // NOLINT: of this file
  if (VX_TRY(bound_of(ip)) == 0) return Errno::noent;
  disk::DiskExtent item;
  return unpack(ip, ip.filesystem().tree().seek_back(key_of(ip, block), key_of(ip, 0), mut_bytes_of(item)), item);
}

Result<Mapped> find_extent(Inode &ip, u64 block) {
  using namespace extents_impl;  // NOLINT: of this file
  u64 bound = VX_TRY(bound_of(ip));
  if (block >= bound) return Errno::noent;
  disk::DiskExtent item;
  auto at = unpack(ip, ip.filesystem().tree().seek_back(key_of(ip, block), key_of(ip, 0), mut_bytes_of(item)), item);
  if (at.ok() && at->end() > block) return at;
  if (!at.ok() && at.code() != Errno::noent) return at;
  return unpack(ip, ip.filesystem().tree().seek(key_of(ip, block), key_of(ip, ~u64{0}), mut_bytes_of(item)), item);
}

Status put_extent(store::Handle &h, Inode &ip, const Mapped &e) {
  using namespace extents_impl;  // NOLINT: of this file
  Stats &stats = ip.filesystem().stats();
  u64 bound = VX_TRY(bound_of(ip));
  Mapped all = e;
  Mapped left;
  bool join_left = false;
  if (e.first > 0 && bound > 0 && e.first <= bound) {
    auto l = extent_before(ip, e.first - 1);
    if (!l.ok() && l.code() != Errno::noent) return must(h, l.error());
    if (l.ok() && joins(*l, e)) {
      left = *l;
      join_left = true;
      all = left;
      all.count += e.count;
    }
  }
  if (e.end() < bound) {
    auto r = find_extent(ip, e.end());
    if (!r.ok() && r.code() != Errno::noent) return must(h, r.error());
    if (r.ok() && joins(all, *r)) {
      all.count += r->count;
      VX_TRY(erase(h, ip, *r));
      stats.extents_merged.fetch_add(1, std::memory_order_relaxed);
    }
  }
  if (all.end() > bound) ip.extent_bound.store(all.end(), std::memory_order_relaxed);
  if (!join_left) return insert(h, ip, all);
  stats.extents_merged.fetch_add(1, std::memory_order_relaxed);
  return set_count(h, ip, left, all.count);
}

Status cut_extent(store::Handle &h, Inode &ip, const Mapped &e, u64 first, u64 end) {
  using namespace extents_impl;  // NOLINT: of this file
  u64 from = max_of(first, e.first), to = min_of(end, e.end());
  VX_ASSERT(from < to);
  if (from == e.first)
    VX_TRY(erase(h, ip, e));
  else
    VX_TRY(set_count(h, ip, e, from - e.first));
  if (to < e.end()) {
    VX_TRY(insert(h, ip, {to, e.end() - to, e.disk + (to - e.first), e.birth, e.unwritten, e.summed, e.shared}));
    ip.filesystem().stats().extents_split.fetch_add(1, std::memory_order_relaxed);
  }
  return {};
}

Result<u64> drop_extent(store::Handle &h, Inode &ip, const Mapped &e, u64 first, u64 end) {
  Filesystem &fs = ip.filesystem();
  u64 from = max_of(first, e.first), to = min_of(end, e.end());
  VX_ASSERT(from < to);
  store::Extent gone{e.disk + (from - e.first), to - from};
  if (e.shared) {
    Guard g(fs.shares().lock);
    gone.count = VX_TRY(fs.shares().bounded(gone));
    VX_TRY(fs.shares().drop(h, gone, e.birth));
  }
  VX_TRY(cut_extent(h, ip, e, from, from + gone.count));
  if (!e.shared) fs.volume().free(h, gone, e.birth);
  return from + gone.count;
}

Status mark_shared(store::Handle &h, Inode &ip, const Mapped &e) {
  if (e.shared) return {};
  le32 flags;
  flags = extents_impl::flags_of(e) | disk::kExtentShared;
  return must(h, ip.filesystem().tree().patch(h, extents_impl::key_of(ip, e.first), offsetof(disk::DiskExtent, flags),
                                              bytes_of(flags)));
}

Status convert_extent(store::Handle &h, Inode &ip, const Mapped &e, u64 first, u64 end, Become what) {
  bool unwritten = what == Become::unwritten, summed = what == Become::summed;
  if (e.unwritten == unwritten) return {};
  if (!unwritten) ip.filesystem().volume().data_written();
  u64 from = max_of(first, e.first), to = min_of(end, e.end());
  VX_TRY(cut_extent(h, ip, e, from, to));
  return put_extent(h, ip, {from, to - from, e.disk + (from - e.first), e.birth, unwritten, summed});
}

}  // namespace vexfs::fs
