// SPDX-License-Identifier: MIT
// vexctl import: many vectors from a file, several batches in flight.
#include <algorithm>
#include <cerrno>
#include <cstring>
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
std::vector<int64_t> scalars(const std::string &path, uint64_t first, uint64_t count, uint64_t rows) {
  const auto f = vecfile::open_list(path);
  if (f->dim() != 1) throw Usage(path + ": one number a row expected");
  if (f->rows() != rows)
    throw Usage(path + ": " + human_count(f->rows()) + " numbers for " + human_count(rows) + " rows");
  std::vector<int64_t> v(count);
  f->read_i64(first, count, v.data());
  return v;
}

struct Plan {
  uint64_t first = 0, count = 0;  // rows of the file
  enum class Ids { assigned, counted, listed } ids = Ids::counted;
  uint64_t first_id = 0;  // counted: id of row `first`
  std::vector<int64_t> id_list, tags;
};

Plan make_plan(const Context &ctx, const Options &o, const CLI::App &given, const vecfile::Reader &file,
               const vexfs_collection &c) {
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
    p.id_list = scalars(o.ids_file, p.first, p.count, file.rows());
    for (const int64_t id : p.id_list)
      if (id < 0) throw Usage(o.ids_file + ": id " + std::to_string(id) + " is negative");
  } else if (given.count("--first-id")) {
    p.first_id = o.first_id;
    if (p.count > VEXFS_ID_AUTO - p.first_id) throw Usage("--first-id is too large for this many rows");
  } else if (o.auto_ids || c.slots != 0) {
    p.ids = Plan::Ids::assigned;
    if (!o.auto_ids) ctx.say("the collection is not empty: ids are assigned (--first-id or --ids to choose them)");
  } else {
    p.first_id = p.first;  // into an empty collection: the id is the number of the row
  }
  if (o.upsert && p.ids == Plan::Ids::assigned) throw Usage("--upsert needs ids: --first-id or --ids");
  if (!o.tags_file.empty()) p.tags = scalars(o.tags_file, p.first, p.count, file.rows());
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

[[noreturn]] void refuse(const Options &o, const client::BatchPipe &pipe, const vecfile::Reader &file,
                         const vexfs_collection &c) {
  const int err = -pipe.error();
  const std::string row = o.file + ": row " + std::to_string(pipe.error_row());
  const std::string kept =
      " (" + human_count(pipe.rows_done()) +
      (err == EROFS || err == EIO
           ? " rows were accepted; those since the last commit are lost, the filesystem has stopped)"
           : " rows were imported)");
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

void import(Context &ctx, const Options &o, const CLI::App &given) {
  const auto file = vecfile::open(o.file);
  auto t = ctx.open(o.path, Access::write);
  const vexfs_collection c = client::collection_info(*t, o.collection);
  const Plan p = make_plan(ctx, o, given, *file, c);
  const uint32_t step = rows_per_batch(o, c);
  const unsigned depth = o.threads ? o.threads : std::max(2u, std::thread::hardware_concurrency());
  const auto via = o.no_ring ? client::BatchPipe::Via::threads : client::BatchPipe::Via::ring_or_threads;

  const uint64_t begin = now_ns();
  std::string carrier;
  uint64_t imported = 0;
  {
    client::BatchPipe pipe(*t, depth, via);
    Progress bar(ctx, "import", p.count);
    for (uint64_t at = 0; at < p.count && pipe.error() == 0;) {
      const auto n = static_cast<uint32_t>(std::min<uint64_t>(step, p.count - at));
      auto b = pipe.take();
      Rows rows;
      rows.data = std::move(b->data);  // its memory is used again
      read_rows(*file, p.first + at, n, c, o.shift, &rows);
      fill(*b, o, p, at, n, c.id, std::move(rows));
      pipe.submit(std::move(b));
      at += n;
      bar.at(pipe.rows_done());
    }
    pipe.finish();
    carrier = pipe.carrier();
    imported = pipe.rows_done();
    if (pipe.error()) refuse(o, pipe, *file, c);
  }
  const uint64_t added = now_ns();
  if (!o.no_sync) ctx.place(Access::write).sync(*t);
  const double seconds = static_cast<double>(added - begin) / 1e9;
  const double sync_seconds = static_cast<double>(now_ns() - added) / 1e9;
  const double rate = seconds > 0 ? static_cast<double>(imported) / seconds : 0;
  if (ctx.as_json)
    return ctx.print(json{{"collection", c.id},
                          {"rows", imported},
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
}

}  // namespace

void add_import_command(CLI::App &app, Context &ctx) {
  auto o = std::make_shared<Options>();
  CLI::App *c = app.add_subcommand("import", "Add all vectors of a file (.npy .fvecs .bvecs .ivecs)");
  c->add_option("FILE", o->file, "the vectors")->required();
  c->add_option("PATH", o->path, "the collection's directory");
  c->add_option("--collection", o->collection, "id of the collection, instead of the one of PATH")
      ->check(unsigned_number());
  auto *ids = c->add_option("--ids", o->ids_file, "a file with the id of each row (.npy of integers)");
  auto *first = c->add_option("--first-id", o->first_id, "the first row's id; the others follow")
                    ->check(unsigned_number(VEXFS_ID_AUTO - 1));
  auto *assigned = c->add_flag("--auto-ids", o->auto_ids, "ids are assigned, in no particular order");
  ids->excludes(first)->excludes(assigned);
  first->excludes(assigned);
  c->add_option("--tags", o->tags_file, "a file with the tag of each row (.npy of integers)");
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
