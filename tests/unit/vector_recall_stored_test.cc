// SPDX-License-Identifier: MIT
// What was measured of an index, on disk: when it is written, of which index it is, and items that say anything.
#include <random>

#include "../../kernel/core/api_internal.h"
#include "../../kernel/core/disk/vector_items.h"
#include "../../lib/repair/repair.h"
#include "vector_fixture.h"

namespace vexfs::vector::test {
namespace {

constexpr uint32_t dim = 16, rows = 1200;
const store::Key key{1, static_cast<u8>(disk::VectorItem::recall), 0};

std::vector<float> cloud(uint32_t n, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<float> gauss(0, 1);
  std::vector<float> out(size_t{n} * dim);
  for (float &f : out) f = gauss(rng);
  return out;
}

class RecallStored : public testing::Test {
 protected:
  void SetUp() override {
    vexfs_collection c{};
    c.size = sizeof c;
    c.dim = dim;
    c.element = VEXFS_F32;
    c.metric = VEXFS_L2;
    c.index = VEXFS_INDEX_HNSW;
    c.m = 6;
    c.ef_construction = 40;
    c.recall = 950;
    ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_CREATE, &c), 0);
    ASSERT_EQ(add(rows, 1), 0);
  }
  int add(uint32_t n, uint64_t seed) { return m.batch(m.root(), VEXFS_BATCH_ADD, cloud(n, seed), dim, nullptr); }
  vexfs_index status(vx_fs *fs = nullptr, vx_inode *root = nullptr) {
    vexfs_index x{};
    x.size = sizeof x;
    x.op = VEXFS_INDEX_STATUS;
    EXPECT_EQ(fs ? vx_ioctl(fs, root, VEXFS_IOCTL_MANAGE_INDEX, reinterpret_cast<vx_u64>(&x), &m.caller)
                 : m.ioctl(m.root(), VEXFS_IOCTL_MANAGE_INDEX, &x),
              0);
    return x;
  }
  // What is on disk; false: nothing is.
  bool stored(disk::RecallItem *out) {
    Result<usize> n = m.fs()->volume->tree(store::TreeId::collections).get(key, mut_bytes_of(*out));
    EXPECT_TRUE(n.ok() ? *n == sizeof *out : n.code() == Errno::noent);
    return n.ok();
  }
  void put(Bytes item) {
    Result<store::Handle> h = m.fs()->volume->begin({.items = 2});
    ASSERT_TRUE(h.ok());
    ASSERT_TRUE(m.fs()->volume->tree(store::TreeId::collections).upsert(*h, key, item).ok());
  }
  Mount m;
};

TEST_F(RecallStored, IsWrittenWhenItWasMeasured) {
  disk::RecallItem item;
  ASSERT_TRUE(stored(&item));
  EXPECT_EQ(disk::verify_recall(bytes_of(item), rows), nullptr);
  EXPECT_EQ(item.slots, rows);
  EXPECT_EQ(item.by, VEXFS_RECALL_BY_ROWS);
  EXPECT_EQ(item.flags, 0u);
  std::string text(4096, 0);
  Printer p({text.data(), text.size()});
  disk::print_vector_item(p, 1, 9, 0, bytes_of(item));
  EXPECT_NE(std::string(p.c_str()).find("recall 1 0: slots 1200 dead 0 by 2 queries 256 walked "), std::string::npos)
      << p.c_str();
  // It grows a little: not measured again, before a mount or after it.
  const vexfs_index before = status();
  m.remount();
  ASSERT_EQ(add(rows / 8, 2), 0);
  EXPECT_EQ(status().recall_slots, rows);
  m.remount();
  EXPECT_EQ(status().recall_slots, rows);
  EXPECT_EQ(status().recall_ef, before.recall_ef);
  // By half: measured, and stored.
  ASSERT_EQ(add(rows / 2, 3), 0);
  EXPECT_GE(status().recall_slots, rows + rows / 2);
  ASSERT_TRUE(stored(&item));
  EXPECT_EQ(item.slots, status().recall_slots);
  ASSERT_TRUE(m.check());
}

TEST_F(RecallStored, IsOfTheIndexThatWasMeasured) {
  disk::RecallItem item, other;
  ASSERT_TRUE(stored(&item));
  const uint32_t ef = status().recall_ef;
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_REBUILD, nullptr, VEXFS_INDEX_HNSW, 0, 12), 0);
  EXPECT_LT(status().recall_ef, ef);
  ASSERT_TRUE(stored(&other));
  EXPECT_NE(other.index, item.index);
  // The item of an index of before, as a crash between two transactions may leave it.
  put(bytes_of(item));
  ASSERT_TRUE(m.check());
  EXPECT_EQ(status().recall_by, VEXFS_RECALL_BY_NOTHING);
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_BUILD), 0);
  EXPECT_EQ(status().recall_by, VEXFS_RECALL_BY_ROWS);
  ASSERT_TRUE(stored(&item));
  EXPECT_EQ(item.index, other.index);
  // Without an index there is nothing to tell.
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_DROP), 0);
  EXPECT_FALSE(stored(&item));
  ASSERT_TRUE(m.check());
}

