// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Runs of slots under an owner's inode number.
#include "owner_refs.h"

#include "../disk/fs_items.h"

namespace vexfs::vector {

static_assert(disk::kOwnerRefType == static_cast<u8>(disk::FsItem::vector_ref));

Result<OwnerRefs::Run> OwnerRefs::parse(u64 ino, const store::Tree::Found &f, const disk::OwnerRefItem &item) const {
  if (const char *bad = disk::verify_owner_ref({bytes_of(item).data(), f.len}, f.key.off)) {
    volume_.log(VX_LOG_ERR)
        .str("inode ")
        .dec(ino)
        .str(": damaged vector reference ")
        .hex(f.key.off)
        .str(": bad ")
        .str(bad);
    volume_.found_damage(Errno::corrupt);
    return Errno::corrupt;
  }
  return Run{static_cast<u32>(f.key.off >> 32), static_cast<u32>(f.key.off), item.count};
}

Result<OwnerRefs::Run> OwnerRefs::covering_or_before(u64 ino, u32 cid, u32 slot) const {
  disk::OwnerRefItem item;
  Result<store::Tree::Found> f = tree_.seek_back(ref_key(ino, cid, slot), ref_key(ino, cid, 0), mut_bytes_of(item));
  if (f.code() == Errno::range) return Errno::corrupt;
  if (!f.ok()) return f.error();
  return parse(ino, *f, item);
}

Result<OwnerRefs::Run> OwnerRefs::next(u64 ino, u32 cid, u32 slot) const {
  Result<Run> r = cid ? covering_or_before(ino, cid, slot) : Result<Run>(Errno::noent);
  if (r.ok() && slot < r->slot + r->count) return *r;
  if (!r.ok() && r.code() != Errno::noent) return r.error();
  disk::OwnerRefItem item;
  Result<store::Tree::Found> f =
      tree_.seek(ref_key(ino, cid, slot), ref_key(ino, ~u32{0}, ~u32{0}), mut_bytes_of(item));
  if (f.code() == Errno::range) return Errno::corrupt;
  if (!f.ok()) return f.error();
  return parse(ino, *f, item);
}

Status OwnerRefs::put(store::Handle &h, u64 ino, const Run &r) {
  disk::OwnerRefItem item{};
  item.count = r.count;
  return tree_.upsert(h, ref_key(ino, r.cid, r.slot), bytes_of(item));
}

Status OwnerRefs::add(store::Handle &h, u64 ino, u32 cid, u32 slot, u32 n) {
  Result<Run> r = covering_or_before(ino, cid, slot);
  if (!r.ok() && r.code() != Errno::noent) return r.error();
  if (r.ok() && r->slot + r->count == slot) return put(h, ino, {cid, r->slot, r->count + n});
  return put(h, ino, {cid, slot, n});
}

Status OwnerRefs::remove(store::Handle &h, u64 ino, u32 cid, u32 slot, u32 n) {
  Run r = VX_TRY(covering_or_before(ino, cid, slot));
  if (slot + n > r.slot + r.count) return Errno::noent;
  u32 before = slot - r.slot, after = r.count - before - n;
  if (after) VX_TRY(put(h, ino, {cid, slot + n, after}));
  if (before) return put(h, ino, {cid, r.slot, before});
  return tree_.erase(h, ref_key(ino, cid, r.slot));
}

}  // namespace vexfs::vector
