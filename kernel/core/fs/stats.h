// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Counters and latency histograms of the file operations.
#pragma once
#include <atomic>
#include <bit>

#include "../base/printer.h"
#include "../platform.h"

namespace vexfs::fs {

enum class Op : u8 {
  get,
  lookup,
  create,
  tmpfile,
  link,
  unlink,
  rename,
  readdir,
  readlink,
  setattr,
  xattr_get,
  xattr_set,
  xattr_list,
  map,
  reserve,
  allocate,
  write_done,
  inline_write,
  truncate,
  fallocate,
  clone,
  read,
  write,
  commit,
  sync,
  erase,
  count_
};
inline constexpr u32 kOpCount = static_cast<u32>(Op::count_);

class Stats {
 public:
  // Every call is counted; the time of one in kSampleEvery is measured.
  static constexpr u32 kSampleEvery = 16;
  static constexpr u32 kBuckets = 24;  // bucket i: 2^(i+6) ns and more (64 ns .. 0.5 s), below 2^(i+7)

  struct alignas(64) PerOp {
    std::atomic<u64> calls{0}, samples{0}, sampled_ns{0};
    std::atomic<u64> histogram[kBuckets] = {};
  };
  PerOp ops[kOpCount];
  std::atomic<u64> content_changes{0}, lazy_flushes{0}, orphans_recovered{0}, truncates_recovered{0};
  std::atomic<u64> hash_collisions{0}, extents_merged{0}, extents_split{0}, write_done_ghosts{0};
  std::atomic<u64> sum_mismatches{0};

  void sample(Op op, u64 ns);
  void print_counters(TextSink out) const;     // "name value\n" lines
  void print_performance(TextSink out) const;  // a line per operation: calls, mean, median, 99 %, then the histogram
  static const char *name(Op op);
};

// Counts an operation, and measures some.
class Timed : Pinned {
 public:
  Timed(Stats &stats, Op op) : stats_(stats), op_(op) {
    u64 n = stats.ops[static_cast<u32>(op)].calls.fetch_add(1, std::memory_order_relaxed);
    if (n % Stats::kSampleEvery == 0) start_ = vx_clock_mono_ns();
  }
  ~Timed() {
    if (start_) stats_.sample(op_, vx_clock_mono_ns() - start_);
  }

 private:
  Stats &stats_;
  Op op_;
  u64 start_ = 0;
};

}  // namespace vexfs::fs
