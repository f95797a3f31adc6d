// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Sampling of rows and k-means.
#include "kmeans.h"

#include "beam.h"

namespace vexfs::vector {
namespace kmeans_impl {
namespace {

constexpr u32 rounds = 8;
constexpr u32 tile = 8;  // rows assigned together, so that centroids are read from memory once for them
constexpr u32 yield_every = 256;
constexpr u32 rows_per_breath = 16;  // between checks for a kill

u64 mix(u64 x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// One round of Lloyd's algorithm: assigns rows, in tiles, and sums them up.
class Round : Pinned {
 public:
  Round(const simd::Space &space, u32 k, const void *centroids) : space_(space), k_(k), centroids_(centroids) {}
  Status init() {
    VX_TRY(rows_.resize(usize{tile} * space_.dim()));
    VX_TRY(keys_.resize(usize{tile} * k_));
    VX_TRY(sums_.resize(usize{k_} * space_.dim()));
    return counts_.resize(k_);
  }
  void begin() {
    memset(sums_.data(), 0, sums_.size() * 4);
    memset(counts_.data(), 0, counts_.size() * 4);
  }
  void add(const void *v) {
    memcpy(row(n_++), v, usize{4} * space_.dim());
    if (n_ == tile) flush();
  }
  void flush() {
    simd::Query q[tile];
    for (u32 j = 0; j < n_; j++) q[j] = space_.row_query(row(j), 0);
    space_.scan_many(q, n_, centroids_, usize{4} * space_.dim(), nullptr, k_, keys_.data(), k_);
    for (u32 j = 0; j < n_; j++) {
      const u32 c = least_key(keys_.data() + usize{j} * k_, k_);
      simd::add_to(sum(c), row(j), space_.dim());
      counts_[c]++;
    }
    n_ = 0;
  }
  u32 *sum(u32 c) { return sums_.data() + usize{c} * space_.dim(); }
  u32 &count(u32 c) { return counts_[c]; }

 private:
  u32 *row(u32 j) { return rows_.data() + usize{j} * space_.dim(); }
  const simd::Space &space_;
  const u32 k_;
  const void *centroids_;
  u32 n_ = 0;
  Vec<u32> rows_, keys_, sums_, counts_;  // f32 bits in the first and third
};

// New centroids from the sums; one that nothing is near to takes half of the fullest one.
Status update(Round &r, const simd::Space &space, u32 k, u8 *out) {
  const usize bytes = usize{4} * space.dim();
  const bool unit = space.metric() != simd::Metric::l2;
  u32 empty = 0;
  for (u32 c = 0; c < k; c++) {
    if (r.count(c)) simd::average(r.sum(c), r.count(c), unit, out + c * bytes, space.dim());
    empty += r.count(c) == 0;
    if (c % yield_every == 0) vx_yield();
  }
  if (!empty) return {};
  Vec<Entry> storage;  // fullest first, the first of equal ones
  VX_TRY(storage.resize(usize{k} + empty));
  MinHeap fullest;
  fullest.reset(storage.data(), static_cast<u32>(storage.size()));
  for (u32 c = 0; c < k; c++)
    if (r.count(c)) fullest.push(entry_of(~r.count(c), c));
  for (u32 c = 0; c < k; c++) {
    if (r.count(c)) continue;
    const u32 most = entry_slot(fullest.top());
    if (r.count(most) < 2) break;
    fullest.pop();
    simd::split(out + most * bytes, out + most * bytes, out + c * bytes, space.dim());
    r.count(c) = r.count(most) / 2;
    r.count(most) -= r.count(c);
    fullest.push(entry_of(~r.count(c), c));
    fullest.push(entry_of(~r.count(most), most));
    if (c % yield_every == 0) vx_yield();
  }
  return {};
}

}  // namespace
}  // namespace kmeans_impl

Status Lesson::breathe() {
  if (++since_breath < kmeans_impl::rows_per_breath) return {};
  since_breath = 0;
  if (interrupted && interrupted(ctx)) return Errno::intr;
  if (rows.pause) rows.pause(rows);
  vx_yield();
  return {};
}

Result<simd::Space> centroid_space(const simd::Space &space) {
  return simd::Space::make(simd::Element::f32, space.metric() == simd::Metric::l2 ? simd::Metric::l2 : simd::Metric::ip,
                           space.dim());
}

u32 least_key(const u32 *keys, u32 n) {
  u32 best = 0;
  for (u32 i = 1; i < n; i++)
    if (keys[i] < keys[best]) best = i;
  return best;
}

// One slot of each of `most` stretches of equal length; a dead one is replaced by the next live one of its stretch.
Status sample_slots(Lesson &lesson, u32 slots, u32 most, u64 seed, Vec<u32> *out) {
  const u32 n = min_of(slots, most);
  out->clear();
  VX_TRY(out->reserve(n));
  for (u32 i = 0; i < n; i++) {
    if (i % kmeans_impl::rows_per_breath == 0) VX_TRY(lesson.breathe());
    const u32 from = static_cast<u32>(u64{slots} * i / n), to = static_cast<u32>(u64{slots} * (i + 1) / n);
    const u32 start = static_cast<u32>(kmeans_impl::mix(seed ^ kmeans_impl::mix(i)) % (to - from));
    for (u32 j = 0; j < to - from; j++) {
      const u32 slot = from + (start + j) % (to - from);
      if (lesson.rows.dead(slot)) continue;
      VX_TRY(out->push(slot));
      break;
    }
  }
  return {};
}

Status kmeans(Lesson &lesson, const simd::Space &space, const u32 *slots, u32 n, u32 k, u64 seed, void *out) {
  VX_ASSERT(k >= 1 && n >= k);
  const usize bytes = usize{4} * space.dim();
  u8 *centroids = static_cast<u8 *>(out);
  Vec<u32> buf, start;
  VX_TRY(buf.resize(space.dim()));
  VX_TRY(start.reserve(k));
  // Evenly spread in the sample, which is itself in order of the slots: rows of one time are often alike.
  for (u32 c = 0; c < k; c++) {
    const u32 from = static_cast<u32>(u64{n} * c / k), to = static_cast<u32>(u64{n} * (c + 1) / k);
    VX_TRY(start.push(slots[from + kmeans_impl::mix(seed + c) % (to - from)]));
  }
  memset(out, 0, bytes * k);
  VX_TRY(each_sampled(lesson, start.data(), k, buf.data(), [&](u32 c, const void *v) -> Status {
    memcpy(centroids + c * bytes, v, bytes);
    if (space.metric() != simd::Metric::l2) simd::average(v, 1, true, centroids + c * bytes, space.dim());
    return {};
  }));
  kmeans_impl::Round round(space, k, out);
  VX_TRY(round.init());
  for (u32 r = 0; r < kmeans_impl::rounds; r++) {
    round.begin();
    VX_TRY(each_sampled(lesson, slots, n, buf.data(), [&](u32, const void *v) -> Status {
      round.add(v);
      return {};
    }));
    round.flush();
    VX_TRY(kmeans_impl::update(round, space, k, centroids));
    if (lesson.interrupted && lesson.interrupted(lesson.ctx)) return Errno::intr;
  }
  return {};
}

}  // namespace vexfs::vector
