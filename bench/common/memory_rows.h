// SPDX-License-Identifier: MIT
// Rows in memory behind a RowView: a vector table without a filesystem, for benchmarks and tests.
#pragma once
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "../../kernel/core/vector/index.h"

namespace vexfs::bench {

class MemoryRows {
 public:
  // Room for `slots_max` rows in chunks of about chunk_bytes.
  MemoryRows(const simd::Space &space, u32 slots_max, usize chunk_bytes = usize{4} << 20) : space_(space) {
    stride_ = static_cast<u32>(align_up<usize>(space.row_bytes(), 64));
    if (space.row_bytes() < 64) stride_ = static_cast<u32>(space.row_bytes());
    while ((usize{2} << shift_) * stride_ <= chunk_bytes) shift_++;
    const u32 n = ((slots_max - 1) >> shift_) + 1;
    chunks_ = std::make_unique<vector::ChunkRef[]>(n);
    nchunks_ = n;
    data_.assign(n, nullptr);
    dead_.resize(n);
  }
  ~MemoryRows() {
    for (u8 *p : data_)
      if (p) vx_free_large(p, chunk_size());
  }
  MemoryRows(const MemoryRows &) = delete;
  MemoryRows &operator=(const MemoryRows &) = delete;

  // Adds one row of f32, or of the space's own element type. False: the space refuses it.
  bool add_f32(const float *v) {
    return put([&](u8 *row, u32 *aux) { return space_.encode_row(v, row, aux); });
  }
  bool add(const void *v) {
    return put([&](u8 *row, u32 *aux) {
      memcpy(row, v, space_.row_bytes());
      return space_.check_row(row, aux);
    });
  }
  u32 size() const { return n_; }
  const simd::Space &space() const { return space_; }
  const u8 *row(u32 slot) const { return data_[slot >> shift_] + usize{slot & mask()} * stride_; }
  u32 aux(u32 slot) const {
    u32 v = 0;
    if (space_.has_aux()) memcpy(&v, data_[slot >> shift_] + aux_off() + usize{slot & mask()} * 4, 4);
    return v;
  }
  void kill(u32 slot) {
    const u32 c = slot >> shift_, i = slot & mask();
    const std::lock_guard<std::mutex> guard(kill_lock_);
    if (!dead_[c]) {
      dead_[c] = std::make_unique<std::atomic<u64>[]>(((usize{1} << shift_) + 63) / 64);
      chunks_[c].dead.store(dead_[c].get(), std::memory_order_release);
    }
    const u64 bit = u64{1} << (i % 64);
    if (!(dead_[c][i / 64].fetch_or(bit, std::memory_order_release) & bit))
      killed_.fetch_add(1, std::memory_order_release);
    any_dead_.store(true, std::memory_order_release);
  }
  vector::RowView view() const {
    vector::RowView v;
    v.chunks = chunks_.get();
    v.nchunks = nchunks_;
    v.shift = shift_;
    v.stride = stride_;
    v.slots = n_;
    v.aux_off = space_.has_aux() ? static_cast<u32>(aux_off()) : 0;
    v.live = n_ - killed_.load(std::memory_order_acquire);
    v.any_dead = any_dead_.load(std::memory_order_acquire);
    return v;
  }
  usize bytes() const { return nchunks_ * chunk_size(); }

 private:
  u32 mask() const { return (u32{1} << shift_) - 1; }
  usize aux_off() const { return (usize{1} << shift_) * stride_; }
  usize chunk_size() const { return aux_off() + (space_.has_aux() ? (usize{1} << shift_) * 4 : 0); }
  template <class F>
  bool put(F &&fill) {
    const u32 c = n_ >> shift_, i = n_ & mask();
    if (c >= nchunks_) throw std::length_error("MemoryRows is full");
    if (!data_[c]) {
      data_[c] = static_cast<u8 *>(vx_alloc_large(chunk_size(), VX_ALLOC_ZERO));
      if (!data_[c]) throw std::bad_alloc();
    }
    u32 aux = 0;
    if (!fill(data_[c] + usize{i} * stride_, &aux).ok()) return false;
    if (space_.has_aux()) memcpy(data_[c] + aux_off() + usize{i} * 4, &aux, 4);
    chunks_[c].data.store(data_[c], std::memory_order_release);
    n_++;
    return true;
  }

  simd::Space space_;
  u32 stride_ = 0;
  u32 shift_ = 6;
  u32 n_ = 0;
  u32 nchunks_ = 0;
  std::unique_ptr<vector::ChunkRef[]> chunks_;
  std::vector<u8 *> data_;
  std::vector<std::unique_ptr<std::atomic<u64>[]>> dead_;
  std::mutex kill_lock_;
  std::atomic<bool> any_dead_{false};
  std::atomic<u32> killed_{0};
};

}  // namespace vexfs::bench
