// SPDX-License-Identifier: MIT
// Running queries and reading figures off a sweep.
#include "measure.h"

#include <exception>
#include <mutex>
#include <thread>

#include "../common/timer.h"

namespace vexfs::bench {

double run_queries(Engine &e, const Dataset &d, uint32_t k, unsigned threads, uint32_t passes, bool cpu_clock,
                   std::vector<int64_t> *found) {
  found->assign(size_t{d.queries} * k, -1);
  const uint32_t share = (d.queries + threads - 1) / threads;
  std::exception_ptr failed;
  std::mutex lock;
  const auto part = [&](unsigned t) {
    try {
      const uint32_t from = std::min(t * share, d.queries), n = std::min(share, d.queries - from);
      for (uint32_t p = 0; p < passes && n; p++) e.search(d.q(from), n, k, &(*found)[size_t{from} * k]);
    } catch (...) {
      const std::lock_guard<std::mutex> guard(lock);
      failed = std::current_exception();
    }
  };
  const Timer timer(cpu_clock);
  std::vector<std::thread> others;
  for (unsigned t = 1; t < threads; t++) others.emplace_back(part, t);
  part(0);
  for (auto &t : others) t.join();
  const double took = timer.seconds(threads);
  if (failed) std::rethrow_exception(failed);
  return double{static_cast<double>(d.queries)} * passes / took;
}

Latency run_single(Engine &e, const Dataset &d, uint32_t k, bool cpu_clock, std::vector<int64_t> *found) {
  found->assign(size_t{d.queries} * k, -1);
  std::vector<double> seconds(d.queries);
  for (uint32_t q = 0; q < d.queries; q++) {
    const double start = latency_clock(cpu_clock);
    e.search(d.q(q), 1, k, &(*found)[size_t{q} * k]);
    seconds[q] = latency_clock(cpu_clock) - start;
  }
  return percentiles(std::move(seconds));
}

Latency percentiles(std::vector<double> seconds) {
  if (seconds.empty()) return {};
  std::sort(seconds.begin(), seconds.end());
  const auto at = [&](double p) {
    const auto rank = static_cast<size_t>(__builtin_ceil(p * static_cast<double>(seconds.size())));
    return seconds[std::max<size_t>(rank, 1) - 1];
  };
  return {at(0.50), at(0.95), at(0.99)};
}

std::vector<Point> frontier(std::vector<Point> points) {
  std::sort(points.begin(), points.end(),
            [](const Point &a, const Point &b) { return a.recall != b.recall ? a.recall > b.recall : a.qps > b.qps; });
  std::vector<Point> best;
  for (const Point &p : points)
    if (best.empty() || p.qps > best.back().qps) best.push_back(p);
  std::reverse(best.begin(), best.end());
  return best;
}

At qps_at(const std::vector<Point> &frontier, double target) {
  return at_recall(frontier, target, [](const Point &p) { return p.qps; });
}

Effort effort_for(const std::vector<Point> &frontier, double target) {
  for (const Point &p : frontier)
    if (p.recall >= target) return p.effort;
  return frontier.empty() ? Effort{64, 10} : frontier.back().effort;
}

std::string text_of(const At &a, double unit, const char *format) {
  if (a.value <= 0) return "-";
  char b[48];
  snprintf(b, sizeof b, format, a.value * unit);
  return std::string(a.bound ? "*" : "") + b;
}

std::string text_of(const Effort &e) {
  return std::to_string(e.breadth) + (e.rerank ? "/" + std::to_string(e.rerank) : "");
}

}  // namespace vexfs::bench
