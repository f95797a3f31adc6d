// SPDX-License-Identifier: MIT
// An image, or a snapshot of one, as a Tree: the core's calls, with no host in between.
#include "tree.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "../client/error.h"
#include "target.h"

namespace vexfs::client {
namespace {

using stream::Attr;
using stream::Extent;
using stream::Record;
using stream::Time;

vx_time now() {
  vx_time t{};
  vx_clock_real(&t.sec, &t.nsec);
  return t;
}
Time time_of(const vx_time &t) { return {t.sec, t.nsec}; }
vx_time time_of(const Time &t) { return {t.sec, t.nsec, 0}; }

constexpr uint32_t flags_kept =
    VX_INODE_IMMUTABLE | VX_INODE_APPEND | VX_INODE_NODUMP | VX_INODE_NOATIME | VX_INODE_SYNC | VX_INODE_NOSUM;
static_assert(flags_kept == stream::flags_known && static_cast<uint32_t>(VX_INODE_NOSUM) == stream::no_sum);

// Those that a mounted filesystem takes.
bool settable(const std::string &xattr) {
  for (const std::string prefix : {"user.", "trusted.", "security."})
    if (xattr.size() > prefix.size() && xattr.compare(0, prefix.size(), prefix) == 0) return true;
  return false;
}

// As the kernel's new_encode_dev().
uint64_t encode_device(uint32_t major, uint32_t minor) {
  return (minor & 0xff) | (uint64_t{major} << 8) | (uint64_t{minor & ~0xffu} << 12);
}

class ImageFile : public stream::File {
 public:
  ImageFile(InodeRef ip, std::string what, uint32_t block)
      : ip_(std::move(ip)), what_(std::move(what)), block_(block) {}
  Extent extent(uint64_t off) override {
    const uint64_t at = off / block_ * block_;
    struct vx_map m {};
    if (const int rc = vx_map(ip_.get(), at, uint64_t{1} << 40, &m)) fail(what_, rc);
    const bool data = m.type == VX_MAP_MAPPED || m.type == VX_MAP_INLINE || m.type == VX_MAP_DELALLOC;
    return {m.off + m.len, data, m.type == VX_MAP_MAPPED ? m.disk + (off - m.off) : 0};
  }
  size_t read(uint64_t off, void *buf, size_t n) override {
    size_t all = 0;
    while (all < n) {
      size_t done = 0;
      if (const int rc = vx_pread(ip_.get(), static_cast<char *>(buf) + all, n - all, off + all, &done))
        fail(what_, rc);
      if (done == 0) break;
      all += done;
    }
    return all;
  }
  void write(uint64_t off, const void *buf, size_t n) override {
    for (size_t all = 0; all < n;) {
      size_t done = 0;
      const vx_time t = now();
      const int rc = vx_pwrite(ip_.get(), static_cast<const char *>(buf) + all, n - all, off + all, &t, &done);
      if (rc) fail(what_, rc);
      if (done == 0) fail(what_, -EIO);
      all += done;
    }
  }
  // Whole blocks become a hole, the rest zeroes: this filesystem's blocks may be larger than those of the stream's.
  void punch(uint64_t off, uint64_t n) override {
    const uint64_t end = off + n, first = (off + block_ - 1) / block_ * block_, last = end / block_ * block_;
    vx_attr a;
    vx_getattr(ip_.get(), &a);
    const bool tail = end >= a.size;  // then the last block may go as a whole
    const uint64_t stop = tail ? (end + block_ - 1) / block_ * block_ : last;
    if (first >= stop) return zero(off, std::min<uint64_t>(end, a.size));
    if (const int rc = vx_uninline(ip_.get())) fail(what_, rc);
    zero(off, first);
    const vx_time t = now();
    if (const int rc = vx_fallocate(ip_.get(), VX_FALLOC_PUNCH | VX_FALLOC_KEEP_SIZE, first, stop - first, 0, &t))
      fail(what_, rc);
    if (!tail) zero(last, end);
  }
  void resize(uint64_t size) override {
    const vx_time t = now();
    if (const int rc = vx_ptruncate(ip_.get(), size, &t)) fail(what_, rc);
  }

 private:
  void zero(uint64_t from, uint64_t to) {
    static const char zeroes[4096] = {};
    for (; from < to; from += std::min<uint64_t>(to - from, sizeof zeroes))
      write(from, zeroes, std::min<uint64_t>(to - from, sizeof zeroes));
  }
  InodeRef ip_;
  std::string what_;
  uint32_t block_;
};

class ImageTree : public stream::Tree {
 public:
  ImageTree(vx_fs *fs, std::string name, const std::string &root) : fs_(fs), name_(std::move(name)) {
    struct vx_fs_info i;
    vx_fs_info(fs, &i);
    block_ = i.block_size;
    root_ = i.root_ino;
    if (!root.empty()) {
      vx_attr a;
      vx_getattr(at(root).get(), &a);
      if (!S_ISDIR(a.mode)) fail(show(root), -ENOTDIR);
      root_ = a.ino;
    }
  }

