// SPDX-License-Identifier: MIT
// Random operations on the real filesystem and the model.
#include "fs_driver.h"

namespace vexfs::model {
namespace {

using namespace vexfs::fs::test;  // NOLINT(google-build-using-namespace): a test

constexpr uint64_t block = 4096;

fs::Time when(int64_t t) { return {t, 7}; }

uint32_t kind_bits(Kind k) {
  switch (k) {
    case Kind::dir:
      return disk::kModeDir;
    case Kind::link:
      return disk::kModeLink;
    case Kind::fifo:
      return disk::kModeFifo;
    default:
      return disk::kModeFile;
  }
}

}  // namespace

Driver::Driver(const DriverOptions &o) : fs_(o.fixture), rng_(o.seed), o_(o) {
  ino_of_[FsModel::root] = fs_.fs().root_ino();
  fs_.commit();
  saved_ = model_;
  saved_ino_of_ = ino_of_;
  auto root = fs_.root();
  model_.at(FsModel::root).mtime = root->attributes().mtime.sec;
  saved_ = model_;
}

// ------------------------------------------------------------------ choices
uint64_t Driver::pick_node() {
  auto it = model_.nodes.begin();
  std::advance(it, static_cast<long>(pick(model_.nodes.size())));
  return it->first;
}

uint64_t Driver::pick_dir() {
  if (pick(20) == 0) return pick_node();  // sometimes no directory at all
  auto dirs = model_.of_kind(Kind::dir);
  return dirs[pick(dirs.size())];
}

uint64_t Driver::pick_file() {
  auto files = model_.of_kind(Kind::file);
  return files.empty() ? 0 : files[pick(files.size())];
}

std::string Driver::pick_name(uint64_t dir) {
  auto &names = model_.at(dir).names;
  if (!names.empty() && pick(3)) {
    auto it = names.begin();
    std::advance(it, static_cast<long>(pick(names.size())));
    return it->first;
  }
  if (pick(50) == 0) return std::string(255, static_cast<char>('a' + pick(26)));
  return "n" + std::to_string(pick(60));
}

std::string Driver::bytes(uint64_t n) {
  std::string s(n, 0);
  uint64_t x = rng_();
  for (auto &c : s) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    c = static_cast<char>(x >> 56);
  }
  return s;
}

fs::InodeRef Driver::inode(uint64_t node) {
  auto r = (shown_ ? *shown_ : fs_.fs()).get(ino_of_.at(node));
  EXPECT_TRUE(r.ok()) << "node " << node << " inode " << ino_of_.at(node) << ": " << static_cast<int>(r.code());
  return r.ok() ? r.take() : fs::InodeRef();
}

void Driver::expect(const char *what, int want, Errno got) {
  EXPECT_EQ(want, static_cast<int>(got)) << what << ", seed " << o_.seed << ", step " << step_;
}

// --------------------------------------------------------------- operations
void Driver::was_removed(uint64_t node) {
  gone(node);
  auto h = held_.find(node);
  if (h != held_.end()) h->second.nameless = true;
  ino_of_.erase(node);
}

void Driver::do_create() {
  if (model_.nodes.size() >= o_.max_nodes) return do_unlink();
  uint64_t dir = pick_dir();
  std::string name = pick_name(dir);
  Kind kind = pick(10) < 6 ? Kind::file : pick(3) ? Kind::dir : pick(2) ? Kind::link : Kind::fifo;
  std::string target = kind == Kind::link ? bytes(1 + pick(pick(8) ? 60 : 4095)) : "";
  for (auto &c : target) c = c ? c : 'x';
  int64_t now = tick();
  uint64_t node = 0;
  int want = model_.create(dir, name, kind, 0640, target, now, &node);
  fs::NewInode init;
  init.mode = kind_bits(kind) | 0640;
  init.target = B(target);
  auto d = inode(dir);
  auto r = fs::create(*d, B(name), init, when(now));
  expect("create", want, r.code());
  if (r.ok() && want == 0) ino_of_[node] = (*r)->ino();
}

void Driver::do_link() {
  uint64_t dir = pick_dir(), node = pick_node();
  std::string name = pick_name(dir);
  int64_t now = tick();
  int want = model_.link(dir, name, node, now);
  expect("link", want, fs::link(*inode(dir), B(name), *inode(node), when(now)).code());
}

