// SPDX-License-Identifier: MIT
// Load for a machine that is going to be killed: says what it begins and what has been acknowledged, a line each, and in
// the next machine checks that everything acknowledged is there. See tests/vm/crash_rounds.
//
//   ackload load DIR SEED         until it is killed; beside it two threads change files that nobody asks about
//   ackload verify DIR STATES     STATES has a line for each file: what may be found. Prints what was found
//
// Lines: "B w K G", "A w K G": file K has contents number G (0: none); "a K N": log K has N records; "v K G": the vector
// with id K is number G (0: none). In STATES the kind and K are followed by the numbers that are possible, of a log by the
// least and the greatest.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "vexfs.h"

namespace {

constexpr uint64_t files = 40, logs = 6, vectors = 200;
constexpr uint32_t dim = 16;
constexpr size_t record = 100;

// On the line before anything else happens.
void say(char what, char kind, uint64_t k, uint64_t g) {
  char text[64];
  int n = snprintf(text, sizeof text, "%c %c %llu %llu\n", what, kind, static_cast<unsigned long long>(k),
                   static_cast<unsigned long long>(g));
  CHECK(write(1, text, static_cast<size_t>(n)) == n);
  if (isatty(1)) CHECK(tcdrain(1) == 0);
}

std::string contents(uint64_t k, uint64_t g) {
  std::mt19937_64 rng(k * 1000003 + g);
  std::string s(1 + rng() % (g % 4 ? 9000 : 200000), '\0');
  for (char &c : s) c = static_cast<char>(rng());
  return s;
}

std::string log_record(uint64_t k, uint64_t n) {
  std::string s = std::to_string(k) + ":" + std::to_string(n) + " ";
  s.resize(record - 1, 'x');
  return s + "\n";
}

std::string read_all(const std::string &path, bool *there) {
  int fd = open(path.c_str(), O_RDONLY);
  *there = fd >= 0;
  if (fd < 0) {
    CHECK(errno == ENOENT);
    return {};
  }
  std::string s;
  char buf[65536];
  for (ssize_t n; (n = read(fd, buf, sizeof buf)) != 0;) {
    CHECK(n > 0);
    s.append(buf, static_cast<size_t>(n));
  }
  close(fd);
  return s;
}

class Load {
 public:
  Load(std::string dir, uint64_t seed) : dir_(std::move(dir)), rng_(seed) {
    dir_fd_ = open(dir_.c_str(), O_RDONLY | O_DIRECTORY);
    CHECK(dir_fd_ >= 0);
  }
  std::string file(uint64_t k) const { return dir_ + "/w" + std::to_string(k); }
  std::string log(uint64_t k) const { return dir_ + "/a" + std::to_string(k); }

