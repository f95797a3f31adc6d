// SPDX-License-Identifier: MIT
// Userspace host: spinlocks, mutexes, rw semaphores and wait queues on pthreads, so that ThreadSanitizer sees them.
//
// As in the kernel, nothing may sleep while a spinlock is held or inside an FPU section; here that is asserted.
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <new>

#include "host.h"

namespace vexfs::host {
namespace {

thread_local int spins_held = 0;
thread_local int fpu_depth = 0;
thread_local FpuHook fpu_hook = nullptr;
thread_local void *fpu_hook_ctx = nullptr;

struct Spin {
  pthread_mutex_t m;
};

struct Mutex {
  pthread_mutex_t m;
};

// A writer takes `gate` first and keeps it while it writes. So a downgrade may drop the write lock and take the read
// lock in two steps: other readers can come in between, another writer cannot.
struct RwSem {
  pthread_rwlock_t rw;
  pthread_mutex_t gate;
};

// `waiters` lets vx_wake skip the mutex when nobody waits. Both sides use a read-modify-write on it: whichever comes
// second sees what the other did before.
struct WaitQueue {
  pthread_mutex_t m;
  pthread_cond_t c;
  std::atomic<uint32_t> waiters;
};

static_assert(sizeof(Spin) <= sizeof(vx_spin) && sizeof(Mutex) <= sizeof(vx_mutex));
static_assert(sizeof(RwSem) <= sizeof(vx_rwsem) && sizeof(WaitQueue) <= sizeof(vx_waitq));

template <class T, class S>
T *as(S *s) {
  return reinterpret_cast<T *>(s->opaque);
}

void check(int rc, const char *what) {
  if (rc != 0) [[unlikely]]
    vx_assert_fail(what, "platform_lock.cc", rc);
}

void init_adaptive(pthread_mutex_t *m) {
  pthread_mutexattr_t a;
  check(pthread_mutexattr_init(&a), "pthread_mutexattr_init");
  pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ADAPTIVE_NP);
  check(pthread_mutex_init(m, &a), "pthread_mutex_init");
  pthread_mutexattr_destroy(&a);
}

timespec deadline_after(int64_t ms) {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  int64_t ns = t.tv_nsec + (ms % 1000) * 1000000;
  t.tv_sec += static_cast<time_t>(ms / 1000 + ns / 1000000000);
  t.tv_nsec = static_cast<long>(ns % 1000000000);
  return t;
}

}  // namespace

void set_fpu_hook(FpuHook hook, void *ctx) {
  fpu_hook = hook;
  fpu_hook_ctx = ctx;
}

void assert_may_sleep(const char *what) {
  if (spins_held == 0 && fpu_depth == 0) [[likely]]
    return;
  fprintf(stderr, "vexfs: %s may sleep, but is called with %d spinlock(s) held, FPU depth %d\n", what, spins_held,
          fpu_depth);
  vx_assert_fail("may sleep here", "platform_lock.cc", 0);
}

}  // namespace vexfs::host

using namespace vexfs::host;  // NOLINT(google-build-using-namespace): definitions of the C door follow

