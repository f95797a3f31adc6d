// SPDX-License-Identifier: MIT
// Repair: index checkpoints. They are derived from the rows: a damaged one is dropped, and made again when it is used.
#include "../../kernel/core/base/crc.h"
#include "../../kernel/core/vector/index_kinds.h"
#include "../../kernel/core/vector/scratch.h"
#include "model.h"

namespace vexfs::repair {
namespace {

using disk::VectorItem;

struct Blobs {
  const Model *m;
  std::vector<disk::BlobItem> list;
};

Status read_blob(void *ctx, u32 number, MutBytes out) {
  const auto &b = *static_cast<const Blobs *>(ctx);
  if (number >= b.list.size() || b.list[number].bytes != out.size()) return Errno::corrupt;
  const disk::BlobItem &item = b.list[number];
  Buffer buf(usize{item.blocks} << b.m->geo.block_shift);
  if (buf.size() < out.size() || read_at(b.m->dev, item.start << b.m->geo.block_shift, buf) != Errno::ok)
    return Errno::corrupt;
  if (crc32c_of({buf.data(), out.size()}) != item.crc) return Errno::corrupt;
  memcpy(out.data(), buf.data(), out.size());
  return {};
}

// Collects the blobs that count; false: something about the items is wrong.
bool collect(const Model &m, u64 cid, const Value &head, Blobs &out) {
  if (disk::verify_index_header(as_bytes(head))) return false;
  const auto h = item_of<disk::IndexHeaderItem>(head);
  const disk::VectorLimits limits{m.geo.total_blocks, m.geo.block_size};
  const Items &items = m.trees[kCollections].items;
  for (auto it = items.lower_bound({cid, static_cast<u8>(VectorItem::index_blob), 0});
       it != items.end() && it->first.oid == cid && it->first.type == static_cast<u8>(VectorItem::index_blob); ++it) {
    if (disk::verify_blob(as_bytes(it->second), limits)) return false;
    const u32 number = disk::blob_number(it->first.off);
    if (disk::blob_generation(it->first.off) > h.generation || number >= h.nblobs) continue;
    if (number + 1 == out.list.size()) out.list.pop_back();  // as it was before
    if (number != out.list.size()) return false;
    out.list.push_back(item_of<disk::BlobItem>(it->second));
  }
  return h.nblobs == out.list.size();
}

bool sound(const Model &m, u64 cid, const disk::ConfigItem &config, u64 slots, const Value &head) {
  Blobs blobs{&m, {}};
  if (!collect(m, cid, head, blobs)) return false;
  const auto h = item_of<disk::IndexHeaderItem>(head);
  if (h.covered > slots) return false;
  if (h.kind != config.index) return true;  // left by an index that was replaced: the next checkpoint frees it
  Result<simd::Space> space = simd::Space::make(static_cast<simd::Element>(config.element),
                                                static_cast<simd::Metric>(config.metric), config.dim);
  if (!space.ok()) return false;
  vector::BlobSource source;
  source.ctx = &blobs;
  source.read = read_blob;
  const Bytes own = as_bytes(head).subspan(sizeof h);
  Result<vector::IndexPtr> index = vector::index_open(static_cast<vector::IndexKind>(u8{h.kind}), *space, own, source);
  if (!index.ok()) return false;
  vector::Scratch scratch(false, usize{1} << 30);
  vector::VerifyReport report;
  return (*index)->verify(&report, scratch).ok() && report.sound();
}

}  // namespace

void repair_recall(Model &m, u64 cid, u64 slots) {
  const auto it = m.vectors().find({cid, static_cast<u8>(VectorItem::recall), 0});
  if (it == m.vectors().end() || !disk::verify_recall(as_bytes(it->second), slots)) return;
  m.drop(kCollections, it);
  m.safe(cat(m.collection(cid), ": what was measured of its index makes no sense: it is dropped, and measured anew"));
}

void repair_index(Model &m, u64 cid, const disk::ConfigItem &config, u64 slots) {
  const auto head = m.vectors().find({cid, static_cast<u8>(VectorItem::index_header), 0});
  bool good = head == m.vectors().end() || sound(m, cid, config, slots, head->second);
  const disk::VectorLimits limits{m.geo.total_blocks, m.geo.block_size};
  auto it = m.vectors().lower_bound({cid, static_cast<u8>(VectorItem::index_blob), 0});
  for (; good && it != m.vectors().end() && it->first.oid == cid; ++it)
    good =
        it->first.type != static_cast<u8>(VectorItem::index_blob) || !disk::verify_blob(as_bytes(it->second), limits);
  if (good) return;
  it = m.vectors().lower_bound({cid, static_cast<u8>(VectorItem::index_header), 0});
  while (it != m.vectors().end() && it->first.oid == cid) it = m.drop(kCollections, it);
  m.safe(cat(m.collection(cid), ": its index checkpoint is damaged: it is dropped, and made anew when it is used"));
}

}  // namespace vexfs::repair
