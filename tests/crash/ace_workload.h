// SPDX-License-Identifier: MIT
// Workloads on a small namespace, numbered: every sequence of one to three operations that matter for persistence, with
// every placement of persistence points. After B3 and ACE (Mohan et al., "Finding Crash-Consistency Bugs with Bounded
// Black-Box Crash Testing", OSDI 2018).
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "session.h"

namespace vexfs::crash {

struct Step {
  unsigned operation;
  Persist persist;  // none: not after the last operation
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

// One operation of the list. Returns 0 or a negative errno.
int operate(Session &s, unsigned operation, unsigned position);
unsigned operations();
const char *operation_name(unsigned operation);

}  // namespace vexfs::crash
