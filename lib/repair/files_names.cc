// SPDX-License-Identifier: MIT
// Repair: names and inodes against each other. What has no name goes to lost+found.
#include <algorithm>

#include "../../kernel/core/api.h"
#include "files.h"

namespace vexfs::repair {

using disk::FsItem;

std::string quoted(Bytes name) {
  std::vector<char> buf(name.size() * 4 + 8);
  Printer p(buf.data(), buf.size());
  p.quoted(name);
  return p.c_str();
}

std::string Model::path_of(u64 ino) {
  if (names_.empty())
    for (const auto &[k, v] : files()) {
      if (!k.oid || k.type != static_cast<u8>(FsItem::dirent) || v.size() <= sizeof(disk::DiskDirent)) continue;
      const auto d = item_of<disk::DiskDirent>(v);
      const Bytes name = as_bytes(v).subspan(sizeof d);
      if (d.ino) names_[d.ino] = {k.oid, std::string(name.begin(), name.end())};
    }
  std::string path;
  u64 at = ino;
  for (int depth = 0; depth < 64; depth++) {
    auto it = names_.find(at);
    if (it == names_.end()) break;
    path.insert(0, "/").insert(1, it->second.second);
    at = it->second.first;
  }
  if (path.empty()) return cat("inode ", ino);
  const std::string text = quoted({reinterpret_cast<const u8 *>(path.data()), path.size()});
  return cat("inode ", ino, " (", text, ")");
}

namespace {

class Names {
 public:
  explicit Names(Model &m) : m_(m) {}
  void run();

 private:
  struct Inode {
    u64 parent = 0, names = 0, subdirs = 0, found_in = 0;
    bool dir = false, orphan = false, rooted = false, visiting = false;
  };
  std::string name(u64 ino) { return m_.path_of(ino); }
  Key inode_key(u64 ino) const { return first_of(ino, FsItem::inode); }
  void find_root();
  void load();
  void judge_names();
  bool good_name(u64 dir, disk::DiskDirent &d, Bytes text);
  void break_cycles();
  void rescue();
  u64 lost_found();
  bool add_name(u64 dir, Bytes text, u64 ino, u8 type);
  std::optional<u64> lookup(u64 dir, Bytes text) const;
  void count();
  void count_directory(u64 ino, disk::DiskInode &i);

