// SPDX-License-Identifier: MIT
// Every power cut that a log of dm-log-writes allows, on the device that the module wrote: logsweep LOG SIZE SEED TORN EVERY
//
// The log has the marks "mkfs" (from there on the power may fail) and the lines of ackload. Behind each EVERY-th flush and FUA
// write the image is made as it was, and TORN times with a random part of what was on its way. The core mounts it, in memory:
// what was acknowledged is there, and nothing is wrong with any of it. SIZE is the device's, in bytes.
#include <map>

#include "../../kernel/core/api.h"
#include "../../lib/host.h"
#include "../../lib/image/caller.h"
#include "../../lib/overlay.h"
#include "../../tools/fsck/rooms.h"
#include "guest/write_log.h"
#include "vexfs.h"

namespace {

using vexfs::host::OverlayDevice;

// The load's directory in a filesystem that the core has open, or in a snapshot of it.
class Native : public ackload::Door {
 public:
  Native(vx_fs *fs, bool own) : fs_(fs), own_(own) {
    struct vx_fs_info info;
    vx_fs_info(fs_, &info);
    vx_inode *root = nullptr;
    CHECK_EQ(vx_iget(fs_, info.root_ino, 0, &root), 0);
    dir_ = child(root, "d");
    vx_iput(root);
  }
  ~Native() override {
    if (dir_) vx_iput(dir_);
    if (own_) vx_fs_unmount(fs_);
  }
  bool file(const std::string &name, std::string *bytes) override {
    bytes->clear();
    vx_inode *ip = dir_ ? child(dir_, name) : nullptr;
    if (!ip) return false;
    struct vx_attr a;
    vx_getattr(ip, &a);
    CHECK(a.size < (64u << 20));
    bytes->resize(a.size);
    size_t done = 0;
    const int err = vx_pread(ip, bytes->data(), a.size, 0, &done);
    if (err != 0 || done != a.size) bytes->assign("cannot be read: " + std::to_string(err));
    vx_iput(ip);
    return true;
  }
  bool row(uint64_t id, float (&row)[ackload::dim]) override {
    vexfs_embedding e{};
    e.size = sizeof e;
    e.row.id = id;
    e.data = reinterpret_cast<__u64>(row);
    e.dim = ackload::dim;
    e.element = VEXFS_F32;
    vx_caller caller = vexfs::client::trusted_caller();
    return dir_ && vx_ioctl(fs_, dir_, VEXFS_IOCTL_GET_EMBEDDING, reinterpret_cast<vx_u64>(&e), &caller) == 0;
  }
  std::unique_ptr<Door> snapshot(const std::string &name) override {
    vx_u64 id = 0;
    if (vx_snapshot_find(fs_, name.data(), name.size(), &id) != 0) return nullptr;
    vx_mount_opts o{};
    o.read_only = true;
    vx_fs *then = nullptr;
    CHECK_EQ(vx_snapshot_mount(fs_, id, &o, &then), 0);
    return std::make_unique<Native>(then, true);
  }

 private:
  vx_inode *child(vx_inode *dir, const std::string &name) {
    vx_u64 ino = 0;
    vx_inode *ip = nullptr;
    if (vx_lookup(dir, name.data(), name.size(), &ino) != 0) return nullptr;
    return vx_iget(fs_, ino, 0, &ip) == 0 ? ip : nullptr;
  }
  vx_fs *fs_;
  bool own_;
  vx_inode *dir_ = nullptr;
};

std::string errors_found(vx_bdev *dev) {
  std::string text;
  vexfs::store::CheckSink sink{};
  sink.ctx = &text;
  sink.line = [](void *ctx, vexfs::store::Severity s, const char *line) {
    if (s == vexfs::store::Severity::error) *static_cast<std::string *>(ctx) += std::string(line) + "\n";
  };
  vexfs::store::Checker checker(dev, sink);
  vexfs::fsck::RoomFigures figures;
  vexfs::Status st = checker.open();
  if (st.ok()) st = vexfs::fsck::check_rooms(checker, &figures);
  if (!st.ok()) text += "the check failed: " + std::to_string(static_cast<int>(st.code())) + "\n";
  return text;
}

// What is wrong with the filesystem, after a mount for writing and everything that may be found of the load.
std::string judge(vx_bdev *dev, const ackload::States &states, uint64_t *compared) {
  vx_mount_opts o{};
  o.node_cache_bytes = o.vector_cache_bytes = 8 << 20;
  vx_fs *fs = nullptr;
  const int err = vx_fs_mount(dev, &o, &fs);
  if (err != 0) return "it does not mount: error " + std::to_string(err) + "\n";
  std::string wrong;
  {
    Native door(fs, false);
    ackload::Verifier verifier(door);
    for (auto &[key, possible] : states.possible()) {
      if (verifier.find(key, possible) == ackload::none_of_them)
        wrong += std::string("not what was acknowledged: ") + key.first + " " + std::to_string(key.second) + "\n";
      ++*compared;
    }
  }
  struct vx_fs_info info;
  vx_fs_info(fs, &info);
  if (info.aborted) wrong += "it stopped by itself\n";
  vx_fs_unmount(fs);
  return wrong + errors_found(dev);
}

}  // namespace

int main(int argc, char **argv) {
  CHECK(argc == 6);
  const write_log::Log log(argv[1]);
  const uint64_t size = strtoull(argv[2], nullptr, 0), seed = strtoull(argv[3], nullptr, 0);
  const uint64_t torn = strtoull(argv[4], nullptr, 0), every = strtoull(argv[5], nullptr, 0);
  CHECK(every > 0);
  CHECK_EQ(vx_core_init(), 0);
  vexfs::host::set_log_level(VX_LOG_ERR);
  vexfs::host::MemDevice device(size);
  const auto put_device = [&](uint64_t off, const char *bytes, size_t n) {
    CHECK(off + n <= size);
    device.poke(off, bytes, n);
  };
  size_t at = 0;
  uint64_t images = 0, compared = 0;
  const std::vector<size_t> points = log.points(log.behind("mkfs"));
  for (size_t i = 0; i < points.size(); i += every) {
    log.apply(at, points[i], put_device);
    at = points[i];
    const ackload::States states = log.states(at);
    for (uint64_t t = 0; t <= torn; t++, images++) {
      OverlayDevice image(&device);
      const uint64_t tear = seed * 1000003 + at * 31 + t;
      if (t > 0)
        log.tear(at, tear, [&](uint64_t off, const char *bytes, size_t n) {
          vx_io io{off, n, const_cast<char *>(bytes), 0, VX_IO_WRITE};
          CHECK_EQ(image.submit(&io, 1), 0);
        });
      const std::string wrong = judge(&image, states, &compared);
      if (wrong.empty()) continue;
      fprintf(stderr, "FAILED: the power fails behind entry %zu of %zu of the log%s%s:\n%s", at, log.entries().size(),
              t ? ", torn by " : "", t ? std::to_string(tear).c_str() : "", wrong.c_str());
      return 1;
    }
  }
  const ackload::States end = log.states(log.entries().size());
  printf("%zu barriers, %llu images of power cuts, %llu operations acknowledged, %llu comparisons, nothing lost\n",
         points.size(), static_cast<unsigned long long>(images), static_cast<unsigned long long>(end.acknowledged()),
         static_cast<unsigned long long>(compared));
  return 0;
}
