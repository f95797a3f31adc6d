// SPDX-License-Identifier: MIT
// Scrub: damage of each kind on the device is found, where it is, while memory has the good contents; nothing else is.
#include <algorithm>

#include "../../kernel/core/disk/vector_items.h"
#include "../../kernel/core/fs/filesystem.h"
#include "../../kernel/core/store/state.h"
#include "scrub_fixture.h"

namespace vexfs::vector::test {
namespace {

constexpr uint32_t dim = 64, rows = 3000;

struct VectorScrub : ScrubTest {
  vx_inode *dir = m.mkdir(m.root(), "c");
  std::string text = std::string(300000, 'x');

  void SetUp() override {
    for (size_t i = 0; i < text.size(); i++) text[i] = static_cast<char>(i * 2654435761u >> 13);
    for (int i = 0; i < 400; i++) m.close(m.make(m.root(), "some name or other " + std::to_string(i)));
    vx_inode *f = m.make(m.root(), "file");
    ASSERT_EQ(m.write(f, text), 0);
    ASSERT_EQ(m.create(dir, dim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW), 0);
    std::mt19937 rng(1);
    std::vector<float> data(dim * rows);
    for (auto &x : data) x = std::uniform_real_distribution<float>(-1, 1)(rng);
    ASSERT_EQ(m.batch(dir, VEXFS_BATCH_ADD, data, dim, nullptr), 0);
    m.remount();
    dir = m.open(m.root(), "c");
    // So that memory has it all before anything is damaged.
    std::vector<vexfs_hit> hits;
    ASSERT_EQ(m.search(dir, Row(data.begin(), data.begin() + dim), 10, &hits), 0);
    ASSERT_EQ(m.search(dir, Row(data.begin(), data.begin() + dim), 10, &hits, VEXFS_SEARCH_EXACT), 0);
  }

  store::Tree &tree(store::TreeId id) { return static_cast<fs::Inode *>(m.root())->filesystem().volume().tree(id); }
  template <class T>
  std::vector<T> items(store::TreeId id, store::Key from, store::Key to) {
    std::vector<T> all;
    EXPECT_TRUE(tree(id)
                    .scan(from, to,
                          [&](const store::Key &, Bytes b) {
                            T t{};
                            memcpy(&t, b.data(), std::min(b.size(), sizeof t));
                            all.push_back(t);
                            return true;
                          })
                    .ok());
    return all;
  }
};

TEST_F(VectorScrub, SoundOnesHaveNothing) {
  EXPECT_TRUE(scrub().empty());
  EXPECT_GT(totals.nodes, 10u);
  EXPECT_GE(totals.data_bytes, text.size());
  EXPECT_GE(totals.vector_bytes, uint64_t{rows} * dim * 4 * 2 / 3);
  scrub(VEXFS_SCRUB_DATA);
  EXPECT_EQ(totals.nodes + totals.vector_bytes, 0u);
  EXPECT_GE(totals.data_bytes, text.size());
}

TEST_F(VectorScrub, ChangesInMemoryAreNotDamage) {
  vx_inode *f = m.open(m.root(), "file");
  ASSERT_EQ(m.write(f, "new", 1000), 0);
  for (int i = 0; i < 300; i++) m.close(m.make(m.root(), "another " + std::to_string(i)));
  for (uint64_t id = 1; id < 500; id++) ASSERT_EQ(m.del(dir, id), 0);
  Row r(dim, 0.5f);
  for (int i = 0; i < 50; i++) {
    uint64_t id = VEXFS_ID_AUTO;
    ASSERT_EQ(m.add(dir, r, &id), 0);
  }
  EXPECT_TRUE(scrub().empty());
}

TEST_F(VectorScrub, FileData) {
  auto extents = items<disk::DiskExtent>(store::TreeId::fs, {1, static_cast<u8>(disk::FsItem::extent), 0},
                                         {~u64{0}, static_cast<u8>(disk::FsItem::extent), ~u64{0}});
  ASSERT_FALSE(extents.empty());
  vx_inode *f = m.open(m.root(), "file");
  for (uint64_t b : {3, 5, 6}) {
    struct vx_map map;
    ASSERT_EQ(vx_map(f, b * 4096, 4096, &map), 0);
    flip(map.disk + 100);
  }
  for (uint32_t capacity : {1u, 2u, 64u}) {
    auto found = scrub(0, 200000, capacity);
    ASSERT_EQ(found.size(), 3u) << capacity;
    uint64_t off[] = {3 * 4096, 5 * 4096, 6 * 4096};
    for (size_t i = 0; i < 3; i++) {
      EXPECT_EQ(found[i].kind, u32{VEXFS_FOUND_DATA});
      EXPECT_EQ(found[i].ino, vx_ino(f));
      EXPECT_EQ(found[i].offset, off[i]);
    }
  }
  EXPECT_TRUE(scrub(VEXFS_SCRUB_NODES | VEXFS_SCRUB_VECTORS).empty());
}

TEST_F(VectorScrub, Rows) {
  auto chunks = items<disk::ChunkItem>(store::TreeId::collections, {1, static_cast<u8>(disk::VectorItem::chunk), 0},
                                       {1, static_cast<u8>(disk::VectorItem::chunk), ~u64{0}});
  ASSERT_FALSE(chunks.empty());
  uint64_t at = chunks[0].pieces[0].start * 4096;
  flip(at + 7 * dim * 4);
  flip(at + 9 * dim * 4 + 3);
  ASSERT_EQ(m.del(dir, 10), 0);  // slot 9, if ids and slots begin together
  for (uint32_t capacity : {1u, 64u}) {
    auto found = scrub(0, 200000, capacity);
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].kind, u32{VEXFS_FOUND_ROW});
    EXPECT_EQ(found[0].ino, vx_ino(dir));
    EXPECT_EQ(found[0].device, at + 7 * dim * 4);
  }
}