  Model &m_;
  u64 root_ = 0, lost_found_ = 0;
  std::map<u64, Inode> inodes_;
};

// ---------------------------------------------------------- the root directory
void Names::find_root() {
  disk::DiskFsRoot r;
  memcpy(&r, m_.blobs[kFs], sizeof r);
  const bool sound = !disk::verify_fs_root(r);
  if (sound) root_ = r.root_ino;
  for (auto it = m_.files().begin(); !root_ && it != m_.files().end(); ++it) {
    if (it->first.type != static_cast<u8>(FsItem::inode)) continue;
    const auto i = item_of<disk::DiskInode>(it->second);
    if (i.parent == it->first.oid && (i.mode & disk::kModeType) == disk::kModeDir) root_ = it->first.oid;
  }
  if (!root_) root_ = m_.next_object_id++;
  auto i = m_.get<disk::DiskInode>(kFs, inode_key(root_));
  if (!i || (i->mode & disk::kModeType) != disk::kModeDir) {
    disk::DiskInode fresh = i.value_or(disk::DiskInode{});
    fresh.mode = disk::kModeDir | 0755;
    fresh.version = 1;
    fresh.birth = m_.new_txn();
    fresh.parent = root_;
    m_.put(kFs, inode_key(root_), value_of(fresh));
    m_.ask("the root directory is lost: it is made anew");
  } else if (i->parent != root_) {
    i->parent = root_;
    m_.put(kFs, inode_key(root_), value_of(*i));
    m_.ask("the root directory says that it is in another: corrected");
  }
  const Key record{0, static_cast<u8>(FsItem::orphan), root_};
  if (auto it = m_.files().find(record); it != m_.files().end()) {
    m_.drop(kFs, it);
    m_.ask("the root directory was to be deleted: it is not");
  }
  if (!sound) {
    r = {};
    r.layout = 1;
    r.root_ino = root_;
    memcpy(m_.blobs[kFs], &r, sizeof r);
    m_.header_wrong = true;
    m_.ask("the record of the root directory is made anew");
  }
}

void Names::load() {
  for (const auto &[k, v] : m_.files()) {
    if (k.oid == 0 || k.type != static_cast<u8>(FsItem::inode)) continue;
    const auto i = item_of<disk::DiskInode>(v);
    Inode &n = inodes_[k.oid];
    n.parent = i.parent;
    n.dir = (i.mode & disk::kModeType) == disk::kModeDir;
    n.orphan = m_.files().count({0, static_cast<u8>(FsItem::orphan), k.oid}) != 0;
  }
}

// -------------------------------------------------------------------- names
bool Names::good_name(u64 dir, disk::DiskDirent &d, Bytes text) {
  auto it = inodes_.find(d.ino);
  auto gone = [&](const char *why) {
    m_.ask(cat(name(dir), ": the name ", quoted(text), " ", why, ": it is removed"));
    return false;
  };
  if (it == inodes_.end()) return gone(cat("leads to inode ", d.ino, ", which is lost").c_str());
  if (d.ino == root_) return gone("leads to the root directory");
  auto at = inodes_.find(dir);
  if (at == inodes_.end() || at->second.orphan) return gone("is in a deleted directory");
  Inode &n = it->second;
  if (n.dir && n.names) return gone("leads to a directory that has another name");
  if (n.orphan) {
    m_.drop(kFs, m_.files().find({0, static_cast<u8>(FsItem::orphan), d.ino}));
    n.orphan = false;
    m_.ask(cat(name(d.ino), ": was to be deleted, but has a name: it stays"));
  }
  const auto i = m_.get<disk::DiskInode>(kFs, inode_key(d.ino));
  if (d.type != disk::dirent_type(i->mode)) {
    d.type = disk::dirent_type(i->mode);
    m_.ask(cat(name(d.ino), ": the type in its name is corrected"));
  }
  n.names++;
  n.found_in = dir;
  return true;
}

// A directory's name in the directory that it says is its parent comes first.
void Names::judge_names() {
  std::vector<std::pair<Key, bool>> order;
  for (const auto &[k, v] : m_.files()) {
    if (k.oid == 0 || k.type != static_cast<u8>(FsItem::dirent)) continue;
    const auto d = item_of<disk::DiskDirent>(v);
    const auto it = inodes_.find(d.ino);
    if (d.ino) order.push_back({k, it != inodes_.end() && it->second.dir && it->second.parent != k.oid});
  }
  std::stable_sort(order.begin(), order.end(), [](const auto &a, const auto &b) { return a.second < b.second; });
  std::set<std::pair<u64, std::string>> seen;
  for (const auto &[k, later] : order) {
    auto it = m_.files().find(k);
    const auto before = item_of<disk::DiskDirent>(it->second);
    auto d = before;
    const Bytes text = as_bytes(it->second).subspan(sizeof d);
    const bool twice = !seen.insert({k.oid, std::string(text.begin(), text.end())}).second;
    if (twice) m_.ask(cat(name(k.oid), ": the name ", quoted(text), " is there twice: one is removed"));
    if (twice || !good_name(k.oid, d, text)) {
      m_.drop(kFs, it);
      continue;
    }
    if (memcmp(&before, &d, sizeof d) == 0) continue;
    Value v = it->second;
    memcpy(v.data(), &d, sizeof d);
    m_.put(kFs, k, std::move(v));
  }
}

// Every directory leads up to the root, or loses its name.
void Names::break_cycles() {
  for (auto &[ino, n] : inodes_) {
    if (!n.dir || n.orphan || n.rooted) continue;
    std::vector<u64> way;
    u64 at = ino;
    bool cycle = false;
    for (;;) {
      auto it = inodes_.find(at);
      if (at == root_ || it == inodes_.end() || it->second.rooted || !it->second.names) break;
      if (it->second.visiting) {
        cycle = true;
        break;
      }
      it->second.visiting = true;
      way.push_back(at);
      at = it->second.found_in;
    }
    for (u64 w : way) {
      inodes_[w].visiting = false;
      inodes_[w].rooted = true;
    }
    if (!cycle) continue;
    Inode &top = inodes_[at];
    for (auto it = m_.files().lower_bound(first_of(top.found_in, FsItem::dirent));
         it != m_.files().end() && it->first <= last_of(top.found_in, FsItem::dirent); ++it) {
      if (item_of<disk::DiskDirent>(it->second).ino != at) continue;
      m_.ask(cat(name(at), ": is its own ancestor: its name is removed"));
      m_.drop(kFs, it);
      break;
    }
    top.names = 0;
  }
}

std::optional<u64> Names::lookup(u64 dir, Bytes text) const {
  const u64 hash = name_hash(m_, text);
  for (u64 seq = 0; seq <= disk::kCookieSeqMask; seq++) {
    const auto it =
        m_.trees[kFs].items.find({dir, static_cast<u8>(FsItem::dirent), hash << disk::kCookieSeqBits | seq});
    if (it == m_.trees[kFs].items.end()) continue;
    const Bytes there = as_bytes(it->second).subspan(sizeof(disk::DiskDirent));
    if (std::equal(there.begin(), there.end(), text.begin(), text.end()))
      return item_of<disk::DiskDirent>(it->second).ino;
  }
  return std::nullopt;
}

bool Names::add_name(u64 dir, Bytes text, u64 ino, u8 type) {
  const u64 hash = name_hash(m_, text);
  for (u64 seq = 0; seq <= disk::kCookieSeqMask; seq++) {
    const Key k{dir, static_cast<u8>(FsItem::dirent), hash << disk::kCookieSeqBits | seq};
    if (m_.files().count(k)) continue;
    disk::DiskDirent d{};
    d.ino = ino;
    d.type = type;
    d.name_len = static_cast<u8>(text.size());
    Value v = value_of(d);
    v.insert(v.end(), text.begin(), text.end());
    m_.put(kFs, k, std::move(v));
    return true;  // flags are set when chains are put in order
  }
  return false;
}

// ------------------------------------------------------------- lost+found
u64 Names::lost_found() {
  if (lost_found_) return lost_found_;
  static constexpr char kName[] = "lost+found";
  const Bytes text{reinterpret_cast<const u8 *>(kName), sizeof kName - 1};
  if (const auto there = lookup(root_, text)) {
    auto it = inodes_.find(*there);
    if (it != inodes_.end() && it->second.dir) return lost_found_ = *there;
  }
  const u64 ino = m_.next_object_id++;
  disk::DiskInode i{};
  i.mode = disk::kModeDir | 0700;
  i.version = 1;
  i.parent = root_;
  i.birth = m_.new_txn();
  s64 sec;
  u32 nsec;
  vx_clock_real(&sec, &nsec);
  for (disk::DiskTime *t : {&i.atime, &i.mtime, &i.ctime, &i.btime}) {
    t->sec = static_cast<u64>(sec);
    t->nsec = nsec;
  }
  m_.put(kFs, inode_key(ino), value_of(i));
  // The name may be that of something else.
  for (int n = 0;; n++) {
    const std::string tried = n ? cat(kName, ".", n) : kName;
    const Bytes b{reinterpret_cast<const u8 *>(tried.data()), tried.size()};
    if (lookup(root_, b)) continue;
    add_name(root_, b, ino, disk::dirent_type(i.mode));
    break;
  }
  Inode &n = inodes_[ino];
  n.dir = true;
  n.names = 1;
  n.found_in = n.parent = root_;
  m_.ask("/lost+found is made");
  return lost_found_ = ino;
}

void Names::rescue() {
  std::vector<u64> nameless;
  for (const auto &[ino, n] : inodes_)
    if (!n.names && !n.orphan && ino != root_) nameless.push_back(ino);
  for (u64 ino : nameless) {
    const u64 dir = lost_found();
    const auto i = m_.get<disk::DiskInode>(kFs, inode_key(ino));
    std::string text = cat("#", ino);
    for (int n = 1; lookup(dir, {reinterpret_cast<const u8 *>(text.data()), text.size()}); n++)
      text = cat("#", ino, ".", n);
    add_name(dir, {reinterpret_cast<const u8 *>(text.data()), text.size()}, ino, disk::dirent_type(i->mode));
    inodes_[ino].names = 1;
    inodes_[ino].found_in = dir;
    m_.ask(cat("inode ", ino, " has no name: it is in lost+found now, as ", text));
  }
}

// ------------------------------------------------------------------ counts
void Names::count_directory(u64 ino, disk::DiskInode &i) {
  const Chains c = repair_chains(m_, ino, FsItem::dirent);
  if (i.entries != c.entries || i.size != c.bytes) m_.ask(cat(name(ino), ": its count of names is corrected"));
  i.entries = c.entries;
  i.size = c.bytes;
}

void Names::count() {
  for (auto &[ino, n] : inodes_)
    if (n.dir && n.names && ino != root_) inodes_[n.found_in].subdirs++;
  for (auto &[ino, n] : inodes_) {
    if (n.orphan) continue;
    auto i = m_.get<disk::DiskInode>(kFs, inode_key(ino));
    if (!i) continue;
    const disk::DiskInode before = *i;
    if (n.dir) count_directory(ino, *i);
    const u64 links = n.dir ? 2 + n.subdirs : n.names;
    if (i->nlink != links) m_.ask(cat(name(ino), ": link count ", i->nlink.get(), " is corrected to ", links));
    i->nlink = static_cast<u32>(links);
    const bool parent_lost = !inodes_.count(i->parent);
    if (ino != root_ && (n.dir ? i->parent != n.found_in : parent_lost)) {
      m_.ask(cat(name(ino), ": its parent directory is corrected"));
      i->parent = n.found_in;
    }
    if (memcmp(&before, &*i, sizeof before) != 0) m_.put(kFs, inode_key(ino), value_of(*i));
  }
  disk::DiskFsRoot r;
  memcpy(&r, m_.blobs[kFs], sizeof r);
  u64 inodes = 0;
  for (const auto &[k, v] : m_.files()) inodes += k.oid && k.type == static_cast<u8>(FsItem::inode);
  if (r.inodes == inodes) return;
  r.inodes = inodes;
  memcpy(m_.blobs[kFs], &r, sizeof r);
  m_.header_wrong = true;
  m_.safe("the count of inodes is corrected");
}

void Names::run() {
  find_root();
  load();
  judge_names();
  break_cycles();
  rescue();
  m_.forget_paths();
  count();
}

}  // namespace

void repair_names(Model &m) { Names(m).run(); }

}  // namespace vexfs::repair
