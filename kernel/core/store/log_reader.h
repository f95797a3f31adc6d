// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Reads the intent log as the newest root left it: which groups are whole, and their pieces in order.
#pragma once
#include "../base/memory.h"
#include "../disk/log.h"
#include "types.h"

namespace vexfs::store {

class LogReader : Pinned {
 public:
  // Pieces that count belong to the transaction after the root's.
  LogReader(vx_bdev *dev, const disk::Geometry &geo, const disk::RootDisk &root);
  ~LogReader();
  // Walks the pieces until one is missing or not intact. nomem, io (a block cannot be read: whether a group was there
  // cannot be told).
  Status scan();
  // A later group than the one where the walk ended is there: what is missing was not torn by a crash, it was whole once.
  bool hole() const { return hole_; }
  // There are pieces of a transaction after the one that the root's successor would be: a later root was durable once.
  bool newer() const { return newer_; }
  u64 pieces() const { return pieces_; }  // that are whole groups
  u64 groups() const { return groups_; }
  u64 records() const { return records_; }  // of those
  u64 end() const { return end_; }          // where the walk ended, in blocks from the start of the region
  // The pieces of whole groups, one after the other; each is valid during the call. Stops at the first error. corrupt:
  // the device says something else now.
  Status for_each(FnRef<Status(const disk::LogPieceDisk &head, Bytes piece)> fn);

 private:
  // The piece at *pos (which goes on to the start of the region where a writer would have). noent: there is none.
  Result<Bytes> read(u64 *pos);
  Result<bool> whole_at(u64 pos);
  Status look_beyond(u64 group);

  vx_bdev *dev_;
  const disk::Geometry &geo_;
  u64 seq_, tail_;
  disk::LogExpect expect_;
  bool closed_, hole_ = false, newer_ = false;
  u8 *buf_ = nullptr;
  u64 pieces_ = 0, groups_ = 0, records_ = 0, end_ = 0;
};

}  // namespace vexfs::store
