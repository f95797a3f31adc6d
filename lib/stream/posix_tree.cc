// SPDX-License-Identifier: MIT
// A directory of a mounted filesystem as a Tree. Whatever a path says, it is resolved below that directory, on the same
// filesystem, and through no symbolic link.
#include <dirent.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "../client/error.h"
#include "tree.h"

namespace vexfs::stream {
namespace {

[[noreturn]] void fail(const std::string &what, int err) { throw client::Error(err, what + ": " + strerror(err)); }

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd &&o) noexcept : fd_(o.fd_) { o.fd_ = -1; }
  Fd &operator=(Fd &&o) noexcept {
    std::swap(fd_, o.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  bool ok() const { return fd_ >= 0; }

 private:
  int fd_;
};

// The file that an O_PATH descriptor stands for, as a path that leads to itself and never further.
std::string self(const Fd &fd) { return "/proc/self/fd/" + std::to_string(fd.get()); }

constexpr std::pair<uint32_t, uint32_t> flag_pairs[] = {{immutable, FS_IMMUTABLE_FL}, {append_only, FS_APPEND_FL},
                                                        {no_dump, FS_NODUMP_FL},      {no_atime, FS_NOATIME_FL},
                                                        {synchronous, FS_SYNC_FL},    {no_sum, FS_NOCOW_FL}};

Time time_of(const struct statx_timestamp &t) { return {t.tv_sec, t.tv_nsec}; }

class PosixFile : public File {
 public:
  PosixFile(Fd fd, std::string what) : fd_(std::move(fd)), what_(std::move(what)) {}

  Extent extent(uint64_t off) override {
    if (off < from_ || off >= to_) load(off);
    for (const Extent &e : map_)
      if (off < e.end) {
        Extent x = e;
        if (x.disk) x.disk += off - begin_of(e);
        return x;
      }
    return {UINT64_MAX, false, 0};
  }
  size_t read(uint64_t off, void *buf, size_t n) override {
    size_t done = 0;
    while (done < n) {
      const ssize_t r = ::pread(fd_.get(), static_cast<char *>(buf) + done, n - done, static_cast<off_t>(off + done));
      if (r < 0 && errno == EINTR) continue;
      if (r < 0) fail(what_, errno);
      if (r == 0) break;
      done += static_cast<size_t>(r);
    }
    return done;
  }
  void write(uint64_t off, const void *buf, size_t n) override {
    for (size_t done = 0; done < n;) {
      const ssize_t r =
          ::pwrite(fd_.get(), static_cast<const char *>(buf) + done, n - done, static_cast<off_t>(off + done));
      if (r < 0 && errno == EINTR) continue;
      if (r <= 0) fail(what_, r ? errno : EIO);
      done += static_cast<size_t>(r);
    }
  }
  void punch(uint64_t off, uint64_t n) override {
    if (::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(off),
                    static_cast<off_t>(n)) != 0)
      fail(what_, errno);
  }
  void resize(uint64_t size) override {
    if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) fail(what_, errno);
  }

 private:
  uint64_t begin_of(const Extent &e) const { return &e == map_.data() ? from_ : (&e)[-1].end; }

  // Some extents from `off` on, holes between them included.
  void load(uint64_t off) {
    constexpr unsigned count = 128;
    alignas(struct fiemap) unsigned char buf[sizeof(struct fiemap) + count * sizeof(struct fiemap_extent)] = {};
    auto *m = reinterpret_cast<struct fiemap *>(buf);
    m->fm_start = off;
    m->fm_length = FIEMAP_MAX_OFFSET - off;
    m->fm_extent_count = count;
    if (::ioctl(fd_.get(), FS_IOC_FIEMAP, m) != 0) fail(what_, errno);
    map_.clear();
    from_ = to_ = off;
    bool last = m->fm_mapped_extents < count;
    for (unsigned i = 0; i < m->fm_mapped_extents; i++) {
      const struct fiemap_extent &e = m->fm_extents[i];
      last |= (e.fe_flags & FIEMAP_EXTENT_LAST) != 0;
      const uint64_t end = e.fe_logical + e.fe_length;
      if (end <= to_) continue;
      if (e.fe_logical > to_) map_.push_back({e.fe_logical, false, 0});
      const bool known = !(e.fe_flags & (FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_NOT_ALIGNED | FIEMAP_EXTENT_ENCODED |
                                         FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_DELALLOC));
      const uint64_t skip = to_ > e.fe_logical ? to_ - e.fe_logical : 0;
      map_.push_back({end, !(e.fe_flags & FIEMAP_EXTENT_UNWRITTEN), known && e.fe_physical ? e.fe_physical + skip : 0});
      to_ = end;
    }
    if (last) {
      to_ = UINT64_MAX;
      map_.push_back({UINT64_MAX, false, 0});
    }
  }

