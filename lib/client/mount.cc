// SPDX-License-Identifier: MIT
// Commands to a mounted VexFS, by ioctl.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <unordered_map>
#include <vector>

#include "../../include/uapi/vexfs.h"
#include "error.h"
#include "place.h"

namespace vexfs::client {
namespace {

constexpr uint64_t walk_limit = 2'000'000;  // directory entries looked at before a hit is shown by its inode number

class MountTarget : public Target {
 public:
  explicit MountTarget(const std::string &path) {
    path_ = path;
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd_ < 0) throw Error(errno, path + ": " + strerror(errno));
    struct stat st;
    struct statfs fs;
    if (::fstat(fd_, &st) != 0 || ::fstatfs(fd_, &fs) != 0) {
      const int err = errno;
      ::close(fd_);
      throw Error(err, path + ": " + strerror(err));
    }
    if (static_cast<uint32_t>(fs.f_type) != VEXFS_SUPER_MAGIC) {
      ::close(fd_);
      throw Error(ENOTTY, path + ": not on a VexFS filesystem");
    }
    ino_ = st.st_ino;
    is_directory_ = S_ISDIR(st.st_mode);
  }
  ~MountTarget() override { ::close(fd_); }

  int command(uint32_t cmd, void *arg) override {
    return ::ioctl(fd_, static_cast<unsigned long>(cmd), arg) >= 0 ? 0 : -errno;
  }
  int fd() const override { return fd_; }

 private:
  int fd_;
};

// A file handle as the kernel encodes it for this filesystem: that of a known inode, with another inode number and
// generation put in the places where the known ones are found.
class HandleOpener {
 public:
  explicit HandleOpener(const Target &sample) : mount_fd_(::fcntl(sample.fd(), F_DUPFD_CLOEXEC, 0)) {
    auto *h = handle();
    h->handle_bytes = MAX_HANDLE_SZ;
    int mount_id;
    if (::name_to_handle_at(sample.fd(), "", h, &mount_id, AT_EMPTY_PATH) != 0) return;
    const uint64_t ino = sample.ino();
    for (size_t at = 0; at + 12 <= h->handle_bytes; at += 4)
      if (memcmp(h->f_handle + at, &ino, 8) == 0) {
        ino_at_ = static_cast<int>(at);
        return;
      }
  }

  ~HandleOpener() {
    if (mount_fd_ >= 0) ::close(mount_fd_);
  }
  HandleOpener(const HandleOpener &) = delete;
  HandleOpener &operator=(const HandleOpener &) = delete;

  std::string path_of(uint64_t ino, uint32_t generation) {
    if (ino_at_ < 0) return "";
    auto *h = handle();
    memcpy(h->f_handle + ino_at_, &ino, 8);
    memcpy(h->f_handle + ino_at_ + 8, &generation, 4);
    const int fd = ::open_by_handle_at(mount_fd_, h, O_PATH | O_CLOEXEC);
    if (fd < 0) {
      if (errno == EPERM) ino_at_ = -1;  // needs CAP_DAC_READ_SEARCH
      return "";
    }
    char link[64];
    char target[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = ::readlink(link, target, sizeof target);
    struct stat st;
    const bool linked = ::fstat(fd, &st) == 0 && st.st_nlink > 0;
    ::close(fd);
    // A file whose directory the kernel does not have at hand is shown as "/": a path has to be found by walking.
    if (n <= 1 || n == static_cast<ssize_t>(sizeof target) || !linked) return "";
    std::string path(target, static_cast<size_t>(n));
    struct stat found;
    if (::lstat(path.c_str(), &found) != 0 || found.st_ino != ino) return "";
    return path;
  }

 private:
  struct file_handle *handle() {
    return reinterpret_cast<struct file_handle *>(buf_);
  }
  int mount_fd_;
  int ino_at_ = -1;
  alignas(struct file_handle) unsigned char buf_[sizeof(struct file_handle) + MAX_HANDLE_SZ] = {};
};

class MountPlace : public Place {
 public:
  std::unique_ptr<Target> open(const std::string &path) override { return std::make_unique<MountTarget>(path); }

  std::string path_of(uint64_t ino, uint32_t generation, const Target &near) override {
    if (ino == 0) return "";
    if (!opener_) opener_ = std::make_unique<HandleOpener>(near);
    std::string path = opener_->path_of(ino, generation);
    if (!path.empty()) return path;
    if (!walked_near_) {
      walked_near_ = true;
      const std::filesystem::path here(near.path());
      walk(near.is_directory() ? here : here.parent_path());
    }
    auto it = found_.find(ino);
    if (it == found_.end() && !walked_all_) {
      walked_all_ = true;
      walk(find_mount(near.path()).point);
      it = found_.find(ino);
    }
    return it == found_.end() ? "" : it->second;
  }

