// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Small files inside the tree. An INLINE item exists exactly when VX_INODE_INLINE is set, is as long as the file, and
// excludes extents.
#include "../base/crc.h"
#include "erase.h"
#include "file_map.h"
#include "filesystem.h"
#include "sums.h"

namespace vexfs::fs {
namespace file_inline_impl {
namespace {

store::Key key_of(const Inode &ip) { return fs_key(ip.ino(), FsItem::inline_data); }

// The whole contents into out, which holds inline_max bytes. data_lock held.
Result<usize> load(Inode &ip, MutBytes out) {
  Filesystem &fs = ip.filesystem();
  auto r = fs.tree().get(key_of(ip), out);
  if (r.code() == Errno::noent || r.code() == Errno::range)
    return fs.damaged(ip.ino(), "inline data missing or too long");
  if (r.ok() && *r != ip.size()) return fs.damaged(ip.ino(), "inline data and size differ");
  return r;
}

// A block-sized, aligned, zeroed buffer.
class Buffer : Pinned {
 public:
  explicit Buffer(usize n) : p_(static_cast<u8 *>(vx_alloc_large(n, VX_ALLOC_ZERO))), n_(n) {}
  ~Buffer() {
    if (p_) vx_free_large(p_, n_);
  }
  bool ok() const { return p_; }
  MutBytes bytes() { return {p_, n_}; }

 private:
  u8 *p_;
  usize n_;
};

}  // namespace
}  // namespace file_inline_impl

Result<usize> inline_read(Inode &ip, MutBytes out) {
  if (!ip.is_file()) return Errno::inval;
  SharedGuard g(ip.data_lock);
  if (!ip.is_inline()) return Errno::noent;
  if (out.size() < ip.size()) return Errno::range;
  return file_inline_impl::load(ip, out);
}

Result<usize> inline_load_locked(Inode &ip, MutBytes out) { return file_inline_impl::load(ip, out); }

Status inline_store_locked(Inode &ip, Bytes data, FnRef<void(Attributes &)> also) {
  Filesystem &fs = ip.filesystem();
  if (!ip.is_inline()) {
    auto e = find_extent(ip, 0);
    if (e.ok()) return Errno::busy;
    if (e.code() != Errno::noent) return e.error();
  }
  for (MapRange *r = ip.overlay.find(0); r; r = ip.overlay.next(*r))
    if (r->state == RangeState::inflight) return Errno::busy;
  bool was = ip.is_inline(), is = !data.empty();
  {
    auto h = VX_TRY(fs.volume().begin({.items = 2, .freeing = true}));
    if (is)
      VX_TRY(fs.tree().upsert(h, file_inline_impl::key_of(ip), data));
    else if (was)
      VX_TRY(fs.tree().erase(h, file_inline_impl::key_of(ip)));
    VX_TRY(must(h, ip.change(h, [&](Attributes &a) -> Status {
      a.size = data.size();
      a.flags = is ? a.flags | VX_INODE_INLINE : a.flags & ~u32{VX_INODE_INLINE};
      also(a);
      return {};
    })));
  }
  return drop_overlay(ip, 0, ~u64{0});  // whole ranges, none in flight: needs no memory
}

Status inline_write(Inode &ip, Bytes data) {
  Filesystem &fs = ip.filesystem();
  if (!ip.is_file()) return Errno::inval;
  if (data.size() > fs.inline_max()) return Errno::fbig;
  Timed t(fs.stats(), Op::inline_write);
  Guard g(ip.data_lock);
  bool rewrite =
      ip.is_inline() && ip.overlay.empty();  // else it is writeback of what map_reserve() has counted as a change
  VX_TRY(inline_store_locked(ip, data, [](Attributes &) {}));
  if (rewrite) ip.bump_version();
  return {};
}

Status inline_resize_locked(Inode &ip, u64 size, FnRef<void(Attributes &)> also) {
  Filesystem &fs = ip.filesystem();
  VX_ASSERT(ip.is_inline() && size <= fs.inline_max());
  file_inline_impl::Buffer buf(fs.inline_max());
  if (!buf.ok()) return Errno::nomem;
  usize have = VX_TRY(file_inline_impl::load(ip, buf.bytes()));
  if (size < have) memset(buf.bytes().data() + size, 0, have - size);
  auto h = VX_TRY(fs.volume().begin({.items = 2, .freeing = size <= have}));
  if (size == 0)
    VX_TRY(fs.tree().erase(h, file_inline_impl::key_of(ip)));
  else if (size != have)
    VX_TRY(fs.tree().update(h, file_inline_impl::key_of(ip), buf.bytes().subspan(0, size)));
  return must(h, ip.change(h, [&](Attributes &a) -> Status {
    a.size = size;
    if (size == 0) a.flags &= ~u32{VX_INODE_INLINE};
    also(a);
    return {};
  }));
}

Status uninline_locked(Inode &ip) {
  Filesystem &fs = ip.filesystem();
  if (!ip.is_inline()) return {};
  file_inline_impl::Buffer buf(fs.block_size());  // inline_max is no more than a block
  if (!buf.ok()) return Errno::nomem;
  VX_TRY(file_inline_impl::load(ip, buf.bytes()));
  Spares spares;
  VX_TRY(spares.fill(2));
  // The host may have reserved block 0 for what it has in its cache: that promise is used up.
  MapRange *r = ip.overlay.find(0);
  bool promised = r && r->first == 0 && r->state == RangeState::delayed;
  auto run = VX_TRY(alloc_run(ip, 0, 1, promised));
  auto give_back = [&] { promised ? fs.volume().cancel_to_reservation(run) : fs.volume().cancel(run); };
  Status st = fs.volume().write_blocks(run.start, buf.bytes());
  if (!st.ok()) {
    give_back();
    return st;
  }
  bool summed = wants_sums(ip);
  auto begun = fs.volume().begin({.items = kPutExtentItems + put_sums_items(1) + 2, .freeing = true});
  if (!begun.ok()) {
    give_back();
    return begun.error();
  }
  store::Handle h = begun.take();
  st = fs.tree().erase(h, file_inline_impl::key_of(ip));
  if (!st.ok()) {
    give_back();
    return st.code() == Errno::noent ? Status(fs.damaged(ip.ino(), "inline data missing")) : std::move(st);
  }
  fs.volume().publish(h, run);
  if (promised) {
    ip.overlay.split(0, 1, spares);
    r = ip.overlay.find(0);
    ip.overlay.remove(*r);
    spares.give(r);
  }
  const vx_sum sum = crc32c_of(buf.bytes());
  if (summed) VX_TRY(put_sums(h, ip, 0, {&sum, 1}));
  VX_TRY(put_extent(h, ip, {0, 1, run.start, h.txn(), false, summed}));
  return must(h, ip.change(h, [](Attributes &a) -> Status {
    a.flags &= ~u32{VX_INODE_INLINE};
    a.blocks += 1;
    return {};
  }));
}

Status uninline(Inode &ip) {
  if (!ip.is_file()) return Errno::inval;
  Guard g(ip.data_lock);
  return uninline_locked(ip);
}

}  // namespace vexfs::fs
