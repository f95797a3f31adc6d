// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Scrubbing the file data that only a snapshot has: what its own leaves map, and neither the snapshot before it nor the
// present maps at the same place of the same file. It does not change, so that what differs is damaged.
#include "../base/crc.h"
#include "../store/past.h"
#include "scrub.h"

namespace vexfs::fs {
namespace scrub_past_impl {
namespace {

constexpr u64 kPieceBlocks = 64;
constexpr u64 kItemCost = 512;  // bytes of budget that looking at an item counts as

constexpr store::Key key_of(u64 ino, disk::FsItem type, u64 off) { return {ino, static_cast<u8>(type), off}; }

// Blocks of a file, contiguous on the device.
struct Run {
  u64 ino, block, disk, count;
};

// Metadata that cannot be read says nothing, and stops nothing.
bool says_nothing(Errno e) { return e == Errno::noent || e == Errno::range || e == Errno::corrupt || e == Errno::io; }

// Does the volume map the first blocks of r as r does? Shortens r to those of which the answer is true.
Result<bool> maps_too(const store::Volume &v, Run &r) {
  const store::Tree &tree = v.tree(store::TreeId::fs);
  disk::DiskExtent e{};
  auto found = tree.seek_back(key_of(r.ino, disk::FsItem::extent, r.block), key_of(r.ino, disk::FsItem::extent, 0),
                              mut_bytes_of(e));
  if (!found.ok() && !says_nothing(found.code())) return found.error();
  if (found.ok() && r.block - found->key.off < e.count) {
    u64 skip = r.block - found->key.off;
    r.count = min_of<u64>(r.count, e.count - skip);
    return e.disk + skip == r.disk;
  }
  auto next = tree.seek(key_of(r.ino, disk::FsItem::extent, r.block),
                        key_of(r.ino, disk::FsItem::extent, r.block + r.count - 1), mut_bytes_of(e));
  if (!next.ok() && !says_nothing(next.code())) return next.error();
  if (next.ok()) r.count = max_of<u64>(next->key.off - r.block, 1);
  return false;
}

class PastData : Pinned {
 public:
  PastData(store::PastWalk &w, ScrubFigures &f, u64 budget, FnRef<bool(const DamagedData &)> found)
      : w_(w), figures_(f), budget_(budget), found_(found) {}
  ~PastData() {
    if (buf_) vx_free_large(buf_, piece_bytes());
  }
  Result<bool> go(ScrubPlace &p);

 private:
  usize piece_bytes() const { return kPieceBlocks * w_.mine().block_size(); }
  void spend(u64 n) { budget_ -= min_of(budget_, n); }
  store::Key begin(const ScrubPlace &p);
  Result<u64> blocks_of(u64 ino);
  Status extent(ScrubPlace &p, const store::Key &k, Bytes value);
  Status compare(const Run &r, u64 *done);
  Status sums_of(const Run &r, u64 first, vx_sum *out);
  bool sound(u64 block, vx_sum sum);

