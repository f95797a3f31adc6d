// SPDX-License-Identifier: MIT
// Space: geometry and mkfs, allocation of extents, promises, full disks, and space that comes back.
#include <gtest/gtest.h>

#include "store_fixture.h"

namespace vexfs::test {
namespace {

using store::Extent;
using store::FormatOptions;
using store::Key;
using store::Layout;
using store::Reserve;
using store::TreeId;
using store::Volume;

class StoreSpace : public StoreTest {
 protected:
  void build(uint64_t size, uint32_t block = 4096, uint32_t node = 16384, uint32_t group = 0) {
    FormatOptions f;
    f.block_size = block;
    f.node_size = node;
    f.group_blocks = group;
    f.log_blocks = 0;
    make(size, f);
    open();
  }
  // Allocates, publishes in a transaction, and returns what it got.
  std::vector<Extent> take(uint64_t blocks, uint64_t goal = 0) {
    std::vector<Extent> out;
    while (blocks) {
      auto e = vol().alloc(goal, 1, blocks, false);
      if (!e.ok()) break;
      auto h = begin(1, true);
      vol().publish(h, *e);
      out.push_back(*e);
      blocks -= e->count;
      goal = e->end();
    }
    return out;
  }
  void give(const std::vector<Extent> &all) {
    for (const Extent &e : all) {
      auto h = begin(1, true);
      vol().free(h, e, 1);
    }
  }
};

TEST_F(StoreSpace, FormatOfManySizes) {
  for (uint32_t block : {1024u, 2048u, 4096u, 16384u, 65536u}) {
    for (uint64_t mib : {2ull, 3ull, 4ull, 5ull, 8ull, 16ull, 33ull, 63ull, 64ull, 127ull, 128ull, 129ull, 1000ull,
                         1ull << 14, 1ull << 18}) {
      uint64_t size = (mib << 20) + (mib % 3) * 512 * 7;
      host::MemDevice dev(size);
      FormatOptions f;
      f.block_size = block;
      Layout l;
      Status st = store::format(&dev, f, &l);
      SCOPED_TRACE("block " + std::to_string(block) + " MiB " + std::to_string(mib));
      if (!st.ok()) {
        EXPECT_TRUE(st.code() == Errno::nospc && size < 4 << 20) << static_cast<int>(st.code());
        continue;
      }
      EXPECT_GE(l.total_blocks * block + size / 8 + 65536 * 64, size) << "much of the device is left out";
      EXPECT_EQ(l.meta_blocks + l.free_blocks, l.total_blocks);
      EXPECT_LT(dev.resident_bytes(), 96u << 20) << "mkfs writes too much";
      EXPECT_EQ(check_device(&dev), "");
      auto v = Volume::open(&dev, {});
      ASSERT_TRUE(v.ok());
      EXPECT_EQ((*v)->space().total, l.total_blocks);
      EXPECT_EQ((*v)->space().free, l.free_blocks);
      EXPECT_EQ((*v)->space().meta, l.meta_blocks);
      {
        auto h = (*v)->begin({});
        ASSERT_TRUE(h.ok());
        ASSERT_TRUE((*v)->tree(TreeId::fs).insert(*h, {1, 1, 1}, bytes("x")).ok());
      }
      ASSERT_TRUE((*v)->close().ok());
      EXPECT_EQ(check_device(&dev), "");
    }
  }
}

TEST_F(StoreSpace, FormatRefusesNonsense) {
  host::MemDevice dev(64 << 20);
  auto with = [&](auto &&change) {
    FormatOptions f;
    change(f);
    return store::format(&dev, f, nullptr).code();
  };
  EXPECT_EQ(with([](auto &f) { f.block_size = 512; }), Errno::inval);
  EXPECT_EQ(with([](auto &f) { f.block_size = 5000; }), Errno::inval);
  EXPECT_EQ(with([](auto &f) { f.block_size = 131072; }), Errno::inval);
  EXPECT_EQ(with([](auto &f) { f.node_size = 2048; }), Errno::inval);
  EXPECT_EQ(with([](auto &f) { f.node_size = 1 << 20; }), Errno::inval);
  EXPECT_EQ(with([](auto &f) { f.total_blocks = 1 << 20; }), Errno::inval);
  EXPECT_EQ(with([](auto &f) { f.group_blocks = 100; }), Errno::inval);
  EXPECT_EQ(with([](auto &f) { f.log_blocks = 1 << 20; }), Errno::nospc);
  EXPECT_EQ(with([](auto &f) { f.total_blocks = 100; }), Errno::nospc);
  EXPECT_EQ(dev.resident_bytes(), 0u) << "a refused mkfs wrote something";
  EXPECT_EQ(with([](auto &f) { f.dry_run = true; }), Errno::ok);
  EXPECT_EQ(dev.resident_bytes(), 0u) << "a dry run wrote something";
  EXPECT_EQ(Volume::open(&dev, {}).code(), Errno::inval);
}

TEST_F(StoreSpace, IdentityAndFeatures) {
  FormatOptions f;
  for (int i = 0; i < 16; i++) f.uuid[i] = static_cast<uint8_t>(i + 1);
  snprintf(f.label, sizeof f.label, "my label");
  make(16 << 20, f);
  open();
  EXPECT_STREQ(vol().label(), "my label");
  EXPECT_EQ(memcmp(vol().uuid(), f.uuid, 16), 0);
  EXPECT_EQ(vol().block_size(), 4096u);
  EXPECT_EQ(vol().node_size(), 16384u);
  EXPECT_GE(vol().max_item(), 3800u);
  ASSERT_TRUE(vol().close().ok());
  vol_.reset();
  auto with_features = [&](uint64_t compat, uint64_t ro, uint64_t incompat, bool read_only) {
    FormatOptions g = f;
    g.feature_compat = compat;
    g.feature_ro_compat = ro;
    g.feature_incompat = incompat;
    host::MemDevice dev(16 << 20);
    EXPECT_TRUE(store::format(&dev, g, nullptr).ok());
    host::set_log_hook([](vx_bdev *, int, const char *) {});
    auto v = Volume::open(&dev, {.read_only = read_only});
    host::set_log_hook({});
    if (v.ok()) {
      EXPECT_TRUE((*v)->close().ok());
    }
    return v.code();
  };
  EXPECT_EQ(with_features(1ull << 40, 0, 0, false), Errno::ok);
  EXPECT_EQ(with_features(0, 1ull << 40, 0, false), Errno::rofs);
  EXPECT_EQ(with_features(0, 1ull << 40, 0, true), Errno::ok);
  EXPECT_EQ(with_features(0, 0, 1ull << 40, true), Errno::opnotsupp);
}

TEST_F(StoreSpace, ReadOnlyDeviceAndMount) {
  build(16 << 20);
  {
    auto h = begin();
    ASSERT_TRUE(vol().tree(TreeId::fs).insert(h, {1, 1, 1}, bytes("x")).ok());
  }
  ASSERT_TRUE(vol().close().ok());
  vol_.reset();
  dev_->set_read_only(true);
  EXPECT_EQ(Volume::open(dev_.get(), {}).code(), Errno::rofs);
  options_.read_only = true;
  open();
  EXPECT_EQ(get(vol().tree(TreeId::fs), {1, 1, 1}), "x");
  EXPECT_EQ(vol().begin({}).code(), Errno::rofs);
  EXPECT_EQ(vol().reserve_blocks(1).code(), Errno::rofs);
  EXPECT_TRUE(vol().commit().ok());
  EXPECT_EQ(vol().set_read_only(false).code(), Errno::rofs);
  dev_->set_read_only(false);
  EXPECT_TRUE(vol().set_read_only(false).ok());
  {
    auto h = begin();
    ASSERT_TRUE(vol().tree(TreeId::fs).insert(h, {1, 1, 2}, bytes("y")).ok());
  }
  EXPECT_TRUE(vol().set_read_only(true).ok());
  EXPECT_EQ(vol().begin({}).code(), Errno::rofs);
  EXPECT_EQ(check_device(dev_.get()), "");
  options_.read_only = false;
  reopen();
  EXPECT_EQ(get(vol().tree(TreeId::fs), {1, 1, 2}), "y");
}

TEST_F(StoreSpace, LargeRequestsAreContiguous) {
  build(256 << 20);
  auto e = vol().alloc(0, 1, 8192, false);
  ASSERT_TRUE(e.ok());
  EXPECT_EQ(e->count, 8192u);
  auto most = vol().alloc(0, 1, ~0ull, false);
  ASSERT_TRUE(most.ok());
  EXPECT_GT(most->count, vol().group_blocks() / 2);
  vol().cancel(*most);
  auto next = vol().alloc(e->end(), 1, 100, false);
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(next->start, e->end()) << "the goal was free and not taken";
  EXPECT_EQ(next->count, 100u);
  EXPECT_EQ(vol().alloc(0, 1 << 20, 1 << 20, false).code(), Errno::nospc) << "longer than any group";
  vol().cancel(*e);
  vol().cancel(*next);
  uint64_t before = vol().space().free;
  auto min = vol().alloc(0, 512, 512, false);
  ASSERT_TRUE(min.ok());
  EXPECT_EQ(vol().space().free, before - 512);
  vol().cancel(*min);
  EXPECT_EQ(vol().space().free, before);
}

TEST_F(StoreSpace, FreedBlocksWaitForTheCommit) {
  build(8 << 20);
  auto mine = take(~0ull);
  uint64_t total = 0;
  for (auto &e : mine) total += e.count;
  EXPECT_GT(total, 900u);
  EXPECT_EQ(vol().alloc(0, 1, 1, false).code(), Errno::nospc);
  ASSERT_TRUE(vol().commit().ok());
  EXPECT_EQ(check_device(dev_.get(), mine), "");
  give(mine);
  EXPECT_EQ(vol().alloc(0, 1, 1, false).code(), Errno::nospc) << "reused before it was durable";
  EXPECT_GE(vol().space().pinned, total);
  ASSERT_TRUE(vol().commit().ok());
  EXPECT_EQ(vol().space().pinned, 0u);
  auto again = vol().alloc(0, 1, 100, false);
  ASSERT_TRUE(again.ok());
  vol().cancel(*again);
  check();
}

TEST_F(StoreSpace, NoBlockIsHandedOutTwice) {
  build(32 << 20, 1024, 1024, 1024);
  std::mt19937_64 rng(seed_from_env(11));
  std::vector<Extent> mine;
  std::vector<uint8_t> owned(vol().total_blocks());
  for (int i = 0; i < 20000; i++) {
    if (rng() % 5 < 3 || mine.empty()) {
      uint64_t min = 1 + rng() % 4, max = min + rng() % 60;
      auto e = vol().alloc(rng() % vol().total_blocks(), min, max, false);
      if (e.ok()) {
        ASSERT_GE(e->count, min);
        ASSERT_LE(e->count, max);
        for (uint64_t b = e->start; b < e->end(); b++) ASSERT_EQ(owned[b]++, 0) << b;
        auto h = begin(1, true);
        vol().publish(h, *e);
        mine.push_back(*e);
      }
    } else {
      size_t at = rng() % mine.size();
      auto h = begin(1, true);
      vol().free(h, mine[at], 1);
      for (uint64_t b = mine[at].start; b < mine[at].end(); b++) owned[b] = 0;
      mine[at] = mine.back();
      mine.pop_back();
    }
    if (rng() % 10 == 0) {
      auto h = begin(1, true);
      Key k{rng() % 50, 1, rng() % 50};
      auto &t = vol().tree(TreeId::fs);  // of the volume as it is open now
      Status st = rng() % 2 ? t.upsert(h, k, bytes(std::string(80, 'm'))) : t.erase(h, k);
      ASSERT_TRUE(st.ok() || st.code() == Errno::noent);
    }
    if (rng() % 500 == 0) {
      ASSERT_TRUE(vol().commit().ok());
    }
    if (rng() % 4000 == 0) {
      ASSERT_TRUE(vol().commit().ok());
      ASSERT_EQ(check_device(dev_.get(), mine), "");
      reopen();
    }
  }
  ASSERT_TRUE(vol().commit().ok());
  EXPECT_EQ(check_device(dev_.get(), mine), "");
}

// Bitmaps in memory are bounded; dropping and loading them again loses nothing.
TEST_F(StoreSpace, BitmapsAreDroppedAndLoadedAgain) {
  options_.node_cache_bytes = 1 << 20;
  build(128 << 20, 1024, 4096, 640);
  ASSERT_GT(vol().group_count(), 200u);
  std::mt19937_64 rng(seed_from_env(12));
  std::vector<Extent> mine;
  for (int i = 0; i < 6000; i++) {
    auto h = begin(1, true);
    if (rng() % 3 || mine.empty()) {
      auto e = vol().alloc(rng() % vol().total_blocks(), 1, 1 + rng() % 20, false);
      ASSERT_TRUE(e.ok());
      vol().publish(h, *e);
      mine.push_back(*e);
    } else {
      size_t at = rng() % mine.size();
      vol().free(h, mine[at], 1);
      mine[at] = mine.back();
      mine.pop_back();
    }
    h.end();
    if (i % 100 == 99) {
      ASSERT_TRUE(vol().commit().ok());
      EXPECT_LE(vol().state().alloc.loaded_bitmaps(), vol().state().max_bitmaps() + 8);
    }
  }
  EXPECT_GT(vol().counters().bitmaps_read.load(), 100u);
  ASSERT_TRUE(vol().close().ok());
  vol_.reset();
  EXPECT_EQ(check_device(dev_.get(), mine), "");
}

TEST_F(StoreSpace, PromisesAreKeptToTheLastBlock) {
  build(8 << 20);
  uint64_t promised = 0;
  while (vol().reserve_blocks(16).ok()) promised += 16;
  while (vol().reserve_blocks(1).ok()) promised++;
  EXPECT_EQ(vol().space().reserved, promised);
  EXPECT_EQ(vol().alloc(0, 1, 1, false).code(), Errno::nospc) << "promised blocks were given away";
  std::vector<Extent> mine;
  while (promised) {
    auto e = vol().alloc(0, 1, promised, true);
    ASSERT_TRUE(e.ok()) << promised << " blocks are still promised";
    mine.push_back(*e);
    promised -= e->count;
    // The completion of a promised write needs room for its item on a disk that is full.
    auto h = begin(1, true);
    vol().publish(h, *e);
    ASSERT_TRUE(vol().tree(TreeId::fs).insert(h, {1, 16, e->start}, bytes("extent")).ok());
  }
  EXPECT_EQ(vol().space().reserved, 0u);
  ASSERT_TRUE(vol().commit().ok());
  EXPECT_EQ(check_device(dev_.get(), mine), "");
}

// An operation that wants data blocks and places for nodes at once is told that the disk is full, however little is left.
TEST_F(StoreSpace, BlocksAndNodesWantedTogether) {
  build(6 << 20, 4096, 4096);
  uint64_t most = vol().space().avail, refused = 0, begun = 0;
  while (!vol().reserve_blocks(most).ok()) most--;  // a promise holds space for items too
  vol().unreserve_blocks(most);
  for (uint64_t left = 0; left < 150; left++) {
    ASSERT_TRUE(vol().reserve_blocks(most - left).ok());
    for (uint64_t blocks : {1, 20, 60, 140}) {
      Reserve r;
      r.items = 30;
      r.data_blocks = blocks;
      auto h = vol().begin(r);
      ASSERT_TRUE(h.ok() || h.code() == Errno::nospc) << static_cast<int>(h.code());
      (h.ok() ? begun : refused)++;
    }
    vol().unreserve_blocks(most - left);
  }
  EXPECT_GT(refused, 100u);
  EXPECT_GT(begun, 100u);
}

// Fill the volume with items until it says no; then everything can still be deleted, and all of it comes back.
TEST_F(StoreSpace, FullDiskDeletesAndRecovers) {
  for (uint32_t node : {1024u, 4096u, 16384u}) {
    SCOPED_TRACE(node);
    if (vol_) {
      ASSERT_TRUE(vol().close().ok());
      vol_.reset();
    }
    build(8 << 20, 1024, node);
    uint64_t free0 = vol().space().free;
    auto &t = vol().tree(TreeId::fs);
    std::mt19937_64 rng(5);
    uint64_t first_fill = 0;
    for (int cycle = 0; cycle < 4; cycle++) {
      std::vector<Key> keys;
      for (;;) {
        Key k{rng() % 1000, 1, rng()};
        auto h = vol().begin({});
        if (!h.ok()) {
          ASSERT_EQ(h.code(), Errno::nospc);
          break;
        }
        ASSERT_TRUE(t.insert(*h, k, bytes(std::string(150, 'f'))).ok());
        keys.push_back(k);
      }
      if (cycle == 0) first_fill = keys.size();
      EXPECT_GT(keys.size(), 10000u);
      EXPECT_GT(keys.size(), first_fill * 8 / 10) << "space was lost";
      // A second refusal is as firm as the first, and nothing was aborted.
      EXPECT_EQ(vol().begin({}).code(), Errno::nospc);
      EXPECT_FALSE(vol().aborted());
      std::shuffle(keys.begin(), keys.end(), rng);
      for (const Key &k : keys) {
        auto h = begin(1, true);
        ASSERT_TRUE(t.erase(h, k).ok());
      }
      ASSERT_TRUE(vol().commit().ok());
      EXPECT_EQ(check_device(dev_.get()), "");
      EXPECT_GE(vol().space().free + 2 * node / 1024, free0);
    }
  }
}

// An operation that is larger than it said gets what it needs as long as there is any.
TEST_F(StoreSpace, OperationsLargerThanTheySaid) {
  build(16 << 20, 1024, 1024);
  auto &t = vol().tree(TreeId::fs);
  {
    auto h = begin(1);
    for (uint64_t i = 0; i < 5000; i++) {
      ASSERT_TRUE(t.insert(h, {i * 7919 % 5003, 1, 0}, bytes(std::string(200, 'z'))).ok()) << i;
    }
  }
  ASSERT_TRUE(vol().commit().ok());
  EXPECT_EQ(check_device(dev_.get()), "");
  {
    auto h = begin(1);
    auto n = t.erase_range(h, Key::min(), Key::max(), 10000, [](const Key &, Bytes) {});
    ASSERT_TRUE(n.ok());
    EXPECT_EQ(*n, 5000u);
  }
  check();
}

TEST_F(StoreSpace, DamagedExtentsAreNotFreed) {
  build(16 << 20);
  options_.on_error = store::ErrorPolicy::keep_going;
  reopen();
  int logged = 0;
  host::set_log_hook([&](vx_bdev *, int level, const char *) { logged += level <= VX_LOG_ERR; });
  uint64_t free = vol().space().free;
  {
    auto h = begin();
    vol().free(h, {0, 1}, 1);
    vol().free(h, {vol().total_blocks() - 1, 1}, 1);
    vol().free(h, {vol().total_blocks() + 5, 1}, 1);
    vol().free(h, {~0ull - 2, 100}, 1);
    vol().free(h, {100, vol().total_blocks()}, 1);
  }
  host::set_log_hook({});
  EXPECT_EQ(logged, 5);
  ASSERT_TRUE(vol().commit().ok());
  EXPECT_EQ(vol().space().free, free);
  check();
}

// Blocks that are freed twice: the commit refuses, and the disk stays as it was.
TEST_F(StoreSpace, DoubleFreeAborts) {
  build(16 << 20);
  auto e = take(10);
  ASSERT_TRUE(vol().commit().ok());
  host::set_log_hook([](vx_bdev *, int, const char *) {});
  give(e);
  give(e);
  EXPECT_EQ(vol().commit().code(), Errno::corrupt);
  EXPECT_TRUE(vol().aborted());
  (void)vol().close().ok();
  vol_.reset();
  host::set_log_hook({});
  EXPECT_EQ(check_device(dev_.get(), e), "");
}

TEST_F(StoreSpace, ObjectIdsAndBlobsSurvive) {
  build(16 << 20);
  uint8_t blob[store::kUserBlobBytes];
  memset(blob, 7, sizeof blob);
  uint64_t id;
  {
    auto h = begin();
    id = vol().take_object_id();
    EXPECT_EQ(vol().take_object_id(), id + 1);
    vol().set_blob(h, TreeId::collections, blob);
  }
  reopen();
  EXPECT_EQ(vol().next_object_id(), id + 2);
  uint8_t back[store::kUserBlobBytes];
  vol().get_blob(TreeId::collections, back);
  EXPECT_EQ(memcmp(blob, back, sizeof blob), 0);
  vol().get_blob(TreeId::fs, back);
  EXPECT_EQ(back[0], 0);
}

TEST_F(StoreSpace, ParticipantsSeeEveryCommit) {
  build(16 << 20);
  struct Mine : store::Participant {
    Volume *v = nullptr;
    int prepared = 0, frozen = 0, finished = 0, last_err = 1;
    uint8_t *buf = nullptr;
    uint64_t block = 0;
  } p;
  p.v = &vol();
  auto e = vol().alloc(0, 1, 1, false);
  ASSERT_TRUE(e.ok());
  p.block = e->start;
  p.buf = static_cast<uint8_t *>(vx_alloc_large(4096, 0));
  memset(p.buf, 0x5a, 4096);
  p.prepare = [](store::Participant *q) -> Status {
    auto *m = static_cast<Mine *>(q);
    m->prepared++;
    auto h = m->v->begin({});
    if (!h.ok()) return h.error();
    return m->v->tree(TreeId::fs).upsert(*h, {77, 1, 0}, bytes(std::to_string(m->prepared)));
  };
  p.freeze = [](store::Participant *q, u64, Vec<vx_io> &ios) -> Status {
    auto *m = static_cast<Mine *>(q);
    m->frozen++;
    return ios.push({m->block * 4096, 4096, m->buf, 0, VX_IO_WRITE});
  };
  p.done = [](store::Participant *q, u64, int err) {
    auto *m = static_cast<Mine *>(q);
    m->finished++;
    m->last_err = err;
  };
  {
    auto h = begin();
    vol().publish(h, *e);
  }
  vol().add_participant(p);
  ASSERT_TRUE(vol().commit().ok());
  vol().remove_participant(p);
  EXPECT_EQ(p.prepared, 1);
  EXPECT_EQ(p.frozen, 1);
  EXPECT_EQ(p.finished, 1);
  EXPECT_EQ(p.last_err, 0);
  ASSERT_TRUE(vol().commit().ok());
  EXPECT_EQ(p.prepared, 1);
  reopen();
  EXPECT_EQ(get(vol().tree(TreeId::fs), {77, 1, 0}), "1");
  memset(p.buf, 0, 4096);
  Status read = vol().read_blocks(p.block, {p.buf, 4096});
  uint8_t last = p.buf[4095];
  vx_free_large(p.buf, 4096);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(last, 0x5a);
}

TEST_F(StoreSpace, BackupsAreUsed) {
  build(300 << 20, 1024, 4096);
  {
    auto h = begin();
    ASSERT_TRUE(vol().tree(TreeId::fs).insert(h, {1, 1, 1}, bytes("kept")).ok());
  }
  ASSERT_TRUE(vol().close().ok());
  vol_.reset();
  host::set_log_hook([](vx_bdev *, int, const char *) {});
  std::vector<uint8_t> zero(4096);
  dev_->poke(4096, zero.data(), 4096);
  open();
  EXPECT_EQ(get(vol().tree(TreeId::fs), {1, 1, 1}), "kept");
  ASSERT_TRUE(vol().close().ok());
  vol_.reset();
  // The one at the end too: the one in group 1 is left.
  uint64_t bytes_total = layout_.total_blocks * 1024;
  dev_->poke(bytes_total - 4096, zero.data(), 4096);
  open();
  EXPECT_EQ(get(vol().tree(TreeId::fs), {1, 1, 1}), "kept");
  // One copy of each root slot.
  uint64_t root = vol().state().geo.root_slot[0];
  uint64_t mirror = vol().state().geo.root_mirror[1];
  ASSERT_TRUE(vol().close().ok());
  vol_.reset();
  dev_->poke(root * 1024, zero.data(), 1024);
  dev_->poke(mirror * 1024, zero.data(), 1024);
  open();
  EXPECT_EQ(get(vol().tree(TreeId::fs), {1, 1, 1}), "kept");
  host::set_log_hook({});
}

}  // namespace
}  // namespace vexfs::test
