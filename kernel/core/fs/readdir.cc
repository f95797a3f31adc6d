// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Listing directories: entries are copied out in batches, so that no lock is held while the host looks at them.
#include "dirent.h"
#include "filesystem.h"
#include "namespace.h"

namespace vexfs::fs {
namespace readdir_impl {
namespace {

// An entry in a batch: the cookie, then the DIRENT value as it is in the tree.
struct Packed {
  u64 cookie;
  disk::DiskDirent head;
  u8 pad[4];
};
static_assert(sizeof(Packed) == 24);

struct Batch {
  static constexpr usize kBytes = 16 << 10;
  u8 *buf;
  usize used = 0;
  u64 next = 0;  // where the next batch starts
  bool full = false;
  const char *bad = nullptr;

  bool add(u64 cookie, Bytes value) {
    if ((bad = disk::verify_dirent(cookie, value))) return false;
    const auto &head = *disk::item_as<disk::DiskDirent>(value);
    next = cookie + 1;
    if (head.ino == 0) return true;
    usize len = align_up<usize>(sizeof(Packed) + head.name_len, 8);
    if (len > kBytes - used) {
      full = true;
      next = cookie;
      return false;
    }
    Packed p{cookie, head, {}};
    memcpy(buf + used, &p, sizeof p);
    memcpy(buf + used + sizeof p, value.data() + sizeof head, head.name_len);
    used += len;
    return true;
  }
};

// Hands the batch out. False: emit wants no more, pos is the entry it refused.
bool emit_batch(const Batch &b, u64 &pos, FnRef<bool(const DirEntry &)> emit) {
  for (usize at = 0; at < b.used;) {
    Packed p;
    memcpy(&p, b.buf + at, sizeof p);
    DirEntry e{{b.buf + at + sizeof p, p.head.name_len}, p.head.ino, p.head.type, p.cookie};
    pos = p.cookie;
    if (!emit(e)) return false;
    pos = p.cookie + 1;
    at += align_up<usize>(sizeof p + p.head.name_len, 8);
  }
  return true;
}

}  // namespace
}  // namespace readdir_impl

Status readdir(Inode &dir, u64 &pos, FnRef<bool(const DirEntry &)> emit) {
  Filesystem &fs = dir.filesystem();
  if (!dir.is_dir()) return Errno::notdir;
  Timed t(fs.stats(), Op::readdir);
  readdir_impl::Batch b{static_cast<u8 *>(vx_alloc(readdir_impl::Batch::kBytes, 0))};
  if (!b.buf) return Errno::nomem;
  Status st;
  bool more = true;
  while (more && pos <= disk::kCookieLast) {
    b.used = 0;
    b.full = false;
    b.next = max_of(pos, disk::kCookieFirst);
    st = fs.tree().scan(fs_key(dir.ino(), FsItem::dirent, b.next), fs_key(dir.ino(), FsItem::dirent, disk::kCookieLast),
                        [&b](const store::Key &key, Bytes value) { return b.add(key.off, value); });
    if (b.bad) st = fs.damaged(dir.ino(), b.bad);
    if (!st.ok()) break;
    more = readdir_impl::emit_batch(b, pos, emit);
    if (!more) break;
    pos = b.full ? b.next : disk::kCookieLast + 1;
  }
  vx_free(b.buf);
  return st;
}

}  // namespace vexfs::fs
