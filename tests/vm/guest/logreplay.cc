// SPDX-License-Identifier: MIT
// Replays what dm-log-writes has recorded.
//
//   logreplay LOG points MARK N         the places behind MARK, at most N spread over all of them, where the power may fail:
//                                       behind each flush and FUA write. The place of MARK itself comes first
//   logreplay LOG apply FROM TO DEVICE  writes what is between two places to the device
//   logreplay LOG tear POINT SEED DEVICE  writes a part of what was on its way when the power failed there, torn
//   logreplay LOG states POINT          what may be found there, for `ackload verify`
#include <iostream>

#include "write_log.h"

int main(int argc, char **argv) {
  CHECK(argc >= 4);
  const write_log::Log log(argv[1]);
  const std::string what = argv[2];
  const auto number = [&](int i) {
    CHECK(i < argc);
    return static_cast<size_t>(strtoull(argv[i], nullptr, 0));
  };
  if (what == "states") {
    log.states(number(3)).write(std::cout);
    return 0;
  }
  if (what == "points") {
    const size_t from = log.behind(argv[3]), most = number(4);
    const std::vector<size_t> all = log.points(from);
    printf("%zu\n", from);
    const size_t n = std::min(most, all.size());
    for (size_t i = 0; i < n; i++) printf("%zu\n", all[(i * 2 + 1) * all.size() / (2 * n)]);
    return 0;
  }
  const int fd = open(argv[argc - 1], O_WRONLY);
  CHECK(fd >= 0);
  const auto put = [fd](uint64_t off, const char *bytes, size_t n) {
    CHECK(pwrite(fd, bytes, n, static_cast<off_t>(off)) == static_cast<ssize_t>(n));
  };
  if (what == "apply") {
    CHECK(number(4) <= log.entries().size());
    log.apply(number(3), number(4), put);
  } else {
    CHECK(what == "tear");
    log.tear(number(3), number(4), put);
  }
  CHECK(fsync(fd) == 0);
  return 0;
}
