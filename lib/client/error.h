// SPDX-License-Identifier: MIT
// What went wrong with a command, in words for the user, with the errno it came from.
#pragma once
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

// "PATH: what: reason": reason is strerror, or what the errno means for a VexFS command.
Error command_error(const std::string &path, const std::string &what, int err);

}  // namespace vexfs::client
