// SPDX-License-Identifier: MIT
// Checksums of file data: what is written can be checked, what was damaged is not returned, nothing is overwritten.
#include <random>

#include "fs_fixture.h"

namespace vexfs::fs::test {
namespace {

constexpr u64 bs = 4096;
constexpr u32 per_item = disk::kSumsPerItem;

std::string noise(u64 n, u64 seed) {
  std::mt19937_64 rng(seed);
  std::string s(n, 0);
  for (auto &c : s) c = static_cast<char>(rng());
  return s;
}

struct FsSums : ::testing::Test {
  TestFs t{FixtureOptions{.size = 256 << 20}};
  InodeRef root = t.root();
  InodeRef f = t.must_make(*root, "f");
  ~FsSums() override {
    f.reset();
    root.reset();
    EXPECT_TRUE(t.check());
  }

  void remount() {
    f.reset();
    root.reset();
    t.remount();
    root = t.root();
    f = t.open(*root, "f");
  }
  MapOut at(u64 block, vx_sum *sum = nullptr) {
    MapOut m{};
    vx_sum s = 0;
    EXPECT_TRUE(map_sums(*f, block * bs, bs, {&s, 1}, m).ok());
    EXPECT_EQ(m.off, block * bs);
    EXPECT_EQ(m.len, bs);
    if (sum) *sum = s;
    return m;
  }
  // Is there a checksum for the block, and is it that of what is on the device?
  bool summed(u64 block) {
    vx_sum s = VX_SUM_NONE;
    MapOut m = at(block, &s);
    if (m.type != VX_MAP_MAPPED || s == VX_SUM_NONE) return false;
    EXPECT_EQ(s, vx_sum_of(on_device(m.disk).data(), bs)) << "block " << block;
    EXPECT_TRUE(m.flags & VX_MAP_F_SUMMED);
    return true;
  }
  std::string on_device(u64 disk) {
    std::string s(bs, 0);
    t.device().peek(disk, s.data(), bs);
    return s;
  }
  void flip_at(u64 disk) {
    char c = static_cast<char>(on_device(disk)[1234] ^ 0x10);
    t.device().poke(disk + 1234, &c, 1);
  }
  void flip(u64 block) { flip_at(at(block).disk); }
  Result<usize> read(u64 off, usize n) {
    std::string buf(n, 0);
    return read_file(*f, {reinterpret_cast<u8 *>(buf.data()), n}, off);
  }
  u64 items() {
    u64 n = 0;
    EXPECT_TRUE(t.fs()
                    .tree()
                    .scan(fs_key(f->ino(), FsItem::extent_checksum), fs_key(f->ino(), FsItem::extent_checksum, ~u64{0}),
                          [&n](const store::Key &, Bytes) { return ++n > 0; })
                    .ok());
    return n;
  }
  // Writeback of a host with a page cache, completed in one go.
  void write_back(u64 first, const std::string &data, const vx_sum *sums) {
    u64 end = first + data.size() / bs;
    MapOut m;
    for (u64 b = first; b < end; b = (m.off + m.len) / bs) ASSERT_TRUE(map_reserve(*f, b * bs, (end - b) * bs, m).ok());
    for (u64 b = first; b < end; b += m.len / bs) {
      ASSERT_TRUE(map_allocate(*f, b * bs, (end - b) * bs, false, m).ok());
      t.device().poke(m.disk, data.data() + (b - first) * bs, m.len);
    }
    ASSERT_TRUE(write_done(*f, first * bs, data.size(), end * bs, 0, sums).ok());
  }
};

TEST_F(FsSums, WhatIsWrittenHasThem) {
  ASSERT_EQ(TestFs::write(*f, noise(200 * bs + 100, 1)), Errno::ok);
  for (u64 b = 0; b <= 200; b++) EXPECT_TRUE(summed(b)) << b;
  EXPECT_EQ(items(), div_up<u64>(201, per_item));
  remount();
  for (u64 b = 0; b <= 200; b++) EXPECT_TRUE(summed(b)) << b;
  EXPECT_EQ(TestFs::read(*f), noise(200 * bs + 100, 1));
}

TEST_F(FsSums, NothingIsOverwrittenInPlace) {
  ASSERT_EQ(TestFs::write(*f, noise(100 * bs, 1)), Errno::ok);
  u64 before = at(50).disk, blocks = f->attributes().blocks;
  std::string old = on_device(before);
  EXPECT_TRUE(at(50).flags & VX_MAP_F_KEPT);
  ASSERT_EQ(TestFs::write(*f, "some bytes in the middle of it", 50 * bs + 77), Errno::ok);
  EXPECT_NE(at(50).disk, before);
  EXPECT_EQ(old, on_device(before));
  EXPECT_EQ(f->attributes().blocks, blocks);
  for (u64 b = 0; b < 100; b++) EXPECT_TRUE(summed(b)) << b;
}

TEST_F(FsSums, DamageIsFoundAndNotSpread) {
  ASSERT_EQ(TestFs::write(*f, noise(100 * bs, 1)), Errno::ok);
  flip(70);
  EXPECT_EQ(read(70 * bs, 10).code(), Errno::io);
  EXPECT_EQ(read(71 * bs - 1, 1).code(), Errno::io);
  EXPECT_TRUE(read(0, 70 * bs).ok());
  EXPECT_TRUE(read(71 * bs, 29 * bs).ok());
  EXPECT_EQ(read(0, 100 * bs).code(), Errno::io);
  EXPECT_EQ(t.fs().stats().sum_mismatches.load(), 3u);
  // What is around a new piece of the block is not known: it must not get a good checksum.
  EXPECT_EQ(TestFs::write(*f, "x", 70 * bs + 5), Errno::io);
  EXPECT_EQ(read(70 * bs, 10).code(), Errno::io);
  EXPECT_FALSE(t.volume().read_only());
  ASSERT_EQ(TestFs::write(*f, noise(bs, 2), 70 * bs), Errno::ok);
  EXPECT_TRUE(read(0, 100 * bs).ok());
  EXPECT_TRUE(summed(70));
}

TEST_F(FsSums, TheTailOfADamagedLastBlockIsNotTrusted) {
  ASSERT_EQ(TestFs::write(*f, noise(3 * bs + 50, 1)), Errno::ok);
  flip(3);
  EXPECT_EQ(TestFs::write(*f, "behind a hole", 9 * bs), Errno::io);
  EXPECT_EQ(truncate_file(*f, 20 * bs, TestFs::now()).code(), Errno::io);
  EXPECT_EQ(f->size(), 3 * bs + 50);
  EXPECT_TRUE(truncate_file(*f, 3 * bs, TestFs::now()).ok());
  EXPECT_TRUE(read(0, 3 * bs).ok());
}

TEST_F(FsSums, FilesThatWantNone) {
  Attributes a;
  a.flags = VX_INODE_NOSUM;
  ASSERT_TRUE(set_attributes(*f, VX_SET_FLAGS, a).ok());
  ASSERT_EQ(TestFs::write(*f, noise(10 * bs, 1)), Errno::ok);
  EXPECT_FALSE(summed(3));
  u64 before = at(3).disk;
  ASSERT_EQ(TestFs::write(*f, noise(bs, 2), 3 * bs), Errno::ok);
  EXPECT_EQ(at(3).disk, before);
  EXPECT_EQ(items(), 0u);
  // With data in it: what is there gets its checksum when it is written again.
  a.flags = 0;
  ASSERT_TRUE(set_attributes(*f, VX_SET_FLAGS, a).ok());
  ASSERT_EQ(TestFs::write(*f, noise(bs, 3), 3 * bs), Errno::ok);
  EXPECT_NE(at(3).disk, before);
  EXPECT_TRUE(summed(3));
  EXPECT_FALSE(summed(4));
  a.flags = VX_INODE_NOSUM;
  ASSERT_TRUE(set_attributes(*f, VX_SET_FLAGS, a).ok());
  ASSERT_EQ(TestFs::write(*f, noise(bs, 4), 3 * bs), Errno::ok);
  EXPECT_FALSE(summed(3));
  EXPECT_EQ(TestFs::read(*f, 3 * bs, bs), noise(bs, 4));
}

TEST_F(FsSums, DirectoriesHandTheFlagOn) {
  auto d = t.mkdir(*root, "d");
  Attributes a;
  a.flags = VX_INODE_NOSUM;
  ASSERT_TRUE(set_attributes(*d, VX_SET_FLAGS, a).ok());
  EXPECT_TRUE(t.must_make(*d, "file")->flags() & VX_INODE_NOSUM);
  EXPECT_TRUE(t.mkdir(*d, "dir")->flags() & VX_INODE_NOSUM);
  EXPECT_FALSE(t.must_make(*d, "fifo", disk::kModeFifo | 0600)->flags() & VX_INODE_NOSUM);
  EXPECT_FALSE(t.must_make(*root, "other")->flags() & VX_INODE_NOSUM);
  NewInode n;
  n.mode = disk::kModeFile | 0600;
  auto tmp = create_tmpfile(*d, n, TestFs::now());
  ASSERT_TRUE(tmp.ok());
  EXPECT_TRUE((*tmp)->flags() & VX_INODE_NOSUM);
}

TEST_F(FsSums, MountsThatMakeNone) {
  ASSERT_EQ(TestFs::write(*f, noise(10 * bs, 1)), Errno::ok);
  t.use_data_sums(false);
  remount();
  EXPECT_TRUE(summed(9));
  ASSERT_EQ(TestFs::write(*f, noise(4 * bs, 2), 8 * bs), Errno::ok);
  EXPECT_TRUE(summed(7));
  EXPECT_FALSE(summed(8));
  EXPECT_FALSE(summed(11));
  u64 before = at(8).disk;
  ASSERT_EQ(TestFs::write(*f, noise(bs, 3), 8 * bs), Errno::ok);
  EXPECT_EQ(at(8).disk, before);
  flip(7);
  EXPECT_EQ(read(7 * bs, 1).code(), Errno::io) << "what has a checksum is checked";
  t.fs().set_data_sums(true);
  ASSERT_EQ(TestFs::write(*f, noise(2 * bs, 4), 7 * bs), Errno::ok);
  EXPECT_TRUE(summed(7));
  EXPECT_TRUE(summed(8));
  EXPECT_FALSE(summed(9));
}

TEST_F(FsSums, ItemsGoWithTheirBlocks) {
  ASSERT_EQ(TestFs::write(*f, noise(2000 * bs, 1)), Errno::ok);
  EXPECT_EQ(items(), div_up<u64>(2000, per_item));
  ASSERT_TRUE(fallocate(*f, VX_FALLOC_PUNCH | VX_FALLOC_KEEP_SIZE, 100 * bs, 1000 * bs, 0, TestFs::now()).ok());
  EXPECT_EQ(items(), 2000 / per_item - (1100 / per_item - div_up<u64>(100, per_item)));
  EXPECT_TRUE(summed(99));
  EXPECT_TRUE(summed(1100));
  ASSERT_TRUE(truncate_file(*f, 70 * bs, TestFs::now()).ok());
  EXPECT_EQ(items(), div_up<u64>(70, per_item));
  EXPECT_TRUE(summed(69));
  ASSERT_TRUE(truncate_file(*f, 0, TestFs::now()).ok());
  EXPECT_EQ(items(), 0u);
  u64 ino = f->ino();
  ASSERT_EQ(TestFs::write(*f, noise(5 * bs, 1)), Errno::ok);
  ASSERT_TRUE(unlink(*root, B("f"), TestFs::now()).ok());
  f.reset();
  u64 left = 0;
  ASSERT_TRUE(t.fs()
                  .tree()
                  .scan(fs_key(ino, FsItem::none), fs_key(ino, FsItem::quota, ~u64{0}),
                        [&left](const store::Key &, Bytes) { return ++left > 0; })
                  .ok());
  EXPECT_EQ(left, 0u);
}

TEST_F(FsSums, PreallocatedBlocksGetThemWhenWritten) {
  ASSERT_TRUE(fallocate(*f, 0, 0, 40 * bs, 40 * bs, TestFs::now()).ok());
  u64 disk = at(10).disk;
  EXPECT_EQ(at(10).type, u32{VX_MAP_UNWRITTEN});
  ASSERT_EQ(TestFs::write(*f, noise(bs, 1), 10 * bs), Errno::ok);
  EXPECT_EQ(at(10).disk, disk) << "what was promised is used";
  EXPECT_TRUE(summed(10));
  EXPECT_FALSE(summed(11));
  ASSERT_TRUE(fallocate(*f, VX_FALLOC_ZERO | VX_FALLOC_KEEP_SIZE, 0, 20 * bs, 0, TestFs::now()).ok());
  EXPECT_EQ(at(10).type, u32{VX_MAP_UNWRITTEN});
  EXPECT_EQ(TestFs::read(*f, 10 * bs, bs), std::string(bs, 0));
}

TEST_F(FsSums, SmallFilesThatGrow) {
  ASSERT_EQ(TestFs::write(*f, noise(100, 1)), Errno::ok);
  ASSERT_TRUE(f->is_inline());
  ASSERT_TRUE(uninline(*f).ok());
  EXPECT_TRUE(summed(0));
  flip(0);
  EXPECT_EQ(read(0, 1).code(), Errno::io);
  ASSERT_TRUE(truncate_file(*f, 0, TestFs::now()).ok());
}

// Far more than one transaction takes, over everything that there can be: extents, preallocated blocks, holes.
TEST_F(FsSums, OneCompletionOfMany) {
  constexpr u64 blocks = 3000;
  for (u64 b = 0; b < blocks; b += 7) ASSERT_EQ(TestFs::write(*f, noise(bs, b), b * bs), Errno::ok);
  for (u64 b = 3; b < blocks; b += 50)
    ASSERT_TRUE(fallocate(*f, VX_FALLOC_KEEP_SIZE, b * bs, 2 * bs, 0, TestFs::now()).ok());
  std::string data = noise((blocks - 10) * bs, 99);
  auto sums = sums_of(B(data));
  write_back(5, data, sums.data());
  for (u64 b = 0; b < blocks - 5; b++) EXPECT_TRUE((b < 5 && b % 7) || summed(b)) << b;
  EXPECT_EQ(TestFs::read(*f, 5 * bs, data.size()), data);
  EXPECT_EQ(f->overlay.blocks(), 0u);
  remount();
  EXPECT_EQ(TestFs::read(*f, 5 * bs, data.size()), data);
}

TEST_F(FsSums, APieceThatMissesOneHasNone) {
  std::string data = noise(20 * bs, 1);
  auto sums = sums_of(B(data));
  sums[7] = VX_SUM_NONE;
  write_back(0, data, sums.data());
  EXPECT_FALSE(summed(7));
  EXPECT_EQ(TestFs::read(*f), data);
  write_back(0, data, nullptr);
  EXPECT_FALSE(summed(3));
  EXPECT_EQ(TestFs::read(*f), data);
}

TEST_F(FsSums, MissingOnesAreDamage) {
  ASSERT_EQ(TestFs::write(*f, noise(200 * bs, 1)), Errno::ok);
  {
    auto h = t.volume().begin({.items = 1});
    ASSERT_TRUE(h.ok());
    ASSERT_TRUE(t.fs().tree().erase(*h, fs_key(f->ino(), FsItem::extent_checksum, 64)).ok());
  }
  ASSERT_EQ(t.fs().commit().code(), Errno::ok);
  EXPECT_EQ(read(63 * bs, bs).code(), Errno::ok);
  EXPECT_EQ(read(64 * bs, 1).code(), Errno::corrupt);
  EXPECT_TRUE(t.volume().read_only());
  f.reset();
  root.reset();
  (void)t.unmount();
  auto r = TestFs::check_device(&t.device());
  EXPECT_EQ(r.errors, 1u) << r.text();
  EXPECT_NE(r.text().find("no checksum for block 64"), std::string::npos) << r.text();
  ASSERT_EQ(t.mount(), Errno::ok);
  root = t.root();
  ASSERT_TRUE(unlink(*root, B("f"), TestFs::now()).ok());
}

// What was promised to delayed writes is enough for their checksums too, on the last blocks of a disk, however they lie.
TEST(FsSumsFull, PromisesAreKept) {
  for (u64 size : {24, 128}) {
    for (u64 stride : {1, 2, 16, 33}) {
      SCOPED_TRACE(testing::Message() << size << " MiB, every block of " << stride);
      TestFs t(FixtureOptions{.size = size << 20});
      auto root = t.root();
      auto f = t.must_make(*root, "f");
      u64 got = 0, most = stride == 1 ? 256 : 1;
      MapOut m;
      while (map_reserve(*f, got * stride * bs, most * bs, m).ok()) got += most;
      EXPECT_GT(got, (size << 20) / bs * 3 / 4);
      std::vector<vx_sum> sums(1 << 16, 77);
      for (u64 i = 0; i < got;) {
        Status a = map_allocate(*f, i * stride * bs, (stride == 1 ? got - i : 1) * bs, false, m);
        ASSERT_TRUE(a.ok()) << i << " of " << got << ": " << static_cast<int>(a.code());
        Status d = write_done(*f, m.off, m.len, 0, 0, sums.data());
        ASSERT_TRUE(d.ok()) << i << " of " << got << ": " << static_cast<int>(d.code());
        i += stride == 1 ? m.len / bs : 1;
      }
      EXPECT_TRUE(t.fs().commit().ok());
      EXPECT_EQ(f->attributes().blocks, got);
      // And what was full can be emptied.
      ASSERT_TRUE(truncate_file(*f, bs, TestFs::now()).ok());
      f.reset();
      ASSERT_TRUE(unlink(*root, B("f"), TestFs::now()).ok());
      root.reset();
      EXPECT_TRUE(t.check());
    }
  }
}

// As a host fills a disk: writes what was promised, commits, and asks for what came free by that, to the last block.
TEST(FsSumsFull, TheLastBlockIsNotOneTooMany) {
  for (u64 size : {16, 32, 128}) {
    SCOPED_TRACE(size);
    TestFs t(FixtureOptions{.size = size << 20});
    auto root = t.root();
    auto f = t.must_make(*root, "f");
    std::vector<vx_sum> sums(1 << 16, 77);
    u64 at = 0, rounds = 0;
    for (bool more = true; more && rounds < 3000; rounds++) {
      u64 first = at;
      MapOut m;
      for (u64 n = 1024; n; n /= 4)
        while (map_reserve(*f, at * bs, n * bs, m).ok()) at += n;
      more = at != first;
      for (u64 b = first; b < at; b += m.len / bs) {
        ASSERT_TRUE(map_allocate(*f, b * bs, std::min<u64>(at - b, 300) * bs, false, m).ok()) << b;
        Status d = write_done(*f, m.off, m.len, m.off + m.len, 0, sums.data());
        ASSERT_TRUE(d.ok()) << "block " << b << " in round " << rounds << ": " << static_cast<int>(d.code());
      }
      if (rounds % 3) t.commit();
      ASSERT_FALSE(t.volume().aborted());
    }
    EXPECT_LT(rounds, 3000u);
    EXPECT_GT(at, (size << 20) / bs * 8 / 10);
    ASSERT_TRUE(unlink(*root, B("f"), TestFs::now()).ok());
    f.reset();
    t.commit();
    EXPECT_TRUE(t.make(*root, "another").ok());
    root.reset();
    EXPECT_TRUE(t.check());
  }
}

TEST_F(FsSums, SnapshotsKeepTheirs) {
  ASSERT_EQ(TestFs::write(*f, noise(100 * bs, 1)), Errno::ok);
  auto id = t.fs().snapshot_create(B("s"));
  ASSERT_TRUE(id.ok());
  u64 victim = at(40).disk;
  ASSERT_EQ(TestFs::write(*f, noise(100 * bs, 2)), Errno::ok);
  flip_at(victim);
  EXPECT_EQ(TestFs::read(*f), noise(100 * bs, 2));
  auto v = t.volume().open_snapshot(*id, {});
  ASSERT_TRUE(v.ok());
  {
    auto then = Filesystem::open(**v, {});
    ASSERT_TRUE(then.ok());
    auto old = (*then)->get(f->ino());
    ASSERT_TRUE(old.ok());
    EXPECT_EQ(TestFs::read(**old, 0, 40 * bs), noise(100 * bs, 1).substr(0, 40 * bs));
    u8 byte;
    EXPECT_EQ(read_file(**old, {&byte, 1}, 40 * bs).code(), Errno::io);
    old->reset();
  }
  ASSERT_TRUE((*v)->close().ok());
}

}  // namespace
}  // namespace vexfs::fs::test
