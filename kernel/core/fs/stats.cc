// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Printing of counters and latencies.
#include "stats.h"

namespace vexfs::fs {
namespace stats_impl {
namespace {

void line(TextSink &out, const char *name, u64 value) {
  char buf[96];
  Printer p(buf);
  p.str("fs_").str(name).ch(' ').dec(value).ch('\n');
  out(p.c_str(), p.length());
}

// Upper bound in ns of the bucket that holds the given fraction (in 1/1000) of the samples.
u64 quantile(const u64 (&h)[Stats::kBuckets], u64 total, u64 permille) {
  u64 seen = 0;
  for (u32 i = 0; i < Stats::kBuckets; i++) {
    seen += h[i];
    if (seen * 1000 >= total * permille) return u64{1} << (i + 7);
  }
  return u64{1} << (Stats::kBuckets + 6);
}

}  // namespace
}  // namespace stats_impl

const char *Stats::name(Op op) {
  static constexpr const char *kNames[kOpCount] = {
      "get",      "lookup",    "create",    "tmpfile",    "link",  "unlink",  "rename",   "readdir",    "readlink",
      "setattr",  "xattr_get", "xattr_set", "xattr_list", "map",   "reserve", "allocate", "write_done", "inline_write",
      "truncate", "fallocate", "clone",     "read",       "write", "commit",  "sync",     "erase"};
  return kNames[static_cast<u32>(op)];
}

void Stats::sample(Op op, u64 ns) {
  PerOp &o = ops[static_cast<u32>(op)];
  u32 log = static_cast<u32>(std::bit_width(ns));
  u32 bucket = log < 7 ? 0 : min_of<u32>(log - 7, kBuckets - 1);
  o.samples.fetch_add(1, std::memory_order_relaxed);
  o.sampled_ns.fetch_add(ns, std::memory_order_relaxed);
  o.histogram[bucket].fetch_add(1, std::memory_order_relaxed);
}

void Stats::print_counters(TextSink out) const {
  using stats_impl::line;
  for (u32 i = 0; i < kOpCount; i++) line(out, name(static_cast<Op>(i)), ops[i].calls.load(std::memory_order_relaxed));
  line(out, "content_changes", content_changes.load(std::memory_order_relaxed));
  line(out, "lazy_flushes", lazy_flushes.load(std::memory_order_relaxed));
  line(out, "orphans_recovered", orphans_recovered.load(std::memory_order_relaxed));
  line(out, "truncates_recovered", truncates_recovered.load(std::memory_order_relaxed));
  line(out, "hash_collisions", hash_collisions.load(std::memory_order_relaxed));
  line(out, "extents_merged", extents_merged.load(std::memory_order_relaxed));
  line(out, "extents_split", extents_split.load(std::memory_order_relaxed));
  line(out, "sum_mismatches", sum_mismatches.load(std::memory_order_relaxed));
  line(out, "write_done_ghosts", write_done_ghosts.load(std::memory_order_relaxed));
}

void Stats::print_performance(TextSink out) const {
  char buf[600];
  Printer p(buf);
  p.str("# operation calls samples mean_ns p50_below_ns p99_below_ns histogram(from 64 ns, doubling)\n");
  out(p.c_str(), p.length());
  for (u32 i = 0; i < kOpCount; i++) {
    u64 h[kBuckets], total = 0;
    for (u32 b = 0; b < kBuckets; b++) total += h[b] = ops[i].histogram[b].load(std::memory_order_relaxed);
    p.clear();
    p.str(name(static_cast<Op>(i))).ch(' ').dec(ops[i].calls.load(std::memory_order_relaxed)).ch(' ').dec(total);
    if (total) {
      p.ch(' ').dec(ops[i].sampled_ns.load(std::memory_order_relaxed) / total);
      p.ch(' ').dec(stats_impl::quantile(h, total, 500)).ch(' ').dec(stats_impl::quantile(h, total, 990));
      for (u64 n : h) p.ch(' ').dec(n);
    }
    p.ch('\n');
    out(p.c_str(), p.length());
  }
}

}  // namespace vexfs::fs
