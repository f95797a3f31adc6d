// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The stored form of an HNSW graph: a header, and a blob for each segment. Little-endian; checksums are the owner's.
//
// A blob: HnswBlobHeader; a bitmap of `slots` bits (bit set: the node is in the graph); the level-0 lists, `slots`
// times 2m le32; the upper lists, `upper_lists` times m le32, by slot, then level 1, 2, ... An unused place holds
// 0xffffffff; used ones come first. A node's level is not stored: it is a hash of seed and slot (Graph::level_of).
//
// Version 1 is a graph walked on rows: blob i is segment i. Version 2 has codes: blob 0 is the centre (HnswBlobHeader with
// `slots` 1, or 0 if there is none yet, and `dim` le32, the bits of floats), blob 1 + 2i is segment i, and blob 2 + 2i its
// codes (HnswBlobHeader, then `slots` codes; see simd/codes.h).
#pragma once
#include "../base/endian.h"

namespace vexfs::vector {

constexpr u32 hnsw_header_magic = 0x4e485856;  // "VXHN"
constexpr u32 hnsw_blob_magic = 0x53485856;    // "VXHS"
constexpr u32 hnsw_centre_magic = 0x43485856;  // "VXHC"
constexpr u32 hnsw_codes_magic = 0x51485856;   // "VXHQ"
constexpr u16 hnsw_version = 1, hnsw_version_coded = 2;

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
  u8 codes;    // HnswParams::Codes; 0 in version 1
  u8 pad[3];
  le32 learnt;  // slots there were when codes were chosen automatically; 0: they were given
  u8 reserved[12];
};
static_assert(sizeof(HnswHeader) == 64 && offsetof(HnswHeader, seed) == 24 && offsetof(HnswHeader, nodes) == 40 &&
              offsetof(HnswHeader, learnt) == 48);

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
