// SPDX-License-Identifier: MIT
// vexctl collection create | list | info | alter | drop
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <iostream>

#include "kinds.h"

namespace vexfs::vexctl {
namespace {

struct Options {
  std::string path;
  uint64_t id = 0;
  uint32_t dim = 0;
  std::string element = "f32", metric = "l2", index = "hnsw";
  uint32_t m = 0, ef_construction = 0, ef_search = 0;
  double recall = 0;
  KindOptions kind;
  std::string name, model;
  bool make_directory = false, yes = false, compact = false, resident = false;
};

uint16_t need(std::optional<uint16_t> v, const std::string &what, const std::string &given, const std::string &known) {
  if (!v) throw Usage("unknown " + what + " '" + given + "' (known: " + known + ")");
  return *v;
}

void copy_text(char *to, size_t cap, const std::string &from, const char *what) {
  if (from.size() >= cap) throw Usage(std::string(what) + ": at most " + std::to_string(cap - 1) + " bytes");
  memcpy(to, from.c_str(), from.size() + 1);
}

std::string text_of(const char *s, size_t cap) { return std::string(s, strnlen(s, cap)); }

json to_json(const vexfs_collection &c, const std::string &path) {
  json j;
  j["id"] = c.id;
  j["path"] = path;
  j["dir_ino"] = c.dir_ino;
  j["dim"] = c.dim;
  j["element"] = client::element_name(c.element);
  j["metric"] = client::metric_name(c.metric);
  j["index"] = client::index_name(c.index);
  j["m"] = c.m;
  j["ef_construction"] = c.ef_construction;
  j["ef_search"] = c.ef_search;
  j["recall"] = recall_of(c.recall);
  kind_json(j, c);
  j["compact"] = (c.flags & VEXFS_COLLECTION_COMPACT) != 0;
  j["rows"] = c.rows;
  j["slots"] = c.slots;
  j["created_sec"] = c.created_sec;
  j["name"] = text_of(c.name, sizeof c.name);
  j["model"] = text_of(c.model, sizeof c.model);
  return j;
}

void print(const Context &ctx, const vexfs_collection &c, const std::string &path) {
  if (ctx.as_json) return ctx.print(to_json(c, path));
  ctx.say("collection   " + std::to_string(c.id) + (c.name[0] ? " '" + text_of(c.name, sizeof c.name) + "'" : ""));
  ctx.say("directory    " + (path.empty() ? "inode " + std::to_string(c.dir_ino) : path));
  ctx.say("vectors      " + std::to_string(c.dim) + " x " + client::element_name(c.element) + ", metric " +
          client::metric_name(c.metric) + (c.flags & VEXFS_COLLECTION_COMPACT ? ", compact" : ""));
  std::string index = kind_text(c.index, c);
  if (c.recall) index += ", recall " + recall_text(c.recall);
  ctx.say("index        " + index);
  ctx.say("rows         " + human_count(c.rows) + " live, " + human_count(c.slots - std::min(c.rows, c.slots)) +
          " dead");
  if (c.model[0]) ctx.say("model        " + text_of(c.model, sizeof c.model));
  ctx.say("created      " + human_time(static_cast<int64_t>(c.created_sec)));
}

void make_directory(Context &ctx, const std::string &path) {
  if (!ctx.image.empty()) return ctx.image_place(Access::write).make(path, true, true);
  std::error_code ec;
  std::filesystem::create_directories(path, ec);
  if (ec) throw client::Error(ec.value(), path + ": " + ec.message());
}

void create(Context &ctx, const Options &o) {
  vexfs_collection c{};
  c.dim = o.dim;
  c.element = need(client::element_from(o.element), "element type", o.element, client::element_names());
  c.metric = need(client::metric_from(o.metric), "metric", o.metric, client::metric_names());
  c.index = need(client::index_from(o.index), "index", o.index, client::index_names());
  c.m = static_cast<uint16_t>(o.m);
  c.ef_construction = o.ef_construction;
  c.ef_search = o.ef_search;
  c.recall = per_mille(o.recall);
  o.kind.put(c);
  if (c.pq_m > c.dim) throw Usage("--pq-m: at most one code for each of the " + std::to_string(c.dim) + " dimensions");
  if (o.compact) c.flags |= VEXFS_COLLECTION_COMPACT;
  copy_text(c.name, sizeof c.name, o.name, "--name");
  copy_text(c.model, sizeof c.model, o.model, "--model");
  if (o.make_directory) make_directory(ctx, o.path);
  auto t = ctx.open(o.path, Access::write);
  client::collection_create(*t, c);
  print(ctx, client::collection_info(*t), t->path());
  if (const std::string idle = idle_text(c.index, c); !idle.empty()) ctx.warn(idle);
}

void list(Context &ctx, const Options &o) {
  auto t = ctx.open(o.path, Access::read);
  const auto all = client::collection_list(*t);
  json j = json::array();
  Table table({"ID", "DIM", "TYPE", "METRIC", "INDEX", "ROWS", "DIRECTORY"});
  for (const auto &c : all) {
    const std::string path = ctx.place(Access::read).path_of(c.dir_ino, 0, *t);
    j.push_back(to_json(c, path));
    table.row({std::to_string(c.id), std::to_string(c.dim), client::element_name(c.element),
               client::metric_name(c.metric), client::index_name(c.index), std::to_string(c.rows),
               path.empty() ? "(inode " + std::to_string(c.dir_ino) + ")" : path});
  }
  if (ctx.as_json) return ctx.print(j);
  if (all.empty()) return ctx.say("no collections");
  table.print();
}

void info(Context &ctx, const Options &o) {
  auto t = ctx.open(o.path, Access::read);
  const vexfs_collection c = client::collection_info(*t, o.id);
  print(ctx, c, c.dir_ino == t->ino() ? t->path() : ctx.place(Access::read).path_of(c.dir_ino, 0, *t));
}

void alter(Context &ctx, const Options &o, const CLI::App &given) {
  auto t = ctx.open(o.path, Access::write);
  vexfs_collection c = client::collection_info(*t, o.id);
  if (given.count("--ef-search")) c.ef_search = o.ef_search;
  if (given.count("--recall")) c.recall = o.recall == 0 ? VEXFS_RECALL_OFF : per_mille(o.recall);
  if (given.count("--index")) c.index = need(client::index_from(o.index), "index", o.index, client::index_names());
  if (given.count("--name")) memset(c.name, 0, sizeof c.name), copy_text(c.name, sizeof c.name, o.name, "--name");
  if (given.count("--model"))
    memset(c.model, 0, sizeof c.model), copy_text(c.model, sizeof c.model, o.model, "--model");
  if (o.compact && o.resident) throw Usage("--compact and --resident exclude each other");
  c.flags = o.compact ? VEXFS_COLLECTION_COMPACT : o.resident ? VEXFS_COLLECTION_RESIDENT : 0;
  client::collection_alter(*t, c);
  print(ctx, client::collection_info(*t, c.id), t->path());
}

void drop(Context &ctx, const Options &o) {
  auto t = ctx.open(o.path, Access::write);
  const vexfs_collection c = client::collection_info(*t, o.id);
  if (!o.yes && c.rows != 0) {
    if (!isatty(STDIN_FILENO) || ctx.as_json)
      throw Usage("the collection has " + human_count(c.rows) + " vectors: say --yes to drop them");
    std::cout << "Drop collection " << c.id << " with " << human_count(c.rows) << " vectors? [y/N] " << std::flush;
    std::string answer;
    std::getline(std::cin, answer);
    if (answer != "y" && answer != "yes") throw client::Error(0, "nothing was done");
  }
  client::collection_drop(*t, c.id);
  if (ctx.as_json) return ctx.print(json{{"dropped", c.id}, {"rows", c.rows}});
  ctx.say("dropped collection " + std::to_string(c.id) + " with " + human_count(c.rows) + " vectors");
}

void shape_options(CLI::App *c, Options &o) {
  c->add_option("--index", o.index, client::index_names())->capture_default_str();
  c->add_option("--ef-search", o.ef_search, "default breadth of searches, 0 = 64")->check(CLI::Range(0, VEXFS_EF_MAX));
  c->add_option("--recall", o.recall, "recall that searches are to reach, instead of --ef-search: 0.95; 0 = none")
      ->check(CLI::Range(0.0, 1.0));
  c->add_option("--name", o.name, "a label");
  c->add_option("--model", o.model, "name and version of the embedding model");
  c->add_flag("--compact", o.compact, "keep the index in memory, but leave the vectors on the device");
}

}  // namespace

void add_collection_commands(CLI::App &app, Context &ctx) {
  auto o = std::make_shared<Options>();
  CLI::App *group = app.add_subcommand("collection", "Make, show and drop collections")->alias("coll");
  group->require_subcommand(1);

  CLI::App *c = group->add_subcommand("create", "Make a directory a collection");
  c->add_option("PATH", o->path, "the directory");
  c->add_option("-d,--dim", o->dim, "components of a vector")->required()->check(CLI::Range(1, VEXFS_DIM_MAX));
  c->add_option("-e,--element", o->element, "f32, f16, bf16 or i8")->capture_default_str();
  c->add_option("-m,--metric", o->metric, "l2, cosine or ip")->capture_default_str();
  c->add_option("-M,--links", o->m, "HNSW, DiskANN: links per row (2..128), 0 = 16")
      ->check(CLI::IsMember(std::vector<int>{0}) | CLI::Range(2, 128));
  c->add_option("--ef-construction", o->ef_construction, "HNSW, DiskANN: width of the search while building, 0 = 200")
      ->check(CLI::Range(0, VEXFS_EF_MAX));
  o->kind.add_to(c, "automatic");
  shape_options(c, *o);
  c->add_flag("-p,--mkdir", o->make_directory, "make the directory, and its parents, first");
  c->callback([&ctx, o] { create(ctx, *o); });

  c = group->add_subcommand("list", "All collections of the filesystem");
  c->add_option("PATH", o->path, "any file or directory of the filesystem");
  c->callback([&ctx, o] { list(ctx, *o); });

  c = group->add_subcommand("info", "One collection");
  c->add_option("PATH", o->path, "its directory, or anything below");
  c->add_option("--id", o->id, "the collection's id, instead of the one of PATH")->check(unsigned_number());
  c->callback([&ctx, o] { info(ctx, *o); });

  c = group->add_subcommand("alter", "Change what can be changed (for the shape of an index: vexctl index rebuild)");
  c->add_option("PATH", o->path, "its directory, or anything below");
  c->add_option("--id", o->id, "the collection's id, instead of the one of PATH")->check(unsigned_number());
  shape_options(c, *o);
  c->add_flag("--resident", o->resident, "not compact any more");
  c->callback([&ctx, o, c] { alter(ctx, *o, *c); });

  c = group->add_subcommand("drop", "Remove a collection and its vectors; files stay");
  c->add_option("PATH", o->path, "its directory, or anything below");
  c->add_option("--id", o->id, "the collection's id, instead of the one of PATH")->check(unsigned_number());
  c->add_flag("-y,--yes", o->yes, "do not ask");
  c->callback([&ctx, o] { drop(ctx, *o); });
}

}  // namespace vexfs::vexctl
