// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What was measured of an index, to and from its item in the tree (disk::RecallItem).
//
// It is written by who measures and with checkpoints, never by a search; read when the collection is opened, also that of a
// snapshot or of a filesystem that must not be written to. The item names the parameters of the index that was measured, so
// it does not matter in which order it and a change of the index reach the disk.
#include "../base/crc.h"
#include "index_keeper.h"

namespace vexfs::vector {
namespace recall_item_impl {
namespace {

static_assert(RecallCurve::points == disk::kRecallPoints && RecallCurve::classes == disk::kRecallClasses &&
              recall_scale == disk::kRecallScale);

constexpr u64 retry_ns = 60'000'000'000;  // after a failure

// What says of which index the item is.
u32 name_of(const IndexParams &p) {
  const u64 numbers[] = {
      static_cast<u64>(p.kind), p.m, p.ef_construction, p.seed, p.lists, p.probes, p.pq_m, p.tables, p.bits,
      static_cast<u64>(p.codes)};
  le64 stored[std::size(numbers)];
  for (u32 i = 0; i < std::size(numbers); i++) stored[i] = numbers[i];
  return crc32c_of(bytes_of(stored));
}

// To an item or from one: their fields have the same names.
template <class From, class To>
void copy_curve(const From &from, To *to) {
  to->slots = from.slots;
  to->dead = from.dead;
  to->queries = from.queries;
  to->walked = from.walked;
  to->by = from.by;
  to->tried = from.tried;
  for (u32 k = 0; k < RecallCurve::classes; k++)
    for (u32 i = 0; i < RecallCurve::points; i++) {
      to->mean[k][i] = from.mean[k][i];
      to->sure[k][i] = from.sure[k][i];
    }
}

}  // namespace
}  // namespace recall_item_impl

// What cannot be read, or makes no sense, is as if it were not there: it will be measured again. nomem.
Status IndexKeeper::load_recall() {
  disk::RecallItem item{};
  Result<usize> r =
      volume_.tree(store::TreeId::collections).get(item_key(table_.cid(), VectorItem::recall), mut_bytes_of(item));
  if (r.code() == Errno::noent) return {};
  if (r.code() == Errno::nomem) return r.error();
  const char *bad = r.code() == Errno::range ? "length"
                    : !r.ok()                ? "cannot be read"
                                             : disk::verify_recall({bytes_of(item).data(), *r}, table_.slots());
  if (bad) {
    volume_.log(VX_LOG_WARN)
        .str("collection ")
        .dec(table_.cid())
        .str(": item recall: ")
        .str(bad)
        .str("; it will be measured again");
    return {};
  }
  if (item.index != recall_item_impl::name_of(params())) return {};
  RecallCurve curve;
  recall_item_impl::copy_curve(item, &curve);
  recall_.restore(curve, item.flags & disk::kRecallOutdated);
  return {};
}

void IndexKeeper::save_recall() {
  RecallTuner::Measured now;
  if (volume_.read_only() || !recall_.unsaved(&now)) return;
  if (vx_clock_mono_ns() < recall_save_after_.load(std::memory_order_relaxed)) return;
  Guard g(recall_save_);
  const u32 name = recall_item_impl::name_of(params());
  // Not while the index is replaced: what was measured of one must not be stored as the other's.
  if (!recall_.unsaved(&now) || name != recall_item_impl::name_of(params())) return;
  store::Tree &tree = volume_.tree(store::TreeId::collections);
  const store::Key key = item_key(table_.cid(), VectorItem::recall);
  Result<store::Handle> h = volume_.begin({.items = 1, .freeing = !now.curve.measured()});
  Status s;
  if (!h.ok()) {
    s = h.error();
  } else if (now.curve.measured()) {
    disk::RecallItem item{};
    item.version = disk::kRecallVersion;
    recall_item_impl::copy_curve(now.curve, &item);
    item.index = name;
    item.flags = now.outdated ? disk::kRecallOutdated : 0;
    s = tree.upsert(*h, key, bytes_of(item));
  } else {
    s = tree.erase(*h, key);
    if (s.code() == Errno::noent) s = {};
  }
  if (s.ok()) return recall_.saved(now.version);
  // What fails now fails in the next round, too: on a full disk each attempt may cost commits.
  recall_save_after_.store(vx_clock_mono_ns() + recall_item_impl::retry_ns, std::memory_order_relaxed);
}

}  // namespace vexfs::vector