void Driver::do_unlink() {
  uint64_t dir = pick_dir();
  std::string name = pick_name(dir);
  int64_t now = tick();
  bool rm = pick(3) == 0;
  auto held = held_.find(model_.is_dir(dir) ? model_.find(dir, name) : 0);
  std::string data = held == held_.end() ? "" : model_.at(held->first).data;
  uint64_t removed = 0;
  int want = rm ? model_.rmdir(dir, name, now, &removed) : model_.unlink(dir, name, now, &removed);
  auto d = inode(dir);
  expect(rm ? "rmdir" : "unlink", want,
         (rm ? fs::rmdir(*d, B(name), when(now)) : fs::unlink(*d, B(name), when(now))).code());
  if (!removed) return;
  if (held != held_.end()) held->second.data = data;
  was_removed(removed);
}

void Driver::do_rename() {
  uint64_t odir = pick_dir(), ndir = pick(2) ? pick_dir() : odir;
  std::string oname = pick_name(odir), nname = pick_name(ndir);
  unsigned flags = pick(4) ? 0 : static_cast<unsigned>(pick(8));
  int64_t now = tick();
  uint64_t dst = model_.is_dir(ndir) ? model_.find(ndir, nname) : 0, removed = 0, first_new = model_.next;
  auto held = held_.find(dst);
  std::string data = held == held_.end() ? "" : model_.at(dst).data;
  auto o = inode(odir), n = inode(ndir);
  int want = model_.rename(odir, oname, ndir, nname, flags, now, &removed);
  expect("rename", want, fs::rename(*o, B(oname), *n, B(nname), flags, nullptr, when(now)).code());
  if (want) return;
  if (model_.next != first_new) {  // the whiteout
    auto ino = fs::lookup(*o, B(oname));
    EXPECT_TRUE(ino.ok());
    if (ino.ok()) ino_of_[first_new] = *ino;
  }
  if (removed) {
    if (held != held_.end()) held->second.data = data;
    was_removed(removed);
  }
}

// In-place writes into blocks that are committed are not undone by a crash.
void Driver::changed_in_place(uint64_t node, uint64_t from) {
  if (o_.fixture.data_sums) return;  // nothing is
  auto it = saved_.nodes.find(node);
  if (it == saved_.nodes.end() || inode(node)->attributes().blocks == 0) return;
  if (from < (it->second.data.size() + block - 1) / block * block) unsure_.insert(node);
}

void Driver::do_write(bool buffered) {
  uint64_t node = pick_file();
  if (!node) return do_create();
  uint64_t size = model_.at(node).data.size();
  uint64_t off = pick(3) ? pick(size + 1) : pick(4) ? size : pick(o_.max_file);
  uint64_t len = 1 + pick(pick(3) ? 300 : 30000);
  if (off + len > o_.max_file) off = pick(1000);
  int64_t now = tick();
  std::string data = bytes(len);
  changed_in_place(node, std::min(off, size));
  model_.write(node, off, data, now);
  auto ip = inode(node);
  if (buffered) {
    write_buffered(*ip, off, len, model_.at(node).data);
    fs::Attributes a;
    a.mtime = a.ctime = when(now);
    EXPECT_TRUE(fs::set_attributes(*ip, VX_SET_MTIME | VX_SET_CTIME, a).ok());
  } else {
    auto r = fs::write_file(*ip, B(data), off, when(now));
    expect("write", 0, r.code());
    if (r.ok()) {
      EXPECT_EQ(*r, len);
    }
  }
}

// As a host with a page cache does it: reserve when the cache is dirtied, allocate and complete at writeback. `all` is
// what the file is to contain.
void Driver::write_buffered(fs::Inode &ip, uint64_t off, uint64_t len, const std::string &all) {
  auto &fs = fs_.fs();
  if (all.size() > fs.inline_max()) {
    expect("uninline", 0, fs::uninline(ip).code());
  } else if (fs::inline_write(ip, B(all)).ok()) {
    return;
  }
  // A write beyond the end also dirties what lies between, so that the tail of the old last block is zeroed.
  uint64_t first = std::min<uint64_t>(off, ip.size()) / block * block;
  uint64_t end = (off + len + block - 1) / block * block;
  fs::MapOut m;
  for (uint64_t at = first; at < end;) {
    uint64_t n = std::min<uint64_t>(end - at, (1 + pick(4)) * block);
    expect("reserve", 0, fs::map_reserve(ip, at, n, m).code());
    at += n;
  }
  if (pick(6) == 0) {  // part of it is taken back, and reserved again
    fs::map_unreserve(ip, first, end - first);
    expect("reserve again", 0, fs::map_reserve(ip, first, end - first, m).code());
  }
  auto *buf = static_cast<uint8_t *>(aligned_alloc(block, end - first));
  for (uint64_t at = first; at < end;) {
    Status st = fs::map_allocate(ip, at, end - at, false, m);
    expect("allocate", 0, st.code());
    if (!st.ok()) break;
    EXPECT_TRUE(m.type == VX_MAP_MAPPED || m.type == VX_MAP_UNWRITTEN);
    EXPECT_EQ(m.off, at);
    uint64_t n = std::min(m.len, end - at);
    memset(buf, 0, n);
    if (at < all.size()) memcpy(buf, all.data() + at, std::min<uint64_t>(n, all.size() - at));
    bool lose = pick(40) == 0;  // an I/O error, and a second attempt
    if (!lose) expect("write_blocks", 0, fs.volume().write_blocks(m.disk / block, {buf, n}).code());
    uint64_t size = std::min<uint64_t>(at + n, all.size());
    auto sums = sums_of({buf, n});
    expect(
        "write_done", 0,
        fs::write_done(ip, at, n, lose ? 0 : size, lose ? -5 : 0, fs::wants_sums(ip) ? sums.data() : nullptr).code());
    if (!lose) at += n;
  }
  free(buf);
  expect("set_size", 0, fs::set_size(ip, all.size()).code());
}

