// SPDX-License-Identifier: MIT
// Userspace host: threads, clock, random bytes, CPU features, messages, fault sites. Memory, locks, epochs, checksums
// and devices have files of their own.
#include <pthread.h>
#include <sched.h>
#include <sys/random.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "host.h"

struct vx_thread {
  pthread_t id;
  void (*fn)(void *);
  void *arg;
};

namespace vexfs::host {
namespace {

void *thread_main(void *p) {
  auto *t = static_cast<vx_thread *>(p);
  t->fn(t->arg);
  return nullptr;
}

// ------------------------------------------------------------------ random
std::mutex random_lock;
std::atomic<bool> random_seeded{false};
uint64_t random_state = 0;

// SplitMix64 (Steele, Lea, Flood 2014).
uint64_t next_random() {
  uint64_t z = (random_state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// ------------------------------------------------------------------- clock
std::atomic<bool> clock_fixed{false};
std::atomic<int64_t> fixed_sec{0};
std::atomic<uint32_t> fixed_nsec{0};

// --------------------------------------------------------------------- log
std::mutex log_lock;
std::shared_ptr<LogHook> log_hook;
std::atomic<int> log_level{-1};

int current_log_level() {
  int level = log_level.load();
  if (level >= 0) return level;
  const char *env = getenv("VEXFS_LOG");
  level = env && *env ? atoi(env) : VX_LOG_NOTICE;
  log_level.store(level);
  return level;
}

// ------------------------------------------------------------------- faults
struct FaultSite {
  int64_t skip = 0;
  int64_t times = 0;
  uint64_t hits = 0;
};
std::mutex fault_lock;
std::map<std::string, FaultSite> fault_sites;
std::atomic<bool> faults_armed{false};

// --------------------------------------------------------------------- CPU
std::atomic<uint32_t> cpu_mask{~0u};

#if defined(__x86_64__)
uint64_t xcr0() {
  uint32_t lo;
  uint32_t hi;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (static_cast<uint64_t>(hi) << 32) | lo;
}

uint32_t detect_cpu() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  uint32_t f = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
  if (c & (1u << 20)) f |= VX_CPU_SSE42;
  const bool osxsave = c & (1u << 27);
  const bool avx = c & (1u << 28);
  if (!osxsave || !avx) return f;
  const uint64_t x = xcr0();
  if ((x & 6) != 6) return f;  // the system does not save the YMM state
  if (c & (1u << 12)) f |= VX_CPU_FMA;
  if (c & (1u << 29)) f |= VX_CPU_F16C;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return f;
  if (b & (1u << 5)) f |= VX_CPU_AVX2;
  const uint32_t f_dq_bw_vl = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);
  if ((x & 0xe6) != 0xe6 || (b & f_dq_bw_vl) != f_dq_bw_vl) return f;
  f |= VX_CPU_AVX512;
  if (c & (1u << 11)) f |= VX_CPU_AVX512_VNNI;
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 5))) f |= VX_CPU_AVX512_BF16;
  return f;
}
#elif defined(__aarch64__)
uint32_t detect_cpu() { return VX_CPU_NEON; }
#else
uint32_t detect_cpu() { return 0; }
#endif

uint32_t env_cpu_mask() {
  const char *env = getenv("VEXFS_CPU_MASK");
  return env && *env ? static_cast<uint32_t>(strtoul(env, nullptr, 0)) : ~0u;
}

}  // namespace

void seed_random(uint64_t seed) {
  std::lock_guard<std::mutex> g(random_lock);
  random_state = seed;
  random_seeded = true;
}
void unseed_random() { random_seeded = false; }

void fix_clock(int64_t sec, uint32_t nsec) {
  fixed_sec = sec;
  fixed_nsec = nsec;
  clock_fixed = true;
}
void unfix_clock() { clock_fixed = false; }

void limit_cpu_features(uint32_t mask) { cpu_mask = mask; }

void set_log_hook(LogHook hook) {
  std::lock_guard<std::mutex> g(log_lock);
  log_hook = hook ? std::make_shared<LogHook>(std::move(hook)) : nullptr;
}
void set_log_level(int level) { log_level = level; }

void arm_fault(const char *site, int64_t n, int64_t times) {
  std::lock_guard<std::mutex> g(fault_lock);
  fault_sites[site] = FaultSite{n, times, 0};
  faults_armed = true;
}
void disarm_faults() {
  std::lock_guard<std::mutex> g(fault_lock);
  fault_sites.clear();
  faults_armed = false;
}
uint64_t fault_hits(const char *site) {
  std::lock_guard<std::mutex> g(fault_lock);
  auto it = fault_sites.find(site);
  return it == fault_sites.end() ? 0 : it->second.hits;
}

}  // namespace vexfs::host

