// SPDX-License-Identifier: MIT
// fsck.vexfs --check-data: the walk. A file's extents come before its checksums, so each item of these finds its blocks.
#include "data.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <string>

#include "../../kernel/core/base/crc.h"
#include "../../kernel/core/disk/fs_items.h"

namespace vexfs::fsck {

using disk::FsItem;

DataCheck::~DataCheck() {
  if (buf_) vx_free_large(buf_, size_t{disk::kSumsPerItem} * c_.geometry().block_size);
}

void DataCheck::damaged(uint64_t block, uint64_t disk, bool read_error) {
  figures_.damaged++;
  if (!damages_.empty()) {
    Damage &last = damages_.back();
    if (last.ino == ino_ && last.first + last.count == block && last.disk + last.count == disk &&
        last.read_error == read_error) {
      last.count++;
      return;
    }
  }
  damages_.push_back({ino_, block, 1, disk, read_error});
}

// Of count blocks those that nobody has read yet: another file, or another state, may have them too.
void DataCheck::compare_run(uint64_t block, uint64_t disk, uint64_t count, const uint32_t *sums) {
  for (uint64_t i = 0, end; i < count; i = end) {
    end = i + 1;
    if (seen_[disk + i]) continue;
    while (end < count && !seen_[disk + end]) end++;
    read_and_compare(block + i, disk + i, end - i, sums + i);
  }
}

void DataCheck::read_and_compare(uint64_t block, uint64_t disk, uint64_t count, const uint32_t *sums) {
  const uint32_t bs = c_.geometry().block_size;
  const bool whole = c_.read_blocks(disk, {buf_, count * bs}).ok();
  for (uint64_t i = 0; i < count; i++) {
    seen_[disk + i] = true;
    figures_.blocks++;
    uint8_t *at = buf_ + i * bs;
    const bool read = whole || c_.read_blocks(disk + i, {at, bs}).ok();
    if (!read || crc32c_of({at, bs}) != sums[i]) damaged(block + i, disk + i, !read);
  }
}

// Checksums of the file's blocks from `first` on; what no summed extent maps they do not mean.
void DataCheck::compare(uint64_t first, Bytes value) {
  const uint64_t end = first + value.size() / sizeof(le32);
  auto it = std::upper_bound(extents_.begin(), extents_.end(), first,
                             [](uint64_t b, const Extent &e) { return b < e.first + e.count; });
  for (; it != extents_.end() && it->first < end; ++it) {
    const uint64_t from = std::max(first, it->first), to = std::min(end, it->first + it->count);
    uint32_t sums[disk::kSumsPerItem];
    for (uint64_t b = from; b < to; b++) {
      le32 sum;
      memcpy(&sum, value.data() + (b - first) * sizeof sum, sizeof sum);
      sums[b - from] = sum;
    }
    if (from < to) compare_run(from, it->disk + (from - it->first), to - from, sums);
  }
}

bool DataCheck::visit(const store::Key &k, Bytes v) {
  const disk::FsLimits limits{c_.geometry().total_blocks, c_.geometry().block_size};
  if (k.oid == 0) return true;
  if (k.oid != ino_) {
    ino_ = k.oid;
    extents_.clear();
  }
  const auto type = static_cast<FsItem>(k.type);
  if ((type != FsItem::extent && type != FsItem::extent_checksum) ||
      disk::verify_fs_item(k.oid, k.type, k.off, v, limits))
    return true;  // what is wrong with an item has been said
  if (type == FsItem::extent_checksum) {
    compare(k.off, v);
    return true;
  }
  const auto &e = *disk::item_as<disk::DiskExtent>(v);
  if (e.flags & disk::kExtentUnwritten) return true;
  if (!(e.flags & disk::kExtentSummed))
    figures_.unsummed += e.count;
  else if (extents_.empty() || extents_.back().first + extents_.back().count <= k.off)
    extents_.push_back({k.off, e.count, e.disk});
  return true;
}

// One line for each stretch, with a path by which the file is reached.
Status DataCheck::report() {
  std::set<uint64_t> wanted;
  for (const Damage &d : damages_) wanted.insert(d.ino);
  struct Name {
    uint64_t dir;
    std::string name;
  };
  std::map<uint64_t, Name> names;
  const disk::FsLimits limits{c_.geometry().total_blocks, c_.geometry().block_size};
  VX_TRY(c_.walk(store::TreeId::fs, [&](const store::Key &k, Bytes v) {
    if (k.type != static_cast<u8>(FsItem::dirent) || disk::verify_fs_item(k.oid, k.type, k.off, v, limits)) return true;
    const auto &d = *disk::item_as<disk::DiskDirent>(v);
    if (d.ino && (d.type == disk::dirent_type(disk::kModeDir) || wanted.count(d.ino))) {
      const Bytes name = v.subspan(sizeof d);
      names[d.ino] = {k.oid, std::string(reinterpret_cast<const char *>(name.data()), name.size())};
    }
    return true;
  }));
  const uint64_t bs = c_.geometry().block_size;
  for (const Damage &d : damages_) {
    std::string path;
    int depth = 0;
    for (auto it = names.find(d.ino); it != names.end() && depth < 4096; it = names.find(it->second.dir), depth++)
      path.insert(0, "/" + it->second.name);
    auto f = c_.lost();
    f.str("inode ").dec(d.ino);
    if (!path.empty())
      f.str(" ").quoted({reinterpret_cast<const u8 *>(path.data()), std::min<size_t>(path.size(), 160)});
    f.str(d.read_error ? ": read error in " : ": bad checksum of ").dec(d.count * bs).str(" bytes of data at offset ");
    f.dec(d.first * bs).str(", device block ").dec(d.disk);
  }
  damages_.clear();
  return {};
}

Status DataCheck::run() {
  if (!buf_) buf_ = static_cast<uint8_t *>(vx_alloc_large(size_t{disk::kSumsPerItem} * c_.geometry().block_size, 0));
  if (!buf_) return Errno::nomem;
  seen_.resize(c_.geometry().total_blocks);
  ino_ = 0;
  extents_.clear();
  VX_TRY(c_.walk(store::TreeId::fs, [this](const store::Key &k, Bytes v) { return visit(k, v); }));
  return damages_.empty() ? Status() : report();
}

}  // namespace vexfs::fsck
