// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Searching a graph on disk.
#include "diskann_walk.h"

namespace vexfs::vector {
namespace diskann_walk_impl {
namespace {

constexpr u32 groups_per_breath = 8;

}  // namespace
}  // namespace diskann_walk_impl

Status DiskAnn::Walk::begin(const simd::CodeQuery &q, u32 from, u32 ef) {
  code_ = q;
  b_ = VX_TRY(scratch_.array<Batch>(Scratch::batch, 1));
  units_ = VX_TRY(scratch_.array<u8>(Scratch::heap, usize{width} * index_.shape_.node_bytes()));
  beam.reset(VX_TRY(scratch_.array<Entry>(Scratch::beam, usize{ef} + 1)), ef);
  VX_TRY(visited_.reset(index_.records_.limit(), ef * 32));
  VX_TRY(visited_.reserve(2));
  if (params_ && params_->without != slot_none) visited_.insert(params_->without);
  visited_.insert(from);
  const void *code = index_.raw_code(from);
  VX_ASSERT(code);
  u32 key;
  index_.codes_.score(code_, &code, 1, &key);
  stats.distances++;
  add(key, from);
  return {};
}

void DiskAnn::Walk::add(u32 key, u32 slot) {
  const Entry e = entry_of(key, slot);
  beam.add(e);
  if (live_ && e < live_->limit() && !index_.leaving(slot) && !alive_->dead(slot)) live_->add(e);
}

Status DiskAnn::Walk::breathe() {
  if (++since_breath_ < diskann_walk_impl::groups_per_breath) return {};
  since_breath_ = 0;
  if (params_ && params_->interrupted && params_->interrupted(params_->ctx)) return Errno::intr;
  if (rows_ && rows_->pause) rows_->pause(*rows_);
  vx_yield();
  return {};
}

Status DiskAnn::Walk::run() {
  while (beam.has_next()) {
    u32 n = 0;
    while (n < width && beam.has_next()) b_->group[n++] = beam.take_next();
    VX_TRY(read_group(n));
    if (found_) VX_TRY(score_rows(n));
    for (u32 i = 0; i < n; i++) VX_TRY(expand(i));
    stats.hops += n;
    if (params_ && params_->distances_max && stats.distances >= params_->distances_max) {
      stats.truncated = beam.has_next();
      return {};
    }
    VX_TRY(breathe());
  }
  return {};
}

// Reads those nodes of the group that lie on disk; a walk for lists alone leaves out those that are kept in memory.
Status DiskAnn::Walk::read_group(u32 n) {
  u32 slots[width], place[width], m = 0;
  const u8 *got[width];
  for (u32 i = 0; i < n; i++) {
    b_->record[i] = nullptr;
    if (!index_.stored(b_->group[i]) || (!found_ && index_.nodes_kept_.peek(b_->group[i]))) continue;
    place[m] = i;
    slots[m++] = b_->group[i];
  }
  if (m == 0) return {};
  VX_TRY(index_.fetch(slots, m, units_, got));
  for (u32 i = 0; i < m; i++) b_->record[place[i]] = got[i];
  return {};
}

// The rows of the group: from the records that were read, or from the table what is too new for that.
Status DiskAnn::Walk::score_rows(u32 n) {
  const void *row[width];
  u32 aux[width], slot[width], key[width], m = 0;
  for (u32 i = 0; i < n; i++) {
    const u32 s = b_->group[i];
    if (rows_->dead(s)) continue;
    if (const u8 *record = b_->record[i]) {
      row[m] = record + row_at();
      aux[m] = reinterpret_cast<const DiskRecordHeader *>(record)->aux;
    } else {
      Result<const u8 *> r = rows_->row(s);
      if (!r.ok() && r.code() != Errno::noent) return r.error();
      if (!r.ok()) continue;
      row[m] = *r;
      aux[m] = rows_->aux(*r, s);
    }
    slot[m++] = s;
  }
  if (m == 0) return {};
  index_.space_.score(*q_, row, aux, m, key);
  stats.distances += m;
  for (u32 i = 0; i < m; i++) {
    const Entry e = entry_of(key[i], slot[i]);
    if (e >= found_->limit() || rows_->dead(slot[i])) continue;
    if (params_->accept) {
      stats.accepts++;
      if (!params_->accept(params_->ctx, slot[i])) continue;
    }
    found_->add(e);
  }
  return {};
}

Status DiskAnn::Walk::expand(u32 i) {
  Batch &b = *b_;
  // What is kept in memory is newer than what was read.
  const DiskNode *node = index_.nodes_kept_.peek(b.group[i]);
  if (!node && !b.record[i]) return {};
  const u32 degree = node ? index_.list_of(node, b.link) : index_.list_of(b.record[i], b.link);
  VX_TRY(visited_.reserve(degree));
  b.n = 0;
  for (u32 j = 0; j < degree; j++) {
    const void *code = index_.code_of(b.link[j]);
    if (!code || !visited_.insert(b.link[j])) continue;
    simd::prefetch(code, index_.codes_.bytes(), 4);
    b.slot[b.n] = b.link[j];
    b.item[b.n++] = code;
  }
  if (b.n == 0) return {};
  index_.codes_.score(code_, b.item, b.n, b.key);
  stats.distances += b.n;
  for (u32 j = 0; j < b.n; j++) add(b.key[j], b.slot[j]);
  return {};
}

// Before the last of the k that were found: are as many nodes of one code, and not wanted, as may fill a list? Many copies of a
// row are not all led to.
Result<bool> DiskAnn::Walk::crowded() {
  const u32 least = max_of<u32>(4, index_.shape_.degree / 4), n = beam.size();
  const Entry *e = beam.entries();
  const auto refused = [&](u32 slot) {
    return index_.leaving(slot) || rows_->dead(slot) || (params_->accept && !params_->accept(params_->ctx, slot));
  };
  for (u32 i = 0, end; i < n; i = end) {
    for (end = i + 1; end < n && entry_key(e[end]) == entry_key(e[i]);) end++;
    if (end - i < least) continue;  // the rule: nobody is asked
    const void *code = index_.raw_code(entry_slot(e[i]));
    u32 count = 0;
    for (u32 j = i; j < end; j++) {
      const void *other = index_.raw_code(entry_slot(e[j]));
      count += code && other && memcmp(other, code, index_.codes_.bytes()) == 0 && refused(entry_slot(e[j]));
      if (j % 64 == 63) VX_TRY(breathe());
    }
    if (count >= least) return entry_key(e[i]) <= farthest_found();
    VX_TRY(breathe());
  }
  return false;
}

// By code, as the beam is: distances on rows are not to be compared with these.
u32 DiskAnn::Walk::farthest_found() {
  if (!found_->full()) return simd::key_farthest;
  u32 farthest = 0;
  for (u32 i = 0; i < found_->size(); i++) {
    const void *code = index_.raw_code(entry_slot(found_->entries()[i]));
    u32 key = simd::key_farthest;
    if (code) index_.codes_.score(code_, &code, 1, &key);
    farthest = max_of(farthest, key);
    if (i % 1024 == 1023) vx_yield();
  }
  return farthest;
}

Result<u32> DiskAnn::search(RowView &rows, const simd::Query &q, const SearchParams &params, Scratch &scratch, Hit *out,
                            SearchStats *stats) {
  if (params.k == 0 || must_learn()) return u32{0};
  VX_TRY(ready());
  const usize query = align_up<usize>(codes_.query_bytes(), 64);
  u8 *buf = VX_TRY(scratch.array<u8>(Scratch::code, query + codes_.work_bytes()));
  simd::CodeQuery code;
  codes_.prepare(q, buf + query, buf, &code);
  Beam found;
  found.reset(VX_TRY(scratch.array<Entry>(Scratch::results, usize{params.k} + 1)), params.k);
  Walk walk(*this, scratch);
  walk.want(&rows, &q, &params, &found);
  Status s;
  {
    Reading reading(*this);
    const u32 from = entry();
    if (from == slot_none || !code_of(from)) return u32{0};
    s = walk.begin(code, from, max_of(params.ef, params.k));
    if (s.ok()) s = walk.run();
    if (s.ok()) {
      Result<bool> crowded = walk.crowded();
      walk.stats.crowded = crowded.ok() && *crowded;
      if (!crowded.ok()) s = crowded.error();
    }
  }
  if (stats) stats->add(walk.stats);
  if (!s.ok()) return s.error();
  for (u32 i = 0; i < found.size(); i++) out[i] = Hit{entry_key(found.entries()[i]), entry_slot(found.entries()[i])};
  return found.size();
}

}  // namespace vexfs::vector
