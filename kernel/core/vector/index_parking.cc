// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Letting go of the memory of an index that nobody uses, and bringing it back from its checkpoint at the next use.
//
// An index goes as a whole, not blob by blob: a walk touches nearly all segments of a graph within a few queries, and
// lists are made from all records at once, so half of one would be read again for each search.
#include "index_keeper.h"

namespace vexfs::vector {
namespace index_parking_impl {
namespace {

// Rows beyond the checkpoint for which it is not written again: they are scanned, and inserted once more when there are
// more of them.
constexpr u32 unsaved_max = walked_slots_min;
constexpr usize worth_parking = 64 << 10;

}  // namespace
}  // namespace index_parking_impl

// The memory that the index takes now counts.
void IndexKeeper::account(LiveIndex &l) {
  const usize now = l.index->memory_bytes();
  if (now == l.accounted.load(std::memory_order_relaxed)) return;
  Guard g(lock_);
  const usize before = l.accounted.exchange(now, std::memory_order_relaxed);
  table_.cache().set_external(static_cast<s64>(now) - static_cast<s64>(before));
}

void IndexKeeper::touch() { used_.store(vx_clock_mono_ns(), std::memory_order_relaxed); }

usize IndexKeeper::evictable_bytes() {
  Guard g(lock_);
  if (!live_ || live_->refs.load(std::memory_order_relaxed) != 1) return 0;
  const usize bytes = live_->accounted.load(std::memory_order_relaxed);
  return bytes >= index_parking_impl::worth_parking ? bytes : 0;
}

usize IndexKeeper::evict(bool write) {
  if (!job_.try_lock()) return 0;  // a checkpoint or a change of the index is under way
  if (write && !save_later() && unsaved() && evictable_bytes()) (void)checkpoint_locked().ok();
  const usize freed = park();
  job_.unlock();
  return freed;
}

// Is more in the index than may be left to inserting it again?
bool IndexKeeper::unsaved() {
  Guard g(lock_);
  return live_ && live_->upto.load(std::memory_order_relaxed) >
                      covered_.load(std::memory_order_relaxed) + index_parking_impl::unsaved_max;
}

usize IndexKeeper::park() {
  LiveIndex *l;
  usize bytes;
  const u32 slots = table_.slots();
  {
    Guard g(lock_);
    l = live_;
    // With no reference but ours nobody can be inside, and nobody gets in while we hold the lock.
    if (!l || l->refs.load(std::memory_order_acquire) != 1) return 0;
    const u32 upto = l->upto.load(std::memory_order_relaxed), have = covered_.load(std::memory_order_relaxed);
    bytes = l->accounted.load(std::memory_order_relaxed);
    if (bytes < index_parking_impl::worth_parking || upto < have || upto - have > index_parking_impl::unsaved_max ||
        slots - min_of(slots, l->claimed) > index_parking_impl::unsaved_max)
      return 0;
    VX_ASSERT(l->nclaims == 0 && !l->learning);
    parked_ = {.is = true, .upto = have, .counts = l->index->counts()};
    live_ = nullptr;
  }
  release(l);
  recall_.let_go();
  table_.cache().index_evictions.fetch_add(1, std::memory_order_relaxed);
  return bytes;
}

u32 IndexKeeper::parked_backlog(u32 slots) const {
  if (!parked_.is || slots < walked_slots_min) return 0;
  const u32 tail = slots - min_of(slots, parked_.upto);
  return tail > index_parking_impl::unsaved_max ? tail : 0;
}

u32 IndexKeeper::reached() {
  Guard g(lock_);
  return live_ ? live_->upto.load(std::memory_order_acquire) : parked_.is ? parked_.upto : 0;
}

// Null: no memory. *lost: its checkpoint is no good, and it begins empty.
LiveIndex *IndexKeeper::reopen(const Parked &was, bool *lost) {
  if (was.upto) {
    Result<LiveIndex *> l = open_checkpoint(false);
    if (l.ok()) return *l;
    if (l.code() == Errno::nomem) return nullptr;
    warn_unusable();
    *lost = true;
  }
  Result<LiveIndex *> l = make_empty(params());
  return l.ok() ? *l : nullptr;
}

// The index, brought back if it was let go of. Null: there is none, or no memory for it now. Reads the checkpoint's
// header alone, and waits for nobody who waits for a view or a handle: it may be called within one.
LiveIndex *IndexKeeper::hold_open() {
  if (LiveIndex *l = hold()) return l;
  Guard o(open_lock_);
  Parked was;
  {
    Guard g(lock_);
    if (live_) live_->refs.fetch_add(1, std::memory_order_relaxed);
    if (live_ || !parked_.is) return live_;
    was = parked_;
  }
  bool lost = false;
  LiveIndex *const made = reopen(was, &lost);
  LiveIndex *l = made;
  if (!l) return nullptr;
  {
    Guard g(lock_);
    if (parked_.is && !live_) {
      live_ = l;
      parked_ = {};
      l->refs.fetch_add(1, std::memory_order_relaxed);
      if (lost) covered_.store(0, std::memory_order_relaxed);
    } else {
      l = nullptr;  // it was replaced, or dropped, meanwhile
    }
  }
  if (!l) {
    release(made);
    return hold();
  }
  touch();
  table_.cache().index_reopens.fetch_add(1, std::memory_order_relaxed);
  return l;
}

}  // namespace vexfs::vector
