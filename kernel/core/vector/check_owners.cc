// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Checking owners: references in the fs tree against rows, both ways, and what inodes say of themselves.
#include <algorithm>

#include "../api.h"
#include "../disk/fs_items.h"
#include "check_impl.h"

namespace vexfs::vector {

Status VectorCheck::owners() {
  std::sort(owned_.begin(), owned_.end());
  figures_.owned = owned_.size();
  VX_TRY(c_.walk(store::TreeId::fs, [&](const store::Key &k, Bytes b) { return visit_fs(k, b); }));
  end_inode();
  // Rows of files that the tree does not have at all.
  for (; owned_next_ < owned_.size(); owned_next_++) {
    const OwnedRow &r = owned_[owned_next_];
    bad()
        .str("collection ")
        .dec(r.cid)
        .str(": slot ")
        .dec(r.slot)
        .str(": belongs to inode ")
        .dec(r.ino)
        .str(", which has no reference to it");
  }
  return {};
}

bool VectorCheck::visit_fs(const store::Key &k, Bytes item) {
  if (k.oid == 0) return true;
  if (k.oid != ino_) {
    end_inode();
    ino_ = k.oid;
  }
  if (k.type == static_cast<u8>(disk::FsItem::inode) && item.size() >= sizeof(disk::DiskInode)) {
    disk::DiskInode d;
    memcpy(&d, item.data(), sizeof d);
    have_inode_ = true;
    inode_flags_ = static_cast<u32>(d.flags);
  }
  if (k.type == disk::kOwnerRefType) reference(k, item);
  return true;
}

void VectorCheck::reference(const store::Key &k, Bytes item) {
  has_refs_ = true;
  if (const char *why = disk::verify_owner_ref(item, k.off)) {
    bad().str("inode ").dec(k.oid).str(": vector reference ").hex(k.off).str(": bad ").str(why);
    return;
  }
  disk::OwnerRefItem r;
  memcpy(&r, item.data(), sizeof r);
  auto cid = static_cast<u32>(k.off >> 32), slot = static_cast<u32>(k.off);
  for (u32 i = 0; i < r.count; i++) {
    OwnedRow want{k.oid, cid, slot + i};
    while (owned_next_ < owned_.size() && owned_[owned_next_] < want) {
      const OwnedRow &o = owned_[owned_next_++];
      bad()
          .str("collection ")
          .dec(o.cid)
          .str(": slot ")
          .dec(o.slot)
          .str(": belongs to inode ")
          .dec(o.ino)
          .str(", which has no reference to it");
    }
    if (owned_next_ < owned_.size() && !(want < owned_[owned_next_])) {
      owned_next_++;
      continue;
    }
    bad()
        .str("inode ")
        .dec(k.oid)
        .str(": refers to slot ")
        .dec(want.slot)
        .str(" of collection ")
        .dec(cid)
        .str(", which is not a live row of it");
    return;  // one finding a run is enough
  }
}

u32 VectorCheck::collection_of(u64 ino) const {
  const CarriedBy *by =
      std::lower_bound(carried_.begin(), carried_.end(), ino, [](const CarriedBy &a, u64 b) { return a.ino < b; });
  return by != carried_.end() && by->ino == ino ? by->cid : 0;
}

void VectorCheck::end_inode() {
  if (ino_ == 0) return;
  if (has_refs_ && !have_inode_)
    bad().str("inode ").dec(ino_).str(": has vectors, but does not exist");
  else if (has_refs_ && !(inode_flags_ & VX_INODE_HAS_VECTORS))
    bad().str("inode ").dec(ino_).str(": has vectors, but is not marked so");
  if (have_inode_ && bool(inode_flags_ & VX_INODE_COLLECTION) != (collection_of(ino_) != 0))
    bad().str("inode ").dec(ino_).str(inode_flags_ & VX_INODE_COLLECTION
                                          ? ": marked as a collection, but carries none"
                                          : ": carries a collection, but is not marked so");
  have_inode_ = has_refs_ = false;
  inode_flags_ = 0;
}

}  // namespace vexfs::vector
