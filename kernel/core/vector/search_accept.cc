// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Whether a search may return a row: filters, permission of the caller, freshness. What is learnt of an inode is kept
// while there is room for it.
#include "search.h"

namespace vexfs::vector {
namespace accept_impl {
namespace {

constexpr u32 notes_max = 1 << 15;  // half of them are used; a megabyte
constexpr u32 depth_max = 4096;

u32 hash_ino(u64 ino, u32 cap) { return static_cast<u32>(ino * 0x9e3779b97f4a7c15 >> 32) & (cap - 1); }

}  // namespace
}  // namespace accept_impl

Searcher::~Searcher() {
  for (u32 i = 0; i < notes_cap_; i++) notes_[i].~InodeNote();
  if (notes_) vx_free_large(notes_, notes_cap_ * sizeof(InodeNote));
}

// May there be rows that the caller may not read?
bool Searcher::need_permission() const { return c_.has_owners() && !(o_.caller == nullptr || o_.caller->trusted); }

// Without filters, owners or a limit every live row is welcome, and nobody need be asked.
bool Searcher::need_accept(u32 upto, u32 n) const {
  return upto != n || o_.nfilters || o_.exclude_owner || o_.skip_stale || o_.by_owner || need_permission();
}

SearchStats Searcher::told() const { return need_permission() ? SearchStats{} : stats_; }

// What notes say can be asked again. An inode whose last name has gone is kept: its deletion, if nobody else holds it,
// takes transactions and writers' locks, for which nobody may wait within a view of the rows. A note that is kept may not
// be found any more, then there is a second one.
Status Searcher::forget_notes() {
  notes_n_ = 0;
  for (u32 i = 0; i < notes_cap_; i++) {
    if (!notes_[i].ino) continue;
    if (notes_[i].ref.reset_named())
      notes_[i] = InodeNote{};
    else
      notes_n_++;
  }
  return 2 * (notes_n_ + 1) <= notes_cap_ ? Status() : Status(Errno::nomem);
}

Status Searcher::grow_notes() {
  u32 cap = notes_cap_ ? notes_cap_ * 2 : 128;
  if (cap > accept_impl::notes_max) return forget_notes();
  auto *p = static_cast<InodeNote *>(vx_alloc_large(cap * sizeof(InodeNote), VX_ALLOC_ACCOUNT));
  if (!p) return notes_cap_ ? forget_notes() : Status(Errno::nomem);
  for (u32 i = 0; i < cap; i++) new (&p[i]) InodeNote;
  for (u32 i = 0; i < notes_cap_; i++) {
    if (!notes_[i].ino) continue;
    u32 at = accept_impl::hash_ino(notes_[i].ino, cap);
    while (p[at].ino) at = (at + 1) & (cap - 1);
    p[at] = std::move(notes_[i]);
  }
  for (u32 i = 0; i < notes_cap_; i++) notes_[i].~InodeNote();
  if (notes_) vx_free_large(notes_, notes_cap_ * sizeof(InodeNote));
  notes_ = p;
  notes_cap_ = cap;
  return {};
}

// The pointer is good until the next call.
Result<InodeNote *> Searcher::note(u64 ino) {
  if (2 * (notes_n_ + 1) > notes_cap_) VX_TRY(grow_notes());
  u32 at = accept_impl::hash_ino(ino, notes_cap_);
  while (notes_[at].ino && notes_[at].ino != ino) at = (at + 1) & (notes_cap_ - 1);
  InodeNote &n = notes_[at];
  if (n.ino) return &n;
  Result<fs::InodeRef> ref = engine_.filesystem().get(ino);
  if (!ref.ok() && ref.code() != Errno::noent && ref.code() != Errno::stale) return ref.error();
  n.ino = ino;
  n.present = ref.ok();
  if (ref.ok()) n.ref = ref.take();
  notes_n_++;
  return &n;
}

// Does the inode lie below `top`, by the chain of parents? Directories met on the way are remembered too.
Result<bool> Searcher::below(u64 ino, u32 filter, u64 top) {
  u32 bit = 1u << filter;
  u64 path[64];
  u32 npath = 0;
  bool inside = false;
  u64 at = ino;
  for (u32 depth = 0; depth < accept_impl::depth_max; depth++) {
    InodeNote *n = VX_TRY(note(at));
    if (n->inside_known & bit) {
      inside = n->inside & bit;
      break;
    }
    if (!n->present) break;
    if (npath < 64) path[npath++] = at;
    u64 parent = n->ref->attributes().parent;
    if (parent == top) {
      inside = true;
      break;
    }
    if (parent == at || parent == 0) break;
    at = parent;
  }
  for (u32 i = 0; i < npath; i++) {
    InodeNote *n = VX_TRY(note(path[i]));
    n->inside_known |= bit;
    if (inside) n->inside |= bit;
  }
  return inside;
}

// The filters that take more than the row's own columns.
bool Searcher::place_passes(const RowMeta &m) {
  for (u32 i = 0; i < o_.nfilters; i++) {
    const vexfs_filter &f = o_.filters[i];
    if (f.kind != VEXFS_FILTER_SUBTREE) continue;
    bool in = false;
    if (m.owner) {
      Result<bool> r = below(m.owner, i, f.a);
      if (!r.ok()) {
        trouble_ = r.code();
        return false;
      }
      in = *r;
    }
    if (in == bool(f.flags & VEXFS_FILTER_NOT)) return false;
  }
  return true;
}

bool Searcher::owner_passes(const RowMeta &m) {
  if (m.owner == 0) return true;
  Result<InodeNote *> r = note(m.owner);
  if (!r.ok()) {
    trouble_ = r.code();
    return false;
  }
  InodeNote &n = **r;
  if (!n.present) return false;
  if (!n.asked) {
    n.asked = true;
    n.allowed = !o_.caller || o_.caller->trusted || o_.caller->may(o_.caller, m.owner, 4) == 0;
  }
  if (!n.allowed) return false;
  return !o_.skip_stale || n.ref->version() == m.owner_version;
}

bool Searcher::accept_row(u32 slot) {
  if (slot >= limit_) return false;
  if (past_ && !seen_then(slot)) return false;
  const bool decided = slot < selection_.end();
  if (decided && !selection_.has(slot)) return false;
  if (decided && selected_ == Asked::all) return true;
  Result<RowMeta> r = meta(slot);
  if (!r.ok()) {
    if (r.code() != Errno::noent) trouble_ = r.code();  // else all rows of its chunk died meanwhile
    return false;
  }
  const RowMeta &m = *r;
  return (decided || columns_pass(m)) && place_passes(m) && owner_passes(m);
}

// For grouping. It has just been accepted, so its metadata is there.
u64 Searcher::owner_of(void *ctx, u32 slot) {
  auto *self = static_cast<Searcher *>(ctx);
  Result<RowMeta> m = self->meta(slot);
  if (m.ok()) return m->owner;
  self->trouble_ = m.code();
  return 0;
}

bool Searcher::accept(void *ctx, u32 slot) { return static_cast<Searcher *>(ctx)->accept_row(slot); }

}  // namespace vexfs::vector
