// SPDX-License-Identifier: MIT
// Transfers by io_uring.
#include "io_rings.h"

#ifdef VEXFS_HAVE_URING
#include <liburing.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <new>

namespace vexfs::host {
namespace {

std::atomic<unsigned> forks{0};

unsigned count_forks() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1); });
  (void)registered;
  return forks.load();
}

void prepare(io_uring_sqe *sqe, int fd, const vx_io &io, size_t index) {
  const auto bytes = static_cast<unsigned>(io.len);
  if (io.flags & VX_IO_WRITE) {
    io_uring_prep_write(sqe, fd, io.buf, bytes, io.off);
    if (io.flags & VX_IO_FUA) sqe->rw_flags = RWF_DSYNC;
  } else {
    io_uring_prep_read(sqe, fd, io.buf, bytes, io.off);
  }
  io_uring_sqe_set_data(sqe, reinterpret_cast<void *>(index));
}

}  // namespace

struct IoRings::Ring {
  io_uring ring{};
  bool ready = false;

  Ring() {
    ready = io_uring_queue_init(depth, &ring, 0) == 0;
    if (ready) io_uring_ring_dontfork(&ring);
  }
  ~Ring() {
    if (ready) io_uring_queue_exit(&ring);
  }

  // How many were started. The kernel may use the buffers of those until they have come back, so there is no way out before
  // that. The ring is of no use any more when these are not all.
  size_t run(int fd, const vx_io *ios, size_t n, ssize_t *bytes) {
    for (size_t i = 0; i < n; i++) {
      bytes[i] = -EAGAIN;
      prepare(io_uring_get_sqe(&ring), fd, ios[i], i);  // there is one: the ring is empty, and holds so many
    }
    size_t back = 0, started = 0;
    while (back < n) {
      const int rc = io_uring_submit_and_wait(&ring, static_cast<unsigned>(n - back));
      started = n - io_uring_sq_ready(&ring);
      back += reap(bytes);
      if (rc < 0 && rc != -EINTR) {
        if (back == started) break;
        sched_yield();  // it does not wait for us, but they will come back
      }
    }
    return started;
  }

 private:
  size_t reap(ssize_t *bytes) {
    size_t count = 0;
    io_uring_cqe *cqe = nullptr;
    while (io_uring_peek_cqe(&ring, &cqe) == 0) {
      bytes[reinterpret_cast<size_t>(io_uring_cqe_get_data(cqe))] = cqe->res;
      io_uring_cqe_seen(&ring, cqe);
      count++;
    }
    return count;
  }
};

IoRings::IoRings() : generation_(count_forks()) {}

// The child of a fork has a descriptor of each ring, but not their memory.
void IoRings::leave_to_parent() {
  for (std::unique_ptr<Ring> &r : idle_) {
    close(r->ring.ring_fd);
    r->ready = false;
  }
  idle_.clear();
}

IoRings::~IoRings() {
  if (generation_ != count_forks()) leave_to_parent();
}

std::unique_ptr<IoRings::Ring> IoRings::take() {
  {
    const std::lock_guard<std::mutex> g(mu_);
    if (generation_ != count_forks()) leave_to_parent();
    generation_ = count_forks();
    if (none_) return nullptr;
    if (!idle_.empty()) {
      std::unique_ptr<Ring> r = std::move(idle_.back());
      idle_.pop_back();
      return r;
    }
  }
  std::unique_ptr<Ring> r(new (std::nothrow) Ring);
  if (r && r->ready) return r;
  const std::lock_guard<std::mutex> g(mu_);
  none_ = true;
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
  const size_t started = r->run(fd, ios, n, bytes);
  if (started == n) {
    give(std::move(r));
  } else {
    const std::lock_guard<std::mutex> g(mu_);
    none_ = true;
  }
  return started != 0;
}

}  // namespace vexfs::host

#else

namespace vexfs::host {

struct IoRings::Ring {};
IoRings::IoRings() : generation_(0) {}
IoRings::~IoRings() = default;
bool IoRings::transfer(int, const vx_io *, size_t, ssize_t *) { return false; }

}  // namespace vexfs::host
#endif
