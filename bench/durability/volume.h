// SPDX-License-Identifier: MIT
// A VexFS in an image file, opened by the core in this process, with everything counted that goes to the device; and files
// of the host beside it, for comparison.
#pragma once
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../../kernel/core/api.h"
#include "../../kernel/core/store/format.h"
#include "../../lib/device.h"
#include "../../lib/image/caller.h"
#include "vexfs.h"

namespace vexfs::bench {

inline void must(bool ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "durability: %s failed: %s\n", what, strerror(errno));
  exit(1);
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

// A file of that size all of whose blocks have been written, so that the host's filesystem has nothing left to allocate.
inline void make_file(const std::string &path, uint64_t size) {
  int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0644);
  must(fd >= 0, path.c_str());
  const std::vector<char> zeros(4 << 20);
  for (uint64_t at = 0; at < size; at += zeros.size())
    must(write(fd, zeros.data(), zeros.size()) == static_cast<ssize_t>(zeros.size()), "writing the image");
  must(fsync(fd) == 0, "fsync");
  close(fd);
}

class Volume {
 public:
  Volume(const std::string &image, uint64_t size, bool direct) : path_(image), direct_(direct) {
    make_file(path_, size);
    open_device();
    store::Layout layout;
    must(store::format(file_.get(), {}, &layout).ok(), "mkfs");
  }
  ~Volume() {
    if (fs_) unmount();
    file_.reset();
    ::unlink(path_.c_str());
  }
  // nodes: bytes of the node cache, 0 = default.
  double mount(uint32_t threads, uint32_t commit_ms, uint64_t nodes = 0) {
    vx_mount_opts o{};
    o.nvector_threads = threads;
    o.commit_interval_ms = commit_ms;
    o.node_cache_bytes = nodes;
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
    must(host::FileDevice::open(path_, o, &file_), path_.c_str());
    counted_ = std::make_unique<host::FaultDevice>(file_.get());
  }

  std::string path_;
  bool direct_;
  std::unique_ptr<host::FileDevice> file_;
  std::unique_ptr<host::FaultDevice> counted_;
  vx_fs *fs_ = nullptr;
  vx_inode *root_ = nullptr;
};

// Rows of 128 floats, in batches of 1,000 that each are durable when the call returns.
class Ingest {
 public:
  static constexpr uint32_t dim = 128, batch = 1000;
  static constexpr size_t batch_bytes = size_t{dim} * sizeof(float) * batch;

  Ingest(Volume &v, const std::string &name, uint16_t index)
      : v_(v), dir_(v.make(v.root(), name, 040755)), rows_(dim * batch) {
    vexfs_collection c{};
    c.dim = dim;
    c.element = VEXFS_F32;
    c.metric = VEXFS_L2;
    c.index = index;
    must(v.command(dir_, VEXFS_IOCTL_COLLECTION_CREATE, &c), "creating the collection");
  }
  ~Ingest() { vx_iput(dir_); }
  void prepare(uint64_t n) {
    uint64_t state = n + 1;
    for (float &x : rows_) x = static_cast<float>(random_u64(&state) >> 40) / (1 << 24);
  }
  const std::vector<float> &rows() const { return rows_; }
  void add() {
    vexfs_batch b{};
    b.op = VEXFS_BATCH_ADD;
    b.flags = VEXFS_BATCH_F_DURABLE;
    b.data = reinterpret_cast<__u64>(rows_.data());
    b.count = batch;
    b.dim = dim;
    b.element = VEXFS_F32;
    must(v_.command(dir_, VEXFS_IOCTL_BATCH_OPERATIONS, &b), "inserting");
    first_ = b.first_id;
  }
  // Is the last row that was added its own nearest neighbour?
  bool finds_last() {
    vexfs_search s{};
    vexfs_hit hit{};
    uint32_t count = 0;
    s.queries = reinterpret_cast<__u64>(rows_.data() + size_t{dim} * (batch - 1));
    s.hits = reinterpret_cast<__u64>(&hit);
    s.counts = reinterpret_cast<__u64>(&count);
    s.nq = 1;
    s.dim = dim;
    s.element = VEXFS_F32;
    s.k = 1;
    must(v_.command(dir_, VEXFS_IOCTL_VECTOR_SEARCH, &s), "searching");
    return count == 1 && hit.id == first_ + batch - 1 && hit.distance == 0;
  }
  vexfs_index index(uint16_t op = VEXFS_INDEX_STATUS) {
    vexfs_index i{};
    i.op = op;
    must(v_.command(dir_, VEXFS_IOCTL_MANAGE_INDEX, &i), "asking for the index");
    return i;
  }

 private:
  Volume &v_;
  vx_inode *dir_;
  std::vector<float> rows_;
  uint64_t first_ = 0;
};

}  // namespace vexfs::bench
