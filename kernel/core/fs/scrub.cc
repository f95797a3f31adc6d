// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Scrubbing file data, beside everything else that goes on: no lock is held while the device is read. What differs from
// its checksum is looked at again, because a write may have given the block's place to somebody else meanwhile.
#include "scrub.h"

#include "../base/crc.h"
#include "file_map.h"
#include "sums.h"

namespace vexfs::fs {
namespace scrub_impl {
namespace {

constexpr usize kPieceBlocks = 64;
constexpr u64 kInodeCost = 4096;  // bytes of budget that looking at an inode counts as

class Piece : Pinned {
 public:
  explicit Piece(usize n) : p_(static_cast<u8 *>(vx_alloc_large(n, 0))), n_(n) {}
  ~Piece() {
    if (p_) vx_free_large(p_, n_);
  }
  bool ok() const { return p_; }
  MutBytes front(usize n) { return {p_, n}; }

 private:
  u8 *p_;
  usize n_;
};

// Looks from `ino` on for a file that has extents, past so many other inodes at most.
constexpr u32 kInodesAtOnce = 2000;
enum class Next : u8 { file, no_file_yet, end };
Result<Next> next_file(Filesystem &fs, u64 &ino) {
  for (u32 i = 0; i < kInodesAtOnce; i++) {
    store::Key at = {0, 0, 0};
    auto first = [&at](const store::Key &k, Bytes) {
      at = k;
      return false;
    };
    VX_TRY(fs.tree().scan(fs_key(max_of<u64>(ino, 1), FsItem::extent), {~u64{0}, 0xff, ~u64{0}}, first));
    if (at.oid == 0) return Next::end;
    // What comes before the extents of an inode, a million names perhaps, is passed by.
    ino = at.oid + (at.type > static_cast<u8>(FsItem::extent));
    if (at.type == static_cast<u8>(FsItem::extent)) return Next::file;
    if (ino == 0) return Next::end;
  }
  return Next::no_file_yet;
}

// Is it still true that the block at `off` lies there and has that checksum?
bool still_so(Inode &ip, const DamagedData &d, vx_sum sum) {
  MapOut now;
  vx_sum s = VX_SUM_NONE;
  return map_sums(ip, d.off, 1, {&s, 1}, now).ok() && now.type == VX_MAP_MAPPED && now.disk == d.disk && s == sum;
}

// Compares the blocks at m, which were read, or could not be. Returns how many; fewer than there are: found() wants no
// more.
usize compare(Inode &ip, const MapOut &m, MutBytes data, bool read, std::span<const vx_sum> sums,
              FnRef<bool(const DamagedData &)> found) {
  store::Volume &volume = ip.filesystem().volume();
  usize bs = ip.filesystem().block_size();
  for (usize i = 0; i * bs < data.size(); i++) {
    MutBytes block = data.subspan(i * bs, bs);
    if (read && crc32c_of(block) == sums[i]) continue;
    // Once more, by itself: of what cannot be read as a whole, only that block is damaged which cannot be read alone.
    DamagedData d{ip.ino(), m.off + i * bs, m.disk + i * bs};
    vx_sum sum = volume.read_blocks(d.disk / bs, block).ok() ? vx_sum{crc32c_of(block)} : VX_SUM_NONE;
    if (sum == sums[i] || !still_so(ip, d, sums[i])) continue;
    (void)sum_mismatch(ip, d.off, d.disk, sums[i], sum);
    if (!found(d)) return i + 1;
  }
  return data.size() / bs;
}

// One piece of the file at p; moves p on. budget falls by what was read.
Status scrub_piece(Inode &ip, ScrubPlace &p, Piece &piece, ScrubFigures &f, u64 &budget,
                   FnRef<bool(const DamagedData &)> found) {
  Filesystem &fs = ip.filesystem();
  vx_sum sums[kPieceBlocks];
  MapOut m;
  u64 off = p.block << fs.block_shift(), size = ip.size();
  if (off >= size) {
    p.block = ~u64{0};  // it has become shorter
    return {};
  }
  VX_TRY(map_sums(ip, off, size - off, sums, m));
  u64 first = p.block, count = m.len >> fs.block_shift();
  p.block += count;
  if (m.type != VX_MAP_MAPPED) return {};
  if (!(m.flags & VX_MAP_F_SUMMED)) {
    f.unchecked += m.len;
    return {};
  }
  MutBytes data = piece.front(m.len);
  bool read = fs.volume().read_blocks(m.disk >> fs.block_shift(), data).ok();
  f.bytes += m.len;
  budget -= min_of(budget, m.len);
  usize done = compare(ip, m, data, read, {sums, count}, found);
  if (done == count) return {};
  p.block = first + done;
  budget = 0;
  return {};
}

}  // namespace
}  // namespace scrub_impl

Result<bool> scrub_data(Filesystem &fs, ScrubPlace &p, u64 budget, ScrubFigures &figures,
                        FnRef<bool(const DamagedData &)> found) {
  using namespace scrub_impl;  // NOLINT: of this file
  Piece piece(kPieceBlocks * fs.block_size());
  if (!piece.ok()) return Errno::nomem;
  while (budget) {
    u64 ino = p.ino;
    Next next = VX_TRY(next_file(fs, ino));
    if (next == Next::end) return false;
    if (ino != p.ino) p = {ino, 0};
    if (next == Next::no_file_yet) return true;
    auto ip = fs.get(ino);
    if (ip.code() == Errno::nomem) return ip.error();
    if (ip.ok() && (*ip)->is_file() && !(*ip)->is_inline())
      while (budget && p.block < div_up<u64>((*ip)->size(), fs.block_size())) {
        Status st = scrub_piece(**ip, p, piece, figures, budget, found);
        if (st.code() == Errno::nomem) return st.error();
        if (!st.ok()) break;  // damage of metadata: said, and acted on by the errors= policy
      }
    if (budget) p = {ino + 1, 0};
    budget -= min_of(budget, kInodeCost);  // now, so that a call with little budget gets on too
    vx_yield();
  }
  return true;
}

}  // namespace vexfs::fs
