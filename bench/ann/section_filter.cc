// SPDX-License-Identifier: MIT
// Searches among the rows whose tag is in a range that 50, 10, 1 or 0.1 percent are in, the same for all calls or another
// one for each, and whether k hits come back while k rows match; beside them the same calls without a filter.
#include <cstdio>

#include "../common/timer.h"
#include "sections.h"

namespace vexfs::bench {
namespace {

Filter make_filter(const Dataset &d, double share, double from) {
  constexpr double tags = 4294967296.0;
  Filter f;
  f.from = static_cast<uint64_t>(from * tags);
  f.bound = f.from + static_cast<uint64_t>(share * tags);
  f.bits.assign((d.count + 7) / 8, 0);
  for (uint32_t i = 0; i < d.count; i++) {
    if (tag_of(i) < f.from || tag_of(i) >= f.bound) continue;
    f.bits[i / 8] |= static_cast<uint8_t>(1u << (i % 8));
    f.matching++;
  }
  return f;
}

// What the searches are restricted to: all to one range, or each to another of the same width. No filters: all rows.
struct Restriction {
  double share = 1;
  std::vector<Filter> filters;
  Dataset d;  // with its answers
  const Filter *of(uint32_t query) const { return filters.empty() ? nullptr : &filters[query % filters.size()]; }
  uint32_t matching(uint32_t query) const { return filters.empty() ? d.count : of(query)->matching; }
};

Restriction restriction(const Run &run, double share, bool each) {
  Restriction r;
  r.share = share;
  // More ranges than are remembered, and none of them twice in a round.
  const uint32_t n = each ? run.o.side_queries : 1;
  for (uint32_t i = 0; i < n; i++) r.filters.push_back(make_filter(run.d, share, (1 - share) * i / n));
  r.d = part_each(run.d, run.o.side_queries, [&](uint32_t query, uint32_t row) { return r.of(query)->has(row); });
  return r;
}

Restriction unrestricted(const Run &run) {
  Restriction r;
  r.d = part_each(run.d, run.o.side_queries, [](uint32_t, uint32_t) { return true; });
  return r;
}

struct Filtered {
  std::vector<Point> points;
  uint32_t missing = 0;  // searches that brought fewer than there are, at any effort
  uint32_t wrong = 0;    // hits that do not match
};

void check_hits(const Restriction &r, const std::vector<int64_t> &found, uint32_t k, Filtered *out) {
  for (uint32_t q = 0; q < found.size() / k; q++) {
    const Filter *f = r.of(q);
    uint32_t n = 0;
    for (uint32_t i = 0; i < k; i++) {
      const int64_t id = found[size_t{q} * k + i];
      n += id >= 0;
      out->wrong += id >= 0 && f && !f->has(static_cast<uint64_t>(id));
    }
    out->missing += n < std::min(k, r.matching(q));
  }
}

// A call for each query: what the searches of one call share, working out a filter, say, counts in full.
void run_calls(const Run &run, Engine &e, const Restriction &r, std::vector<int64_t> *found) {
  found->assign(size_t{r.d.queries} * run.o.k, -1);
  for (uint32_t q = 0; q < r.d.queries; q++) {
    e.set_filter(r.of(q));
    e.search(r.d.q(q), 1, run.o.k, &(*found)[size_t{q} * run.o.k]);
  }
}

Filtered measure(const Run &run, Engine &e, const Restriction &r) {
  Filtered out;
  std::vector<int64_t> found;
  for (const Effort &effort : e.efforts(run.o.k, run.o.breadths)) {
    e.set_effort(effort);
    Point p;
    p.effort = effort;
    for (uint32_t i = 0; i < run.o.rounds + 1; i++) {
      const Timer timer(run.o.cpu_clock);
      run_calls(run, e, r, &found);
      if (i) p.qps = std::max(p.qps, r.d.queries / timer.seconds(1));
    }
    p.recall = recall(r.d, found, run.o.k);
    check_hits(r, found, run.o.k, &out);
    out.points.push_back(p);
    if (p.recall >= 0.999) break;
  }
  return out;
}

void report(Run &run, Engine &e, const Restriction &r) {
  const bool each = r.filters.size() > 1;
  const Filtered f = measure(run, e, r);
  e.set_filter(nullptr);
  const auto best = frontier(f.points);
  printf("  %-20s %7.1f%% %6s", e.name().c_str(), r.share * 100, r.filters.empty() ? "none" : each ? "each" : "one");
  run.json.begin_object()
      .field("engine", e.name())
      .field("share", r.share)
      .field("ranges", static_cast<uint32_t>(r.filters.size()))
      .field("matching", r.matching(0));
  for (const double t : recall_targets) {
    const At a = qps_at(best, t);
    printf(" %10s", text_of(a, 1, "%.0f").c_str());
    char name[32];
    snprintf(name, sizeof name, "qps_at_%.2f", t);
    run.json.field(name, a.value);
  }
  printf(" %8.4f %8u %8u\n", best.back().recall, f.missing, f.wrong);
  run.json.field("best_recall", best.back().recall)
      .field("searches_with_too_few", f.missing)
      .field("hits_that_do_not_match", f.wrong)
      .end_object();
  if (f.wrong || (f.missing && e.filter_is_exact())) {
    printf("  FAILED: %s promises k hits that match\n", e.name().c_str());
    run.sound = false;
  }
}

}  // namespace

void section_filter(Run &run, std::vector<Built> &engines) {
  printf("\n%-22s %8s %6s %10s %10s %10s %8s %8s %8s\n", "filtered, 1 thread", "match", "ranges", "QPS@0.90",
         "QPS@0.95", "QPS@0.99", "best", "too few", "wrong");
  run.json.key("filter").begin_array();
  const Restriction all = unrestricted(run);
  for (Built &b : engines) report(run, *b.engine, all);
  bool first = true;
  for (const double share : {0.5, 0.1, 0.01, 0.001}) {
    for (const bool each : {false, true}) {
      const Restriction r = restriction(run, share, each);
      for (Built &b : engines) {
        if (b.engine->set_filter(&r.filters[0]))
          report(run, *b.engine, r);
        else if (first)
          printf("  %-20s has no filters here\n", b.engine->name().c_str());
      }
      first = false;
    }
  }
  run.json.end_array();
}

}  // namespace vexfs::bench
