// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Opening and closing a volume.
#include "rollback.h"
#include "state.h"
#include "super_io.h"
#include "tree_ops.h"
#include "volume.h"

namespace vexfs::store {

State::State(vx_bdev *device, const OpenOptions &o, const disk::Geometry &g, const disk::SuperDisk &sb)
    : dev(device),
      opts(o),
      geo(g),
      cache(counters, g.node_size),
      alloc(*this),
      log(*this),
      trees{{*this, 0}, {*this, 1}, {*this, 2}, {*this, 3}, {*this, 4}, {*this, 5}, {*this, 6}, {*this, 7}},
      lock("vexfs_state"),
      gate("vexfs_gate"),
      commit_lock("vexfs_commit"),
      participants_lock("vexfs_participants"),
      participants_idle("vexfs_participants_idle"),
      thread_wake("vexfs_commit_thread") {
  memcpy(label, sb.label, disk::kLabelBytes);
  memcpy(uuid, sb.uuid, sizeof uuid);
  Le<u64> k[2];
  memcpy(k, sb.hash_key, sizeof k);
  hash_key = {k[0], k[1]};
}

namespace open_impl {
namespace {
void free_chunks(DeltaChunk *c) {
  while (c) {
    DeltaChunk *next = c->next;
    vx_free(c);
    c = next;
  }
}
}  // namespace
}  // namespace open_impl

State::~State() {
  counting.reset();  // its views are of this volume
  for (Tree &t : trees)
    if (t.root_) cache.unpin(std::exchange(t.root_, nullptr));
  while (Node *n = pool.head) {
    pool.head = n->pool_next;
    cache.recycle(n);
  }
  cache.drop_all();
  open_impl::free_chunks(deltas.head);
  open_impl::free_chunks(committing.head);
  open_impl::free_chunks(spare_chunks);
  usize root_bytes = usize{geo.root_blocks} * geo.block_size;
  for (u8 *b : root_buf)
    if (b) vx_free_large(b, root_bytes);
  if (desc_buf) vx_free_large(desc_buf, usize{kDescBatch} * geo.block_size);
}

Status State::read_bytes(u64 off, MutBytes out, bool meta) const { return device_read(dev, off, out, meta); }

void State::log_refusal(const char *what, u64 block, const disk::Refusal &r) const {
  LogLine line(dev, VX_LOG_ERR);
  disk::add_refusal(line.str(what).str(" at ").dec(block), r);
}

Status State::load_root() {
  usize bytes = usize{geo.root_blocks} * geo.block_size;
  for (u8 *&b : root_buf) {
    b = static_cast<u8 *>(vx_alloc_large(bytes, 0));
    if (!b) return Errno::nomem;
  }
  desc_buf = static_cast<u8 *>(vx_alloc_large(usize{kDescBatch} * geo.block_size, 0));
  if (!desc_buf) return Errno::nomem;
  VX_TRY(batch.reserve(kIoBatch));
  MutBytes buf(root_buf[0], bytes);
  RootFound found =
      VX_TRY(newest_root(dev, geo, buf, [&](unsigned slot, unsigned mirror, Errno err, const disk::Refusal &r) {
        u64 at = mirror ? geo.root_mirror[slot] : geo.root_slot[slot];
        if (err == Errno::corrupt) {
          // A torn write of the root that a crash interrupted looks like this, and is harmless.
          LogLine(dev, VX_LOG_NOTICE)
              .str("root slot ")
              .dec(slot)
              .str(mirror ? " mirror" : "")
              .str(" at block ")
              .dec(at)
              .str(" not usable: ")
              .str(disk::cause_name(r.cause))
              .str(" (")
              .str(r.field)
              .str(")");
        } else {
          LogLine(dev, VX_LOG_WARN)
              .str("root slot ")
              .dec(slot)
              .str(mirror ? " mirror" : "")
              .str(": read error ")
              .sdec(Error(err).negative());
        }
      }));
  memcpy(root_bad, found.bad, sizeof root_bad);
  VX_TRY(judge_root(found));
  const auto *r = reinterpret_cast<const disk::RootDisk *>(root_buf[0]);
  durable_txn.store(r->header.txn);
  open_txn.store(r->header.txn + 1);
  next_object_id.store(r->next_object_id);
  root_state.store(r->state & ~disk::kRootStateClosed);
  memcpy(blobs, r->blobs, sizeof blobs);
  alloc.node_blocks.store(r->node_blocks);
  VX_TRY(desc_word.resize(geo.desc_count));
  VX_TRY(desc_touched.resize(geo.desc_count));
  for (u64 i = 0; i < geo.desc_count; i++) desc_word[i] = disk::root_desc(r)[i];
  VX_TRY(alloc.init(disk::root_desc(r)));
  if (alloc.disk_free_total != r->free_blocks)
    LogLine(dev, VX_LOG_WARN)
        .str("free block count of the root is ")
        .dec(r->free_blocks)
        .str(", its groups say ")
        .dec(alloc.disk_free_total);
  u64 cache_bytes = opts.node_cache_bytes ? opts.node_cache_bytes : u64{64} << 20;
  VX_TRY(cache.init(cache_bytes));
  for (u8 i = 0; i < disk::kTrees; i++) VX_TRY(load_tree(i, r->trees[i]));
  return load_snapshots();
}

// What is done when a later state than the one that was found may have been lost: nothing is written on top of it unless
// somebody says so (fsck.vexfs -y), and who reads is told.
Status State::judge_root(const RootFound &found) {
  if (found.newer == NewerRoot::none) return {};
  if (found.newer == NewerRoot::possible) {
    LogLine(dev, VX_LOG_WARN)
        .str("root slot ")
        .dec(1 - found.slot)
        .str(": the mirror is damaged; if it held a later state than that of transaction ")
        .dec(found.txn)
        .str(", that is lost");
    return {};
  }
  return newer_lost("neither copy of the other root slot can be used", found.txn);
}

Status State::newer_lost(const char *why, u64 txn) {
  LogLine(dev, read_only.load() ? VX_LOG_WARN : VX_LOG_ERR)
      .str(why)
      .str(": a later state than that of transaction ")
      .dec(txn)
      .str(" is lost");
  if (!read_only.load()) {
    LogLine(dev, VX_LOG_ERR)
        .str("cannot mount for writing: look at what is left with ro, accept it with fsck.vexfs -y");
    return Errno::corrupt;
  }
  newer_is_lost = true;
  opts.ignore_log = true;  // nothing is written; and what it says belongs to the state that is lost
  return {};
}

Result<Node *> State::read_root(u8 id, const disk::TreeRootDisk &root) {
  if (root.levels == 0) return static_cast<Node *>(nullptr);
  disk::NodeExpect e{root.node.addr, root.node.birth, id, static_cast<u8>(root.levels - 1), root.node.mirror};
  Node *n = VX_TRY(cache.find_or_enter(e.addr));
  TreeOps::load(*this, n, e);
  if (!n->ready()) {
    Errno err = n->err;
    if (err == Errno::corrupt) log_refusal("tree root", e.addr, disk::verify_node({n->buf, geo.node_size}, geo, e));
    cache.unpin(n);
    return err;
  }
  if (n->tree != e.tree || n->level != e.level || n->birth != e.birth ||
      n->mirror != e.mirror) {  // it was in memory, as something else
    LogLine(dev, VX_LOG_ERR).str("tree root at block ").dec(e.addr).str(" is a node of another place");
    cache.unpin(n);
    return Errno::corrupt;
  }
  found_cured(*n, e);
  return n;
}

Status State::load_tree(u8 id, const disk::TreeRootDisk &root) {
  Node *n = VX_TRY(read_root(id, root));
  if (!n) return {};
  TreeOps::set_root(trees[id], n);
  cache.unpin(n);
  return {};
}

void State::replace_root(u8 id, Node *n) {
  Tree &t = trees[id];
  t.root_lock_.lock();
  if (n) {
    TreeOps::set_root(t, n);
  } else if (Node *old = std::exchange(t.root_, nullptr)) {
    cache.unpin(old);
    t.height_.store(0, std::memory_order_relaxed);
  }
  t.root_lock_.unlock();
}

Status State::start() {
  if (read_only.load()) return {};
  // 1/64 of the volume (twice that with second copies), within bounds: half for operations that free, half as a head start for metadata.
  u64 places = geo.total_blocks / geo.node_blocks;
  stock.emergency = static_cast<u32>(max_of<u64>(geo.mirrored ? 32 : 16, min_of<u64>(places / 128, 256)));
  stock.target = 2 * stock.emergency;
  VX_TRY(refill_slots(stock.target));
  VX_TRY(fill_pool(8));
  log.enable(true);
  if (opts.commit_interval_ms == 0) return {};
  int e = vx_thread_start(
      &thread, "vexfs-commit", [](void *a) { static_cast<State *>(a)->commit_thread(); }, this);
  return e ? Status(static_cast<Errno>(-e)) : Status();
}

Status State::close() {
  Status st;
  if (!read_only.load() && abort_code.load() == 0) {
    if (log.enabled() && log.rooted()) {  // so that the next mount need not look at the log
      Guard g(lock);
      changed = true;
    }
    root_state.fetch_or(disk::kRootStateClosed);
    st = commit(true);
  }
  if (thread) {
    stop.store(true);
    thread_wake.wake();
    vx_thread_join(std::exchange(thread, nullptr));
  }
  {
    Guard g(snapshots.change);
    counting.reset();
  }
  // Prepare may have begun handles after the commit above had frozen: nothing may stay behind.
  bool more;
  {
    Guard g(lock);
    more = changed;
    VX_ASSERT(handles == 0);
  }
  if (more && st.ok() && !read_only.load() && abort_code.load() == 0) st = commit(false);
  return st;
}

Result<Box<Volume>> Volume::open(vx_bdev *dev, const OpenOptions &options) {
  SuperFound f = VX_TRY(find_super(dev));
  const disk::SuperDisk &sb = *f.super;
  if (!f.primary.ok())
    LogLine(dev, VX_LOG_WARN)
        .str("superblock at byte 4096: ")
        .str(disk::cause_name(f.primary.cause))
        .str(" (")
        .str(f.primary.field)
        .str("); using the backup at byte ")
        .dec(f.at);
  u64 incompat = sb.incompat & ~disk::kIncompatKnown, ro_compat = sb.ro_compat & ~disk::kRoCompatKnown;
  if (incompat) {
    LogLine(dev, VX_LOG_ERR).str("unknown incompatible features ").hex(incompat).str(": cannot mount");
    return Errno::opnotsupp;
  }
  bool device_ro = vx_bdev_read_only(dev);
  if ((ro_compat || device_ro) && !options.read_only) {
    if (ro_compat)
      LogLine(dev, VX_LOG_ERR).str("unknown features ").hex(ro_compat).str(": can be mounted read-only only");
    return Errno::rofs;
  }
  u32 lb = vx_bdev_logical_block(dev);
  if (lb > f.geo.block_size) {
    LogLine(dev, VX_LOG_ERR).str("block size ").dec(f.geo.block_size).str(" is less than the device's ").dec(lb);
    return Errno::inval;
  }
  Box<State> s = VX_TRY(Box<State>::make(dev, options, f.geo, sb));
  s->super = std::move(f.super);
  s->ro_features = ro_compat != 0;
  s->read_only.store(options.read_only);
  VX_TRY(s->load_root());
  Status st = s->replay();
  if (st.ok()) st = s->reload_snapshots();
  if (st.ok()) st = s->start();
  if (!st.ok()) {
    s->read_only.store(true);  // nothing is to be committed, whatever has been done to the state in memory
    s->close().ok();
    return st.error();
  }
  Box<Volume> v = VX_TRY(Box<Volume>::make(s.get()));
  s.release();
  VX_TRY(v->apply_rollback());
  return v;
}

Volume::~Volume() {
  Box<State> s(s_);
  if (s->view_of) s->view_of->snapshots.unuse(s->view_id, s->view_is_brief);
  if (s->thread) (void)s->close().ok();
}

Status Volume::close() { return s_->close(); }

}  // namespace vexfs::store