extern "C" {

// ---------------------------------------------------------------- spinlocks
void vx_spin_init(vx_spin *s, const char *) { init_adaptive(&as<Spin>(s)->m); }
void vx_spin_lock(vx_spin *s) {
  if (fpu_depth) assert_may_sleep("vx_spin_lock");
  check(pthread_mutex_lock(&as<Spin>(s)->m), "vx_spin_lock");
  spins_held++;
}
void vx_spin_unlock(vx_spin *s) {
  spins_held--;
  check(pthread_mutex_unlock(&as<Spin>(s)->m), "vx_spin_unlock");
}
void vx_spin_destroy(vx_spin *s) { check(pthread_mutex_destroy(&as<Spin>(s)->m), "vx_spin_destroy: still held"); }

// ------------------------------------------------------------------ mutexes
void vx_mutex_init(vx_mutex *m, const char *) { init_adaptive(&as<Mutex>(m)->m); }
void vx_mutex_lock(vx_mutex *m) {
  assert_may_sleep("vx_mutex_lock");
  check(pthread_mutex_lock(&as<Mutex>(m)->m), "vx_mutex_lock");
}
vx_bool vx_mutex_trylock(vx_mutex *m) { return pthread_mutex_trylock(&as<Mutex>(m)->m) == 0; }
void vx_mutex_unlock(vx_mutex *m) { check(pthread_mutex_unlock(&as<Mutex>(m)->m), "vx_mutex_unlock"); }
void vx_mutex_destroy(vx_mutex *m) { check(pthread_mutex_destroy(&as<Mutex>(m)->m), "vx_mutex_destroy: still held"); }

// ------------------------------------------------------------ rw semaphores
void vx_rwsem_init(vx_rwsem *s, const char *) {
  RwSem *r = as<RwSem>(s);
  pthread_rwlockattr_t a;
  check(pthread_rwlockattr_init(&a), "pthread_rwlockattr_init");
  pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  check(pthread_rwlock_init(&r->rw, &a), "pthread_rwlock_init");
  pthread_rwlockattr_destroy(&a);
  init_adaptive(&r->gate);
}
void vx_read_lock(vx_rwsem *s, int) {
  assert_may_sleep("vx_read_lock");
  check(pthread_rwlock_rdlock(&as<RwSem>(s)->rw), "vx_read_lock");
}
void vx_read_unlock(vx_rwsem *s) { check(pthread_rwlock_unlock(&as<RwSem>(s)->rw), "vx_read_unlock"); }
vx_bool vx_read_trylock(vx_rwsem *s) { return pthread_rwlock_tryrdlock(&as<RwSem>(s)->rw) == 0; }
void vx_write_lock(vx_rwsem *s, int) {
  assert_may_sleep("vx_write_lock");
  RwSem *r = as<RwSem>(s);
  check(pthread_mutex_lock(&r->gate), "vx_write_lock");
  check(pthread_rwlock_wrlock(&r->rw), "vx_write_lock");
}
vx_bool vx_write_trylock(vx_rwsem *s, int) {
  RwSem *r = as<RwSem>(s);
  if (pthread_mutex_trylock(&r->gate) != 0) return false;
  if (pthread_rwlock_trywrlock(&r->rw) == 0) return true;
  pthread_mutex_unlock(&r->gate);
  return false;
}
void vx_write_unlock(vx_rwsem *s) {
  RwSem *r = as<RwSem>(s);
  check(pthread_rwlock_unlock(&r->rw), "vx_write_unlock");
  check(pthread_mutex_unlock(&r->gate), "vx_write_unlock");
}
void vx_write_downgrade(vx_rwsem *s) {
  RwSem *r = as<RwSem>(s);
  check(pthread_rwlock_unlock(&r->rw), "vx_write_downgrade");
  check(pthread_rwlock_rdlock(&r->rw), "vx_write_downgrade");
  check(pthread_mutex_unlock(&r->gate), "vx_write_downgrade");
}
void vx_rwsem_destroy(vx_rwsem *s) {
  RwSem *r = as<RwSem>(s);
  check(pthread_mutex_destroy(&r->gate), "vx_rwsem_destroy: still held");
  check(pthread_rwlock_destroy(&r->rw), "vx_rwsem_destroy: still held");
}

// -------------------------------------------------------------- wait queues
void vx_waitq_init(vx_waitq *q, const char *) {
  WaitQueue *w = as<WaitQueue>(q);
  check(pthread_mutex_init(&w->m, nullptr), "pthread_mutex_init");
  pthread_condattr_t a;
  check(pthread_condattr_init(&a), "pthread_condattr_init");
  pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
  check(pthread_cond_init(&w->c, &a), "pthread_cond_init");
  pthread_condattr_destroy(&a);
  new (&w->waiters) std::atomic<uint32_t>(0);
}

int vx_wait(vx_waitq *q, vx_bool (*cond)(void *), void *arg, vx_s64 timeout_ms) {
  assert_may_sleep("vx_wait");
  if (cond(arg)) return 0;
  WaitQueue *w = as<WaitQueue>(q);
  timespec until{};
  if (timeout_ms >= 0) until = deadline_after(timeout_ms);
  w->waiters.fetch_add(1);
  check(pthread_mutex_lock(&w->m), "vx_wait");
  int rc = 0;
  while (!cond(arg)) {
    rc = timeout_ms < 0 ? pthread_cond_wait(&w->c, &w->m) : pthread_cond_timedwait(&w->c, &w->m, &until);
    if (rc == ETIMEDOUT) {
      rc = cond(arg) ? 0 : -ETIMEDOUT;
      break;
    }
    check(rc, "pthread_cond_wait");
  }
  check(pthread_mutex_unlock(&w->m), "vx_wait");
  w->waiters.fetch_sub(1);
  return rc;
}

void vx_wake(vx_waitq *q) {
  WaitQueue *w = as<WaitQueue>(q);
  if (w->waiters.fetch_add(0) == 0) return;
  check(pthread_mutex_lock(&w->m), "vx_wake");
  check(pthread_cond_broadcast(&w->c), "vx_wake");
  check(pthread_mutex_unlock(&w->m), "vx_wake");
}

void vx_waitq_destroy(vx_waitq *q) {
  WaitQueue *w = as<WaitQueue>(q);
  if (w->waiters.load() != 0) vx_assert_fail("vx_waitq_destroy: somebody waits", "platform_lock.cc", 0);
  pthread_cond_destroy(&w->c);
  pthread_mutex_destroy(&w->m);
}

// -------------------------------------------------------------- FPU sections
void vx_fpu_begin(void) {
  fpu_depth++;
  if (fpu_hook) [[unlikely]]
    fpu_hook(fpu_hook_ctx, true);
}
void vx_fpu_end(void) {
  if (fpu_hook) [[unlikely]]
    fpu_hook(fpu_hook_ctx, false);
  if (--fpu_depth < 0) vx_assert_fail("vx_fpu_end without vx_fpu_begin", "platform_lock.cc", 0);
}

}  // extern "C"
