// SPDX-License-Identifier: MIT
// Repair: who owns which blocks. Two owners of a block, and the notes about what only snapshots need.
#include <algorithm>

#include "../../kernel/core/api.h"
#include "../../kernel/core/base/crc.h"
#include "model.h"

namespace vexfs::repair {
namespace {

using disk::FsItem;

struct Ref {
  u64 start, count, birth;
  u8 tree;
  bool shared;
  Key key;
  u64 end() const { return start + count; }
};

// The part of a reference that something else owns.
struct Loss {
  u8 tree;
  Key key;
  u64 start, count;
};

constexpr u8 kExtentType = static_cast<u8>(FsItem::extent), kSumsType = static_cast<u8>(FsItem::extent_checksum);

class Settle {
 public:
  explicit Settle(Model &m) : m_(m) {}
  void run();

 private:
  void drop_impossible(u8 tree);
  void collect(u8 tree);
  bool first_wins(const Ref &a, const Ref &b, u64 start, u64 count);
  int rank(const Ref &r, u64 start, u64 count);
  void unshare_all();
  void against_nodes();
  void against_each_other();
  bool same_data(const Ref &a, const Ref &b);
  void share(Ref &r);
  void lose(const Ref &r, u64 start, u64 count) { losses_.push_back({r.tree, r.key, start, count}); }
  void cut_extent(const Key &k, std::vector<Loss> &cuts);

