// SPDX-License-Identifier: MIT
// mkfs.vexfs: what the command line asks for.
#pragma once
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace vexfs::mkfs {

enum Exit : int { exit_ok = 0, exit_failed = 1, exit_usage = 2 };

class Usage : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct CollectionOptions {
  bool wanted = false;
  uint32_t dim = 768;
  uint16_t element = 0, metric = 0, index = 0;  // of <uapi/vexfs.h>
  uint16_t m = 0;                               // 0: the core's default, likewise below
  uint32_t ef_construction = 0, ef_search = 0;
  std::string name;
};

struct Options {
  std::string device;
  uint64_t size = 0;  // bytes; 0: the whole device
  std::string label;
  std::array<uint8_t, 16> uuid{};         // all zero: random
  uint32_t block_size = 4096;             // bytes
  uint32_t node_size = 0;                 // bytes; 0: default
  uint8_t node_copies = 0;                // of tree nodes: 1 or 2; 0: default
  uint64_t journal_bytes = ~uint64_t{0};  // ~0: default
  uint64_t bytes_per_inode = 0;           // accepted, without effect
  uint64_t inode_count = 0;               // likewise
  CollectionOptions collection;
  bool dry_run = false, force = false, quiet = false, verbose = false, discard = true;
  bool help = false, version = false;
};

Options parse_options(int argc, char **argv);  // throws Usage
const char *usage_text();

}  // namespace vexfs::mkfs
