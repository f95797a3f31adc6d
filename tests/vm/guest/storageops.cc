// SPDX-License-Identifier: MIT
// storageops DIR [--vectors]: what reading and writing files costs, by the patterns that fio is used for. Prints nanoseconds
// in which the processor was not idle (there is one: everything that the kernel does for it counts, waiting for the device
// does not) per operation, one "name value" a line; --vectors: durable batches of rows too, on a VexFS.
// storageops DIR --fill-log N: N syncs of 50 small files each, and then the power fails (DIR is on a VexFS).
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <functional>
#include <vector>

#include "check.h"
#include "vexfs.h"

namespace {

constexpr size_t big = 64 << 20, chunk = 128 << 10, page = 4096;
constexpr uint32_t dim = 128, batch = 1000, batches = 60;

double now() {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

// Of the one processor, waiting for the device included, to 10 ms.
double idle() {
  FILE *f = fopen("/proc/stat", "r");
  double ticks, waiting;
  CHECK(f && fscanf(f, "cpu %*s %*s %*s %lf %lf", &ticks, &waiting) == 2);
  fclose(f);
  return (ticks + waiting) * 1e9 / static_cast<double>(sysconf(_SC_CLK_TCK));
}

void measure(const char *name, size_t n, const std::function<void()> &op) {
  const double begin = now() - idle();
  op();
  printf("%s %.0f\n", name, (now() - idle() - begin) / static_cast<double>(n));
  fflush(stdout);
}

int open_file(const std::string &name, int flags) {
  const int fd = open(name.c_str(), flags, 0644);
  CHECK(fd >= 0);
  return fd;
}

void put(int fd, const void *bytes, size_t n) { CHECK(write(fd, bytes, n) == static_cast<ssize_t>(n)); }

void drop_caches() {
  sync();
  const int fd = open_file("/proc/sys/vm/drop_caches", O_WRONLY);
  put(fd, "3", 1);
  close(fd);
}

void files() {
  std::string data(chunk, '\0');
  Random random(1);
  for (char &c : data) c = static_cast<char>(random.next());
  measure("write_128k", big / chunk, [&] {
    const int fd = open_file("big", O_WRONLY | O_CREAT | O_TRUNC);
    for (size_t at = 0; at < big; at += chunk) put(fd, data.data(), chunk);
    CHECK(fsync(fd) == 0);
    close(fd);
  });
  drop_caches();
  const auto read_all = [&] {
    const int fd = open_file("big", O_RDONLY);
    for (size_t at = 0; at < big; at += chunk) CHECK(read(fd, data.data(), chunk) == static_cast<ssize_t>(chunk));
    close(fd);
  };
  measure("read_128k", big / chunk, read_all);
  measure("read_128k_cached", big / chunk, read_all);
  drop_caches();
  measure("read_4k_random", 1000, [&] {
    const int fd = open_file("big", O_RDONLY);
    for (int i = 0; i < 1000; i++)
      CHECK(pread(fd, data.data(), page, static_cast<off_t>(random.below(big / page) * page)) ==
            static_cast<ssize_t>(page));
    close(fd);
  });
  measure("overwrite_4k_random", 4000, [&] {
    const int fd = open_file("big", O_WRONLY);
    for (int i = 0; i < 4000; i++)
      CHECK(pwrite(fd, data.data(), page, static_cast<off_t>(random.below(big / page) * page)) ==
            static_cast<ssize_t>(page));
    CHECK(fsync(fd) == 0);
    close(fd);
  });
  measure("overwrite_4k_fsync", 500, [&] {
    const int fd = open_file("big", O_WRONLY);
    for (int i = 0; i < 500; i++) {
      CHECK(pwrite(fd, data.data(), page, static_cast<off_t>(random.below(big / page) * page)) ==
            static_cast<ssize_t>(page));
      CHECK(fsync(fd) == 0);
    }
    close(fd);
  });
  measure("create_unlink", 4000, [&] {
    for (int i = 0; i < 4000; i++) {
      close(open_file("storm" + std::to_string(i), O_WRONLY | O_CREAT | O_EXCL));
      if (i >= 1000) CHECK(unlink(("storm" + std::to_string(i - 1000)).c_str()) == 0);
    }
    for (int i = 3000; i < 4000; i++) CHECK(unlink(("storm" + std::to_string(i)).c_str()) == 0);
    sync();
  });
  CHECK(unlink("big") == 0);
  sync();
}

std::vector<float> rows_of(uint64_t n) {
  std::vector<float> rows(dim * batch);
  Random random(n);
  for (float &x : rows) x = static_cast<float>(random.below(1 << 20)) / 1024;
  return rows;
}

// A thousand rows' bytes at a time, synced: what durable batches are compared with.
void append() {
  const std::vector<float> rows = rows_of(1);
  const int fd = open_file("append", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND);
  measure("append_rows_fsync", batches, [&] {
    for (uint32_t n = 0; n < batches; n++) {
      put(fd, rows.data(), rows.size() * sizeof(float));
      CHECK(fsync(fd) == 0);
    }
  });
  close(fd);
  CHECK(unlink("append") == 0);
}

void vectors() {
  CHECK(mkdir("rows", 0755) == 0);
  const int dir = open_file("rows", O_RDONLY | O_DIRECTORY);
  vexfs_collection c{};
  c.size = sizeof c;
  c.dim = dim;
  c.element = VEXFS_F32;
  c.metric = VEXFS_L2;
  c.index = VEXFS_INDEX_FLAT;
  CHECK(ioctl(dir, VEXFS_IOCTL_COLLECTION_CREATE, &c) == 0);
  const std::vector<float> rows = rows_of(1);
  measure("durable_rows", batches, [&] {
    for (uint32_t n = 0; n < batches; n++) {
      vexfs_batch b{};
      b.size = sizeof b;
      b.flags = VEXFS_BATCH_F_DURABLE;
      b.op = VEXFS_BATCH_ADD;
      b.data = reinterpret_cast<__u64>(rows.data());
      b.count = batch;
      b.dim = dim;
      b.element = VEXFS_F32;
      CHECK(ioctl(dir, VEXFS_IOCTL_BATCH_OPERATIONS, &b) == 0);
    }
  });
  CHECK(ioctl(dir, VEXFS_IOCTL_COLLECTION_DROP, &c) == 0);
  close(dir);
  CHECK(rmdir("rows") == 0);
}

void fill_log(int syncs) {
  const int dir = open_file(".", O_RDONLY | O_DIRECTORY);
  const std::string data(200, 'x');
  for (int n = 0; n < syncs; n++) {
    int fd = -1;
    for (int i = 0; i < 50; i++) {
      if (fd >= 0) close(fd);
      fd = open_file("f" + std::to_string(n) + "." + std::to_string(i), O_WRONLY | O_CREAT);
      put(fd, data.data(), data.size());
    }
    CHECK(syncfs(fd) == 0);
    close(fd);
  }
  uint32_t how = 2;                                        // nothing more is written
  CHECK(ioctl(dir, _IOR('X', 125, uint32_t), &how) == 0);  // FS_IOC_SHUTDOWN of XFS, which VexFS knows
}

}  // namespace

int main(int argc, char **argv) {
  CHECK(argc >= 2 && chdir(argv[1]) == 0);
  const std::string what = argc > 2 ? argv[2] : "";
  if (what == "--fill-log") {
    CHECK(argc == 4);
    fill_log(atoi(argv[3]));
    return 0;
  }
  CHECK(what.empty() || what == "--vectors");
  files();
  append();
  if (!what.empty()) vectors();
  return 0;
}
