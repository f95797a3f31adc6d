// SPDX-License-Identifier: GPL-2.0-only OR MIT
// One collection: configuration, table, ids, owners, index, and the operations on rows.
//
// A change runs as: begin a handle -> (owners' lock, shared, when rows have owners) -> writer lock -> change ->
// publish. The handle comes first, because a commit waits for open handles and a holder of the writer lock must not
// wait for a commit. Searches take none of these locks.
#pragma once
#include "../fs/filesystem.h"
#include "filter_cache.h"
#include "id_map.h"
#include "index_keeper.h"
#include "owner_refs.h"
#include "row_groups.h"
#include "table.h"

namespace vexfs::vector {

class Engine;

// One row on its way in. Data and aux have been checked and are in the collection's element type.
struct NewRow {
  u64 id = 0;                  // in; id_auto: assigned, out
  fs::Inode *owner = nullptr;  // referenced by the caller; null: none
  u64 offset = 0, length = 0, tag = 0;
  bool keep_owner = false;  // update, upsert: owner, offset, length and version of the old row stay, if there is one
  bool keep_tag = false;    // its tag
  bool stale = false;       // add, upsert: the owner's content is newer than the vector
  const void *data = nullptr;
  u32 aux = 0;
};
constexpr u64 id_auto = ~u64{0};

enum class RowOp : u8 { add, update, upsert };

struct CollectionStats {
  std::atomic<u64> searches{0}, search_ns{0}, distances{0}, hops{0}, inserts{0}, insert_ns{0}, deletes{0};
};

class Collection : Pinned {
 public:
  Collection(Engine &e, u32 cid, const disk::ConfigItem &config, const simd::Space &space);
  ~Collection();
  Status open();

  u32 cid() const { return cid_; }
  u64 dir_ino() const { return dir_ino_; }
  Table &table() { return table_; }
  const simd::Space &space() const { return table_.space(); }
  IndexKeeper &index() { return index_; }
  IdMap &ids() { return ids_; }
  FilterCache &filters() { return filters_; }
  disk::ConfigItem config();
  bool dropped() const { return dropped_.load(std::memory_order_acquire); }
  bool has_owners() const { return owned_.load(std::memory_order_acquire) != 0; }
  u64 updates() const { return updates_.load(std::memory_order_acquire); }
  CollectionStats stats;

  // Applies rows[0..n) in order, as one transaction, as far as they go; *done says how many. The error is that of the
  // row after these: exist, noent, or of all: nospc, nomem, io, corrupt, rofs; noent too when the collection was
  // dropped. n rows must cost at most op_cost_max (see cost()); either all of them or none are id_auto, and an
  // update or upsert must not name an id twice.
  Status apply(RowOp op, NewRow *rows, u32 n, u32 *done);
  // n ids in a row that nobody else is given. nospc.
  Result<u64> reserve_ids(u32 n);
  // noent. The same way.
  Status remove(const u64 *ids, u32 n, u32 *done);
  // Tree mutations that row i of the batch may take, given the one before.
  static constexpr u32 op_cost_max = 48;
  static u32 cost(RowOp op, const NewRow &r, const NewRow *before);
  static constexpr u32 remove_max = 10;  // ids in one remove()

  // The live slot of an id. noent, corrupt (the row is damaged).
  Result<u32> locate(u64 id);

  // ---- owners that go away
  // Makes rows of a run invisible now, in memory only. The owner's record on disk says the same. nomem.
  Status hide(u32 slot, u32 count);
  // Marks up to 32 rows of the owner dead on disk, and drops their references.
  Status kill_owned(u64 ino, u32 slot, u32 count);

  // ---- configuration. Each is one transaction.
  Status store_config(const disk::ConfigItem &c);
  void mark_dropped() { dropped_.store(true, std::memory_order_release); }
  Mutex manage{"vexfs_collection_manage"};  // one change of index or configuration at a time; before any handle
  // Frees chunks whose rows are all dead and that the index does not need.
  Status vacuum();

  // The collection's list hook in the engine, and its users.
  Collection *next_by_cid = nullptr, *next_by_dir = nullptr;
  std::atomic<u32> users{0};

 private:
  friend class Writer;
  Engine &engine_;
  store::Volume &volume_;
  store::Tree &tree_;
  const u32 cid_;
  u64 dir_ino_;
  Table table_;
  IdMap ids_;
  FilterCache filters_;
  OwnerRefs refs_;
  IndexKeeper index_;
  std::atomic<bool> dropped_{false};
  std::atomic<u64> owned_{0}, updates_{0};

  Mutex writer_{"vexfs_collection"};
  // ---- under writer_
  RowGroups groups_;
  disk::StateItem state_{};
  Result<u64> vacant_stretch(u32 n);
  u64 free_until_ = 0;  // ids from state_.next_id up to here are known to be vacant
  Spin config_lock_{"vexfs_collection_config"};
  disk::ConfigItem config_;
};

}  // namespace vexfs::vector
