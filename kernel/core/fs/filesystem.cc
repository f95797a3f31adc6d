// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Opening and closing a filesystem, references to inodes, lazily kept attributes, the inode count.
#include "filesystem.h"

#include "../disk/super.h"
#include "erase.h"
#include "namespace.h"

namespace vexfs::fs {

Filesystem::Filesystem(store::Volume &volume, const Options &options)
    : rename_lock("vexfs_rename"),
      volume_(volume),
      tree_(volume.tree(store::TreeId::fs)),
      options_(options),
      root_lock_("vexfs_root"),
      shares_(*this),
      flush_lock_("vexfs_flush"),
      lazy_lock_("vexfs_lazy") {
  participant_.prepare = prepare_commit;
  participant_.ctx = this;
  set_data_sums(options.data_sums);
}

void Filesystem::set_data_sums(bool on) {
  data_sums_.store(on && (volume_.feature_incompat() & disk::kIncompatDataSums), std::memory_order_relaxed);
}

Filesystem::~Filesystem() {
  if (registered_) volume_.remove_participant(participant_);
  while (Inode *ip = lazy_.front()) drop_lazy(*ip);  // left over when the volume was aborted
}

Result<Box<Filesystem>> Filesystem::open(store::Volume &volume, const Options &options) {
  VX_ASSERT(options.name_hash_bits >= 1 && options.name_hash_bits <= 56);
  auto fs = VX_TRY(Box<Filesystem>::make(volume, options));
  VX_TRY(fs->read_root());
  volume.add_participant(fs->participant_);
  fs->registered_ = true;
  return fs;
}

Status Filesystem::read_root() {
  // The largest small items are a name of 255 bytes and an inline xattr; smaller nodes cannot hold them.
  if (volume_.max_item() < sizeof(disk::DiskXattr) + disk::kNameMax + 64) return Errno::opnotsupp;
  inline_max_ = static_cast<u32>(min_of<u64>(disk::kInlineFileMax, min_of<u64>(volume_.max_item(), block_size())));
  u32 seed;
  vx_random_bytes(&seed, sizeof seed);
  generation_.store(seed);
  disk::DiskFsRoot root;
  u8 blob[store::kUserBlobBytes];
  volume_.get_blob(store::TreeId::fs, blob);
  memcpy(&root, blob, sizeof root);
  if (fresh_volume(root) && !volume_.read_only()) return make_root();
  if (const char *what = disk::verify_fs_root(root)) {
    volume_.report(VX_LOG_ERR, what);
    return Errno::corrupt;
  }
  root_ino_ = root.root_ino;
  inodes_.store(root.inodes);
  auto dir = get(root_ino_);
  if (!dir.ok()) {
    if (dir.code() == Errno::noent || dir.code() == Errno::stale)
      return damaged(root_ino_, "the root directory is missing");
    return dir.error();
  }
  if (!(*dir)->is_dir()) return damaged(root_ino_, "the root is not a directory");
  return {};
}

// What the store's format() leaves: no object was ever made.
bool Filesystem::fresh_volume(const disk::DiskFsRoot &root) const {
  for (u8 b : bytes_of(root))
    if (b) return false;
  return volume_.next_object_id() == 1;
}

Status Filesystem::make_root() {
  auto h = VX_TRY(volume_.begin({.items = 1}));
  Time now;
  vx_clock_real(&now.sec, &now.nsec);
  NewInode init;
  init.mode = disk::kModeDir | 0755;
  root_ino_ = volume_.take_object_id();
  Attributes a = name_ops::fresh_attributes(*this, init, root_ino_, 0, now, h.txn());
  return name_ops::insert_inode(*this, h, root_ino_, a, {});
}

Status Filesystem::shutdown() {
  if (volume_.read_only()) return {};
  return flush_lazy();
}

disk::FsLimits Filesystem::limits() const { return {volume_.total_blocks(), block_size()}; }

Error Filesystem::damaged(u64 ino, const char *what) const {
  volume_.log(VX_LOG_ERR).str("inode ").dec(ino).str(": ").str(what);
  volume_.found_damage(Errno::corrupt);
  return Errno::corrupt;
}

u64 Filesystem::name_cookie(Bytes name) const {
  u64 hash = siphash(volume_.hash_key(), name) >> 8;
  if (options_.name_hash_bits < 56) hash &= (u64{1} << options_.name_hash_bits) - 1;
  if (hash < 2) hash += 2;
  return hash << disk::kCookieSeqBits;
}

// Inode numbers are never reused, so a generation need not be unique; it only has to be hard to guess across mounts.
u32 Filesystem::next_generation() {
  u32 g = generation_.fetch_add(0x9e3779b1, std::memory_order_relaxed);
  return g ? g : 1;
}

Status Filesystem::commit() {
  Timed t(stats_, Op::commit);
  return volume_.commit();  // which calls prepare_commit()
}

Result<u64> Filesystem::snapshot_create(Bytes name) {
  Guard g(whole_lock);
  return volume_.snapshot_create(name);
}

Status Filesystem::sync() {
  Timed t(stats_, Op::sync);
  return volume_.sync(true);  // which calls prepare_commit()
}

Status Filesystem::sync(Inode &ip) {
  Timed t(stats_, Op::sync);
  // Clean, or another thread has just put it into the tree, under a handle that the sync waits for.
  if (!volume_.read_only() && ip.dirty() && ip.has_names()) {
    auto h = VX_TRY(volume_.begin({.items = 1, .freeing = true}));
    VX_TRY(ip.flush(h));
  }
  return volume_.sync(false);
}

void Filesystem::print_cache(TextSink out) const {
  char buf[64];
  Printer p(buf);
  p.str("fs_inodes_in_memory ").dec(cache_.count()).ch('\n');
  out(p.c_str(), p.length());
}

// --------------------------------------------------------------- references
Result<Inode *> Filesystem::load(u64 ino, bool orphans_too) {
  if (ino == 0) return Errno::noent;
  disk::DiskInode item;
  auto r = tree_.get(fs_key(ino, FsItem::inode), mut_bytes_of(item));
  if (r.code() == Errno::range || (r.ok() && *r != sizeof item))
    return damaged(ino, "its INODE item has a wrong length");
  if (!r.ok()) return r.error();
  if (const char *what = disk::verify_inode(bytes_of(item))) return damaged(ino, what);
  Attributes a;
  decode(item, a);
  if (orphans_too) a.nlink = 0;
  if (a.nlink == 0 && !orphans_too) return Errno::stale;
  void *m = vx_alloc(sizeof(Inode), 0);
  if (!m) return Errno::nomem;
  return new (m) Inode(*this, ino, a);
}

Result<InodeRef> Filesystem::get_any(u64 ino, bool orphans_too) {
  return cache_.get(ino, [&]() -> Result<Inode *> { return load(ino, orphans_too); });
}

Result<InodeRef> Filesystem::get(u64 ino, u32 generation) {
  Timed t(stats_, Op::get);
  auto ip = VX_TRY(get_any(ino, false));
  if (!ip->has_names() || (generation && generation != ip->generation())) return Errno::stale;
  return ip;
}

InodeRef Filesystem::hold(Inode &ip) {
  u32 n = ip.refs_.fetch_add(1, std::memory_order_relaxed);
  VX_ASSERT(n > 0);
  return InodeRef(&ip);
}

void Filesystem::put(Inode *ip) {
  if (!ip->has_names()) drop_lazy(*ip);
  auto last = cache_.drop(*ip, volume_.read_only() ? InodeCache::Nameless::free : InodeCache::Nameless::erase);
  if (last == InodeCache::Last::no) return;
  if (last == InodeCache::Last::erase) {
    (void)erase_inode(*ip);  // on failure it stays an orphan, for the next mount
    cache_.forget(*ip);
  }
  free_inode(ip);
}

bool Filesystem::put_named(Inode *ip) {
  if (!ip->has_names()) return false;
  auto last = cache_.drop(*ip, InodeCache::Nameless::keep);
  if (last == InodeCache::Last::free) free_inode(ip);
  return last != InodeCache::Last::kept;
}

void Filesystem::free_inode(Inode *ip) {
  release_overlay(*ip);
  if (hooks_.released) hooks_.released(hooks_.ctx, *ip);
  ip->~Inode();
  vx_free(ip);
}

// ---------------------------------------------------------- lazy attributes
void Filesystem::add_lazy(Inode &ip) {
  if (volume_.read_only()) return;
  Guard g(lazy_lock_);
  if (ip.listed_.load() || !ip.has_names()) return;
  ip.refs_.fetch_add(1, std::memory_order_relaxed);  // the caller has one
  ip.listed_.store(true);
  lazy_.push_back(ip);
  lazy_count_++;
}

void Filesystem::drop_lazy(Inode &ip) {
  {
    Guard g(lazy_lock_);
    if (!ip.listed_.load()) return;
    ip.lazy_hook_.unlink();
    ip.listed_.store(false);
    lazy_count_--;
  }
  put(&ip);
}

Status Filesystem::prepare_commit(store::Participant *p) {
  auto *fs = static_cast<Filesystem *>(p->ctx);
  if (fs->volume_.read_only()) return {};
  return fs->flush_lazy();
}

Status Filesystem::flush_lazy() {
  constexpr u32 kBatch = 32;
  usize todo;
  {
    Guard g(lazy_lock_);
    todo = lazy_count_;
  }
  // At least one round through flush_lock_: what another thread has taken off the list must be in the tree on return.
  do {
    Inode *batch[kBatch];
    u32 n = 0;
    Status st;
    {
      Guard f(flush_lock_);
      {
        Guard g(lazy_lock_);
        while (n < kBatch && lazy_.front()) {
          Inode *ip = lazy_.pop_front();
          ip->listed_.store(false);
          lazy_count_--;
          batch[n++] = ip;
        }
      }
      if (n) st = flush_batch(batch, n);
    }
    for (u32 i = 0; i < n; i++) {
      if (!st.ok()) add_lazy(*batch[i]);
      put(batch[i]);
    }
    if (!st.ok()) return st;
    if (n == 0) break;
    todo -= min_of<usize>(todo, n);
    stats_.lazy_flushes.fetch_add(n, std::memory_order_relaxed);
  } while (todo);
  return {};
}

Status Filesystem::flush_batch(Inode *const *batch, u32 n) {
  auto h = VX_TRY(volume_.begin({.items = n, .freeing = true}));
  for (u32 i = 0; i < n; i++) {
    // A damaged item is logged where it is found. It must not keep everything else from being committed.
    if (batch[i]->has_names()) (void)batch[i]->flush(h);
  }
  return {};
}

void Filesystem::content_changed(Inode &ip, u64 version) {
  stats_.content_changes.fetch_add(1, std::memory_order_relaxed);
  if (hooks_.content_changed && ip.has_upper()) hooks_.content_changed(hooks_.ctx, ip, version);
}

// -------------------------------------------------------------- inode count
void Filesystem::count_inodes(store::Handle &h, s64 delta) {
  Guard g(root_lock_);
  u64 n = inodes_.load(std::memory_order_relaxed) + static_cast<u64>(delta);
  if (delta < 0 && n > ~u64{0} / 2) n = 0;  // a damaged count
  inodes_.store(n, std::memory_order_relaxed);
  disk::DiskFsRoot root{};
  root.layout = 1;
  root.root_ino = root_ino_;
  root.inodes = n;
  u8 blob[store::kUserBlobBytes];
  memcpy(blob, &root, sizeof blob);
  volume_.set_blob(h, store::TreeId::fs, blob);
}

}  // namespace vexfs::fs
