// SPDX-License-Identifier: MIT
// The plain filesystem in memory.
#include "fs_model.h"

#include <cerrno>

namespace vexfs::model {

std::vector<uint64_t> FsModel::of_kind(Kind k) const {
  std::vector<uint64_t> v;
  for (auto &[n, node] : nodes)
    if (node.kind == k) v.push_back(n);
  return v;
}

bool FsModel::is_below(uint64_t node, uint64_t top) const {
  for (; node != root; node = nodes.at(node).parent)
    if (node == top) return true;
  return top == root;
}

// One name less. The node is gone with the last one.
void FsModel::drop(uint64_t node, uint64_t *gone) {
  Node &n = at(node);
  n.nlink--;
  if (n.kind == Kind::dir || n.nlink == 0) {
    *gone = node;
    nodes.erase(node);
  }
}

int FsModel::create(uint64_t dir, const std::string &name, Kind kind, uint32_t mode, const std::string &target,
                    int64_t now, uint64_t *out) {
  if (!is_dir(dir)) return ENOTDIR;
  if (find(dir, name)) return EEXIST;
  *out = next++;
  Node n;
  n.kind = kind;
  n.mode = mode;
  n.nlink = kind == Kind::dir ? 2 : 1;
  n.data = target;
  n.parent = dir;
  n.mtime = now;
  nodes[*out] = n;
  Node &d = at(dir);
  d.names[name] = *out;
  d.mtime = now;
  if (kind == Kind::dir) d.nlink++;
  return 0;
}

int FsModel::link(uint64_t dir, const std::string &name, uint64_t node, int64_t now) {
  if (!is_dir(dir)) return ENOTDIR;
  if (is_dir(node)) return EPERM;
  if (find(dir, name)) return EEXIST;
  at(node).nlink++;
  at(node).parent = dir;
  at(dir).names[name] = node;
  at(dir).mtime = now;
  return 0;
}

int FsModel::unlink(uint64_t dir, const std::string &name, int64_t now, uint64_t *gone) {
  if (!is_dir(dir)) return ENOTDIR;
  uint64_t n = find(dir, name);
  if (!n) return ENOENT;
  if (is_dir(n)) return EISDIR;
  at(dir).names.erase(name);
  at(dir).mtime = now;
  drop(n, gone);
  return 0;
}

int FsModel::rmdir(uint64_t dir, const std::string &name, int64_t now, uint64_t *gone) {
  if (!is_dir(dir)) return ENOTDIR;
  uint64_t n = find(dir, name);
  if (!n) return ENOENT;
  if (!is_dir(n)) return ENOTDIR;
  if (!at(n).names.empty()) return ENOTEMPTY;
  at(dir).names.erase(name);
  at(dir).mtime = now;
  at(dir).nlink--;
  drop(n, gone);
  return 0;
}

int FsModel::rename(uint64_t odir, const std::string &oname, uint64_t ndir, const std::string &nname, unsigned flags,
                    int64_t now, uint64_t *gone) {
  if (!is_dir(odir) || !is_dir(ndir)) return ENOTDIR;
  if ((flags & exchange) && (flags & (noreplace | whiteout))) return EINVAL;
  uint64_t s = find(odir, oname), d = find(ndir, nname);
  if (!s) return ENOENT;
  if (d && (flags & noreplace)) return EEXIST;
  if (!d && (flags & exchange)) return ENOENT;
  if (s == d) return 0;
  bool sdir = is_dir(s), ddir = d && is_dir(d);
  if (d && !(flags & exchange)) {
    if (sdir && !ddir) return ENOTDIR;
    if (!sdir && ddir) return EISDIR;
    if (ddir && !at(d).names.empty()) return ENOTEMPTY;
  }
  if (sdir && odir != ndir && is_below(ndir, s)) return EINVAL;
  if ((flags & exchange) && ddir && odir != ndir && is_below(odir, d)) return EINVAL;
  at(odir).mtime = at(ndir).mtime = now;
  if (sdir) at(odir).nlink--, at(ndir).nlink++;
  at(ndir).names[nname] = s;
  at(s).parent = ndir;
  if (flags & exchange) {
    if (ddir) at(ndir).nlink--, at(odir).nlink++;
    at(odir).names[oname] = d;
    at(d).parent = odir;
    return 0;
  }
  at(odir).names.erase(oname);
  if (flags & whiteout) {
    uint64_t w = next++;
    Node n;
    n.kind = Kind::fifo;  // a whiteout is a device; the driver knows it by its place
    n.nlink = 1;
    n.parent = odir;
    nodes[w] = n;
    at(odir).names[oname] = w;
  }
  if (d) {
    if (ddir) at(ndir).nlink--;
    drop(d, gone);
  }
  return 0;
}

void FsModel::write(uint64_t node, uint64_t off, const std::string &data, int64_t now) {
  Node &n = at(node);
  if (n.data.size() < off + data.size()) n.data.resize(off + data.size(), '\0');
  n.data.replace(off, data.size(), data);
  n.mtime = now;
}

void FsModel::truncate(uint64_t node, uint64_t size, int64_t now) {
  at(node).data.resize(size, '\0');
  at(node).mtime = now;
}

void FsModel::zero(uint64_t node, uint64_t off, uint64_t len, int64_t now) {
  Node &n = at(node);
  for (uint64_t i = off; i < off + len && i < n.data.size(); i++) n.data[i] = '\0';
  n.mtime = now;
}

int FsModel::set_xattr(uint64_t node, const std::string &name, const std::string &value, unsigned flags) {
  Node &n = at(node);
  bool have = n.xattrs.count(name);
  if (have && (flags & 1)) return EEXIST;
  if (!have && (flags & 2)) return ENODATA;
  n.xattrs[name] = value;
  return 0;
}

int FsModel::remove_xattr(uint64_t node, const std::string &name) { return at(node).xattrs.erase(name) ? 0 : ENODATA; }

}  // namespace vexfs::model
