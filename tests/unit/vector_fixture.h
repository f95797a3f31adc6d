// SPDX-License-Identifier: MIT
// A mounted filesystem on a memory device, with the vector commands as short calls, for tests of the vector room.
#pragma once
#include <gtest/gtest.h>
#include <linux/ioctl.h>
#include <linux/types.h>
#include <atomic>

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "../../kernel/core/api.h"
#include "../../kernel/core/fs/check.h"
#include "../../kernel/core/store/format.h"
#include "../../kernel/core/uapi.h"
#include "../../kernel/core/vector/check.h"
#include "../../lib/device.h"
#include "../../lib/host.h"

namespace vexfs::vector::test {

// A caller whose addresses are this process's own; every right unless a test says otherwise.
struct Caller : vx_caller {
  std::set<std::pair<vx_u64, unsigned>> denied;  // (inode, mask bit)
  std::vector<vx_u64> fds;                       // inode numbers by "fd"
  int fault_after = -1;                          // this many copies succeed
  bool killed = false;
  uint64_t may_calls = 0;
  Caller() {
    copy_in = [](vx_caller *c, void *dst, vx_u64 uaddr, size_t n) {
      return static_cast<Caller *>(c)->copy(dst, reinterpret_cast<const void *>(uaddr), n);
    };
    copy_out = [](vx_caller *c, vx_u64 uaddr, const void *src, size_t n) {
      return static_cast<Caller *>(c)->copy(reinterpret_cast<void *>(uaddr), src, n);
    };
    may = [](vx_caller *c, vx_u64 ino, unsigned mask) {
      auto *self = static_cast<Caller *>(c);
      std::atomic_ref<uint64_t>(self->may_calls).fetch_add(1, std::memory_order_relaxed);  // threads may share it
      return self->denied.count({ino, mask}) ? -EACCES : 0;
    };
    fd_to_ino = [](vx_caller *c, vx_s32 fd, vx_u64 *ino) {
      auto *self = static_cast<Caller *>(c);
      if (fd < 0 || static_cast<size_t>(fd) >= self->fds.size()) return -EBADF;
      *ino = self->fds[static_cast<size_t>(fd)];
      return 0;
    };
    interrupted = [](vx_caller *c) -> vx_bool { return static_cast<Caller *>(c)->killed; };
    trusted = false;
  }
  int copy(void *dst, const void *src, size_t n) {
    if (!dst || !src) return -EFAULT;
    if (fault_after >= 0 && fault_after-- == 0) {
      fault_after = 0;
      return -EFAULT;
    }
    memcpy(dst, src, n);
    return 0;
  }
};

struct Options {
  uint64_t size = 256 << 20;
  uint32_t block_size = 4096;
  uint32_t node_size = 0;
  uint64_t cache_bytes = 0, node_cache_bytes = 0;
  uint32_t threads = 0;
  uint32_t commit_interval_ms = 0;
};

using Row = std::vector<float>;

class Mount {
 public:
  explicit Mount(Options o = {}) : o_(o), device_(std::make_unique<host::MemDevice>(o.size)) {
    vx_core_init();
    store::FormatOptions f;
    f.block_size = o.block_size;
    f.node_size = o.node_size;
    store::Layout layout;
    Status st = store::format(device_.get(), f, &layout);
    EXPECT_TRUE(st.ok()) << static_cast<int>(st.code());
    EXPECT_EQ(mount(), 0);
  }
  // Of a device that carries a filesystem already, and outlives this.
  Mount(Options o, vx_bdev *device) : o_(o), device_(std::make_unique<host::MemDevice>(o.size)), use_(device) {
    vx_core_init();
    EXPECT_EQ(mount(), 0);
  }
  ~Mount() {
    if (fs_) unmount();
  }
  int mount(bool read_only = false) {
    vx_mount_opts m{};
    m.read_only = read_only;
    m.commit_interval_ms = o_.commit_interval_ms;
    m.vector_cache_bytes = o_.cache_bytes;
    m.node_cache_bytes = o_.node_cache_bytes;
    m.nvector_threads = o_.threads;
    int e = vx_fs_mount(use_ ? use_ : device_.get(), &m, &fs_);
    if (e != 0) return e;
    return vx_iget(fs_, fs_info().root_ino, 0, &root_);
  }
  void unmount() {
    close_all();
    vx_fs_unmount(fs_);
    fs_ = nullptr;
  }
  void remount(bool read_only = false) {
    unmount();
    ASSERT_EQ(mount(read_only), 0);
  }
  // What was not committed is lost.
  void crash() {
    vx_fs_abort(fs_, EIO);
    unmount();
    ASSERT_EQ(mount(), 0);
  }
  void close_all() {
    if (root_) vx_iput(root_);
    root_ = nullptr;
    for (vx_inode *ip : held_) vx_iput(ip);
    held_.clear();
  }
  int commit() { return vx_fs_commit(fs_); }
  struct vx_fs_info fs_info() {
    struct vx_fs_info i;
    vx_fs_info(fs_, &i);
    return i;
  }

