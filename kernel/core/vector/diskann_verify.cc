// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Checking a graph on disk: every list once, then which nodes paths from the entry lead to. Blobs are read in order, again
// and again until no list leads anywhere new, those alone in which there is something to follow: two bits of memory a slot.
#include "diskann_traversal.h"

namespace vexfs::vector {
namespace diskann_verify_impl {
namespace {

constexpr u32 few = 8;  // nodes of a blob that are read one by one

}  // namespace
}  // namespace diskann_verify_impl

Status DiskAnn::Traversal::begin(u32 from) {
  limit_ = index_.records_.limit();
  const usize words = usize{limit_} / 64 + 1;
  reached_.clear();
  followed_.clear();
  VX_TRY(reached_.resize(words));
  VX_TRY(followed_.resize(words));
  memset(reached_.data(), 0, words * 8);
  memset(followed_.data(), 0, words * 8);
  VX_TRY(links_.resize(index_.shape_.cap));
  if (from != slot_none) reach(from);
  return {};
}

void DiskAnn::Traversal::lead(u32 slot, u32 n) {
  set(followed_, slot);
  for (u32 j = 0; j < n; j++) reach(links_[j]);
}

void DiskAnn::Traversal::faults(u32 slot, u32 n, VerifyReport &out) {
  out.links += n;
  for (u32 j = 0; j < n; j++) {
    bool bad = links_[j] == slot || !index_.records_.present(links_[j]);
    for (u32 k = 0; k < j && !bad; k++) bad = links_[k] == links_[j];
    out.bad_links += bad;
  }
}

Status DiskAnn::Traversal::check(u32 number, VerifyReport &out) {
  const DiskShape &shape = index_.shape_;
  VX_TRY(index_.read_stored_blob(number, buf_));
  for (u32 i = 0; i < shape.slots(); i++) {
    const u32 slot = (number << shape.shift) + i;
    const u8 *record = VX_TRY(index_.stored_record(slot, buf_));
    if (!index_.records_.present(slot)) continue;
    const DiskNode *node = index_.nodes_kept_.peek(slot);
    out.nodes++;
    if (!node && !record) {
      out.bad_links++;
      continue;
    }
    if (!node && reinterpret_cast<const DiskRecordHeader *>(record)->degree > shape.cap) out.bad_links++;
    const u32 n = list(node, record);
    faults(slot, n, out);
    if (pending(slot)) lead(slot, n);
  }
  return {};
}

Status DiskAnn::Traversal::follow(u32 number, Scratch &scratch, bool *any) {
  const DiskShape &shape = index_.shape_;
  const u32 first = number << shape.shift;
  u32 n = 0;
  for (u32 i = 0; i < shape.slots(); i++) n += pending(first + i) && !index_.nodes_kept_.peek(first + i);
  const bool single = n <= diskann_verify_impl::few && index_.source_.read_parts;
  u8 *units = VX_TRY(scratch.array<u8>(Scratch::heap, index_.shape_.node_bytes()));
  if (n && !single) VX_TRY(index_.read_stored_blob(number, buf_));
  for (u32 slot = first; slot < first + shape.slots(); slot++) {
    if (!pending(slot)) continue;
    *any = true;
    const DiskNode *node = index_.nodes_kept_.peek(slot);
    const u8 *record = nullptr;
    if (!node && single) VX_TRY(index_.fetch(&slot, 1, units, &record));
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
  Traversal t(*this);
  const u32 from = entry();
  VX_TRY(t.begin(from));
  for (u32 b = 0; b < t.blobs(); b++) {
    VX_TRY(t.check(b, *out));
    if (interrupted && interrupted(ctx)) return Errno::intr;
    vx_yield();
  }
  out->levels = 1;
  out->bad_entry = from == slot_none ? out->nodes != 0 : !records_.present(from);
  for (bool any = true; any;) {
    any = false;
    for (u32 b = 0; b < t.blobs(); b++) {
      VX_TRY(t.follow(b, scratch, &any));
      if (interrupted && interrupted(ctx)) return Errno::intr;
      vx_yield();
    }
  }
  for (u32 slot = 0; slot < t.blobs() << shape_.shift; slot++) {
    out->unreachable += word_of(slot) == 0 && !t.reached(slot);
    breathe_at(slot);
  }
  return {};
}

}  // namespace vexfs::vector
