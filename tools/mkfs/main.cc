// SPDX-License-Identifier: MIT
// mkfs.vexfs: makes a VexFS filesystem on a block device or in an image file.
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <memory>

#include "../../include/uapi/vexfs.h"
#include "../../kernel/core/api.h"
#include "../../lib/client/commands.h"
#include "guard.h"
#include "make.h"
#include "options.h"
#include "report.h"

namespace vexfs::mkfs {
namespace {

std::unique_ptr<host::FileDevice> open_device(const Options &o) {
  std::unique_ptr<host::FileDevice> d;
  host::FileDevice::Options how;
  how.read_only = o.dry_run;
  how.create_size = o.dry_run ? 0 : o.size;
  const int rc = host::FileDevice::open(o.device, how, &d);
  if (rc == -EBUSY) throw std::runtime_error(o.device + " is in use (mounted, or open in another program)");
  if (rc == -ENOENT && o.size == 0) throw std::runtime_error(o.device + ": no such file; with a SIZE an image is made");
  if (rc == -ENOTBLK) throw std::runtime_error(o.device + ": neither a block device nor a file");
  if (rc != 0) throw std::runtime_error(o.device + ": " + strerror(-rc));
  if (d->read_only() && !o.dry_run) throw std::runtime_error(o.device + ": is read-only");
  if (o.size > d->size())
    throw std::runtime_error(o.device + ": has " + human(d->size()) + ", " + human(o.size) + " were asked for");
  return d;
}

// A device that has a size and nothing else: what a layout is computed for.
class Sized : public vx_bdev {
 public:
  explicit Sized(uint64_t size) : size_(size) {}
  uint64_t size() const override { return size_; }
  uint32_t logical_block() const override { return 512; }
  const char *name() const override { return "none"; }
  int submit(vx_io *, size_t) override { return -EIO; }
  int flush() override { return -EIO; }

 private:
  uint64_t size_;
};

// An image that is not there yet, or is to grow, is laid out first: when that cannot be, no file is touched. A dry run
// ends there.
std::unique_ptr<vx_bdev> device_for(const Options &o, host::FileDevice **file) {
  *file = nullptr;
  if (o.size) {
    std::unique_ptr<host::FileDevice> d;
    host::FileDevice::Options how;
    how.read_only = true;
    how.exclusive = false;
    if (host::FileDevice::open(o.device, how, &d) == -ENOENT || (d && !d->is_block_device() && d->size() < o.size)) {
      auto sized = std::make_unique<Sized>(o.size);
      if (o.dry_run) return sized;
      Options trial = o;
      trial.dry_run = true;
      make(trial, sized.get());
    }
  }
  auto d = open_device(o);
  *file = d.get();
  return d;
}

int run(int argc, char **argv) {
  const Options o = parse_options(argc, argv);
  if (o.help) {
    fputs(usage_text(), stdout);
    return exit_ok;
  }
  if (o.version) {
    printf("mkfs.vexfs %s\n", vx_core_version());
    return exit_ok;
  }
  if (!o.dry_run) refuse_if_in_use(o.device);
  host::FileDevice *file = nullptr;
  const std::unique_ptr<vx_bdev> device = device_for(o, &file);
  if (file) {
    if (!may_overwrite(o, existing_contents(*file))) {
      fprintf(stderr, "mkfs.vexfs: nothing was done\n");
      return exit_failed;
    }
    if (!o.dry_run) wipe_signatures(*file);
  }
  const store::Layout layout = make(o, device.get());
  if (!o.quiet) fputs(report(o, layout, device->size()).c_str(), stdout);
  if (o.verbose && (o.bytes_per_inode || o.inode_count))
    puts("note              -i and -N have no effect: a VexFS makes inodes as they are needed");
  const CollectionOptions &c = o.collection;
  if ((c.m || c.ef_construction) && c.index != VEXFS_INDEX_HNSW && c.index != VEXFS_INDEX_DISKANN)
    fprintf(stderr, "mkfs.vexfs: note: -M and --ef-construction: not used by %s\n", client::index_name(c.index));
  return exit_ok;
}

}  // namespace
}  // namespace vexfs::mkfs

int main(int argc, char **argv) {
  using namespace vexfs::mkfs;  // NOLINT(google-build-using-namespace)
  try {
    return run(argc, argv);
  } catch (const Usage &e) {
    fprintf(stderr, "mkfs.vexfs: %s (mkfs.vexfs --help)\n", e.what());
    return exit_usage;
  } catch (const std::exception &e) {
    fprintf(stderr, "mkfs.vexfs: %s\n", e.what());
    return exit_failed;
  }
}
