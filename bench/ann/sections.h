// SPDX-License-Identifier: MIT
// The sections of the benchmark. Each prints a table and adds a field to the set's object in the JSON.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../common/json.h"
#include "measure.h"
#include "options.h"

namespace vexfs::bench {

struct Sweep {  // of one engine
  double build_seconds = 0;
  Footprint footprint;
  std::map<unsigned, std::vector<Point>> points;  // by number of threads; latencies with the first
};

// An engine with all rows of the set, and what is known of it.
struct Built {
  EngineSpec spec;
  std::unique_ptr<Engine> engine;
  Sweep sweep;
  // To search with in the other sections: about recall 0.95, or the breadth 64 without a sweep.
  Effort usual() const;
};

struct Run {
  const Dataset &d;
  const Options &o;
  Json &json;
  bool sound = true;  // false: a promise that is checked was not kept
};

// Builds all engines.
std::vector<Built> build_engines(Run &run);
void section_sweep(Run &run, std::vector<Built> &engines);
void section_filter(Run &run, std::vector<Built> &engines);
void section_recall(Run &run, std::vector<Built> &engines);
void section_cold(Run &run, std::vector<Built> &engines);  // the last that uses these engines
// These build engines of their own.
void section_insert(Run &run, const std::vector<Built> &engines);
void section_replace(Run &run, const std::vector<Built> &engines);
void section_durable(Run &run, const std::vector<Built> &engines);

}  // namespace vexfs::bench
