// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Codes on trial: the nearest of each of some rows of a sample, by the rows and by their codes.
#include "code_trial.h"

#include "flat.h"

namespace vexfs::vector {
namespace code_trial_impl {
namespace {

constexpr u32 blocks = 8, block_rows = CodeTrial::sampled / blocks;  // rows side by side are often near ones
constexpr u32 queries = 64;                                          // of the sample
constexpr u32 wanted = 10, kept = 20;  // neighbours that must be among so many nearest by code
constexpr u32 share_percent = 97;      // of them

}  // namespace
}  // namespace code_trial_impl

struct CodeTrial::Sample {
  u32 n = 0;
  const void *row[sampled];
  const void *code[sampled];
  u32 aux[sampled], exact[sampled], coded[sampled];
  Hit near[code_trial_impl::wanted + 1], beam[code_trial_impl::kept + 1];  // a row is its own nearest
};

CodeTrial::~CodeTrial() {
  vx_free_large(sample_, sizeof(Sample));
  vx_free_large(bytes_, size_);
}

// Memory for the trial of any kind: its centre, first of all, a query, and the sample's codes.
Status CodeTrial::begin(const simd::Space &space, RowView &rows, u32 slots, const simd::CodeKind *kinds, u32 n) {
  VX_ASSERT(!sample_);
  space_ = space;
  for (u32 i = 0; i < n; i++) {
    const simd::CodeSpace codes = VX_TRY(simd::CodeSpace::make(space, kinds[i]));
    size_ = max_of(size_, codes.centre_bytes() + codes.work_bytes() + align_up<usize>(codes.query_bytes(), 64) +
                              usize{sampled} * codes.bytes());
  }
  sample_ = static_cast<Sample *>(vx_alloc_large(sizeof(Sample), 0));
  bytes_ = static_cast<u8 *>(vx_alloc_large(size_, 0));
  if (!sample_ || !bytes_) return Errno::nomem;
  sample_->n = 0;
  VX_TRY(take(rows, slots));
  return sample_->n ? Status() : Status(Errno::again);
}

Status CodeTrial::take(RowView &rows, u32 slots) {
  using namespace code_trial_impl;
  Sample &t = *sample_;
  const u32 apart = slots / blocks;
  for (u32 b = 0; b < blocks; b++) {
    const u32 most = t.n + block_rows;
    for (u32 slot = b * apart; slot < (b + 1) * apart && t.n < most; slot++) {
      if (slot % 4096 == 0) vx_yield();
      if (rows.dead(slot)) continue;
      Result<const u8 *> r = rows.row(slot);
      if (!r.ok() && r.code() != Errno::noent) return r.error();
      if (!r.ok() || rows.dead(slot)) continue;  // found damaged while it was read
      t.row[t.n] = *r;
      t.aux[t.n++] = rows.aux(*r, slot);
    }
  }
  return {};
}

// Of the nearest by the rows, how many are among the nearest by code?
u32 CodeTrial::agreement() {
  using namespace code_trial_impl;
  Sample &t = *sample_;
  TopK near{t.near, min_of<u32>(wanted + 1, t.n), 0}, beam{t.beam, min_of<u32>(kept + 1, t.n), 0};
  for (u32 i = 0; i < t.n; i++) {
    if (near.wants(t.exact[i], i)) near.add(t.exact[i], i);
    if (beam.wants(t.coded[i], i)) beam.add(t.coded[i], i);
  }
  const u32 limit = beam.limit();
  u32 found = 0;
  for (u32 i = 0; i < near.n; i++) found += t.coded[near.hits[i].slot] <= limit;
  return found;
}

void CodeTrial::encode(simd::CodeSpace &codes, u8 *work, u8 *at) {
  Sample &t = *sample_;
  for (u32 i = 0; i < t.n; i++, at += codes.bytes()) {
    codes.encode(t.row[i], t.aux[i], work, at);
    t.code[i] = at;
    if (i % 64 == 63) vx_yield();
  }
}

Result<bool> CodeTrial::ranks_well(simd::CodeSpace &codes, bool (*interrupted)(void *), void *ctx) {
  using namespace code_trial_impl;
  Sample &t = *sample_;
  u8 *work = bytes_ + codes.centre_bytes(), *query = work + codes.work_bytes();
  codes.average(t.row, t.aux, t.n, bytes_);
  VX_TRY(codes.set_centre(bytes_));
  encode(codes, work, query + align_up<usize>(codes.query_bytes(), 64));
  u32 found = 0, asked = 0;
  for (u32 i = 0; i < t.n; i += max_of<u32>(t.n / queries, 1)) {
    if (interrupted && interrupted(ctx)) return Errno::intr;
    const simd::Query q = space_.row_query(t.row[i], t.aux[i]);
    simd::CodeQuery cq;
    codes.prepare(q, work, query, &cq);
    space_.score(q, t.row, t.aux, t.n, t.exact);
    codes.score(cq, t.code, t.n, t.coded);
    found += agreement();
    asked += min_of<u32>(wanted + 1, t.n);
    vx_yield();
  }
  return u64{found} * 100 >= u64{asked} * share_percent;
}

}  // namespace vexfs::vector
