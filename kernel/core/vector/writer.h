// SPDX-License-Identifier: GPL-2.0-only OR MIT
// One change of a collection's rows: what happens between taking and leaving the writer lock, inside a handle.
//
// Errors before anything was changed are returned; after that they abort the volume (a transaction is all or nothing).
#pragma once
#include "collection.h"

namespace vexfs::vector {

class Writer : Pinned {
 public:
  Writer(Collection &c, store::Handle &h) : c_(c), h_(h), guard_(c.writer_) {}
  ~Writer() { c_.table_.release_room(); }

  // Appends rows; see Collection::apply. `blocks` is what the handle was promised. again: begin anew with more.
  Status add(RowOp op, NewRow *rows, u32 n, u64 blocks, bool ahead, u32 *done);
  Status remove(const u64 *ids, u32 n, u32 *done);
  Status kill_owned(u64 ino, u32 slot, u32 count);

 private:
  // A lookup that must not fail for want of memory once something has been changed.
  template <class F>
  auto insist(F &&f) -> decltype(f()) {
    for (u32 tries = 0;; tries++) {
      auto r = f();
      if (r.code() != Errno::nomem || !changed_ || tries == 2000) return r;
      vx_yield();
    }
  }
  Result<u32> live_slot(u64 id);
  Status assign_auto(NewRow *rows, u32 n);
  Status check_owners(NewRow *rows, u32 n);
  Status find_old(RowOp op, NewRow *rows, u32 n, u32 *upto);
  Status map_rows(RowOp op, NewRow *rows, u32 n, u32 slot, u32 *mapped);
  Status append_row(NewRow &r, u32 slot);
  Status add_refs(NewRow *rows, u32 n, u32 slot);
  // Marks the slot dead in the tree: record, bitmap, id, and the owner's reference. Into *old what the row was.
  Status kill(u32 slot, bool with_ref, disk::RowRecord *old);
  Status mark_bitmap(u32 slot);
  Status store_state();
  Status fail(Error e);  // aborts when something has been changed
  Status finish(u32 first, u32 n);

  Collection &c_;
  store::Handle &h_;
  Guard<Mutex> guard_;
  bool changed_ = false;
  u32 nkilled_ = 0;
  u32 killed_[Collection::op_cost_max] = {};
  disk::RowRecord old_;
};

}  // namespace vexfs::vector
