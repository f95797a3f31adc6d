// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Scrubbing the vectors that only a snapshot has. Rows are never overwritten, and the present may have the chunk that a
// dead one lies in: so it is rows that count as a snapshot's own, not chunks. What differs is damaged: it never changes.
#include "../base/crc.h"
#include "../disk/vector_items_rows.h"
#include "../store/past.h"
#include "ioctl.h"
#include "keys.h"
#include "scrub.h"

namespace vexfs::vector {
namespace scrub_past_impl {
namespace {

constexpr u64 kStepCost = 4096;  // bytes of budget that a look at a collection or a chunk counts as

// Metadata that cannot be read says nothing, and stops nothing.
bool says_nothing(Errno e) { return e == Errno::noent || e == Errno::range || e == Errno::corrupt || e == Errno::io; }

const store::Tree &tree_of(const store::Volume &v) { return v.tree(store::TreeId::collections); }

struct RowState {
  u64 id = 0, birth = 0;
  u32 crc = 0;
  bool alive = false;
};

class PastVectors : Pinned {
 public:
  PastVectors(store::PastWalk &w, u64 budget, u64 &bytes, FnRef<bool(const DamagedVectors &)> found)
      : w_(w), budget_(budget), bytes_(bytes), found_(found) {}
  Result<bool> go(ScrubPlace &p);

 private:
  void spend(u64 n) { budget_ -= min_of(budget_, n); }
  u32 group_rows() const { return config_.rows_per_group; }
  Result<bool> configuration(u32 cid);
  Result<bool> collection(ScrubPlace &p);
  Result<bool> next_chunk(ScrubPlace &p);
  Result<bool> first_own(VectorItem type, u64 from, u64 to, u64 *at, Bytes *value);
  // The first that is not less than some place, as long as that place moves on only: looking passes by all in between.
  struct Ahead {
    u32 cid = 0;  // 0: not looked for yet
    u64 at = 0;   // ~0: there is none
  };
  Status look_ahead(Ahead &a, VectorItem type, u64 from, u64 to);
  Status read_rows(const store::Volume &v, u64 chunk, Vec<RowState> &out);
  Result<bool> read_chunk(const store::Volume &v, u64 chunk, disk::ChunkItem &out);
  u64 where(const disk::ChunkItem &c, u64 off) const;
  Status leave_out_known(u64 chunk);
  Status chunk(ScrubPlace &p);
  Status compare(ScrubPlace &p, u8 *data, u64 from, u64 to);
  void tell(const char *what, u64 number) const;
  void read_data(u8 *to, u64 from, u64 end);
  Result<disk::IndexHeaderItem> checkpoint();
  Result<bool> blob(ScrubPlace &p);
  Result<bool> blob_known(u64 key, const disk::BlobItem &item);

