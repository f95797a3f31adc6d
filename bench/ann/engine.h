// SPDX-License-Identifier: MIT
// An engine that the benchmark can drive: VexFS's own and its peers. What one cannot do it says, and is left out there.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "dataset.h"

namespace vexfs::bench {

// An engine by name with its parameters: "vexfs:index=hnsw:element=int8". They are the engine's to understand.
struct EngineSpec {
  std::string text, kind;
  std::map<std::string, std::string> params;

  static EngineSpec parse(const std::string &text);
  std::string get(const std::string &name, const std::string &otherwise) const;
  uint32_t number(const std::string &name, uint32_t otherwise) const;
  // Throws when a parameter is not among these.
  void allow(const std::vector<std::string> &names) const;
};

struct BuildOptions {
  uint32_t m = 16;
  uint32_t ef_construction = 200;
  unsigned threads = 1;
  uint32_t capacity = 0;  // rows there will ever be, those inserted later included; 0: those of the set
  std::string dir;        // for images and files
};

// How much a search looks at: breadth is ef of a graph, nprobe of an inverted file. rerank: candidates scored exactly
// again, as a multiple of k; 0: none.
struct Effort {
  uint32_t breadth = 0, rerank = 0;
};

struct Footprint {
  uint64_t memory = 0;  // bytes for vectors and index
  uint64_t disk = 0;    // bytes on the device, 0: it has none
};

// Rows with from <= tag < bound.
struct Filter {
  uint64_t from = 0, bound = 0;
  uint32_t matching = 0;      // of the rows built
  std::vector<uint8_t> bits;  // bit i % 8 of byte i / 8: row i matches
  bool has(uint64_t row) const { return row / 8 < bits.size() && (bits[row / 8] >> (row % 8) & 1); }
};

// From closed files that are in nobody's cache to the first answer.
struct ColdStart {
  double open_seconds = 0, first_seconds = 0;  // mount or load, then the first query
  uint64_t open_bytes = 0, first_bytes = 0;    // read meanwhile
  double whole_seconds = 0;                    // reading all of it, cold, one after the other
  uint64_t whole_bytes = 0;
};

// A breadth chosen for a recall, and what it was measured with. breadth 0: an exact scan.
struct Aim {
  uint32_t breadth = 0;
  std::string by;
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual std::string name() const = 0;
  // All rows of the set; row i is found as i. Throws.
  virtual void build(const Dataset &d, const BuildOptions &o) = 0;
  // What a sweep tries, for k neighbours. breadths: what to try instead of its own, of a graph.
  virtual std::vector<Effort> efforts(uint32_t k, const std::vector<uint32_t> &breadths) const;
  virtual void set_effort(const Effort &e) = 0;  // no search is running
  // The k nearest of each of nq queries into out[0 .. nq * k), -1 where there are none. From several threads at once.
  virtual void search(const float *queries, uint32_t nq, uint32_t k, int64_t *out) = 0;
  virtual Footprint footprint() = 0;

  // From here on searches find only rows that match; null: all. False: not to be had. No search is running,
  // and it stays where it is until the next call.
  virtual bool set_filter(const Filter *) { return false; }
  // Does it promise k hits while k rows match?
  virtual bool filter_is_exact() const { return false; }
  // Rows from .. from + n - 1, searchable when it returns, while searches run. One caller at a time.
  virtual bool can_insert() const { return false; }
  virtual void insert(const Dataset &, uint32_t /*from*/, uint32_t /*n*/) { throw std::logic_error("no inserts"); }
  // Waits until the index has all rows that were inserted, where that happens behind.
  virtual void settle() {}
  virtual bool can_erase() const { return false; }
  virtual void erase(const std::vector<uint32_t> &) { throw std::logic_error("no deletes"); }
  // Can it be told a recall instead of a breadth? Then aim() says what it makes of that for a query, by what it knows of its rows and of
  // the searches since the first call.
  virtual bool can_aim() const { return false; }
  virtual Aim aim(double /*recall*/, const float * /*query*/, uint32_t /*k*/) { throw std::logic_error("no recall"); }
  // Closes it, drops what is cached, opens it and asks. False: not to be had. May be called after build, once.
  virtual bool cold_start(const float * /*query*/, uint32_t /*k*/, ColdStart *) { return false; }
};

// Throws when there is no such kind, or a parameter is wrong. Null: not built in, or not for such a set.
std::unique_ptr<Engine> make_engine(const EngineSpec &spec, const Dataset &d);
std::vector<std::string> default_engines(const Dataset &d);
std::string engine_help();

std::unique_ptr<Engine> make_vexfs(const EngineSpec &spec, const Dataset &d);
std::unique_ptr<Engine> make_core(const EngineSpec &spec, const Dataset &d);
std::unique_ptr<Engine> make_hnswlib(const EngineSpec &spec, const Dataset &d);
std::unique_ptr<Engine> make_faiss(const EngineSpec &spec, const Dataset &d);

// Of a vector, to length 1.
void normalise(float *v, uint32_t dim);
// Reads all that a file has (not its holes) from begin to end, cold; returns seconds.
double read_cold(const std::string &path, uint64_t *bytes);

}  // namespace vexfs::bench