  Fd fd_;
  std::string what_;
  std::vector<Extent> map_;
  uint64_t from_ = 0, to_ = 0;  // what map_ is about
};

class FdTarget : public client::Target {
 public:
  FdTarget(Fd fd, std::string path, const Attr &a) : fd_(std::move(fd)) {
    path_ = std::move(path);
    ino_ = a.ino;
    is_directory_ = a.is_dir();
  }
  int command(uint32_t cmd, void *arg) override {
    return ::ioctl(fd_.get(), static_cast<unsigned long>(cmd), arg) >= 0 ? 0 : -errno;
  }
  int fd() const override { return fd_.get(); }

 private:
  Fd fd_;
};

class PosixTree : public Tree {
 public:
  explicit PosixTree(const std::string &directory)
      : root_(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    name_ = directory;
    if (!root_.ok()) fail(directory, errno);
  }

  bool stat(const std::string &path, Attr *out) override {
    int err = 0;
    const Fd fd = locate(path, &err);
    if (!fd.ok()) {
      if (err == ENOENT || err == ENOTDIR) return false;
      fail(show(path), err);
    }
    *out = attr_of(fd, path);
    return true;
  }

  void list(const std::string &path, const std::function<void(const Entry &)> &each) override {
    Fd fd = reopen(at(path), path, O_RDONLY | O_DIRECTORY);
    DIR *d = ::fdopendir(fd.get());
    if (!d) fail(show(path), errno);
    fd.release();
    struct Close {
      DIR *d;
      ~Close() { ::closedir(d); }
    } close{d};
    for (;;) {
      errno = 0;
      const struct dirent *e = ::readdir(d);
      if (!e && errno) fail(show(path), errno);
      if (!e) return;
      const std::string name = e->d_name;
      if (name == "." || name == "..") continue;
      bool directory = e->d_type == DT_DIR;
      if (e->d_type == DT_UNKNOWN) directory = need(join(path, name)).is_dir();
      each({name, e->d_ino, directory});
    }
  }

  std::string read_link(const std::string &path) override {
    const Fd fd = at(path);
    char buf[4097];
    const ssize_t n = ::readlinkat(fd.get(), "", buf, sizeof buf);
    if (n < 0) fail(show(path), errno);
    return std::string(buf, static_cast<size_t>(n));
  }

  std::vector<std::string> xattrs(const std::string &path) override {
    const Fd fd = at(path);
    std::string names(xattrs_max, '\0');
    const ssize_t n = ::listxattr(self(fd).c_str(), names.data(), names.size());
    if (n < 0) {
      if (errno == EOPNOTSUPP) return {};
      fail(show(path), errno);
    }
    std::vector<std::string> all;
    for (size_t i = 0; i < static_cast<size_t>(n);) {
      all.emplace_back(names.c_str() + i);
      i += all.back().size() + 1;
    }
    std::sort(all.begin(), all.end());
    return all;
  }

  bool xattr(const std::string &path, const std::string &name, std::string *value) override {
    const Fd fd = at(path);
    value->resize(xattr_max);
    const ssize_t n = ::getxattr(self(fd).c_str(), name.c_str(), value->data(), value->size());
    const int err = errno;
    value->resize(n < 0 ? 0 : static_cast<size_t>(n));
    if (n < 0 && err == ENODATA) return false;
    if (n < 0) fail(show(path) + ": " + printable(name), err);
    return true;
  }

  std::unique_ptr<File> open(const std::string &path, bool write) override {
    const Fd fd = at(path);
    if (!attr_of(fd, path, false).is_file()) throw client::Error(EINVAL, show(path) + ": is no regular file");
    return std::make_unique<PosixFile>(reopen(fd, path, write ? O_RDWR : O_RDONLY), show(path));
  }

