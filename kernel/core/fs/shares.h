// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Blocks of file data that several extents refer to: the refcounts tree (disk/refcount_items.h).
//
// Only what has two references or more has an entry. Sharing a block gives it one more, letting go of it takes one away, and
// the last one frees the blocks as those of any file are freed. One call changes at most kShareSegments runs of blocks
// with different counts: whoever has more asks how far it goes (bounded()), and comes again with another handle.
//
// The lock is taken inside an open handle, after the locks of inodes, and held from bounded() to the change: what one
// inode's data_lock guards is its own extents, not who else refers to their blocks. Nobody begins a handle while holding it.
#pragma once
#include "../disk/refcount_items.h"
#include "../store/volume.h"

namespace vexfs::fs {

class Filesystem;

inline constexpr u32 kShareSegments = 8;
// Tree mutations of add() or drop(): every entry met goes, and every segment, neighbour and cut end gets one.
inline constexpr u32 kShareItems = 2 * (kShareSegments + 4);

class Shares : Pinned {
 public:
  explicit Shares(Filesystem &fs) : lock("vexfs_shares"), fs_(fs) {}

  Mutex lock;  // all below
  // How many blocks of e, from its first on, add() and drop() can take at once; at least one. io, corrupt, nomem.
  Result<u64> bounded(store::Extent e);
  // One more reference to every block of e, which has one already and has been asked about. mlink: too many. Failures
  // after a change abort the volume.
  Status add(store::Handle &h, store::Extent e, u64 birth) { return change(h, e, birth, true); }
  // One less; blocks that had but one become free.
  Status drop(store::Handle &h, store::Extent e, u64 birth) { return change(h, e, birth, false); }

 private:
  struct Run {  // of blocks with one count, as an entry says or is to say
    u64 start = 0, count = 0, birth = 0;
    u32 refs = 0;
    u64 end() const { return start + count; }
    bool operator==(const Run &) const = default;
  };
  static constexpr u32 kRuns = kShareSegments + 4;
  Status change(store::Handle &h, store::Extent e, u64 birth, bool more);
  Status read(store::Extent e);
  Status compute(store::Extent e, u64 birth, bool more);
  Status append(u64 start, u64 end, u64 birth, u32 refs);
  Status write(store::Handle &h);

  Filesystem &fs_;
  Run old_[kRuns], new_[kRuns];  // entries that overlap or touch the blocks in question; and what they are to become
  u32 olds_ = 0, news_ = 0;
  store::Extent freed_[kRuns];
  u32 frees_ = 0;
};

}  // namespace vexfs::fs
