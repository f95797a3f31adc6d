// SPDX-License-Identifier: MIT
// Repair: finding leaves whose way from the root is lost.
//
// All nodes of this filesystem on the device are looked at (they say which tree, place, and transaction they are of). A
// leaf is taken into account for keys that a damaged branch led to, and only for those, and if
//   - its blocks are in use by the bitmaps, which they are not when it has been replaced by a newer version, and
//   - no entry of the dead tree lists it: then it is of a snapshot's state, not of the present one.
// So what is found with sound space maps and a sound dead tree is exactly what the lost branches led to. Where these are
// damaged too, a leaf that was replaced can be among the finds. Then newer ones win: of a leaf only those items count whose
// key does not lie between the first and the last key of a leaf that was written later. What was deleted at the very edge
// of a leaf can come back in that case; names that come back like this without an inode, or blocks that something else
// uses, are thrown out by the steps that follow. A leaf that is itself damaged is never replaced by an older version.
#include <algorithm>

#include "../../kernel/core/store/node_edit.h"
#include "model.h"

namespace vexfs::repair {
namespace {

struct Found {
  u64 at;  // where it lies; a second copy names the place of the first
  u64 addr, birth;
  u8 tree;
  bool sure;  // the bitmap says that it is in use
};

constexpr u64 kPiece = u64{1} << 20;  // bytes read at once

// The keys between the ends of the leaves that were looked at: from first to last, both included, without overlaps.
class Covered {
 public:
  bool has(const Key &k) const {
    auto it = ranges_.upper_bound(k);
    return it != ranges_.begin() && std::prev(it)->second >= k;
  }
  void add(Key first, Key last) {
    auto it = ranges_.upper_bound(first);
    if (it != ranges_.begin() && std::prev(it)->second >= first) --it;
    while (it != ranges_.end() && it->first <= last) {
      first = std::min(first, it->first);
      last = std::max(last, it->second);
      it = ranges_.erase(it);
    }
    ranges_.emplace(first, last);
  }

 private:
  std::map<Key, Key> ranges_;
};

class Scan {
 public:
  explicit Scan(Model &m) : m_(m), reached_(m.geo.total_blocks) {}
  void run();

 private:
  void look_at(u64 addr, Bytes node);
  bool wanted(u8 tree) const {
    for (const LostRange &r : m_.trees[tree].lost)
      if (r.by_branch) return true;
    return false;
  }
  void read_groups();
  void merge(u8 tree);

  Model &m_;
  BlockSet reached_;
  std::vector<Found> found_;
};

void Scan::look_at(u64 addr, Bytes node) {
  const auto *h = reinterpret_cast<const disk::NodeHeader *>(node.data());
  if (h->header.magic != static_cast<u32>(disk::Magic::node) || h->tree >= disk::kTrees || h->level != 0) return;
  if (!wanted(h->tree) || h->header.txn > m_.txn) return;
  if (h->header.addr != addr && !m_.geo.mirrored) return;
  const disk::NodeExpect expect{h->header.addr, h->header.txn, h->tree, 0};
  if (!disk::verify_node(node, m_.geo, expect).ok()) return;
  const Group &g = m_.groups[m_.geo.group_of(addr)];
  found_.push_back({addr, h->header.addr, h->header.txn, h->tree, g.sound});
}

void Scan::read_groups() {
  const disk::Geometry &geo = m_.geo;
  const u64 step = std::max<u64>(kPiece, geo.node_size) >> geo.block_shift;
  Buffer buf(step << geo.block_shift);
  for (u64 at = 0; at < geo.total_blocks; at += step) {
    const u64 n = std::min(step, geo.total_blocks - at);
    const bool all = read_at(m_.dev, at << geo.block_shift, {buf.data(), n << geo.block_shift}) == Errno::ok;
    for (u64 i = 0; i + geo.node_blocks <= n; i += geo.node_blocks) {
      const u64 addr = at + i;
      if (!geo.is_data(addr, geo.node_blocks) || reached_.any(addr, geo.node_blocks)) continue;
      const Group &g = m_.groups[geo.group_of(addr)];
      const u64 bit = addr - geo.group_start(geo.group_of(addr));
      if (g.sound && !(g.bits[bit / 8] >> (bit % 8) & 1)) continue;
      const MutBytes node{buf.data() + (i << geo.block_shift), geo.node_size};
      if (!all && read_at(m_.dev, addr << geo.block_shift, node) != Errno::ok) continue;
      look_at(addr, node);
    }
  }
}

// Newest first; the items of a leaf count where no newer leaf says something.
void Scan::merge(u8 tree) {
  TreeModel &t = m_.trees[tree];
  Covered covered;
  Buffer buf(m_.geo.node_size);
  u64 leaves = 0, items = 0;
  for (const Found &f : found_) {
    if (f.tree != tree) continue;
    if (read_at(m_.dev, f.at << m_.geo.block_shift, buf) != Errno::ok) continue;
    if (!disk::verify_node(buf, m_.geo, {f.addr, f.birth, tree, 0}).ok()) continue;
    m_.seen.add(f.at, m_.geo.node_blocks);
    const u32 n = store::node_header(buf.data()).count;
    if (n == 0) continue;
    u64 taken = 0;
    for (u32 i = 0; i < n; i++) {
      const Key k = store::key_of(store::leaf_items(buf.data())[i].key);
      const bool lost =
          std::any_of(t.lost.begin(), t.lost.end(), [&](const LostRange &r) { return r.by_branch && r.has(k); });
      if (!lost || covered.has(k)) continue;
      const Bytes v = store::leaf_value(buf.data(), i);
      t.items.emplace(k, Value(v.begin(), v.end()));
      taken++;
    }
    covered.add(store::key_of(store::leaf_items(buf.data())[0].key),
                store::key_of(store::leaf_items(buf.data())[n - 1].key));
    if (!taken) continue;
    items += taken;
    leaves++;
  }
  if (items)
    m_.ask(cat("the ", tree_name(tree), " tree: ", items, " items in ", leaves,
               " leaves were found without their branches"));
}

void Scan::run() {
  for (const TreeModel &t : m_.trees)
    for (const NodePlace &n : t.nodes) m_.add_node(reached_, n);
  for (const auto &[k, v] : m_.trees[kDead].items) reached_.add(k.off, item_of<disk::DeadItem>(v).count);
  read_groups();
  std::sort(found_.begin(), found_.end(), [](const Found &a, const Found &b) {
    if (a.sure != b.sure) return a.sure;
    return a.birth != b.birth ? a.birth > b.birth : a.at < b.at;
  });
  for (u8 t = 0; t < disk::kTrees; t++)
    if (wanted(t)) merge(t);
}

}  // namespace

void scan_lost_nodes(Model &m) {
  u64 lost = 0;
  for (u8 t = 0; t < disk::kTrees; t++) {
    for (const LostRange &r : m.trees[t].lost) {
      m.ask(cat("the ", tree_name(t), " tree: a ", r.by_branch ? "branch" : "leaf",
                " is damaged: it led to the items from object ", r.lo.oid,
                r.open_end ? " on" : cat(" to object ", r.hi.oid)));
      lost += r.by_branch;
    }
  }
  if (lost) Scan(m).run();
}

}  // namespace vexfs::repair
