// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Verifiers and printers of collection items, and the layout rules of vector tables.
#include "vector_items.h"

#include "vector_items_rows.h"

namespace vexfs::disk {
namespace vector_items_impl {
namespace {

template <class T>
bool load(Bytes item, T *out) {
  if (item.size() < sizeof(T)) return false;
  memcpy(out, item.data(), sizeof(T));
  return true;
}

bool terminated(const char (&s)[kNameBytes]) {
  for (char c : s)
    if (c == 0) return true;
  return false;
}

u32 element_bytes(u8 element) { return element == 1 ? 4 : element == 4 ? 1 : 2; }

bool blocks_inside(u64 start, u64 count, const VectorLimits &l) {
  return start != 0 && count != 0 && count <= l.total_blocks && start <= l.total_blocks - count;
}

void print_config(Printer &out, Bytes item) {
  ConfigItem c;
  if (!load(item, &c)) return;
  static const char *const elements[] = {"?", "f32", "f16", "bf16", "i8"};
  static const char *const metrics[] = {"?", "l2", "cosine", "ip"};
  out.str(" dir ").dec(c.dir_ino).str(" dim ").dec(c.dim).ch(' ').str(elements[c.element <= 4 ? c.element : 0]);
  out.ch(' ').str(metrics[c.metric <= 3 ? c.metric : 0]).ch(' ').str(index_kind_name(c.index));
  out.str(" m ").dec(c.m).str(" efc ").dec(c.ef_construction).str(" ef ").dec(c.ef_search);
  if (c.index == 2) out.str(" codes ").dec(c.codes);
  if (c.index > 2) {
    out.str(" lists ").dec(c.lists).str(" probes ").dec(c.probes).str(" pq_m ").dec(c.pq_m);
    out.str(" tables ").dec(c.tables).str(" bits ").dec(c.bits);
  }
  out.str(" stride ").dec(c.stride).str(" chunk_rows ").dec(c.chunk_rows).str(" group ").dec(c.rows_per_group);
  if (c.recall) out.str(" recall ").dec(c.recall);
  out.flag(c.flags & kConfigDropped, "dropped");
  out.flag(c.flags & kConfigCompact, "compact");
  if (terminated(c.name) && c.name[0]) out.str(" name ").str(c.name);
}

void print_rows(Printer &out, Bytes item) {
  if (item.size() < sizeof(GroupHeader)) return;
  GroupHeader h;
  memcpy(&h, item.data(), sizeof h);
  out.str(" count ").dec(h.count).str(" codes ");
  for (u8 code : h.code) out.dec(code);
}

void print_chunk(Printer &out, Bytes item) {
  if (item.size() < ChunkItem::bytes(0)) return;
  ChunkItem c{};
  memcpy(&c, item.data(), min_of(item.size(), sizeof c));
  out.str(" birth ").dec(c.birth).str(" pieces");
  for (u32 i = 0; i < c.npieces && i < kChunkPieces && ChunkItem::bytes(i + 1) <= item.size(); i++)
    out.ch(' ').dec(c.pieces[i].start).ch('+').dec(c.pieces[i].blocks);
}

// Of the nearest 10 alone: mean, less what it may be wrong by.
void print_recall(Printer &out, const RecallItem &m) {
  out.str(" slots ").dec(m.slots).str(" dead ").dec(m.dead).str(" by ").dec(m.by).str(" queries ").dec(m.queries);
  out.str(" walked ").dec(m.walked).str(" of 10");
  for (u32 i = 0; i < m.tried && i < kRecallPoints; i++) out.ch(' ').dec(m.mean[1][i]).ch('-').dec(m.sure[1][i]);
  out.flag(m.flags & kRecallOutdated, "outdated");
}

void print_small(Printer &out, VectorItem type, Bytes item) {
  StateItem s;
  IdRunItem r;
  IndexHeaderItem h;
  BlobItem b;
  RecallItem m;
  switch (type) {
    case VectorItem::state:
      if (load(item, &s))
        out.str(" slots ")
            .dec(s.slots)
            .str(" live ")
            .dec(s.live)
            .str(" next_id ")
            .dec(s.next_id)
            .str(" txn ")
            .dec(s.last_txn);
      break;
    case VectorItem::ids:
      if (load(item, &r)) out.str(" slot ").dec(r.slot).str(" count ").dec(r.count);
      break;
    case VectorItem::dead:
      out.str(" bytes ").dec(item.size());
      break;
    case VectorItem::index_header:
      if (load(item, &h))
        out.str(" kind ")
            .dec(h.kind)
            .str(" generation ")
            .dec(h.generation)
            .str(" covered ")
            .dec(h.covered)
            .str(" blobs ")
            .dec(h.nblobs)
            .str(" bytes ")
            .dec(h.bytes)
            .str(" txn ")
            .dec(h.txn);
      break;
    case VectorItem::index_blob:
      if (load(item, &b))
        out.str(" at ").dec(b.start).ch('+').dec(b.blocks).str(" bytes ").dec(b.bytes).str(" crc ").hex_fixed(b.crc, 8);
      break;
    case VectorItem::recall:
      if (load(item, &m)) print_recall(out, m);
      break;
    default:
      break;
  }
}

}  // namespace
}  // namespace vector_items_impl

const char *index_kind_name(u8 kind) {
  static const char *const names[] = {"?", "flat", "hnsw", "lsh", "ivf-pq", "diskann", "ivf-flat"};
  return names[kind <= 6 ? kind : 0];
}

const char *verify_config(Bytes item, u64 cid) {
  ConfigItem c;
  if (item.size() != sizeof c || !vector_items_impl::load(item, &c)) return "length";
  if (cid == 0 || cid > 0xffffffff) return "cid";
  if (c.version != kVectorVersion) return "version";
  if (c.flags & ~kConfigFlags) return "flags";
  if (c.dir_ino == 0) return "dir_ino";
  if (c.dim == 0 || c.dim > 8192) return "dim";
  if (c.element < 1 || c.element > 4) return "element";
  if (c.metric < 1 || c.metric > 3) return "metric";
  if (!index_kind_known(c.index)) return "index";
  if (c.m < 2 || c.m > 128) return "m";
  if (c.ef_construction < 1 || c.ef_construction > 65536) return "ef_construction";
  if (c.ef_search < 1 || c.ef_search > 65536) return "ef_search";
  if (c.lists > kIvfListsMax) return "lists";
  if (c.probes > kProbesMax) return "probes";
  if (u64{c.lists} * c.dim > kIvfElementsMax) return "lists";
  if (c.pq_m > kPqMax || c.pq_m > c.dim) return "pq_m";
  if (c.tables > kLshTablesMax) return "tables";
  if (c.bits > kLshBitsMax) return "bits";
  if (c.codes > kCodesMax) return "codes";
  if (c.recall > kRecallMax) return "recall";
  if (!is_pow2<u32>(c.rows_per_group) || c.rows_per_group > kGroupRowsMax) return "rows_per_group";
  u32 row = c.dim * vector_items_impl::element_bytes(c.element);
  if (c.stride < row || c.stride > align_up(row, 512u)) return "stride";
  if (!is_pow2<u32>(c.chunk_rows) || c.chunk_rows < 64 || c.chunk_rows > kChunkRowsMax) return "chunk_rows";
  if (u64{c.chunk_rows} * c.stride > kChunkBytesMax) return "chunk_rows";
  if (!vector_items_impl::terminated(c.name)) return "name";
  if (!vector_items_impl::terminated(c.model)) return "model";
  return nullptr;
}

const char *verify_state(Bytes item) {
  StateItem s;
  if (item.size() != sizeof s || !vector_items_impl::load(item, &s)) return "length";
  if (s.slots > kSlotsMax) return "slots";
  if (s.live > s.slots) return "live";
  return nullptr;
}

const char *verify_id_run(Bytes item, u64 first_id) {
  IdRunItem r;
  if (item.size() != sizeof r || !vector_items_impl::load(item, &r)) return "length";
  if (r.count == 0 || u64{r.slot} + r.count > kSlotsMax) return "count";
  if (first_id + (r.count - 1) < first_id) return "id";
  return nullptr;
}

const char *verify_owner_ref(Bytes item, u64 key_off) {
  OwnerRefItem r;
  if (item.size() != sizeof r || !vector_items_impl::load(item, &r)) return "length";
  if ((key_off >> 32) == 0) return "cid";
  if (r.count == 0 || (key_off & 0xffffffff) + r.count > kSlotsMax) return "count";
  return nullptr;
}

const char *verify_chunk(Bytes item, const VectorLimits &limits, u64 chunk_bytes) {
  ChunkItem c{};
  if (item.size() < ChunkItem::bytes(1) || item.size() > sizeof c) return "length";
  memcpy(&c, item.data(), item.size());
  if (c.npieces == 0 || c.npieces > kChunkPieces || ChunkItem::bytes(c.npieces) != item.size()) return "npieces";
  u64 blocks = 0;
  for (u32 i = 0; i < c.npieces; i++) {
    if (!vector_items_impl::blocks_inside(c.pieces[i].start, c.pieces[i].blocks, limits)) return "piece";
    blocks += c.pieces[i].blocks;
  }
  if (blocks > div_up<u64>(chunk_bytes, limits.block_size)) return "blocks";
  return nullptr;
}

const char *verify_index_header(Bytes item) {
  IndexHeaderItem h;
  if (!vector_items_impl::load(item, &h)) return "length";
  if (h.version != kIndexHeaderVersion) return "version";
  if (!index_kind_known(h.kind) || h.kind == 1) return "kind";
  if (h.generation == 0 || h.generation > kGenerationMax) return "generation";
  if (h.covered > kSlotsMax) return "covered";
  if (h.own_bytes != item.size() - sizeof h) return "own_bytes";
  return nullptr;
}

const char *verify_blob(Bytes item, const VectorLimits &limits) {
  BlobItem b;
  if (item.size() != sizeof b || !vector_items_impl::load(item, &b)) return "length";
  if (b.bytes == 0 || b.bytes > kIndexBlobMax) return "bytes";
  if (b.blocks != div_up<u32>(b.bytes, limits.block_size)) return "blocks";
  if (!vector_items_impl::blocks_inside(b.start, b.blocks, limits)) return "start";
  return nullptr;
}

const char *verify_recall(Bytes item, u64 slots) {
  RecallItem m;
  if (item.size() != sizeof m || !vector_items_impl::load(item, &m)) return "length";
  if (m.version != kRecallVersion) return "version";
  if (m.slots == 0 || m.slots > slots) return "slots";
  if (m.dead > slots) return "dead";
  if (m.queries == 0 || m.queries > kRecallQueriesMax) return "queries";
  if (m.by < 1 || m.by > 3) return "by";
  if (m.tried == 0 || m.tried > kRecallPoints) return "tried";
  if (m.flags & ~kRecallOutdated) return "flags";
  for (u32 c = 0; c < kRecallClasses; c++)
    for (u32 i = 0; i < kRecallPoints; i++)
      if (m.mean[c][i] > kRecallScale || m.sure[c][i] > m.mean[c][i]) return "points";
  return nullptr;
}

const char *vector_item_name(u64 oid, u8 type) {
  if (oid == 0)
    return type == kRegistryByDir       ? "by_dir"
           : type == kRegistryTombstone ? "tombstone"
           : type == kRegistryDeadOwner ? "dead_owner"
                                        : "unknown";
  static const char *const names[] = {"unknown", "config", "state",        "rows",       "ids",
                                      "chunk",   "dead",   "index_header", "index_blob", "recall"};
  return names[type <= kVectorItemLast ? type : 0];
}

void print_vector_item(Printer &out, u64 oid, u8 type, u64 off, Bytes item) {
  using namespace vector_items_impl;
  out.str(vector_item_name(oid, type)).ch(' ').dec(oid).ch(' ').dec(off).ch(':');
  if (oid == 0) {
    DirEntryItem d;
    if (type == kRegistryByDir && vector_items_impl::load(item, &d)) out.str(" collection ").dec(d.cid);
    return;
  }
  switch (static_cast<VectorItem>(type)) {
    case VectorItem::config:
      return print_config(out, item);
    case VectorItem::rows:
      return print_rows(out, item);
    case VectorItem::chunk:
      return print_chunk(out, item);
    default:
      return print_small(out, static_cast<VectorItem>(type), item);
  }
}

TableShape shape_for(u32 row_bytes, usize max_item) {
  TableShape s;
  u32 a = row_bytes >= 4096 ? 512 : 64;  // long rows: whole sectors; else the largest alignment that costs an eighth
  while (a > 4 && align_up(row_bytes, a) - row_bytes > row_bytes / 8) a /= 2;
  s.stride = align_up(row_bytes, a);
  u32 rows = 64;
  while (rows < kChunkRowsMax && u64{rows} * 2 * s.stride <= kChunkBytesMax && usize{rows} * 2 / 8 <= max_item)
    rows *= 2;
  s.chunk_rows = rows;
  s.chunk_bytes = u64{rows} * s.stride;
  return s;
}

u32 group_rows_for(usize max_item) {
  u32 n = kGroupRowsMax;
  while (n > 1 && group_bytes_max(n) > max_item) n /= 2;
  return n;
}

}  // namespace vexfs::disk
