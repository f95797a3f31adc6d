// SPDX-License-Identifier: MIT
// vexctl add | get | update | delete
#include <cerrno>

#include "context.h"
#include "rows.h"

namespace vexfs::vexctl {
namespace {

struct Options {
  std::string path, vector, chunk, ids_file, out;
  uint64_t collection = 0, id = VEXFS_ID_AUTO, tag = 0;
  std::vector<std::string> ids;
  int64_t row = 0;
  bool durable = false, no_owner = false, shift = false, set_owner = false;
};

json to_json(const vexfs_row &r) {
  json j;
  j["id"] = r.id;
  j["owner"] = r.owner;
  j["offset"] = r.offset;
  j["length"] = r.length;
  j["owner_version"] = r.owner_version;
  j["generation"] = r.generation;
  j["tag"] = r.tag;
  j["stale"] = (r.flags & VEXFS_ROW_STALE) != 0;
  j["indexed"] = (r.flags & VEXFS_ROW_INDEXED) != 0;
  return j;
}

void set_chunk(vexfs_row &row, const std::string &chunk) {
  if (chunk.empty()) return;
  const auto parts = split(chunk, ':');
  if (parts.size() != 2) throw Usage("--chunk is OFFSET:LENGTH");
  row.offset = parse_size(parts[0]);
  row.length = parse_size(parts[1]);
}

client::Vector vector_from(const Options &o, const Rows &rows) {
  client::Vector v;
  v.dim = rows.dim;
  v.element = rows.element;
  v.data = rows.data;
  v.row.id = o.id;
  v.row.tag = o.tag;
  v.row.owner_fd = -1;
  set_chunk(v.row, o.chunk);
  return v;
}

void warn_of_rounding(const Context &ctx, const Rows &rows, const vexfs_collection &c) {
  if (const size_t n = rounded_to_nothing(rows, c)) ctx.warn(rounded_text(n, c));
}

void add(Context &ctx, const Options &o) {
  auto t = ctx.open(o.path, Access::write);
  const vexfs_collection c = client::collection_info(*t, o.collection);
  const Rows rows = rows_from_argument(o.vector, o.row, c, o.shift);
  client::Vector v = vector_from(o, rows);
  const bool owned = !t->is_directory() && !o.no_owner;
  if (!o.chunk.empty() && !owned) throw Usage("--chunk is a range of a file: PATH must be a file");
  uint32_t flags = o.no_owner ? VEXFS_VEC_NO_OWNER : 0;
  if (o.durable) flags |= VEXFS_VEC_DURABLE;
  const vexfs_row row = with_reason(rows, c, "the vector", [&] { return client::vector_add(*t, c.id, v, flags); });
  warn_of_rounding(ctx, rows, c);
  if (ctx.as_json) return ctx.print(to_json(row));
  ctx.say("vector " + std::to_string(row.id) + " added to collection " + std::to_string(c.id) +
          (row.owner ? ", owner " + t->path() : ""));
}

void update(Context &ctx, const Options &o, const CLI::App &given) {
  auto t = ctx.open(o.path, Access::write);
  const vexfs_collection c = client::collection_info(*t, o.collection);
  const Rows rows = rows_from_argument(o.vector, o.row, c, o.shift);
  client::Vector v = vector_from(o, rows);
  const vexfs_row old = client::vector_get(*t, c.id, o.id, c.dim, c.element).row;
  if (!given.count("--tag")) v.row.tag = old.tag;
  if (!o.chunk.empty() && !o.set_owner) throw Usage("--chunk goes with --set-owner");
  if (o.set_owner && t->is_directory()) throw Usage("--set-owner: PATH must be the file that will own the vector");
  uint32_t flags = o.durable ? VEXFS_VEC_DURABLE : 0;
  if (o.set_owner) flags |= VEXFS_VEC_SET_OWNER;
  const vexfs_row row = with_reason(rows, c, "the vector", [&] { return client::vector_update(*t, c.id, v, flags); });
  warn_of_rounding(ctx, rows, c);
  if (ctx.as_json) return ctx.print(to_json(row));
  ctx.say("vector " + std::to_string(row.id) + " updated");
}

std::vector<uint64_t> wanted_ids(const Options &o) {
  std::vector<uint64_t> ids;
  constexpr uint64_t range_max = 100'000'000;
  for (const std::string &text : o.ids) {
    const Range r = parse_range(text);
    if (r.to - r.from >= range_max) throw Usage("'" + text + "': at most 100,000,000 ids at once");
    for (uint64_t i = 0; i <= r.to - r.from; i++) ids.push_back(r.from + i);
  }
  if (!o.ids_file.empty()) {
    const auto file = vecfile::open_list(o.ids_file);
    std::vector<int64_t> v(file->rows() * file->dim());
    file->read_i64(0, file->rows(), v.data());
    ids.insert(ids.end(), v.begin(), v.end());
  }
  if (ids.empty()) throw Usage("which vectors? Give --id or --ids");
  return ids;
}

std::string text_of(const std::vector<float> &v) {
  std::string s = "[";
  for (size_t i = 0; i < v.size(); i++) s += (i ? ", " : "") + json(shortest(v[i])).dump();
  return s + "]";
}

void get(Context &ctx, const Options &o) {
  auto t = ctx.open(o.path, Access::read);
  const vexfs_collection c = client::collection_info(*t, o.collection);
  const auto ids = wanted_ids(o);
  std::vector<float> all;
  json j = json::array();
  for (uint64_t id : ids) {
    client::Vector v;
    try {
      v = client::vector_get(*t, c.id, id, c.dim, c.element);
    } catch (const client::Error &e) {
      // Of several, those that are there are shown; a file of them has one row for each id, or is not written.
      if (e.err() != ENOENT || ids.size() == 1 || !o.out.empty()) throw;
      ctx.complain(t->path() + ": no vector with id " + std::to_string(id), ENOENT, exit_not_found);
      continue;
    }
    const std::vector<float> f = to_floats(v.data.data(), c.element, c.dim);
    if (!o.out.empty()) {
      all.insert(all.end(), f.begin(), f.end());
      continue;
    }
    const std::string owner = v.row.owner ? ctx.place(Access::read).path_of(v.row.owner, v.row.generation, *t) : "";
    json one = to_json(v.row);
    one["owner_path"] = owner;
    json data = json::array();
    for (float x : f) data.push_back(shortest(x));
    one["vector"] = std::move(data);
    j.push_back(std::move(one));
    if (ctx.as_json) continue;
    std::string line = std::to_string(v.row.id) + "\t" + text_of(f);
    if (v.row.owner) line += "\t" + (owner.empty() ? "inode " + std::to_string(v.row.owner) : owner);
    if (v.row.length) line += "\t" + std::to_string(v.row.offset) + ":" + std::to_string(v.row.length);
    if (v.row.flags & VEXFS_ROW_STALE) line += "\tstale";
    ctx.say(line);
  }
  if (!o.out.empty()) {
    vecfile::write(o.out, vecfile::Type::f32, c.dim, ids.size(), all.data());
    j = json{{"written", ids.size()}, {"file", o.out}};
    ctx.say(human_count(ids.size()) + " vectors written to " + o.out);
  }
  if (ctx.as_json) ctx.print(j);
}

void remove(Context &ctx, const Options &o) {
  auto t = ctx.open(o.path, Access::write);
  const vexfs_collection c = client::collection_info(*t, o.collection);
  const auto ids = wanted_ids(o);
  int err = 0;
  const uint32_t done = client::vectors_delete(*t, c.id, ids, &err);
  if (err == ENOENT)
    throw client::PartlyDone(err, done,
                             t->path() + ": no vector with id " + std::to_string(ids[done]) + " (" + human_count(done) +
                                 " deleted before it)");
  if (err)
    throw client::PartlyDone(
        err, done, client::command_error(t->path(), "delete vectors (" + human_count(done) + " deleted)", err).what());
  if (ctx.as_json) return ctx.print(json{{"deleted", done}});
  ctx.say(human_count(done) + (done == 1 ? " vector deleted" : " vectors deleted"));
}

void value_options(CLI::App *c, Options &o) {
  c->add_option("-v,--vector", o.vector, "\"[1, 2, 3]\", - for stdin, or a .npy/.fvecs/.bvecs/.ivecs file")->required();
  c->add_option("--row", o.row, "which row of a file")->capture_default_str()->check(CLI::NonNegativeNumber);
  c->add_flag("--shift", o.shift, "unsigned bytes into an int8 collection: v - 128");
  c->add_option("--tag", o.tag, "64 bits of your own, stored with the vector")->check(unsigned_number());
  c->add_option("--chunk", o.chunk, "OFFSET:LENGTH of the file that the vector stands for");
  c->add_flag("--durable", o.durable, "return after the vector is on stable storage");
}

}  // namespace

void add_vector_commands(CLI::App &app, Context &ctx) {
  auto o = std::make_shared<Options>();
  auto common = [&](CLI::App *c, const char *path_help) {
    c->add_option("PATH", o->path, path_help);
    c->add_option("--collection", o->collection, "id of the collection, instead of the one of PATH")
        ->check(unsigned_number());
  };
  CLI::App *c = app.add_subcommand("add", "Add one vector, for a file or for none");
  common(c, "a file (it will own the vector) or a directory");
  value_options(c, *o);
  c->add_option("--id", o->id, "the vector's id (default: assigned)")->check(unsigned_number(VEXFS_ID_AUTO - 1));
  c->add_flag("--no-owner", o->no_owner, "the file is only the way to the collection");
  c->callback([&ctx, o] { add(ctx, *o); });

  c = app.add_subcommand("update", "Replace one vector, keeping its id");
  common(c, "a file or directory of the collection");
  value_options(c, *o);
  c->add_option("--id", o->id, "the vector's id")->required()->check(unsigned_number(VEXFS_ID_AUTO - 1));
  c->add_flag("--set-owner", o->set_owner, "PATH, a file, owns the vector from now on");
  c->callback([&ctx, o, c] { update(ctx, *o, *c); });

  c = app.add_subcommand("get", "Show or save vectors by id");
  common(c, "a file or directory of the collection");
  c->add_option("--id", o->ids, "ids, or ranges a..b (both ends included), separated by commas")
      ->delimiter(',')
      ->allow_extra_args(false);
  c->add_option("--ids", o->ids_file, "a file of ids (.npy of integers, .ivecs)");
  c->add_option("-o,--out", o->out, "write them to a .npy or .fvecs file");
  c->callback([&ctx, o] { get(ctx, *o); });

  c = app.add_subcommand("delete", "Delete vectors by id")->alias("rmvec");
  common(c, "a file or directory of the collection");
  c->add_option("--id", o->ids, "ids, or ranges a..b (both ends included), separated by commas")
      ->delimiter(',')
      ->allow_extra_args(false);
  c->add_option("--ids", o->ids_file, "a file of ids (.npy of integers, .ivecs)");
  c->callback([&ctx, o] { remove(ctx, *o); });
}

}  // namespace vexfs::vexctl
