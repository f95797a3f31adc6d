// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Inverted files as an Index: rows are put into the list of their nearest centroid, and a search looks into the lists
// whose centroids are nearest to the query.
//
//   IVF-flat   lists hold slots; every row of a list that is looked into is scored.
//   IVF-PQ     lists hold codes too (IVFADC: Jegou, Douze, Schmid 2011), of 4 bits, which are scanned in registers
//              (Andre, Kermarrec, Le Scouarnec 2017); the best of what they promise is scored on the rows.
//
// Distances by codes, with c the centroid, r the residual as it is coded and q the query:
//   l2          |q - c|^2 - 2 q r + (|c + r|^2 - |c|^2)      the last term is kept with each entry
//   cosine, ip  -q c - q r                                   (under cosine, of vectors of length 1)
// So one table of products q r serves all lists.
//
// The model: centroids, f32, lists * dim; then (IVF-PQ) the codebook, as simd/learn.h has it. A slot's record: its list;
// (IVF-PQ) the term, f32; the code, padded to four bytes.
#pragma once
#include "../simd/learn.h"
#include "kmeans.h"
#include "learnt_index.h"
#include "row_scorer.h"

namespace vexfs::vector {

class Ivf final : public LearntIndex {
 public:
  Ivf(const simd::Space &space, const simd::Space &centroids, const IndexParams &params)
      : LearntIndex(space, params), centroid_space_(centroids) {}

  u32 learn_min() const override;
  Status learn(RowView &rows, u32 slots, Scratch &scratch, bool (*interrupted)(void *), void *ctx) override;
  Result<u32> search(RowView &rows, const simd::Query &q, const SearchParams &params, Scratch &scratch, Hit *out,
                     SearchStats *stats) override;
  void print(const TextSink &sink) const override;
  void destroy() override;

 private:
  struct Probe;
  bool coded() const { return params_.kind == IndexKind::ivf_pq; }
  usize centroid_bytes() const { return usize{4} * params_.lists * space_.dim(); }
  const u8 *centroid(u32 list) const { return model() + usize{4} * space_.dim() * list; }
  const void *codebook() const { return model() + centroid_bytes(); }
  u32 lists_for(u32 slots) const;
  Status learn_codes(Lesson &lesson, const Vec<u32> &sample, u8 *centroids, void *book);
  Status learn_code_round(Lesson &lesson, const u32 *slots, u32 n, const u32 *lists, const u8 *centroids, void *book);

  Status choose_lists(Probe &p, const simd::Query &q, Scratch &scratch);
  u32 probes_for(u32 ef) const;
  Status scan_rows(Probe &p);
  Status scan_list_rows(Probe &p, u32 list);
  Status scan_codes(Probe &p, Scratch &scratch);
  Status scan_list_codes(Probe &p, u32 list, u32 centroid_key);
  void score_codes(Probe &p, u32 centroid_key);
  void gather_codes(Probe &p, const PostingSegment *s, u32 block, u32 n);
  Status rescore(Probe &p);

  bool plausible() const override;
  usize model_bytes() const override;
  Status begin() override;
  Status place(RowView &rows, const u8 *row, u32 aux, u32 slot, SlotRecords::Word *words, u32 *first,
               Scratch &scratch) override;
  u32 record_words() const override { return 2; }  // list, number in it
  u32 record_bytes() const override;
  void save_record(const SlotRecords::Word *words, u8 *out) const override;
  Status load_record(u32 slot, const u8 *in, SlotRecords::Word *words) override;
  bool entry_right(u32 list, u32 number, const SlotRecords::Word *words) const override;

  const simd::Space centroid_space_;
  simd::PqShape pq_;
};

u32 ivf_root(u64 x);  // the square root, rounded down

Result<IndexPtr> ivf_create(const simd::Space &space, const IndexParams &params);
Result<IndexPtr> ivf_open(IndexKind kind, const simd::Space &space, Bytes header, const BlobSource &blobs);

}  // namespace vexfs::vector
