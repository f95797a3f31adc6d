// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Words of slots: growth.
#include "slot_records.h"

#include <new>

#include "../platform.h"

namespace vexfs::vector {

void SlotRecords::reset() {
  for (std::atomic<Leaf *> &t : top_) {
    Leaf *l = t.load(std::memory_order_relaxed);
    if (!l) continue;
    for (std::atomic<Segment *> &a : l->at)
      if (Segment *s = a.load(std::memory_order_relaxed)) vx_free_large(s, segment_bytes());
    vx_free_large(l, sizeof(Leaf));
    t.store(nullptr, std::memory_order_relaxed);
  }
  limit_.store(0, std::memory_order_relaxed);
  bytes_.store(0, std::memory_order_relaxed);
}

Status SlotRecords::bring(u32 number) {
  VX_ASSERT((number >> leaf_bits) < top_slots);
  Guard g(grow_lock_);
  if (segment(number)) return {};
  std::atomic<Leaf *> &top = top_[number >> leaf_bits];
  Leaf *l = top.load(std::memory_order_relaxed);
  if (!l) {
    void *p = vx_alloc_large(sizeof(Leaf), VX_ALLOC_ZERO);
    if (!p) return Errno::nomem;
    l = new (p) Leaf{};
    top.store(l, std::memory_order_release);
    bytes_.fetch_add(sizeof(Leaf), std::memory_order_relaxed);
  }
  void *p = vx_alloc_large(segment_bytes(), 0);
  if (!p) return Errno::nomem;
  memset(p, 0xff, segment_bytes());  // every word record_none
  auto *s = static_cast<Segment *>(p);
  s->dirty.store(0, std::memory_order_relaxed);
  l->at[number & ((1u << leaf_bits) - 1)].store(s, std::memory_order_release);
  bytes_.fetch_add(segment_bytes(), std::memory_order_relaxed);
  const u32 end = (number + 1) << shift;
  if (limit_.load(std::memory_order_relaxed) < end) limit_.store(end, std::memory_order_release);
  return {};
}

void *SlotRecords::take_empty(u32 number) {
  Guard g(grow_lock_);
  Segment *s = segment(number);
  if (!s || s->dirty.load(std::memory_order_acquire)) return nullptr;
  for (u32 i = 0; i < segment_slots; i++)
    if (s->words()[usize{i} * words_].load(std::memory_order_acquire) != record_none) return nullptr;
  Leaf *l = top_[number >> leaf_bits].load(std::memory_order_relaxed);
  l->at[number & ((1u << leaf_bits) - 1)].store(nullptr, std::memory_order_release);
  return s;
}

void SlotRecords::release(void *taken) {
  vx_free_large(taken, segment_bytes());
  bytes_.fetch_sub(segment_bytes(), std::memory_order_relaxed);
}

Result<SlotRecords::Word *> SlotRecords::get(u32 slot) {
  if (Word *w = peek(slot)) return w;
  VX_TRY(bring(slot >> shift));
  return peek(slot);
}

}  // namespace vexfs::vector
