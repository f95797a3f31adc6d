// SPDX-License-Identifier: MIT
// An engine that the benchmark can drive: VexFS's own and its peers.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "dataset.h"

namespace vexfs::bench {

struct BuildOptions {
  uint32_t m = 16;
  uint32_t ef_construction = 200;
  unsigned threads = 1;
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual std::string name() const = 0;
  virtual void build(const Dataset &d, const BuildOptions &o) = 0;
  // The k nearest into out[0..k), -1 where there are none. Called from several threads at once.
  virtual void search(const float *query, uint32_t k, uint32_t ef, int64_t *out) = 0;
  // Bytes held for the whole index, vectors included.
  virtual size_t bytes() const = 0;
};

std::unique_ptr<Engine> make_vexfs();       // f32 rows
std::unique_ptr<Engine> make_vexfs_int8();  // int8 rows: sets of integers 0..255 under L2, shifted by 128
std::unique_ptr<Engine> make_hnswlib();     // null: not built in
std::unique_ptr<Engine> make_faiss();       // null: not built in

}  // namespace vexfs::bench