TEST_F(VectorScrub, Index) {
  auto blobs = items<disk::BlobItem>(store::TreeId::collections, {1, static_cast<u8>(disk::VectorItem::index_blob), 0},
                                     {1, static_cast<u8>(disk::VectorItem::index_blob), ~u64{0}});
  ASSERT_FALSE(blobs.empty());
  flip(blobs.back().start * 4096 + 5);
  auto found = scrub();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].kind, u32{VEXFS_FOUND_INDEX});
  EXPECT_EQ(found[0].ino, vx_ino(dir));
}

// Every node of every tree, damaged one after the other: found, and cured out of memory.
TEST_F(VectorScrub, NodesAreWrittenAnew) {
  ASSERT_EQ(m.commit(), 0);
  uint32_t node = m.fs_info().node_size, cured = 0;
  // Where they are is found as a scrub finds them: all nodes at once are bad, and all are found.
  std::vector<uint64_t> places;
  {
    auto &v = static_cast<fs::Inode *>(m.root())->filesystem().volume();
    // Devices take aligned memory alone.
    const std::unique_ptr<u8, void (*)(void *)> buf(static_cast<u8 *>(aligned_alloc(4096, node)), free);
    store::ScrubPlace p;
    store::ScrubbedNode n;
    for (bool more = true; more;) {
      auto r = v.scrub_node(p, {buf.get(), node}, n);
      ASSERT_TRUE(r.ok());
      ASSERT_EQ(n.err, Errno::ok);
      more = *r;
      if (n.read) places.push_back(n.block * 4096);
    }
  }
  ASSERT_GE(places.size(), 8u);  // about 11: how names fall into leaves depends on the random seed of their hash
  for (uint64_t at : places) flip(at + node / 2);
  auto found = scrub(VEXFS_SCRUB_NODES, 200000, 3);
  for (const auto &f : found) {
    EXPECT_EQ(f.kind, u32{VEXFS_FOUND_NODE});
    EXPECT_TRUE(std::count(places.begin(), places.end(), f.device)) << f.device;
    if (f.flags & VEXFS_FOUND_REPAIRED) cured++;
  }
  // Curing one node cures those above it: they are found damaged before, or not at all.
  EXPECT_GT(found.size(), places.size() / 2);
  EXPECT_EQ(cured, found.size());
  ASSERT_EQ(m.commit(), 0);
  EXPECT_TRUE(scrub().empty());
  EXPECT_TRUE(m.check());
}

TEST_F(VectorScrub, AnyPositionIsTaken) {
  std::mt19937_64 rng(7);
  vexfs_found some[8];
  for (int i = 0; i < 3000; i++) {
    vexfs_scrub v{};
    v.size = sizeof v;
    v.capacity = 8;
    v.found_size = sizeof some[0];
    v.found = reinterpret_cast<__u64>(some);
    v.budget = 100000;
    for (auto &x : v.position) x = rng() >> (rng() % 64);
    const bool known = (v.position[0] & 0xff) <= 5;
    int e = m.ioctl(m.root(), VEXFS_IOCTL_SCRUB, &v);
    EXPECT_EQ(e, known ? 0 : -EINVAL);
    if (e == 0) {
      EXPECT_EQ(v.count, 0u);
    }
  }
  vexfs_scrub v{};
  v.size = sizeof v;
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SCRUB, &v), -EINVAL) << "no room for findings";
  v.capacity = 1;
  v.found_size = 31;
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SCRUB, &v), -EINVAL);
  v.found_size = sizeof some[0];
  v.flags = 32;
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SCRUB, &v), -EINVAL);
  v.flags = 0;
  v.reserved[3] = 1;
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SCRUB, &v), -EINVAL);
}

