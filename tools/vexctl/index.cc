// SPDX-License-Identifier: MIT
// vexctl index build | rebuild | status | drop | checkpoint
#include <atomic>
#include <chrono>
#include <thread>

#include "kinds.h"

namespace vexfs::vexctl {
namespace {

struct Options {
  std::string path, kind;
  uint64_t collection = 0;
  uint32_t m = 0, ef_construction = 0, ef_search = 0, threads = 0;
  double recall = 0;
  KindOptions shape;
};

const char *recall_by_name(uint16_t by) {
  static constexpr std::array<const char *, 4> names{"nothing", "new rows", "rows", "queries"};
  return by < names.size() ? names[by] : "?";
}

// How a recall is reached, and how that is known.
std::string recall_line(const vexfs_index &i) {
  std::string s = recall_text(i.recall) + " of the nearest 10 by ";
  s += i.recall_ef ? "ef " + std::to_string(i.recall_ef) : std::string("an exact scan");
  if (!i.recall_slots) return s + ", not measured yet";
  return s + ", measured " + recall_text(i.recall_measured) + " with " + std::to_string(i.recall_queries) + " " +
         recall_by_name(i.recall_by) + " at " + human_count(i.recall_slots) + " slots";
}

void print(const Context &ctx, const vexfs_index &i, uint64_t collection) {
  if (ctx.as_json) {
    json j;
    j["collection"] = collection;
    j["kind"] = client::index_name(i.kind);
    j["m"] = i.m;
    j["ef_construction"] = i.ef_construction;
    j["ef_search"] = i.ef_search;
    kind_json(j, i);
    j["rows"] = i.rows;
    j["indexed"] = i.indexed;
    j["dead"] = i.dead;
    j["memory_bytes"] = i.memory_bytes;
    j["checkpoint_slots"] = i.checkpoint_slots;
    j["checkpoint_bytes"] = i.checkpoint_bytes;
    j["max_level"] = i.max_level;
    j["codes_used"] = codes_text(i.codes_used);
    j["lists_used"] = i.lists_used;
    j["pq_m_used"] = i.pq_m_used;
    j["tables_used"] = i.tables_used;
    j["bits_used"] = i.bits_used;
    j["recall"] = recall_of(i.recall);
    j["recall_ef"] = i.recall_ef;
    j["recall_measured"] = recall_of(i.recall_measured);
    j["recall_slots"] = i.recall_slots;
    j["recall_queries"] = i.recall_queries;
    j["recall_by"] = recall_by_name(i.recall_by);
    return ctx.print(j);
  }
  const Used used{
      .lists = i.lists_used, .pq_m = i.pq_m_used, .tables = i.tables_used, .bits = i.bits_used, .codes = i.codes_used};
  ctx.say("index        " + kind_text(i.kind, i, used) +
          (i.kind == VEXFS_INDEX_HNSW ? ", levels 0.." + std::to_string(i.max_level) : ""));
  ctx.say("rows         " + human_count(i.rows) + ", of these indexed " + human_count(i.indexed));
  ctx.say("dead         " + human_count(i.dead) + " still in the index");
  ctx.say("memory       " + human_bytes(i.memory_bytes));
  ctx.say("checkpoint   " + human_count(i.checkpoint_slots) + " slots, " + human_bytes(i.checkpoint_bytes) +
          " on disk");
  if (i.recall) ctx.say("recall       " + recall_line(i));
}

vexfs_index status_of(client::Target &t, uint64_t collection, uint16_t recall = 0) {
  vexfs_index i{};
  i.recall = recall;
  i.collection = collection;
  i.op = VEXFS_INDEX_STATUS;
  return client::index_command(t, i);
}

// Runs the command while another thread shows how far it is.
void run_with_progress(Context &ctx, client::Target &t, const vexfs_index &command, uint64_t collection,
                       const char *what) {
  const uint64_t total = status_of(t, collection).rows;
  std::atomic<bool> done{false};
  std::thread watcher([&] {
    Progress bar(ctx, what, total);
    while (!done) {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      try {
        bar.at(status_of(t, collection).indexed);
      } catch (const client::Error &) {
        return;  // the command itself will say what is wrong
      }
    }
  });
  std::exception_ptr failure;
  try {
    client::index_command(t, command);
  } catch (...) {
    failure = std::current_exception();
  }
  done = true;
  watcher.join();
  if (failure) std::rethrow_exception(failure);
}

// A flat collection does not remember what it was.
std::string after_drop(uint16_t kind) {
  const std::string was = client::index_name(kind);
  std::string s = "It was " + was + ". 'index build' makes hnsw";
  return s + (kind == VEXFS_INDEX_HNSW ? " again, 'index build --kind KIND' another"
                                       : ", 'index build --kind " + was + "' this one again");
}

void manage(Context &ctx, const Options &o, vexfs_index_op op) {
  auto t = ctx.open(o.path, op == VEXFS_INDEX_STATUS ? Access::read : Access::write);
  const vexfs_collection c = client::collection_info(*t, o.collection);
  vexfs_index i{};
  i.collection = c.id;
  i.op = static_cast<uint16_t>(op);
  if (!o.kind.empty()) {
    const auto kind = client::index_from(o.kind);
    if (!kind) throw Usage("unknown index '" + o.kind + "' (known: " + client::index_names() + ")");
    i.kind = *kind;
  }
  i.m = static_cast<uint16_t>(o.m);
  i.ef_construction = o.ef_construction;
  i.ef_search = o.ef_search;
  i.threads = static_cast<uint16_t>(o.threads);
  o.shape.put(i);
  if (op == VEXFS_INDEX_BUILD || op == VEXFS_INDEX_REBUILD) {
    const uint64_t begin = now_ns();
    run_with_progress(ctx, *t, i, c.id, op == VEXFS_INDEX_BUILD ? "build" : "rebuild");
    ctx.say("done in " + fixed(static_cast<double>(now_ns() - begin) / 1e9, 2) + " s");
  } else if (op != VEXFS_INDEX_STATUS) {
    client::index_command(*t, i);
  }
  const vexfs_index now = status_of(*t, c.id, per_mille(o.recall));
  print(ctx, now, c.id);
  if (op == VEXFS_INDEX_DROP && c.index != VEXFS_INDEX_FLAT) ctx.say(after_drop(c.index));
  if (i.op != VEXFS_INDEX_STATUS && i.op != VEXFS_INDEX_DROP && now.rows && !now.indexed && now.kind >= VEXFS_INDEX_LSH)
    ctx.say(
        "No row is indexed: there are too few to learn from for such an index. Searches scan them until there are "
        "more.");
  if (const std::string idle = idle_text(now.kind, i); !idle.empty()) ctx.warn(idle);
}

}  // namespace

void add_index_commands(CLI::App &app, Context &ctx) {
  auto o = std::make_shared<Options>();
  CLI::App *group = app.add_subcommand("index", "Build, show and drop indexes");
  group->require_subcommand(1);
  auto add = [&](const char *name, const char *help, vexfs_index_op op, bool shape) {
    CLI::App *c = group->add_subcommand(name, help);
    c->add_option("PATH", o->path, "the collection's directory, or anything below");
    c->add_option("--collection", o->collection, "id of the collection, instead of the one of PATH")
        ->check(unsigned_number());
    if (shape) {
      if (op == VEXFS_INDEX_BUILD)
        c->add_option("--kind", o->kind, "change to this kind first: " + client::index_names());
      c->add_option("-M,--links", o->m, "HNSW, DiskANN: links per row, 0 = as it is")->check(CLI::Range(0, 128));
      c->add_option("--ef-construction", o->ef_construction, "HNSW, DiskANN: width while building, 0 = as it is")
          ->check(CLI::Range(0, VEXFS_EF_MAX));
      c->add_option("--ef-search", o->ef_search, "default breadth of searches, 0 = as it is")
          ->check(CLI::Range(0, VEXFS_EF_MAX));
      o->shape.add_to(c, "as it is");
      c->add_option("-t,--threads", o->threads, "threads that build, 0 = one")->check(CLI::Range(0, 1024));
    }
    if (op == VEXFS_INDEX_STATUS)
      c->add_option("--recall", o->recall, "what this recall takes, instead of the collection's")
          ->check(CLI::Range(0.0, 1.0));
    c->callback([&ctx, o, op] { manage(ctx, *o, op); });
  };
  add("build", "Index what is not indexed yet; a flat collection gets HNSW", VEXFS_INDEX_BUILD, true);
  add("rebuild", "Build from nothing; dead rows leave the index", VEXFS_INDEX_REBUILD, true);
  add("status", "What the index is and how much it covers", VEXFS_INDEX_STATUS, false);
  add("drop", "Back to exact scans", VEXFS_INDEX_DROP, false);
  add("checkpoint", "Write the index to disk now", VEXFS_INDEX_CHECKPOINT, false);
}

}  // namespace vexfs::vexctl
