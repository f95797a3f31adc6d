// SPDX-License-Identifier: MIT
// Snapshots of a volume: what one holds stays as it was whatever happens afterwards (overwriting, freeing, commits, syncs
// by the log, crashes, remounts, other snapshots coming and going), nothing of it is given to anybody else, and all space
// comes back when it is deleted. VX_SEED replays a run.
#include <algorithm>

#include "store_fixture.h"

namespace vexfs::test {
namespace {

// Blocks of data that an item of the fs tree refers to, all of them filled with one byte.
struct DataItem {
  uint64_t start, count, birth, fill;
};

// Device I/O wants aligned memory.
class Buffer {
 public:
  explicit Buffer(size_t n, int fill = 0) : n_(n), p_(static_cast<uint8_t *>(std::aligned_alloc(4096, n))) {
    memset(p_, fill, n);
  }
  ~Buffer() { free(p_); }
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;
  MutBytes bytes() { return {p_, n_}; }
  bool is_all(uint64_t fill) const {
    return std::all_of(p_, p_ + n_, [&](uint8_t b) { return b == fill; });
  }

 private:
  size_t n_;
  uint8_t *p_;
};

class SnapshotTest : public StoreTest {
 protected:
  struct Kept {
    uint64_t id;
    std::string name;
    Model fs, collections;
  };

  void SetUp() override {
    store::FormatOptions f;
    f.log_blocks = disk::kLogBytesMin / 4096;
    make(96 << 20, f);
    open();
  }

  static Bytes name_of(const std::string &s) { return bytes(s); }
  uint64_t create(const std::string &name) {
    auto id = vol().snapshot_create(name_of(name));
    EXPECT_TRUE(id.ok()) << static_cast<int>(id.code());
    return id.ok() ? *id : 0;
  }
  void reclaim_all() {
    for (;;) {
      auto more = vol().snapshot_reclaim(100);
      ASSERT_TRUE(more.ok()) << static_cast<int>(more.code());
      if (!*more) return;
    }
  }

  // Is the space of a rollback that has to do with this one still being counted?
  bool in_rollback(uint64_t id) {
    store::SnapshotInfo info;
    for (uint64_t at = 1;; at++) {
      auto found = vol().snapshot_next(at, &info);
      if (!found.ok()) return false;
      at = *found;
      if (info.counting && (at == id || info.replaced_by == id)) return true;
    }
  }
  // The newest snapshot, which a rollback to `target` has made; its collections tree is taken for what it was.
  void replaced_by(uint64_t target, Kept *out) {
    store::SnapshotInfo info;
    for (uint64_t at = 1;; at++) {
      auto found = vol().snapshot_next(at, &info);
      if (!found.ok()) break;
      at = out->id = *found;
      out->name = info.name;
    }
    EXPECT_EQ(info.replaced_by, target);
    EXPECT_TRUE(info.counting || options_.commit_interval_ms)
        << "nobody but the commit thread can have noted all of it";
    EXPECT_EQ(vol().rollback_requested(), 0u);
    auto v = vol().open_snapshot(out->id, {});
    ASSERT_TRUE(v.ok());
    out->collections = contents((*v)->tree(store::TreeId::collections));
  }

  // ---- data
  void add_data(std::mt19937_64 &rng, Model &model) {
    auto e = vol().alloc(0, 1, 1 + rng() % 30, false);
    if (!e.ok()) return;
    DataItem d{e->start, e->count, 0, rng() % 256};
    Buffer buf(e->count * vol().block_size(), static_cast<int>(d.fill));
    ASSERT_TRUE(vol().write_blocks(e->start, buf.bytes()).ok());
    auto handle = vol().begin({.items = 2});
    if (!handle.ok()) {  // a full disk
      EXPECT_EQ(handle.code(), Errno::nospc);
      return vol().cancel(*e);
    }
    store::Handle h = handle.take();
    vol().data_written();
    vol().publish(h, *e);
    d.birth = h.txn();
    store::Key k{5000 + serial_++, 16, 0};
    std::string v(reinterpret_cast<char *>(&d), sizeof d);
    ASSERT_TRUE(vol().tree(store::TreeId::fs).insert(h, k, bytes(v)).ok());
    model[model_key(k)] = v;
  }
  static bool is_data(const ModelKey &k) { return std::get<0>(k) >= 5000; }
  static DataItem data_of(const std::string &v) {
    DataItem d{};
    memcpy(&d, v.data(), sizeof d);
    return d;
  }
  void drop_data(std::mt19937_64 &rng, Model &model) {
    auto it = model.lower_bound(ModelKey{5000 + rng() % (serial_ + 1), 0, 0});
    if (it == model.end()) return;
    DataItem d = data_of(it->second);
    auto h = begin(2, true);
    ASSERT_TRUE(vol().tree(store::TreeId::fs).erase(h, {std::get<0>(it->first), 16, 0}).ok());
    vol().free(h, {d.start, d.count}, d.birth);
    model.erase(it);
  }

