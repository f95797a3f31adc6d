// SPDX-License-Identifier: MIT
// Model oracle of vectors among files: random sequences of operations against plain maps. Contents of files and rows must
// agree at every look, exact searches bit for bit, index searches by recall, and every acknowledged insert is found by
// the next search through the index; over remounts, and over crashes that take the state back to the last commit.
//
// VEXFS_SEED chooses the seed (printed), VEXFS_MODEL_OPS the number of operations.
#include <cstdlib>
#include <iostream>

#include "vector_model.h"

namespace vexfs::vector::test {
namespace {

uint64_t env(const char *name, uint64_t otherwise) {
  const char *v = getenv(name);
  return v ? strtoull(v, nullptr, 0) : otherwise;
}

// Together 100,000 in a run; the sanitizers, which cost many times as much, take fewer.
#if defined(__SANITIZE_ADDRESS__)
constexpr uint64_t operations_wanted = 4000;
#else
constexpr uint64_t operations_wanted = 25000;
#endif

void run_model(uint64_t salt, Options o) {
  host::set_log_level(VX_LOG_ERR - 1);
  uint64_t seed = env("VEXFS_SEED", 20261121) + salt;
  auto ops = static_cast<uint32_t>(env("VEXFS_MODEL_OPS", operations_wanted));
  std::cout << "seed " << seed - salt << ", " << ops << " operations\n";
  Model model(seed, o);
  model.run(ops);
  std::cout << model.operations() << " operations:" << model.summary() << "\n";
  EXPECT_EQ(model.operations(), ops);
  if (ops >= 3000) {
    EXPECT_GE(model.recall(), 0.95);
    EXPECT_GT(model.counted("search"), ops / 20);
    for (const char *what : {"crash", "remount", "unlink", "link", "rename", "exchange", "write", "read", "update",
                             "delete", "manage", "drop", "insert_found"})
      EXPECT_GT(model.counted(what), 0u) << what;
  }
}

TEST(VectorModel, Plain) { run_model(0, {}); }
TEST(VectorModel, TinyCache) {
  Options o;
  o.cache_bytes = 256 << 10;
  run_model(1, o);
}
TEST(VectorModel, SmallNodesAndBlocks) {
  Options o;
  o.block_size = 1024;
  o.node_size = 4096;
  run_model(2, o);
}
TEST(VectorModel, LargeBlocks) {
  Options o;
  o.size = 512 << 20;
  o.block_size = 65536;
  run_model(3, o);
}

}  // namespace
}  // namespace vexfs::vector::test
