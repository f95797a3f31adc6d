// SPDX-License-Identifier: MIT
// Block devices of the userspace host: the C door with its checks, memory devices and the error-injecting wrapper.
#include "device.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "host.h"

int vx_bdev::discard(uint64_t, uint64_t) { return -EOPNOTSUPP; }

extern "C" {

vx_u64 vx_bdev_size(vx_bdev *d) { return d->size(); }
vx_u32 vx_bdev_logical_block(vx_bdev *d) { return d->logical_block(); }
vx_bool vx_bdev_read_only(vx_bdev *d) { return d->read_only(); }
const char *vx_bdev_name(vx_bdev *d) { return d->name(); }

int vx_bdev_submit(vx_bdev *d, vx_io *ios, size_t n) {
  vexfs::host::assert_may_sleep("vx_bdev_submit");
  const uint64_t size = d->size();
  const uint32_t block = d->logical_block();
  for (size_t i = 0; i < n; i++) {
    vx_io &io = ios[i];
    io.err = 0;
    if (io.off % block || io.len % block || io.len == 0 || reinterpret_cast<uintptr_t>(io.buf) % 512)
      io.err = -EINVAL;
    else if (io.len > size || io.off > size - io.len)
      io.err = -EIO;
    else if ((io.flags & VX_IO_WRITE) && d->read_only())
      io.err = -EROFS;
    if (io.err) return io.err;
  }
  return d->submit(ios, n);
}

int vx_bdev_flush(vx_bdev *d) {
  vexfs::host::assert_may_sleep("vx_bdev_flush");
  return d->flush();
}

int vx_bdev_discard(vx_bdev *d, vx_u64 off, vx_u64 len) {
  vexfs::host::assert_may_sleep("vx_bdev_discard");
  if (d->read_only()) return -EROFS;
  if (len > d->size() || off > d->size() - len) return -EINVAL;
  return d->discard(off, len);
}

// Nobody here has a flag of his own that says whether it can be written; vx_fs_info() tells.
void vx_bdev_aborted(vx_bdev *) {}

}  // extern "C"

