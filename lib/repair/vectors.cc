// SPDX-License-Identifier: MIT
// Repair: collections. Rows are what counts; ids, bitmaps of the dead, counters and references follow from them.
#include <algorithm>

#include "../../kernel/core/api.h"
#include "../../kernel/core/base/crc.h"
#include "../../kernel/core/disk/vector_items_rows.h"
#include "../../kernel/core/simd/simd.h"
#include "files.h"

namespace vexfs::repair {
namespace {

using disk::RowRecord;
using disk::VectorItem;

Key key_of(u64 cid, VectorItem t, u64 off = 0) { return {cid, static_cast<u8>(t), off}; }

// One collection with a sound configuration.
class Collection {
 public:
  Collection(Model &m, u64 cid, const disk::ConfigItem &config) : m_(m), cid_(cid), config_(config) {}
  void run();

 private:
  struct Row {
    RowRecord r;
    bool lost = false;  // its group is: what is here is made up
  };
  std::string name() const { return m_.collection(cid_); }
  void for_items(VectorItem t, const std::function<bool(const Key &, const Value &)> &fn);  // false: the item goes
  void load_state();
  u64 slots_of_chunks();
  void load_rows();
  void pad(u64 slots);
  void chunks();
  void chunk_rows(u64 number, const disk::ChunkItem &item);
  void missing_chunks();
  void kill(u64 slot) {
    rows_[slot].r.death = std::max<u64>(m_.new_txn(), rows_[slot].r.birth);
    changed_.insert(slot / config_.rows_per_group);
  }
  void judge_rows();
  void name_lost_ids();
  bool ids_fit() const;
  void ids();
  void dead_bitmaps();
  void store_rows();
  void store_state();
  void unknown_items();

