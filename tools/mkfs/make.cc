// SPDX-License-Identifier: MIT
// mkfs.vexfs: writing the filesystem. The store makes an empty volume; the rest is done by mounting it in this process.
#include "make.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "../../include/uapi/vexfs.h"
#include "../../kernel/core/api.h"
#include "../../lib/device.h"
#include "../../lib/image/caller.h"
#include "report.h"

namespace vexfs::mkfs {
namespace {

store::FormatOptions format_options(const Options &o) {
  store::FormatOptions f;
  f.block_size = o.block_size;
  f.node_size = o.node_size;
  f.node_copies = o.node_copies;
  if (o.size) f.total_blocks = std::max<uint64_t>(o.size / o.block_size, 1);  // 0 would be all of the device
  if (o.journal_bytes != ~uint64_t{0}) f.log_blocks = (o.journal_bytes + o.block_size - 1) / o.block_size;
  memcpy(f.uuid, o.uuid.data(), sizeof f.uuid);
  memcpy(f.label, o.label.c_str(), o.label.size() + 1);
  f.dry_run = o.dry_run;
  f.discard = o.discard;
  return f;
}

std::runtime_error format_error(const Options &o, const vx_bdev *device, Errno e) {
  switch (e) {
    case Errno::nospc:
      return std::runtime_error(o.device + ": too small: a VexFS needs " + human(store::kMinFormatBytes) +
                                " and space for its journal (-J size=0 makes none)");
    case Errno::inval:
      if (o.block_size >= device->logical_block())
        return std::runtime_error(o.device + ": " + human(o.size ? o.size : device->size()) +
                                  " are too large for blocks of " + human(o.block_size) +
                                  (o.block_size < 65536 ? " (-b: larger ones)" : ""));
      return std::runtime_error(o.device + ": these sizes do not go together");
    default:
      return std::runtime_error(o.device + ": " + strerror(static_cast<int>(e)));
  }
}

class Mounted {
 public:
  Mounted(const Options &o, vx_bdev *device) : name_(o.device) {
    vx_mount_opts m{};
    check(vx_core_init(), "the core");
    check(vx_fs_mount(device, &m, &fs_), "the new filesystem");
    struct vx_fs_info info;
    vx_fs_info(fs_, &info);
    check(vx_iget(fs_, info.root_ino, 0, &root_), "the root directory");
  }
  ~Mounted() {
    if (root_) vx_iput(root_);
    if (fs_) vx_fs_unmount(fs_);
  }
  Mounted(const Mounted &) = delete;
  Mounted &operator=(const Mounted &) = delete;

  void make_collection(const CollectionOptions &o) {
    vexfs_collection c{};
    c.size = sizeof c;
    c.dim = o.dim;
    c.element = o.element;
    c.metric = o.metric;
    c.index = o.index;
    c.m = o.m;
    c.ef_construction = o.ef_construction;
    c.ef_search = o.ef_search;
    memcpy(c.name, o.name.c_str(), o.name.size() + 1);
    vx_caller caller = client::trusted_caller();
    check(vx_ioctl(fs_, root_, static_cast<vx_u32>(VEXFS_IOCTL_COLLECTION_CREATE), reinterpret_cast<uintptr_t>(&c),
                   &caller),
          "the collection");
  }

  void commit() { check(vx_fs_commit(fs_), "commit"); }

 private:
  void check(int rc, const char *what) {
    if (rc == 0) return;
    const std::string message = name_ + ": " + what + ": " + strerror(-rc);
    if (root_) vx_iput(root_);
    if (fs_) vx_fs_unmount(fs_);
    root_ = nullptr;
    fs_ = nullptr;
    throw std::runtime_error(message);
  }

  std::string name_;
  vx_fs *fs_ = nullptr;
  vx_inode *root_ = nullptr;
};

}  // namespace

store::Layout make(const Options &o, vx_bdev *device) {
  store::Layout layout;
  const Status s = store::format(device, format_options(o), &layout);
  if (!s.ok()) throw format_error(o, device, s.code());
  if (o.dry_run) return layout;
  Mounted fs(o, device);
  if (o.collection.wanted) fs.make_collection(o.collection);
  fs.commit();
  return layout;
}

}  // namespace vexfs::mkfs
