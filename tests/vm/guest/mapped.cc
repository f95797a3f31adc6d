// SPDX-License-Identifier: MIT
// A file through a shared mapping, for scripts. Status 7: the access got SIGBUS.
//   mapped read FILE OFFSET LENGTH         the bytes, on standard output
//   mapped write FILE OFFSET LENGTH CHAR   fills them
//   mapped scribble FILE SECONDS           keeps changing bytes all over the file, and writes it out all the time
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <thread>

#include "check.h"

namespace {

struct Mapping {
  int fd;
  size_t size;
  char *at;
};

Mapping open_mapping(const char *path, bool writable) {
  Mapping m;
  m.fd = open(path, writable ? O_RDWR : O_RDONLY);
  CHECK(m.fd >= 0);
  struct stat st;
  CHECK(fstat(m.fd, &st) == 0);
  m.size = static_cast<size_t>(st.st_size);
  void *at = mmap(nullptr, m.size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, m.fd, 0);
  CHECK(at != MAP_FAILED);
  m.at = static_cast<char *>(at);
  return m;
}

void scribble(const Mapping &m, long seconds) {
  time_t end = time(nullptr) + seconds;
  bool done = false;
  std::thread writer([&] {
    while (!__atomic_load_n(&done, __ATOMIC_RELAXED)) CHECK(fdatasync(m.fd) == 0);
  });
  Random random(m.size);
  while (time(nullptr) < end)
    for (int i = 0; i < 4096; i++) m.at[random.below(m.size)] = static_cast<char>(random.next());
  __atomic_store_n(&done, true, __ATOMIC_RELAXED);
  writer.join();
}

}  // namespace

int main(int argc, char **argv) {
  CHECK(argc >= 4);
  std::string what = argv[1];
  signal(SIGBUS, [](int) { _exit(7); });
  Mapping m = open_mapping(argv[2], what != "read");
  if (what == "scribble") {
    scribble(m, atol(argv[3]));
    return 0;
  }
  CHECK(argc >= 5);
  size_t off = strtoull(argv[3], nullptr, 10), len = strtoull(argv[4], nullptr, 10);
  CHECK(off + len <= m.size);
  if (what == "read") {
    std::string bytes(m.at + off, len);  // not by write(2), which would say EFAULT instead
    CHECK(fwrite(bytes.data(), 1, len, stdout) == len && fflush(stdout) == 0);
    return 0;
  }
  CHECK(what == "write" && argc == 6);
  memset(m.at + off, argv[5][0], len);
  CHECK(msync(m.at, m.size, MS_SYNC) == 0);
  return 0;
}
