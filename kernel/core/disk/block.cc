// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Sealing and verifying the common header of metadata blocks.
#include "block.h"

namespace vexfs::disk {

const char *cause_name(Cause c) {
  switch (c) {
    case Cause::none:
      return "no fault";
    case Cause::bad_magic:
      return "bad magic";
    case Cause::bad_crc:
      return "bad checksum";
    case Cause::other_filesystem:
      return "block of another filesystem";
    case Cause::misplaced:
      return "misplaced block";
    case Cause::wrong_txn:
      return "wrong transaction (lost or stale write)";
    case Cause::wrong_kind:
      return "wrong kind of block";
    case Cause::bad_field:
      return "bad field";
    case Cause::out_of_order:
      return "items out of order";
    case Cause::out_of_bounds:
      return "item out of bounds";
  }
  return "unknown cause";
}

void checksum_block(MutBytes block) {
  auto *h = reinterpret_cast<BlockHeader *>(block.data());
  h->crc = crc32c_block(block, offsetof(BlockHeader, crc));
}

void seal_block(MutBytes block, Magic magic, u64 fs_hash, u64 addr, u64 txn) {
  auto *h = reinterpret_cast<BlockHeader *>(block.data());
  h->magic = static_cast<u32>(magic);
  h->fs_hash = fs_hash;
  h->addr = addr;
  h->txn = txn;
  checksum_block(block);
}

Refusal verify_header(Bytes block, Magic magic, u64 fs_hash, u64 addr) {
  const auto *h = reinterpret_cast<const BlockHeader *>(block.data());
  if (h->magic != static_cast<u32>(magic)) return {Cause::bad_magic, "magic", h->magic, static_cast<u32>(magic)};
  u32 crc = crc32c_block(block, offsetof(BlockHeader, crc));
  if (h->crc != crc) return {Cause::bad_crc, "crc32c", h->crc, crc};
  if (h->fs_hash != fs_hash) return {Cause::other_filesystem, "fs_hash", h->fs_hash, fs_hash};
  if (h->addr != addr) return {Cause::misplaced, "addr", h->addr, addr};
  return {};
}

}  // namespace vexfs::disk
