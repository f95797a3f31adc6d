// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Inverted files: making, inserting, records. Learning is in ivf_learn.cc, searching in ivf_search.cc.
#include "ivf.h"

#include "../base/endian.h"

namespace vexfs::vector {

Result<IndexPtr> ivf_create(const simd::Space &space, const IndexParams &params) {
  VX_ASSERT(params.kind == IndexKind::ivf_flat || params.kind == IndexKind::ivf_pq);
  if (!index_params_valid(params, space.dim())) return Errno::inval;
  simd::Space centroids = VX_TRY(centroid_space(space));
  void *mem = vx_alloc_large(sizeof(Ivf), 0);
  if (!mem) return Errno::nomem;
  return IndexPtr(new (mem) Ivf(space, centroids, params));
}

Result<IndexPtr> ivf_open(IndexKind kind, const simd::Space &space, Bytes header, const BlobSource &blobs) {
  const LearntHeader *h = VX_TRY(learnt_header(kind, header));
  simd::Space centroids = VX_TRY(centroid_space(space));
  void *mem = vx_alloc_large(sizeof(Ivf), 0);
  if (!mem) return Errno::nomem;
  Ivf *index = new (mem) Ivf(space, centroids, IndexParams{.kind = kind});
  IndexPtr owner(index);
  VX_TRY(index->adopt(*h, blobs));
  return owner;
}

void Ivf::destroy() {
  this->~Ivf();
  vx_free_large(this, sizeof(Ivf));
}

bool Ivf::plausible() const {
  if (params_.lists == 0) return false;
  return coded() ? params_.pq_m && simd::PqShape::of(space_.dim(), params_.pq_m).m == params_.pq_m : true;
}

// Also of an index that is on disk alone, and has no shape yet.
u32 Ivf::record_bytes() const {
  if (!coded()) return 4;
  return 8 + align_up<u32>(params_.pq_m ? simd::PqShape::of(space_.dim(), params_.pq_m).code_bytes() : 0, 4);
}

usize Ivf::model_bytes() const {
  if (!coded() || !params_.pq_m) return centroid_bytes();
  return centroid_bytes() + simd::PqShape::of(space_.dim(), params_.pq_m).codebook_floats() * 4;
}

Status Ivf::begin() {
  if (!simd::all_finite(model(), model_bytes() / 4)) return Errno::corrupt;
  if (!coded()) return lists_.make(params_.lists, PostingShape{});
  pq_ = simd::PqShape::of(space_.dim(), params_.pq_m);
  return lists_.make(params_.lists, {.block = simd::pq_block, .words = 2, .bytes = pq_.code_bytes()});
}

// --------------------------------------------------------------------------------------------------------------- rows
Status Ivf::place(RowView &, const u8 *row, u32 aux, u32 slot, SlotRecords::Word *words, u32 *first, Scratch &scratch) {
  const u32 dim = space_.dim();
  u32 *v = VX_TRY(scratch.array<u32>(Scratch::query, usize{2} * dim));
  u32 *keys = VX_TRY(scratch.array<u32>(Scratch::scan, params_.lists));
  simd::widen_row(space_, row, aux, v);
  centroid_space_.scan(centroid_space_.row_query(v, 0), model(), usize{4} * dim, nullptr, params_.lists, keys);
  const u32 list = least_key(keys, params_.lists);
  u32 number, term = 0;
  u8 code[pq_m_max / 2] = {};
  if (coded()) {
    u32 *residual = v + dim;
    simd::subtract(v, centroid(list), residual, dim);
    simd::pq_encode(pq_, codebook(), residual, code);
    term = simd::pq_term(pq_, codebook(), centroid(list), code, space_.metric() == simd::Metric::l2);
  }
  number = VX_TRY(lists_.append(list, slot, term, code));
  words[1].store(number, std::memory_order_relaxed);
  *first = list;
  return {};
}

void Ivf::save_record(const SlotRecords::Word *words, u8 *out) const {
  const u32 list = words[0].load(std::memory_order_acquire);
  reinterpret_cast<le32 *>(out)->set(list);
  if (!coded()) return;
  u32 at = 0, term = 0;
  const PostingSegment *s = lists_.find(list, words[1].load(std::memory_order_relaxed), &at);
  VX_ASSERT(s);
  lists_.read(s, at, &term, out + 8);
  reinterpret_cast<le32 *>(out + 4)->set(term);
}

Status Ivf::load_record(u32 slot, const u8 *in, SlotRecords::Word *words) {
  const u32 list = reinterpret_cast<const le32 *>(in)->get();
  if (list >= params_.lists) return Errno::corrupt;
  const u32 term = coded() ? reinterpret_cast<const le32 *>(in + 4)->get() : 0;
  if (!simd::all_finite(&term, 1)) return Errno::corrupt;
  const u32 number = VX_TRY(lists_.append(list, slot, term, coded() ? in + 8 : nullptr));
  words[1].store(number, std::memory_order_relaxed);
  words[0].store(list, std::memory_order_release);
  return {};
}

bool Ivf::entry_right(u32 list, u32 number, const SlotRecords::Word *words) const {
  return words && words[0].load(std::memory_order_acquire) == list &&
         words[1].load(std::memory_order_relaxed) == number;
}

void Ivf::print(const TextSink &sink) const {
  char text[240];
  Printer line(text);
  line.str(disk::index_kind_name(static_cast<u8>(params_.kind))).str(" dim=").dec(space_.dim());
  if (must_learn())
    line.str(" not learnt yet");
  else
    line.str(" lists=").dec(params_.lists);
  if (coded() && !must_learn()) line.str(" codes=").dec(params_.pq_m).str("x4 bits");
  line.str(" nodes=").dec(nodes_.load(std::memory_order_relaxed));
  line.str(" memory=").size(memory_bytes()).ch('\n');
  sink(line.c_str(), line.length());
}

}  // namespace vexfs::vector
