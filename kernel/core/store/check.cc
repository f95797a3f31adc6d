// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The checker's walk over superblock copies, roots and trees. Space is compared in check_space.cc.
#include "check.h"

#include "super_io.h"

namespace vexfs::store {

namespace check_impl {
namespace {

Key key_of(const disk::DiskKey &k) { return {k.oid, k.type, k.off}; }
const disk::NodeHeader &header_of(const u8 *buf) { return *reinterpret_cast<const disk::NodeHeader *>(buf); }
const disk::LeafItem *leaf_items(const u8 *buf) {
  return reinterpret_cast<const disk::LeafItem *>(buf + sizeof(disk::NodeHeader));
}
const disk::BranchItem *branch_items(const u8 *buf) {
  return reinterpret_cast<const disk::BranchItem *>(buf + sizeof(disk::NodeHeader));
}

}  // namespace
}  // namespace check_impl

// One level of the walk: a node and the place in it.
struct Checker::Level {
  u8 *buf = nullptr;
  u32 at = 0;
  Key lo, hi;
  bool open_end = true;
  ~Level() {
    if (buf) vx_free_large(buf, size);
  }
  u32 size = 0;
};

Checker::~Checker() {
  if (root_) vx_free_large(root_, usize{geo_.root_blocks} << geo_.block_shift);
  for (u64 *b : bits_)
    if (b) vx_free_large(b, div_up<usize>(geo_.group_blocks, 64) * 8);
}

void Checker::emit(Severity s, const char *text) {
  if (s == Severity::error) figures_.errors++;
  if (s == Severity::warning) figures_.warnings++;
  if (!in_snapshot_) return sink_.line(sink_.ctx, s, text);
  char buf[360];
  Printer p(buf);
  p.str("snapshot ").dec(in_snapshot_).str(": ").str(text);
  sink_.line(sink_.ctx, s, buf);
}

Status Checker::read_blocks(u64 block, MutBytes out) {
  if (block >= geo_.total_blocks || out.size() > (geo_.total_blocks - block) << geo_.block_shift) return Errno::io;
  vx_io io{block << geo_.block_shift, out.size(), out.data(), 0, VX_IO_READ | VX_IO_META};
  if (vx_bdev_submit(dev_, &io, 1) != 0) return Errno::io;
  return {};
}

Status Checker::open() {
  VX_TRY(open_super());
  VX_TRY(open_root());
  VX_TRY(check_backups());
  VX_TRY(bits_.resize(geo_.groups));
  VX_TRY(load_descriptors());
  return claim_fixed();
}

// The primary superblock, or else the copy at the end of the device.
Status Checker::open_super() {
  super_ = VX_TRY(Box<disk::SuperDisk>::make());
  u64 bytes = vx_bdev_size(dev_);
  if (bytes < disk::kSuperOffset + disk::kSuperBytes) return Errno::inval;
  const u64 places[] = {disk::kSuperOffset, bytes >= disk::kSuperBytes ? bytes - disk::kSuperBytes : 0};
  u8 *buf = static_cast<u8 *>(vx_alloc_large(disk::kSuperBytes, 0));
  if (!buf) return Errno::nomem;
  disk::Refusal first;
  bool found = false;
  for (u64 at : places) {
    if (at + disk::kSuperBytes > bytes || at == 0) continue;
    vx_io io{at, disk::kSuperBytes, buf, 0, VX_IO_READ | VX_IO_META};
    if (vx_bdev_submit(dev_, &io, 1) != 0) {
      error().str("superblock at byte ").dec(at).str(": read error");
      judged_[at != disk::kSuperOffset] = at;
      continue;
    }
    memcpy(super_.get(), buf, sizeof(disk::SuperDisk));
    disk::Refusal r = disk::verify_super(*super_, at, bytes, &geo_);
    if (r.ok()) {
      found = true;
      if (at != disk::kSuperOffset) warning().str("the copy of the superblock at byte ").dec(at).str(" is used");
      break;
    }
    if (at == disk::kSuperOffset) first = r;
    disk::add_refusal(error().str("superblock at byte ").dec(at), r);
    judged_[at != disk::kSuperOffset] = at;
  }
  vx_free_large(buf, disk::kSuperBytes);
  if (found) return {};
  // The filesystem may end before the device does, and there are copies inside.
  Result<SuperFound> other = find_super(dev_);
  if (other.ok()) {
    warning().str("the copy of the superblock at byte ").dec(other->at).str(" is used");
    super_ = std::move(other->super);
    geo_ = other->geo;
    return {};
  }
  if (other.code() == Errno::nomem) return Errno::nomem;
  return first.cause == disk::Cause::bad_magic ? Errno::inval : Errno::corrupt;
}

Status Checker::check_backups() {
  auto copy = VX_TRY(Box<disk::SuperDisk>::make());
  u8 *buf = static_cast<u8 *>(vx_alloc_large(disk::kSuperBytes, 0));
  if (!buf) return Errno::nomem;
  auto check_at = [&](u64 at) {
    if (at == judged_[0] || at == judged_[1]) return;  // open_super() has said what is wrong with it
    vx_io io{at, disk::kSuperBytes, buf, 0, VX_IO_READ | VX_IO_META};
    if (vx_bdev_submit(dev_, &io, 1) != 0) {
      error().str("superblock copy at byte ").dec(at).str(": read error");
      return;
    }
    memcpy(copy.get(), buf, sizeof(disk::SuperDisk));
    disk::Geometry g;
    disk::Refusal r = disk::verify_super(*copy, at, vx_bdev_size(dev_), &g);
    if (!r.ok())
      disk::add_refusal(error().str("superblock copy at byte ").dec(at), r);
    else if (memcmp(copy->uuid, super_->uuid, sizeof(copy->uuid)) != 0)
      error().str("superblock copy at byte ").dec(at).str(": belongs to another filesystem");
  };
  check_at(disk::kSuperOffset);
  check_at(geo_.last_backup_byte());
  for (u64 g = 1; g < geo_.groups; g = g * 3)
    if (disk::Geometry::is_backup_group(g)) check_at(geo_.backup_block(g) << geo_.block_shift);
  vx_free_large(buf, disk::kSuperBytes);
  return {};
}

// The newest sound one of four; the others are judged too.
Status Checker::open_root() {
  usize bytes = usize{geo_.root_blocks} << geo_.block_shift;
  root_ = static_cast<u8 *>(vx_alloc_large(bytes, VX_ALLOC_ZERO));
  u8 *buf = static_cast<u8 *>(vx_alloc_large(bytes, 0));
  if (!root_ || !buf) {
    if (buf) vx_free_large(buf, bytes);
    return Errno::nomem;
  }
  bool found = false;
  u64 newest = 0;
  for (unsigned slot = 0; slot < 2; slot++) {
    unsigned sound = 0;
    u64 of_slot = 0;
    for (unsigned mirror = 0; mirror < 2; mirror++) {
      u64 block = mirror ? geo_.root_mirror[slot] : geo_.root_slot[slot];
      if (!read_blocks(block, {buf, bytes}).ok()) {
        error().str("root slot ").dec(slot).str(mirror ? " mirror" : "").str(": read error");
        continue;
      }
      disk::Refusal r = disk::verify_root({buf, bytes}, geo_, slot, mirror);
      if (!r.ok()) {
        // A torn root is what a power cut during a commit leaves; the other slot is the state then.
        disk::add_refusal(warning().str("root slot ").dec(slot).str(mirror ? " mirror" : ""), r);
        continue;
      }
      sound++;
      u64 txn = reinterpret_cast<const disk::RootDisk *>(buf)->header.txn;
      if (of_slot && txn != of_slot)
        warning().str("root slot ").dec(slot).str(": its two copies are of different ages");
      of_slot = txn;
      if (found && txn <= newest) continue;
      found = true;
      newest = txn;
      memcpy(root_, buf, bytes);
    }
    if (sound == 1) warning().str("root slot ").dec(slot).str(": one of its two copies is damaged");
    if (sound == 0)  // no power cut leaves this
      error()
          .str("root slot ")
          .dec(slot)
          .str(": neither copy can be used: a later state than the one found may be lost");
  }
  vx_free_large(buf, bytes);
  if (!found) {
    error().str("no root slot can be used");
    return Errno::corrupt;
  }
  if (root().state & disk::kRootStateErrors) warning().str("the filesystem was marked as having met damage");
  return {};
}

Result<bool> Checker::tops_sound() {
  u8 *buf = static_cast<u8 *>(vx_alloc_large(geo_.node_size, 0));
  if (!buf) return Errno::nomem;
  bool sound = true;
  for (u8 id = 0; id < disk::kTrees; id++) {
    const disk::TreeRootDisk &t = root().trees[id];
    if (t.levels == 0) continue;
    const disk::NodeExpect e{t.node.addr, t.node.birth, id, static_cast<u8>(t.levels - 1), t.node.mirror};
    for (u64 addr : {e.addr, e.mirror}) sound = sound && (addr == 0 || read_copy(e, addr, buf).ok());
  }
  vx_free_large(buf, geo_.node_size);
  return sound;
}

// One copy of a node. io, corrupt: why. Not reported.
Status Checker::read_copy(const disk::NodeExpect &e, u64 addr, u8 *buf, disk::Refusal *why) {
  if (!geo_.is_data(addr, geo_.node_blocks)) return Errno::inval;
  VX_TRY(read_blocks(addr, {buf, geo_.node_size}));
  disk::Refusal r = disk::verify_node({buf, geo_.node_size}, geo_, e);
  if (why) *why = r;
  return r.ok() ? Status() : Status(Errno::corrupt);
}

void Checker::report_copy(const disk::NodeExpect &e, u64 addr, Status st, const disk::Refusal &why, bool other_good) {
  Finding f = error();
  f.str("tree ").dec(e.tree).str(" node ").dec(addr).str(" level ").dec(e.level);
  if (addr != e.addr) f.str(", second copy of ").dec(e.addr);
  if (st.code() == Errno::corrupt)
    disk::add_refusal(f, why);
  else
    f.str(st.code() == Errno::inval ? ": lies outside of the data area" : ": read error");
  if (other_good) f.str("; its other copy is good");
}

// True when the node can be used: buf is that of the first sound copy. Reports what is wrong with each.
Result<bool> Checker::read_node(TreeId id, const disk::NodeExpect &e, u8 *buf) {
  figures_.nodes++;
  bool seen = walked_[static_cast<u8>(id)];
  for (u64 addr : {e.addr, e.mirror})
    if (!seen && addr && geo_.is_data(addr, geo_.node_blocks))
      VX_TRY(claim({addr, geo_.node_blocks}, "node of tree", static_cast<u8>(id), addr));
  disk::Refusal why[2];
  Status first = read_copy(e, e.addr, buf, &why[0]);
  if (e.mirror == 0 || (seen && first.ok())) {
    if (!first.ok() && !seen) report_copy(e, e.addr, first, why[0], false);
    return first.ok();
  }
  // The second copy is looked at, too, but its bytes are wanted only if the first is no good.
  u8 *other = first.ok() ? static_cast<u8 *>(vx_alloc_large(geo_.node_size, 0)) : buf;
  if (!other) return Errno::nomem;
  Status second = read_copy(e, e.mirror, other, &why[1]);
  if (other != buf) vx_free_large(other, geo_.node_size);
  if (seen) return second.ok();
  if (!first.ok()) report_copy(e, e.addr, first, why[0], second.ok());
  if (!second.ok()) report_copy(e, e.mirror, second, why[1], first.ok());
  return first.ok() || second.ok();
}

// Keys are ascending inside a verified node, so its two ends tell whether all of it is where searches look.
bool Checker::check_range(TreeId id, const u8 *buf, const Key &lo, const Key *hi, u64 addr) {
  const disk::NodeHeader &h = check_impl::header_of(buf);
  u32 n = h.count;
  if (n == 0) {
    if (h.level == 0 && lo == Key::min() && !hi) return true;
    error().str("tree ").dec(static_cast<u8>(id)).str(" node ").dec(addr).str(": empty");
    return false;
  }
  auto key_at = [&](u32 i) {
    return check_impl::key_of(h.level == 0 ? check_impl::leaf_items(buf)[i].key : check_impl::branch_items(buf)[i].key);
  };
  Key first = key_at(0), last = key_at(n - 1);
  bool ok = h.level == 0 ? first >= lo : first == lo;
  if (hi && last >= *hi) ok = false;
  if (!ok)
    error()
        .str("tree ")
        .dec(static_cast<u8>(id))
        .str(" node ")
        .dec(addr)
        .str(": keys outside of the range of its parent");
  return ok;
}

// Depth first, with the path on an explicit stack of at most kMaxLevels nodes.
Status Checker::walk(TreeId id, FnRef<bool(const Key &, Bytes)> visitor) {
  VX_TRY(walk_nodes(id, visitor));
  walked_[static_cast<u8>(id)] = true;
  return {};
}

Status Checker::walk_nodes(TreeId id, FnRef<bool(const Key &, Bytes)> visitor) {
  const disk::TreeRootDisk &t = root().trees[static_cast<u8>(id)];
  if (t.levels == 0) return {};
  Vec<Level> path;
  VX_TRY(path.resize(disk::kMaxLevels));
  u32 depth = 0;
  bool stop = false;
  auto enter = [&](const disk::NodePtr &ptr, u8 level, const Key &lo, const Key *hi) -> Status {
    VX_ASSERT(depth < disk::kMaxLevels);
    Level &l = path[depth];
    if (!l.buf) {
      l.buf = static_cast<u8 *>(vx_alloc_large(geo_.node_size, 0));
      l.size = geo_.node_size;
      if (!l.buf) return Errno::nomem;
    }
    bool sound = VX_TRY(read_node(id, {ptr.addr, ptr.birth, static_cast<u8>(id), level, ptr.mirror}, l.buf));
    if (!sound || !check_range(id, l.buf, lo, hi, ptr.addr)) {
      damaged_[static_cast<u8>(id)] = true;
      return {};
    }
    l.at = 0;
    l.lo = lo;
    l.open_end = hi == nullptr;
    if (hi) l.hi = *hi;
    depth++;
    return {};
  };
  VX_TRY(enter(t.node, static_cast<u8>(t.levels - 1), Key::min(), nullptr));
  while (depth && !stop) {
    Level &l = path[depth - 1];
    const disk::NodeHeader &h = check_impl::header_of(l.buf);
    if (h.level == 0) {
      figures_.leaves++;
      const disk::LeafItem *it = check_impl::leaf_items(l.buf);
      for (u32 i = 0; i < h.count && !stop; i++) {
        figures_.items++;
        figures_.item_bytes += it[i].len;
        stop = !visitor(check_impl::key_of(it[i].key), {l.buf + it[i].pos, it[i].len});
      }
      depth--;
      continue;
    }
    if (l.at == h.count) {
      depth--;
      continue;
    }
    const disk::BranchItem *it = check_impl::branch_items(l.buf);
    u32 i = l.at++;
    Key lo = check_impl::key_of(it[i].key);
    Key next = i + 1 < h.count ? check_impl::key_of(it[i + 1].key) : l.hi;
    const Key *hi = i + 1 < h.count || !l.open_end ? &next : nullptr;
    VX_TRY(enter(it[i].child, static_cast<u8>(h.level - 1), lo, hi));
    if ((figures_.nodes & 255) == 0) progress("trees", figures_.nodes * geo_.node_blocks, root().node_blocks);
  }
  return {};
}

}  // namespace vexfs::store
