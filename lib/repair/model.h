// SPDX-License-Identifier: MIT
// A damaged filesystem in memory: what could be read of it, and what has been decided about it. Private to the repair.
//
// Memory: all items of all trees (not file data, not vectors), and a few bits for each block of the device.
#pragma once
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "../../kernel/core/disk/fs_items.h"
#include "../../kernel/core/disk/group.h"
#include "../../kernel/core/disk/node.h"
#include "../../kernel/core/disk/references.h"
#include "../../kernel/core/disk/snapshot_items.h"
#include "../../kernel/core/disk/vector_items.h"
#include "../../kernel/core/store/key.h"
#include "blockset.h"
#include "repair.h"
#include "text.h"

namespace vexfs::repair {

using store::Key;
using Value = std::vector<u8>;
using Items = std::map<Key, Value>;

inline Bytes as_bytes(const Value &v) { return {v.data(), v.size()}; }
template <class T>
T item_of(const Value &v) {  // shorter values are filled up with zeroes
  T t{};
  memcpy(&t, v.data(), v.size() < sizeof t ? v.size() : sizeof t);
  return t;
}
template <class T>
Value value_of(const T &t) {
  const auto *p = reinterpret_cast<const u8 *>(&t);
  return Value(p, p + sizeof t);
}

inline const char *tree_name(u8 tree) {
  static constexpr const char *names[disk::kTrees] = {"fs", "collections", "snapshots", "refcounts", "dead"};
  return names[tree];
}
constexpr u8 kFs = 0, kCollections = 1, kSnapshots = 2, kRefcounts = 3, kDead = 4;

struct NodePlace {
  u64 addr = 0, birth = 0, mirror = 0;
};
// Keys [lo, hi) of a tree that cannot be reached.
struct LostRange {
  Key lo, hi;
  bool open_end = false;
  bool by_branch = false;  // a branch is what is damaged: the leaves may be there
  bool has(const Key &k) const { return k >= lo && (open_end || k < hi); }
};

struct TreeModel {
  Items items;
  std::vector<NodePlace> nodes;      // that are readable, and what they refer to
  std::map<u64, Buffer> bad_copies;  // of nodes whose other copy is good: what belongs there
  std::vector<LostRange> lost;
  disk::TreeRootDisk root{};
  bool changed = false;  // to be written anew
  bool damaged() const { return !lost.empty(); }
};

// A snapshot whose trees can be read in full.
struct SnapshotModel {
  u64 id = 0;
  disk::SnapshotItem item{};
};

// A run of blocks, and which transaction took it.
struct BirthRun {
  u64 count = 0, birth = 0;
};

struct Group {
  bool known = false;  // the descriptor could be read
  bool sound = false;  // and the bitmap
  u64 word = 0;
  u32 free = 0;
  std::vector<u8> bits;
};

struct Model {
  explicit Model(vx_bdev *d) : dev(d) {}

  vx_bdev *dev;
  disk::SuperDisk super{};
  disk::Geometry geo{};
  Buffer root_block;  // the root slot that counts
  disk::RootDisk &root() { return *reinterpret_cast<disk::RootDisk *>(root_block.data()); }
  u64 txn = 0;  // of that root
  u64 next_object_id = 0;
  u8 blobs[disk::kTrees][disk::kBlobBytes] = {};
  TreeModel trees[disk::kTrees];
  Items &files() { return trees[kFs].items; }
  Items &vectors() { return trees[kCollections].items; }

  std::vector<SnapshotModel> snapshots;  // those that stay
  std::map<u64, BirthRun> kept;          // what they refer to, by first block; runs may overlap
  std::set<u64> snapshot_nodes;          // addresses
  std::vector<Group> groups;
  std::vector<bool> desc_known;      // by descriptor block
  std::map<u64, Buffer> bad_copies;  // of all trees, those of snapshots included
  BlockSet seen;                     // blocks of nodes and of what they refer to, before anything was decided
  bool space_wrong = false, header_wrong = false;
  bool newer_lost = false;      // there was a later root than the one that is found
  bool snapshots_lost = false;  // some, or maybe some

  std::vector<Action> actions;
  void safe(std::string text) { actions.push_back({Action::Kind::safe, std::move(text)}); }
  void ask(std::string text) { actions.push_back({Action::Kind::asks, std::move(text)}); }

  // ---- changes: each marks the tree
  void put(u8 tree, const Key &k, Value v) {
    trees[tree].items[k] = std::move(v);
    trees[tree].changed = true;
  }
  Items::iterator drop(u8 tree, Items::iterator it) {
    trees[tree].changed = true;
    return trees[tree].items.erase(it);
  }
  template <class T>
  std::optional<T> get(u8 tree, const Key &k) const {
    auto it = trees[tree].items.find(k);
    if (it == trees[tree].items.end() || it->second.size() < sizeof(T)) return std::nullopt;
    return item_of<T>(it->second);
  }
  u64 new_txn() const { return txn + 1; }
  // Where the inode is found, or "inode N" when no name is known.
  std::string path_of(u64 ino);
  // "collection N" with its name, or else its directory's path.
  std::string collection(u64 cid);
  void add_node(BlockSet &to, const NodePlace &n) const {
    to.add(n.addr, geo.node_blocks);
    if (n.mirror) to.add(n.mirror, geo.node_blocks);
  }
  void forget_paths() { names_.clear(); }

 private:
  std::unordered_map<u64, std::pair<u64, std::string>> names_;  // inode: directory and name
};

// ---- reading (read.cc): errors are io for what cannot be read at all, nomem
Errno read_at(vx_bdev *dev, u64 off, MutBytes out);
// The one place where a node is read, from the first copy that is good. False: none is. bad: gets what belongs where a copy
// is not good.
bool read_node(const Model &m, const disk::NodePtr &ptr, u8 tree, u8 level, Buffer &buf,
               std::map<u64, Buffer> *bad = nullptr);
void walk_tree(const Model &m, u8 tree, const disk::TreeRootDisk &root, TreeModel &out);
void load_groups(Model &m);
void load_snapshots(Model &m);
// ---- what each step does with the model
void scan_lost_nodes(Model &m);                                                   // scan.cc
void replay_log(Model &m);                                                        // log.cc
void repair_files(Model &m);                                                      // files.cc, files_names.cc
void repair_names(Model &m);                                                      // files_names.cc
void repair_vectors(Model &m);                                                    // vectors.cc
void repair_owners(Model &m);                                                     // vectors_owners.cc
void repair_index(Model &m, u64 cid, const disk::ConfigItem &config, u64 slots);  // vectors_index.cc
void repair_recall(Model &m, u64 cid, u64 slots);                                 // the same
void settle_overlaps(Model &m);                           // space.cc: before files and vectors are judged
void settle_shares(Model &m);                             // shares.cc: after that
void repair_refcounts(Model &m);                          // shares.cc: after files and vectors
void repair_dead(Model &m);                               // space.cc: likewise
BlockSet used_blocks(const Model &m, bool present_only);  // space.cc: without or with the dead tree's
void each_ref(const TreeModel &t, u8 tree, const std::function<void(const Key &, u64 start, u64 count, u64 birth)> &fn);

}  // namespace vexfs::repair
