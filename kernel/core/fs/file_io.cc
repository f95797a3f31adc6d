// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Whole reads and writes for hosts without a page cache: synchronous, through a bounce buffer, serialised per inode.
#include "../base/crc.h"
#include "file_map.h"
#include "filesystem.h"
#include "sums.h"

namespace vexfs::fs {
namespace file_io_impl {
namespace {

constexpr usize kBounce = 1 << 20;

class Bounce : Pinned {
 public:
  ~Bounce() {
    if (p_) vx_free_large(p_, bytes_);
  }
  // Enough for `want` bytes of whole blocks, at most kBounce, and for their checksums.
  Status make(usize want, usize block) {
    n_ = min_of(align_up(want, block), max_of(kBounce, block));
    blocks_ = n_ / block;
    bytes_ = align_up(n_, alignof(vx_sum)) + blocks_ * sizeof(vx_sum);
    p_ = static_cast<u8 *>(vx_alloc_large(bytes_, 0));
    return p_ ? Status() : Status(Errno::nomem);
  }
  u8 *data() { return p_; }
  usize size() const { return n_; }
  std::span<vx_sum> sums() { return {reinterpret_cast<vx_sum *>(p_ + align_up(n_, alignof(vx_sum))), blocks_}; }

 private:
  u8 *p_ = nullptr;
  usize n_ = 0, blocks_ = 0, bytes_ = 0;
};

// What lies at `at`, as much of it as one mapping and the bounce buffer hold; returns how much.
Result<usize> read_piece(Inode &ip, u64 at, MutBytes out, Bounce &bounce) {
  Filesystem &fs = ip.filesystem();
  usize bs = fs.block_size(), skip = static_cast<usize>(at - align_down<u64>(at, bs));
  MapOut m;
  VX_TRY(map_sums(ip, at, out.size(), bounce.sums(), m));
  VX_ASSERT(m.type != VX_MAP_INLINE);  // it was not, and the file's lock is held
  usize n = static_cast<usize>(min_of<u64>(out.size(), m.off + m.len - at));
  if (m.type != VX_MAP_MAPPED) {
    memset(out.data(), 0, n);
    return n;
  }
  MutBytes blocks{bounce.data(), align_up(skip + n, bs)};
  VX_TRY(fs.volume().read_blocks(m.disk >> fs.block_shift(), blocks));
  VX_TRY(check_sums(ip, m, blocks, bounce.sums()));
  memcpy(out.data(), bounce.data() + skip, n);
  return n;
}

// The part of an inline file.
Result<usize> read_inline(Inode &ip, MutBytes out, u64 off) {
  Bounce bounce;
  VX_TRY(bounce.make(ip.filesystem().inline_max(), ip.filesystem().inline_max()));
  usize len = VX_TRY(inline_read(ip, {bounce.data(), ip.filesystem().inline_max()}));
  usize n = off < len ? min_of<usize>(out.size(), len - off) : 0;
  if (n) memcpy(out.data(), bounce.data() + off, n);
  return n;
}

// Can all of the file up to `end` be kept inline?
bool fits_inline(Inode &ip, u64 end) {
  u64 max = ip.filesystem().inline_max();
  if (end > max || ip.size() > max) return false;
  return ip.is_inline() || (ip.size() == 0 && ip.attributes().blocks == 0 && ip.overlay.blocks() == 0);
}

Status write_small(Inode &ip, Bytes in, u64 off) {
  Bounce bounce;
  VX_TRY(bounce.make(ip.filesystem().inline_max(), ip.filesystem().inline_max()));
  MutBytes all{bounce.data(), ip.filesystem().inline_max()};
  memset(all.data(), 0, all.size());
  usize len = 0;
  if (ip.is_inline()) len = VX_TRY(inline_read(ip, all));
  memcpy(all.data() + off, in.data(), in.size());
  usize size = max_of<usize>(len, off + in.size());
  bool fresh = !ip.is_inline();
  VX_TRY(inline_write(ip, all.subspan(0, size)));  // a rewrite of inline contents is a new version already
  if (fresh) ip.bump_version();
  return {};
}

// One block as it is to be before new bytes are put into it; what lies beyond the end of the file is zero. Blocks may
// have been chosen for it already: those that are to be replaced are still mapped.
Status old_block(Inode &ip, u64 file_off, MutBytes block) {
  Filesystem &fs = ip.filesystem();
  MapOut m;
  vx_sum sum;
  VX_TRY(map_sums(ip, file_off, block.size(), {&sum, 1}, m));
  if (m.type != VX_MAP_MAPPED) {
    memset(block.data(), 0, block.size());
    return {};
  }
  VX_TRY(fs.volume().read_blocks(m.disk >> fs.block_shift(), block));
  VX_TRY(check_sums(ip, m, block, {&sum, 1}));
  u64 size = ip.size();
  if (size < file_off + block.size()) {
    usize keep = size > file_off ? static_cast<usize>(size - file_off) : 0;
    memset(block.data() + keep, 0, block.size() - keep);
  }
  return {};
}

// Writes what the bounce buffer has to the blocks that `m` begins with, or (st) it could not be filled: the core's part of
// that ends either way.
Status write_span(Inode &ip, const MapOut &m, Bounce &bounce, usize span, u64 new_size, Status st) {
  Filesystem &fs = ip.filesystem();
  usize bs = fs.block_size();
  bool summed = wants_sums(ip);
  if (summed && st.ok())
    for (usize i = 0; i < span / bs; i++) bounce.sums()[i] = crc32c_of({bounce.data() + i * bs, bs});
  if (st.ok()) st = fs.volume().write_blocks(m.disk >> fs.block_shift(), {bounce.data(), span});
  int err = st.ok() ? 0 : st.to_c();
  Status done = write_done(ip, m.off, span, new_size, err, summed ? bounce.sums().data() : nullptr);
  VX_TRY(std::move(st));
  return done;
}

// Writes the front part of `in` at `at`; returns how much.
Result<usize> write_piece(Inode &ip, Bytes in, u64 at, Bounce &bounce) {
  Filesystem &fs = ip.filesystem();
  usize bs = fs.block_size();
  u64 start = align_down<u64>(at, bs);
  usize skip = static_cast<usize>(at - start);
  u64 want = min_of<u64>(bounce.size(), align_up<u64>(skip + in.size(), bs));
  MapOut m;
  VX_TRY(map_allocate(ip, start, want, true, m));
  usize span = static_cast<usize>(min_of<u64>(want, m.len));
  usize n = min_of<usize>(in.size(), span - skip);
  bool head = skip != 0, tail = skip + n < span;
  Status st;
  if (head || (tail && span == bs)) st = old_block(ip, start, {bounce.data(), bs});
  if (st.ok() && tail && span > bs) st = old_block(ip, start + span - bs, {bounce.data() + span - bs, bs});
  if (st.ok()) memcpy(bounce.data() + skip, in.data(), n);
  VX_TRY(write_span(ip, m, bounce, span, at + n, std::move(st)));
  return n;
}

// The file grows: what the last block has beyond the old end must read as zeroes.
Status zero_tail(Inode &ip) {
  Filesystem &fs = ip.filesystem();
  usize bs = fs.block_size();
  u64 size = ip.size(), start = align_down<u64>(size, bs);
  if (size == start || ip.is_inline()) return {};
  MapOut m;
  VX_TRY(map(ip, start, bs, m));
  if (m.type != VX_MAP_MAPPED) return {};
  Bounce bounce;
  VX_TRY(bounce.make(bs, bs));
  VX_TRY(old_block(ip, start, {bounce.data(), bs}));
  VX_TRY(map_allocate(ip, start, bs, true, m));  // the same block, or another when this one must not be overwritten
  return write_span(ip, m, bounce, bs, size, {});
}

// Under io_lock().
Result<usize> read_quietly(Inode &ip, MutBytes out, u64 off) {
  Filesystem &fs = ip.filesystem();
  u64 size = ip.size();
  if (off >= size) return usize{0};
  out = out.subspan(0, static_cast<usize>(min_of<u64>(out.size(), size - off)));
  if (out.empty()) return usize{0};
  if (ip.is_inline()) return read_inline(ip, out, off);
  Bounce bounce;
  VX_TRY(bounce.make(static_cast<usize>(off % fs.block_size()) + out.size(), fs.block_size()));
  for (usize done = 0; done < out.size();) done += VX_TRY(read_piece(ip, off + done, out.subspan(done), bounce));
  return out.size();
}

// The locks of both files, which may be one and the same.
class BothIo : Pinned {
 public:
  BothIo(Filesystem &fs, u64 a, u64 b) : low_(fs.io_lock(a)), high_(fs.io_lock(b)) {
    if (&low_ > &high_) std::swap(first_, second_);
    first_->lock(0);
    if (first_ != second_) second_->lock(1);
  }
  ~BothIo() {
    if (first_ != second_) second_->unlock();
    first_->unlock();
  }

