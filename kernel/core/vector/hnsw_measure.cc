// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The centre that codes are taken from, and queries in the form of codes.
#include "hnsw_measure.h"

#include "hnsw_format.h"

namespace vexfs::vector {
namespace hnsw_measure_impl {
namespace {

constexpr u32 sampled_rows = 64;  // for the centre: enough to find what all rows have in common

}  // namespace
}  // namespace hnsw_measure_impl

Result<Probe> Measure::probe(const simd::Query &q, Scratch &scratch) const {
  Probe p{q, {}};
  if (!coded()) return p;
  const usize query = align_up<usize>(codes_.query_bytes(), 64);
  u8 *buf = VX_TRY(scratch.array<u8>(Scratch::code, query + codes_.work_bytes()));
  codes_.prepare(q, buf + query, buf, &p.code);
  return p;
}

Result<Probe> Measure::probe(const Item &item, Scratch &scratch, Scratch::Use use) const {
  Probe p;
  if (!coded()) {
    p.row = space_.row_query(item.bytes, item.aux);
    return p;
  }
  codes_.prepare_code(item.bytes, VX_TRY(scratch.array<u8>(use, codes_.query_bytes())), &p.code);
  return p;
}

Status Measure::encode(u8 *segment, u32 slot, const Item &row, Scratch &scratch) const {
  void *work = VX_TRY(scratch.array<u8>(Scratch::other_code, codes_.work_bytes()));
  codes_.encode(row.bytes, row.aux, work, graph_.code(segment, slot));
  return {};
}

// Rows spread over the first chunk that has living ones, which costs one read if it is not in memory: of each stretch the
// first that lives.
Status Measure::average(RowView &rows, u8 *into) {
  u32 begin = 0;
  while (begin < rows.slots && rows.dead(begin))
    if (++begin % 65536 == 0) vx_yield();
  begin &= ~rows.mask();
  const u32 end = static_cast<u32>(min_of<u64>(rows.slots, u64{begin} + rows.mask() + 1)) - begin;
  const u32 step = max_of<u32>(end / hnsw_measure_impl::sampled_rows, 1);
  const void *row[hnsw_measure_impl::sampled_rows];
  u32 aux[hnsw_measure_impl::sampled_rows], n = 0;
  for (u32 slot = 0; slot < end && n < hnsw_measure_impl::sampled_rows;) {
    Result<const u8 *> r = rows.dead(begin + slot) ? Result<const u8 *>(Errno::noent) : rows.row(begin + slot);
    if (!r.ok() && r.code() != Errno::noent) return r.error();
    if (!r.ok() || rows.dead(begin + slot)) {  // found damaged while it was read
      slot++;
      continue;
    }
    row[n] = *r;
    aux[n++] = rows.aux(*r, begin + slot);
    slot = (slot / step + 1) * step;
  }
  if (n)
    codes_.average(row, aux, n, into);
  else
    memset(into, 0, codes_.centre_bytes());
  return {};
}

Status Measure::adopt(const u8 *centre) {
  u8 *c = static_cast<u8 *>(vx_alloc_large(codes_.centre_bytes(), 0));
  if (!c) return Errno::nomem;
  memcpy(c, centre, codes_.centre_bytes());
  VX_ASSERT(!centre_ && codes_.set_centre(c).ok());
  centre_ = c;
  centred_.store(true, std::memory_order_release);
  return {};
}

Status Measure::find_centre(RowView *rows) {
  Guard g(centre_lock_);
  if (centred_.load(std::memory_order_relaxed)) return {};
  u8 *c = static_cast<u8 *>(vx_alloc_large(codes_.centre_bytes(), 0));
  if (!c) return Errno::nomem;
  bool found = false;
  Status s = graph_.opened() ? load_centre(c, &found) : Status();
  if (s.ok() && !found && rows) s = average(*rows, c);
  const bool have = s.ok() && (found || rows);
  if (have && !codes_.set_centre(c).ok()) {
    graph_.set_damaged();
    s = Errno::corrupt;
  }
  if (!s.ok() || !have) {
    vx_free_large(c, codes_.centre_bytes());
    return s;
  }
  centre_ = c;
  centred_.store(true, std::memory_order_release);
  dirty_.store(!found, std::memory_order_release);
  return {};
}

// ------------------------------------------------------------------------------------------------------ stored form
usize Measure::centre_blob_bytes() const { return sizeof(HnswBlobHeader) + codes_.centre_bytes(); }

void Measure::save_centre(MutBytes out) {
  dirty_.store(false, std::memory_order_seq_cst);
  const bool there = centred_.load(std::memory_order_acquire);
  HnswBlobHeader h{};
  h.magic = hnsw_centre_magic;
  h.version = hnsw_version_coded;
  h.slots = there;
  memcpy(out.data(), &h, sizeof h);
  memset(out.data() + sizeof h, 0, codes_.centre_bytes());
  if (!there) return;
  const u32 *c = reinterpret_cast<const u32 *>(centre_);
  le32 *to = reinterpret_cast<le32 *>(out.data() + sizeof h);
  for (u32 i = 0; i < space_.dim(); i++) to[i] = c[i];
}

Status Measure::load_centre(u8 *into, bool *found) {
  const usize bytes = centre_blob_bytes();
  u8 *blob = static_cast<u8 *>(vx_alloc_large(bytes, 0));
  if (!blob) return Errno::nomem;
  Status s = graph_.read_blob(0, MutBytes(blob, bytes));
  const HnswBlobHeader *h = reinterpret_cast<const HnswBlobHeader *>(blob);
  if (s.ok() && (h->magic != hnsw_centre_magic || h->version != hnsw_version_coded || h->slots > 1)) {
    vx_log(nullptr, VX_LOG_ERR, "hnsw: the checkpoint's centre is not one");
    graph_.set_damaged();
    s = Errno::corrupt;
  }
  if (s.ok()) {
    *found = h->slots == 1;
    const le32 *from = reinterpret_cast<const le32 *>(blob + sizeof *h);
    u32 *to = reinterpret_cast<u32 *>(into);
    for (u32 i = 0; i < space_.dim(); i++) to[i] = from[i];
  }
  vx_free_large(blob, bytes);
  return s;
}

}  // namespace vexfs::vector