// An index that was made anew is measured anew, after a mount if it could not be before.
TEST_F(RecallStored, OutdatedIsMeasuredAgain) {
  disk::RecallItem item;
  ASSERT_TRUE(stored(&item));
  const vexfs_index before = status();
  item.flags = disk::kRecallOutdated;
  item.queries = 77;
  put(bytes_of(item));
  ASSERT_TRUE(m.check());
  EXPECT_EQ(status().recall_queries, 77u) << "until then it serves";
  EXPECT_EQ(status().recall_ef, before.recall_ef);
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_BUILD), 0);
  EXPECT_EQ(status().recall_queries, 256u);
  ASSERT_TRUE(stored(&item));
  EXPECT_EQ(item.flags, 0u);
  EXPECT_EQ(item.queries, 256u);
}

// An image from before there were such items.
TEST_F(RecallStored, WithoutItIsMeasured) {
  const vexfs_index before = status();
  {
    Result<store::Handle> h = m.fs()->volume->begin({.items = 1, .freeing = true});
    ASSERT_TRUE(h.ok());
    ASSERT_TRUE(m.fs()->volume->tree(store::TreeId::collections).erase(*h, key).ok());
  }
  ASSERT_TRUE(m.check());
  EXPECT_EQ(status().recall_by, VEXFS_RECALL_BY_NOTHING);
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_BUILD), 0);
  EXPECT_EQ(status().recall_ef, before.recall_ef);
  disk::RecallItem item;
  EXPECT_TRUE(stored(&item));
}

// What cannot have been measured is not believed, and said by a check.
TEST_F(RecallStored, NonsenseIsIgnored) {
  disk::RecallItem good;
  ASSERT_TRUE(stored(&good));
  const std::vector<std::function<void(disk::RecallItem &)>> spoil = {
      [](auto &i) { i.version = 2; },
      [](auto &i) { i.slots = 0; },
      [](auto &i) { i.slots = rows + 1; },
      [](auto &i) { i.slots = ~0u; },
      [](auto &i) { i.dead = rows + 1; },
      [](auto &i) { i.queries = 0; },
      [](auto &i) { i.queries = 257; },
      [](auto &i) { i.by = 0; },
      [](auto &i) { i.by = 4; },
      [](auto &i) { i.tried = 0; },
      [](auto &i) { i.tried = 17; },
      [](auto &i) { i.flags = 2; },
      [](auto &i) { i.mean[0][0] = 10001; },
      [](auto &i) { i.sure[3][15] = i.mean[3][15] + 1; },
  };
  auto refused = [&](Bytes item) {
    put(item);
    m.unmount();
    EXPECT_NE(Mount::findings(&m.device()).find("collection 1: recall: bad "), std::string::npos);
    ASSERT_EQ(m.mount(), 0);
    EXPECT_EQ(status().recall_by, VEXFS_RECALL_BY_NOTHING);
    EXPECT_GE(status().recall_ef, 160u);
    EXPECT_EQ(m.fs_info().read_only, 0);
  };
  for (size_t i = 0; i < spoil.size(); i++) {
    SCOPED_TRACE(i);
    disk::RecallItem bad = good;
    spoil[i](bad);
    refused(bytes_of(bad));
  }
  refused(Bytes(bytes_of(good).data(), sizeof good - 1));
  std::vector<u8> longer(sizeof good + 1);
  refused(Bytes(longer.data(), longer.size()));
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_BUILD), 0);
  ASSERT_TRUE(m.check()) << "measured again, it lies in its place";
  EXPECT_EQ(status().recall_by, VEXFS_RECALL_BY_ROWS);
}

// Without asking, since nothing is lost.
TEST_F(RecallStored, ARepairDropsNonsense) {
  disk::RecallItem item;
  ASSERT_TRUE(stored(&item));
  item.dead = rows + 5;
  put(bytes_of(item));
  m.unmount();
  repair::Repair r(&m.device());
  ASSERT_EQ(r.plan(repair::Depth::all), Errno::ok);
  std::string said;
  for (const repair::Action &a : r.actions()) said += a.text + "\n";
  EXPECT_NE(said.find("what was measured of its index makes no sense"), std::string::npos) << said;
  EXPECT_TRUE(r.only_safe());
  ASSERT_EQ(r.apply(&m.device()), Errno::ok);
  ASSERT_EQ(m.mount(), 0);
  EXPECT_FALSE(stored(&item));
  ASSERT_TRUE(m.check());
  EXPECT_EQ(m.stats(m.root()).rows, rows);
}

