// SPDX-License-Identifier: MIT
// Half of the rows are deleted and as many others come: recall and speed beside an index built of these rows alone.
#include <algorithm>
#include <cstdio>
#include <numeric>

#include "../common/timer.h"
#include "sections.h"

namespace vexfs::bench {
namespace {

// The first two thirds of the set are built, every second row of them goes, the last third comes.
struct Plan {
  uint32_t third;
  bool lives(uint32_t row) const { return row < 3 * third && (row >= 2 * third || row % 2 == 1); }
};

struct Side {
  std::unique_ptr<Engine> engine;
  const Dataset *d;
  std::vector<Point> points;
};

void measure(const Run &run, Side &s, const Effort &effort) {
  s.engine->set_effort(effort);
  std::vector<int64_t> found;
  run_single(*s.engine, *s.d, run.o.k, run.o.cpu_clock, &found);
  Point p;
  p.effort = effort;
  for (int i = 0; i < 2; i++)
    p.qps = std::max(p.qps, run_queries(*s.engine, *s.d, run.o.k, 1, passes_for(*s.d), run.o.cpu_clock, &found));
  p.recall = recall(*s.d, found, run.o.k);
  s.points.push_back(p);
}

void report(Run &run, const std::string &name, const char *state, const std::vector<Point> &points, const Effort &usual,
            uint64_t memory) {
  const auto best = frontier(points);
  Point same;
  for (const Point &p : points)
    if (p.effort.breadth <= usual.breadth || same.qps == 0) same = p;
  printf("  %-20s %-9s", name.c_str(), state);
  run.json.key(state).begin_object();
  for (const double t : recall_targets) {
    const At a = qps_at(best, t);
    printf(" %10s", text_of(a, 1, "%.0f").c_str());
    char field[32];
    snprintf(field, sizeof field, "qps_at_%.2f", t);
    run.json.field(field, a.value);
  }
  printf(" %10.4f at %-4u %12.1f\n", same.recall, same.effort.breadth, static_cast<double>(memory) / 1e6);
  run.json.field("breadth", same.effort.breadth).field("recall", same.recall).field("memory_bytes", memory);
  run.json.key("points").begin_array();
  for (const Point &p : points)
    run.json.begin_object()
        .field("breadth", p.effort.breadth)
        .field("recall", p.recall)
        .field("qps", p.qps)
        .end_object();
  run.json.end_array().end_object();
}

}  // namespace

void section_replace(Run &run, const std::vector<Built> &engines) {
  const Plan plan{run.d.count / 3};
  const Dataset churned = part_of(run.d, 3 * plan.third, run.o.side_queries, [&](uint32_t r) { return plan.lives(r); });
  std::vector<uint32_t> begin(2 * plan.third), gone, alive;
  std::iota(begin.begin(), begin.end(), 0u);
  for (uint32_t i = 0; i < 3 * plan.third; i++) {
    if (plan.lives(i)) alive.push_back(i);
    if (i < 2 * plan.third && !plan.lives(i)) gone.push_back(i);
  }
  const Dataset before = rows_of(churned, begin), rest = rows_of(churned, alive);
  Dataset fresh = part_of(rest, rest.count, 0, nullptr);
  fresh.queries = churned.queries;
  fresh.query = churned.query;
  fresh = part_of(fresh, fresh.count, fresh.queries, [](uint32_t) { return true; });
  printf("\n%-32s %10s %10s %10s %18s %12s\n", "half replaced, 1 thread", "QPS@0.90", "QPS@0.95", "QPS@0.99",
         "recall at breadth", "memory MB");
  run.json.key("replace").begin_array();
  for (const Built &b : engines) {
    if (!b.engine->can_erase()) {
      printf("  %-20s deletes no rows here\n", b.engine->name().c_str());
      continue;
    }
    Side a{make_engine(b.spec, churned), &churned, {}}, f{make_engine(b.spec, fresh), &fresh, {}};
    BuildOptions o = run.o.build;
    o.capacity = churned.count;
    a.engine->build(before, o);
    f.engine->build(rest, run.o.build);
    const Timer timer(run.o.cpu_clock);
    a.engine->erase(gone);
    const double erased = timer.seconds(1);
    for (uint32_t at = 2 * plan.third; at < churned.count; at += 1000)
      a.engine->insert(churned, at, std::min(1000u, churned.count - at));
    a.engine->settle();
    const double inserted = timer.seconds(1) - erased;
    for (const Effort &e : a.engine->efforts(run.o.k, run.o.breadths)) {
      measure(run, a, e);
      measure(run, f, e);
    }
    run.json.begin_object()
        .field("engine", a.engine->name())
        .field("deletes_per_s", static_cast<double>(gone.size()) / erased)
        .field("inserts_per_s", plan.third / inserted);
    report(run, a.engine->name(), "replaced", a.points, b.usual(), a.engine->footprint().memory);
    report(run, f.engine->name(), "fresh", f.points, b.usual(), f.engine->footprint().memory);
    run.json.end_object();
    printf("  %-20s %.0f deletes/s, %.0f inserts/s, one thread\n", "", static_cast<double>(gone.size()) / erased,
           plan.third / inserted);
  }
  run.json.end_array();
}

}  // namespace vexfs::bench
