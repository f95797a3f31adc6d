// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Nodes' units that are kept in memory.
#include "diskann_cache.h"

#include <new>

#include "../platform.h"

namespace vexfs::vector {

DiskCache::~DiskCache() {
  for (Table *t = table_.load(std::memory_order_relaxed); t;) {
    Table *older = t->older;
    vx_free_large(t, t->bytes());
    t = older;
  }
}

void DiskCache::make(usize bytes, u32 entry_bytes) {
  Table *old = table_.load(std::memory_order_relaxed);
  u32 n = 1;
  while (usize{n} * 2 * ways * entry_bytes <= bytes) n *= 2;
  if (old && n < old->nsets * 4) return;
  const Table shape{.older = old, .nsets = n, .entry_bytes = entry_bytes};
  void *p = vx_alloc_large(shape.bytes(), 0);
  if (!p) return;
  auto *t = new (p) Table(shape);
  memset(static_cast<void *>(t->sets()), 0, usize{n} * sizeof(Set));
  bytes_.fetch_add(shape.bytes(), std::memory_order_relaxed);
  table_.store(t, std::memory_order_release);
}

bool DiskCache::get(u32 key, u8 *out) {
  Table *t = table_.load(std::memory_order_acquire);
  if (!t) return false;
  u32 at;
  Set &s = t->set_of(key, &at);
  Guard g(locks_[at % locks].spin);
  for (u32 w = 0; w < ways; w++) {
    if (s.key[w] != key + 1) continue;
    s.asked[w] = 1;
    memcpy(out, t->entry(at, w), t->entry_bytes);
    return true;
  }
  return false;
}

void DiskCache::put(u32 key, const u8 *in, u64 version) {
  Table *t = table_.load(std::memory_order_acquire);
  if (!t) return;
  u32 at;
  Set &s = t->set_of(key, &at);
  Guard g(locks_[at % locks].spin);
  if (version_.load(std::memory_order_acquire) != version) return;
  for (u32 w = 0; w < ways; w++)
    if (s.key[w] == key + 1) return;
  while (s.asked[s.hand]) {
    s.asked[s.hand] = 0;
    s.hand = (s.hand + 1) % ways;
  }
  memcpy(t->entry(at, s.hand), in, t->entry_bytes);
  s.key[s.hand] = key + 1;
  s.hand = (s.hand + 1) % ways;
}

void DiskCache::forget() {
  version_.fetch_add(1, std::memory_order_acq_rel);
  Table *t = table_.load(std::memory_order_acquire);
  for (u32 i = 0; t && i < t->nsets; i++) {
    Guard g(locks_[i % locks].spin);
    memset(&t->sets()[i], 0, sizeof(Set));
  }
}

}  // namespace vexfs::vector
