// SPDX-License-Identifier: MIT
// A plain filesystem in memory: what the real one must agree with. Nothing clever: maps, strings, and POSIX's rules.
//
// Extended with vectors by deriving from it: every operation is virtual-free and returns an errno; state() copies are
// how a commit is remembered.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace vexfs::model {

enum class Kind { file, dir, link, fifo };

struct Node {
  Kind kind = Kind::file;
  uint32_t mode = 0;  // permission bits
  uint32_t uid = 0, gid = 0;
  uint32_t nlink = 0;
  std::string data;                       // file contents, or a symlink's target
  std::map<std::string, uint64_t> names;  // directory: name -> node
  std::map<std::string, std::string> xattrs;
  uint64_t parent = 0;
  int64_t mtime = 0;
};

// Nodes are known by numbers of the model's own; the driver keeps the translation to inode numbers.
class FsModel {
 public:
  static constexpr uint64_t root = 1;
  FsModel() {
    Node &r = nodes[root];
    r.kind = Kind::dir;
    r.mode = 0755;
    r.nlink = 2;
    r.parent = root;
  }

  std::map<uint64_t, Node> nodes;
  uint64_t next = 2;

  Node &at(uint64_t n) { return nodes.at(n); }
  bool is_dir(uint64_t n) const { return nodes.at(n).kind == Kind::dir; }
  uint64_t find(uint64_t dir, const std::string &name) const {
    auto &names = nodes.at(dir).names;
    auto it = names.find(name);
    return it == names.end() ? 0 : it->second;
  }

  // Each returns 0 or a positive errno, and changes nothing when it fails.
  int create(uint64_t dir, const std::string &name, Kind kind, uint32_t mode, const std::string &target, int64_t now,
             uint64_t *out);
  int link(uint64_t dir, const std::string &name, uint64_t node, int64_t now);
  int unlink(uint64_t dir, const std::string &name, int64_t now, uint64_t *gone);
  int rmdir(uint64_t dir, const std::string &name, int64_t now, uint64_t *gone);
  enum { noreplace = 1, exchange = 2, whiteout = 4 };
  int rename(uint64_t odir, const std::string &oname, uint64_t ndir, const std::string &nname, unsigned flags,
             int64_t now, uint64_t *gone);
  void write(uint64_t node, uint64_t off, const std::string &data, int64_t now);
  void truncate(uint64_t node, uint64_t size, int64_t now);
  void zero(uint64_t node, uint64_t off, uint64_t len, int64_t now);  // what punching does to the contents
  int set_xattr(uint64_t node, const std::string &name, const std::string &value, unsigned flags);
  int remove_xattr(uint64_t node, const std::string &name);
  // Number of inodes that must exist when nobody has anything open.
  size_t inodes() const { return nodes.size(); }
  // All nodes of a kind, and all (dir, name) pairs, for the driver's choices.
  std::vector<uint64_t> of_kind(Kind k) const;

 private:
  bool is_below(uint64_t node, uint64_t top) const;
  void drop(uint64_t node, uint64_t *gone);
};

}  // namespace vexfs::model