  Model &m_;
  std::vector<Ref> refs_;
  std::vector<Loss> losses_;
};

// What cannot be: outside of the device, inside fixed structures.
void Settle::drop_impossible(u8 tree) {
  Items &items = m_.trees[tree].items;
  for (auto it = items.begin(); it != items.end();) {
    bool possible = true;
    disk::block_refs(tree, it->first.oid, it->first.type, as_bytes(it->second), [&](const disk::BlockRef &r) {
      possible = possible && r.count && r.start < m_.geo.total_blocks && r.count <= m_.geo.total_blocks - r.start &&
                 m_.geo.is_data(r.start, r.count);
    });
    if (possible) {
      ++it;
      continue;
    }
    m_.ask(tree == kFs ? cat(m_.path_of(it->first.oid), ": its extent at block ", it->first.off,
                             " names blocks that no file can have: a hole is left")
                       : cat(m_.collection(it->first.oid), ": ", disk::vector_item_name(it->first.oid, it->first.type),
                             " ", it->first.off, " names impossible blocks: it is dropped"));
    it = m_.drop(tree, it);
  }
}

void Settle::collect(u8 tree) {
  for (const auto &[k, v] : m_.trees[tree].items)
    disk::block_refs(tree, k.oid, k.type, as_bytes(v), [&, key = k](const disk::BlockRef &r) {
      refs_.push_back({r.start, r.count, r.birth, tree, tree == kFs && r.shared, key});
    });
}

// A filesystem that was made without shared blocks has none.
void Settle::unshare_all() {
  if (m_.super.incompat & disk::kIncompatReflink) return;
  std::vector<Key> keys;
  for (const auto &[k, v] : m_.files())
    if (k.type == kExtentType && item_of<disk::DiskExtent>(v).flags & disk::kExtentShared) keys.push_back(k);
  for (const Key &k : keys) {
    auto e = item_of<disk::DiskExtent>(m_.files()[k]);
    e.flags = e.flags & ~disk::kExtentShared;
    m_.put(kFs, k, value_of(e));
  }
  if (!keys.empty())
    m_.ask(cat(keys.size(), " extents say that they share blocks, which this filesystem does not have"));
}

// Both are sound extents over exactly these blocks, and one of them says that it shares them.
bool Settle::same_data(const Ref &a, const Ref &b) {
  return (m_.super.incompat & disk::kIncompatReflink) && a.tree == kFs && b.tree == kFs && a.shared != b.shared &&
         a.start == b.start && a.count == b.count && rank(a, a.start, a.count) == 3 && rank(b, b.start, b.count) == 3;
}

void Settle::share(Ref &r) {
  auto e = m_.get<disk::DiskExtent>(kFs, r.key);
  e->flags = e->flags | disk::kExtentShared;
  m_.put(kFs, r.key, value_of(*e));
  r.shared = true;
  m_.ask(cat(m_.path_of(r.key.oid), ": its extent at block ", r.key.off,
             " has the same data as another file: it is marked as shared"));
}

// How sure it is that the blocks are this owner's: 3 file data that fits its checksums, 2 a table of vectors (whose rows
// are looked at later), 1 data without checksums, 0 data that does not fit, or that can be made again.
int Settle::rank(const Ref &r, u64 start, u64 count) {
  if (r.tree == kCollections) return r.key.type == static_cast<u8>(disk::VectorItem::chunk) ? 2 : 0;
  const auto e = m_.get<disk::DiskExtent>(kFs, r.key);
  if (!e || !(e->flags & disk::kExtentSummed)) return 1;
  Buffer block(m_.geo.block_size);
  for (u64 b = start; b < start + count; b++) {
    const u64 at = r.key.off + (b - e->disk), base = align_down<u64>(at, disk::kSumsPerItem);
    auto it = m_.files().find({r.key.oid, kSumsType, base});
    le32 sum;
    if (it == m_.files().end() || it->second.size() < (at - base + 1) * sizeof sum) return 0;
    memcpy(&sum, it->second.data() + (at - base) * sizeof sum, sizeof sum);
    if (read_at(m_.dev, b << m_.geo.block_shift, block) != Errno::ok || crc32c_of(block) != sum) return 0;
  }
  return 3;
}

bool Settle::first_wins(const Ref &a, const Ref &b, u64 start, u64 count) {
  const int x = rank(a, start, count), y = rank(b, start, count);
  if (x != y) return x > y;
  if (a.birth != b.birth) return a.birth > b.birth;
  return a.tree != b.tree ? a.tree < b.tree : a.key < b.key;
}

// An extent without the blocks that it loses.
void Settle::cut_extent(const Key &k, std::vector<Loss> &cuts) {
  const auto e = m_.get<disk::DiskExtent>(kFs, k);
  if (!e) return;
  auto it = m_.files().find(k);
  m_.drop(kFs, it);
  u64 at = e->disk;
  auto keep_until = [&](u64 end) {
    if (at >= end) return;
    disk::DiskExtent part = *e;
    part.disk = at;
    part.count = static_cast<u32>(end - at);
    m_.put(kFs, {k.oid, k.type, k.off + (at - e->disk)}, value_of(part));
  };
  std::sort(cuts.begin(), cuts.end(), [](const Loss &a, const Loss &b) { return a.start < b.start; });
  for (const Loss &c : cuts) {
    keep_until(c.start);
    at = std::max(at, c.start + c.count);
    m_.ask(cat(m_.path_of(k.oid), ": ", c.count, " blocks from block ", k.off + (c.start - e->disk),
               " on belong to something else: a hole is left"));
  }
  keep_until(e->disk + e->count);
}

// A node that is in use is one for sure: its checksum says so.
void Settle::against_nodes() {
  std::set<u64> nodes = m_.snapshot_nodes;
  for (const TreeModel &t : m_.trees)
    for (const NodePlace &n : t.nodes) {
      nodes.insert(n.addr);
      if (n.mirror) nodes.insert(n.mirror);
    }
  for (const Ref &r : refs_) {
    auto n = nodes.lower_bound(r.start >= m_.geo.node_blocks ? r.start - m_.geo.node_blocks + 1 : 0);
    for (; n != nodes.end() && *n < r.end(); ++n) {
      const u64 start = std::max(*n, r.start), end = std::min(*n + m_.geo.node_blocks, r.end());
      if (start < end) lose(r, start, end - start);
    }
  }
}

// In the order of the device, beside those that have begun and not ended. Extents that share are not compared with each
// other: there can be very many of these over the same blocks.
void Settle::against_each_other() {
  std::multimap<u64, Ref *> open[2];  // by end; not shared, shared
  for (Ref &r : refs_) {
    for (auto &o : open) o.erase(o.begin(), o.upper_bound(r.start));
    for (int of_shared : {0, 1}) {
      for (auto it = open[of_shared].begin(); it != open[of_shared].end();) {
        const auto at = it++;
        Ref &o = *at->second;
        if (o.shared && r.shared) {
          if (of_shared) break;
          continue;
        }
        if (same_data(o, r)) {
          const bool older = r.shared;
          share(older ? o : r);
          if (older) open[1].insert(open[0].extract(at));
          continue;
        }
        const u64 count = std::min(o.end(), r.end()) - r.start;
        lose(first_wins(o, r, r.start, count) ? r : o, r.start, count);
      }
    }
    open[r.shared].insert({r.end(), &r});
  }
}

void Settle::run() {
  drop_impossible(kFs);
  drop_impossible(kCollections);
  unshare_all();
  collect(kFs);
  collect(kCollections);
  std::sort(refs_.begin(), refs_.end(),
            [](const Ref &a, const Ref &b) { return a.start != b.start ? a.start < b.start : a.key < b.key; });
  against_nodes();
  against_each_other();
  std::map<std::pair<u8, Key>, std::vector<Loss>> by_item;
  for (const Loss &l : losses_) by_item[{l.tree, l.key}].push_back(l);
  for (auto &[item, cuts] : by_item) {
    if (item.first == kFs) {
      cut_extent(item.second, cuts);
      continue;
    }
    auto it = m_.vectors().find(item.second);
    m_.ask(cat(m_.collection(item.second.oid), ": ", disk::vector_item_name(item.second.oid, item.second.type), " ",
               item.second.off, " names blocks of something else: it is dropped"));
    m_.drop(kCollections, it);
  }
}

// ------------------------------------------------------------- the dead tree
class DeadNotes {
 public:
  explicit DeadNotes(Model &m) : m_(m), used_(used_blocks(m, true)) {
    // used_ begins as what the present refers to; entries add to it.
  }
  void run();

