// SPDX-License-Identifier: GPL-2.0-only OR MIT
// An HNSW graph to and from its stored form. Everything read is checked: a list from disk cannot lead outside the
// graph, to a level a node does not have, or be longer than a list is.
#include "hnsw.h"
#include "hnsw_format.h"

namespace vexfs::vector {
namespace hnsw_checkpoint_impl {
namespace {

// Where the parts of a blob lie.
struct BlobLayout {
  usize bitmap, lists, upper, bytes;
  BlobLayout(const GraphShape &s, u32 upper_lists) {
    bitmap = sizeof(HnswBlobHeader);
    lists = bitmap + s.slots() / 8;
    upper = lists + usize{s.slots()} * s.m * 8;
    bytes = upper + usize{upper_lists} * s.m * 4;
  }
};

u32 load32(const u8 *p) { return reinterpret_cast<const le32 *>(p)->get(); }
void store32(u8 *p, u32 v) { reinterpret_cast<le32 *>(p)->set(v); }

Status damaged(const char *what) {
  vx_log(nullptr, VX_LOG_ERR, what);
  return Errno::corrupt;
}

// Links below `covered` only. True when some were left out.
bool save_list(const Link *list, u32 degree, u32 covered, u8 *out) {
  u32 n = 0;
  bool left_out = false;
  for (u32 i = 0; i < degree; i++) {
    const u32 s = list[i].load(std::memory_order_acquire);
    if (s == slot_none) break;
    if (s < covered)
      store32(out + usize{n++} * 4, s);
    else
      left_out = true;
  }
  for (; n < degree; n++) store32(out + usize{n} * 4, slot_none);
  return left_out;
}

void load_list(const Graph &g, const u8 *in, u32 slot, u32 level, u32 source_slots, Link *list) {
  u32 n = 0;
  for (u32 i = 0; i < g.shape.degree(level); i++) {
    const u32 s = load32(in + usize{i} * 4);
    if (s >= source_slots || s == slot || (level && g.level_of(s) < level)) continue;
    bool twice = false;
    for (u32 j = 0; j < n && !twice; j++) twice = list[j].load(std::memory_order_relaxed) == s;
    if (!twice) list[n++].store(s, std::memory_order_relaxed);
  }
}

u16 version_of(const Graph &g) { return g.coded() ? hnsw_version_coded : hnsw_version; }

void put_blob_header(const Graph &g, u32 magic, u32 segment, u32 upper_lists, MutBytes out) {
  HnswBlobHeader h{};
  h.magic = magic;
  h.version = version_of(g);
  h.m = static_cast<u16>(g.shape.m);
  h.segment = segment;
  h.slots = g.shape.slots();
  h.upper_lists = upper_lists;
  memcpy(out.data(), &h, sizeof h);
}

bool blob_is(const Graph &g, u32 magic, u32 segment, u32 upper_lists, Bytes blob, usize bytes) {
  if (blob.size() != bytes) return false;
  const HnswBlobHeader *h = reinterpret_cast<const HnswBlobHeader *>(blob.data());
  return h->magic == magic && h->version == version_of(g) && h->m == g.shape.m && h->segment == segment &&
         h->slots == g.shape.slots() && h->upper_lists == upper_lists;
}

Result<const HnswHeader *> check_header(Bytes bytes) {
  if (bytes.size() < sizeof(HnswHeader)) return Errno::corrupt;
  const HnswHeader *h = reinterpret_cast<const HnswHeader *>(bytes.data());
  const bool coded = h->codes != static_cast<u8>(HnswParams::Codes::none);
  if (h->magic != hnsw_header_magic || h->version != (coded ? hnsw_version_coded : hnsw_version) ||
      (coded && !simd::valid(simd::CodeKind{u8{h->codes}})))
    return damaged("hnsw: the checkpoint header is not one, or of an unknown version").error();
  if (h->m < hnsw_m_min || h->m > hnsw_m_max || h->ef_construction == 0 || h->ef_construction > 65536 ||
      h->covered > slot_max)
    return damaged("hnsw: the checkpoint header has parameters out of range").error();
  const u32 slot = h->entry_slot;
  if (slot != slot_none && (slot >= h->covered || h->entry_level > hnsw_level_max))
    return damaged("hnsw: the checkpoint's entry point lies outside of it").error();
  return h;
}

}  // namespace
}  // namespace hnsw_checkpoint_impl

usize hnsw_blob_bytes(const Graph &g, u32 segment) {
  return hnsw_checkpoint_impl::BlobLayout(g.shape, g.upper_lists(segment)).bytes;
}

Status hnsw_decode_segment(Graph &g, u32 segment, u32 source_slots, Bytes blob, u8 *into) {
  const GraphShape &s = g.shape;
  const u32 uppers = g.upper_lists(segment);
  const hnsw_checkpoint_impl::BlobLayout at(s, uppers);
  if (!hnsw_checkpoint_impl::blob_is(g, hnsw_blob_magic, segment, uppers, blob, at.bytes))
    return hnsw_checkpoint_impl::damaged("hnsw: a checkpoint blob is not of this graph");
  const u8 *upper = blob.data() + at.upper;
  for (u32 i = 0; i < s.slots(); i++) {
    const u32 slot = (segment << s.shift) + i;
    const u32 levels = g.level_of(slot);
    const bool there = slot < source_slots && ((blob[at.bitmap + i / 8] >> (i % 8)) & 1);
    for (u32 l = 0; l <= levels; l++) {
      const u8 *in = l ? upper : blob.data() + at.lists + usize{i} * s.m * 8;
      if (there) hnsw_checkpoint_impl::load_list(g, in, slot, l, source_slots, g.list(into, slot, l));
      if (l) upper += usize{s.m} * 4;
    }
    if (there) g.word(into, slot).fetch_or(NodeWord::present | NodeWord::claimed, std::memory_order_relaxed);
  }
  return {};
}

usize hnsw_codes_blob_bytes(const Graph &g) {
  return sizeof(HnswBlobHeader) + usize{g.shape.slots()} * g.shape.code_bytes;
}

Status hnsw_decode_codes(const Graph &g, u32 segment, Bytes blob, u8 *into) {
  if (!hnsw_checkpoint_impl::blob_is(g, hnsw_codes_magic, segment, 0, blob, hnsw_codes_blob_bytes(g)))
    return hnsw_checkpoint_impl::damaged("hnsw: a checkpoint's codes are not of this graph");
  memcpy(into + g.shape.codes_at, blob.data() + sizeof(HnswBlobHeader), usize{g.shape.slots()} * g.shape.code_bytes);
  return {};
}

// Which part of the graph a blob is.
Hnsw::Part Hnsw::part_of(u32 blob) const {
  if (!graph_.coded()) return {Part::lists, blob};
  if (blob == 0) return {Part::centre, 0};
  return {blob % 2 ? Part::lists : Part::codes, (blob - 1) / 2};
}

usize Hnsw::header_bytes() const { return sizeof(HnswHeader); }
u32 Hnsw::blob_count(u32 covered) const {
  return graph_.blobs_of(static_cast<u32>((u64{covered} + graph_.shape.mask()) >> graph_.shape.shift));
}

usize Hnsw::blob_bytes(u32 blob) const {
  const Part part = part_of(blob);
  if (part.what == Part::centre) return measure_.centre_blob_bytes();
  return part.what == Part::codes ? hnsw_codes_blob_bytes(graph_) : hnsw_blob_bytes(graph_, part.segment);
}

bool Hnsw::blob_dirty(u32 blob) const {
  const Part part = part_of(blob);
  if (part.what == Part::centre) return measure_.centre_dirty();
  u8 *segment = graph_.peek(part.segment);
  if (!segment) return false;
  const std::atomic<u32> &flag = part.what == Part::codes ? graph_.codes_dirty(segment) : graph_.dirty(segment);
  return flag.load(std::memory_order_acquire);
}

Status Hnsw::save_header(u32 covered, MutBytes out) const {
  if (out.size() != sizeof(HnswHeader) || covered > slot_max) return Errno::inval;
  HnswHeader h{};
  h.magic = hnsw_header_magic;
  h.version = hnsw_checkpoint_impl::version_of(graph_);
  h.codes = static_cast<u8>(measure_.kind());
  h.learnt = learnt_;
  h.m = static_cast<u16>(params_.m);
  h.ef_construction = params_.ef_construction;
  h.dim = space().dim();
  h.element = static_cast<u8>(space().element());
  h.metric = static_cast<u8>(space().metric());
  h.shift = static_cast<u16>(graph_.shape.shift);
  h.covered = covered;
  h.seed = params_.seed;
  h.nodes = nodes_.load(std::memory_order_relaxed);
  // The entry point may lie beyond what is covered: then the highest node within.
  EntryPoint e = entry();
  if (!e.empty() && e.slot() >= covered) {
    e = EntryPoint{};
    for (u32 slot = 0; slot < covered; slot++)
      if ((e.empty() || graph_.level_of(slot) > e.level()) && graph_.present(slot))
        e = EntryPoint::of(slot, graph_.level_of(slot));
  }
  h.entry_slot = e.empty() ? slot_none : e.slot();
  h.entry_level = e.empty() ? 0 : e.level();
  memcpy(out.data(), &h, sizeof h);
  return {};
}

Status Hnsw::save_codes(u32 segment, MutBytes out) {
  memset(out.data(), 0, out.size());
  hnsw_checkpoint_impl::put_blob_header(graph_, hnsw_codes_magic, segment, 0, out);
  Result<u8 *> got = graph_.get(segment);
  if (!got.ok()) return got.code() == Errno::noent ? Status() : Status(got.error());
  graph_.codes_dirty(*got).exchange(0, std::memory_order_acq_rel);
  // An insert that is writing its code has not returned: what is torn here belongs to no node of this checkpoint.
  for (u32 i = 0; i < graph_.shape.slots(); i++)
    if (graph_.present((segment << graph_.shape.shift) + i))
      memcpy(out.data() + sizeof(HnswBlobHeader) + usize{i} * graph_.shape.code_bytes, graph_.code(*got, i),
             graph_.shape.code_bytes);
  return {};
}

Status Hnsw::save_blob(u32 blob, u32 covered, MutBytes out, RowView &) {
  if (blob >= blob_count(covered) || out.size() != blob_bytes(blob)) return Errno::inval;
  const Part part = part_of(blob);
  switch (part.what) {
    case Part::centre: {
      // Lists that are still on disk alone go with a centre that is.
      if (graph_.opened()) VX_TRY(measure_.load());
      measure_.save_centre(out);
      return {};
    }
    case Part::codes:
      return save_codes(part.segment, out);
    case Part::lists:
      break;
  }
  return save_lists(part.segment, covered, out);
}

Status Hnsw::save_lists(u32 blob, u32 covered, MutBytes out) {
  const GraphShape &s = graph_.shape;
  const u32 uppers = graph_.upper_lists(blob);
  const hnsw_checkpoint_impl::BlobLayout at(s, uppers);
  Result<u8 *> got = graph_.get(blob);
  if (!got.ok() && got.code() != Errno::noent) return got.error();
  memset(out.data(), 0, at.lists);
  memset(out.data() + at.lists, 0xff, at.bytes - at.lists);
  hnsw_checkpoint_impl::put_blob_header(graph_, hnsw_blob_magic, blob, uppers, out);
  if (!got.ok()) return {};  // no slot of it was ever inserted

  u8 *segment = *got;
  graph_.dirty(segment).exchange(0, std::memory_order_acq_rel);
  u8 *upper = out.data() + at.upper;
  bool left_out = false;
  for (u32 i = 0; i < s.slots(); i++) {
    const u32 slot = (blob << s.shift) + i;
    const u32 levels = graph_.level_of(slot);
    const bool there = graph_.present(slot);
    const bool stored = there && slot < covered;
    left_out |= there && !stored;
    if (stored) out[at.bitmap + i / 8] = static_cast<u8>(out[at.bitmap + i / 8] | 1u << (i % 8));
    for (u32 l = 0; l <= levels; l++) {
      u8 *to = l ? upper : out.data() + at.lists + usize{i} * s.m * 8;
      if (stored) left_out |= hnsw_checkpoint_impl::save_list(graph_.list(segment, slot, l), s.degree(l), covered, to);
      if (l) upper += usize{s.m} * 4;
    }
  }
  if (left_out) graph_.mark_dirty(segment);  // a later checkpoint, covering more, has more to store
  return {};
}

Result<u32> hnsw_covered(Bytes header) {
  const HnswHeader *h = VX_TRY(hnsw_checkpoint_impl::check_header(header));
  return u32{h->covered};
}

Result<IndexPtr> hnsw_open(const simd::Space &space, Bytes header, const BlobSource &blobs) {
  const HnswHeader *h = VX_TRY(hnsw_checkpoint_impl::check_header(header));
  if (h->dim != space.dim() || h->element != static_cast<u8>(space.element()) ||
      h->metric != static_cast<u8>(space.metric()))
    return Errno::inval;
  HnswParams params;
  params.m = h->m;
  params.ef_construction = h->ef_construction;
  params.seed = h->seed;
  params.codes = HnswParams::Codes{u8{h->codes}};
  const simd::CodeSpace codes = VX_TRY(hnsw_code_space(space, params.codes));
  if (h->shift != GraphShape(params.m, codes).shift)
    return hnsw_checkpoint_impl::damaged("hnsw: the checkpoint header has a segment size out of range").error();
  EntryPoint entry;
  if (h->entry_slot != slot_none) entry = EntryPoint::of(h->entry_slot, h->entry_level);
  void *mem = vx_alloc(sizeof(Hnsw), 0);
  if (!mem) return Errno::nomem;
  Hnsw *index = new (mem) Hnsw(space, codes, params, &blobs, h->covered, entry);
  IndexPtr owner(index);
  VX_TRY(index->adopt(h->nodes, h->learnt));
  return owner;
}

}  // namespace vexfs::vector
