// SPDX-License-Identifier: MIT
// Repair: reading trees, snapshots and space maps, past whatever is damaged.
#include <algorithm>
#include <functional>

#include "../../kernel/core/store/node_edit.h"
#include "../../kernel/core/store/super_io.h"
#include "model.h"

namespace vexfs::repair {

Errno read_at(vx_bdev *dev, u64 off, MutBytes out) { return store::device_read(dev, off, out, true).code(); }

bool read_node(const Model &m, const disk::NodePtr &ptr, u8 tree, u8 level, Buffer &buf, std::map<u64, Buffer> *bad) {
  const disk::NodeExpect expect{ptr.addr, ptr.birth, tree, level, ptr.mirror};
  Buffer copy(m.geo.node_size);
  std::vector<u64> broken;
  bool good = false;
  for (u64 at : {expect.addr, expect.mirror}) {
    if (at == 0 || !m.geo.is_data(at, m.geo.node_blocks)) continue;
    if (read_at(m.dev, at << m.geo.block_shift, copy) != Errno::ok || !disk::verify_node(copy, m.geo, expect).ok()) {
      broken.push_back(at);
      continue;
    }
    if (!good) buf = copy;
    good = true;
  }
  if (good && bad)
    for (u64 at : broken) (*bad)[at] = buf;
  return good;
}

namespace {

// A subtree and the keys that it is responsible for.
struct Subtree {
  disk::NodePtr ptr;
  u8 level;
  Key lo, hi;
  bool open_end;
};

bool in_range(const u8 *node, const Subtree &s) {
  const u32 n = store::node_header(node).count;
  const bool leaf = s.level == 0;
  if (n == 0) return leaf && s.lo == Key::min() && s.open_end;
  auto key = [&](u32 i) {
    return store::key_of(leaf ? store::leaf_items(node)[i].key : store::branch_items(node)[i].key);
  };
  const Key first = key(0), last = key(n - 1);
  return (leaf ? first >= s.lo : first == s.lo) && (s.open_end || last < s.hi);
}

// Children last to first, so that a stack gives them in the order of keys.
void push_children(const u8 *node, const Subtree &s, std::vector<Subtree> &stack) {
  const store::BranchItem *it = store::branch_items(node);
  for (u32 i = store::node_header(node).count; i-- > 0;) {
    const bool last = i + 1 == store::node_header(node).count;
    stack.push_back({it[i].child, static_cast<u8>(s.level - 1), store::key_of(it[i].key),
                     last ? s.hi : store::key_of(it[i + 1].key), last && s.open_end});
  }
}

void take_items(const u8 *node, Items &items) {
  const store::LeafItem *it = store::leaf_items(node);
  for (u32 i = 0; i < store::node_header(node).count; i++) {
    const Bytes v = store::leaf_value(node, i);
    items.emplace_hint(items.end(), store::key_of(it[i].key), Value(v.begin(), v.end()));
  }
}

}  // namespace

void walk_tree(const Model &m, u8 tree, const disk::TreeRootDisk &root, TreeModel &out) {
  out.root = root;
  if (root.levels == 0) return;
  if (root.levels > disk::kMaxLevels) {
    out.lost.push_back({Key::min(), Key::max(), true, true});
    return;
  }
  std::vector<Subtree> stack{{root.node, static_cast<u8>(root.levels - 1), Key::min(), Key::max(), true}};
  Buffer buf;
  while (!stack.empty()) {
    const Subtree s = stack.back();
    stack.pop_back();
    if (!read_node(m, s.ptr, tree, s.level, buf, &out.bad_copies) || !in_range(buf.data(), s)) {
      out.lost.push_back({s.lo, s.hi, s.open_end, s.level > 0});
      continue;
    }
    out.nodes.push_back({s.ptr.addr, s.ptr.birth, s.ptr.mirror});
    if (s.level)
      push_children(buf.data(), s, stack);
    else
      take_items(buf.data(), out.items);
  }
}

// ---------------------------------------------------------------- space maps
namespace {

bool read_bitmap(const Model &m, u64 g, unsigned home, u64 txn, u32 free, Buffer &block) {
  block.resize(m.geo.block_size);
  if (read_at(m.dev, m.geo.bitmap_block(g, home) << m.geo.block_shift, block) != Errno::ok) return false;
  return disk::verify_bitmap(block, m.geo, g, home, txn, free).ok();
}

void take_bits(Group &group, const Buffer &block) {
  group.bits.assign(block.begin() + sizeof(disk::BitmapDisk), block.end());
  group.sound = true;
}

// Without a descriptor: the newer of the two homes that are sound by themselves.
void guess_bitmap(const Model &m, u64 g, Group &group) {
  u64 best = 0;
  Buffer block;
  for (unsigned home = 0; home < 2; home++) {
    block.resize(m.geo.block_size);
    if (read_at(m.dev, m.geo.bitmap_block(g, home) << m.geo.block_shift, block) != Errno::ok) continue;
    const auto *h = reinterpret_cast<const disk::BitmapDisk *>(block.data());
    const u64 txn = h->header.txn;
    if (txn > m.txn || txn <= best || !disk::verify_bitmap(block, m.geo, g, home, txn, h->free).ok()) continue;
    best = txn;
    group.word = txn | (home ? disk::kHomeBit : 0);
    group.free = h->free;
    take_bits(group, block);
  }
  // It may be older than what is lost: good for where not to write, not for what is alive.
  group.sound = false;
}

void load_bitmap(const Model &m, u64 g, Group &group) {
  Buffer block(m.geo.block_size);
  if (group.word & disk::kGroupUninit) {
    group.bits.assign(m.geo.block_size - sizeof(disk::BitmapDisk), 0);
    group.sound = disk::fill_fixed_bits(m.geo, g, group.bits) == group.free;
    return;
  }
  const unsigned home = group.word & disk::kHomeBit ? 1 : 0;
  if (read_bitmap(m, g, home, group.word & disk::kGroupTxnMask, group.free, block)) take_bits(group, block);
}

}  // namespace

void load_groups(Model &m) {
  const disk::Geometry &geo = m.geo;
  m.groups.assign(geo.groups, {});
  m.desc_known.assign(geo.desc_count, false);
  const u32 per = disk::descriptors_per_block(geo.block_size);
  const le64 *words = disk::root_desc(&m.root());
  Buffer block(geo.block_size);
  for (u64 d = 0; d < geo.desc_count; d++) {
    const unsigned home = words[d] & disk::kHomeBit ? 1 : 0;
    const u64 at = geo.desc_start + home * geo.desc_count + d;
    const bool sound = read_at(m.dev, at << geo.block_shift, block) == Errno::ok &&
                       disk::verify_desc_block(block, geo, d, home, words[d] & disk::kTxnMask).ok();
    m.desc_known[d] = sound;
    for (u64 g = d * per; g < std::min<u64>(geo.groups, (d + 1) * per); g++) {
      Group &group = m.groups[g];
      group.known = sound;
      if (!sound) {
        guess_bitmap(m, g, group);
        continue;
      }
      group.word = disk::desc_array(block.data())[g - d * per].bitmap;
      group.free = disk::desc_array(block.data())[g - d * per].free;
      load_bitmap(m, g, group);
    }
  }
}

// ----------------------------------------------------------------- snapshots
void each_ref(const TreeModel &t, u8 tree, const std::function<void(const Key &, u64, u64, u64)> &fn) {
  for (const auto &item : t.items) {
    const Key &k = item.first;
    disk::block_refs(tree, k.oid, k.type, as_bytes(item.second),
                     [&](const disk::BlockRef &r) { fn(k, r.start, r.count, r.birth); });
  }
}

namespace {

// Whether all of the snapshot can be read; what it refers to is added to *runs.
bool read_snapshot(Model &m, const disk::SnapshotItem &item, std::map<u64, BirthRun> &runs, std::set<u64> &nodes) {
  for (u8 t : disk::kKeptTrees) {
    TreeModel tree;
    walk_tree(m, t, disk::kept_root(item, t), tree);
    if (tree.damaged()) return false;
    m.bad_copies.merge(tree.bad_copies);
    for (const NodePlace &n : tree.nodes) {
      for (u64 at : {n.addr, n.mirror}) {
        if (at == 0) continue;
        runs[at] = {m.geo.node_blocks, n.birth};
        nodes.insert(at);
      }
    }
    each_ref(tree, t, [&](const Key &, u64 start, u64 count, u64 birth) {
      BirthRun &r = runs[start];
      if (count > r.count) r = {count, birth};
    });
  }
  return true;
}

void tell_lost_snapshots(Model &m) {
  if (!m.trees[kSnapshots].damaged()) return;
  std::string left;
  for (const SnapshotModel &s : m.snapshots)
    left += cat(left.empty() ? "" : ", ", s.id, " ",
                quoted(bytes_of(s.item.name).first(strnlen(s.item.name, sizeof s.item.name))));
  m.ask(
      cat("snapshots may have been lost: the list of snapshots is damaged; left are: ", left.empty() ? "none" : left));
}

}  // namespace

// Those that can be read stay; of the others the item goes. Where something is being made or deleted, a mount goes on
// with it: such an item is left alone as long as the trees of notes are sound.
void load_snapshots(Model &m) {
  Items &items = m.trees[kSnapshots].items;
  std::set<u64> gone;
  for (auto it = items.begin(); it != items.end();) {
    const Key k = it->first;
    const char *bad =
        k.type != disk::kSnapshotType || k.off != 0 ? "key" : disk::verify_snapshot(as_bytes(it->second), k.oid, m.geo);
    const auto item = item_of<disk::SnapshotItem>(it->second);
    if (!bad && item.txn > m.txn) bad = "txn";
    if (bad) {
      m.ask(cat("snapshot ", k.oid, ": its item makes no sense (", bad, "): it is removed"));
      gone.insert(k.oid);
      it = m.drop(kSnapshots, it);
      continue;
    }
    if (item.state != static_cast<u8>(disk::SnapshotState::live)) {
      ++it;
      continue;
    }
    std::map<u64, BirthRun> runs;
    std::set<u64> nodes;
    if (!read_snapshot(m, item, runs, nodes)) {
      m.ask(cat("snapshot ", k.oid, " ", quoted(bytes_of(item.name).first(strnlen(item.name, sizeof item.name))),
                ": its trees are damaged: it is dropped"));
      gone.insert(k.oid);
      it = m.drop(kSnapshots, it);
      continue;
    }
    for (const auto &[start, run] : runs) {
      BirthRun &r = m.kept[start];
      if (run.count > r.count) r = run;
      m.seen.add(start, run.count);
    }
    m.snapshot_nodes.insert(nodes.begin(), nodes.end());
    m.snapshots.push_back({k.oid, item});
    ++it;
  }
  tell_lost_snapshots(m);
  m.snapshots_lost = m.trees[kSnapshots].damaged() || !gone.empty();
  if (gone.empty()) return;
  disk::SnapshotRootBlob blob;
  memcpy(&blob, m.blobs[kSnapshots], sizeof blob);
  if (gone.count(blob.rollback_to)) {
    blob.rollback_to = 0;
    memcpy(m.blobs[kSnapshots], &blob, sizeof blob);
    m.header_wrong = true;
    m.ask("the rollback that the next mount was to do is taken back: its snapshot is gone");
  }
}

}  // namespace vexfs::repair
