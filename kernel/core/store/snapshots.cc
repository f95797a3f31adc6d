// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Making, deleting, listing and opening snapshots.
#include "snapshots.h"

#include "../disk/snapshot_items.h"
#include "rollback.h"
#include "state.h"
#include "tree_ops.h"
#include "volume.h"

namespace vexfs::store {

// --------------------------------------------------------------------------------------------------- the list in memory
Status SnapshotList::add(const Entry &e) {
  Vec<Entry> bigger;  // memory is got without the lock
  usize want;
  {
    Guard g(lock_);
    want = list_.size() + 1;
  }
  VX_TRY(bigger.reserve(want));  // `change` is held: nobody else adds
  Guard g(lock_);
  usize at = 0;
  for (; at < list_.size() && list_[at].txn <= e.txn; at++) (void)bigger.push(list_[at]).ok();
  (void)bigger.push(e).ok();
  for (; at < list_.size(); at++) (void)bigger.push(list_[at]).ok();
  std::swap(list_, bigger);
  return {};
}

void SnapshotList::remove(u64 id) {
  Guard g(lock_);
  for (usize i = 0; i < list_.size(); i++)
    if (list_[i].id == id) {
      for (; i + 1 < list_.size(); i++) list_[i] = list_[i + 1];
      (void)list_.resize(list_.size() - 1).ok();
      return;
    }
}

bool SnapshotList::find(u64 id, Entry *out) {
  Guard g(lock_);
  for (const Entry &e : list_)
    if (e.id == id) {
      *out = e;
      return true;
    }
  return false;
}

bool SnapshotList::finish(u64 id, u64 txn) {
  Guard g(lock_);
  for (Entry &e : list_)
    if (e.id == id) {
      e.txn = txn;  // still the newest: the order holds
      e.leaving = e.unwanted = false;
      return true;
    }
  return false;
}

// again: scrubs are told to go.
Status SnapshotList::try_leave(u64 id) {
  Guard g(lock_);
  for (Entry &e : list_) {
    if (e.id != id || e.leaving) continue;
    e.unwanted = e.users == e.brief && e.brief;
    if (e.users > e.brief) return Errno::busy;
    if (e.unwanted) return Errno::again;
    e.leaving = true;
    return {};
  }
  return Errno::noent;
}

Status SnapshotList::leave(u64 id) {
  for (;;) {
    Status st = try_leave(id);
    if (st.code() != Errno::again) return st;
    brief_ended_.wait([this, id] {
      Entry e;
      return !find(id, &e) || e.brief == 0;
    });
  }
}

bool SnapshotList::use(u64 id) {
  Guard g(lock_);
  for (Entry &e : list_)
    if (e.id == id && !e.leaving) {
      e.users++;
      return true;
    }
  return false;
}

bool SnapshotList::use_briefly(u64 txn, Entry *mine, Entry *older) {
  Guard g(lock_);
  Entry *before = nullptr;
  for (Entry &e : list_) {
    if (e.leaving || e.unwanted) continue;
    if (e.txn < txn) {
      before = &e;
      continue;
    }
    for (Entry *used : {&e, before})
      if (used) used->users++, used->brief++;
    *mine = e;
    *older = before ? *before : Entry{};
    return true;
  }
  return false;
}

bool SnapshotList::unwanted(u64 id) {
  Guard g(lock_);
  for (const Entry &e : list_)
    if (e.id == id) return e.unwanted;
  return true;
}

void SnapshotList::unuse(u64 id, bool brief) {
  {
    Guard g(lock_);
    for (Entry &e : list_)
      if (e.id == id) e.users--, e.brief -= brief;
  }
  if (brief) brief_ended_.wake();
}

u64 SnapshotList::newest(u64 below) {
  Guard g(lock_);
  for (usize i = list_.size(); i-- > 0;)
    if (!list_[i].leaving && list_[i].txn < below) return list_[i].txn;
  return 0;
}

bool SnapshotList::first_leaving(Entry *out) {
  Guard g(lock_);
  for (const Entry &e : list_)
    if (e.leaving) {
      *out = e;
      return true;
    }
  return false;
}

Status SnapshotList::visible(Vec<u64> *txns) {
  usize want;
  {
    Guard g(lock_);
    want = list_.size();
  }
  txns->clear();
  VX_TRY(txns->reserve(want + 8));
  Guard g(lock_);
  for (const Entry &e : list_)
    if (!e.leaving) VX_TRY(txns->size() < want + 8 ? txns->push(e.txn) : Status(Errno::nomem));
  return {};
}

// ---------------------------------------------------------------------------------------------------------- the items
namespace snapshots_impl {
namespace {

Key key_of_id(u64 id) { return {id, disk::kSnapshotType, 0}; }

Error damaged(State &s, u64 id, const char *what) {
  LogLine(s.dev, VX_LOG_ERR).str("snapshot ").dec(id).str(": ").str(what).str(" of its item makes no sense");
  s.damage(Errno::corrupt);
  return Errno::corrupt;
}

Status read_item(State &s, u64 id, disk::SnapshotItem *out) {
  Result<usize> n = s.trees[static_cast<u8>(TreeId::snapshots)].get(key_of_id(id), mut_bytes_of(*out));
  if (!n.ok()) return n.code() == Errno::range ? Status(damaged(s, id, "length")) : Status(n.error());
  if (const char *bad = disk::verify_snapshot({bytes_of(*out).data(), *n}, id, s.geo)) return damaged(s, id, bad);
  return {};
}

// The next snapshot item from `id` on; noent.
Result<u64> next_item(State &s, u64 id, disk::SnapshotItem *out) {
  Result<Tree::Found> f =
      s.trees[static_cast<u8>(TreeId::snapshots)].seek(key_of_id(id), Key::max(), mut_bytes_of(*out));
  if (!f.ok()) return f.code() == Errno::range ? Result<u64>(damaged(s, id, "length")) : Result<u64>(f.error());
  if (f->key != key_of_id(f->key.oid)) return damaged(s, f->key.oid, "key");
  if (const char *bad = disk::verify_snapshot({bytes_of(*out).data(), f->len}, f->key.oid, s.geo))
    return damaged(s, f->key.oid, bad);
  if (out->txn > s.open_txn.load()) return damaged(s, f->key.oid, "txn");
  return f->key.oid;
}

bool same_name(const disk::SnapshotItem &item, Bytes name) {
  return name.size() < sizeof item.name && memcmp(item.name, name.data(), name.size()) == 0 && !item.name[name.size()];
}

void describe(u64 id, const disk::SnapshotItem &item, SnapshotInfo *out) {
  *out = {};
  out->id = id;
  out->txn = item.txn;
  out->created_sec = static_cast<s64>(item.created_sec.get());
  out->created_nsec = item.created_nsec;
  out->used_blocks = item.used_blocks;
  out->replaced_by = item.replaced_by;
  out->counting = item.replaced_txn != 0;
  memcpy(out->name, item.name, sizeof out->name);
}

disk::SnapshotRootBlob read_blob(State &s) {
  disk::SnapshotRootBlob blob;
  Guard g(s.lock);
  memcpy(&blob, s.blobs[static_cast<u8>(TreeId::snapshots)], sizeof blob);
  return blob;
}

// Is the snapshot one of those that a rollback, asked for or not noted in full, still needs? `pending`: the id of a
// replaced state whose blocks are to be noted, the oldest first; 0: none.
Result<bool> needed_by_rollback(State &s, u64 id, u64 *pending) {
  disk::SnapshotItem item;
  bool needed = id != 0 && read_blob(s).rollback_to == id;
  *pending = 0;
  for (u64 at = 1;; at++) {
    Result<u64> found = next_item(s, at, &item);
    if (found.code() == Errno::noent) return needed;
    if (!found.ok()) return found.error();
    at = *found;
    if (item.replaced_txn == 0) continue;
    if (*pending == 0) *pending = at;
    needed = needed || id == at || id == item.replaced_by;
  }
}

// An item that says "creating", under a number that was never used. From now on a crash leaves something that the next
// mount cleans up.
Result<u64> enter(State &s, Bytes name, bool reserve, disk::SnapshotItem *item) {
  Handle h = VX_TRY(s.begin({.items = 1, .last_reserve = reserve, .freeing = reserve}));
  disk::SnapshotRootBlob blob = read_blob(s);
  u64 id = max_of<u64>(blob.next_id, 1);
  *item = {};
  item->version = disk::kSnapshotVersion;
  item->state = static_cast<u8>(disk::SnapshotState::creating);
  item->txn = h.txn();
  s64 sec;
  u32 nsec;
  vx_clock_real(&sec, &nsec);
  item->created_sec = static_cast<u64>(sec);
  item->created_nsec = nsec;
  memcpy(item->name, name.data(), name.size());
  VX_TRY(s.trees[static_cast<u8>(TreeId::snapshots)].insert(h, key_of_id(id), bytes_of(*item)));
  blob.next_id = id + 1;
  s.set_blob(TreeId::snapshots, bytes_of(blob).data());
  return id;
}

Status store_state(State &s, u64 id, const disk::SnapshotItem &item) {
  Handle h = VX_TRY(s.begin({.items = 1, .last_reserve = true, .freeing = true}));
  return s.trees[static_cast<u8>(TreeId::snapshots)].update(h, key_of_id(id), bytes_of(item));
}

void fill_roots(const State &s, u64 txn, disk::SnapshotItem *item) {
  const RootCapture &c = s.captured;
  item->state = static_cast<u8>(disk::SnapshotState::live);
  item->txn = txn;
  item->next_object_id = c.next_object_id;
  item->used_blocks = s.geo.total_blocks - s.alloc.free_blocks();
  item->node_blocks = c.node_blocks;
  for (u8 i : disk::kKeptTrees) {
    disk::TreeRootDisk &root = i < 2 ? item->trees[i].root : item->refcounts;
    root.node.addr = c.place[i].addr;
    root.node.mirror = c.place[i].mirror;
    root.node.birth = c.birth[i];
    root.levels = c.levels[i];
    if (i < 2) memcpy(item->trees[i].blob, c.blobs[i], disk::kBlobBytes);
  }
}

}  // namespace
}  // namespace snapshots_impl

// What the snapshots tree says, at a mount. Before anything is freed: replaying the log frees.
Status State::load_snapshots() {
  disk::SnapshotItem item;
  for (u64 id = 1;; id++) {
    Result<u64> found = snapshots_impl::next_item(*this, id, &item);
    if (found.code() == Errno::noent) break;
    if (!found.ok()) return found.error();
    id = *found;
    bool live = item.state == static_cast<u8>(disk::SnapshotState::live);
    // The log may hold the record that finishes it; the state that it holds is then the last commit's at the latest.
    if (item.state == static_cast<u8>(disk::SnapshotState::creating))
      snapshot_txn.store(max_of(snapshot_txn.load(), durable_txn.load()));
    VX_TRY(snapshots.add({.id = id, .txn = item.txn, .leaving = !live}));
  }
  snapshot_txn.store(max_of(snapshot_txn.load(), snapshots.newest()));
  rollback_txn.store(snapshots_impl::read_blob(*this).rollback_txn);
  return {};
}

// After the log has been replayed: the tree may say something else now.
Status State::reload_snapshots() {
  SnapshotList::Entry e;
  while (snapshots.first_leaving(&e)) snapshots.remove(e.id);
  Vec<u64> known;
  VX_TRY(snapshots.visible(&known));
  disk::SnapshotItem item;
  u64 newest = 0;
  for (u64 id = 1;; id++) {
    Result<u64> found = snapshots_impl::next_item(*this, id, &item);
    if (found.code() == Errno::noent) break;
    if (!found.ok()) return found.error();
    id = *found;
    bool live = item.state == static_cast<u8>(disk::SnapshotState::live);
    snapshots.remove(id);
    VX_TRY(snapshots.add({.id = id, .txn = item.txn, .leaving = !live}));
    if (live) newest = max_of<u64>(newest, item.txn);
  }
  snapshot_txn.store(newest);
  rollback_txn.store(snapshots_impl::read_blob(*this).rollback_txn);
  return {};
}

// ------------------------------------------------------------------------------------------------- what a Volume offers
Result<u64> Volume::snapshot_create(Bytes name) { return s_->make_snapshot(name, false); }

Result<u64> State::make_snapshot(Bytes name, bool reserve) {
  using namespace snapshots_impl;
  State &s = *this;
  if (!(s.super->incompat & disk::kIncompatSnapshots)) return Errno::opnotsupp;
  if (!disk::good_snapshot_name(name)) return Errno::inval;
  Guard g(s.snapshots.change);
  if (find_snapshot(name).ok()) return Errno::exist;
  disk::SnapshotItem item;
  u64 id = VX_TRY(enter(s, name, reserve, &item));
  Status st = s.snapshots.add({.id = id, .txn = item.txn, .leaving = true});
  u64 txn = 0, before = s.snapshot_txn.load();
  if (st.ok()) st = s.commit_and_capture(&txn);
  if (st.ok()) {
    fill_roots(s, txn, &item);
    st = store_state(s, id, item);
    if (!st.ok()) s.snapshot_txn.store(before);  // what has entered the dead tree meanwhile is reclaimed with the item
  }
  if (st.ok()) {
    (void)s.snapshots.finish(id, txn);
    st = s.commit(false);
  }
  if (!st.ok()) return st.error();
  return id;
}

Status Volume::snapshot_delete(u64 id) {
  using namespace snapshots_impl;
  State &s = *s_;
  Guard g(s.snapshots.change);
  disk::SnapshotItem item;
  VX_TRY(read_item(s, id, &item));
  if (item.state != static_cast<u8>(disk::SnapshotState::live)) return Errno::noent;
  u64 pending;
  if (VX_TRY(needed_by_rollback(s, id, &pending))) return Errno::busy;
  VX_TRY(s.snapshots.leave(id));
  item.state = static_cast<u8>(disk::SnapshotState::deleting);
  Status st = store_state(s, id, item);
  if (!st.ok()) {
    (void)s.snapshots.finish(id, item.txn);
    return st;
  }
  // Durable first: what is freed from now on must not be looked for by a mount that still has the snapshot.
  st = s.commit(false);
  if (st.ok()) s.snapshot_txn.store(s.snapshots.newest());
  if (s.thread && !s.kicked.exchange(true)) s.thread_wake.wake();
  return st;
}

Result<bool> Volume::snapshot_reclaim(u32 items) {
  bool counting = VX_TRY(s_->count_turn(items));
  return VX_TRY(s_->reclaim_turn(items)) || counting;
}

// One turn of giving the space of deleted snapshots back: looks at about so many items of the dead tree.
Result<bool> State::reclaim_turn(u32 items) {
  using namespace snapshots_impl;
  Guard g(snapshots.change);
  SnapshotList::Entry e;
  if (quiet.load() || !snapshots.first_leaving(&e)) return false;
  Vec<u64> txns;
  VX_TRY(snapshots.visible(&txns));
  u64 next = ~u64{0};
  for (u64 t : txns)
    if (t > e.txn && t < next) next = t;
  if (reclaim_id != e.id) {
    // Whoever let something go for the sake of this snapshot has noted it before the first look: no handle from before is
    // open after a commit.
    snapshot_txn.store(snapshots.newest());
    VX_TRY(commit(false));
    reclaim_id = e.id;
    reclaim_at = Key::min();
  }
  // From the transaction that was open when it began: an unfinished one can hold back what died in that very one.
  bool end = false;
  for (u32 seen = 0; seen < items && !end && !stop.load(std::memory_order_relaxed);)
    end = VX_TRY(reclaim_dead(snapshots.newest(e.txn + 1), e.txn - 1, next, &reclaim_at, &seen));
  if (!end) return true;
  VX_TRY(commit(false));  // the log can say that the snapshot is gone, but nothing of the dead tree
  {
    Handle h = VX_TRY(begin({.items = 1, .last_reserve = true, .freeing = true}));
    VX_TRY(trees[static_cast<u8>(TreeId::snapshots)].erase(h, key_of_id(e.id)));
  }
  snapshots.remove(e.id);
  reclaim_id = 0;
  return snapshots.first_leaving(&e);
}

// One turn of noting the blocks of a rollback; whether there is more to note. What fails begins anew.
Result<bool> State::count_turn(u32 steps) {
  using namespace snapshots_impl;
  Guard g(snapshots.change);
  if (quiet.load() || rollback_txn.load() == 0) return false;
  Status st;
  if (!counting) {
    u64 id;
    VX_TRY(needed_by_rollback(*this, 0, &id));
    if (id == 0) return false;
    disk::SnapshotItem item;
    VX_TRY(read_item(*this, id, &item));
    counting = VX_TRY(Box<RollbackCount>::make(*this, id, item));
    st = counting->open();
  }
  if (st.ok()) {
    Result<bool> more = counting->turn(steps);
    if (more.ok() && *more) return true;
    if (!more.ok()) st = more.error();
  }
  counting.reset();
  if (st.ok()) return true;  // there may be another
  if (!counting_told)
    LogLine(dev, VX_LOG_ERR)
        .str("noting the blocks of a rollback failed with error ")
        .sdec(st.error().negative())
        .str("; it will be tried again");
  counting_told = true;
  return st.error();
}

// --------------------------------------------------------------------------------------------------------- going back
Status Volume::rollback_request(u64 id) {
  using namespace snapshots_impl;
  State &s = *s_;
  if (!(s.super->incompat & disk::kIncompatSnapshots)) return Errno::opnotsupp;
  Guard g(s.snapshots.change);
  if (id) {
    disk::SnapshotItem item;
    VX_TRY(read_item(s, id, &item));
    if (item.state != static_cast<u8>(disk::SnapshotState::live)) return Errno::noent;
  }
  {
    Handle h = VX_TRY(s.begin({.items = 1, .last_reserve = true, .freeing = true}));
    disk::SnapshotRootBlob blob = read_blob(s);
    blob.rollback_to = id;
    s.set_blob(TreeId::snapshots, bytes_of(blob).data());
  }
  return s.commit(false);
}

u64 Volume::rollback_requested() const { return snapshots_impl::read_blob(*s_).rollback_to; }
u64 Volume::rollback_txn() const { return s_->rollback_txn.load(std::memory_order_relaxed); }

// The trees of the snapshot become the current ones; the item of the state that they replace says so. One transaction.
Status State::take_roots(u64 replaced, u64 target, const disk::SnapshotItem &from) {
  using namespace snapshots_impl;
  Node *root[disk::kTrees] = {};
  Status st;
  for (u8 i : disk::kKeptTrees) {
    Result<Node *> n = read_root(i, disk::kept_root(from, i));
    if (n.ok())
      root[i] = *n;
    else
      st = n.error();
    if (!st.ok()) break;
  }
  if (st.ok()) {
    Result<Handle> h = begin({.items = 1, .last_reserve = true, .freeing = true});
    if (!h.ok()) st = h.error();
    if (st.ok())
      st = trees[static_cast<u8>(TreeId::snapshots)].modify(*h, key_of_id(replaced), [&](MutBytes b) -> Status {
        if (b.size() != sizeof(disk::SnapshotItem)) return Errno::corrupt;
        auto *item = reinterpret_cast<disk::SnapshotItem *>(b.data());
        item->replaced_by = target;
        item->replaced_txn = h->txn();
        return {};
      });
    if (st.ok()) {
      for (u8 i : disk::kKeptTrees) replace_root(i, root[i]);
      disk::SnapshotRootBlob blob = read_blob(*this);
      blob.rollback_to = 0;
      blob.rollback_txn = h->txn();
      set_blob(TreeId::snapshots, bytes_of(blob).data());
      Guard g(lock);
      memcpy(blobs[0], from.trees[0].blob, disk::kBlobBytes);
      memcpy(blobs[1], from.trees[1].blob, disk::kBlobBytes);
      rollback_txn.store(h->txn());
    }
  }
  for (Node *n : root)
    if (n) cache.unpin(n);
  return st.ok() ? commit(false) : st;
}

// A mount for writing does what Volume::rollback_request() asked for. Nobody uses the volume yet.
Status Volume::apply_rollback() {
  using namespace snapshots_impl;
  State &s = *s_;
  u64 target = rollback_requested();
  if (target == 0) return {};
  if (s.read_only.load()) {
    log(VX_LOG_NOTICE).str("going back to snapshot ").dec(target).str(" waits for a mount that may write");
    return {};
  }
  disk::SnapshotItem item;
  Status st = read_item(s, target, &item);
  if (st.ok() && item.state != static_cast<u8>(disk::SnapshotState::live)) st = Errno::noent;
  for (u8 i : disk::kKeptTrees) {  // before anything is made for it
    if (!st.ok()) break;
    Result<Node *> n = s.read_root(i, disk::kept_root(item, i));
    if (!n.ok()) st = n.error();
    if (n.ok() && *n) s.cache.unpin(*n);
  }
  u64 replaced = 0;
  for (u32 tries = 0; st.ok() && replaced == 0; tries++) {
    char name[disk::kSnapshotNameBytes];
    Printer p(name);
    p.str("before-rollback-").dec(s.open_txn.load() + tries);
    Result<u64> made = s.make_snapshot({reinterpret_cast<const u8 *>(name), p.length()}, true);
    if (made.ok())
      replaced = *made;
    else if (made.code() != Errno::exist || tries == 100)
      st = made.error();
  }
  if (st.ok()) st = s.take_roots(replaced, target, item);
  if (st.ok()) {
    log(VX_LOG_NOTICE).str("went back to snapshot ").dec(target).str("; what it replaced is snapshot ").dec(replaced);
    return {};
  }
  log(VX_LOG_ERR).str("going back to snapshot ").dec(target).str(" failed with error ").sdec(st.error().negative());
  return s.abort_code.load() ? st : Status();  // the request stays
}

void Volume::quiesce(bool on) {
  s_->quiet.store(on);
  if (on) Guard g(s_->snapshots.change);  // a turn that is under way ends
}

Result<u64> Volume::snapshot_find(Bytes name) const { return s_->find_snapshot(name); }

Result<u64> State::find_snapshot(Bytes name) {
  using namespace snapshots_impl;
  disk::SnapshotItem item;
  for (u64 id = 1;; id++) {
    id = VX_TRY(next_item(*this, id, &item));
    if (item.state == static_cast<u8>(disk::SnapshotState::live) && same_name(item, name)) return id;
  }
}

Result<u64> Volume::snapshot_next(u64 from, SnapshotInfo *out) const {
  using namespace snapshots_impl;
  disk::SnapshotItem item;
  for (u64 id = from;; id++) {
    id = VX_TRY(next_item(*s_, id, &item));
    if (item.state != static_cast<u8>(disk::SnapshotState::live)) continue;
    describe(id, item, out);
    return id;
  }
}

// What died after the snapshot and before the next newer one, and was born after the next older one.
Result<u64> Volume::snapshot_own_blocks(u64 id, FnRef<bool()> stopped) const {
  State &s = *s_;
  SnapshotList::Entry e;
  if (!s.snapshots.find(id, &e) || e.leaving) return Errno::noent;
  Vec<u64> txns;
  VX_TRY(s.snapshots.visible(&txns));
  u64 next = ~u64{0}, blocks = 0;
  for (u64 t : txns)
    if (t > e.txn && t < next) next = t;
  u64 older = s.snapshots.newest(e.txn), looked = 0;
  bool interrupted = false;
  auto look = [&](const Key &, Bytes b) {
    disk::DeadItem d{};
    memcpy(&d, b.data(), min_of(b.size(), sizeof d));
    if (d.birth > older) blocks += d.count;
    interrupted = (++looked & 4095) == 0 && stopped();
    return !interrupted;
  };
  VX_TRY(s.trees[static_cast<u8>(TreeId::dead)].scan({e.txn + 1, 0, 0}, {next, 0xff, ~u64{0}}, look));
  if (interrupted) return Errno::intr;
  return blocks;
}

u64 Volume::view_id() const { return s_->view_id; }
bool Volume::kept(u64 birth) const { return birth <= s_->snapshot_txn.load(std::memory_order_acquire); }

// ------------------------------------------------------------------------------------------------------------- a view
// Takes the place of load_root() for a view.
Status State::load_view(State &owner, u64 id) {
  disk::SnapshotItem item;
  VX_TRY(snapshots_impl::read_item(owner, id, &item));
  durable_txn.store(item.txn);
  open_txn.store(item.txn + 1);
  next_object_id.store(item.next_object_id);
  VX_TRY(cache.init(opts.node_cache_bytes ? opts.node_cache_bytes : u64{8} << 20));
  for (u8 i : disk::kKeptTrees) {
    if (i < 2) memcpy(blobs[i], item.trees[i].blob, disk::kBlobBytes);
    VX_TRY(load_tree(i, disk::kept_root(item, i)));
  }
  return {};
}

Result<Box<Volume>> Volume::open_snapshot(u64 id, const OpenOptions &options) { return s_->open_view(id, options); }

Result<Box<Volume>> State::open_view(u64 id, const OpenOptions &options) {
  if (!snapshots.use(id)) return Errno::noent;
  return open_used_view(id, options, false);
}

Result<Box<Volume>> State::open_used_view(u64 id, const OpenOptions &options, bool brief) {
  State &owner = *this;
  Result<Box<Volume>> v = [&]() -> Result<Box<Volume>> {
    auto copy = VX_TRY(Box<disk::SuperDisk>::make(*owner.super));
    Box<State> s = VX_TRY(Box<State>::make(owner.dev, options, owner.geo, *copy));
    s->super = std::move(copy);
    s->opts.read_only = true;
    s->read_only.store(true);
    s->view_of = &owner;
    s->view_id = id;
    s->view_is_brief = brief;
    VX_TRY(s->load_view(owner, id));
    Box<Volume> made = VX_TRY(Box<Volume>::make(s.get()));
    s.release();
    return made;
  }();
  if (!v.ok()) owner.snapshots.unuse(id, brief);
  return v;
}

}  // namespace vexfs::store
