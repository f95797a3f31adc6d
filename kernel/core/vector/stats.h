// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Figures of the vector room: counters and latency histograms.
#pragma once
#include <atomic>

#include "../base/printer.h"

namespace vexfs::vector {

// Counts of durations by powers of two: bucket i holds durations of 2^i .. 2^(i+1)-1 ns (bucket 0: also 0).
struct Histogram {
  static constexpr u32 buckets = 40;
  std::atomic<u64> count[buckets] = {};
  void add(u64 ns) {
    count[ns < 2 ? 0 : min_of<u32>(63 - static_cast<u32>(__builtin_clzll(ns)), buckets - 1)].fetch_add(
        1, std::memory_order_relaxed);
  }
  // Lines "name_ns_lt_2_to_N count" for the buckets in use, then count, p50 and p99 (upper ends of their buckets).
  void print(TextSink out, const char *name) const;
};

struct VectorStats {
  std::atomic<u64> searches{0}, queries{0}, search_ns{0}, distances{0}, hops{0}, scanned{0}, exact_fallbacks{0};
  std::atomic<u64> past_searches{0};  // of a snapshot, by way of the live index
  std::atomic<u64> inserts{0}, insert_ns{0}, deletes{0}, owners_gone{0};
  std::atomic<u64> indexed{0}, checkpoints{0}, checkpoint_ns{0}, index_dropped{0};
  Histogram search_latency, insert_latency;
};

}  // namespace vexfs::vector
