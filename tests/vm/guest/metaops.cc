// SPDX-License-Identifier: MIT
// metaops DIR [--files N] [--dirs N] [--bytes N]: what metadata operations cost. Prints nanoseconds per operation of
// create, stat, readdir, rename, link, unlink ..., one "name value" a line. In a guest whose time is instructions
// executed (qemu/run --icount) that is the CPU cost.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <functional>
#include <vector>

#include "check.h"

namespace {

double now() {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

class Bench {
 public:
  Bench(int files, int dirs) : files_(files), dirs_(dirs) {
    for (int i = 0; i < files; i++) {
      char text[64];
      snprintf(text, sizeof text, "d%d/file%d", i % dirs, i);
      names_.push_back(text);
      snprintf(text, sizeof text, "d%d/renamed%d", (i + 1) % dirs, i);
      others_.push_back(text);
    }
  }

  // A phase is every file once; its cost is divided by their number.
  void phase(const char *name, const std::function<void(int)> &op) {
    double begin = now();
    for (int i = 0; i < files_; i++) op(i);
    printf("%s %.0f\n", name, (now() - begin) / files_);
  }
  void whole(const char *name, const std::function<void()> &op) {
    double begin = now();
    op();
    printf("%s %.0f\n", name, (now() - begin) / files_);
  }

  void run(size_t bytes) {
    std::string data(bytes, 'x');
    for (int i = 0; i < dirs_; i++) CHECK(mkdir(("d" + std::to_string(i)).c_str(), 0755) == 0);
    phase("create", [&](int i) {
      int fd = open(names_[i].c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644);
      CHECK(fd >= 0);
      close(fd);
    });
    phase("stat", [&](int i) {
      struct stat st;
      CHECK(stat(names_[i].c_str(), &st) == 0);
    });
    phase("write", [&](int i) {
      int fd = open(names_[i].c_str(), O_WRONLY);
      CHECK(fd >= 0 && write(fd, data.data(), data.size()) == static_cast<ssize_t>(data.size()));
      close(fd);
    });
    whole("sync", [] { sync(); });
    whole("readdir", [&] {
      for (int i = 0; i < dirs_; i++) {
        DIR *d = opendir(("d" + std::to_string(i)).c_str());
        CHECK(d);
        while (readdir(d)) continue;
        closedir(d);
      }
    });
    phase("rename", [&](int i) { CHECK(rename(names_[i].c_str(), others_[i].c_str()) == 0); });
    phase("link", [&](int i) { CHECK(link(others_[i].c_str(), names_[i].c_str()) == 0); });
    phase("chmod", [&](int i) { CHECK(chmod(names_[i].c_str(), 0600) == 0); });
    phase("unlink_link", [&](int i) { CHECK(unlink(names_[i].c_str()) == 0); });
    phase("unlink", [&](int i) { CHECK(unlink(others_[i].c_str()) == 0); });
    whole("sync_after_unlink", [] { sync(); });
    for (int i = 0; i < dirs_; i++) CHECK(rmdir(("d" + std::to_string(i)).c_str()) == 0);
  }

 private:
  int files_, dirs_;
  std::vector<std::string> names_, others_;
};

}  // namespace

int main(int argc, char **argv) {
  CHECK(argc >= 2 && chdir(argv[1]) == 0);
  int files = 4000, dirs = 8;
  size_t bytes = 100;
  for (int i = 2; i + 1 < argc; i += 2) {
    std::string arg = argv[i];
    if (arg == "--files")
      files = atoi(argv[i + 1]);
    else if (arg == "--dirs")
      dirs = atoi(argv[i + 1]);
    else if (arg == "--bytes")
      bytes = strtoull(argv[i + 1], nullptr, 0);
    else
      CHECK(!"unknown argument");
  }
  Bench(files, dirs).run(bytes);
  return 0;
}
