// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Sharing a range of one file's blocks with another file, or with another range of the same one.
//
// Piece by piece, each a transaction of its own: the blocks get one more reference, what the target had there is let go
// of, and mapping, checksums and size follow. So a crash leaves a front part cloned, and nothing half. Holes and what is
// unwritten become holes. A piece ends where either file's extent does, and where counts of references change too often
// for one handle (shares.h).
#include "erase.h"
#include "file_map.h"
#include "filesystem.h"
#include "sums.h"

namespace vexfs::fs {
namespace clone_impl {
namespace {

constexpr u64 kSummedBlocks = 256;  // of one piece, where they have checksums
constexpr u32 kPieces = 64;         // of one call: the locks are not held for long

struct Work : Pinned {
  Work(Inode &from, Inode &to, const CloneRange &range, Time time) : src(from), dst(to), r(range), now(time) {}
  Inode &src, &dst;
  const CloneRange &r;
  const Time now;
  Vec<vx_sum> sums;  // made when first needed
  // How large the target has to be when blocks before `end` are cloned.
  u64 size_at(u64 end) const { return min_of(end << dst.filesystem().block_shift(), r.dst_off + r.len); }
  // What a piece that ends there does to the target's attributes. Also the size: what lies behind it must read as zeroes.
  void finish(Attributes &a, u64 end) const {
    if (r.dedupe) return;
    a.size = max_of(a.size, size_at(end));
    a.mtime = a.ctime = now;
  }
};

// Both data locks, in order of number.
class BothLocks : Pinned {
 public:
  BothLocks(Inode &a, Inode &b) : low_(a.ino() < b.ino() ? a : b), high_(a.ino() < b.ino() ? b : a) {
    low_.data_lock.lock(0);
    if (&low_ != &high_) high_.data_lock.lock(1);
  }
  ~BothLocks() {
    if (&low_ != &high_) high_.data_lock.unlock();
    low_.data_lock.unlock();
  }