using namespace vexfs::host;  // NOLINT(google-build-using-namespace): definitions of the C door follow

extern "C" {

void vx_yield(void) { assert_may_sleep("vx_yield"); }

// ------------------------------------------------------------------ threads
int vx_thread_start(vx_thread **out, const char *name, void (*fn)(void *), void *arg) {
  assert_may_sleep("vx_thread_start");
  auto *t = new (std::nothrow) vx_thread{};
  if (!t) return -ENOMEM;
  t->fn = fn;
  t->arg = arg;
  if (int rc = pthread_create(&t->id, nullptr, thread_main, t)) {
    delete t;
    return -rc;
  }
  char shortname[16] = {};  // the limit of pthread_setname_np
  strncpy(shortname, name, sizeof shortname - 1);
  pthread_setname_np(t->id, shortname);
  *out = t;
  return 0;
}

void vx_thread_join(vx_thread *t) {
  assert_may_sleep("vx_thread_join");
  if (int rc = pthread_join(t->id, nullptr)) vx_assert_fail("pthread_join", "platform.cc", rc);
  delete t;
}

// ------------------------------------------------------------- time, random
vx_u64 vx_clock_mono_ns(void) {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<vx_u64>(t.tv_sec) * 1000000000u + static_cast<vx_u64>(t.tv_nsec);
}

void vx_clock_real(vx_s64 *sec, vx_u32 *nsec) {
  if (clock_fixed) {
    *sec = fixed_sec;
    *nsec = fixed_nsec;
    return;
  }
  timespec t;
  clock_gettime(CLOCK_REALTIME_COARSE, &t);
  *sec = t.tv_sec;
  *nsec = static_cast<vx_u32>(t.tv_nsec);
}

void vx_random_bytes(void *p, size_t n) {
  auto *b = static_cast<unsigned char *>(p);
  if (random_seeded) {
    std::lock_guard<std::mutex> g(random_lock);
    for (size_t i = 0; i < n; i += 8) {
      uint64_t r = next_random();
      memcpy(b + i, &r, n - i < 8 ? n - i : 8);
    }
    return;
  }
  for (size_t done = 0; done < n;) {
    ssize_t got = getrandom(b + done, n - done, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) vx_assert_fail("getrandom", "platform.cc", errno);
    done += static_cast<size_t>(got);
  }
}

// --------------------------------------------------------------------- CPU
vx_u32 vx_cpu_features(void) {
  static const uint32_t detected = detect_cpu() & env_cpu_mask();
  return detected & cpu_mask.load();
}

vx_u32 vx_cpu_count(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<vx_u32>(CPU_COUNT(&set));
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  return n > 0 ? static_cast<vx_u32>(n) : 1;
}

vx_u32 vx_cpu_here(void) {
  const int n = sched_getcpu();
  return n > 0 ? static_cast<vx_u32>(n) : 0;
}

// ---------------------------------------------------------------- messages
void vx_log(vx_bdev *dev, int level, const char *line) {
  std::shared_ptr<LogHook> hook;
  {
    std::lock_guard<std::mutex> g(log_lock);
    hook = log_hook;
  }
  if (hook) {
    (*hook)(dev, level, line);
    return;
  }
  if (level > current_log_level()) return;
  static const char *const names[] = {"", "", "", "error: ", "warning: ", "", "", "debug: "};
  const char *tag = level >= 0 && level < 8 ? names[level] : "";
  if (dev)
    fprintf(stderr, "vexfs: %s: %s%s\n", vx_bdev_name(dev), tag, line);
  else
    fprintf(stderr, "vexfs: %s%s\n", tag, line);
}

void vx_assert_fail(const char *expr, const char *file, int line) {
  fprintf(stderr, "vexfs: assertion failed: %s at %s:%d\n", expr, file, line);
  fflush(nullptr);
  abort();
}

vx_bool vx_fault(const char *site) {
  if (!faults_armed.load(std::memory_order_relaxed)) [[likely]]
    return false;
  std::lock_guard<std::mutex> g(fault_lock);
  auto it = fault_sites.find(site);
  if (it == fault_sites.end()) return false;
  FaultSite &s = it->second;
  s.hits++;
  if (s.skip > 0) {
    s.skip--;
    return false;
  }
  if (s.times == 0) return false;
  if (s.times > 0) s.times--;
  return true;
}

}  // extern "C"
