// SPDX-License-Identifier: MIT
// Building, and recall against speed: every engine is built, then all are searched in turns, round after round, so that a
// machine that drifts drifts for all of them; the best round of each point counts.
#include <cstdio>

#include "../../kernel/core/simd/simd.h"
#include "../common/timer.h"
#include "sections.h"

namespace vexfs::bench {
namespace {

void measure(Run &run, Built &b, size_t effort, uint32_t round) {
  const Dataset &d = run.d;
  const Options &o = run.o;
  const std::vector<Effort> efforts = b.engine->efforts(o.k, o.breadths);
  if (effort >= efforts.size()) return;
  b.engine->set_effort(efforts[effort]);
  std::vector<int64_t> found;
  const Latency latency = run_single(*b.engine, d, o.k, o.cpu_clock, &found);  // and warms caches
  for (const unsigned threads : o.search_threads) {
    const double qps = run_queries(*b.engine, d, o.k, threads, 2 * passes_for(d), o.cpu_clock, &found);
    std::vector<Point> &points = b.sweep.points[threads];
    if (round == 0) points.push_back({efforts[effort], recall(d, found, o.k), qps, latency});
    Point &p = points[effort];
    p.qps = std::max(p.qps, qps);
    if (latency.p50 < p.latency.p50) p.latency = latency;
  }
}

void print_speed(const std::vector<Built> &engines, unsigned threads) {
  const Built *peer = nullptr;
  for (const Built &b : engines)
    if (b.spec.kind == "hnswlib") peer = &b;
  printf("\n%-22s", ("QPS, " + std::to_string(threads) + " thread" + (threads > 1 ? "s" : "")).c_str());
  for (const double t : recall_targets) printf("%7s %.2f", "at", t);
  if (peer) printf("   over hnswlib's");
  printf("\n");
  for (const Built &b : engines) {
    const auto points = frontier(b.sweep.points.at(threads));
    printf("  %-20s", b.engine->name().c_str());
    for (const double t : recall_targets) printf(" %10s", text_of(qps_at(points, t), 1, "%.0f").c_str());
    if (peer && peer != &b) {
      const auto theirs = frontier(peer->sweep.points.at(threads));
      for (const double t : recall_targets) {
        const At a = qps_at(points, t), p = qps_at(theirs, t);
        if (a.value > 0 && p.value > 0)
          printf(" %6s", text_of(At{a.value / p.value, a.bound || p.bound}, 1, "%.2f").c_str());
        else
          printf(" %6s", "-");
      }
    }
    printf("\n");
  }
}

At latency_at(const std::vector<Point> &points, double target, double Latency::*what) {
  return at_recall(points, target, [what](const Point &p) { return p.latency.*what; });
}

void print_latency(const Run &run, const std::vector<Built> &engines) {
  printf("\n%-22s", "us: p50 p95 p99");
  for (const double t : recall_targets) printf("%15s %.2f%2s", "at", t, "");
  printf("\n");
  for (const Built &b : engines) {
    const auto points = frontier(b.sweep.points.at(run.o.search_threads[0]));
    printf("  %-20s", b.engine->name().c_str());
    for (const double t : recall_targets)
      printf("  %6s %6s %6s", text_of(latency_at(points, t, &Latency::p50), 1e6, "%.0f").c_str(),
             text_of(latency_at(points, t, &Latency::p95), 1e6, "%.0f").c_str(),
             text_of(latency_at(points, t, &Latency::p99), 1e6, "%.0f").c_str());
    printf("\n");
  }
}

void write_points(Json &j, const std::map<unsigned, std::vector<Point>> &all) {
  j.key("searches").begin_array();
  for (const auto &[threads, points] : all) {
    const auto best = frontier(points);
    j.begin_object().field("threads", static_cast<uint32_t>(threads));
    for (const double t : recall_targets) {
      char name[48];
      const auto put = [&](const char *what, const At &a, double unit) {
        snprintf(name, sizeof name, "%s_at_%.2f", what, t);
        j.key(name);
        if (a.value > 0)
          j.value(a.value * unit);
        else
          j.value(0.0 / 0.0);
        if (a.bound) j.field(std::string(name) + "_is_bound", true);
      };
      put("qps", qps_at(best, t), 1);
      put("p50_us", latency_at(best, t, &Latency::p50), 1e6);
      put("p95_us", latency_at(best, t, &Latency::p95), 1e6);
      put("p99_us", latency_at(best, t, &Latency::p99), 1e6);
    }
    j.key("points").begin_array();
    for (const Point &p : points)
      j.begin_object()
          .field("breadth", p.effort.breadth)
          .field("rerank", p.effort.rerank)
          .field("recall", p.recall)
          .field("qps", p.qps)
          .field("p50_us", p.latency.p50 * 1e6)
          .field("p95_us", p.latency.p95 * 1e6)
          .field("p99_us", p.latency.p99 * 1e6)
          .end_object();
    j.end_array().end_object();
  }
  j.end_array();
}

}  // namespace

Effort Built::usual() const {
  if (sweep.points.empty()) return {64, 10};
  return effort_for(frontier(sweep.points.begin()->second), 0.95);
}

std::vector<Built> build_engines(Run &run) {
  std::vector<Built> all;
  for (const std::string &name : run.o.engines.empty() ? default_engines(run.d) : run.o.engines) {
    Built b;
    b.spec = EngineSpec::parse(name);
    b.engine = make_engine(b.spec, run.d);
    if (!b.engine) {
      printf("%s is not built in\n", name.c_str());
      continue;
    }
    const Timer timer(run.o.cpu_clock);
    b.engine->build(run.d, run.o.build);
    b.sweep.build_seconds = timer.seconds(run.o.build.threads);
    b.sweep.footprint = b.engine->footprint();
    fprintf(stderr, "%s: %s built in %.1f s\n", run.d.name.c_str(), name.c_str(), b.sweep.build_seconds);
    all.push_back(std::move(b));
  }
  const double rows = run.d.count;
  printf("%-22s %10s %14s %14s\n", "build", "rows/s", "memory B/row", "disk B/row");
  run.json.key("engines").begin_array();
  for (const Built &b : all) {
    const Footprint &f = b.sweep.footprint;
    printf("  %-20s %10.0f %14.0f", b.engine->name().c_str(), rows / b.sweep.build_seconds, double(f.memory) / rows);
    if (f.disk)
      printf(" %14.0f\n", double(f.disk) / rows);
    else
      printf(" %14s\n", "-");
    run.json.begin_object()
        .field("name", b.engine->name())
        .field("build_rows_per_s", rows / b.sweep.build_seconds)
        .field("memory_bytes_per_row", double(f.memory) / rows)
        .field("disk_bytes_per_row", double(f.disk) / rows)
        .end_object();
  }
  run.json.end_array();
  return all;
}

void section_sweep(Run &run, std::vector<Built> &engines) {
  size_t most = 0;
  for (const Built &b : engines) most = std::max(most, b.engine->efforts(run.o.k, run.o.breadths).size());
  for (uint32_t round = 0; round < run.o.rounds; round++)
    for (size_t i = 0; i < most; i++)
      for (Built &b : engines) measure(run, b, i, round);
  for (const unsigned threads : run.o.search_threads) print_speed(engines, threads);
  print_latency(run, engines);
  printf("  *: the cheapest search tried is better than that recall already\n");
  printf("\nbreadth[/rerank]=recall/QPS, %u thread(s)\n", run.o.search_threads[0]);
  run.json.key("sweep").begin_array();
  for (const Built &b : engines) {
    printf("  %s:", b.engine->name().c_str());
    for (const Point &p : frontier(b.sweep.points.at(run.o.search_threads[0])))
      printf(" %s=%.4f/%.0f", text_of(p.effort).c_str(), p.recall, p.qps);
    printf("\n");
    run.json.begin_object().field("engine", b.engine->name());
    write_points(run.json, b.sweep.points);
    run.json.end_object();
  }
  run.json.end_array();
}

}  // namespace vexfs::bench