  // ---- judging
  void same(const store::Volume &v, const Model &want, const char *what) {
    Model got = contents(v.tree(store::TreeId::fs));
    ASSERT_EQ(got.size(), want.size()) << what;
    ASSERT_TRUE(got == want) << what;
    for (auto &[k, value] : got) {
      if (!is_data(k)) continue;
      DataItem d = data_of(value);
      Buffer buf(d.count * v.block_size());
      ASSERT_TRUE(v.read_blocks(d.start, buf.bytes()).ok());
      ASSERT_TRUE(buf.is_all(d.fill)) << what << ": data of " << std::get<0>(k) << " was overwritten";
    }
  }
  void view(const Kept &k) {
    auto v = vol().open_snapshot(k.id, {});
    ASSERT_TRUE(v.ok()) << static_cast<int>(v.code());
    same(**v, k.fs, k.name.c_str());
    EXPECT_TRUE(contents((*v)->tree(store::TreeId::collections)) == k.collections) << k.name;
    EXPECT_EQ((*v)->begin({.items = 1}).code(), Errno::rofs);
    EXPECT_EQ(vol().snapshot_delete(k.id).code(), Errno::busy) << "a view is open";
    ASSERT_TRUE((*v)->close().ok());
  }
  static void claim_data(store::Checker &c) {
    EXPECT_TRUE(c.walk(store::TreeId::fs, [&](const store::Key &k, Bytes b) {
                   if (k.oid < 5000) return true;
                   DataItem d = data_of(text(b));
                   EXPECT_TRUE(c.claim({d.start, d.count}, "data", k.oid, 0).ok());
                   return true;
                 }).ok());
    EXPECT_TRUE(c.walk(store::TreeId::collections, [](const store::Key &, Bytes) { return true; }).ok());
  }
  // Closed: current state and every snapshot against the bitmaps.
  void check_all(size_t snapshots) {
    std::string out;
    store::Checker c(dev_.get(), {[](void *ctx, store::Severity s, const char *line) {
                                    if (s == store::Severity::error)
                                      *static_cast<std::string *>(ctx) += std::string(line) + "\n";
                                  },
                                  nullptr, &out});
    ASSERT_TRUE(c.open().ok());
    claim_data(c);
    ASSERT_TRUE(c.walk(store::TreeId::refcounts, [](const store::Key &, Bytes) { return true; }).ok());
    ASSERT_TRUE(c.check_snapshots().ok());
    EXPECT_EQ(c.snapshot_count(), snapshots);
    for (size_t i = 0; c.enter_snapshot(i); i++) claim_data(c);
    ASSERT_TRUE(c.compare_space().ok());
    ASSERT_EQ(out, "");
  }

