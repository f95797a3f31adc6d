// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Reads the intent log as the newest root left it: which groups are whole, and their pieces in order.
#pragma once
#include "../base/memory.h"
#include "../disk/log.h"
#include "types.h"

namespace vexfs::store {

class LogReader : Pinned {
 public:
  // seq, tail: of the root. txn: the root's; pieces that count belong to the next one.
  LogReader(vx_bdev *dev, const disk::Geometry &geo, u64 seq, u64 tail, u64 txn);
  ~LogReader();
  // Walks the pieces until one is missing or not intact. nomem, io.
  Status scan();
  u64 pieces() const { return pieces_; }  // that are whole groups
  u64 groups() const { return groups_; }
  u64 records() const { return records_; }  // of those
  u64 bytes() const { return bytes_; }
  u64 seen_seq() const { return seen_seq_; }  // beyond every piece that was found intact
  u64 end() const { return end_; }            // where the walk ended, in blocks from the start of the region
  // The pieces of whole groups, one after the other; each is valid during the call. Stops at the first error. corrupt:
  // the device says something else now.
  Status for_each(FnRef<Status(const disk::LogPieceDisk &head, Bytes piece)> fn);

 private:
  // The piece `seq` at *pos (which goes on to the start of the region where a writer would have). noent: there is none.
  Result<Bytes> read(u64 seq, u64 *pos);

  vx_bdev *dev_;
  const disk::Geometry &geo_;
  u64 seq_, tail_, txn_;
  u8 *buf_ = nullptr;
  u64 pieces_ = 0, groups_ = 0, records_ = 0, bytes_ = 0, seen_seq_ = 0, end_ = 0;
};

}  // namespace vexfs::store
