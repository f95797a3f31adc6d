// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Working memory of a search or an insert.
#include "scratch.h"

namespace vexfs::vector {

void *ScratchBuffer::ensure(usize n, unsigned flags, bool *fresh) {
  if (fresh) *fresh = false;
  if (n <= cap_) return p_;
  usize want = 1024;
  while (want < n) want *= 2;
  release();
  p_ = vx_alloc_large(want, flags);
  if (!p_) return nullptr;
  cap_ = want;
  if (fresh) *fresh = true;
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

void *Scratch::get(Use use, usize n, unsigned flags, bool *fresh) {
  if (n > buf_[use].bytes() && bytes() - buf_[use].bytes() + n > bytes_max_) return nullptr;
  return buf_[use].ensure(n, flags_ | flags, fresh);
}

}  // namespace vexfs::vector
