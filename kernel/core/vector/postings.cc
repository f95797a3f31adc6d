// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Posting lists: growing and appending.
#include "postings.h"

#include "../platform.h"

namespace vexfs::vector {
namespace postings_impl {
namespace {

constexpr u32 capacity_max = 8192;       // of a segment: what a list may waste at most, beside half of itself
constexpr usize small_bytes_max = 4096;  // segments up to here come from the allocator of small things

}  // namespace
}  // namespace postings_impl

Status PostingLists::make(u32 lists, const PostingShape &shape) {
  VX_ASSERT(!heads_ && lists && shape.block && shape.words >= 1 && shape.words <= 2);
  shape_ = shape;
  const usize bytes = usize{lists} * sizeof(std::atomic<PostingSegment *>);
  void *p = vx_alloc_large(bytes, VX_ALLOC_ZERO);
  if (!p) return Errno::nomem;
  heads_ = static_cast<std::atomic<PostingSegment *> *>(p);
  for (u32 i = 0; i < lists; i++) new (&heads_[i]) std::atomic<PostingSegment *>(nullptr);
  lists_ = lists;
  bytes_.fetch_add(bytes, std::memory_order_relaxed);
  return {};
}

void PostingLists::reset() {
  for (u32 l = 0; l < lists_; l++)
    for (PostingSegment *s = heads_[l].load(std::memory_order_relaxed); s;) {
      PostingSegment *older = s->older;
      free_segment(s);
      s = older;
    }
  if (heads_) vx_free_large(heads_, usize{lists_} * sizeof(std::atomic<PostingSegment *>));
  heads_ = nullptr;
  lists_ = 0;
  entries_.store(0, std::memory_order_relaxed);
  bytes_.store(0, std::memory_order_relaxed);
}

// Half of what the list has, so that little is wasted and chains stay short.
u32 PostingLists::next_capacity(const PostingSegment *newest) const {
  const u32 have = newest ? newest->first + newest->capacity : 0;
  return align_up(min_of(max_of(have / 2, shape_.block), postings_impl::capacity_max), shape_.block);
}

PostingSegment *PostingLists::make_segment(u32 capacity) {
  const usize bytes = segment_bytes(capacity);
  void *p = bytes <= postings_impl::small_bytes_max ? vx_alloc(bytes, 0) : vx_alloc_large(bytes, 0);
  if (!p) return nullptr;
  auto *s = new (p) PostingSegment{nullptr, 0, capacity, 0, 0};
  bytes_.fetch_add(bytes, std::memory_order_relaxed);
  return s;
}

void PostingLists::free_segment(PostingSegment *s) {
  const usize bytes = segment_bytes(s->capacity);
  bytes_.fetch_sub(bytes, std::memory_order_relaxed);
  if (bytes <= postings_impl::small_bytes_max)
    vx_free(s);
  else
    vx_free_large(s, bytes);
}

u32 PostingLists::write(PostingSegment *s, u32 slot, u32 word, const u8 *bytes) {
  const u32 used = s->used.load(std::memory_order_relaxed), i = used % shape_.block;
  u8 *block = s->data() + used / shape_.block * shape_.block_bytes();
  u32 *words = reinterpret_cast<u32 *>(block);
  words[i] = slot;
  if (shape_.words == 2) words[shape_.block + i] = word;
  u8 *column = block + usize{4} * shape_.words * shape_.block + i;
  for (u32 j = 0; j < shape_.bytes; j++, column += shape_.block) *column = bytes[j];
  s->used.store(used + 1, std::memory_order_release);
  return s->first + used;
}

Result<u32> PostingLists::append(u32 list, u32 slot, u32 word, const u8 *bytes) {
  VX_ASSERT(list < lists_);
  Spin &lock = locks_[(list * 0x9e3779b1u) >> (32 - lock_bits)].spin;
  std::atomic<PostingSegment *> &head = heads_[list];
  PostingSegment *spare = nullptr;
  for (;;) {
    u32 capacity = 0, number = 0;
    {
      Guard g(lock);
      PostingSegment *s = head.load(std::memory_order_relaxed);
      const bool full = !s || s->used.load(std::memory_order_relaxed) == s->capacity;
      if (full && spare) {
        spare->older = s;
        spare->first = s ? s->first + s->capacity : 0;
        number = write(spare, slot, word, bytes);
        head.store(spare, std::memory_order_release);
        spare = nullptr;
      } else if (full) {
        capacity = next_capacity(s);
      } else {
        number = write(s, slot, word, bytes);
      }
    }
    if (!capacity) {
      if (spare) free_segment(spare);  // another was faster
      entries_.fetch_add(1, std::memory_order_relaxed);
      return number;
    }
    spare = make_segment(capacity);
    if (!spare) return Errno::nomem;
  }
}

const PostingSegment *PostingLists::find(u32 list, u32 number, u32 *at) const {
  if (list >= lists_) return nullptr;
  const PostingSegment *s = newest(list);
  while (s && s->first > number) s = s->older;
  if (!s || number - s->first >= s->used.load(std::memory_order_acquire)) return nullptr;
  *at = number - s->first;
  return s;
}

void PostingLists::read(const PostingSegment *s, u32 at, u32 *word, u8 *bytes) const {
  const u32 block = at / shape_.block, i = at % shape_.block;
  if (shape_.words == 2) *word = second_words(s, block)[i];
  const u8 *column = codes(s, block) + i;
  for (u32 j = 0; j < shape_.bytes; j++, column += shape_.block) bytes[j] = *column;
}

}  // namespace vexfs::vector
