// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The inode cache: lookup, loading once, growth, last references.
#include "inode_cache.h"

namespace vexfs::fs {

InodeCache::InodeCache() = default;

InodeCache::~InodeCache() {
  for (Shard &s : shards_) {
    VX_ASSERT(s.count.load() == 0);
    if (s.buckets) vx_free_large(s.buckets, s.nbuckets * sizeof(Inode *));
  }
}

Inode *InodeCache::find(Shard &s, u64 ino) {
  if (!s.buckets) return nullptr;
  for (Inode *ip = s.buckets[slot(s, ino)]; ip; ip = ip->hash_next_)
    if (ip->ino() == ino) return ip;
  return nullptr;
}

void InodeCache::link(Shard &s, Inode &ip) {
  Inode *&head = s.buckets[slot(s, ip.ino())];
  ip.hash_next_ = head;
  head = &ip;
  s.count.fetch_add(1, std::memory_order_relaxed);
}

void InodeCache::unlink(Shard &s, Inode &ip) {
  Inode **at = &s.buckets[slot(s, ip.ino())];
  while (*at != &ip) at = &(*at)->hash_next_;
  *at = ip.hash_next_;
  ip.hash_next_ = nullptr;
  s.count.fetch_sub(1, std::memory_order_relaxed);
}

// Makes room before an insert. Only the very first table is needed; a later failure merely leaves longer chains.
Status InodeCache::grow(Shard &s) {
  usize have = s.nbuckets, want = have ? have * 4 : 64;
  auto **fresh = static_cast<Inode **>(vx_alloc_large(want * sizeof(Inode *), VX_ALLOC_ZERO));
  if (!fresh) return Errno::nomem;
  Inode **old = nullptr;
  {
    Guard g(s.lock);
    if (s.nbuckets == have) {
      old = s.buckets;
      s.buckets = fresh;
      s.nbuckets = want;
      fresh = nullptr;
      s.count.store(0, std::memory_order_relaxed);
      for (usize i = 0; i < have; i++)
        while (Inode *ip = old[i]) {
          old[i] = ip->hash_next_;
          link(s, *ip);
        }
    }
  }
  if (fresh) vx_free_large(fresh, want * sizeof(Inode *));  // somebody else was quicker
  if (old) vx_free_large(old, have * sizeof(Inode *));
  return {};
}

Result<InodeRef> InodeCache::get(u64 ino, FnRef<Result<Inode *>()> load) {
  Shard &s = shard(ino);
  Pending mine{ino, nullptr};
  for (;;) {
    u64 seen = 0;
    {
      Guard g(s.lock);
      if (Inode *ip = find(s, ino)) {
        if (ip->dying_) return Errno::stale;
        ip->refs_.fetch_add(1, std::memory_order_relaxed);
        return InodeRef(ip);
      }
      Pending *p = s.pending;
      while (p && p->ino != ino) p = p->next;
      if (!p) {
        mine.next = s.pending;
        s.pending = &mine;
        break;
      }
      seen = s.loads.load(std::memory_order_acquire);
    }
    s.loaded.wait([&s, seen] { return s.loads.load(std::memory_order_acquire) != seen; });
  }

  Result<Inode *> r = load();
  Errno err = r.code();
  usize n = s.count.load(std::memory_order_relaxed);
  bool full;
  {
    Guard g(s.lock);
    full = !s.buckets || n >= 2 * s.nbuckets;
  }
  if (err == Errno::ok && full && !grow(s).ok() && n == 0) {
    Guard g(s.lock);
    if (!s.buckets) err = Errno::nomem;
  }
  {
    Guard g(s.lock);
    if (err == Errno::ok) link(s, **r);
    Pending **at = &s.pending;
    while (*at != &mine) at = &(*at)->next;
    *at = mine.next;
    s.loads.fetch_add(1, std::memory_order_release);
  }
  s.loaded.wake();
  if (err == Errno::ok) return InodeRef(*r);
  if (r.ok()) {
    (*r)->~Inode();
    vx_free(*r);
  }
  return err;
}

Status InodeCache::prepare_insert(u64 ino) {
  Shard &s = shard(ino);
  bool none, full;
  {
    Guard g(s.lock);
    none = !s.buckets;
    full = none || s.count.load(std::memory_order_relaxed) >= 2 * s.nbuckets;
  }
  if (!full) return {};
  Status st = grow(s);
  return none ? std::move(st) : Status();
}

void InodeCache::insert(Inode &ip) {
  Shard &s = shard(ip.ino());
  Guard g(s.lock);
  link(s, ip);
}

InodeCache::Last InodeCache::drop(Inode &ip, Nameless what) {
  u32 n = ip.refs_.load(std::memory_order_relaxed);
  while (n > 1)
    if (ip.refs_.compare_exchange_weak(n, n - 1, std::memory_order_acq_rel)) return Last::no;
  Shard &s = shard(ip.ino());
  Guard g(s.lock);
  // Who has the only reference may look: names go by way of a reference, and a new one is given out under this lock.
  if (what == Nameless::keep && ip.refs_.load(std::memory_order_acquire) == 1 && !ip.has_names()) return Last::kept;
  if (ip.refs_.fetch_sub(1, std::memory_order_acq_rel) != 1) return Last::no;
  if (!ip.has_names() && what == Nameless::erase) {
    ip.dying_ = true;
    return Last::erase;
  }
  unlink(s, ip);
  return Last::free;
}

void InodeCache::forget(Inode &ip) {
  Shard &s = shard(ip.ino());
  Guard g(s.lock);
  unlink(s, ip);
}

usize InodeCache::count() const {
  usize n = 0;
  for (const Shard &s : shards_) n += s.count.load(std::memory_order_relaxed);
  return n;
}

}  // namespace vexfs::fs
