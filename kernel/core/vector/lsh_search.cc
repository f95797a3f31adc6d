// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Searching hash tables: which buckets, in which order.
#include "beam.h"
#include "lsh.h"
#include "visited.h"

namespace vexfs::vector {
namespace lsh_search_impl {
namespace {

constexpr u32 probes_auto = 16;        // buckets of each table, for probes_per_ef of ef, under l2
constexpr u32 probes_auto_signs = 32;  // and where a function has but one neighbour
constexpr u32 probes_stretch = 8;      // times as many, while fewer than k are found

}  // namespace
}  // namespace lsh_search_impl

// What one search keeps. Changes are tried in the order of their costs (sums of squares, as if distances to the
// boundaries were independent): the heap begins with each table's cheapest change of one function; one that is taken out
// makes way for two that cost no less, the last function replaced by the next dearer one, and that one added.
class Lsh::Probing : vexfs::Pinned {
 public:
  // A change of the query's hash in one table: which of the table's changes of one function, by cost, it is made of.
  struct Change {
    u64 mask;
    u32 table;
    u32 last;  // the highest bit in mask
  };
  Probing(const Lsh &index, RowView &rows, const simd::Query &q, const SearchParams &p, Hit *out, Scratch &s)
      : params(p), top{out, p.k, 0}, scorer(rows, index.space_, q, p, &top), visited(s), index_(index), scratch_(s) {}

  Status begin(const Hashes &h, u32 changes_max);
  // The cheapest change that was not tried yet: its table, and the sum that it leads to. False: there is none.
  bool next(u32 *table, u32 *sum);
  u32 sum_of(u32 table) const { return sums_[table]; }

  const SearchParams &params;
  TopK top;
  RowScorer scorer;
  Visited visited;

 private:
  // Of one change: function * 2 + (1: above).
  u32 cost_of(u32 table, u32 change) const {
    const u32 at = table * index_.params_.bits + change / 2;
    return (change & 1) ? h_.above[at] : h_.below[at];
  }
  u32 cost(u32 table, u32 place) const;
  void push(const Change &c);
  void sort_table(u32 table);
  u32 places() const { return 2 * index_.params_.bits; }