// Rows of a file that was deleted and is still open count as dead in memory before they do on disk: what is measured meanwhile
// is sound after a power cut.
TEST_F(RecallStored, WhileADeletedFileIsOpen) {
  vx_inode *f = m.make(m.root(), "f");
  const std::vector<float> data = cloud(40, 9);
  for (size_t i = 0; i < 40; i++) {
    uint64_t id = VEXFS_ID_AUTO;
    const auto at = data.begin() + static_cast<long>(i * dim);
    ASSERT_EQ(m.add(f, {at, at + dim}, &id), 0);
  }
  ASSERT_EQ(m.unlink(m.root(), "f"), 0);
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_REBUILD), 0);
  disk::RecallItem item;
  ASSERT_TRUE(stored(&item));
  EXPECT_EQ(item.dead, 40u);
  ASSERT_EQ(m.commit(), 0);
  vx_fs_abort(m.fs(), EIO);
  EXPECT_TRUE(m.check());
  EXPECT_EQ(status().recall_by, VEXFS_RECALL_BY_ROWS);
}

// The item of an index that was dropped, as a power cut in between leaves it, is not taken for that of one like it.
TEST_F(RecallStored, NothingIsLeftForTheNextOne) {
  disk::RecallItem item;
  ASSERT_TRUE(stored(&item));
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_DROP), 0);
  EXPECT_FALSE(stored(&item));
  ASSERT_NE(item.queries, 100);
  item.queries = 100;
  put(bytes_of(item));
  vexfs_collection k{};
  k.size = sizeof k;
  k.recall = VEXFS_RECALL_OFF;  // nothing is measured that would take its place
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_ALTER, &k), 0);
  m.remount();
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_BUILD, nullptr, VEXFS_INDEX_HNSW), 0);
  EXPECT_FALSE(stored(&item));
  m.remount();
  EXPECT_EQ(status().recall_queries, 0);
  ASSERT_TRUE(m.check());
}

// Whatever a sound item says, a search finds its breadth.
TEST_F(RecallStored, AnyCurveServes) {
  disk::RecallItem item;
  ASSERT_TRUE(stored(&item));
  std::mt19937_64 rng(5);
  for (int round = 0; round < 40; round++) {
    item.tried = static_cast<u8>(1 + rng() % disk::kRecallPoints);
    item.walked = static_cast<u32>(rng() >> (32 + rng() % 32));
    for (u32 c = 0; c < disk::kRecallClasses; c++)
      for (u32 i = 0; i < disk::kRecallPoints; i++) {
        item.mean[c][i] = static_cast<u16>(rng() % (disk::kRecallScale + 1));
        item.sure[c][i] = static_cast<u16>(rng() % (u32{item.mean[c][i]} + 1));
      }
    put(bytes_of(item));
    m.remount();
    for (uint32_t k : {1u, 5u, 10u, 20u, 50u, 100u, 400u})
      for (uint32_t recall : {1u, 500u, 900u, 990u, 999u}) {
        std::vector<vexfs_hit> hits(k);
        __u32 count = 0;
        const std::vector<float> q = cloud(1, k);
        vexfs_search s{};
        s.size = sizeof s;
        s.queries = reinterpret_cast<__u64>(q.data());
        s.hits = reinterpret_cast<__u64>(hits.data());
        s.counts = reinterpret_cast<__u64>(&count);
        s.nq = 1;
        s.dim = dim;
        s.element = VEXFS_F32;
        s.k = k;
        s.recall = recall;
        ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_VECTOR_SEARCH, &s), 0);
        EXPECT_EQ(count, k);
        EXPECT_TRUE(s.ef_used == 0 || (s.ef_used >= k && s.ef_used <= VEXFS_EF_MAX)) << s.ef_used;
      }
  }
  ASSERT_TRUE(m.check());
}

TEST_F(RecallStored, ASnapshotHasItsOwn) {
  vexfs_snapshot s{};
  s.size = sizeof s;
  memcpy(s.name, "then", 4);
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SNAPSHOT_CREATE, &s), 0);
  const vexfs_index then = status();
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_REBUILD, nullptr, VEXFS_INDEX_HNSW, 0, 12), 0);
  ASSERT_EQ(add(rows, 2), 0);
  const uint32_t slots = status().recall_slots;
  EXPECT_GT(slots, rows);
  m.remount();
  EXPECT_EQ(status().recall_slots, slots);
  vx_fs *view = nullptr;
  vx_inode *root = nullptr;
  vx_mount_opts o{};
  o.read_only = true;
  ASSERT_EQ(vx_snapshot_mount(m.fs(), s.id, &o, &view), 0);
  ASSERT_EQ(vx_iget(view, m.fs_info().root_ino, 0, &root), 0);
  const vexfs_index now = status(view, root);
  EXPECT_EQ(now.recall_slots, rows);
  EXPECT_EQ(now.recall_ef, then.recall_ef);
  vx_iput(root);
  vx_fs_unmount(view);
  ASSERT_TRUE(m.check());
}

// A collection that goes takes it along.
TEST_F(RecallStored, GoesWithTheCollection) {
  disk::RecallItem item;
  ASSERT_TRUE(stored(&item));
  vexfs_collection c{};
  c.size = sizeof c;
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_DROP, &c), 0);
  m.remount();
  EXPECT_FALSE(stored(&item));
  ASSERT_TRUE(m.check());
}

}  // namespace
}  // namespace vexfs::vector::test