  // Every finding of a full check of the device, which nobody has open.
  static std::string findings(vx_bdev *dev) {
    std::string text;
    store::CheckSink sink{};
    sink.ctx = &text;
    sink.line = [](void *ctx, store::Severity s, const char *line) {
      // What a write of the root leaves that was interrupted is nothing wrong.
      if (strstr(line, "its two copies are of different ages")) return;
      if (s != store::Severity::note) *static_cast<std::string *>(ctx) += std::string(line) + "\n";
    };
    store::Checker c(dev, sink);
    Status st = c.open();
    if (st.ok()) st = fs::check(c);
    if (st.ok()) st = vector::check(c);
    if (st.ok()) st = c.check_snapshots();
    for (usize i = 0; st.ok() && c.enter_snapshot(i); i++) {
      st = fs::check(c);
      if (st.ok()) st = vector::check(c);
    }
    if (st.ok()) st = c.compare_space();
    if (!st.ok()) text += "check failed: " + std::to_string(static_cast<int>(st.code())) + "\n";
    return text;
  }
  // Unmounts, checks, mounts again.
  ::testing::AssertionResult check() {
    unmount();
    std::string text = findings(device_.get());
    int e = mount();
    if (e != 0) return ::testing::AssertionFailure() << "mount: " << e;
    return text.empty() ? ::testing::AssertionSuccess() : ::testing::AssertionFailure() << text;
  }

  vx_fs *fs() { return fs_; }
  vx_inode *root() { return root_; }
  host::MemDevice &device() { return *device_; }
  void use_device(vx_bdev *d) { use_ = d; }
  Options &options() { return o_; }
  Caller caller;

  // ---- files
  static vx_time now() { return {1700000000, 0, 0}; }
  vx_inode *make(vx_inode *dir, const std::string &name, uint32_t mode = 0100644) {
    vx_attr a{};
    a.mode = mode;
    vx_time t = now();
    vx_inode *ip = nullptr;
    int e = vx_create(dir, name.data(), name.size(), &a, nullptr, 0, &t, &ip);
    EXPECT_EQ(e, 0) << name;
    if (ip) held_.push_back(ip);
    return ip;
  }
  vx_inode *mkdir(vx_inode *dir, const std::string &name) { return make(dir, name, 040755); }
  vx_inode *open(vx_inode *dir, const std::string &name) {
    vx_u64 ino = 0;
    vx_inode *ip = nullptr;
    if (vx_lookup(dir, name.data(), name.size(), &ino) != 0 || vx_iget(fs_, ino, 0, &ip) != 0) return nullptr;
    held_.push_back(ip);
    return ip;
  }
  void close(vx_inode *ip) {
    for (auto &h : held_)
      if (h == ip) {
        std::swap(h, held_.back());
        held_.pop_back();
        vx_iput(ip);
        return;
      }
  }
  int unlink(vx_inode *dir, const std::string &name, bool rmdir = false) {
    vx_time t = now();
    return vx_unlink(dir, name.data(), name.size(), rmdir, &t);
  }
  int rename(vx_inode *od, const std::string &a, vx_inode *nd, const std::string &b) {
    vx_time t = now();
    return vx_rename(od, a.data(), a.size(), nd, b.data(), b.size(), 0, nullptr, &t);
  }
  int write(vx_inode *ip, const std::string &s, uint64_t off = 0) {
    vx_time t = now();
    size_t done = 0;
    return vx_pwrite(ip, s.data(), s.size(), off, &t, &done);
  }

