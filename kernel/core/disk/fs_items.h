// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Items of the fs tree as they lie on disk: inodes, names, file mappings, xattrs, recovery records.
//
// Key layout, (object id, type, offset), compared in that order; integers inside values are little-endian, unaligned:
//
//   oid       type         offset                           value
//   --------  -----------  -------------------------------  ---------------------------------------------------------
//   ino       INODE        0                                DiskInode, exactly 160 bytes
//   ino       INLINE       byte offset of the piece         raw bytes. Regular file: one piece at 0 that holds all of
//                                                           the file (its length is the file's size); the inode has
//                                                           no EXTENT items then. Symlink: the target in pieces of at
//                                                           most kSymlinkPiece bytes, without gaps, sum = size
//   dir ino   DIRENT       cookie                           DiskDirent, then the name
//   ino       EXTENT       first file block                 DiskExtent, exactly 32 bytes; the ranges do not overlap
//   ino       EXTENT_      first file block, a multiple     le32 x n, 1 <= n <= kSumsPerItem: crc32c of blocks
//             CHECKSUM     of kSumsPerItem                  offset, offset + 1, ...; where no extent with
//                                                           kExtentSummed maps them they mean nothing
//   ino       XATTR        cookie (of the full name)        DiskXattr, then the name, then the value if not chunked
//   ino       XATTR_CHUNK  value id << 8 | piece number     raw bytes of a large xattr value, pieces of kXattrPiece
//   ino       VECTOR_REF   see disk/vector_items.h          rows of vector tables that this inode owns
//   0         ORPHAN       ino                              DiskOrphan: the inode has no name any more and is to be
//                                                           deleted at the latest by the next mount
//   0         TRUNCATE     ino                              DiskTruncate: blocks beyond the size are still to be freed
//
// Inode numbers are object ids of the volume: a 64-bit counter, never reused. 0 is no inode, it holds the records.
//
// A cookie is (hash << 7 | seq): hash = the upper 56 bits of SipHash-2-4 of the name under the filesystem's key, plus 2
// when it is less than 2; so a cookie is 256 .. 2^63-1, and 0..255 stay free for "." and "..". seq tells names of one
// hash apart. The entries of one hash form a chain without gaps from seq 0: all but the last carry kDirentChained, and
// one that is removed from the middle stays as a tombstone (ino 0, no name), which a later name may reuse. So the
// absence of seq 0 proves that no such name exists, and a create needs no lookup before its insert. XATTR likewise.
//
// Link counts: a directory has 2 + (number of its subdirectories), everything else the number of its names. An inode
// with an ORPHAN record is dead whatever its nlink says (unlink does not rewrite the inode for the last name).
#pragma once
#include "../base/endian.h"
#include "../base/printer.h"

