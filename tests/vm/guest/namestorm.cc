// SPDX-License-Identifier: MIT
// namestorm DIR [--threads N] [--ops N] [--seed N]: threads make, link, rename, exchange, remove and list names, each in
// a directory of its own that is checked against a model, and all of them in one that they share, where every outcome
// that POSIX allows is accepted but each file must keep the contents it was made with.
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <map>
#include <set>
#include <thread>
#include <vector>

#include "check.h"

namespace {

bool one_of(int e, std::initializer_list<int> codes) {
  for (int c : codes)
    if (e == c) return true;
  return false;
}

// A call on the shared directory: success or one of the errors that a race explains.
#define RACE(call, ...)                                                                   \
  do {                                                                                    \
    if ((call) != 0 && !one_of(errno, {__VA_ARGS__})) CHECK(!"unexpected errno: " #call); \
  } while (0)

class Worker {
 public:
  Worker(std::string root, int id, unsigned long long seed)
      : root_(std::move(root)), id_(id), random_(seed + static_cast<unsigned>(id) * 7919) {
    own_ = root_ + "/own" + std::to_string(id);
    CHECK(mkdir(own_.c_str(), 0755) == 0);
  }

  void run(int ops) {
    for (int i = 0; i < ops; i++) {
      if (random_.below(2))
        private_step();
      else
        shared_step();
      if (i % 500 == 499) verify();
    }
    verify();
  }

  void clean() {
    for (const auto &[name, text] : files_) CHECK(unlink((own_ + "/" + name).c_str()) == 0);
    CHECK(rmdir(own_.c_str()) == 0);
  }

 private:
  std::string name() { return "f" + std::to_string(random_.below(150)); }
  std::string path(const std::string &n) const { return own_ + "/" + n; }

  static void put(const std::string &p, const std::string &text, int *err) {
    int fd = open(p.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (fd < 0) {
      *err = errno;
      return;
    }
    CHECK(write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    CHECK(close(fd) == 0);
    *err = 0;
  }
  static std::string get(const std::string &p) {
    char buf[9000];
    int fd = open(p.c_str(), O_RDONLY);
    CHECK(fd >= 0);
    ssize_t n = read(fd, buf, sizeof buf);
    CHECK(n >= 0);
    close(fd);
    return std::string(buf, static_cast<size_t>(n));
  }

  // Text whose length varies, so that some live in the inode and some in blocks.
  std::string text_for(const std::string &n) {
    std::string t = n + "#" + std::to_string(id_) + "#" + std::to_string(random_.next());
    while (random_.below(3) && t.size() < 4000) t += t;
    return t;
  }

  void private_step() {
    std::string a = name(), b = name();
    bool has_a = files_.count(a), has_b = files_.count(b);
    int err;
    switch (random_.below(6)) {
      case 0:
      case 1: {
        std::string text = text_for(a);
        put(path(a), text, &err);
        CHECK_EQ(err, has_a ? EEXIST : 0);
        if (!has_a) files_[a] = text;
        break;
      }
      case 2: {
        int r = unlink(path(a).c_str());
        CHECK_EQ(r == 0, has_a);
        files_.erase(a);
        break;
      }
      case 3: {
        int r = rename(path(a).c_str(), path(b).c_str());
        CHECK_EQ(r == 0, has_a);
        // two names of one file: rename does nothing, and the model cannot tell which are; so none are made here
        if (has_a && a != b) {
          files_[b] = files_[a];
          files_.erase(a);
        }
        break;
      }
      case 4: {
        long r = syscall(SYS_renameat2, AT_FDCWD, path(a).c_str(), AT_FDCWD, path(b).c_str(), RENAME_EXCHANGE);
        CHECK_EQ(r == 0, has_a && has_b);
        if (r == 0) std::swap(files_[a], files_[b]);
        break;
      }
      default:
        if (has_a) CHECK(get(path(a)) == files_[a]);
        break;
    }
  }

  void shared_step() {
    std::string a = root_ + "/shared/" + name(), b = root_ + "/shared/" + name();
    int err = 0;
    switch (random_.below(8)) {
      case 0:
      case 1:
        put(a, "shared", &err);
        CHECK(one_of(err, {0, EEXIST, EISDIR}));
        break;
      case 2:
        RACE(unlink(a.c_str()), ENOENT, EISDIR);
        break;
      case 3:
        RACE(rename(a.c_str(), b.c_str()), ENOENT, EISDIR, ENOTDIR, ENOTEMPTY, EEXIST);
        break;
      case 4:
        RACE(link(a.c_str(), b.c_str()), ENOENT, EEXIST, EPERM);
        break;
      case 5:
        RACE(mkdir((a + "d").c_str(), 0755), EEXIST);
        RACE(rmdir((b + "d").c_str()), ENOENT, ENOTEMPTY, ENOTDIR);
        break;
      case 6: {
        int fd = open(a.c_str(), O_RDONLY);
        if (fd < 0) {
          CHECK(one_of(errno, {ENOENT}));
          break;
        }
        char buf[16];
        ssize_t n = read(fd, buf, sizeof buf);
        CHECK(n == 0 || (n == 6 && !memcmp(buf, "shared", 6)));  // 0: made, not written yet
        close(fd);
        break;
      }
      default: {
        DIR *d = opendir((root_ + "/shared").c_str());
        CHECK(d);
        std::set<std::string> seen;  // a name that is removed and made again meanwhile may come twice
        errno = 0;
        while (dirent *e = readdir(d)) seen.insert(e->d_name);
        CHECK(errno == 0);
        CHECK(seen.count(".") && seen.count(".."));
        closedir(d);
        break;
      }
    }
  }

  void verify() {
    std::set<std::string> seen;
    DIR *d = opendir(own_.c_str());
    CHECK(d);
    while (dirent *e = readdir(d))
      if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) CHECK(seen.insert(e->d_name).second);
    closedir(d);
    CHECK_EQ(seen.size(), files_.size());
    for (const auto &[n, text] : files_) {
      CHECK(seen.count(n));
      CHECK(get(path(n)) == text);
    }
  }

  std::string root_, own_;
  int id_;
  Random random_;
  std::map<std::string, std::string> files_;
};

}  // namespace

int main(int argc, char **argv) {
  CHECK(argc >= 2);
  std::string root = argv[1];
  int threads = 4, ops = 2000;
  unsigned long long seed = 1;
  for (int i = 2; i + 1 < argc; i += 2) {
    std::string arg = argv[i];
    if (arg == "--threads")
      threads = atoi(argv[i + 1]);
    else if (arg == "--ops")
      ops = atoi(argv[i + 1]);
    else if (arg == "--seed")
      seed = strtoull(argv[i + 1], nullptr, 0);
    else
      CHECK(!"unknown argument");
  }
  printf("-- namestorm: %d threads of %d operations, seed %llu\n", threads, ops, seed);
  fflush(stdout);
  CHECK(mkdir((root + "/shared").c_str(), 0755) == 0);
  std::vector<Worker> workers;
  for (int i = 0; i < threads; i++) workers.emplace_back(root, i, seed);
  std::vector<std::thread> running;
  for (Worker &w : workers) running.emplace_back([&w, ops] { w.run(ops); });
  for (std::thread &t : running) t.join();
  for (Worker &w : workers) w.clean();
  DIR *d = opendir((root + "/shared").c_str());
  std::vector<std::string> left;
  while (dirent *e = readdir(d))
    if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) left.push_back(root + "/shared/" + e->d_name);
  closedir(d);
  for (const std::string &p : left) CHECK(remove(p.c_str()) == 0);
  CHECK(rmdir((root + "/shared").c_str()) == 0);
  return 0;
}
