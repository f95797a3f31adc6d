// SPDX-License-Identifier: MIT
// From inode numbers to names.
#include "names.h"

#include <cerrno>
#include <cstring>

#include "../../include/uapi/vexfs.h"
#include "../client/error.h"

namespace vexfs::stream {

Names::Names(Tree &tree) : tree_(tree), at_(tree.target("")), root_(at_->ino()) {}

std::optional<uint64_t> Names::parent(uint64_t ino) {
  vexfs_parent p{};
  p.size = sizeof p;
  p.ino = ino;
  const int rc = at_->command(VEXFS_IOCTL_PARENT, &p);
  if (rc == -ENOENT) return {};
  if (rc != 0) throw client::command_error(tree_.name(), "find a name", -rc);
  return p.parent;
}

void Names::read(uint64_t dir) {
  if (!read_.insert(dir).second) return;
  const std::optional<std::string> at = path(dir);
  if (!at) return;
  tree_.list(*at, [&](const Entry &e) {
    if (e.directory || wanted_.count(e.ino)) {
      const Name n{dir, e.name};
      auto &all = known_[e.ino];
      for (const Name &k : all)
        if (k == n) return;
      all.push_back(n);
    }
  });
}

const std::vector<Name> &Names::names(uint64_t ino) {
  auto it = known_.find(ino);
  if (it != known_.end() && !it->second.empty()) return it->second;
  if (!lost_.count(ino)) {
    const std::optional<uint64_t> dir = parent(ino);
    if (dir && *dir != ino) read(*dir);
    if (known_[ino].empty()) lost_.insert(ino);
  }
  return known_[ino];
}

std::optional<std::string> Names::path(uint64_t ino) {
  std::vector<std::string> parts;
  for (size_t bytes = 0; ino != root_;) {
    const auto &all = names(ino);
    if (all.empty()) return {};
    parts.push_back(all.front().name);
    bytes += parts.back().size() + 1;
    if (bytes > path_max) throw client::Error(ENAMETOOLONG, tree_.name() + ": a path is too long for a stream");
    ino = all.front().dir;
  }
  std::string path;
  while (!parts.empty()) {
    path = join(path, parts.back());
    parts.pop_back();
  }
  return path;
}

std::string Names::path(const Name &n) {
  const std::optional<std::string> dir = path(n.dir);
  if (!dir) throw client::Error(EIO, tree_.name() + ": the directory of '" + n.name + "' has no name");
  return join(*dir, n.name);
}

void Names::read_all() {
  if (read_all_) return;
  read_all_ = true;
  std::vector<uint64_t> todo{root_};
  while (!todo.empty()) {
    const uint64_t dir = todo.back();
    todo.pop_back();
    read_.erase(dir);
    read(dir);
    const std::optional<std::string> at = path(dir);
    if (!at) continue;
    tree_.list(*at, [&](const Entry &e) {
      if (e.directory) todo.push_back(e.ino);
    });
  }
}

}  // namespace vexfs::stream
