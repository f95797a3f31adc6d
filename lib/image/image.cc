// SPDX-License-Identifier: MIT
// The core on an image file behind the client's interfaces.
#include "image.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "../client/error.h"
#include "../device.h"
#include "../overlay.h"
#include "target.h"

namespace vexfs::client {
namespace {

vx_time now() {
  vx_time t{};
  vx_clock_real(&t.sec, &t.nsec);
  return t;
}

std::vector<std::string> components(const std::string &path) {
  std::vector<std::string> parts;
  for (size_t at = 0; at < path.size();) {
    const size_t slash = std::min(path.find('/', at), path.size());
    const std::string part = path.substr(at, slash - at);
    if (part == ".." && !parts.empty()) parts.pop_back();
    if (!part.empty() && part != "." && part != "..") parts.push_back(part);
    at = slash + 1;
  }
  return parts;
}

class Image : public ImagePlace {
 public:
  Image(const std::string &file, const ImageOptions &o) : file_(file) {
    host::FileDevice::Options d;
    d.read_only = o.read_only;
    int rc = host::FileDevice::open(file, d, &device_);
    if (rc == -EBUSY) throw Error(EBUSY, file + ": in use (mounted, or open in another program)");
    if (rc != 0) fail(file, rc);
    if ((rc = vx_core_init()) != 0) fail(file, rc);
    vx_mount_opts m{};
    m.read_only = o.read_only || device_->read_only();
    m.errors = VX_ERRORS_RO;
    m.commit_interval_ms = m.read_only ? 0 : o.commit_interval_ms;
    m.nvector_threads = m.read_only ? 0 : o.index_threads;
    vx_bdev *dev = device_.get();
    if (m.read_only) {  // what a mount would recover after a crash is recovered in memory
      overlay_ = std::make_unique<host::OverlayDevice>(dev);
      dev = overlay_.get();
    }
    rc = vx_fs_mount(dev, &m, &fs_);
    if (rc == -EINVAL) throw Error(EINVAL, file + ": no VexFS filesystem in it");
    if (rc == -EUCLEAN) throw Error(EUCLEAN, file + ": damaged (run fsck.vexfs)");
    if (rc != 0) fail(file, rc);
    if (!o.snapshot.empty()) show_snapshot(o.snapshot, m);
  }
  ~Image() override { unmount(); }

  vx_fs *fs() override { return fs_; }
  vx_fs *view(const std::string &name) override {
    views_.push_back(open_view(name));
    return views_.back();
  }
  std::string path_in(const std::string &name, uint64_t ino) override {
    const std::unique_ptr<vx_fs, void (*)(vx_fs *)> v(open_view(name), vx_fs_unmount);
    return path_in(v.get(), ino, 0);
  }
  bool is_image() const override { return true; }
  std::string default_path() const override { return "/"; }

  void close() override {
    if (!fs_) return;
    const int rc = info().read_only ? 0 : vx_fs_commit(fs_);
    unmount();
    overlay_.reset();
    device_.reset();  // and with it the lock on the image
    if (rc != 0) throw Error(-rc, file_ + ": the last commit failed: " + strerror(-rc));
  }

  std::unique_ptr<Target> open(const std::string &path) override {
    return std::make_unique<ImageTarget>(fs_, path, walk(components(path), path));
  }

  Space space(const Target &) override {
    const struct vx_fs_info i = info();
    return Space{i.block_size, i.blocks, i.blocks_free, i.blocks_avail, i.inodes_used};
  }

  void sync(const Target &) override {
    if (const int rc = vx_fs_commit(fs_)) fail(file_, rc);
  }

  std::string path_of(uint64_t ino, uint32_t generation, const Target &) override {
    return path_in(fs_, ino, generation);
  }

  void make(const std::string &path, bool directory, bool parents) override {
    std::vector<std::string> parts = components(path);
    if (parts.empty()) return;
    InodeRef dir = walk({}, "/");
    for (size_t i = 0; i < parts.size(); i++) {
      const bool last = i + 1 == parts.size();
      vx_u64 ino = 0;
      int rc = vx_lookup(dir.get(), parts[i].data(), parts[i].size(), &ino);
      if (rc == -ENOENT && (last || parents)) {
        dir = create(dir.get(), parts[i], !last || directory, path);
        continue;
      }
      if (rc != 0) fail(path, rc);
      if (last && !parents) fail(path, -EEXIST);
      dir = get(ino, path);
    }
  }

  void write_file(const std::string &path, const std::string &contents) override {
    make(path, false, true);
    InodeRef ip = walk(components(path), path);
    vx_attr a;
    vx_getattr(ip.get(), &a);
    if (S_ISDIR(a.mode)) throw Error(EISDIR, path + ": is a directory");
    const vx_time t = now();
    if (const int rc = vx_truncate(ip.get(), 0, &t)) fail(path, rc);
    for (size_t at = 0; at < contents.size();) {
      size_t done = 0;
      const int rc = vx_pwrite(ip.get(), contents.data() + at, contents.size() - at, at, &t, &done);
      if (rc != 0) fail(path, rc);
      if (done == 0) fail(path, -EIO);
      at += done;
    }
  }

