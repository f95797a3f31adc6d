// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The header that every metadata block begins with: who it is, where it lives, who wrote it when, and its checksum.
#pragma once
#include "../base/crc.h"
#include "../base/endian.h"
#include "../base/result.h"
#include "../base/siphash.h"

namespace vexfs::disk {

enum class Magic : u32 {
  node = 0x4e445856,        // "VXDN" as bytes
  bitmap = 0x4d425856,      // "VXBM"
  descriptor = 0x53445856,  // "VXDS"
  root = 0x54525856,        // "VXRT"
  log = 0x474c5856,         // "VXLG"
};

struct BlockHeader {
  le32 magic;
  le32 crc;      // crc32c of the whole block (node, root slot), this field counted as zero
  le64 fs_hash;  // fs_hash_of(uuid): a block of another filesystem is not taken for one of ours
  le64 addr;     // own place, in filesystem blocks
  le64 txn;      // the transaction that wrote it
};
static_assert(sizeof(BlockHeader) == 32 && offsetof(BlockHeader, crc) == 4 && offsetof(BlockHeader, txn) == 24);

inline u64 fs_hash_of(const u8 (&uuid)[16]) { return siphash({0x5645584653, 0x66735f68617368}, uuid); }

// Why a block was refused; names for messages (found and expected are in Refusal).
enum class Cause : u8 {
  none,
  bad_magic,
  bad_crc,
  other_filesystem,
  misplaced,
  wrong_txn,
  wrong_kind,
  bad_field,
  out_of_order,
  out_of_bounds,
};
const char *cause_name(Cause c);

struct Refusal {
  Cause cause = Cause::none;
  const char *field = "";
  u64 found = 0;
  u64 expected = 0;
  bool ok() const { return cause == Cause::none; }
};

// Adds to a message (a log line, a finding of the checker) why something was refused.
template <class Message>
void add_refusal(Message &m, const Refusal &r) {
  m.str(": ").str(cause_name(r.cause)).str(" (").str(r.field).str(": found ").hex(r.found).str(", expected ");
  m.hex(r.expected).str(")");
}

void seal_block(MutBytes block, Magic magic, u64 fs_hash, u64 addr, u64 txn);  // fills the header, checksum last
void checksum_block(MutBytes block);                                           // the checksum alone
// Magic, checksum, filesystem, place. The transaction is the caller's to compare.
Refusal verify_header(Bytes block, Magic magic, u64 fs_hash, u64 addr);

}  // namespace vexfs::disk
