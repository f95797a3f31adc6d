// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Runs of ids: lookup, extension, splitting.
#include "id_map.h"

namespace vexfs::vector {

Result<IdMap::Run> IdMap::parse(const store::Tree::Found &f, const disk::IdRunItem &item) const {
  if (const char *bad = disk::verify_id_run({bytes_of(item).data(), f.len}, f.key.off))
    return damaged(volume_, cid_, "ids", f.key.off, bad);
  return Run{f.key.off, item.slot, item.count};
}

Result<IdMap::Run> IdMap::covering_or_before(u64 id) const {
  disk::IdRunItem item;
  Result<store::Tree::Found> f = tree_.seek_back(key(id), key(0), mut_bytes_of(item));
  if (f.code() == Errno::range) return damaged(volume_, cid_, "ids", id, "length");
  if (!f.ok()) return f.error();
  return parse(*f, item);
}

Result<u32> IdMap::find(u64 id) const {
  Run r = VX_TRY(covering_or_before(id));
  if (id > r.last()) return Errno::noent;
  return static_cast<u32>(r.slot + (id - r.first));
}

Result<IdMap::Run> IdMap::next(u64 id) const {
  Result<Run> before = covering_or_before(id);
  if (before.ok() && id <= before->last()) return *before;
  if (!before.ok() && before.code() != Errno::noent) return before.error();
  disk::IdRunItem item;
  Result<store::Tree::Found> f = tree_.seek(key(id), key(~u64{0}), mut_bytes_of(item));
  if (f.code() == Errno::range) return damaged(volume_, cid_, "ids", id, "length");
  if (!f.ok()) return f.error();
  return parse(*f, item);
}

Result<bool> IdMap::vacant(u64 first, u32 n) const {
  Result<Run> r = next(first);
  if (r.code() == Errno::noent) return true;
  if (!r.ok()) return r.error();
  return r->first > first && r->first - first >= n;
}

Status IdMap::put(store::Handle &h, const Run &r) {
  disk::IdRunItem item{};
  item.slot = r.slot;
  item.count = r.count;
  return tree_.upsert(h, key(r.first), bytes_of(item));
}

Status IdMap::set_run(store::Handle &h, u64 first, u32 slot, u32 n) {
  Result<Run> before = covering_or_before(first);
  if (!before.ok() && before.code() != Errno::noent) return before.error();
  if (before.ok() && before->last() + 1 == first && before->slot + before->count == slot)
    return put(h, {before->first, before->slot, before->count + n});
  return put(h, {first, slot, n});
}

Status IdMap::set(store::Handle &h, u64 id, u32 slot) {
  Result<Run> r = covering_or_before(id);
  if (!r.ok() && r.code() != Errno::noent) return r.error();
  if (!r.ok() || id > r->last()) return set_run(h, id, slot, 1);
  auto before = static_cast<u32>(id - r->first);
  u32 after = r->count - before - 1;
  if (after) VX_TRY(put(h, {id + 1, r->slot + before + 1, after}));
  if (before) VX_TRY(put(h, {r->first, r->slot, before}));
  return put(h, {id, slot, 1});
}

Status IdMap::drop(store::Handle &h, u64 id, u32 slot) {
  Result<Run> r = covering_or_before(id);
  if (r.code() == Errno::noent) return {};
  if (!r.ok()) return r.error();
  if (r->first != id || r->slot != slot || r->count != 1) return {};
  return tree_.erase(h, key(id));
}

}  // namespace vexfs::vector
