// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Checking the index checkpoint of a collection: header, blobs, checksums, and all links of the graph, or entries of lists.
#include "../base/crc.h"
#include "check_impl.h"
#include "index_kinds.h"

namespace vexfs::vector {

Status VectorCheck::header(Bytes item) {
  if (const char *why = disk::verify_index_header(item)) {
    bad().str("collection ").dec(cid_).str(": index header: bad ").str(why);
    return {};
  }
  disk::IndexHeaderItem h;
  memcpy(&h, item.data(), sizeof h);
  generation_ = h.generation;
  nblobs_ = h.nblobs;
  VX_TRY(head_.resize(item.size()));
  memcpy(head_.data(), item.data(), item.size());
  return {};
}

Status VectorCheck::blob(u64 off, Bytes item) {
  disk::VectorLimits limits{c_.geometry().total_blocks, c_.geometry().block_size};
  if (const char *why = disk::verify_blob(item, limits)) {
    bad().str("collection ").dec(cid_).str(": index blob ").hex(off).str(": bad ").str(why);
    return {};
  }
  disk::BlobItem b;
  memcpy(&b, item.data(), sizeof b);
  VX_TRY(c_.claim({b.start, b.blocks}, "index of collection", cid_, off));
  figures_.blobs++;
  const u32 number = disk::blob_number(off);
  if (disk::blob_generation(off) > generation_ || number >= nblobs_ || dropped_)
    return {};  // left by a checkpoint that a crash cut short, or by a longer one: freed by the next
  if (number + 1 == blobs_.size()) {  // the blob as it was before: likewise
    blobs_.data()[number] = b;
    return {};
  }
  if (number != blobs_.size()) {
    bad().str("collection ").dec(cid_).str(": index blob ").hex(off).str(": expected ").dec(blobs_.size());
    head_.clear();
    return {};
  }
  return blobs_.push(b);
}

// It follows the counters, which come first.
Status VectorCheck::recall(u64 off, Bytes item) {
  const char *why = off ? "key" : dropped_ ? nullptr : disk::verify_recall(item, state_.slots);
  if (why) bad().str("collection ").dec(cid_).str(": recall: bad ").str(why);
  return {};
}

Status VectorCheck::read_blob(void *ctx, u32 number, MutBytes out) {
  auto &self = *static_cast<VectorCheck *>(ctx);
  if (number >= self.blobs_.size()) return Errno::corrupt;
  const disk::BlobItem &b = self.blobs_[number];
  if (b.bytes != out.size()) return Errno::corrupt;
  usize n = usize{b.blocks} * self.c_.geometry().block_size;
  auto *buf = static_cast<u8 *>(vx_alloc_large(n, 0));
  if (!buf) return Errno::nomem;
  Status s = self.c_.read_blocks(b.start, {buf, n});
  if (s.ok() && crc32c_of({buf, out.size()}) != b.crc) s = Errno::corrupt;
  if (s.ok()) memcpy(out.data(), buf, out.size());
  vx_free_large(buf, n);
  return s;
}

Status VectorCheck::index() {
  disk::IndexHeaderItem h;
  if (dropped_ || head_.empty()) return {};
  memcpy(&h, head_.data(), sizeof h);
  if (h.kind != config_.index) return {};  // left by an index that was replaced: the next checkpoint frees it
  if (h.covered > rows_.size() || h.nblobs != blobs_.size()) {
    bad()
        .str("collection ")
        .dec(cid_)
        .str(": index header: covers ")
        .dec(h.covered)
        .str(" slots in ")
        .dec(h.nblobs)
        .str(" blobs; there are ")
        .dec(rows_.size())
        .str(", ")
        .dec(blobs_.size());
    return {};
  }
  Result<simd::Space> space = simd::Space::make(static_cast<simd::Element>(config_.element),
                                                static_cast<simd::Metric>(config_.metric), config_.dim);
  if (!space.ok()) return {};
  BlobSource source;
  source.ctx = this;
  source.read = read_blob;
  Result<IndexPtr> opened =
      index_open(static_cast<IndexKind>(h.kind), *space, {head_.data() + sizeof h, head_.size() - sizeof h}, source);
  if (opened.code() == Errno::nomem) return opened.error();
  if (!opened.ok()) {
    spoilt().str("collection ").dec(cid_).str(": index checkpoint cannot be opened");
    return {};
  }
  Scratch scratch(false, usize{1} << 30);
  VerifyReport r;
  Status s = (*opened)->verify(&r, scratch);
  if (s.code() == Errno::nomem) return s;
  if (!s.ok())
    spoilt().str("collection ").dec(cid_).str(": index checkpoint: a blob is damaged");
  else if (!r.sound())
    spoilt()
        .str("collection ")
        .dec(cid_)
        .str(": index checkpoint: ")
        .dec(r.bad_links)
        .str(" bad links, ")
        .dec(r.bad_levels)
        .str(" bad levels")
        .str(r.bad_entry ? ", bad entry point" : "");
  return {};
}

}  // namespace vexfs::vector
