// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Committing: freeze, switch to the next transaction, write nodes, bitmaps and ordered data, flush, flip the root.
#include "state.h"
#include "super_io.h"

namespace vexfs::store {

namespace commit_impl {

// Collects requests and submits them in batches; the first error sticks.
class Writer : Pinned {
 public:
  explicit Writer(State &s) : s_(s) { s_.batch.clear(); }
  void add(u64 block, u64 bytes, void *buf, u32 flags) {
    if (s_.batch.size() == State::kIoBatch) submit();
    vx_io io = {};
    io.off = block << s_.geo.block_shift;
    io.len = bytes;
    io.buf = buf;
    io.flags = VX_IO_WRITE | flags;
    (void)s_.batch.push(io).ok();  // capacity was reserved at open
  }
  void submit() {
    if (!s_.batch.empty() && err_ == 0) err_ = vx_bdev_submit(s_.dev, s_.batch.data(), s_.batch.size());
    s_.batch.clear();
  }
  Status status() const { return err_ ? Status(static_cast<Errno>(-err_)) : Status(); }

 private:
  State &s_;
  int err_ = 0;
};

namespace {

constexpr u32 kNodesPerBatch = 64;

void capture(State &s) {
  RootCapture &c = s.capture;
  memcpy(c.blobs, s.blobs, sizeof c.blobs);
  c.next_object_id = s.next_object_id.load(std::memory_order_relaxed);
  // After a rollback, and before its blocks have been noted, it is not known well enough to be trusted with its sign.
  s64 nodes = static_cast<s64>(s.alloc.node_blocks.load(std::memory_order_relaxed));
  c.node_blocks = static_cast<u64>(max_of<s64>(0, min_of<s64>(nodes, static_cast<s64>(s.geo.total_blocks))));
}

// Writes the committing transaction's nodes. They are not locked: nobody changes a node of this transaction any more.
Status write_nodes(State &s, u64 txn) {
  NodeList &list = s.dirty[s.dirty_now ^ 1];
  Node *group[kNodesPerBatch];
  for (;;) {
    u32 n = 0;
    {
      Guard g(s.lock);
      while (n < kNodesPerBatch && (group[n] = list.pop_front())) n++;
    }
    if (n == 0) return {};
    Status st;
    {
      Writer w(s);
      for (u32 i = 0; i < n && st.ok(); i++) {
        MutBytes b(group[i]->buf, s.geo.node_size);
        disk::Refusal r = disk::verify_node_items(b, s.geo);
        if (!r.ok()) {
          s.log_refusal("node about to be written (memory damage?)", group[i]->addr, r);
          st = Errno::corrupt;
        }
        disk::seal_block(b, disk::Magic::node, s.geo.fs_hash, group[i]->addr, txn);
        w.add(group[i]->addr, s.geo.node_size, group[i]->buf, VX_IO_META);
        if (group[i]->mirror) w.add(group[i]->mirror, s.geo.node_size, group[i]->buf, VX_IO_META);
      }
      if (st.ok()) {
        w.submit();
        st = w.status();
      }
    }
    s.counters.nodes_written.fetch_add(n, std::memory_order_relaxed);
    for (u32 i = 0; i < n; i++) {
      bool gone;
      {
        Guard g(s.lock);
        if (!st.ok()) {
          list.push_back(*group[i]);  // stays dirty: the volume is about to be aborted
          continue;
        }
        gone = group[i]->superseded;
        group[i]->dirty_txn.store(0, std::memory_order_release);
        s.dirty_count.fetch_sub(1, std::memory_order_relaxed);
      }
      if (gone) s.cache.forget(group[i]);
      s.cache.unpin(group[i]);
    }
    VX_TRY(st);
  }
}

Status load_patiently(State &s, u64 g) {
  for (u32 tries = 0;; tries++) {
    Status st = s.alloc.load(g);
    if (st.code() != Errno::nomem || tries == 2000) return st;
    vx_yield();
  }
}

Status apply_deltas(State &s) {
  for (DeltaChunk *c = s.committing.head; c; c = c->next) {
    for (u32 i = 0; i < c->n; i++) {
      Extent e{c->d[i].start, c->d[i].count};
      u64 g = s.geo.group_of(e.start);
      VX_TRY(load_patiently(s, g));
      bool ok = c->d[i].is_free ? s.alloc.mark_unused(e) : s.alloc.mark_used(e);
      if (!ok) {
        LogLine(s.dev, VX_LOG_ERR)
            .str(c->d[i].is_free ? "freeing" : "allocating")
            .str(" blocks ")
            .dec(e.start)
            .str("+")
            .dec(e.count)
            .str(": group ")
            .dec(g)
            .str(" says otherwise");
        return Errno::corrupt;
      }
      s.desc_touched[g / disk::descriptors_per_block(s.geo.block_size)] = 1;
    }
  }
  return {};
}

Status write_bitmaps(State &s, u64 txn) {
  Writer w(s);
  for (u32 g = s.alloc.first_touched(); g != Allocator::kNoGroup; g = s.alloc.group(g).next_touched) {
    Group &grp = s.alloc.group(g);
    bool first = grp.word & disk::kGroupUninit;
    unsigned home = !first && !(grp.word & disk::kHomeBit) ? 1 : 0;
    u8 *block = grp.bits.load(std::memory_order_relaxed)->block;
    auto *b = reinterpret_cast<disk::BitmapDisk *>(block);
    b->group = g;
    b->bits = s.geo.group_len(g);
    b->free = grp.disk_free;
    u64 at = s.geo.bitmap_block(g, home);
    disk::seal_block({block, s.geo.block_size}, disk::Magic::bitmap, s.geo.fs_hash, at, txn);
    w.add(at, s.geo.block_size, block, VX_IO_META);
    grp.word = txn | (home ? disk::kHomeBit : 0) | (grp.meta.load(std::memory_order_relaxed) ? disk::kGroupMeta : 0);
    s.counters.bitmaps_written.fetch_add(1, std::memory_order_relaxed);
  }
  w.submit();
  return w.status();
}

void fill_desc_block(State &s, u8 *block, u64 d, u64 addr, u64 txn) {
  u32 per = disk::descriptors_per_block(s.geo.block_size);
  memset(block, 0, s.geo.block_size);
  auto *h = reinterpret_cast<disk::DescBlockDisk *>(block);
  u64 first = d * per, n = min_of<u64>(per, s.geo.groups - first);
  h->index = d;
  h->first = first;
  h->count = static_cast<u32>(n);
  for (u64 i = 0; i < n; i++) {
    Group &g = s.alloc.group(first + i);
    disk::desc_array(block)[i].bitmap = g.word;
    disk::desc_array(block)[i].free = g.disk_free;
  }
  disk::seal_block({block, s.geo.block_size}, disk::Magic::descriptor, s.geo.fs_hash, addr, txn);
}

Status write_descriptors(State &s, u64 txn) {
  Writer w(s);
  u32 used = 0;
  for (u64 d = 0; d < s.geo.desc_count; d++) {
    if (!s.desc_touched[d]) continue;
    s.desc_touched[d] = 0;
    unsigned home = s.desc_word[d] & disk::kHomeBit ? 0 : 1;
    u64 at = s.geo.desc_start + home * s.geo.desc_count + d;
    if (used == State::kDescBatch) {
      w.submit();
      used = 0;
    }
    u8 *block = s.desc_buf + usize{used++} * s.geo.block_size;
    fill_desc_block(s, block, d, at, txn);
    w.add(at, s.geo.block_size, block, VX_IO_META);
    s.desc_word[d] = txn | (home ? disk::kHomeBit : 0);
  }
  w.submit();
  return w.status();
}

void fill_root(State &s, u8 *buf, u64 txn, unsigned mirror) {
  usize bytes = usize{s.geo.root_blocks} * s.geo.block_size;
  memset(buf, 0, bytes);
  auto *r = reinterpret_cast<disk::RootDisk *>(buf);
  const RootCapture &c = s.capture;
  unsigned slot = txn % 2;
  r->slot = static_cast<u8>(slot);
  r->mirror = static_cast<u8>(mirror);
  r->bytes = disk::root_bytes(s.geo.desc_count);
  r->desc_count = s.geo.desc_count;
  r->next_object_id = c.next_object_id;
  r->free_blocks = s.alloc.disk_free_total;
  r->node_blocks = c.node_blocks;
  s64 sec;
  u32 nsec;
  vx_clock_real(&sec, &nsec);
  r->commit_sec = static_cast<u64>(sec);
  r->commit_nsec = nsec;
  r->state = s.root_state.load(std::memory_order_relaxed);
  for (u32 i = 0; i < disk::kTrees; i++) {
    r->trees[i].node.addr = c.place[i].addr;
    r->trees[i].node.mirror = c.place[i].mirror;
    r->trees[i].node.birth = c.birth[i];
    r->trees[i].levels = c.levels[i];
  }
  memcpy(r->blobs, c.blobs, sizeof c.blobs);
  r->log_seq = s.log.next_seq();  // nothing is written to the log while a commit runs
  r->log_tail = s.log.head();
  r->log_session = s.log.session();
  for (u64 i = 0; i < s.geo.desc_count; i++) disk::root_desc(r)[i] = s.desc_word[i];
  u64 at = mirror ? s.geo.root_mirror[slot] : s.geo.root_slot[slot];
  disk::seal_block({buf, bytes}, disk::Magic::root, s.geo.fs_hash, at, txn);
}

// Copies of roots that were unusable when the volume was opened are written from their twins before anything else is. A
// commit that the power cuts may tear the one copy of its slot when the other is no good, if an earlier power cut has torn
// that; and where it tears the same copy, sectors of both could make the root of the earlier one whole, whose blocks have
// other contents now.
Status mend_roots(State &s) {
  const usize bytes = usize{s.geo.root_blocks} * s.geo.block_size;
  for (unsigned slot = 0; slot < 2; slot++) {
    for (unsigned m = 0; m < 2; m++) {
      if (!s.root_bad[slot][m]) continue;
      disk::Refusal why;
      MutBytes twin(s.root_buf[m], bytes);
      if (!read_root(s.dev, s.geo, slot, 1 - m, twin, &why).ok()) continue;  // gone meanwhile: nothing is left to keep
      VX_TRY(copy_root(s.dev, s.geo, twin, m));
      s.root_bad[slot][m] = false;
    }
  }
  return {};
}

// One copy after the other: a power cut tears one of them at most, and never the mirror of a copy that was not written.
// So a mount that finds neither copy of a slot usable knows that this is damage (see RootFound).
Status write_root(State &s, u64 txn) {
  VX_TRY(mend_roots(s));
  Writer w(s);
  unsigned slot = txn % 2;
  usize bytes = usize{s.geo.root_blocks} * s.geo.block_size;
  for (unsigned m = 0; m < 2; m++) {
    fill_root(s, s.root_buf[m], txn, m);
    w.add(m ? s.geo.root_mirror[slot] : s.geo.root_slot[slot], bytes, s.root_buf[m], VX_IO_META | VX_IO_FUA);
    w.submit();
    VX_TRY(w.status());
  }
  return {};
}

Status flush(State &s) {
  int e = vx_bdev_flush(s.dev);
  return e ? Status(static_cast<Errno>(-e)) : Status();
}

Status write_all(State &s, u64 txn) {
  VX_TRY(s.write_ordered());
  VX_TRY(write_nodes(s, txn));
  VX_TRY(apply_deltas(s));
  VX_TRY(write_bitmaps(s, txn));
  VX_TRY(write_descriptors(s, txn));
  VX_TRY(flush(s));
  return write_root(s, txn);
}

// After the root is on the device: what the transaction freed may be used again.
void release_frees(State &s, bool durable) {
  DeltaChunk *c = s.committing.head;
  while (c) {
    for (u32 i = 0; i < c->n; i++) {
      if (!c->d[i].is_free) continue;
      Extent e{c->d[i].start, c->d[i].count};
      s.alloc.pinned.fetch_sub(e.count, std::memory_order_relaxed);
      if (durable) s.alloc.give_back(e, false);
    }
    DeltaChunk *next = c->next;
    bool keep;
    {
      Guard g(s.lock);
      keep = s.spare_chunk_count < 4;
      if (keep) {
        c->next = s.spare_chunks;
        s.spare_chunks = c;
        s.spare_chunk_count++;
      }
    }
    if (!keep) vx_free(c);
    c = next;
  }
  s.committing = {};
}

template <class F>
void each_participant(State &s, F &&fn) {
  for (u32 i = 0; i < State::kMaxParticipants; i++) {
    Participant *p;
    {
      Guard g(s.participants_lock);
      p = s.participants[i];
      if (p) s.participant_users[i]++;
    }
    if (!p) continue;
    fn(p);
    bool idle;
    {
      Guard g(s.participants_lock);
      idle = --s.participant_users[i] == 0;
    }
    if (idle) s.participants_idle.wake();
  }
}

}  // namespace
}  // namespace commit_impl

void State::run_prepare(Error *first) {
  heal();
  commit_impl::each_participant(*this, [&](Participant *p) {
    if (!p->prepare) return;
    Status st = p->prepare(p);
    if (!st.ok() && first->code() == Errno::ok) *first = st.error();
  });
}

Status State::commit(bool with_prepare) {
  if (read_only.load(std::memory_order_relaxed) && abort_code.load() == 0) return {};
  Error prep = Errno::ok;
  if (with_prepare) run_prepare(&prep);
  u64 target = open_txn.load(std::memory_order_acquire);
  Guard g(commit_lock);
  if (abort_code.load(std::memory_order_acquire)) return Errno::rofs;
  Status st;
  if (durable_txn.load(std::memory_order_acquire) < target) st = commit_locked();
  if (st.ok() && prep.code() != Errno::ok) return prep;
  return st;
}

void State::shut_gate() {
  frozen.store(true, std::memory_order_release);
  {
    Guard g(lock);  // a handle that saw the gate open is counted now
  }
  gate.wait([this] { return open_handles.load(std::memory_order_acquire) == 0; });
}

void State::open_gate() {
  {
    Guard g(lock);
    frozen.store(false, std::memory_order_release);
  }
  gate.wake();
}

Status State::collect_ordered(u64 txn) {
  ordered.clear();
  Status st;
  commit_impl::each_participant(*this, [&](Participant *p) {
    if (st.ok() && p->freeze) st = p->freeze(p, txn, ordered);
  });
  return st;
}

Status State::write_ordered() {
  if (ordered.empty()) return {};
  u64 end = geo.total_blocks << geo.block_shift;
  for (vx_io &io : ordered) {
    if (io.off > end || io.len > end - io.off) return Errno::inval;
    io.flags |= VX_IO_WRITE;
  }
  int e = vx_bdev_submit(dev, ordered.data(), ordered.size());
  return e ? Status(static_cast<Errno>(-e)) : Status();
}

void State::participants_done(u64 txn, Status st) {
  commit_impl::each_participant(*this, [&](Participant *p) {
    if (p->done) p->done(p, txn, st.to_c());
  });
}

// ------------------------------------------------------------------ syncing
Status State::sync(bool with_prepare) {
  if (read_only.load(std::memory_order_relaxed) && abort_code.load() == 0) return {};
  counters.syncs.fetch_add(1, std::memory_order_relaxed);
  Error prep = Errno::ok;
  if (with_prepare) run_prepare(&prep);
  u64 seen = syncs_begun.load(std::memory_order_acquire);
  Guard g(commit_lock);
  if (abort_code.load(std::memory_order_acquire)) return Errno::rofs;
  Status st;
  if (sync_done > seen)
    counters.syncs_shared.fetch_add(1, std::memory_order_relaxed);
  else
    st = log.enabled() ? log_locked() : commit_locked();
  if (st.ok() && prep.code() != Errno::ok) return prep;
  return st;
}

Status State::log_locked() {
  u64 start = vx_clock_mono_ns(), ordinal = syncs_begun.fetch_add(1) + 1;
  shut_gate();
  if (abort_code.load(std::memory_order_acquire)) {  // by an operation that has just ended half done
    open_gate();
    return Errno::rofs;
  }
  if (log.must_commit()) {
    open_gate();
    counters.syncs_committed.fetch_add(1, std::memory_order_relaxed);
    return commit_locked();
  }
  u64 txn = open_txn.load(std::memory_order_relaxed), next_id = next_object_id.load(std::memory_order_relaxed);
  Status st = collect_ordered(txn);
  LogCut cut;
  if (st.ok()) cut = log.take();
  open_gate();
  counters.freeze_ns.fetch_add(vx_clock_mono_ns() - start, std::memory_order_relaxed);
  if (!st.ok()) {
    participants_done(txn, st);
    return st;
  }
  bool log_broken = false;
  st = write_ordered();
  // What the records speak of is on the device before they are, rows and file data alike.
  bool after = cut.head && (cut.after_data || !ordered.empty()), fua = after && !cut.head->next;
  if (st.ok() && after) st = commit_impl::flush(*this);
  if (st.ok() && cut.head) {
    log_broken = !log.write(cut, txn, next_id, fua).ok();
    counters.log_groups.fetch_add(1, std::memory_order_relaxed);
  }
  if (st.ok() && !log_broken && !fua) st = commit_impl::flush(*this);
  log.drop(cut);
  participants_done(txn, st);
  if (!st.ok()) {
    abort(st.error());
    return st;
  }
  if (log_broken) {
    LogLine(dev, VX_LOG_WARN).str("the intent log cannot be written; every sync is a commit from now on");
    log.enable(false);
    return commit_locked();
  }
  sync_done = ordinal;
  if (log.filling() && thread && !kicked.exchange(true)) thread_wake.wake();
  return {};
}

// --------------------------------------------------------------- committing
// Ends the open transaction, if there is anything in it and st allows, and opens the next one. The gate is shut.
bool State::switch_transaction(u64 txn, Status st) {
  Guard g(lock);
  bool work = changed || !ordered.empty();
  if (!st.ok() || !work || abort_code.load(std::memory_order_relaxed) != 0) return false;
  changed = false;
  commit_impl::capture(*this);
  for (u32 i = 0; i < disk::kTrees; i++) {
    const Node *r = trees[i].root_;
    capture.place[i] = r ? r->place() : NodePlace{};
    capture.birth[i] = r ? r->birth : 0;
    capture.levels[i] = r ? static_cast<u8>(r->level + 1) : 0;
  }
  if (capture_wanted) {
    captured = capture;
    captured_txn = txn;
    snapshot_txn.store(txn, std::memory_order_release);  // nobody has a handle: the next ones free with this in mind
  }
  committing = deltas;
  deltas = {};
  dirty_now ^= 1;
  committing_txn.store(txn, std::memory_order_relaxed);
  open_txn.store(txn + 1, std::memory_order_release);
  return true;
}

// The root is on the device.
void State::became_durable(u64 txn) {
  alloc.clear_touched();
  log.committed();
  {
    Guard g(lock);
    durable_txn.store(txn, std::memory_order_release);
    committing_txn.store(0, std::memory_order_relaxed);
  }
  counters.commits.fetch_add(1, std::memory_order_relaxed);
}

Status State::commit_locked() {
  u64 start = vx_clock_mono_ns(), ordinal = syncs_begun.fetch_add(1) + 1;
  shut_gate();
  u64 txn = open_txn.load(std::memory_order_relaxed);
  Status st = collect_ordered(txn);
  bool work = switch_transaction(txn, st);
  if (work) log.forget();
  open_gate();
  counters.freeze_ns.fetch_add(vx_clock_mono_ns() - start, std::memory_order_relaxed);
  if (st.ok() && abort_code.load() != 0) st = Errno::rofs;
  bool frozen_well = st.ok();  // else nothing has begun, and a later commit may do better
  if (st.ok()) st = work ? commit_impl::write_all(*this, txn) : commit_impl::flush(*this);
  if (!st.ok() && frozen_well) abort(st.error());
  if (st.ok() && work) became_durable(txn);
  if (st.ok() && !work) counters.commits_empty.fetch_add(1, std::memory_order_relaxed);
  if (work) commit_impl::release_frees(*this, st.ok());
  if (work && st.ok()) alloc.trim(max_bitmaps());
  participants_done(txn, st);
  if (st.ok()) sync_done = ordinal;
  counters.commit_ns.fetch_add(vx_clock_mono_ns() - start, std::memory_order_relaxed);
  return st;
}

Status State::commit_and_capture(u64 *txn) {
  Error prep = Errno::ok;
  run_prepare(&prep);
  if (prep.code() != Errno::ok) return prep;
  Guard g(commit_lock);
  if (abort_code.load(std::memory_order_acquire)) return Errno::rofs;
  {
    Guard l(lock);
    changed = true;
  }
  capture_wanted = true;
  captured_txn = 0;
  Status st = commit_locked();
  capture_wanted = false;
  *txn = captured_txn;
  if (st.ok() && captured_txn == 0) return Errno::rofs;  // aborted in between
  return st;
}

void State::commit_thread() {
  for (;;) {
    thread_wake.wait([this] { return stop.load() || kicked.load(); }, opts.commit_interval_ms);
    if (stop.load()) return;
    kicked.store(false);
    if (abort_code.load() || read_only.load()) continue;
    // Lazily kept items first; then only if there is anything to commit: an idle device is left in peace.
    Error prep = Errno::ok;
    run_prepare(&prep);
    bool due;
    {
      Guard g(lock);
      due = changed;
    }
    if (due) (void)commit(false).ok();
    constexpr u32 kReclaimItems = 4096;  // in one round, so that a stop is not kept waiting
    Result<bool> counted = count_turn(kReclaimItems / 16);
    Result<bool> more = reclaim_turn(kReclaimItems);
    if ((counted.ok() && *counted) || (more.ok() && *more)) kicked.store(true);
  }
}

// An eighth of what nodes may take.
usize State::max_bitmaps() const {
  return max_of<usize>(64, cache.max_count() * geo.node_size / 8 / (2 * geo.block_size));
}

void State::abort(Error why) {
  int none = 0;
  if (!abort_code.compare_exchange_strong(none, static_cast<int>(why.code()))) return;
  read_only.store(true);
  LogLine(dev, VX_LOG_ERR)
      .str("aborted with error ")
      .sdec(why.negative())
      .str(": read-only now, transaction ")
      .dec(open_txn.load())
      .str(" and later will not reach the disk");
  vx_bdev_aborted(dev);
  if (opts.on_error == ErrorPolicy::panic) vx_assert_fail("aborted, and errors=panic", "commit.cc", __LINE__);
}

void State::damage(Error why) {
  root_state.fetch_or(disk::kRootStateErrors);
  if (opts.on_error == ErrorPolicy::panic) vx_assert_fail("damage found, and errors=panic", "commit.cc", __LINE__);
  if (opts.on_error == ErrorPolicy::read_only && !opts.read_only) abort(why);
}

}  // namespace vexfs::store
