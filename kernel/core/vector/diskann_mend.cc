// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Graphs on disk: getting rid of dead rows in place (Singh et al., FreshDiskANN, 2021, algorithm 4), blob by blob.
//
// A pass: (1) Dead nodes are marked as leaving, and their lists kept, as many as memory allows; blobs are read in order.
// Once every insert that began before has ended, nobody makes a link to them. (2) Every list with such a link is made
// anew of what lives in it and behind those that leave. (3) A node that nothing leads to now is linked again as if it came.
// (4) Nothing refers to those that leave: they are taken out, and the next checkpoint has them no more.
#include "diskann_mend.h"

namespace vexfs::vector {
namespace diskann_mend_impl {
namespace {

constexpr u32 behind_max = 64;  // nodes that leave whose lists are looked into for one list
constexpr usize lists_min = usize{64} << 10, lists_max = usize{4} << 30;

// Slots met so far, few of them.
struct Met {
  static constexpr u32 room = 2048, most = room / 2;
  u32 n;
  u32 slot[room];
  void clear() {
    n = 0;
    memset(slot, 0xff, sizeof slot);
  }
  // False: it is in here, or it is full.
  bool add(u32 s) {
    u32 h = (s * 0x9e3779b1u) >> 21;
    static_assert(room == 1u << 11);
    for (; slot[h] != slot_none; h = (h + 1) % room)
      if (slot[h] == s) return false;
    if (n == most) return false;
    slot[h] = s;
    n++;
    return true;
  }
};

}  // namespace
}  // namespace diskann_mend_impl

Result<bool> DiskAnn::mend(RowView &rows, const MendParams &params, Scratch &scratch) {
  if (must_learn()) return false;
  VX_TRY(ready());
  if (!mend_) VX_TRY(begin_mend(rows, scratch));
  Result<bool> more = mend_piece(*mend_, rows, params, scratch);
  if (!more.ok() || !*more) end_mend();
  if (mend_) mend_bytes_.store(mend_->bytes(), std::memory_order_relaxed);
  return more;
}

Status DiskAnn::begin_mend(RowView &rows, Scratch &scratch) {
  VX_TRY(new_entry(rows, scratch));
  mend_ = VX_TRY(Box<Mend>::make());
  mending_.store(true, std::memory_order_release);
  return {};
}

// Whatever has become of it: who was to leave, and is still there, stays.
void DiskAnn::end_mend() {
  const bool over = mend_->phase == Mend::Phase::over;
  for (u32 slot = 0, limit = over ? 0 : records_.limit(); slot < limit; slot++)
    if (leaving(slot)) records_.peek(slot)->store(0, std::memory_order_release);
  mend_.reset();
  mend_bytes_.store(0, std::memory_order_relaxed);
  mending_.store(false, std::memory_order_release);
}

// Walks begin at a row that lives. again: there is none.
Status DiskAnn::new_entry(RowView &rows, Scratch &scratch) {
  u32 e = entry();
  if (e == slot_none) return Errno::again;
  if (rows.dead(e)) {
    simd::CodeQuery q;
    codes_.prepare_code(raw_code(e), VX_TRY(scratch.array<u8>(Scratch::query, codes_.query_bytes())), &q);
    Beam live;
    live.reset(VX_TRY(scratch.array<Entry>(Scratch::heap_spare, 2)), 1);
    {
      Walk walk(*this, scratch);
      Reading reading(*this);
      walk.want_live(&rows, &live);
      VX_TRY(walk.begin(q, e, params_.ef_construction));
      VX_TRY(walk.run());
    }
    const u32 limit = records_.limit();
    e = live.size() ? entry_slot(live.entries()[0]) : 0;
    if (live.size() == 0)
      while (e < limit && (!records_.present(e) || rows.dead(e))) e++;
    if (e >= limit) return Errno::again;
  }
  entry_.store(e, std::memory_order_release);
  middle_.store(e, std::memory_order_release);
  return {};
}

Result<bool> DiskAnn::mend_piece(Mend &m, RowView &rows, const MendParams &params, Scratch &scratch) {
  using Phase = Mend::Phase;
  if (params.interrupted && params.interrupted(params.ctx)) return Errno::intr;
  const bool settled = m.phase != Phase::gather;
  const u32 end =
      (settled ? m.limit : min_of(records_.limit(), align_up(params.settled, shape_.slots()))) >> shape_.shift;
  using namespace diskann_mend_impl;
  const usize most = min_of(max_of(params.memory, lists_min), lists_max);
  if (m.next < end && !(m.phase == Phase::gather && m.lists.size() * 4 >= most)) {
    const u32 number = m.next++;
    switch (m.phase) {
      case Phase::gather:
        VX_TRY(gather(m, number, rows, params));
        break;
      case Phase::lists:
        VX_TRY(mend_lists(m, number, params, scratch));
        break;
      case Phase::ways_in:
        VX_TRY(link_again(m, number, rows, scratch));
        break;
      case Phase::forget:
        VX_TRY(forget(m, number));
        break;
      case Phase::over:
        break;
    }
    return true;
  }
  m.next = 0;
  m.phase = static_cast<Phase>(static_cast<u32>(m.phase) + 1);
  if (m.phase == Phase::lists) {
    if (m.count == 0) m.phase = Phase::over;
    departures_.fetch_add(1, std::memory_order_acq_rel);
    vx_epoch_synchronize(&epoch_);
    m.limit = records_.limit();
    settled_ = params.settled;
    VX_TRY(m.led_to.resize(m.limit / 64 + 1));
  }
  return m.phase != Phase::over;
}

// (1) Of a blob.
Status DiskAnn::gather(Mend &m, u32 number, RowView &rows, const MendParams &params) {
  bool read = false;
  const u32 first = number << shape_.shift, end = min_of(first + shape_.slots(), params.settled), stays = entry();
  for (u32 slot = first; slot < end; slot++) {
    if (slot == stays || word_of(slot) != 0 || !rows.dead(slot)) continue;
    const u32 at = static_cast<u32>(m.lists.size());
    const usize room = usize{at} + 1 + shape_.cap;
    if (m.lists.capacity() < room) VX_TRY(m.lists.reserve(2 * room));
    VX_TRY(m.lists.resize(room));
    u32 *list = m.lists.data() + at;
    if (DiskNode *node = nodes_kept_.peek(slot)) {
      *list = list_of(node, list + 1);
    } else {
      if (!read) VX_TRY(read_stored_blob(number, m.buf));
      read = true;
      const u8 *record = VX_TRY(stored_record(slot, m.buf));
      *list = record ? list_of(record, list + 1) : 0;
    }
    VX_TRY(m.lists.resize(usize{at} + 1 + *list));
    m.count++;
    records_.peek(slot)->store(at + 1, std::memory_order_release);
  }
  return {};
}

// (2) Of a blob.
Status DiskAnn::mend_lists(Mend &m, u32 number, const MendParams &params, Scratch &scratch) {
  Edit &e = *VX_TRY(scratch.array<Edit>(Scratch::select, 1));
  m.buf.clear();
  bool read = false;
  const u32 first = number << shape_.shift;
  for (u32 slot = first; slot < first + shape_.slots(); slot++) {
    if (word_of(slot) != 0) continue;
    const u8 *record = nullptr;
    if (!nodes_kept_.peek(slot)) {
      if (!read) VX_TRY(read_stored_blob(number, m.buf));
      read = true;
      record = VX_TRY(stored_record(slot, m.buf));
    }
    VX_TRY(mend_list(m, slot, record, e, scratch));
    if (slot % 32) continue;
    if (params.interrupted && params.interrupted(params.ctx)) return Errno::intr;
    vx_yield();
  }
  return {};
}

// One list; that of the record, if it is not in memory meanwhile.
Status DiskAnn::mend_list(Mend &m, u32 slot, const u8 *record, Edit &e, Scratch &scratch) {
  Guard g(edit_);
  DiskNode *node = nodes_kept_.peek(slot);
  const u32 n = node ? list_of(node, e.before) : record ? list_of(record, e.before) : 0;
  bool goes = false;
  for (u32 i = 0; i < n; i++) {
    const u32 word = word_of(e.before[i]);
    goes |= word != 0 && word != record_claimed;
  }
  if (!goes) {
    for (u32 i = 0; i < n; i++) m.lead_to(e.before[i]);
    return {};
  }
  VX_TRY(choose_behind(m, slot, n, e, scratch));
  if (node)
    set_list(node, e.chosen, e.n);
  else
    VX_TRY(nodes_kept_.add(slot, e.chosen, e.n));
  nodes_kept_.changed(slot);
  for (u32 i = 0; i < e.n; i++) m.lead_to(e.chosen[i]);
  return {};
}

// Of what stays in the list e.before[0..n) of a slot, and in the lists of what leaves it: those to link to. What leaves may
// have nothing that stays behind it; then the lists behind that count, too.
Status DiskAnn::choose_behind(Mend &m, u32 slot, u32 n, Edit &e, Scratch &scratch) {
  using namespace diskann_mend_impl;
  Met &met = *VX_TRY(scratch.array<Met>(Scratch::heap, 1));
  u32 behind[behind_max], nbehind = 0, found = 0;
  met.clear();
  met.add(slot);
  const auto meet = [&](u32 s) {
    const u32 word = word_of(s);
    if (word == record_none || !met.add(s)) return;
    if (word == 0 || word == record_claimed) {
      if (found < Edit::cap) e.item[found] = raw_code(s), e.target[found++] = s;
    } else if (nbehind < behind_max) {
      behind[nbehind++] = word;
    }
  };
  for (u32 i = 0; i < n; i++) meet(e.before[i]);
  const u32 own = nbehind;
  for (u32 i = 0; i < nbehind && (i < own || found < shape_.degree); i++) {
    u32 links;
    const u32 *list = m.list_at(behind[i], &links);
    for (u32 j = 0; j < links; j++) meet(list[j]);
  }
  simd::CodeQuery q;
  codes_.prepare_code(raw_code(slot), VX_TRY(scratch.array<u8>(Scratch::code, codes_.query_bytes())), &q);
  u32 *keys = VX_TRY(scratch.array<u32>(Scratch::scan, Edit::cap + 1));
  codes_.score(q, e.item, found, keys);
  Beam sorted;
  sorted.reset(e.near, min_of(Edit::cap, max_of(params_.ef_construction, 2 * shape_.cap)));
  for (u32 i = 0; i < found; i++) sorted.add(entry_of(keys[i], e.target[i]));
  return choose(e.near, sorted.size(), slot, e, scratch);
}

// (3) Of a blob.
Status DiskAnn::link_again(Mend &m, u32 number, RowView &rows, Scratch &scratch) {
  const u32 first = number << shape_.shift;
  for (u32 slot = first; slot < first + shape_.slots(); slot++) {
    if (m.is_led_to(slot) || slot == entry() || word_of(slot) != 0) continue;
    Reading reading(*this);
    simd::CodeQuery q;
    codes_.prepare_code(raw_code(slot), VX_TRY(scratch.array<u8>(Scratch::query, codes_.query_bytes())), &q);
    VX_TRY(walk_in(rows, q, slot, scratch));
  }
  return {};
}

// (4) Of a blob.
Status DiskAnn::forget(Mend &m, u32 number) {
  const u32 first = number << shape_.shift;
  DiskNode *gone = nullptr;
  Status s;
  bool any = false;
  for (u32 slot = first; slot < first + shape_.slots() && s.ok(); slot++) {
    if (!leaving(slot)) continue;
    if (!any) s = nodes_kept_.touch(number);
    if (!s.ok()) break;
    any = true;
    records_.peek(slot)->store(record_none, std::memory_order_release);
    nodes_.fetch_sub(1, std::memory_order_relaxed);
    Guard g(edit_);
    nodes_kept_.take(slot, &gone);
  }
  if (any) records_.set_dirty(first >> SlotRecords::shift, true);
  if (gone) vx_epoch_synchronize(&epoch_);
  nodes_kept_.free(gone);
  if (s.ok() && m.next == m.limit >> shape_.shift) rid_.store(true, std::memory_order_relaxed);
  return s;
}

// Segments of codes that all rows have left, and that the checkpoint says so of. edit_ held.
void DiskAnn::release_segments(u32 covered, Vec<void *> &out) {
  const u32 end = min_of(min_of(covered, settled_), records_.limit()) >> SlotRecords::shift;
  for (u32 i = 0; i < end; i++) {
    if (!out.reserve(out.size() + 1).ok()) return;  // the next time
    if (void *segment = records_.take_empty(i)) VX_ASSERT(out.push(segment).ok());
  }
}

}  // namespace vexfs::vector
