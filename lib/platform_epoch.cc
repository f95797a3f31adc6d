// SPDX-License-Identifier: MIT
// Userspace host: epochs (sleepable read-mostly protection), after Linux's SRCU: two banks of striped reader counts.
//
// A reader counts itself into the current bank. synchronize() waits until the other bank is empty (stragglers that
// read the bank number before the last flip), flips, and waits for the bank that was current. Readers and the
// synchroniser touch the same counters with read-modify-writes, so either the synchroniser sees the reader, or the
// reader (ordered after it) sees everything that was done before synchronize() was called.
#include <sched.h>

#include <atomic>
#include <cerrno>
#include <ctime>
#include <mutex>
#include <new>

#include "host.h"

namespace vexfs::host {
namespace {

constexpr int stripes = 16;

struct alignas(64) Stripe {
  std::atomic<int64_t> readers[2];
};

struct Epoch {
  std::atomic<uint32_t> bank{0};
  std::mutex one_at_a_time;
  Stripe stripe[stripes]{};
};

Epoch *of(const vx_epoch *e) { return reinterpret_cast<Epoch *>(static_cast<uintptr_t>(e->opaque[0])); }
void set(vx_epoch *e, Epoch *p) { e->opaque[0] = reinterpret_cast<uintptr_t>(p); }

int my_stripe() {
  static std::atomic<uint32_t> next{0};
  thread_local int mine = static_cast<int>(next.fetch_add(1, std::memory_order_relaxed) % stripes);
  return mine;
}

void wait_empty(Epoch *e, uint32_t bank) {
  for (Stripe &s : e->stripe) {
    for (int spins = 0; s.readers[bank].fetch_add(0) != 0; spins++) {
      if (spins < 64) {
        sched_yield();
      } else {
        timespec t{0, spins < 128 ? 50'000 : 1'000'000};
        nanosleep(&t, nullptr);
      }
    }
  }
}

}  // namespace
}  // namespace vexfs::host

using namespace vexfs::host;  // NOLINT(google-build-using-namespace): definitions of the C door follow

extern "C" {

int vx_epoch_init(vx_epoch *e) {
  auto *p = new (std::nothrow) Epoch;
  set(e, p);
  return p ? 0 : -ENOMEM;
}

int vx_epoch_enter(vx_epoch *e) {
  Epoch *p = of(e);
  int s = my_stripe();
  uint32_t bank = p->bank.load() & 1;
  p->stripe[s].readers[bank].fetch_add(1);
  return s * 2 + static_cast<int>(bank);
}

void vx_epoch_leave(vx_epoch *e, int token) {
  if (of(e)->stripe[token / 2].readers[token % 2].fetch_sub(1) <= 0)
    vx_assert_fail("vx_epoch_leave without enter", "platform_epoch.cc", token);
}

void vx_epoch_synchronize(vx_epoch *e) {
  assert_may_sleep("vx_epoch_synchronize");
  Epoch *p = of(e);
  std::lock_guard<std::mutex> g(p->one_at_a_time);
  uint32_t now = p->bank.load() & 1;
  wait_empty(p, now ^ 1);
  p->bank.fetch_add(1);
  wait_empty(p, now);
}

void vx_epoch_destroy(vx_epoch *e) {
  Epoch *p = of(e);
  if (!p) return;
  for (Stripe &s : p->stripe)
    if (s.readers[0].load() != 0 || s.readers[1].load() != 0)
      vx_assert_fail("vx_epoch_destroy: a reader is inside", "platform_epoch.cc", 0);
  delete p;
  set(e, nullptr);
}

}  // extern "C"