  std::unique_ptr<client::Target> target(const std::string &path) override {
    const Fd fd = at(path);
    const Attr a = attr_of(fd, path, false);
    if (!a.is_file() && !a.is_dir()) throw client::Error(EINVAL, show(path) + ": is no file or directory");
    return std::make_unique<FdTarget>(reopen(fd, path, O_RDONLY), show(path), a);
  }

  void make(const std::string &path, uint32_t type, uint32_t major, uint32_t minor, const std::string &link) override {
    const auto [dir, name] = parent(path);
    int rc;
    if (type == S_IFDIR)
      rc = ::mkdirat(dir, name.c_str(), 0700);
    else if (type == S_IFLNK)
      rc = ::symlinkat(link.c_str(), dir, name.c_str());
    else
      rc = ::mknodat(dir, name.c_str(), type | 0600, makedev(major, minor));
    if (rc != 0) fail(show(path), errno);
  }

  void link(const std::string &path, const std::string &to) override {
    const Fd fd = at(path);
    const auto [dir, name] = parent(to);
    if (::linkat(AT_FDCWD, self(fd).c_str(), dir, name.c_str(), AT_SYMLINK_FOLLOW) != 0) fail(show(to), errno);
  }

  void move(const std::string &path, const std::string &to) override {
    const size_t slash = path.rfind('/');
    const Fd from = at(slash == std::string::npos ? "" : path.substr(0, slash));
    const std::string old = slash == std::string::npos ? path : path.substr(slash + 1);
    const auto [dir, name] = parent(to);
    const long rc = ::syscall(SYS_renameat2, from.get(), old.c_str(), dir, name.c_str(), RENAME_NOREPLACE);
    const int err = errno;
    parent_fd_ = Fd();
    if (rc != 0) fail(show(path) + " -> " + printable(to), err);
  }

  void remove(const std::string &path, bool directory) override {
    const auto [dir, name] = parent(path);
    if (::unlinkat(dir, name.c_str(), directory ? AT_REMOVEDIR : 0) != 0) fail(show(path), errno);
  }

  void set_flags(const std::string &path, uint32_t flags) override {
    const Fd fd = at(path);
    const Attr a = attr_of(fd, path);
    if (a.flags == flags) return;
    if (!a.is_file() && !a.is_dir()) throw client::Error(EINVAL, show(path) + ": has no flags");
    const Fd f = reopen(fd, path, O_RDONLY);
    int bits = 0;
    if (::ioctl(f.get(), FS_IOC_GETFLAGS, &bits) != 0) fail(show(path), errno);
    for (auto [ours, theirs] : flag_pairs) {
      bits &= ~static_cast<int>(theirs);
      if (flags & ours) bits |= static_cast<int>(theirs);
    }
    if (::ioctl(f.get(), FS_IOC_SETFLAGS, &bits) != 0) fail(show(path) + ": flags", errno);
  }

  void set_owner(const std::string &path, uint32_t uid, uint32_t gid, uint32_t mode) override {
    const Fd fd = at(path);
    const Attr a = attr_of(fd, path, false);
    if ((a.uid != uid || a.gid != gid) && ::fchownat(fd.get(), "", uid, gid, AT_EMPTY_PATH) != 0)
      fail(show(path) + ": owner", errno);
    if (a.type() != S_IFLNK && ::chmod(self(fd).c_str(), mode & 07777) != 0) fail(show(path) + ": mode", errno);
  }

  void set_xattr(const std::string &path, const std::string &name, const std::string &value) override {
    const Fd fd = at(path);
    if (::setxattr(self(fd).c_str(), name.c_str(), value.data(), value.size(), 0) != 0)
      fail(show(path) + ": " + printable(name), errno);
  }

  void remove_xattr(const std::string &path, const std::string &name) override {
    const Fd fd = at(path);
    if (::removexattr(self(fd).c_str(), name.c_str()) != 0 && errno != ENODATA)
      fail(show(path) + ": " + printable(name), errno);
  }

  void set_times(const std::string &path, const Record &r) override {
    const Fd fd = at(path);
    const struct timespec t[2] = {{r.atime.sec, static_cast<long>(r.atime.nsec)},
                                  {r.mtime.sec, static_cast<long>(r.mtime.nsec)}};
    if (::utimensat(fd.get(), "", t, AT_EMPTY_PATH) != 0) fail(show(path) + ": times", errno);
  }