TEST_F(VectorScrub, AFindingThatCannotBeDeliveredIsNotPassedOver) {
  vx_inode *f = m.open(m.root(), "file");
  struct vx_map map;
  ASSERT_EQ(vx_map(f, 0, 4096, &map), 0);
  flip(map.disk);
  vexfs_scrub v{};
  v.size = sizeof v;
  v.flags = VEXFS_SCRUB_DATA;
  v.capacity = 4;
  v.found_size = sizeof(vexfs_found);
  v.position[0] = 1;
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SCRUB, &v), -EFAULT);
  EXPECT_EQ(v.position[1], 0u);
  vexfs_found some[4];
  v.found = reinterpret_cast<__u64>(some);
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SCRUB, &v), 0);
  EXPECT_EQ(v.count, 1u);
}

// What lies at fixed places: each kind is found where it is, and is sound again afterwards.
TEST_F(VectorScrub, FixedPlaces) {
  auto &state = static_cast<fs::Inode *>(m.root())->filesystem().volume().state();
  const disk::Geometry &geo = state.geo;
  const unsigned shift = geo.block_shift;
  auto home = [](uint64_t word) { return word & disk::kHomeBit ? 1u : 0u; };
  uint64_t group = 0;
  while (!state.alloc.group(group).bits.load() || state.alloc.group(group).word & disk::kGroupUninit) group++;
  const unsigned newest = state.durable_txn.load() % 2;
  struct {
    uint64_t byte, kind, number;
  } damage[] = {
      {disk::kSuperOffset, 0, 0},
      {geo.backup_block(1) << shift, 0, 1},
      {geo.last_backup_byte(), 0, 3},
      {geo.root_slot[newest] << shift, 1, newest},
      {geo.root_mirror[1 - newest] << shift, 1, 1 - newest},
      {(geo.desc_start + home(state.desc_word[0]) * geo.desc_count) << shift, 2, 0},
      {geo.bitmap_block(group, home(state.alloc.group(group).word)) << shift, 3, group},
  };
  EXPECT_TRUE(scrub(VEXFS_SCRUB_FIXED).empty());
  for (const auto &d : damage) {
    SCOPED_TRACE(d.kind);
    flip(d.byte + 100);
    for (uint32_t capacity : {1u, 64u}) {
      if (capacity == 64) flip(d.byte + 100);
      if (capacity == 64 && d.kind >= 2) continue;  // it has moved to its other home
      auto found = scrub(VEXFS_SCRUB_FIXED, 5000, capacity);
      ASSERT_EQ(found.size(), 1u);
      EXPECT_EQ(found[0].kind, u32{VEXFS_FOUND_FIXED});
      EXPECT_EQ(found[0].flags, VEXFS_FOUND_REPAIRED);
      EXPECT_EQ(found[0].ino, d.kind);
      EXPECT_EQ(found[0].offset, d.number);
      EXPECT_EQ(found[0].device, d.byte);
      EXPECT_TRUE(scrub().empty());
    }
  }
  EXPECT_TRUE(m.check());
}

// Both copies of a root: commits write the slots again.
TEST_F(VectorScrub, BothCopiesOfARoot) {
  auto &state = static_cast<fs::Inode *>(m.root())->filesystem().volume().state();
  const disk::Geometry &geo = state.geo;
  for (unsigned which : {0u, 1u}) {
    const unsigned slot = which ? state.durable_txn.load() % 2 : 1 - state.durable_txn.load() % 2;
    flip((geo.root_slot[slot] << geo.block_shift) + 100);
    flip((geo.root_mirror[slot] << geo.block_shift) + 100);
    auto found = scrub(VEXFS_SCRUB_FIXED);
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].ino, 1u);
    EXPECT_EQ(found[0].offset, slot);
    EXPECT_EQ(found[0].flags, VEXFS_FOUND_REPAIRED);
    EXPECT_TRUE(scrub().empty());
  }
  EXPECT_TRUE(m.check());
}

// Who may only read repairs nothing, and a bitmap that memory does not have is told of alone.
TEST_F(VectorScrub, FixedPlacesThatStayDamaged) {
  m.remount(true);
  auto &state = static_cast<fs::Inode *>(m.root())->filesystem().volume().state();
  flip(state.geo.last_backup_byte() + 100);
  auto found = scrub(VEXFS_SCRUB_FIXED);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].flags, 0u);
  flip(state.geo.last_backup_byte() + 100);
  m.remount();
  auto &now = static_cast<fs::Inode *>(m.root())->filesystem().volume().state();
  uint64_t group = 0;
  while (group < now.geo.groups &&
         (now.alloc.group(group).bits.load() || now.alloc.group(group).word & disk::kGroupUninit))
    group++;
  if (group == now.geo.groups) GTEST_SKIP() << "memory has all bitmaps";
  flip((now.geo.bitmap_block(group, now.alloc.group(group).word & disk::kHomeBit ? 1 : 0) << now.geo.block_shift) + 70);
  found = scrub(VEXFS_SCRUB_FIXED);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].ino, 3u);
  EXPECT_EQ(found[0].flags, 0u);
}

}  // namespace
}  // namespace vexfs::vector::test
