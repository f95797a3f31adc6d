// SPDX-License-Identifier: MIT
// fsck.vexfs: what the command line asks for, and exit bits as fsck(8) has them.
#pragma once
#include <stdexcept>
#include <string>

namespace vexfs::fsck {

enum Exit : int {
  exit_clean = 0,
  exit_corrected = 1,
  exit_errors_left = 4,
  exit_operational = 8,
  exit_usage = 16,
  exit_canceled = 32,
};

class Usage : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Options {
  std::string device;
  bool no_change = false;  // -n
  bool yes = false;        // -y
  bool preen = false;      // -p, -a: at boot; quick unless the filesystem says that it met damage
  bool force = false;      // -f: everything, whatever the state
  bool verbose = false;
  bool as_json = false;
  bool progress = false;  // -C
  bool check_data = false;
  bool help = false, version = false;
  bool repairs() const { return yes || preen; }
};

Options parse_options(int argc, char **argv);  // throws Usage
const char *usage_text();

}  // namespace vexfs::fsck
