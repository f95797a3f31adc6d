// SPDX-License-Identifier: MIT
// Controls of the userspace host (lib/platform*.cc) that tests and tools need beyond kernel/core/platform.h.
//
// Everything here is safe to call from any thread. The settings are global to the process.
#pragma once
#include <cstdint>
#include <functional>

#include "../kernel/core/platform.h"

namespace vexfs::host {

// ------------------------------------------------------------------ memory
struct AllocStats {
  uint64_t calls = 0;             // vx_alloc and vx_alloc_large calls so far, failed ones included
  int64_t outstanding = 0;        // blocks not yet freed (both kinds)
  int64_t outstanding_large = 0;  // of these, from vx_alloc_large
  int64_t large_bytes = 0;        // bytes of the large ones; a wrong size given to vx_free_large shows up here
};
AllocStats alloc_stats();

// Lets n more allocations of any thread succeed and fails the next one (n = 0: the very next), once, or for ever with
// keep_failing. Negative: no more failures. A sweep runs an operation with n = 0, 1, 2 ... until alloc_failed() is
// false after it.
void fail_alloc_after(int64_t n, bool keep_failing = false);
bool alloc_failed();  // has a failure been injected since the last fail_alloc_after()?

// ---------------------------------------------------------- fault injection
// Arms vx_fault(site): skips n hits, then fires `times` times (negative: for ever).
void arm_fault(const char *site, int64_t n = 0, int64_t times = 1);
void disarm_faults();
uint64_t fault_hits(const char *site);  // how often the site was passed since it was armed

// ------------------------------------------------------------ random, clock
void seed_random(uint64_t seed);             // vx_random_bytes becomes a reproducible stream
void unseed_random();                        // back to the system's
void fix_clock(int64_t sec, uint32_t nsec);  // vx_clock_real returns this until unfix_clock()
void unfix_clock();

// -------------------------------------------------------------------- CPU
// vx_cpu_features() reports only what is in mask (VX_CPU_*). Call before vx_core_init(). The environment variable
// VEXFS_CPU_MASK (a number, hex with 0x) does the same from outside.
void limit_cpu_features(uint32_t mask);

// The calling thread's FPU sections (in the kernel nothing else runs on the processor meanwhile): told of each as it begins
// (true) and ends. Null: no more.
using FpuHook = void (*)(void *ctx, bool begins);
void set_fpu_hook(FpuHook hook, void *ctx);

// ---------------------------------------------------------------- messages
using LogHook = std::function<void(vx_bdev *dev, int level, const char *line)>;
// All lines go to the hook instead of stderr, whatever the level; an empty hook restores stderr.
void set_log_hook(LogHook hook);
// Lines above this VX_LOG_* level are not printed. Default VX_LOG_NOTICE, or the number in VEXFS_LOG.
void set_log_level(int level);

// Aborts when the calling thread holds a vx_spin or is inside an FPU section: called by everything that may sleep.
void assert_may_sleep(const char *what);

}  // namespace vexfs::host
