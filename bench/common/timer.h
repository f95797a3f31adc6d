// SPDX-License-Identifier: MIT
// Time by the wall, or as the CPU time of all threads divided by their number, for a machine that others use too.
#pragma once
#include <ctime>

namespace vexfs::bench {

class Timer {
 public:
  explicit Timer(bool cpu) : cpu_(cpu), start_(now()) {}
  double seconds(unsigned threads) const { return (now() - start_) / (cpu_ ? threads : 1); }

 private:
  double now() const {
    timespec t;
    clock_gettime(cpu_ ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
  }
  bool cpu_;
  double start_;
};

// Seconds on the clock of latencies: the wall's, or the CPU time of the calling thread.
inline double latency_clock(bool cpu) {
  timespec t;
  clock_gettime(cpu ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

}  // namespace vexfs::bench
