// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Choosing the codes of an HNSW graph by the rows there are: short ones, if they rank a sample nearly as the rows do.
#include "code_trial.h"
#include "hnsw.h"

namespace vexfs::vector {
namespace hnsw_learn_impl {
namespace {

constexpr u32 judged_min = CodeTrial::sampled;  // with fewer rows nothing is judged: the longer codes
constexpr u32 judged_again = 8192;              // rows at which what was chosen without judging is chosen again

// Kinds that are tried, shortest first, before the longer codes are taken. Where rows are in memory anyway, codes of 4 bits
// are the fastest, up to some hundred elements; of many elements 2 bits are as fast, and half as large. Where rows are not in
// memory, what counts is how short codes are.
constexpr u32 many_elements = 512;
constexpr simd::CodeKind tried[] = {simd::CodeKind::rabitq1, simd::CodeKind::rabitq2, simd::CodeKind::sq4};
constexpr bool worth_trying(simd::CodeKind kind, bool compact, u32 dim) {
  return compact || !simd::rotated(kind) || (kind == simd::CodeKind::rabitq2 && dim >= many_elements);
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
  CodeTrial trial;
  VX_TRY(trial.begin(space, rows, slots, hnsw_learn_impl::tried,
                     sizeof hnsw_learn_impl::tried / sizeof hnsw_learn_impl::tried[0]));
  for (const simd::CodeKind kind : hnsw_learn_impl::tried) {
    if (!hnsw_learn_impl::worth_trying(kind, params_.compact, space.dim())) continue;
    simd::CodeSpace codes = VX_TRY(simd::CodeSpace::make(space, kind));
    if (!VX_TRY(trial.ranks_well(codes, interrupted, ctx))) continue;
    start_over(VX_TRY(simd::CodeSpace::make(space, kind)));
    break;
  }
  VX_TRY(measure_.adopt(trial.centre()));  // the centre they were judged by
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
