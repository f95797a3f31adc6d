// SPDX-License-Identifier: MIT
// ann: recall, speed, size and behaviour of VexFS's vector engine and its peers, on the same data in the same run.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "../../kernel/core/api.h"
#include "../../kernel/core/simd/simd.h"
#include "plot.h"
#include "sections.h"

#ifndef VEXFS_PEERS_TEXT
#define VEXFS_PEERS_TEXT "none"
#endif

namespace vexfs::bench {
namespace {

std::string cpu_name() {
  std::ifstream f("/proc/cpuinfo");
  for (std::string line; std::getline(f, line);)
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  return "unknown";
}

void describe(Json &j, const Options &o) {
  printf("SIMD: %s; %s, %u processors; peers: %s; clock: %s\n", simd::level_name(simd::level()), cpu_name().c_str(),
         std::thread::hardware_concurrency(), VEXFS_PEERS_TEXT, o.cpu_clock ? "CPU time" : "wall");
  j.field("cpu", cpu_name())
      .field("processors", std::thread::hardware_concurrency())
      .field("simd", simd::level_name(simd::level()))
      .field("peers", VEXFS_PEERS_TEXT)
      .field("clock", o.cpu_clock ? "cpu" : "wall")
      .field("m", o.build.m)
      .field("ef_construction", o.build.ef_construction)
      .field("build_threads", static_cast<uint32_t>(o.build.threads))
      .field("k", o.k);
}

Panel panel_of(const Dataset &d, const Options &o, const std::vector<Built> &engines) {
  const unsigned threads = o.search_threads[0];
  Panel p;
  p.title = d.name + ": " + std::to_string(d.count) + " x " + std::to_string(d.dim) + ", " + distance_name(d.distance);
  for (const Built &b : engines) {
    Curve c;
    c.name = b.engine->name();
    for (const Point &at : frontier(b.sweep.points.at(threads))) c.points.emplace_back(at.recall, at.qps);
    p.curves.push_back(std::move(c));
  }
  return p;
}

// Returns whether all promises were kept.
bool run_set(const Dataset &d, const Options &o, Json &j, std::vector<Panel> *panels) {
  printf("\n==== %s: %u x %u, %s; m=%u ef_construction=%u, built by %u thread(s), recall@%u\n", d.name.c_str(), d.count,
         d.dim, distance_name(d.distance), o.build.m, o.build.ef_construction, o.build.threads, o.k);
  j.begin_object().field("name", d.name).field("rows", d.count).field("dim", d.dim).field("queries", d.queries);
  j.field("metric", distance_name(d.distance));
  Run run{d, o, j};
  std::vector<Built> engines = build_engines(run);
  const auto section = [&](const char *name, auto &&f) {
    if (!o.wants(name)) return;
    f(run, engines);
    fflush(stdout);
  };
  section("sweep", section_sweep);
  if (o.wants("sweep")) panels->push_back(panel_of(d, o, engines));
  section("filter", section_filter);
  section("recall", section_recall);
  section("insert", section_insert);
  section("replace", section_replace);
  section("durable", section_durable);
  section("cold", section_cold);
  j.field("promises_kept", run.sound).end_object();
  return run.sound;
}

void write_file(const std::string &path, const std::string &text) {
  std::ofstream f(path);
  f << text;
  f.close();
  if (!f) throw std::runtime_error("cannot write " + path);
}

void write_results(const Options &o, const Json &json, const std::vector<Panel> &panels) {
  if (!o.json.empty()) write_file(o.json, json.text() + "]}\n");
  if (o.svg.empty() || panels.empty()) return;
  const std::string caption = "recall@" + std::to_string(o.k) + " against queries/s, " +
                              std::to_string(o.search_threads[0]) + " thread(s), m=" + std::to_string(o.build.m) +
                              ", ef_construction=" + std::to_string(o.build.ef_construction) + "; " + cpu_name();
  write_file(o.svg, svg_plot(panels, caption));
}

int run(int argc, char **argv) {
  setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);  // so that what comes out of a pipe is in order
  if (vx_core_init() != 0) throw std::runtime_error("the core does not start");
  const Options o = parse_options(argc, argv);
  Json json;
  json.begin_object();
  describe(json, o);
  std::vector<Panel> panels;
  bool sound = true;
  json.key("sets").begin_array();
  for (const auto &[prefix, distance] : o.sets) {
    const Dataset d = load_dataset(prefix, distance, o.limit);
    if (d.count < 100) throw std::runtime_error(prefix + ": fewer than 100 rows");
    sound &= run_set(d, o, json, &panels);
    write_results(o, json, panels);  // after each set: a long run may be cut short
  }
  return sound ? 0 : 1;
}

}  // namespace
}  // namespace vexfs::bench

int main(int argc, char **argv) {
  try {
    return vexfs::bench::run(argc, argv);
  } catch (const std::exception &e) {
    fflush(stdout);
    fprintf(stderr, "ann: %s\n", e.what());
    return 1;
  }
}
