// SPDX-License-Identifier: MIT
// Several transfers of a file at once, by io_uring (man 7 io_uring): what a search wants from a device in one step takes it
// as long as the slowest of them, not as long as all.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "../kernel/core/platform.h"

namespace vexfs::host {

// Rings are made when they are wanted: as many as there are threads that transfer at the same time, and kept. Any thread.
class IoRings {
 public:
  IoRings();
  ~IoRings();
  IoRings(const IoRings &) = delete;
  IoRings &operator=(const IoRings &) = delete;

  static constexpr size_t depth = 64;
  // Transfers ios[0..n), n <= depth, each shorter than 4 GiB, in any order. bytes[i]: what came of ios[i], or a negative
  // errno; fewer bytes than asked for are no error, nor is -EAGAIN or -EINTR: the caller goes on from there. False: nothing
  // was started, because there is no io_uring here, or no memory.
  bool transfer(int fd, const vx_io *ios, size_t n, ssize_t *bytes);

 private:
  struct Ring;
  std::unique_ptr<Ring> take();
  std::unique_ptr<Ring> make();
  void give(std::unique_ptr<Ring> r);
  void leave_to_parent();

  std::mutex mu_;
  std::vector<std::unique_ptr<Ring>> idle_;
  pid_t owner_ = 0;  // rings do not outlive a fork: their memory is not the child's
  bool none_ = false;
};

}  // namespace vexfs::host
