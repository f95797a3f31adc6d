// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Checking collections: items, row groups against ids, bitmaps and counters, and the data of every row.
#include "check.h"

#include "../base/crc.h"
#include "check_impl.h"

namespace vexfs::vector {

Status check(store::Checker &checker, CheckFigures *figures) {
  CheckFigures local;
  auto made = Box<VectorCheck>::make(checker, figures ? *figures : local);
  if (!made.ok()) return made.error();
  return (*made)->run();
}

Status VectorCheck::run() {
  void *p = vx_alloc(sizeof(disk::RowRecord) * disk::kGroupRowsMax, VX_ALLOC_ZERO);
  if (!p) return Errno::nomem;
  group_ = static_cast<disk::RowRecord *>(p);
  Status s = c_.walk(store::TreeId::collections, [&](const store::Key &k, Bytes b) { return visit(k, b); });
  if (s.ok()) s = failure_;
  if (s.ok()) s = finish();
  vx_free(p);
  VX_TRY(s);
  return owners();
}

bool VectorCheck::visit(const store::Key &k, Bytes item) {
  Status s;
  if (k.oid == 0) {
    s = registry(k, item);
  } else if (k.oid > 0xffffffff) {
    bad().str("vectors: item of an impossible collection ").dec(k.oid);
  } else {
    if (k.oid != cid_) {
      s = finish();
      cid_ = static_cast<u32>(k.oid);
    }
    if (s.ok()) s = item_of(k, item);
  }
  failure_ = s;
  return s.ok();
}

Status VectorCheck::registry(const store::Key &k, Bytes item) {
  if (k.type == disk::kRegistryByDir) {
    disk::DirEntryItem d;
    if (item.size() != sizeof d) {
      bad().str("vectors: directory ").dec(k.off).str(": entry of ").dec(item.size()).str(" bytes");
      return {};
    }
    memcpy(&d, item.data(), sizeof d);
    if (d.cid == 0 || d.cid > 0xffffffff) {
      bad().str("vectors: directory ").dec(k.off).str(": impossible collection ").dec(d.cid);
      return {};
    }
    return carried_.push({k.off, static_cast<u32>(d.cid)});
  }
  if (k.type == disk::kRegistryTombstone && k.off && k.off <= 0xffffffff)
    return tombstones_.push(static_cast<u32>(k.off));
  if (k.type != disk::kRegistryDeadOwner) bad().str("vectors: unknown registry item ").dec(k.type).str(" ").dec(k.off);
  return {};
}

Status VectorCheck::item_of(const store::Key &k, Bytes item) {
  auto type = static_cast<VectorItem>(k.type);
  if (type == VectorItem::config && k.off == 0) return config(item);
  if (!have_config_) {
    // What a drop still has to free lies without its configuration only when that is damaged.
    if (k.type != static_cast<u8>(VectorItem::state) || k.off) {
      bad()
          .str("collection ")
          .dec(cid_)
          .str(": ")
          .str(disk::vector_item_name(cid_, k.type))
          .str(" ")
          .dec(k.off)
          .str(" without a configuration");
    }
    return {};
  }
  switch (type) {
    case VectorItem::state:
      if (const char *why = disk::verify_state(item)) {
        bad().str("collection ").dec(cid_).str(": state: bad ").str(why);
        return {};
      }
      memcpy(&state_, item.data(), sizeof state_);
      have_state_ = true;
      return {};
    case VectorItem::rows:
      return rows(k.off, item);
    case VectorItem::ids:
      return ids(k.off, item);
    case VectorItem::chunk:
      return chunk(k.off, item);
    case VectorItem::dead:
      return dead(k.off, item);
    case VectorItem::index_header:
      return header(item);
    case VectorItem::index_blob:
      return blob(k.off, item);
    case VectorItem::recall:
      return recall(k.off, item);
    default:
      bad().str("collection ").dec(cid_).str(": unknown item ").dec(k.type).str(" ").dec(k.off);
      return {};
  }
}

Status VectorCheck::config(Bytes item) {
  if (const char *why = disk::verify_config(item, cid_)) {
    bad().str("collection ").dec(cid_).str(": configuration: bad ").str(why);
    return {};
  }
  memcpy(&config_, item.data(), sizeof config_);
  have_config_ = true;
  dropped_ = config_.flags & disk::kConfigDropped;
  bool tomb = false;
  for (u32 t : tombstones_) tomb = tomb || t == cid_;
  if (tomb != dropped_)
    bad()
        .str("collection ")
        .dec(cid_)
        .str(dropped_ ? ": dropped, but not recorded so" : ": recorded as dropped, but is not");
  if (dropped_) {
    figures_.dropped++;
    return {};
  }
  figures_.collections++;
  if (collection_of(config_.dir_ino) != cid_)
    bad().str("collection ").dec(cid_).str(": its directory ").dec(config_.dir_ino).str(" does not name it");
  return {};
}

Status VectorCheck::rows(u64 group, Bytes item) {
  Result<u32> n = disk::decode_rows(item, group_);
  u32 per = config_.rows_per_group;
  if (!n.ok() || *n > per) {
    bad().str("collection ").dec(cid_).str(": rows ").dec(group).str(": bad encoding");
    return {};
  }
  if (group > disk::kSlotsMax / per) {
    bad().str("collection ").dec(cid_).str(": rows ").dec(group).str(": beyond the last slot");
    return {};
  }
  u64 first = group * per;
  if (!dropped_ && first != rows_.size()) {
    bad().str("collection ").dec(cid_).str(": rows ").dec(group).str(": found, expected ").dec(rows_.size() / per);
    if (first < rows_.size() || first > state_.slots) return {};
    VX_TRY(rows_.resize(first));
  }
  for (u32 i = 0; i < *n; i++) {
    const disk::RowRecord &r = group_[i];
    if (r.death == 0 && r.owner) VX_TRY(owned_.push({r.owner, cid_, static_cast<u32>(first + i)}));
    if (dropped_) continue;
    if (r.birth > c_.txn() || r.death > c_.txn() || (r.death && r.death < r.birth))
      bad()
          .str("collection ")
          .dec(cid_)
          .str(": slot ")
          .dec(first + i)
          .str(": impossible birth ")
          .dec(r.birth)
          .str(" or death ")
          .dec(r.death);
    CheckedRow row;
    row.id = r.id;
    row.crc = r.crc;
    row.alive = r.death == 0;
    VX_TRY(rows_.push(row));
  }
  return {};
}

Status VectorCheck::ids(u64 first, Bytes item) {
  if (const char *why = disk::verify_id_run(item, first)) {
    bad().str("collection ").dec(cid_).str(": id ").dec(first).str(": bad ").str(why);
    return {};
  }
  if (dropped_) return {};
  disk::IdRunItem r;
  memcpy(&r, item.data(), sizeof r);
  for (u32 i = 0; i < r.count; i++) {
    u64 slot = u64{r.slot} + i;
    if (slot >= rows_.size()) {
      bad().str("collection ").dec(cid_).str(": id ").dec(first + i).str(": slot ").dec(slot).str(" does not exist");
      return {};
    }
    CheckedRow &row = rows_[slot];
    if (!row.alive) continue;
    if (row.id != first + i)
      bad()
          .str("collection ")
          .dec(cid_)
          .str(": id ")
          .dec(first + i)
          .str(": slot ")
          .dec(slot)
          .str(" holds id ")
          .dec(row.id);
    else if (row.mapped)
      bad().str("collection ").dec(cid_).str(": id ").dec(row.id).str(": mapped twice");
    row.mapped = true;
  }
  return {};
}

Status VectorCheck::chunk(u64 number, Bytes item) {
  disk::VectorLimits limits{c_.geometry().total_blocks, c_.geometry().block_size};
  u64 chunk_bytes = u64{config_.chunk_rows} * config_.stride;
  if (const char *why = disk::verify_chunk(item, limits, chunk_bytes)) {
    bad().str("collection ").dec(cid_).str(": chunk ").dec(number).str(": bad ").str(why);
    return {};
  }
  disk::ChunkItem ch{};
  memcpy(&ch, item.data(), item.size());
  for (u32 i = 0; i < ch.npieces; i++)
    VX_TRY(c_.claim({ch.pieces[i].start, ch.pieces[i].blocks}, "chunk of collection", cid_, number));
  figures_.chunks++;
  if (dropped_) return {};
  if (ch.birth > c_.txn())
    bad().str("collection ").dec(cid_).str(": chunk ").dec(number).str(": impossible birth ").dec(ch.birth);
  while (chunk_seen_.size() < number && chunk_seen_.size() * u64{config_.chunk_rows} <= rows_.size())
    VX_TRY(chunk_seen_.push(0));
  if (chunk_seen_.size() == number) VX_TRY(chunk_seen_.push(1));
  return chunk_rows(number, ch);
}

// The data of all rows of the chunk, against their checksums.
Status VectorCheck::chunk_rows(u64 number, const disk::ChunkItem &item) {
  u64 first = number * config_.chunk_rows, bs = c_.geometry().block_size;
  if (first >= rows_.size()) return {};  // made ahead of its rows
  u64 n = min_of<u64>(config_.chunk_rows, rows_.size() - first);
  u64 need = div_up<u64>(n * config_.stride, bs), at = 0;
  auto *buf = static_cast<u8 *>(vx_alloc_large(need * bs, 0));
  if (!buf) return Errno::nomem;
  Status s;
  for (u32 i = 0; i < item.npieces && at < need && s.ok(); i++) {
    u64 some = min_of<u64>(item.pieces[i].blocks, need - at);
    s = c_.read_blocks(item.pieces[i].start, {buf + at * bs, some * bs});
    at += some;
  }
  if (s.ok() && at < need)
    bad()
        .str("collection ")
        .dec(cid_)
        .str(": chunk ")
        .dec(number)
        .str(": holds ")
        .dec(at)
        .str(" blocks, its rows need ")
        .dec(need);
  if (s.code() == Errno::io) {
    spoilt().str("collection ").dec(cid_).str(": chunk ").dec(number).str(": read error");
    vx_free_large(buf, need * bs);
    return {};
  }
  u32 row = config_.dim * simd::element_bytes(static_cast<simd::Element>(config_.element));
  for (u64 i = 0; i < n && s.ok() && at >= need; i++) {
    const CheckedRow &r = rows_[first + i];
    u32 found = crc32c_of({buf + i * config_.stride, row});
    if (found != r.crc)
      (r.alive ? spoilt() : c_.warning())
          .str("collection ")
          .dec(cid_)
          .str(": vector ")
          .dec(r.id)
          .str(" (slot ")
          .dec(first + i)
          .str("): bad data checksum, found ")
          .hex(found)
          .str(", expected ")
          .hex(r.crc);
  }
  vx_free_large(buf, need * bs);
  return s;
}

Status VectorCheck::dead(u64 number, Bytes item) {
  if (dropped_) return {};
  if (item.size() != config_.chunk_rows / 8 || number * config_.chunk_rows >= rows_.size()) {
    bad().str("collection ").dec(cid_).str(": dead ").dec(number).str(": bad length or number");
    return {};
  }
  while (bitmap_seen_.size() < number) VX_TRY(bitmap_seen_.push(0));
  VX_TRY(bitmap_seen_.push(1));
  u64 first = number * config_.chunk_rows;
  for (u64 i = 0; i < config_.chunk_rows; i++) {
    bool bit = item[i / 8] >> (i % 8) & 1;
    bool is_dead = first + i < rows_.size() && !rows_[first + i].alive;
    if (bit != is_dead)
      bad()
          .str("collection ")
          .dec(cid_)
          .str(": slot ")
          .dec(first + i)
          .str(bit ? ": marked dead, but is not" : ": dead, but not marked so");
  }
  return {};
}

// What must hold between the items of one collection.
Status VectorCheck::finish() {
  if (have_config_ && !dropped_) {
    u64 live = 0, chunk_rows = config_.chunk_rows;
    for (u64 i = 0; i < rows_.size(); i++) {
      const CheckedRow &r = rows_[i];
      live += r.alive;
      if (r.alive && !r.mapped)
        bad()
            .str("collection ")
            .dec(cid_)
            .str(": vector ")
            .dec(r.id)
            .str(" (slot ")
            .dec(i)
            .str("): its id does not lead to it");
      u64 number = i / chunk_rows;
      if (!r.alive && (number >= bitmap_seen_.size() || !bitmap_seen_[number]))
        bad().str("collection ").dec(cid_).str(": slot ").dec(i).str(": dead, but not marked so");
      if (r.alive && (number >= chunk_seen_.size() || !chunk_seen_[number]))
        bad()
            .str("collection ")
            .dec(cid_)
            .str(": vector ")
            .dec(r.id)
            .str(" (slot ")
            .dec(i)
            .str("): its chunk is missing");
    }
    figures_.rows += live;
    figures_.dead += rows_.size() - live;
    if (!have_state_)
      bad().str("collection ").dec(cid_).str(": state is missing");
    else if (state_.slots != rows_.size() || state_.live != live)
      bad()
          .str("collection ")
          .dec(cid_)
          .str(": state counts ")
          .dec(state_.slots)
          .str(" slots, ")
          .dec(state_.live)
          .str(" live; there are ")
          .dec(rows_.size())
          .str(", ")
          .dec(live);
  }
  if (have_config_) VX_TRY(index());
  have_config_ = have_state_ = dropped_ = false;
  state_ = {};
  rows_.clear();
  chunk_seen_.clear();
  bitmap_seen_.clear();
  head_.clear();
  blobs_.clear();
  generation_ = 0;
  nblobs_ = 0;
  return {};
}

}  // namespace vexfs::vector
