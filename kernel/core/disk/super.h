// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The superblock (byte 4096) and the geometry that follows from it: what never changes after mkfs.
#pragma once
#include "../base/printer.h"
#include "block.h"

namespace vexfs::disk {

inline constexpr u64 kSuperOffset = 4096;  // bytes from the start of the device
inline constexpr u32 kSuperBytes = 4096;
inline constexpr u32 kBootBytes = 65536;  // everything below belongs to boot loaders, the superblock and nobody else
inline constexpr u8 kSuperMagic[8] = {'V', 'e', 'x', 'F', 'S', 0x1a, '\r', '\n'};
inline constexpr u16 kVersionMajor = 1, kVersionMinor = 0;
inline constexpr u32 kMinBlock = 1024, kMaxBlock = 65536, kMaxNode = 65536;
inline constexpr u32 kLabelBytes = 64;
inline constexpr u64 kLogBytesMin = u64{1} << 20;  // a smaller log region is not used

// Features. compat: may be ignored; ro_compat: unknown ones allow reading only; incompat: unknown ones forbid mounting.
inline constexpr u64 kCompatKnown = 0;
inline constexpr u64 kRoCompatKnown = 0;
inline constexpr u64 kIncompatLog = 1;             // the intent log region is in use and must be replayed
inline constexpr u64 kIncompatSnapshots = 2;       // there can be snapshots, and the dead tree
inline constexpr u64 kIncompatReflink = 4;         // files can share blocks, counted in the refcounts tree
inline constexpr u64 kIncompatEncryption = 8;      // reserved
inline constexpr u64 kIncompatMirroredNodes = 16;  // every tree node has a second copy, at NodePtr.mirror
inline constexpr u64 kIncompatDataSums = 32;       // file data can have checksums
inline constexpr u64 kIncompatKnown =
    kIncompatLog | kIncompatSnapshots | kIncompatReflink | kIncompatMirroredNodes | kIncompatDataSums;

struct SuperDisk {
  u8 magic[8];
  le32 crc;    // crc32c of all kSuperBytes, this field counted as zero
  le32 bytes;  // kSuperBytes
  u8 uuid[16];
  u8 label[kLabelBytes];
  le64 compat, ro_compat, incompat;
  le64 self;  // byte offset of this copy on the device
  le64 total_blocks;
  le32 block_size;    // bytes
  le32 node_size;     // bytes
  le32 group_blocks;  // multiple of 64
  le32 root_blocks;   // size of a root slot
  le64 groups;
  le64 root_slot[2];  // first block of slot 0, 1
  le64 root_mirror[2];
  le64 desc_start;  // home h of descriptor block d: desc_start + h * desc_count + d
  le64 desc_count;
  le64 log_start;  // intent log region; 0 when log_blocks is 0
  le64 log_blocks;
  u8 hash_key[16];  // SipHash key for directory names
  le64 created_sec;
  le32 created_nsec;
  le16 version_major, version_minor;
  le32 checksum_kind;  // 1: crc32c
  le32 reserved0;
  u8 creator[32];  // program that made it, NUL-padded
  u8 reserved[kSuperBytes - 296];
};
static_assert(sizeof(SuperDisk) == kSuperBytes && offsetof(SuperDisk, crc) == 8 && offsetof(SuperDisk, uuid) == 16 &&
              offsetof(SuperDisk, label) == 32 && offsetof(SuperDisk, compat) == 96 &&
              offsetof(SuperDisk, total_blocks) == 128 && offsetof(SuperDisk, block_size) == 136 &&
              offsetof(SuperDisk, groups) == 152 && offsetof(SuperDisk, root_slot) == 160 &&
              offsetof(SuperDisk, desc_start) == 192 && offsetof(SuperDisk, log_start) == 208 &&
              offsetof(SuperDisk, hash_key) == 224 && offsetof(SuperDisk, created_sec) == 240 &&
              offsetof(SuperDisk, checksum_kind) == 256 && offsetof(SuperDisk, creator) == 264 &&
              offsetof(SuperDisk, reserved) == 296);

// The same, checked and in host form, with everything that follows from it.
struct Geometry {
  u32 block_size = 0, block_shift = 0;
  u32 node_size = 0, node_blocks = 0;
  u64 total_blocks = 0;
  u32 group_blocks = 0;
  u64 groups = 0;
  u32 root_blocks = 0;
  u64 root_slot[2] = {}, root_mirror[2] = {};
  u64 desc_start = 0, desc_count = 0;
  u64 log_start = 0, log_blocks = 0;
  bool has_log = false;   // ... and it is in use
  bool mirrored = false;  // tree nodes have second copies
  u64 fs_hash = 0;

  u64 group_of(u64 block) const { return block / group_blocks; }  // NOLINT(clang-analyzer-core.DivideZero): verified
  u32 place_blocks() const { return mirrored ? 2 * node_blocks : node_blocks; }  // of a tree node, both copies
  u64 group_start(u64 g) const { return g * group_blocks; }
  u32 group_len(u64 g) const {
    u64 left = total_blocks - group_start(g);
    return left < group_blocks ? static_cast<u32>(left) : group_blocks;
  }
  u32 super_blocks() const { return block_size >= kSuperBytes ? 1 : kSuperBytes / block_size; }
  u64 head_blocks() const { return desc_start + 2 * desc_count; }  // boot area, root slots, descriptors
  u64 tail_blocks() const { return 2 * u64{root_blocks} + super_blocks(); }
  u64 tail_start() const { return total_blocks - tail_blocks(); }
  static bool is_backup_group(u64 g);  // groups 1, 3, 9, 27 ... begin with a superblock copy
  u64 backup_block(u64 g) const { return group_start(g); }
  u64 last_backup_byte() const { return (total_blocks << block_shift) - kSuperBytes; }
  u64 bitmap_block(u64 g, unsigned home) const;
  u32 group_front(u64 g) const;  // fixed blocks at the start of group g (head, backup, bitmaps)
  // Does [start, start+count) lie inside the filesystem and outside of all fixed structures?
  bool is_data(u64 start, u64 count) const;
  // Calls fn(first block, count) for every fixed range inside group g; ranges do not overlap.
  template <class F>
  void for_fixed(u64 g, F &&fn) const {
    u64 b = group_start(g), e = b + group_len(g);
    fn(b, u64{group_front(g)});
    auto clip = [&](u64 s, u64 n) {
      u64 lo = max_of(s, b), hi = min_of(s + n, e);
      if (n && lo < hi) fn(lo, hi - lo);
    };
    clip(log_start, log_blocks);
    clip(tail_start(), tail_blocks());
  }
  u32 max_item() const;
};

u32 bits_per_bitmap(u32 block_size);  // blocks that one bitmap block describes
u32 descriptors_per_block(u32 block_size);
u32 root_bytes(u64 desc_count);  // bytes of a root slot's contents

void seal_super(SuperDisk &s, u64 self);
// Checks every field against every other; `self` is the byte offset where the copy was read, device_bytes the size of
// the device. Fills *out.
Refusal verify_super(const SuperDisk &s, u64 self, u64 device_bytes, Geometry *out);
void print_super(const SuperDisk &s, TextSink out);

}  // namespace vexfs::disk
