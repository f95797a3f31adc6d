// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Names in a directory: finding, inserting, replacing and removing DIRENT items. See disk/fs_items.h for cookies and
// chains. The caller holds the directory's data_lock, exclusively for changes.
#pragma once
#include "inode.h"

namespace vexfs::fs {

struct NameSlot {
  u64 cookie = 0;
  u64 ino = 0;
  u8 type = 0;   // DT_*
  u8 flags = 0;  // kDirentChained
};

// Lengths and characters that a name may have: inval (empty, ".", "..", '/', NUL), nametoolong.
Status check_name(Bytes name);
// Bytes that a name counts in its directory's size.
constexpr u64 dirent_size(usize name_len) { return sizeof(disk::DiskDirent) + name_len; }

Result<NameSlot> find_name(const Inode &dir, Bytes name);  // noent; corrupt
// When one of these fails nothing has changed, or the volume has been aborted. exist: the name is there.
inline constexpr u32 kInsertNameItems = 2;
Status insert_name(store::Handle &h, const Inode &dir, Bytes name, u64 ino, u8 type);
inline constexpr u32 kReplaceNameItems = 1;
Status replace_name(store::Handle &h, const Inode &dir, const NameSlot &slot, Bytes name, u64 ino, u8 type);
inline constexpr u32 kEraseNameItems = 2;
Status erase_name(store::Handle &h, const Inode &dir, const NameSlot &slot);

}  // namespace vexfs::fs