  Model &m_;
  const u64 cid_;
  const disk::ConfigItem config_;
  bool have_state_ = false;
  disk::StateItem state_{};
  std::vector<Row> rows_;
  std::set<u64> changed_;  // row groups
  std::set<u64> have_chunk_;
};

void Collection::for_items(VectorItem t, const std::function<bool(const Key &, const Value &)> &fn) {
  auto it = m_.vectors().lower_bound(key_of(cid_, t));
  while (it != m_.vectors().end() && it->first.oid == cid_ && it->first.type == static_cast<u8>(t))
    it = fn(it->first, it->second) ? std::next(it) : m_.drop(kCollections, it);
}

void Collection::load_state() {
  auto it = m_.vectors().find(key_of(cid_, VectorItem::state));
  have_state_ = it != m_.vectors().end() && !disk::verify_state(as_bytes(it->second));
  if (have_state_) state_ = item_of<disk::StateItem>(it->second);
  if (!have_state_) m_.ask(cat(name(), ": its counters are lost: they are made anew"));
}

// Slots up to there that no row group tells of: dead rows.
void Collection::pad(u64 slots) {
  while (rows_.size() < slots) {
    Row row;
    row.lost = true;
    row.r.birth = std::min<u64>(std::max<u64>(config_.birth, 1), m_.new_txn());
    row.r.death = m_.new_txn();
    changed_.insert(rows_.size() / config_.rows_per_group);
    rows_.push_back(row);
  }
}

// Up to where there can be slots, by the chunks. A key alone proves nothing: so many rows must find place on the device,
// and the counters, where there are any, must know of them.
u64 Collection::slots_of_chunks() {
  const u64 rows = config_.chunk_rows, device = m_.geo.total_blocks << m_.geo.block_shift;
  const disk::VectorLimits limits{m_.geo.total_blocks, m_.geo.block_size};
  u64 most = std::min<u64>(disk::kSlotsMax, device / std::max<u32>(config_.stride, 1));
  if (have_state_) most = std::min(most, align_up<u64>(state_.slots, rows));
  u64 end = 0;
  for_items(VectorItem::chunk, [&](const Key &k, const Value &v) {
    if (k.off < most / rows + 1 && !disk::verify_chunk(as_bytes(v), limits, rows * config_.stride))
      end = std::max(end, std::min(most, (k.off + 1) * rows));
    return true;
  });
  return end;
}

void Collection::load_rows() {
  const u32 per = config_.rows_per_group;
  std::vector<RowRecord> group(disk::kGroupRowsMax);
  const u64 chunks_end = slots_of_chunks();
  for_items(VectorItem::rows, [&](const Key &k, const Value &v) {
    Result<u32> n = disk::decode_rows(as_bytes(v), group.data());
    if (!n.ok() || *n > per || k.off > disk::kSlotsMax / per || k.off * per > std::max<u64>(chunks_end, rows_.size()))
      return false;  // what it held is lost, and padded
    pad(k.off * per);
    for (u32 i = 0; i < *n; i++) rows_.push_back({group[i], false});
    return true;
  });
  if (have_state_ && state_.slots > rows_.size() && state_.slots <= chunks_end) pad(state_.slots);
}

// Rows whose data is not there, or is not what was stored.
void Collection::chunk_rows(u64 number, const disk::ChunkItem &item) {
  const u64 first = number * config_.chunk_rows, bs = m_.geo.block_size;
  const u64 n = std::min<u64>(config_.chunk_rows, rows_.size() - first);
  const u32 row = config_.dim * simd::element_bytes(static_cast<simd::Element>(config_.element));
  Buffer data(div_up<u64>(n * config_.stride, bs) * bs);
  u64 at = 0;
  for (u32 i = 0; i < item.npieces; i++)
    for (u64 b = 0; b < item.pieces[i].blocks && at < data.size(); b++, at += bs)
      if (read_at(m_.dev, (item.pieces[i].start + b) << m_.geo.block_shift, {data.data() + at, bs}) != Errno::ok)
        memset(data.data() + at, 0, bs);
  for (u64 i = 0; i < n; i++) {
    Row &r = rows_[first + i];
    const bool there = i * config_.stride + row <= at;
    const u32 crc = crc32c_of({data.data() + i * config_.stride, row});
    if (r.lost) r.r.crc = crc;
    if (r.r.death || (there && crc == r.r.crc)) continue;
    m_.ask(cat(name(), ": vector ", r.r.id, " (slot ", first + i, ") is damaged: it is marked as dead"));
    kill(first + i);
  }
}

void Collection::chunks() {
  const disk::VectorLimits limits{m_.geo.total_blocks, m_.geo.block_size};
  for_items(VectorItem::chunk, [&](const Key &k, const Value &v) {
    const char *why = disk::verify_chunk(as_bytes(v), limits, u64{config_.chunk_rows} * config_.stride);
    if (!why && k.off > disk::kSlotsMax / config_.chunk_rows) why = "number";
    if (why) {
      m_.ask(cat(name(), ": chunk ", k.off, " makes no sense (", why, "): it is dropped"));
      return false;
    }
    auto item = item_of<disk::ChunkItem>(v);
    if (item.birth > m_.new_txn()) {
      item.birth = m_.new_txn();
      Value now(v);
      memcpy(now.data(), &item, now.size());
      m_.put(kCollections, k, now);
    }
    have_chunk_.insert(k.off);
    if (k.off * config_.chunk_rows < rows_.size()) chunk_rows(k.off, item);
    return true;
  });
  missing_chunks();
}

void Collection::missing_chunks() {
  u64 lost = 0;
  for (u64 s = 0; s < rows_.size(); s++) {
    if (rows_[s].r.death || have_chunk_.count(s / config_.chunk_rows)) continue;
    kill(s);
    lost++;
  }
  if (lost) m_.ask(cat(name(), ": ", lost, " vectors have lost their data: they are marked as dead"));
  // New rows are appended to the last chunk if it is not full: there must be one.
  if (!rows_.empty() && rows_.size() % config_.chunk_rows && !have_chunk_.count(rows_.size() / config_.chunk_rows))
    pad(align_up<u64>(rows_.size(), config_.chunk_rows));
}

void Collection::judge_rows() {
  std::map<u64, u64> slot_of;
  for (u64 s = 0; s < rows_.size(); s++) {
    RowRecord &r = rows_[s].r;
    if (r.birth > m_.new_txn() || r.death > m_.new_txn() || (r.death && r.death < r.birth)) {
      r.birth = std::min(r.birth, m_.new_txn());
      if (r.death) r.death = std::max(r.birth, std::min(r.death, m_.new_txn()));
      changed_.insert(s / config_.rows_per_group);
      m_.ask(cat(name(), ": birth or death of slot ", s, " is corrected"));
    }
    if (r.death) continue;
    if (r.owner && !m_.files().count(first_of(r.owner, disk::FsItem::inode))) {
      m_.ask(cat(name(), ": vector ", r.id, " belongs to inode ", r.owner, ", which is gone: it is marked as dead"));
      kill(s);
      continue;
    }
    auto [it, fresh] = slot_of.insert({r.id, s});
    if (fresh) continue;
    m_.ask(cat(name(), ": vector ", r.id, " is there twice: the older one is marked as dead"));
    kill(it->second);
    it->second = s;
  }
}

// Rows whose group is lost have their ids in the map of ids.
void Collection::name_lost_ids() {
  u64 lost = 0, named = 0;
  for (const Row &r : rows_) lost += r.lost;
  if (!lost) return;
  std::string list;
  for_items(VectorItem::ids, [&](const Key &k, const Value &v) {
    if (disk::verify_id_run(as_bytes(v), k.off)) return true;
    const auto run = item_of<disk::IdRunItem>(v);
    for (u64 i = 0; i < run.count; i++) {
      const u64 slot = u64{run.slot} + i;
      if (slot >= rows_.size() || !rows_[slot].lost || named++ >= 64) continue;
      list += cat(list.empty() ? "" : ", ", k.off + i);
    }
    return true;
  });
  m_.ask(cat(name(), ": ", lost, " slots have lost their metadata, they count as dead",
             list.empty() ? "" : cat("; vectors ", list, named > 64 ? " ..." : "")));
}

bool Collection::ids_fit() const {
  std::vector<bool> mapped(rows_.size());
  for (auto it = m_.trees[kCollections].items.lower_bound(key_of(cid_, VectorItem::ids));
       it != m_.trees[kCollections].items.end() && it->first.oid == cid_ &&
       it->first.type == static_cast<u8>(VectorItem::ids);
       ++it) {
    if (disk::verify_id_run(as_bytes(it->second), it->first.off)) return false;
    const auto run = item_of<disk::IdRunItem>(it->second);
    for (u64 i = 0; i < run.count; i++) {
      const u64 slot = u64{run.slot} + i;
      if (slot >= rows_.size()) return false;
      if (rows_[slot].r.death) continue;
      if (rows_[slot].r.id != it->first.off + i || mapped[slot]) return false;
      mapped[slot] = true;
    }
  }
  for (u64 s = 0; s < rows_.size(); s++)
    if (!rows_[s].r.death && !mapped[s]) return false;
  return true;
}

void Collection::ids() {
  if (ids_fit()) return;
  m_.ask(cat(name(), ": the map of ids is made anew from the rows"));
  for_items(VectorItem::ids, [](const Key &, const Value &) { return false; });
  std::map<u64, u64> slot_of;
  for (u64 s = 0; s < rows_.size(); s++)
    if (!rows_[s].r.death) slot_of[rows_[s].r.id] = s;
  for (auto it = slot_of.begin(); it != slot_of.end();) {
    const u64 id = it->first, slot = it->second;
    u32 n = 0;
    while (it != slot_of.end() && it->first == id + n && it->second == slot + n) {
      ++it;
      n++;
    }
    disk::IdRunItem run{};
    run.slot = static_cast<u32>(slot);
    run.count = n;
    m_.put(kCollections, key_of(cid_, VectorItem::ids, id), value_of(run));
  }
}

void Collection::dead_bitmaps() {
  const u64 per = config_.chunk_rows, chunks = div_up<u64>(rows_.size(), per);
  u64 wrong = 0;
  for_items(VectorItem::dead, [&](const Key &k, const Value &) { return k.off < chunks; });
  for (u64 c = 0; c < chunks; c++) {
    Value bits(per / 8);
    bool any = false;
    for (u64 i = 0; i < per && c * per + i < rows_.size(); i++) {
      if (!rows_[c * per + i].r.death) continue;
      bits[i / 8] |= static_cast<u8>(1u << (i % 8));
      any = true;
    }
    const Key k = key_of(cid_, VectorItem::dead, c);
    auto it = m_.vectors().find(k);
    if (it == m_.vectors().end() ? !any : it->second == bits) continue;
    wrong++;
    m_.put(kCollections, k, bits);
  }
  if (wrong) m_.ask(cat(name(), ": the marks of dead vectors are corrected in ", wrong, " chunks"));
}

void Collection::store_rows() {
  const u32 per = config_.rows_per_group;
  std::vector<u8> buf(disk::group_bytes_max(disk::kGroupRowsMax));
  std::vector<RowRecord> group(per);
  for (u64 g : changed_) {
    const u32 n = static_cast<u32>(std::min<u64>(per, rows_.size() - g * per));
    for (u32 i = 0; i < n; i++) group[i] = rows_[g * per + i].r;
    const usize bytes = disk::encode_rows(group.data(), n, buf);
    m_.put(kCollections, key_of(cid_, VectorItem::rows, g),
           Value(buf.begin(), buf.begin() + static_cast<ptrdiff_t>(bytes)));
  }
}

void Collection::store_state() {
  disk::StateItem now = state_;
  u64 live = 0, owned = 0, next_id = 1;
  for (const Row &r : rows_) {
    live += r.r.death == 0;
    owned += r.r.owner != 0;
    next_id = std::max(next_id, r.r.id + 1);
  }
  now.slots = rows_.size();
  now.live = live;
  if (!have_state_) now.next_id = next_id;
  if (owned > now.owned) now.owned = owned;
  if (have_state_ && now.slots == state_.slots && now.live == state_.live && now.owned == state_.owned) return;
  now.last_txn = m_.new_txn();
  m_.put(kCollections, key_of(cid_, VectorItem::state), value_of(now));
  if (have_state_) m_.ask(cat(name(), ": its counters are corrected"));
}

void Collection::unknown_items() {
  auto it = m_.vectors().lower_bound({cid_, 0, 0});
  while (it != m_.vectors().end() && it->first.oid == cid_) {
    const Key &k = it->first;
    const bool single = k.type == static_cast<u8>(VectorItem::config) || k.type == static_cast<u8>(VectorItem::state) ||
                        k.type == static_cast<u8>(VectorItem::index_header) ||
                        k.type == static_cast<u8>(VectorItem::recall);
    if (k.type >= 1 && k.type <= disk::kVectorItemLast && !(single && k.off)) {
      ++it;
      continue;
    }
    m_.ask(cat(name(), ": an unknown item (", k.type, ", ", k.off, ") is dropped"));
    it = m_.drop(kCollections, it);
  }
}

void Collection::run() {
  unknown_items();
  load_state();
  load_rows();
  chunks();
  name_lost_ids();
  judge_rows();
  store_rows();
  ids();
  dead_bitmaps();
  store_state();
  repair_index(m_, cid_, config_, rows_.size());
  repair_recall(m_, cid_, rows_.size());
}

}  // namespace

std::string Model::collection(u64 cid) {
  const auto c = get<disk::ConfigItem>(kCollections, key_of(cid, VectorItem::config));
  if (c && c->name[0])
    return cat("collection ", cid, " ", quoted(bytes_of(c->name).first(strnlen(c->name, sizeof c->name))));
  u64 dir = c ? c->dir_ino.get() : 0;
  for (auto it = vectors().begin(); !dir && it != vectors().end() && it->first.oid == 0; ++it)
    if (it->first.type == disk::kRegistryByDir && item_of<disk::DirEntryItem>(it->second).cid == cid)
      dir = it->first.off;
  return dir ? cat("collection ", cid, " of ", path_of(dir)) : cat("collection ", cid);
}

namespace {

// ---------------------------------------------------------------- registry
class Registry {
 public:
  explicit Registry(Model &m) : m_(m) {}
  void run();

