// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Scrubbing vectors, beside everything else that goes on. A row that differs from its checksum counts when it is still
// alive, and lies where it lay, after that was seen. Rows that are newer than the last commit may not be there yet.
#include "scrub.h"

#include "../base/crc.h"
#include "../disk/vector_items_rows.h"

namespace vexfs::vector {
namespace scrub_impl {
namespace {

// The rows of a chunk that ought to be on the device, by their number in it.
struct Rows : Pinned {
  Vec<u32> crc;
  Vec<u64> id;
  Vec<u8> there;
  Status make(u32 n) {
    VX_TRY(crc.resize(n));
    VX_TRY(id.resize(n));
    return there.resize(n);
  }
};

Status read_rows(Table &t, u32 chunk, u64 durable, Rows &out) {
  auto *group = static_cast<disk::RowRecord *>(vx_alloc(sizeof(disk::RowRecord) * disk::kGroupRowsMax, 0));
  if (!group) return Errno::nomem;
  u64 first = (u64{chunk} << t.shift()) / t.group_rows(), last = first + t.chunk_rows() / t.group_rows();
  auto take = [&](const store::Key &k, Bytes item) {
    Result<u32> n = disk::decode_rows(item, group);
    u64 at = (k.off - first) * t.group_rows();
    for (u32 i = 0; n.ok() && i < *n && at + i < out.there.size(); i++) {
      out.there[at + i] = group[i].death == 0 && group[i].birth <= durable;
      out.crc[at + i] = group[i].crc;
      out.id[at + i] = group[i].id;
    }
    return true;
  };
  Status st =
      t.volume()
          .tree(store::TreeId::collections)
          .scan(item_key(t.cid(), VectorItem::rows, first), item_key(t.cid(), VectorItem::rows, last - 1), take);
  vx_free(group);
  return st;
}

// The data of a chunk as the device has it. Blocks that cannot be read hold what no row's checksum fits.
struct Data : Pinned {
  ~Data() {
    if (p) vx_free_large(p, n);
  }
  u8 *p = nullptr;
  usize n = 0;
};

Status read_data(store::Volume &v, const disk::ChunkItem &item, Data &out) {
  usize bs = v.block_size(), at = 0;
  for (u32 i = 0; i < item.npieces; i++) out.n += usize{item.pieces[i].blocks} * bs;
  out.p = static_cast<u8 *>(vx_alloc_large(out.n, 0));
  if (!out.p) return Errno::nomem;
  for (u32 i = 0; i < item.npieces; i++) {
    u64 start = item.pieces[i].start;
    usize n = usize{item.pieces[i].blocks} * bs;
    if (!v.read_blocks(start, {out.p + at, n}).ok())
      for (usize b = 0; b < n; b += bs)
        if (!v.read_blocks(start + b / bs, {out.p + at + b, bs}).ok()) memset(out.p + at + b, 0xdb, bs);
    at += n;
  }
  return {};
}

u64 where(const store::Volume &v, const disk::ChunkItem &item, u64 off) {
  for (u32 i = 0; i < item.npieces; i++) {
    u64 n = u64{item.pieces[i].blocks} * v.block_size();
    if (off < n) return item.pieces[i].start * v.block_size() + off;
    off -= n;
  }
  return 0;
}

// What has been seen of a chunk is still so: nothing of it was freed. Frames stay small by not being one.
[[gnu::noinline]] bool still_so(Table &t, u32 chunk, const disk::ChunkItem &item, u64 durable, Rows &rows) {
  disk::ChunkItem now{};
  if (!t.read_pieces(chunk, &now).ok() || memcmp(&now, &item, disk::ChunkItem::bytes(item.npieces)) != 0) return false;
  for (u8 &x : rows.there) x = 0;
  return read_rows(t, chunk, durable, rows).ok();
}

// The rows of chunk p.at from p.row on; moves p on. False: found() wants no more.
[[gnu::noinline]] Result<bool> scrub_chunk(Collection &c, ScrubPlace &p, u64 &bytes,
                                           FnRef<bool(const DamagedVectors &)> found) {
  u32 chunk = static_cast<u32>(p.at);
  u64 from = std::exchange(p.row, 0);
  p.at++;
  Table &t = c.table();
  store::Volume &v = t.volume();
  u64 durable = v.durable_txn();
  disk::ChunkItem item{};
  Status st = t.read_pieces(chunk, &item);
  if (st.code() == Errno::noent) return true;  // all of its rows are dead
  VX_TRY(std::move(st));
  if (item.birth > durable) return true;  // it has just moved, and may not be there yet
  Rows rows;
  Data data;
  VX_TRY(rows.make(t.chunk_rows()));
  VX_TRY(read_rows(t, chunk, durable, rows));
  VX_TRY(read_data(v, item, data));
  bytes += data.n;
  bool checked = false;
  usize row_bytes = t.space().row_bytes();
  for (u32 i = static_cast<u32>(min_of<u64>(from, t.chunk_rows())); i < t.chunk_rows(); i++) {
    u64 at = u64{i} * t.stride();
    if (!rows.there[i] || at + row_bytes > data.n) continue;
    u32 crc = crc32c_of({data.p + at, row_bytes});
    if (crc == rows.crc[i]) continue;
    if (!checked && !still_so(t, chunk, item, durable, rows)) return true;
    checked = true;
    if (!rows.there[i] || crc == rows.crc[i]) continue;
    v.log(VX_LOG_ERR)
        .str("scrub: collection ")
        .dec(c.cid())
        .str(": vector ")
        .dec(rows.id[i])
        .str(" is damaged on disk");
    if (found({c.dir_ino(), c.cid(), rows.id[i], where(v, item, at), false})) continue;
    p.at = chunk;
    p.row = i + 1;
    return false;
  }
  return true;
}

// The first blob of the checkpoint with a key >= at, which is not between two items of one blob. noent.
Result<u64> next_blob(store::Volume &v, u32 cid, u64 at, disk::BlobItem *item) {
  store::Tree &tree = v.tree(store::TreeId::collections);
  disk::IndexHeaderItem head{};
  const char *bad = nullptr;
  auto take_head = [&](const store::Key &, Bytes b) {
    bad = disk::verify_index_header(b);
    if (!bad) memcpy(&head, b.data(), sizeof head);
    return false;
  };
  store::Key key = item_key(cid, VectorItem::index_header);
  VX_TRY(tree.scan(key, key, take_head));
  if (bad || head.generation == 0) return Errno::noent;  // opening the collection finds that, and says so
  u64 found = 0;
  auto take = [&](const store::Key &k, Bytes b) {
    if (disk::blob_number(k.off) >= head.nblobs) return false;
    if (disk::blob_generation(k.off) > head.generation || disk::verify_blob(b, limits_of(v))) return true;
    if (found && disk::blob_number(found) != disk::blob_number(k.off)) return false;
    memcpy(item, b.data(), sizeof *item);
    found = k.off;
    return true;  // a later one of the same blob may follow
  };
  VX_TRY(tree.scan(item_key(cid, VectorItem::index_blob, at), item_key(cid, VectorItem::index_blob, ~u64{0}), take));
  return found ? Result<u64>(found) : Result<u64>(Errno::noent);
}

Result<bool> scrub_blob(Collection &c, u64 key, const disk::BlobItem &item, u64 &bytes,
                        FnRef<bool(const DamagedVectors &)> found) {
  store::Volume &v = c.table().volume();
  usize n = usize{item.blocks} * v.block_size();
  Data data;
  data.p = static_cast<u8 *>(vx_alloc_large(n, 0));
  if (!data.p) return Errno::nomem;
  data.n = n;
  bytes += n;
  if (v.read_blocks(item.start, {data.p, n}).ok() && crc32c_of({data.p, item.bytes}) == item.crc) return true;
  disk::BlobItem now;
  Result<u64> again = next_blob(v, c.cid(), key, &now);
  if (!again.ok() || *again != key || memcmp(&now, &item, sizeof now) != 0) return true;  // a newer checkpoint
  v.log(VX_LOG_ERR)
      .str("scrub: collection ")
      .dec(c.cid())
      .str(": piece ")
      .dec(disk::blob_number(key))
      .str(" of the index is damaged on disk");
  return found({c.dir_ino(), c.cid(), disk::blob_number(key), item.start * v.block_size(), true});
}

// One step in the collection; moves p on within it. False: it is done with.
[[gnu::noinline]] Result<bool> scrub_step(Collection &c, ScrubPlace &p, u64 &bytes, bool &stop,
                                          FnRef<bool(const DamagedVectors &)> found) {
  Table &t = c.table();
  if (!p.index && p.at < div_up(t.slots(), t.chunk_rows())) {
    stop = !VX_TRY(scrub_chunk(c, p, bytes, found));
    return true;
  }
  if (!p.index) {
    p.index = true;
    p.at = 0;
  }
  disk::BlobItem item;
  Result<u64> key = next_blob(t.volume(), c.cid(), p.at, &item);
  if (key.code() == Errno::noent) return false;
  if (!key.ok()) return key.error();
  stop = !VX_TRY(scrub_blob(c, *key, item, bytes, found));
  p.at = *key + 1;
  return true;
}

}  // namespace
}  // namespace scrub_impl

Result<bool> scrub_vectors(Engine &e, ScrubPlace &p, u64 budget, u64 &bytes,
                           FnRef<bool(const DamagedVectors &)> found) {
  using namespace scrub_impl;  // NOLINT: of this file
  for (u64 used = 0; used < budget;) {
    disk::ConfigItem config;
    disk::StateItem state;
    Result<u32> cid = e.next(p.cid ? p.cid - 1 : 0, &config, &state);
    if (cid.code() == Errno::noent) return false;
    if (!cid.ok()) return cid.error();
    if (*cid != p.cid) p = {*cid, 0, 0, false};
    u64 before = bytes;
    bool stop = false;
    Result<CollectionRef> c = e.find(*cid);
    if (c.code() == Errno::nomem) return c.error();
    Result<bool> more = c.ok() && !(*c)->dropped() ? scrub_step(**c, p, bytes, stop, found) : Result<bool>(false);
    if (more.code() == Errno::nomem) return more.error();
    if (!more.ok() || !*more) p = {p.cid + 1, 0, 0, false};  // damage of metadata: said by whoever met it
    if (stop) return true;
    used += bytes - before + 4096;
    vx_yield();
  }
  return true;
}

}  // namespace vexfs::vector
