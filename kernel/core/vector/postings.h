// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Posting lists: of each list the slots that belong to it, read without locks while others append.
//
// A list is a chain of segments, the newest first, each larger than the one before. Segments never move, and are freed
// with the lists only. Entries lie in blocks: first the words of its entries (slots, then perhaps another word each),
// then their bytes, column by column, as a scan of codes wants them.
#pragma once
#include <atomic>

#include "../base/lock.h"
#include "../base/result.h"
#include "rows.h"

namespace vexfs::vector {

struct PostingShape {
  u32 block = 4;  // entries in a block
  u32 words = 1;  // of 32 bits in an entry: the slot, and one more or none
  u32 bytes = 0;  // further bytes in an entry
  usize block_bytes() const { return usize{block} * (4 * words + bytes); }
};

struct PostingSegment {
  PostingSegment *older;
  std::atomic<u32> used;  // entries that are complete
  u32 capacity;           // a multiple of PostingShape::block
  u32 first;              // number in the list of its first entry
  u32 pad;
  u8 *data() { return reinterpret_cast<u8 *>(this + 1); }
  const u8 *data() const { return reinterpret_cast<const u8 *>(this + 1); }
};
static_assert(sizeof(PostingSegment) % 8 == 0);

class PostingLists : Pinned {
 public:
  PostingLists() = default;
  ~PostingLists() { reset(); }
  // Empty lists. nomem. Nobody else may look at them yet.
  Status make(u32 lists, const PostingShape &shape);
  void reset();

  u32 count() const { return lists_; }
  const PostingShape &shape() const { return shape_; }
  u64 entries() const { return entries_.load(std::memory_order_relaxed); }
  usize memory_bytes() const { return bytes_.load(std::memory_order_relaxed); }

  // The newest segment, or null.
  const PostingSegment *newest(u32 list) const { return heads_[list].load(std::memory_order_acquire); }
  // Adds an entry; gives its number in the list. nomem: nothing was added.
  Result<u32> append(u32 list, u32 slot, u32 word, const u8 *bytes);

  const u32 *slots(const PostingSegment *s, u32 block) const {
    return reinterpret_cast<const u32 *>(s->data() + block * shape_.block_bytes());
  }
  const u32 *second_words(const PostingSegment *s, u32 block) const { return slots(s, block) + shape_.block; }
  const u8 *codes(const PostingSegment *s, u32 block) const {
    return reinterpret_cast<const u8 *>(slots(s, block) + usize{shape_.words} * shape_.block);
  }
  u32 slot_at(const PostingSegment *s, u32 i) const { return slots(s, i / shape_.block)[i % shape_.block]; }
  // The segment that has entry `number` of the list, and its place there. Null: there is no such entry.
  const PostingSegment *find(u32 list, u32 number, u32 *at) const;
  // The second word and the bytes of an entry.
  void read(const PostingSegment *s, u32 at, u32 *word, u8 *bytes) const;

 private:
  static constexpr u32 lock_bits = 6;
  struct StripedLock {
    Spin spin{"vexfs_postings"};
  };
  usize segment_bytes(u32 capacity) const {
    return sizeof(PostingSegment) + capacity / shape_.block * shape_.block_bytes();
  }
  u32 next_capacity(const PostingSegment *newest) const;
  PostingSegment *make_segment(u32 capacity);
  void free_segment(PostingSegment *s);
  u32 write(PostingSegment *s, u32 slot, u32 word, const u8 *bytes);

  PostingShape shape_;
  u32 lists_ = 0;
  std::atomic<PostingSegment *> *heads_ = nullptr;
  std::atomic<u64> entries_{0};
  std::atomic<usize> bytes_{0};
  StripedLock locks_[1u << lock_bits];
};

}  // namespace vexfs::vector
