// SPDX-License-Identifier: GPL-2.0-only OR MIT
// DIRENT items: hash chains of names.
#include "dirent.h"

#include "erase.h"
#include "filesystem.h"

namespace vexfs::fs {
namespace dirent_impl {
namespace {

struct Buffer {
  disk::DiskDirent head;
  u8 name[disk::kNameMax];
  Bytes bytes() const { return {reinterpret_cast<const u8 *>(this), sizeof head + head.name_len}; }
};
static_assert(sizeof(Buffer) == sizeof(disk::DiskDirent) + disk::kNameMax);

void fill(Buffer &b, Bytes name, u64 ino, u8 type, u8 flags) {
  b.head.ino = ino;
  b.head.type = type;
  b.head.name_len = static_cast<u8>(name.size());
  b.head.flags = flags;
  b.head.reserved = 0;
  if (!name.empty()) memcpy(b.name, name.data(), name.size());
}

// Reads and verifies one entry. noent.
Status read(const Inode &dir, u64 cookie, Buffer &b) {
  Filesystem &fs = dir.filesystem();
  auto r = fs.tree().get(fs_key(dir.ino(), FsItem::dirent, cookie), mut_bytes_of(b));
  if (r.code() == Errno::range) return fs.damaged(dir.ino(), "directory entry: too long");
  if (!r.ok()) return r.error();
  if (const char *what = disk::verify_dirent(cookie, mut_bytes_of(b).subspan(0, *r)))
    return fs.damaged(dir.ino(), what);
  return {};
}

bool same(const Buffer &b, Bytes name) {
  return b.head.ino != 0 && b.head.name_len == name.size() && memcmp(b.name, name.data(), name.size()) == 0;
}

}  // namespace
}  // namespace dirent_impl

Status check_name(Bytes name) {
  if (name.empty()) return Errno::noent;
  if (name.size() > disk::kNameMax) return Errno::nametoolong;
  for (u8 c : name)
    if (c == '/' || c == 0) return Errno::inval;
  if (name[0] == '.' && (name.size() == 1 || (name.size() == 2 && name[1] == '.'))) return Errno::inval;
  return {};
}

Result<NameSlot> find_name(const Inode &dir, Bytes name) {
  if (name.size() > disk::kNameMax) return Errno::nametoolong;
  u64 base = dir.filesystem().name_cookie(name);
  dirent_impl::Buffer b;
  for (u64 seq = 0; seq <= disk::kCookieSeqMask; seq++) {
    Status st = dirent_impl::read(dir, base + seq, b);
    if (st.code() == Errno::noent && seq) return dir.filesystem().damaged(dir.ino(), "a chain of names is broken");
    VX_TRY(std::move(st));
    if (dirent_impl::same(b, name)) return NameSlot{base + seq, b.head.ino, b.head.type, b.head.flags};
    if (!(b.head.flags & disk::kDirentChained)) break;
  }
  return Errno::noent;
}

namespace dirent_impl {
namespace {

// Seq 0 of the name's hash is taken: the same name, or a collision.
Status insert_colliding(store::Handle &h, const Inode &dir, u64 base, Bytes name, u64 ino, u8 type) {
  Filesystem &fs = dir.filesystem();
  Buffer b;
  u64 tomb = 0, last = 0;
  u8 tomb_flags = 0;
  for (u64 seq = 0;; seq++) {
    if (seq > disk::kCookieSeqMask) return Errno::nospc;
    Status st = read(dir, base + seq, b);
    if (st.code() == Errno::noent) return fs.damaged(dir.ino(), "a chain of names is broken");
    VX_TRY(std::move(st));
    if (same(b, name)) return Errno::exist;
    if (b.head.ino == 0 && !tomb) {
      tomb = base + seq;
      tomb_flags = b.head.flags;
    }
    last = base + seq;
    if (!(b.head.flags & disk::kDirentChained)) break;
  }
  fs.stats().hash_collisions.fetch_add(1, std::memory_order_relaxed);
  if (tomb) {
    fill(b, name, ino, type, tomb_flags);
    return fs.tree().update(h, fs_key(dir.ino(), FsItem::dirent, tomb), b.bytes());
  }
  if ((last & disk::kCookieSeqMask) == disk::kCookieSeqMask) return Errno::nospc;
  fill(b, name, ino, type, 0);
  VX_TRY(fs.tree().insert(h, fs_key(dir.ino(), FsItem::dirent, last + 1), b.bytes()));
  u8 chained = disk::kDirentChained;
  return must(
      h, fs.tree().patch(h, fs_key(dir.ino(), FsItem::dirent, last), offsetof(disk::DiskDirent, flags), {&chained, 1}));
}

}  // namespace
}  // namespace dirent_impl

Status insert_name(store::Handle &h, const Inode &dir, Bytes name, u64 ino, u8 type) {
  Filesystem &fs = dir.filesystem();
  u64 base = fs.name_cookie(name);
  dirent_impl::Buffer b;
  dirent_impl::fill(b, name, ino, type, 0);
  Status st = fs.tree().insert(h, fs_key(dir.ino(), FsItem::dirent, base), b.bytes());
  if (st.code() != Errno::exist) return st;
  return dirent_impl::insert_colliding(h, dir, base, name, ino, type);
}

Status replace_name(store::Handle &h, const Inode &dir, const NameSlot &slot, Bytes name, u64 ino, u8 type) {
  dirent_impl::Buffer b;
  dirent_impl::fill(b, name, ino, type, slot.flags);
  return dir.filesystem().tree().update(h, fs_key(dir.ino(), FsItem::dirent, slot.cookie), b.bytes());
}

Status erase_name(store::Handle &h, const Inode &dir, const NameSlot &slot) {
  Filesystem &fs = dir.filesystem();
  auto key = [&](u64 cookie) { return fs_key(dir.ino(), FsItem::dirent, cookie); };
  if (slot.flags & disk::kDirentChained) {  // others come behind: leave a tombstone
    dirent_impl::Buffer b;
    dirent_impl::fill(b, {}, 0, 0, disk::kDirentChained);
    return fs.tree().update(h, key(slot.cookie), b.bytes());
  }
  VX_TRY(fs.tree().erase(h, key(slot.cookie)));
  if ((slot.cookie & disk::kCookieSeqMask) == 0) return {};
  u8 none = 0;
  return must(h, fs.tree().patch(h, key(slot.cookie - 1), offsetof(disk::DiskDirent, flags), {&none, 1}));
}

}  // namespace vexfs::fs