 private:
  vx_fs *open_view(const std::string &name) {
    uint64_t id = 0;
    int rc = vx_snapshot_find(fs_, name.data(), name.size(), &id);
    vx_mount_opts m{};
    m.read_only = true;
    vx_fs *v = nullptr;
    if (rc == 0) rc = vx_snapshot_mount(fs_, id, &m, &v);
    if (rc == -ENOENT) throw Error(ENOENT, file_ + ": no snapshot '" + name + "'");
    if (rc != 0) fail(file_, rc);
    return v;
  }
  static std::string path_in(vx_fs *fs, uint64_t ino, uint32_t generation) {
    std::string path;
    struct vx_fs_info i;
    ::vx_fs_info(fs, &i);
    for (int depth = 0; ino != i.root_ino; depth++) {
      vx_inode *raw = nullptr;
      if (depth > depth_max || vx_iget(fs, ino, generation, &raw) != 0) return "";
      InodeRef ip(raw);
      vx_attr a;
      vx_getattr(raw, &a);
      const std::string name = name_in(fs, a.parent, ino);
      if (name.empty()) return "";
      path.insert(0, name).insert(0, 1, '/');
      ino = a.parent;
      generation = 0;
    }
    return path.empty() ? "/" : path;
  }
  void show_snapshot(const std::string &name, const vx_mount_opts &m) {
    uint64_t id = 0;
    int rc = vx_snapshot_find(fs_, name.data(), name.size(), &id);
    vx_fs *view = nullptr;
    if (rc == 0) rc = vx_snapshot_mount(fs_, id, &m, &view);
    if (rc != 0) {
      unmount();
      throw Error(-rc, file_ + (rc == -ENOENT ? ": no snapshot '" + name + "'" : ": " + std::string(strerror(-rc))));
    }
    under_ = std::exchange(fs_, view);
  }
  void unmount() {
    for (vx_fs *v : views_) vx_fs_unmount(v);
    views_.clear();
    if (fs_) vx_fs_unmount(fs_);
    if (under_) vx_fs_unmount(under_);  // what the view lies on goes last
    fs_ = under_ = nullptr;
  }

  static constexpr int depth_max = 4096;  // of directories, when a path is put together from the leaf up

  struct vx_fs_info info() const {
    struct vx_fs_info i;
    ::vx_fs_info(fs_, &i);
    return i;
  }

  InodeRef get(uint64_t ino, const std::string &path) {
    vx_inode *raw = nullptr;
    if (const int rc = vx_iget(fs_, ino, 0, &raw)) fail(path, rc);
    return InodeRef(raw);
  }

  InodeRef walk(const std::vector<std::string> &parts, const std::string &path) {
    InodeRef ip = get(info().root_ino, path);
    for (const std::string &name : parts) {
      vx_attr a;
      vx_getattr(ip.get(), &a);
      if (!S_ISDIR(a.mode)) fail(path, -ENOTDIR);
      vx_u64 ino = 0;
      if (const int rc = vx_lookup(ip.get(), name.data(), name.size(), &ino)) fail(path, rc);
      ip = get(ino, path);
    }
    return ip;
  }

  InodeRef create(vx_inode *dir, const std::string &name, bool directory, const std::string &path) {
    vx_attr init{};
    init.mode = directory ? S_IFDIR | 0755u : S_IFREG | 0644u;
    const vx_time t = now();
    vx_inode *raw = nullptr;
    const int rc = vx_create(dir, name.data(), name.size(), &init, nullptr, 0, &t, &raw);
    if (rc != 0) fail(path, rc);
    return InodeRef(raw);
  }

  static std::string name_in(vx_fs *fs, uint64_t dir_ino, uint64_t ino) {
    vx_inode *raw = nullptr;
    if (vx_iget(fs, dir_ino, 0, &raw) != 0) return "";
    InodeRef dir(raw);
    struct Search {
      uint64_t ino;
      std::string name;
    } s{ino, ""};
    vx_u64 pos = 0;
    auto look = [](void *ctx, const char *name, size_t len, vx_u64 found, unsigned, vx_u64) -> vx_bool {
      auto *wanted = static_cast<Search *>(ctx);
      if (found != wanted->ino) return true;
      wanted->name.assign(name, len);
      return false;
    };
    vx_readdir(raw, &pos, look, &s);
    return s.name;
  }

  std::string file_;
  std::unique_ptr<host::FileDevice> device_;
  std::unique_ptr<host::OverlayDevice> overlay_;  // read-only: over device_
  vx_fs *fs_ = nullptr;
  std::vector<vx_fs *> views_;
  vx_fs *under_ = nullptr;  // the filesystem whose snapshot fs_ is
};

}  // namespace

std::unique_ptr<ImagePlace> ImagePlace::open_image(const std::string &file, const ImageOptions &options) {
  return std::make_unique<Image>(file, options);
}

}  // namespace vexfs::client