void Driver::do_truncate() {
  uint64_t node = pick_file();
  if (!node) return do_create();
  uint64_t size = model_.at(node).data.size();
  uint64_t to = pick(3) ? pick(size + 1) : pick(4) ? 0 : pick(o_.max_file);
  int64_t now = tick();
  if (to > size) changed_in_place(node, size);
  model_.truncate(node, to, now);
  expect("truncate", 0, fs::truncate_file(*inode(node), to, when(now)).code());
}

void Driver::do_fallocate() {
  uint64_t node = pick_file();
  if (!node) return do_create();
  uint64_t off = pick(40) * block, len = (1 + pick(20)) * block;
  int64_t now = tick();
  auto ip = inode(node);
  switch (pick(3)) {
    case 0: {
      uint64_t size = model_.at(node).data.size();
      bool keep = pick(2) || off + len > o_.max_file;
      if (!keep && off + len > size) {
        // The host zeroes the tail of the last block when it extends a file.
        changed_in_place(node, size);
        expect("extend", 0, fs::truncate_file(*ip, size + 1, when(now)).code());
        model_.truncate(node, off + len, now);
      }
      expect("fallocate", 0, fs::fallocate(*ip, keep ? VX_FALLOC_KEEP_SIZE : 0, off, len, off + len, when(now)).code());
      break;
    }
    case 1:
      model_.zero(node, off, len, now);
      expect("punch", 0, fs::fallocate(*ip, VX_FALLOC_KEEP_SIZE | VX_FALLOC_PUNCH, off, len, 0, when(now)).code());
      break;
    default:
      model_.zero(node, off, len, now);
      expect("zero", 0, fs::fallocate(*ip, VX_FALLOC_KEEP_SIZE | VX_FALLOC_ZERO, off, len, 0, when(now)).code());
  }
}

// A range of one file, or all of it, becomes one of another by sharing blocks; or they are equal, and share from then on.
void Driver::do_clone() {
  uint64_t from = pick_file(), to = pick_file();
  if (!from) return do_create();
  const std::string data = model_.at(from).data, old = model_.at(to).data;
  uint64_t src = pick(3) ? 0 : pick(data.size() / block + 1) * block;
  uint64_t dst = pick(3) ? src : pick(40) * block;
  if (src >= data.size()) return;
  uint64_t len = pick(2) ? data.size() - src : (1 + pick(12)) * block;
  if (src + len > data.size()) len = data.size() - src;
  uint64_t whole = (len + block - 1) / block * block;
  if (dst + len > o_.max_file) return;
  bool dedupe = pick(4) == 0 && dst + len <= old.size() && data.substr(src, len) == old.substr(dst, len);
  int want = 0;
  if (len % block && dst + len < old.size()) want = EINVAL;
  if (from == to && src < dst + whole && dst < src + whole) want = EINVAL;
  int64_t now = tick();
  if (want == 0 && dst > old.size()) changed_in_place(to, old.size());
  auto r = fs::clone_file(*inode(from), *inode(to), {src, dst, len, dedupe}, when(now));
  expect("clone", want, r.code());
  if (want == 0 && !dedupe) model_.write(to, dst, data.substr(src, len), now);
}

