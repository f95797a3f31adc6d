// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Items of vector collections: layout, verifiers, printers.
//
// Two trees hold them. In the `collections` tree, with `cid` the collection's 32-bit number (from a counter in that
// tree's root blob, never used again):
//
//   (0,   1 by_dir,       directory's inode number)  -> DirEntryItem: the collection that the directory carries
//   (0,   2 tombstone,    cid)                       -> empty: dropped, its items and blocks are still being freed
//   (0,   3 dead_owner,   owner's inode number)      -> empty: the file has lost its last name; its rows count as dead
//                                                       although they are still being marked so one by one
//   (cid, 1 config,       0)                         -> ConfigItem
//   (cid, 2 state,        0)                         -> StateItem: counters that every insert changes
//   (cid, 3 rows,         slot / rows_per_group)     -> a row group: metadata of up to rows_per_group rows
//                                                       (vector_items_rows.h)
//   (cid, 4 ids,          first id)                  -> IdRunItem: ids first .. first+count-1 are slots slot ..
//                                                       slot+count-1. A slot whose row is dead counts as no mapping.
//   (cid, 5 chunk,        chunk number)              -> ChunkItem: where the rows' data lies
//   (cid, 6 dead,         chunk number)              -> bitmap of the chunk's slots, bit set: dead. Absent: none is.
//   (cid, 7 index_header, 0)                         -> IndexHeaderItem, then the index's own header
//   (cid, 8 index_blob,   blob << 32 | generation)   -> BlobItem. Of a blob, the one of the greatest generation that is not
//                                                       beyond the header's counts; the others are on their way out.
//   (cid, 9 recall,       0)                         -> RecallItem: what was measured of the index. Absent: nothing was.
//
// In the `fs` tree, under the inode number of the file that owns rows (so that they are found when the file goes):
//
//   (ino, kOwnerRefType,  cid << 32 | slot)          -> OwnerRefItem: slots slot .. slot+count-1 belong to the file
//
// Slots are handed out in order and never reused. A chunk holds chunk_rows rows (a power of two) of `stride` bytes, in
// up to kChunkPieces runs of blocks, back to back in the order of the item; row i of a chunk starts at byte i * stride.
// Rows at or beyond StateItem.slots are not there, whatever the blocks hold. The bytes of a row never change, so that
// new rows are written in place behind the old ones, before the root that counts them is written.
#pragma once
#include "../base/endian.h"
#include "../base/printer.h"
#include "../base/result.h"

