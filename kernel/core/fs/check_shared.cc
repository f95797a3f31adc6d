// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Sweeping over the blocks of shared extents in the order of the device, beside the entries of the refcounts tree.
#include "check_shared.h"

#include "../base/sort.h"

namespace vexfs::fs {

Status SharedCheck::add(u64 ino, u64 block, const disk::DiskExtent &e) {
  VX_TRY(ends_.push(e.disk + e.count));
  return refs_.push({e.disk, e.count, e.birth, ino, block});
}

Status SharedCheck::judge() {
  VX_TRY(read_entries());
  if ((!refs_.empty() || !entries_.empty()) && !(c_.super().incompat & disk::kIncompatReflink))
    c_.error().str("files share blocks, but the filesystem was made without that feature");
  sort(refs_.data(), refs_.size(), [](const Ref &a, const Ref &b) { return a.start < b.start; });
  sort(ends_.data(), ends_.size(), [](u64 a, u64 b) { return a < b; });
  VX_TRY(sweep());
  if (differences_ > kReported) c_.note().dec(differences_ - kReported).str(" more runs of blocks with a wrong count");
  return {};
}

Status SharedCheck::read_entries() {
  Status st;
  VX_TRY(c_.walk(store::TreeId::refcounts, [&](const store::Key &k, Bytes b) {
    const char *bad = disk::verify_refcount(b, k.oid, k.type, k.off, c_.geometry());
    disk::RefcountItem item{};
    memcpy(&item, b.data(), min_of(b.size(), sizeof item));
    if (!bad && item.birth > c_.txn()) bad = "birth";
    if (!bad && !entries_.empty() && k.oid < entries_[entries_.size() - 1].end()) bad = "overlaps the one before it";
    if (bad) {
      c_.error().str("count of shared blocks at ").dec(k.oid).str(": ").str(bad);
      return true;
    }
    st = entries_.push({k.oid, item.blocks, item.birth, item.refs});
    return st.ok();
  }));
  return st;
}

// Goes from one beginning or end of an extent to the next. What hangs together is claimed as a whole.
Status SharedCheck::sweep() {
  u64 at = 0, from = 0, birth = 0;
  usize i = 0, j = 0, first = 0;
  while (j < ends_.size()) {
    u64 next = i < refs_.size() ? min_of(refs_[i].start, ends_[j]) : ends_[j];
    compare(at, next, i - j, birth);
    at = next;
    while (j < i && ends_[j] == at) j++;
    if (i > first && i == j) {
      VX_TRY(c_.claim({from, at - from}, "shared file data of inode", refs_[first].ino, refs_[first].block));
      first = i;
    }
    for (; i < refs_.size() && refs_[i].start == at; i++) {
      const Ref &r = refs_[i];
      if (i == first) from = at, birth = r.birth;
      if (r.birth != birth)
        c_.error()
            .str("inode ")
            .dec(r.ino)
            .str(": extent at block ")
            .dec(r.block)
            .str(" has blocks of inode ")
            .dec(refs_[first].ino)
            .str(", but another birth");
    }
  }
  compare(at, ~u64{0}, 0, 0);
  return {};
}

// So many extents refer to the blocks start .. end, which were born then.
void SharedCheck::compare(u64 start, u64 end, u64 refs, u64 birth) {
  while (start < end) {
    while (at_ < entries_.size() && entries_[at_].end() <= start) at_++;
    const Entry *e = at_ < entries_.size() ? &entries_[at_] : nullptr;
    bool counted = e && e->start <= start;
    u64 to = !e ? end : min_of(end, counted ? e->end() : e->start);
    if (counted ? e->refs != refs : refs > 1) differ(start, to, refs, counted ? e->refs : 0);
    if (counted && refs && e->birth != birth)
      c_.error().str("count of shared blocks at ").dec(e->start).str(": another birth than their extents have");
    start = to;
  }
}

// Of trees that are damaged, what is missing proves nothing.
void SharedCheck::differ(u64 start, u64 end, u64 refs, u32 counted) {
  if (refs < counted && c_.tree_damaged(store::TreeId::fs)) return;
  if (counted == 0 && c_.tree_damaged(store::TreeId::refcounts)) return;
  if (++differences_ > kReported) return;
  auto line = c_.error();
  line.str("blocks ").dec(start).str("+").dec(end - start).str(": ").dec(refs).str(" extents refer to them, ");
  if (counted)
    line.str("but their count is ").dec(counted);
  else
    line.str("but they have no count");
}

}  // namespace vexfs::fs