  uint64_t serial_ = 0;
};

TEST_F(SnapshotTest, NamesAndErrors) {
  for (const char *bad : {"", ".", "..", "a/b", "a\nb", "\x7f", "\xff", "\xc3"})
    EXPECT_EQ(vol().snapshot_create(bytes(bad)).code(), Errno::inval) << bad;
  EXPECT_EQ(vol().snapshot_create(bytes(std::string(64, 'x'))).code(), Errno::inval);
  uint64_t id = create("täglich 2026-11-21");
  EXPECT_EQ(vol().snapshot_create(bytes("täglich 2026-11-21")).code(), Errno::exist);
  EXPECT_EQ(*vol().snapshot_find(bytes("täglich 2026-11-21")), id);
  EXPECT_EQ(vol().snapshot_find(bytes("täglich")).code(), Errno::noent);
  store::SnapshotInfo info;
  EXPECT_EQ(*vol().snapshot_next(0, &info), id);
  EXPECT_STREQ(info.name, "täglich 2026-11-21");
  EXPECT_EQ(vol().snapshot_next(id + 1, &info).code(), Errno::noent);
  EXPECT_EQ(vol().snapshot_delete(id + 1).code(), Errno::noent);
  ASSERT_TRUE(vol().snapshot_delete(id).ok());
  EXPECT_EQ(vol().snapshot_delete(id).code(), Errno::noent);
  EXPECT_EQ(vol().snapshot_find(bytes("täglich 2026-11-21")).code(), Errno::noent);
  EXPECT_EQ(vol().open_snapshot(id, {}).code(), Errno::noent);
  EXPECT_NE(create("täglich 2026-11-21"), id) << "a number is never used again";
  ASSERT_TRUE(vol().set_read_only(true).ok());
  EXPECT_EQ(vol().snapshot_create(bytes("late")).code(), Errno::rofs);
}

// What was freed is not given away while the snapshot is there, and all of it is afterwards.
TEST_F(SnapshotTest, SpaceComesBack) {
  std::mt19937_64 rng(3);
  Model model;
  ASSERT_TRUE(vol().commit().ok());
  for (int i = 0; i < 200; i++) add_data(rng, model);
  ASSERT_TRUE(vol().commit().ok());
  uint64_t full = vol().space().free, blocks = 0;
  for (auto &[k, v] : model) blocks += data_of(v).count;
  uint64_t id = create("all");
  EXPECT_EQ(*vol().snapshot_own_blocks(id, [] { return false; }), 0u) << "the current state needs the same";
  while (!model.empty()) drop_data(rng, model);
  ASSERT_TRUE(vol().commit().ok());
  ASSERT_TRUE(vol().commit().ok());
  EXPECT_LE(vol().space().free, full) << "blocks of a snapshot became free";
  EXPECT_GE(*vol().snapshot_own_blocks(id, [] { return false; }), blocks);
  ASSERT_TRUE(vol().snapshot_delete(id).ok());
  reclaim_all();
  ASSERT_TRUE(vol().commit().ok());
  ASSERT_TRUE(vol().commit().ok());
  uint64_t own_trees = 2 * vol().state().geo.place_blocks();  // a leaf for the dead tree, one for that of the snapshots
  EXPECT_GE(vol().space().free + own_trees, full + blocks);
  EXPECT_EQ(count(vol().tree(store::TreeId::dead)), 0u);
  ASSERT_TRUE(vol_->close().ok());
  vol_.reset();
  check_all(0);
  open();
}

// On a full disk nothing can be deleted for good while a snapshot holds it; with the snapshot gone everything can.
TEST_F(SnapshotTest, FullDisk) {
  std::mt19937_64 rng(4);
  Model model;
  for (size_t before = 1; before != model.size();) {
    before = model.size();
    add_data(rng, model);
    if (model.size() == before) break;
  }
  ASSERT_TRUE(vol().commit().ok());
  // Some room, if what was left over is not enough for its own items.
  uint64_t id = 0;
  for (int i = 0; i < 50 && id == 0; i++) {
    auto made = vol().snapshot_create(bytes("full"));
    if (made.ok()) id = *made;
    for (int n = 0; n < 8 && made.code() == Errno::nospc; n++) drop_data(rng, model);
    ASSERT_TRUE(vol().commit().ok());
  }
  ASSERT_NE(id, 0u);
  for (int i = 0; i < 50; i++) drop_data(rng, model);
  ASSERT_TRUE(vol().commit().ok());
  same(vol(), model, "current");
  ASSERT_TRUE(vol().snapshot_delete(id).ok());
  reclaim_all();
  ASSERT_TRUE(vol().commit().ok());
  size_t before = model.size();
  add_data(rng, model);
  EXPECT_EQ(model.size(), before + 1);
  ASSERT_TRUE(vol_->close().ok());
  vol_.reset();
  check_all(0);
  open();
}

// Many small items: every deletion takes places for nodes and gives none back. It ends with "disk full", not with the
// volume, and what is kept for that is enough to delete the snapshot.
TEST_F(SnapshotTest, DeletingOnAFullDiskEndsWell) {
  auto &t = vol().tree(store::TreeId::fs);
  uint64_t n = 0;
  for (;; n++) {
    auto h = vol().begin({.items = 1});
    if (!h.ok()) {
      ASSERT_EQ(h.code(), Errno::nospc);
      break;
    }
    ASSERT_TRUE(t.insert(*h, {n * 7919 % 1000003, 1, n}, bytes(std::string(700, 'i'))).ok());
  }
  EXPECT_EQ(vol().snapshot_create(bytes("none")).code(), Errno::nospc);
  for (uint64_t k = 0; k < n; k++) {  // a little room, so that it can be made: neighbours go, and with them whole nodes
    if (k * 7919 % 1000003 > 20000) continue;
    auto h = begin(1, true);
    ASSERT_TRUE(t.erase(h, {k * 7919 % 1000003, 1, k}).ok());
  }
  ASSERT_TRUE(vol().commit().ok());
  uint64_t id = create("full");
  std::mt19937_64 rng(5);
  uint64_t erased = 0, refused = 0;
  for (int i = 0; i < 100000 && refused < 10; i++) {
    if (i % 50 == 0) (void)vol().commit().ok();
    uint64_t k = rng() % n;
    auto h = vol().begin({.items = 1, .freeing = true});
    if (!h.ok()) {
      ASSERT_EQ(h.code(), Errno::nospc);
      refused++;
      continue;
    }
    erased += t.erase(*h, {k * 7919 % 1000003, 1, k}).ok();
  }
  EXPECT_FALSE(vol().aborted());
  EXPECT_GT(erased, 10u);
  EXPECT_GT(refused, 0u);
  ASSERT_TRUE(vol().snapshot_delete(id).ok());
  reclaim_all();
  ASSERT_TRUE(vol().commit().ok());
  for (uint64_t k = 0; k < n; k++) {
    auto h = begin(1, true);
    Status st = t.erase(h, {k * 7919 % 1000003, 1, k});
    ASSERT_TRUE(st.ok() || st.code() == Errno::noent);
  }
  EXPECT_FALSE(vol().aborted());
}

// Giving space back is not a commit for every few blocks.
TEST_F(SnapshotTest, ReclaimingTakesFewCommits) {
  std::mt19937_64 rng(6);
  Model model;
  for (int i = 0; i < 1500; i++) add_data(rng, model);
  uint64_t id = create("many");
  while (!model.empty()) drop_data(rng, model);
  ASSERT_TRUE(vol().commit().ok());
  EXPECT_GT(count(vol().tree(store::TreeId::dead)), 1000u);
  uint64_t before = vol().counters().commits.load();
  ASSERT_TRUE(vol().snapshot_delete(id).ok());
  for (bool more = true; more;) {
    auto r = vol().snapshot_reclaim(4096);
    ASSERT_TRUE(r.ok());
    more = *r;
  }
  EXPECT_LE(vol().counters().commits.load(), before + 4);
  EXPECT_EQ(count(vol().tree(store::TreeId::dead)), 0u);
}

// While the device is not to change, nothing is given back.
TEST_F(SnapshotTest, QuietMeansQuiet) {
  std::mt19937_64 rng(7);
  Model model;
  add_data(rng, model);
  uint64_t id = create("quiet");
  drop_data(rng, model);
  ASSERT_TRUE(vol().snapshot_delete(id).ok());
  vol().quiesce(true);
  uint64_t durable = vol().durable_txn();
  EXPECT_FALSE(*vol().snapshot_reclaim(100));
  EXPECT_EQ(vol().durable_txn(), durable);
  EXPECT_GT(count(vol().tree(store::TreeId::dead)), 0u);
  vol().quiesce(false);
  reclaim_all();
  EXPECT_EQ(count(vol().tree(store::TreeId::dead)), 0u);
}

// Items that no program of ours wrote: a clear answer, and an end.
TEST_F(SnapshotTest, HostileItems) {
  disk::SnapshotItem item{};
  item.version = disk::kSnapshotVersion;
  item.state = static_cast<u8>(disk::SnapshotState::live);
  item.txn = 1;
  item.name[0] = 'x';
  auto try_with = [&](store::Key k, const disk::SnapshotItem &it) {
    {
      auto h = begin(1);
      ASSERT_TRUE(vol().tree(store::TreeId::snapshots).upsert(h, k, bytes_of(it)).ok());
    }
    EXPECT_EQ(vol().snapshot_find(bytes("nobody")).code(), Errno::corrupt);
    ASSERT_TRUE(vol().aborted());
    ASSERT_FALSE(vol_->close().ok() && false);
    vol_.reset();
    make(96 << 20, {});
    open();
  };
  try_with({~u64{0}, disk::kSnapshotType, 0}, item);
  disk::SnapshotItem late = item;
  late.txn = u64{1} << 60;
  try_with({5, disk::kSnapshotType, 0}, late);
  try_with({5, disk::kSnapshotType, 3}, item);
  try_with({5, 9, 0}, item);
  item.trees[0].root.levels = 3;
  item.trees[0].root.node.addr = 7;
  try_with({5, disk::kSnapshotType, 0}, item);
}

struct Shape {
  const char *name;
  bool with_thread;
};
// Back, and back again: nothing is lost, nothing is forgotten, and no block is leaked.
TEST_F(SnapshotTest, RollbackAndUndo) {
  std::mt19937_64 rng(8);
  Model first;
  for (int i = 0; i < 300; i++) add_data(rng, first);
  for (int i = 0; i < 500; i++) random_op(rng, first, 80);
  uint64_t id = create("first");
  Model second = first;
  for (int i = 0; i < 100; i++) drop_data(rng, second);
  for (int i = 0; i < 200; i++) add_data(rng, second);
  for (int i = 0; i < 500; i++) random_op(rng, second, 50);
  auto turn_back = [&](uint64_t to) {
    ASSERT_TRUE(vol().rollback_request(to).ok());
    EXPECT_EQ(vol().rollback_requested(), to);
    ASSERT_TRUE(vol_->close().ok());
    vol_.reset();
    open();
  };
  Kept before{}, again{};
  turn_back(id);
  same(vol(), first, "went back");
  replaced_by(id, &before);
  EXPECT_EQ(vol().snapshot_delete(before.id).code(), Errno::busy);
  EXPECT_EQ(vol().snapshot_delete(id).code(), Errno::busy);
  ASSERT_TRUE(vol_->close().ok());
  vol_.reset();
  check_all(2);  // nothing has been noted yet
  open();
  turn_back(before.id);  // before the blocks of the first are noted
  same(vol(), second, "undone");
  replaced_by(before.id, &again);
  for (int i = 0; i < 10; i++) ASSERT_TRUE(vol().snapshot_reclaim(1).ok());
  ASSERT_TRUE(vol_->close().ok());
  vol_.reset();
  check_all(3);
  open();
  reclaim_all();
  EXPECT_FALSE(in_rollback(id));
  ASSERT_TRUE(vol_->close().ok());
  vol_.reset();
  check_all(3);
  open();
  view({id, "first", first, {}});
  view({before.id, "before", second, {}});
  view({again.id, "again", first, {}});
  for (uint64_t s : {before.id, id, again.id}) ASSERT_TRUE(vol().snapshot_delete(s).ok());
  reclaim_all();
  ASSERT_TRUE(vol().commit().ok());
  EXPECT_EQ(count(vol().tree(store::TreeId::dead)), 0u);
  same(vol(), second, "in the end");
  ASSERT_TRUE(vol_->close().ok());
  vol_.reset();
  check_all(0);
  open();
  // taken back; and to one that is not there
  uint64_t id2 = create("second");
  ASSERT_TRUE(vol().rollback_request(id2).ok());
  ASSERT_TRUE(vol().rollback_request(0).ok());
  ASSERT_TRUE(vol().snapshot_delete(id2).ok());
  EXPECT_EQ(vol().rollback_request(id2).code(), Errno::noent);
}

class SnapshotModel : public SnapshotTest, public ::testing::WithParamInterface<Shape> {};

TEST_P(SnapshotModel, NothingChangesWhatASnapshotHolds) {
  uint64_t seed = seed_from_env(20261121);
  std::cout << "seed " << seed << "\n";
  std::mt19937_64 rng(seed);
  if (GetParam().with_thread) {
    ASSERT_TRUE(vol_->close().ok());
    options_.commit_interval_ms = 1;
    vol_.reset();
    open();
  }
  Model model, saved;
  std::vector<Kept> kept;
  int created = 0, deleted = 0, crashes = 0, rollbacks = 0;
  auto settle = [&] { saved = model; };
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr int steps = 3000;
#else
  constexpr int steps = 20000;
#endif
  for (int i = 0; i < steps && !HasFatalFailure(); i++) {
    uint64_t dice = rng() % 1000;
    if (dice < 6 && kept.size() < 12) {
      Kept k{0, "s" + std::to_string(created++), model, contents(vol().tree(store::TreeId::collections))};
      k.id = create(k.name);
      kept.push_back(k);
      settle();
    } else if (dice < 10 && !kept.empty()) {
      size_t which = rng() % kept.size();
      auto st = vol().snapshot_delete(kept[which].id);
      if (st.code() == Errno::busy && in_rollback(kept[which].id)) continue;
      ASSERT_TRUE(st.ok());
      kept.erase(kept.begin() + static_cast<long>(which));
      deleted++;
      settle();
    } else if (dice < 30) {
      uint64_t durable = vol().durable_txn();
      auto more = vol().snapshot_reclaim(1 + rng() % 40);
      ASSERT_TRUE(more.ok());
      if (vol().durable_txn() != durable) settle();  // the end of a deletion commits
    } else if (dice == 30 && !kept.empty()) {
      const Kept target = kept[rng() % kept.size()];
      ASSERT_TRUE(vol().rollback_request(target.id).ok());
      EXPECT_EQ(vol().snapshot_delete(target.id).code(), Errno::busy);
      settle();
      for (int k = 0; k < 30; k++) random_op(rng, model, 55);
      bool crash = rng() % 2 && !GetParam().with_thread;
      if (!crash) {
        ASSERT_TRUE(vol_->close().ok());
      }
      Kept before{0, "", crash ? saved : model, {}};
      vol_.reset();
      if (!crash) check_all(kept.size());
      open();
      replaced_by(target.id, &before);
      kept.push_back(before);
      model = target.fs;
      rollbacks++;
      settle();
      same(vol(), model, "after a rollback");
      EXPECT_TRUE(contents(vol().tree(store::TreeId::collections)) == target.collections);
    } else if (dice < 40 && !kept.empty()) {
      view(kept[rng() % kept.size()]);
    } else if (dice < 60) {
      ASSERT_TRUE((rng() % 2 ? vol().commit() : vol().sync(true)).ok());
      settle();
    } else if (dice < 64) {
      bool crash = rng() % 2 && !GetParam().with_thread;  // with a thread nobody knows what was committed
      if (crash) {
        crashes++;
        model = saved;
      } else {
        ASSERT_TRUE(vol_->close().ok());
        settle();
      }
      vol_.reset();
      if (!crash) check_all(kept.size());
      open();
      same(vol(), model, crash ? "after a crash" : "after a remount");
    } else if (dice < 200) {
      add_data(rng, model);
    } else if (dice < 330) {
      drop_data(rng, model);
    } else {
      random_op(rng, model, 55);
    }
  }
  reclaim_all();  // what a rollback needs cannot be deleted
  for (auto &k : kept) view(k);
  EXPECT_GT(created, 10);
  EXPECT_GT(deleted, 5);
  EXPECT_GT(rollbacks, 0);
  EXPECT_EQ(crashes > 0, !GetParam().with_thread);
  std::cout << created << " snapshots made, " << deleted << " deleted, " << crashes << " crashes, "
            << vol().counters().dead_blocks.load() << " blocks kept since the last mount\n";
  for (auto &k : kept) ASSERT_TRUE(vol().snapshot_delete(k.id).ok());
  reclaim_all();
  ASSERT_TRUE(vol_->close().ok());
  vol_.reset();
  check_all(0);
  open();
  EXPECT_EQ(count(vol().tree(store::TreeId::dead)), 0u);
  same(vol(), model, "at the end");
}

INSTANTIATE_TEST_SUITE_P(Shapes, SnapshotModel, ::testing::Values(Shape{"alone", false}, Shape{"with_thread", true}),
                         [](const auto &i) { return std::string(i.param.name); });

}  // namespace
}  // namespace vexfs::test
