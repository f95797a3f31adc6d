// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The stored form of indexes that learn a model and put each slot into lists by it (IVF, LSH): a header, blobs with the
// model, blobs with what is kept of each slot. Little-endian; checksums are the owner's.
//
// (Of DiskANN the lists are stored: diskann_format.h.)
//
// Blobs 0 .. n-1: LearntBlobHeader and up to learnt_model_piece bytes of the model, in order (what a model consists of is
// said where the kind is: ivf.h, lsh.h). The others, one for each 4096 slots: LearntBlobHeader and for each slot a record
// of the kind's size; a record that begins with 0xffffffff is of a slot that is not in the index. Lists are not stored:
// they follow from the records.
#pragma once
#include "../base/endian.h"

namespace vexfs::vector {

constexpr u32 learnt_header_magic = 0x494c5856;  // "VXLI"
constexpr u32 learnt_blob_magic = 0x424c5856;    // "VXLB"
constexpr u16 learnt_version = 1;
constexpr u32 learnt_model_piece = 1 << 20;

constexpr u8 learnt_lists_given = 1;  // flags: the number of lists (of tables, of bits) was asked for, not chosen

struct LearntHeader {
  le32 magic;
  le16 version;
  u8 kind;  // enum vexfs_index_kind
  u8 element;
  u8 metric;
  u8 flags;
  u8 tables;  // LSH
  u8 bits;    // LSH: hash functions of a table
  le32 dim;
  le32 covered;    // slots below this are in the checkpoint, if they were in the index
  le32 learnt;     // slots that there were when it learnt
  le32 nodes;      // slots in the index at the time, for statistics
  le32 lists;      // IVF
  le32 probes;     // as asked for; 0: automatic
  le16 pq_m;       // IVF-PQ: codes of a vector
  u8 bucket_bits;  // LSH: log2 of the buckets of a table
  u8 reserved0;
  le32 entry;  // DiskANN: where walks begin, 0xffffffff: the graph is empty
  le32 reserved1;
  le64 seed;
  le32 ef_construction;  // DiskANN
  le16 m;                // DiskANN
  u8 codes;              // DiskANN: HnswParams::Codes; 0: sq4
  u8 torn;               // DiskANN: 1: links to dead rows are gone, as of a pass that has not ended; 0
};
static_assert(sizeof(LearntHeader) == 64 && offsetof(LearntHeader, dim) == 12 && offsetof(LearntHeader, seed) == 48);

struct LearntBlobHeader {
  le32 magic;
  le16 version;
  u8 kind;
  u8 reserved0;
  le32 number;  // of the blob
  le32 bytes;   // that follow
};
static_assert(sizeof(LearntBlobHeader) == 16);

}  // namespace vexfs::vector