 private:
  Inode &low_, &high_;
};

Status validate(const Inode &src, const Inode &dst, const CloneRange &r) {
  const Filesystem &fs = src.filesystem();
  u64 bs = fs.block_size();
  if (!src.is_file() || !dst.is_file()) return Errno::inval;
  if (!fs.can_share()) return Errno::opnotsupp;
  if (fs.volume().read_only()) return Errno::rofs;
  if ((src.flags() ^ dst.flags()) & VX_INODE_NOSUM) return Errno::inval;
  if (r.src_off % bs || r.dst_off % bs) return Errno::inval;
  if (r.src_off >= disk::kFileSizeMax || r.len > disk::kFileSizeMax - r.src_off) return Errno::inval;
  if (r.dst_off >= disk::kFileSizeMax || r.len > disk::kFileSizeMax - r.dst_off) return Errno::fbig;
  // Part of a block only where both files end: what follows in it is nobody's then. (Within one file the end may have moved
  // by the piece before.)
  bool inside = &src != &dst && r.src_off + r.len < src.size();
  if (r.len % bs && (inside || r.dst_off + r.len < dst.size())) return Errno::inval;
  u64 len = align_up<u64>(r.len, bs);
  if (&src == &dst && r.src_off < r.dst_off + len && r.dst_off < r.src_off + len) return Errno::inval;
  return {};
}

// What is still being written cannot be shared: the host has waited for it, if it has not forgotten.
Status quiet(Inode &ip, u64 first, u64 end) {
  for (MapRange *r = ip.overlay.find(first); r && r->first < end; r = ip.overlay.next(*r))
    if (r->state == RangeState::inflight) return Errno::busy;
  return {};
}

// A small file goes over as a whole, when nothing of the other remains. False: it does not, and has a block now.
Result<bool> clone_inline(Work &w) {
  Filesystem &fs = w.src.filesystem();
  bool whole = w.r.src_off == 0 && w.r.dst_off == 0 && w.r.len >= w.src.size() && w.dst.size() <= w.r.len;
  if (whole && !w.dst.is_inline()) {
    auto e = find_extent(w.dst, 0);
    if (!e.ok() && e.code() != Errno::noent) return e.error();
    whole = !e.ok() && !w.dst.overlay.find(0);  // and nothing that is not written back yet
  }
  if (!whole) {
    VX_TRY(uninline_locked(w.src));
    return false;
  }
  Vec<u8> contents;
  VX_TRY(contents.resize(fs.inline_max()));
  usize n = VX_TRY(inline_load_locked(w.src, {contents.data(), contents.size()}));
  auto also = [&w](Attributes &a) { a.mtime = a.ctime = w.now; };
  VX_TRY(inline_store_locked(w.dst, {contents.data(), n}, also));
  return true;
}

// The extent at or behind `block`; one without blocks if there is none before `end`.
Result<Mapped> extent_until(Inode &ip, u64 block, u64 end) {
  auto e = find_extent(ip, block);
  if (e.ok() && e->first < end) return e;
  if (!e.ok() && e.code() != Errno::noent) return e.error();
  return Mapped{end, 0};
}

// One transaction: up to n blocks of the extent e, from s on, take the place of `old` (no blocks: of a hole) at d.
Result<u64> share(Work &w, const Mapped &e, u64 s, Mapped old, u64 d, u64 n) {
  Filesystem &fs = w.src.filesystem();
  Shares &shares = fs.shares();
  if (e.summed) {
    n = min_of(n, kSummedBlocks);
    if (w.sums.empty()) VX_TRY(w.sums.resize(kSummedBlocks));
    VX_TRY(read_sums(w.src, s, n, {w.sums.data(), w.sums.size()}));
  }
  u32 items = 1 + 2 * kShareItems + kCutExtentItems + kPutExtentItems + (e.summed ? put_sums_items(n) : 0) + 1;
  auto h = VX_TRY(fs.volume().begin({.items = items, .freeing = w.r.dedupe}));
  store::Extent blocks{e.disk + (s - e.first), n}, gone{old.disk + (d - old.first), 0};
  {
    Guard g(shares.lock);
    n = VX_TRY(shares.bounded(blocks));
    if (old.shared) n = min_of(n, VX_TRY(shares.bounded({gone.start, n})));
    blocks.count = n;
    gone.count = old.count ? n : 0;
    VX_TRY(shares.add(h, blocks, e.birth));
    if (old.shared) VX_TRY(must(h, shares.drop(h, gone, old.birth)));
  }
  VX_TRY(mark_shared(h, w.src, e));
  if (gone.count) {
    if (!old.shared) fs.volume().free(h, gone, old.birth);
    if (&w.src == &w.dst && old.first == e.first) old.shared = true;  // it is the extent that has just been marked
    VX_TRY(cut_extent(h, w.dst, old, d, d + n));
  }
  if (e.summed) VX_TRY(put_sums(h, w.dst, d, std::span<const vx_sum>{w.sums.data(), n}));
  VX_TRY(must(h, put_extent(h, w.dst, {d, n, blocks.start, e.birth, false, e.summed, true})));
  if (w.size_at(d + n) > w.dst.size()) fs.volume().data_written();  // the zeros behind the old end
  VX_TRY(must(h, w.dst.change(h, [&](Attributes &a) -> Status {
    a.blocks += n;
    a.blocks -= min_of(a.blocks, gone.count);
    w.finish(a, d + n);
    return {};
  })));
  return n;
}

// The next piece, of at most n blocks. Returns how many it was.
Result<u64> clone_piece(Work &w, u64 s, u64 d, u64 n) {
  Mapped e = VX_TRY(extent_until(w.src, s, s + n));
  if (e.first > s || e.unwritten) {
    n = min_of(n, (e.first > s ? e.first : e.end()) - s);
    if (w.size_at(d + n) > w.dst.size()) w.dst.filesystem().volume().data_written();  // the zeros behind the old end
    VX_TRY(punch_locked(w.dst, d, d + n, [&w](Attributes &a, u64 upto) { w.finish(a, upto); }));
    return n;
  }
  n = min_of(n, e.end() - s);
  Mapped old = VX_TRY(extent_until(w.dst, d, d + n));
  if (old.first > d) return share(w, e, s, {}, d, min_of(n, old.first - d));
  n = min_of(n, old.end() - d);
  bool same = !old.unwritten && old.summed == e.summed && old.disk + (d - old.first) == e.disk + (s - e.first);
  return same ? n : share(w, e, s, old, d, n);
}

Status clone_pieces(Work &w, u64 &done) {
  Filesystem &fs = w.src.filesystem();
  u64 shift = fs.block_shift(), s = w.r.src_off >> shift, d = w.r.dst_off >> shift;
  u64 left = div_up<u64>(w.r.len, fs.block_size());
  VX_TRY(quiet(w.src, s, s + left));
  VX_TRY(uninline_locked(w.dst));
  VX_TRY(drop_overlay(w.dst, d, d + left));
  for (u32 i = 0; left && i < kPieces; i++) {
    u64 n = VX_TRY(clone_piece(w, s, d, left));
    s += n, d += n, left -= n;
    done = min_of(done + (n << shift), w.r.len);
    vx_yield();
  }
  if (w.r.dedupe) return {};
  auto h = VX_TRY(fs.volume().begin({.items = 1, .freeing = true}));
  if (w.size_at(d) > w.dst.size()) fs.volume().data_written();
  return w.dst.change(h, [&](Attributes &a) -> Status {
    w.finish(a, d);
    return {};
  });
}

}  // namespace
}  // namespace clone_impl

Status clone_range(Inode &src, Inode &dst, const CloneRange &r, Time now, u64 &done) {
  using namespace clone_impl;  // NOLINT: of this file
  done = 0;
  VX_TRY(validate(src, dst, r));
  if (r.len == 0) return {};
  Timed t(src.filesystem().stats(), Op::clone);
  BothLocks g(src, dst);
  if (r.dedupe && (src.is_inline() || dst.is_inline())) {  // there is no block to be had
    done = r.len;
    return {};
  }
  Work w(src, dst, r, now);
  Status st;
  bool whole = false;
  if (src.is_inline()) {
    auto in = clone_inline(w);
    if (in.ok())
      whole = *in;
    else
      st = in.error();
  }
  if (whole)
    done = r.len;
  else if (st.ok())
    st = clone_pieces(w, done);
  if (!r.dedupe) dst.bump_version();
  return st;
}

}  // namespace vexfs::fs
