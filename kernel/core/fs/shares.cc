// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Counting references to shared blocks: an entry's neighbourhood is read, computed anew, and what differs is written.
#include "shares.h"

#include "erase.h"
#include "filesystem.h"

namespace vexfs::fs {
namespace shares_impl {
namespace {

store::Tree &tree_of(Filesystem &fs) { return fs.volume().tree(store::TreeId::refcounts); }
constexpr store::Key key_of(u64 start) { return {start, disk::kRefcountType, 0}; }

}  // namespace
}  // namespace shares_impl

// The entries that overlap e or touch it, from the left on, as many as there is room for.
Status Shares::read(store::Extent e) {
  using namespace shares_impl;  // NOLINT: of this file
  const disk::Geometry &geo = fs_.volume().geometry();
  bool bad = false;
  olds_ = 0;
  auto take = [&](const store::Key &k, Bytes v) {
    if (disk::verify_refcount(v, k.oid, k.type, k.off, geo)) {
      bad = true;
      return false;
    }
    disk::RefcountItem item;
    memcpy(&item, v.data(), sizeof item);
    const Run r{k.oid, item.blocks, item.birth, item.refs};
    if (olds_ && r.start < old_[olds_ - 1].end()) bad = true;
    if (r.end() >= e.start) old_[olds_++] = r;
    return !bad && olds_ < kRuns;
  };
  disk::RefcountItem before;
  auto left = tree_of(fs_).seek_back(key_of(e.start - 1), store::Key::min(), mut_bytes_of(before));
  if (!left.ok() && left.code() != Errno::noent && left.code() != Errno::range) return left.error();
  store::Key from = left.ok() ? left->key : key_of(e.start);
  VX_TRY(tree_of(fs_).scan(from, {e.end(), 0xff, ~u64{0}}, take));
  if (bad || left.code() == Errno::range) return fs_.damaged(0, "counts of shared blocks make no sense");
  return {};
}

Result<u64> Shares::bounded(store::Extent e) {
  VX_TRY(read(e));
  u64 at = e.start;
  u32 i = 0;
  while (i < olds_ && old_[i].end() <= at) i++;
  for (u32 segments = 0; segments < kShareSegments && at < e.end(); segments++) {
    if (i == olds_) {
      at = e.end();  // nothing more has an entry: there was room for one
    } else if (old_[i].start > at) {
      at = min_of(e.end(), old_[i].start);
    } else {
      at = min_of(e.end(), old_[i++].end());
    }
  }
  return at - e.start;
}

// The next run of what is to be, joined with the one before it where both are alike.
Status Shares::append(u64 start, u64 end, u64 birth, u32 refs) {
  const disk::Geometry &geo = fs_.volume().geometry();
  if (start >= end || refs < 2) return {};
  Run *last = news_ ? &new_[news_ - 1] : nullptr;
  if (last && last->end() == start && last->refs == refs && last->birth == birth &&
      geo.group_of(last->start) == geo.group_of(start)) {
    last->count += end - start;
    return {};
  }
  if (news_ == kRuns) return Errno::inval;
  new_[news_++] = {start, end - start, birth, refs};
  return {};
}

Status Shares::compute(store::Extent e, u64 birth, bool more) {
  news_ = frees_ = 0;
  u64 at = e.start;
  auto segment = [&](u64 end, u32 refs) -> Status {  // of e
    if (at >= end) return {};
    if (more && refs == ~u32{0}) return Errno::mlink;
    if (!more && refs == 1) {
      if (frees_ == sizeof freed_ / sizeof freed_[0]) return Errno::inval;
      freed_[frees_++] = {at, end - at};
    }
    VX_TRY(append(at, end, birth, more ? refs + 1 : refs - 1));
    at = end;
    return {};
  };
  for (u32 i = 0; i < olds_; i++) {
    const Run &r = old_[i];
    u64 from = max_of(r.start, e.start), to = min_of(r.end(), e.end());
    if (from < to && r.birth != birth) return fs_.damaged(0, "shared blocks have another birth than their extent");
    if (r.start >= e.end()) VX_TRY(segment(e.end(), 1));
    VX_TRY(append(r.start, min_of(r.end(), e.start), r.birth, r.refs));
    if (from < to) {
      VX_TRY(segment(from, 1));
      VX_TRY(segment(to, r.refs));
    }
    VX_TRY(append(max_of(r.start, e.end()), r.end(), r.birth, r.refs));
  }
  return segment(e.end(), 1);
}

// Both lists are in the order of blocks, and begin at different ones each.
Status Shares::write(store::Handle &h) {
  using namespace shares_impl;  // NOLINT: of this file
  store::Tree &tree = tree_of(fs_);
  u32 n = 0;
  for (u32 o = 0; o < olds_; o++) {
    while (n < news_ && new_[n].start < old_[o].start) n++;
    bool stays = n < news_ && new_[n].start == old_[o].start;
    if (!stays) VX_TRY(must(h, tree.erase(h, key_of(old_[o].start))));
  }
  u32 o = 0;
  for (n = 0; n < news_; n++) {
    while (o < olds_ && old_[o].start < new_[n].start) o++;
    if (o < olds_ && old_[o] == new_[n]) continue;
    disk::RefcountItem item;
    item.refs = new_[n].refs;
    item.blocks = static_cast<u32>(new_[n].count);
    item.birth = new_[n].birth;
    VX_TRY(must(h, tree.upsert(h, key_of(new_[n].start), bytes_of(item))));
  }
  return {};
}

Status Shares::change(store::Handle &h, store::Extent e, u64 birth, bool more) {
  VX_TRY(read(e));
  Status st = compute(e, birth, more);
  if (st.code() == Errno::inval) return fs_.damaged(0, "more runs of shared blocks than were counted");
  VX_TRY(std::move(st));
  VX_TRY(write(h));
  for (u32 i = 0; i < frees_; i++) fs_.volume().free(h, freed_[i], birth);
  return {};
}

}  // namespace vexfs::fs
