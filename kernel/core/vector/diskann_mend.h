// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What a pass that rids a graph on disk of dead rows keeps in memory.
#pragma once
#include "diskann_traversal.h"

namespace vexfs::vector {

struct DiskAnn::Mend : vexfs::Pinned {
  enum class Phase : u32 { gather, lists, ways_in, reach, forget, over };
  explicit Mend(DiskAnn &index) : paths(index) {}
  Phase phase = Phase::gather;
  u32 next = 0;           // blob
  u32 limit = 0;          // slots that there may be a link from to one that leaves
  u32 count = 0;          // nodes that leave
  Vec<u32> lists;         // of each of them: how many links, then these
  Vec<u64> led_to;        // slots that a list has
  Vec<u8> buf;            // a blob
  bool all = false;       // nobody dead had to be left for another pass
  bool was_torn = false;  // by a pass before

  // Rounds of looking for what paths lead to, and joining what they do not.
  Traversal paths;
  Vec<u64> there;  // nodes that there were when the round began, and that stay
  u32 round = 0, nodes = 0, lost = 0;
  bool joining = false, again = false;

  usize bytes() const {
    return sizeof *this + lists.capacity() * 4 + (led_to.capacity() + there.capacity()) * 8 + buf.capacity() +
           paths.bytes();
  }
  const u32 *list_at(u32 word, u32 *n) const {
    *n = lists[word - 1];
    return lists.data() + word;
  }
  void lead_to(u32 slot) {
    if (slot < limit) led_to[slot >> 6] |= u64{1} << (slot & 63);
  }
  bool is_led_to(u32 slot) const { return (led_to[slot >> 6] >> (slot & 63)) & 1; }
};

}  // namespace vexfs::vector
