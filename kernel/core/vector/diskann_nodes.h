// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Lists of a graph on disk that are kept in memory: those of nodes that are not in a checkpoint yet, and those that changed
// since the last one.
//
// Who changes anything holds the index's lock for edits. Readers take none, but an epoch: what a checkpoint has made
// superfluous is taken out, and freed when no reader is left that may have found it.
#pragma once
#include "diskann_format.h"
#include "hnsw_graph.h"

namespace vexfs::vector {

struct DiskNode {
  DiskNode *next;            // of those to be freed
  std::atomic<u32> changed;  // since it was stored as it is
  Link link[1];              // `cap` of them; a list that is not full ends at slot_none
};

class DiskNodes : Pinned {
 public:
  DiskNodes() = default;
  ~DiskNodes();
  Status make(const DiskShape &shape);  // nomem
  bool made() const { return top_ != nullptr; }

  DiskNode *peek(u32 slot) const {
    Leaf *l = leaf(slot >> shape_.shift);
    return l ? l->at[slot & shape_.mask()].load(std::memory_order_acquire) : nullptr;
  }
  // A node with that list, which is nowhere to be seen before it is there whole; dirty. Not if there is one. nomem.
  Result<DiskNode *> add(u32 slot, const u32 *links, u32 n);
  // After the change of its list.
  void changed(u32 slot) {
    if (DiskNode *n = peek(slot)) n->changed.store(1, std::memory_order_release);
    mark_dirty(slot >> shape_.shift);
  }
  // Before it is read in order to be stored: what changes from then on counts as not stored.
  static void unchanged(DiskNode *n) { n->changed.exchange(0, std::memory_order_acq_rel); }
  void mark_dirty(u32 blob) {
    if (Leaf *l = leaf(blob)) l->dirty.store(1, std::memory_order_release);
  }
  // The same of a blob of which nothing may be in memory. nomem.
  Status touch(u32 blob) {
    VX_TRY(bring(blob));
    mark_dirty(blob);
    return {};
  }
  bool dirty(u32 blob) const {
    Leaf *l = leaf(blob);
    return l && l->dirty.load(std::memory_order_acquire);
  }
  void clear_dirty(u32 blob) {
    if (Leaf *l = leaf(blob)) l->dirty.exchange(0, std::memory_order_acq_rel);
  }
  // Takes out the nodes that are stored as they are; free() them when no reader can have them.
  DiskNode *take_clean();
  // The same with the one of that slot, if there is one, whatever it is.
  void take(u32 slot, DiskNode **chain);
  void free(DiskNode *chain);
  usize memory_bytes() const { return bytes_.load(std::memory_order_relaxed) + nodes_bytes(); }
  usize nodes_bytes() const { return nodes_bytes_.load(std::memory_order_relaxed); }  // what take_clean() can free

 private:
  static constexpr u32 mid_bits = 10;
  struct Leaf {
    std::atomic<u32> dirty;
    std::atomic<DiskNode *> at[1];  // of each slot of a blob
  };
  struct Mid {
    std::atomic<Leaf *> at[1u << mid_bits];
  };
  u32 tops() const { return u32{1} << (31 - shape_.shift - mid_bits); }
  usize leaf_bytes() const { return sizeof(Leaf) + sizeof(DiskNode *) * shape_.slots(); }
  usize node_bytes() const { return sizeof(DiskNode) + usize{4} * shape_.cap; }
  Leaf *leaf(u32 blob) const {
    const Mid *m =
        top_ && (blob >> mid_bits) < tops() ? top_[blob >> mid_bits].load(std::memory_order_acquire) : nullptr;
    return m ? m->at[blob & ((1u << mid_bits) - 1)].load(std::memory_order_acquire) : nullptr;
  }
  Result<Leaf *> bring(u32 blob);
  template <class F>
  void each_leaf(F &&f);

  DiskShape shape_;
  std::atomic<Mid *> *top_ = nullptr;
  std::atomic<usize> bytes_{0}, nodes_bytes_{0};
};

}  // namespace vexfs::vector
