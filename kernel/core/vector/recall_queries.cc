// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Keeping some queries, and handing out copies.
#include "recall_queries.h"

namespace vexfs::vector {
namespace recall_queries_impl {
namespace {

constexpr u32 full_share = 4;    // with all but this part of the places taken, only some new ones are looked at:
constexpr u32 sampled_bits = 3;  // one in 8
constexpr u32 calls_waited = 256;

u32 checksum(const void *p, usize n) { return max_of<u32>(vx_crc32c(~u32{0}, p, n), 1); }

}  // namespace
}  // namespace recall_queries_impl

QuerySample::QuerySample(const simd::Space &space, ChunkCache &cache)
    : space_(space),
      cache_(cache),
      stride_(align_up<usize>(max_of(space.query_bytes(), space.row_bytes()), 16)),
      places_(static_cast<u32>(min_of<usize>(most, bytes_max / stride_))) {}

bool QuerySample::ready() {
  if (data_) return true;
  if (wait_ && --wait_) return false;
  wait_ = recall_queries_impl::calls_waited;
  if (!place_.resize(places_).ok()) return false;
  data_ = static_cast<u8 *>(vx_alloc_large(places_ * stride_, VX_ALLOC_ACCOUNT));
  if (!data_) return false;
  wait_ = 0;
  cache_.set_external(static_cast<s64>(places_ * stride_));
  return true;
}

void QuerySample::put(const simd::Query &q) {
  using namespace recall_queries_impl;
  const usize n = bytes_of_query(q.wide);
  const u32 sum = checksum(q.data, n), held = count_.load(std::memory_order_relaxed);
  if (held >= places_ - places_ / full_share && sum >> (32 - sampled_bits)) return;
  const u32 at = static_cast<u32>((u64{sum * 0x9e3779b1u} * places_) >> 32);
  Place &p = place_[at];
  if (p.sum == sum) return;
  if (!p.sum) count_.store(held + 1, std::memory_order_relaxed);
  p = {.sum = sum, .aux = q.aux, .wide = q.wide};
  memcpy(data_ + at * stride_, q.data, n);
}

void QuerySample::remember(const simd::Query *q, u32 n, const std::atomic<bool> &wanted) {
  if (!lock_.try_lock()) return;
  if (wanted.load(std::memory_order_relaxed) && ready())
    for (u32 i = 0; i < n; i++) put(q[i]);
  lock_.unlock();
}

void QuerySample::forget() {
  Guard g(lock_);
  if (!data_) return;
  vx_free_large(data_, places_ * stride_);
  data_ = nullptr;
  cache_.set_external(-static_cast<s64>(places_ * stride_));
  place_ = {};
  count_.store(0, std::memory_order_relaxed);
}

u32 QuerySample::copy(u32 n, u8 *bytes, simd::Query *queries) {
  Guard g(lock_);
  u32 copied = 0;
  for (u32 i = 0; data_ && i < places_ && copied < n; i++) {
    const Place &p = place_[i];
    if (!p.sum) continue;
    u8 *to = bytes + copied * stride_;
    memcpy(to, data_ + i * stride_, bytes_of_query(p.wide));
    queries[copied++] = {.data = to, .aux = p.aux, .wide = p.wide};
  }
  return copied;
}

}  // namespace vexfs::vector
