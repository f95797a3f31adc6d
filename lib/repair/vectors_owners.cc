// SPDX-License-Identifier: MIT
// Repair: references of files to rows of vectors, made to fit the rows; and the flags of inodes that follow.
#include "../../kernel/core/api.h"
#include "../../kernel/core/disk/vector_items_rows.h"
#include "files.h"

namespace vexfs::repair {
namespace {

using Slots = std::set<std::pair<u32, u32>>;  // collection and slot

// Of all collections, those included that a mount will free.
std::map<u64, Slots> owned_rows(const Model &m) {
  std::map<u64, Slots> out;
  std::vector<disk::RowRecord> group(disk::kGroupRowsMax);
  u64 cid = 0, per = 0;
  for (const auto &[k, v] : m.trees[kCollections].items) {
    if (k.oid == 0) continue;
    if (k.type == static_cast<u8>(disk::VectorItem::config)) {
      cid = k.oid;
      per = item_of<disk::ConfigItem>(v).rows_per_group;
    }
    if (k.oid != cid || k.type != static_cast<u8>(disk::VectorItem::rows)) continue;
    Result<u32> n = disk::decode_rows(as_bytes(v), group.data());
    for (u32 i = 0; n.ok() && i < *n; i++)
      if (group[i].death == 0 && group[i].owner)
        out[group[i].owner].insert({static_cast<u32>(cid), static_cast<u32>(k.off * per + i)});
  }
  return out;
}

// What the references of all files say; *broken gets those with an item that makes no sense.
std::map<u64, Slots> referred_rows(const Model &m, const std::map<u64, Slots> &owned, std::set<u64> &broken) {
  std::map<u64, Slots> out;
  for (const auto &[k, v] : m.trees[kFs].items) {
    if (k.oid == 0 || k.type != disk::kOwnerRefType) continue;
    if (disk::verify_owner_ref(as_bytes(v), k.off)) {
      broken.insert(k.oid);
      continue;
    }
    const auto rows = owned.find(k.oid);
    const usize most = rows == owned.end() ? 0 : rows->second.size();
    Slots &s = out[k.oid];
    const u32 count = item_of<disk::OwnerRefItem>(v).count;
    // A row has one reference, and there are not more references than rows.
    if (count > most - std::min(most, s.size())) {
      broken.insert(k.oid);
      continue;
    }
    for (u32 i = 0; i < count; i++)
      if (!s.insert({static_cast<u32>(k.off >> 32), static_cast<u32>(k.off) + i}).second) {
        broken.insert(k.oid);
        break;
      }
  }
  return out;
}

void write_refs(Model &m, u64 ino, const Slots &slots) {
  auto it = m.files().lower_bound({ino, disk::kOwnerRefType, 0});
  while (it != m.files().end() && it->first.oid == ino && it->first.type == disk::kOwnerRefType) it = m.drop(kFs, it);
  for (auto s = slots.begin(); s != slots.end();) {
    const auto [cid, slot] = *s;
    u32 n = 0;
    while (s != slots.end() && s->first == cid && s->second == slot + n) {
      ++s;
      n++;
    }
    disk::OwnerRefItem r{};
    r.count = n;
    m.put(kFs, {ino, disk::kOwnerRefType, u64{cid} << 32 | slot}, value_of(r));
  }
}

void repair_flags(Model &m, const std::map<u64, Slots> &owned) {
  std::vector<std::pair<Key, disk::DiskInode>> changes;
  for (const auto &[k, v] : m.files()) {
    if (k.oid == 0 || k.type != static_cast<u8>(disk::FsItem::inode)) continue;
    auto i = item_of<disk::DiskInode>(v);
    const bool carries = m.vectors().count({0, disk::kRegistryByDir, k.oid}) != 0;
    u64 flags = carries ? i.flags | VX_INODE_COLLECTION : i.flags & ~u64{VX_INODE_COLLECTION};
    if (owned.count(k.oid)) flags |= VX_INODE_HAS_VECTORS;
    if (flags == i.flags) continue;
    i.flags = flags;
    changes.push_back({k, i});
  }
  for (auto &[k, i] : changes) {
    m.ask(cat(m.path_of(k.oid), ": what it says of its vectors is corrected"));
    m.put(kFs, k, value_of(i));
  }
}

}  // namespace

void repair_owners(Model &m) {
  std::set<u64> broken;
  const auto owned = owned_rows(m);
  const auto referred = referred_rows(m, owned, broken);
  std::set<u64> inodes = broken;
  for (const auto &[ino, s] : owned) inodes.insert(ino);
  for (const auto &[ino, s] : referred) inodes.insert(ino);
  static const Slots none;
  for (u64 ino : inodes) {
    if (!m.files().count(first_of(ino, disk::FsItem::inode))) continue;
    const auto is = referred.find(ino), want = owned.find(ino);
    const Slots &a = is == referred.end() ? none : is->second, &b = want == owned.end() ? none : want->second;
    if (a == b && !broken.count(ino)) continue;
    write_refs(m, ino, b);
    m.ask(cat(m.path_of(ino), ": its references to vectors are corrected"));
  }
  repair_flags(m, owned);
}

}  // namespace vexfs::repair
