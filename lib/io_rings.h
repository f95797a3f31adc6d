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
  // Transfers ios[0..n), n <= depth, each shorter than 4 GiB, in any order. bytes[i]: what came of ios[i]; where that is less
  // than was asked for, or a negative errno (which may be the ring's own trouble), the caller does the rest by himself. False:
  // nothing was started, because there is no io_uring here.
  bool transfer(int fd, const vx_io *ios, size_t n, ssize_t *bytes);

 private:
  struct Ring;
  std::unique_ptr<Ring> take();
  void give(std::unique_ptr<Ring> r);
  void leave_to_parent();

  std::mutex mu_;
  std::vector<std::unique_ptr<Ring>> idle_;
  unsigned generation_;  // forks before the idle ones were made: a child has no part in them
  bool none_ = false;    // one could not be made, or refused to work: not tried again
};

}  // namespace vexfs::host
