// SPDX-License-Identifier: MIT
// What a stream has to do to the names of a tree: which inodes are concerned, which names they lose and get.
#pragma once
#include <map>
#include <set>

#include "names.h"

namespace vexfs::stream {

// One inode that is not what it was.
struct Object {
  uint32_t what = 0;  // VEXFS_CHANGED_*
  bool directory = false;
  bool created = false;              // it is not in the older snapshot
  bool entries = false;              // a directory in both, with other entries
  std::vector<Name> removed, added;  // in the older snapshot; in the newer
  bool staged = false;               // it waits under a name of its own
};

struct Plan {
  Plan(Tree *then, Tree &now);
  // Everything that is below the root.
  void all();
  // What differs: from SNAPSHOT_DIFF.
  void changes(client::Target &filesystem, uint64_t from, uint64_t to);

  Tree *then;
  Tree &now;
  std::unique_ptr<Names> names_then, names_now;
  std::map<uint64_t, Object> objects;
  std::set<uint64_t> collections;  // directories whose collections have other rows
  std::set<uint64_t> dropped;      // directories that had a collection which is gone
  bool moves = false;

  // In the newer snapshot; empty: it has no name there. kept: one that it had before.
  std::optional<std::string> path(uint64_t ino);
  std::string kept(uint64_t ino);

 private:
  void compare_entries(uint64_t dir, bool before, bool after);
  void add(uint64_t dir, const std::string &name, uint64_t ino, bool directory);
};

}  // namespace vexfs::stream