  void sync() override {
    if (::syncfs(root_.get()) != 0) fail(name_, errno);
  }
  std::string name() const override { return name_; }

 private:
  std::string show(const std::string &path) const { return printable(path.empty() ? name_ : join(name_, path)); }

  // An O_PATH descriptor, not ok() with *err where it cannot be had.
  Fd locate(const std::string &path, int *err) const {
    Fd at;
    constexpr size_t step = 3000;  // the system takes less than 4096 bytes at once
    for (size_t i = 0; i <= path.size();) {
      size_t end = path.size();
      if (end - i > step) {
        end = path.rfind('/', i + step);
        if (end == std::string::npos || end <= i) {
          *err = ENAMETOOLONG;
          return Fd();
        }
      }
      const std::string part = path.substr(i, end - i);
      struct open_how how {};
      how.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
      how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
      const int from = at.ok() ? at.get() : root_.get();
      Fd next(static_cast<int>(::syscall(SYS_openat2, from, part.empty() ? "." : part.c_str(), &how, sizeof how)));
      if (!next.ok()) {
        *err = errno;
        return Fd();
      }
      at = std::move(next);
      i = end + 1;
    }
    return at;
  }
  Fd at(const std::string &path) const {
    int err = 0;
    Fd fd = locate(path, &err);
    if (!fd.ok()) fail(show(path), err);
    return fd;
  }
  // The directory that a name is to be in, kept for the next one.
  std::pair<int, std::string> parent(const std::string &path) {
    const size_t slash = path.rfind('/');
    const std::string dir = slash == std::string::npos ? "" : path.substr(0, slash);
    if (!parent_fd_.ok() || dir != parent_) {
      parent_fd_ = at(dir);
      parent_ = dir;
    }
    return {parent_fd_.get(), slash == std::string::npos ? path : path.substr(slash + 1)};
  }
  Fd reopen(const Fd &fd, const std::string &path, int flags) const {
    // What an earlier open has left in the cache of pages is nobody's reading.
    Fd f(::open(self(fd).c_str(), flags | O_CLOEXEC | O_NONBLOCK | O_NOATIME));
    if (!f.ok() && errno == EPERM) f = Fd(::open(self(fd).c_str(), flags | O_CLOEXEC | O_NONBLOCK));
    if (!f.ok()) fail(show(path), errno);
    return f;
  }
  Attr attr_of(const Fd &fd, const std::string &path, bool with_flags = true) const {
    struct statx s {};
    if (::statx(fd.get(), "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &s) != 0) fail(show(path), errno);
    Attr a;
    a.ino = s.stx_ino;
    a.size = s.stx_size;
    a.mode = s.stx_mode;
    a.uid = s.stx_uid;
    a.gid = s.stx_gid;
    a.nlink = s.stx_nlink;
    if (S_ISCHR(a.mode) || S_ISBLK(a.mode)) {
      a.major = s.stx_rdev_major;
      a.minor = s.stx_rdev_minor;
    }
    a.atime = time_of(s.stx_atime);
    a.mtime = time_of(s.stx_mtime);
    a.ctime = time_of(s.stx_ctime);
    a.btime = time_of(s.stx_btime);
    if (with_flags && (a.is_file() || a.is_dir())) {
      const Fd f = reopen(fd, path, O_RDONLY);
      int bits = 0;
      if (::ioctl(f.get(), FS_IOC_GETFLAGS, &bits) != 0) fail(show(path) + ": flags", errno);
      for (auto [ours, theirs] : flag_pairs)
        if (bits & static_cast<int>(theirs)) a.flags |= ours;
    }
    return a;
  }

  Fd root_;
  Fd parent_fd_;
  std::string parent_, name_;
};

}  // namespace

Attr Tree::need(const std::string &path) {
  Attr a;
  if (!stat(path, &a)) throw client::Error(ENOENT, printable(join(name(), path)) + ": " + strerror(ENOENT));
  return a;
}

std::string join(const std::string &dir, const std::string &name) {
  return dir.empty() ? name : name.empty() ? dir : dir + "/" + name;
}

std::unique_ptr<Tree> posix_tree(const std::string &directory) { return std::make_unique<PosixTree>(directory); }

}  // namespace vexfs::stream
