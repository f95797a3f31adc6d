// SPDX-License-Identifier: GPL-2.0-only OR MIT
// RAII over the host's locks, wait queues and epochs.
#pragma once
#include "../platform.h"
#include "types.h"

namespace vexfs {

class Spin : Pinned {
 public:
  explicit Spin(const char *name) { vx_spin_init(&s_, name); }
  ~Spin() { vx_spin_destroy(&s_); }
  void lock() { vx_spin_lock(&s_); }
  void unlock() { vx_spin_unlock(&s_); }

 private:
  vx_spin s_;
};

class Mutex : Pinned {
 public:
  explicit Mutex(const char *name) { vx_mutex_init(&m_, name); }
  ~Mutex() { vx_mutex_destroy(&m_); }
  void lock() { vx_mutex_lock(&m_); }
  bool try_lock() { return vx_mutex_trylock(&m_); }
  void unlock() { vx_mutex_unlock(&m_); }

 private:
  vx_mutex m_;
};

class RwSem : Pinned {
 public:
  explicit RwSem(const char *name) { vx_rwsem_init(&s_, name); }
  ~RwSem() { vx_rwsem_destroy(&s_); }
  void lock(int sub = 0) { vx_write_lock(&s_, sub); }
  bool try_lock(int sub = 0) { return vx_write_trylock(&s_, sub); }
  void unlock() { vx_write_unlock(&s_); }
  void lock_shared(int sub = 0) { vx_read_lock(&s_, sub); }
  bool try_lock_shared() { return vx_read_trylock(&s_); }
  void unlock_shared() { vx_read_unlock(&s_); }
  void downgrade() { vx_write_downgrade(&s_); }

 private:
  vx_rwsem s_;
};

template <class L>
class Guard : Pinned {
 public:
  explicit Guard(L &l) : l_(&l) { l_->lock(); }
  ~Guard() { release(); }
  void release() {
    if (l_) l_->unlock();
    l_ = nullptr;
  }

 private:
  L *l_;
};
template <class L>
Guard(L &) -> Guard<L>;

class SharedGuard : Pinned {
 public:
  explicit SharedGuard(RwSem &l) : l_(&l) { l_->lock_shared(); }
  ~SharedGuard() { release(); }
  void release() {
    if (l_) l_->unlock_shared();
    l_ = nullptr;
  }

 private:
  RwSem *l_;
};

class WaitQueue : Pinned {
 public:
  explicit WaitQueue(const char *name) { vx_waitq_init(&q_, name); }
  ~WaitQueue() { vx_waitq_destroy(&q_); }
  // Sleeps until cond() is true; with a time limit, false when it ran out.
  template <class F>
  bool wait(F &&cond, s64 timeout_ms = -1) {
    return vx_wait(
               &q_, [](void *a) -> vx_bool { return (*static_cast<std::remove_reference_t<F> *>(a))(); }, &cond,
               timeout_ms) == 0;
  }
  void wake() { vx_wake(&q_); }

 private:
  vx_waitq q_;
};

class FpuSection : Pinned {
 public:
  FpuSection() { vx_fpu_begin(); }
  ~FpuSection() { vx_fpu_end(); }
};

constexpr usize fpu_weight_max = 64 * 1024;  // bytes of rows read in one section, or what takes as long

// One section over several pieces of work, as beginning and ending one costs as much as scoring a few rows. Bounded: what
// is put into it is weighed, and it ends before it becomes too long. What is done between the pieces may not sleep, unless
// leave() is called before.
class FpuHold : Pinned {
 public:
  FpuHold() = default;
  ~FpuHold() { leave(); }
  // The work that comes now may use the FPU.
  void use(usize weight) {
    if (open_ && weight > fpu_weight_max - weight_) leave();
    if (!open_) {
      vx_fpu_begin();
      open_ = true;
      weight_ = 0;
    }
    weight_ = min_of(fpu_weight_max, weight_ + weight);
  }
  void leave() {
    if (open_) vx_fpu_end();
    open_ = false;
  }

 private:
  bool open_ = false;
  usize weight_ = 0;
};

}  // namespace vexfs
