// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Exact search: chunk by chunk, in runs of rows that lie together.
#include "flat.h"

namespace vexfs::vector {
namespace flat_impl {
namespace {

constexpr u32 run_rows = 256;  // scored before results are looked at
constexpr u32 query_tile = 8;  // queries scored over one run
constexpr u32 dense_gap = 8;   // named rows nearer to each other than this, on average, are worth their chunks

bool accepted(RowView &rows, const SearchParams &params, u32 slot, SearchStats *stats) {
  if (rows.dead(slot)) return false;
  if (!params.accept) return true;
  if (stats) stats->accepts++;
  return params.accept(params.ctx, slot);
}

// The rows of a batch, in ascending order, that are not in memory; those that exist no more leave it.
Status bring_absent(RowView &rows, u32 *slot, const void **row, u32 *aux, u32 *n) {
  const bool dense = (slot[*n - 1] - slot[0]) / dense_gap < *n;
  VX_TRY(dense ? rows.fault_each(slot, row, aux, *n) : rows.fetch_absent(slot, row, aux, *n));
  u32 kept = 0;
  for (u32 i = 0; i < *n; i++) {
    if (!row[i]) continue;
    slot[kept] = slot[i];
    row[kept] = row[i];
    aux[kept++] = aux[i];
  }
  *n = kept;
  return {};
}

}  // namespace
}  // namespace flat_impl

void TopK::add(u32 key, u32 slot) {
  const Hit h{key, slot};
  for (u32 i = 0; slot >= twice_from && i < n; i++)
    if (hits[i].slot == slot) return;
  u64 owner = 0;
  u32 at = n;  // whose place is given up
  if (owners) {
    owner = owner_of(ctx, slot);
    for (at = 0; at < n && owners[at] != owner;) at++;
    if (at < n && nearer(hits[at], h)) return;
  }
  if (at == n) at = n < k ? n++ : k - 1;
  for (; at && nearer(h, hits[at - 1]); at--) {
    hits[at] = hits[at - 1];
    if (owners) owners[at] = owners[at - 1];
  }
  hits[at] = h;
  if (owners) owners[at] = owner;
}

Status scan_exact(RowView &rows, const simd::Space &space, const simd::Query *queries, u32 nq, u32 begin, u32 end,
                  const SearchParams &params, Scratch &scratch, TopK *tops, SearchStats *stats) {
  constexpr u32 run = flat_impl::run_rows, tile = flat_impl::query_tile;
  u32 *keys = VX_TRY(scratch.array<u32>(Scratch::scan, usize{run} * (tile + 1)));
  u32 *aux = keys + run * tile;
  u32 runs = 0;
  for (u32 slot = begin; slot < end;) {
    const u32 chunk_end = min_of<u64>(end, (u64{slot >> rows.shift} + 1) << rows.shift);
    const u32 n = min_of(run, chunk_end - slot);
    Result<const u8 *> row = rows.row(slot);
    if (!row.ok()) {
      if (row.code() != Errno::noent) return row.error();
      slot = chunk_end;  // a chunk given up as a whole
      continue;
    }
    if (rows.aux_off)
      for (u32 i = 0; i < n; i++) aux[i] = rows.aux(*row + usize{i} * rows.stride, slot + i);
    for (u32 q = 0; q < nq; q += tile) {
      const u32 some = min_of(tile, nq - q);
      space.scan_many(queries + q, some, *row, rows.stride, aux, n, keys, run);
      for (u32 j = 0; j < some; j++) {
        TopK &top = tops[q + j];
        for (u32 i = 0; i < n; i++)
          if (keys[j * run + i] <= top.limit() && top.wants(keys[j * run + i], slot + i) &&
              flat_impl::accepted(rows, params, slot + i, stats))
            top.add(keys[j * run + i], slot + i);
      }
      // accept() may have slept, but without a pause of the view the rows stay.
    }
    if (stats) {
      stats->distances += u64{n} * nq;
      stats->scanned += n;
    }
    slot += n;
    if (++runs % 8 == 0) {
      if (params.interrupted && params.interrupted(params.ctx)) return Errno::intr;
      if (rows.pause) rows.pause(rows);
      vx_yield();
    }
  }
  return {};
}

Status scan_slots(RowView &rows, const simd::Space &space, const simd::Query *queries, u32 nq, const u32 *slots, u32 n,
                  const SearchParams &params, Scratch &scratch, TopK *tops, SearchStats *stats) {
  constexpr u32 batch = simd::section_rows;
  struct Gathered {
    const void *row[batch];
    u32 slot[batch], aux[batch], key[batch];
  };
  Gathered *g = VX_TRY(scratch.array<Gathered>(Scratch::scan, 1));
  u32 scored = 0;
  for (u32 i = 0; i < n;) {
    u32 m = 0;
    bool absent = false;
    for (; i < n && m < batch; i++, m++) {
      const u8 *row = rows.peek(slots[i]);
      g->slot[m] = slots[i];
      g->row[m] = row;
      absent = absent || !row;
      if (!row) continue;
      simd::prefetch(row, space.row_bytes(), 4);
      g->aux[m] = rows.aux_off ? rows.aux(row, slots[i]) : 0;
    }
    if (absent) VX_TRY(flat_impl::bring_absent(rows, g->slot, g->row, g->aux, &m));
    for (u32 q = 0; q < nq; q++) {
      TopK &top = tops[q];
      space.score(queries[q], g->row, g->aux, m, g->key);
      for (u32 j = 0; j < m; j++)
        if (g->key[j] <= top.limit() && top.wants(g->key[j], g->slot[j]) &&
            flat_impl::accepted(rows, params, g->slot[j], stats))
          top.add(g->key[j], g->slot[j]);
    }
    if (stats) {
      stats->distances += u64{m} * nq;
      stats->scanned += m;
    }
    scored += nq;
    if (scored >= 32) {
      scored = 0;
      if (params.interrupted && params.interrupted(params.ctx)) return Errno::intr;
      if (rows.pause) rows.pause(rows);
      vx_yield();
    }
  }
  return {};
}

}  // namespace vexfs::vector
