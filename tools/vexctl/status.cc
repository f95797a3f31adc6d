// SPDX-License-Identifier: MIT
// vexctl stats | status
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "context.h"

namespace vexfs::vexctl {
namespace {

struct Options {
  std::string path;
  uint64_t collection = 0;
  bool all = false;
};

json to_json(const vexfs_stats &s) {
  json j;
  j["rows"] = s.rows;
  j["dead"] = s.dead;
  j["slots"] = s.slots;
  j["raw_bytes"] = s.raw_bytes;
  j["table_bytes"] = s.table_bytes;
  j["index_bytes"] = s.index_bytes;
  j["overhead"] = s.raw_bytes ? static_cast<double>(s.table_bytes) / static_cast<double>(s.raw_bytes) - 1 : 0;
  j["resident_bytes"] = s.resident_bytes;
  j["index_memory_bytes"] = s.index_memory_bytes;
  j["resident_limit_bytes"] = s.resident_limit_bytes;
  j["searches"] = s.searches;
  j["search_ns"] = s.search_ns;
  j["distances"] = s.distances;
  j["hops"] = s.hops;
  j["inserts"] = s.inserts;
  j["insert_ns"] = s.insert_ns;
  j["deletes"] = s.deletes;
  j["chunk_loads"] = s.chunk_loads;
  j["chunk_evictions"] = s.chunk_evictions;
  j["index_evictions"] = s.index_evictions;
  j["index_reopens"] = s.index_reopens;
  j["row_reads"] = s.row_reads;
  j["row_read_bytes"] = s.row_read_bytes;
  j["simd"] = client::simd_name(s.simd_level);
  j["abi_version"] = s.abi_version;
  return j;
}

std::string each_us(uint64_t ns, uint64_t n) {
  return n ? fixed(static_cast<double>(ns) / static_cast<double>(n) / 1e3, 1) + " us each" : "-";
}

void stats(Context &ctx, const Options &o) {
  auto t = ctx.open(o.path, Access::read);
  const uint64_t id = o.all ? ~uint64_t{0} : client::collection_info(*t, o.collection).id;
  const vexfs_stats s = client::stats(*t, id);
  if (ctx.as_json) {
    json j = to_json(s);
    if (!o.all) j["collection"] = id;
    return ctx.print(j);
  }
  ctx.say(o.all ? "all collections" : "collection       " + std::to_string(id));
  ctx.say("rows             " + human_count(s.rows) + " live, " + human_count(s.dead) + " dead, " +
          human_count(s.slots) + " slots");
  std::string over;
  if (s.raw_bytes)
    over = " (" + fixed(100.0 * (static_cast<double>(s.table_bytes) / static_cast<double>(s.raw_bytes) - 1), 1) +
           " % over raw)";
  ctx.say("vector data      " + human_bytes(s.raw_bytes) + " raw, table " + human_bytes(s.table_bytes) + " on disk" +
          over);
  ctx.say("index            " + human_bytes(s.index_bytes) + " on disk, " + human_bytes(s.index_memory_bytes) +
          " in memory");
  ctx.say("rows in memory   " + human_bytes(s.resident_bytes) + ", with indexes at most " +
          human_bytes(s.resident_limit_bytes));
  ctx.say("since the mount  " + human_count(s.chunk_loads) + " chunks loaded, " + human_count(s.chunk_evictions) +
          " given back; " + human_count(s.index_evictions) + " indexes let go of, " + human_count(s.index_reopens) +
          " reopened; " + human_count(s.row_reads) + " single rows read (" + human_bytes(s.row_read_bytes) + ")");
  ctx.say("searches         " + human_count(s.searches) + ", " + each_us(s.search_ns, s.searches) + ", " +
          human_count(s.distances) + " distances, " + human_count(s.hops) + " hops");
  ctx.say("inserts          " + human_count(s.inserts) + ", " + each_us(s.insert_ns, s.inserts));
  ctx.say("deletes          " + human_count(s.deletes));
  ctx.say(std::string("SIMD             ") + client::simd_name(s.simd_level));
}

std::string first_line(const std::string &file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

json space_json(const client::Space &s) {
  return json{{"block_size", s.block_size},
              {"bytes", s.blocks * s.block_size},
              {"bytes_free", s.blocks_free * s.block_size},
              {"bytes_available", s.blocks_available * s.block_size},
              {"inodes_used", s.inodes_used}};
}

void say_space(const Context &ctx, const client::Space &s) {
  const uint64_t total = s.blocks * s.block_size;
  const uint64_t used = (s.blocks - std::min(s.blocks_free, s.blocks)) * s.block_size;
  const double share = total ? 100.0 * static_cast<double>(used) / static_cast<double>(total) : 0;
  ctx.say("space        " + human_bytes(used) + " of " + human_bytes(total) + " used (" + fixed(share, 1) + " %), " +
          human_bytes(s.blocks_available * s.block_size) + " available, " + human_count(s.inodes_used) + " inodes");
}

// One mount or image; also the collections in it.
json status_of(Context &ctx, const std::string &path) {
  auto t = ctx.open(path, Access::read);
  json j;
  if (ctx.image.empty()) {
    const client::MountInfo m = client::find_mount(t->path());
    j["mount"] = m.point;
    j["device"] = m.source;
    j["options"] = m.options;
    ctx.say("mount        " + m.source + " on " + m.point + " (" + m.options + ")");
  } else {
    j["image"] = ctx.image;
    ctx.say("image        " + ctx.image);
  }
  const client::Space space = ctx.place(Access::read).space(*t);
  j["space"] = space_json(space);
  say_space(ctx, space);
  const vexfs_stats s = client::stats(*t, ~uint64_t{0});
  const size_t collections = client::collection_list(*t).size();
  j["collections"] = collections;
  j["vectors"] = s.rows;
  j["resident_bytes"] = s.resident_bytes;
  j["index_memory_bytes"] = s.index_memory_bytes;
  j["resident_limit_bytes"] = s.resident_limit_bytes;
  j["simd"] = client::simd_name(s.simd_level);
  j["abi_version"] = s.abi_version;
  ctx.say("vectors      " + human_count(s.rows) + " in " + human_count(collections) + " collection(s)");
  ctx.say("in memory    " + human_bytes(s.resident_bytes) + " of rows, " + human_bytes(s.index_memory_bytes) +
          " of indexes, at most " + human_bytes(s.resident_limit_bytes));
  ctx.say(std::string("SIMD         ") + client::simd_name(s.simd_level));
  return j;
}

// Without a path, and not inside a VexFS: all that are mounted.
std::vector<std::string> all_mounts() {
  std::vector<std::string> points;
  std::ifstream table("/proc/mounts");
  for (std::string line; std::getline(table, line);) {
    std::istringstream in(line);
    std::string source, point, type;
    if (in >> source >> point >> type && type == "vexfs") points.push_back(point);
  }
  return points;
}

void status(Context &ctx, const Options &o) {
  json j;
  if (ctx.image.empty()) {
    const bool loaded = std::filesystem::exists("/sys/module/vexfs") || std::filesystem::exists("/proc/vexfs");
    const std::string version = first_line("/sys/module/vexfs/version");
    j["tool_version"] = vx_core_version();
    j["module_loaded"] = loaded;
    j["module_version"] = version;
    std::ifstream simd("/proc/vexfs/simd_stats");
    j["simd_stats"] = std::string(std::istreambuf_iterator<char>(simd), {});
    ctx.say("module       " + (!loaded ? "not loaded" : version.empty() ? "loaded" : "version " + version));
  } else {
    j["tool_version"] = vx_core_version();
  }
  std::vector<std::string> where{o.path};
  if (o.path.empty() && ctx.image.empty()) {
    try {
      client::find_mount(".");
    } catch (const client::Error &) {
      where = all_mounts();
    }
  }
  json list = json::array();
  for (const auto &w : where) list.push_back(status_of(ctx, w));
  if (where.empty()) {
    ctx.say("no VexFS is mounted");
    ctx.result = exit_not_found;
  }
  j["filesystems"] = std::move(list);
  if (ctx.as_json) ctx.print(j);
}

}  // namespace

void add_status_commands(CLI::App &app, Context &ctx) {
  auto o = std::make_shared<Options>();
  CLI::App *c = app.add_subcommand("stats", "Counters of a collection or of all");
  c->add_option("PATH", o->path, "the collection's directory, or anything below");
  c->add_option("--collection", o->collection, "id of the collection, instead of the one of PATH")
      ->check(unsigned_number());
  c->add_flag("-a,--all", o->all, "the whole filesystem");
  c->callback([&ctx, o] { stats(ctx, *o); });
  c = app.add_subcommand("status", "Mounts, versions, SIMD level, space");
  c->add_option("PATH", o->path, "anything in the filesystem (default: here, or all that are mounted)");
  c->callback([&ctx, o] { status(ctx, *o); });
}

}  // namespace vexfs::vexctl
