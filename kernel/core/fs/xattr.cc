// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Extended attributes: small values beside their names, large ones in chunks. Names chain like those of a directory.
#include "xattr.h"

#include "erase.h"
#include "filesystem.h"

namespace vexfs::fs {
namespace xattr_impl {
namespace {

using disk::DiskXattr;

constexpr usize kItemMax = sizeof(DiskXattr) + disk::kNameMax + disk::kXattrInlineMax;

// One XATTR item with room for the largest.
struct Item {
  u8 bytes[kItemMax];
  usize len = 0;
  DiskXattr &head() { return *reinterpret_cast<DiskXattr *>(bytes); }
  Bytes name() { return {bytes + sizeof(DiskXattr), head().name_len}; }
  Bytes value() { return {bytes + sizeof(DiskXattr) + head().name_len, len - sizeof(DiskXattr) - head().name_len}; }
  bool chunked() { return head().flags & disk::kXattrChunked; }
  bool chained() { return head().flags & disk::kXattrChained; }
};

store::Key key_of(const Inode &ip, u64 cookie) { return fs_key(ip.ino(), FsItem::xattr, cookie); }
store::Key chunk_key(const Inode &ip, u64 id, u64 n) { return fs_key(ip.ino(), FsItem::xattr_chunk, id << 8 | n); }

Status check_name(Bytes name) {
  if (name.empty()) return Errno::inval;
  return name.size() > disk::kNameMax ? Status(Errno::range) : Status();
}

// noent: no such item.
Status read(const Inode &ip, u64 cookie, Item &item) {
  Filesystem &fs = ip.filesystem();
  auto r = fs.tree().get(key_of(ip, cookie), item.bytes);
  if (r.code() == Errno::range) return fs.damaged(ip.ino(), "xattr: too long");
  if (!r.ok()) return r.error();
  item.len = *r;
  if (const char *what = disk::verify_xattr(cookie, {item.bytes, item.len})) return fs.damaged(ip.ino(), what);
  return {};
}

// Where a name is, or would go.
struct Place {
  u64 cookie = 0;  // of the item found; else of a free place: a tombstone, or the one behind the last
  bool found = false;
  bool tombstone = false;  // the free place is a tombstone
  bool chained = false;    // of the item at `cookie`
  u64 last = 0;            // last item of the chain, when there is one and the free place is behind it
};

// On return with found, `item` is the xattr.
Result<Place> find(const Inode &ip, Bytes name, Item &item) {
  u64 base = ip.filesystem().name_cookie(name);
  Place p;
  for (u64 seq = 0; seq <= disk::kCookieSeqMask; seq++) {
    Status st = read(ip, base + seq, item);
    if (st.code() == Errno::noent) {
      if (seq) return ip.filesystem().damaged(ip.ino(), "a chain of xattrs is broken");
      p.cookie = base;
      return p;
    }
    VX_TRY(std::move(st));
    if (item.head().name_len == name.size() && memcmp(item.name().data(), name.data(), name.size()) == 0) {
      p.cookie = base + seq;
      p.found = true;
      p.chained = item.chained();
      return p;
    }
    if (item.head().name_len == 0 && !p.tombstone) {
      p.tombstone = true;
      p.cookie = base + seq;
      p.chained = item.chained();
    }
    if (item.chained()) continue;
    if (!p.tombstone) {
      if (seq == disk::kCookieSeqMask) return Errno::nospc;
      p.last = base + seq;
      p.cookie = base + seq + 1;
    }
    return p;
  }
  return ip.filesystem().damaged(ip.ino(), "a chain of xattrs never ends");
}

u32 chunk_count(const Filesystem &fs, usize size) { return static_cast<u32>(div_up<usize>(size, fs.xattr_piece())); }

Status insert_chunks(store::Handle &h, const Inode &ip, u64 id, Bytes value) {
  for (u32 i = 0; i < chunk_count(ip.filesystem(), value.size()); i++) {
    usize at = usize{i} * ip.filesystem().xattr_piece();
    Bytes piece = value.subspan(at, min_of<usize>(ip.filesystem().xattr_piece(), value.size() - at));
    VX_TRY(must(h, ip.filesystem().tree().insert(h, chunk_key(ip, id, i), piece)));
  }
  return {};
}

Status erase_chunks(store::Handle &h, const Inode &ip, u64 id, u32 count) {
  auto nothing = [](const store::Key &, Bytes) {};
  auto r = ip.filesystem().tree().erase_range(h, chunk_key(ip, id, 0), chunk_key(ip, id, 255), count, nothing);
  return must(h, r.ok() ? Status() : Status(r.error()));
}

// Fills `item` with the new xattr.
void build(Item &item, Bytes name, Bytes value, u64 id, bool chained) {
  DiskXattr &head = item.head();
  head.name_len = static_cast<u8>(name.size());
  head.flags = static_cast<u8>((chained ? disk::kXattrChained : 0) | (id ? disk::kXattrChunked : 0));
  head.reserved = 0;
  head.size = static_cast<u32>(value.size());
  head.value_id = id;
  if (!name.empty()) memcpy(item.bytes + sizeof head, name.data(), name.size());
  item.len = sizeof head + name.size();
  if (!id && !value.empty()) {
    memcpy(item.bytes + item.len, value.data(), value.size());
    item.len += value.size();
  }
}

Status copy_chunks(const Inode &ip, u64 id, MutBytes out) {
  Filesystem &fs = ip.filesystem();
  for (u32 i = 0; i < chunk_count(fs, out.size()); i++) {
    usize at = usize{i} * fs.xattr_piece(), n = min_of<usize>(fs.xattr_piece(), out.size() - at);
    auto r = fs.tree().get(chunk_key(ip, id, i), out.subspan(at, n));
    if (r.code() == Errno::noent || r.code() == Errno::range || (r.ok() && *r != n))
      return fs.damaged(ip.ino(), "a piece of an xattr's value is missing");
    VX_TRY(std::move(r));
  }
  return {};
}

Status touch(store::Handle &h, Inode &ip, Time now, int count) {
  return must(h, ip.change(h, [now, count](Attributes &a) -> Status {
    a.ctime = now;
    if (count > 0 || a.xattrs > 0) a.xattrs += static_cast<u32>(count);
    return {};
  }));
}

}  // namespace
}  // namespace xattr_impl

Result<usize> xattr_get(Inode &ip, Bytes name, MutBytes out) {
  using namespace xattr_impl;  // NOLINT: of this file
  Timed t(ip.filesystem().stats(), Op::xattr_get);
  VX_TRY(xattr_impl::check_name(name));
  SharedGuard g(ip.meta_lock);
  if (ip.attributes().xattrs == 0) return Errno::nodata;
  auto item = VX_TRY(Box<Item>::make());
  Place p = VX_TRY(find(ip, name, *item));
  if (!p.found) return Errno::nodata;
  usize size = item->head().size;
  if (out.empty()) return size;
  if (out.size() < size) return Errno::range;
  if (item->chunked())
    VX_TRY(copy_chunks(ip, item->head().value_id, out.subspan(0, size)));
  else if (size)
    memcpy(out.data(), item->value().data(), size);
  return size;
}

Status xattr_set(Inode &ip, Bytes name, Bytes value, u32 flags, Time now) {
  using namespace xattr_impl;  // NOLINT: of this file
  Filesystem &fs = ip.filesystem();
  Timed t(fs.stats(), Op::xattr_set);
  VX_TRY(xattr_impl::check_name(name));
  if (value.size() > disk::kXattrMaxValue) return Errno::toobig;
  if (flags & ~u32{VX_XATTR_CREATE | VX_XATTR_REPLACE}) return Errno::inval;
  auto item = VX_TRY(Box<Item>::make());
  Guard g(ip.meta_lock);
  Place p = VX_TRY(find(ip, name, *item));
  if (p.found && (flags & VX_XATTR_CREATE)) return Errno::exist;
  if (!p.found && (flags & VX_XATTR_REPLACE)) return Errno::nodata;
  u64 old_id = p.found && item->chunked() ? item->head().value_id.get() : 0;
  u32 old_chunks = old_id ? chunk_count(fs, item->head().size) : 0;
  usize inline_max = min_of<usize>(disk::kXattrInlineMax, fs.volume().max_item() - sizeof(DiskXattr) - disk::kNameMax);
  bool chunked = value.size() > inline_max;
  u32 chunks = chunked ? chunk_count(fs, value.size()) : 0;
  auto h = VX_TRY(fs.volume().begin({.items = chunks + old_chunks + 3}));
  u64 id = chunked ? fs.volume().take_object_id() : 0;
  build(*item, name, value, id, p.chained);
  Bytes bytes{item->bytes, item->len};
  if (p.found || p.tombstone)
    VX_TRY(fs.tree().update(h, key_of(ip, p.cookie), bytes));
  else
    VX_TRY(fs.tree().insert(h, key_of(ip, p.cookie), bytes));
  if (p.last) {
    VX_TRY(must(h, fs.tree().modify(h, key_of(ip, p.last), [](MutBytes v) -> Status {
      v[offsetof(DiskXattr, flags)] |= disk::kXattrChained;
      return {};
    })));
  }
  if (chunked) VX_TRY(insert_chunks(h, ip, id, value));
  if (old_id) VX_TRY(erase_chunks(h, ip, old_id, old_chunks));
  return touch(h, ip, now, p.found ? 0 : 1);
}

Status xattr_remove(Inode &ip, Bytes name, Time now) {
  using namespace xattr_impl;  // NOLINT: of this file
  Filesystem &fs = ip.filesystem();
  Timed t(fs.stats(), Op::xattr_set);
  VX_TRY(xattr_impl::check_name(name));
  auto item = VX_TRY(Box<Item>::make());
  Guard g(ip.meta_lock);
  if (ip.attributes().xattrs == 0) return Errno::nodata;
  Place p = VX_TRY(find(ip, name, *item));
  if (!p.found) return Errno::nodata;
  u64 old_id = item->chunked() ? item->head().value_id.get() : 0;
  u32 old_chunks = old_id ? chunk_count(fs, item->head().size) : 0;
  auto h = VX_TRY(fs.volume().begin({.items = old_chunks + 3, .freeing = true}));
  if (p.chained) {
    build(*item, {}, {}, 0, true);
    VX_TRY(fs.tree().update(h, key_of(ip, p.cookie), {item->bytes, item->len}));
  } else {
    VX_TRY(fs.tree().erase(h, key_of(ip, p.cookie)));
    if (p.cookie & disk::kCookieSeqMask)
      VX_TRY(must(h, fs.tree().modify(h, key_of(ip, p.cookie - 1), [](MutBytes v) -> Status {
        v[offsetof(DiskXattr, flags)] &= static_cast<u8>(~disk::kXattrChained);
        return {};
      })));
  }
  if (old_id) VX_TRY(erase_chunks(h, ip, old_id, old_chunks));
  return touch(h, ip, now, -1);
}

Status xattr_list(Inode &ip, FnRef<bool(Bytes)> emit) {
  using namespace xattr_impl;  // NOLINT: of this file
  Filesystem &fs = ip.filesystem();
  Timed t(fs.stats(), Op::xattr_list);
  constexpr usize kBatch = 4096;  // several of the longest names
  u64 from = disk::kCookieFirst;
  if (ip.attributes().xattrs == 0) return {};
  auto *buf = static_cast<u8 *>(vx_alloc(kBatch, 0));
  if (!buf) return Errno::nomem;
  Status st;
  for (bool more = true; more;) {
    usize used = 0;
    bool full = false;
    const char *bad = nullptr;
    auto collect = [&](const store::Key &key, Bytes value) {
      if ((bad = disk::verify_xattr(key.off, value))) return false;
      u8 n = disk::item_as<DiskXattr>(value)->name_len;
      full = kBatch - used < usize{n} + 1;
      if (full) return false;
      from = key.off + 1;
      if (n == 0) return true;
      buf[used] = n;
      memcpy(buf + used + 1, value.data() + sizeof(DiskXattr), n);
      used += usize{n} + 1;
      return true;
    };
    {
      SharedGuard g(ip.meta_lock);
      st = fs.tree().scan(key_of(ip, from), key_of(ip, disk::kCookieLast), collect);
    }
    if (bad) st = fs.damaged(ip.ino(), bad);
    if (!st.ok()) break;
    for (usize at = 0; at < used && more; at += usize{buf[at]} + 1) more = emit({buf + at + 1, buf[at]});
    more = more && full;
  }
  vx_free(buf);
  return st;
}

}  // namespace vexfs::fs
