// SPDX-License-Identifier: MIT
// Sets of blocks of a device, one bit each.
#pragma once
#include <vector>

#include "../../kernel/core/base/types.h"

namespace vexfs::repair {

class BlockSet {
 public:
  explicit BlockSet(u64 blocks = 0) : size_(blocks), words_(div_up<u64>(blocks, 64)) {}
  u64 size() const { return size_; }
  bool has(u64 b) const { return b < size_ && (words_[b / 64] >> (b % 64) & 1); }
  void add(u64 start, u64 count) {  // what lies outside is left out
    for (u64 b = start; b < size_ && b - start < count; b++) words_[b / 64] |= u64{1} << (b % 64);
  }
  void remove(u64 start, u64 count) {
    for (u64 b = start; b < size_ && b - start < count; b++) words_[b / 64] &= ~(u64{1} << (b % 64));
  }
  bool any(u64 start, u64 count) const {
    for (u64 b = start; b < size_ && b - start < count; b++)
      if (has(b)) return true;
    return false;
  }
  void add(const BlockSet &o) {
    for (usize i = 0; i < words_.size() && i < o.words_.size(); i++) words_[i] |= o.words_[i];
  }

 private:
  u64 size_;
  std::vector<u64> words_;
};

}  // namespace vexfs::repair