  bool stat(const std::string &path, Attr *out) override {
    int rc = 0;
    const InodeRef ip = locate(path, &rc);
    if (rc == -ENOENT || rc == -ENOTDIR) return false;
    if (rc) fail(show(path), rc);
    vx_attr v;
    vx_getattr(ip.get(), &v);
    Attr a;
    a.ino = v.ino;
    a.size = v.size;
    a.mode = v.mode;
    a.uid = v.uid;
    a.gid = v.gid;
    a.nlink = v.nlink;
    a.flags = v.flags & flags_kept;
    if (S_ISCHR(v.mode) || S_ISBLK(v.mode)) {
      a.major = static_cast<uint32_t>((v.rdev & 0xfff00) >> 8);
      a.minor = static_cast<uint32_t>((v.rdev & 0xff) | ((v.rdev >> 12) & 0xfff00));
    }
    a.atime = time_of(v.atime);
    a.mtime = time_of(v.mtime);
    a.ctime = time_of(v.ctime);
    a.btime = time_of(v.btime);
    *out = a;
    return true;
  }

  void list(const std::string &path, const std::function<void(const stream::Entry &)> &each) override {
    const InodeRef dir = at(path);
    std::vector<stream::Entry> entries;
    vx_u64 pos = 0;
    auto take = [](void *ctx, const char *name, size_t len, vx_u64 ino, unsigned type, vx_u64) -> vx_bool {
      static_cast<std::vector<stream::Entry> *>(ctx)->push_back({std::string(name, len), ino, type == DT_DIR});
      return true;
    };
    if (const int rc = vx_readdir(dir.get(), &pos, take, &entries)) fail(show(path), rc);
    for (const auto &e : entries) each(e);
  }

  std::string read_link(const std::string &path) override {
    char buf[4097];
    size_t n = 0;
    if (const int rc = vx_readlink(at(path).get(), buf, sizeof buf, &n)) fail(show(path), rc);
    return std::string(buf, n);
  }

  std::vector<std::string> xattrs(const std::string &path) override {
    std::vector<std::string> all;
    auto take = [](void *ctx, const char *name, size_t n) -> vx_bool {
      static_cast<std::vector<std::string> *>(ctx)->emplace_back(name, n);
      return true;
    };
    if (const int rc = vx_xattr_list(at(path).get(), take, &all)) fail(show(path), rc);
    std::sort(all.begin(), all.end());
    return all;
  }

  bool xattr(const std::string &path, const std::string &name, std::string *value) override {
    value->resize(stream::xattr_max);
    size_t n = 0;
    const int rc = vx_xattr_get(at(path).get(), name.data(), name.size(), value->data(), value->size(), &n);
    value->resize(rc ? 0 : n);
    if (rc == -ENODATA) return false;
    if (rc) fail(show(path) + ": " + stream::printable(name), rc);
    return true;
  }

  std::unique_ptr<stream::File> open(const std::string &path, bool) override {
    InodeRef ip = at(path);
    vx_attr a;
    vx_getattr(ip.get(), &a);
    if (!S_ISREG(a.mode)) throw Error(EINVAL, show(path) + ": is no regular file");
    return std::make_unique<ImageFile>(std::move(ip), show(path), block_);
  }

  std::unique_ptr<Target> target(const std::string &path) override {
    return std::make_unique<ImageTarget>(fs_, show(path), at(path));
  }

  void make(const std::string &path, uint32_t type, uint32_t major, uint32_t minor, const std::string &link) override {
    const auto [dir, name] = parent(path);
    vx_attr init{};
    init.mode = type | (type == S_IFLNK ? 0777 : type == S_IFDIR ? 0700 : 0600);
    init.rdev = encode_device(major, minor);
    const vx_time t = now();
    vx_inode *raw = nullptr;
    const int rc = vx_create(dir.get(), name.data(), name.size(), &init, type == S_IFLNK ? link.data() : nullptr,
                             link.size(), &t, &raw);
    if (rc) fail(show(path), rc);
    vx_iput(raw);
  }

  void link(const std::string &path, const std::string &to) override {
    const InodeRef ip = at(path);
    const auto [dir, name] = parent(to);
    const vx_time t = now();
    if (const int rc = vx_link(dir.get(), name.data(), name.size(), ip.get(), &t)) fail(show(to), rc);
  }

