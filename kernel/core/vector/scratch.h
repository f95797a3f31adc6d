// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Working memory of a search or an insert: grown when needed, kept for the next query of the same call, charged to
// the calling task. One thread at a time uses a Scratch; concurrent searches have one each and never wait for each
// other. Between calls a ScratchPool keeps it: a search of an index, or the insert of a row, takes so little that making and
// clearing buffers anew would be a tenth of it.
#pragma once
#include <atomic>

#include "../base/memory.h"

namespace vexfs::vector {

// A buffer that only grows and does not keep its contents when it does.
class ScratchBuffer : Pinned {
 public:
  ~ScratchBuffer() { release(); }
  // At least n bytes, 64-byte aligned; contents undefined after growth, else as they were. Null: no memory.
  void *ensure(usize n, unsigned flags);
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
    // ---- of a command that searches, or takes or gives rows
    call_queries,
    call_raw,
    call_user_rows,
    call_rows,
    call_owners,
    call_hits,
    call_group,
    searcher,
    tops,
    use_count
  };

  // account: memory is charged to the calling task's cgroup (searches); bytes_max bounds the sum of all buffers.
  explicit Scratch(bool account = true, usize bytes_max = usize{256} << 20)
      : flags_(account ? unsigned{VX_ALLOC_ACCOUNT} : 0u), bytes_max_(bytes_max) {}

  // Contents undefined: what another call left there, if it comes from a pool. nomem: none left, or over the bound.
  template <class T>
  Result<T *> array(Use use, usize n) {
    if (n > bytes_max_ / sizeof(T)) return Errno::nomem;
    void *p = get(use, n * sizeof(T));
    if (!p) return Errno::nomem;
    return static_cast<T *>(p);
  }
  usize bytes() const;
  // Gives up the largest buffers until all of them take at most `keep` bytes.
  void trim(usize keep);

 private:
  void *get(Use use, usize n);

  ScratchBuffer buf_[use_count];
  unsigned flags_;
  usize bytes_max_;
};

// Scratches that no call uses at the moment, one for each processor. Whoever comes when there is none makes one, and who
// comes back to find one there already frees its own: nobody waits, and what is kept is bounded.
class ScratchPool : Pinned {
 public:
  static constexpr u32 places = 64;             // processors beyond share them
  static constexpr usize keep_max = 256 << 10;  // bytes of buffers in each

  ~ScratchPool() { drain(); }
  Box<Scratch> take();  // null: no memory
  void give(Box<Scratch> s);
  // About what is kept here.
  usize bytes() const;
  // Frees all of it; how many bytes that was. Sleeps for nobody, so that memory reclaim may call it.
  usize drain();

 private:
  struct Place {
    std::atomic<Scratch *> idle{nullptr};
    std::atomic<usize> bytes{0};  // of it, a hint
    u8 apart[48];                 // processors do not write to each other's cache lines
  };
  Place places_[places];
};

// A scratch for one call.
class ScratchLease : Pinned {
 public:
  explicit ScratchLease(ScratchPool &pool) : pool_(pool), scratch_(pool.take()) {}
  ~ScratchLease() {
    if (scratch_) pool_.give(std::move(scratch_));
  }
  Scratch *get() const { return scratch_.get(); }  // null: no memory

 private:
  ScratchPool &pool_;
  Box<Scratch> scratch_;
};

}  // namespace vexfs::vector
