// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Walking the pieces of the intent log.
#include "log_reader.h"

#include "super_io.h"

namespace vexfs::store {

LogReader::LogReader(vx_bdev *dev, const disk::Geometry &geo, u64 seq, u64 tail, u64 txn)
    : dev_(dev), geo_(geo), seq_(seq ? seq : 1), tail_(tail), txn_(txn) {}

LogReader::~LogReader() {
  if (buf_) vx_free_large(buf_, disk::kLogPieceMax);
}

Result<Bytes> LogReader::read(u64 seq, u64 *pos) {
  if (geo_.log_blocks - *pos < disk::kLogPieceMax >> geo_.block_shift) *pos = 0;
  u64 addr = geo_.log_start + *pos;
  VX_TRY(device_read(dev_, addr << geo_.block_shift, {buf_, geo_.block_size}, true));
  if (!disk::verify_log_header({buf_, geo_.block_size}, geo_, addr, seq, txn_ + 1).ok()) return Errno::noent;
  usize len = usize{reinterpret_cast<const disk::LogPieceDisk *>(buf_)->blocks} << geo_.block_shift;
  if (len > geo_.block_size)
    VX_TRY(device_read(dev_, (addr + 1) << geo_.block_shift, {buf_ + geo_.block_size, len - geo_.block_size}, true));
  if (!disk::verify_log_piece({buf_, len}, geo_, addr).ok()) return Errno::noent;
  return Bytes(buf_, len);
}

Status LogReader::scan() {
  seen_seq_ = seq_;
  end_ = tail_;
  if (!geo_.has_log) return {};
  buf_ = static_cast<u8 *>(vx_alloc_large(disk::kLogPieceMax, 0));
  if (!buf_) return Errno::nomem;
  u64 pos = tail_, walked = 0, open = 0, records = 0, bytes = 0;
  for (;;) {
    u64 before = pos;
    Result<Bytes> r = read(seen_seq_, &pos);
    // An unreadable block behind the last group is no reason to refuse the groups before it.
    if (r.code() == Errno::noent || (r.code() == Errno::io && open == 0)) return {};
    if (!r.ok()) return r.error();
    const auto *h = reinterpret_cast<const disk::LogPieceDisk *>(r->data());
    walked += (pos < before ? geo_.log_blocks - before : 0) + h->blocks;
    if (walked > geo_.log_blocks) return {};
    pos += h->blocks;
    seen_seq_++;
    open++;
    records += h->records;
    bytes += r->size();
    if (!(h->flags & disk::kLogLast)) continue;
    pieces_ += std::exchange(open, 0);
    groups_++;
    records_ += std::exchange(records, 0);
    bytes_ += std::exchange(bytes, 0);
    end_ = pos;
  }
}

Status LogReader::for_each(FnRef<Status(const disk::LogPieceDisk &, Bytes)> fn) {
  u64 pos = tail_;
  for (u64 i = 0; i < pieces_; i++) {
    Result<Bytes> r = read(seq_ + i, &pos);
    if (!r.ok()) return r.code() == Errno::noent ? Errno::corrupt : r.error();
    disk::LogPieceDisk h;
    memcpy(&h, r->data(), sizeof h);
    VX_TRY(fn(h, *r));
    pos += h.blocks;
  }
  return {};
}

}  // namespace vexfs::store
