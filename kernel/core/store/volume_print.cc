// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Volume: counters, space and cache as "name value" lines (for /proc, /sys and vexctl).
#include "state.h"
#include "volume.h"

namespace vexfs::store {

namespace volume_print_impl {
namespace {
void line(TextSink out, const char *name, u64 v) {
  char buf[80];
  Printer p(buf);
  p.str(name).ch(' ').dec(v).ch('\n');
  out(p.c_str(), p.length());
}
}  // namespace
}  // namespace volume_print_impl

void Volume::print_stats(TextSink out) const {
  const Counters &c = s_->counters;
  struct Entry {
    const char *name;
    const Counters::C &value;
  } const all[] = {
      {"commits", c.commits},
      {"commits_empty", c.commits_empty},
      {"commits_forced", c.commits_forced},
      {"commit_ns", c.commit_ns},
      {"freeze_ns", c.freeze_ns},
      {"syncs", c.syncs},
      {"syncs_shared", c.syncs_shared},
      {"syncs_committed", c.syncs_committed},
      {"log_groups", c.log_groups},
      {"log_bytes", c.log_bytes},
      {"log_overflows", c.log_overflows},
      {"log_replayed", c.log_replayed},
      {"handles", c.handles},
      {"handle_waits", c.handle_waits},
      {"nodes_read", c.nodes_read},
      {"nodes_written", c.nodes_written},
      {"read_errors", c.read_errors},
      {"corrupt_nodes", c.corrupt_nodes},
      {"mirror_reads", c.mirror_reads},
      {"nodes_cured", c.nodes_cured},
      {"restarts", c.restarts},
      {"escalations", c.escalations},
      {"splits", c.splits},
      {"merges", c.merges},
      {"rebalances", c.rebalances},
      {"compactions", c.compactions},
      {"node_copies", c.node_copies},
      {"nodes_readdressed", c.readdressed},
      {"root_grows", c.root_grows},
      {"root_shrinks", c.root_shrinks},
      {"inserts", c.inserts},
      {"updates", c.updates},
      {"erases", c.erases},
      {"lookups", c.lookups},
      {"scans", c.scans},
      {"allocs", c.allocs},
      {"alloc_blocks", c.alloc_blocks},
      {"alloc_scans", c.alloc_scans},
      {"frees", c.frees},
      {"free_blocks", c.free_blocks},
      {"bitmaps_read", c.bitmaps_read},
      {"bitmaps_written", c.bitmaps_written},
      {"nospc", c.nospc},
      {"memory_waits", c.memory_waits},
  };
  for (const Entry &e : all) volume_print_impl::line(out, e.name, e.value.load(std::memory_order_relaxed));
  volume_print_impl::line(out, "txn_open", open_txn());
  volume_print_impl::line(out, "txn_durable", durable_txn());
  volume_print_impl::line(out, "log_used_blocks", s_->log.used_blocks());
}

void Volume::print_space(TextSink out) const {
  SpaceInfo i = space();
  volume_print_impl::line(out, "block_size", block_size());
  volume_print_impl::line(out, "blocks_total", i.total);
  volume_print_impl::line(out, "blocks_free", i.free);
  volume_print_impl::line(out, "blocks_avail", i.avail);
  volume_print_impl::line(out, "blocks_promised", i.reserved);
  volume_print_impl::line(out, "blocks_meta", i.meta);
  volume_print_impl::line(out, "blocks_pinned", i.pinned);
  volume_print_impl::line(out, "groups", group_count());
  volume_print_impl::line(out, "group_blocks", group_blocks());
  volume_print_impl::line(out, "bitmaps_loaded", s_->alloc.loaded_bitmaps());
}

void Volume::print_cache(TextSink out) const {
  const Counters &c = s_->counters;
  volume_print_impl::line(out, "node_size", node_size());
  volume_print_impl::line(out, "nodes", s_->cache.count());
  volume_print_impl::line(out, "nodes_max", s_->cache.max_count());
  volume_print_impl::line(out, "nodes_dirty", s_->dirty_count.load(std::memory_order_relaxed));
  volume_print_impl::line(out, "descents",
                          c.lookups.load(std::memory_order_relaxed) + c.scans.load(std::memory_order_relaxed));
  volume_print_impl::line(out, "misses", c.cache_misses.load(std::memory_order_relaxed));
  volume_print_impl::line(out, "evictions", c.cache_evictions.load(std::memory_order_relaxed));
}

}  // namespace vexfs::store
