// SPDX-License-Identifier: MIT
// See snapshot.h.
#include "snapshot.h"

#include <algorithm>
#include <cerrno>

namespace vexfs::crash {
namespace {

using vector::test::Mount;
using vector::test::Row;

constexpr uint32_t kBlock = 4096;

class Taker {
 public:
  Taker(Mount &m, bool mapping, const Snapshot *before) : m_(m), mapping_(mapping), before_(before) {}
  Snapshot run() {
    directory(m_.root(), "/");
    collections();
    return std::move(out_);
  }

 private:
  void directory(vx_inode *dir, const std::string &path);
  void inode(vx_inode *ip, const std::string &path);
  void xattrs(vx_inode *ip, InodeState &s);
  void contents(vx_inode *ip, const vx_attr &a, InodeState &s);
  void collections();
  void rows(const vexfs_collection &c);
  std::string row(vx_inode *dir, uint64_t cid, const vexfs_hit &hit);

  Mount &m_;
  bool mapping_;
  const Snapshot *before_;
  Snapshot out_;
};

std::string text_of(const vx_time &t) { return std::to_string(t.sec) + "." + std::to_string(t.nsec); }

struct Entry {
  std::string name;
  vx_u64 ino;
};

vx_bool collect_name(void *ctx, const char *name, size_t len, vx_u64 ino, unsigned, vx_u64) {
  static_cast<std::vector<Entry> *>(ctx)->push_back({std::string(name, len), ino});
  return true;
}

vx_bool collect_xattr(void *ctx, const char *name, size_t len) {
  static_cast<std::vector<std::string> *>(ctx)->emplace_back(name, len);
  return true;
}

void Taker::directory(vx_inode *dir, const std::string &path) {
  inode(dir, path);
  std::vector<Entry> entries;
  vx_u64 pos = 0;
  EXPECT_EQ(vx_readdir(dir, &pos, collect_name, &entries), 0) << path;
  for (auto &e : entries) {
    vx_u64 found = 0;
    EXPECT_EQ(vx_lookup(dir, e.name.data(), e.name.size(), &found), 0) << path << e.name;
    EXPECT_EQ(found, e.ino) << path << e.name;
    vx_inode *ip = nullptr;
    int err = vx_iget(m_.fs(), e.ino, 0, &ip);
    EXPECT_EQ(err, 0) << path << e.name;
    if (err != 0) continue;
    vx_attr a;
    vx_getattr(ip, &a);
    if ((a.mode & disk::kModeType) == disk::kModeDir)
      directory(ip, path + e.name + "/");
    else
      inode(ip, path + e.name);
    vx_iput(ip);
  }
}

void Taker::xattrs(vx_inode *ip, InodeState &s) {
  std::vector<std::string> names;
  EXPECT_EQ(vx_xattr_list(ip, collect_xattr, &names), 0);
  std::sort(names.begin(), names.end());
  for (auto &n : names) {
    std::string v(65536, 0);
    size_t len = 0;
    EXPECT_EQ(vx_xattr_get(ip, n.data(), n.size(), v.data(), v.size(), &len), 0) << n;
    v.resize(len);
    s.firm += " " + n + "=" + std::to_string(len) + ":" + std::to_string(std::hash<std::string>()(v));
  }
}

void Taker::contents(vx_inode *ip, const vx_attr &a, InodeState &s) {
  s.bytes.resize(a.size);
  size_t done = 0;
  EXPECT_EQ(vx_pread(ip, s.bytes.data(), s.bytes.size(), 0, &done), 0) << "inode " << a.ino;
  EXPECT_EQ(done, a.size);
  s.where.assign((a.size + kBlock - 1) / kBlock, 0);
  for (uint64_t at = 0; at < a.size;) {
    struct vx_map map;
    int err = vx_map(ip, at, a.size - at, &map);
    EXPECT_EQ(err, 0) << "inode " << a.ino;
    if (err != 0 || map.type == VX_MAP_INLINE) break;
    for (uint64_t b = at / kBlock; map.type == VX_MAP_MAPPED && b < s.where.size() && b * kBlock < map.off + map.len;
         b++)
      s.where[b] = map.disk + (b * kBlock - map.off);
    at = map.off + map.len;
  }
  if (!mapping_) return;
  s.firm += " blocks " + std::to_string(a.blocks) + " at";
  for (uint64_t w : s.where) s.firm += " " + std::to_string(w / kBlock);
}

void Taker::inode(vx_inode *ip, const std::string &path) {
  vx_attr a;
  vx_getattr(ip, &a);
  out_.names[path] = a.ino;
  if (out_.inodes.count(a.ino)) return;
  auto s = std::make_shared<InodeState>();
  // Small contents become blocks before the operation that needs them, whether it succeeds or not.
  uint32_t flags = mapping_ ? a.flags : a.flags & ~static_cast<uint32_t>(VX_INODE_INLINE);
  s->firm = std::to_string(a.mode) + " links " + std::to_string(a.nlink) + " size " + std::to_string(a.size) +
            " flags " + std::to_string(flags) + " gen " + std::to_string(a.generation);
  s->times = text_of(a.mtime) + " " + text_of(a.ctime);
  s->version = a.version;
  xattrs(ip, *s);
  uint32_t type = a.mode & disk::kModeType;
  if (type == disk::kModeFile) contents(ip, a, *s);
  if (type == disk::kModeLink) {
    char buf[4096];
    size_t len = 0;
    EXPECT_EQ(vx_readlink(ip, buf, sizeof buf, &len), 0) << path;
    s->firm += " -> " + std::string(buf, len);
  }
  if (before_) {
    auto old = before_->inodes.find(a.ino);
    if (old != before_->inodes.end() && *old->second == *s) {
      out_.inodes[a.ino] = old->second;
      return;
    }
  }
  out_.inodes[a.ino] = std::move(s);
}

void Taker::collections() {
  std::vector<vexfs_collection> all(16);
  vexfs_collection_list list{};
  list.size = sizeof list;
  list.collections = reinterpret_cast<__u64>(all.data());
  list.capacity = static_cast<__u32>(all.size());
  EXPECT_EQ(m_.ioctl(m_.root(), VEXFS_IOCTL_COLLECTION_LIST, &list), 0);
  EXPECT_LT(list.count, list.capacity);
  for (uint32_t i = 0; i < list.count; i++) rows(all[i]);
}

void Taker::rows(const vexfs_collection &c) {
  std::string head = "collection " + std::to_string(c.id);
  out_.vectors.push_back(head + " of directory " + std::to_string(c.dir_ino) + " dim " + std::to_string(c.dim) +
                         " element " + std::to_string(c.element) + " metric " + std::to_string(c.metric) + " index " +
                         std::to_string(c.index) + " name " + c.name);
  vx_inode *dir = nullptr;
  int err = vx_iget(m_.fs(), c.dir_ino, 0, &dir);
  EXPECT_EQ(err, 0) << head;
  if (err != 0) return;
  Row query(c.dim, 0.25f);
  std::vector<vexfs_hit> hits;
  EXPECT_EQ(m_.search(dir, query, 512, &hits, VEXFS_SEARCH_EXACT), 0) << head;
  EXPECT_LT(hits.size(), 512u);
  for (auto &h : hits) out_.vectors.push_back(head + row(dir, c.id, h));
  vx_iput(dir);
}

// The hit, and the row it stands for.
std::string Taker::row(vx_inode *dir, uint64_t cid, const vexfs_hit &h) {
  vexfs_embedding e{};
  Row data(64);
  e.size = sizeof e;
  e.collection = cid;
  e.row.id = h.id;
  e.data = reinterpret_cast<__u64>(data.data());
  e.dim = static_cast<__u32>(data.size());
  e.element = VEXFS_F32;
  EXPECT_EQ(m_.ioctl(dir, VEXFS_IOCTL_GET_EMBEDDING, &e), 0) << "collection " << cid << " row " << h.id;
  EXPECT_EQ(e.row.owner, h.owner);
  EXPECT_EQ(e.row.tag, h.tag);
  std::string bits(reinterpret_cast<const char *>(data.data()), data.size() * sizeof data[0]);
  return " row " + std::to_string(h.id) + " owner " + std::to_string(h.owner) + " of version " +
         std::to_string(e.row.owner_version) + " range " + std::to_string(h.offset) + "+" + std::to_string(h.length) +
         " tag " + std::to_string(h.tag) + " distance " + std::to_string(h.distance) + " data " +
         std::to_string(std::hash<std::string>()(bits));
}

}  // namespace

std::vector<std::string> Snapshot::lines() const {
  std::vector<std::string> all;
  for (auto &[path, ino] : names) all.push_back(path + " is " + std::to_string(ino) + ": " + inodes.at(ino)->firm);
  all.insert(all.end(), vectors.begin(), vectors.end());
  return all;
}

bool Snapshot::firm_equal(const Snapshot &o) const {
  if (names != o.names || vectors != o.vectors || inodes.size() != o.inodes.size()) return false;
  for (auto &[ino, s] : inodes) {
    auto other = o.inodes.find(ino);
    if (other == o.inodes.end() || (other->second != s && other->second->firm != s->firm)) return false;
  }
  return true;
}

Snapshot take_snapshot(Mount &m, bool mapping, const Snapshot *before) { return Taker(m, mapping, before).run(); }

std::string errors_found(vx_bdev *dev) {
  std::string text;
  store::CheckSink sink{};
  sink.ctx = &text;
  sink.line = [](void *ctx, store::Severity s, const char *line) {
    if (s == store::Severity::error) *static_cast<std::string *>(ctx) += std::string(line) + "\n";
  };
  store::Checker c(dev, sink);
  Status st = c.open();
  if (st.ok()) st = fs::check(c);
  if (st.ok()) st = vector::check(c);
  for (auto id : {store::TreeId::snapshots, store::TreeId::refcounts})
    if (st.ok()) st = c.walk(id, [](const store::Key &, Bytes) { return true; });
  if (st.ok()) st = c.compare_space();
  if (!st.ok()) text += "check failed: " + std::to_string(static_cast<int>(st.code())) + "\n";
  return text;
}

}  // namespace vexfs::crash
