// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Creating and dropping collections, freeing what dropped ones held, and what happens to rows when files go away.
#include "engine.h"
#include "insist.h"

namespace vexfs::vector {
namespace lifecycle_impl {
namespace {

constexpr u32 rows_per_handle = 32;
constexpr u32 extents_per_handle = 8;
constexpr u32 items_per_handle = 256;  // neighbours in the tree, so few nodes

}  // namespace
}  // namespace lifecycle_impl

// -------------------------------------------------------------------------------------------------------------- create
Result<CollectionRef> Engine::create_collection(fs::Inode &dir, const CollectionParams &p) {
  if (!dir.is_dir()) return Errno::notdir;
  simd::Space space = VX_TRY(simd::Space::make(p.element, p.metric, p.dim));
  u32 group_rows = disk::group_rows_for(volume_.max_item());
  disk::TableShape shape = disk::shape_for(static_cast<u32>(space.row_bytes()), volume_.max_item());
  disk::ConfigItem c{};
  c.version = disk::kVectorVersion;
  c.flags = p.compact ? disk::kConfigCompact : 0;
  c.dir_ino = dir.ino();
  c.dim = p.dim;
  c.element = static_cast<u8>(p.element);
  c.metric = static_cast<u8>(p.metric);
  c.index = static_cast<u8>(p.index);
  c.m = static_cast<u16>(p.m);
  c.rows_per_group = static_cast<u16>(group_rows);
  c.stride = shape.stride;
  c.chunk_rows = shape.chunk_rows;
  c.ef_construction = p.ef_construction;
  c.ef_search = p.ef_search;
  c.lists = p.lists;
  c.probes = p.probes;
  c.pq_m = static_cast<u16>(p.pq_m);
  c.tables = static_cast<u8>(p.tables);
  c.bits = static_cast<u8>(p.bits);
  c.codes = static_cast<u16>(p.codes);
  c.recall = static_cast<u16>(p.recall);
  s64 sec;
  u32 nsec;
  vx_clock_real(&sec, &nsec);
  c.created_sec = static_cast<u64>(sec);
  c.created_nsec = nsec;
  memcpy(c.name, p.name, sizeof c.name);
  memcpy(c.model, p.model, sizeof c.model);
  u32 cid = 0;
  dir.meta_lock.lock();
  Status s = [&]() -> Status {
    store::Handle h = VX_TRY(volume_.begin({.items = 5}));
    Guard g(open_lock_);
    if (!dir.has_names() && dir.ino() != fs_.root_ino()) return Errno::noent;
    u8 blob[store::kUserBlobBytes];
    volume_.get_blob(store::TreeId::collections, blob);
    disk::VectorRootBlob root;
    memcpy(&root, blob, sizeof root);
    u64 next = max_of<u64>(root.next_cid, 1);
    if (next > 0xffffffff) return Errno::nospc;
    cid = static_cast<u32>(next);
    disk::DirEntryItem d{};
    d.cid = cid;
    VX_TRY(tree_.insert(h, registry_key(disk::kRegistryByDir, dir.ino()), bytes_of(d)));  // exist
    c.birth = h.txn();
    c.index_seed = next * 0x9e3779b97f4a7c15;
    disk::StateItem state{};
    state.next_id = 1;
    state.last_txn = h.txn();
    Status t = tree_.insert(h, item_key(cid, VectorItem::config), bytes_of(c));
    if (t.ok()) t = tree_.insert(h, item_key(cid, VectorItem::state), bytes_of(state));
    if (t.ok()) t = dir.change_flags(h, VX_INODE_COLLECTION, 0);
    if (!t.ok()) {
      h.abort(t.error());
      return t;
    }
    root.next_cid = next + 1;
    memcpy(blob, &root, sizeof root);
    volume_.set_blob(h, store::TreeId::collections, blob);
    return {};
  }();
  dir.meta_lock.unlock();
  VX_TRY(s);
  return insist([&] { return find(cid); });
}

// ---------------------------------------------------------------------------------------------------------------- drop
// From here on nobody finds the collection, and a mount after a crash goes on freeing it.
Status Engine::drop_items(store::Handle &h, u32 cid, u64 dir_ino, bool unlink_dir) {
  disk::ConfigItem c;
  VX_TRY(read_config(cid, &c));
  c.flags = c.flags | disk::kConfigDropped;
  VX_TRY(tree_.upsert(h, registry_key(disk::kRegistryTombstone, cid), {}));
  Status s = tree_.update(h, item_key(cid, VectorItem::config), bytes_of(c));
  if (s.ok() && unlink_dir) s = tree_.erase(h, registry_key(disk::kRegistryByDir, dir_ino));
  if (!s.ok()) h.abort(s.error());
  return s;
}

Status Engine::drop_collection(CollectionRef ref) {
  Collection *c = ref.get();
  Result<fs::InodeRef> dir = fs_.get(c->dir_ino());
  if (!dir.ok()) return dir.error();
  (*dir)->meta_lock.lock();
  Status s = [&]() -> Status {
    store::Handle h = VX_TRY(volume_.begin({.items = 4, .freeing = true}));
    Guard g(open_lock_);
    if (c->dropped() || !(*dir)->has_names()) return Errno::noent;
    VX_TRY(drop_items(h, c->cid(), c->dir_ino(), true));
    c->mark_dropped();
    Status f = (*dir)->change_flags(h, 0, VX_INODE_COLLECTION);
    if (!f.ok()) h.abort(f.error());
    return f;
  }();
  (*dir)->meta_lock.unlock();
  VX_TRY(s);
  u32 cid = c->cid();
  leave_map(*c);
  ref.reset();
  // Rows on their way to the device must be there (or given up) before the memory they are in goes.
  Status done = volume_.commit();
  close(c);
  VX_TRY(done);
  return insist([&] { return purge(cid); });
}

// Frees the blocks of items of one type, then the items.
Status Engine::purge_extents(u32 cid, VectorItem type) {
  for (;;) {
    store::Handle h = VX_TRY(volume_.begin({.items = lifecycle_impl::extents_per_handle, .freeing = true}));
    for (u32 i = 0; i < lifecycle_impl::extents_per_handle; i++) {
      disk::ChunkItem item{};
      Result<store::Tree::Found> f = tree_.seek(item_key(cid, type), item_key(cid, type, ~u64{0}), mut_bytes_of(item));
      if (f.code() == Errno::noent) return {};
      if (!f.ok() && f.code() != Errno::range) return f.error();
      if (!f.ok()) return damaged(volume_, cid, "chunk", 0, "length");
      Bytes bytes{bytes_of(item).data(), f->len};
      disk::BlobItem blob{};
      bool is_chunk = type == VectorItem::chunk;
      const char *bad = is_chunk ? disk::verify_chunk(bytes, limits_of(volume_), disk::kChunkBytesMax)
                                 : disk::verify_blob(bytes, limits_of(volume_));
      if (!is_chunk) memcpy(&blob, bytes.data(), min_of(sizeof blob, bytes.size()));
      VX_TRY(tree_.erase(h, f->key));
      if (bad) {
        (void)damaged(volume_, cid, is_chunk ? "chunk" : "index_blob", f->key.off, bad);
        continue;  // its blocks stay lost until a check finds them
      }
      if (!is_chunk) volume_.free(h, {blob.start, blob.blocks}, blob.birth);
      for (u32 p = 0; is_chunk && p < item.npieces; p++)
        volume_.free(h, {item.pieces[p].start, item.pieces[p].blocks}, item.birth);
    }
  }
}

// Row groups, with the references that the owners of live rows hold.
Status Engine::purge_rows(u32 cid) {
  Vec<u8> item;
  Vec<disk::RowRecord> rows;
  VX_TRY(item.resize(disk::group_bytes_max(disk::kGroupRowsMax)));
  VX_TRY(rows.resize(disk::kGroupRowsMax));
  disk::ConfigItem config;
  u32 group_rows =
      read_config(cid, &config).ok() ? config.rows_per_group.get() : disk::group_rows_for(volume_.max_item());
  u64 from = 0;
  for (;;) {
    store::Handle h = VX_TRY(volume_.begin({.items = lifecycle_impl::rows_per_handle + 2, .freeing = true}));
    Result<store::Tree::Found> f = tree_.seek(item_key(cid, VectorItem::rows, from),
                                              item_key(cid, VectorItem::rows, ~u64{0}), {item.data(), item.size()});
    if (f.code() == Errno::noent) return {};
    if (!f.ok()) return f.error();
    Result<u32> n = disk::decode_rows({item.data(), f->len}, rows.data());
    for (u32 i = 0; n.ok() && i < *n; i++) {
      if (!rows[i].owner || rows[i].death) continue;
      Status s = refs_.remove(h, rows[i].owner, cid, static_cast<u32>(f->key.off * group_rows + i), 1);
      if (!s.ok() && s.code() != Errno::noent) return s;
    }
    VX_TRY(tree_.erase(h, f->key));
    from = f->key.off;
  }
}

Status Engine::purge_items(u32 cid) {
  for (VectorItem type : {VectorItem::ids, VectorItem::dead, VectorItem::index_header, VectorItem::recall}) {
    usize n = lifecycle_impl::items_per_handle;
    while (n == lifecycle_impl::items_per_handle) {
      store::Handle h = VX_TRY(volume_.begin({.items = 16, .freeing = true}));
      n = VX_TRY(tree_.erase_range(h, item_key(cid, type), item_key(cid, type, ~u64{0}),
                                   lifecycle_impl::items_per_handle, [](const store::Key &, Bytes) {}));
    }
  }
  return {};
}

Status Engine::purge_config(u32 cid) {
  store::Handle h = VX_TRY(volume_.begin({.items = 4, .freeing = true}));
  disk::ConfigItem c;
  Status s = read_config(cid, &c);
  if (s.ok()) {
    disk::DirEntryItem d;
    Result<usize> r = tree_.get(registry_key(disk::kRegistryByDir, c.dir_ino), mut_bytes_of(d));
    if (r.ok() && d.cid == cid) VX_TRY(tree_.erase(h, registry_key(disk::kRegistryByDir, c.dir_ino)));
    VX_TRY(tree_.erase(h, item_key(cid, VectorItem::config)));
  }
  s = tree_.erase(h, item_key(cid, VectorItem::state));
  if (!s.ok() && s.code() != Errno::noent) return s;
  return tree_.erase(h, registry_key(disk::kRegistryTombstone, cid));
}

Status Engine::purge(u32 cid) {
  VX_TRY(purge_rows(cid));
  VX_TRY(purge_extents(cid, VectorItem::chunk));
  VX_TRY(purge_extents(cid, VectorItem::index_blob));
  VX_TRY(purge_items(cid));
  return purge_config(cid);
}

// --------------------------------------------------------------------------------------------------------------- hooks
Result<u32> Engine::before_unlink(void *ctx, fs::Inode &ip) {
  auto &e = *static_cast<Engine *>(ctx);
  if (ip.is_dir()) {
    // Vectors are contents as names are: who removes a directory says what it holds is not wanted, or is told. A row
    // that comes between this look and unlinked() goes with the directory, as if it had come just before.
    if (VX_TRY(e.holds_rows(ip.ino()))) return Errno::notempty;
    return 2u;  // tombstone, configuration
  }
  VX_TRY(e.prepare_hide(ip.ino()));
  return 1u;  // the record of the dead owner
}

// Has the directory a collection with rows? It is loaded only if its item cannot tell: rows whose owner is gone count in
// there until they have been marked dead one by one.
Result<bool> Engine::holds_rows(u64 dir_ino) {
  map_lock_.lock_shared();
  CollectionRef loaded(this, lookup_dir(dir_ino));
  map_lock_.unlock_shared();
  if (loaded) return loaded->table().live() != 0;
  disk::DirEntryItem d;
  disk::StateItem state;
  Result<usize> r = tree_.get(registry_key(disk::kRegistryByDir, dir_ino), mut_bytes_of(d));
  if (r.code() == Errno::noent) return false;
  u8 none[8];
  bool plain = r.ok() && *r == sizeof d && d.cid <= 0xffffffff &&
               tree_.get(item_key(static_cast<u32>(d.cid), VectorItem::state), mut_bytes_of(state)).ok() &&
               tree_.seek(registry_key(disk::kRegistryDeadOwner, 0), registry_key(disk::kRegistryDeadOwner, ~u64{0}),
                          {none, sizeof none})
                       .code() == Errno::noent;
  if (plain) return state.live != 0;
  Result<CollectionRef> c = of_directory(dir_ino);  // which also says what is wrong with it
  if (!c.ok()) return c.code() == Errno::noent ? Result<bool>(false) : Result<bool>(c.error());
  return (*c)->table().live() != 0;
}

// Memory that hiding the owner's rows takes, so that it cannot fail when the name is gone already.
Status Engine::prepare_hide(u64 ino) {
  u32 cid = 0, slot = 0;
  for (;;) {
    Result<OwnerRefs::Run> r = refs_.next(ino, cid, slot);
    if (r.code() == Errno::noent) return {};
    if (!r.ok()) return r.error();
    cid = r->cid;
    slot = r->slot + r->count;
    map_lock_.lock_shared();
    CollectionRef c(this, lookup(cid));
    map_lock_.unlock_shared();
    if (!c) continue;
    Table &t = c->table();
    for (u64 s = r->slot; s < slot && s < t.slots(); s = (s | (t.chunk_rows() - 1)) + 1)
      VX_TRY(t.prepare_dead(static_cast<u32>(s)));
  }
}

Status Engine::hide_owned(store::Handle &h, u64 ino, bool with_record) {
  u32 cid = 0, slot = 0;
  for (;;) {
    Result<OwnerRefs::Run> r = refs_.next(ino, cid, slot);
    if (r.code() == Errno::noent) return {};
    if (!r.ok()) return r.error();
    cid = r->cid;
    slot = r->slot + r->count;
    if (with_record) {
      VX_TRY(tree_.upsert(h, registry_key(disk::kRegistryDeadOwner, ino), {}));
      with_record = false;
    }
    map_lock_.lock_shared();
    CollectionRef c(this, lookup(cid));
    map_lock_.unlock_shared();
    if (!c) continue;
    Status s = c->hide(r->slot, r->count);
    for (u32 tries = 0; s.code() == Errno::nomem && tries < 2000; tries++) {
      vx_yield();
      s = c->hide(r->slot, r->count);
    }
    VX_TRY(s);
  }
}

Status Engine::unlinked(void *ctx, store::Handle &h, fs::Inode &ip) {
  auto &e = *static_cast<Engine *>(ctx);
  e.stats_.owners_gone.fetch_add(1, std::memory_order_relaxed);
  if (!ip.is_dir()) {
    e.owners_.lock();
    Status s = e.hide_owned(h, ip.ino(), true);
    e.owners_.unlock();
    return s;
  }
  Guard g(e.open_lock_);
  disk::DirEntryItem d;
  Result<usize> r = e.tree_.get(registry_key(disk::kRegistryByDir, ip.ino()), mut_bytes_of(d));
  if (r.code() == Errno::noent) return {};
  if (!r.ok()) return r.error();
  auto cid = static_cast<u32>(d.cid);
  VX_TRY(e.drop_items(h, cid, ip.ino(), false));
  e.map_lock_.lock_shared();
  if (Collection *c = e.lookup(cid)) {
    c->mark_dropped();
    e.put(c);
  }
  e.map_lock_.unlock_shared();
  return {};
}

Status Engine::delete_owned(u64 ino) {
  u32 cid = 0, slot = 0;
  for (;;) {
    Result<OwnerRefs::Run> r = refs_.next(ino, cid, slot);
    if (r.code() == Errno::noent) break;
    if (!r.ok()) return r.error();
    cid = r->cid;
    slot = r->slot;
    u32 n = min_of(r->count, lifecycle_impl::rows_per_handle);
    Result<CollectionRef> c = find(cid);
    if (c.ok()) {
      VX_TRY((*c)->kill_owned(ino, slot, n));
    } else if (c.code() == Errno::noent) {  // dropped, and half freed
      store::Handle h = VX_TRY(volume_.begin({.items = 2, .freeing = true}));
      VX_TRY(refs_.remove(h, ino, cid, slot, n));
    } else {
      return c.error();
    }
    slot += n;
  }
  store::Handle h = VX_TRY(volume_.begin({.items = 1, .freeing = true}));
  Status s = tree_.erase(h, registry_key(disk::kRegistryDeadOwner, ino));
  return s.code() == Errno::noent ? Status() : s;
}

Status Engine::delete_directory(u64 ino) {
  disk::DirEntryItem d;
  Result<usize> r = tree_.get(registry_key(disk::kRegistryByDir, ino), mut_bytes_of(d));
  if (r.code() == Errno::noent) return {};
  if (!r.ok()) return r.error();
  auto cid = static_cast<u32>(d.cid);
  map_lock_.lock_shared();
  Collection *c = lookup(cid);
  map_lock_.unlock_shared();
  if (c) {
    leave_map(*c);
    put(c);
    Status done = volume_.commit();
    close(c);
    VX_TRY(done);
  }
  return purge(cid);
}

Status Engine::deleting(void *ctx, fs::Inode &ip) {
  auto &e = *static_cast<Engine *>(ctx);
  return ip.is_dir() ? e.delete_directory(ip.ino()) : e.delete_owned(ip.ino());
}

}  // namespace vexfs::vector
