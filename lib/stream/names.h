// SPDX-License-Identifier: MIT
// From inode numbers to names, in one state of a filesystem. A directory is read at most once, and only those are that
// lead to what is asked for.
#pragma once
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "tree.h"

namespace vexfs::stream {

struct Name {
  uint64_t dir = 0;
  std::string name;
  bool operator==(const Name &) const = default;
};

class Names {
 public:
  explicit Names(Tree &tree);
  // Files whose names are to be remembered when a directory is read. (Directories are always.)
  void want(uint64_t ino) { wanted_.insert(ino); }
  // Empty: it has no name (or, of a file: nobody wanted it). The root's is "".
  std::optional<std::string> path(uint64_t ino);
  std::string path(const Name &n);  // of a name in a directory that has a path
  // All names known of a file, after looking where it is likely to have one.
  const std::vector<Name> &names(uint64_t ino);
  void learn(uint64_t ino, const Name &n) { known_[ino].push_back(n); }
  void read(uint64_t dir);  // its entries are known then
  // Every directory, for names that could not be found otherwise.
  void read_all();
  bool exists(uint64_t dir) { return path(dir).has_value(); }
  uint64_t root() const { return root_; }

 private:
  std::optional<uint64_t> parent(uint64_t ino);
  Tree &tree_;
  std::unique_ptr<client::Target> at_;
  uint64_t root_;
  bool read_all_ = false;
  std::unordered_set<uint64_t> wanted_, read_, lost_;
  std::unordered_map<uint64_t, std::vector<Name>> known_;
};

}  // namespace vexfs::stream