  store::PastWalk &w_;
  u64 budget_;
  u64 &bytes_;
  FnRef<bool(const DamagedVectors &)> found_;
  bool stopped_ = false;
  u32 cid_ = 0;
  u64 found_cid_ = 0;  // the walk has been here already
  Ahead rows_ahead_, chunk_ahead_;
  u32 row_bytes_ = 0;
  disk::ConfigItem config_{};
  disk::ChunkItem chunk_{}, other_{};
  disk::RowRecord group_[disk::kGroupRowsMax];
  Vec<RowState> rows_, other_rows_;
};

// False: there is none that can be used, or it is being freed.
Result<bool> PastVectors::configuration(u32 cid) {
  cid_ = cid;
  auto n = tree_of(w_.mine()).get(item_key(cid, VectorItem::config), mut_bytes_of(config_));
  if (!n.ok() && !says_nothing(n.code())) return n.error();
  if (!n.ok() || disk::verify_config({bytes_of(config_).data(), *n}, cid) || config_.flags & disk::kConfigDropped)
    return false;
  row_bytes_ = config_.dim * simd::element_bytes(static_cast<simd::Element>(config_.element));
  return true;
}

// The first item of that type in a leaf of the snapshot's own.
Result<bool> PastVectors::first_own(VectorItem type, u64 from, u64 to, u64 *at, Bytes *value) {
  store::Key k = item_key(cid_, type, from);
  if (!VX_TRY(w_.item(store::TreeId::collections, item_key(cid_, type, to), &k, value))) return false;
  *at = k.off;
  return true;
}

Status PastVectors::look_ahead(Ahead &a, VectorItem type, u64 from, u64 to) {
  if (a.cid == cid_ && a.at >= from) return {};
  Bytes value;
  u64 at = 0;
  bool any = VX_TRY(first_own(type, from, to, &at, &value));
  a = {cid_, any ? at : ~u64{0}};
  return {};
}

// Those of a chunk, as the volume has them.
Status PastVectors::read_rows(const store::Volume &v, u64 chunk, Vec<RowState> &out) {
  out.clear();
  VX_TRY(out.resize(config_.chunk_rows));
  u64 per = config_.chunk_rows / group_rows(), first = chunk * per;
  auto take = [&](const store::Key &k, Bytes item) {
    Result<u32> n = disk::decode_rows(item, group_);
    u64 at = (k.off - first) * group_rows();
    for (u32 i = 0; n.ok() && i < *n && at + i < out.size(); i++)
      out[at + i] = {group_[i].id, group_[i].birth, group_[i].crc, group_[i].death == 0};
    return true;
  };
  Status st =
      tree_of(v).scan(item_key(cid_, VectorItem::rows, first), item_key(cid_, VectorItem::rows, first + per - 1), take);
  return says_nothing(st.code()) ? Status() : st;
}

Result<bool> PastVectors::read_chunk(const store::Volume &v, u64 chunk, disk::ChunkItem &out) {
  out = {};
  auto n = tree_of(v).get(item_key(cid_, VectorItem::chunk, chunk), mut_bytes_of(out));
  if (!n.ok() && !says_nothing(n.code())) return n.error();
  return n.ok() &&
         !disk::verify_chunk({bytes_of(out).data(), *n}, limits_of(v), u64{config_.chunk_rows} * config_.stride);
}

// The byte of the device; 0: it has none.
u64 PastVectors::where(const disk::ChunkItem &c, u64 off) const {
  u64 bs = w_.mine().block_size();
  for (u32 i = 0; i < c.npieces; i++) {
    u64 n = u64{c.pieces[i].blocks} * bs;
    if (off < n) return c.pieces[i].start * bs + off;
    off -= n;
  }
  return 0;
}

// Rows that another state has alive, at the same place, have been compared there.
Status PastVectors::leave_out_known(u64 chunk) {
  for (u32 o = 0; o < store::PastWalk::kOthers; o++) {
    const store::Volume *v = w_.other(o);
    if (!v || !VX_TRY(read_chunk(*v, chunk, other_))) continue;
    VX_TRY(read_rows(*v, chunk, other_rows_));
    for (u32 i = 0; i < rows_.size(); i++) {
      const RowState &r = other_rows_[i];
      if (!rows_[i].alive || !r.alive || r.id != rows_[i].id || r.birth != rows_[i].birth || r.crc != rows_[i].crc)
        continue;
      u64 first = u64{i} * config_.stride, last = first + row_bytes_ - 1;
      rows_[i].alive = where(chunk_, first) != where(other_, first) || where(chunk_, last) != where(other_, last);
    }
  }
  return {};
}

// Bytes from .. end of the chunk, whole blocks. What cannot be read holds what no row's checksum fits.
void PastVectors::read_data(u8 *to, u64 from, u64 end) {
  u64 bs = w_.mine().block_size(), at = 0;
  for (u32 i = 0; i < chunk_.npieces; i++) {
    u64 n = u64{chunk_.pieces[i].blocks} * bs, a = max_of(at, from), b = min_of(at + n, end);
    for (u64 start = chunk_.pieces[i].start + (a - at) / bs; a < b; a = b) {
      if (w_.mine().read_blocks(start, {to + (a - from), b - a}).ok()) continue;
      for (u64 x = a; x < b; x += bs)
        if (!w_.mine().read_blocks(start + (x - a) / bs, {to + (x - from), bs}).ok()) memset(to + (x - from), 0xdb, bs);
    }
    at += n;
  }
}

void PastVectors::tell(const char *what, u64 number) const {
  w_.mine()
      .log(VX_LOG_ERR)
      .str("scrub: snapshot ")
      .dec(w_.mine().view_id())
      .str(": collection ")
      .dec(cid_)
      .str(what)
      .dec(number)
      .str(" is damaged on disk");
}

// data: the bytes of the chunk from `from` on.
Status PastVectors::compare(ScrubPlace &p, u8 *data, u64 from, u64 to) {
  for (u32 i = static_cast<u32>(p.row); i < rows_.size() && !stopped_; i++) {
    u64 at = u64{i} * config_.stride;
    if (!rows_[i].alive || at < from || at + row_bytes_ > to) continue;
    if (crc32c_of({data + (at - from), row_bytes_}) == rows_[i].crc) continue;
    tell(": vector ", rows_[i].id);
    stopped_ = !found_({config_.dir_ino, cid_, rows_[i].id, where(chunk_, at), false});
    p.row = i + 1;
  }
  return {};
}

// The rows of chunk p.at that are the snapshot's own; moves p on.
Status PastVectors::chunk(ScrubPlace &p) {
  spend(kStepCost);
  u64 number = p.at, bs = w_.mine().block_size();
  u32 lo = 0, hi = 0;
  if (VX_TRY(read_chunk(w_.mine(), number, chunk_))) {
    VX_TRY(read_rows(w_.mine(), number, rows_));
    VX_TRY(leave_out_known(number));
    for (u32 i = static_cast<u32>(min_of<u64>(p.row, rows_.size())); i < rows_.size(); i++) {
      if (!rows_[i].alive) continue;
      if (hi == 0) lo = i;
      hi = i + 1;
    }
  }
  if (hi != 0) {
    u64 held = 0;
    for (u32 i = 0; i < chunk_.npieces; i++) held += u64{chunk_.pieces[i].blocks} * bs;
    u64 from = u64{lo} * config_.stride / bs * bs, to = div_up<u64>(u64{hi} * config_.stride, bs) * bs;
    to = min_of(to, held);
    if (from < to) {
      CallBuffer data;
      VX_TRY(data.make(to - from));
      read_data(data.bytes(), from, to);
      bytes_ += to - from;
      spend(to - from);
      VX_TRY(compare(p, data.bytes(), from, to));
    }
  }
  if (!stopped_) {
    p.at = number + 1;
    p.row = 0;
  }
  return {};
}

// Puts p on the next chunk of which the row groups or the place are in leaves of the snapshot's own. False: no more.
Result<bool> PastVectors::next_chunk(ScrubPlace &p) {
  u64 per = config_.chunk_rows / group_rows(), last = disk::kSlotsMax / config_.chunk_rows;
  if (p.at > last) return false;
  VX_TRY(look_ahead(rows_ahead_, VectorItem::rows, p.at * per, last * per + per - 1));
  VX_TRY(look_ahead(chunk_ahead_, VectorItem::chunk, p.at, last));
  u64 next = min_of(rows_ahead_.at / per, chunk_ahead_.at);
  if (next > last) return false;
  if (next != p.at) p.row = 0;
  p.at = next;
  return true;
}

// Of the checkpoint that the snapshot has; generation 0: none.
Result<disk::IndexHeaderItem> PastVectors::checkpoint() {
  disk::IndexHeaderItem head{};
  bool good = false;
  auto take = [&](const store::Key &, Bytes b) {
    good = !disk::verify_index_header(b);
    if (good) memcpy(&head, b.data(), sizeof head);
    return false;
  };
  store::Key k = item_key(cid_, VectorItem::index_header);
  Status st = tree_of(w_.mine()).scan(k, k, take);
  if (!st.ok() && !says_nothing(st.code())) return st.error();
  return good ? head : disk::IndexHeaderItem{};
}

Result<bool> PastVectors::blob_known(u64 key, const disk::BlobItem &item) {
  for (u32 o = 0; o < store::PastWalk::kOthers; o++) {
    const store::Volume *v = w_.other(o);
    disk::BlobItem b{};
    if (!v) continue;
    auto n = tree_of(*v).get(item_key(cid_, VectorItem::index_blob, key), mut_bytes_of(b));
    if (!n.ok() && !says_nothing(n.code())) return n.error();
    if (n.ok() && *n == sizeof b && memcmp(&b, &item, sizeof b) == 0) return true;
  }
  return false;
}

// The next piece of the index; moves p on. False: no more.
Result<bool> PastVectors::blob(ScrubPlace &p) {
  spend(kStepCost);
  const disk::IndexHeaderItem head = VX_TRY(checkpoint());
  const u64 end = disk::blob_off(head.nblobs, 0);
  u64 key = 0;
  Bytes value;
  if (head.generation == 0 || p.at >= end) return false;
  if (!VX_TRY(first_own(VectorItem::index_blob, p.at, end - 1, &key, &value))) return false;
  p.at = key + 1;
  disk::BlobItem item;
  if (disk::blob_generation(key) > head.generation || disk::verify_blob(value, limits_of(w_.mine()))) return true;
  memcpy(&item, value.data(), sizeof item);
  if (VX_TRY(blob_known(key, item))) return true;
  usize n = usize{item.blocks} * w_.mine().block_size();
  CallBuffer data;
  VX_TRY(data.make(n));
  bytes_ += n;
  spend(n);
  if (w_.mine().read_blocks(item.start, {data.bytes(), n}).ok() && crc32c_of({data.bytes(), item.bytes}) == item.crc)
    return true;
  tell(": index piece ", disk::blob_number(key));
  stopped_ = !found_({config_.dir_ino, cid_, disk::blob_number(key), item.start * w_.mine().block_size(), true});
  return true;
}

// A step in collection p.cid. False: it is done with.
Result<bool> PastVectors::collection(ScrubPlace &p) {
  if (!VX_TRY(configuration(static_cast<u32>(p.cid)))) return false;
  if (!p.index) {
    if (VX_TRY(next_chunk(p))) {
      VX_TRY(chunk(p));
      return true;
    }
    p.index = true;
    p.at = p.row = 0;
  }
  return blob(p);
}

Result<bool> PastVectors::go(ScrubPlace &p) {
  while (budget_ && !stopped_) {
    store::Key k{max_of<u64>(p.cid, 1), 0, 0};
    Bytes value;
    spend(kStepCost);
    if (p.cid != found_cid_) {
      if (!VX_TRY(w_.item(store::TreeId::collections, store::Key::max(), &k, &value)) || k.oid > ~u32{0}) return false;
      if (k.oid != p.cid) p = {k.oid, 0, 0, false};
      found_cid_ = p.cid;
    }
    if (!VX_TRY(collection(p))) p = {p.cid + 1, 0, 0, false};
    if (p.cid > ~u32{0}) return false;
    vx_yield();
  }
  return true;
}

}  // namespace
}  // namespace scrub_past_impl

Result<bool> scrub_past_vectors(store::PastWalk &w, ScrubPlace &p, u64 budget, u64 &bytes,
                                FnRef<bool(const DamagedVectors &)> found) {
  auto work = VX_TRY(Box<scrub_past_impl::PastVectors>::make(w, budget, bytes, found));
  return work->go(p);
}

}  // namespace vexfs::vector
