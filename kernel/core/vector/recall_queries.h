// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Some of the queries that a collection was searched with, to measure its index by. In memory only, and for nobody to see.
#pragma once
#include "../base/lock.h"
#include "../base/memory.h"
#include "../simd/simd.h"
#include "chunk_cache.h"

namespace vexfs::vector {

// Different ones, as far as their checksums tell: each has one place, by its checksum, and a later one takes it. No search waits here: one
// that finds another at it is left out.
class QuerySample : Pinned {
 public:
  static constexpr u32 most = 256;
  static constexpr usize bytes_max = 512 << 10;  // of all
  QuerySample(const simd::Space &space, ChunkCache &cache);
  ~QuerySample() { forget(); }
  // wanted: looked at under the lock, so that nothing is kept once it was cleared and forget() has returned.
  void remember(const simd::Query *q, u32 n, const std::atomic<bool> &wanted);
  void forget();
  u32 places() const { return places_; }
  u32 count() const { return count_.load(std::memory_order_relaxed); }
  usize query_bytes() const { return stride_; }
  // Up to n of them, into queries[] and from `bytes` on, query_bytes() each. Returns how many.
  u32 copy(u32 n, u8 *bytes, simd::Query *queries);

 private:
  struct Place {
    u32 sum = 0;  // 0: empty
    u32 aux = 0;
    bool wide = false;
  };
  bool ready();
  void put(const simd::Query &q);
  usize bytes_of_query(bool wide) const { return wide ? usize{4} * space_.dim() : space_.row_bytes(); }

  const simd::Space space_;
  ChunkCache &cache_;
  const usize stride_;
  const u32 places_;
  std::atomic<u32> count_{0};
  Mutex lock_{"vexfs_recall_queries"};
  u8 *data_ = nullptr;
  Vec<Place> place_;
  u32 wait_ = 0;  // calls until memory is asked for again
};

}  // namespace vexfs::vector
