// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The checkpoint of an index on disk: blobs in blocks of their own, items that say where, a header that says which
// generation of items counts.
//
// Writing one: blobs that changed since the last one go to fresh blocks as of the next generation, their items enter the
// tree over as many transactions as needed, then one transaction switches the header, and what was replaced is freed
// piece by piece. Of each blob the item of the greatest generation counts that is not beyond the header's; so those of a
// checkpoint that a crash cut short count for nothing, and are freed before the next.
#include "../base/crc.h"
#include "index_keeper.h"

namespace vexfs::vector {
namespace index_checkpoint_impl {
namespace {

constexpr u32 blobs_per_handle = 4;
constexpr u64 retry_ns = 60'000'000'000;  // after a checkpoint for which there was no room
constexpr u64 freed_min = 64;             // blocks, that are worth another before
constexpr usize kept_share = 16;          // of the memory limit: for what an index keeps of what it has read

store::Key blob_key(u32 cid, u32 blob, u64 generation) {
  return item_key(cid, VectorItem::index_blob, disk::blob_off(blob, generation));
}

// The item that counts in the checkpoint of that generation. noent; range: of an impossible length.
Result<store::Tree::Found> find_blob(const store::Tree &tree, u32 cid, u32 blob, u64 generation, disk::BlobItem *out) {
  return tree.seek_back(blob_key(cid, blob, generation), blob_key(cid, blob, 0), mut_bytes_of(*out));
}

}  // namespace
}  // namespace index_checkpoint_impl

// Blobs that are written, and have no items yet.
struct IndexKeeper::SavedBlobs {
  u64 generation;
  u64 goal = 0;  // where the next one would best lie
  u32 n = 0;
  u32 blob[index_checkpoint_impl::blobs_per_handle];
  disk::BlobItem item[index_checkpoint_impl::blobs_per_handle];
};

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
    nblobs_ = head.nblobs;
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
  l->generation.store(head.generation, std::memory_order_relaxed);
  l->stored_as = head.generation;
  const BlobSource source{.ctx = l, .read = read_blob, .read_parts = read_parts, .memory = kept_for_reads()};
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

// One try. *used: the item that was gone by. Null: as it should be, or `s` says what no item is to blame for.
const char *IndexKeeper::try_blob(LiveIndex &l, u32 blob, MutBytes out, disk::BlobItem *used, Status *s) {
  const store::Volume &v = l.table->volume();
  *used = {};
  auto r = index_checkpoint_impl::find_blob(v.tree(store::TreeId::collections), l.table->cid(), blob,
                                            l.generation.load(std::memory_order_acquire), used);
  if (!r.ok()) return r.code() == Errno::noent ? "presence" : r.code() == Errno::range ? "length" : "read";
  if (const char *bad = disk::verify_blob({bytes_of(*used).data(), r->len}, limits_of(v))) return bad;
  if (used->bytes != out.size()) return "bytes";
  const usize n = usize{used->blocks} * v.block_size();
  auto *buf = static_cast<u8 *>(vx_alloc_large(n, 0));
  if (!buf) {
    *s = Errno::nomem;
    return nullptr;
  }
  *s = v.read_blocks(used->start, {buf, n});
  const bool good = s->ok() && crc32c_of({buf, out.size()}) == used->crc;
  if (good) memcpy(out.data(), buf, out.size());
  vx_free_large(buf, n);
  return good || !s->ok() ? nullptr : "checksum";
}

Status IndexKeeper::read_blob(void *ctx, u32 blob, MutBytes out) {
  auto *l = static_cast<LiveIndex *>(ctx);
  disk::BlobItem used, before;
  Status s;
  const char *bad = try_blob(*l, blob, out, &used, &s);
  // A checkpoint may have replaced the blob meanwhile, and freed what was being read.
  for (bool moved = true; bad && moved;) {
    before = used;
    bad = try_blob(*l, blob, out, &used, &s);
    moved = memcmp(&before, &used, sizeof used) != 0;
  }
  if (!bad && s.code() == Errno::nomem) return s;
  if (bad) s = Errno::corrupt;
  if (!s.ok()) {
    l->bad.store(true, std::memory_order_release);
    l->table->volume()
        .log(VX_LOG_ERR)
        .str("collection ")
        .dec(l->table->cid())
        .str(": index checkpoint, blob ")
        .dec(blob)
        .str(": bad ")
        .str(bad ? bad : "read");
  }
  return s;
}

Status IndexKeeper::try_parts(LiveIndex &l, const BlobPart *parts, u32 n) {
  const store::Volume &v = l.table->volume();
  vx_io io[blob_parts_max];
  VX_ASSERT(n <= blob_parts_max);
  for (u32 i = 0; i < n; i++) {
    disk::BlobItem item;
    auto r = index_checkpoint_impl::find_blob(v.tree(store::TreeId::collections), l.table->cid(), parts[i].blob,
                                              l.generation.load(std::memory_order_acquire), &item);
    if (!r.ok()) return r.code() == Errno::range ? Errno::corrupt : r.error();
    if (disk::verify_blob({bytes_of(item).data(), r->len}, limits_of(v))) return Errno::corrupt;
    if (u64{parts[i].at} + parts[i].out.size() > align_up<u32>(item.bytes, v.block_size())) return Errno::corrupt;
    io[i] = {.off = (item.start << v.block_shift()) + parts[i].at,
             .len = parts[i].out.size(),
             .buf = parts[i].out.data(),
             .err = 0,
             .flags = VX_IO_READ};
  }
  return vx_bdev_submit(v.device(), io, n) == 0 ? Status() : Status(Errno::io);
}

// What cannot be read is damage, too: searches go on without the index, and it is built again. noent: replaced meanwhile.
Status IndexKeeper::read_parts(void *ctx, const BlobPart *parts, u32 n) {
  auto *l = static_cast<LiveIndex *>(ctx);
  Status s = try_parts(*l, parts, n);
  if (s.code() == Errno::io)
    s = try_parts(*l, parts, n);  // a path that failed may be back; an index is long in building
  if (s.ok() || s.code() == Errno::noent || s.code() == Errno::nomem) return s;
  if (!l->bad.exchange(true, std::memory_order_acq_rel))
    l->table->volume()
        .log(VX_LOG_ERR)
        .str("collection ")
        .dec(l->table->cid())
        .str(": index checkpoint: part of a blob cannot be read");
  return s;
}

// ------------------------------------------------------------------------------------------------------------ writing
bool IndexKeeper::checkpoint_due() {
  if (save_later()) return false;
  Guard g(lock_);
  if (!live_) return false;
  u32 have = covered_.load(std::memory_order_relaxed), upto = live_->upto.load(std::memory_order_relaxed);
  if (live_->index->wants_saving() || full(*live_)) return true;
  return upto > have && upto - have >= max_of<u32>(16384, have / 4);
}

bool IndexKeeper::checkpoint_wanted_at_unmount() {
  Guard g(lock_);
  if (!live_) return false;
  u32 have = covered_.load(std::memory_order_relaxed), upto = live_->upto.load(std::memory_order_relaxed);
  return upto >= walked_slots_min && (upto > have || live_->index->wants_saving());
}

Result<store::Extent> IndexKeeper::take_blocks(u64 goal, u64 n) {
  Result<store::Extent> e = volume_.alloc(goal, n, n, false);
  // What checkpoints before have left is free after a commit.
  const bool again = e.code() == Errno::nospc && volume_.space().pinned >= n && volume_.commit().ok();
  if (again) return volume_.alloc(goal, n, n, false);
  return e;
}

// Writes one blob to blocks of its own.
Status IndexKeeper::save_blob(LiveIndex &l, u32 blob, u32 covered, SavedBlobs &out) {
  const u32 bs = volume_.block_size();
  const usize n = l.index->blob_bytes(blob), padded = align_up<usize>(n, bs);
  if (n == 0 || n > disk::kIndexBlobMax) return Errno::fbig;
  auto *buf = static_cast<u8 *>(vx_alloc_large(padded, VX_ALLOC_ZERO));
  if (!buf) return Errno::nomem;
  Status s;
  {
    View view(table_);
    s = l.index->save_blob(blob, covered, {buf, n}, view.rows());
  }
  if (s.ok()) {
    Result<store::Extent> e = take_blocks(out.goal, padded / bs);
    s = e.ok() ? volume_.write_blocks(e->start, {buf, padded}) : Status(e.error());
    if (e.ok() && !s.ok()) volume_.cancel(*e);
    if (s.ok()) {
      disk::BlobItem &item = out.item[out.n];
      item = {};
      item.start = e->start;
      item.blocks = static_cast<u32>(e->count);
      item.bytes = static_cast<u32>(n);
      item.crc = crc32c_of({buf, n});
      out.blob[out.n++] = blob;
      out.goal = e->end();
    }
  }
  vx_free_large(buf, padded);
  return s;
}

// Items for what is written, in one transaction; after a failure, `s` or one of its own, the blocks go back.
Status IndexKeeper::publish_blobs(SavedBlobs &saved, Status s) {
  const u32 n = std::exchange(saved.n, 0);
  if (n == 0) return s;
  Result<store::Handle> h = s.ok() ? volume_.begin({.items = n + 1}) : Result<store::Handle>(s.error());
  if (!h.ok()) s = h.error();
  for (u32 i = 0; i < n; i++) {
    store::Extent e{saved.item[i].start, saved.item[i].blocks};
    if (!s.ok()) {
      volume_.cancel(e);
      continue;
    }
    saved.item[i].birth = h->txn();
    volume_.publish(*h, e);
    s = volume_.tree(store::TreeId::collections)
            .insert(*h, index_checkpoint_impl::blob_key(table_.cid(), saved.blob[i], saved.generation),
                    bytes_of(saved.item[i]));
    if (!s.ok()) h->abort(s.error());
  }
  return s;
}

// Writes the blobs that the checkpoint on disk does not have as they are.
Status IndexKeeper::save_blobs(LiveIndex &l, u32 covered, u64 generation) {
  const u32 count = l.index->blob_count(covered);
  const bool beside = aside_.of == &l && l.stored_as == aside_.generation;
  const bool whole = l.stored_as == 0 || (!beside && (!header_on_disk_ || l.stored_as != generation_));
  const u32 stored = beside ? aside_.nblobs : nblobs_;
  l.stored_as = 0;  // what is saved counts as clean, whatever becomes of this checkpoint
  auto saved = VX_TRY(Box<SavedBlobs>::make());
  saved->generation = generation;
  Status s;
  for (u32 blob = 0; blob < count && s.ok(); blob++) {
    if (!whole && blob < stored && !l.index->blob_dirty(blob)) continue;
    s = save_blob(l, blob, covered, *saved);
    if (s.ok() && saved->n == index_checkpoint_impl::blobs_per_handle) s = publish_blobs(*saved, s);
    vx_yield();
  }
  return publish_blobs(*saved, s);
}

Status IndexKeeper::save_header(LiveIndex &l, u32 covered, u64 generation, u32 nblobs, u64 bytes) {
  Vec<u8> buf;
  usize own = l.index->header_bytes();
  VX_TRY(buf.resize(sizeof(disk::IndexHeaderItem) + own));
  VX_TRY(l.index->save_header(covered, {buf.data() + sizeof(disk::IndexHeaderItem), own}));
  store::Handle h = VX_TRY(volume_.begin({.items = 2}));
  disk::IndexHeaderItem head{};
  head.version = disk::kIndexHeaderVersion;
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

// Does the item at `off` count in a checkpoint of that generation and so many blobs?
Result<bool> IndexKeeper::counts_for(u32 blob, u64 off, u64 generation, u32 nblobs) {
  if (blob >= nblobs || disk::blob_generation(off) > generation) return false;
  disk::BlobItem counts;
  auto last = index_checkpoint_impl::find_blob(volume_.tree(store::TreeId::collections), table_.cid(), blob, generation,
                                               &counts);
  if (!last.ok()) return last.error();
  return last->key.off == off;
}

// Frees the blobs that count neither in the checkpoint, if there is one, nor for what is built aside.
Status IndexKeeper::purge_blobs() {
  store::Tree &tree = volume_.tree(store::TreeId::collections);
  const u32 cid = table_.cid();
  u64 from = 0;
  for (;; vx_yield()) {
    store::Handle h = VX_TRY(volume_.begin({.items = 16, .freeing = true}));
    for (u32 done = 0; done < 16; done++) {
      disk::BlobItem item;
      Result<store::Tree::Found> f = tree.seek(item_key(cid, VectorItem::index_blob, from),
                                               item_key(cid, VectorItem::index_blob, ~u64{0}), mut_bytes_of(item));
      if (f.code() == Errno::noent) {
        tidy_ = true;
        return {};
      }
      if (!f.ok()) return f.error();
      const u32 blob = disk::blob_number(f->key.off);
      if ((header_on_disk_ && VX_TRY(counts_for(blob, f->key.off, generation_, nblobs_))) ||
          (aside_.of && VX_TRY(counts_for(blob, f->key.off, aside_.generation, aside_.nblobs)))) {
        from = f->key.off + 1;
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

// What was built aside is given up.
void IndexKeeper::drop_aside() {
  if (!aside_.of) return;
  aside_ = {};
  tidy_ = false;
  (void)purge_blobs().ok();  // else before the next checkpoint
}

// Of an index that is built aside all but the header is written: it can let go of what it keeps, and a checkpoint of it has
// little left to write once it is the collection's.
Status IndexKeeper::save(LiveIndex &l, u32 covered) {
  if (aside_.of != &l) aside_ = {};
  if (!tidy_) VX_TRY(purge_blobs());
  const u64 generation = max_of(generation_, aside_.generation) + 1;
  if (generation > disk::kGenerationMax) return Errno::overflow;
  tidy_ = false;
  Status saved = save_blobs(l, covered, generation);
  const u32 nblobs = l.index->blob_count(covered);
  u64 bytes = 0;
  for (u32 blob = 0; blob < nblobs; blob++) bytes += align_up<usize>(l.index->blob_bytes(blob), volume_.block_size());
  if (saved.ok() && !l.aside) saved = save_header(l, covered, generation, nblobs, bytes);
  if (!saved.ok()) {  // perhaps there is no room: then what was written takes none
    (void)purge_blobs().ok();
    return saved;
  }
  l.stored_as = generation;
  if (l.aside) {
    aside_ = {.of = &l, .generation = generation, .nblobs = nblobs};
  } else {
    aside_ = {};
    header_on_disk_ = true;
    generation_ = generation;
    nblobs_ = nblobs;
    covered_.store(covered, std::memory_order_relaxed);
    checkpoint_bytes_.store(bytes, std::memory_order_relaxed);
  }
  // What is still on disk alone is clean, and its item the same in both checkpoints.
  l.generation.store(generation, std::memory_order_release);
  l.index->saved(covered,
                 BlobSource{.ctx = &l, .read = read_blob, .read_parts = read_parts, .memory = kept_for_reads()});
  account(l);
  return purge_blobs();
}

usize IndexKeeper::kept_for_reads() const {
  return static_cast<usize>(table_.cache().limit() / index_checkpoint_impl::kept_share);
}

// Is another checkpoint to wait, since there was no room for the last one? Until there is more, or time has passed.
bool IndexKeeper::save_later() {
  const u64 after = save_after_.load(std::memory_order_relaxed);
  if (!after || vx_clock_mono_ns() >= after) return false;
  const store::SpaceInfo now = volume_.space();
  return now.avail + now.pinned <= save_with_.load(std::memory_order_relaxed) + index_checkpoint_impl::freed_min;
}

void IndexKeeper::save_failed(const Status &s) {
  const bool full = s.code() == Errno::nospc;
  const store::SpaceInfo now = volume_.space();
  save_with_.store(now.avail + now.pinned, std::memory_order_relaxed);
  save_after_.store(full ? vx_clock_mono_ns() + index_checkpoint_impl::retry_ns : 0, std::memory_order_relaxed);
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
  save_failed(s);
  if (!s.ok()) blame(l, s.error());
  release(l);
  if (s.ok()) save_recall();
  return s;
}

Status IndexKeeper::drop_checkpoint() {
  Guard g(job_);
  {
    Guard r(recall_save_);
    RecallTuner::Measured now;
    (void)recall_.unsaved(&now);
    store::Handle h = VX_TRY(volume_.begin({.items = 2, .freeing = true}));
    store::Tree &tree = volume_.tree(store::TreeId::collections);
    // In this order: should the second fail, the checkpoint is still there as memory has it.
    for (const VectorItem item : {VectorItem::recall, VectorItem::index_header}) {
      Status s = tree.erase(h, item_key(table_.cid(), item));
      if (!s.ok() && s.code() != Errno::noent) return s;
    }
    if (!now.curve.measured()) recall_.saved(now.version);
  }
  header_on_disk_ = false;
  covered_.store(0, std::memory_order_relaxed);
  checkpoint_bytes_.store(0, std::memory_order_relaxed);
  aside_ = {};
  return purge_blobs();
}

}  // namespace vexfs::vector
