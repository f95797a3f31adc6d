// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Choosing the codes of an HNSW graph by the rows there are: short ones, if they rank a sample nearly as the rows do.
#include "flat.h"
#include "hnsw.h"

namespace vexfs::vector {
namespace hnsw_learn_impl {
namespace {

constexpr u32 blocks = 8, block_rows = 128, sampled = blocks * block_rows;  // rows side by side are often near ones
constexpr u32 judged_min = sampled;    // with fewer rows nothing is judged: the longer codes
constexpr u32 judged_again = 8192;     // rows at which what was chosen without judging is chosen again
constexpr u32 queries = 64;            // of the sample
constexpr u32 wanted = 10, kept = 20;  // neighbours that must be among so many nearest by code
constexpr u32 share_percent = 97;      // of them

// Kinds that are tried, shortest first, before the longer codes are taken. Where rows are in memory anyway, codes of 4 bits
// are the fastest, up to some hundred elements; of many elements 2 bits are as fast, and half as large. Where rows are not in
// memory, what counts is how short codes are.
constexpr u32 many_elements = 512;
constexpr simd::CodeKind tried[] = {simd::CodeKind::rabitq1, simd::CodeKind::rabitq2, simd::CodeKind::sq4};
constexpr bool worth_trying(simd::CodeKind kind, bool compact, u32 dim) {
  return compact || !simd::rotated(kind) || (kind == simd::CodeKind::rabitq2 && dim >= many_elements);
}

struct Trial {
  u32 n = 0;
  const void *row[sampled];
  const void *code[sampled];
  u32 aux[sampled], exact[sampled], coded[sampled];
  Hit near[wanted + 1], beam[kept + 1];  // a row is its own nearest
};

// Memory of a trial, given back with it.
struct TrialMemory : Pinned {
  Trial *trial = nullptr;
  u8 *bytes = nullptr;
  usize size = 0;
  ~TrialMemory() {
    vx_free_large(trial, sizeof(Trial));
    vx_free_large(bytes, size);
  }
  Status make(usize n) {
    size = n;
    trial = static_cast<Trial *>(vx_alloc_large(sizeof(Trial), 0));
    bytes = static_cast<u8 *>(vx_alloc_large(n, 0));
    if (!trial || !bytes) return Errno::nomem;
    trial->n = 0;
    return {};
  }
};

// For the trial of any kind: its centre, first of all, a query, and the sample's codes.
Result<usize> trial_bytes(const simd::Space &space) {
  usize most = 0;
  for (const simd::CodeKind kind : tried) {
    const simd::CodeSpace codes = VX_TRY(simd::CodeSpace::make(space, kind));
    most = max_of(most, codes.centre_bytes() + codes.work_bytes() + align_up<usize>(codes.query_bytes(), 64) +
                            usize{sampled} * codes.bytes());
  }
  return most;
}

Status take_sample(RowView &rows, u32 slots, Trial &t) {
  const u32 apart = slots / blocks;
  for (u32 b = 0; b < blocks; b++)
    for (u32 i = 0; i < block_rows; i++) {
      const u32 slot = b * apart + i;
      if (rows.dead(slot)) continue;
      Result<const u8 *> r = rows.row(slot);
      if (!r.ok() && r.code() != Errno::noent) return r.error();
      if (!r.ok() || rows.dead(slot)) continue;  // found damaged while it was read
      t.row[t.n] = *r;
      t.aux[t.n++] = rows.aux(*r, slot);
    }
  return {};
}

// Of the nearest by the rows, how many are among the nearest by code?
u32 agreement(Trial &t, u32 n) {
  TopK near{t.near, min_of<u32>(wanted + 1, n), 0}, beam{t.beam, min_of<u32>(kept + 1, n), 0};
  for (u32 i = 0; i < n; i++) {
    if (near.wants(t.exact[i], i)) near.add(t.exact[i], i);
    if (beam.wants(t.coded[i], i)) beam.add(t.coded[i], i);
  }
  const u32 limit = beam.limit();
  u32 found = 0;
  for (u32 i = 0; i < near.n; i++) found += t.coded[near.hits[i].slot] <= limit;
  return found;
}

// Do codes of this kind rank the sample as its rows do?
Result<bool> ranks_well(const simd::Space &space, simd::CodeSpace &codes, Trial &t, u8 *bytes,
                        bool (*interrupted)(void *), void *ctx) {
  u8 *centre = bytes, *work = centre + codes.centre_bytes(), *query = work + codes.work_bytes();
  u8 *at = query + align_up<usize>(codes.query_bytes(), 64);
  codes.average(t.row, t.aux, t.n, centre);
  VX_TRY(codes.set_centre(centre));
  for (u32 i = 0; i < t.n; i++, at += codes.bytes()) {
    codes.encode(t.row[i], t.aux[i], work, at);
    t.code[i] = at;
    if (i % 64 == 63) vx_yield();
  }
  u32 found = 0, asked = 0;
  for (u32 i = 0; i < t.n; i += max_of<u32>(t.n / queries, 1)) {
    if (interrupted(ctx)) return Errno::intr;
    const simd::Query q = space.row_query(t.row[i], t.aux[i]);
    simd::CodeQuery cq;
    codes.prepare(q, work, query, &cq);
    space.score(q, t.row, t.aux, t.n, t.exact);
    codes.score(cq, t.code, t.n, t.coded);
    found += agreement(t, t.n);
    asked += min_of<u32>(wanted + 1, t.n);
    vx_yield();
  }
  return u64{found} * 100 >= u64{asked} * share_percent;
}

}  // namespace
}  // namespace hnsw_learn_impl

// Without enough rows the longer codes, until there are.
bool Hnsw::outgrown(u32 slots) const {
  if (must_learn()) return false;
  return learnt_ && learnt_ < hnsw_learn_impl::judged_min && slots >= hnsw_learn_impl::judged_again;
}

Status Hnsw::learn(RowView &rows, u32 slots, Scratch &, bool (*interrupted)(void *), void *ctx) {
  if (!must_learn()) return {};
  const simd::Space space = measure_.space();
  if (slots < hnsw_learn_impl::judged_min) {
    decide(slots);
    return {};
  }
  hnsw_learn_impl::TrialMemory memory;
  const usize bytes = VX_TRY(hnsw_learn_impl::trial_bytes(space));
  VX_TRY(memory.make(bytes));
  VX_TRY(hnsw_learn_impl::take_sample(rows, slots, *memory.trial));
  if (memory.trial->n == 0) return Errno::again;
  for (const simd::CodeKind kind : hnsw_learn_impl::tried) {
    if (!hnsw_learn_impl::worth_trying(kind, params_.compact, space.dim())) continue;
    simd::CodeSpace codes = VX_TRY(simd::CodeSpace::make(space, kind));
    if (!VX_TRY(hnsw_learn_impl::ranks_well(space, codes, *memory.trial, memory.bytes, interrupted, ctx))) continue;
    start_over(VX_TRY(simd::CodeSpace::make(space, kind)));
    break;
  }
  VX_TRY(measure_.adopt(memory.bytes));  // the centre they were judged by
  decide(slots);
  return {};
}

void Hnsw::decide(u32 slots) {
  learnt_ = slots;
  decided_.store(true, std::memory_order_release);
}

// The graph of other codes. Nothing is in it yet, and nobody looks at it before decide().
void Hnsw::start_over(const simd::CodeSpace &codes) {
  VX_ASSERT(!decided_.load(std::memory_order_relaxed) && entry().empty());
  if (measure_.kind() == codes.kind()) return;
  const simd::Space space = measure_.space();
  measure_.~Measure();
  graph_.~Graph();
  new (&graph_) Graph(params_, codes, nullptr, 0);
  new (&measure_) Measure(graph_, space, codes);
}

}  // namespace vexfs::vector
