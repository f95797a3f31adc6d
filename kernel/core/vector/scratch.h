// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Working memory of a search or an insert: grown when needed, kept for the next query of the same call, charged to
// the calling task. One thread at a time uses a Scratch; concurrent searches have one each and never wait for each
// other.
#pragma once
#include "../base/result.h"
#include "../platform.h"

namespace vexfs::vector {

// A buffer that only grows and does not keep its contents when it does.
class ScratchBuffer : Pinned {
 public:
  ~ScratchBuffer() { release(); }
  // At least n bytes, 64-byte aligned; contents undefined after growth (*fresh), else as they were. Null: no memory.
  void *ensure(usize n, unsigned flags, bool *fresh = nullptr);
  void release();
  void swap(ScratchBuffer &o) {
    std::swap(p_, o.p_);
    std::swap(cap_, o.cap_);
  }
  usize bytes() const { return cap_; }
  void *data() const { return p_; }

 private:
  void *p_ = nullptr;
  usize cap_ = 0;
};

class Scratch : Pinned {
 public:
  enum Use : u32 {
    visited,
    visited_spare,
    beam,
    heap,
    heap_spare,
    results,
    batch,
    query,
    code,
    other_code,
    select,
    scan,
    use_count
  };

  // account: memory is charged to the calling task's cgroup (searches); bytes_max bounds the sum of all buffers.
  explicit Scratch(bool account = true, usize bytes_max = usize{256} << 20)
      : flags_(account ? unsigned{VX_ALLOC_ACCOUNT} : 0u), bytes_max_(bytes_max) {}

  // nomem: none left, or over the bound.
  template <class T>
  Result<T *> array(Use use, usize n) {
    if (n > bytes_max_ / sizeof(T)) return Errno::nomem;
    void *p = get(use, n * sizeof(T), 0, nullptr);
    if (!p) return Errno::nomem;
    return static_cast<T *>(p);
  }
  // Zero-filled when newly allocated (*fresh), otherwise as it was left.
  template <class T>
  Result<T *> zeroed(Use use, usize n, bool *fresh) {
    if (n > bytes_max_ / sizeof(T)) return Errno::nomem;
    void *p = get(use, n * sizeof(T), VX_ALLOC_ZERO, fresh);
    if (!p) return Errno::nomem;
    return static_cast<T *>(p);
  }
  usize bytes() const;

 private:
  void *get(Use use, usize n, unsigned flags, bool *fresh);

  ScratchBuffer buf_[use_count];
  unsigned flags_;
  usize bytes_max_;
};

}  // namespace vexfs::vector
