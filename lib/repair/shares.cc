// SPDX-License-Identifier: MIT
// Repair: the counts of blocks that several extents share. They follow from the extents, and are made anew where they do not.
#include <algorithm>

#include "../../kernel/core/disk/refcount_items.h"
#include "model.h"

namespace vexfs::repair {
namespace {

struct Run {
  u64 start, end, birth;
  u32 refs;
  bool operator==(const Run &) const = default;
};

// Appends to runs in ascending order: within a group, neighbours that say the same are one.
void append_run(const Model &m, std::vector<Run> &runs, Run r) {
  while (r.start < r.end) {
    const u64 g = m.geo.group_of(r.start);
    const u64 end = std::min(r.end, m.geo.group_start(g) + m.geo.group_len(g));
    Run *last = runs.empty() ? nullptr : &runs.back();
    if (last && last->end == r.start && last->refs == r.refs && last->birth == r.birth &&
        m.geo.group_of(last->start) == g)
      last->end = end;
    else
      runs.push_back({r.start, end, r.birth, r.refs});
    r.start = end;
  }
}

std::vector<Run> counted(const Model &m) {
  struct Edge {
    u64 at;
    int step;
    u64 birth;
  };
  std::vector<Edge> edges;
  for (const auto &[k, v] : m.trees[kFs].items) {
    if (k.type != static_cast<u8>(disk::FsItem::extent)) continue;
    const auto e = item_of<disk::DiskExtent>(v);
    if (!(e.flags & disk::kExtentShared)) continue;
    edges.push_back({e.disk, 1, e.birth});
    edges.push_back({e.disk + e.count, -1, e.birth});
  }
  std::sort(edges.begin(), edges.end(), [](const Edge &a, const Edge &b) { return a.at < b.at; });
  std::vector<Run> runs;
  std::multiset<u64> births;  // of the extents that are open
  for (usize i = 0; i < edges.size(); i++) {
    if (edges[i].step > 0)
      births.insert(edges[i].birth);
    else
      births.erase(births.find(edges[i].birth));
    if (i + 1 < edges.size() && births.size() >= 2)
      append_run(m, runs, {edges[i].at, edges[i + 1].at, *births.begin(), static_cast<u32>(births.size())});
  }
  return runs;
}

std::vector<Run> written(const Model &m) {
  std::vector<Run> runs;
  for (const auto &[k, v] : m.trees[kRefcounts].items) {
    const auto r = item_of<disk::RefcountItem>(v);
    if (disk::verify_refcount(as_bytes(v), k.oid, k.type, k.off, m.geo))
      return {{0, 0, 0, 0}};  // not what can be counted
    append_run(m, runs, {k.oid, k.oid + r.blocks, r.birth, r.refs});
  }
  return runs;
}

struct Share {
  u64 start, end, birth;
  Key key;
};

// What hangs together has one birth: the oldest, as nothing that a snapshot may need is freed with that.
void one_birth(Model &m, const std::vector<Share> &all, usize from, usize to) {
  u64 birth = ~u64{0};
  for (usize i = from; i < to; i++) birth = std::min(birth, all[i].birth);
  for (usize i = from; i < to; i++) {
    if (all[i].birth == birth) continue;
    const Key &k = all[i].key;
    auto e = item_of<disk::DiskExtent>(m.files()[k]);
    e.birth = birth;
    m.put(kFs, k, value_of(e));
    m.ask(cat(m.path_of(k.oid), ": the birth of its extent at block ", k.off,
              " is corrected to that of the extents which share its blocks"));
  }
}

}  // namespace

void settle_shares(Model &m) {
  std::vector<Share> all;
  for (const auto &[k, v] : m.files()) {
    if (k.type != static_cast<u8>(disk::FsItem::extent) || v.size() < sizeof(disk::DiskExtent)) continue;
    const auto e = item_of<disk::DiskExtent>(v);
    if (e.flags & disk::kExtentShared) all.push_back({e.disk, e.disk + e.count, e.birth, k});
  }
  std::sort(all.begin(), all.end(), [](const Share &a, const Share &b) { return a.start < b.start; });
  usize from = 0;
  u64 end = 0;
  for (usize i = 0; i < all.size(); i++) {
    if (all[i].start >= end) {
      one_birth(m, all, from, i);
      from = i;
    }
    end = std::max(end, all[i].end);
  }
  one_birth(m, all, from, all.size());
}

void repair_refcounts(Model &m) {
  const std::vector<Run> want = counted(m);
  if (!m.trees[kRefcounts].damaged() && want == written(m)) return;
  m.trees[kRefcounts].items.clear();
  m.trees[kRefcounts].changed = true;
  for (const Run &r : want) {
    disk::RefcountItem item{};
    item.refs = r.refs;
    item.blocks = static_cast<u32>(r.end - r.start);
    item.birth = r.birth;
    m.put(kRefcounts, {r.start, disk::kRefcountType, 0}, value_of(item));
  }
  const std::string text = cat("the counts of shared blocks are made anew: ", want.size(), " entries");
  if (m.trees[kFs].damaged())
    m.ask(text);
  else
    m.safe(text);
}

}  // namespace vexfs::repair
