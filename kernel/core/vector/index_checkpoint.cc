// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The checkpoint of an index on disk: blobs in blocks of their own, items that say where, a header that says which
// generation of items counts.
//
// Writing one: the blobs of the next generation go to fresh blocks, their items enter the tree over as many
// transactions as needed, then one transaction switches the header, and the old generation is freed piece by piece. A
// crash in between leaves items of a generation that is not the header's; they are freed before the next checkpoint.
#include "../base/crc.h"
#include "index_keeper.h"

namespace vexfs::vector {
namespace index_checkpoint_impl {
namespace {

constexpr u32 blobs_per_handle = 12;

store::Key blob_key(u32 cid, u64 generation, u32 blob) {
  return item_key(cid, VectorItem::index_blob, generation << 32 | blob);
}

// A blob on its way to disk.
struct Pending {
  u32 blob;
  disk::BlobItem item;
};

}  // namespace
}  // namespace index_checkpoint_impl

// ------------------------------------------------------------------------------------------------------------ reading
Result<usize> IndexKeeper::read_header(Vec<u8> &buf) {
  VX_TRY(buf.resize(sizeof(disk::IndexHeaderItem) + 512));
  Result<usize> r = volume_.tree(store::TreeId::collections)
                        .get(item_key(table_.cid(), VectorItem::index_header), {buf.data(), buf.size()});
  if (!r.ok()) return r.code() == Errno::range ? Errno::corrupt : r.error();
  if (const char *bad = disk::verify_index_header({buf.data(), *r})) {
    volume_.log(VX_LOG_ERR).str("collection ").dec(table_.cid()).str(": damaged index header: bad ").str(bad);
    return Errno::corrupt;
  }
  return *r;
}

// first: what is on disk is not known yet.
Result<LiveIndex *> IndexKeeper::open_checkpoint(bool first) {
  Vec<u8> buf;
  usize n = VX_TRY(read_header(buf));
  disk::IndexHeaderItem head;
  memcpy(&head, buf.data(), sizeof head);
  if (first) {
    header_on_disk_ = true;
    generation_ = head.generation;
  }
  Bytes own{buf.data() + sizeof head, n - sizeof head};
  auto kind = static_cast<IndexKind>(head.kind);
  if (kind != params().kind) return Errno::corrupt;  // of an index that was replaced before the next had a checkpoint
  u32 covered = VX_TRY(index_covered(kind, own));
  if (covered != head.covered || covered > table_.slots()) return Errno::corrupt;
  void *p = vx_alloc(sizeof(LiveIndex), 0);
  if (!p) return Errno::nomem;
  auto *l = new (p) LiveIndex;
  l->table = &table_;
  l->generation = head.generation;
  BlobSource source;
  source.ctx = l;
  source.read = read_blob;
  Result<IndexPtr> index = index_open(kind, table_.space(), own, source);
  if (!index.ok()) {
    l->~LiveIndex();
    vx_free(l);
    return index.error();
  }
  l->index = index.take();
  l->claimed = covered;
  l->upto.store(covered, std::memory_order_relaxed);
  if (first) {
    covered_.store(covered, std::memory_order_relaxed);
    checkpoint_bytes_.store(head.bytes, std::memory_order_relaxed);
  }
  account(*l);
  return l;
}

Status IndexKeeper::read_blob(void *ctx, u32 blob, MutBytes out) {
  auto *l = static_cast<LiveIndex *>(ctx);
  store::Volume &v = l->table->volume();
  u32 bs = v.block_size();
  disk::BlobItem item;
  Status s;
  Result<usize> r = v.tree(store::TreeId::collections)
                        .get(index_checkpoint_impl::blob_key(l->table->cid(), l->generation, blob), mut_bytes_of(item));
  const char *bad = nullptr;
  if (!r.ok())
    bad = r.code() == Errno::noent ? "presence" : r.code() == Errno::range ? "length" : "read";
  else
    bad = disk::verify_blob({bytes_of(item).data(), *r}, limits_of(v));
  if (!bad && item.bytes != out.size()) bad = "bytes";
  if (!bad) {
    usize n = usize{item.blocks} * bs;
    auto *buf = static_cast<u8 *>(vx_alloc_large(n, 0));
    if (!buf) return Errno::nomem;
    s = v.read_blocks(item.start, {buf, n});
    if (s.ok() && crc32c_of({buf, out.size()}) != item.crc) bad = "checksum";
    if (s.ok() && !bad) memcpy(out.data(), buf, out.size());
    vx_free_large(buf, n);
  }
  if (bad) s = Errno::corrupt;
  if (!s.ok()) {
    l->bad.store(true, std::memory_order_release);
    v.log(VX_LOG_ERR)
        .str("collection ")
        .dec(l->table->cid())
        .str(": index checkpoint, blob ")
        .dec(blob)
        .str(": bad ")
        .str(bad ? bad : "read");
  }
  return s;
}

// ------------------------------------------------------------------------------------------------------------ writing
bool IndexKeeper::checkpoint_due() {
  Guard g(lock_);
  if (!live_) return false;
  u32 have = covered_.load(std::memory_order_relaxed), upto = live_->upto.load(std::memory_order_relaxed);
  return upto > have && upto - have >= max_of<u32>(16384, have / 4);
}

bool IndexKeeper::checkpoint_wanted_at_unmount() {
  Guard g(lock_);
  if (!live_) return false;
  u32 have = covered_.load(std::memory_order_relaxed), upto = live_->upto.load(std::memory_order_relaxed);
  return upto >= walked_slots_min && upto > have;
}

Status IndexKeeper::save_blobs(LiveIndex &l, u32 covered, u64 generation, u64 *bytes) {
  u32 bs = volume_.block_size(), count = l.index->blob_count(covered), npending = 0;
  store::Tree &tree = volume_.tree(store::TreeId::collections);
  index_checkpoint_impl::Pending pending[index_checkpoint_impl::blobs_per_handle];
  Status s;
  u64 goal = 0;
  *bytes = 0;
  for (u32 blob = 0; blob < count && s.ok(); blob++) {
    usize n = l.index->blob_bytes(blob), padded = align_up<usize>(n, bs);
    if (n == 0 || n > disk::kIndexBlobMax) return Errno::fbig;
    auto *buf = static_cast<u8 *>(vx_alloc_large(padded, VX_ALLOC_ZERO));
    if (!buf) s = Errno::nomem;
    if (s.ok()) s = l.index->save_blob(blob, covered, {buf, n});
    if (s.ok()) {
      Result<store::Extent> e = volume_.alloc(goal, padded / bs, padded / bs, false);
      s = e.ok() ? volume_.write_blocks(e->start, {buf, padded}) : Status(e.error());
      if (e.ok() && !s.ok()) volume_.cancel(*e);
      if (s.ok()) {
        disk::BlobItem item{};
        item.start = e->start;
        item.blocks = static_cast<u32>(e->count);
        item.bytes = static_cast<u32>(n);
        item.crc = crc32c_of({buf, n});
        pending[npending++] = {blob, item};
        goal = e->end();
        *bytes += padded;
      }
    }
    if (buf) vx_free_large(buf, padded);
    if (s.ok() && npending < index_checkpoint_impl::blobs_per_handle && blob + 1 < count) continue;
    // Items for what is written, in one transaction; after a failure the blocks go back.
    Result<store::Handle> h = s.ok() ? volume_.begin({.items = npending + 1}) : Result<store::Handle>(s.error());
    if (!h.ok()) s = h.error();
    for (u32 i = 0; i < npending; i++) {
      store::Extent e{pending[i].item.start, pending[i].item.blocks};
      if (!s.ok()) {
        volume_.cancel(e);
        continue;
      }
      pending[i].item.birth = h->txn();
      volume_.publish(*h, e);
      s = tree.insert(*h, index_checkpoint_impl::blob_key(table_.cid(), generation, pending[i].blob),
                      bytes_of(pending[i].item));
      if (!s.ok()) h->abort(s.error());
    }
    npending = 0;
    vx_yield();
  }
  return s;
}

Status IndexKeeper::save_header(LiveIndex &l, u32 covered, u64 generation, u32 nblobs, u64 bytes) {
  Vec<u8> buf;
  usize own = l.index->header_bytes();
  VX_TRY(buf.resize(sizeof(disk::IndexHeaderItem) + own));
  VX_TRY(l.index->save_header(covered, {buf.data() + sizeof(disk::IndexHeaderItem), own}));
  store::Handle h = VX_TRY(volume_.begin({.items = 2}));
  disk::IndexHeaderItem head{};
  head.version = disk::kVectorVersion;
  head.kind = static_cast<u8>(l.index->kind());
  head.generation = generation;
  head.covered = covered;
  head.nblobs = nblobs;
  head.bytes = bytes;
  head.txn = h.txn();
  head.own_bytes = static_cast<u32>(own);
  memcpy(buf.data(), &head, sizeof head);
  return volume_.tree(store::TreeId::collections)
      .upsert(h, item_key(table_.cid(), VectorItem::index_header), {buf.data(), buf.size()});
}

// Frees the blobs of all generations but one (0: of all).
Status IndexKeeper::purge_blobs(u64 keep_generation) {
  store::Tree &tree = volume_.tree(store::TreeId::collections);
  u64 from = 0;
  for (;;) {
    store::Handle h = VX_TRY(volume_.begin({.items = 16, .freeing = true}));
    u32 done = 0;
    for (; done < 16; done++) {
      disk::BlobItem item;
      Result<store::Tree::Found> f =
          tree.seek(item_key(table_.cid(), VectorItem::index_blob, from),
                    item_key(table_.cid(), VectorItem::index_blob, ~u64{0}), mut_bytes_of(item));
      if (f.code() == Errno::noent) return {};
      if (!f.ok()) return f.error();
      if (keep_generation && f->key.off >> 32 == keep_generation) {
        from = (keep_generation + 1) << 32;
        continue;
      }
      const char *bad = disk::verify_blob({bytes_of(item).data(), f->len}, limits_of(volume_));
      VX_TRY(tree.erase(h, f->key));
      // The blocks of an item that makes no sense stay lost until a check of the filesystem finds them.
      if (!bad) volume_.free(h, {item.start, item.blocks}, item.birth);
      from = f->key.off;
    }
  }
}

Status IndexKeeper::save(LiveIndex &l, u32 covered) {
  VX_TRY(purge_blobs(header_on_disk_ ? generation_ : 0));
  u64 generation = generation_ + 1, bytes = 0;
  if (generation > 0xffffffff) generation = 1;
  Status s = save_blobs(l, covered, generation, &bytes);
  if (s.ok()) s = save_header(l, covered, generation, l.index->blob_count(covered), bytes);
  if (!s.ok()) return s;
  header_on_disk_ = true;
  generation_ = generation;
  covered_.store(covered, std::memory_order_relaxed);
  checkpoint_bytes_.store(bytes, std::memory_order_relaxed);
  // Saving read every blob that was still on disk only, so nobody needs the old generation any more.
  return purge_blobs(generation);
}

Status IndexKeeper::checkpoint() {
  Guard g(job_);
  return checkpoint_locked();
}

Status IndexKeeper::checkpoint_locked() {
  LiveIndex *l = hold();
  if (!l) return {};
  u32 covered = l->upto.load(std::memory_order_acquire);
  Status s = covered ? save(*l, covered) : Status();
  if (!s.ok()) blame(l, s.error());
  release(l);
  return s;
}

Status IndexKeeper::drop_checkpoint() {
  Guard g(job_);
  {
    store::Handle h = VX_TRY(volume_.begin({.items = 1, .freeing = true}));
    Status s = volume_.tree(store::TreeId::collections).erase(h, item_key(table_.cid(), VectorItem::index_header));
    if (!s.ok() && s.code() != Errno::noent) return s;
  }
  header_on_disk_ = false;
  covered_.store(0, std::memory_order_relaxed);
  checkpoint_bytes_.store(0, std::memory_order_relaxed);
  return purge_blobs(0);
}

}  // namespace vexfs::vector
