// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What indexes have in common that learn a model from rows and then put each slot into posting lists by it: their life
// (unlearnt, stored, ready), the records of slots, and the checkpoint.
//
// A checkpoint is read as a whole at first touch, since lists are not stored: they are made from the records of the
// slots. So what is appended to a list later changes one blob, that of the slot.
#pragma once
#include "index_kinds.h"
#include "learnt_format.h"
#include "postings.h"
#include "slot_records.h"

namespace vexfs::vector {

class LearntIndex : public Index {
 public:
  IndexKind kind() const override { return params_.kind; }
  const simd::Space &space() const override { return space_; }
  bool must_learn() const override { return state() == State::unlearnt; }
  bool outgrown(u32 slots) const override;
  bool damaged() const override { return damaged_.load(std::memory_order_acquire); }

  Status insert(RowView &rows, u32 slot, Scratch &scratch) override;
  Status remove(RowView &rows, u32 slot, Scratch &scratch) override;
  bool contains(u32 slot) override;
  bool may_contain(u32 slot) override;

  usize header_bytes() const override { return sizeof(LearntHeader); }
  u32 blob_count(u32 covered) const override;
  usize blob_bytes(u32 blob) const override;
  Status save_header(u32 covered, MutBytes out) const override;
  Status save_blob(u32 blob, u32 covered, MutBytes out, RowView &rows) override;
  bool blob_dirty(u32 blob) const override;

  Status verify(VerifyReport *out, Scratch &scratch, bool (*interrupted)(void *ctx), void *ctx) override;
  usize memory_bytes() const override;
  IndexCounts counts() const override;

  // After opening: takes over what the header says. inval: of another space; corrupt.
  Status adopt(const LearntHeader &h, const BlobSource &source);

 protected:
  enum class State : u32 { unlearnt, stored, ready };
  LearntIndex(const simd::Space &space, const IndexParams &params) : space_(space), params_(params) {}
  ~LearntIndex();
  State state() const { return state_.load(std::memory_order_acquire); }
  // Reads the checkpoint if that was not done yet. io, corrupt, nomem; again: nothing was learnt.
  Status ready();

  // ---- what a kind provides. Those that need parameters may rely on params_ with no zeros left.
  // Are the parameters of a header possible?
  virtual bool plausible() const = 0;
  virtual usize model_bytes() const = 0;
  // The model is in memory: makes the lists, which are empty. corrupt: it is none.
  virtual Status begin() = 0;
  // Puts a row into the lists. The first word is record_claimed, and is stored by the caller, to *first. After an error
  // the same call may come again.
  virtual Status place(RowView &rows, const u8 *row, u32 aux, u32 slot, SlotRecords::Word *words, u32 *first,
                       Scratch &scratch) = 0;
  virtual u32 record_bytes() const = 0;  // on disk, of a slot
  virtual void save_record(const SlotRecords::Word *words, u8 *out) const = 0;
  // Puts a slot into the lists as its record says. corrupt, nomem.
  virtual Status load_record(u32 slot, const u8 *in, SlotRecords::Word *words) = 0;
  // Does entry `number` of the list belong there, as the slot's words see it?
  virtual bool entry_right(u32 list, u32 number, const SlotRecords::Word *words) const = 0;
  virtual u32 lists_per_slot() const { return 1; }
  virtual u32 record_words() const = 0;
  // Blobs that the kind has beside the records: with each segment of records so many follow, of so many slots each.
  virtual u32 own_blobs() const { return 0; }
  virtual u32 own_blob_slots() const { return SlotRecords::segment_slots; }
  virtual usize own_blob_bytes() const { return 0; }
  virtual bool own_blob_dirty(u32 /*number*/) const { return false; }
  virtual Status save_own_blob(u32 /*number*/, u32 /*covered*/, MutBytes /*out*/, RowView & /*rows*/) { return {}; }
  virtual void put_header(u32 /*covered*/, LearntHeader * /*out*/) const {}
  // After all records have come: is what the header said of them right?
  virtual bool brought_right() const { return true; }
  virtual bool take_header(const LearntHeader & /*h*/) { return true; }
  u32 own_blob(u32 number) const {
    return model_blobs() + number / own_blobs() * (1 + own_blobs()) + 1 + number % own_blobs();
  }
  // The index is of no use. Returns corrupt.
  Error refuse(const char *what);

  // After learning: params_ are what was chosen, and `model` is taken over.
  Status install(Vec<u32> &&model, u32 learnt, bool given);
  const u8 *model() const { return reinterpret_cast<const u8 *>(model_.data()); }

  const simd::Space space_;
  IndexParams params_;
  u32 bucket_bits_ = 0;
  PostingLists lists_;
  SlotRecords records_;
  std::atomic<u32> nodes_{0};
  BlobSource source_{};
  u32 covered_ = 0;  // by the checkpoint that it was opened from

 private:
  static constexpr u32 model_pieces_max = 1024;
  u32 model_blobs() const { return div_up<u32>(static_cast<u32>(model_bytes() >> 2), learnt_model_piece >> 2); }
  usize piece_bytes(u32 piece) const;
  Status read(u32 blob, u32 bytes, Vec<u8> &buf);
  Status read_model(Vec<u8> &buf);
  Status read_records(u32 number, Vec<u8> &buf);
  Status bring();
  u32 records_blob(u32 segment) const { return model_blobs() + segment * (1 + own_blobs()); }
  void save_records(u32 number, u32 covered, u8 *out);

  std::atomic<State> state_{State::unlearnt};
  std::atomic<bool> damaged_{false};
  u32 learnt_ = 0;  // slots that there were
  bool given_ = false;
  Vec<u32> model_;
  std::atomic<u64> model_dirty_[model_pieces_max / 64] = {};
  Mutex load_lock_{"vexfs_index_load"};
};

// The header of a checkpoint of that kind, or corrupt.
Result<const LearntHeader *> learnt_header(IndexKind kind, Bytes header);
Result<u32> learnt_covered(IndexKind kind, Bytes header);

}  // namespace vexfs::vector
