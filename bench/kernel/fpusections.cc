// SPDX-License-Identifier: MIT
// fpusections NAME COMMAND...: how long the FPU sections of vexfs.ko are while COMMAND runs, whoever's they are. For a guest with
// one processor whose clock counts executed instructions, where bench/vm/sections has set up the two events of them.
//
// The events are kprobes on vx_fpu_begin() and vx_fpu_end(), which no other user of the FPU calls, and tracepoints of
// interrupts: a section into which one fell is counted apart. What is read is the ring buffer itself, as text would take longer
// than the command. Prints a line: NAME, sections, those interrupted, then the least, median, 99 %, 99.9 % and worst length of
// the others, those longer than 100,000, and the worst of the interrupted.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace vexfs::bench {
namespace {

const std::string tracing = "/sys/kernel/tracing/";
constexpr uint64_t too_long = 100000;

uint64_t number_in(const std::string &path, const std::string &label) {
  std::ifstream file(tracing + path);
  std::string word;
  uint64_t value = 0;
  while (file >> word)
    if (word == label && file >> value) return value;
  throw std::runtime_error(tracing + path + " has no " + label);
}

void write_to(const std::string &path, const char *text) {
  std::ofstream file(tracing + path);
  file << text << std::flush;
  if (!file) throw std::runtime_error(tracing + path + ": cannot be written");
}

template <class T>
T load(const uint8_t *p) {
  T v;
  memcpy(&v, p, sizeof v);
  return v;
}

class Lengths {
 public:
  Lengths()
      : begin_(number_in("events/vexfs/fpu_begin/format", "ID:")),
        end_(number_in("events/vexfs/fpu_end/format", "ID:")) {}

  // One page of a ring buffer (Documentation/trace/ring-buffer-design.rst): a time, the length of what follows, and entries of
  // a word each with their kind and the time since the entry before, and their data.
  void page(const uint8_t *p, size_t n) {
    constexpr uint32_t padding = 29, more_time = 30, time_stamp = 31;
    uint64_t now = load<uint64_t>(p);
    const uint64_t commit = load<uint64_t>(p + 8);
    if (commit >> 31 & 1) throw std::runtime_error("events were lost: the trace buffer is too small");
    const size_t end = 16 + (commit & 0xfffff);
    if (end > n) throw std::runtime_error("a page of the trace buffer is cut off");
    for (size_t at = 16; at + 4 <= end;) {
      const auto head = load<uint32_t>(p + at);
      const uint32_t kind = head & 31, delta = head >> 5;
      at += 4;
      if (kind == padding && delta == 0) break;
      const uint64_t word = kind == 0 || kind >= padding ? load<uint32_t>(p + at) : 0;
      if (kind == time_stamp) {
        now = word << 27 | delta;
        at += 4;
        continue;
      }
      now += delta;
      if (kind == more_time) {
        now += word << 27;
        at += 4;
      } else if (kind == padding) {
        at += word;
      } else {
        event(p + at + (kind ? 0 : 4), now);
        at += kind ? kind * size_t{4} : word;
      }
    }
  }

  void print(const char *name) {
    std::sort(lengths_.begin(), lengths_.end());
    const auto at = [&](double share) {
      if (lengths_.empty()) return uint64_t{0};
      return lengths_[static_cast<size_t>(share * static_cast<double>(lengths_.size() - 1))];
    };
    const auto longer = lengths_.end() - std::upper_bound(lengths_.begin(), lengths_.end(), too_long);
    printf("sections %s %zu %zu", name, lengths_.size(), interrupted_);
    for (const uint64_t v :
         {at(0), at(0.5), at(0.99), at(0.999), at(1), static_cast<uint64_t>(longer), worst_interrupted_})
      printf(" %llu", static_cast<unsigned long long>(v));
    printf("\n");
  }

 private:
  void event(const uint8_t *data, uint64_t now) {
    const uint64_t type = load<uint16_t>(data);
    const auto pid = load<int32_t>(data + 4);
    if (type == begin_) {
      // One that is open still was interrupted before it had begun, by another task.
      open_ = true;
      clean_ = true;
      since_ = now;
      pid_ = pid;
    } else if (type != end_) {
      clean_ = false;
    } else if (open_ && pid == pid_) {
      open_ = false;
      if (clean_) {
        lengths_.push_back(now - since_);
      } else {
        interrupted_++;
        worst_interrupted_ = std::max(worst_interrupted_, now - since_);
      }
    }
  }

  uint64_t begin_, end_;
  bool open_ = false, clean_ = false;
  uint64_t since_ = 0;
  int32_t pid_ = 0;
  std::vector<uint64_t> lengths_;
  size_t interrupted_ = 0;
  uint64_t worst_interrupted_ = 0;
};

void run(char **command) {
  const pid_t child = fork();
  if (child == 0) {
    execvp(command[0], command);
    _exit(127);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
    throw std::runtime_error(std::string(command[0]) + " failed");
}

void drain(Lengths &lengths) {
  const int fd = open((tracing + "per_cpu/cpu0/trace_pipe_raw").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) throw std::runtime_error("trace_pipe_raw cannot be opened");
  std::array<uint8_t, 4096> page;
  ssize_t n;
  while ((n = read(fd, page.data(), page.size())) > 0) lengths.page(page.data(), static_cast<size_t>(n));
  const int err = n < 0 ? errno : 0;
  close(fd);
  if (err && err != EAGAIN) throw std::runtime_error(std::string("trace_pipe_raw: ") + strerror(err));
}

int measure(const char *name, char **command) {
  Lengths lengths;
  write_to("trace", "\n");  // forgets what was there
  write_to("tracing_on", "1");
  run(command);
  write_to("tracing_on", "0");
  if (number_in("per_cpu/cpu0/stats", "overrun:"))
    throw std::runtime_error("events were lost: the trace buffer is too small");
  drain(lengths);
  lengths.print(name);
  return 0;
}

}  // namespace
}  // namespace vexfs::bench

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: fpusections NAME COMMAND...\n");
    return 2;
  }
  try {
    return vexfs::bench::measure(argv[1], argv + 2);
  } catch (const std::exception &e) {
    fprintf(stderr, "fpusections: %s\n", e.what());
    return 1;
  }
}
