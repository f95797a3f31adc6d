// SPDX-License-Identifier: MIT
// vexctl import: many vectors from a file, several batches in flight.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <thread>

#include "../../lib/client/pipe.h"
#include "context.h"
#include "rows.h"

namespace vexfs::vexctl {
namespace {

struct Options {
  std::string file, path, ids_file, tags_file, rows;
  uint64_t collection = 0, first_id = 0;
  uint32_t batch = 0, threads = 0;
  bool auto_ids = false, upsert = false, shift = false, no_ring = false, no_sync = false;
};

constexpr size_t batch_bytes = size_t{1} << 20;  // about: enough to make a call cheap, small enough to overlap

uint32_t rows_per_batch(const Options &o, const vexfs_collection &c) {
  if (o.batch) return o.batch;
  const size_t n = batch_bytes / (c.dim * sizeof(float));
  return static_cast<uint32_t>(std::clamp<size_t>(n, 16, 4096));
}

// One number for each row of a file of `rows`.
std::vector<int64_t> scalars(const char *option, const std::string &path, uint64_t first, uint64_t count,
                             uint64_t rows) try {
  const auto f = vecfile::open_list(path);
  if (f->dim() != 1) throw vecfile::Error(path + ": one number a row expected");
  if (f->rows() != rows)
    throw Usage(path + ": " + human_count(f->rows()) + " numbers for " + human_count(rows) + " rows");
  std::vector<int64_t> v(count);
  f->read_i64(first, count, v.data());
  return v;
} catch (const vecfile::Error &e) {
  if (e.err()) throw;  // it cannot be read at all
  throw Usage(std::string(e.what()) + "; " + option + " takes a .npy of integers, or an .ivecs of one number a row");
}

struct Plan {
  uint64_t first = 0, count = 0;  // rows of the file
  enum class Ids { assigned, counted, listed } ids = Ids::counted;
  uint64_t first_id = 0;  // counted: id of row `first`
  std::vector<int64_t> id_list, tags;
};

Plan make_plan(const Options &o, const CLI::App &given, const vecfile::Reader &file, const vexfs_collection &c) {
  Plan p;
  p.count = file.rows();
  if (!o.rows.empty()) {
    const Range r = parse_range(o.rows);
    if (r.from >= file.rows()) throw Usage("--rows " + o.rows + ": the file has " + human_count(file.rows()) + " rows");
    if (r.to != UINT64_MAX && r.to >= file.rows())
      throw Usage("--rows " + o.rows + ": the file has " + human_count(file.rows()) + " rows");
    p.first = r.from;
    p.count = std::min(r.to, file.rows() - 1) - r.from + 1;
  }
  if (!o.ids_file.empty()) {
    p.ids = Plan::Ids::listed;
    p.id_list = scalars("--ids", o.ids_file, p.first, p.count, file.rows());
    for (const int64_t id : p.id_list)
      if (id < 0) throw Usage(o.ids_file + ": id " + std::to_string(id) + " is negative");
  } else if (given.count("--first-id")) {
    p.first_id = o.first_id;
    if (p.count > VEXFS_ID_AUTO - p.first_id) throw Usage("--first-id is too large for this many rows");
  } else if (o.auto_ids || c.slots != 0) {
    p.ids = Plan::Ids::assigned;
  } else {
    p.first_id = p.first;  // into an empty collection: the id is the number of the row
  }
  if (o.upsert && p.ids == Plan::Ids::assigned) throw Usage("--upsert needs ids: --first-id or --ids");
  if (!o.tags_file.empty()) p.tags = scalars("--tags", o.tags_file, p.first, p.count, file.rows());
  return p;
}

void fill(client::Batch &b, const Options &o, const Plan &p, uint64_t at, uint32_t n, uint64_t collection,
          Rows &&rows) {
  b.command = vexfs_batch{};
  b.command.collection = collection;
  b.command.op = o.upsert ? VEXFS_BATCH_UPSERT : VEXFS_BATCH_ADD;
  if (o.upsert) b.command.flags = VEXFS_BATCH_F_KEEP_OWNER | (p.tags.empty() ? VEXFS_BATCH_F_KEEP_TAG : 0);
  b.command.count = n;
  b.command.dim = rows.dim;
  b.command.element = rows.element;
  b.first = p.first + at;
  b.data = std::move(rows.data);
  b.rows.clear();
  if (p.ids == Plan::Ids::assigned && p.tags.empty()) return;
  b.rows.resize(n);
  for (uint32_t i = 0; i < n; i++) {
    vexfs_row &r = b.rows[i];
    r = vexfs_row{};
    r.owner_fd = -1;
    r.id = p.ids == Plan::Ids::assigned  ? VEXFS_ID_AUTO
           : p.ids == Plan::Ids::counted ? p.first_id + at + i
                                         : static_cast<uint64_t>(p.id_list[at + i]);
    if (!p.tags.empty()) r.tag = static_cast<uint64_t>(p.tags[at + i]);
  }
}

// Runs of rows as ranges, `shift` added to each: "0..99, 200". An import with much in flight leaves a few, not many.
std::string ranges_text(const std::map<uint64_t, uint64_t> &runs, uint64_t shift) {
  constexpr size_t shown = 8;
  std::string s;
  size_t n = 0;
  for (const auto &[first, last] : runs) {
    if (n++ == shown) return s + " and " + human_count(runs.size() - shown) + " more";
    s += (s.empty() ? "" : ", ") + std::to_string(first + shift);
    if (last != first) s += ".." + std::to_string(last + shift);
  }
  return s;
}

std::map<uint64_t, uint64_t> not_done(const Plan &p, const std::map<uint64_t, uint64_t> &done) {
  std::map<uint64_t, uint64_t> rest;
  uint64_t at = p.first;
  for (const auto &[first, last] : done) {
    if (first > at) rest[at] = first - 1;
    at = last + 1;
  }
  if (at < p.first + p.count) rest[at] = p.first + p.count - 1;
  return rest;
}

// How the rest is imported. The same command once more would add again what is there, for the collection is not empty; and
// with --upsert it would replace what has ids of the rest already, which was not asked for.
std::string how_to_resume(const Options &o, const Plan &p, const client::BatchPipe &pipe, int err) {
  if (err == EEXIST) return ". With --upsert the same import replaces what exists";
  const std::string when =
      err == EINVAL ? ". For the rest, when the file is right: the same" : ". For the rest: the same";
  if (o.upsert) return when + " once more";
  std::string s;
  for (const auto &[first, last] : not_done(p, pipe.done())) {
    s += (s.empty() ? " with --rows " : ", then with --rows ") + std::to_string(first);
    if (last != first) s += ".." + std::to_string(last);
    if (p.ids == Plan::Ids::counted) s += " --first-id " + std::to_string(p.first_id + first - p.first);
  }
  return when + s;
}

// What an import that ended early leaves behind: rows of batches that were in flight stay, whatever their place.
std::string what_is_kept(const Options &o, const Plan &p, const client::BatchPipe &pipe, int err) {
  const uint64_t n = pipe.rows_done();
  const std::string rows = human_count(n) + (n == 1 ? " row was " : " rows were ");
  if (n == 0)
    return err == EEXIST ? " (nothing was imported)" + how_to_resume(o, p, pipe, err) : " (nothing was imported)";
  if (err == EROFS || err == EIO)
    return " (" + rows + "accepted; those since the last commit are lost, the filesystem has stopped)";
  const bool ids = p.ids == Plan::Ids::counted;
  return " (" + rows + "imported: " + (ids ? "id" : "row") + (n == 1 ? " " : "s ") +
         ranges_text(pipe.done(), ids ? p.first_id - p.first : 0) + ")" + how_to_resume(o, p, pipe, err);
}

[[noreturn]] void refuse(const Options &o, const Plan &p, const client::BatchPipe &pipe, const vecfile::Reader &file,
                         const vexfs_collection &c) {
  const int err = -pipe.error();
  const std::string row = o.file + ": row " + std::to_string(pipe.error_row());
  const std::string kept = what_is_kept(o, p, pipe, err);
  try {
    Rows bad;
    if (err == EINVAL) {
      read_rows(file, pipe.error_row(), 1, c, o.shift, &bad);
      explain_refusal(bad, c, row);
    }
  } catch (const client::Error &e) {
    throw client::PartlyDone(err, pipe.rows_done(), e.what() + kept);
  }
  const std::string why = err == EEXIST ? "its id exists already" : strerror(err);
  throw client::PartlyDone(err, pipe.rows_done(), row + ": " + why + kept);
}

// Reads the file into the pipe, until its end or the first error. Returns how many rows i8 makes all zeroes of.
uint64_t feed(Context &ctx, const Options &o, const Plan &p, const vecfile::Reader &file, const vexfs_collection &c,
              uint32_t step, client::BatchPipe &pipe) {
  Progress bar(ctx, "import", p.count);
  uint64_t rounded = 0;
  try {
    for (uint64_t at = 0; at < p.count && pipe.error() == 0;) {
      const auto n = static_cast<uint32_t>(std::min<uint64_t>(step, p.count - at));
      auto b = pipe.take();
      Rows rows;
      rows.data = std::move(b->data);  // its memory is used again
      read_rows(file, p.first + at, n, c, o.shift, &rows);
      rounded += rounded_to_nothing(rows, c);
      fill(*b, o, p, at, n, c.id, std::move(rows));
      pipe.submit(std::move(b));
      at += n;
      bar.at(pipe.rows_done());
    }
  } catch (const vecfile::Error &e) {  // damage behind the first rows
    pipe.finish();
    throw client::PartlyDone(e.err(), pipe.rows_done(), e.what() + what_is_kept(o, p, pipe, EINVAL));
  }
  pipe.finish();
  if (pipe.error()) refuse(o, p, pipe, file, c);
  return rounded;
}

void import(Context &ctx, const Options &o, const CLI::App &given) {
  const auto file = vecfile::open(o.file);
  auto t = ctx.open(o.path, Access::write);
  const vexfs_collection c = client::collection_info(*t, o.collection);
  const Plan p = make_plan(o, given, *file, c);
  const uint32_t step = rows_per_batch(o, c);
  const unsigned depth = o.threads ? o.threads : std::max(2u, std::thread::hardware_concurrency());
  const auto via = o.no_ring ? client::BatchPipe::Via::threads : client::BatchPipe::Via::ring_or_threads;

  const uint64_t begin = now_ns();
  client::BatchPipe pipe(*t, depth, via);
  const uint64_t rounded = feed(ctx, o, p, *file, c, step, pipe);
  const std::string carrier = pipe.carrier();
  const uint64_t imported = pipe.rows_done(), added = now_ns();
  if (!o.no_sync) ctx.place(Access::write).sync(*t);
  const double seconds = static_cast<double>(added - begin) / 1e9;
  const double sync_seconds = static_cast<double>(now_ns() - added) / 1e9;
  const double rate = seconds > 0 ? static_cast<double>(imported) / seconds : 0;
  if (rounded) ctx.warn(rounded_text(rounded, c));
  if (ctx.as_json)
    return ctx.print(json{{"collection", c.id},
                          {"rows", imported},
                          {"rounded_to_zero", rounded},
                          {"seconds", seconds},
                          {"rows_per_second", rate},
                          {"sync_seconds", sync_seconds},
                          {"carrier", carrier},
                          {"in_flight", depth},
                          {"batch", step}});
  ctx.say(human_count(imported) + " vectors imported in " + fixed(seconds, 2) + " s (" +
          human_count(static_cast<uint64_t>(rate)) + "/s, " + std::to_string(depth) + " batches of " +
          std::to_string(step) + " in flight by " + carrier + ")" +
          (o.no_sync ? "" : ", durable after " + fixed(sync_seconds, 2) + " s more"));
  if (p.ids == Plan::Ids::assigned && !o.auto_ids)
    ctx.say("the collection was not empty: ids were assigned (--first-id or --ids choose them)");
}

}  // namespace

void add_import_command(CLI::App &app, Context &ctx) {
  auto o = std::make_shared<Options>();
  CLI::App *c = app.add_subcommand(
      "import",
      "Add all vectors of a file (.npy .fvecs .bvecs .ivecs); i8 rounds them (-128 to 127) and does not scale");
  c->add_option("FILE", o->file, "the vectors")->required();
  c->add_option("PATH", o->path, "the collection's directory");
  c->add_option("--collection", o->collection, "id of the collection, instead of the one of PATH")
      ->check(unsigned_number());
  auto *ids = c->add_option("--ids", o->ids_file, "a file with the id of each row (.npy of integers, .ivecs)");
  auto *first = c->add_option("--first-id", o->first_id, "the first row's id; the others follow")
                    ->check(unsigned_number(VEXFS_ID_AUTO - 1));
  auto *assigned = c->add_flag("--auto-ids", o->auto_ids, "ids are assigned, in no particular order");
  ids->excludes(first)->excludes(assigned);
  first->excludes(assigned);
  c->add_option("--tags", o->tags_file, "a file with the tag of each row (.npy of integers, .ivecs)");
  c->add_option("--rows", o->rows, "only rows a..b of the file (the first is 0, b is included)");
  c->add_flag("--upsert", o->upsert,
              "replace vectors whose ids exist; their owners stay, and without --tags their tags");
  c->add_flag("--shift", o->shift, "unsigned bytes into an int8 collection: v - 128");
  c->add_option("--batch", o->batch, "rows in one call (default: about 1 MiB)")->check(CLI::Range(1, VEXFS_BATCH_MAX));
  c->add_option("-t,--threads", o->threads, "batches in flight (default: one a CPU)")->check(CLI::Range(1, 256));
  c->add_flag("--no-uring", o->no_ring, "ioctl on threads instead of io_uring");
  c->add_flag("--no-sync", o->no_sync, "do not wait until the vectors are on stable storage");
  c->callback([&ctx, o, c] { import(ctx, *o, *c); });
}

}  // namespace vexfs::vexctl
