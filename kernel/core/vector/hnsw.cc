// SPDX-License-Identifier: GPL-2.0-only OR MIT
// HNSW: making and freeing, checking, printing.
#include "hnsw.h"

// No C++ runtime is linked into the kernel; the ABI's handler for a call that cannot happen.
extern "C" [[gnu::weak]] void __cxa_pure_virtual() { vx_assert_fail("pure virtual call", "index.h", 0); }

namespace vexfs::vector {

namespace hnsw_impl {
namespace {

constexpr u32 coded_dim_min = 16;  // below, a row is hardly longer than its code

}  // namespace
}  // namespace hnsw_impl

Result<simd::CodeSpace> hnsw_code_space(const simd::Space &space, HnswParams::Codes codes) {
  if (codes == HnswParams::Codes::automatic)
    codes = space.element() != simd::Element::int8 && space.dim() >= hnsw_impl::coded_dim_min ? HnswParams::Codes::sq8
                                                                                              : HnswParams::Codes::none;
  if (codes == HnswParams::Codes::none) return simd::CodeSpace();
  return simd::CodeSpace::make(space, simd::CodeKind{static_cast<u8>(codes)});
}

Result<IndexPtr> hnsw_create(const simd::Space &space, const HnswParams &params) {
  if (params.m < hnsw_m_min || params.m > hnsw_m_max || params.ef_construction == 0 || params.ef_construction > 65536)
    return Errno::inval;
  const simd::CodeSpace codes = VX_TRY(hnsw_code_space(space, params.codes));
  void *mem = vx_alloc(sizeof(Hnsw), 0);
  if (!mem) return Errno::nomem;
  return IndexPtr(new (mem) Hnsw(space, codes, params, nullptr, 0, EntryPoint{}));
}

void Hnsw::destroy() {
  this->~Hnsw();
  vx_free(this);
}

// Such that no two indexes have counts in common.
u64 Hnsw::first_edit() {
  static constinit std::atomic<u64> made{0};
  return (made.fetch_add(1, std::memory_order_relaxed) + 1) << 40;
}

Status Hnsw::adopt(u32 nodes, u32 learnt) {
  learnt_ = learnt;
  nodes_.store(nodes, std::memory_order_relaxed);
  const EntryPoint e = entry();
  if (e.empty() || graph_.level_of(e.slot()) == e.level()) return {};
  vx_log(nullptr, VX_LOG_ERR, "hnsw: the checkpoint's entry point is not on the level it claims");
  return Errno::corrupt;
}

bool Hnsw::contains(u32 slot) {
  if (must_learn()) return false;
  Result<u8 *> segment = graph_.get(slot >> graph_.shape.shift);
  return segment.ok() && graph_.present(slot);
}

bool Hnsw::may_contain(u32 slot) {
  if (must_learn()) return false;
  Result<u8 *> segment = graph_.get(slot >> graph_.shape.shift);
  return segment.ok() ? graph_.present(slot) : segment.code() != Errno::noent;
}

void Hnsw::print(const TextSink &sink) const {
  if (must_learn()) return;
  const EntryPoint e = entry();
  char text[200];
  Printer line(text);
  line.str("hnsw m=").dec(params_.m).str(" ef_construction=").dec(params_.ef_construction);
  constexpr const char *names[] = {"rows", "sq8", "sq4", "rabitq1", "rabitq2"};
  line.str(" on=")
      .str(names[static_cast<u32>(measure_.kind())])
      .str(" dim=")
      .dec(space().dim())
      .str(" nodes=")
      .dec(nodes_.load(std::memory_order_relaxed));
  if (!e.empty()) line.str(" entry=").dec(e.slot()).str(" levels=").dec(e.level() + 1);
  line.str(" memory=").size(memory_bytes()).ch('\n');
  sink(line.c_str(), line.length());
}

namespace hnsw_impl {
namespace {

struct Bitmap {
  u64 *words;
  u32 bits;
  bool test(u32 i) const { return (words[i >> 6] >> (i & 63)) & 1; }
  void set(u32 i) { words[i >> 6] |= u64{1} << (i & 63); }
};

}  // namespace
}  // namespace hnsw_impl

// Counts faults of one node's lists and queues what it leads to.
void Hnsw::verify_node(u8 *segment, u32 slot, VerifyReport *out) const {
  const u32 levels = NodeWord::level(graph_.word(segment, slot).load(std::memory_order_relaxed));
  for (u32 l = 0; l <= levels; l++) {
    const Link *list = graph_.list(segment, slot, l);
    for (u32 i = 0; i < graph_.shape.degree(l); i++) {
      const u32 s = list[i].load(std::memory_order_acquire);
      if (s == slot_none) break;
      if (l == 0) out->links++;
      bool bad = s == slot || s >= graph_.slot_limit();
      for (u32 j = 0; j < i && !bad; j++) bad = list[j].load(std::memory_order_acquire) == s;
      if (!bad) bad = !graph_.present(s);
      out->bad_links += bad;
      if (!bad && l > graph_.level_of(s)) out->bad_levels++;
    }
  }
}

Status Hnsw::verify(VerifyReport *out, Scratch &scratch, bool (*interrupted)(void *), void *ctx) {
  *out = VerifyReport{};
  VX_TRY(measure_.load());
  const EntryPoint e = entry();
  const u32 segments = graph_.segment_count();
  for (u32 g = 0; g < segments; g++) {
    Result<u8 *> r = graph_.get(g);
    if (!r.ok() && r.code() != Errno::noent) return r.error();
  }
  for (u32 g = 0; g < segments; g++) {
    u8 *segment = graph_.peek(g);
    if (!segment) continue;
    for (u32 i = 0; i < graph_.shape.slots(); i++) {
      const u32 slot = (g << graph_.shape.shift) + i;
      if (!graph_.present(slot)) continue;
      out->nodes++;
      verify_node(segment, slot, out);
    }
    if (interrupted && interrupted(ctx)) return Errno::intr;
    vx_yield();
  }
  out->levels = e.empty() ? 0 : e.level() + 1;
  out->bad_entry = e.empty() ? out->nodes != 0 : !graph_.present(e.slot());
  if (e.empty() || out->bad_entry) {
    out->unreachable = out->nodes;
    return {};
  }
  return count_unreachable(e, out, scratch, interrupted, ctx);
}

// Breadth-first over the links of all levels.
Status Hnsw::count_unreachable(EntryPoint e, VerifyReport *out, Scratch &scratch, bool (*interrupted)(void *),
                               void *ctx) {
  const u32 limit = segment_end();
  hnsw_impl::Bitmap seen{VX_TRY(scratch.array<u64>(Scratch::visited, limit / 64 + 1)), limit};
  memset(seen.words, 0, (usize{limit} / 64 + 1) * 8);
  u32 *queue = VX_TRY(scratch.array<u32>(Scratch::heap, limit));
  u32 head = 0, tail = 0;
  seen.set(e.slot());
  queue[tail++] = e.slot();
  u64 reached = 0;
  while (head < tail) {
    const u32 slot = queue[head++];
    reached += graph_.present(slot);
    u8 *segment = graph_.peek(slot >> graph_.shape.shift);
    if (!segment) continue;
    const u32 levels = NodeWord::level(graph_.word(segment, slot).load(std::memory_order_relaxed));
    for (u32 l = 0; l <= levels; l++) {
      const Link *list = graph_.list(segment, slot, l);
      for (u32 i = 0; i < graph_.shape.degree(l); i++) {
        const u32 s = list[i].load(std::memory_order_acquire);
        if (s == slot_none) break;
        if (s >= limit || seen.test(s)) continue;
        seen.set(s);
        queue[tail++] = s;
      }
    }
    if (head % 4096) continue;
    if (interrupted && interrupted(ctx)) return Errno::intr;
    vx_yield();
  }
  out->unreachable = out->nodes - min_of(out->nodes, reached);
  return {};
}

}  // namespace vexfs::vector
