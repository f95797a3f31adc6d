// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Adding nodes to a graph on disk. Where a node belongs is found by any number of threads at once; changing lists, which
// are in memory by then, is one thread's work at a time.
#include "diskann_walk.h"

namespace vexfs::vector {
namespace diskann_insert_impl {
namespace {

constexpr u32 occlusion_batch = 8;  // codes compared at once before looking whether it is decided

// What keeps its link although another one leads there too: those less than alpha times nearer to that one. The square of
// 1.2 or thereabouts, on the bits of a positive float: half an exponent.
u32 with_slack(u32 key, bool l2) {
  constexpr u32 half_exponent = u32{1} << 22;
  return l2 && (key & 0x80000000u) && key < simd::key_farthest - half_exponent ? key + half_exponent : key;
}

}  // namespace
}  // namespace diskann_insert_impl

const void *DiskAnn::raw_code(u32 slot) const {
  const SlotRecords::Word *w = slot <= slot_max ? records_.peek(slot) : nullptr;
  return w ? static_cast<const void *>(w + 1) : nullptr;
}

// Is one already chosen so much nearer to the candidate than the base is that it leads there?
bool DiskAnn::occluded(const void *code, u32 key, Edit &e, void *query) {
  using namespace diskann_insert_impl;
  simd::CodeQuery q;
  codes_.prepare_code(code, query, &q);
  for (u32 j = 0; j < e.n; j += occlusion_batch) {
    const u32 n = min_of(occlusion_batch, e.n - j);
    codes_.score(q, e.code + j, n, e.key + j);
    for (u32 i = 0; i < n; i++)
      if (with_slack(e.key[j + i], space_.metric() == simd::Metric::l2) < key) return true;
  }
  return false;
}

// Of near[0..n), ascending, those not occluded, so many at most. Copies of the row itself are the nearest there is, and
// nothing occludes them: they would have the whole list, and nobody else would be led to. They get half of it.
Status DiskAnn::choose(const Entry *near, u32 n, u32 but, u32 most, Edit &e, Scratch &scratch) {
  void *query = VX_TRY(scratch.array<u8>(Scratch::other_code, codes_.query_bytes()));
  const void *base = raw_code(but);
  u32 copies = 0;
  e.n = 0;
  for (u32 i = 0; i < n && e.n < most; i++) {
    const u32 s = entry_slot(near[i]);
    const void *code = raw_code(s);
    if (s == but || !code || (e.n && occluded(code, entry_key(near[i]), e, query))) continue;
    if (base && memcmp(base, code, codes_.bytes()) == 0 && copies++ >= shape_.degree / 2) continue;
    e.chosen[e.n] = s;
    e.code[e.n++] = code;
  }
  return {};
}

// edit_ held.
void DiskAnn::set_list(DiskNode *node, const u32 *links, u32 n) {
  for (u32 i = 0; i < shape_.cap; i++) node->link[i].store(i < n ? links[i] : slot_none, std::memory_order_release);
}

// Adds `to` to the list of `from`, which is in memory; edit_ held. *linked: it is in it now.
Status DiskAnn::connect(u32 from, u32 to, bool must, bool *linked, Edit &e, Scratch &scratch) {
  DiskNode *node = nodes_kept_.peek(from);
  VX_ASSERT(node);
  u32 n = list_of(node, e.before);
  *linked = true;
  for (u32 i = 0; i < n; i++)
    if (e.before[i] == to) return {};
  if (n < shape_.cap) {
    node->link[n].store(to, std::memory_order_release);
    nodes_kept_.changed(from);
    return {};
  }
  e.before[n] = to;
  u32 m = 0;
  for (u32 i = 0; i <= n; i++)
    if (const void *code = raw_code(e.before[i])) {
      e.before[m] = e.before[i];
      e.item[m++] = code;
    }
  simd::CodeQuery q;
  codes_.prepare_code(raw_code(from), VX_TRY(scratch.array<u8>(Scratch::code, codes_.query_bytes())), &q);
  u32 *keys = VX_TRY(scratch.array<u32>(Scratch::scan, Edit::cap + 1));
  codes_.score(q, e.item, m, keys);
  Beam sorted;
  sorted.reset(e.near, Edit::cap + 1);
  for (u32 i = 0; i < m; i++) sorted.add(entry_of(keys[i], e.before[i]));
  VX_TRY(choose(e.near, sorted.size(), from, shape_.degree, e, scratch));
  bool in = false;
  for (u32 i = 0; i < e.n; i++) in |= e.chosen[i] == to;
  if (!in && must) {
    if (e.n == shape_.degree) e.n--;
    e.chosen[e.n++] = to;
    in = true;
  }
  set_list(node, e.chosen, e.n);
  nodes_kept_.changed(from);
  *linked = in;
  return {};
}

// Keeps lists that were read, where there is none in memory; edit_ held.
Status DiskAnn::keep_lists(const u32 *slots, u32 n, const u8 *const *records, Edit &e) {
  for (u32 i = 0; i < n; i++) {
    if (nodes_kept_.peek(slots[i])) continue;
    const u32 degree = records[i] ? list_of(records[i], e.before) : 0;
    VX_TRY(nodes_kept_.add(slots[i], e.before, degree));
  }
  return {};
}

// Brings the lists of so many targets into memory, and lets them link back; must: whatever else they would have to drop.
Status DiskAnn::link_back(const u32 *targets, u32 n, u32 slot, bool must, bool *linked, Edit &e, Scratch &scratch) {
  u32 wanted[blob_parts_max] = {}, m = 0;
  const u8 *record[blob_parts_max] = {};
  const u64 drops = drops_.load(std::memory_order_acquire);
  for (u32 i = 0; i < n; i++)
    if (!nodes_kept_.peek(targets[i])) wanted[m++] = targets[i];
  if (m) VX_TRY(fetch(wanted, m, e.units, record));
  Guard g(edit_);
  // A checkpoint has let go of lists meanwhile: those that were read may be older than they.
  if (drops_.load(std::memory_order_relaxed) != drops) {
    m = 0;
    for (u32 i = 0; i < n; i++)
      if (!nodes_kept_.peek(targets[i])) wanted[m++] = targets[i];
    VX_TRY(fetch(wanted, m, e.units, record));
  }
  VX_TRY(keep_lists(wanted, m, record, e));
  for (u32 i = 0; i < n; i++) {
    bool in = false;
    VX_TRY(connect(targets[i], slot, must, &in, e, scratch));
    *linked |= in;
  }
  return {};
}

// Gives the new node its list, and others a link to it.
Status DiskAnn::link_in(const Beam &near, u32 slot, Scratch &scratch) {
  Edit &e = *VX_TRY(scratch.array<Edit>(Scratch::select, 1));
  e.units = VX_TRY(scratch.array<u8>(Scratch::results, usize{blob_parts_max} * shape_.node_bytes()));
  VX_TRY(choose(near.entries(), near.size(), slot, shape_.degree, e, scratch));
  if (e.n == 0) e.chosen[e.n++] = entry();
  memcpy(e.target, e.chosen, sizeof e.target);
  e.ntargets = e.n;
  {
    Guard g(edit_);
    DiskNode *own = nodes_kept_.peek(slot);  // of an insert that failed
    if (own) {
      set_list(own, e.target, e.ntargets);
      nodes_kept_.changed(slot);
    } else {
      VX_TRY(nodes_kept_.add(slot, e.target, e.ntargets));
    }
  }
  bool linked = false;
  for (u32 i = 0; i < e.ntargets; i += blob_parts_max)
    VX_TRY(link_back(e.target + i, min_of(blob_parts_max, e.ntargets - i), slot, false, &linked, e, scratch));
  // Every node keeps a way in.
  return linked ? Status() : link_back(e.target, 1, slot, true, &linked, e, scratch);
}

// Links a node, of which q was prepared, to the nearest that live.
Status DiskAnn::walk_in(RowView &rows, const simd::CodeQuery &q, u32 slot, Scratch &scratch) {
  Walk walk(*this, scratch);
  Beam live;
  const bool any_dead = rows.any_dead || mending();
  if (any_dead) {
    const u32 ef = params_.ef_construction;
    live.reset(VX_TRY(scratch.array<Entry>(Scratch::heap_spare, usize{ef} + 1)), ef);
    walk.want_live(&rows, &live);
  }
  VX_TRY(walk.begin(q, entry(), params_.ef_construction));
  VX_TRY(walk.run());
  return link_in(any_dead ? live : walk.beam, slot, scratch);
}

// All of it is a reader: a pass that says which nodes leave waits until nobody is left who may not know.
Status DiskAnn::insert(RowView &rows, u32 slot, Scratch &scratch) {
  VX_TRY(ready());
  Reading reading(*this);
  return LearntIndex::insert(rows, slot, scratch);
}

Status DiskAnn::place(RowView &rows, const u8 *row, u32 aux, u32 slot, SlotRecords::Word *words, u32 *first,
                      Scratch &scratch) {
  void *code = static_cast<void *>(words + 1);
  void *work = VX_TRY(scratch.array<u8>(Scratch::scan, codes_.work_bytes()));
  codes_.encode(row, aux, work, code);
  *first = 0;
  if (entry() == slot_none) {
    Guard g(edit_);
    if (entry() == slot_none) {
      VX_TRY(nodes_kept_.add(slot, nullptr, 0));
      entry_.store(slot, std::memory_order_release);
      return {};
    }
  }
  simd::CodeQuery q;
  u8 *query = VX_TRY(scratch.array<u8>(Scratch::query, codes_.query_bytes()));
  if (codes_.has_bound())  // so short that two of them had better not be compared where a row is at hand
    codes_.prepare(space_.row_query(row, aux), work, query, &q);
  else
    codes_.prepare_code(code, query, &q);
  return walk_in(rows, q, slot, scratch);
}

}  // namespace vexfs::vector
