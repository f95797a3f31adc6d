// SPDX-License-Identifier: MIT
// Block devices of the userspace host: the abstract device, image files and block devices, memory, and a wrapper that
// injects errors. Functions that can fail return 0 or a negative errno.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../kernel/core/platform.h"
#include "io_rings.h"

// What the core sees as an opaque pointer. Tests and tools derive from it. submit() must set err of every request.
// The range, alignment and read-only checks are done by vx_bdev_submit() before submit() is called.
struct vx_bdev {
  vx_bdev() = default;
  vx_bdev(const vx_bdev &) = delete;
  vx_bdev &operator=(const vx_bdev &) = delete;
  virtual ~vx_bdev() = default;

  virtual uint64_t size() const = 0;  // bytes
  virtual uint32_t logical_block() const { return 512; }
  virtual bool read_only() const { return false; }
  virtual const char *name() const { return "device"; }
  virtual int submit(vx_io *ios, size_t n) = 0;
  virtual int flush() = 0;
  virtual int discard(uint64_t off, uint64_t len);  // -EOPNOTSUPP unless overridden
};

namespace vexfs::host {

// An image file or a block device.
class FileDevice : public vx_bdev {
 public:
  struct Options {
    bool read_only = false;
    bool exclusive = true;     // O_EXCL on block devices (refuses a mounted one), flock on images: -EBUSY when taken
    bool direct = false;       // O_DIRECT
    uint64_t create_size = 0;  // not 0: creates the image when it is missing, or grows a shorter one to this size
  };
  static int open(const std::string &path, const Options &o, std::unique_ptr<FileDevice> *out);
  ~FileDevice() override;

  uint64_t size() const override { return size_; }
  uint32_t logical_block() const override { return logical_block_; }
  bool read_only() const override { return read_only_; }
  const char *name() const override { return name_.c_str(); }
  int submit(vx_io *ios, size_t n) override;
  int flush() override;
  int discard(uint64_t off, uint64_t len) override;

  bool is_block_device() const { return is_block_device_; }
  int fd() const { return fd_; }
  const std::string &path() const { return path_; }

 private:
  FileDevice() = default;
  int probe(const Options &o);
  int transfer(const vx_io &io, uint64_t done);
  int transfer_one(const vx_io &io);
  int transfer_bounced(const vx_io &io);
  bool transfer_at_once(vx_io *ios, size_t n);
  bool needs_bounce(const vx_io &io) const;

  IoRings rings_;
  int fd_ = -1;
  std::string path_;
  std::string name_;
  uint64_t size_ = 0;
  uint32_t logical_block_ = 512;
  bool read_only_ = false;
  bool is_block_device_ = false;
  bool direct_ = false;
};

// Memory only, sparse: pieces never written take no space and read as zeroes.
class MemDevice : public vx_bdev {
 public:
  explicit MemDevice(uint64_t size, uint32_t logical_block = 512, std::string name = "mem");
  ~MemDevice() override;

  uint64_t size() const override { return size_; }
  uint32_t logical_block() const override { return logical_block_; }
  bool read_only() const override { return read_only_; }
  const char *name() const override { return name_.c_str(); }
  int submit(vx_io *ios, size_t n) override;
  int flush() override { return 0; }
  int discard(uint64_t off, uint64_t len) override;

  void set_read_only(bool ro) { read_only_ = ro; }
  std::unique_ptr<MemDevice> clone() const;  // no I/O may be running
  // Direct access to the bytes, for tests; any range inside the device.
  void peek(uint64_t off, void *buf, uint64_t len) const;
  void poke(uint64_t off, const void *buf, uint64_t len);
  int load(const std::string &path);        // contents of a file, at most size()
  int save(const std::string &path) const;  // as a sparse image
  uint64_t resident_bytes() const;

 private:
  static constexpr uint64_t chunk_bytes = 64 << 10;
  uint8_t *chunk_for_write(uint64_t index);

  uint64_t size_;
  uint32_t logical_block_;
  bool read_only_ = false;
  std::string name_;
  std::vector<std::atomic<uint8_t *>> chunks_;
};

// Passes everything to another device (not owned) and makes chosen requests fail.
class FaultDevice : public vx_bdev {
 public:
  explicit FaultDevice(vx_bdev *inner) : inner_(inner) {}

  uint64_t size() const override { return inner_->size(); }
  uint32_t logical_block() const override { return inner_->logical_block(); }
  bool read_only() const override { return inner_->read_only(); }
  const char *name() const override { return inner_->name(); }
  int submit(vx_io *ios, size_t n) override;
  int flush() override;
  int discard(uint64_t off, uint64_t len) override { return inner_->discard(off, len); }

  enum class Kind { read, write, flush };
  // Lets n more requests of the kind pass and fails the next with err, once, or with keep all from there on.
  void fail_after(Kind kind, int64_t n, int err, bool keep = false);
  void clear();
  // Requests that touch [off, off+len) fail with err (a bad sector).
  void fail_range(Kind kind, uint64_t off, uint64_t len, int err);
  // Called with every write before it is passed on; a negative result fails it.
  void on_write(std::function<int(const vx_io &)> fn) { on_write_ = std::move(fn); }

  struct Counters {
    uint64_t reads = 0, writes = 0, flushes = 0, fua = 0, bytes_read = 0, bytes_written = 0, injected = 0;
  };
  Counters counters() const;

 private:
  struct Rule {
    int64_t left = -1;  // negative: not armed
    int err = 0;
    bool keep = false;
  };
  struct BadRange {
    Kind kind;
    uint64_t off, len;
    int err;
  };
  int verdict(Kind kind, const vx_io *io);

  vx_bdev *inner_;
  mutable std::mutex lock_;
  Rule rules_[3];
  std::vector<BadRange> bad_;
  std::function<int(const vx_io &)> on_write_;
  Counters counters_;
};

}  // namespace vexfs::host