namespace vexfs::disk {

enum class FsItem : u8 {
  none = 0,
  inode = 1,
  inline_data = 2,
  dirent = 8,
  extent = 16,
  extent_checksum = 17,
  xattr = 24,
  xattr_chunk = 25,
  acl = 26,  // reserved
  vector_ref = 32,
  embed_queue = 33,  // reserved: content changed, to be embedded again
  encryption = 40,   // reserved: per-inode key material
  quota = 48,        // reserved: oid 0, per user, group and project
  orphan = 64,
  truncate = 65,
};

struct DiskTime {
  le64 sec;   // two's complement, seconds since the epoch
  le32 nsec;  // 0 .. 999999999
};
static_assert(sizeof(DiskTime) == 12);

struct DiskInode {
  le32 mode;  // st_mode: type and permissions; the type never changes
  le32 uid;
  le32 gid;
  le32 nlink;
  le64 size;        // bytes; directory: sum of the lengths of its DIRENT values (tombstones not counted)
  le64 blocks;      // data blocks that EXTENT items map, in filesystem blocks
  le64 rdev;        // devices: the host's encoding
  le64 version;     // content version; grows with every change of content, see fs/inode.h
  le64 parent;      // directory of the most recent name; the root's own number for the root
  le64 flags;       // VX_INODE_* of api.h; upper 32 bits zero
  le32 generation;  // random, tells file handles of a recreated filesystem apart
  le32 xattrs;      // number of XATTR items (tombstones not counted)
  DiskTime atime;
  DiskTime mtime;
  DiskTime ctime;
  DiskTime btime;   // birth
  le64 entries;     // directories: number of names in it
  le64 birth;       // transaction that made the inode
  le32 project;     // reserved for project quota: 0
  u8 encryption;    // reserved for an encryption policy: 0 = none
  u8 checksum;      // reserved for a data checksum policy: 0 = the filesystem's default
  u8 compression;   // reserved: 0 = none
  u8 layout;        // version of this struct: 0
  u8 reserved[16];  // zero
};
static_assert(sizeof(DiskInode) == 160);
static_assert(offsetof(DiskInode, size) == 16 && offsetof(DiskInode, generation) == 64 &&
              offsetof(DiskInode, atime) == 72 && offsetof(DiskInode, entries) == 120 &&
              offsetof(DiskInode, project) == 136);

struct DiskDirent {
  le64 ino;     // 0: tombstone
  u8 type;      // DT_* of the inode; 0 in a tombstone
  u8 name_len;  // 1..255; 0 in a tombstone
  u8 flags;     // kDirentChained
  u8 reserved;  // zero
};
static_assert(sizeof(DiskDirent) == 12);
inline constexpr u8 kDirentChained = 1;  // the entry with the next seq exists

struct DiskExtent {
  le64 disk;      // first block on the device
  le32 count;     // blocks, 1 .. kExtentMaxBlocks
  le32 flags;     // kExtent*
  le64 birth;     // transaction that allocated the blocks
  le32 checksum;  // reserved: zero
  le32 reserved;  // zero
};
static_assert(sizeof(DiskExtent) == 32);
inline constexpr u32 kExtentUnwritten = 1;  // allocated, reads as zeroes
inline constexpr u32 kExtentShared = 2;     // other extents may refer to its blocks: see refcount_items.h
inline constexpr u32 kExtentSummed = 4;     // each block has a checksum in an EXTENT_CHECKSUM item
inline constexpr u32 kExtentMaxBlocks = 1u << 31;

struct DiskXattr {
  u8 name_len;    // full name ("user.x"), 1..255; 0 in a tombstone
  u8 flags;       // kXattr*
  le16 reserved;  // zero
  le32 size;      // bytes of the value, 0 .. kXattrMaxValue
  le64 value_id;  // chunked: its XATTR_CHUNK items; else zero
};
static_assert(sizeof(DiskXattr) == 16);
inline constexpr u8 kXattrChained = 1;
inline constexpr u8 kXattrChunked = 2;
inline constexpr u32 kXattrMaxValue = 65536;
inline constexpr u32 kXattrInlineMax = 512;  // larger values are chunked

struct DiskOrphan {
  le32 generation;
  le32 reserved;
};
static_assert(sizeof(DiskOrphan) == 8);

struct DiskTruncate {
  le64 size;  // bytes: what lies beyond is to be freed. Informative, the inode's size decides
};
static_assert(sizeof(DiskTruncate) == 8);

// The 64 bytes of the root that belong to the fs tree.
struct DiskFsRoot {
  le32 layout;  // 1
  le32 reserved0;
  le64 root_ino;
  le64 inodes;      // INODE items, orphans included
  u8 reserved[40];  // zero
};
static_assert(sizeof(DiskFsRoot) == 64);

inline constexpr u32 kNameMax = 255;        // bytes of a name
inline constexpr u32 kSymlinkMax = 4095;    // bytes of a target
inline constexpr u32 kSymlinkPiece = 2048;  // less where the largest item of the filesystem is smaller
inline constexpr u32 kXattrPiece = 3072;    // likewise
inline constexpr u32 kInlineFileMax = 2048;
inline constexpr u64 kFileSizeMax = u64{1} << 60;  // bytes
inline constexpr u32 kSumsPerItem = 16;  // blocks that one EXTENT_CHECKSUM item speaks of: see Allocator::share()
inline constexpr u32 kCookieSeqBits = 7;
inline constexpr u64 kCookieSeqMask = (1u << kCookieSeqBits) - 1;
inline constexpr u64 kCookieFirst = 2u << kCookieSeqBits;
inline constexpr u64 kCookieLast = ~u64{0} >> 1;

// What a verifier needs to know of the volume.
struct FsLimits {
  u64 total_blocks = 0;
  u32 block_size = 0;
};

// Null if the item is as it should be, else what is wrong with it (a literal). Checks one item alone.
const char *verify_inode(Bytes v);
const char *verify_dirent(u64 cookie, Bytes v);
const char *verify_extent(u64 first, Bytes v, const FsLimits &limits);
const char *verify_sums(u64 first, Bytes v, const FsLimits &limits);
const char *verify_xattr(u64 cookie, Bytes v);
const char *verify_fs_item(u64 oid, u8 type, u64 off, Bytes v, const FsLimits &limits);
const char *verify_fs_root(const DiskFsRoot &r);

// One line for people: the key, and what the item says.
void print_fs_item(Printer &p, u64 oid, u8 type, u64 off, Bytes v);
const char *fs_item_name(u8 type);

// st_mode's type bits, and dirent types that belong to them.
inline constexpr u32 kModeType = 0170000, kModeFifo = 0010000, kModeChar = 0020000, kModeDir = 0040000,
                     kModeBlock = 0060000, kModeFile = 0100000, kModeLink = 0120000, kModeSocket = 0140000;
constexpr u8 dirent_type(u32 mode) { return static_cast<u8>((mode & kModeType) >> 12); }
constexpr bool valid_mode_type(u32 mode) {
  switch (mode & kModeType) {
    case kModeFifo:
    case kModeChar:
    case kModeDir:
    case kModeBlock:
    case kModeFile:
    case kModeLink:
    case kModeSocket:
      return (mode & ~(kModeType | 07777u)) == 0;
    default:
      return false;
  }
}

// Value of an item as a struct, when it is long enough.
template <class T>
inline const T *item_as(Bytes v) {
  return v.size() >= sizeof(T) ? reinterpret_cast<const T *>(v.data()) : nullptr;
}

}  // namespace vexfs::disk
