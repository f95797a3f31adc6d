// SPDX-License-Identifier: MIT
// Repair: the new state as blocks. Trees that changed are written anew from their items; bitmaps and descriptors go to
// their other homes; the root goes to the other slot.
#include <algorithm>

#include "../../kernel/core/store/node_edit.h"
#include "../../kernel/core/store/super_io.h"
#include "write.h"

namespace vexfs::repair {

// ------------------------------------------------------------------- nodes
namespace {

struct Child {
  Key key;
  store::NodePlace place;
};

class TreeWriter {
 public:
  TreeWriter(const Model &m, u8 tree, Places &places, std::vector<Write> &out)
      : m_(m), tree_(tree), places_(places), out_(out) {}
  // The new root; levels 0 for a tree without items. False: there is no place.
  bool write(disk::TreeRootDisk *root);

 private:
  bool leaves();
  bool branches(u8 level);
  bool finish(Buffer &node, const Key &first);

  const Model &m_;
  const u8 tree_;
  Places &places_;
  std::vector<Write> &out_;
  std::vector<Child> level_, next_;
};

bool TreeWriter::finish(Buffer &node, const Key &first) {
  store::NodePlace place{};
  if (!places_.take(&place.addr, false) || (m_.geo.mirrored && !places_.take(&place.mirror, true))) return false;
  disk::seal_block(node, disk::Magic::node, m_.geo.fs_hash, place.addr, m_.new_txn());
  next_.push_back({next_.empty() ? Key::min() : first, place});
  out_.push_back({place.addr << m_.geo.block_shift, node});
  if (place.mirror) out_.push_back({place.mirror << m_.geo.block_shift, node});
  return true;
}

bool TreeWriter::leaves() {
  const u32 size = m_.geo.node_size;
  Buffer node(size);
  store::node_init(node.data(), size, tree_, 0);
  Key first;
  for (const auto &[k, v] : m_.trees[tree_].items) {
    u32 n = store::node_header(node.data()).count;
    if (!store::leaf_fits_now(node.data(), static_cast<u32>(v.size()), true)) {
      if (!finish(node, first)) return false;
      store::node_init(node.data(), size, tree_, 0);
      n = 0;
    }
    if (n == 0) first = k;
    store::leaf_insert_at(node.data(), size, n, k, as_bytes(v));
  }
  return finish(node, first);
}

// Evenly filled, so that none has a single child where there are many.
bool TreeWriter::branches(u8 level) {
  const u32 size = m_.geo.node_size, cap = store::branch_capacity(size);
  const usize nodes = div_up<usize>(level_.size(), cap);
  Buffer node(size);
  for (usize i = 0; i < nodes; i++) {
    const usize from = level_.size() * i / nodes, to = level_.size() * (i + 1) / nodes;
    store::node_init(node.data(), size, tree_, level);
    for (usize c = from; c < to; c++)
      store::branch_insert(node.data(), static_cast<u32>(c - from), level_[c].key, level_[c].place, m_.new_txn());
    if (!finish(node, level_[from].key)) return false;
  }
  return true;
}

bool TreeWriter::write(disk::TreeRootDisk *root) {
  *root = {};
  if (m_.trees[tree_].items.empty()) return true;
  if (!leaves()) return false;
  u8 level = 0;
  while (next_.size() > 1) {
    level_ = std::exchange(next_, {});
    if (!branches(++level)) return false;
  }
  root->node.addr = next_[0].place.addr;
  root->node.mirror = next_[0].place.mirror;
  root->node.birth = m_.new_txn();
  root->levels = static_cast<u8>(level + 1);
  return true;
}

// -------------------------------------------------------------- space maps
class SpaceWriter {
 public:
  SpaceWriter(const Model &m, const BlockSet &used, std::vector<Write> &out) : m_(m), used_(used), out_(out) {}
  void run();
  u64 changed() const { return changed_; }
  bool any() const { return changed_ != 0 || descriptors_ != 0; }
  u64 free() const { return free_; }
  u64 desc_word(u64 d) const { return words_[d]; }

