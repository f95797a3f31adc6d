// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The stored form of an HNSW graph: a header, and a blob for each segment. Little-endian; checksums are the owner's.
//
// A blob: HnswBlobHeader; a bitmap of `slots` bits (bit set: the node is in the graph); the level-0 lists, `slots`
// times 2m le32; the upper lists, `upper_lists` times m le32, by slot, then level 1, 2, ... An unused place holds
// 0xffffffff; used ones come first. A node's level is not stored: it is a hash of seed and slot (Graph::level_of).
#pragma once
#include "../base/endian.h"

namespace vexfs::vector {

constexpr u32 hnsw_header_magic = 0x4e485856;  // "VXHN"
constexpr u32 hnsw_blob_magic = 0x53485856;    // "VXHS"
constexpr u16 hnsw_version = 1;

struct HnswHeader {
  le32 magic;
  le16 version;
  le16 m;
  le32 ef_construction;
  le32 dim;
  u8 element;
  u8 metric;
  le16 shift;    // log2 of slots per blob
  le32 covered;  // slots below this are in the checkpoint, if they were in the graph
  le64 seed;
  le32 entry_slot;  // 0xffffffff: empty graph
  le32 entry_level;
  le32 nodes;  // present at the time, for statistics
  u8 reserved[20];
};
static_assert(sizeof(HnswHeader) == 64 && offsetof(HnswHeader, seed) == 24 && offsetof(HnswHeader, nodes) == 40);

struct HnswBlobHeader {
  le32 magic;
  le16 version;
  le16 m;
  le32 segment;
  le32 slots;
  le32 upper_lists;
  u8 reserved[12];
};
static_assert(sizeof(HnswBlobHeader) == 32);

}  // namespace vexfs::vector
