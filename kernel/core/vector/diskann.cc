// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Graphs on disk: making, learning, records, printing. Walking is in diskann_walk.cc, inserting in diskann_insert.cc, what
// lies on disk in diskann_disk.cc.
#include "diskann.h"

#include "../uapi.h"
#include "code_trial.h"
#include "diskann_mend.h"
#include "kmeans.h"

namespace vexfs::vector {
namespace diskann_impl {
namespace {

constexpr u32 m_auto = 16, ef_construction_auto = 100;
constexpr u32 centre_rows = 256;  // sampled

// Rows are what lies on disk: "none" is as automatic.
constexpr bool automatic(u32 codes) { return codes <= VEXFS_CODES_NONE; }

Result<DiskAnn *> make(const simd::Space &space, const IndexParams &params) {
  const simd::CodeKind kind =
      automatic(params.codes) ? simd::CodeKind::sq4 : simd::CodeKind{static_cast<u8>(params.codes - 1)};
  const simd::CodeSpace codes = VX_TRY(simd::CodeSpace::make(space, kind));
  void *mem = vx_alloc_large(sizeof(DiskAnn), 0);
  if (!mem) return Errno::nomem;
  return new (mem) DiskAnn(space, codes, params);
}

}  // namespace
}  // namespace diskann_impl

DiskAnn::DiskAnn(const simd::Space &space, const simd::CodeSpace &codes, const IndexParams &params)
    : LearntIndex(space, params), codes_(codes) {
  if (params_.m == 0) params_.m = diskann_impl::m_auto;
  if (params_.ef_construction == 0) params_.ef_construction = diskann_impl::ef_construction_auto;
  shape_ = DiskShape(space.row_bytes(), params_.m);
}

DiskAnn::~DiskAnn() {
  if (epoch_made_) vx_epoch_destroy(&epoch_);
}

Status DiskAnn::start() {
  if (vx_epoch_init(&epoch_) != 0) return Errno::nomem;
  epoch_made_ = true;
  return {};
}

Result<IndexPtr> diskann_create(const simd::Space &space, const IndexParams &params) {
  if (!index_params_valid(params, space.dim())) return Errno::inval;
  DiskAnn *index = VX_TRY(diskann_impl::make(space, params));
  IndexPtr owner(index);
  VX_TRY(index->start());
  return owner;
}

Result<IndexPtr> diskann_open(const simd::Space &space, Bytes header, const BlobSource &blobs) {
  const LearntHeader *h = VX_TRY(learnt_header(IndexKind::diskann, header));
  if (h->codes && !simd::valid(simd::CodeKind{u8{h->codes}})) return Errno::corrupt;
  DiskAnn *index =
      VX_TRY(diskann_impl::make(space, IndexParams{.kind = IndexKind::diskann, .codes = h->codes ? h->codes + 1u : 0}));
  IndexPtr owner(index);
  VX_TRY(index->start());
  VX_TRY(index->adopt(*h, blobs));
  return owner;
}

void DiskAnn::destroy() {
  this->~DiskAnn();
  vx_free_large(this, sizeof(DiskAnn));
}

IndexCounts DiskAnn::counts() const {
  return {.nodes = nodes_.load(std::memory_order_relaxed),
          .max_level = 0,
          .codes = static_cast<u16>(must_learn() ? 0 : static_cast<u32>(codes_.kind()) + 1)};
}

// ------------------------------------------------------------------------------------------------------------ learning
// Codes that nobody asked for: short ones, if they rank a sample nearly as the rows do. Rows in tight clusters differ from
// each other by less than 4 bits of how far they lie from the centre.
Status DiskAnn::choose_codes(RowView &rows, u32 slots, bool (*interrupted)(void *), void *ctx) {
  const simd::CodeKind kind = simd::CodeKind::sq4;
  CodeTrial trial;
  Status begun = trial.begin(space_, rows, slots, &kind, 1);
  if (begun.code() == Errno::again) return {};  // no row to judge by
  VX_TRY(std::move(begun));
  simd::CodeSpace codes = VX_TRY(simd::CodeSpace::make(space_, kind));
  const bool enough = VX_TRY(trial.ranks_well(codes, interrupted, ctx));
  codes_ = VX_TRY(simd::CodeSpace::make(space_, enough ? kind : simd::CodeKind::sq8));
  return {};
}

// The centre of some rows, and which of them is nearest to it.
Status DiskAnn::learn(RowView &rows, u32 slots, Scratch &scratch, bool (*interrupted)(void *), void *ctx) {
  VX_ASSERT(must_learn());
  if (diskann_impl::automatic(params_.codes)) VX_TRY(choose_codes(rows, slots, interrupted, ctx));
  Lesson lesson{.rows = rows, .space = space_, .interrupted = interrupted, .ctx = ctx};
  Vec<u32> sample, model, aux;
  Vec<u8> copies;
  Vec<const void *> row;
  VX_TRY(sample_slots(lesson, slots, diskann_impl::centre_rows, params_.seed, &sample));
  if (sample.size() < 16) return Errno::again;
  const usize bytes = align_up<usize>(space_.row_bytes(), 16);
  VX_TRY(copies.resize(bytes * sample.size()));
  VX_TRY(row.reserve(sample.size()));
  VX_TRY(aux.reserve(sample.size()));
  u32 n = 0;
  for (u32 slot : sample) {
    Result<const u8 *> r = rows.row(slot);
    if (!r.ok() && r.code() != Errno::noent && !rows.dead(slot)) return r.error();
    if (r.ok()) {
      memcpy(copies.data() + bytes * n, *r, space_.row_bytes());
      VX_TRY(row.push(copies.data() + bytes * n));
      VX_TRY(aux.push(rows.aux(*r, slot)));
      sample[n++] = slot;
    }
    VX_TRY(lesson.breathe());
  }
  if (n == 0) return Errno::again;
  VX_TRY(model.resize(model_bytes() / 4));
  codes_.average(row.data(), aux.data(), n, model.data());
  u8 *work = VX_TRY(scratch.array<u8>(Scratch::other_code, codes_.work_bytes()));
  u8 *code = VX_TRY(scratch.array<u8>(Scratch::code, codes_.bytes()));
  VX_TRY(install(std::move(model), slots, true));
  u32 best = 0, least = ~u32{0};
  for (u32 i = 0; i < n; i++) {
    codes_.encode(row[i], aux[i], work, code);
    // Under l2 the square of how far it lies from the centre; else less the more it points where the centre does.
    const u32 key = simd::key_from_f32(codes_.off(code));
    if (key < least) {
      least = key;
      best = sample[i];
    }
  }
  middle_.store(best, std::memory_order_release);
  return {};
}

Status DiskAnn::begin() {
  if (!nodes_kept_.made()) VX_TRY(nodes_kept_.make(shape_));
  if (stored(0)) make_cache();
  return codes_.set_centre(model()).ok() ? Status() : Status(Errno::corrupt);
}

u32 DiskAnn::entry() const {
  const u32 middle = middle_.load(std::memory_order_acquire);
  return middle != slot_none && records_.present(middle) ? middle : entry_.load(std::memory_order_acquire);
}

const void *DiskAnn::code_of(u32 slot) const {
  const SlotRecords::Word *w = slot <= slot_max ? records_.peek(slot) : nullptr;
  return w && w[0].load(std::memory_order_acquire) <= record_value_max ? static_cast<const void *>(w + 1) : nullptr;
}

u32 DiskAnn::word_of(u32 slot) const {
  const SlotRecords::Word *w = slot <= slot_max ? records_.peek(slot) : nullptr;
  return w ? w[0].load(std::memory_order_acquire) : record_none;
}

bool DiskAnn::leaving(u32 slot) const {
  const u32 word = word_of(slot);
  return word != 0 && word <= record_value_max;
}

// A node that leaves may be reached by no walk any more; nor may one that was to leave by a pass that came to no end.
bool DiskAnn::contains(u32 slot) {
  if (must_learn() || !ready().ok()) return false;
  Reading reading(*this);
  return word_of(slot) == 0 && !torn_.load(std::memory_order_acquire);
}

bool DiskAnn::may_contain(u32 slot) {
  if (must_learn()) return false;
  if (!ready().ok()) return true;
  Reading reading(*this);
  return records_.present(slot);
}

// ------------------------------------------------------------------------------------------------------------- records
void DiskAnn::save_record(const SlotRecords::Word *words, u8 *out) const {
  reinterpret_cast<le32 *>(out)->set(0);
  memcpy(out + 4, static_cast<const void *>(words + 1), codes_.bytes());
}

Status DiskAnn::load_record(u32, const u8 *in, SlotRecords::Word *words) {
  if (reinterpret_cast<const le32 *>(in)->get() != 0) return Errno::corrupt;
  memcpy(static_cast<void *>(words + 1), in + 4, codes_.bytes());
  words[0].store(0, std::memory_order_release);
  return {};
}

void DiskAnn::put_header(u32 covered, LearntHeader *out) const {
  out->m = static_cast<u16>(params_.m);
  out->ef_construction = params_.ef_construction;
  out->codes = codes_.kind() == simd::CodeKind::sq4 ? 0 : static_cast<u8>(codes_.kind());
  out->torn = torn_.load(std::memory_order_acquire);
  u32 e = entry();
  if (e != slot_none && e >= covered) {  // then any node within, best one that stays
    for (e = 0; e < covered && word_of(e) != 0;) e++;
    for (e = e < covered ? e : 0; e < covered && !records_.present(e);) e++;
  }
  out->entry = e != slot_none && e < covered ? e : slot_none;
}

bool DiskAnn::take_header(const LearntHeader &h) {
  params_.m = h.m;
  params_.ef_construction = h.ef_construction;
  if (!plausible() || params_.ef_construction == 0 || (h.entry != slot_none && h.entry >= h.covered)) return false;
  shape_ = DiskShape(space_.row_bytes(), params_.m);
  if (h.torn > 1) return false;
  torn_.store(h.torn, std::memory_order_relaxed);
  entry_.store(h.entry, std::memory_order_relaxed);
  stored_.store(h.covered, std::memory_order_release);
  return true;
}

bool DiskAnn::brought_right() const {
  const u32 entry = entry_.load(std::memory_order_relaxed);
  return entry == slot_none ? nodes_.load(std::memory_order_relaxed) == 0 : records_.present(entry);
}

void DiskAnn::print(const TextSink &sink) const {
  char text[240];
  Printer line(text);
  line.str("diskann m=").dec(params_.m).str(" dim=").dec(space_.dim());
  if (must_learn()) line.str(" not learnt yet");
  line.str(" record=").dec(shape_.record_bytes).str(" a unit holds ").dec(shape_.per_unit);
  line.str(" nodes=").dec(nodes_.load(std::memory_order_relaxed));
  line.str(" stored=").dec(stored_.load(std::memory_order_relaxed));
  line.str(" memory=").size(memory_bytes()).ch('\n');
  sink(line.c_str(), line.length());
}

}  // namespace vexfs::vector
