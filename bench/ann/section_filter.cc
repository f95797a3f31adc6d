// SPDX-License-Identifier: MIT
// Searches among the rows whose tag is in a range that 50, 10, 1 or 0.1 percent are in, and whether k hits come back
// while k rows match.
#include <cstdio>

#include "../common/timer.h"
#include "sections.h"

namespace vexfs::bench {
namespace {

Filter make_filter(const Dataset &d, double share) {
  Filter f;
  f.bound = static_cast<uint64_t>(share * 4294967296.0);
  f.bits.assign((d.count + 7) / 8, 0);
  for (uint32_t i = 0; i < d.count; i++) {
    if (tag_of(i) >= f.bound) continue;
    f.bits[i / 8] |= static_cast<uint8_t>(1u << (i % 8));
    f.matching++;
  }
  return f;
}

struct Filtered {
  std::vector<Point> points;
  uint32_t missing = 0;  // searches that brought fewer than there are, at any effort
  uint32_t wrong = 0;    // hits that do not match
};

void check_hits(const Filter &f, const std::vector<int64_t> &found, uint32_t k, Filtered *out) {
  for (size_t q = 0; q < found.size() / k; q++) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < k; i++) {
      const int64_t id = found[q * k + i];
      n += id >= 0;
      out->wrong += id >= 0 && !f.has(static_cast<uint64_t>(id));
    }
    out->missing += n < std::min(k, f.matching);
  }
}

Filtered measure(const Run &run, Engine &e, const Dataset &d, const Filter &f) {
  Filtered out;
  std::vector<int64_t> found;
  for (const Effort &effort : e.efforts(run.o.k, run.o.breadths)) {
    e.set_effort(effort);
    Point p;
    p.effort = effort;
    // A call for each query: what the searches of one call share, working out a filter, say, counts in full.
    for (uint32_t i = 0; i < std::min(run.o.rounds, 2u) + 1; i++) {
      const Timer timer(run.o.cpu_clock);
      run_single(e, d, run.o.k, run.o.cpu_clock, &found);
      if (i) p.qps = std::max(p.qps, d.queries / timer.seconds(1));
    }
    p.recall = recall(d, found, run.o.k);
    check_hits(f, found, run.o.k, &out);
    out.points.push_back(p);
    if (p.recall >= 0.999) break;
  }
  return out;
}

}  // namespace

void section_filter(Run &run, std::vector<Built> &engines) {
  printf("\n%-22s %8s %10s %10s %10s %8s %8s %8s\n", "filtered, 1 thread", "match", "QPS@0.90", "QPS@0.95", "QPS@0.99",
         "best", "too few", "wrong");
  run.json.key("filter").begin_array();
  for (const double share : {0.5, 0.1, 0.01, 0.001}) {
    const Filter f = make_filter(run.d, share);
    const Dataset d = part_of(run.d, run.d.count, run.o.side_queries, [&](uint32_t row) { return f.has(row); });
    for (Built &b : engines) {
      if (!b.engine->set_filter(&f)) {
        if (share == 0.5) printf("  %-20s has no filters here\n", b.engine->name().c_str());
        continue;
      }
      const Filtered r = measure(run, *b.engine, d, f);
      b.engine->set_filter(nullptr);
      const auto best = frontier(r.points);
      printf("  %-20s %7.1f%%", b.engine->name().c_str(), share * 100);
      run.json.begin_object().field("engine", b.engine->name()).field("share", share).field("matching", f.matching);
      for (const double t : recall_targets) {
        const At a = qps_at(best, t);
        printf(" %10s", text_of(a, 1, "%.0f").c_str());
        char name[32];
        snprintf(name, sizeof name, "qps_at_%.2f", t);
        run.json.field(name, a.value);
      }
      printf(" %8.4f %8u %8u\n", best.back().recall, r.missing, r.wrong);
      run.json.field("best_recall", best.back().recall)
          .field("searches_with_too_few", r.missing)
          .field("hits_that_do_not_match", r.wrong)
          .end_object();
      if (r.wrong || (r.missing && b.engine->filter_is_exact())) {
        printf("  FAILED: %s promises k hits that match\n", b.engine->name().c_str());
        run.sound = false;
      }
    }
  }
  run.json.end_array();
}

}  // namespace vexfs::bench
