// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The blocks that items of the fs and collections trees refer to.
#include "references.h"

#include "fs_items.h"
#include "vector_items.h"

namespace vexfs::disk {

namespace references_impl {
namespace {

void of_fs_item(u8 type, Bytes item, FnRef<void(const BlockRef &)> fn) {
  if (type != static_cast<u8>(FsItem::extent) || item.size() != sizeof(DiskExtent)) return;
  DiskExtent e;
  memcpy(&e, item.data(), sizeof e);
  fn({e.disk, e.count, e.birth, (e.flags & kExtentShared) != 0});
}

void of_chunk(Bytes item, FnRef<void(const BlockRef &)> fn) {
  ChunkItem c{};
  if (item.size() < ChunkItem::bytes(1) || item.size() > sizeof c) return;
  memcpy(&c, item.data(), item.size());
  if (c.npieces > kChunkPieces || item.size() != ChunkItem::bytes(c.npieces)) return;
  for (u32 i = 0; i < c.npieces; i++) fn({c.pieces[i].start, c.pieces[i].blocks, c.birth});
}

void of_blob(Bytes item, FnRef<void(const BlockRef &)> fn) {
  BlobItem b;
  if (item.size() != sizeof b) return;
  memcpy(&b, item.data(), sizeof b);
  fn({b.start, b.blocks, b.birth});
}

}  // namespace
}  // namespace references_impl

void block_refs(u8 tree, u64 oid, u8 type, Bytes item, FnRef<void(const BlockRef &)> fn) {
  using namespace references_impl;
  if (tree == 0) return of_fs_item(type, item, fn);
  if (tree != 1 || oid == 0) return;
  if (type == static_cast<u8>(VectorItem::chunk)) of_chunk(item, fn);
  if (type == static_cast<u8>(VectorItem::index_blob)) of_blob(item, fn);
}

}  // namespace vexfs::disk
