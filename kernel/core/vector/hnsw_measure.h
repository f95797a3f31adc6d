// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What an HNSW graph takes distances on: the rows of the table, or short codes of them kept in the graph.
#pragma once
#include "hnsw_graph.h"

namespace vexfs::vector {

// A row or a code, and the row's aux word.
struct Item {
  const void *bytes;
  u32 aux;
};

// A query in the form that items are scored by.
struct Probe {
  simd::Query row;       // of rows; always set for a search's own query
  simd::CodeQuery code;  // of codes
};

class Measure : Pinned {
 public:
  Measure(Graph &graph, const simd::Space &space, const simd::CodeSpace &codes)
      : graph_(graph), space_(space), codes_(codes) {}
  ~Measure() { vx_free_large(centre_, centre_ ? codes_.centre_bytes() : 0); }

  bool coded() const { return graph_.coded(); }
  const simd::Space &space() const { return space_; }
  simd::CodeKind kind() const { return codes_.kind(); }
  u32 item_bytes() const { return coded() ? codes_.bytes() : static_cast<u32>(space_.row_bytes()); }
  usize memory_bytes() const { return centred_.load(std::memory_order_acquire) ? codes_.centre_bytes() : 0; }

  // Before anything below is called: that there is a centre. Reads it from the checkpoint, or takes the mean of some of
  // the first rows. io, corrupt, nomem.
  Status ready(RowView &rows) {
    return !coded() || centred_.load(std::memory_order_acquire) ? Status() : find_centre(&rows);
  }
  // The centre that codes were judged by, of centre_bytes(). Nobody else looks at the graph yet. nomem.
  Status adopt(const u8 *centre);
  usize centre_bytes() const { return codes_.centre_bytes(); }
  // Reads it from the checkpoint, if it is there.
  Status load() { return !coded() || centred_.load(std::memory_order_acquire) ? Status() : find_centre(nullptr); }

  Result<Probe> probe(const simd::Query &q, Scratch &scratch) const;
  // An item as a query, in the buffer of that use.
  Result<Probe> probe(const Item &item, Scratch &scratch, Scratch::Use use) const;
  // The code of a row, into the graph.
  Status encode(u8 *segment, u32 slot, const Item &row, Scratch &scratch) const;

  void score(const Probe &q, const void *const *items, const u32 *aux, u32 n, u32 *keys) const {
    FpuHold fpu;
    score(q, items, aux, n, keys, fpu);
  }
  void score(const Probe &q, const void *const *items, const u32 *aux, u32 n, u32 *keys, FpuHold &fpu) const {
    if (coded())
      codes_.score(q.code, items, n, keys, fpu);
    else
      space_.score(q.row, items, aux, n, keys, fpu);
  }

  // Of codes that say how wrong they may be: CodeSpace::lower().
  bool has_bound() const { return coded() && codes_.has_bound(); }
  void lower(const Probe &q, const void *const *items, u32 n, u32 sixteenths, u32 *keys) const {
    codes_.lower(q.code, items, n, sixteenths, keys);
  }

  // The stored form of the centre.
  usize centre_blob_bytes() const;
  void save_centre(MutBytes out);
  bool centre_dirty() const { return dirty_.load(std::memory_order_acquire); }

 private:
  Status find_centre(RowView *rows);
  Status load_centre(u8 *into, bool *found);
  Status average(RowView &rows, u8 *into);

  Graph &graph_;
  const simd::Space space_;
  simd::CodeSpace codes_;
  u8 *centre_ = nullptr;  // set once, under centre_lock_
  std::atomic<bool> centred_{false}, dirty_{true};
  Mutex centre_lock_{"hnsw_centre"};
};

}  // namespace vexfs::vector
