// SPDX-License-Identifier: GPL-2.0-only OR MIT
// EXTENT_CHECKSUM items: reading, writing, erasing them, and comparing data with them.
#include "sums.h"

#include "../base/crc.h"
#include "erase.h"
#include "filesystem.h"

namespace vexfs::fs {
namespace sums_impl {
namespace {

using disk::kSumsPerItem;

store::Key key_of(const Inode &ip, u64 base) { return fs_key(ip.ino(), FsItem::extent_checksum, base); }
constexpr u64 base_of(u64 block) { return align_down<u64>(block, kSumsPerItem); }

// Puts sums into the item that begins at `base`, from its place `at` on.
Status put_into_item(store::Handle &h, Inode &ip, u64 base, u32 at, std::span<const vx_sum> sums) {
  Filesystem &fs = ip.filesystem();
  le32 item[kSumsPerItem];
  u32 n = static_cast<u32>(sums.size()), have = 0;
  VX_ASSERT(at + n <= kSumsPerItem);
  if (n < kSumsPerItem) {
    auto got = fs.tree().get(key_of(ip, base), {reinterpret_cast<u8 *>(item), sizeof item});
    if (!got.ok() && got.code() != Errno::noent && got.code() != Errno::range) return must(h, got.error());
    if (got.code() == Errno::range || (got.ok() && (*got == 0 || *got % sizeof(le32))))
      return must(h, fs.damaged(ip.ino(), "checksums of data: wrong length"));
    have = got.ok() ? static_cast<u32>(*got / sizeof(le32)) : 0;
  }
  for (u32 i = have; i < at; i++) item[i] = 0;
  for (u32 i = 0; i < n; i++) item[at + i] = static_cast<u32>(sums[i]);
  auto bytes = [&item](u32 from, u32 to) {
    return Bytes{reinterpret_cast<const u8 *>(item + from), (to - from) * sizeof(le32)};
  };
  if (at + n <= have) return must(h, fs.tree().patch(h, key_of(ip, base), at * sizeof(le32), bytes(at, at + n)));
  return must(h, fs.tree().upsert(h, key_of(ip, base), bytes(0, at + n)));
}

}  // namespace
}  // namespace sums_impl

bool wants_sums(const Inode &ip) {
  return ip.is_file() && ip.filesystem().data_sums() && !(ip.flags() & VX_INODE_NOSUM);
}

bool write_moves(const Inode &ip, const Mapped &e) {
  return e.summed || e.shared || ip.filesystem().volume().kept(e.birth) || (!e.unwritten && wants_sums(ip));
}

Status read_sums(Inode &ip, u64 first, u64 count, std::span<vx_sum> out) {
  using namespace sums_impl;  // NOLINT: of this file
  Filesystem &fs = ip.filesystem();
  VX_ASSERT(count && count <= out.size());
  u64 found = 0, end = first + count;
  const char *bad = nullptr;
  auto limits = fs.limits();
  auto take = [&](const store::Key &key, Bytes v) {
    bad = disk::verify_sums(key.off, v, limits);
    if (bad) return false;
    u64 n = v.size() / sizeof(le32), from = max_of(first, key.off), to = min_of(end, key.off + n);
    const auto *item = reinterpret_cast<const le32 *>(v.data());
    for (u64 b = from; b < to; b++) out[b - first] = item[b - key.off];
    if (from < to) found += to - from;
    return true;
  };
  VX_TRY(fs.tree().scan(key_of(ip, base_of(first)), key_of(ip, end - 1), take));
  if (bad) return fs.damaged(ip.ino(), bad);
  if (found != count) return fs.damaged(ip.ino(), "checksums of data are missing");
  return {};
}

Status put_sums(store::Handle &h, Inode &ip, u64 first, std::span<const vx_sum> sums) {
  using namespace sums_impl;  // NOLINT: of this file
  while (!sums.empty()) {
    u64 base = base_of(first);
    u32 at = static_cast<u32>(first - base);
    usize n = min_of<usize>(sums.size(), kSumsPerItem - at);
    VX_TRY(put_into_item(h, ip, base, at, sums.subspan(0, n)));
    sums = sums.subspan(n);
    first += n;
  }
  return {};
}

Result<bool> erase_sums(store::Handle &h, Inode &ip, u64 first, u64 end) {
  using namespace sums_impl;  // NOLINT: of this file
  u64 from = align_up<u64>(first, kSumsPerItem), to = end == ~u64{0} ? end : base_of(end);
  if (from >= to) return false;
  return erase_piece(ip.filesystem(), h, key_of(ip, from), key_of(ip, to - 1), nullptr);
}

Status check_sums(Inode &ip, const struct ::vx_map &m, Bytes data, std::span<const vx_sum> sums) {
  usize bs = ip.filesystem().block_size();
  for (usize i = 0; i * bs < data.size(); i++) {
    if (sums[i] == VX_SUM_NONE) continue;
    vx_sum found = crc32c_of(data.subspan(i * bs, bs));
    if (found != sums[i]) return sum_mismatch(ip, m.off + i * bs, m.disk + i * bs, sums[i], found);
  }
  return {};
}

Error sum_mismatch(Inode &ip, u64 off, u64 disk, vx_sum expected, vx_sum found) {
  Filesystem &fs = ip.filesystem();
  fs.stats().sum_mismatches.fetch_add(1, std::memory_order_relaxed);
  fs.volume()
      .log(VX_LOG_ERR)
      .str("inode ")
      .dec(ip.ino())
      .str(": the data at offset ")
      .dec(off)
      .str(" is damaged: device block ")
      .dec(disk >> fs.block_shift())
      .str(" has checksum ")
      .hex(found)
      .str(", not ")
      .hex(expected);
  return Errno::io;
}

}  // namespace vexfs::fs
