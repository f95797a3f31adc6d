// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Graphs on disk: reading nodes, writing blobs. Everything read is checked: a list cannot lead where no row is, or be
// longer than a list is.
#include "diskann_mend.h"

namespace vexfs::vector {
namespace diskann_disk_impl {
namespace {

constexpr u32 tries = 4;  // of a read that gives what a checkpoint has just replaced
// Of rows for which there is a byte of units in the cache.
constexpr u32 cache_share = 32;
constexpr usize cache_min = usize{512} << 10, cache_max = usize{64} << 20;
constexpr u32 cached_node_max = 16384;  // bytes: copied under a spin lock

bool unit_good(u64 seed, u32 number, const u8 *unit) {
  DiskUnitHeader h;
  memcpy(&h, unit, sizeof h);
  return h.number == number && h.crc == disk_unit_crc(seed, unit);
}

}  // namespace
}  // namespace diskann_disk_impl

u32 DiskAnn::list_of(const DiskNode *node, u32 *out) const {
  u32 n = 0;
  for (; n < shape_.cap; n++) {
    const u32 s = node->link[n].load(std::memory_order_acquire);
    if (s == slot_none) break;
    out[n] = s;
  }
  return n;
}

u32 DiskAnn::list_of(const u8 *record, u32 *out) const {
  const u32 n = min_of<u32>(reinterpret_cast<const DiskRecordHeader *>(record)->degree, shape_.cap);
  const auto *links = reinterpret_cast<const le32 *>(record + shape_.links_at());
  u32 kept = 0;
  for (u32 i = 0; i < n; i++)
    if (links[i] <= slot_max) out[kept++] = links[i];
  return kept;
}

bool DiskAnn::units_good(u32 slot, const u8 *units) const {
  for (u32 u = 0; u < shape_.units_of_node; u++)
    if (!diskann_disk_impl::unit_good(params_.seed, first_unit(slot) + u, units + usize{u} * disk_unit_bytes))
      return false;
  return true;
}

// The record of a slot among its units, which are good, and are put together if they are several.
const u8 *DiskAnn::open_record(u32 slot, u8 *units) const {
  for (u32 u = 1; u < shape_.units_of_node; u++)
    memmove(units + sizeof(DiskUnitHeader) + usize{u} * disk_unit_payload,
            units + sizeof(DiskUnitHeader) + usize{u} * disk_unit_bytes, disk_unit_payload);
  return units + shape_.record_at(slot);
}

// Parts of blobs, or for those who can only read them whole, that.
Status DiskAnn::fetch_parts(const BlobPart *parts, u32 n) {
  if (source_.read_parts) return source_.read_parts(source_.ctx, parts, n);
  Vec<u8> whole;
  VX_TRY(whole.resize(shape_.blob_bytes()));
  for (u32 i = 0; i < n; i++) {
    VX_TRY(source_.read(source_.ctx, parts[i].blob, {whole.data(), whole.size()}));
    memcpy(parts[i].out.data(), whole.data() + parts[i].at, parts[i].out.size());
  }
  return {};
}

void DiskAnn::make_cache() {
  using namespace diskann_disk_impl;
  const usize rows = usize{stored_.load(std::memory_order_relaxed)} * shape_.row_bytes;
  if (shape_.node_bytes() <= cached_node_max)
    cache_.make(min_of(min_of(max_of(rows / cache_share, cache_min), cache_max), source_.memory), shape_.node_bytes());
}

Status DiskAnn::fetch(const u32 *slots, u32 n, u8 *buf, const u8 **records) {
  BlobPart part[blob_parts_max];
  u32 which[blob_parts_max], m = 0;
  const u32 bytes = shape_.node_bytes();
  const u64 version = cache_.version();
  const auto found = [&](u32 i, bool fresh) {
    u8 *units = buf + usize{i} * bytes;
    if (fresh && !units_good(slots[i], units)) return false;
    if (fresh) cache_.put(first_unit(slots[i]), units, version);
    const u8 *record = open_record(slots[i], units);
    if (reinterpret_cast<const DiskRecordHeader *>(record)->flags & disk_record_there) records[i] = record;
    return true;
  };
  for (u32 i = 0; i < n; i++) {
    records[i] = nullptr;
    if (!stored(slots[i])) continue;
    if (!cache_.get(first_unit(slots[i]), buf + usize{i} * bytes) || !found(i, false)) which[m++] = i;
  }
  for (u32 left = diskann_disk_impl::tries; m && left; left--) {
    for (u32 j = 0; j < m; j++) {
      const u32 slot = slots[which[j]];
      part[j] = {own_blob(slot >> shape_.shift), shape_.unit_of(slot) * disk_unit_bytes,
                 MutBytes(buf + usize{which[j]} * bytes, bytes)};
    }
    Status s = fetch_parts(part, m);
    if (s.code() == Errno::corrupt) return refuse("diskann: a checkpoint's blob is not what it should be");
    if (!s.ok() && s.code() != Errno::noent) return s;
    u32 still = 0;
    for (u32 j = 0; s.ok() && j < m; j++)
      if (!found(which[j], true)) which[still++] = which[j];
    if (s.ok()) m = still;
  }
  if (m) return refuse("diskann: a unit of the graph is damaged");
  return {};
}

// A blob as the last checkpoint has it: nothing if it has none.
Status DiskAnn::read_stored_blob(u32 number, Vec<u8> &buf) {
  buf.clear();
  if (!stored(number << shape_.shift)) return {};
  VX_TRY(buf.resize(shape_.blob_bytes()));
  return source_.read(source_.ctx, own_blob(number), {buf.data(), buf.size()});
}

// A slot's record in such a blob; null: it has none. Once for each slot.
Result<const u8 *> DiskAnn::stored_record(u32 slot, Vec<u8> &blob) {
  const u8 *none = nullptr;
  if (blob.empty() || !stored(slot)) return none;
  u8 *units = blob.data() + usize{shape_.unit_of(slot)} * disk_unit_bytes;
  if (!units_good(slot, units)) return refuse("diskann: a unit of the graph is damaged");
  const u8 *record = open_record(slot, units);
  return reinterpret_cast<const DiskRecordHeader *>(record)->flags & disk_record_there ? record : none;
}

// ------------------------------------------------------------------------------------------------------------- writing
// A record into the units of a blob.
void DiskAnn::put_record(u32 slot, const u8 *record, u8 *blob) const {
  const u32 begin = shape_.record_at(slot) - static_cast<u32>(sizeof(DiskUnitHeader));
  for (u32 done = 0; done < shape_.record_bytes;) {
    const u32 unit = shape_.unit_of(slot) + (begin + done) / disk_unit_payload, in = (begin + done) % disk_unit_payload;
    const u32 n = min_of(shape_.record_bytes - done, disk_unit_payload - in);
    memcpy(blob + usize{unit} * disk_unit_bytes + sizeof(DiskUnitHeader) + in, record + done, n);
    done += n;
  }
}

// The list of a node as a checkpoint of so many slots may have it. A list that is being changed may have a link twice.
u32 DiskAnn::storable(u32 slot, u32 covered, u32 *links, u32 n, bool *left_out) const {
  u32 kept = 0;
  for (u32 i = 0; i < n; i++) {
    const u32 s = links[i];
    bool bad = s == slot;
    for (u32 j = 0; j < kept && !bad; j++) bad = links[j] == s;
    if (bad) continue;
    if (s < covered && records_.present(s))
      links[kept++] = s;
    else
      *left_out = true;
  }
  return kept;
}

Status DiskAnn::save_node(u32 slot, u32 covered, Vec<u8> &before, Vec<u8> &record, u8 *out, RowView &rows,
                          bool *left_out) {
  DiskNode *node = nodes_kept_.peek(slot);
  if (!records_.present(slot) || slot >= covered) {
    *left_out |= node != nullptr;
    return {};
  }
  if (node) nodes_kept_.unchanged(node);
  const u8 *old = VX_TRY(stored_record(slot, before));
  memset(record.data(), 0, record.size());
  auto *links = reinterpret_cast<u32 *>(record.data() + shape_.links_at());
  u32 n = node ? list_of(node, links) : old ? list_of(old, links) : 0;
  bool some_left_out = false;
  n = storable(slot, covered, links, n, &some_left_out);
  if (some_left_out && node) nodes_kept_.changed(slot);
  *left_out |= some_left_out;
  memset(links + n, 0, usize{4} * (shape_.cap - n));
  auto *to = reinterpret_cast<le32 *>(links);
  for (u32 i = 0; i < n; i++) to[i] = links[i];
  DiskRecordHeader h{};
  h.degree = static_cast<u16>(n);
  h.flags = disk_record_there;
  if (old) {
    h.aux = reinterpret_cast<const DiskRecordHeader *>(old)->aux;
    memcpy(record.data() + row_at(), old + row_at(), shape_.row_bytes);
  } else {
    Result<const u8 *> row = rows.row(slot);
    if (!row.ok() && row.code() != Errno::noent) return row.error();
    if (row.ok()) {  // else it has gone: nobody will ask how near it is
      h.aux = rows.aux(*row, slot);
      memcpy(record.data() + row_at(), *row, shape_.row_bytes);
    }
  }
  memcpy(record.data(), &h, sizeof h);
  put_record(slot, record.data(), out);
  return {};
}

Status DiskAnn::save_own_blob(u32 number, u32 covered, MutBytes out, RowView &rows) {
  Vec<u8> before, record;
  VX_TRY(record.resize(shape_.record_bytes));
  VX_TRY(read_stored_blob(number, before));
  memset(out.data(), 0, out.size());
  const u32 first = number << shape_.shift;
  nodes_kept_.clear_dirty(number);
  bool left_out = false;
  Status s;
  for (u32 i = 0; i < shape_.slots() && s.ok(); i++)
    s = save_node(first + i, covered, before, record, out.data(), rows, &left_out);
  for (u32 u = 0; u < shape_.blob_units(); u++) {
    u8 *unit = out.data() + usize{u} * disk_unit_bytes;
    DiskUnitHeader h{};
    h.number = number * shape_.blob_units() + u;
    memcpy(unit, &h, sizeof h);
    h.crc = disk_unit_crc(params_.seed, unit);
    memcpy(unit, &h, sizeof h);
  }
  if (left_out || !s.ok()) nodes_kept_.mark_dirty(number);  // a later checkpoint, covering more, has more to store
  return s;
}

void DiskAnn::saved(u32 covered, const BlobSource &blobs) {
  if (must_learn()) return;
  if (!source_.read) source_ = blobs;
  stored_.store(covered, std::memory_order_release);
  DiskNode *gone;
  Vec<void *> segments;
  {
    Guard g(edit_);
    cache_.forget();  // first: who misses a list in memory reads the one that was stored now
    gone = nodes_kept_.take_clean();
    // Last: who has the new number has seen that they are gone.
    drops_.fetch_add(1, std::memory_order_release);
    release_segments(covered, segments);
  }
  rid_.store(false, std::memory_order_relaxed);
  make_cache();
  vx_epoch_synchronize(&epoch_);
  nodes_kept_.free(gone);
  for (void *s : segments) records_.release(s);
}

}  // namespace vexfs::vector
