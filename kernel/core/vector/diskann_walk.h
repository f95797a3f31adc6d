// SPDX-License-Identifier: GPL-2.0-only OR MIT
// One walk through a graph on disk: codes say where to go, several nodes are read at a time.
#pragma once
#include "diskann.h"

namespace vexfs::vector {

// While it lives, nodes in memory that were found stay.
class DiskAnn::Reading : vexfs::Pinned {
 public:
  explicit Reading(DiskAnn &index) : index_(index), token_(vx_epoch_enter(&index.epoch_)) {}
  ~Reading() { vx_epoch_leave(&index_.epoch_, token_); }

 private:
  DiskAnn &index_;
  int token_;
};

class DiskAnn::Walk : vexfs::Pinned {
 public:
  Walk(DiskAnn &index, Scratch &scratch) : index_(index), scratch_(scratch), visited_(scratch) {}

  SearchStats stats;
  Beam beam;  // nearest by code
  // Starts at `from`, which is in the index.
  Status begin(const simd::CodeQuery &q, u32 from, u32 ef);
  // To the end. With rows: what was read and may be returned is scored, and the nearest k are in `found`.
  Status run();
  // After that, while what it found stays. See SearchStats.
  Result<bool> crowded();
  // Beside the beam: the nearest that live, and stay.
  void want_live(RowView *rows, Beam *live) {
    alive_ = rows;
    live_ = live;
  }
  void want(RowView *rows, const simd::Query *q, const SearchParams *params, Beam *found) {
    rows_ = rows;
    q_ = q;
    params_ = params;
    found_ = found;
  }

 private:
  static constexpr u32 cap = 3 * hnsw_m_max;
  struct Batch {
    u32 n;
    u32 group[width], link[cap], slot[cap], key[cap];
    const u8 *record[width];
    const void *item[cap];
  };
  Status read_group(u32 n);
  Status score_rows(u32 n);
  Status expand(u32 i);
  Status breathe();
  u32 farthest_found();
  void add(u32 key, u32 slot);

  DiskAnn &index_;
  Scratch &scratch_;
  Visited visited_;
  simd::CodeQuery code_;
  Batch *b_ = nullptr;
  u8 *units_ = nullptr;
  u32 since_breath_ = 0;
  RowView *rows_ = nullptr;
  const simd::Query *q_ = nullptr;
  const SearchParams *params_ = nullptr;
  Beam *found_ = nullptr;
  RowView *alive_ = nullptr;
  Beam *live_ = nullptr;
};

// Lists being made.
struct DiskAnn::Edit {
  static constexpr u32 cap = 3 * hnsw_m_max;
  u32 n;  // chosen
  u32 chosen[cap];
  const void *code[cap];
  u32 key[cap];
  u32 ntargets, target[cap];  // nodes to link back from
  u32 before[cap + 1];        // a list as it was; candidates
  const void *item[cap + 1];
  Entry near[cap + 2];
  u8 *units;  // blob_parts_max nodes
};

}  // namespace vexfs::vector
