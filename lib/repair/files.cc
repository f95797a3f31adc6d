// SPDX-License-Identifier: MIT
// Repair: the items of each inode, by themselves and against each other. Names come in files_names.cc.
#include "files.h"

#include <algorithm>

#include "../../kernel/core/api.h"

namespace vexfs::repair {

using disk::FsItem;

Key first_of(u64 ino, FsItem t) { return {ino, static_cast<u8>(t), 0}; }
Key last_of(u64 ino, FsItem t) { return {ino, static_cast<u8>(t), ~u64{0}}; }

u64 name_hash(const Model &m, Bytes name) {
  le64 words[2];
  memcpy(words, m.super.hash_key, sizeof words);
  const u64 hash = siphash(SipKey{words[0], words[1]}, name) >> 8;
  return hash < 2 ? hash + 2 : hash;
}

namespace {

class Objects {
 public:
  explicit Objects(Model &m) : m_(m) {}
  void run();

 private:
  struct Object {
    u64 ino = 0;
    bool has_inode = false;
    disk::DiskInode inode{};
    u64 type() const { return inode.mode & disk::kModeType; }
  };
  void verify_items();
  void learn_types();
  void collections_directories();
  bool any(u64 ino, FsItem t) const {
    auto it = m_.files().lower_bound(first_of(ino, t));
    return it != m_.files().end() && it->first.oid == ino && it->first.type == static_cast<u8>(t);
  }
  usize drop_all(u64 ino, FsItem t);
  void drop_object(u64 ino);
  bool orphan(u64 ino) const { return m_.files().count({0, static_cast<u8>(FsItem::orphan), ino}) != 0; }
  void object(u64 ino);
  bool make_inode(Object &o);
  bool contents(Object &o);
  bool regular(Object &o);
  void extents(u64 ino, u64 *blocks);
  void missing_sums(u64 ino);
  bool has_sum(u64 ino, u64 block) const;
  u64 inline_bytes(u64 ino);
  void xattrs(u64 ino, u32 *count);
  void store(const Object &o, const disk::DiskInode &before);
  std::string name(u64 ino) { return m_.path_of(ino); }

