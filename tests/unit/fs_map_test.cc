// SPDX-License-Identifier: MIT
// File mapping as a host with a page cache uses it: reservations, allocation, completion, failure, truncate, fallocate.
#include "fs_fixture.h"

#include <random>
#include <set>

namespace vexfs::fs::test {
namespace {

constexpr u64 bs = 4096;

struct FsMap : ::testing::Test {
  TestFs t{FixtureOptions{.size = 256 << 20, .data_sums = false}};  // with them: fs_sums_test.cc
  InodeRef root = t.root();
  InodeRef f = t.must_make(*root, "f");
  ~FsMap() override {
    f.reset();
    root.reset();
    EXPECT_TRUE(t.check());
  }

  MapOut map_at(u64 block, u64 count = 1) {
    MapOut m{};
    EXPECT_TRUE(map(*f, block * bs, count * bs, m).ok());
    EXPECT_LE(m.off, block * bs);
    EXPECT_GT(m.off + m.len, block * bs);
    return m;
  }
  MapOut reserve(u64 block, u64 count) {
    MapOut m{};
    EXPECT_TRUE(map_reserve(*f, block * bs, count * bs, m).ok());
    return m;
  }
  MapOut allocate(u64 block, u64 count, bool direct = false) {
    MapOut m{};
    EXPECT_TRUE(map_allocate(*f, block * bs, count * bs, direct, m).ok());
    EXPECT_EQ(m.off, block * bs);
    EXPECT_LE(m.len, count * bs);
    return m;
  }
  Errno done(u64 block, u64 count, u64 size, int err = 0) {
    return write_done(*f, block * bs, count * bs, size, err).code();
  }
  // All of it: what writeback of count blocks does.
  void write_blocks(u64 block, u64 count) {
    reserve(block, count);
    for (u64 at = block; at < block + count;) {
      MapOut m = allocate(at, block + count - at);
      u64 n = m.len / bs;
      ASSERT_EQ(done(at, n, (at + n) * bs), Errno::ok);
      at += n;
    }
  }
  u64 reserved() { return t.volume().space().reserved; }
  u64 blocks() { return f->attributes().blocks; }
};

TEST_F(FsMap, DelayedThenInFlightThenMapped) {
  u64 r0 = reserved();
  EXPECT_EQ(map_at(0).type, u32{VX_MAP_HOLE});
  EXPECT_EQ(reserve(0, 8).type, u32{VX_MAP_DELALLOC});
  EXPECT_GE(reserved(), r0 + 8);
  EXPECT_EQ(map_at(3).type, u32{VX_MAP_DELALLOC});
  EXPECT_EQ(f->overlay.blocks(), 8u);
  MapOut m = allocate(0, 1);  // one page is asked for, but all of the range gets blocks in a row
  EXPECT_EQ(m.type, u32{VX_MAP_MAPPED});
  EXPECT_TRUE(m.flags & VX_MAP_F_NEW);
  EXPECT_EQ(m.len, bs);
  EXPECT_EQ(map_at(0).type, u32{VX_MAP_UNWRITTEN});  // never stale contents of the device
  EXPECT_TRUE(map_at(0).flags & VX_MAP_F_INFLIGHT);
  EXPECT_EQ(map_at(1).type, u32{VX_MAP_DELALLOC});
  MapOut n = allocate(1, 7);
  EXPECT_EQ(n.disk, m.disk + bs);
  EXPECT_EQ(n.len, 7 * bs);
  EXPECT_EQ(done(0, 8, 8 * bs - 100), Errno::ok);
  EXPECT_EQ(reserved(), r0);
  EXPECT_EQ(f->size(), 8 * bs - 100);
  EXPECT_EQ(blocks(), 8u);
  EXPECT_EQ(f->overlay.blocks(), 0u);
  m = map_at(2, 1);
  EXPECT_EQ(m.type, u32{VX_MAP_MAPPED});
  EXPECT_EQ(m.off + m.len, 8 * bs);
  EXPECT_EQ(map_at(8).type, u32{VX_MAP_HOLE});
}

TEST_F(FsMap, ReservationsAreGivenBack) {
  u64 r0 = reserved();
  reserve(10, 20);
  reserve(15, 10);  // again: nothing more
  u64 r1 = reserved();
  map_unreserve(*f, 12 * bs, 5 * bs);
  EXPECT_LT(reserved(), r1);
  EXPECT_EQ(map_at(12).type, u32{VX_MAP_HOLE});
  EXPECT_EQ(map_at(11).type, u32{VX_MAP_DELALLOC});
  EXPECT_EQ(map_at(17).type, u32{VX_MAP_DELALLOC});
  EXPECT_EQ(map_at(12).len, 5 * bs);
  allocate(17, 1);
  map_unreserve(*f, 0, 100 * bs);  // allocated ahead goes too, what is in flight stays
  EXPECT_EQ(f->overlay.blocks(), 1u);
  EXPECT_EQ(done(17, 1, 0, -5), Errno::ok);
  EXPECT_EQ(f->overlay.blocks(), 0u);
  EXPECT_EQ(reserved(), r0);
}

TEST_F(FsMap, FailedWritesLeaveAHole) {
  u64 free0 = t.volume().space().free;
  reserve(0, 4);
  allocate(0, 4);
  EXPECT_EQ(done(0, 4, 4 * bs, -5), Errno::ok);
  EXPECT_EQ(map_at(0).type, u32{VX_MAP_HOLE});
  EXPECT_EQ(f->size(), 0u);
  EXPECT_EQ(t.volume().space().free, free0);
  // Part fails, part succeeds, out of order.
  reserve(0, 9);
  allocate(0, 9);
  EXPECT_EQ(done(6, 3, 9 * bs), Errno::ok);
  EXPECT_EQ(done(3, 3, 9 * bs, -5), Errno::ok);
  EXPECT_EQ(done(0, 3, 3 * bs), Errno::ok);
  EXPECT_EQ(map_at(1).type, u32{VX_MAP_MAPPED});
  EXPECT_EQ(map_at(4).type, u32{VX_MAP_HOLE});
  EXPECT_EQ(map_at(7).type, u32{VX_MAP_MAPPED});
  EXPECT_EQ(blocks(), 6u);
}

TEST_F(FsMap, TruncateMeetsWritesInFlight) {
  u64 free0 = t.volume().space().free;
  reserve(0, 8);
  allocate(0, 6);  // in flight; 6 and 7 stay delayed or allocated ahead
  ASSERT_TRUE(truncate(*f, 2 * bs, TestFs::now()).ok());
  EXPECT_EQ(f->overlay.blocks(), 2u);
  EXPECT_EQ(map_at(3).type, u32{VX_MAP_HOLE});
  // The same range is written again before the old I/O has ended; completion of both must not mix them up.
  EXPECT_LT(t.volume().space().free, free0);
  EXPECT_EQ(done(0, 6, 6 * bs), Errno::ok);
  EXPECT_EQ(blocks(), 2u);
  EXPECT_EQ(done(0, 6, 6 * bs), Errno::ok);  // said twice: harmless
  EXPECT_EQ(done(100, 5, 0), Errno::ok);     // on nothing
  ASSERT_TRUE(truncate(*f, 0, TestFs::now()).ok());
  EXPECT_EQ(blocks(), 0u);
  EXPECT_EQ(f->overlay.blocks(), 0u);
  EXPECT_TRUE(f->overlay.empty());
}

TEST_F(FsMap, GhostsAreGivenBackInPieces) {
  reserve(0, 10);
  allocate(0, 10);
  ASSERT_TRUE(fallocate(*f, VX_FALLOC_PUNCH | VX_FALLOC_KEEP_SIZE, 0, 10 * bs, 0, TestFs::now()).ok());
  EXPECT_FALSE(f->overlay.ghosts_empty());
  EXPECT_EQ(done(4, 2, 0), Errno::ok);
  EXPECT_EQ(done(0, 4, 0, -5), Errno::ok);
  EXPECT_FALSE(f->overlay.ghosts_empty());
  EXPECT_EQ(done(6, 4, 0), Errno::ok);
  EXPECT_TRUE(f->overlay.ghosts_empty());
  EXPECT_EQ(blocks(), 0u);
}

TEST_F(FsMap, DirectWritesNeedNoReservation) {
  u64 v = f->version();
  MapOut m = allocate(5, 3, true);
  EXPECT_GT(f->version(), v);
  EXPECT_TRUE(m.flags & VX_MAP_F_NEW);
  v = f->version();
  EXPECT_EQ(done(5, m.len / bs, 5 * bs + m.len), Errno::ok);
  EXPECT_GT(f->version(), v);
  v = f->version();
  m = allocate(5, 1, true);
  EXPECT_FALSE(m.flags & VX_MAP_F_NEW);
  EXPECT_GT(f->version(), v);
  v = f->version();
  reserve(0, 1);
  allocate(0, 1);
  u64 v2 = f->version();
  EXPECT_GT(v2, v);
  EXPECT_EQ(done(0, 1, bs), Errno::ok);
  EXPECT_EQ(f->version(), v2);  // writeback is no change of content
}

TEST_F(FsMap, SequentialWritesMakeOneExtent) {
  for (u64 b = 0; b < 200; b++) write_blocks(b, 1);
  MapOut m = map_at(0);
  EXPECT_EQ(m.type, u32{VX_MAP_MAPPED});
  EXPECT_EQ(m.len, 200 * bs);  // one transaction: one birth
  // Delayed as a whole, written page by page: in a row as well.
  auto g = t.must_make(*root, "g");
  std::swap(f, g);
  reserve(0, 500);
  for (u64 b = 0; b < 500; b++) {
    allocate(b, 1);
    ASSERT_EQ(done(b, 1, (b + 1) * bs), Errno::ok);
  }
  EXPECT_EQ(map_at(0).len, 500 * bs);
  std::swap(f, g);
}

TEST_F(FsMap, FallocateAndConversion) {
  ASSERT_TRUE(fallocate(*f, VX_FALLOC_KEEP_SIZE, 0, 100 * bs, 0, TestFs::now()).ok());
  EXPECT_EQ(f->size(), 0u);
  EXPECT_EQ(blocks(), 100u);
  EXPECT_EQ(map_at(0).type, u32{VX_MAP_UNWRITTEN});
  reserve(10, 10);
  MapOut m = allocate(10, 10);
  EXPECT_EQ(m.type, u32{VX_MAP_UNWRITTEN});
  EXPECT_EQ(done(10, 10, 20 * bs), Errno::ok);
  EXPECT_EQ(map_at(9).type, u32{VX_MAP_UNWRITTEN});
  EXPECT_EQ(map_at(10).type, u32{VX_MAP_MAPPED});
  EXPECT_EQ(map_at(10).len, 10 * bs);
  EXPECT_EQ(map_at(20).type, u32{VX_MAP_UNWRITTEN});
  EXPECT_EQ(blocks(), 100u);
  for (u64 b = 20; b < 40; b++) {
    reserve(b, 1);
    allocate(b, 1);
    ASSERT_EQ(done(b, 1, (b + 1) * bs), Errno::ok);
  }
  EXPECT_EQ(map_at(10).len, 30 * bs);  // conversion joins what it follows
  ASSERT_TRUE(fallocate(*f, VX_FALLOC_ZERO, 15 * bs, 10 * bs, 25 * bs, TestFs::now()).ok());
  EXPECT_EQ(map_at(15).type, u32{VX_MAP_UNWRITTEN});
  EXPECT_EQ(map_at(14).type, u32{VX_MAP_MAPPED});
  EXPECT_EQ(map_at(25).type, u32{VX_MAP_MAPPED});
  ASSERT_TRUE(fallocate(*f, VX_FALLOC_PUNCH | VX_FALLOC_KEEP_SIZE, 12 * bs, 20 * bs, 0, TestFs::now()).ok());
  EXPECT_EQ(map_at(12).type, u32{VX_MAP_HOLE});
  EXPECT_EQ(map_at(12).len, 20 * bs);
  EXPECT_EQ(blocks(), 80u);
  EXPECT_EQ(f->size(), 40 * bs);
  ASSERT_TRUE(fallocate(*f, 0, 0, 200 * bs, 200 * bs, TestFs::now()).ok());
  EXPECT_EQ(f->size(), 200 * bs);
  EXPECT_EQ(blocks(), 200u);
  EXPECT_EQ(fallocate(*f, VX_FALLOC_PUNCH, 1, bs, 0, TestFs::now()).code(), Errno::inval);
  EXPECT_EQ(fallocate(*f, 128, 0, bs, 0, TestFs::now()).code(), Errno::opnotsupp);
}

TEST_F(FsMap, InlineFilesMoveOutAndStay) {
  std::string small(100, 's');
  ASSERT_TRUE(inline_write(*f, B(small)).ok());
  EXPECT_EQ(map_at(0).type, u32{VX_MAP_INLINE});
  EXPECT_EQ(inline_write(*f, B(std::string(2049, 'x'))).code(), Errno::fbig);
  MapOut m{};
  EXPECT_EQ(map_allocate(*f, 0, bs, false, m).code(), Errno::busy);
  ASSERT_TRUE(truncate(*f, 50, TestFs::now()).ok());
  EXPECT_TRUE(f->is_inline());
  ASSERT_TRUE(truncate(*f, 70, TestFs::now()).ok());
  EXPECT_EQ(TestFs::read(*f), std::string(50, 's') + std::string(20, '\0'));
  ASSERT_TRUE(set_size(*f, 5000).ok());
  EXPECT_FALSE(f->is_inline());
  EXPECT_EQ(map_at(0).type, u32{VX_MAP_MAPPED});
  EXPECT_EQ(TestFs::read(*f), std::string(50, 's') + std::string(4950, '\0'));
  EXPECT_EQ(inline_write(*f, B(small)).code(), Errno::busy);
  ASSERT_TRUE(truncate(*f, 0, TestFs::now()).ok());
  ASSERT_TRUE(inline_write(*f, B(small)).ok());
  u64 r0 = reserved();
  reserve(0, 1);  // the host has dirtied its page of the inline file
  ASSERT_TRUE(uninline(*f).ok());
  EXPECT_EQ(f->overlay.blocks(), 0u);
  EXPECT_EQ(reserved(), r0);
  EXPECT_EQ(TestFs::read(*f), small);
  ASSERT_TRUE(truncate(*f, 0, TestFs::now()).ok());
  reserve(0, 1);
  ASSERT_TRUE(inline_write(*f, B(small)).ok());  // writeback of a small file
  EXPECT_EQ(reserved(), r0);
  ASSERT_TRUE(inline_write(*f, {}).ok());
  EXPECT_FALSE(f->is_inline());
  EXPECT_EQ(f->size(), 0u);
}

TEST_F(FsMap, LongTruncateIsFinishedAfterACrash) {
  for (u64 b = 0; b < 400; b++) write_blocks(b * 2, 1);  // 400 extents
  EXPECT_EQ(blocks(), 400u);
  u64 ino = f->ino();
  t.commit();
  ASSERT_TRUE(truncate(*f, 100 * bs, TestFs::now()).ok());
  EXPECT_EQ(blocks(), 50u);
  t.commit();
  f.reset();
  root.reset();
  t.crash();
  root = t.root();
  f = t.fs().get(ino).take();
  EXPECT_EQ(blocks(), 50u);
  // A record that a crash has left behind: size says what is to go.
  {
    auto h = t.volume().begin({.items = 2});
    ASSERT_TRUE(h.ok());
    disk::DiskTruncate rec;
    rec.size = 10 * bs;
    ASSERT_TRUE(t.fs().tree().insert(*h, fs_key(0, FsItem::truncate, ino), bytes_of(rec)).ok());
    ASSERT_TRUE(f->change(*h, [](Attributes &a) -> Status {
                   a.size = 10 * bs;
                   return {};
                 }).ok());
  }
  f.reset();
  root.reset();
  t.remount();
  root = t.root();
  f = t.fs().get(ino).take();
  EXPECT_EQ(t.fs().stats().truncates_recovered.load(), 1u);
  EXPECT_EQ(blocks(), 5u);
  EXPECT_EQ(map_at(10).type, u32{VX_MAP_HOLE});
}

TEST_F(FsMap, RandomPagesOfAHugeSparseFile) {
  std::mt19937_64 rng(7);
  std::set<u64> pages;
  while (pages.size() < 20000) pages.insert(rng() % (u64{1} << 40));
  std::vector<u64> order(pages.begin(), pages.end());
  std::shuffle(order.begin(), order.end(), rng);
  u64 t0 = vx_clock_mono_ns();
  for (u64 p : order) reserve(p, 1);
  EXPECT_EQ(f->overlay.blocks(), 20000u);
  EXPECT_EQ(f->overlay.audit(), 20000u);
  for (u64 p : order) {
    allocate(p, 1);
    ASSERT_EQ(done(p, 1, (p + 1) * bs), Errno::ok);
  }
  double us = static_cast<double>(vx_clock_mono_ns() - t0) / 1e3 / 20000;
  printf("%.2f us per random page: reserve, allocate, complete\n", us);
  EXPECT_EQ(blocks(), 20000u);
  EXPECT_TRUE(f->overlay.empty());
  for (u64 i = 0; i < 1000; i++) EXPECT_EQ(map_at(order[i]).type, u32{VX_MAP_MAPPED});
  ASSERT_TRUE(truncate(*f, 0, TestFs::now()).ok());
  EXPECT_EQ(blocks(), 0u);
}

TEST_F(FsMap, LimitsAreKept) {
  MapOut m{};
  EXPECT_EQ(map_reserve(*f, disk::kFileSizeMax, bs, m).code(), Errno::fbig);
  EXPECT_EQ(map_reserve(*f, 0, 0, m).code(), Errno::inval);
  EXPECT_EQ(map(*f, ~u64{0} - 1, 100, m).code(), Errno::fbig);
  EXPECT_EQ(map_allocate(*f, disk::kFileSizeMax - bs, 2 * bs, true, m).code(), Errno::fbig);
  EXPECT_EQ(truncate(*f, disk::kFileSizeMax + 1, TestFs::now()).code(), Errno::fbig);
  EXPECT_EQ(write_done(*f, 0, bs, disk::kFileSizeMax + 1, 0).code(), Errno::fbig);
  EXPECT_EQ(map(*root, 0, bs, m).code(), Errno::inval);
  ASSERT_TRUE(truncate(*f, disk::kFileSizeMax, TestFs::now()).ok());
  EXPECT_EQ(TestFs::read(*f, disk::kFileSizeMax - 10, 10), std::string(10, '\0'));
  EXPECT_EQ(TestFs::write(*f, "end", disk::kFileSizeMax - 3), Errno::ok);
  EXPECT_EQ(TestFs::write(*f, "beyond", disk::kFileSizeMax - 3), Errno::fbig);
  EXPECT_EQ(TestFs::read(*f, disk::kFileSizeMax - 4, 4), std::string("\0end", 4));
}

}  // namespace
}  // namespace vexfs::fs::test
