// SPDX-License-Identifier: MIT
// Workloads on a small namespace, numbered: every sequence of one to three operations that matter for persistence, with
// every placement of persistence points. After B3 and ACE (Mohan et al., "Finding Crash-Consistency Bugs with Bounded
// Black-Box Crash Testing", OSDI 2018).
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "history.h"

namespace vexfs::crash {

enum class Persist : uint8_t { fsync, sync, commit, none };  // none: not after the last operation

struct Step {
  unsigned operation;
  Persist persist;
};

// Numbers go up with the length: those of length n begin at first_of_length(n).
constexpr unsigned kLongest = 3;
uint64_t count_of_length(unsigned n);
uint64_t first_of_length(unsigned n);
std::vector<Step> workload(uint64_t number);
std::string describe(const std::vector<Step> &steps);

// What every workload begins with: directories A and B, a large file A/foo, a small one B/foo, a collection on B with a
// row of B/foo and one of nobody.
std::unique_ptr<host::MemDevice> starting_image();

// Runs the steps on a mount of `dev`, which is recording from the first of them on; then judges every power cut.
Tally run_workload(const host::MemDevice &start, const std::vector<Step> &steps, uint64_t seed);

// A mount that operations of the list are done on.
struct Session {
  explicit Session(vector::test::Mount &mount) : m(mount) {}
  int operate(unsigned operation, unsigned position);  // 0 or negative errno; what it touched is remembered
  int persist(Persist p);

  vector::test::Mount &m;
  History *history = nullptr;  // told of every state, if there is one
  uint64_t touched = 0;        // inode number
  int failed = 0;              // the first error of the operation that runs
  unsigned position = 0;
};
unsigned operations();
const char *operation_name(unsigned operation);

}  // namespace vexfs::crash
