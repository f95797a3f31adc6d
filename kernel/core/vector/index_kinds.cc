// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Making and opening an index by its kind.
#include "index_kinds.h"

#include "diskann.h"
#include "ivf.h"
#include "lsh.h"

namespace vexfs::vector {

bool index_params_valid(const IndexParams &p, u32 dim) {
  if (p.m && (p.m < hnsw_m_min || p.m > hnsw_m_max)) return false;
  if (p.ef_construction > 65536 || p.probes > probes_max) return false;
  if (p.lists > ivf_lists_max || usize{p.lists} * dim * 4 > ivf_centroid_bytes_max) return false;
  if (p.pq_m > pq_m_max || p.pq_m > dim || (p.pq_m && dim / p.pq_m > pq_part_max)) return false;
  return p.tables <= lsh_tables_max && p.bits <= lsh_bits_max && p.codes <= disk::kCodesMax;
}

Result<IndexPtr> index_create(const simd::Space &space, const IndexParams &p) {
  if (!index_params_valid(p, space.dim())) return Errno::inval;
  switch (p.kind) {
    case IndexKind::hnsw:
      return hnsw_create(space, HnswParams{.m = p.m,
                                           .ef_construction = p.ef_construction,
                                           .seed = p.seed,
                                           .codes = p.codes ? HnswParams::Codes{static_cast<u8>(p.codes - 1)}
                                                            : HnswParams::Codes::automatic,
                                           .compact = p.compact});
    case IndexKind::ivf_flat:
    case IndexKind::ivf_pq:
      return ivf_create(space, p);
    case IndexKind::lsh:
      return lsh_create(space, p);
    case IndexKind::diskann:
      return diskann_create(space, p);
    case IndexKind::flat:
      break;
  }
  return Errno::inval;
}

Result<IndexPtr> index_open(IndexKind kind, const simd::Space &space, Bytes header, const BlobSource &blobs) {
  switch (kind) {
    case IndexKind::hnsw:
      return hnsw_open(space, header, blobs);
    case IndexKind::ivf_flat:
    case IndexKind::ivf_pq:
      return ivf_open(kind, space, header, blobs);
    case IndexKind::lsh:
      return lsh_open(space, header, blobs);
    case IndexKind::diskann:
      return diskann_open(space, header, blobs);
    case IndexKind::flat:
      break;
  }
  return Errno::corrupt;
}

Result<u32> index_covered(IndexKind kind, Bytes header) {
  if (kind == IndexKind::hnsw) return hnsw_covered(header);
  return learnt_covered(kind, header);
}

}  // namespace vexfs::vector
