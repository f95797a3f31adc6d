// SPDX-License-Identifier: MIT
// A recall that is asked for instead of a breadth: which breadth the engine chooses, by its own rows and by queries that it
// was searched with, and what recall and speed other queries get of it.
#include <cstdio>

#include "sections.h"

namespace vexfs::bench {
namespace {

// Every second query, from the first or the second on.
Dataset half_of(const Dataset &d, uint32_t first) {
  Dataset h = d;
  h.base.clear();
  h.query.clear();
  h.truth.clear();
  h.queries = 0;
  for (uint32_t q = first; q < d.queries; q += 2, h.queries++) {
    h.query.insert(h.query.end(), d.q(q), d.q(q) + d.dim);
    h.truth.insert(h.truth.end(), d.nearest(q), d.nearest(q) + d.truth_k);
  }
  return h;
}

void report(Run &run, Built &b, const Dataset &asked, double target, const Aim &aim) {
  b.engine->set_effort({aim.breadth, 0});
  std::vector<int64_t> found;
  double qps = 0;
  if (aim.breadth)
    for (uint32_t round = 0; round < run.o.rounds; round++)
      qps = std::max(qps, run_queries(*b.engine, asked, run.o.k, run.o.search_threads[0], 2 * passes_for(asked),
                                      run.o.cpu_clock, &found));
  const double got = aim.breadth ? recall(asked, found, run.o.k) : 1;
  printf("  %-24s %6.2f  %-8s %6u %8.4f %9.0f%s\n", b.engine->name().c_str(), target, aim.by.c_str(), aim.breadth, got,
         qps, got < target - 0.01 ? "  missed" : "");
  run.json.begin_object()
      .field("engine", b.engine->name())
      .field("target", target)
      .field("by", aim.by)
      .field("breadth", aim.breadth)
      .field("recall", got)
      .field("qps", qps)
      .end_object();
}

}  // namespace

void section_recall(Run &run, std::vector<Built> &engines) {
  const Dataset shown = half_of(run.d, 0), asked = half_of(run.d, 1);
  printf("\n%-26s %6s  %-8s %6s %8s %9s\n", "a recall asked for", "target", "by", "breadth", "recall", "QPS");
  run.json.key("recall").begin_array();
  for (Built &b : engines) {
    if (!b.engine->can_aim()) continue;
    std::vector<std::pair<double, Aim>> aims;
    for (const double t : recall_targets) aims.emplace_back(t, b.engine->aim(t, shown.q(0), run.o.k));
    std::vector<int64_t> found(size_t{shown.queries} * run.o.k);
    b.engine->search(shown.query.data(), shown.queries, run.o.k, found.data());
    for (const double t : recall_targets) aims.emplace_back(t, b.engine->aim(t, shown.q(0), run.o.k));
    for (const auto &[target, aim] : aims) report(run, b, asked, target, aim);
  }
  run.json.end_array();
}

}  // namespace vexfs::bench
