// SPDX-License-Identifier: MIT
// vexfs-ann: recall against speed of VexFS's index and its peers, on the same data in the same run.
//
// Every engine is built, then all are searched in turns, round after round, so that a machine that drifts drifts for
// all of them; the best round of each point counts. Speeds at a recall are interpolated between the points around it.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <map>
#include <stdexcept>
#include <thread>

#include "../../kernel/core/simd/simd.h"
#include "engine.h"

namespace vexfs::bench {
namespace {

// Time by the wall, or (--clock cpu) as the CPU time of all threads divided by their number, for a machine that others
// use too.
class Timer {
 public:
  explicit Timer(bool cpu) : cpu_(cpu), start_(now()) {}
  double seconds(unsigned threads) const { return (now() - start_) / (cpu_ ? threads : 1); }

 private:
  double now() const {
    timespec t;
    clock_gettime(cpu_ ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
  }
  bool cpu_;
  double start_;
};

struct Options {
  std::vector<std::pair<std::string, Distance>> sets;
  std::vector<std::string> engines;
  std::vector<uint32_t> efs = {10, 14, 20, 28, 40, 56, 80, 112, 160, 240, 360};
  BuildOptions build;
  uint32_t k = 10, limit = 0, rounds = 3;
  unsigned search_threads = 1;
  std::string json;
  bool cpu_clock = false;
};

struct Point {
  uint32_t ef;
  double recall, qps;
};
struct Outcome {
  std::string engine;
  double build_seconds = 0;
  size_t bytes = 0;
  std::vector<Point> points;
};

void usage(FILE *f) {
  fprintf(f,
          "usage: ann [options] PREFIX[:l2|cosine|ip]...\n"
          "  PREFIX_base, PREFIX_query (.fvecs .bvecs .npy) and PREFIX_gt.ivecs are read.\n"
          "  --engines LIST      of vexfs, int8 (integer sets), hnswlib, faiss; default: all there are\n"
          "  --m N  --efc N      graph parameters (16, 200)\n"
          "  --threads N         build threads (1)\n"
          "  --search-threads N  (1)\n"
          "  --ef LIST           search breadths to try\n"
          "  --k N               neighbours asked for (10)\n"
          "  --rounds N          (3)\n"
          "  --limit N           first N base rows only\n"
          "  --level NAME        sse2, avx2, avx512: instruction set of VexFS's kernels\n"
          "  --clock wall|cpu    what is measured (wall); cpu: on a machine that is busy with other things\n"
          "  --json FILE         write the figures\n");
}

std::vector<std::string> split(const std::string &s) {
  std::vector<std::string> out;
  for (size_t at = 0; at <= s.size();) {
    size_t end = std::min(s.find(',', at), s.size());
    out.push_back(s.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

Options parse(int argc, char **argv) {
  Options o;
  for (int i = 1; i < argc; i++) {
    const std::string a = argv[i];
    if (a == "--help" || a == "-h") {
      usage(stdout);
      exit(0);
    }
    if (a.rfind("--", 0) != 0) {
      const size_t colon = a.rfind(':');
      const std::string metric = colon == std::string::npos ? "l2" : a.substr(colon + 1);
      if (metric != "l2" && metric != "cosine" && metric != "ip") throw std::runtime_error("unknown metric " + metric);
      o.sets.emplace_back(a.substr(0, colon), metric == "l2"       ? Distance::l2
                                              : metric == "cosine" ? Distance::cosine
                                                                   : Distance::ip);
      continue;
    }
    if (++i == argc) throw std::runtime_error(a + " needs a value");
    const std::string v = argv[i];
    auto number = [&] {
      char *end;
      unsigned long n = strtoul(v.c_str(), &end, 10);
      if (v.empty() || *end || n == 0 || n > 1u << 30) throw std::runtime_error(a + ": not a number: " + v);
      return static_cast<uint32_t>(n);
    };
    if (a == "--engines")
      o.engines = split(v);
    else if (a == "--m")
      o.build.m = number();
    else if (a == "--efc")
      o.build.ef_construction = number();
    else if (a == "--threads")
      o.build.threads = number();
    else if (a == "--search-threads")
      o.search_threads = number();
    else if (a == "--k")
      o.k = number();
    else if (a == "--rounds")
      o.rounds = number();
    else if (a == "--limit")
      o.limit = number();
    else if (a == "--json")
      o.json = v;
    else if (a == "--clock" && (v == "cpu" || v == "wall"))
      o.cpu_clock = v == "cpu";
    else if (a == "--ef") {
      o.efs.clear();
      for (const std::string &e : split(v)) o.efs.push_back(static_cast<uint32_t>(strtoul(e.c_str(), nullptr, 10)));
    } else if (a == "--level") {
      bool done = false;
      for (simd::Level l : {simd::Level::sse2, simd::Level::avx2, simd::Level::avx512, simd::Level::neon})
        if (v == simd::level_name(l)) done = simd::force_level(l).ok();
      if (!done) throw std::runtime_error("this CPU has no level " + v);
    } else
      throw std::runtime_error("unknown option " + a);
  }
  if (o.sets.empty()) throw std::runtime_error("no data set given");
  return o;
}

std::vector<std::unique_ptr<Engine>> make_engines(const Options &o, const Dataset &d) {
  std::vector<std::unique_ptr<Engine>> all;
  auto asked = [&](const char *name) {
    return o.engines.empty() || std::find(o.engines.begin(), o.engines.end(), name) != o.engines.end();
  };
  auto add = [&](const char *name, std::unique_ptr<Engine> e) {
    if (e)
      all.push_back(std::move(e));
    else
      printf("%s is not built in\n", name);
  };
  if (asked("vexfs")) add("vexfs", make_vexfs());
  if (asked("int8") && d.integral && d.distance == Distance::l2) add("int8", make_vexfs_int8());
  if (asked("hnswlib")) add("hnswlib", make_hnswlib());
  if (asked("faiss")) add("faiss", make_faiss());
  return all;
}

Point measure(Engine &e, const Dataset &d, const Options &o, uint32_t ef) {
  std::vector<int64_t> found(size_t{d.queries} * o.k);
  auto part = [&](uint32_t from, uint32_t to) {
    for (uint32_t q = from; q < to; q++) e.search(d.q(q), o.k, ef, &found[size_t{q} * o.k]);
  };
  part(0, std::min<uint32_t>(50, d.queries));  // warm
  const Timer timer(o.cpu_clock);
  std::vector<std::thread> threads;
  const uint32_t share = (d.queries + o.search_threads - 1) / o.search_threads;
  for (unsigned t = 1; t < o.search_threads; t++)
    threads.emplace_back(part, std::min(t * share, d.queries), std::min((t + 1) * share, d.queries));
  part(0, std::min(share, d.queries));
  for (auto &t : threads) t.join();
  const double took = timer.seconds(o.search_threads);
  return {ef, recall(d, found, o.k), d.queries / took};
}

// Speed at a recall, between the two points around it, linear in recall and log speed. 0: not reached; when even the
// first point is above, that point's speed (a lower bound).
double qps_at(const std::vector<Point> &points, double target) {
  if (points.empty()) return 0;
  if (points[0].recall >= target) return points[0].qps;
  for (size_t i = 1; i < points.size(); i++) {
    const Point &a = points[i - 1], &b = points[i];
    if (b.recall < target || b.recall <= a.recall) continue;
    const double t = (target - a.recall) / (b.recall - a.recall);
    return std::exp(std::log(a.qps) * (1 - t) + std::log(b.qps) * t);
  }
  return 0;
}

constexpr double targets[] = {0.90, 0.95, 0.99};

void print_table(const Dataset &d, const Options &o, const std::vector<Outcome> &out) {
  printf("\n%s: %u x %u, m=%u ef_construction=%u, build threads %u, search threads %u, recall@%u\n", d.name.c_str(),
         d.count, d.dim, o.build.m, o.build.ef_construction, o.build.threads, o.search_threads, o.k);
  printf("%-12s %12s %10s", "engine", "build rows/s", "bytes/row");
  for (double t : targets) printf("   QPS@%.2f", t);
  printf("\n");
  const Outcome *peer = nullptr;
  for (const Outcome &x : out)
    if (x.engine == "hnswlib") peer = &x;
  for (const Outcome &x : out) {
    printf("%-12s %12.0f %10.0f", x.engine.c_str(), d.count / x.build_seconds, double(x.bytes) / d.count);
    for (double t : targets) printf(" %10.0f", qps_at(x.points, t));
    printf("\n");
  }
  if (!peer) return;
  for (const Outcome &x : out) {
    if (&x == peer) continue;
    printf("%-12s %11.2fx %9.2fx", ("  " + x.engine).c_str(), peer->build_seconds / x.build_seconds,
           double(x.bytes) / double(peer->bytes));
    for (double t : targets) {
      const double p = qps_at(peer->points, t), q = qps_at(x.points, t);
      if (p > 0 && q > 0)
        printf(" %9.2fx", q / p);
      else
        printf(" %10s", "-");
    }
    printf("  of hnswlib\n");
  }
  for (const Outcome &x : out) {
    printf("%s:", x.engine.c_str());
    for (const Point &p : x.points) printf(" %u=%.4f/%.0f", p.ef, p.recall, p.qps);
    printf("\n");
  }
}

void write_json(std::ofstream &f, const Dataset &d, const Options &o, const std::vector<Outcome> &out, bool first) {
  f << (first ? "" : ",\n") << "  {\"set\": \"" << d.name << "\", \"rows\": " << d.count << ", \"dim\": " << d.dim
    << ", \"m\": " << o.build.m << ", \"ef_construction\": " << o.build.ef_construction
    << ", \"build_threads\": " << o.build.threads << ", \"search_threads\": " << o.search_threads << ", \"k\": " << o.k
    << ", \"simd\": \"" << simd::level_name(simd::level()) << "\", \"engines\": [";
  for (size_t e = 0; e < out.size(); e++) {
    const Outcome &x = out[e];
    f << (e ? ", " : "") << "{\"name\": \"" << x.engine << "\", \"build_rows_per_s\": " << d.count / x.build_seconds
      << ", \"bytes_per_row\": " << double(x.bytes) / d.count;
    for (double t : targets) f << ", \"qps_at_" << t << "\": " << qps_at(x.points, t);
    f << ", \"points\": [";
    for (size_t i = 0; i < x.points.size(); i++)
      f << (i ? ", " : "") << "{\"ef\": " << x.points[i].ef << ", \"recall\": " << x.points[i].recall
        << ", \"qps\": " << x.points[i].qps << "}";
    f << "]}";
  }
  f << "]}";
}

std::vector<Outcome> run_set(const Dataset &d, const Options &o) {
  std::vector<std::unique_ptr<Engine>> engines = make_engines(o, d);
  std::vector<Outcome> out;
  for (auto &e : engines) {
    const Timer timer(o.cpu_clock);
    e->build(d, o.build);
    Outcome x;
    x.engine = e->name();
    x.build_seconds = timer.seconds(o.build.threads);
    x.bytes = e->bytes();
    out.push_back(x);
    fprintf(stderr, "%s: %s built in %.1f s\n", d.name.c_str(), x.engine.c_str(), x.build_seconds);
  }
  for (uint32_t round = 0; round < o.rounds; round++)
    for (size_t i = 0; i < o.efs.size(); i++)
      for (size_t e = 0; e < engines.size(); e++) {
        const Point p = measure(*engines[e], d, o, std::max(o.efs[i], o.k));
        if (round == 0)
          out[e].points.push_back(p);
        else if (p.qps > out[e].points[i].qps)
          out[e].points[i].qps = p.qps;
      }
  return out;
}

int run(int argc, char **argv) {
  simd::init();
  const Options o = parse(argc, argv);
  printf("SIMD: %s\n", simd::level_name(simd::level()));
  std::ofstream json;
  if (!o.json.empty()) {
    json.open(o.json);
    if (!json) throw std::runtime_error("cannot write " + o.json);
    json << "[\n";
  }
  bool first = true;
  for (const auto &[prefix, distance] : o.sets) {
    const Dataset d = load_dataset(prefix, distance, o.limit);
    const std::vector<Outcome> out = run_set(d, o);
    print_table(d, o, out);
    if (json.is_open()) write_json(json, d, o, out, first);
    first = false;
  }
  if (json.is_open()) json << "\n]\n";
  return 0;
}

}  // namespace
}  // namespace vexfs::bench

int main(int argc, char **argv) {
  try {
    return vexfs::bench::run(argc, argv);
  } catch (const std::exception &e) {
    fprintf(stderr, "ann: %s\n", e.what());
    return 1;
  }
}
