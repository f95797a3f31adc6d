// SPDX-License-Identifier: GPL-2.0-only OR MIT
// An index that has learnt to and from its stored form. Everything read is checked: parameters are possible ones, the
// model is of finite numbers, a slot's record leads to a list that there is.
#include "learnt_index.h"

#include "../simd/learn.h"

namespace vexfs::vector {
namespace learnt_checkpoint_impl {
namespace {

Error damaged(const char *what) {
  vx_log(nullptr, VX_LOG_ERR, what);
  return Errno::corrupt;
}

bool good_blob(Bytes blob, IndexKind kind, u32 number) {
  LearntBlobHeader h;
  if (blob.size() < sizeof h) return false;
  memcpy(&h, blob.data(), sizeof h);
  return h.magic == learnt_blob_magic && h.version == learnt_version && h.kind == static_cast<u8>(kind) &&
         h.number == number && h.bytes == blob.size() - sizeof h;
}

void blob_header(IndexKind kind, u32 number, MutBytes out) {
  LearntBlobHeader h{};
  h.magic = learnt_blob_magic;
  h.version = learnt_version;
  h.kind = static_cast<u8>(kind);
  h.number = number;
  h.bytes = static_cast<u32>(out.size() - sizeof h);
  memcpy(out.data(), &h, sizeof h);
}

}  // namespace
}  // namespace learnt_checkpoint_impl

// -------------------------------------------------------------------------------------------------------------- header
Result<const LearntHeader *> learnt_header(IndexKind kind, Bytes bytes) {
  if (bytes.size() != sizeof(LearntHeader)) return Errno::corrupt;
  const auto *h = reinterpret_cast<const LearntHeader *>(bytes.data());
  if (h->magic != learnt_header_magic || h->version != learnt_version || h->kind != static_cast<u8>(kind))
    return learnt_checkpoint_impl::damaged("index: the checkpoint header is not one, or of an unknown version");
  if (h->covered > slot_max || h->learnt == 0 || h->learnt > slot_max || h->probes > probes_max ||
      (h->flags & ~learnt_lists_given))
    return learnt_checkpoint_impl::damaged("index: the checkpoint header has parameters out of range");
  return h;
}

Result<u32> learnt_covered(IndexKind kind, Bytes header) {
  const LearntHeader *h = VX_TRY(learnt_header(kind, header));
  return u32{h->covered};
}

Status LearntIndex::adopt(const LearntHeader &h, const BlobSource &source) {
  if (h.dim != space_.dim() || h.element != static_cast<u8>(space_.element()) ||
      h.metric != static_cast<u8>(space_.metric()))
    return Errno::inval;
  params_.kind = static_cast<IndexKind>(h.kind);
  params_.lists = h.lists;
  params_.probes = h.probes;
  params_.pq_m = h.pq_m;
  params_.tables = h.tables;
  params_.bits = h.bits;
  params_.seed = h.seed;
  bucket_bits_ = h.bucket_bits;
  if (!take_header(h) || !index_params_valid(params_, space_.dim()) || !plausible())
    return learnt_checkpoint_impl::damaged("index: the checkpoint header has parameters out of range");
  learnt_ = h.learnt;
  given_ = h.flags & learnt_lists_given;
  covered_ = h.covered;
  source_ = source;
  nodes_.store(min_of<u32>(h.nodes, h.covered), std::memory_order_relaxed);
  state_.store(State::stored, std::memory_order_release);
  return {};
}

Status LearntIndex::save_header(u32 covered, MutBytes out) const {
  if (out.size() != sizeof(LearntHeader) || covered > slot_max || state() == State::unlearnt) return Errno::inval;
  LearntHeader h{};
  h.magic = learnt_header_magic;
  h.version = learnt_version;
  h.kind = static_cast<u8>(params_.kind);
  h.element = static_cast<u8>(space_.element());
  h.metric = static_cast<u8>(space_.metric());
  h.flags = given_ ? learnt_lists_given : 0;
  h.tables = static_cast<u8>(params_.tables);
  h.bits = static_cast<u8>(params_.bits);
  h.dim = space_.dim();
  h.covered = covered;
  h.learnt = learnt_;
  h.nodes = nodes_.load(std::memory_order_relaxed);
  h.lists = params_.lists;
  h.probes = params_.probes;
  h.pq_m = static_cast<u16>(params_.pq_m);
  h.bucket_bits = static_cast<u8>(bucket_bits_);
  h.seed = params_.seed;
  put_header(covered, &h);
  memcpy(out.data(), &h, sizeof h);
  return {};
}

// --------------------------------------------------------------------------------------------------------------- blobs
usize LearntIndex::piece_bytes(u32 piece) const {
  return min_of<usize>(learnt_model_piece, model_bytes() - usize{piece} * learnt_model_piece);
}

u32 LearntIndex::blob_count(u32 covered) const {
  if (state() == State::unlearnt) return 0;
  const u32 rest = covered & (SlotRecords::segment_slots - 1), all = records_blob(covered >> SlotRecords::shift);
  return rest ? all + 1 + (own_blobs() ? div_up(rest, own_blob_slots()) : 0) : all;
}

usize LearntIndex::blob_bytes(u32 blob) const {
  const u32 pieces = model_blobs();
  if (blob >= pieces && (blob - pieces) % (1 + own_blobs())) return own_blob_bytes();
  return sizeof(LearntBlobHeader) +
         (blob < pieces ? piece_bytes(blob) : usize{record_bytes()} * SlotRecords::segment_slots);
}

bool LearntIndex::blob_dirty(u32 blob) const {
  const u32 pieces = model_blobs();
  if (blob < pieces) return (model_dirty_[blob / 64].load(std::memory_order_acquire) >> (blob % 64)) & 1;
  const u32 segment = (blob - pieces) / (1 + own_blobs()), own = (blob - pieces) % (1 + own_blobs());
  return own ? own_blob_dirty(segment * own_blobs() + own - 1) : records_.dirty(segment);
}

Status LearntIndex::save_blob(u32 blob, u32 covered, MutBytes out, RowView &rows) {
  if (blob >= blob_count(covered) || out.size() != blob_bytes(blob)) return Errno::inval;
  VX_TRY(ready());
  const u32 pieces = model_blobs();
  const u32 segment = blob < pieces ? 0 : (blob - pieces) / (1 + own_blobs());
  if (blob > pieces && blob != records_blob(segment))
    return save_own_blob(segment * own_blobs() + blob - records_blob(segment) - 1, covered, out, rows);
  learnt_checkpoint_impl::blob_header(params_.kind, blob, out);
  u8 *at = out.data() + sizeof(LearntBlobHeader);
  if (blob < pieces) {
    model_dirty_[blob / 64].fetch_and(~(u64{1} << (blob % 64)), std::memory_order_acq_rel);
    memcpy(at, model() + usize{blob} * learnt_model_piece, piece_bytes(blob));
  } else {
    save_records(segment, covered, at);
  }
  return {};
}

void LearntIndex::save_records(u32 number, u32 covered, u8 *out) {
  records_.set_dirty(number, false);
  bool left_out = false;
  const u32 bytes = record_bytes();
  for (u32 i = 0; i < SlotRecords::segment_slots; i++, out += bytes) {
    const u32 slot = (number << SlotRecords::shift) + i;
    const bool there = records_.present(slot), stored = there && slot < covered;
    left_out |= there && !stored;
    memset(out, stored ? 0 : 0xff, bytes);
    if (stored) save_record(records_.peek(slot), out);
  }
  if (left_out) records_.set_dirty(number, true);  // a later checkpoint, covering more, has more to store
}

// ------------------------------------------------------------------------------------------------------------- reading
Error LearntIndex::refuse(const char *what) {
  damaged_.store(true, std::memory_order_release);
  return learnt_checkpoint_impl::damaged(what);
}

Status LearntIndex::ready() {
  if (state() == State::ready) return {};
  if (state() == State::unlearnt) return Errno::again;
  Guard g(load_lock_);
  if (state() == State::ready) return {};
  Status s = bring();
  if (s.ok()) {
    state_.store(State::ready, std::memory_order_release);
    return {};
  }
  lists_.reset();
  records_.reset();
  model_ = Vec<u32>();
  return s;
}

Status LearntIndex::read(u32 blob, u32 bytes, Vec<u8> &buf) {
  VX_TRY(buf.resize(sizeof(LearntBlobHeader) + bytes));
  VX_TRY(source_.read(source_.ctx, blob, {buf.data(), buf.size()}));
  if (!learnt_checkpoint_impl::good_blob({buf.data(), buf.size()}, params_.kind, blob))
    return refuse("index: a checkpoint blob is not of this index");
  return {};
}

Status LearntIndex::read_model(Vec<u8> &buf) {
  VX_TRY(model_.resize(model_bytes() / 4));
  for (u32 b = 0; b < model_blobs(); b++) {
    VX_TRY(read(b, static_cast<u32>(piece_bytes(b)), buf));
    memcpy(reinterpret_cast<u8 *>(model_.data()) + usize{b} * learnt_model_piece, buf.data() + sizeof(LearntBlobHeader),
           piece_bytes(b));
    vx_yield();
  }
  return {};
}

Status LearntIndex::read_records(u32 number, Vec<u8> &buf) {
  const u32 bytes = record_bytes();
  VX_TRY(read(records_blob(number), bytes * SlotRecords::segment_slots, buf));
  const u8 *in = buf.data() + sizeof(LearntBlobHeader);
  u32 there = 0;
  for (u32 i = 0; i < SlotRecords::segment_slots; i++, in += bytes) {
    const u32 slot = (number << SlotRecords::shift) + i;
    if (reinterpret_cast<const le32 *>(in)->get() == record_none) continue;
    if (slot >= covered_) return refuse("index: a checkpoint blob has slots beyond what it covers");
    SlotRecords::Word *words = VX_TRY(records_.get(slot));
    Status s = load_record(slot, in, words);
    if (s.code() == Errno::corrupt) return refuse("index: a checkpoint blob has a damaged record");
    VX_TRY(s);
    there++;
  }
  nodes_.fetch_add(there, std::memory_order_relaxed);
  return {};
}

Status LearntIndex::bring() {
  Vec<u8> buf;
  VX_TRY(read_model(buf));
  records_.make(record_words());
  Status s = begin();
  if (s.code() == Errno::corrupt) return refuse("index: the checkpoint's model is damaged");
  VX_TRY(s);
  nodes_.store(0, std::memory_order_relaxed);
  const u32 segments = static_cast<u32>((u64{covered_} + SlotRecords::segment_slots - 1) >> SlotRecords::shift);
  for (u32 i = 0; i < segments; i++) {
    VX_TRY(read_records(i, buf));
    vx_yield();
  }
  if (!brought_right()) return refuse("index: the checkpoint's graph is not entered where the header says");
  return {};
}

}  // namespace vexfs::vector
