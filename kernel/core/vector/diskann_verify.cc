// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Checking a graph on disk: every list once, then which nodes paths from the entry lead to. Blobs are read in order, again
// and again until no list leads anywhere new, those alone in which there is something to follow: two bits of memory a slot.
#include "diskann_walk.h"

namespace vexfs::vector {
namespace diskann_verify_impl {
namespace {

constexpr u32 few = 8;  // nodes of a blob that are read one by one

}  // namespace
}  // namespace diskann_verify_impl

class DiskAnn::Traversal : vexfs::Pinned {
 public:
  Traversal(DiskAnn &index, VerifyReport &out) : index_(index), out_(out) {}
  Status begin(Scratch &scratch);
  void reach(u32 slot) {
    if (slot < limit_) reached_.set(slot);
  }
  bool reached(u32 slot) const { return reached_.test(slot); }
  u32 blobs() const { return limit_ >> index_.shape_.shift; }
  // Counts faults of the lists of a blob, and follows those that were reached.
  Status check(u32 number);
  // Follows the others that were. *any: there were some.
  Status follow(u32 number, bool *any);

 private:
  struct SlotBits {
    u64 *words;
    bool test(u32 i) const { return (words[i >> 6] >> (i & 63)) & 1; }
    void set(u32 i) { words[i >> 6] |= u64{1} << (i & 63); }
  };
  bool pending(u32 slot) const { return reached_.test(slot) && !followed_.test(slot); }
  void lead(u32 slot, u32 n);
  u32 list(const DiskNode *node, const u8 *record) {
    return node ? index_.list_of(node, links_) : record ? index_.list_of(record, links_) : 0;
  }
  void faults(u32 slot, u32 n);

  DiskAnn &index_;
  VerifyReport &out_;
  u32 limit_ = 0;
  SlotBits reached_{}, followed_{};
  u32 *links_ = nullptr;
  u8 *units_ = nullptr;
  Vec<u8> buf_;
};

Status DiskAnn::Traversal::begin(Scratch &scratch) {
  limit_ = index_.records_.limit();
  const usize words = usize{limit_} / 64 + 1;
  u64 *bits = VX_TRY(scratch.array<u64>(Scratch::visited, 2 * words));
  memset(bits, 0, 2 * words * 8);
  reached_.words = bits;
  followed_.words = bits + words;
  links_ = VX_TRY(scratch.array<u32>(Scratch::select, index_.shape_.cap));
  units_ = VX_TRY(scratch.array<u8>(Scratch::heap, index_.shape_.node_bytes()));
  return {};
}

void DiskAnn::Traversal::lead(u32 slot, u32 n) {
  followed_.set(slot);
  for (u32 j = 0; j < n; j++) reach(links_[j]);
}

void DiskAnn::Traversal::faults(u32 slot, u32 n) {
  out_.links += n;
  for (u32 j = 0; j < n; j++) {
    bool bad = links_[j] == slot || !index_.records_.present(links_[j]);
    for (u32 k = 0; k < j && !bad; k++) bad = links_[k] == links_[j];
    out_.bad_links += bad;
  }
}

Status DiskAnn::Traversal::check(u32 number) {
  const DiskShape &shape = index_.shape_;
  VX_TRY(index_.read_stored_blob(number, buf_));
  for (u32 i = 0; i < shape.slots(); i++) {
    const u32 slot = (number << shape.shift) + i;
    const u8 *record = VX_TRY(index_.stored_record(slot, buf_));
    if (!index_.records_.present(slot)) continue;
    const DiskNode *node = index_.nodes_kept_.peek(slot);
    out_.nodes++;
    if (!node && !record) {
      out_.bad_links++;
      continue;
    }
    if (!node && reinterpret_cast<const DiskRecordHeader *>(record)->degree > shape.cap) out_.bad_links++;
    const u32 n = list(node, record);
    faults(slot, n);
    if (pending(slot)) lead(slot, n);
  }
  return {};
}

Status DiskAnn::Traversal::follow(u32 number, bool *any) {
  const DiskShape &shape = index_.shape_;
  const u32 first = number << shape.shift;
  u32 n = 0;
  for (u32 i = 0; i < shape.slots(); i++) n += pending(first + i) && !index_.nodes_kept_.peek(first + i);
  const bool single = n <= diskann_verify_impl::few && index_.source_.read_parts;
  if (n && !single) VX_TRY(index_.read_stored_blob(number, buf_));
  for (u32 slot = first; slot < first + shape.slots(); slot++) {
    if (!pending(slot)) continue;
    *any = true;
    const DiskNode *node = index_.nodes_kept_.peek(slot);
    const u8 *record = nullptr;
    if (!node && single) VX_TRY(index_.fetch(&slot, 1, units_, &record));
    if (!node && !single && n) record = VX_TRY(index_.stored_record(slot, buf_));
    lead(slot, list(node, record));
  }
  return {};
}

Status DiskAnn::verify(VerifyReport *out, Scratch &scratch, bool (*interrupted)(void *), void *ctx) {
  *out = VerifyReport{};
  if (must_learn()) return {};
  VX_TRY(ready());
  Reading reading(*this);
  Traversal t(*this, *out);
  VX_TRY(t.begin(scratch));
  const u32 from = entry();
  if (from != slot_none) t.reach(from);
  for (u32 b = 0; b < t.blobs(); b++) {
    VX_TRY(t.check(b));
    if (interrupted && interrupted(ctx)) return Errno::intr;
    vx_yield();
  }
  out->levels = 1;
  out->bad_entry = from == slot_none ? out->nodes != 0 : !records_.present(from);
  for (bool any = true; any;) {
    any = false;
    for (u32 b = 0; b < t.blobs(); b++) {
      VX_TRY(t.follow(b, &any));
      if (interrupted && interrupted(ctx)) return Errno::intr;
      vx_yield();
    }
  }
  for (u32 slot = 0; slot < t.blobs() << shape_.shift; slot++)
    out->unreachable += word_of(slot) == 0 && !t.reached(slot);
  return {};
}

}  // namespace vexfs::vector
