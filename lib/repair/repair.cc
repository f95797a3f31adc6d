// SPDX-License-Identifier: MIT
// Repair: the order of its steps, copies of what has copies, and the writing.
#include "repair.h"

#include <algorithm>

#include "../../kernel/core/store/log_reader.h"
#include "../../kernel/core/store/super_io.h"
#include "write.h"

namespace vexfs::repair {

Repair::Repair(vx_bdev *dev) : m_(std::make_unique<Model>(dev)) {}
Repair::~Repair() = default;

const std::vector<Action> &Repair::actions() const { return m_->actions; }
bool Repair::only_safe() const {
  return std::all_of(m_->actions.begin(), m_->actions.end(),
                     [](const Action &a) { return a.kind == Action::Kind::safe; });
}

namespace {

// Where the block groups begin is not known without a superblock: so every place where one can begin is looked at.
bool search_super(Model &m) {
  const u64 size = vx_bdev_size(m.dev);
  constexpr u64 kPiece = u64{1} << 20;
  Buffer buf(kPiece);
  for (u64 at = 0; at < size; at += kPiece) {
    const u64 n = align_down<u64>(std::min(kPiece, size - at), disk::kMinBlock);
    if (n == 0 || read_at(m.dev, at, {buf.data(), n}) != Errno::ok) continue;
    for (u64 i = 0; i < n; i += disk::kMinBlock) {
      if (memcmp(buf.data() + i, disk::kSuperMagic, sizeof disk::kSuperMagic) != 0) continue;
      Buffer copy(sizeof m.super);
      if (read_at(m.dev, at + i, copy) != Errno::ok) continue;
      memcpy(&m.super, copy.data(), sizeof m.super);
      if (disk::verify_super(m.super, at + i, size, &m.geo).ok()) return true;
    }
  }
  return false;
}

Errno load_super(Model &m) {
  Result<store::SuperFound> f = store::find_super(m.dev);
  if (f.ok()) {
    memcpy(&m.super, f->super.get(), sizeof m.super);
    m.geo = f->geo;
  } else if (f.code() != Errno::corrupt || !search_super(m)) {
    return f.code();
  }
  if (m.super.incompat & ~disk::kIncompatKnown || m.super.ro_compat & ~disk::kRoCompatKnown) return Errno::opnotsupp;
  return Errno::ok;
}

// The newest transaction that any block of this filesystem tells of, when no root does.
u64 newest_txn(const Model &m) {
  u64 newest = 2;
  constexpr u64 kPiece = u64{1} << 20;
  Buffer buf(std::max<u64>(kPiece, m.geo.block_size));
  const u64 step = buf.size() >> m.geo.block_shift;
  for (u64 at = 0; at < m.geo.total_blocks; at += step) {
    const u64 n = std::min(step, m.geo.total_blocks - at);
    if (read_at(m.dev, at << m.geo.block_shift, {buf.data(), n << m.geo.block_shift}) != Errno::ok) continue;
    for (u64 i = 0; i < n; i++) {
      const auto *h = reinterpret_cast<const disk::BlockHeader *>(buf.data() + (i << m.geo.block_shift));
      const auto magic = static_cast<disk::Magic>(h->magic.get());
      if (magic != disk::Magic::node && magic != disk::Magic::bitmap && magic != disk::Magic::descriptor) continue;
      if (h->fs_hash != m.geo.fs_hash || h->addr != at + i || h->txn >= u64{1} << 59) continue;
      const usize bytes = magic == disk::Magic::node ? m.geo.node_size : m.geo.block_size;
      Buffer whole(bytes);
      if (read_at(m.dev, (at + i) << m.geo.block_shift, whole) != Errno::ok) continue;
      if (disk::verify_header(whole, magic, m.geo.fs_hash, at + i).ok()) newest = std::max<u64>(newest, h->txn);
    }
  }
  return newest;
}

// Without any root: every node of the device may be one of the newest state.
void begin_without_root(Model &m) {
  m.ask("no root can be used: what the device holds is put together from all leaves that are found");
  std::fill(m.root_block.begin(), m.root_block.end(), u8{0});
  m.txn = newest_txn(m);
  m.next_object_id = 1;
  m.root().state = disk::kRootStateClosed;
  for (u8 t = 0; t <= kDead; t++) {
    m.trees[t].lost.push_back({Key::min(), Key::max(), true, true});
    m.trees[t].changed = true;
  }
  m.header_wrong = true;
}

Errno load_root(Model &m) {
  m.root_block.resize(usize{m.geo.root_blocks} << m.geo.block_shift);
  Result<store::RootFound> found =
      store::newest_root(m.dev, m.geo, m.root_block, [](unsigned, unsigned, Errno, const disk::Refusal &) {});
  if (!found.ok()) return found.code();
  m.txn = found->txn;
  // Neither copy of the other root is left. If it was the later one, its transaction has left blocks.
  m.newer_lost = found->newer == store::NewerRoot::likely && newest_txn(m) > m.txn;
  m.next_object_id = m.root().next_object_id;
  memcpy(m.blobs, m.root().blobs, sizeof m.blobs);
  return Errno::ok;
}

void load_trees(Model &m) {
  for (u8 t = 0; t < disk::kTrees; t++) {
    TreeModel &tree = m.trees[t];
    if (tree.damaged()) continue;
    walk_tree(m, t, m.root().trees[t], tree);
    if (tree.damaged()) tree.changed = true;
    m.bad_copies.merge(tree.bad_copies);
  }
}

void remember_seen(Model &m) {
  m.seen = BlockSet(m.geo.total_blocks);
  for (u8 t = 0; t < disk::kTrees; t++) {
    for (const NodePlace &n : m.trees[t].nodes) m.add_node(m.seen, n);
    each_ref(m.trees[t], t, [&](const Key &, u64 start, u64 count, u64) { m.seen.add(start, count); });
  }
  for (const auto &[k, v] : m.trees[kDead].items) m.seen.add(k.off, item_of<disk::DeadItem>(v).count);
}

}  // namespace

constexpr const char *kMarkGoes = "the mark that damage was met is taken away";

Errno Repair::plan_new_state() {
  Model &m = *m_;
  if (m.newer_lost) {
    m.ask(cat("both copies of the newest root are damaged: what was changed after transaction ", m.txn, " is lost"));
    m.header_wrong = true;
  }
  load_trees(m);
  load_groups(m);
  remember_seen(m);
  scan_lost_nodes(m);
  load_snapshots(m);
  replay_log(m);
  settle_overlaps(m);
  settle_shares(m);
  repair_files(m);
  repair_vectors(m);
  repair_owners(m);
  repair_refcounts(m);
  repair_dead(m);
  if (m.root().state & disk::kRootStateErrors) {
    m.header_wrong = true;
    m.safe(kMarkGoes);
  }
  if (m.root().next_object_id != m.next_object_id) m.header_wrong = true;
  // What a good copy says is written over the bad one: whatever happens meanwhile, the good one is there.
  for (auto &[at, node] : m.bad_copies) {
    after_.push_back({at << m.geo.block_shift, node});
    m.safe(cat("the copy of a tree node at block ", at, " is written anew from the other one"));
  }
  return write_new_state(m, before_, root_);
}

// ------------------------------------------------------------------ copies
namespace {

std::vector<u64> super_places(const Model &m) {
  std::vector<u64> at{disk::kSuperOffset};
  for (u64 g = 1; g < m.geo.groups; g *= 3)
    if (disk::Geometry::is_backup_group(g)) at.push_back(m.geo.backup_block(g) << m.geo.block_shift);
  at.push_back(m.geo.last_backup_byte());
  return at;
}

void plan_supers(Model &m, std::vector<Write> &out) {
  for (u64 at : super_places(m)) {
    disk::SuperDisk want = m.super;
    disk::seal_super(want, at);
    Buffer is(sizeof want);
    if (read_at(m.dev, at, is) == Errno::ok && memcmp(is.data(), &want, sizeof want) == 0) continue;
    const Bytes b = bytes_of(want);
    out.push_back({at, Buffer(b.begin(), b.end())});
    m.safe(cat(at == disk::kSuperOffset ? "the superblock" : cat("the copy of the superblock at byte ", at),
               " is written anew from a good one"));
  }
}

// What is in the slot of transaction txn, by its copies; which of them are sound.
struct Slot {
  Buffer block;
  u64 txn = 0;
  bool sound[2] = {};
};

Slot read_slot(const Model &m, unsigned slot) {
  Slot s;
  for (unsigned mirror = 0; mirror < 2; mirror++) {
    Buffer buf(m.root_block.size());
    disk::Refusal why;
    if (!store::read_root(m.dev, m.geo, slot, mirror, buf, &why).ok()) continue;
    const u64 txn = reinterpret_cast<const disk::RootDisk *>(buf.data())->header.txn;
    s.sound[mirror] = txn >= s.txn;
    if (txn < s.txn) continue;
    if (txn > s.txn) s.sound[0] = s.sound[0] && mirror == 0;
    s.txn = txn;
    s.block = std::move(buf);
  }
  return s;
}

bool log_waits(const Model &m) {
  if (!m.geo.has_log) return false;
  store::LogReader log(m.dev, m.geo, const_cast<Model &>(m).root());
  return !log.scan().ok() || log.groups() != 0 || log.hole() || log.newer();
}

}  // namespace

// The same state once more, as a transaction of its own, without the mark.
void Repair::plan_mark() {
  Model &m = *m_;
  if (!(m.root().state & disk::kRootStateErrors) || log_waits(m)) return;
  Buffer contents = m.root_block;
  auto *r = reinterpret_cast<disk::RootDisk *>(contents.data());
  r->state = r->state & ~disk::kRootStateErrors;
  for (unsigned mirror = 0; mirror < 2; mirror++) root_.push_back(root_write(m, contents, m.new_txn(), mirror));
  m.safe(kMarkGoes);
}

void Repair::plan_copies() {
  Model &m = *m_;
  plan_supers(m, after_);
  const unsigned newer = m.txn % 2;
  for (unsigned slot = 0; slot < 2; slot++) {
    const Slot s = read_slot(m, slot);
    // The new root goes to the other slot: over two usable copies, as with a commit.
    if (slot != newer && !root_.empty()) {
      if (s.sound[0] != s.sound[1]) before_.push_back(root_write(m, s.block, s.txn, s.sound[0] ? 1 : 0));
      continue;
    }
    if (s.sound[0] && s.sound[1]) continue;
    if (s.sound[0] || s.sound[1]) {
      after_.push_back(root_write(m, s.block, s.txn, s.sound[0] ? 1 : 0));
      m.safe(cat("root slot ", slot, ": the damaged copy is written anew from the good one"));
    } else if (slot != newer && root_.empty() && !m.newer_lost && !log_waits(m)) {
      // The same state once more, as a transaction of its own.
      for (unsigned mirror = 0; mirror < 2; mirror++) root_.push_back(root_write(m, m.root_block, m.new_txn(), mirror));
      m.safe(cat("root slot ", slot, ": both copies are damaged: written anew"));
    }
  }
}

Errno Repair::plan(Depth depth) {
  Model &m = *m_;
  if (Errno e = load_super(m); e != Errno::ok) return e;
  Errno e = load_root(m);
  if (e == Errno::nomem) return e;
  const bool rootless = e != Errno::ok;
  if (rootless && depth != Depth::all) {
    plan_supers(m, after_);
    return Errno::ok;
  }
  if (rootless) begin_without_root(m);
  if (depth == Depth::all) {
    if (e = plan_new_state(); e != Errno::ok) return e;
  }
  if (!rootless) {
    if (depth == Depth::checked) plan_mark();
    plan_copies();
    return Errno::ok;
  }
  plan_supers(m, after_);
  // The other slot is no good either: the same state once more, as a transaction of its own.
  for (unsigned mirror = 0; mirror < 2; mirror++)
    after_.push_back(root_write(m, root_.front().bytes, m.new_txn() + 1, mirror));
  return Errno::ok;
}

// ----------------------------------------------------------------- writing
namespace {

Errno write_list(vx_bdev *to, const std::vector<Write> &list, u32 flags) {
  for (const Write &w : list) {
    const Status st = store::device_write(to, w.off, w.bytes, VX_IO_META | flags);
    if (!st.ok()) return st.code();
  }
  const int e = vx_bdev_flush(to);
  return e ? static_cast<Errno>(-e) : Errno::ok;
}

}  // namespace

Errno Repair::apply(vx_bdev *to) const {
  for (const auto &[list, flags] : {std::pair{&before_, 0u}, std::pair{&root_, u32{VX_IO_FUA}}, std::pair{&after_, 0u}})
    if (!list->empty())
      if (Errno e = write_list(to, *list, flags); e != Errno::ok) return e;
  return Errno::ok;
}

}  // namespace vexfs::repair
