// SPDX-License-Identifier: MIT
// A small file, kept in its inode, outgrows it again and again, while somebody reads its first bytes from the device:
// outgrow FILE SECONDS. A read gives the bytes or, after a truncate, none; it never fails.
#include <atomic>
#include <chrono>
#include <thread>

#include <fcntl.h>
#include <unistd.h>

#include "check.h"

namespace {

constexpr int kSmall = 100;
constexpr off_t kFar = 100000;

std::atomic<bool> stop{false};

void write_it(int fd) {
  char buf[kSmall];
  memset(buf, 'v', sizeof buf);
  while (!stop) {
    CHECK(ftruncate(fd, 0) == 0);
    CHECK(pwrite(fd, buf, sizeof buf, 0) == kSmall);
    CHECK(fsync(fd) == 0);
    CHECK(pwrite(fd, "end", 3, kFar) == 3);
  }
}

long read_it(int fd, std::chrono::steady_clock::time_point until) {
  long seen = 0;
  while (std::chrono::steady_clock::now() < until) {
    char buf[kSmall];
    CHECK(posix_fadvise(fd, 0, 4096, POSIX_FADV_DONTNEED) == 0);
    ssize_t n = pread(fd, buf, sizeof buf, 0);
    CHECK(n == 0 || n == kSmall);
    for (ssize_t i = 0; i < n; i++) CHECK(buf[i] == 'v' || buf[i] == 0);  // a truncate may have zeroed the page
    seen += n > 0;
  }
  return seen;
}

}  // namespace

int main(int argc, char **argv) {
  CHECK(argc == 3);
  int fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0644);
  CHECK(fd >= 0);
  std::thread writer(write_it, fd);
  long seen = read_it(fd, std::chrono::steady_clock::now() + std::chrono::seconds(atoi(argv[2])));
  stop = true;
  writer.join();
  CHECK(seen > 0);
  printf("%ld reads\n", seen);
  return 0;
}
