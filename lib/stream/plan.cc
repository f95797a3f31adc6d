// SPDX-License-Identifier: MIT
// Which names go and come.
#include "plan.h"

#include <cerrno>

#include "../../include/uapi/vexfs.h"
#include "../client/commands.h"

namespace vexfs::stream {

Plan::Plan(Tree *t, Tree &n) : then(t), now(n), names_now(std::make_unique<Names>(n)) {
  if (then) names_then = std::make_unique<Names>(*then);
}

void Plan::add(uint64_t dir, const std::string &name, uint64_t ino, bool directory) {
  Object &o = objects[ino];
  o.directory = directory;
  o.added.push_back({dir, name});
}

void Plan::all() {
  const uint64_t root = names_now->root();
  objects[root].directory = true;
  std::vector<uint64_t> todo{root};
  while (!todo.empty()) {
    const uint64_t dir = todo.back();
    todo.pop_back();
    now.list(names_now->path(dir).value(), [&](const Entry &e) {
      add(dir, e.name, e.ino, e.directory);
      objects[e.ino].created = true;
      if (!e.directory) return;
      names_now->learn(e.ino, {dir, e.name});
      todo.push_back(e.ino);
    });
  }
}

void Plan::compare_entries(uint64_t dir, bool before, bool after) {
  std::map<std::string, Entry> old;
  if (before && names_then->exists(dir))
    then->list(*names_then->path(dir), [&](const Entry &e) { old.emplace(e.name, e); });
  if (after && names_now->exists(dir))
    now.list(*names_now->path(dir), [&](const Entry &e) {
      const auto it = old.find(e.name);
      if (it != old.end() && it->second.ino == e.ino)
        old.erase(it);
      else
        add(dir, e.name, e.ino, e.directory);
    });
  for (const auto &[name, e] : old) {
    Object &o = objects[e.ino];
    o.directory = e.directory;
    o.removed.push_back({dir, name});
  }
}

void Plan::changes(client::Target &filesystem, uint64_t from, uint64_t to) {
  std::vector<vexfs_change> directories;
  client::snapshot_diff(filesystem, from, to, [&](const vexfs_change &c) {
    if (c.what & VEXFS_CHANGED_COLLECTION) {
      if (c.what & VEXFS_CHANGED_DELETED)
        dropped.insert(c.ino);
      else
        collections.insert(c.ino);
      return;
    }
    const bool directory = (c.mode & 0170000) == 0040000;
    Object &o = objects[c.ino];
    o.what = c.what;
    o.directory = directory;
    o.created = (c.what & VEXFS_CHANGED_CREATED) != 0;
    if (!directory) {
      names_now->want(c.ino);
      names_then->want(c.ino);
    } else if (c.what & (VEXFS_CHANGED_CREATED | VEXFS_CHANGED_DELETED | VEXFS_CHANGED_NAMES)) {
      directories.push_back(c);
    }
  });
  for (const vexfs_change &c : directories) {
    const bool before = !(c.what & VEXFS_CHANGED_CREATED), after = !(c.what & VEXFS_CHANGED_DELETED);
    compare_entries(c.ino, before, after);
    objects[c.ino].entries = before && after;
  }
  for (auto &[ino, o] : objects) {
    if (!o.removed.empty() && !o.added.empty()) moves = true;
    // The kernel has told of each of these. One that it has not told of has only changed its names.
    if (!o.added.empty() && o.removed.empty() && !o.created && o.directory)
      throw client::Error(EIO, now.name() + ": directory " + std::to_string(ino) + " has come from nowhere");
  }
  for (uint64_t dir : dropped) objects[dir].directory = true;  // it has to be unlocked for that, perhaps
  if (moves) objects[names_now->root()].directory = true;      // what waits, waits in the root: its times are to be set
}

std::optional<std::string> Plan::path(uint64_t ino) {
  if (ino == names_now->root()) return "";
  const auto it = objects.find(ino);
  if (it != objects.end() && !it->second.added.empty()) return names_now->path(it->second.added.front());
  if (it != objects.end() && !it->second.directory) names_now->want(ino);
  std::optional<std::string> p = names_now->path(ino);
  if (p || it == objects.end() || it->second.directory || it->second.created) return p;
  // A file with several names is looked for where it got the latest. That one may be gone again.
  if ((it->second.what & VEXFS_CHANGED_DELETED) == 0) {
    vexfs_parent v{};
    v.size = sizeof v;
    v.ino = ino;
    if (now.target("")->command(VEXFS_IOCTL_PARENT, &v) != 0) return {};  // nobody has it any more
    for (const Name &n : names_then->names(ino)) names_now->read(n.dir);
    p = names_now->path(ino);
    if (p) return p;
    names_now->read_all();
    p = names_now->path(ino);
  }
  return p;
}

std::string Plan::kept(uint64_t ino) {
  names_now->want(ino);
  const auto &added = objects[ino].added;
  for (int pass = 0; pass < 2; pass++) {
    if (pass) names_now->read_all();
    for (const Name &n : names_now->names(ino)) {
      bool fresh = false;
      for (const Name &a : added) fresh |= a == n;
      if (!fresh) return names_now->path(n);
    }
  }
  throw client::Error(EIO, now.name() + ": inode " + std::to_string(ino) + " has a name too many");
}

}  // namespace vexfs::stream
