// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The kinds of index there are: their parameters, and making or opening one.
#pragma once
#include "../disk/vector_items.h"
#include "index.h"

namespace vexfs::vector {

// Parameters of all kinds; each takes those that are its own. 0 is automatic where it is not within the range.
struct IndexParams {
  IndexKind kind = IndexKind::hnsw;
  u32 m = 16, ef_construction = 200;  // HNSW
  u64 seed = 0;
  u32 lists = 0;   // IVF: centroids, up to ivf_lists_max
  u32 probes = 0;  // IVF: lists, LSH: buckets of each table, that a search looks into for 64 of ef
  u32 pq_m = 0;    // IVF-PQ: parts that a vector is cut into, each a code of 4 bits; up to pq_m_max
  u32 tables = 0;  // LSH
  u32 bits = 0;    // LSH: hash functions of a table
  u32 codes = 0;   // HNSW, DiskANN: enum vexfs_codes
  bool compact = false;  // HNSW: what it is for is a small memory
};

constexpr u32 ivf_lists_max = disk::kIvfListsMax, probes_max = disk::kProbesMax, pq_m_max = disk::kPqMax;
constexpr u32 lsh_tables_max = disk::kLshTablesMax, lsh_bits_max = disk::kLshBitsMax;
constexpr usize ivf_centroid_bytes_max = usize{512} << 20;  // lists * dim * 4
constexpr u32 pq_part_max = 2048;                           // elements: a part's distances are one FPU section
constexpr u32 probes_per_ef = 64;                           // of ef, for which `probes` counts

// Are all parameters within their ranges, whatever the kind? (0 counts as automatic.)
bool index_params_valid(const IndexParams &p, u32 dim);

// An empty index; not of kind flat. inval: parameters out of range; nomem.
Result<IndexPtr> index_create(const simd::Space &space, const IndexParams &p);
// An index of a kind from a checkpoint: reads and checks the header only; blobs come when touched. corrupt, nomem,
// inval (header of another space).
Result<IndexPtr> index_open(IndexKind kind, const simd::Space &space, Bytes header, const BlobSource &blobs);
// Slots covered by the checkpoint that `header` belongs to. corrupt.
Result<u32> index_covered(IndexKind kind, Bytes header);

}  // namespace vexfs::vector
