// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Graphs on disk: getting rid of dead rows in place (Singh et al., FreshDiskANN, 2021, algorithm 4), blob by blob.
//
// A pass: (1) Dead nodes are marked as leaving, and their lists kept, as many as memory allows; blobs are read in order.
// Once every insert that began before has ended, nobody makes a link to them. (2) Every list with such a link is made
// anew of what lives in it and behind those that leave. (3) A node that nothing leads to now is linked again as if it came.
// That is not all that may have been lost: rows may have been led to through those that leave alone, and lists made anew
// drop links. So paths from the entry are followed, and what they do not lead to is joined, such that nothing else is lost
// by it, until they lead to all. Where that has no end the pass is given up, and the index built anew aside instead.
// (4) Nothing refers to those that leave: they are taken out, and the next checkpoint has them no more.
//
// From (2) on the graph is torn until a pass has ended: dead rows are in it that no walk may find, and maybe others. That
// is stored with it, and passes are made until it is whole again.
#include "diskann_mend.h"

namespace vexfs::vector {
namespace diskann_mend_impl {
namespace {

constexpr u32 behind_max = 64;  // nodes that leave whose lists are looked into for one list
constexpr u32 rounds_max = 8, ways_in_max = 3;
constexpr u32 idle_blobs = 4096;  // looked at in a piece of which there is nothing to follow
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
  if (stuck_.load(std::memory_order_relaxed)) return Errno::again;
  VX_TRY(ready());
  if (!mend_) VX_TRY(begin_mend(rows, scratch));
  Result<bool> more = mend_piece(*mend_, rows, params, scratch);
  if (!more.ok() || !*more) end_mend();
  if (mend_) mend_bytes_.store(mend_->bytes(), std::memory_order_relaxed);
  return more;
}

Status DiskAnn::begin_mend(RowView &rows, Scratch &scratch) {
  VX_TRY(new_entry(rows, scratch));
  mend_ = VX_TRY(Box<Mend>::make(*this));
  mend_->was_torn = torn_.load(std::memory_order_relaxed);
  mending_.store(true, std::memory_order_release);
  return {};
}

// Whatever has become of it: who was to leave, and is still there, stays. torn_ says so of it, if links are gone already.
void DiskAnn::end_mend() {
  const bool over = mend_->phase == Mend::Phase::over;
  for (u32 slot = 0, limit = over ? 0 : records_.limit(); slot < limit; slot++) {
    if (leaving(slot)) records_.peek(slot)->store(0, std::memory_order_release);
    breathe_at(slot);
  }
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
      for (; e < limit && (!records_.present(e) || rows.dead(e)); e++) breathe_at(e);
    if (e >= limit) return Errno::again;
  }
  entry_.store(e, std::memory_order_release);
  middle_.store(e, std::memory_order_release);
  return {};
}

Result<bool> DiskAnn::mend_piece(Mend &m, RowView &rows, const MendParams &params, Scratch &scratch) {
  using Phase = Mend::Phase;
  if (params.interrupted && params.interrupted(params.ctx)) return Errno::intr;
  if (m.phase == Phase::reach) return reach_piece(m, params, scratch);
  if (m.phase == Phase::forget) {
    VX_TRY(forget(m));
    m.phase = Phase::over;
    return false;
  }
  const bool settled = m.phase != Phase::gather;
  const u32 end =
      (settled ? m.limit : min_of(records_.limit(), align_up(params.settled, shape_.slots()))) >> shape_.shift;
  using namespace diskann_mend_impl;
  const usize most = min_of(max_of(params.memory, lists_min), lists_max);
  if (m.next < end && !(m.phase == Phase::gather && m.lists.size() * 4 >= most)) {
    const u32 number = m.next++;
    if (m.phase == Phase::gather)
      VX_TRY(gather(m, number, rows, params));
    else if (m.phase == Phase::lists)
      VX_TRY(mend_lists(m, number, params, scratch));
    else
      VX_TRY(link_again(m, number, rows, params, scratch));
    return true;
  }
  return next_phase(m, m.next >= end, params);
}

// all: of the blobs were seen.
Result<bool> DiskAnn::next_phase(Mend &m, bool all, const MendParams &params) {
  using Phase = Mend::Phase;
  m.next = 0;
  switch (m.phase) {
    case Phase::gather:
      m.all = all;
      m.phase = m.count || torn_.load(std::memory_order_relaxed) ? Phase::lists : Phase::over;
      if (m.phase == Phase::over) return false;
      torn_.store(true, std::memory_order_release);
      departures_.fetch_add(1, std::memory_order_acq_rel);
      vx_epoch_synchronize(&epoch_);
      m.limit = records_.limit();
      settled_ = params.settled;
      VX_TRY(m.led_to.resize(m.limit / 64 + 1));
      return true;
    case Phase::lists:
      m.phase = Phase::ways_in;
      return true;
    default:
      m.phase = Phase::reach;
      VX_TRY(begin_round(m));
      return true;
  }
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
  // As many as fit: shorter ones, as long as lists are on the average, lose half a point of recall where half is replaced.
  VX_TRY(choose(e.near, sorted.size(), slot, shape_.cap, e, scratch));
  fill(e.near, sorted.size(), slot, e);
  return {};
}

// The nearest of those that were not chosen, up to the length of a list that was pruned. A new node's list may be shorter
// (under cosine and inner product, where nothing is kept for slack, by half), but gets longer by what links back; one that
// is mended does not, and would lose more in each pass.
void DiskAnn::fill(const Entry *near, u32 n, u32 but, Edit &e) {
  const u32 chosen = e.n;  // in the order of near
  for (u32 i = 0, next = 0; i < n && e.n < shape_.degree; i++) {
    const u32 s = entry_slot(near[i]);
    if (next < chosen && e.chosen[next] == s)
      next++;
    else if (s != but && raw_code(s))
      e.chosen[e.n++] = s;
  }
}

// (3) Of a blob.
Status DiskAnn::link_again(Mend &m, u32 number, RowView &rows, const MendParams &params, Scratch &scratch) {
  const u32 first = number << shape_.shift;
  for (u32 slot = first; slot < first + shape_.slots(); slot++) {
    if (m.is_led_to(slot) || slot == entry() || word_of(slot) != 0) continue;
    if (params.interrupted && params.interrupted(params.ctx)) return Errno::intr;
    Reading reading(*this);
    simd::CodeQuery q;
    codes_.prepare_code(raw_code(slot), VX_TRY(scratch.array<u8>(Scratch::query, codes_.query_bytes())), &q);
    VX_TRY(walk_in(rows, q, slot, scratch));
  }
  return {};
}

// Looks at what there is when no insert is half done: what comes later finds its own way in.
Status DiskAnn::begin_round(Mend &m) {
  vx_epoch_synchronize(&epoch_);
  VX_TRY(m.paths.begin(entry()));
  const u32 limit = m.paths.blobs() << shape_.shift;
  m.there.clear();
  VX_TRY(m.there.resize(limit / 64 + 1));
  memset(m.there.data(), 0, m.there.size() * 8);
  m.nodes = nodes_.load(std::memory_order_relaxed);
  for (u32 slot = 0; slot < limit; slot++) {
    if (word_of(slot) == 0) m.there[slot >> 6] |= u64{1} << (slot & 63);
    breathe_at(slot);
  }
  m.next = m.lost = 0;
  m.joining = m.again = false;
  m.round++;
  return {};
}

// (3) A piece of a round. Joining takes a way from somebody only where both lists are full (put_between), so a second round
// finds next to nothing but what inserts took meanwhile. Of as many nodes as came meanwhile, losing some is what inserts do
// without a pass, too, and those found were joined.
Result<bool> DiskAnn::reach_piece(Mend &m, const MendParams &params, Scratch &scratch) {
  using namespace diskann_mend_impl;
  {
    Reading reading(*this);
    bool worked = false;
    const u32 first = m.next;
    for (u32 i = 0; i < idle_blobs && m.next < m.paths.blobs() && !worked; i++) {
      const u32 number = m.next++;
      VX_TRY(m.joining ? join_blob(m, number, params, scratch, &worked) : m.paths.follow(number, scratch, &worked));
      breathe_at(number << shape_.shift);
    }
    if (!m.joining) m.again |= worked;
    if (m.next != first) return true;
  }
  m.next = 0;
  if (!m.joining) {
    m.joining = !m.again;
    m.again = false;
    return true;
  }
  const u32 now = nodes_.load(std::memory_order_relaxed), came = now > m.nodes ? now - m.nodes : 0;
  if (m.lost == 0 || (m.round > 1 && m.lost <= came)) {
    m.phase = Mend::Phase::forget;
    return true;
  }
  if (m.round == rounds_max) {
    stuck_.store(true, std::memory_order_release);
    return Errno::again;
  }
  VX_TRY(begin_round(m));
  return true;
}

Status DiskAnn::join_blob(Mend &m, u32 number, const MendParams &params, Scratch &scratch, bool *any) {
  const u32 first = number << shape_.shift;
  for (u32 slot = first; slot < first + shape_.slots(); slot++) {
    if (!((m.there[slot >> 6] >> (slot & 63)) & 1) || m.paths.reached(slot) || slot == entry()) continue;
    if (params.interrupted && params.interrupted(params.ctx)) return Errno::intr;
    *any = true;
    m.lost++;
    VX_TRY(join(m, slot, scratch));
  }
  return {};
}

// A node that no path leads to gets ways in from the nearest that walks come by; whoever loses one for it is found by the next
// round.
Status DiskAnn::join(Mend &m, u32 slot, Scratch &scratch) {
  using namespace diskann_mend_impl;
  static_assert(ways_in_max + 1 <= blob_parts_max);
  simd::CodeQuery q;
  codes_.prepare_code(raw_code(slot), VX_TRY(scratch.array<u8>(Scratch::query, codes_.query_bytes())), &q);
  Walk walk(*this, scratch);
  VX_TRY(walk.begin(q, entry(), params_.ef_construction));
  VX_TRY(walk.run());
  Edit &e = *VX_TRY(scratch.array<Edit>(Scratch::select, 1));
  e.units = VX_TRY(scratch.array<u8>(Scratch::results, usize{blob_parts_max} * shape_.node_bytes()));
  u32 from[ways_in_max + 1], n = 0;
  bool in = false;
  for (u32 i = 0; i < walk.beam.size(); i++) {
    const u32 s = entry_slot(walk.beam.entries()[i]);
    in |= s == slot;  // an insert was faster
    if (s != slot && n < ways_in_max && word_of(s) == 0) from[n++] = s;
  }
  if (n == 0) return in ? Status() : Status(Errno::again);
  from[n] = slot;
  Guard g(edit_);
  VX_TRY(bring_lists(from, n + 1, e));
  for (u32 i = 0; i < n; i++) {
    DiskNode *node = nodes_kept_.peek(from[i]);
    const u32 links = list_of(node, e.before);
    bool has = false;
    for (u32 j = 0; j < links; j++) has |= e.before[j] == slot;
    if (!has && links == shape_.cap) continue;
    if (!has) node->link[links].store(slot, std::memory_order_release);
    nodes_kept_.changed(from[i]);
    in = true;
  }
  if (!in) VX_TRY(put_between(from[0], slot, q, e, scratch));
  m.paths.reach(slot);
  const u32 links = list_of(nodes_kept_.peek(slot), e.before);
  for (u32 j = 0; j < links; j++) m.paths.reach(e.before[j]);
  return {};
}

// From a list that is full a node gets the link to the one nearest to it, to which it leads from then on instead. What it
// has to give up for that no path led to by way of it.
Status DiskAnn::put_between(u32 from, u32 slot, const simd::CodeQuery &q, Edit &e, Scratch &scratch) {
  DiskNode *node = nodes_kept_.peek(from), *own = nodes_kept_.peek(slot);
  const u32 n = list_of(node, e.before);
  u32 *keys = VX_TRY(scratch.array<u32>(Scratch::scan, Edit::cap + 1));
  u32 at = n;
  for (u32 i = 0; i < n; i++) {
    e.item[i] = raw_code(e.before[i]);
    if (word_of(e.before[i]) == record_none) at = i, e.item[i] = raw_code(slot);  // leads nowhere
  }
  const bool hand_on = at == n;
  codes_.score(q, e.item, n, keys);
  if (hand_on)
    for (u32 i = at = 0; i < n; i++)
      if (keys[i] < keys[at]) at = i;
  const u32 to = e.before[at];
  if (hand_on) {
    const u32 links = list_of(own, e.before);
    bool has = false;
    for (u32 j = 0; j < links; j++) has |= e.before[j] == to;
    if (!has) own->link[min_of(links, shape_.cap - 1)].store(to, std::memory_order_release);
    nodes_kept_.changed(slot);
  }
  node->link[at].store(slot, std::memory_order_release);
  nodes_kept_.changed(from);
  return {};
}

// Their lists, into memory; edit_ held.
Status DiskAnn::bring_lists(const u32 *slots, u32 n, Edit &e) {
  u32 wanted[blob_parts_max] = {}, m = 0;
  const u8 *record[blob_parts_max] = {};
  for (u32 i = 0; i < n; i++)
    if (!nodes_kept_.peek(slots[i])) wanted[m++] = slots[i];
  if (m == 0) return {};
  VX_TRY(fetch(wanted, m, e.units, record));
  return keep_lists(wanted, m, record, e);
}

// (4) All at once: a checkpoint has all of them or none, and lists of some lead to others. What may fail comes first.
Status DiskAnn::forget(Mend &m) {
  const u32 limit = m.limit, slots = shape_.slots();
  const auto any = [&](u32 first) {
    u32 i = 0;
    while (i < slots && !leaving(first + i)) i++;
    return i < slots;
  };
  for (u32 first = 0; first < limit; first += slots) {
    breathe_at(first);
    if (!any(first)) continue;
    Guard g(edit_);
    VX_TRY(nodes_kept_.touch(first >> shape_.shift));
  }
  DiskNode *gone = nullptr;
  for (u32 first = 0; first < limit; first += slots) {
    breathe_at(first);
    if (!any(first)) continue;
    Guard g(edit_);
    for (u32 slot = first; slot < first + slots; slot++) {
      if (!leaving(slot)) continue;
      records_.peek(slot)->store(record_none, std::memory_order_release);
      nodes_.fetch_sub(1, std::memory_order_relaxed);
      nodes_kept_.take(slot, &gone);
    }
    records_.set_dirty(first >> SlotRecords::shift, true);
  }
  if (gone) vx_epoch_synchronize(&epoch_);
  nodes_kept_.free(gone);
  rid_.store(true, std::memory_order_relaxed);
  torn_.store(m.was_torn && !m.all, std::memory_order_release);
  return {};
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
