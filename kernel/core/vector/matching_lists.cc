// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Memory of the lists that walks among matching rows find out.
#include "matching_lists.h"

#include "../base/bits.h"
#include "../base/memory.h"
#include "filter_cache.h"

namespace vexfs::vector {
namespace matching_lists_impl {
namespace {

void breathe(u32 i) {
  if (i % 4096 == 4095) vx_yield();
}

}  // namespace
}  // namespace matching_lists_impl

MatchingLists *MatchingLists::make(FilterMemory &memory, const u64 *bits, u32 most, const MatchingOf &of) {
  const u32 words = div_up<u32>(of.end, 64);
  u64 rows = 0;
  for (u32 w = 0; w < words; w++) {
    rows += popcount(bits[w]);
    matching_lists_impl::breathe(w);
  }
  const auto segments = static_cast<u32>(div_up<u64>(rows, segment_lists));
  const usize bytes =
      sizeof(MatchingLists) + usize{words} * sizeof(Word) + usize{segments} * sizeof(std::atomic<u32 *>);
  if (!memory.take_for_lists(bytes)) return nullptr;
  void *p = vx_alloc_large(bytes, VX_ALLOC_ZERO);
  if (!p) {
    memory.give_of_lists(bytes);
    return nullptr;
  }
  auto *l = new (p) MatchingLists(memory, of, align_up<u32>(min_of(most, most_max) + 1, 16));
  l->bytes_ = bytes;
  l->nsegments_ = segments;
  l->words_ = reinterpret_cast<Word *>(l + 1);
  l->segments_ = reinterpret_cast<std::atomic<u32 *> *>(l->words_ + words);
  u32 before = 0;
  for (u32 w = 0; w < words; w++) {
    const u64 beyond = of.end - w * 64 < 64 ? ~u64{0} << (of.end - w * 64) : 0;
    l->words_[w] = {bits[w] & ~beyond, before, 0};
    before += popcount(l->words_[w].bits);
    matching_lists_impl::breathe(w);
  }
  return l;
}

void MatchingLists::free() {
  for (u32 i = 0; i < nsegments_; i++) {
    matching_lists_impl::breathe(i);
    u32 *s = segments_[i].load(std::memory_order_relaxed);
    if (!s) continue;
    vx_free_large(s, segment_bytes());
    memory_.give_of_lists(segment_bytes());
  }
  const usize bytes = bytes_;
  FilterMemory &memory = memory_;
  this->~MatchingLists();
  vx_free_large(this, bytes);
  memory.give_of_lists(bytes);
}

// The segment, made if it is not there; null: no memory, for which nothing else is given up.
u32 *MatchingLists::bring(u32 number) {
  u32 *there = segments_[number].load(std::memory_order_acquire);
  if (there || full()) return there;
  const bool may = memory_.take_for_lists(segment_bytes());
  u32 *made = nullptr;
  if (may) made = static_cast<u32 *>(vx_alloc_large(segment_bytes(), VX_ALLOC_ZERO | VX_ALLOC_ATOMIC));
  if (made && segments_[number].compare_exchange_strong(there, made, std::memory_order_acq_rel)) return made;
  if (!made) full_.store(true, std::memory_order_relaxed);
  if (made) vx_free_large(made, segment_bytes());
  if (may) memory_.give_of_lists(segment_bytes());
  return there;
}

void MatchingLists::keep(u32 slot, const u32 *list, u32 n) {
  VX_ASSERT(n <= most());
  const u32 at = place(slot);
  u32 *segment = bring(at / segment_lists);
  if (!segment) return;
  u32 *into = segment + usize{at % segment_lists} * stride_;
  u32 state = empty;
  if (!state_of(into).compare_exchange_strong(state, claimed, std::memory_order_relaxed)) return;
  if (n) memcpy(into + 1, list, usize{n} * 4);
  state_of(into).store(ready + n, std::memory_order_release);
}

}  // namespace vexfs::vector