 private:
  struct Now {
    u64 word;
    u32 free;
  };
  bool group(u64 g);
  void descriptors(u64 d, bool touched);

  const Model &m_;
  const BlockSet &used_;
  std::vector<Write> &out_;
  std::vector<Now> groups_;
  std::vector<u64> words_;
  u64 changed_ = 0, descriptors_ = 0, free_ = 0;
};

// True: the descriptor says something else now.
bool SpaceWriter::group(u64 g) {
  const disk::Geometry &geo = m_.geo;
  const Group &old = m_.groups[g];
  Buffer block(geo.block_size);
  const MutBytes bits = MutBytes(block).subspan(sizeof(disk::BitmapDisk));
  disk::fill_fixed_bits(geo, g, bits);
  const std::vector<u8> fixed(bits.begin(), bits.end());
  for (u32 i = 0; i < geo.group_len(g); i++)
    if (used_.has(geo.group_start(g) + i)) bits[i / 8] |= static_cast<u8>(1u << (i % 8));
  const u32 free = disk::count_zero_bits(bits, geo.group_len(g));
  free_ += free;
  const usize bytes = div_up<usize>(geo.group_len(g), 8);
  const bool same = old.known && old.sound && old.free == free && memcmp(old.bits.data(), bits.data(), bytes) == 0;
  groups_.push_back({old.word, free});
  if (same) return false;
  changed_++;
  if (old.word == 0 && std::equal(fixed.begin(), fixed.end(), bits.begin())) {  // nothing was ever written there
    groups_.back().word = disk::kGroupUninit;
    return true;
  }
  const bool first = old.word & disk::kGroupUninit;
  const unsigned home = !first && !(old.word & disk::kHomeBit) ? 1 : 0;
  auto *h = reinterpret_cast<disk::BitmapDisk *>(block.data());
  h->group = g;
  h->bits = geo.group_len(g);
  h->free = free;
  const u64 at = geo.bitmap_block(g, home);
  disk::seal_block(block, disk::Magic::bitmap, geo.fs_hash, at, m_.new_txn());
  out_.push_back({at << geo.block_shift, block});
  groups_.back().word = m_.new_txn() | (home ? disk::kHomeBit : 0) | (old.word & disk::kGroupMeta);
  return true;
}

void SpaceWriter::descriptors(u64 d, bool touched) {
  const disk::Geometry &geo = m_.geo;
  const u64 old = disk::root_desc(&const_cast<Model &>(m_).root())[d];
  words_.push_back(old);
  if (!touched) return;
  descriptors_++;
  const u32 per = disk::descriptors_per_block(geo.block_size);
  const unsigned home = old & disk::kHomeBit ? 0 : 1;
  const u64 at = geo.desc_start + home * geo.desc_count + d, first = d * per;
  Buffer block(geo.block_size);
  auto *h = reinterpret_cast<disk::DescBlockDisk *>(block.data());
  h->index = d;
  h->first = first;
  h->count = static_cast<u32>(std::min<u64>(per, geo.groups - first));
  for (u32 i = 0; i < h->count; i++) {
    disk::desc_array(block.data())[i].bitmap = groups_[first + i].word;
    disk::desc_array(block.data())[i].free = groups_[first + i].free;
  }
  disk::seal_block(block, disk::Magic::descriptor, geo.fs_hash, at, m_.new_txn());
  out_.push_back({at << geo.block_shift, block});
  words_.back() = m_.new_txn() | (home ? disk::kHomeBit : 0);
}

void SpaceWriter::run() {
  const u32 per = disk::descriptors_per_block(m_.geo.block_size);
  for (u64 d = 0; d < m_.geo.desc_count; d++) {
    bool touched = !m_.desc_known[d];
    for (u64 g = d * per; g < std::min<u64>(m_.geo.groups, (d + 1) * per); g++) touched = group(g) || touched;
    descriptors(d, touched);
  }
}

}  // namespace

// -------------------------------------------------------------------- all
Write root_write(const Model &m, const Buffer &contents, u64 txn, unsigned mirror) {
  Buffer block = contents;
  auto *r = reinterpret_cast<disk::RootDisk *>(block.data());
  const unsigned slot = txn % 2;
  r->slot = static_cast<u8>(slot);
  r->mirror = static_cast<u8>(mirror);
  const u64 at = mirror ? m.geo.root_mirror[slot] : m.geo.root_slot[slot];
  disk::seal_block(block, disk::Magic::root, m.geo.fs_hash, at, txn);
  return {at << m.geo.block_shift, std::move(block)};
}

// First where the old bitmaps say that nothing is; then, if that is not enough, wherever nothing that could be read refers
// to.
Places::Places(const Model &m, const BlockSet &used) : m_(m), used_(used), taken_(m.geo.total_blocks) {
  second_.at = align_up<u64>(m.geo.group_start(m.geo.groups / 2), m.geo.node_blocks);
}

bool Places::usable(u64 at, bool strict) const {
  const disk::Geometry &geo = m_.geo;
  if (!geo.is_data(at, geo.node_blocks) || used_.any(at, geo.node_blocks) || m_.seen.any(at, geo.node_blocks) ||
      taken_.any(at, geo.node_blocks))
    return false;
  const Group &g = m_.groups[geo.group_of(at)];
  bool marked = g.bits.empty() && !(g.word & disk::kGroupUninit);
  for (u64 i = 0; i < geo.node_blocks && !g.bits.empty(); i++) {
    const u64 bit = at + i - geo.group_start(geo.group_of(at));
    marked = marked || (g.bits[bit / 8] >> (bit % 8) & 1);
  }
  return strict ? !marked : marked;
}

bool Places::take(u64 *addr, bool second) {
  Cursor &c = second ? second_ : first_;
  for (;;) {
    if (c.at + m_.geo.node_blocks > m_.geo.total_blocks) {
      if (c.turn == 3) return false;  // twice around, as the second half may have begun in the middle
      c.turn++;
      c.at = 0;
    }
    *addr = c.at;
    c.at += m_.geo.node_blocks;
    if (!usable(*addr, c.turn < 2)) continue;
    taken_.add(*addr, m_.geo.node_blocks);
    return true;
  }
}

Errno write_new_state(Model &m, std::vector<Write> &before, std::vector<Write> &root) {
  BlockSet used = used_blocks(m, false);
  Places places(m, used);
  Buffer contents = m.root_block;
  auto *r = reinterpret_cast<disk::RootDisk *>(contents.data());
  bool any_tree = false;
  u64 node_blocks = 0;
  for (u8 t = 0; t < disk::kTrees; t++) {
    if (!m.trees[t].changed) {
      r->trees[t] = m.trees[t].root;
      node_blocks += m.trees[t].nodes.size() * m.geo.place_blocks();
      continue;
    }
    any_tree = true;
    const usize had = before.size();
    if (!TreeWriter(m, t, places, before).write(&r->trees[t])) return Errno::nospc;
    node_blocks += (before.size() - had) * m.geo.node_blocks;
  }
  used.add(places.taken());
  SpaceWriter space(m, used, before);
  space.run();
  if (space.any()) m.safe(cat("the space maps of ", space.changed(), " groups are made anew from what is referred to"));
  const bool counts_wrong = r->free_blocks != space.free();
  if (counts_wrong && !space.any() && !any_tree) m.safe("the count of free blocks is corrected");
  if (!any_tree && !space.any() && !counts_wrong && !m.header_wrong) return Errno::ok;
  for (u64 d = 0; d < m.geo.desc_count; d++) disk::root_desc(r)[d] = space.desc_word(d);
  r->next_object_id = m.next_object_id;
  r->free_blocks = space.free();
  r->node_blocks = node_blocks;
  r->desc_count = m.geo.desc_count;
  r->bytes = disk::root_bytes(m.geo.desc_count);
  memcpy(r->blobs, m.blobs, sizeof m.blobs);
  r->log_seq = r->log_tail = r->log_session = 0;
  r->state = disk::kRootStateClosed;
  for (unsigned mirror = 0; mirror < 2; mirror++) root.push_back(root_write(m, contents, m.new_txn(), mirror));
  return Errno::ok;
}

}  // namespace vexfs::repair
