// SPDX-License-Identifier: MIT
// Userspace host: memory, with leak counters and injected failures.
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include "host.h"
#include "huge_pages.h"

namespace vexfs::host {
namespace {

constexpr size_t sector_bytes = 512;
constexpr size_t page_bytes = 4096;
constexpr size_t huge_bytes = size_t{2} << 20;

std::atomic<uint64_t> calls{0};
std::atomic<int64_t> outstanding{0};
std::atomic<int64_t> outstanding_large{0};
std::atomic<int64_t> large_bytes{0};

std::atomic<bool> injecting{false};
std::atomic<bool> keep{false};
std::atomic<bool> fired{false};
std::atomic<int64_t> countdown{0};

// The kernel gives back as many pages of a large buffer as it is told, and none by vx_free(): so in a build that looks for such
// things each buffer's size is known.
#if defined(__SANITIZE_ADDRESS__)
std::mutex sizes_lock;
std::unordered_map<void *, size_t> &sizes() {
  static auto *map = new std::unordered_map<void *, size_t>;
  return *map;
}
void note_large(void *p, size_t n) {
  const std::lock_guard<std::mutex> g(sizes_lock);
  sizes()[p] = n;
}
void forget_large(void *p, size_t n) {
  const std::lock_guard<std::mutex> g(sizes_lock);
  const auto it = sizes().find(p);
  if (it == sizes().end() || it->second != n)
    vx_assert_fail("a large buffer is freed as what it is", "platform_memory.cc", 0);
  sizes().erase(it);
}
void check_small(void *p) {
  const std::lock_guard<std::mutex> g(sizes_lock);
  if (sizes().count(p)) vx_assert_fail("a large buffer is freed by vx_free_large", "platform_memory.cc", 0);
}
#else
void note_large(void *, size_t) {}
void forget_large(void *, size_t) {}
void check_small(void *) {}
#endif

bool should_fail() {
  calls.fetch_add(1, std::memory_order_relaxed);
  if (!injecting.load(std::memory_order_acquire)) [[likely]]
    return false;
  int64_t left = countdown.fetch_sub(1, std::memory_order_relaxed);
  if (left > 0 || (left < 0 && !keep.load(std::memory_order_relaxed))) return false;
  fired.store(true, std::memory_order_relaxed);
  return true;
}

size_t alignment_for(size_t n) {
  if (n >= 2 * huge_bytes) return huge_bytes;
  if (n >= page_bytes) return page_bytes;
  return n >= sector_bytes ? sector_bytes : 64;  // a buffer of a sector is fit for I/O
}

}  // namespace

AllocStats alloc_stats() {
  AllocStats s;
  s.calls = calls.load();
  s.outstanding = outstanding.load();
  s.outstanding_large = outstanding_large.load();
  s.large_bytes = large_bytes.load();
  return s;
}

void fail_alloc_after(int64_t n, bool keep_failing) {
  injecting.store(false, std::memory_order_release);
  fired.store(false);
  keep.store(keep_failing);
  countdown.store(n);
  if (n >= 0) injecting.store(true, std::memory_order_release);
}

bool alloc_failed() { return fired.load(); }

}  // namespace vexfs::host

using namespace vexfs::host;  // NOLINT(google-build-using-namespace): definitions of the C door follow

extern "C" {

void *vx_alloc(size_t n, unsigned flags) {
  if (!(flags & VX_ALLOC_ATOMIC)) assert_may_sleep("vx_alloc");
  if (should_fail()) return nullptr;
  if (n == 0) n = 1;
  void *p = (flags & VX_ALLOC_ZERO) ? calloc(1, n) : malloc(n);
  if (p) outstanding.fetch_add(1, std::memory_order_relaxed);
  return p;
}

void vx_free(void *p) {
  if (!p) return;
  check_small(p);
  outstanding.fetch_sub(1, std::memory_order_relaxed);
  free(p);
}

void *vx_alloc_large(size_t n, unsigned flags) {
  if (!(flags & VX_ALLOC_ATOMIC)) assert_may_sleep("vx_alloc_large");
  if (should_fail()) return nullptr;
  size_t align = alignment_for(n);
  size_t rounded = (n + align - 1) / align * align;
  if (rounded < n) return nullptr;
  if (rounded == 0) rounded = align;
  void *p = huge_alloc(n);
  if (!p) {
    p = aligned_alloc(align, rounded);
    if (!p) return nullptr;
    if (align == huge_bytes) madvise(p, rounded, MADV_HUGEPAGE);
  }
  if (flags & VX_ALLOC_ZERO) memset(p, 0, n);
  note_large(p, n);
  outstanding.fetch_add(1, std::memory_order_relaxed);
  outstanding_large.fetch_add(1, std::memory_order_relaxed);
  large_bytes.fetch_add(static_cast<int64_t>(n), std::memory_order_relaxed);
  return p;
}

void vx_free_large(void *p, size_t n) {
  if (!p) return;
  forget_large(p, n);
  outstanding.fetch_sub(1, std::memory_order_relaxed);
  outstanding_large.fetch_sub(1, std::memory_order_relaxed);
  large_bytes.fetch_sub(static_cast<int64_t>(n), std::memory_order_relaxed);
  if (!huge_free(p, n)) free(p);
}

}  // extern "C"
