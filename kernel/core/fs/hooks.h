// SPDX-License-Identifier: GPL-2.0-only OR MIT
// How a higher room takes part in what happens to files: the vector room registers one struct of functions.
//
// Hooks are called only for inodes that carry VX_INODE_HAS_VECTORS or VX_INODE_COLLECTION (Inode::change_flags sets
// them), so other files pay nothing. Any function may be null. Which locks are held is said at each; none of them may
// call a namespace or file-data function on the inode that it was called for. Order in an unlink:
//
//   before_unlink -> begin() -> names and link counts change -> unlinked -> handle ends
//     ... references may keep the inode open ...
//   last reference dropped -> deleting -> items of the inode are erased, piece by piece -> gone
#pragma once
#include "../store/txn.h"

namespace vexfs::fs {

class Inode;

struct Hooks {
  void *ctx = nullptr;

  // The name about to be removed is the last one of `ip` (unlink, rmdir, or rename over it): may it go, and how many
  // tree mutations does unlinked() make at most? An error vetoes the operation, nothing has changed. No handle is
  // open. Locks held: the parent directory's data_lock (exclusive), ip's meta_lock (exclusive); of a directory also its
  // own data_lock (exclusive). The count must be bounded (a few hundred): an inode with very many rows is best served
  // by one "owner is dead" record here, its rows being reclaimed in deleting().
  Result<u32> (*before_unlink)(void *ctx, Inode &ip) = nullptr;

  // The same inode has lost its last name in h. Whatever search may still find must be invisible when this returns. An
  // error aborts the volume (something has changed already). Locks as above; h is open, so no begin() and no commit.
  Status (*unlinked)(void *ctx, store::Handle &h, Inode &ip) = nullptr;

  // The last reference of an inode without names is gone, and its items (VECTOR_REF included) will be erased. Also
  // called by the recovery of a mount. No handle is open, no lock held, nobody else can reach ip: as many transactions
  // as needed may be run. With an error the inode stays on the orphan list, for the next mount.
  Status (*deleting)(void *ctx, Inode &ip) = nullptr;

  // The content changed (write, truncate, fallocate): `version` is the new one. Must not sleep, must not call the
  // core. The inode's data_lock may be held.
  void (*content_changed)(void *ctx, Inode &ip, u64 version) = nullptr;

  // The in-memory inode is about to be freed: the place for dropping Inode::upper. Must not sleep. No lock held.
  void (*released)(void *ctx, Inode &ip) = nullptr;
};

}  // namespace vexfs::fs