  const Lsh &index_;
  Scratch &scratch_;
  Hashes h_;
  u8 *order_ = nullptr;    // of each table: function * 2 + (1: above), ascending by cost
  u32 *usable_ = nullptr;  // of each table: how many of these there are
  u32 *sums_ = nullptr;
  Change *changes_ = nullptr;
  u32 nchanges_ = 0, changes_max_ = 0;
  MinHeap heap_;
};

void Lsh::Probing::sort_table(u32 t) {
  u8 *order = order_ + t * places();
  u32 n = 0;
  for (u32 p = 0; p < places(); p++) {
    const u32 c = cost_of(t, p);
    if (c == ~u32{0}) continue;
    u32 j = n++;
    for (; j && cost_of(t, order[j - 1]) > c; j--) order[j] = order[j - 1];
    order[j] = static_cast<u8>(p);
  }
  usable_[t] = n;
}

u32 Lsh::Probing::cost(u32 table, u32 place) const { return cost_of(table, order_[table * places() + place]); }

Status Lsh::Probing::begin(const Hashes &h, u32 changes_max) {
  const u32 tables = index_.params_.tables, bits = index_.params_.bits;
  h_ = h;
  changes_max_ = changes_max;
  const usize words = usize{2} * tables + usize{tables} * places() / 4 + 1;
  u32 *area = VX_TRY(scratch_.array<u32>(Scratch::results, words));
  usable_ = area;
  sums_ = area + tables;
  order_ = reinterpret_cast<u8 *>(area + usize{2} * tables);
  changes_ = VX_TRY(scratch_.array<Change>(Scratch::beam, changes_max));
  Entry *storage = VX_TRY(scratch_.array<Entry>(Scratch::heap, changes_max));
  heap_.reset(storage, changes_max);
  for (u32 t = 0; t < tables; t++) {
    sums_[t] = 0;
    for (u32 i = 0; i < bits; i++) sums_[t] += static_cast<u32>(h.value[t * bits + i]) * lsh_factor(t, i);
    sort_table(t);
    if (usable_[t]) push({1, t, 0});
  }
  return {};
}

void Lsh::Probing::push(const Change &c) {
  if (nchanges_ == changes_max_) return;
  u64 sum = 0;
  for (u64 m = c.mask; m; m &= m - 1) sum += cost(c.table, static_cast<u32>(__builtin_ctzll(m)));
  changes_[nchanges_] = c;
  heap_.push(entry_of(static_cast<u32>(min_of<u64>(sum, ~u32{0})), nchanges_++));
}

bool Lsh::Probing::next(u32 *table, u32 *sum) {
  while (!heap_.empty()) {
    const Change c = changes_[entry_slot(heap_.top())];
    heap_.pop();
    if (c.last + 1 < usable_[c.table]) {
      const u64 up = u64{1} << (c.last + 1);
      push({(c.mask & ~(u64{1} << c.last)) | up, c.table, c.last + 1});
      push({c.mask | up, c.table, c.last + 1});
    }
    u64 seen = 0;  // functions: none can be changed both ways
    bool possible = true;
    *table = c.table;
    *sum = sums_[c.table];
    for (u64 m = c.mask; m; m &= m - 1) {
      const u32 p = order_[c.table * places() + static_cast<u32>(__builtin_ctzll(m))];
      possible = possible && !(seen >> (p / 2) & 1);
      seen |= u64{1} << (p / 2);
      const u32 f = lsh_factor(c.table, p / 2);
      *sum += (p & 1) ? f : 0 - f;
    }
    if (possible) return true;
  }
  return false;
}

u32 Lsh::probes_for(u32 ef) const {
  const u64 p = params_.probes ? params_.probes
                : width()      ? lsh_search_impl::probes_auto
                               : lsh_search_impl::probes_auto_signs;
  return static_cast<u32>(min_of<u64>(div_up<u64>(p * ef, probes_per_ef), probes_max));
}

Status Lsh::look_into(Probing &p, u32 table, u32 sum) {
  p.scorer.stats.hops++;
  for (const PostingSegment *s = lists_.newest(bucket(table, sum)); s; s = s->older) {
    const u32 used = s->used.load(std::memory_order_acquire);
    VX_TRY(p.visited.reserve(used));
    for (u32 i = 0; i < used; i++) {
      const u32 slot = lists_.slot_at(s, i);
      if (p.visited.insert(slot)) VX_TRY(p.scorer.offer(slot));
    }
  }
  return {};
}

Status Lsh::probe(Probing &p) {
  const u64 probes = u64{params_.tables} * probes_for(max_of(p.params.ef, p.params.k));
  const u64 most = probes * lsh_search_impl::probes_stretch;
  for (u64 done = 0;; done++) {
    if (done >= probes) VX_TRY(p.scorer.end());  // what is found so far decides
    if (done >= probes && (p.top.n >= p.params.k || done >= most)) return {};
    if (done % 64 == 63) {  // buckets may be empty, and what is in them seen already: nothing else breathes then
      if (p.params.interrupted && p.params.interrupted(p.params.ctx)) return Errno::intr;
      vx_yield();
    }
    if (p.scorer.spent()) {
      p.scorer.stats.truncated = true;
      break;
    }
    u32 table = static_cast<u32>(done), sum = 0;
    if (done < params_.tables)
      sum = p.sum_of(table);
    else if (!p.next(&table, &sum))
      break;
    VX_TRY(look_into(p, table, sum));
  }
  return p.scorer.end();
}

Result<u32> Lsh::search(RowView &rows, const simd::Query &q, const SearchParams &params, Scratch &scratch, Hit *out,
                        SearchStats *stats) {
  if (params.k == 0 || must_learn()) return u32{0};
  VX_TRY(ready());
  Probing p(*this, rows, q, params, out, scratch);
  const u32 ef = max_of(params.ef, params.k);
  VX_TRY(p.scorer.begin(scratch));
  u32 *v = VX_TRY(scratch.array<u32>(Scratch::query, space_.dim()));
  simd::widen_query(space_, q, v);
  const Hashes h = VX_TRY(hash(v, scratch));
  p.scorer.stats.distances += functions();
  const u64 changes = min_of<u64>(u64{params_.tables} * (2 * probes_for(ef) + 16), u64{1} << 22);
  VX_TRY(p.begin(h, static_cast<u32>(changes)));
  VX_TRY(p.visited.reset(records_.limit(), ef * 64));
  Status s = probe(p);
  if (stats) stats->add(p.scorer.stats);
  if (!s.ok()) return s.error();
  return p.top.n;
}

}  // namespace vexfs::vector