  // A new file takes the place of the old one.
  void write_file(uint64_t k, uint64_t g) {
    say('B', 'w', k, g);
    const std::string data = contents(k, g), path = file(k), temporary = path + ".new";
    int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    CHECK(fd >= 0);
    CHECK(write(fd, data.data(), data.size()) == static_cast<ssize_t>(data.size()));
    CHECK(fsync(fd) == 0);
    close(fd);
    CHECK(rename(temporary.c_str(), path.c_str()) == 0);
    CHECK(fsync(dir_fd_) == 0);
    say('A', 'w', k, g);
  }
  void remove_file(uint64_t k) {
    if (access(file(k).c_str(), F_OK) != 0) return;
    say('B', 'w', k, 0);
    CHECK(unlink(file(k).c_str()) == 0);
    CHECK(fsync(dir_fd_) == 0);
    say('A', 'w', k, 0);
  }
  void append(uint64_t k) {
    int fd = open(log(k).c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    CHECK(fd >= 0);
    struct stat st;
    CHECK(fstat(fd, &st) == 0);
    uint64_t have = static_cast<uint64_t>(st.st_size) / record, more = 1 + rng_() % 20;
    say('B', 'a', k, have + more);
    for (uint64_t i = 0; i < more; i++) {
      const std::string r = log_record(k, have + i);
      CHECK(write(fd, r.data(), r.size()) == static_cast<ssize_t>(r.size()));
    }
    CHECK((rng_() % 2 ? fsync(fd) : fdatasync(fd)) == 0);
    if (have == 0) CHECK(fsync(dir_fd_) == 0);
    close(fd);
    say('A', 'a', k, have + more);
  }
  void vector(uint64_t k, uint64_t g) {
    say('B', 'v', k, g);
    float row[dim];
    fill(k, g, row);
    vexfs_embedding e = embedding(k, row);
    e.flags = VEXFS_VEC_DURABLE;
    if (ioctl(dir_fd_, VEXFS_IOCTL_ADD_EMBEDDING, &e) != 0) {
      CHECK(errno == EEXIST);
      CHECK(ioctl(dir_fd_, VEXFS_IOCTL_UPDATE_EMBEDDING, &e) == 0);
    }
    say('A', 'v', k, g);
  }
  // 0: there is none; ~0: none that it ever was.
  uint64_t find_vector(uint64_t k, const std::vector<uint64_t> &possible) {
    float row[dim], want[dim];
    vexfs_embedding e = embedding(k, row);
    if (ioctl(dir_fd_, VEXFS_IOCTL_GET_EMBEDDING, &e) != 0) {
      CHECK(errno == ENOENT);
      return 0;
    }
    for (uint64_t g : possible) {
      fill(k, g, want);
      if (g && memcmp(row, want, sizeof row) == 0) return g;
    }
    return ~uint64_t{0};
  }

  [[noreturn]] void run() {
    for (uint64_t serial = 1;; serial++) {
      uint64_t dice = rng_() % 100, g = (rng_() >> 20) + 1;
      if (dice < 40)
        write_file(rng_() % files, g);
      else if (dice < 50)
        remove_file(rng_() % files);
      else if (dice < 75)
        append(rng_() % logs);
      else
        vector(1 + rng_() % vectors, g);
    }
  }

 private:
  static vexfs_embedding embedding(uint64_t k, float *row) {
    vexfs_embedding e{};
    e.size = sizeof e;
    e.row.id = k;
    e.data = reinterpret_cast<__u64>(row);
    e.dim = dim;
    e.element = VEXFS_F32;
    return e;
  }
  static void fill(uint64_t k, uint64_t g, float *row) {
    std::mt19937_64 rng(k * 7919 + g);
    for (uint32_t i = 0; i < dim; i++) row[i] = static_cast<float>(rng() % 1000) / 8;
  }
  std::string dir_;
  std::mt19937_64 rng_;
  int dir_fd_;
};

// Files that come and go without a sync: commits have something to do.
void noise(const std::string &dir, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::string data(100000, 'n');
  for (;;) {
    const std::string path = dir + "/n" + std::to_string(seed % 2) + "." + std::to_string(rng() % 50);
    if (rng() % 3 == 0) {
      unlink(path.c_str());
      continue;
    }
    int fd = open(path.c_str(), O_WRONLY | O_CREAT, 0644);
    CHECK(fd >= 0);
    CHECK(pwrite(fd, data.data(), rng() % data.size(), static_cast<off_t>(rng() % 300000)) >= 0);
    if (rng() % 4 == 0) CHECK(ftruncate(fd, static_cast<off_t>(rng() % 200000)) == 0);
    close(fd);
  }
}

[[noreturn]] void wrong(const std::string &what) {
  fprintf(stderr, "FAILED: %s\n", what.c_str());
  exit(1);
}

void verify(Load &l, const std::string &states) {
  std::ifstream in(states);
  uint64_t checked = 0;
  for (std::string line; std::getline(in, line); checked++) {
    std::istringstream words(line);
    char kind;
    uint64_t k;
    std::vector<uint64_t> possible;
    words >> kind >> k;
    for (uint64_t g; words >> g;) possible.push_back(g);
    CHECK(!possible.empty());
    uint64_t found = ~uint64_t{0};
    bool there;
    if (kind == 'w') {
      const std::string data = read_all(l.file(k), &there);
      for (uint64_t g : possible)
        if (g ? there && data == contents(k, g) : !there) found = g;
    } else if (kind == 'a') {
      const std::string data = read_all(l.log(k), &there);
      uint64_t whole = data.size() / record;
      for (uint64_t n = 0; n < std::min(whole, possible[1]); n++)
        if (data.compare(n * record, record, log_record(k, n)) != 0)
          wrong("log " + line + ": record " + std::to_string(n));
      if (whole >= possible[0] && data.size() <= possible[1] * record) found = whole;
      // What was not acknowledged may be there in part: the next append begins at a whole record.
      if (there) CHECK(truncate(l.log(k).c_str(), static_cast<off_t>(whole * record)) == 0);
    } else {
      found = l.find_vector(k, possible);
      if (std::find(possible.begin(), possible.end(), found) == possible.end()) found = ~uint64_t{0};
    }
    if (found == ~uint64_t{0}) wrong("what is there is not what was acknowledged: " + line);
    say('S', kind, k, found);
  }
  sync();
  printf("verified %llu\n", static_cast<unsigned long long>(checked));
}

}  // namespace

int main(int argc, char **argv) {
  CHECK(argc == 4);
  const std::string what = argv[1], dir = argv[2];
  if (what == "verify") {
    Load l(dir, 0);
    verify(l, argv[3]);
    return 0;
  }
  uint64_t seed = strtoull(argv[3], nullptr, 0);
  std::thread(noise, dir, seed * 2).detach();
  std::thread(noise, dir, seed * 2 + 1).detach();
  Load(dir, seed).run();
}
