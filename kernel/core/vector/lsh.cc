// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Locality-sensitive hashing: making, learning, inserting, records. Searching is in lsh_search.cc.
#include "lsh.h"

#include <bit>

namespace vexfs::vector {
namespace lsh_impl {
namespace {

constexpr u32 learn_min = 512;
constexpr u32 tables_auto = 16;
constexpr u32 rows_per_bucket = 8;  // wanted of the automatic number of hash functions
constexpr u32 bucket_bits_min = 6, bucket_bits_max = 22;
constexpr u32 buckets_max = 1 << 24;  // of all tables
constexpr u32 width_sample = 2048;    // rows
constexpr u32 width_percent = 200;    // of the standard deviation of a projection: about one bit a function

// splitmix64's finaliser (Steele, Lea, Flood 2014).
u64 mix(u64 x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

}  // namespace
}  // namespace lsh_impl

Result<IndexPtr> lsh_create(const simd::Space &space, const IndexParams &params) {
  if (params.kind != IndexKind::lsh || !index_params_valid(params, space.dim())) return Errno::inval;
  simd::Space projection = VX_TRY(simd::Space::make(simd::Element::f32, simd::Metric::ip, space.dim()));
  void *mem = vx_alloc_large(sizeof(Lsh), 0);
  if (!mem) return Errno::nomem;
  return IndexPtr(new (mem) Lsh(space, projection, params));
}

Result<IndexPtr> lsh_open(const simd::Space &space, Bytes header, const BlobSource &blobs) {
  const LearntHeader *h = VX_TRY(learnt_header(IndexKind::lsh, header));
  simd::Space projection = VX_TRY(simd::Space::make(simd::Element::f32, simd::Metric::ip, space.dim()));
  void *mem = vx_alloc_large(sizeof(Lsh), 0);
  if (!mem) return Errno::nomem;
  Lsh *index = new (mem) Lsh(space, projection, IndexParams{.kind = IndexKind::lsh});
  IndexPtr owner(index);
  VX_TRY(index->adopt(*h, blobs));
  return owner;
}

void Lsh::destroy() {
  this->~Lsh();
  vx_free_large(this, sizeof(Lsh));
}

bool Lsh::plausible() const {
  return params_.tables && params_.bits && bucket_bits_ >= lsh_impl::bucket_bits_min &&
         bucket_bits_ <= lsh_impl::bucket_bits_max && (params_.tables << bucket_bits_) <= lsh_impl::buckets_max;
}

Status Lsh::begin() {
  if (!simd::all_finite(model(), usize{functions()} * space_.dim())) return Errno::corrupt;
  const u32 w = width();
  if (!simd::all_finite(&w, 1) || w >> 31 || (w == 0) != (space_.metric() != simd::Metric::l2)) return Errno::corrupt;
  if (w == 0 && !simd::all_finite(offsets(), functions())) return Errno::corrupt;
  return lists_.make(params_.tables << bucket_bits_, PostingShape{});
}

// ------------------------------------------------------------------------------------------------------------ learning
u32 Lsh::learn_min() const { return lsh_impl::learn_min; }

void Lsh::choose(u32 slots) {
  using namespace lsh_impl;
  if (!params_.tables) params_.tables = tables_auto;
  if (!params_.bits) params_.bits = max_of<u32>(4, static_cast<u32>(std::bit_width(slots / rows_per_bucket)));
  bucket_bits_ = min_of(max_of<u32>(static_cast<u32>(std::bit_width(slots)), bucket_bits_min), bucket_bits_max);
  while ((params_.tables << bucket_bits_) > buckets_max) bucket_bits_--;
}

// Under l2 how wide the projections of rows spread, else where their middle is.
Status Lsh::learn_offsets(Lesson &lesson, u32 slots, u32 *model) {
  const u32 n = functions(), dim = space_.dim();
  const bool wide = space_.metric() == simd::Metric::l2;
  u32 *offsets = model + usize{n} * dim;
  Vec<u32> sample, buf, keys, sums;
  VX_TRY(sums.resize(n));
  VX_TRY(sample_slots(lesson, slots, lsh_impl::width_sample, params_.seed, &sample));
  VX_TRY(buf.resize(dim));
  VX_TRY(keys.resize(n));
  u64 moments[2] = {};  // doubles
  u32 count = 0;
  VX_TRY(each_sampled(lesson, sample.data(), static_cast<u32>(sample.size()), buf.data(),
                      [&](u32, const void *v) -> Status {
                        projection_.scan(projection_.row_query(v, 0), model, usize{4} * dim, nullptr, n, keys.data());
                        if (wide)
                          simd::add_moments(keys.data(), n, moments);
                        else
                          simd::add_products(keys.data(), n, sums.data());
                        count++;
                        return {};
                      }));
  if (!count) return Errno::again;
  if (wide) {
    const u32 width = simd::width_of(moments, u64{count} * n, lsh_impl::width_percent);
    offsets[n] = width ? width : 0x3f800000;  // 1.0, when all rows are alike
    for (u32 i = 0; i < n; i++) offsets[i] = static_cast<u32>(lsh_impl::mix(params_.seed + i));
  } else {
    simd::average(sums.data(), count, false, offsets, n);  // too large to average: they stay 0
  }
  return {};
}

Status Lsh::learn(RowView &rows, u32 slots, Scratch &, bool (*interrupted)(void *), void *ctx) {
  VX_ASSERT(must_learn());
  Lesson lesson{.rows = rows, .space = space_, .interrupted = interrupted, .ctx = ctx};
  const IndexParams asked = params_;
  choose(slots);
  Vec<u32> m;
  Status s = m.resize(model_bytes() / 4);
  if (s.ok()) {
    const u32 n = functions();
    simd::random_directions(params_.seed, m.data(), n, space_.dim());
    s = learn_offsets(lesson, slots, m.data());
  }
  if (s.ok()) s = install(std::move(m), slots, false);
  if (!s.ok()) params_ = asked;
  return s;
}

// ------------------------------------------------------------------------------------------------------------- hashing
u32 lsh_factor(u32 table, u32 function) { return static_cast<u32>(lsh_impl::mix(u64{table} << 32 | function)) | 1; }

u32 Lsh::bucket(u32 table, u32 sum) const {
  const u32 h = static_cast<u32>(lsh_impl::mix(u64{table} << 32 | sum) >> 32) >> (32 - bucket_bits_);
  return table << bucket_bits_ | h;
}

Result<Lsh::Hashes> Lsh::hash(const u32 *v, Scratch &scratch) const {
  const u32 n = functions();
  u32 *area = VX_TRY(scratch.array<u32>(Scratch::select, usize{n} * 4));
  projection_.scan(projection_.row_query(v, 0), model(), usize{4} * space_.dim(), nullptr, n, area);
  Hashes h;
  h.value = reinterpret_cast<s32 *>(area + n);
  h.below = area + usize{2} * n;
  h.above = area + usize{3} * n;
  for (u32 t = 0; t < params_.tables; t++) {
    const u32 at = t * params_.bits;
    simd::project(area + at, params_.bits, width(), offsets() + at, h.value + at, h.below + at, h.above + at);
  }
  return h;
}

// From the last table to the first, so that what an error leaves behind is met again, and not added twice, by the next
// attempt.
Status Lsh::place(RowView &, const u8 *row, u32 aux, u32 slot, SlotRecords::Word *words, u32 *first, Scratch &scratch) {
  u32 *v = VX_TRY(scratch.array<u32>(Scratch::query, space_.dim()));
  simd::widen_row(space_, row, aux, v);
  const Hashes h = VX_TRY(hash(v, scratch));
  for (u32 t = params_.tables; t-- > 0;) {
    u32 sum = 0;
    for (u32 i = 0; i < params_.bits; i++) sum += static_cast<u32>(h.value[t * params_.bits + i]) * lsh_factor(t, i);
    const u32 list = bucket(t, sum);
    if (t && words[t].load(std::memory_order_relaxed) == list) continue;
    VX_TRY(lists_.append(list, slot, 0, nullptr));
    if (t)
      words[t].store(list, std::memory_order_relaxed);
    else
      *first = list;
  }
  return {};
}

// ------------------------------------------------------------------------------------------------------------- records
void Lsh::save_record(const SlotRecords::Word *words, u8 *out) const {
  for (u32 t = 0; t < params_.tables; t++)
    reinterpret_cast<le32 *>(out)[t].set(words[t].load(std::memory_order_acquire));
}

Status Lsh::load_record(u32 slot, const u8 *in, SlotRecords::Word *words) {
  for (u32 t = params_.tables; t-- > 0;) {
    const u32 list = reinterpret_cast<const le32 *>(in)[t].get();
    if (list >> bucket_bits_ != t) return Errno::corrupt;
    VX_TRY(lists_.append(list, slot, 0, nullptr));
    words[t].store(list, std::memory_order_release);
  }
  return {};
}

bool Lsh::entry_right(u32 list, u32, const SlotRecords::Word *words) const {
  return words && words[list >> bucket_bits_].load(std::memory_order_acquire) == list;
}

void Lsh::print(const TextSink &sink) const {
  char text[200];
  Printer line(text);
  line.str("lsh dim=").dec(space_.dim());
  if (must_learn())
    line.str(" not learnt yet");
  else
    line.str(" tables=").dec(params_.tables).str(" bits=").dec(params_.bits);
  line.str(" nodes=").dec(nodes_.load(std::memory_order_relaxed));
  line.str(" memory=").size(memory_bytes()).ch('\n');
  sink(line.c_str(), line.length());
}

}  // namespace vexfs::vector
