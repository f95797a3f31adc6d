// SPDX-License-Identifier: MIT
// Commands of <uapi/vexfs.h> through io_uring: so many on their way at a time, until all are done.
#pragma once
#include <liburing.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace vexfs::bench {

class Ring {
 public:
  explicit Ring(unsigned depth) : depth_(depth) {
    if (int err = io_uring_queue_init(depth, &ring_, 0))
      throw std::runtime_error(std::string("io_uring: ") + strerror(-err));
  }
  ~Ring() { io_uring_queue_exit(&ring_); }
  Ring(const Ring &) = delete;
  Ring &operator=(const Ring &) = delete;

  // done(i, result) for each argument, as they come.
  template <class Done>
  void run(int fd, uint32_t command, const std::vector<void *> &arguments, Done &&done) {
    size_t begun = 0, ended = 0;
    while (ended < arguments.size()) {
      for (; begun < arguments.size() && begun - ended < depth_; begun++) prepare(fd, command, arguments[begun], begun);
      check(io_uring_submit_and_wait(&ring_, 1));
      io_uring_cqe *cqe;
      unsigned head, seen = 0;
      io_uring_for_each_cqe(&ring_, head, cqe) {
        done(cqe->user_data, cqe->res);
        seen++;
      }
      io_uring_cq_advance(&ring_, seen);
      ended += seen;
    }
  }

 private:
  static void check(int n) {
    if (n < 0 && n != -EINTR) throw std::runtime_error(std::string("io_uring: ") + strerror(-n));
  }
  void prepare(int fd, uint32_t command, void *argument, uint64_t number) {
    io_uring_sqe *sqe = io_uring_get_sqe(&ring_);  // the ring is as deep as what is on its way
    io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, nullptr, 0, 0);
    sqe->cmd_op = command;
    memcpy(sqe->cmd, &argument, sizeof argument);
    sqe->user_data = number;
  }
  io_uring ring_{};
  unsigned depth_;
};

}  // namespace vexfs::bench
