// SPDX-License-Identifier: MIT
// What the tests of scrubs share: the SCRUB command call after call, and damage done to the device.
#pragma once
#include "vector_fixture.h"

namespace vexfs::vector::test {

struct ScrubTest : ::testing::Test {
  Mount m{Options{.size = 128 << 20}};
  vexfs_scrub totals{};  // what the calls of the last scrub() have read

  static vexfs_scrub asked(uint32_t flags, std::vector<vexfs_found> &some, uint64_t budget) {
    vexfs_scrub v{};
    v.size = sizeof v;
    v.flags = flags;
    v.budget = budget;
    v.capacity = static_cast<uint32_t>(some.size());
    v.found_size = sizeof some[0];
    v.found = reinterpret_cast<__u64>(some.data());
    return v;
  }
  // All of it, by calls that do little and may find `capacity` at once.
  std::vector<vexfs_found> scrub(uint32_t flags = 0, uint64_t budget = 200000, uint32_t capacity = 64) {
    std::vector<vexfs_found> all, some(capacity);
    vexfs_scrub v = asked(flags, some, budget);
    totals = {};
    for (int calls = 0; !v.done; calls++) {
      int e = m.ioctl(m.root(), VEXFS_IOCTL_SCRUB, &v);
      EXPECT_EQ(e, 0);
      EXPECT_LT(calls, 20000);
      if (e != 0 || calls == 20000) break;
      EXPECT_LE(v.count, capacity);
      all.insert(all.end(), some.begin(), some.begin() + v.count);
      totals.nodes += v.nodes;
      totals.data_bytes += v.data_bytes;
      totals.vector_bytes += v.vector_bytes;
    }
    return all;
  }
  void flip(uint64_t at) {
    uint8_t b;
    m.device().peek(at, &b, 1);
    b ^= 0x20;
    m.device().poke(at, &b, 1);
  }
};

}  // namespace vexfs::vector::test
