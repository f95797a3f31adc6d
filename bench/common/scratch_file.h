// SPDX-License-Identifier: MIT
// Files of a benchmark that are to go with it, also when it is interrupted.
#pragma once
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>

namespace vexfs::bench {

// Holds the name: the file is deleted with it, or when SIGINT, SIGTERM or SIGHUP comes.
class ScratchFile {
 public:
  explicit ScratchFile(const std::string &path) : path_(path), kept_(strdup(path.c_str())) {
    for (const int s : {SIGINT, SIGTERM, SIGHUP}) signal(s, interrupted);
    for (auto &n : names()) {
      char *none = nullptr;
      if (kept_ && n.compare_exchange_strong(none, kept_)) break;
    }
  }
  ~ScratchFile() {
    for (auto &n : names()) {
      char *mine = kept_;
      if (mine && n.compare_exchange_strong(mine, nullptr)) break;
    }
    ::unlink(path_.c_str());
    free(kept_);
  }
  ScratchFile(const ScratchFile &) = delete;
  ScratchFile &operator=(const ScratchFile &) = delete;
  const std::string &path() const { return path_; }

 private:
  static constexpr int names_max = 64;  // at a time; more are deleted by their destructors alone
  static std::atomic<char *> (&names())[names_max] {
    static std::atomic<char *> all[names_max];
    return all;
  }
  static void interrupted(int sig) {  // only what is safe in a handler
    for (auto &n : names())
      if (const char *path = n.load()) ::unlink(path);
    _exit(128 + sig);
  }

  std::string path_;
  char *kept_;
};

}  // namespace vexfs::bench
