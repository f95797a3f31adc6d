// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Searching inverted files.
#include "beam.h"
#include "ivf.h"

namespace vexfs::vector {
namespace ivf_search_impl {
namespace {

constexpr u32 probes_auto_min = 8;
constexpr u32 centroids_at_once = 2048;  // scored before the CPU may be given away
constexpr u32 probes_stretch = 8;        // times as many, while fewer than k are found
constexpr u32 group = 32;                // blocks of codes that are scored together
constexpr u32 rescored_per_ef = 2;       // rows scored for each of ef, of what the codes promise
constexpr u32 rescored_filtered = 4;     // times as many when some may be refused

}  // namespace
}  // namespace ivf_search_impl

// What one search keeps.
struct Ivf::Probe : vexfs::Pinned {
  // Blocks on their way to a scan of codes.
  struct CodeGroup {
    const u8 *codes[ivf_search_impl::group];
    const u32 *terms[ivf_search_impl::group];
    const u32 *slots[ivf_search_impl::group];
    u32 counts[ivf_search_impl::group];
    u32 keys[ivf_search_impl::group * simd::pq_block];
    u32 part_terms[simd::pq_block];
    u8 part_codes[pq_m_max / 2 * simd::pq_block];  // a block that is still being filled
  };
  Probe(RowView &r, const simd::Space &space, const simd::Query &q, const SearchParams &p, Hit *out)
      : params(p), rows(r), top{out, p.k, 0}, scorer(r, space, q, p, &top) {}
  const SearchParams &params;
  RowView &rows;
  TopK top;
  RowScorer scorer;
  const u32 *query = nullptr;  // f32
  MinHeap lists;               // by their centroids' distance
  Beam found;                  // by codes
  simd::PqTables tables;
  CodeGroup *group = nullptr;
  u32 blocks = 0;
};

u32 Ivf::probes_for(u32 ef) const {
  // The share of the lists that matters falls as they become more: 1.5 times their root gives a recall@10 of 0.9 to
  // 0.97 at the default ef, on what was tried.
  const u64 p = params_.probes ? params_.probes
                               : max_of<u64>(ivf_root(u64{params_.lists} * 9 / 4), ivf_search_impl::probes_auto_min);
  return static_cast<u32>(min_of<u64>(div_up<u64>(p * ef, probes_per_ef), params_.lists));
}

Status Ivf::choose_lists(Probe &p, const simd::Query &q, Scratch &scratch) {
  const u32 n = params_.lists;
  u32 *v = VX_TRY(scratch.array<u32>(Scratch::query, space_.dim()));
  u32 *keys = VX_TRY(scratch.array<u32>(Scratch::scan, n));
  Entry *storage = VX_TRY(scratch.array<Entry>(Scratch::heap, n));
  simd::widen_query(space_, q, v);
  const usize stride = usize{4} * space_.dim();
  for (u32 i = 0; i < n; i += ivf_search_impl::centroids_at_once) {
    centroid_space_.scan(centroid_space_.row_query(v, 0), model() + i * stride, stride, nullptr,
                         min_of(ivf_search_impl::centroids_at_once, n - i), keys + i);
    vx_yield();
  }
  p.scorer.stats.distances += n;
  p.query = v;
  p.lists.reset(storage, n);
  for (u32 i = 0; i < n; i++) p.lists.push(entry_of(keys[i], i));
  return {};
}

// ---------------------------------------------------------------------------------------------------------------- rows
Status Ivf::scan_list_rows(Probe &p, u32 list) {
  for (const PostingSegment *s = lists_.newest(list); s; s = s->older) {
    const u32 used = s->used.load(std::memory_order_acquire), block = lists_.shape().block;
    for (u32 i = 0; i < used && !p.scorer.spent(); i += block) {
      const u32 *slots = lists_.slots(s, i / block);
      for (u32 j = 0; j < block && i + j < used; j++) VX_TRY(p.scorer.offer(slots[j]));
    }
  }
  return {};
}

Status Ivf::scan_rows(Probe &p) {
  const u32 probes = probes_for(max_of(p.params.ef, p.params.k));
  const u64 most = u64{probes} * ivf_search_impl::probes_stretch;
  for (u64 done = 0; !p.lists.empty(); done++) {
    if (done >= probes) VX_TRY(p.scorer.end());  // what is found so far decides
    if (done >= probes && (p.top.n >= p.params.k || done >= most)) break;
    if (p.scorer.spent()) {
      p.scorer.stats.truncated = true;
      break;
    }
    const u32 list = entry_slot(p.lists.top());
    p.lists.pop();
    p.scorer.stats.hops++;
    VX_TRY(scan_list_rows(p, list));
  }
  return p.scorer.end();
}

// --------------------------------------------------------------------------------------------------------------- codes
void Ivf::score_codes(Probe &p, u32 centroid_key) {
  Probe::CodeGroup &g = *p.group;
  simd::pq_scan(p.tables, pq_.code_bytes(), centroid_key, g.codes, g.terms, p.blocks, g.keys);
  const bool some_dead = p.rows.any_dead;
  u32 limit = p.found.full() ? entry_key(p.found.limit()) : simd::key_farthest;
  for (u32 b = 0; b < p.blocks; b++) {
    const u32 *keys = g.keys + b * simd::pq_block;
    for (u32 i = 0; i < g.counts[b]; i++) {
      if (keys[i] > limit || (some_dead && p.rows.dead(g.slots[b][i]))) continue;
      p.found.add(entry_of(keys[i], g.slots[b][i]));
      if (p.found.full()) limit = entry_key(p.found.limit());
    }
  }
  p.blocks = 0;
}

// Takes n entries of a block. One that is not full is copied: others may be writing behind its entries.
void Ivf::gather_codes(Probe &p, const PostingSegment *s, u32 block, u32 n) {
  Probe::CodeGroup &g = *p.group;
  g.slots[p.blocks] = lists_.slots(s, block);
  g.counts[p.blocks] = n;
  g.codes[p.blocks] = lists_.codes(s, block);
  g.terms[p.blocks] = lists_.second_words(s, block);
  if (n < simd::pq_block) {
    memset(g.part_terms, 0, sizeof g.part_terms);
    memcpy(g.part_terms, g.terms[p.blocks], n * 4);
    for (u32 j = 0; j < pq_.code_bytes(); j++) {
      u8 *to = g.part_codes + j * simd::pq_block;
      memcpy(to, g.codes[p.blocks] + j * simd::pq_block, n);
      memset(to + n, 0, simd::pq_block - n);
    }
    g.codes[p.blocks] = g.part_codes;
    g.terms[p.blocks] = g.part_terms;
  }
  p.blocks++;
}

Status Ivf::scan_list_codes(Probe &p, u32 list, u32 centroid_key) {
  for (const PostingSegment *s = lists_.newest(list); s; s = s->older) {
    const u32 used = s->used.load(std::memory_order_acquire);
    for (u32 i = 0; i < used; i += simd::pq_block) {
      const u32 n = min_of(used - i, simd::pq_block);
      gather_codes(p, s, i / simd::pq_block, n);
      if (p.blocks == ivf_search_impl::group || n < simd::pq_block) {
        score_codes(p, centroid_key);
        VX_TRY(p.scorer.breathe());
      }
    }
  }
  if (p.blocks) score_codes(p, centroid_key);
  return p.scorer.breathe();
}

Status Ivf::scan_codes(Probe &p, Scratch &scratch) {
  const u32 ef = max_of(p.params.ef, p.params.k), probes = probes_for(ef);
  const u32 keep = ef * ivf_search_impl::rescored_per_ef * (p.params.accept ? ivf_search_impl::rescored_filtered : 1);
  const usize table = usize{32} * pq_.code_bytes();
  u8 *area = VX_TRY(scratch.array<u8>(Scratch::select, table * 5 + sizeof(Probe::CodeGroup)));
  p.tables.entries = area + table * 4;
  p.group = reinterpret_cast<Probe::CodeGroup *>(area + table * 5);
  p.found.reset(VX_TRY(scratch.array<Entry>(Scratch::beam, usize{keep} + 1)), keep);
  simd::pq_tables(pq_, codebook(), p.query, space_.metric() == simd::Metric::l2, area, &p.tables);
  const u64 most = u64{probes} * ivf_search_impl::probes_stretch;
  for (u64 done = 0; !p.lists.empty(); done++) {
    if (done >= probes && (p.found.size() >= p.params.k || done >= most)) break;
    const Entry e = p.lists.top();
    p.lists.pop();
    p.scorer.stats.hops++;
    VX_TRY(scan_list_codes(p, entry_slot(e), entry_key(e)));
  }
  return rescore(p);
}

// The best by their codes, in that order.
Status Ivf::rescore(Probe &p) {
  for (u32 i = 0; i < p.found.size(); i++) {
    if (p.scorer.spent()) {
      p.scorer.stats.truncated = true;
      break;
    }
    VX_TRY(p.scorer.offer(entry_slot(p.found.entries()[i])));
  }
  return p.scorer.end();
}

Result<u32> Ivf::search(RowView &rows, const simd::Query &q, const SearchParams &params, Scratch &scratch, Hit *out,
                        SearchStats *stats) {
  if (params.k == 0 || must_learn()) return u32{0};
  VX_TRY(ready());
  Probe p(rows, space_, q, params, out);
  Status s = p.scorer.begin(scratch);
  if (s.ok()) s = choose_lists(p, q, scratch);
  if (s.ok()) s = coded() ? scan_codes(p, scratch) : scan_rows(p);
  if (stats) stats->add(p.scorer.stats);
  if (!s.ok()) return s.error();
  return p.top.n;
}

}  // namespace vexfs::vector
