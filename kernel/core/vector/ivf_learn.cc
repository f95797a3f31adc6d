// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What inverted files learn: centroids, and the codebook of residuals.
#include "ivf.h"

namespace vexfs::vector {
namespace ivf_learn_impl {
namespace {

constexpr u32 learn_min = 512;
constexpr u32 rows_per_list_min = 30;  // below, a centroid says little
constexpr u32 rows_per_list = 64;      // sampled
constexpr u32 lists_auto_min = 16;
constexpr usize lists_auto_bytes = usize{64} << 20;  // of centroids, when nobody asked for so many
constexpr u32 code_sample = 16384;
constexpr u32 code_rounds = 8;

}  // namespace
}  // namespace ivf_learn_impl

u32 ivf_root(u64 x) {
  u64 r = 0;
  for (u64 bit = u64{1} << 31; bit; bit >>= 1)
    if ((r + bit) * (r + bit) <= x) r += bit;
  return static_cast<u32>(r);
}

u32 Ivf::learn_min() const {
  return max_of<u32>(ivf_learn_impl::learn_min, params_.lists * ivf_learn_impl::rows_per_list_min);
}

// So many that finding the lists costs about what scanning them does; codes are scanned faster, so longer lists pay.
u32 Ivf::lists_for(u32 slots) const {
  using namespace ivf_learn_impl;
  if (params_.lists) return params_.lists;
  u32 n = ivf_root(u64{slots} * (coded() ? 4 : 16));
  n = min_of(n, slots / rows_per_list_min);
  n = static_cast<u32>(min_of<usize>(n, lists_auto_bytes / (usize{4} * space_.dim())));
  return min_of(max_of(n, lists_auto_min), ivf_lists_max);
}

Status Ivf::learn(RowView &rows, u32 slots, Scratch &, bool (*interrupted)(void *), void *ctx) {
  VX_ASSERT(must_learn());
  Lesson lesson{.rows = rows, .space = space_, .interrupted = interrupted, .ctx = ctx};
  const u32 lists = lists_for(slots), dim = space_.dim();
  const u32 most = static_cast<u32>(min_of<u64>(slot_max, u64{lists} * ivf_learn_impl::rows_per_list));
  Vec<u32> sample, model;
  VX_TRY(sample_slots(lesson, slots, max_of(most, ivf_learn_impl::code_sample), params_.seed, &sample));
  if (sample.size() < max_of<usize>(lists, 16)) return Errno::again;
  const IndexParams asked = params_;
  params_.lists = lists;
  if (coded()) params_.pq_m = simd::PqShape::of(dim, asked.pq_m ? asked.pq_m : min_of(pq_m_max, (dim + 1) / 2)).m;
  Status s = model.resize(model_bytes() / 4);
  if (s.ok())
    s = kmeans(lesson, centroid_space_, sample.data(), static_cast<u32>(sample.size()), lists, params_.seed,
               model.data());
  if (s.ok() && coded()) {
    u8 *centroids = reinterpret_cast<u8 *>(model.data());
    s = learn_codes(lesson, sample, centroids, centroids + centroid_bytes());
  }
  if (s.ok()) s = install(std::move(model), slots, asked.lists != 0);
  if (!s.ok()) params_ = asked;
  return s;
}

Status Ivf::learn_codes(Lesson &lesson, const Vec<u32> &sample, u8 *centroids, void *book) {
  const u32 dim = space_.dim(), n = static_cast<u32>(min_of<usize>(sample.size(), ivf_learn_impl::code_sample));
  pq_ = simd::PqShape::of(dim, params_.pq_m);
  Vec<u32> slots, lists, keys, buf;
  VX_TRY(slots.reserve(n));
  for (u32 i = 0; i < n; i++) VX_TRY(slots.push(sample[u64{sample.size()} * i / n]));
  VX_TRY(lists.resize(n));
  VX_TRY(keys.resize(params_.lists));
  VX_TRY(buf.resize(usize{2} * dim));
  VX_ASSERT(n >= 16);  // learn() has looked
  const u32 step = n / 16;
  VX_TRY(each_sampled(lesson, slots.data(), n, buf.data(), [&](u32 i, const void *v) -> Status {
    centroid_space_.scan(centroid_space_.row_query(v, 0), centroids, usize{4} * dim, nullptr, params_.lists,
                         keys.data());
    lists[i] = least_key(keys.data(), params_.lists);
    if (i % step == 0 && i / step < 16) {
      simd::subtract(v, centroids + usize{4} * dim * lists[i], buf.data() + dim, dim);
      simd::pq_seed(pq_, book, i / step, buf.data() + dim);
    }
    return {};
  }));
  for (u32 r = 0; r < ivf_learn_impl::code_rounds; r++)
    VX_TRY(learn_code_round(lesson, slots.data(), n, lists.data(), centroids, book));
  return {};
}

Status Ivf::learn_code_round(Lesson &lesson, const u32 *slots, u32 n, const u32 *lists, const u8 *centroids,
                             void *book) {
  const u32 dim = space_.dim();
  Vec<u32> sums, counts, buf;
  VX_TRY(sums.resize(pq_.codebook_floats()));
  VX_TRY(counts.resize(usize{pq_.m} * 16));
  VX_TRY(buf.resize(usize{2} * dim));
  VX_TRY(each_sampled(lesson, slots, n, buf.data(), [&](u32 i, const void *v) -> Status {
    simd::subtract(v, centroids + usize{4} * dim * lists[i], buf.data() + dim, dim);
    simd::pq_gather(pq_, book, buf.data() + dim, sums.data(), counts.data());
    return {};
  }));
  simd::pq_update(pq_, book, sums.data(), counts.data());
  return {};
}

}  // namespace vexfs::vector
