// SPDX-License-Identifier: MIT
// The engines by name.
#include "engine.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "../common/volume.h"

namespace vexfs::bench {
namespace {

struct Kind {
  const char *name;
  std::unique_ptr<Engine> (*make)(const EngineSpec &, const Dataset &);
  bool usual;  // runs when no engines are named
  const char *what;
};

constexpr Kind kinds[] = {
    {"vexfs", make_vexfs, true,
     "the whole filesystem's core on an image file, by its ioctls\n"
     "      :index=hnsw, :element=f32|f16|bf16|int8, :direct=1 (O_DIRECT), :threads=1 (background), :cache=MB, "
     ":compact=1, :codes=, :m=, :efc="},
    {"vexfs-core", make_core, true,
     "its index over rows in memory; :index=hnsw, :element=, :codes=auto|none|sq8|sq4|rabitq2|rabitq1"},
    {"hnswlib", make_hnswlib, true, "hnswlib"},
    {"faiss-hnsw", make_faiss, true, "faiss HNSW over f32"},
    {"faiss-hnsw-sq8", make_faiss, true, "faiss HNSW over 8-bit codes; :refine=1 (keeps f32 and reranks)"},
    {"faiss-ivfpq", make_faiss, true, "faiss IVF, 4-bit PQ, reranked over f32; :nlist=N, :pq=N (subquantisers)"},
};

}  // namespace

EngineSpec EngineSpec::parse(const std::string &text) {
  EngineSpec s;
  s.text = text;
  size_t at = text.find(':');
  s.kind = text.substr(0, at);
  while (at != std::string::npos) {
    const size_t end = text.find(':', at + 1);
    const std::string word = text.substr(at + 1, end == std::string::npos ? end : end - at - 1);
    const size_t eq = word.find('=');
    if (eq == 0 || eq == std::string::npos) throw std::runtime_error(text + ": not NAME=VALUE: " + word);
    s.params[word.substr(0, eq)] = word.substr(eq + 1);
    at = end;
  }
  return s;
}

std::string EngineSpec::get(const std::string &name, const std::string &otherwise) const {
  const auto it = params.find(name);
  return it == params.end() ? otherwise : it->second;
}

uint32_t EngineSpec::number(const std::string &name, uint32_t otherwise) const {
  const auto it = params.find(name);
  if (it == params.end()) return otherwise;
  char *end;
  const unsigned long n = strtoul(it->second.c_str(), &end, 10);
  if (it->second.empty() || *end || n > 1u << 30) throw std::runtime_error(text + ": not a number: " + it->second);
  return static_cast<uint32_t>(n);
}

void EngineSpec::allow(const std::vector<std::string> &names) const {
  for (const auto &[name, value] : params)
    if (std::find(names.begin(), names.end(), name) == names.end())
      throw std::runtime_error(text + ": no parameter " + name);
}

std::vector<Effort> Engine::efforts(uint32_t k, const std::vector<uint32_t> &breadths) const {
  static const std::vector<uint32_t> usual = {10, 14, 20, 28, 40, 56, 80, 112, 160, 240, 360, 540};
  std::vector<Effort> all;
  for (const uint32_t b : breadths.empty() ? usual : breadths)
    if (all.empty() || all.back().breadth < std::max(b, k)) all.push_back({std::max(b, k), 0});
  return all;
}

std::unique_ptr<Engine> make_engine(const EngineSpec &spec, const Dataset &d) {
  for (const Kind &k : kinds)
    if (spec.kind == k.name) return k.make(spec, d);
  throw std::runtime_error("unknown engine " + spec.kind);
}

std::vector<std::string> default_engines(const Dataset &d) {
  std::vector<std::string> names;
  for (const Kind &k : kinds) {
    if (!k.usual) continue;
    names.push_back(k.name);
    if (names.back() == "vexfs" && d.integral && d.distance == Distance::l2) names.push_back("vexfs:element=int8");
  }
  return names;
}

std::string engine_help() {
  std::string s;
  for (const Kind &k : kinds) s += std::string("    ") + k.name + ": " + k.what + "\n";
  return s;
}

void normalise(float *v, uint32_t dim) {
  double s = 0;
  for (uint32_t i = 0; i < dim; i++) s += double{v[i]} * v[i];
  const float f = static_cast<float>(1 / std::sqrt(s));
  for (uint32_t i = 0; i < dim; i++) v[i] *= f;
}

double read_cold(const std::string &path, uint64_t *bytes) {
  drop_page_cache(path);
  const int fd = open(path.c_str(), O_RDONLY);
  must(fd >= 0, path.c_str());
  std::vector<char> buf(1 << 20);
  *bytes = 0;
  const Stopwatch watch;
  for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) >= 0;) {
    const off_t hole = lseek(fd, at, SEEK_HOLE);
    for (ssize_t n; at < hole; at += n, *bytes += static_cast<uint64_t>(n)) {
      n = pread(fd, buf.data(), std::min<size_t>(buf.size(), static_cast<size_t>(hole - at)), at);
      if (n > 0) continue;
      close(fd);
      must(false, path.c_str());
    }
  }
  const double seconds = watch.seconds();
  close(fd);
  return seconds;
}

}  // namespace vexfs::bench
