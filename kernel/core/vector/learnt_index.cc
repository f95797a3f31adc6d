// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Slots of an index that has learnt: inserting, checking, counting. Checkpoints are in learnt_checkpoint.cc.
#include "learnt_index.h"

namespace vexfs::vector {
namespace learnt_index_impl {
namespace {

constexpr u32 growth_max = 4;  // times as many slots as were learnt from, then learning anew pays

}  // namespace
}  // namespace learnt_index_impl

LearntIndex::~LearntIndex() = default;

bool LearntIndex::outgrown(u32 slots) const {
  return state() != State::unlearnt && !given_ && slots / learnt_index_impl::growth_max >= learnt_;
}

IndexCounts LearntIndex::counts() const {
  IndexCounts c{.nodes = nodes_.load(std::memory_order_relaxed)};
  if (state() == State::unlearnt) return c;  // params_ may still change
  const bool coded = params_.kind == IndexKind::ivf_pq;
  if (coded || params_.kind == IndexKind::ivf_flat) c.lists = params_.lists;
  if (coded) c.pq_m = params_.pq_m;
  if (params_.kind == IndexKind::lsh) c.tables = params_.tables, c.bits = params_.bits;
  return c;
}

Status LearntIndex::install(Vec<u32> &&model, u32 learnt, bool given) {
  VX_ASSERT(state() == State::unlearnt && model.size() * 4 == model_bytes());
  model_ = std::move(model);
  records_.make(record_words());
  Status s = begin();
  if (!s.ok()) {
    lists_.reset();
    model_ = Vec<u32>();
    return s;
  }
  learnt_ = learnt;
  given_ = given;
  for (u32 i = 0; i < model_blobs(); i++) model_dirty_[i / 64].fetch_or(u64{1} << (i % 64), std::memory_order_relaxed);
  state_.store(State::ready, std::memory_order_release);
  return {};
}

Status LearntIndex::insert(RowView &rows, u32 slot, Scratch &scratch) {
  if (slot > slot_max) return Errno::inval;
  VX_TRY(ready());
  const u8 *row = VX_TRY(rows.row(slot));
  SlotRecords::Word *words = VX_TRY(records_.get(slot));
  u32 none = record_none;
  if (!words[0].compare_exchange_strong(none, record_claimed, std::memory_order_acq_rel)) return Errno::exist;
  u32 first = 0;
  Status s = place(rows, row, rows.aux_off ? rows.aux(row, slot) : 0, slot, words, &first, scratch);
  if (s.ok()) nodes_.fetch_add(1, std::memory_order_relaxed);
  words[0].store(s.ok() ? first : record_none, std::memory_order_release);
  if (s.ok()) records_.set_dirty(slot >> SlotRecords::shift, true);
  return s;
}

// Lists have no links that a dead row could break; its entry goes when the index is built anew.
Status LearntIndex::remove(RowView &rows, u32 slot, Scratch &) { return rows.dead(slot) ? Status() : Errno::inval; }

bool LearntIndex::contains(u32 slot) { return state() != State::unlearnt && ready().ok() && records_.present(slot); }

bool LearntIndex::may_contain(u32 slot) {
  return state() != State::unlearnt && (!ready().ok() || records_.present(slot));
}

usize LearntIndex::memory_bytes() const {
  if (state() != State::ready) return sizeof(*this);  // nothing, or somebody is at it
  return sizeof(*this) + model_.capacity() * 4 + lists_.memory_bytes() + records_.memory_bytes();
}

Status LearntIndex::verify(VerifyReport *out, Scratch &, bool (*interrupted)(void *), void *ctx) {
  *out = VerifyReport{};
  if (state() == State::unlearnt) return {};
  VX_TRY(ready());
  const u32 limit = records_.limit();
  for (u32 slot = 0; slot < limit; slot++) {
    out->nodes += records_.present(slot);
    if (slot % 65536) continue;
    if (interrupted && interrupted(ctx)) return Errno::intr;
    vx_yield();
  }
  u64 right = 0;
  for (u32 l = 0; l < lists_.count(); l++) {
    for (const PostingSegment *s = lists_.newest(l); s; s = s->older) {
      const u32 used = s->used.load(std::memory_order_acquire);
      for (u32 i = 0; i < used; i++) {
        const u32 slot = lists_.slot_at(s, i);
        const bool good = slot < limit && entry_right(l, s->first + i, records_.peek(slot));
        right += good;
        out->bad_links += !good;
      }
      out->links += used;
    }
    if (l % 256) continue;
    if (interrupted && interrupted(ctx)) return Errno::intr;
    vx_yield();
  }
  const u64 want = out->nodes * lists_per_slot();
  out->unreachable = want > right ? want - right : 0;
  out->levels = 1;
  return {};
}

}  // namespace vexfs::vector
