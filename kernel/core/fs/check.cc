// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Checking the fs tree. Everything that is read is hostile: nothing here trusts an item before its verifier did.
#include "check.h"

#include "../api.h"
#include "../base/siphash.h"
#include "attributes.h"
#include "check_shared.h"

namespace vexfs::fs {
namespace check_impl {
namespace {

using disk::FsItem;
using store::Checker;

// What remains to be known of an inode when all of its items have been seen.
struct Known {
  u64 ino;
  u64 parent;    // as the INODE item says
  u64 found_in;  // directory in which its name was found (the last one)
  u32 type;      // st_mode type bits
  u32 nlink;
  u32 names = 0;
  u32 subdirs = 0;
  bool orphan = false;
  bool rooted = false;  // directories: the way up ends at the root
  bool visiting = false;
};

struct Name {
  u64 dir;
  u64 ino;
  u8 type;
};

struct ChunkedValue {
  u64 id;
  u32 size;
  u32 seen = 0;
};

// Blocks first .. end of a file.
struct BlockRun {
  u64 first, end;
};

// The inode whose items are just passing by.
struct Current {
  u64 ino = 0;
  bool has_inode = false;
  bool any = false;
  Attributes a;
  u64 inline_bytes = 0;
  bool inline_any = false;
  u64 extent_end = 0, blocks = 0;
  u64 unsummed = 0;  // the first block that ought to have a checksum and has none, + 1
  u64 entries = 0, names_bytes = 0;
  u64 xattrs = 0;
  // Chain of the hash last seen.
  u64 chain_cookie = 0;
  bool chain_open = false;
  u8 chain_type = 0;
};

class Walk : Pinned {
 public:
  Walk(Checker &c, const CheckOptions &o, CheckFigures &f) : c_(c), options_(o), figures_(f), shared_(c) {
    limits_ = {c.geometry().total_blocks, c.geometry().block_size};
  }
  Status run();

 private:
  bool item(const store::Key &key, Bytes v);
  Status dispatch(const store::Key &key, Bytes v);
  Status record(const store::Key &key, Bytes v);
  Status dirent(const store::Key &key, Bytes v);
  Status extent(const store::Key &key, Bytes v);
  void sums(const store::Key &key, Bytes v);
  Status xattr(const store::Key &key, Bytes v);
  void xattr_chunk(const store::Key &key, Bytes v);
  void inline_piece(const store::Key &key, Bytes v);
  void chain(const store::Key &key, bool chained);
  void end_chain();
  void check_hash(const store::Key &key, Bytes name, const char *what);
  Status finish();
  void finish_file();
  void finish_xattrs();
  bool is_orphan(u64 ino) const;
  Known *find(u64 ino);
  void match_names();
  void match_directories();
  void judge_inodes();
  void check_root_record();
  Checker::Finding error() { return c_.error(); }
  bool complete() const { return !c_.tree_damaged(store::TreeId::fs); }

