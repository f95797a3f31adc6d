// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Keys of collection items, and the common way to report a damaged one.
#pragma once
#include "../disk/vector_items.h"
#include "../store/volume.h"

namespace vexfs::vector {

using disk::VectorItem;

constexpr store::Key item_key(u32 cid, VectorItem type, u64 off = 0) { return {cid, static_cast<u8>(type), off}; }
constexpr store::Key registry_key(u8 type, u64 off) { return {0, type, off}; }
constexpr store::Key ref_key(u64 ino, u32 cid, u64 slot) { return {ino, disk::kOwnerRefType, u64{cid} << 32 | slot}; }

inline disk::VectorLimits limits_of(const store::Volume &v) { return {v.total_blocks(), v.block_size()}; }

// Logs the damage, lets the errors= policy act, and gives the error to return.
Error damaged(store::Volume &v, u64 cid, const char *item, u64 off, const char *field);

}  // namespace vexfs::vector