  void move(const std::string &path, const std::string &to) override {
    const auto [from, old] = parent(path);
    const auto [dir, name] = parent(to);
    const vx_time t = now();
    const int rc = vx_rename(from.get(), old.data(), old.size(), dir.get(), name.data(), name.size(),
                             VX_RENAME_NOREPLACE, nullptr, &t);
    if (rc) fail(show(path) + " -> " + stream::printable(to), rc);
  }

  void remove(const std::string &path, bool directory) override {
    const auto [dir, name] = parent(path);
    const vx_time t = now();
    if (const int rc = vx_unlink(dir.get(), name.data(), name.size(), directory, &t)) fail(show(path), rc);
  }

  void set_flags(const std::string &path, uint32_t flags) override {
    const InodeRef ip = at(path);
    vx_attr a;
    vx_getattr(ip.get(), &a);
    if ((a.flags & flags_kept) == flags) return;
    a.flags = (a.flags & ~flags_kept) | flags;
    if (const int rc = vx_setattr(ip.get(), VX_SET_FLAGS, &a)) fail(show(path) + ": flags", rc);
  }

  void set_owner(const std::string &path, uint32_t uid, uint32_t gid, uint32_t mode) override {
    const InodeRef ip = at(path);
    vx_attr a;
    vx_getattr(ip.get(), &a);
    a.uid = uid;
    a.gid = gid;
    a.mode = (a.mode & S_IFMT) | (mode & 07777);
    if (const int rc = vx_setattr(ip.get(), VX_SET_UID | VX_SET_GID | VX_SET_MODE, &a))
      fail(show(path) + ": owner", rc);
  }

  void set_xattr(const std::string &path, const std::string &name, const std::string &value) override {
    if (!settable(name)) fail(show(path) + ": " + stream::printable(name), -EOPNOTSUPP);
    const vx_time t = now();
    if (const int rc = vx_xattr_set(at(path).get(), name.data(), name.size(), value.data(), value.size(), 0, &t))
      fail(show(path) + ": " + stream::printable(name), rc);
  }

  void remove_xattr(const std::string &path, const std::string &name) override {
    const vx_time t = now();
    const int rc = vx_xattr_remove(at(path).get(), name.data(), name.size(), &t);
    if (rc && rc != -ENODATA) fail(show(path) + ": " + stream::printable(name), rc);
  }

  void set_times(const std::string &path, const Record &r) override {
    const InodeRef ip = at(path);
    vx_attr a{};
    a.atime = time_of(r.atime);
    a.mtime = time_of(r.mtime);
    a.ctime = time_of(r.ctime);
    a.btime = time_of(r.btime);
    const int rc = vx_setattr(ip.get(), VX_SET_ATIME | VX_SET_MTIME | VX_SET_CTIME | VX_SET_BTIME, &a);
    if (rc) fail(show(path) + ": times", rc);
  }

  void sync() override {
    if (const int rc = vx_fs_commit(fs_)) fail(name_, rc);
  }
  std::string name() const override { return name_; }

 private:
  std::string show(const std::string &path) const { return stream::printable(name_ + ":/" + path); }

  InodeRef get(uint64_t ino, int *rc) const {
    vx_inode *raw = nullptr;
    *rc = vx_iget(fs_, ino, 0, &raw);
    return InodeRef(raw);
  }
  InodeRef locate(const std::string &path, int *rc) const {
    InodeRef ip = get(root_, rc);
    for (size_t i = 0; *rc == 0 && i < path.size();) {
      const size_t slash = std::min(path.find('/', i), path.size());
      vx_attr a;
      vx_getattr(ip.get(), &a);
      vx_u64 ino = 0;
      *rc = S_ISDIR(a.mode) ? vx_lookup(ip.get(), path.data() + i, slash - i, &ino) : -ENOTDIR;
      if (*rc == 0) ip = get(ino, rc);
      i = slash + 1;
    }
    return ip;
  }
  InodeRef at(const std::string &path) const {
    int rc = 0;
    InodeRef ip = locate(path, &rc);
    if (rc) fail(show(path), rc);
    return ip;
  }
  std::pair<InodeRef, std::string> parent(const std::string &path) const {
    const size_t slash = path.rfind('/');
    InodeRef dir = at(slash == std::string::npos ? "" : path.substr(0, slash));
    vx_attr a;
    vx_getattr(dir.get(), &a);
    if (!S_ISDIR(a.mode)) fail(show(path), -ENOTDIR);
    return {std::move(dir), slash == std::string::npos ? path : path.substr(slash + 1)};
  }

  vx_fs *fs_;
  uint64_t root_ = 0;
  uint32_t block_ = 0;
  std::string name_;
};

}  // namespace

std::unique_ptr<stream::Tree> image_tree(vx_fs *fs, const std::string &name, const std::string &root) {
  return std::make_unique<ImageTree>(fs, name, root);
}

}  // namespace vexfs::client
