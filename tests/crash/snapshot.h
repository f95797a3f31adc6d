// SPDX-License-Identifier: MIT
// Everything that can be seen of a mounted filesystem, names and files and vectors, in a form that can be compared.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../../kernel/core/disk/fs_items.h"
#include "../unit/vector_fixture.h"

namespace vexfs::crash {

// Mounts of a device of its own, thousands of them: none takes more memory than these runs need.
inline constexpr vector::test::Options kSmallMount{
    .size = 1 << 20, .cache_bytes = 4 << 20, .node_cache_bytes = 2 << 20};

struct InodeState {
  std::string firm;   // what every sync makes durable: link count, size, xattrs, target, mapping
  std::string times;  // what only a sync of this inode, or of everything, does: times and content version
  uint64_t version = 0;
  std::string bytes;            // contents
  std::vector<uint64_t> where;  // device address of each written block; 0: hole, unwritten, or inside the tree
  bool operator==(const InodeState &) const = default;
};

struct Snapshot {
  std::map<std::string, uint64_t> names;  // path -> inode number
  std::map<uint64_t, std::shared_ptr<const InodeState>> inodes;
  std::vector<std::string> vectors;  // a line for each collection and each row that an exact search finds

  // As text, without contents: what every sync makes durable.
  std::vector<std::string> lines() const;
  bool firm_equal(const Snapshot &o) const;
};

// mapping: with it, where data lies is part of what is compared. A commit in the middle of an operation may leave the
// blocks of a write that did not get its size yet, so runs on a full disk do without.
// before: states of inodes that are the same as there are shared with it. Failures are reported by GoogleTest.
Snapshot take_snapshot(vector::test::Mount &m, bool mapping = true, const Snapshot *before = nullptr);

// Findings of a full check, of files and vectors, of a device that nobody has open: errors only, because torn root slots
// (warnings) are what a power cut leaves.
std::string errors_found(vx_bdev *dev);

}  // namespace vexfs::crash