namespace vexfs::host {

// ------------------------------------------------------------------- memory
MemDevice::MemDevice(uint64_t size, uint32_t logical_block, std::string name)
    : size_(size),
      logical_block_(logical_block),
      name_(std::move(name)),
      chunks_((size + chunk_bytes - 1) / chunk_bytes) {}

MemDevice::~MemDevice() {
  for (auto &c : chunks_) delete[] c.load();
}

uint8_t *MemDevice::chunk_for_write(uint64_t index) {
  uint8_t *have = chunks_[index].load(std::memory_order_acquire);
  if (have) return have;
  auto *fresh = new uint8_t[chunk_bytes]();
  if (chunks_[index].compare_exchange_strong(have, fresh)) return fresh;
  delete[] fresh;
  return have;
}

void MemDevice::peek(uint64_t off, void *buf, uint64_t len) const {
  auto *out = static_cast<uint8_t *>(buf);
  while (len) {
    const uint64_t at = off % chunk_bytes;
    const uint64_t n = std::min(len, chunk_bytes - at);
    const uint8_t *c = chunks_.at(off / chunk_bytes).load(std::memory_order_acquire);
    if (c)
      memcpy(out, c + at, n);
    else
      memset(out, 0, n);
    off += n, out += n, len -= n;
  }
}

void MemDevice::poke(uint64_t off, const void *buf, uint64_t len) {
  const auto *in = static_cast<const uint8_t *>(buf);
  while (len) {
    const uint64_t at = off % chunk_bytes;
    const uint64_t n = std::min(len, chunk_bytes - at);
    memcpy(chunk_for_write(off / chunk_bytes) + at, in, n);
    off += n, in += n, len -= n;
  }
}

int MemDevice::submit(vx_io *ios, size_t n) {
  for (size_t i = 0; i < n; i++) {
    vx_io &io = ios[i];
    if (io.flags & VX_IO_WRITE)
      poke(io.off, io.buf, io.len);
    else
      peek(io.off, io.buf, io.len);
    io.err = 0;
  }
  return 0;
}

int MemDevice::discard(uint64_t off, uint64_t len) {
  // Whole chunks only, and by zeroing: another request may be reading the chunk's neighbour bytes right now.
  for (uint64_t at = (off + chunk_bytes - 1) / chunk_bytes; (at + 1) * chunk_bytes <= off + len; at++)
    if (uint8_t *c = chunks_[at].load(std::memory_order_acquire)) memset(c, 0, chunk_bytes);
  return 0;
}

std::unique_ptr<MemDevice> MemDevice::clone() const {
  auto copy = std::make_unique<MemDevice>(size_, logical_block_, name_);
  for (size_t i = 0; i < chunks_.size(); i++)
    if (const uint8_t *c = chunks_[i].load()) memcpy(copy->chunk_for_write(i), c, chunk_bytes);
  copy->read_only_ = read_only_;
  return copy;
}

uint64_t MemDevice::resident_bytes() const {
  uint64_t n = 0;
  for (const auto &c : chunks_) n += c.load() ? chunk_bytes : 0;
  return n;
}

int MemDevice::load(const std::string &path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  std::vector<uint8_t> buf(chunk_bytes);
  int rc = 0;
  for (uint64_t off = 0; off < size_;) {
    const ssize_t got = ::pread(fd, buf.data(), std::min<uint64_t>(buf.size(), size_ - off), static_cast<off_t>(off));
    if (got < 0) rc = -errno;
    if (got <= 0) break;
    const auto n = static_cast<size_t>(got);
    if (std::any_of(buf.begin(), buf.begin() + got, [](uint8_t b) { return b != 0; })) poke(off, buf.data(), n);
    off += n;
  }
  ::close(fd);
  return rc;
}

int MemDevice::save(const std::string &path) const {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return -errno;
  int rc = ::ftruncate(fd, static_cast<off_t>(size_)) == 0 ? 0 : -errno;
  for (size_t i = 0; i < chunks_.size() && rc == 0; i++) {
    const uint8_t *c = chunks_[i].load();
    if (!c) continue;
    const uint64_t off = i * chunk_bytes;
    const uint64_t len = std::min(chunk_bytes, size_ - off);
    for (uint64_t done = 0; done < len && rc == 0;) {
      const ssize_t put = ::pwrite(fd, c + done, len - done, static_cast<off_t>(off + done));
      if (put < 0 && errno != EINTR) rc = -errno;
      if (put > 0) done += static_cast<uint64_t>(put);
    }
  }
  if (::close(fd) != 0 && rc == 0) rc = -errno;
  return rc;
}

// ----------------------------------------------------------- injected errors
void FaultDevice::fail_after(Kind kind, int64_t n, int err, bool keep) {
  std::lock_guard<std::mutex> g(lock_);
  rules_[static_cast<int>(kind)] = Rule{n, err, keep};
}

void FaultDevice::fail_range(Kind kind, uint64_t off, uint64_t len, int err) {
  std::lock_guard<std::mutex> g(lock_);
  bad_.push_back(BadRange{kind, off, len, err});
}

void FaultDevice::clear() {
  std::lock_guard<std::mutex> g(lock_);
  for (Rule &r : rules_) r = Rule{};
  bad_.clear();
}

FaultDevice::Counters FaultDevice::counters() const {
  std::lock_guard<std::mutex> g(lock_);
  return counters_;
}

int FaultDevice::verdict(Kind kind, const vx_io *io) {
  std::lock_guard<std::mutex> g(lock_);
  switch (kind) {
    case Kind::read:
      counters_.reads++, counters_.bytes_read += io->len;
      break;
    case Kind::write:
      counters_.writes++, counters_.bytes_written += io->len;
      counters_.fua += (io->flags & VX_IO_FUA) ? 1 : 0;
      break;
    case Kind::flush:
      counters_.flushes++;
      break;
  }
  Rule &r = rules_[static_cast<int>(kind)];
  if (r.left == 0) {
    if (!r.keep) r.left = -1;
    counters_.injected++;
    return r.err;
  }
  if (r.left > 0) r.left--;
  for (const BadRange &b : bad_)
    if (io && b.kind == kind && io->off < b.off + b.len && b.off < io->off + io->len) {
      counters_.injected++;
      return b.err;
    }
  return 0;
}

// Writes are passed on one by one, as on_write() is promised; reads between them together, as the device would get them.
int FaultDevice::submit(vx_io *ios, size_t n) {
  size_t run = 0;  // reads before `i` from here on are still to be passed on
  const auto pass = [&](size_t end) {
    if (run < end) inner_->submit(ios + run, end - run);
  };
  for (size_t i = 0; i < n; i++) {
    vx_io &io = ios[i];
    const bool write = io.flags & VX_IO_WRITE;
    io.err = verdict(write ? Kind::write : Kind::read, &io);
    if (io.err == 0 && !write) continue;
    pass(i);
    run = i + 1;
    if (io.err == 0 && on_write_) io.err = on_write_(io);
    if (io.err == 0) inner_->submit(&io, 1);
  }
  pass(n);
  for (size_t i = 0; i < n; i++)
    if (ios[i].err) return ios[i].err;
  return 0;
}

int FaultDevice::flush() {
  const int err = verdict(Kind::flush, nullptr);
  return err ? err : inner_->flush();
}

}  // namespace vexfs::host