void Driver::do_xattr() {
  uint64_t node = pick_node();
  std::string name = "user.x" + std::to_string(pick(12));
  auto ip = inode(node);
  int64_t now = tick();
  if (pick(3) == 0) {
    expect("removexattr", model_.remove_xattr(node, name), fs::xattr_remove(*ip, B(name), when(now)).code());
    return;
  }
  std::string value = bytes(pick(4) ? pick(100) : pick(10) ? pick(5000) : pick(65537));
  unsigned flags = pick(4) ? 0 : static_cast<unsigned>(1 + pick(2));
  expect("setxattr", model_.set_xattr(node, name, value, flags),
         fs::xattr_set(*ip, B(name), B(value), flags, when(now)).code());
}

void Driver::do_setattr() {
  uint64_t node = pick_node();
  Node &m = model_.at(node);
  fs::Attributes a;
  a.mode = m.mode = static_cast<uint32_t>(pick(07777));
  a.uid = m.uid = static_cast<uint32_t>(pick(1000));
  a.gid = m.gid = static_cast<uint32_t>(pick(1000));
  m.mtime = tick();
  a.mtime = when(m.mtime);
  auto ip = inode(node);
  expect("chown", 0, fs::set_attributes(*ip, VX_SET_MODE | VX_SET_UID | VX_SET_GID, a).code());
  expect("utimes", 0, fs::set_attributes(*ip, VX_SET_MTIME, a).code());
}

void Driver::do_open_close() {
  if (held_.size() > 8 || pick(3) == 0) {
    if (held_.empty()) return;
    auto it = held_.begin();
    std::advance(it, static_cast<long>(pick(held_.size())));
    if (it->second.nameless && it->second.ip->is_file()) {
      EXPECT_EQ(TestFs::read(*it->second.ip), it->second.data) << "contents of a deleted open file, step " << step_;
    }
    held_.erase(it);
    return;
  }
  uint64_t node = pick_node();
  if (!held_.count(node)) held_[node].ip = inode(node);
}

void Driver::do_lookup() {
  uint64_t dir = pick_dir();
  std::string name = pick_name(dir);
  auto r = fs::lookup(*inode(dir), B(name));
  int want = !model_.is_dir(dir) ? ENOTDIR : model_.find(dir, name) ? 0 : ENOENT;
  expect("lookup", want, r.code());
  if (r.ok() && want == 0) {
    EXPECT_EQ(*r, ino_of_.at(model_.find(dir, name))) << "step " << step_;
  }
}

void Driver::do_readdir() {
  auto dirs = model_.of_kind(Kind::dir);
  uint64_t dir = dirs[pick(dirs.size())];
  auto ip = inode(dir);
  compare_names(model_.at(dir), *ip);
}

void Driver::step() {
  step_++;
  if (extra_step()) return;
  switch (pick(22)) {
    case 20:
    case 21:
      return do_clone();
    case 0:
    case 1:
    case 2:
    case 3:
      return do_create();
    case 4:
      return do_link();
    case 5:
    case 6:
      return do_unlink();
    case 7:
    case 8:
      return do_rename();
    case 9:
    case 10:
      return do_write(false);
    case 11:
    case 12:
      return do_write(true);
    case 13:
      return do_truncate();
    case 14:
      return do_fallocate();
    case 15:
      return do_xattr();
    case 16:
      return do_setattr();
    case 17:
      return do_open_close();
    case 18:
      return do_lookup();
    default:
      return do_readdir();
  }
}

void Driver::run(uint64_t steps) {
  for (uint64_t i = 0; i < steps && !failed(); i++) {
    step();
    uint64_t event = pick(1000);
    if (event < 8)
      commit();
    else if (event < 10)
      crash();
    else if (event < 12)
      remount();
    else if (event < 14)
      compare();
  }
  if (failed()) return;
  held_.clear();
  compare();
  EXPECT_EQ(fs_.fs().inode_count(), model_.inodes());
  EXPECT_TRUE(fs_.check());
  if (failed())
    printf("seed %llu, step %llu\n", static_cast<unsigned long long>(o_.seed), static_cast<unsigned long long>(step_));
}

// -------------------------------------------------------------------- events
void Driver::commit() {
  fs_.commit();
  saved_ = model_;
  saved_ino_of_ = ino_of_;
  unsure_.clear();
  extra_commit();
}

void Driver::crash() {
  EXPECT_EQ(fs_.volume().counters().commits_forced.load(), 0u) << "the device is too small for an exact comparison";
  fs_.volume().abort(Errno::io);
  held_.clear();
  fs_.crash();
  model_ = saved_;
  ino_of_ = saved_ino_of_;
  for (uint64_t n : unsure_) {
    auto it = model_.nodes.find(n);
    if (it == model_.nodes.end()) continue;
    auto ip = inode(n);
    if (!ip) return;
    EXPECT_EQ(ip->size(), it->second.data.size()) << "after a crash, node " << n << " step " << step_;
    it->second.data = TestFs::read(*ip);
  }
  unsure_.clear();
  compare();
  EXPECT_EQ(fs_.fs().inode_count(), model_.inodes()) << "step " << step_;
  saved_ = model_;
  extra_crash();
}

