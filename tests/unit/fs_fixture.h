// SPDX-License-Identifier: MIT
// A filesystem on a memory device for the tests of the fs room: mount, remount, crash, check, and short calls for what
// tests do all the time.
#pragma once
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../../kernel/core/fs/check.h"
#include "../../kernel/core/fs/file_map.h"
#include "../../kernel/core/fs/filesystem.h"
#include "../../kernel/core/fs/namespace.h"
#include "../../kernel/core/fs/sums.h"
#include "../../kernel/core/fs/xattr.h"
#include "../../kernel/core/store/format.h"
#include "../../lib/device.h"
#include "../../lib/host.h"

namespace vexfs::fs::test {

inline Bytes B(const std::string &s) { return {reinterpret_cast<const u8 *>(s.data()), s.size()}; }
// The checksums that a host gives with what it has written.
inline std::vector<vx_sum> sums_of(Bytes data, usize block = 4096) {
  std::vector<vx_sum> sums;
  for (usize at = 0; at < data.size(); at += block) sums.push_back(vx_sum_of(data.data() + at, block));
  return sums;
}
inline std::string S(Bytes b) { return {reinterpret_cast<const char *>(b.data()), b.size()}; }

struct FixtureOptions {
  u64 size = 64 << 20;
  u32 block_size = 4096;
  u32 hash_bits = 56;
  u32 commit_interval_ms = 0;
  u64 log_blocks = 0;
  bool data_sums = true;
};

class TestFs {
 public:
  explicit TestFs(FixtureOptions o = {}) : o_(o), device_(std::make_unique<host::MemDevice>(o.size)) {
    store::FormatOptions f;
    f.block_size = o.block_size;
    f.log_blocks = o.log_blocks;
    store::Layout layout;
    Status st = store::format(device_.get(), f, &layout);
    EXPECT_TRUE(st.ok()) << "format: " << static_cast<int>(st.code());
    EXPECT_EQ(mount(), Errno::ok);
  }
  ~TestFs() {
    if (fs_) unmount();
  }

  Errno mount(bool read_only = false) {
    store::OpenOptions vo;
    vo.read_only = read_only;
    vo.commit_interval_ms = o_.commit_interval_ms;
    vo.on_error = on_error_;
    auto v = store::Volume::open(use_ ? use_ : device_.get(), vo);
    if (!v.ok()) return v.code();
    volume_ = v.take();
    Options fo;
    fo.name_hash_bits = o_.hash_bits;
    fo.data_sums = o_.data_sums;
    auto f = Filesystem::open(*volume_, fo);
    if (!f.ok()) {
      (void)volume_->close();
      volume_.reset();
      return f.code();
    }
    fs_ = f.take();
    if (hooks_) fs_->set_hooks(hooks_);
    Status st = fs_->recover();
    if (!st.ok()) {
      unmount();
      return st.code();
    }
    return Errno::ok;
  }
  Errno unmount() {
    Errno e = fs_->shutdown().code();
    Errno c = volume_->commit().code();
    fs_.reset();
    Errno d = volume_->close().code();
    volume_.reset();
    return e != Errno::ok ? e : c != Errno::ok ? c : d;
  }
  void remount() {
    EXPECT_EQ(unmount(), Errno::ok);
    EXPECT_EQ(mount(), Errno::ok);
  }
  // What was not committed is lost.
  void crash() {
    volume_->abort(Errno::io);
    fs_.reset();
    (void)volume_->close();
    volume_.reset();
    EXPECT_EQ(mount(), Errno::ok);
  }
  void commit() { EXPECT_TRUE(fs_->commit().ok()); }

