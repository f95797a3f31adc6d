// SPDX-License-Identifier: MIT
// The filesystem against the model: random operations, commits, crashes, remounts. VX_SEED replays a run, VX_STEPS
// makes it longer.
#include <cstdlib>

#include "fs_driver.h"

namespace vexfs::model {
namespace {

uint64_t from_env(const char *name, uint64_t fallback) {
  const char *s = getenv(name);
  return s ? strtoull(s, nullptr, 0) : fallback;
}

struct Case {
  const char *name;
  uint32_t hash_bits;
  uint32_t block_size;
  uint64_t steps;
};

class FsModelRun : public ::testing::TestWithParam<Case> {};

TEST_P(FsModelRun, AgreesWithTheModel) {
  host::set_log_level(VX_LOG_ERR - 1);  // crashes are announced; that is not news here
  DriverOptions o;
  o.seed = from_env("VX_SEED", 0x5eed0001 + GetParam().hash_bits);
  o.fixture.hash_bits = GetParam().hash_bits;
  o.fixture.size = 512 << 20;
  printf("seed %llu\n", static_cast<unsigned long long>(o.seed));
  Driver d(o);
  d.run(from_env("VX_STEPS", GetParam().steps));
  host::set_log_level(VX_LOG_NOTICE);
}

INSTANTIATE_TEST_SUITE_P(All, FsModelRun,
                         ::testing::Values(Case{"hash56", 56, 4096, 60000}, Case{"hash3", 3, 4096, 40000}),
                         [](const auto &c) { return c.param.name; });

}  // namespace
}  // namespace vexfs::model
