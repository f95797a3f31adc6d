// SPDX-License-Identifier: MIT
// What went wrong with a command, in words for the user, with the errno it came from.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>

namespace vexfs::client {

class Error : public std::runtime_error {
 public:
  // err: a positive errno, or 0 when no system call is to blame.
  Error(int err, const std::string &message) : std::runtime_error(message), err_(err) {}
  int err() const { return err_; }

 private:
  int err_;
};

// A command on many vectors that got as far as done().
class PartlyDone : public Error {
 public:
  PartlyDone(int err, uint64_t done, const std::string &message) : Error(err, message), done_(done) {}
  uint64_t done() const { return done_; }

 private:
  uint64_t done_;
};

// "PATH: what: reason": reason is strerror, or what the errno means for a VexFS command.
Error command_error(const std::string &path, const std::string &what, int err);

}  // namespace vexfs::client
