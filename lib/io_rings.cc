// SPDX-License-Identifier: MIT
// Transfers by io_uring.
#include "io_rings.h"

#ifdef VEXFS_HAVE_URING
#include <liburing.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <new>

namespace vexfs::host {
namespace {

void prepare(io_uring_sqe *sqe, int fd, const vx_io &io, size_t index) {
  const auto bytes = static_cast<unsigned>(io.len);
  if (io.flags & VX_IO_WRITE) {
    io_uring_prep_write(sqe, fd, io.buf, bytes, io.off);
    if (io.flags & VX_IO_FUA) sqe->rw_flags = RWF_DSYNC;
  } else {
    io_uring_prep_read(sqe, fd, io.buf, bytes, io.off);
  }
  io_uring_sqe_set_data64(sqe, index);
}

}  // namespace

struct IoRings::Ring {
  io_uring ring{};
  bool ready = false;

  ~Ring() {
    if (ready) io_uring_queue_exit(&ring);
  }

  // The kernel may use the buffers until all have come back, so there is no way out before that.
  void run(int fd, const vx_io *ios, size_t n, ssize_t *bytes) {
    for (size_t i = 0; i < n; i++) {
      io_uring_sqe *sqe = io_uring_get_sqe(&ring);
      if (!sqe) std::terminate();  // the ring is empty, and holds so many
      prepare(sqe, fd, ios[i], i);
    }
    for (size_t back = 0; back < n; back += reap(bytes)) {
      const int rc = io_uring_submit_and_wait(&ring, static_cast<unsigned>(n - back));
      if (rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY) std::terminate();  // the ring is broken
    }
  }

 private:
  size_t reap(ssize_t *bytes) {
    size_t count = 0;
    io_uring_cqe *cqe = nullptr;
    while (io_uring_peek_cqe(&ring, &cqe) == 0) {
      bytes[io_uring_cqe_get_data64(cqe)] = cqe->res;
      io_uring_cqe_seen(&ring, cqe);
      count++;
    }
    return count;
  }
};

IoRings::IoRings() = default;

// Nor are their descriptors the child's to close: they may be others by then.
void IoRings::leave_to_parent() {
  for (std::unique_ptr<Ring> &r : idle_) (void)r.release();
  idle_.clear();
}

IoRings::~IoRings() {
  if (owner_ != getpid()) leave_to_parent();
}

std::unique_ptr<IoRings::Ring> IoRings::take() {
  const std::lock_guard<std::mutex> g(mu_);
  if (owner_ != getpid()) {
    leave_to_parent();
    owner_ = getpid();
  }
  if (none_) return nullptr;
  if (idle_.empty()) return make();
  std::unique_ptr<Ring> r = std::move(idle_.back());
  idle_.pop_back();
  return r;
}

std::unique_ptr<IoRings::Ring> IoRings::make() {
  std::unique_ptr<Ring> r(new (std::nothrow) Ring);
  if (!r) return nullptr;
  const int rc = io_uring_queue_init(depth, &r->ring, 0);
  r->ready = rc == 0;
  if (r->ready) return r;
  none_ = rc == -ENOSYS || rc == -EPERM;  // others may pass: memory, descriptors
  return nullptr;
}

void IoRings::give(std::unique_ptr<Ring> r) {
  try {
    const std::lock_guard<std::mutex> g(mu_);
    idle_.push_back(std::move(r));
  } catch (const std::bad_alloc &) {  // the core that calls knows no exceptions; the ring goes
  }
}

bool IoRings::transfer(int fd, const vx_io *ios, size_t n, ssize_t *bytes) {
  std::unique_ptr<Ring> r = take();
  if (!r) return false;
  r->run(fd, ios, n, bytes);
  give(std::move(r));
  return true;
}

}  // namespace vexfs::host

#else

namespace vexfs::host {

struct IoRings::Ring {};
IoRings::IoRings() = default;
IoRings::~IoRings() = default;
bool IoRings::transfer(int, const vx_io *, size_t, ssize_t *) { return false; }

}  // namespace vexfs::host
#endif
