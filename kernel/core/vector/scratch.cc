// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Working memory of a search or an insert.
#include "scratch.h"

namespace vexfs::vector {

void *ScratchBuffer::ensure(usize n, unsigned flags) {
  if (n <= cap_) return p_;
  usize want = 1024;
  while (want < n) want *= 2;
  release();
  p_ = vx_alloc_large(want, flags);
  if (!p_) return nullptr;
  cap_ = want;
  return p_;
}

void ScratchBuffer::release() {
  if (p_) vx_free_large(p_, cap_);
  p_ = nullptr;
  cap_ = 0;
}

usize Scratch::bytes() const {
  usize sum = 0;
  for (const ScratchBuffer &b : buf_) sum += b.bytes();
  return sum;
}

void Scratch::trim(usize keep) {
  while (bytes() > keep) {
    ScratchBuffer *largest = buf_;
    for (ScratchBuffer &b : buf_)
      if (b.bytes() > largest->bytes()) largest = &b;
    largest->release();
  }
}

void *Scratch::get(Use use, usize n) {
  if (n > buf_[use].bytes() && bytes() - buf_[use].bytes() + n > bytes_max_) return nullptr;
  return buf_[use].ensure(n, flags_);
}

// -------------------------------------------------------------------------------------------------------- between calls
Box<Scratch> ScratchPool::take() {
  Place &p = places_[vx_cpu_here() % places];
  if (Scratch *s = p.idle.exchange(nullptr, std::memory_order_acquire)) return Box<Scratch>(s);
  Result<Box<Scratch>> made = Box<Scratch>::make();
  return made.ok() ? made.take() : Box<Scratch>();
}

void ScratchPool::give(Box<Scratch> s) {
  s->trim(keep_max);
  Place &p = places_[vx_cpu_here() % places];
  const usize bytes = s->bytes() + sizeof(Scratch);
  Scratch *none = nullptr;
  if (!p.idle.compare_exchange_strong(none, s.get(), std::memory_order_release, std::memory_order_relaxed)) return;
  (void)s.release();  // which from here on is whoever's that takes it
  p.bytes.store(bytes, std::memory_order_relaxed);
}

usize ScratchPool::bytes() const {
  usize sum = 0;
  for (const Place &p : places_)
    if (p.idle.load(std::memory_order_relaxed)) sum += p.bytes.load(std::memory_order_relaxed);
  return sum;
}

usize ScratchPool::drain() {
  usize freed = 0;
  for (Place &p : places_) {
    Box<Scratch> s(p.idle.exchange(nullptr, std::memory_order_acquire));
    if (s) freed += s->bytes() + sizeof(Scratch);
  }
  return freed;
}

}  // namespace vexfs::vector
