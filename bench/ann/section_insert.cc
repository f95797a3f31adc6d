// SPDX-License-Identifier: MIT
// One thread inserts the second half of the set while another searches: rates of both, and the recall among the rows
// that were there when a search began. By the wall's clock, whatever the other sections use: the two share the machine.
#include <atomic>
#include <cstdio>
#include <exception>
#include <numeric>
#include <thread>

#include "../common/timer.h"
#include "sections.h"

namespace vexfs::bench {
namespace {

constexpr uint32_t batch = 1000;

struct Outcome {
  double rows_per_s = 0, accepted_per_s = 0;  // until all are in the index; until the last call returned
  double qps_alone = 0, qps = 0, recall = 0;
  Latency latency;
  uint32_t inserted = 0, searches = 0, probed = 0, missed = 0;
};

// Of the k nearest among the rows below `there`, those found. A row that came later and is as near counts as found: it
// takes the place of one of them.
double recall_among(const Dataset &d, uint32_t q, const int64_t *found, uint32_t k, uint32_t there) {
  const int32_t *truth = d.nearest(q);
  uint32_t reach = 0, wanted = 0, hits = 0;
  for (; reach < d.truth_k && wanted < k && truth[reach] >= 0; reach++)
    wanted += static_cast<uint32_t>(truth[reach]) < there;
  for (uint32_t i = 0; i < k; i++)
    hits += found[i] >= 0 && std::find(truth, truth + reach, static_cast<int32_t>(found[i])) != truth + reach;
  return wanted ? std::min(1.0, static_cast<double>(hits) / wanted) : 1;
}

class Load {
 public:
  Load(const Run &run, Engine &e, const Dataset &d) : run_(run), engine_(e), d_(d), there_(d.count / 2) {}

  Outcome go() {
    std::thread searcher([this] { guarded([this] { search(); }); });
    guarded([this] { insert(); });
    over_ = true;
    searcher.join();
    if (failed_) std::rethrow_exception(failed_);
    return out_;
  }

 private:
  template <class F>
  void guarded(F &&f) {
    try {
      f();
    } catch (...) {
      if (!over_.exchange(true)) failed_ = std::current_exception();
    }
  }

  void insert() {
    std::vector<int64_t> found(run_.o.k);
    double took = 0;
    for (uint32_t at = there_; at < d_.count && took < run_.o.seconds && !over_;) {
      const uint32_t n = std::min(batch, d_.count - at);
      const double start = latency_clock(false);
      engine_.insert(d_, at, n);
      took += latency_clock(false) - start;
      at += n;
      there_ = at;
      out_.inserted += n;
      engine_.search(d_.row(at - 1), 1, run_.o.k, found.data());  // is the newest row there?
      out_.probed++;
      out_.missed += std::find(found.begin(), found.end(), int64_t{at} - 1) == found.end();
    }
    out_.accepted_per_s = out_.inserted / took;
    const double start = latency_clock(false);
    engine_.settle();
    out_.rows_per_s = out_.inserted / (took + latency_clock(false) - start);
  }

  void search() {
    std::vector<int64_t> found(run_.o.k);
    std::vector<double> times;
    double sum = 0;
    const double begin = latency_clock(false);
    do {
      const uint32_t q = out_.searches++ % d_.queries;
      const uint32_t there = there_;
      const double start = latency_clock(false);
      engine_.search(d_.q(q), 1, run_.o.k, found.data());
      times.push_back(latency_clock(false) - start);
      sum += recall_among(d_, q, found.data(), run_.o.k, there);
    } while (!over_);
    out_.qps = out_.searches / (latency_clock(false) - begin);
    out_.recall = sum / out_.searches;
    out_.latency = percentiles(std::move(times));
  }

  const Run &run_;
  Engine &engine_;
  const Dataset &d_;
  std::atomic<uint32_t> there_;  // rows below it are in
  std::atomic<bool> over_{false};
  std::exception_ptr failed_;
  Outcome out_;
};

}  // namespace

void section_insert(Run &run, const std::vector<Built> &engines) {
  const Dataset d = part_of(run.d, run.d.count, run.o.side_queries, nullptr);
  std::vector<uint32_t> first(d.count / 2);
  std::iota(first.begin(), first.end(), 0u);
  const Dataset half = rows_of(d, first);
  printf("\n%-22s %10s %10s %10s %10s %8s %10s %10s %12s\n", "insert while searching", "rows/s", "accepted/s",
         "QPS alone", "QPS then", "recall", "p50 us", "p99 us", "new unfound");
  run.json.key("insert").begin_array();
  for (const Built &b : engines) {
    if (!b.engine->can_insert()) continue;
    const std::unique_ptr<Engine> e = make_engine(b.spec, d);
    BuildOptions o = run.o.build;
    o.capacity = d.count;
    e->build(half, o);
    e->set_effort(b.usual());
    std::vector<int64_t> found;
    run_single(*e, d, run.o.k, false, &found);
    const double alone = run_queries(*e, d, run.o.k, 1, passes_for(d), false, &found);
    Outcome r = Load(run, *e, d).go();
    r.qps_alone = alone;
    printf("  %-20s %10.0f %10.0f %10.0f %10.0f %8.4f %10.0f %10.0f %7u/%u\n", e->name().c_str(), r.rows_per_s,
           r.accepted_per_s, r.qps_alone, r.qps, r.recall, r.latency.p50 * 1e6, r.latency.p99 * 1e6, r.missed,
           r.probed);
    run.json.begin_object()
        .field("engine", e->name())
        .field("breadth", b.usual().breadth)
        .field("rows_inserted", r.inserted)
        .field("rows_per_s", r.rows_per_s)
        .field("accepted_rows_per_s", r.accepted_per_s)
        .field("qps_before", r.qps_alone)
        .field("qps_while_inserting", r.qps)
        .field("p50_us", r.latency.p50 * 1e6)
        .field("p99_us", r.latency.p99 * 1e6)
        .field("recall_while_inserting", r.recall)
        .field("newest_row_looked_for", r.probed)
        .field("newest_row_not_found", r.missed)
        .end_object();
  }
  run.json.end_array();
}

}  // namespace vexfs::bench
