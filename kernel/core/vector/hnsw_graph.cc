// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Segments of an HNSW graph: levels, growth, first touch.
#include "hnsw_graph.h"

namespace vexfs::vector {
namespace hnsw_graph_impl {
namespace {

// splitmix64's finaliser (Steele, Lea, Flood 2014).
u64 mix(u64 x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

}  // namespace
}  // namespace hnsw_graph_impl

constinit Graph::Table Graph::empty_table_{nullptr, 0, nullptr};

Graph::Graph(const HnswParams &params, const simd::CodeSpace &codes, const BlobSource *source, u32 source_slots)
    : shape(params.m, codes), seed_(params.seed), source_slots_(source_slots), table_(&empty_table_) {
  // P(level > l) = m^-(l + 1), Malkov & Yashunin's choice 1 / ln(m) of the level multiplier, in integers.
  u64 t = ~u64{0};
  for (u64 &limit : threshold_) {
    t /= params.m;
    limit = t;
  }
  if (source) {
    source_ = *source;
    source_segments_ = (source_slots + shape.mask()) >> shape.shift;
    slot_limit_.store(source_slots, std::memory_order_relaxed);
  }
}

Graph::~Graph() {
  Table *t = table_.load(std::memory_order_relaxed);
  for (u32 i = 0; i < t->n; i++)
    if (u8 *p = t->at[i].load(std::memory_order_relaxed)) free_segment(p, i);
  while (t != &empty_table_) {
    Table *older = t->older;
    free_table(t);
    t = older;
  }
}

u32 Graph::level_of(u32 slot) const {
  const u64 h = hnsw_graph_impl::mix(seed_ ^ hnsw_graph_impl::mix(slot));
  u32 level = 0;
  while (level < hnsw_level_max && h < threshold_[level]) level++;
  return level;
}

u32 Graph::upper_lists(u32 segment) const {
  u32 sum = 0;
  const u32 first = segment << shape.shift;
  for (u32 i = 0; i < shape.slots(); i++) sum += level_of(first + i);
  return sum;
}

Graph::Table *Graph::make_table(u32 n) {
  const usize bytes = sizeof(Table) + usize{n} * sizeof(std::atomic<u8 *>);
  u8 *p = static_cast<u8 *>(vx_alloc_large(bytes, VX_ALLOC_ZERO));
  if (!p) return nullptr;
  Table *t = new (p) Table{};
  t->n = n;
  t->at = reinterpret_cast<std::atomic<u8 *> *>(p + sizeof(Table));
  for (u32 i = 0; i < n; i++) new (&t->at[i]) std::atomic<u8 *>(nullptr);
  return t;
}

void Graph::free_table(Table *t) { vx_free_large(t, sizeof(Table) + usize{t->n} * sizeof(std::atomic<u8 *>)); }

Status Graph::cover(u32 segment) {
  Table *old = table_.load(std::memory_order_relaxed);
  if (segment < old->n) return {};
  u32 n = max_of<u32>(old->n * 2, 16);
  while (n <= segment) n *= 2;
  Table *t = make_table(n);
  if (!t) return Errno::nomem;
  for (u32 i = 0; i < old->n; i++)
    t->at[i].store(old->at[i].load(std::memory_order_relaxed), std::memory_order_relaxed);
  t->older = old;
  table_.store(t, std::memory_order_release);
  return {};
}

u8 *Graph::make_segment(u32 segment) {
  const usize bytes = shape.bytes(upper_lists(segment));
  u8 *p = static_cast<u8 *>(vx_alloc_large(bytes, 0));
  if (!p) return nullptr;
  memset(p, 0xff, bytes);  // every list empty: slot_none
  if (coded()) memset(p + shape.codes_at, 0, shape.upper_off() - shape.codes_at);
  dirty(p).store(0, std::memory_order_relaxed);
  codes_dirty(p).store(0, std::memory_order_relaxed);
  u32 upper = 0;
  for (u32 i = 0; i < shape.slots(); i++) {
    const u32 slot = (segment << shape.shift) + i;
    const u32 level = level_of(slot);
    word(p, slot).store(level << NodeWord::level_shift | upper, std::memory_order_relaxed);
    upper += level;
  }
  bytes_.fetch_add(bytes, std::memory_order_relaxed);
  return p;
}

void Graph::free_segment(u8 *p, u32 segment) {
  const usize bytes = shape.bytes(upper_lists(segment));
  bytes_.fetch_sub(bytes, std::memory_order_relaxed);
  vx_free_large(p, bytes);
}

Status Graph::read_segment(u32 segment, u8 *into) {
  const usize lists = hnsw_blob_bytes(*this, segment), codes = coded() ? hnsw_codes_blob_bytes(*this) : 0;
  const usize bytes = max_of(lists, codes);
  u8 *blob = static_cast<u8 *>(vx_alloc_large(bytes, 0));
  if (!blob) return Errno::nomem;
  Status st = read_blob(lists_blob(segment), MutBytes(blob, lists));
  Status sense = st.ok() ? hnsw_decode_segment(*this, segment, source_slots_, Bytes(blob, lists), into) : Status();
  if (coded() && st.ok() && sense.ok()) {
    st = read_blob(codes_blob(segment), MutBytes(blob, codes));
    if (st.ok()) sense = hnsw_decode_codes(*this, segment, Bytes(blob, codes), into);
  }
  if (!sense.ok()) {
    set_damaged();
    st = std::move(sense);
  }
  vx_free_large(blob, bytes);
  return st;
}

// Prepared without the lock, so that readers of several segments do not wait for each other's I/O; when two prepare
// the same one, the first to publish wins.
Result<u8 *> Graph::bring(u32 segment, bool make) {
  const bool stored = segment < source_segments_;
  if (!stored && !make) return Errno::noent;
  u8 *p = make_segment(segment);
  if (!p) return Errno::nomem;
  Status st;
  if (stored) st = read_segment(segment, p);
  Guard g(grow_lock_);
  u8 *there = peek(segment);
  if (st.ok() && !there) st = cover(segment);
  if (there || !st.ok()) {
    free_segment(p, segment);
    if (there) return there;
    return st.error();
  }
  table_.load(std::memory_order_relaxed)->at[segment].store(p, std::memory_order_release);
  const u32 end = (segment + 1) << shape.shift;
  if (slot_limit_.load(std::memory_order_relaxed) < end) slot_limit_.store(end, std::memory_order_release);
  return p;
}

Result<u8 *> Graph::get(u32 segment) {
  if (u8 *p = peek(segment)) return p;
  return bring(segment, false);
}

Result<u8 *> Graph::get_or_make(u32 segment) {
  if (u8 *p = peek(segment)) return p;
  return bring(segment, true);
}

}  // namespace vexfs::vector
