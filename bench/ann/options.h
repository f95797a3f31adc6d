// SPDX-License-Identifier: MIT
// What the benchmark is asked to do.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "engine.h"

namespace vexfs::bench {

struct Options {
  std::vector<std::pair<std::string, Distance>> sets;
  std::vector<std::string> engines;   // empty: the usual ones
  std::vector<std::string> sections;  // of section_names()
  std::vector<uint32_t> breadths;     // of graphs; empty: the engines' own
  BuildOptions build;
  std::vector<unsigned> search_threads;  // the first counts for latencies and side sections: 1
  uint32_t k = 10, limit = 0, rounds = 3;
  uint32_t side_queries = 200;  // of sections other than the sweep, whose truth is computed
  uint32_t seconds = 10;        // at most, of sustained loads
  std::string json, svg;
  bool cpu_clock = false;

  bool wants(const std::string &section) const;
};

const std::vector<std::string> &section_names();
const char *distance_name(Distance d);
// Exits on --help; throws std::runtime_error.
Options parse_options(int argc, char **argv);

}  // namespace vexfs::bench
