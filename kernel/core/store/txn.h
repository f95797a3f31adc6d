// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Transactions as the upper rooms see them: reservation, handle (one atomic operation), commit participant.
#pragma once
#include "../base/list.h"
#include "../base/memory.h"
#include "types.h"

namespace vexfs::store {

class Volume;
struct State;

// What an operation may need at most. begin() takes all of it (space and memory) before anything is changed.
struct Reserve {
  u32 items = 1;              // tree mutations that the operation makes at most
  u64 data_blocks = 0;        // data blocks that it will take with Volume::alloc(Handle &, ...)
  bool last_reserve = false;  // gives the space of a snapshot back: goes on where nothing else can. With `freeing`
  bool freeing = false;       // removes more than it adds, or completes something promised before (write completion of
                              // reserved blocks): may dip into the emergency reserve, so that it works on a full disk
};

// One atomic operation inside the open transaction: all of its changes are in the same commit. Ends at destruction.
// A thread has at most one handle at a time, and must not wait for a commit while it has one.
class [[nodiscard]] Handle {
 public:
  Handle() = default;
  Handle(Handle &&o) noexcept;
  Handle &operator=(Handle &&o) noexcept;
  ~Handle() { end(); }

  u64 txn() const { return txn_; }  // the transaction that these changes belong to
  bool active() const { return state_ != nullptr; }
  // The operation failed after it had changed something: the volume becomes read-only, the open transaction is never
  // committed, and the disk stays at the last commit.
  void abort(Error why);
  void end();  // the same as destruction

 private:
  friend class Volume;
  friend class Tree;
  friend struct State;
  friend struct TreeOps;
  State *state_ = nullptr;
  u64 txn_ = 0;
  u32 slots_ = 0;        // node places still promised to this handle
  u32 buffers_ = 0;      // node buffers still promised
  u64 data_blocks_ = 0;  // data blocks still promised
};

// An upper room that keeps state lazily and takes part in every commit. Callbacks may be null.
struct Participant {
  // Before the freeze, in the context of whoever commits, handles still possible: write lazily kept items by ordinary
  // handles. Not called for commits that begin() forces for lack of space or memory (its caller may hold any lock).
  // Several threads may be in prepare at once.
  Status (*prepare)(Participant *) = nullptr;
  // While no handle is open: append the data writes that must be on disk before the root flips. Buffers stay valid and
  // unchanged until done(). Must not begin a handle, and must take only locks under which nobody calls begin().
  // An error fails this commit before it has begun; nothing is lost, a later commit tries again.
  Status (*freeze)(Participant *, u64 txn, Vec<vx_io> &ios) = nullptr;
  // The transaction is durable (err 0), or it failed (negative errno; then the volume is aborted, unless it was a
  // freeze that failed). Called after every freeze, same context.
  void (*done)(Participant *, u64 txn, int err) = nullptr;
  void *ctx = nullptr;  // the owner's own
};

}  // namespace vexfs::store
