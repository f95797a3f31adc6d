// SPDX-License-Identifier: MIT
// bad_blocks DOOR FILE COPY BLOCKSIZE: reads FILE block by block and prints the numbers of those that cannot be read (EIO, or
// SIGBUS); the others must be what COPY has. DOOR: buffered, direct or mapped.
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

namespace {

sigjmp_buf no_page;

// False: there is no such page.
bool copy_mapped(const char *from, char *to, size_t n) {
  if (sigsetjmp(no_page, 1)) return false;
  memcpy(to, from, n);
  return true;
}

size_t size_of(int fd) {
  struct stat st;
  CHECK(fstat(fd, &st) == 0);
  return static_cast<size_t>(st.st_size);
}

}  // namespace

int main(int argc, char **argv) {
  CHECK(argc == 5);
  std::string door = argv[1];
  CHECK(door == "buffered" || door == "direct" || door == "mapped");
  int fd = open(argv[2], door == "direct" ? O_RDONLY | O_DIRECT : O_RDONLY), copy = open(argv[3], O_RDONLY);
  CHECK(fd >= 0 && copy >= 0);
  size_t bs = strtoull(argv[4], nullptr, 10), size = size_of(fd);
  CHECK_EQ(size, size_of(copy));
  char *map = static_cast<char *>(mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0));
  CHECK(map != MAP_FAILED);
  char *got, *want = static_cast<char *>(malloc(bs));
  CHECK(want && posix_memalign(reinterpret_cast<void **>(&got), 4096, bs) == 0);
  signal(SIGBUS, [](int) { siglongjmp(no_page, 1); });

  const char *space = "";
  for (size_t off = 0; off < size; off += bs) {
    size_t n = size - off < bs ? size - off : bs;
    if (door == "mapped") {
      errno = EIO;
      if (copy_mapped(map + off, got, n)) errno = 0;
    } else {
      errno = 0;
      ssize_t r = pread(fd, got, bs, static_cast<off_t>(off));
      CHECK(r == static_cast<ssize_t>(n) || (r == -1 && errno == EIO));
    }
    if (errno == EIO) {
      printf("%s%zu", space, off / bs);
      space = " ";
      continue;
    }
    CHECK(pread(copy, want, bs, static_cast<off_t>(off)) == static_cast<ssize_t>(n));
    if (memcmp(got, want, n) != 0) {
      fprintf(stderr, "FAILED: %s: block %zu of %s is not what it was\n", argv[1], off / bs, argv[2]);
      return 1;
    }
  }
  printf("\n");
  return 0;
}
