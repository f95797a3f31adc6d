// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Lists of a graph on disk that are kept in memory: making and freeing them.
#include "diskann_nodes.h"

#include <new>

#include "../platform.h"

namespace vexfs::vector {

Status DiskNodes::make(const DiskShape &shape) {
  VX_ASSERT(!top_);
  shape_ = shape;
  void *p = vx_alloc_large(sizeof(*top_) * tops(), VX_ALLOC_ZERO);
  if (!p) return Errno::nomem;
  top_ = static_cast<std::atomic<Mid *> *>(p);
  for (u32 i = 0; i < tops(); i++) new (&top_[i]) std::atomic<Mid *>(nullptr);
  return {};
}

template <class F>
void DiskNodes::each_leaf(F &&f) {
  for (u32 t = 0; top_ && t < tops(); t++) {
    Mid *m = top_[t].load(std::memory_order_relaxed);
    for (u32 i = 0; m && i < (1u << mid_bits); i++)
      if (Leaf *l = m->at[i].load(std::memory_order_relaxed)) f(l);
  }
}

DiskNodes::~DiskNodes() {
  each_leaf([&](Leaf *l) {
    for (u32 i = 0; i < shape_.slots(); i++)
      if (DiskNode *n = l->at[i].load(std::memory_order_relaxed)) vx_free(n);
    vx_free_large(l, leaf_bytes());
  });
  for (u32 t = 0; top_ && t < tops(); t++)
    if (Mid *m = top_[t].load(std::memory_order_relaxed)) vx_free_large(m, sizeof(Mid));
  if (top_) vx_free_large(top_, sizeof(*top_) * tops());
}

Result<DiskNodes::Leaf *> DiskNodes::bring(u32 blob) {
  if (Leaf *l = leaf(blob)) return l;
  VX_ASSERT((blob >> mid_bits) < tops());
  std::atomic<Mid *> &top = top_[blob >> mid_bits];
  Mid *m = top.load(std::memory_order_relaxed);
  if (!m) {
    void *p = vx_alloc_large(sizeof(Mid), VX_ALLOC_ZERO);
    if (!p) return Errno::nomem;
    m = new (p) Mid{};
    bytes_.fetch_add(sizeof(Mid), std::memory_order_relaxed);
    top.store(m, std::memory_order_release);
  }
  void *p = vx_alloc_large(leaf_bytes(), VX_ALLOC_ZERO);
  if (!p) return Errno::nomem;
  auto *l = static_cast<Leaf *>(p);
  new (&l->dirty) std::atomic<u32>(0);
  for (u32 i = 0; i < shape_.slots(); i++) new (&l->at[i]) std::atomic<DiskNode *>(nullptr);
  bytes_.fetch_add(leaf_bytes(), std::memory_order_relaxed);
  m->at[blob & ((1u << mid_bits) - 1)].store(l, std::memory_order_release);
  return l;
}

Result<DiskNode *> DiskNodes::add(u32 slot, const u32 *links, u32 n) {
  VX_ASSERT(n <= shape_.cap);
  Leaf *l = VX_TRY(bring(slot >> shape_.shift));
  std::atomic<DiskNode *> &at = l->at[slot & shape_.mask()];
  VX_ASSERT(!at.load(std::memory_order_relaxed));
  auto *node = static_cast<DiskNode *>(vx_alloc(node_bytes(), 0));
  if (!node) return Errno::nomem;
  node->next = nullptr;
  new (&node->changed) std::atomic<u32>(1);
  for (u32 i = 0; i < shape_.cap; i++) new (&node->link[i]) Link(i < n ? links[i] : slot_none);
  nodes_bytes_.fetch_add(node_bytes(), std::memory_order_relaxed);
  at.store(node, std::memory_order_release);
  l->dirty.store(1, std::memory_order_release);
  return node;
}

DiskNode *DiskNodes::take_clean() {
  DiskNode *chain = nullptr;
  each_leaf([&](Leaf *l) {
    for (u32 i = 0; i < shape_.slots(); i++) {
      DiskNode *n = l->at[i].load(std::memory_order_relaxed);
      if (!n || n->changed.load(std::memory_order_acquire)) continue;
      l->at[i].store(nullptr, std::memory_order_release);
      n->next = chain;
      chain = n;
    }
  });
  return chain;
}

void DiskNodes::take(u32 slot, DiskNode **chain) {
  Leaf *l = leaf(slot >> shape_.shift);
  DiskNode *n = l ? l->at[slot & shape_.mask()].exchange(nullptr, std::memory_order_acq_rel) : nullptr;
  if (!n) return;
  n->next = *chain;
  *chain = n;
}

void DiskNodes::free(DiskNode *chain) {
  while (chain) {
    DiskNode *next = chain->next;
    vx_free(chain);
    nodes_bytes_.fetch_sub(node_bytes(), std::memory_order_relaxed);
    chain = next;
  }
}

}  // namespace vexfs::vector
