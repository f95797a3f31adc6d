// SPDX-License-Identifier: MIT
// Second copies of tree nodes: whatever happens to one copy, nothing is lost, somebody is told, and it is written anew.
#include <cstring>

#include "store_fixture.h"

namespace vexfs::test {
namespace {

class MirrorTest : public StoreTest {
 protected:
  static constexpr uint64_t kBytes = 32 << 20;
  static constexpr uint32_t kNode = 16384;

  void SetUp() override {
    store::FormatOptions f;
    make(kBytes, f);
    ASSERT_EQ(layout_.node_copies, 2);
    host::set_log_hook([this](vx_bdev *, int, const char *text) { log_ += std::string(text) + "\n"; });
    open();
  }
  void TearDown() override {
    host::set_log_hook({});
    StoreTest::TearDown();
  }

  void fill(uint64_t items) {
    for (uint64_t i = 0; i < items; i++) {
      std::string v(100, static_cast<char>('a' + i % 26));
      store::Key k{i * 7919 % 10007, 1, i};
      auto h = begin();
      ASSERT_TRUE(vol().tree(i % 2 ? store::TreeId::fs : store::TreeId::collections).insert(h, k, bytes(v)).ok());
      (i % 2 ? fs_ : collections_)[model_key(k)] = v;
    }
  }
  void close() {
    ASSERT_TRUE(vol_->close().ok());
    vol_.reset();
  }
  void expect_all(const store::Volume &v) {
    EXPECT_TRUE(contents(v.tree(store::TreeId::fs)) == fs_);
    EXPECT_TRUE(contents(v.tree(store::TreeId::collections)) == collections_);
  }

  // Byte offsets of all blocks of nodes, old ones too, that are first or second copies.
  std::vector<uint64_t> copies(bool second) {
    std::vector<uint64_t> found;
    for (uint64_t off = 0; off < kBytes; off += kNode) {
      disk::NodeHeader h;
      dev_->peek(off, &h, sizeof h);
      if (h.header.magic == static_cast<uint32_t>(disk::Magic::node) && (h.header.addr * 4096 != off) == second)
        found.push_back(off);
    }
    return found;
  }
  void spoil(const std::vector<uint64_t> &offs) {
    for (uint64_t off : offs) {
      uint8_t b;
      dev_->peek(off + 200, &b, 1);
      b ^= 0x40;
      dev_->poke(off + 200, &b, 1);
    }
  }
  // How many nodes a scrub found bad, and how many of them it cured.
  std::pair<int, int> scrub() {
    std::vector<uint8_t> buf(kNode + 4096);
    uint8_t *at = buf.data() + (4096 - reinterpret_cast<uintptr_t>(buf.data()) % 4096);
    store::ScrubPlace place;
    std::pair<int, int> n{0, 0};
    for (;;) {
      store::ScrubbedNode node;
      auto more = vol().scrub_node(place, {at, kNode}, node);
      EXPECT_TRUE(more.ok());
      if (!more.ok() || !*more) return n;
      n.first += node.err != Errno::ok;
      n.second += node.repaired;
    }
  }

  std::string check_with_snapshots() {
    std::string out;
    store::Checker c(dev_.get(), {[](void *ctx, store::Severity s, const char *line) {
                                    if (s == store::Severity::error)
                                      *static_cast<std::string *>(ctx) += std::string(line) + "\n";
                                  },
                                  nullptr, &out});
    auto any = [](const store::Key &, Bytes) { return true; };
    EXPECT_TRUE(c.open().ok() && c.walk(store::TreeId::fs, any).ok() && c.walk(store::TreeId::collections, any).ok() &&
                c.check_snapshots().ok());
    for (size_t i = 0; c.enter_snapshot(i); i++)
      EXPECT_TRUE(c.walk(store::TreeId::fs, any).ok() && c.walk(store::TreeId::collections, any).ok());
    EXPECT_TRUE(c.compare_space().ok());
    return out;
  }

