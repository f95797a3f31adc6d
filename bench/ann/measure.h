// SPDX-License-Identifier: MIT
// Running queries and reading figures off a sweep.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "engine.h"

namespace vexfs::bench {

struct Latency {
  double p50 = 0, p95 = 0, p99 = 0;  // seconds
};

// One effort: how good, how fast.
struct Point {
  Effort effort;
  double recall = 0, qps = 0;
  Latency latency;
};

// A figure at a recall. value 0: that recall is not reached. bound: the cheapest search is better already, so that the
// figure is what it does (a lower bound of a speed, an upper one of a time).
struct At {
  double value = 0;
  bool bound = false;
};

constexpr double recall_targets[] = {0.90, 0.95, 0.99};

// How often to ask all of them, so that a measurement lasts.
inline uint32_t passes_for(const Dataset &d) { return std::max(1u, 500 / std::max(1u, d.queries)); }

// All queries by that many threads, `passes` times over, a thread's share in one call. Returns queries per second; the
// answers of the last pass are in found.
double run_queries(Engine &e, const Dataset &d, uint32_t k, unsigned threads, uint32_t passes, bool cpu_clock,
                   std::vector<int64_t> *found);
// Each query by a call of its own.
Latency run_single(Engine &e, const Dataset &d, uint32_t k, bool cpu_clock, std::vector<int64_t> *found);
Latency percentiles(std::vector<double> seconds);

// The points that no other beats in both, least recall first.
std::vector<Point> frontier(std::vector<Point> points);
// Between the two points of a frontier around the target, linear in recall and in the figure's logarithm.
template <class F>
At at_recall(const std::vector<Point> &frontier, double target, F &&figure) {
  At a;
  for (size_t i = 0; i < frontier.size(); i++) {
    if (frontier[i].recall < target) continue;
    const double here = figure(frontier[i]);
    if (i == 0) return {here, frontier[0].recall > target};
    const Point &before = frontier[i - 1];
    const double t = (target - before.recall) / (frontier[i].recall - before.recall);
    const double was = figure(before);
    a.value = was > 0 && here > 0 ? was * __builtin_pow(here / was, t) : here;
    return a;
  }
  return a;
}
At qps_at(const std::vector<Point> &frontier, double target);
// The cheapest effort that reaches the target, else the one of the best recall.
Effort effort_for(const std::vector<Point> &frontier, double target);

std::string text_of(const At &a, double unit, const char *format);  // "1234", "*1234": a bound, "-": none
std::string text_of(const Effort &e);                               // "40", "16/10"

}  // namespace vexfs::bench
