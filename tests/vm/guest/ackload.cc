// SPDX-License-Identifier: MIT
// Load for a machine that is going to be killed, a device that is going to fail or a log of device writes: says what it
// begins and what has been acknowledged, a line each, and checks later that everything acknowledged is there.
//
//   ackload load DIR SEED [MARKED [SECONDS]]  until it is killed, or so long; beside it two threads change files that
//                                 nobody asks about. With the name of a dm-log-writes device, its log gets the lines as marks
//   ackload states | ever         makes of lines on standard input what may be found at their end, or was ever true
//   ackload verify DIR STATES     compares, prints what was found, and makes logs end where a record does
//   ackload damaged DIR STATES    compares what can be read: EIO and EUCLEAN are right answers, too
//
// The lines are in ackload.h.
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <iostream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "ackload.h"
#include "check.h"
#include "vexfs.h"

namespace {

using ackload::dim;
using ackload::record;

// dm-log-writes puts the text into its log behind everything that has reached the device for good.
class Marker {
 public:
  explicit Marker(std::string device) : device_(std::move(device)) {
    if (device_.empty()) return;
    control_ = open("/dev/mapper/control", O_RDWR);
    CHECK(control_ >= 0);
    CHECK(device_.size() < DM_NAME_LEN);
  }
  void mark(const std::string &text) {
    if (control_ < 0) return;
    std::string words = "mark ";
    for (char c : text) (c == ' ' ? words += '\\' : words) += c;  // one word to the target
    alignas(dm_ioctl) char call[1024] = {};
    auto *head = reinterpret_cast<dm_ioctl *>(call);
    head->version[0] = DM_VERSION_MAJOR;
    head->data_size = sizeof call;
    head->data_start = sizeof *head;
    memcpy(head->name, device_.c_str(), device_.size());
    auto *message = reinterpret_cast<dm_target_msg *>(call + head->data_start);
    CHECK(words.size() < sizeof call - sizeof *head - sizeof *message);
    memcpy(message->message, words.c_str(), words.size());
    CHECK(ioctl(control_, DM_TARGET_MSG, call) == 0);
  }

 private:
  std::string device_;
  int control_ = -1;
};

Marker *marker;

// On the line, and in the log, before anything else happens.
void say(char what, char kind, uint64_t k, uint64_t g) {
  char text[64];
  int n = snprintf(text, sizeof text, "%c %c %llu %llu\n", what, kind, static_cast<unsigned long long>(k),
                   static_cast<unsigned long long>(g));
  if (marker) marker->mark(std::string(text, static_cast<size_t>(n) - 1));
  CHECK(write(1, text, static_cast<size_t>(n)) == n);
  if (isatty(1)) CHECK(tcdrain(1) == 0);
}

vexfs_embedding embedding(uint64_t id, float (&row)[dim]) {
  vexfs_embedding e{};
  e.size = sizeof e;
  e.row.id = id;
  e.data = reinterpret_cast<__u64>(row);
  e.dim = dim;
  e.element = VEXFS_F32;
  return e;
}

struct Refused {};  // thrown for what cannot be read because of damage

// The call has failed: there is no such thing, or it is damaged.
void expect_none() {
  if (errno == EIO || errno == EUCLEAN) throw Refused();
  CHECK(errno == ENOENT);
}

// The load's directory in a mounted filesystem, or in a snapshot of it.
class Mounted : public ackload::Door {
 public:
  explicit Mounted(const std::string &dir) : dir_(dir), fd_(open(dir.c_str(), O_RDONLY | O_DIRECTORY)) {
    if (fd_ < 0) expect_none();
  }
  ~Mounted() override {
    if (fd_ >= 0) close(fd_);
  }
  bool there() const { return fd_ >= 0; }
  bool file(const std::string &name, std::string *bytes) override {
    int fd = openat(fd_, name.c_str(), O_RDONLY);
    bytes->clear();
    if (fd < 0) {
      expect_none();
      return false;
    }
    char buf[65536];
    ssize_t n;
    while ((n = read(fd, buf, sizeof buf)) > 0) bytes->append(buf, static_cast<size_t>(n));
    const int error = errno;
    close(fd);
    errno = error;
    if (n < 0) expect_none();
    CHECK(n == 0);
    return true;
  }
  bool row(uint64_t id, float (&row)[dim]) override {
    vexfs_embedding e = embedding(id, row);
    if (ioctl(fd_, VEXFS_IOCTL_GET_EMBEDDING, &e) == 0) return true;
    expect_none();
    return false;
  }
  std::unique_ptr<Door> snapshot(const std::string &name) override {
    auto then = std::make_unique<Mounted>(dir_ + "/../.vexfs/snapshots/" + name + "/d");
    if (!then->there()) return nullptr;
    return then;
  }