  // ---- vectors
  template <class T>
  int ioctl(vx_inode *ip, unsigned cmd, T *arg) {
    return vx_ioctl(fs_, ip, cmd, reinterpret_cast<vx_u64>(arg), &caller);
  }
  int create(vx_inode *dir, uint32_t dim, uint16_t element = VEXFS_F32, uint16_t metric = VEXFS_L2,
             uint16_t index = VEXFS_INDEX_FLAT, uint64_t *id = nullptr, uint16_t m = 0, uint32_t efc = 0) {
    vexfs_collection c{};
    c.size = sizeof c;
    c.dim = dim;
    c.element = element;
    c.metric = metric;
    c.index = index;
    c.m = m;
    c.ef_construction = efc;
    int e = ioctl(dir, VEXFS_IOCTL_COLLECTION_CREATE, &c);
    if (id) *id = c.id;
    return e;
  }
  vexfs_collection info(vx_inode *ip, int *err = nullptr, uint64_t id = 0) {
    vexfs_collection c{};
    c.size = sizeof c;
    c.id = id;
    int e = ioctl(ip, VEXFS_IOCTL_COLLECTION_INFO, &c);
    if (err)
      *err = e;
    else
      EXPECT_EQ(e, 0);
    return c;
  }
  int add(vx_inode *ip, const Row &v, uint64_t *id, uint32_t flags = 0, uint64_t owner = 0, uint64_t tag = 0) {
    vexfs_embedding e{};
    e.size = sizeof e;
    e.flags = flags;
    e.row.id = *id;
    e.row.owner = owner;
    e.row.tag = tag;
    e.data = reinterpret_cast<__u64>(v.data());
    e.dim = static_cast<__u32>(v.size());
    e.element = VEXFS_F32;
    int r = ioctl(ip, VEXFS_IOCTL_ADD_EMBEDDING, &e);
    if (r == 0) *id = e.row.id;
    return r;
  }
  int update(vx_inode *ip, uint64_t id, const Row &v, uint32_t flags = 0) {
    vexfs_embedding e{};
    e.size = sizeof e;
    e.flags = flags;
    e.row.id = id;
    e.data = reinterpret_cast<__u64>(v.data());
    e.dim = static_cast<__u32>(v.size());
    e.element = VEXFS_F32;
    return ioctl(ip, VEXFS_IOCTL_UPDATE_EMBEDDING, &e);
  }
  int del(vx_inode *ip, uint64_t id) {
    vexfs_embedding e{};
    e.size = sizeof e;
    e.row.id = id;
    return ioctl(ip, VEXFS_IOCTL_DELETE_EMBEDDING, &e);
  }
  int get(vx_inode *ip, uint64_t id, Row *v, vexfs_row *row = nullptr) {
    vexfs_embedding e{};
    e.size = sizeof e;
    e.row.id = id;
    v->assign(8192, 0);
    e.data = reinterpret_cast<__u64>(v->data());
    e.dim = 8192;
    e.element = VEXFS_F32;
    int r = ioctl(ip, VEXFS_IOCTL_GET_EMBEDDING, &e);
    v->resize(r == 0 ? e.dim : 0);
    if (row) *row = e.row;
    return r;
  }
  // Rows back to back; ids null: assigned.
  int batch(vx_inode *ip, uint16_t op, const std::vector<float> &data, uint32_t dim, std::vector<vexfs_row> *rows,
            uint32_t *done = nullptr, uint64_t *first = nullptr, uint32_t flags = 0) {
    vexfs_batch b{};
    b.size = sizeof b;
    b.flags = flags;
    b.op = op;
    b.rows = rows ? reinterpret_cast<__u64>(rows->data()) : 0;
    b.data = reinterpret_cast<__u64>(data.data());
    b.count = rows ? static_cast<__u32>(rows->size()) : static_cast<__u32>(data.size() / dim);
    b.dim = dim;
    b.element = VEXFS_F32;
    int r = ioctl(ip, VEXFS_IOCTL_BATCH_OPERATIONS, &b);
    if (done) *done = b.done;
    if (first) *first = b.first_id;
    return r;
  }
  int search(vx_inode *ip, const Row &q, uint32_t k, std::vector<vexfs_hit> *hits, uint32_t flags = 0, uint32_t ef = 0,
             vexfs_search *out = nullptr, const std::vector<vexfs_filter> *filters = nullptr,
             uint32_t *plan = nullptr) {
    hits->assign(k, {});
    vexfs_hybrid_search h{};
    vexfs_search &s = h.search;
    s.size = sizeof s;
    s.flags = flags;
    s.queries = flags & VEXFS_SEARCH_LIKE ? 0 : reinterpret_cast<__u64>(q.data());
    s.hits = reinterpret_cast<__u64>(hits->data());
    s.nq = 1;
    s.dim = static_cast<__u32>(q.size());
    s.element = VEXFS_F32;
    s.k = k;
    s.ef = ef;
    if (out && flags & VEXFS_SEARCH_LIKE) s.like_owner = out->like_owner;
    if (out && flags & VEXFS_SEARCH_RADIUS) s.radius = out->radius;
    if (out && flags & VEXFS_SEARCH_AFTER) {
      s.after_distance = out->after_distance;
      s.after_slot = out->after_slot;
    }
    int r;
    if (filters) {
      h.size = sizeof h;
      h.filters = reinterpret_cast<__u64>(filters->data());
      h.nfilters = static_cast<__u32>(filters->size());
      r = ioctl(ip, VEXFS_IOCTL_HYBRID_SEARCH, &h);
      if (plan) *plan = h.plan;
    } else {
      r = ioctl(ip, VEXFS_IOCTL_VECTOR_SEARCH, &s);
    }
    hits->resize(r == 0 ? s.found : 0);
    if (out) *out = s;
    return r;
  }
  int index(vx_inode *ip, uint16_t op, vexfs_index *out = nullptr, uint16_t kind = 0, uint16_t threads = 0,
            uint16_t m = 0) {
    vexfs_index x{};
    x.size = sizeof x;
    x.op = op;
    x.kind = kind;
    x.threads = threads;
    x.m = m;
    int r = ioctl(ip, VEXFS_IOCTL_MANAGE_INDEX, &x);
    if (out) *out = x;
    return r;
  }
  vexfs_stats stats(vx_inode *ip, uint64_t id = 0) {
    vexfs_stats s{};
    s.size = sizeof s;
    s.collection = id;
    EXPECT_EQ(ioctl(ip, VEXFS_IOCTL_GET_VECTOR_STATS, &s), 0);
    return s;
  }

 private:
  Options o_;
  std::unique_ptr<host::MemDevice> device_;
  vx_bdev *use_ = nullptr;
  vx_fs *fs_ = nullptr;
  vx_inode *root_ = nullptr;
  std::vector<vx_inode *> held_;
};

inline Row random_row(std::mt19937_64 &rng, uint32_t dim) {
  std::normal_distribution<float> d;
  Row r(dim);
  for (float &x : r) x = d(rng);
  return r;
}
inline std::vector<float> random_rows(std::mt19937_64 &rng, uint32_t n, uint32_t dim) {
  std::normal_distribution<float> d;
  std::vector<float> r(size_t{n} * dim);
  for (float &x : r) x = d(rng);
  return r;
}
inline float distance_of(const vexfs_hit &h) {
  float f;
  uint32_t bits = h.distance;
  memcpy(&f, &bits, 4);
  return f;
}
inline float l2(const float *a, const float *b, size_t n) {
  double s = 0;
  for (size_t i = 0; i < n; i++) s += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
  return static_cast<float>(s);
}

}  // namespace vexfs::vector::test
