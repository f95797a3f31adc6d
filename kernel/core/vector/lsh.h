// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Locality-sensitive hashing with several tables as an Index. A table's hash is made of `bits` functions of a random
// projection x of the row: under cosine and ip x >= offset (Charikar 2002, with hyperplanes through the middle of the rows
// instead of the origin, since embeddings tend to lie on one side of it; under ip rows are looked for by direction), under
// l2 floor((x + offset) / width) (Datar et al. 2004). A search looks into the buckets of the query and then, of all
// tables, into those next to it that are most likely to hold neighbours (query-directed probing: Lv et al. 2007); what
// it finds there is scored on the rows.
//
// The model: directions, f32, tables * bits * dim; offsets, tables * bits (l2: of 2^32 of the width; else
// f32); the width, f32 (0: signs). A slot's record: its bucket in each table.
#pragma once
#include "../simd/learn.h"
#include "kmeans.h"
#include "learnt_index.h"
#include "row_scorer.h"

namespace vexfs::vector {

class Lsh final : public LearntIndex {
 public:
  Lsh(const simd::Space &space, const simd::Space &projection, const IndexParams &params)
      : LearntIndex(space, params), projection_(projection) {}

  u32 learn_min() const override;
  Status learn(RowView &rows, u32 slots, Scratch &scratch, bool (*interrupted)(void *), void *ctx) override;
  Result<u32> search(RowView &rows, const simd::Query &q, const SearchParams &params, Scratch &scratch, Hit *out,
                     SearchStats *stats) override;
  void print(const TextSink &sink) const override;
  void destroy() override;

 private:
  struct Hashes;
  class Probing;
  u32 functions() const { return params_.tables * params_.bits; }
  const u32 *offsets() const { return reinterpret_cast<const u32 *>(model()) + usize{functions()} * space_.dim(); }
  u32 width() const { return offsets()[functions()]; }
  void choose(u32 slots);
  Status learn_offsets(Lesson &lesson, u32 slots, u32 *model);
  Result<Hashes> hash(const u32 *v, Scratch &scratch) const;
  u32 bucket(u32 table, u32 sum) const;
  Status look_into(Probing &p, u32 table, u32 sum);
  u32 probes_for(u32 ef) const;
  Status probe(Probing &p);

  bool plausible() const override;
  usize model_bytes() const override { return (usize{functions()} * (space_.dim() + 1) + 1) * 4; }
  Status begin() override;
  Status place(RowView &rows, const u8 *row, u32 aux, u32 slot, SlotRecords::Word *words, u32 *first,
               Scratch &scratch) override;
  u32 record_words() const override { return params_.tables; }
  u32 record_bytes() const override { return 4 * params_.tables; }
  void save_record(const SlotRecords::Word *words, u8 *out) const override;
  Status load_record(u32 slot, const u8 *in, SlotRecords::Word *words) override;
  bool entry_right(u32 list, u32 number, const SlotRecords::Word *words) const override;
  u32 lists_per_slot() const override { return params_.tables; }

  const simd::Space projection_;  // f32, inner product
};

// The hash functions' values of one vector, and what their neighbours cost, table by table.
struct Lsh::Hashes {
  s32 *value = nullptr;
  u32 *below = nullptr, *above = nullptr;
};

// What a hash function's value is multiplied by in the sum that becomes a bucket.
u32 lsh_factor(u32 table, u32 function);

Result<IndexPtr> lsh_create(const simd::Space &space, const IndexParams &params);
Result<IndexPtr> lsh_open(const simd::Space &space, Bytes header, const BlobSource &blobs);

}  // namespace vexfs::vector
