// SPDX-License-Identifier: GPL-2.0-only OR MIT
// This room's part of the text in /proc/vexfs and /sys/fs/vexfs.
#include "stats.h"

#include "engine.h"

namespace vexfs::vector {
namespace stats_impl {
namespace {

void line(TextSink out, const char *name, u64 value) {
  char buf[128];
  Printer p(buf);
  p.str(name).ch(' ').dec(value).ch('\n');
  out(p.c_str(), p.length());
}
u64 value_of(const std::atomic<u64> &a) { return a.load(std::memory_order_relaxed); }

}  // namespace
}  // namespace stats_impl

void Histogram::print(TextSink out, const char *name) const {
  u64 total = 0;
  char buf[128];
  for (const auto &c : count) total += stats_impl::value_of(c);
  for (u32 i = 0; i < buckets; i++) {
    u64 n = stats_impl::value_of(count[i]);
    if (!n) continue;
    Printer p(buf);
    p.str(name).str("_ns_below_").dec(u64{2} << i);
    stats_impl::line(out, p.c_str(), n);
  }
  u64 seen = 0, p50 = 0, p99 = 0;
  for (u32 i = 0; i < buckets && total; i++) {
    seen += stats_impl::value_of(count[i]);
    if (!p50 && seen * 2 >= total) p50 = u64{2} << i;
    if (!p99 && seen * 100 >= total * 99) p99 = u64{2} << i;
  }
  struct Row {
    const char *what;
    u64 value;
  } const rows[] = {{"_count", total}, {"_ns_p50", p50}, {"_ns_p99", p99}};
  for (const Row &r : rows) {
    Printer p(buf);
    p.str(name).str(r.what);
    stats_impl::line(out, p.c_str(), r.value);
  }
}

bool Engine::print(const char *what, TextSink out) {
  auto is = [&](const char *s) {
    const char *w = what;
    while (*w && *w == *s) w++, s++;
    return *w == *s;
  };
  if (is("stats")) {
    stats_impl::line(out, "vector_searches", stats_impl::value_of(stats_.queries));
    stats_impl::line(out, "vector_search_ns", stats_impl::value_of(stats_.search_ns));
    stats_impl::line(out, "vector_distances", stats_impl::value_of(stats_.distances));
    stats_impl::line(out, "vector_hops", stats_impl::value_of(stats_.hops));
    stats_impl::line(out, "vector_scanned", stats_impl::value_of(stats_.scanned));
    stats_impl::line(out, "vector_past_searches", stats_impl::value_of(stats_.past_searches));
    stats_impl::line(out, "vector_exact_fallbacks", stats_impl::value_of(stats_.exact_fallbacks));
    stats_impl::line(out, "vector_inserts", stats_impl::value_of(stats_.inserts));
    stats_impl::line(out, "vector_insert_ns", stats_impl::value_of(stats_.insert_ns));
    stats_impl::line(out, "vector_deletes", stats_impl::value_of(stats_.deletes));
    stats_impl::line(out, "vector_owners_gone", stats_impl::value_of(stats_.owners_gone));
    stats_impl::line(out, "vector_indexed", stats_impl::value_of(stats_.indexed));
    stats_impl::line(out, "vector_checkpoints", stats_impl::value_of(stats_.checkpoints));
    stats_impl::line(out, "vector_checkpoint_ns", stats_impl::value_of(stats_.checkpoint_ns));
    stats_impl::line(out, "vector_index_dropped", stats_impl::value_of(stats_.index_dropped));
    return true;
  }
  if (is("performance")) {
    stats_.search_latency.print(out, "vector_search");
    stats_.insert_latency.print(out, "vector_insert");
    return true;
  }
  if (is("cache")) {
    stats_impl::line(out, "vector_resident_bytes", cache_.resident());
    stats_impl::line(out, "vector_index_bytes", cache_.external());
    stats_impl::line(out, "vector_limit_bytes", cache_.limit());
    stats_impl::line(out, "vector_rows_limit_bytes", cache_.rows_limit());
    stats_impl::line(out, "vector_chunk_loads", stats_impl::value_of(cache_.loads));
    stats_impl::line(out, "vector_chunk_evictions", stats_impl::value_of(cache_.evictions));
    stats_impl::line(out, "vector_index_evictions", stats_impl::value_of(cache_.index_evictions));
    stats_impl::line(out, "vector_index_reopens", stats_impl::value_of(cache_.index_reopens));
    stats_impl::line(out, "vector_row_reads", stats_impl::value_of(cache_.row_reads));
    stats_impl::line(out, "vector_row_read_bytes", stats_impl::value_of(cache_.row_read_bytes));
    stats_impl::line(out, "vector_chunk_rescues", stats_impl::value_of(cache_.rescues));
    stats_impl::line(out, "vector_damaged_rows", stats_impl::value_of(cache_.damaged_rows));
    return true;
  }
  if (is("simd")) {
    out("level ", 6);
    const char *name = simd::level_name(simd::level());
    usize n = 0;
    while (name[n]) n++;
    out(name, n);
    out("\n", 1);
    stats_impl::line(out, "width_bits", simd::level_width_bits(simd::level()));
    stats_impl::line(out, "distances", stats_impl::value_of(stats_.distances));
    return true;
  }
  return false;
}

}  // namespace vexfs::vector