  struct Report {
    std::vector<std::string> lines;
    u64 errors = 0;
    Errno failure = Errno::ok;
    std::string text() const {
      std::string t;
      for (auto &l : lines) t += l + "\n";
      return t;
    }
  };
  // Checks the device as it is; nothing is mounted.
  static Report check_device(vx_bdev *dev, u32 hash_bits = 56) {
    Report r;
    store::CheckSink sink{};
    sink.ctx = &r;
    sink.line = [](void *ctx, store::Severity s, const char *text) {
      auto *rep = static_cast<Report *>(ctx);
      rep->lines.push_back(text);
      if (s == store::Severity::error) rep->errors++;
    };
    store::Checker c(dev, sink);
    Result<void> st = c.open();
    if (st.ok()) st = fs::check(c, CheckOptions{hash_bits});
    auto any = [](const store::Key &, Bytes) { return true; };
    for (auto id : {store::TreeId::collections})
      if (st.ok()) st = c.walk(id, any);
    if (st.ok()) st = c.check_snapshots();
    for (usize i = 0; st.ok() && c.enter_snapshot(i); i++) {
      st = fs::check(c, CheckOptions{hash_bits});
      if (st.ok()) st = c.walk(store::TreeId::collections, any);
    }
    if (st.ok()) st = c.compare_space();
    r.failure = st.code();
    return r;
  }
  // Unmounts, checks, mounts again.
  ::testing::AssertionResult check() {
    if (fs_) {
      Errno e = unmount();
      if (e != Errno::ok) return ::testing::AssertionFailure() << "unmount: " << static_cast<int>(e);
    }
    Report r = check_device(device_.get(), o_.hash_bits);
    Errno m = mount();
    if (r.failure != Errno::ok) return ::testing::AssertionFailure() << "check failed: " << static_cast<int>(r.failure);
    if (r.errors) return ::testing::AssertionFailure() << r.text();
    if (m != Errno::ok) return ::testing::AssertionFailure() << "mount: " << static_cast<int>(m);
    return ::testing::AssertionSuccess();
  }

  Filesystem &fs() { return *fs_; }
  store::Volume &volume() { return *volume_; }
  host::MemDevice &device() { return *device_; }
  void use_device(vx_bdev *d) { use_ = d; }  // from the next mount on
  void on_error(store::ErrorPolicy p) { on_error_ = p; }
  void use_data_sums(bool on) { o_.data_sums = on; }  // from the next mount on
  void use_hooks(const Hooks *h) { hooks_ = h; }

  InodeRef root() {
    auto r = fs_->get(fs_->root_ino());
    EXPECT_TRUE(r.ok());
    return r.take();
  }
  static Time now() {
    static std::atomic<s64> t{1700000000};
    return {t++, 5};
  }
  Result<InodeRef> make(Inode &dir, const std::string &name, u32 mode = disk::kModeFile | 0644,
                        const std::string &target = "") {
    NewInode n;
    n.mode = mode;
    n.target = B(target);
    return create(dir, B(name), n, now());
  }
  InodeRef must_make(Inode &dir, const std::string &name, u32 mode = disk::kModeFile | 0644,
                     const std::string &target = "") {
    auto r = make(dir, name, mode, target);
    EXPECT_TRUE(r.ok()) << name << ": " << static_cast<int>(r.code());
    return r.ok() ? r.take() : InodeRef();
  }
  InodeRef mkdir(Inode &dir, const std::string &name) { return must_make(dir, name, disk::kModeDir | 0755); }
  InodeRef open(Inode &dir, const std::string &name) {
    auto ino = lookup(dir, B(name));
    EXPECT_TRUE(ino.ok()) << name << ": " << static_cast<int>(ino.code());
    if (!ino.ok()) return {};
    auto ip = fs_->get(*ino);
    EXPECT_TRUE(ip.ok()) << name << ": " << static_cast<int>(ip.code());
    return ip.ok() ? ip.take() : InodeRef();
  }
  static Errno write(Inode &ip, const std::string &data, u64 off = 0) {
    auto r = write_file(ip, B(data), off, now());
    if (!r.ok()) return r.code();
    return *r == data.size() ? Errno::ok : Errno::nospc;
  }
  static std::string read(Inode &ip, u64 off = 0, usize n = ~usize{0}) {
    u64 size = ip.size();
    if (off >= size) return {};
    std::string s(static_cast<size_t>(std::min<u64>(n, size - off)), '?');
    auto r = read_file(ip, {reinterpret_cast<u8 *>(s.data()), s.size()}, off);
    EXPECT_TRUE(r.ok()) << static_cast<int>(r.code());
    if (!r.ok()) return "<error>";
    s.resize(*r);
    return s;
  }
  static std::vector<std::string> list(Inode &dir) {
    std::vector<std::string> names;
    u64 pos = 0;
    EXPECT_TRUE(readdir(dir, pos, [&](const DirEntry &e) {
                  names.push_back(S(e.name));
                  return true;
                }).ok());
    return names;
  }

 private:
  FixtureOptions o_;
  std::unique_ptr<host::MemDevice> device_;
  vx_bdev *use_ = nullptr;
  const Hooks *hooks_ = nullptr;
  store::ErrorPolicy on_error_ = store::ErrorPolicy::read_only;
  Box<store::Volume> volume_;
  Box<Filesystem> fs_;
};

}  // namespace vexfs::fs::test