void Driver::remount() {
  held_.clear();
  EXPECT_TRUE(fs_.check()) << "step " << step_;
  compare();
  saved_ = model_;
  saved_ino_of_ = ino_of_;
  unsure_.clear();
  extra_commit();
}

// ---------------------------------------------------------------- comparison
void Driver::compare() {
  for (auto &[n, m] : model_.nodes) {
    compare_node(n, m);
    if (failed()) {
      printf("seed %llu, step %llu, node %llu\n", static_cast<unsigned long long>(o_.seed),
             static_cast<unsigned long long>(step_), static_cast<unsigned long long>(n));
      return;
    }
  }
  extra_compare();
}

void Driver::compare_node(uint64_t n, const Node &m) {
  auto ip = inode(n);
  if (!ip) return;
  auto a = ip->attributes();
  uint32_t type = a.mode & disk::kModeType;
  if (type == disk::kModeChar) type = disk::kModeFifo;  // a whiteout
  EXPECT_EQ(type, kind_bits(m.kind));
  EXPECT_EQ(a.nlink, m.nlink);
  if (m.mtime) {
    EXPECT_EQ(a.mtime.sec, m.mtime);
  }
  EXPECT_EQ(a.uid, m.uid);
  EXPECT_EQ(a.gid, m.gid);
  EXPECT_EQ(a.xattrs, m.xattrs.size());
  if (m.kind == Kind::dir) {
    if (m.parent) {
      EXPECT_EQ(a.parent, ino_of_.at(m.parent));
    }
    EXPECT_EQ(a.entries, m.names.size());
    compare_names(m, *ip);
  }
  if (m.kind == Kind::file) compare_data(n, m, *ip);
  if (m.kind == Kind::link) {
    std::string buf(5000, 0);
    auto r = fs::readlink(*ip, {reinterpret_cast<uint8_t *>(buf.data()), buf.size()});
    EXPECT_TRUE(r.ok() && buf.substr(0, *r) == m.data);
  }
  compare_xattrs(m, *ip);
}

void Driver::compare_data(uint64_t n, const Node &m, fs::Inode &ip) {
  EXPECT_EQ(ip.size(), m.data.size()) << "size of node " << n;
  std::string got = TestFs::read(ip);
  if (got == m.data) return;
  size_t i = 0;
  while (i < got.size() && i < m.data.size() && got[i] == m.data[i]) i++;
  ADD_FAILURE() << "contents of node " << n << " inode " << ip.ino() << " differ from byte " << i << " of "
                << got.size();
}

void Driver::compare_xattrs(const Node &m, fs::Inode &ip) {
  std::set<std::string> names;
  EXPECT_TRUE(fs::xattr_list(ip, [&](Bytes b) { return names.insert(S(b)).second; }).ok());
  EXPECT_EQ(names.size(), m.xattrs.size());
  for (auto &[name, value] : m.xattrs) {
    EXPECT_TRUE(names.count(name));
    std::string buf(value.size() + 1, '?');
    auto r = fs::xattr_get(ip, B(name), {reinterpret_cast<uint8_t *>(buf.data()), buf.size()});
    EXPECT_TRUE(r.ok() && buf.substr(0, *r) == value) << name;
  }
}

void Driver::compare_names(const Node &m, fs::Inode &ip) {
  std::map<std::string, uint64_t> got;
  uint64_t pos = pick(3), last = 0;
  bool ordered = true;
  // In several calls, as hosts do.
  for (bool more = true; more;) {
    uint64_t budget = 1 + pick(40);
    more = false;
    EXPECT_TRUE(fs::readdir(ip, pos, [&](const fs::DirEntry &e) {
                  if (budget-- == 0) {
                    more = true;
                    return false;
                  }
                  ordered &= e.cookie > last;
                  last = e.cookie;
                  got[S(e.name)] = e.ino;
                  return true;
                }).ok());
  }
  EXPECT_TRUE(ordered);
  EXPECT_EQ(got.size(), m.names.size()) << "step " << step_;
  for (auto &[name, node] : m.names) {
    auto it = got.find(name);
    EXPECT_TRUE(it != got.end() && it->second == ino_of_.at(node)) << name << ", step " << step_;
  }
}

}  // namespace vexfs::model