 private:
  void judge_entries();
  void add_missing();
  bool needed(u64 birth, u64 death) const {
    return std::any_of(m_.snapshots.begin(), m_.snapshots.end(),
                       [&](const SnapshotModel &s) { return birth <= s.item.txn && s.item.txn < death; });
  }
  bool being_deleted() const {
    for (const auto &[k, v] : m_.trees[kSnapshots].items)
      if (k.type == disk::kSnapshotType &&
          item_of<disk::SnapshotItem>(v).state != static_cast<u8>(disk::SnapshotState::live))
        return true;
    return false;
  }

  Model &m_;
  BlockSet used_;
};

void DeadNotes::judge_entries() {
  Items &items = m_.trees[kDead].items;
  const bool waiting = being_deleted();
  u64 bad = 0, unneeded = 0;
  for (auto it = items.begin(); it != items.end();) {
    const Key k = it->first;
    const auto d = item_of<disk::DeadItem>(it->second);
    const bool sound = k.type == disk::kDeadType && !disk::verify_dead(as_bytes(it->second), k.oid, k.off, m_.geo) &&
                       k.oid <= m_.new_txn() && !used_.any(k.off, d.count);
    if (sound && (waiting || needed(d.birth, k.oid))) {
      used_.add(k.off, d.count);
      ++it;
      continue;
    }
    (sound ? unneeded : bad)++;
    it = m_.drop(kDead, it);
  }
  if (bad) m_.ask(cat("dead tree: ", bad, " entries are wrong: they are removed"));
  if (unneeded && m_.snapshots_lost)
    m_.ask(cat("dead tree: ", unneeded, " entries that no snapshot that is left needs are removed"));
  else if (unneeded)
    m_.safe(cat("dead tree: ", unneeded, " entries that no snapshot needs are removed"));
}

void DeadNotes::add_missing() {
  u64 blocks = 0;
  for (const auto &[start, run] : m_.kept) {
    for (u64 b = start; b < start + run.count;) {
      if (used_.has(b)) {
        b++;
        continue;
      }
      const u64 g = m_.geo.group_of(b), group_end = m_.geo.group_start(g) + m_.geo.group_len(g);
      u64 end = b;
      while (end < start + run.count && end < group_end && !used_.has(end)) end++;
      disk::DeadItem d{};
      d.birth = run.birth;
      d.count = static_cast<u32>(end - b);
      m_.put(kDead, {m_.new_txn(), disk::kDeadType, b}, value_of(d));
      used_.add(b, end - b);
      blocks += end - b;
      b = end;
    }
  }
  if (blocks) m_.safe(cat("dead tree: ", blocks, " blocks that only snapshots need are noted"));
}

void DeadNotes::run() {
  judge_entries();
  add_missing();
  for (SnapshotModel &s : m_.snapshots) {  // what a rollback has left to be noted has been
    if (s.item.replaced_txn == 0) continue;
    s.item.replaced_txn = 0;
    m_.put(kSnapshots, {s.id, disk::kSnapshotType, 0}, value_of(s.item));
  }
}

}  // namespace

void settle_overlaps(Model &m) { Settle(m).run(); }

BlockSet used_blocks(const Model &m, bool present_only) {
  BlockSet out(m.geo.total_blocks);
  for (u64 g = 0; g < m.geo.groups; g++) m.geo.for_fixed(g, [&](u64 start, u64 count) { out.add(start, count); });
  for (u8 t = 0; t < disk::kTrees; t++) {
    each_ref(m.trees[t], t, [&](const Key &, u64 start, u64 count, u64) { out.add(start, count); });
    if (m.trees[t].changed) continue;
    for (const NodePlace &n : m.trees[t].nodes) m.add_node(out, n);
  }
  if (present_only) return out;
  for (const auto &[k, v] : m.trees[kDead].items) out.add(k.off, item_of<disk::DeadItem>(v).count);
  return out;
}

void repair_dead(Model &m) { DeadNotes(m).run(); }

}  // namespace vexfs::repair