 private:
  RwSem &low_, &high_;
  RwSem *first_ = &low_, *second_ = &high_;
};

Result<bool> same_contents(Inode &a, Inode &b, const CloneRange &r) {
  Vec<u8> left, right;
  usize piece = static_cast<usize>(min_of<u64>(r.len, kBounce));
  VX_TRY(left.resize(piece));
  VX_TRY(right.resize(piece));
  for (u64 at = 0; at < r.len; at += piece) {
    usize n = static_cast<usize>(min_of<u64>(piece, r.len - at));
    usize i = VX_TRY(read_quietly(a, {left.data(), n}, r.src_off + at));
    usize j = VX_TRY(read_quietly(b, {right.data(), n}, r.dst_off + at));
    if (i != n || j != n || memcmp(left.data(), right.data(), n) != 0) return false;
  }
  return true;
}

}  // namespace
}  // namespace file_io_impl

Result<usize> read_file(Inode &ip, MutBytes out, u64 off) {
  Filesystem &fs = ip.filesystem();
  if (!ip.is_file()) return ip.is_dir() ? Errno::isdir : Errno::inval;
  Timed t(fs.stats(), Op::read);
  SharedGuard g(fs.io_lock(ip.ino()));
  return file_io_impl::read_quietly(ip, out, off);
}

Result<usize> write_file(Inode &ip, Bytes in, u64 off, Time now) {
  using namespace file_io_impl;  // NOLINT: of this file
  Filesystem &fs = ip.filesystem();
  if (!ip.is_file()) return ip.is_dir() ? Errno::isdir : Errno::inval;
  if (fs.volume().read_only()) return Errno::rofs;
  if (in.empty()) return usize{0};
  if (off >= disk::kFileSizeMax || in.size() > disk::kFileSizeMax - off) return Errno::fbig;
  Timed t(fs.stats(), Op::write);
  SharedGuard whole(fs.whole_lock);
  Guard g(fs.io_lock(ip.ino()));
  u64 end = off + in.size();
  auto times = [now](Attributes &a) { a.mtime = a.ctime = now; };
  if (fits_inline(ip, end)) {
    VX_TRY(write_small(ip, in, off));
    ip.touch(times);
    return in.size();
  }
  VX_TRY(uninline(ip));
  if (off > ip.size()) VX_TRY(zero_tail(ip));
  Bounce bounce;
  VX_TRY(bounce.make(static_cast<usize>(off % fs.block_size()) + in.size(), fs.block_size()));
  usize done = 0;
  while (done < in.size()) {
    auto n = write_piece(ip, in.subspan(done), off + done, bounce);
    if (!n.ok()) {
      if (done == 0) return n.error();
      break;
    }
    done += *n;
  }
  ip.touch(times);
  return done;
}

Result<bool> clone_file(Inode &src, Inode &dst, const CloneRange &r, Time now) {
  using namespace file_io_impl;  // NOLINT: of this file
  Filesystem &fs = src.filesystem();
  if (!src.is_file() || !dst.is_file()) return src.is_dir() || dst.is_dir() ? Errno::isdir : Errno::inval;
  if (fs.volume().read_only()) return Errno::rofs;
  SharedGuard whole(fs.whole_lock);
  BothIo locks(fs, src.ino(), dst.ino());
  if (r.src_off > src.size() || r.len > src.size() - r.src_off) return Errno::inval;
  if (r.dedupe && (r.dst_off > dst.size() || r.len > dst.size() - r.dst_off)) return Errno::inval;
  if (r.dedupe && !VX_TRY(same_contents(src, dst, r))) return false;
  if (!r.dedupe && r.dst_off > dst.size()) VX_TRY(zero_tail(dst));
  CloneRange rest = r;
  while (rest.len) {
    u64 done;
    VX_TRY(clone_range(src, dst, rest, now, done));
    rest.src_off += done;
    rest.dst_off += done;
    rest.len -= done;
  }
  return true;
}

Status truncate_file(Inode &ip, u64 size, Time now) {
  Filesystem &fs = ip.filesystem();
  if (!ip.is_file()) return ip.is_dir() ? Errno::isdir : Errno::inval;
  if (fs.volume().read_only()) return Errno::rofs;
  SharedGuard whole(fs.whole_lock);
  Guard g(fs.io_lock(ip.ino()));
  if (size > ip.size()) VX_TRY(file_io_impl::zero_tail(ip));
  return truncate(ip, size, now);
}

}  // namespace vexfs::fs
