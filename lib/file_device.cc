// SPDX-License-Identifier: MIT
// Block devices of the userspace host: image files and real block devices.
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "device.h"

namespace vexfs::host {
namespace {

std::string base_name(const std::string &path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

}  // namespace

FileDevice::~FileDevice() {
  if (fd_ >= 0) ::close(fd_);
}

int FileDevice::open(const std::string &path, const Options &o, std::unique_ptr<FileDevice> *out) {
  std::unique_ptr<FileDevice> d(new FileDevice);
  d->path_ = path;
  d->name_ = base_name(path);
  d->read_only_ = o.read_only;
  int flags = (o.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
  struct stat st;
  const bool exists = ::stat(path.c_str(), &st) == 0;
  const bool block = exists && S_ISBLK(st.st_mode);
  if (exists && !block && !S_ISREG(st.st_mode)) return S_ISDIR(st.st_mode) ? -EISDIR : -ENOTBLK;
  if (block && o.exclusive) flags |= O_EXCL;
  if (!block && o.create_size) flags |= O_CREAT;
  if (o.direct) flags |= O_DIRECT;
  d->fd_ = ::open(path.c_str(), flags, 0644);
  if (d->fd_ < 0) return -errno;
  if (int rc = d->probe(o)) return rc;
  *out = std::move(d);
  return 0;
}

int FileDevice::probe(const Options &o) {
  struct stat st;
  if (::fstat(fd_, &st) != 0) return -errno;
  direct_ = o.direct;
  is_block_device_ = S_ISBLK(st.st_mode);
  if (is_block_device_) {
    uint64_t bytes = 0;
    int sector = 0;
    int ro = 0;
    if (::ioctl(fd_, BLKGETSIZE64, &bytes) != 0 || ::ioctl(fd_, BLKSSZGET, &sector) != 0) return -errno;
    if (::ioctl(fd_, BLKROGET, &ro) == 0 && ro) read_only_ = true;
    size_ = bytes;
    logical_block_ = static_cast<uint32_t>(sector);
    return 0;
  }
  if (o.exclusive && ::flock(fd_, (o.read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0)
    return errno == EWOULDBLOCK ? -EBUSY : -errno;
  auto bytes = static_cast<uint64_t>(st.st_size);
  if (bytes < o.create_size) {
    if (::ftruncate(fd_, static_cast<off_t>(o.create_size)) != 0) return -errno;
    bytes = o.create_size;
  }
  size_ = bytes / logical_block_ * logical_block_;
  return 0;
}

// Goes on behind the first `done` bytes.
int FileDevice::transfer(const vx_io &io, uint64_t done) {
  auto *p = static_cast<char *>(io.buf);
  const bool write = io.flags & VX_IO_WRITE;
  while (done < io.len) {
    iovec v{p + done, io.len - done};
    const auto at = static_cast<off_t>(io.off + done);
    const ssize_t n =
        write ? ::pwritev2(fd_, &v, 1, at, (io.flags & VX_IO_FUA) ? RWF_DSYNC : 0) : ::preadv(fd_, &v, 1, at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    if (n == 0) return -EIO;  // the image was cut short under us
    done += static_cast<uint64_t>(n);
  }
  return 0;
}

// O_DIRECT wants buffers aligned to the logical block, the core promises 512 bytes.
int FileDevice::transfer_bounced(const vx_io &io) {
  void *tmp = aligned_alloc(logical_block_, io.len);
  if (!tmp) return -ENOMEM;
  vx_io copy = io;
  copy.buf = tmp;
  if (io.flags & VX_IO_WRITE) memcpy(tmp, io.buf, io.len);
  const int rc = transfer(copy, 0);
  if (rc == 0 && !(io.flags & VX_IO_WRITE)) memcpy(io.buf, tmp, io.len);
  free(tmp);
  return rc;
}

bool FileDevice::needs_bounce(const vx_io &io) const {
  return direct_ && reinterpret_cast<uintptr_t>(io.buf) % logical_block_ != 0;
}

int FileDevice::transfer_one(const vx_io &io) { return needs_bounce(io) ? transfer_bounced(io) : transfer(io, 0); }

// False: not done, because they are of no use to a ring, or there is none.
bool FileDevice::transfer_at_once(vx_io *ios, size_t n) {
  constexpr uint64_t longest = uint64_t{1} << 30;  // a ring counts bytes with 32 bits
  for (size_t i = 0; i < n; i++) {
    const bool cached = !direct_ && (ios[i].flags & VX_IO_WRITE);  // only copied, and a ring has workers do that
    if (cached || needs_bounce(ios[i]) || ios[i].len > longest) return false;
  }
  ssize_t bytes[IoRings::depth];
  if (!rings_.transfer(fd_, ios, n, bytes)) return false;
  // Errors are asked for again: a ring has some of its own (no worker may be made: -ECANCELED; an old kernel: -EINVAL).
  for (size_t i = 0; i < n; i++) ios[i].err = transfer(ios[i], bytes[i] < 0 ? 0 : static_cast<uint64_t>(bytes[i]));
  return true;
}

int FileDevice::submit(vx_io *ios, size_t n) {
  for (size_t at = 0; at < n;) {
    const size_t some = std::min(n - at, IoRings::depth);
    if (some < 2 || !transfer_at_once(ios + at, some))
      for (size_t i = at; i < at + some; i++) ios[i].err = transfer_one(ios[i]);
    at += some;
  }
  for (size_t i = 0; i < n; i++)
    if (ios[i].err) return ios[i].err;
  return 0;
}

int FileDevice::flush() { return read_only_ || ::fdatasync(fd_) == 0 ? 0 : -errno; }

int FileDevice::discard(uint64_t off, uint64_t len) {
  if (is_block_device_) {
    uint64_t range[2] = {off, len};
    return ::ioctl(fd_, BLKDISCARD, range) == 0 ? 0 : -errno;
  }
  return ::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(off),
                     static_cast<off_t>(len)) == 0
             ? 0
             : -errno;
}

}  // namespace vexfs::host
