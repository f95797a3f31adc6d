// SPDX-License-Identifier: MIT
// The command line.
#include "options.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "../../kernel/core/simd/simd.h"

namespace vexfs::bench {
namespace {

void usage() {
  printf(
      "usage: ann [options] PREFIX[:l2|cosine|ip]...\n"
      "  PREFIX_base, PREFIX_query (.fvecs .bvecs .npy) and PREFIX_gt.ivecs are read.\n"
      "  --engines LIST        NAME[:PARAMETER=VALUE]..., separated by commas:\n%s"
      "  --sections LIST       of sweep, filter, recall, insert, replace, durable, cold (all)\n"
      "  --m N  --efc N        graph parameters (16, 200)\n"
      "  --threads N           that build (all processors)\n"
      "  --search-threads LIST numbers of threads that search in the sweep (1 and all processors)\n"
      "  --ef LIST             search breadths of graphs to try\n"
      "  --k N                 neighbours asked for (10)\n"
      "  --rounds N            of the sweep, the best counts (3)\n"
      "  --limit N             first N base rows only\n"
      "  --side-queries N      queries in sections other than the sweep (200)\n"
      "  --seconds N           at most, of inserting while searching (10)\n"
      "  --dir DIR             for images and saved indexes (TMPDIR or /tmp)\n"
      "  --level NAME          sse2, avx2, avx512, neon: instruction set of VexFS's kernels\n"
      "  --clock wall|cpu      what is measured (wall); cpu: on a machine that is busy with other things\n"
      "  --json FILE           write the figures\n"
      "  --svg FILE            write a plot of recall against speed\n",
      engine_help().c_str());
}

std::vector<std::string> split(const std::string &s) {
  std::vector<std::string> out;
  for (size_t at = 0; at <= s.size();) {
    const size_t end = std::min(s.find(',', at), s.size());
    if (end > at) out.push_back(s.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

uint32_t number(const std::string &option, const std::string &v) {
  char *end;
  const unsigned long n = strtoul(v.c_str(), &end, 10);
  if (v.empty() || *end || n == 0 || n > 1u << 30) throw std::runtime_error(option + ": not a number: " + v);
  return static_cast<uint32_t>(n);
}

template <class T>
void numbers(const std::string &option, const std::string &v, std::vector<T> *out) {
  out->clear();
  for (const std::string &e : split(v)) out->push_back(number(option, e));
  if (out->empty()) throw std::runtime_error(option + ": no number");
}

std::pair<std::string, Distance> set_of(const std::string &word) {
  const size_t colon = word.rfind(':');
  const std::string metric = colon == std::string::npos ? "l2" : word.substr(colon + 1);
  for (const Distance d : {Distance::l2, Distance::cosine, Distance::ip})
    if (metric == distance_name(d)) return {word.substr(0, colon), d};
  throw std::runtime_error(word + ": unknown metric " + metric);
}

void force_level(const std::string &v) {
  for (const simd::Level l : {simd::Level::sse2, simd::Level::avx2, simd::Level::avx512, simd::Level::neon})
    if (v == simd::level_name(l) && simd::force_level(l).ok()) return;
  throw std::runtime_error("this CPU has no level " + v);
}

void apply(Options &o, const std::string &a, const std::string &v) {
  if (a == "--engines")
    o.engines = split(v);
  else if (a == "--sections")
    o.sections = split(v);
  else if (a == "--m")
    o.build.m = number(a, v);
  else if (a == "--efc")
    o.build.ef_construction = number(a, v);
  else if (a == "--threads")
    o.build.threads = number(a, v);
  else if (a == "--search-threads")
    numbers(a, v, &o.search_threads);
  else if (a == "--ef")
    numbers(a, v, &o.breadths);
  else if (a == "--k")
    o.k = number(a, v);
  else if (a == "--rounds")
    o.rounds = number(a, v);
  else if (a == "--limit")
    o.limit = number(a, v);
  else if (a == "--side-queries")
    o.side_queries = number(a, v);
  else if (a == "--seconds")
    o.seconds = number(a, v);
  else if (a == "--dir")
    o.build.dir = v;
  else if (a == "--level")
    force_level(v);
  else if (a == "--clock" && (v == "cpu" || v == "wall"))
    o.cpu_clock = v == "cpu";
  else if (a == "--json")
    o.json = v;
  else if (a == "--svg")
    o.svg = v;
  else
    throw std::runtime_error("unknown option or value: " + a + " " + v);
}

}  // namespace

const std::vector<std::string> &section_names() {
  static const std::vector<std::string> names = {"sweep", "filter", "recall", "insert", "replace", "durable", "cold"};
  return names;
}

const char *distance_name(Distance d) { return d == Distance::l2 ? "l2" : d == Distance::cosine ? "cosine" : "ip"; }

bool Options::wants(const std::string &section) const {
  return std::find(sections.begin(), sections.end(), section) != sections.end();
}

Options parse_options(int argc, char **argv) {
  Options o;
  const unsigned cpus = std::max(1u, std::thread::hardware_concurrency());
  const char *tmp = getenv("TMPDIR");
  o.build.dir = tmp && *tmp ? tmp : "/tmp";
  o.build.threads = cpus;
  o.search_threads = {1};
  if (cpus > 1) o.search_threads.push_back(cpus);
  o.sections = section_names();
  for (int i = 1; i < argc; i++) {
    const std::string a = argv[i];
    if (a == "--help" || a == "-h") {
      usage();
      exit(0);
    }
    if (a.rfind("--", 0) != 0) {
      o.sets.push_back(set_of(a));
      continue;
    }
    if (++i == argc) throw std::runtime_error(a + " needs a value");
    apply(o, a, argv[i]);
  }
  for (const std::string &s : o.sections)
    if (std::find(section_names().begin(), section_names().end(), s) == section_names().end())
      throw std::runtime_error("unknown section " + s);
  std::sort(o.breadths.begin(), o.breadths.end());
  if (o.sets.empty()) throw std::runtime_error("no data set given; --help shows how");
  if (o.k > 100) throw std::runtime_error("--k: at most 100, so many neighbours are known");
  return o;
}

}  // namespace vexfs::bench