  Model &m_;
  std::unordered_map<u64, u8> types_;  // as names say
};

void Objects::verify_items() {
  const disk::FsLimits limits{m_.geo.total_blocks, m_.geo.block_size};
  for (auto it = m_.files().begin(); it != m_.files().end();) {
    const Key k = it->first;
    const char *why = disk::verify_fs_item(k.oid, k.type, k.off, as_bytes(it->second), limits);
    if (!why) {
      ++it;
      continue;
    }
    m_.ask(k.oid ? cat(name(k.oid), ": ", why, ": the item is dropped") : cat(why, ": the record is dropped"));
    it = m_.drop(kFs, it);
  }
}

void Objects::learn_types() {
  for (const auto &[k, v] : m_.files())
    if (k.oid && k.type == static_cast<u8>(FsItem::dirent)) {
      const auto d = item_of<disk::DiskDirent>(v);
      if (d.ino) types_[d.ino] = d.type;
    }
}

// A collection outlives the loss of its directory's inode: its vectors are all there.
void Objects::collections_directories() {
  for (const auto &[k, v] : m_.vectors()) {
    if (k.oid == 0 || k.type != static_cast<u8>(disk::VectorItem::config)) continue;
    if (disk::verify_config(as_bytes(v), k.oid)) continue;
    const auto c = item_of<disk::ConfigItem>(v);
    if ((c.flags & disk::kConfigDropped) || orphan(c.dir_ino)) continue;
    if (m_.files().count(first_of(c.dir_ino, FsItem::inode))) continue;
    Object o;
    o.ino = c.dir_ino;
    types_[o.ino] = disk::dirent_type(disk::kModeDir);
    if (!make_inode(o)) continue;
    m_.put(kFs, first_of(o.ino, FsItem::inode), value_of(o.inode));
    m_.ask(
        cat(name(o.ino), ": the inode of a collection's directory is lost: it gets a new one, which belongs to root"));
  }
}

usize Objects::drop_all(u64 ino, FsItem t) {
  usize n = 0;
  auto it = m_.files().lower_bound(first_of(ino, t));
  while (it != m_.files().end() && it->first.oid == ino && it->first.type == static_cast<u8>(t)) {
    it = m_.drop(kFs, it);
    n++;
  }
  return n;
}

void Objects::drop_object(u64 ino) {
  auto it = m_.files().lower_bound({ino, 0, 0});
  while (it != m_.files().end() && it->first.oid == ino) it = m_.drop(kFs, it);
}

// What an inode was can be seen from its name or from what it has. It belongs to root then, and nobody else may read it.
bool Objects::make_inode(Object &o) {
  u32 type = types_.count(o.ino) ? u32{types_[o.ino]} << 12 : 0;
  if (!type && any(o.ino, FsItem::dirent)) type = disk::kModeDir;
  if (!type && (any(o.ino, FsItem::extent) || any(o.ino, FsItem::inline_data))) type = disk::kModeFile;
  if (type != disk::kModeDir && type != disk::kModeFile && type != disk::kModeLink) return false;
  disk::DiskInode &i = o.inode;
  i.mode = type | (type == disk::kModeFile ? 0600 : type == disk::kModeDir ? 0700 : 0777);
  i.nlink = 1;
  i.parent = o.ino;
  i.version = 1;
  i.birth = m_.new_txn();
  u32 generation;
  vx_random_bytes(&generation, sizeof generation);
  i.generation = generation;
  s64 sec;
  u32 nsec;
  vx_clock_real(&sec, &nsec);
  for (disk::DiskTime *t : {&i.atime, &i.mtime, &i.ctime, &i.btime}) {
    t->sec = static_cast<u64>(sec);
    t->nsec = nsec;
  }
  if (type == disk::kModeLink) i.size = inline_bytes(o.ino);
  if (type == disk::kModeFile && any(o.ino, FsItem::inline_data)) {
    i.flags = VX_INODE_INLINE;
    i.size = inline_bytes(o.ino);
  } else if (type == disk::kModeFile) {
    for (auto it = m_.files().lower_bound(first_of(o.ino, FsItem::extent));
         it != m_.files().end() && it->first <= last_of(o.ino, FsItem::extent); ++it)
      i.size = (it->first.off + item_of<disk::DiskExtent>(it->second).count) << m_.geo.block_shift;
  }
  o.has_inode = true;
  return true;
}

// Bytes of inline pieces without a gap; what comes behind a gap goes.
u64 Objects::inline_bytes(u64 ino) {
  u64 bytes = 0;
  auto it = m_.files().lower_bound(first_of(ino, FsItem::inline_data));
  while (it != m_.files().end() && it->first <= last_of(ino, FsItem::inline_data)) {
    if (it->first.off == bytes) {
      bytes += it->second.size();
      ++it;
      continue;
    }
    it = m_.drop(kFs, it);
  }
  return bytes;
}

bool Objects::has_sum(u64 ino, u64 block) const {
  const u64 base = align_down<u64>(block, disk::kSumsPerItem);
  const auto it = m_.trees[kFs].items.find({ino, static_cast<u8>(FsItem::extent_checksum), base});
  return it != m_.trees[kFs].items.end() && it->second.size() > (block - base) * sizeof(le32);
}

// Data whose checksums are lost is kept, but counts as having none: it is never given new ones here.
void Objects::missing_sums(u64 ino) {
  std::vector<std::pair<Key, disk::DiskExtent>> parts;
  u64 lost = 0;
  for (auto it = m_.files().lower_bound(first_of(ino, FsItem::extent));
       it != m_.files().end() && it->first <= last_of(ino, FsItem::extent); ++it) {
    const auto e = item_of<disk::DiskExtent>(it->second);
    if (!(e.flags & disk::kExtentSummed)) continue;
    bool whole = true;
    for (u32 i = 0; i < e.count && whole; i++) whole = has_sum(ino, it->first.off + i);
    if (whole) continue;
    for (u32 from = 0, to; from < e.count; from = to) {
      const bool summed = has_sum(ino, it->first.off + from);
      for (to = from + 1; to < e.count && has_sum(ino, it->first.off + to) == summed;) to++;
      disk::DiskExtent part = e;
      part.disk = e.disk + from;
      part.count = to - from;
      if (!summed) part.flags = e.flags & ~disk::kExtentSummed;
      lost += summed ? 0 : to - from;
      parts.push_back({{ino, it->first.type, it->first.off + from}, part});
    }
  }
  for (auto &[k, e] : parts) m_.put(kFs, k, value_of(e));
  if (lost) m_.ask(cat(name(ino), ": the checksums of ", lost, " blocks are lost: the data is kept unchecked"));
}

void Objects::extents(u64 ino, u64 *blocks) {
  u64 end = 0;
  *blocks = 0;
  auto it = m_.files().lower_bound(first_of(ino, FsItem::extent));
  while (it != m_.files().end() && it->first <= last_of(ino, FsItem::extent)) {
    auto e = item_of<disk::DiskExtent>(it->second);
    if (it->first.off < end) {
      m_.ask(cat(name(ino), ": its extent at block ", it->first.off, " overlaps the one before: it is dropped"));
      it = m_.drop(kFs, it);
      continue;
    }
    if (e.birth > m_.new_txn() || e.birth == 0) {
      e.birth = m_.new_txn();
      m_.put(kFs, it->first, value_of(e));
      m_.ask(cat(name(ino), ": the birth of an extent is corrected"));
    }
    end = it->first.off + e.count;
    *blocks += e.count;
    ++it;
  }
}

bool Objects::regular(Object &o) {
  disk::DiskInode &i = o.inode;
  const u64 ino = o.ino;
  const u64 bytes = inline_bytes(ino);
  const bool flag = i.flags & VX_INODE_INLINE, there = any(ino, FsItem::inline_data);
  if (flag && there && drop_all(ino, FsItem::extent)) m_.ask(cat(name(ino), ": inline and in extents: these go"));
  if (!flag && there) {
    if (any(ino, FsItem::extent) || i.size != bytes) {
      drop_all(ino, FsItem::inline_data);
      m_.ask(cat(name(ino), ": inline data that it does not know of is dropped"));
    } else {
      i.flags = i.flags | VX_INODE_INLINE;
      m_.ask(cat(name(ino), ": is marked as inline"));
    }
  }
  if (flag && !there) {
    i.flags = i.flags & ~u64{VX_INODE_INLINE};
    if (!any(ino, FsItem::extent)) i.size = 0;
    m_.ask(cat(name(ino), ": its contents are lost: it is empty now"));
  }
  if (flag && there && i.size != bytes) {
    i.size = bytes;
    m_.ask(cat(name(ino), ": its size is corrected to the ", bytes, " bytes that are there"));
  }
  return true;
}

// False: nothing sensible is left of it.
bool Objects::contents(Object &o) {
  const u64 type = o.type(), ino = o.ino;
  if (type != disk::kModeDir && drop_all(ino, FsItem::dirent))
    m_.ask(cat(name(ino), ": is no directory: the names in it are dropped"));
  if (type != disk::kModeFile) {
    if (drop_all(ino, FsItem::extent)) m_.ask(cat(name(ino), ": is no regular file: its extents are dropped"));
    drop_all(ino, FsItem::extent_checksum);
    if (o.inode.flags & VX_INODE_INLINE) {
      o.inode.flags = o.inode.flags & ~u64{VX_INODE_INLINE};
      m_.ask(cat(name(ino), ": is no regular file, and not inline"));
    }
    if (type != disk::kModeLink && drop_all(ino, FsItem::inline_data))
      m_.ask(cat(name(ino), ": inline data in an inode of this type is dropped"));
  }
  if (type == disk::kModeFile) return regular(o);
  if (type == disk::kModeLink && (inline_bytes(ino) != o.inode.size || o.inode.size == 0)) {
    m_.ask(cat(name(ino), ": the target of the symlink is damaged: it is removed"));
    return false;
  }
  return true;
}

// Values that are whole stay, the others go with their names.
void Objects::xattrs(u64 ino, u32 *count) {
  const u64 full = std::min<u64>(disk::kXattrPiece, m_.geo.max_item());
  std::set<u64> values;
  for (auto it = m_.files().lower_bound(first_of(ino, FsItem::xattr));
       it != m_.files().end() && it->first <= last_of(ino, FsItem::xattr);) {
    const auto x = item_of<disk::DiskXattr>(it->second);
    if (!x.name_len || !(x.flags & disk::kXattrChunked)) {
      ++it;
      continue;
    }
    bool whole = !values.count(x.value_id);
    const u64 pieces = div_up<u64>(x.size, full);
    for (u64 n = 0; n < pieces && whole; n++) {
      const auto p = m_.files().find({ino, static_cast<u8>(FsItem::xattr_chunk), x.value_id << 8 | n});
      whole = p != m_.files().end() && p->second.size() == std::min<u64>(full, x.size - n * full);
    }
    if (whole) {
      values.insert(x.value_id);
      m_.next_object_id = std::max<u64>(m_.next_object_id, x.value_id + 1);
      ++it;
      continue;
    }
    m_.ask(cat(name(ino), ": the value of xattr ", quoted(as_bytes(it->second).subspan(sizeof x, x.name_len)),
               " is incomplete: it is dropped"));
    it = m_.drop(kFs, it);
  }
  for (auto it = m_.files().lower_bound(first_of(ino, FsItem::xattr_chunk));
       it != m_.files().end() && it->first <= last_of(ino, FsItem::xattr_chunk);) {
    const u64 id = it->first.off >> 8, n = it->first.off & 255;
    bool wanted = false;
    for (auto x = m_.files().lower_bound(first_of(ino, FsItem::xattr));
         x != m_.files().end() && x->first <= last_of(ino, FsItem::xattr) && !wanted; ++x) {
      const auto d = item_of<disk::DiskXattr>(x->second);
      wanted = (d.flags & disk::kXattrChunked) && d.value_id == id && n < div_up<u64>(d.size, full);
    }
    if (wanted) {
      ++it;
      continue;
    }
    m_.ask(cat(name(ino), ": a piece of an xattr value that nothing refers to is dropped"));
    it = m_.drop(kFs, it);
  }
  *count = repair_chains(m_, ino, FsItem::xattr).entries;
}

void Objects::object(u64 ino) {
  Object o;
  o.ino = ino;
  const auto found = m_.get<disk::DiskInode>(kFs, first_of(ino, FsItem::inode));
  if (found) o.inode = *found;
  o.has_inode = found.has_value();
  if (orphan(ino)) {  // the next mount deletes it, whatever is left of it
    if (!o.has_inode) {
      drop_object(ino);
      m_.drop(kFs, m_.files().find({0, static_cast<u8>(FsItem::orphan), ino}));
      m_.ask(cat("inode ", ino, ": what is left of a deleted file is dropped"));
    }
    return;
  }
  if (!o.has_inode) {
    if (!make_inode(o)) {
      m_.ask(cat(name(ino), ": has items, but no inode, and nothing says what it was: they are dropped"));
      return drop_object(ino);
    }
    m_.ask(cat(name(ino), ": its inode is lost: it gets a new one, which belongs to root, and its size is a guess"));
  }
  const disk::DiskInode before = found.value_or(disk::DiskInode{});
  if (o.inode.birth > m_.new_txn()) o.inode.birth = m_.new_txn();
  if (!contents(o)) return drop_object(ino);
  u64 blocks = 0;
  extents(ino, &blocks);
  missing_sums(ino);
  if (o.inode.blocks != blocks) o.inode.blocks = blocks;
  u32 count = 0;
  xattrs(ino, &count);
  o.inode.xattrs = count;
  store(o, before);
}

void Objects::store(const Object &o, const disk::DiskInode &before) {
  if (memcmp(&before, &o.inode, sizeof before) == 0) return;
  if (before.mode && before.blocks != o.inode.blocks)
    m_.ask(cat(name(o.ino), ": the count of its blocks is corrected"));
  if (before.mode && before.xattrs != o.inode.xattrs)
    m_.ask(cat(name(o.ino), ": the count of its xattrs is corrected"));
  m_.put(kFs, first_of(o.ino, FsItem::inode), value_of(o.inode));
}

void Objects::run() {
  verify_items();
  learn_types();
  collections_directories();
  for (u64 ino = 0;;) {
    const auto it = m_.files().lower_bound({ino + 1, 0, 0});
    if (it == m_.files().end()) break;
    ino = it->first.oid;
    object(ino);
    if (ino == ~u64{0}) break;
    m_.next_object_id = std::max(m_.next_object_id, ino + 1);
  }
}

}  // namespace

// Entries of one hash: seq 0, 1, 2 ..., all but the last flagged. A gap is closed by a tombstone; an entry that is filed
// under another hash than that of its name moves.
Chains repair_chains(Model &m, u64 ino, FsItem type) {
  const bool names = type == FsItem::dirent;
  const usize head = names ? sizeof(disk::DiskDirent) : sizeof(disk::DiskXattr);
  std::map<u64, std::map<u64, Value>> chains;  // hash: seq: entry
  std::vector<std::pair<u64, Value>> moved;
  Items old;
  Chains out;
  for (auto it = m.files().lower_bound(first_of(ino, type)); it != m.files().end() && it->first <= last_of(ino, type);
       ++it) {
    old.insert(*it);
    const u64 hash = it->first.off >> disk::kCookieSeqBits, seq = it->first.off & disk::kCookieSeqMask;
    const u8 len = it->second[names ? offsetof(disk::DiskDirent, name_len) : offsetof(disk::DiskXattr, name_len)];
    if (len == 0) {
      chains[hash][seq] = it->second;
      continue;
    }
    const u64 right = name_hash(m, as_bytes(it->second).subspan(head, len));
    if (right == hash)
      chains[hash][seq] = it->second;
    else
      moved.push_back({right, it->second});
  }
  for (auto &[hash, v] : moved) {
    auto &c = chains[hash];
    const u64 seq = c.empty() ? 0 : c.rbegin()->first + 1;
    if (seq <= disk::kCookieSeqMask) c[seq] = std::move(v);
  }
  Items now;
  for (auto &[hash, c] : chains) {
    const usize flag = names ? offsetof(disk::DiskDirent, flags) : offsetof(disk::DiskXattr, flags);
    const usize length = names ? offsetof(disk::DiskDirent, name_len) : offsetof(disk::DiskXattr, name_len);
    while (!c.empty() && c.rbegin()->second[length] == 0) c.erase(std::prev(c.end()));
    if (c.empty()) continue;
    const u64 last = c.rbegin()->first;
    for (u64 seq = 0; seq <= last; seq++) {
      Value v = c.count(seq) ? c[seq] : Value(head, 0);
      v[flag] = static_cast<u8>((v[flag] & ~1u) | (seq < last ? 1 : 0));  // both kinds' flag has that bit
      out.entries += v[length] != 0;
      if (v[length]) out.bytes += v.size();
      now[{ino, static_cast<u8>(type), hash << disk::kCookieSeqBits | seq}] = std::move(v);
    }
  }
  if (now == old) return out;
  m.ask(cat(m.path_of(ino),
            names ? ": the chains of its names are repaired" : ": the chains of its xattrs are repaired"));
  for (const auto &[k, v] : old) m.drop(kFs, m.files().find(k));
  for (auto &[k, v] : now) m.put(kFs, k, v);
  return out;
}

void repair_files(Model &m) {
  // Made, and never mounted: there is no root directory yet.
  const bool blank = std::all_of(m.blobs[kFs], m.blobs[kFs] + sizeof m.blobs[kFs], [](u8 b) { return b == 0; });
  if (blank && m.files().empty() && !m.trees[kFs].damaged()) return;
  Objects(m).run();
  repair_names(m);
}

}  // namespace vexfs::repair
