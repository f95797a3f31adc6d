// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Extended attributes: full names ("user.x") of 1..255 bytes, values of 0..65536 bytes, each set is one handle.
#pragma once
#include "inode.h"

namespace vexfs::fs {

// Length of the value; copies it when `out` is not empty (range if it does not fit). nodata.
Result<usize> xattr_get(Inode &ip, Bytes name, MutBytes out);
// flags: VX_XATTR_*. exist, nodata, toobig, nospc.
Status xattr_set(Inode &ip, Bytes name, Bytes value, u32 flags, Time now);
Status xattr_remove(Inode &ip, Bytes name, Time now);  // nodata
// All names, in cookie order; emit may sleep and returns false to stop.
Status xattr_list(Inode &ip, FnRef<bool(Bytes)> emit);

}  // namespace vexfs::fs
