// SPDX-License-Identifier: MIT
// The carrier of batches over io_uring: IORING_OP_URING_CMD with the ioctl's number and the address of its struct.
#include "pipe.h"

#ifdef VEXFS_HAVE_URING
#include <liburing.h>

#include <cerrno>
#include <cstring>

namespace vexfs::client {
namespace {

class RingCarrier : public Carrier {
 public:
  explicit RingCarrier(Target &t) : target_(t) {}
  ~RingCarrier() override {
    if (ready_) io_uring_queue_exit(&ring_);
  }
  bool open(unsigned depth) {
    ready_ = io_uring_queue_init(depth, &ring_, 0) == 0;
    return ready_;
  }

  void start(Batch *b) override {
    if (!works_) {
      finish_by_ioctl(b);
      return;
    }
    io_uring_sqe *sqe = io_uring_get_sqe(&ring_);
    if (!sqe) {  // cannot be: the ring is as deep as the pipe
      finish_by_ioctl(b);
      return;
    }
    io_uring_prep_rw(IORING_OP_URING_CMD, sqe, target_.fd(), nullptr, 0, 0);
    const uint64_t arg = reinterpret_cast<uintptr_t>(&b->command);
    sqe->cmd_op = static_cast<__u32>(VEXFS_IOCTL_BATCH_OPERATIONS);
    memcpy(sqe->cmd, &arg, sizeof arg);
    io_uring_sqe_set_data(sqe, b);
    if (io_uring_submit(&ring_) < 0) failed_to_submit_ = true;
    in_ring_++;
  }

  Batch *wait(int *err) override {
    if (!finished_.empty()) {
      auto [b, rc] = finished_.back();
      finished_.pop_back();
      *err = rc;
      return b;
    }
    if (failed_to_submit_) {
      io_uring_submit(&ring_);
      failed_to_submit_ = false;
    }
    io_uring_cqe *cqe = nullptr;
    int rc;
    while ((rc = io_uring_wait_cqe(&ring_, &cqe)) == -EINTR) {
    }
    if (rc != 0) std::terminate();  // the ring is broken while the kernel may still use the batches' memory
    auto *b = static_cast<Batch *>(io_uring_cqe_get_data(cqe));
    *err = cqe->res < 0 ? cqe->res : 0;
    io_uring_cqe_seen(&ring_, cqe);
    in_ring_--;
    // A kernel or file without this command refuses before anything is done: send it by ioctl, and all that follow.
    const bool unknown = *err == -EOPNOTSUPP || *err == -EINVAL || *err == -ENOTTY;
    if (unknown && !proven_ && b->command.done == 0) {
      *err = target_.command(VEXFS_IOCTL_BATCH_OPERATIONS, &b->command);
      if (*err == 0) works_ = false;
    } else {
      proven_ = true;
    }
    return b;
  }

  const char *name() const override { return works_ ? "io_uring" : "ioctl"; }

 private:
  void finish_by_ioctl(Batch *b) {
    finished_.emplace_back(b, target_.command(VEXFS_IOCTL_BATCH_OPERATIONS, &b->command));
  }

  Target &target_;
  io_uring ring_{};
  bool ready_ = false;
  bool works_ = true;
  bool proven_ = false;
  bool failed_to_submit_ = false;
  unsigned in_ring_ = 0;
  std::vector<std::pair<Batch *, int>> finished_;
};

}  // namespace

std::unique_ptr<Carrier> ring_carrier(Target &t, unsigned depth) {
  if (t.fd() < 0) return nullptr;
  auto r = std::make_unique<RingCarrier>(t);
  if (!r->open(depth)) return nullptr;
  return r;
}

}  // namespace vexfs::client

#else

namespace vexfs::client {
std::unique_ptr<Carrier> ring_carrier(Target &, unsigned) { return nullptr; }
}  // namespace vexfs::client

#endif
