// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The intent log as it lies on disk: pieces of whole blocks, each with a header, a checksum, and records.
//
// A group is what one sync wrote: one or more pieces with ascending sequence numbers, the last one marked so. A group
// counts if all of its pieces are intact. A record is one change of a tree's item, of the allocation or of a root blob,
// in the order in which the changes were made; a group begins and ends between operations, never inside one.
#pragma once
#include "node.h"

namespace vexfs::disk {

inline constexpr u32 kLogPieceMax = 128 << 10;  // bytes of a piece at most, header included
static_assert(kLogBytesMin >= 8 * kLogPieceMax);
inline constexpr u8 kLogLast = 1;  // flags: the last piece of its group

struct LogPieceDisk {
  BlockHeader header;  // magic VXLG; txn: the transaction that the changes belong to
  le64 seq;            // of this piece: from 1 in each session
  le32 blocks;         // length of the piece
  le32 bytes;          // used of it, this header included
  le64 next_object_id;
  le32 records;
  u8 flags;
  u8 reserved[3];
  le64 group;    // seq of the first piece of its group
  le64 session;  // as in the root that the group follows: another mount's pieces are not ours
};
static_assert(sizeof(LogPieceDisk) == 80 && offsetof(LogPieceDisk, seq) == 32 && offsetof(LogPieceDisk, flags) == 60 &&
              offsetof(LogPieceDisk, session) == 72);

enum class LogOp : u8 {
  put = 1,        // the item has this value now, whether it was there or not
  splice = 2,     // bytes [at, at + removed) of the item's value are replaced
  erase = 3,      // the items of [key, last] are gone
  take = 4,       // blocks are in use
  give_back = 5,  // blocks are free
  blob = 6,       // a tree's blob in the root
};

// put, splice: the value's bytes follow. erase: the key of the last item follows. blob: kBlobBytes follow.
struct LogItemDisk {
  u8 op;
  u8 tree;
  le16 len;      // bytes that follow
  le16 at;       // splice
  le16 removed;  // splice
  DiskKey key;
};
static_assert(sizeof(LogItemDisk) == 25);

// take, give_back
struct LogExtentDisk {
  u8 op;
  u8 reserved[3];
  le32 count;  // blocks
  le64 start;
  le64 birth;  // give_back: the transaction that took them
};
static_assert(sizeof(LogExtentDisk) == 24);

// A record, decoded. `bytes` points into the piece.
struct LogRecord {
  LogOp op;
  u8 tree;
  u16 at, removed;
  DiskKey key, last;
  Bytes bytes;
  u64 start, count, birth;
};

// Decodes the record at the beginning of `in` into *out. Returns its length in bytes; 0: malformed. The extent and the
// tree are checked, the sense of a key or a value is not.
usize decode_log_record(Bytes in, const Geometry &geo, LogRecord *out);

// What a root says of the pieces that follow it.
struct LogExpect {
  u64 session = 0;
  u64 txn = 0;
};
// The first block of a piece: all that can be said before the rest is read. Any seq; the caller compares it.
Refusal verify_log_header(Bytes block, const Geometry &geo, u64 addr, const LogExpect &expect);
// The whole piece, checksum and every record's form.
Refusal verify_log_piece(Bytes piece, const Geometry &geo, u64 addr);
void print_log_piece(Bytes piece, const Geometry &geo, bool with_records, TextSink out);

}  // namespace vexfs::disk
