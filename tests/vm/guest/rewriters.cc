// SPDX-License-Identifier: MIT
// rewriters FILE SECONDS: blocks of a file are written again and again while several threads write the file back at once,
// as a whole and in pieces, so that each finds blocks that another has just written. Afterwards everything is read.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>
#include <vector>

#include "check.h"

namespace {

constexpr size_t block = 4096, blocks = 3000;

void fill(uint64_t *p, uint64_t number, uint64_t version) {
  for (size_t i = 0; i < block / 8; i++) p[i] = number << 40 | version;
}

}  // namespace

int main(int argc, char **argv) {
  CHECK(argc == 3);
  int fd = open(argv[1], O_RDWR | O_CREAT, 0644);
  CHECK(fd >= 0);
  std::vector<uint64_t> version(blocks);
  uint64_t data[block / 8];
  for (size_t b = 0; b < blocks; b++) {
    fill(data, b, 0);
    CHECK(pwrite(fd, data, block, static_cast<off_t>(b * block)) == static_cast<ssize_t>(block));
  }
  CHECK(fsync(fd) == 0);
  auto *map = static_cast<uint64_t *>(mmap(nullptr, blocks * block, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  CHECK(map != MAP_FAILED);

  std::atomic<bool> stop{false};
  auto writer = [&](size_t which) {  // its own blocks: odd or even
    std::mt19937_64 rng(which);
    uint64_t mine[block / 8];
    while (!stop) {
      // Neighbours, so that one mapping serves several of them.
      size_t first = rng() % blocks;
      for (size_t b = first; b < blocks && b < first + 40; b++) {
        if (b % 2 != which) continue;
        fill(mine, b, ++version[b]);
        if (rng() % 4)
          CHECK(pwrite(fd, mine, block, static_cast<off_t>(b * block)) == static_cast<ssize_t>(block));
        else
          memcpy(map + b * (block / 8), mine, block);
      }
    }
  };
  auto flusher = [&](size_t which) {
    std::mt19937_64 rng(100 + which);
    while (!stop) {
      off_t at = which ? static_cast<off_t>(rng() % blocks * block) : 0;
      off_t length = which ? static_cast<off_t>(20 * block) : 0;
      CHECK(sync_file_range(
                fd, at, length,
                which == 1 ? SYNC_FILE_RANGE_WRITE
                           : SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) == 0);
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 2; i++) threads.emplace_back(writer, i);
  for (size_t i = 0; i < 3; i++) threads.emplace_back(flusher, i);
  std::this_thread::sleep_for(std::chrono::seconds(atoi(argv[2])));
  stop = true;
  for (auto &t : threads) t.join();
  CHECK(munmap(map, blocks * block) == 0);
  CHECK(fsync(fd) == 0);
  CHECK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
  for (size_t b = 0; b < blocks; b++) {
    uint64_t want[block / 8];
    fill(want, b, version[b]);
    CHECK(pread(fd, data, block, static_cast<off_t>(b * block)) == static_cast<ssize_t>(block));
    CHECK(memcmp(data, want, block) == 0);
  }
  return 0;
}
