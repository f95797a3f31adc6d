// SPDX-License-Identifier: MIT
// A VexFS in an image file, opened by the core in this process, with everything counted that goes to the device; and files
// of the host beside it, for comparison.
#pragma once
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../../kernel/core/api.h"
#include "../../kernel/core/store/format.h"
#include "../../lib/device.h"
#include "../../lib/image/caller.h"
#include "scratch_file.h"
#include "vexfs.h"

namespace vexfs::bench {

// Throw std::runtime_error with the reason: errno, or the negative one given.
inline void must(bool ok, const char *what) {
  if (!ok) throw std::runtime_error(std::string(what) + " failed: " + strerror(errno));
}
inline void must(int err, const char *what) {
  errno = -err;
  must(err == 0, what);
}

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

inline uint64_t random_u64(uint64_t *state) {  // SplitMix64
  uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

// A file of that size. `filled`: all of its blocks have been written, so that the host's filesystem has nothing left to
// allocate; else it is sparse.
inline void make_file(const std::string &path, uint64_t size, bool filled) {
  int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0644);
  must(fd >= 0, path.c_str());
  bool ok = ftruncate(fd, static_cast<off_t>(size)) == 0;
  const std::vector<char> zeros(4 << 20);
  for (uint64_t at = 0; ok && filled && at < size; at += zeros.size())
    ok = pwrite(fd, zeros.data(), std::min<uint64_t>(zeros.size(), size - at), static_cast<off_t>(at)) > 0;
  ok = ok && fsync(fd) == 0;
  const int err = errno;
  close(fd);
  errno = err;
  must(ok, "writing the image");
}
// What the host's page cache has of a file goes, so that the next read is one of the device.
inline void drop_page_cache(const std::string &path) {
  int fd = open(path.c_str(), O_RDONLY);
  must(fd >= 0, path.c_str());
  const bool ok = fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0;
  close(fd);
  must(ok, "dropping the page cache");
}

class Volume {
 public:
  Volume(const std::string &image, uint64_t size, bool direct, bool filled = true) : scratch_(image), direct_(direct) {
    make_file(path(), size, filled);
    open_device();
    store::Layout layout;
    must(store::format(file_.get(), {}, &layout).ok(), "mkfs");
  }
  Volume(const Volume &) = delete;
  Volume &operator=(const Volume &) = delete;
  ~Volume() {
    if (fs_) unmount();
  }
  // nodes, vectors: bytes of the caches of nodes and of vectors with their indexes, 0 = default. Returns seconds.
  double mount(uint32_t threads, uint32_t commit_ms, uint64_t nodes = 0, uint64_t vectors = 0) {
    vx_mount_opts o{};
    o.nvector_threads = threads;
    o.commit_interval_ms = commit_ms;
    o.node_cache_bytes = nodes;
    o.vector_cache_bytes = vectors;
    const Stopwatch watch;
    must(vx_fs_mount(counted_.get(), &o, &fs_), "mount");
    const double seconds = watch.seconds();
    struct vx_fs_info info;
    vx_fs_info(fs_, &info);
    must(vx_iget(fs_, info.root_ino, 0, &root_), "the root directory");
    return seconds;
  }
  void unmount() {
    vx_iput(root_);
    vx_fs_unmount(fs_);
    fs_ = nullptr;
  }
  // As if the power failed: nothing more is written. The log is all that there is.
  void cut() {
    vx_fs_abort(fs_, EIO);
    unmount();
  }
  uint64_t used_bytes() const {
    struct vx_fs_info i;
    vx_fs_info(fs_, &i);
    return (i.blocks - i.blocks_free) * i.block_size;
  }
  const std::string &path() const { return scratch_.path(); }
  vx_fs *fs() { return fs_; }
  vx_inode *root() { return root_; }
  host::FaultDevice::Counters counters() const { return counted_->counters(); }

  vx_inode *make(vx_inode *dir, const std::string &name, uint32_t mode) {
    vx_attr a{};
    a.mode = mode;
    const vx_time now{1700000000, 0, 0};
    vx_inode *ip = nullptr;
    must(vx_create(dir, name.data(), name.size(), &a, nullptr, 0, &now, &ip), name.c_str());
    return ip;
  }
  void write(vx_inode *ip, const void *bytes, size_t n, uint64_t off) {
    const vx_time now{1700000000, 0, 0};
    size_t done = 0;
    must(vx_pwrite(ip, bytes, n, off, &now, &done), "write");
    must(done == n, "write");
  }
  template <class T>
  int command(vx_inode *ip, unsigned cmd, T *arg) {
    arg->size = sizeof *arg;
    vx_caller caller = client::trusted_caller();
    return vx_ioctl(fs_, ip, cmd, reinterpret_cast<vx_u64>(arg), &caller);
  }
  uint64_t stat(const std::string &name) {
    std::string text;
    must(vx_fs_print(
             fs_, "stats", [](void *ctx, const char *s, size_t n) { static_cast<std::string *>(ctx)->append(s, n); },
             &text),
         "stats");
    const size_t at = ("\n" + text).find("\n" + name + " ");
    must(at != std::string::npos, name.c_str());
    return strtoull(text.c_str() + at + name.size() + 1, nullptr, 10);
  }

 private:
  void open_device() {
    host::FileDevice::Options o;
    o.direct = direct_;
    must(host::FileDevice::open(path(), o, &file_), path().c_str());
    counted_ = std::make_unique<host::FaultDevice>(file_.get());
  }

  ScratchFile scratch_;  // goes after what has it open
  bool direct_;
  std::unique_ptr<host::FileDevice> file_;
  std::unique_ptr<host::FaultDevice> counted_;
  vx_fs *fs_ = nullptr;
  vx_inode *root_ = nullptr;
};

}  // namespace vexfs::bench
