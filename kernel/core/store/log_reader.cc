// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Walking the pieces of the intent log.
#include "log_reader.h"

#include "super_io.h"

namespace vexfs::store {

LogReader::LogReader(vx_bdev *dev, const disk::Geometry &geo, const disk::RootDisk &root)
    : dev_(dev),
      geo_(geo),
      seq_(root.log_seq ? root.log_seq.get() : 1),
      tail_(root.log_tail),
      expect_{root.log_session, root.header.txn + 1},
      closed_(root.state & disk::kRootStateClosed) {}

LogReader::~LogReader() {
  if (buf_) vx_free_large(buf_, disk::kLogPieceMax);
}

Result<Bytes> LogReader::read(u64 *pos) {
  if (geo_.log_blocks - *pos < disk::kLogPieceMax >> geo_.block_shift) *pos = 0;
  u64 addr = geo_.log_start + *pos;
  VX_TRY(device_read(dev_, addr << geo_.block_shift, {buf_, geo_.block_size}, true));
  if (!disk::verify_log_header({buf_, geo_.block_size}, geo_, addr, expect_).ok()) return Errno::noent;
  usize len = usize{reinterpret_cast<const disk::LogPieceDisk *>(buf_)->blocks} << geo_.block_shift;
  if (len > geo_.block_size)
    VX_TRY(device_read(dev_, (addr + 1) << geo_.block_shift, {buf_ + geo_.block_size, len - geo_.block_size}, true));
  if (!disk::verify_log_piece({buf_, len}, geo_, addr).ok()) return Errno::noent;
  return Bytes(buf_, len);
}

Status LogReader::scan() {
  end_ = tail_;
  if (!geo_.has_log || closed_) return {};
  buf_ = static_cast<u8 *>(vx_alloc_large(disk::kLogPieceMax, 0));
  if (!buf_) return Errno::nomem;
  u64 pos = tail_, walked = 0, open = 0, records = 0, seq = seq_, group = seq_;
  for (;;) {
    u64 before = pos;
    Result<Bytes> r = read(&pos);
    if (!r.ok() && r.code() != Errno::noent) return r.error();
    const auto *h = reinterpret_cast<const disk::LogPieceDisk *>(buf_);
    if (!r.ok() || h->seq != seq || h->group != group) return look_beyond(group);
    walked += (pos < before ? geo_.log_blocks - before : 0) + h->blocks;
    if (walked > geo_.log_blocks) return {};
    pos += h->blocks;
    if (pos == geo_.log_blocks) pos = 0;
    seq++;
    open++;
    records += h->records;
    if (!(h->flags & disk::kLogLast)) continue;
    pieces_ += std::exchange(open, 0);
    groups_++;
    records_ += std::exchange(records, 0);
    end_ = pos;
    group = seq;
  }
}

// Is there an intact piece? One in the buffer stays there.
Result<bool> LogReader::whole_at(u64 pos) {
  struct Buffer : Pinned {
    u8 *p = static_cast<u8 *>(vx_alloc_large(disk::kLogPieceMax, 0));
    ~Buffer() {
      if (p) vx_free_large(p, disk::kLogPieceMax);
    }
  } b;
  if (!b.p) return Errno::nomem;
  const u64 addr = geo_.log_start + pos;
  const u64 most = min_of<u64>(disk::kLogPieceMax >> geo_.block_shift, geo_.log_blocks - pos);
  Status st = device_read(dev_, addr << geo_.block_shift, {b.p, most << geo_.block_shift}, true);
  if (!st.ok()) return st.code() == Errno::io ? Result<bool>(false) : Result<bool>(st.error());
  const u64 blocks = reinterpret_cast<const disk::LogPieceDisk *>(b.p)->blocks;
  return blocks && blocks <= most && disk::verify_log_piece({b.p, blocks << geo_.block_shift}, geo_, addr).ok();
}

// A group is written when the one before it is on the device. So if any piece of a later group than `group` is here,
// `group` was whole, and what is wrong with it now is damage. And the first piece of a transaction is written when the
// root of the one before it is on the device.
Status LogReader::look_beyond(u64 group) {
  u64 step = disk::kLogPieceMax >> geo_.block_shift;
  for (u64 pos = 0; pos < geo_.log_blocks; pos += step) {
    u64 n = min_of(step, geo_.log_blocks - pos), addr = geo_.log_start + pos;
    Status st = device_read(dev_, addr << geo_.block_shift, {buf_, n << geo_.block_shift}, true);
    if (st.code() == Errno::io) continue;
    VX_TRY(st);
    for (u64 i = 0; i < n; i++) {
      const u8 *block = buf_ + (i << geo_.block_shift);
      const auto *h = reinterpret_cast<const disk::LogPieceDisk *>(block);
      const disk::LogExpect any{expect_.session, max_of<u64>(expect_.txn, h->header.txn)};
      if (!disk::verify_log_header({block, geo_.block_size}, geo_, addr + i, any).ok()) continue;
      if (any.txn > expect_.txn && !newer_) newer_ = VX_TRY(whole_at(pos + i));
      hole_ = hole_ || (any.txn == expect_.txn && h->group > group);
    }
  }
  return {};
}

Status LogReader::for_each(FnRef<Status(const disk::LogPieceDisk &, Bytes)> fn) {
  u64 pos = tail_;
  for (u64 i = 0; i < pieces_; i++) {
    Result<Bytes> r = read(&pos);
    if (!r.ok()) return r.code() == Errno::noent ? Errno::corrupt : r.error();
    disk::LogPieceDisk h;
    memcpy(&h, r->data(), sizeof h);
    if (h.seq != seq_ + i) return Errno::corrupt;
    VX_TRY(fn(h, *r));
    pos += h.blocks;
    if (pos == geo_.log_blocks) pos = 0;
  }
  return {};
}

}  // namespace vexfs::store