  store::PastWalk &w_;
  ScrubFigures &figures_;
  u64 budget_;
  FnRef<bool(const DamagedData &)> found_;
  u8 *buf_ = nullptr;
  bool stopped_ = false;
  u64 ino_ = 0, ino_blocks_ = 0;  // of the file at hand
  vx_sum sums_[kPieceBlocks] = {};
};

// The extent that p is in the middle of comes again.
store::Key PastData::begin(const ScrubPlace &p) {
  store::Key k = key_of(p.ino, disk::FsItem::extent, p.block);
  disk::DiskExtent e{};
  auto found = w_.mine().tree(store::TreeId::fs).seek_back(k, key_of(p.ino, disk::FsItem::extent, 0), mut_bytes_of(e));
  if (found.ok() && p.block - found->key.off < e.count) k = found->key;
  return k;
}

Result<u64> PastData::blocks_of(u64 ino) {
  if (ino == ino_) return ino_blocks_;
  disk::DiskInode d{};
  auto n = w_.mine().tree(store::TreeId::fs).get(key_of(ino, disk::FsItem::inode, 0), mut_bytes_of(d));
  if (!n.ok() && !says_nothing(n.code())) return n.error();
  ino_ = ino;
  ino_blocks_ = n.ok() ? div_up<u64>(d.size, w_.mine().block_size()) : 0;
  return ino_blocks_;
}

// Checksums of r's blocks first .. first + (those that one item speaks of); VX_SUM_NONE where there is none.
Status PastData::sums_of(const Run &r, u64 first, vx_sum *out) {
  le32 item[disk::kSumsPerItem];
  u64 block = r.block + first, base = block / disk::kSumsPerItem * disk::kSumsPerItem;
  auto n = w_.mine()
               .tree(store::TreeId::fs)
               .get(key_of(r.ino, disk::FsItem::extent_checksum, base), {reinterpret_cast<u8 *>(item), sizeof item});
  if (!n.ok() && !says_nothing(n.code())) return n.error();
  u64 have = n.ok() ? *n / sizeof(le32) : 0;
  for (u64 i = first; i < r.count && r.block + i < base + disk::kSumsPerItem; i++)
    out[i] = r.block + i - base < have ? vx_sum{item[r.block + i - base]} : VX_SUM_NONE;
  return {};
}

bool PastData::sound(u64 block, vx_sum sum) {
  usize bs = w_.mine().block_size();
  return w_.mine().read_blocks(block, {buf_, bs}).ok() && vx_sum{crc32c_of({buf_, bs})} == sum;
}

// Reads r, and reports what is damaged. *done: how many blocks; fewer than there are if no more findings are wanted.
Status PastData::compare(const Run &r, u64 *done) {
  store::Volume &v = w_.mine();
  usize bs = v.block_size(), n = r.count * bs;
  for (u64 i = 0; i < r.count; i += disk::kSumsPerItem - (r.block + i) % disk::kSumsPerItem)
    VX_TRY(sums_of(r, i, sums_));
  bool read = v.read_blocks(r.disk, {buf_, n}).ok();
  figures_.bytes += n;
  spend(n);
  u64 bad = 0;  // by bit: buf_ is used again for a second look
  for (u64 i = 0; i < r.count; i++)
    if (!read || vx_sum{crc32c_of({buf_ + i * bs, bs})} != sums_[i]) bad |= u64{1} << i;
  for (*done = 0; *done < r.count; ++*done) {
    u64 i = *done;
    if (!(bad >> i & 1)) continue;
    if (sums_[i] == VX_SUM_NONE) {  // damage of metadata, which has been met before
      figures_.unchecked += bs;
      continue;
    }
    if (sound(r.disk + i, sums_[i])) continue;
    v.log(VX_LOG_ERR)
        .str("scrub: snapshot ")
        .dec(v.view_id())
        .str(": inode ")
        .dec(r.ino)
        .str(": the data at offset ")
        .dec((r.block + i) * bs)
        .str(" is damaged: device block ")
        .dec(r.disk + i);
    if (found_({r.ino, (r.block + i) * bs, (r.disk + i) * bs})) continue;
    stopped_ = true;
    ++*done;
    break;
  }
  return {};
}

// What is the snapshot's own of an extent, from p on; moves p on in it.
Status PastData::extent(ScrubPlace &p, const store::Key &k, Bytes value) {
  static_assert(kPieceBlocks == 64);  // bits of PastData::compare()'s `bad`
  const disk::FsLimits limits{w_.mine().total_blocks(), w_.mine().block_size()};
  disk::DiskExtent e{};
  u64 from = k.oid == p.ino ? max_of(p.block, k.off) : k.off, end = k.off;
  if (!disk::verify_fs_item(k.oid, k.type, k.off, value, limits)) {
    memcpy(&e, value.data(), sizeof e);
    if (!(e.flags & disk::kExtentUnwritten)) end = min_of<u64>(k.off + e.count, VX_TRY(blocks_of(k.oid)));
  }
  p = {k.oid, from};
  while (p.block < end && budget_ && !stopped_) {
    Run r{k.oid, p.block, e.disk + (p.block - k.off), end - p.block};
    bool known = false;
    for (u32 i = 0; i < store::PastWalk::kOthers && !known; i++)
      if (const store::Volume *v = w_.other(i)) known = VX_TRY(maps_too(*v, r));
    u64 done = r.count;
    if (known) {
      spend(kItemCost);
    } else if (!(e.flags & disk::kExtentSummed)) {
      figures_.unchecked += r.count * w_.mine().block_size();
    } else {
      r.count = min_of(r.count, kPieceBlocks);
      VX_TRY(compare(r, &done));
    }
    p.block += done;
  }
  // Past the whole of it, so that the next call does not find it again.
  if (p.block >= end && !stopped_) p.block = max_of(p.block, k.off + max_of<u64>(e.count, 1));
  return {};
}

Result<bool> PastData::go(ScrubPlace &p) {
  buf_ = static_cast<u8 *>(vx_alloc_large(piece_bytes(), 0));
  if (!buf_) return Errno::nomem;
  store::Key at = begin(p);
  for (u32 n = 1; budget_ && !stopped_; n++) {
    Bytes value;
    if (!VX_TRY(w_.item(store::TreeId::fs, store::Key::max(), &at, &value))) return false;
    if (at.oid != p.ino) p = {at.oid, 0};
    constexpr u8 wanted = static_cast<u8>(disk::FsItem::extent);
    if (at.type == wanted) {
      VX_TRY(extent(p, at, value));
      if (budget_ && !stopped_) at.off++;
      if (at.off == 0) at.type++;
    } else if (at.type < wanted) {  // a million names perhaps
      at = key_of(at.oid, disk::FsItem::extent, 0);
    } else {
      if (at.oid == ~u64{0}) return false;
      at = key_of(at.oid + 1, disk::FsItem::extent, 0);
      p = {at.oid, 0};
    }
    spend(kItemCost);  // now, so that a call with little budget gets on too
    if (n % 64 == 0) vx_yield();
  }
  return true;
}

}  // namespace
}  // namespace scrub_past_impl

Result<bool> scrub_past_data(store::PastWalk &w, ScrubPlace &p, u64 budget, ScrubFigures &figures,
                             FnRef<bool(const DamagedData &)> found) {
  auto work = VX_TRY(Box<scrub_past_impl::PastData>::make(w, figures, budget, found));
  return work->go(p);
}

}  // namespace vexfs::fs