  Model fs_, collections_;
  std::string log_;
};

TEST_F(MirrorTest, EveryNodeIsThereTwiceAndApart) {
  fill(4000);
  close();
  auto first = copies(false), second = copies(true);
  ASSERT_GT(first.size(), 20u);
  EXPECT_EQ(first.size(), second.size());
  std::vector<uint8_t> a(kNode), b(kNode);
  for (uint64_t off : second) {
    dev_->peek(off, a.data(), kNode);
    disk::BlockHeader h;
    memcpy(&h, a.data(), sizeof h);
    dev_->peek(h.addr * 4096, b.data(), kNode);
    EXPECT_EQ(memcmp(a.data(), b.data(), kNode), 0) << off;
    EXPECT_GT(off, h.addr * 4096 + kBytes / 8) << "as far apart as a damaged area may be large";
  }
  EXPECT_EQ(check_device(dev_.get()), "");
}

TEST_F(MirrorTest, FirstCopiesMayAllBeBad) {
  fill(4000);
  close();
  spoil(copies(false));
  EXPECT_NE(check_device(dev_.get()).find("its other copy is good"), std::string::npos);
  log_.clear();
  open();
  expect_all(vol());
  EXPECT_NE(log_.find("its second copy at"), std::string::npos) << log_;
  EXPECT_GT(vol().counters().mirror_reads.load(), 20u);
  EXPECT_FALSE(vol().aborted());
  // Some are written anew by themselves, the rest by a scrub.
  ASSERT_TRUE(vol().sync(true).ok());
  EXPECT_GT(vol().counters().nodes_cured.load(), 0u);
  auto [bad, cured] = scrub();
  EXPECT_EQ(bad, cured);
  expect_all(vol());
  check();
  open();
  expect_all(vol());
  EXPECT_EQ(vol().counters().mirror_reads.load(), 0u);
  check();
}

TEST_F(MirrorTest, SecondCopiesAreScrubbed) {
  fill(4000);
  close();
  spoil(copies(true));
  EXPECT_NE(check_device(dev_.get()).find("second copy of"), std::string::npos);
  open();
  expect_all(vol());
  EXPECT_EQ(vol().counters().mirror_reads.load(), 0u);
  auto [bad, cured] = scrub();
  EXPECT_GT(bad, 0);
  EXPECT_EQ(bad, cured);
  ASSERT_TRUE(vol().commit().ok());
  EXPECT_EQ(scrub(), std::make_pair(0, 0));
  check();
}

TEST_F(MirrorTest, ReadErrorsOfFirstCopies) {
  fill(4000);
  close();
  auto first = copies(false);
  host::FaultDevice fault(dev_.get());
  for (uint64_t off : first) fault.fail_range(host::FaultDevice::Kind::read, off, kNode, -EIO);
  auto r = store::Volume::open(&fault, options_);
  ASSERT_TRUE(r.ok());
  Box<store::Volume> v = r.take();
  expect_all(*v);
  EXPECT_NE(log_.find("read error; its second copy"), std::string::npos) << log_;
  EXPECT_TRUE(v->close().ok());
}

TEST_F(MirrorTest, BothCopiesBadIsAnError) {
  fill(4000);
  close();
  spoil(copies(false));
  spoil(copies(true));
  EXPECT_EQ(store::Volume::open(dev_.get(), options_).code(), Errno::corrupt);
  EXPECT_EQ(check_device(dev_.get()).find("other copy is good"), std::string::npos);
}

// Damage that comes while the filesystem is mounted and the node is not in memory.
TEST_F(MirrorTest, DamageUnderAMountedVolume) {
  fill(4000);
  ASSERT_TRUE(vol().commit().ok());
  vol().cache_shrink(~size_t{0});
  spoil(copies(false));
  expect_all(vol());
  for (uint64_t i = 0; i < 200; i++) {
    auto h = begin();
    store::Key k{i * 53 % 10007, 2, i};
    ASSERT_TRUE(vol().tree(store::TreeId::fs).insert(h, k, bytes("new")).ok());
    fs_[model_key(k)] = "new";
  }
  ASSERT_TRUE(vol().commit().ok());
  scrub();
  expect_all(vol());
  check();
}

// The nodes of a snapshot cannot be moved: they are cured where they are.
TEST_F(MirrorTest, NodesOfSnapshots) {
  fill(4000);
  auto id = vol().snapshot_create(bytes("s"));
  ASSERT_TRUE(id.ok());
  const Model fs = fs_, collections = collections_;
  for (const auto &[k, v] : fs) {
    auto h = begin();
    ASSERT_TRUE(
        vol().tree(store::TreeId::fs).update(h, {std::get<0>(k), std::get<1>(k), std::get<2>(k)}, bytes("x")).ok());
    fs_[k] = "x";
  }
  reopen();
  spoil(copies(false));
  auto view = vol().open_snapshot(*id, {.read_only = true});
  ASSERT_TRUE(view.ok());
  EXPECT_TRUE(contents((*view)->tree(store::TreeId::fs)) == fs);
  EXPECT_TRUE(contents((*view)->tree(store::TreeId::collections)) == collections);
  EXPECT_NE(log_.find("is good, and written over it"), std::string::npos) << log_;
  *view = Box<store::Volume>();
  // Nothing is bad any more.
  auto again = vol().open_snapshot(*id, {.read_only = true});
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(contents((*again)->tree(store::TreeId::fs)) == fs);
  EXPECT_EQ((*again)->counters().mirror_reads.load(), 0u);
  *again = Box<store::Volume>();
  expect_all(vol());
  scrub();
  close();
  EXPECT_EQ(check_with_snapshots(), "");
}

TEST_F(MirrorTest, OneCopyIfThatIsWhatMkfsWasTold) {
  close();
  store::FormatOptions f;
  f.node_copies = 1;
  make(kBytes, f);
  EXPECT_EQ(layout_.node_copies, 1);
  open();
  fs_.clear();
  collections_.clear();
  fill(1000);
  close();
  EXPECT_TRUE(copies(true).empty());
  open();
  expect_all(vol());
  check();
}

// A pointer that leads to a node must name both copies of it.
TEST_F(MirrorTest, PointersAreDistrusted) {
  disk::Geometry g;
  disk::SuperDisk super;
  dev_->peek(disk::kSuperOffset, &super, sizeof super);
  ASSERT_TRUE(disk::verify_super(super, disk::kSuperOffset, kBytes, &g).ok());
  disk::NodePtr p{};
  uint64_t data = g.group_start(0) + 1024, other = g.group_start(1) + 1024;
  p.addr = data;
  p.mirror = other;
  EXPECT_TRUE(disk::sound_pointer(p, g));
  p.mirror = data;
  EXPECT_FALSE(disk::sound_pointer(p, g));
  p.mirror = 0;
  EXPECT_FALSE(disk::sound_pointer(p, g));
  p.mirror = other + 1;
  EXPECT_FALSE(disk::sound_pointer(p, g));
  p.mirror = g.total_blocks;
  EXPECT_FALSE(disk::sound_pointer(p, g));
  g.mirrored = false;
  p.mirror = other;
  EXPECT_FALSE(disk::sound_pointer(p, g));
  p.mirror = 0;
  EXPECT_TRUE(disk::sound_pointer(p, g));
}

}  // namespace
}  // namespace vexfs::test