 private:
  std::string dir_;
  int fd_;
};

class Load {
 public:
  Load(std::string dir, uint64_t seed) : dir_(std::move(dir)), rng_(seed) {
    dir_fd_ = open(dir_.c_str(), O_RDONLY | O_DIRECTORY);
    CHECK(dir_fd_ >= 0);
  }

  // A new file takes the place of the old one.
  void write_file(uint64_t k, uint64_t g) {
    say('B', 'w', k, g);
    const std::string path = path_of('w', k), temporary = path + ".new";
    int fd = filled(temporary, ackload::contents(k, g));
    CHECK(fsync(fd) == 0);
    close(fd);
    CHECK(rename(temporary.c_str(), path.c_str()) == 0);
    CHECK(fsync(dir_fd_) == 0);
    say('A', 'w', k, g);
  }
  void remove_file(uint64_t k) {
    const std::string path = path_of('w', k);
    if (access(path.c_str(), F_OK) != 0) return;
    say('B', 'w', k, 0);
    CHECK(unlink(path.c_str()) == 0);
    CHECK(fsync(dir_fd_) == 0);
    say('A', 'w', k, 0);
  }
  void append(uint64_t k) {
    int fd = open(path_of('a', k).c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    CHECK(fd >= 0);
    struct stat st;
    CHECK(fstat(fd, &st) == 0);
    uint64_t have = static_cast<uint64_t>(st.st_size) / record, more = 1 + rng_() % 20;
    say('B', 'a', k, have + more);
    for (uint64_t i = 0; i < more; i++) {
      const std::string r = ackload::log_record(k, have + i);
      CHECK(write(fd, r.data(), r.size()) == static_cast<ssize_t>(r.size()));
    }
    CHECK((rng_() % 2 ? fsync(fd) : fdatasync(fd)) == 0);
    if (have == 0) CHECK(fsync(dir_fd_) == 0);
    close(fd);
    say('A', 'a', k, have + more);
  }
  void vector(uint64_t k, uint64_t g) {
    say('B', 'v', k, g);
    put_row(k, g, VEXFS_VEC_DURABLE);
    say('A', 'v', k, g);
  }
  // In place of the one of that name. What it is asked for later is not synced before.
  void snapshot(uint64_t k, uint64_t g) {
    vexfs_snapshot s{};
    s.size = sizeof s;
    const std::string name = ackload::file_name('p', k);
    memcpy(s.name, name.c_str(), name.size());
    say('B', 'p', k, 0);
    // Whoever has looked at it has mounted it; being asked to delete it ends that.
    for (int tries = 0; ioctl(dir_fd_, VEXFS_IOCTL_SNAPSHOT_DELETE, &s) != 0 && errno != ENOENT; tries++) {
      CHECK(errno == EBUSY && tries < 500);
      usleep(20000);
    }
    say('A', 'p', k, 0);
    close(filled(path_of('p', k), ackload::contents(ackload::kept_id + k, g)));
    put_row(ackload::kept_id + k, g, 0);
    say('B', 'p', k, g);
    CHECK(ioctl(dir_fd_, VEXFS_IOCTL_SNAPSHOT_CREATE, &s) == 0);
    say('A', 'p', k, g);
  }

  void run(uint64_t seconds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    while (seconds == 0 || std::chrono::steady_clock::now() < end) {
      uint64_t dice = rng_() % 100, g = (rng_() >> 20) + 1;
      if (dice < 40)
        write_file(rng_() % ackload::files, g);
      else if (dice < 50)
        remove_file(rng_() % ackload::files);
      else if (dice < 75)
        append(rng_() % ackload::logs);
      else if (dice < 98)
        vector(1 + rng_() % ackload::vectors, g);
      else
        snapshot(rng_() % ackload::snapshots, g);
    }
  }

 private:
  std::string path_of(char kind, uint64_t k) const { return dir_ + "/" + ackload::file_name(kind, k); }
  static int filled(const std::string &path, const std::string &data) {
    int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    CHECK(fd >= 0);
    CHECK(write(fd, data.data(), data.size()) == static_cast<ssize_t>(data.size()));
    return fd;
  }
  void put_row(uint64_t id, uint64_t g, uint32_t flags) {
    float row[dim];
    ackload::fill(id, g, row);
    vexfs_embedding e = embedding(id, row);
    e.flags = flags;
    if (ioctl(dir_fd_, VEXFS_IOCTL_ADD_EMBEDDING, &e) == 0) return;
    CHECK(errno == EEXIST);
    CHECK(ioctl(dir_fd_, VEXFS_IOCTL_UPDATE_EMBEDDING, &e) == 0);
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

void verify(const std::string &dir, const std::string &path, bool damaged) {
  ackload::States states;
  std::ifstream in(path);
  CHECK(in.good() && states.read(in));
  Mounted door(dir);
  CHECK(door.there());
  ackload::Verifier verifier(door);
  size_t refused = 0;
  for (auto &[key, possible] : states.possible()) {
    uint64_t found = 0;
    try {
      found = verifier.find(key, possible);
    } catch (Refused) {
      CHECK(damaged);
      refused++;
      continue;
    }
    if (found == ackload::none_of_them) {
      fprintf(stderr, "FAILED: what is there is not what was acknowledged: %c %llu\n", key.first,
              static_cast<unsigned long long>(key.second));
      exit(1);
    }
    if (damaged) continue;
    // What was not acknowledged may be there in part: the next append begins at a whole record.
    const std::string log = dir + "/" + ackload::file_name('a', key.second);
    if (key.first == 'a' && access(log.c_str(), F_OK) == 0 && access(log.c_str(), W_OK) == 0)
      CHECK(truncate(log.c_str(), static_cast<off_t>(found * record)) == 0);
    say('S', key.first, key.second, found);
  }
  sync();
  printf("verified %zu, refused %zu\n", states.possible().size() - refused, refused);
}

}  // namespace

int main(int argc, char **argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if ((what == "states" || what == "ever") && argc == 2) {
    ackload::States states(what == "ever");
    for (std::string line; std::getline(std::cin, line);) states.line(line);
    states.write(std::cout);
  } else if ((what == "verify" || what == "damaged") && argc == 4) {
    verify(argv[2], argv[3], what == "damaged");
  } else {
    CHECK(what == "load" && argc >= 4 && argc <= 6);
    const std::string dir = argv[2];
    uint64_t seed = strtoull(argv[3], nullptr, 0);
    Marker log(argc > 4 ? argv[4] : "");
    marker = &log;
    std::thread(noise, dir, seed * 2).detach();
    std::thread(noise, dir, seed * 2 + 1).detach();
    Load(dir, seed).run(argc > 5 ? strtoull(argv[5], nullptr, 0) : 0);
    fflush(stdout);
    _exit(0);  // the other threads go on for ever
  }
}