  Space space(const Target &at) override {
    struct statfs fs;
    if (::fstatfs(at.fd(), &fs) != 0) throw Error(errno, at.path() + ": " + strerror(errno));
    Space s;
    s.block_size = static_cast<uint32_t>(fs.f_frsize ? fs.f_frsize : fs.f_bsize);
    s.blocks = fs.f_blocks;
    s.blocks_free = fs.f_bfree;
    s.blocks_available = fs.f_bavail;
    s.inodes_used = fs.f_files - fs.f_ffree;
    return s;
  }

  void sync(const Target &at) override {
    if (::syncfs(at.fd()) != 0) throw Error(errno, at.path() + ": sync: " + strerror(errno));
  }
  std::string default_path() const override { return "."; }
  bool is_image() const override { return false; }

 private:
  // Without privileges: the names below a directory, by their inode numbers.
  void walk(std::filesystem::path root) {
    namespace fs = std::filesystem;
    std::error_code ec;
    if (root.empty()) root = ".";
    struct stat top;
    if (::lstat(root.c_str(), &top) == 0) found_.emplace(top.st_ino, root.string());
    auto it = fs::recursive_directory_iterator(root, fs::directory_options::skip_permission_denied, ec);
    uint64_t seen = 0;
    for (; !ec && it != fs::recursive_directory_iterator() && seen < walk_limit; it.increment(ec), seen++) {
      struct stat st;
      if (::lstat(it->path().c_str(), &st) == 0) found_.emplace(st.st_ino, it->path().string());
    }
  }

  std::unique_ptr<HandleOpener> opener_;
  std::unordered_map<uint64_t, std::string> found_;
  bool walked_near_ = false;
  bool walked_all_ = false;
};

// Mount table entries write blanks and the like as \ooo.
std::string unescape(const std::string &s) {
  std::string out;
  for (size_t i = 0; i < s.size(); i++) {
    if (s[i] == '\\' && i + 3 < s.size()) {
      out += static_cast<char>((s[i + 1] - '0') * 64 + (s[i + 2] - '0') * 8 + (s[i + 3] - '0'));
      i += 3;
    } else {
      out += s[i];
    }
  }
  return out;
}

}  // namespace

std::unique_ptr<Place> mounted() { return std::make_unique<MountPlace>(); }

MountInfo find_mount(const std::string &path) {
  MountTarget t(path);
  struct stat st;
  if (::fstat(t.fd(), &st) != 0) throw Error(errno, path + ": " + strerror(errno));
  std::error_code ec;
  const std::string real = std::filesystem::canonical(path, ec).string();
  std::ifstream table("/proc/self/mountinfo");
  MountInfo best;
  for (std::string line; std::getline(table, line);) {
    std::istringstream in(line);
    std::vector<std::string> f;
    for (std::string w; in >> w;) f.push_back(w);
    size_t dash = 6;
    while (dash < f.size() && f[dash] != "-") dash++;
    if (dash + 3 >= f.size() || f[dash + 1] != "vexfs") continue;
    const std::string point = unescape(f[4]);
    const bool inside =
        real == point || point == "/" || (real.compare(0, point.size(), point) == 0 && real[point.size()] == '/');
    if (inside && point.size() >= best.point.size())
      best = MountInfo{point, unescape(f[dash + 2]), f[5] + "," + f[dash + 3]};
  }
  if (best.point.empty()) throw Error(ENOENT, path + ": its mount is not in /proc/self/mountinfo");
  return best;
}

std::string path_in_snapshot(const std::string &path, const std::string &name) {
  namespace fs = std::filesystem;
  if (name.empty() || name.find('/') != std::string::npos || name == "." || name == "..")
    throw Error(EINVAL, "'" + name + "' is no name of a snapshot");
  const fs::path point = find_mount(path).point;
  const fs::path then = point / ".vexfs/snapshots" / name;
  std::error_code ec;
  if (!fs::is_directory(then, ec)) {
    if (!fs::is_directory(point / ".vexfs/snapshots", ec))
      throw Error(ENOENT, point.string() + " is no whole filesystem: no snapshots are to be seen there");
    throw Error(ENOENT, "no snapshot '" + name + "'");
  }
  const fs::path rest = fs::canonical(path).lexically_relative(point);
  return rest == "." ? then.string() : (then / rest).string();
}

}  // namespace vexfs::client
