// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Deleting inodes and freeing the tails of files, in bounded pieces that a crash may come between.
#pragma once
#include "inode.h"
#include "shares.h"

namespace vexfs::fs {

// Items erased in one handle. Their extents are collected on the stack first, because a handle's tree may not be
// entered from inside an erase.
inline constexpr u32 kErasePiece = 16;
inline constexpr u32 kErasePieceItems = max_of(kErasePiece, kShareItems + 2);  // tree mutations

// Deletes an inode without names that nobody else can reach, with everything it has; its ORPHAN record goes last.
Status erase_inode(Inode &ip);
// The same for what a crash in the middle of erase_inode() left: items without an INODE item.
Status erase_remains(Filesystem &fs, u64 ino);
// Gives back what the overlay holds: nobody will write any more. No lock held, nobody else can reach the inode.
void release_overlay(Inode &ip);
// Erases up to kErasePiece items of first..last in h and frees the blocks of the extents among them, but those that another
// file has too; an extent that is shared is a piece by itself, or several. Returns whether there may be more items, and in
// *freed how many blocks are in no extent any more. A failure after a change aborts the volume.
Result<bool> erase_piece(Filesystem &fs, store::Handle &h, const store::Key &first, const store::Key &last, u64 *freed);
// Frees the extents beyond the size of a file (data_lock held), in as many transactions as it takes, and removes its
// TRUNCATE record in the last.
Status finish_truncate(Inode &ip);

// For what has failed after the operation had changed something.
inline Status must(store::Handle &h, Status st) {
  if (!st.ok()) h.abort(st.error());
  return st;
}

}  // namespace vexfs::fs