  Checker &c_;
  CheckOptions options_;
  CheckFigures &figures_;
  disk::FsLimits limits_;
  Current cur_;
  Vec<Known> inodes_;  // ascending
  Vec<Name> names_;
  Vec<u64> orphans_;  // ascending
  Vec<ChunkedValue> values_;
  SharedCheck shared_;
  Vec<BlockRun> summed_;  // of the current inode, ascending: blocks whose checksums are still to come
  usize summed_at_ = 0;   // those before are done with
  Status failure_;
  u64 root_ino_ = 0;
};

// Index of the first element of a sorted array that is not less.
template <class T, class F>
usize lower(const Vec<T> &v, u64 key, F key_of) {
  usize lo = 0, hi = v.size();
  while (lo < hi) {
    usize mid = lo + (hi - lo) / 2;
    if (key_of(v[mid]) < key)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo;
}

bool Walk::is_orphan(u64 ino) const {
  usize i = lower(orphans_, ino, [](u64 o) { return o; });
  return i < orphans_.size() && orphans_[i] == ino;
}

Known *Walk::find(u64 ino) {
  usize i = lower(inodes_, ino, [](const Known &k) { return k.ino; });
  return i < inodes_.size() && inodes_[i].ino == ino ? &inodes_[i] : nullptr;
}

Status Walk::run() {
  check_root_record();
  c_.progress("files", 0, 3);
  VX_TRY(c_.walk(store::TreeId::fs, [this](const store::Key &k, Bytes v) { return item(k, v); }));
  VX_TRY(std::move(failure_));
  if (cur_.any) VX_TRY(finish());
  VX_TRY(shared_.judge());
  c_.progress("files", 1, 3);
  match_names();
  c_.progress("files", 2, 3);
  match_directories();
  judge_inodes();
  c_.progress("files", 3, 3);
  return {};
}

void Walk::check_root_record() {
  disk::DiskFsRoot r;
  static_assert(sizeof r == sizeof c_.root().blobs[0]);
  memcpy(&r, c_.root().blobs[static_cast<u8>(store::TreeId::fs)], sizeof r);
  if (const char *what = disk::verify_fs_root(r)) {
    bool zero = true;
    for (u8 b : bytes_of(r)) zero = zero && b == 0;
    if (!(zero && c_.tree_empty(store::TreeId::fs))) error().str(what);
    return;
  }
  root_ino_ = r.root_ino;
}

// -------------------------------------------------------------- single items
bool Walk::item(const store::Key &key, Bytes v) {
  failure_ = dispatch(key, v);
  return failure_.ok();
}

Status Walk::dispatch(const store::Key &key, Bytes v) {
  if (key.oid == 0) return record(key, v);
  if (!cur_.any || key.oid != cur_.ino) {
    if (cur_.any) VX_TRY(finish());
    cur_ = Current{};
    summed_.clear();
    summed_at_ = 0;
    cur_.ino = key.oid;
    cur_.any = true;
  }
  if (const char *what = disk::verify_fs_item(key.oid, key.type, key.off, v, limits_)) {
    char text[200];
    Printer p(text);
    disk::print_fs_item(p, key.oid, key.type, key.off, v);
    error().str(what).str(": ").str(text);
    return {};
  }
  if (cur_.chain_open &&
      (key.type != cur_.chain_type || key.off >> disk::kCookieSeqBits != cur_.chain_cookie >> disk::kCookieSeqBits))
    end_chain();
  switch (static_cast<FsItem>(key.type)) {
    case FsItem::inode:
      decode(*disk::item_as<disk::DiskInode>(v), cur_.a);
      cur_.has_inode = true;
      if (key.oid >= c_.root().next_object_id) error().str("inode ").dec(key.oid).str(": number not given out yet");
      if (cur_.a.birth > c_.txn()) error().str("inode ").dec(key.oid).str(": born in a transaction to come");
      return {};
    case FsItem::inline_data:
      inline_piece(key, v);
      return {};
    case FsItem::dirent:
      return dirent(key, v);
    case FsItem::extent:
      return extent(key, v);
    case FsItem::extent_checksum:
      sums(key, v);
      return {};
    case FsItem::xattr:
      return xattr(key, v);
    case FsItem::xattr_chunk:
      xattr_chunk(key, v);
      return {};
    default:
      return {};
  }
}

Status Walk::record(const store::Key &key, Bytes v) {
  if (const char *what = disk::verify_fs_item(key.oid, key.type, key.off, v, limits_)) {
    error().str(what).str(", type ").dec(key.type).str(" offset ").dec(key.off);
    return {};
  }
  if (key.type == static_cast<u8>(FsItem::orphan)) {
    figures_.orphans++;
    if (key.off == root_ino_) error().str("the root directory is on the orphan list");
    return orphans_.push(key.off);
  }
  return {};
}

void Walk::inline_piece(const store::Key &key, Bytes v) {
  if (key.off != cur_.inline_bytes) error().str("inode ").dec(key.oid).str(": inline data has a gap at ").dec(key.off);
  cur_.inline_bytes = key.off + v.size();
  cur_.inline_any = true;
}

void Walk::check_hash(const store::Key &key, Bytes name, const char *what) {
  le64 words[2];
  memcpy(words, c_.super().hash_key, sizeof words);
  SipKey k{words[0], words[1]};
  u64 hash = siphash(k, name) >> 8;
  if (options_.name_hash_bits < 56) hash &= (u64{1} << options_.name_hash_bits) - 1;
  if (hash < 2) hash += 2;
  if (hash != key.off >> disk::kCookieSeqBits)
    error()
        .str("inode ")
        .dec(key.oid)
        .str(": ")
        .str(what)
        .str(" ")
        .quoted(name)
        .str(" is filed under a wrong hash, cookie ")
        .dec(key.off);
}

// Entries of one hash: seq 0, 1, 2 ... without a gap, all but the last flagged.
void Walk::chain(const store::Key &key, bool chained) {
  u64 seq = key.off & disk::kCookieSeqMask;
  bool follows = cur_.chain_open && cur_.chain_type == key.type && cur_.chain_cookie + 1 == key.off && seq != 0;
  if (follows ? false : seq != 0)
    error().str("inode ").dec(key.oid).str(": chain of names with a gap before cookie ").dec(key.off);
  else if (cur_.chain_open && !follows)
    end_chain();
  cur_.chain_open = chained;
  cur_.chain_cookie = key.off;
  cur_.chain_type = key.type;
}

void Walk::end_chain() {
  if (complete())
    error().str("inode ").dec(cur_.ino).str(": chain of names breaks off after cookie ").dec(cur_.chain_cookie);
  cur_.chain_open = false;
}

Status Walk::dirent(const store::Key &key, Bytes v) {
  const auto &d = *disk::item_as<disk::DiskDirent>(v);
  chain(key, d.flags & disk::kDirentChained);
  if (d.ino == 0) return {};
  Bytes name = v.subspan(sizeof d);
  check_hash(key, name, "name");
  cur_.entries++;
  cur_.names_bytes += v.size();
  figures_.names++;
  if (is_orphan(key.oid)) {
    error().str("inode ").dec(key.oid).str(": a deleted directory has the name ").quoted(name);
    return {};
  }
  return names_.push({key.oid, d.ino, d.type});
}

Status Walk::extent(const store::Key &key, Bytes v) {
  const auto &e = *disk::item_as<disk::DiskExtent>(v);
  if (key.off < cur_.extent_end)
    error().str("inode ").dec(key.oid).str(": extent at block ").dec(key.off).str(" overlaps the one before it");
  if (e.birth > c_.txn()) error().str("inode ").dec(key.oid).str(": extent born in a transaction to come");
  cur_.extent_end = max_of(cur_.extent_end, key.off + e.count);
  cur_.blocks += e.count;
  figures_.extents++;
  if (e.flags & disk::kExtentShared) figures_.shared_blocks += e.count;
  if (e.flags & disk::kExtentSummed) {
    figures_.summed_blocks += e.count;
    if (!summed_.empty() && summed_[summed_.size() - 1].end == key.off)
      summed_[summed_.size() - 1].end += e.count;
    else
      VX_TRY(summed_.push({key.off, key.off + e.count}));
  }
  if (e.flags & disk::kExtentShared) return shared_.add(key.oid, key.off, e);
  return c_.claim({e.disk, e.count}, "file data of inode", key.oid, key.off);
}

// Items come in the order of blocks, as the extents did, which all came before them.
void Walk::sums(const store::Key &key, Bytes v) {
  u64 end = key.off + v.size() / sizeof(le32);
  while (summed_at_ < summed_.size() && summed_[summed_at_].first < end) {
    BlockRun &r = summed_[summed_at_];
    if (r.first < key.off && !cur_.unsummed) cur_.unsummed = r.first + 1;
    r.first = end;
    if (r.first < r.end) return;
    summed_at_++;
  }
}

Status Walk::xattr(const store::Key &key, Bytes v) {
  const auto &x = *disk::item_as<disk::DiskXattr>(v);
  chain(key, x.flags & disk::kXattrChained);
  if (x.name_len == 0) return {};
  check_hash(key, v.subspan(sizeof x, x.name_len), "xattr");
  cur_.xattrs++;
  figures_.xattrs++;
  if (!(x.flags & disk::kXattrChunked)) return {};
  if (x.value_id >= c_.root().next_object_id)
    error().str("inode ").dec(key.oid).str(": xattr value id not given out yet");
  ChunkedValue value{x.value_id, x.size, 0};
  usize at = lower(values_, value.id, [](const ChunkedValue &c) { return c.id; });
  if (at < values_.size() && values_[at].id == value.id) {
    error().str("inode ").dec(key.oid).str(": two xattrs share the value id ").dec(value.id);
    return {};
  }
  return values_.insert(at, value);
}

void Walk::xattr_chunk(const store::Key &key, Bytes v) {
  u64 id = key.off >> 8, n = key.off & 255;
  usize at = lower(values_, id, [](const ChunkedValue &c) { return c.id; });
  if (at == values_.size() || values_[at].id != id) {
    if (complete() && !is_orphan(key.oid))
      error().str("inode ").dec(key.oid).str(": piece of an xattr value that nothing refers to, id ").dec(id);
    return;
  }
  ChunkedValue &c = values_[at];
  u64 full = min_of<u64>(disk::kXattrPiece, c_.geometry().max_item());
  u64 start = n * full;
  bool fits = start == c.seen && start < c.size && v.size() == min_of<u64>(full, c.size - start);
  if (!fits) error().str("inode ").dec(key.oid).str(": xattr value ").dec(id).str(" has a bad piece ").dec(n);
  c.seen = static_cast<u32>(min_of<u64>(start + v.size(), disk::kXattrMaxValue));
}

// --------------------------------------------------- all items of one inode
Status Walk::finish() {
  if (cur_.chain_open) end_chain();
  bool orphan = is_orphan(cur_.ino);
  if (!cur_.has_inode) {
    values_.clear();
    if (complete() && !orphan) error().str("inode ").dec(cur_.ino).str(": has items, but no INODE item");
    return {};
  }
  figures_.inodes++;
  u32 type = cur_.a.mode & disk::kModeType;
  if (type == disk::kModeDir) figures_.directories++;
  // An inode that is being deleted has lost part of its items, in several transactions perhaps.
  if (!orphan && complete()) {
    finish_file();
    finish_xattrs();
  }
  values_.clear();
  Known k{cur_.ino, cur_.a.parent, 0, type, cur_.a.nlink};
  k.orphan = orphan;
  return inodes_.push(k);
}

void Walk::finish_file() {
  const Attributes &a = cur_.a;
  u32 type = a.mode & disk::kModeType;
  auto complain = [&](const char *what, u64 says, u64 is) {
    error().str("inode ").dec(cur_.ino).str(": ").str(what).str(": the inode says ").dec(says).str(", found ").dec(is);
  };
  if (type == disk::kModeDir) {
    if (a.entries != cur_.entries) complain("number of entries", a.entries, cur_.entries);
    if (a.size != cur_.names_bytes) complain("size of the directory", a.size, cur_.names_bytes);
  } else if (cur_.entries) {
    error().str("inode ").dec(cur_.ino).str(": has names in it, but is no directory");
  }
  if (type == disk::kModeLink && cur_.inline_bytes != a.size)
    complain("length of the symlink", a.size, cur_.inline_bytes);
  if (type == disk::kModeFile) {
    bool flag = a.flags & VX_INODE_INLINE;
    if (flag) figures_.inline_files++;
    if (flag != cur_.inline_any)
      error().str("inode ").dec(cur_.ino).str(flag ? ": inline data is missing"
                                                   : ": inline data that the inode does not know of");
    if (flag && cur_.inline_any && cur_.inline_bytes != a.size)
      complain("length of the inline data", a.size, cur_.inline_bytes);
    if (flag && cur_.blocks) error().str("inode ").dec(cur_.ino).str(": inline data and extents at once");
  } else {
    if (a.flags & VX_INODE_INLINE) error().str("inode ").dec(cur_.ino).str(": inline, but no regular file");
    if (type != disk::kModeLink && cur_.inline_any)
      error().str("inode ").dec(cur_.ino).str(": inline data in an inode of this type");
    if (cur_.blocks) error().str("inode ").dec(cur_.ino).str(": extents, but no regular file");
  }
  if (!cur_.unsummed && summed_at_ < summed_.size()) cur_.unsummed = summed_[summed_at_].first + 1;
  if (cur_.unsummed) error().str("inode ").dec(cur_.ino).str(": no checksum for block ").dec(cur_.unsummed - 1);
  if (a.blocks != cur_.blocks) complain("number of blocks", a.blocks, cur_.blocks);
}

void Walk::finish_xattrs() {
  if (cur_.a.xattrs != cur_.xattrs)
    error()
        .str("inode ")
        .dec(cur_.ino)
        .str(": number of xattrs: the inode says ")
        .dec(cur_.a.xattrs)
        .str(", found ")
        .dec(cur_.xattrs);
  for (const ChunkedValue &v : values_)
    if (v.seen != v.size)
      error()
          .str("inode ")
          .dec(cur_.ino)
          .str(": xattr value ")
          .dec(v.id)
          .str(" is incomplete: ")
          .dec(v.seen)
          .str(" of ")
          .dec(v.size)
          .str(" bytes");
}

// ------------------------------------------------------------- all together
void Walk::match_names() {
  for (const Name &n : names_) {
    Known *k = find(n.ino);
    if (!k) {
      if (complete())
        error().str("directory ").dec(n.dir).str(": a name leads to inode ").dec(n.ino).str(", which does not exist");
      continue;
    }
    if (disk::dirent_type(k->type) != n.type)
      error().str("directory ").dec(n.dir).str(": the type of the name of inode ").dec(n.ino).str(" is wrong");
    if (k->orphan)
      error()
          .str("directory ")
          .dec(n.dir)
          .str(": a name leads to inode ")
          .dec(n.ino)
          .str(", which is on the orphan list");
    k->names++;
    k->found_in = n.dir;
    if (k->type != disk::kModeDir) continue;
    if (Known *d = find(n.dir)) d->subdirs++;
    if (k->names > 1) error().str("directory ").dec(n.ino).str(": has more than one name");
    if (k->parent != n.dir)
      error()
          .str("directory ")
          .dec(n.ino)
          .str(": its parent is said to be ")
          .dec(k->parent)
          .str(", but its name is in ")
          .dec(n.dir);
  }
}

// Every directory must lead up to the root. Each way is walked once: what it ends in decides for all on it.
void Walk::match_directories() {
  for (Known &start : inodes_) {
    if (start.type != disk::kModeDir || start.rooted || start.orphan) continue;
    Known *k = &start;
    bool good = false;
    while (k && !k->visiting) {
      if (k->ino == root_ino_ || k->rooted) {
        good = true;
        break;
      }
      k->visiting = true;
      k = k->names ? find(k->found_in) : nullptr;
    }
    if (!good && k && complete())
      error().str("directory ").dec(start.ino).str(": is its own ancestor, no way leads to the root");
    for (k = &start; k && k->visiting; k = k->names ? find(k->found_in) : nullptr) {
      k->visiting = false;
      k->rooted = true;  // good, or reported
    }
  }
}

void Walk::judge_inodes() {
  for (const Known &k : inodes_) {
    if (k.orphan) continue;
    bool dir = k.type == disk::kModeDir, root = k.ino == root_ino_;
    if (!complete()) continue;
    if (root && k.names) error().str("the root directory has a name in directory ").dec(k.found_in);
    if (root && (!dir || k.parent != k.ino)) error().str("the root directory is none, or its parent is another");
    if (!root && k.names == 0) {
      error().str("inode ").dec(k.ino).str(": no name leads to it, and it is not on the orphan list");
      continue;
    }
    u32 want = dir ? 2 + k.subdirs : k.names;
    if (k.nlink != want)
      error().str("inode ").dec(k.ino).str(": link count ").dec(k.nlink).str(", should be ").dec(want);
  }
  if (!complete() || !root_ino_) return;
  if (!find(root_ino_)) error().str("the root directory, inode ").dec(root_ino_).str(", is missing");
  disk::DiskFsRoot r;
  memcpy(&r, c_.root().blobs[static_cast<u8>(store::TreeId::fs)], sizeof r);
  if (r.inodes != inodes_.size())
    error().str("number of inodes: the root says ").dec(r.inodes).str(", found ").dec(inodes_.size());
}

}  // namespace
}  // namespace check_impl

Status check(store::Checker &checker, const CheckOptions &options, CheckFigures *figures) {
  CheckFigures f;
  auto walk = VX_TRY(Box<check_impl::Walk>::make(checker, options, f));
  Status st = walk->run();
  if (figures) *figures = f;
  return st;
}

}  // namespace vexfs::fs