 private:
  void judge_items();
  void drop_collection(u64 cid);
  void tell_lost();
  std::string kept_by(u64 dir) const;
  void match_directories();
  void disown(u64 cid);
  void release(u64 cid, disk::ConfigItem &c, const char *why);
  bool directory(u64 ino) const {
    const auto i = m_.get<disk::DiskInode>(kFs, first_of(ino, disk::FsItem::inode));
    return i && (i->mode & disk::kModeType) == disk::kModeDir;
  }
  Model &m_;
  std::map<u64, disk::ConfigItem> configs_;
  mutable std::map<u64, std::set<u64>> snapshot_dirs_;  // by snapshot: inodes with a collection
};

void Registry::drop_collection(u64 cid) {
  auto it = m_.vectors().lower_bound({cid, 0, 0});
  while (it != m_.vectors().end() && it->first.oid == cid) it = m_.drop(kCollections, it);
}

void Registry::judge_items() {
  for (auto it = m_.vectors().begin(); it != m_.vectors().end() && it->first.oid == 0;) {
    const Key k = it->first;
    const bool fine = k.type == disk::kRegistryByDir       ? it->second.size() == sizeof(disk::DirEntryItem)
                      : k.type == disk::kRegistryTombstone ? k.off && k.off <= 0xffffffff
                                                           : k.type == disk::kRegistryDeadOwner;
    if (fine) {
      ++it;
      continue;
    }
    m_.ask(cat("the list of collections: an item makes no sense (", k.type, ", ", k.off, "): it is dropped"));
    it = m_.drop(kCollections, it);
  }
  for (u64 cid = 0;;) {
    auto it = m_.vectors().lower_bound({cid + 1, 0, 0});
    if (it == m_.vectors().end()) break;
    cid = it->first.oid;
    auto c = m_.vectors().find(key_of(cid, VectorItem::config));
    const char *why = c == m_.vectors().end() ? "lost" : disk::verify_config(as_bytes(c->second), cid);
    if (!why) {
      configs_[cid] = item_of<disk::ConfigItem>(c->second);
      continue;
    }
    const bool only_state = it->first.type == static_cast<u8>(VectorItem::state) &&
                            (std::next(it) == m_.vectors().end() || std::next(it)->first.oid != cid);
    if (only_state && m_.vectors().count({0, disk::kRegistryTombstone, cid})) continue;  // the end of a drop
    m_.ask(cat(m_.collection(cid), ": its configuration is damaged (", why,
               "): without it nobody can tell what its data means; it is removed"));
    drop_collection(cid);
    if (cid == ~u64{0}) break;
  }
}

// A mount frees it, as after a drop.
void Registry::release(u64 cid, disk::ConfigItem &c, const char *why) {
  m_.ask(cat(m_.collection(cid), ": ", why));
  c.flags = c.flags | disk::kConfigDropped;
  m_.put(kCollections, key_of(cid, VectorItem::config), value_of(c));
  m_.put(kCollections, {0, disk::kRegistryTombstone, cid}, {});
}

// The snapshots whose state still has a collection for that directory.
std::string Registry::kept_by(u64 dir) const {
  std::string list;
  for (const SnapshotModel &s : m_.snapshots) {
    auto it = snapshot_dirs_.find(s.id);
    if (it == snapshot_dirs_.end()) {
      TreeModel t;
      walk_tree(m_, kCollections, disk::kept_root(s.item, kCollections), t);
      it = snapshot_dirs_.emplace(s.id, std::set<u64>{}).first;
      for (const auto &[k, v] : t.items)
        if (k.oid == 0 && k.type == disk::kRegistryByDir) it->second.insert(k.off);
    }
    if (it->second.count(dir))
      list +=
          cat(list.empty() ? "" : ", ", quoted(bytes_of(s.item.name).first(strnlen(s.item.name, sizeof s.item.name))));
  }
  return list;
}

// Directories that say that they carry a collection, where there is none.
void Registry::tell_lost() {
  std::set<u64> have;
  for (const auto &[cid, c] : configs_)
    if (!(c.flags & disk::kConfigDropped)) have.insert(c.dir_ino);
  std::vector<u64> lost;
  for (const auto &[k, v] : m_.files())
    if (k.oid && k.type == static_cast<u8>(disk::FsItem::inode) &&
        item_of<disk::DiskInode>(v).flags & VX_INODE_COLLECTION && !have.count(k.oid))
      lost.push_back(k.oid);
  for (u64 dir : lost) {
    const std::string kept = kept_by(dir);
    m_.ask(cat(m_.path_of(dir), ": its collection is lost",
               kept.empty() ? "; no snapshot has it" : cat("; it is still in snapshot ", kept)));
  }
  if (m_.trees[kCollections].damaged())
    m_.ask("the collections tree is damaged: collections, or vectors of those that are left, may have been lost");
}

void Registry::match_directories() {
  for (auto &[cid, c] : configs_) {
    const Key tomb{0, disk::kRegistryTombstone, cid}, by_dir{0, disk::kRegistryByDir, c.dir_ino};
    const bool dropped = c.flags & disk::kConfigDropped, recorded = m_.vectors().count(tomb) != 0;
    if (dropped && !recorded) {
      m_.put(kCollections, tomb, {});
      m_.ask(cat(m_.collection(cid), ": is dropped, which is recorded now"));
    }
    if (dropped) continue;
    if (recorded) {
      m_.drop(kCollections, m_.vectors().find(tomb));
      m_.ask(cat(m_.collection(cid), ": is not dropped, the record of that is removed"));
    }
    const auto entry = m_.get<disk::DirEntryItem>(kCollections, by_dir);
    if (!directory(c.dir_ino)) {
      release(cid, c, "its directory is gone: it is dropped");
    } else if (!entry || !configs_.count(entry->cid)) {
      disk::DirEntryItem e{};
      e.cid = cid;
      m_.put(kCollections, by_dir, value_of(e));
      m_.ask(cat(m_.collection(cid), ": is entered for its directory again"));
    } else if (entry->cid != cid) {
      release(cid, c, "its directory carries another one: it is dropped");
    }
  }
  for (auto it = m_.vectors().begin(); it != m_.vectors().end() && it->first.oid == 0;) {
    const u64 cid = it->first.type == disk::kRegistryByDir ? item_of<disk::DirEntryItem>(it->second).cid.get() : 0;
    const auto c = configs_.find(cid);
    const bool fine =
        it->first.type != disk::kRegistryByDir ||
        (c != configs_.end() && !(c->second.flags & disk::kConfigDropped) && c->second.dir_ino == it->first.off);
    if (fine) {
      ++it;
      continue;
    }
    m_.ask(cat(m_.path_of(it->first.off), ": carries no collection any more"));
    it = m_.drop(kCollections, it);
  }
}

// Of a collection that is being freed: rows of owners that are gone are dead already.
void Registry::disown(u64 cid) {
  std::vector<RowRecord> group(disk::kGroupRowsMax);
  std::vector<u8> buf(disk::group_bytes_max(disk::kGroupRowsMax));
  std::vector<std::pair<Key, Value>> changes;
  auto it = m_.vectors().lower_bound(key_of(cid, VectorItem::rows));
  for (; it != m_.vectors().end() && it->first.oid == cid && it->first.type == static_cast<u8>(VectorItem::rows);
       ++it) {
    Result<u32> n = disk::decode_rows(as_bytes(it->second), group.data());
    bool changed = false;
    for (u32 i = 0; n.ok() && i < *n; i++) {
      RowRecord &r = group[i];
      if (r.death || !r.owner || m_.files().count(first_of(r.owner, disk::FsItem::inode))) continue;
      r.death = m_.new_txn();
      changed = true;
    }
    if (!changed) continue;
    const usize bytes = disk::encode_rows(group.data(), *n, buf);
    changes.push_back({it->first, Value(buf.begin(), buf.begin() + static_cast<ptrdiff_t>(bytes))});
  }
  for (auto &[k, v] : changes) m_.put(kCollections, k, std::move(v));
}

void Registry::run() {
  judge_items();
  tell_lost();
  match_directories();
  disk::VectorRootBlob blob;
  memcpy(&blob, m_.blobs[kCollections], sizeof blob);
  const u64 next = configs_.empty() ? 0 : configs_.rbegin()->first + 1;
  if (next > 1 && blob.next_cid < next) {
    blob.next_cid = next;
    memcpy(m_.blobs[kCollections], &blob, sizeof blob);
    m_.header_wrong = true;
    m_.safe("the counter of collections is corrected");
  }
  for (const auto &[cid, c] : configs_) {
    if (c.flags & disk::kConfigDropped)
      disown(cid);
    else
      Collection(m_, cid, c).run();
  }
}

}  // namespace

void repair_vectors(Model &m) { Registry(m).run(); }

}  // namespace vexfs::repair
