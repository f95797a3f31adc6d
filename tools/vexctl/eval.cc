// SPDX-License-Identifier: MIT
// vexctl eval: recall@k, queries per second and latencies of a query set, for several widths of the search.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <exception>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_set>

#include "context.h"
#include "rows.h"

namespace vexfs::vexctl {
namespace {

struct Options {
  std::string path, queries, truth, write_truth;
  uint64_t collection = 0, limit = 0;
  uint32_t k = 10, threads = 1, batch = 1;
  std::vector<uint32_t> ef;
  bool exact = false, shift = false;
  double min_recall = -1;
};

using Truth = std::vector<std::vector<uint64_t>>;  // ids, nearest first, for each query

Truth read_truth(const Options &o, size_t nq) {
  const auto f = vecfile::open(o.truth);
  if (f->rows() < nq)
    throw Usage(o.truth + ": " + std::to_string(f->rows()) + " rows for " + std::to_string(nq) + " queries");
  if (f->dim() < o.k) throw Usage(o.truth + ": has " + std::to_string(f->dim()) + " neighbours a query, -k is larger");
  std::vector<int64_t> all(nq * f->dim());
  f->read_i64(0, nq, all.data());
  Truth t(nq);
  for (size_t i = 0; i < nq; i++)
    t[i].assign(all.begin() + static_cast<ptrdiff_t>(i * f->dim()),
                all.begin() + static_cast<ptrdiff_t>(i * f->dim() + o.k));
  return t;
}

// Says so when the truth names vectors that the collection lacks, of which no search can find any: ids were assigned, or
// it is the truth of another set. Of a large truth some ids, evenly spread, are looked up.
void warn_of_strangers(const Context &ctx, client::Target &t, const vexfs_collection &c, const Options &o,
                       const Truth &truth) {
  constexpr size_t looked_up = 10000;
  std::set<uint64_t> all;
  for (const auto &ids : truth) all.insert(ids.begin(), ids.end());
  const size_t step = (all.size() + looked_up - 1) / looked_up;
  size_t at = 0, asked = 0, missing = 0;
  for (const uint64_t id : all) {
    if (at++ % step) continue;
    asked++;
    try {
      client::vector_get(t, c.id, id, c.dim, c.element);
    } catch (const client::Error &e) {
      missing += e.err() == ENOENT || e.err() == EINVAL;  // EINVAL: no id can be this number; else it is there
    }
  }
  if (missing)
    ctx.warn(o.truth + ": " + human_count(missing) + " of " + human_count(asked) +
             " ids that were looked up are not in the collection: its ids may be others than the truth's");
}

struct Run {
  std::vector<std::vector<uint64_t>> ids;  // found, for each query
  std::vector<uint64_t> call_ns;           // wall time of each call
  double seconds = 0;
  uint64_t distances = 0, hops = 0;
  uint32_t ef = 0;  // of the last call
};

// All queries once, o.batch a call, on o.threads threads.
Run run_queries(client::Target &t, const client::Query &q, const Rows &rows, uint32_t batch, uint32_t threads,
                Progress *bar) {
  Run r;
  r.ids.resize(rows.count);
  const size_t calls = (rows.count + batch - 1) / batch;
  r.call_ns.resize(calls);
  const size_t row_bytes = rows.dim * client::element_bytes(rows.element);
  std::atomic<size_t> next{0};
  std::atomic<uint64_t> distances{0};
  std::atomic<uint64_t> hops{0};
  std::atomic<uint32_t> ef{0};
  std::mutex lock;
  std::exception_ptr failure;
  auto work = [&] {
    try {
      for (size_t call; (call = next++) < calls;) {
        const size_t first = call * batch;
        const size_t n = std::min<size_t>(batch, rows.count - first);
        const uint64_t from = now_ns();
        const client::Answer a = client::search(t, q, rows.data.data() + first * row_bytes, n);
        r.call_ns[call] = now_ns() - from;
        for (size_t i = 0; i < n; i++)
          for (const auto &h : a.hits[i]) r.ids[first + i].push_back(h.id);
        distances += a.distances;
        hops += a.hops;
        ef = a.ef;
        if (bar && threads == 1) bar->at(first + n);
      }
    } catch (...) {
      std::lock_guard<std::mutex> g(lock);
      if (!failure) failure = std::current_exception();
      next = calls;
    }
  };
  const uint64_t begin = now_ns();
  std::vector<std::thread> pool;
  for (uint32_t i = 1; i < threads; i++) pool.emplace_back(work);
  work();
  for (auto &p : pool) p.join();
  r.seconds = static_cast<double>(now_ns() - begin) / 1e9;
  if (failure) std::rethrow_exception(failure);
  r.distances = distances;
  r.hops = hops;
  r.ef = ef;
  return r;
}

double recall_of(const Run &r, const Truth &truth, uint32_t k) {
  uint64_t right = 0;
  for (size_t i = 0; i < truth.size(); i++) {
    const std::unordered_set<uint64_t> want(truth[i].begin(), truth[i].end());
    for (uint64_t id : r.ids[i]) right += want.count(id);
  }
  return static_cast<double>(right) / (static_cast<double>(truth.size()) * k);
}

double quantile_us(std::vector<uint64_t> ns, double q) {
  if (ns.empty()) return 0;
  // The smallest that no more than a share of 1 - q exceeds (nearest rank).
  const auto rank = static_cast<ptrdiff_t>(std::ceil(q * static_cast<double>(ns.size())));
  const ptrdiff_t at = std::max<ptrdiff_t>(rank, 1) - 1;
  std::nth_element(ns.begin(), ns.begin() + at, ns.end());
  return static_cast<double>(ns[static_cast<size_t>(at)]) / 1e3;
}

Truth exact_truth(Context &ctx, client::Target &t, client::Query q, const Rows &rows, const Options &o) {
  Progress bar(ctx, "exact scan", rows.count);
  q.flags |= VEXFS_SEARCH_EXACT;
  return run_queries(t, q, rows, 16, o.threads, &bar).ids;
}

void save_truth(const Options &o, const Truth &truth) {
  std::vector<int32_t> flat;
  for (const auto &ids : truth) {
    if (ids.size() < o.k) throw Usage("--write-truth: some query has fewer than k neighbours");
    for (uint64_t id : ids) {
      if (id > INT32_MAX) throw Usage("--write-truth: id " + std::to_string(id) + " does not fit the format");
      flat.push_back(static_cast<int32_t>(id));
    }
  }
  vecfile::write(o.write_truth, vecfile::Type::i32, o.k, truth.size(), flat.data());
}

void eval(Context &ctx, Options o) {
  auto t = ctx.open(o.path, Access::read);
  const vexfs_collection c = client::collection_info(*t, o.collection);
  const auto file = vecfile::open(o.queries);
  const uint64_t nq = o.limit ? std::min(o.limit, file->rows()) : file->rows();
  if (nq == 0) throw Usage(o.queries + ": no queries");
  Rows rows;
  read_rows(*file, 0, nq, c, o.shift, &rows);
  client::Query q;
  q.collection = c.id;
  q.dim = c.dim;
  q.element = rows.element;
  q.k = o.k;
  if (c.rows < o.k) throw Usage("the collection has " + human_count(c.rows) + " vectors, -k is larger");
  const Truth truth = o.truth.empty() ? exact_truth(ctx, *t, q, rows, o) : read_truth(o, nq);
  if (!o.truth.empty()) warn_of_strangers(ctx, *t, c, o, truth);
  if (!o.write_truth.empty()) save_truth(o, truth);
  if (o.exact) q.flags |= VEXFS_SEARCH_EXACT;
  if (o.ef.empty() || o.exact) o.ef = {0};

  // The first search opens the index: nobody's time.
  Rows first{.element = rows.element, .dim = rows.dim, .count = 1, .data = {}};
  const auto row_bytes = static_cast<ptrdiff_t>(rows.dim * client::element_bytes(rows.element));
  first.data.assign(rows.data.begin(), rows.data.begin() + row_bytes);
  q.ef = o.ef[0];
  run_queries(*t, q, first, 1, 1, nullptr);

  json runs = json::array();
  double best = 0;
  Table table({"EF", "RECALL@" + std::to_string(o.k), "QPS", "MEAN us", "P50 us", "P95 us", "P99 us", "DISTANCES"});
  for (uint32_t ef : o.ef) {
    q.ef = ef;
    const Run r = run_queries(*t, q, rows, o.batch, o.threads, nullptr);
    const double recall = recall_of(r, truth, o.k);
    best = std::max(best, recall);
    const double qps = static_cast<double>(nq) / r.seconds;
    double mean = 0;
    for (uint64_t ns : r.call_ns) mean += static_cast<double>(ns) / 1e3 / static_cast<double>(r.call_ns.size());
    const double p50 = quantile_us(r.call_ns, 0.5);
    const double p95 = quantile_us(r.call_ns, 0.95);
    const double p99 = quantile_us(r.call_ns, 0.99);
    const double dist = static_cast<double>(r.distances) / static_cast<double>(nq);
    const uint32_t used = o.exact ? 0 : ef ? ef : r.ef ? r.ef : c.ef_search;
    runs.push_back(json{{"ef", used},
                        {"exact", o.exact},
                        {"recall", recall},
                        {"qps", qps},
                        {"mean_us", mean},
                        {"p50_us", p50},
                        {"p95_us", p95},
                        {"p99_us", p99},
                        {"distances_per_query", dist},
                        {"hops_per_query", static_cast<double>(r.hops) / static_cast<double>(nq)}});
    table.row({o.exact ? "exact" : std::to_string(used), fixed(recall, 4), fixed(qps, 0), fixed(mean, 1), fixed(p50, 1),
               fixed(p95, 1), fixed(p99, 1), fixed(dist, 0)});
  }
  if (ctx.as_json) {
    ctx.print(json{{"collection", c.id},
                   {"rows", c.rows},
                   {"queries", nq},
                   {"k", o.k},
                   {"threads", o.threads},
                   {"batch", o.batch},
                   {"truth", o.truth.empty() ? "exact scan" : o.truth},
                   {"runs", runs}});
  } else if (!ctx.quiet) {
    ctx.say(human_count(nq) + " queries on " + human_count(c.rows) + " vectors, " + std::to_string(o.threads) +
            " thread(s), " + std::to_string(o.batch) + " a call, truth: " + (o.truth.empty() ? "exact scan" : o.truth));
    table.print();
  }
  if (!(best >= o.min_recall)) {
    ctx.complain("recall " + fixed(best, 4) + " is below " + fixed(o.min_recall, 4), 0, exit_below);
  }
}

}  // namespace

void add_eval_command(CLI::App &app, Context &ctx) {
  auto o = std::make_shared<Options>();
  CLI::App *c = app.add_subcommand("eval", "Measure recall@k and queries per second");
  c->add_option("PATH", o->path, "the collection's directory, or anything below");
  c->add_option("--collection", o->collection, "id of the collection, instead of the one of PATH")
      ->check(unsigned_number());
  c->add_option("--queries", o->queries, "file of query vectors")->required();
  c->add_option("--truth", o->truth, "true neighbours of each query (.ivecs, .npy); default: an exact scan, first");
  c->add_option("--write-truth", o->write_truth, "save the truth to this .ivecs file");
  c->add_option("-k", o->k, "neighbours")->capture_default_str()->check(CLI::Range(1, VEXFS_K_MAX));
  c->add_option("--ef", o->ef, "widths of the search, e.g. 16,32,64,128 (default: the collection's)")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(0, VEXFS_EF_MAX));
  c->add_flag("--exact", o->exact, "measure the exact scan");
  c->add_option("-t,--threads", o->threads, "queries at once")->capture_default_str()->check(CLI::Range(1, 1024));
  c->add_option("--batch", o->batch, "queries in one call")
      ->capture_default_str()
      ->check(CLI::Range(1, VEXFS_QUERIES_MAX));
  c->add_option("--limit", o->limit, "only the first N queries");
  c->add_flag("--shift", o->shift, "unsigned bytes against an int8 collection: v - 128");
  c->add_option("--min-recall", o->min_recall, "exit with 6 when the best recall is below this")
      ->check(CLI::Range(0.0, 1.0))
      ->check(CLI::Range(0.0, 1.0));
  c->callback([&ctx, o] { eval(ctx, *o); });
}

}  // namespace vexfs::vexctl