namespace vexfs::disk {

inline constexpr u8 kRegistryByDir = 1, kRegistryTombstone = 2, kRegistryDeadOwner = 3;  // types under object 0
enum class VectorItem : u8 {
  config = 1,
  state = 2,
  rows = 3,
  ids = 4,
  chunk = 5,
  dead = 6,
  index_header = 7,
  index_blob = 8,
  recall = 9,
};
inline constexpr u8 kVectorItemLast = 9;
inline constexpr u8 kOwnerRefType = 32;  // in the fs tree: FsItem::vector_ref

inline constexpr u32 kVectorVersion = 1;
inline constexpr u32 kNameBytes = 64;  // NUL-padded, at most 63 bytes of text
inline constexpr u64 kSlotsMax = (u64{1} << 31) - 2;
inline constexpr u32 kChunkBytesMax = 2 << 20;
inline constexpr u32 kChunkRowsMax = 16384;
inline constexpr u32 kChunkPieces = 32;
inline constexpr u32 kGroupRowsMax = 32;
inline constexpr u32 kIndexBlobMax = 16 << 20;

// Root blob of the collections tree.
struct VectorRootBlob {
  le64 next_cid;  // 0 counts as 1
  le64 reserved[7];
};
static_assert(sizeof(VectorRootBlob) == 64);

struct DirEntryItem {
  le64 cid;
};
static_assert(sizeof(DirEntryItem) == 8);

inline constexpr u32 kIvfListsMax = 65536, kProbesMax = 65536, kPqMax = 256, kLshTablesMax = 64, kLshBitsMax = 32;
inline constexpr u32 kCodesMax = 5, kRecallMax = 1000;
inline constexpr u64 kIvfElementsMax = u64{1} << 27;  // lists times dim
inline constexpr bool index_kind_known(u8 kind) { return kind >= 1 && kind <= 6; }
const char *index_kind_name(u8 kind);     // "?": none
inline constexpr u32 kConfigDropped = 1;  // flags: being freed; nobody may use it
inline constexpr u32 kConfigCompact = 2;  // rows are not kept in memory
inline constexpr u32 kConfigFlags = kConfigDropped | kConfigCompact;
struct ConfigItem {
  le32 version;  // kVectorVersion
  le32 flags;
  le64 dir_ino;
  le32 dim;
  u8 element;  // enum vexfs_element
  u8 metric;   // enum vexfs_metric
  u8 index;    // enum vexfs_index_kind
  u8 reserved0;
  le16 m;
  le16 rows_per_group;
  le32 stride;  // bytes from row to row in a chunk
  le32 chunk_rows;
  le32 ef_construction;
  le32 ef_search;
  le32 created_nsec;
  le64 created_sec;
  le64 birth;  // transaction that made it
  le64 index_seed;
  char name[kNameBytes];
  char model[kNameBytes];
  // Of kinds of index; 0 is automatic (and what older collections have).
  le32 lists;   // IVF
  le32 probes;  // IVF, LSH
  le16 pq_m;    // IVF-PQ
  u8 tables;    // LSH
  u8 bits;      // LSH
  le16 codes;   // HNSW, DiskANN: enum vexfs_codes
  le16 recall;  // per mille that searches are to reach by default; 0: ef_search is what counts
  le64 reserved[5];
};
static_assert(sizeof(ConfigItem) == 256 && offsetof(ConfigItem, lists) == 200 && offsetof(ConfigItem, dim) == 16 &&
              offsetof(ConfigItem, stride) == 28 && offsetof(ConfigItem, created_sec) == 48 &&
              offsetof(ConfigItem, name) == 72 && offsetof(ConfigItem, reserved) == 216);

struct StateItem {
  le64 slots;     // handed out so far
  le64 live;      // of these, not dead
  le64 next_id;   // where the search for an id to assign begins
  le64 last_txn;  // transaction of the latest change
  le64 owned;     // slots ever given to rows with an owner: 0 means that nobody's permission needs asking
  le64 reserved;
};
static_assert(sizeof(StateItem) == 48);

struct IdRunItem {
  le32 slot;
  le32 count;  // >= 1
};
static_assert(sizeof(IdRunItem) == 8);

struct OwnerRefItem {
  le32 count;  // >= 1
};
static_assert(sizeof(OwnerRefItem) == 4);

struct ChunkPiece {
  le64 start;   // block
  le32 blocks;  // >= 1
};
struct ChunkItem {
  le64 birth;    // transaction of its first piece
  le32 npieces;  // 1..kChunkPieces
  le32 reserved;
  ChunkPiece pieces[kChunkPieces];  // only npieces of them are stored
  static constexpr usize bytes(u32 n) { return 16 + usize{n} * sizeof(ChunkPiece); }
};
static_assert(sizeof(ChunkPiece) == 12 && sizeof(ChunkItem) == 16 + 12 * kChunkPieces);

// Key of an index_blob.
inline constexpr u64 blob_off(u32 blob, u64 generation) { return u64{blob} << 32 | generation; }
inline constexpr u32 blob_number(u64 off) { return static_cast<u32>(off >> 32); }
inline constexpr u64 blob_generation(u64 off) { return off & 0xffffffff; }
inline constexpr u64 kGenerationMax = 0xfffffffe;  // so that another one always fits

inline constexpr u32 kIndexHeaderVersion = 2;  // 1: all blobs of a checkpoint were of one generation
struct IndexHeaderItem {
  le32 version;  // kIndexHeaderVersion
  u8 kind;       // enum vexfs_index_kind
  u8 reserved0[3];
  le64 generation;  // 1..kGenerationMax
  le32 covered;     // slots 0..covered-1 are in the index (those that were alive when it was made)
  le32 nblobs;
  le64 bytes;  // blocks of all blobs, in bytes
  le64 txn;
  le32 own_bytes;  // of the index's own header that follows
  le32 reserved1;
};
static_assert(sizeof(IndexHeaderItem) == 48);

struct BlobItem {
  le64 start;  // first block; the blob is contiguous
  le32 blocks;
  le32 bytes;  // what the index wrote
  le32 crc;    // crc32c of those
  le32 reserved;
  le64 birth;
};
static_assert(sizeof(BlobItem) == 32);

// The recall that searches of several breadths reach (vector/recall_curve.h, which says what the numbers mean). Derived
// data, as an index is: where it makes no sense, or is of an index with other parameters, it is measured again.
inline constexpr u32 kRecallVersion = 1;
inline constexpr u32 kRecallPoints = 16, kRecallClasses = 4, kRecallScale = 10000, kRecallQueriesMax = 256;
inline constexpr u8 kRecallOutdated = 1;  // flags: the index was made anew since
struct RecallItem {
  le32 version;  // kRecallVersion; says which breadths and numbers of neighbours the points are of
  le32 index;    // crc32c of the parameters of the index that was measured
  le32 slots;    // >= 1, that it held
  le32 dead;     // slots of dead rows there were
  le32 queries;  // 1..kRecallQueriesMax
  le32 walked;   // rows that a walk of the widest breadth tried looked at
  u8 by;         // enum vexfs_recall_by
  u8 tried;      // points, 1..kRecallPoints
  u8 flags;
  u8 reserved0;
  le32 reserved1;
  le16 mean[kRecallClasses][kRecallPoints];  // of kRecallScale
  le16 sure[kRecallClasses][kRecallPoints];
};
static_assert(sizeof(RecallItem) == 288 && offsetof(RecallItem, by) == 24 && offsetof(RecallItem, mean) == 32 &&
              offsetof(RecallItem, sure) == 160);

// What the verifiers need to know of the filesystem.
struct VectorLimits {
  u64 total_blocks = 0;
  u32 block_size = 0;
};

// Each returns null for a sound item, else the name of the first field that is not.
const char *verify_config(Bytes item, u64 cid);
const char *verify_state(Bytes item);
const char *verify_id_run(Bytes item, u64 first_id);
const char *verify_owner_ref(Bytes item, u64 key_off);
// capacity in rows is what the pieces hold, at most chunk_rows.
const char *verify_chunk(Bytes item, const VectorLimits &limits, u64 chunk_bytes);
const char *verify_index_header(Bytes item);
const char *verify_blob(Bytes item, const VectorLimits &limits);
// slots: of the collection. What was measured cannot have been more. (Dead rows may have been: those of a file that was
// deleted while it was open, until it is closed.)
const char *verify_recall(Bytes item, u64 slots);

// One item of the collections tree as a line of text, for tools and messages. Never fails: what is damaged is said so.
void print_vector_item(Printer &out, u64 oid, u8 type, u64 off, Bytes item);
const char *vector_item_name(u64 oid, u8 type);

// Layout of a table, from its configuration.
struct TableShape {
  u32 stride = 0;       // bytes
  u32 chunk_rows = 0;   // power of two
  u64 chunk_bytes = 0;  // chunk_rows * stride
};
// For rows of row_bytes each, with items of at most max_item bytes.
TableShape shape_for(u32 row_bytes, usize max_item);
// Rows per row group: the largest power of two whose worst encoding fits an item.
u32 group_rows_for(usize max_item);

}  // namespace vexfs::disk
