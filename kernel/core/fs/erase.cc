// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Deletion of inodes, truncation in pieces, and their recovery at mount.
#include "erase.h"

#include "filesystem.h"
#include "sums.h"

namespace vexfs::fs {
namespace erase_impl {
namespace {

struct Doomed {
  u64 start;
  u64 birth;
  u32 count;
};

constexpr store::Key first_item(u64 ino) { return {ino, 0, 0}; }
constexpr store::Key last_item(u64 ino) { return {ino, 0xff, ~u64{0}}; }
constexpr store::Key orphan_key(u64 ino) { return fs_key(0, FsItem::orphan, ino); }
constexpr store::Key truncate_key(u64 ino) { return fs_key(0, FsItem::truncate, ino); }

// Erases all items of the inode and its ORPHAN record. The inode count falls with the INODE item.
Status erase_items(Filesystem &fs, u64 ino, bool has_inode_item) {
  bool counted = !has_inode_item;
  for (;;) {
    auto h = VX_TRY(fs.volume().begin({.items = kErasePieceItems + 2, .freeing = true}));
    bool more = VX_TRY(erase_piece(fs, h, first_item(ino), last_item(ino), nullptr));
    if (!counted) fs.count_inodes(h, -1);
    counted = true;
    if (!more) {
      Status st = fs.tree().erase(h, orphan_key(ino));
      if (st.code() == Errno::noent) return {};  // a damaged image can have one that was never on the list
      return must(h, std::move(st));
    }
    h.end();
    vx_yield();
  }
}

// The first of the next kErasePiece items that is an extent of blocks which other files may have; noent. *nth: how many
// items come before it.
Result<store::Key> next_shared(Filesystem &fs, const store::Key &first, const store::Key &last, disk::DiskExtent *out,
                               u32 *nth) {
  bool found = false;
  store::Key at;
  auto limits = fs.limits();
  *nth = 0;
  auto look = [&](const store::Key &key, Bytes value) {
    const auto *e = disk::item_as<disk::DiskExtent>(value);
    found = key.type == static_cast<u8>(FsItem::extent) && !disk::verify_extent(key.off, value, limits) &&
            (e->flags & disk::kExtentShared);
    if (found) at = key, *out = *e;
    return !found && ++*nth < kErasePiece;
  };
  VX_TRY(fs.tree().scan(first, last, look));
  if (!found) return Errno::noent;
  return at;
}

// The front of one shared extent goes, as much of it as one handle may. Returns how many blocks.
Result<u64> erase_shared(Filesystem &fs, store::Handle &h, const store::Key &key, const disk::DiskExtent &e) {
  store::Extent gone{e.disk, e.count};
  {
    Guard g(fs.shares().lock);
    gone.count = VX_TRY(fs.shares().bounded(gone));
    VX_TRY(fs.shares().drop(h, gone, e.birth));
  }
  VX_TRY(must(h, fs.tree().erase(h, key)));
  if (gone.count < e.count) {
    disk::DiskExtent rest = e;
    rest.disk = e.disk + gone.count;
    rest.count = static_cast<u32>(e.count - gone.count);
    VX_TRY(must(h, fs.tree().insert(h, {key.oid, key.type, key.off + gone.count}, bytes_of(rest))));
  }
  return gone.count;
}

}  // namespace
}  // namespace erase_impl

Result<bool> erase_piece(Filesystem &fs, store::Handle &h, const store::Key &first, const store::Key &upto,
                         u64 *freed) {
  store::Key last = upto;
  bool more = false;
  if (fs.can_share() && first.type <= static_cast<u8>(FsItem::extent)) {
    disk::DiskExtent e;
    u32 nth;
    auto shared = erase_impl::next_shared(fs, first, last, &e, &nth);
    if (!shared.ok() && shared.code() != Errno::noent) return shared.error();
    if (shared.ok() && nth == 0) {
      u64 n = VX_TRY(erase_impl::erase_shared(fs, h, *shared, e));
      if (freed) *freed = n;
      return true;
    }
    more = shared.ok();
    if (more)
      last = shared->off ? store::Key{shared->oid, shared->type, shared->off - 1}
                         : store::Key{shared->oid, static_cast<u8>(shared->type - 1), ~u64{0}};
  }
  erase_impl::Doomed doomed[kErasePiece];
  u32 n = 0;
  bool bad = false;
  auto limits = fs.limits();
  auto collect = [&](const store::Key &key, Bytes value) {
    if (key.type != static_cast<u8>(FsItem::extent)) return;
    if (disk::verify_extent(key.off, value, limits) || n == kErasePiece) {
      bad = true;
      return;
    }
    const auto &e = *disk::item_as<disk::DiskExtent>(value);
    doomed[n++] = {e.disk, e.birth, e.count};
  };
  auto r = fs.tree().erase_range(h, first, last, kErasePiece, collect);
  if (!r.ok()) {
    h.abort(r.error());
    return r.error();
  }
  u64 blocks = 0;
  for (u32 i = 0; i < n; i++) {
    fs.volume().free(h, {doomed[i].start, doomed[i].count}, doomed[i].birth);
    blocks += doomed[i].count;
  }
  if (bad) (void)fs.damaged(first.oid, "a damaged extent was dropped; its blocks stay allocated");
  if (freed) *freed = blocks;
  return more || *r == kErasePiece;
}

void release_overlay(Inode &ip) {
  auto &volume = ip.filesystem().volume();
  while (MapRange *r = ip.overlay.find(0)) {
    ip.overlay.remove(*r);
    if (r->state == RangeState::delayed)
      volume.unreserve_blocks(r->count);
    else
      volume.cancel({r->disk, r->count});
    vx_free(r);
  }
  Spares spares;
  u64 disk = 0, count = 0;
  while (ip.overlay.take_ghost(0, ~u64{0}, disk, count, spares)) volume.cancel({disk, count});
}

Status erase_inode(Inode &ip) {
  Filesystem &fs = ip.filesystem();
  Timed t(fs.stats(), Op::erase);
  const Hooks &hooks = fs.hooks();
  if (hooks.deleting && ip.has_upper()) VX_TRY(hooks.deleting(hooks.ctx, ip));
  release_overlay(ip);
  return erase_impl::erase_items(fs, ip.ino(), true);
}

Status erase_remains(Filesystem &fs, u64 ino) { return erase_impl::erase_items(fs, ino, false); }

Status finish_truncate(Inode &ip) {
  Filesystem &fs = ip.filesystem();
  u64 first = div_up<u64>(ip.size(), fs.block_size());
  for (;;) {
    auto h = VX_TRY(fs.volume().begin({.items = kErasePieceItems + kErasePiece + 2, .freeing = true}));
    u64 freed = 0;
    bool more = VX_TRY(
        erase_piece(fs, h, fs_key(ip.ino(), FsItem::extent, first), fs_key(ip.ino(), FsItem::extent, ~u64{0}), &freed));
    if (freed)
      VX_TRY(must(h, ip.change(h, [freed](Attributes &a) -> Status {
        a.blocks -= min_of(a.blocks, freed);
        return {};
      })));
    if (!more) more = VX_TRY(erase_sums(h, ip, first, ~u64{0}));
    if (!more) {
      Status st = fs.tree().erase(h, erase_impl::truncate_key(ip.ino()));
      if (st.code() == Errno::noent) return {};
      return must(h, std::move(st));
    }
    h.end();
    vx_yield();
  }
}

// ----------------------------------------------------------------- recovery
Status Filesystem::recover() {
  if (volume_.read_only()) return {};
  VX_TRY(recover_orphans());
  return recover_truncates();
}

Status Filesystem::recover_orphans() {
  u64 from = 1, done = 0;
  for (;;) {
    disk::DiskOrphan record;
    auto f = tree_.seek(erase_impl::orphan_key(from), erase_impl::orphan_key(~u64{0}), mut_bytes_of(record));
    if (f.code() == Errno::noent) break;
    if (!f.ok() && f.code() != Errno::range) return f.error();
    if (!f.ok() || f->len != sizeof record) return damaged(0, "malformed orphan record");
    u64 ino = f->key.off;
    from = ino + 1;
    if (ino == root_ino_) return damaged(ino, "the root directory is on the orphan list");
    auto ip = get_any(ino, true);
    if (ip.code() == Errno::noent) {
      VX_TRY(erase_remains(*this, ino));
    } else if (!ip.ok()) {
      if (ip.code() == Errno::nomem || ip.code() == Errno::io) return ip.error();
      // The inode is damaged (logged): it stays where it is, for fsck.
    } else {
      (*ip)->change_in_memory([](Attributes &a) { a.nlink = 0; });  // somebody has it open since before remount,rw
    }
    done++;  // dropping the reference deletes it
    if (from == 0) break;
  }
  stats_.orphans_recovered.fetch_add(done, std::memory_order_relaxed);
  if (done) volume_.log(VX_LOG_NOTICE).str("deleted ").dec(done).str(" inodes that had no name any more");
  return {};
}

Status Filesystem::recover_truncates() {
  u64 from = 1, done = 0;
  for (;;) {
    disk::DiskTruncate record;
    auto f = tree_.seek(erase_impl::truncate_key(from), erase_impl::truncate_key(~u64{0}), mut_bytes_of(record));
    if (f.code() == Errno::noent) break;
    if (!f.ok() && f.code() != Errno::range) return f.error();
    if (!f.ok() || f->len != sizeof record) return damaged(0, "malformed truncate record");
    u64 ino = f->key.off;
    from = ino + 1;
    auto ip = get_any(ino, false);
    if (ip.ok() && (*ip)->is_file()) {
      Guard g((*ip)->data_lock);
      VX_TRY(finish_truncate(**ip));
      done++;
    } else if (ip.ok() || ip.code() == Errno::noent || ip.code() == Errno::stale) {
      auto h = VX_TRY(volume_.begin({.items = 1, .freeing = true}));
      VX_TRY(tree_.erase(h, erase_impl::truncate_key(ino)));
    } else if (ip.code() != Errno::corrupt) {
      return ip.error();
    }
    if (from == 0) break;
  }
  stats_.truncates_recovered.fetch_add(done, std::memory_order_relaxed);
  return {};
}

}  // namespace vexfs::fs
