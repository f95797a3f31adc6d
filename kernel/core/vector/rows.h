// SPDX-License-Identifier: GPL-2.0-only OR MIT
// How an index sees the rows of a vector table: an array of chunks, looked up without a call.
//
// A table keeps its rows by slot number (0, 1, 2 ...) in chunks of 2^shift rows. A view is taken for one search or
// insert and keeps every chunk it can reach in memory until it is dropped or paused (epoch or pins: the table's
// choice). A chunk may be absent (evicted, not yet read, or newer than the view): `fault` brings it in, may sleep, may
// fail, and may replace `chunks`/`nchunks`. Rows are immutable once their slot was handed to an index.
#pragma once
#include <atomic>

#include "../base/result.h"

namespace vexfs::vector {

constexpr u32 slot_none = ~u32{0};
constexpr u32 slot_max = (u32{1} << 31) - 2;  // slots are 31-bit: walks keep a flag beside them

// One chunk as readers see it. The table owns the array of these; both words change under readers.
struct ChunkRef {
  // Up to 2^shift rows of `stride` bytes (a chunk that is still being filled may be shorter, but holds every slot that
  // was handed out), and at aux_off from here 2^shift aux words.
  std::atomic<const u8 *> data{nullptr};
  // Bit i set: row i of the chunk is dead. Null: none is. Set before the row's death is acknowledged.
  std::atomic<const std::atomic<u64> *> dead{nullptr};
};

struct RowView {
  const ChunkRef *chunks = nullptr;
  u32 nchunks = 0;
  u32 shift = 0;
  u32 stride = 0;          // bytes from row to row, >= the space's row_bytes
  u32 slots = 0;           // rows below this slot are published (0: unknown)
  s32 aux_off = 0;         // bytes from a chunk's first row to its aux words (negative: before it); 0: rows have none
  u32 live = 0;            // about how many of them live (0: unknown)
  bool show_dead = false;  // nothing counts as dead: the caller knows by itself
  bool any_dead = false;   // a hint that lets a walk without dead rows skip asking; true is always right
  void *ctx = nullptr;
  // Makes chunks[chunk].data non-null. io, nomem, intr, corrupt; noent: no such rows.
  Status (*fault)(RowView &, u32 chunk) = nullptr;
  // Null (then fault does it), or: rows of absent chunks that are looked at once. See fetch_absent.
  Status (*fetch)(RowView &, const u32 *slots, const void **rows, u32 *aux, u32 n) = nullptr;
  // Called when no row pointer is held, every few dozen batches: the table may let go of chunks and take them again.
  // May be null.
  void (*pause)(RowView &) = nullptr;

  u32 mask() const { return (u32{1} << shift) - 1; }
  // The row's bytes, or null when its chunk is absent.
  const u8 *peek(u32 slot) const {
    u32 c = slot >> shift;
    if (c >= nchunks) [[unlikely]]
      return nullptr;
    const u8 *p = chunks[c].data.load(std::memory_order_acquire);
    return p ? p + usize{slot & mask()} * stride : nullptr;
  }
  Result<const u8 *> row(u32 slot) {
    if (const u8 *p = peek(slot)) [[likely]]
      return p;
    return fault_in(slot);
  }
  // Finds rows[i] and aux_words[i] of slot[i] wherever rows[i] is null; what exists no more stays null. Few of a
  // chunk are read one by one, all at once, and are there until the next call of this or a pause.
  Status fetch_absent(const u32 *slot, const void **rows, u32 *aux_words, u32 n) {
    if (fetch) return fetch(*this, slot, rows, aux_words, n);
    return fault_each(slot, rows, aux_words, n);
  }
  // The same by faults alone.
  Status fault_each(const u32 *slot, const void **rows, u32 *aux_words, u32 n) {
    for (u32 i = 0; i < n; i++) {
      if (rows[i]) continue;
      Result<const u8 *> r = row(slot[i]);
      if (!r.ok() && r.code() != Errno::noent) return r.error();
      if (!r.ok()) continue;
      rows[i] = *r;
      aux_words[i] = aux(*r, slot[i]);
    }
    return {};
  }
  // The aux word of a row whose bytes are at `row` (from peek or row()).
  u32 aux(const u8 *row, u32 slot) const {
    if (!aux_off) return 0;
    const u8 *chunk = row - usize{slot & mask()} * stride;
    u32 v;
    __builtin_memcpy(&v, chunk + aux_off + usize{slot & mask()} * 4, 4);
    return v;
  }
  bool dead(u32 slot) const {
    if (show_dead) return false;
    u32 c = slot >> shift;
    if (c >= nchunks) return false;
    const std::atomic<u64> *bits = chunks[c].dead.load(std::memory_order_acquire);
    if (!bits) return false;
    u32 i = slot & mask();
    return (bits[i >> 6].load(std::memory_order_relaxed) >> (i & 63)) & 1;
  }

 private:
  Result<const u8 *> fault_in(u32 slot) {
    if (!fault) return Errno::noent;
    // When memory is short a chunk may be taken away again before it is looked at: then it is still near, and comes back.
    // (That it does not exist is what fault says.)
    for (u32 tries = 0; tries < 256; tries++) {
      VX_TRY(fault(*this, slot >> shift));
      if (const u8 *p = peek(slot)) return p;
    }
    return Errno::nomem;  // not even for as long as it takes to look
  }
};

}  // namespace vexfs::vector
