// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Verifiers and printers of the fs tree's items.
#include "fs_items.h"

namespace vexfs::disk {
namespace fs_items_impl {
namespace {

bool all_zero(const u8 *p, usize n) {
  for (usize i = 0; i < n; i++)
    if (p[i]) return false;
  return true;
}

bool valid_time(const DiskTime &t) { return t.nsec.get() < 1000000000; }

void print_mode(Printer &p, u32 mode) {
  static constexpr char kTypes[] = "?pc?d?b?-?l?s???";
  p.ch(kTypes[(mode & kModeType) >> 12]).ch(' ');
  for (int shift = 9; shift >= 0; shift -= 3) p.ch(static_cast<char>('0' + ((mode >> shift) & 7)));
}

void print_time(Printer &p, const char *name, const DiskTime &t) {
  p.ch(' ').str(name).ch(' ').sdec(static_cast<s64>(t.sec.get())).ch('.').dec(t.nsec.get());
}

void print_inode(Printer &p, const DiskInode &d) {
  p.str(" mode ");
  print_mode(p, d.mode);
  p.str(" uid ").dec(d.uid).str(" gid ").dec(d.gid).str(" nlink ").dec(d.nlink).str(" size ").dec(d.size);
  p.str(" blocks ").dec(d.blocks).str(" version ").dec(d.version).str(" parent ").dec(d.parent);
  p.str(" flags ").hex(d.flags).str(" generation ").dec(d.generation).str(" entries ").dec(d.entries);
  p.str(" xattrs ").dec(d.xattrs).str(" rdev ").hex(d.rdev).str(" birth ").dec(d.birth);
  print_time(p, "mtime", d.mtime);
  print_time(p, "ctime", d.ctime);
}

}  // namespace
}  // namespace fs_items_impl

const char *verify_inode(Bytes v) {
  if (v.size() != sizeof(DiskInode)) return "inode: wrong length";
  const auto &d = *item_as<DiskInode>(v);
  u32 type = d.mode & kModeType;
  if (!valid_mode_type(d.mode)) return "inode: impossible mode";
  if (d.size > kFileSizeMax) return "inode: size beyond the maximum";
  if (d.nlink > 0x7fffffff) return "inode: too many links";
  if (d.flags >> 32) return "inode: unknown flags";
  if (d.parent == 0) return "inode: no parent";
  if (type != kModeDir && d.entries != 0) return "inode: entries, but no directory";
  if (type == kModeLink && (d.size == 0 || d.size > kSymlinkMax)) return "inode: bad length of a symlink";
  if (type != kModeFile && d.blocks != 0) return "inode: blocks, but no regular file";
  using fs_items_impl::valid_time;
  if (!valid_time(d.atime) || !valid_time(d.mtime) || !valid_time(d.ctime) || !valid_time(d.btime))
    return "inode: nanoseconds out of range";
  if (d.layout != 0) return "inode: unknown layout";
  if (d.encryption || d.checksum || d.compression || d.project) return "inode: feature not known to this version";
  if (!fs_items_impl::all_zero(d.reserved, sizeof d.reserved)) return "inode: reserved bytes not zero";
  return nullptr;
}

const char *verify_dirent(u64 cookie, Bytes v) {
  const auto *d = item_as<DiskDirent>(v);
  if (!d) return "directory entry: too short";
  if (cookie < kCookieFirst || cookie > kCookieLast) return "directory entry: cookie out of range";
  if (v.size() != sizeof(DiskDirent) + d->name_len) return "directory entry: wrong length";
  if (d->flags & ~kDirentChained || d->reserved) return "directory entry: unknown flags";
  if (d->ino == 0) return d->name_len || d->type ? "directory entry: bad tombstone" : nullptr;
  if (d->name_len == 0) return "directory entry: empty name";
  if (!valid_mode_type(u32{d->type} << 12)) return "directory entry: impossible type";
  const u8 *name = v.data() + sizeof(DiskDirent);
  for (u32 i = 0; i < d->name_len; i++)
    if (name[i] == '/' || name[i] == 0) return "directory entry: forbidden character";
  if (name[0] == '.' && (d->name_len == 1 || (d->name_len == 2 && name[1] == '.')))
    return "directory entry: named . or ..";
  return nullptr;
}

const char *verify_extent(u64 first, Bytes v, const FsLimits &limits) {
  if (v.size() != sizeof(DiskExtent)) return "extent: wrong length";
  const auto &d = *item_as<DiskExtent>(v);
  if (d.count == 0 || d.count > kExtentMaxBlocks) return "extent: impossible length";
  if (d.flags & ~(kExtentUnwritten | kExtentSummed | kExtentShared)) return "extent: unknown flags";
  if ((d.flags & kExtentUnwritten) && d.flags != kExtentUnwritten) return "extent: unwritten, and more than that";
  if (d.checksum || d.reserved) return "extent: reserved bytes not zero";
  if (d.disk == 0 || d.disk >= limits.total_blocks || d.count > limits.total_blocks - d.disk)
    return "extent: outside the device";
  if (first > kFileSizeMax / limits.block_size || first + d.count > kFileSizeMax / limits.block_size)
    return "extent: beyond the largest file";
  return nullptr;
}

const char *verify_sums(u64 first, Bytes v, const FsLimits &limits) {
  usize n = v.size() / sizeof(le32);
  if (n == 0 || n > kSumsPerItem || v.size() % sizeof(le32)) return "checksums of data: wrong length";
  if (first % kSumsPerItem || first > kFileSizeMax / limits.block_size - kSumsPerItem)
    return "checksums of data: impossible offset";
  return nullptr;
}

const char *verify_xattr(u64 cookie, Bytes v) {
  const auto *d = item_as<DiskXattr>(v);
  if (!d) return "xattr: too short";
  if (cookie < kCookieFirst || cookie > kCookieLast) return "xattr: cookie out of range";
  if (d->flags & ~(kXattrChained | kXattrChunked) || d->reserved) return "xattr: unknown flags";
  if (d->size > kXattrMaxValue) return "xattr: value too long";
  bool chunked = d->flags & kXattrChunked;
  if (v.size() != sizeof(DiskXattr) + d->name_len + (chunked ? 0 : d->size.get())) return "xattr: wrong length";
  if (chunked != (d->value_id != 0) || d->value_id >> 56) return "xattr: bad value id";
  if (d->name_len == 0) return d->size || chunked ? "xattr: bad tombstone" : nullptr;
  return nullptr;
}

const char *verify_fs_item(u64 oid, u8 type, u64 off, Bytes v, const FsLimits &limits) {
  auto t = static_cast<FsItem>(type);
  bool record = t == FsItem::orphan || t == FsItem::truncate;
  if (record != (oid == 0)) return record ? "record under an inode" : "item of inode 0";
  switch (t) {
    case FsItem::inode:
      return off ? "inode: offset not zero" : verify_inode(v);
    case FsItem::inline_data:
      if (v.size() > kInlineFileMax && v.size() > kSymlinkPiece) return "inline data: too long";
      return off > kSymlinkMax ? "inline data: offset too large" : nullptr;
    case FsItem::dirent:
      return verify_dirent(off, v);
    case FsItem::extent:
      return verify_extent(off, v, limits);
    case FsItem::extent_checksum:
      return verify_sums(off, v, limits);
    case FsItem::xattr:
      return verify_xattr(off, v);
    case FsItem::xattr_chunk:
      return v.empty() || v.size() > kXattrPiece ? "xattr chunk: impossible length" : nullptr;
    case FsItem::vector_ref:
      return nullptr;  // the vector room's own
    case FsItem::orphan:
      return v.size() != sizeof(DiskOrphan) || off == 0 ? "orphan record: malformed" : nullptr;
    case FsItem::truncate:
      return v.size() != sizeof(DiskTruncate) || off == 0 ? "truncate record: malformed" : nullptr;
    default:
      return "item of unknown type";
  }
}

const char *verify_fs_root(const DiskFsRoot &r) {
  if (r.layout != 1) return "fs root: unknown layout";
  if (r.root_ino == 0) return "fs root: no root directory";
  if (r.reserved0 || !fs_items_impl::all_zero(r.reserved, sizeof r.reserved)) return "fs root: reserved bytes not zero";
  return nullptr;
}

const char *fs_item_name(u8 type) {
  switch (static_cast<FsItem>(type)) {
    case FsItem::inode:
      return "INODE";
    case FsItem::inline_data:
      return "INLINE";
    case FsItem::dirent:
      return "DIRENT";
    case FsItem::extent:
      return "EXTENT";
    case FsItem::extent_checksum:
      return "EXTENT_CHECKSUM";
    case FsItem::xattr:
      return "XATTR";
    case FsItem::xattr_chunk:
      return "XATTR_CHUNK";
    case FsItem::acl:
      return "ACL";
    case FsItem::vector_ref:
      return "VECTOR_REF";
    case FsItem::embed_queue:
      return "EMBED_QUEUE";
    case FsItem::encryption:
      return "ENCRYPTION";
    case FsItem::quota:
      return "QUOTA";
    case FsItem::orphan:
      return "ORPHAN";
    case FsItem::truncate:
      return "TRUNCATE";
    case FsItem::none:
      break;
  }
  return "UNKNOWN";
}

void print_fs_item(Printer &p, u64 oid, u8 type, u64 off, Bytes v) {
  p.ch('(').dec(oid).ch(' ').str(fs_item_name(type)).ch(' ').dec(off).str(") ").dec(v.size()).str(" bytes:");
  switch (static_cast<FsItem>(type)) {
    case FsItem::inode:
      if (v.size() >= sizeof(DiskInode)) fs_items_impl::print_inode(p, *item_as<DiskInode>(v));
      break;
    case FsItem::dirent:
      if (const auto *d = item_as<DiskDirent>(v)) {
        p.str(" ino ").dec(d->ino).str(" type ").dec(d->type).flag(d->flags & kDirentChained, "chained").ch(' ');
        p.quoted(v.subspan(sizeof *d));
      }
      break;
    case FsItem::extent:
      if (const auto *d = item_as<DiskExtent>(v)) {
        p.str(" disk ").dec(d->disk).str(" count ").dec(d->count).str(" birth ").dec(d->birth);
        p.flag(d->flags & kExtentUnwritten, "unwritten").flag(d->flags & kExtentSummed, "summed");
        p.flag(d->flags & kExtentShared, "shared");
      }
      break;
    case FsItem::extent_checksum:
      for (usize i = 0; i < v.size() / sizeof(le32); i++) p.ch(' ').hex(reinterpret_cast<const le32 *>(v.data())[i]);
      break;
    case FsItem::xattr:
      if (const auto *d = item_as<DiskXattr>(v)) {
        p.ch(' ').quoted(v.subspan(sizeof *d, min_of<usize>(d->name_len, v.size() - sizeof *d)));
        p.str(" size ").dec(d->size).flag(d->flags & kXattrChained, "chained");
        if (d->flags & kXattrChunked) p.str(" value id ").dec(d->value_id);
      }
      break;
    case FsItem::orphan:
      if (const auto *d = item_as<DiskOrphan>(v)) p.str(" generation ").dec(d->generation);
      break;
    case FsItem::truncate:
      if (const auto *d = item_as<DiskTruncate>(v)) p.str(" size ").dec(d->size);
      break;
    default:
      break;
  }
}

}  // namespace vexfs::disk
