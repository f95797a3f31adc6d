// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Working state of the vector room's check.
#pragma once
#include "../disk/vector_items_rows.h"
#include "../simd/simd.h"
#include "check.h"
#include "index.h"
#include "keys.h"

namespace vexfs::vector {

// A row of the collection that is being checked.
struct CheckedRow {
  u64 id = 0;
  u32 crc = 0;
  bool alive = false, mapped = false;
};
// A row that a file owns, of any collection.
struct OwnedRow {
  u64 ino = 0;
  u32 cid = 0, slot = 0;
  friend bool operator<(const OwnedRow &a, const OwnedRow &b) {
    return a.ino != b.ino ? a.ino < b.ino : a.cid != b.cid ? a.cid < b.cid : a.slot < b.slot;
  }
};
struct CarriedBy {
  u64 ino = 0;
  u32 cid = 0;
};

class VectorCheck : Pinned {
 public:
  VectorCheck(store::Checker &c, CheckFigures &f) : c_(c), figures_(f) {}
  Status run();

 private:
  // ---- check.cc: the collections tree
  bool visit(const store::Key &k, Bytes item);
  Status registry(const store::Key &k, Bytes item);
  Status item_of(const store::Key &k, Bytes item);
  Status config(Bytes item);
  Status rows(u64 group, Bytes item);
  Status ids(u64 first, Bytes item);
  Status chunk(u64 number, Bytes item);
  Status chunk_rows(u64 number, const disk::ChunkItem &item);
  Status dead(u64 number, Bytes item);
  Status finish();
  store::Checker::Finding bad() { return c_.error(); }
  // Data, not structure: in a snapshot nothing can be done about it, and what is around it stays usable.
  store::Checker::Finding spoilt() { return c_.in_snapshot() ? c_.lost() : c_.error(); }
  // ---- check_index.cc: the checkpoint
  Status header(Bytes item);
  Status blob(u64 off, Bytes item);
  Status recall(u64 off, Bytes item);
  Status index();
  static Status read_blob(void *ctx, u32 blob, MutBytes out);
  // ---- check_owners.cc: the fs tree
  Status owners();
  bool visit_fs(const store::Key &k, Bytes item);
  void reference(const store::Key &k, Bytes item);
  void end_inode();
  u32 collection_of(u64 ino) const;

  store::Checker &c_;
  CheckFigures &figures_;
  Status failure_;          // io or nomem, out of a visitor
  Vec<CarriedBy> carried_;  // by_dir items, ascending
  Vec<u32> tombstones_;
  Vec<OwnedRow> owned_;

  // ---- of the collection at hand
  u32 cid_ = 0;
  bool have_config_ = false, have_state_ = false, dropped_ = false;
  disk::ConfigItem config_{};
  disk::StateItem state_{};
  Vec<CheckedRow> rows_;
  Vec<u8> chunk_seen_, bitmap_seen_;
  Vec<u8> head_;  // index header item
  Vec<disk::BlobItem> blobs_;
  u64 generation_ = 0;  // of the checkpoint, 0: there is none
  u32 nblobs_ = 0;
  disk::RowRecord *group_ = nullptr;

  // ---- of the inode at hand
  u64 ino_ = 0;
  bool have_inode_ = false, has_refs_ = false;
  u32 inode_flags_ = 0;
  usize owned_at_ = 0, owned_next_ = 0;
};

}  // namespace vexfs::vector
