// SPDX-License-Identifier: MIT
// Files that share blocks: cloning, what becomes of either side afterwards, counts of references and how they are checked.
#include "../../kernel/core/disk/super.h"
#include "fs_reflink_fixture.h"

namespace vexfs::fs::test {
namespace {

TEST_F(FsReflink, SharesBlocks) {
  u64 before = used();
  std::string data = noise(1 << 20, 1);
  auto a = file("a", data);
  auto b = t.must_make(*root, "b");
  EXPECT_EQ(used(), before + 256);
  u64 version = b->version();
  EXPECT_EQ(clone(*a, *b), Errno::ok);
  EXPECT_EQ(used(), before + 256);
  EXPECT_EQ(t.read(*b), data);
  EXPECT_EQ(disk_of(*a, 100), disk_of(*b, 100));
  EXPECT_EQ(b->attributes().blocks, 256u);
  EXPECT_EQ(b->size(), data.size());
  EXPECT_GT(b->version(), version);
  u64 counted = 0;
  for (const Entry &e : entries()) {
    EXPECT_EQ(e.refs, 2u);
    counted += e.blocks;
  }
  EXPECT_EQ(counted, 256u);
  // Once more changes nothing.
  EXPECT_EQ(clone(*a, *b), Errno::ok);
  EXPECT_EQ(refs(), std::vector<u64>(entries().size(), 2));
  a.reset(), b.reset();
  remount();
  EXPECT_EQ(t.read(*t.open(*root, "b")), data);
}

TEST_F(FsReflink, EitherSideIsWrittenElsewhere) {
  for (bool nosum : {false, true}) {
    std::string name = nosum ? "n" : "s", data = noise(64 * bs + 100, 2), other = data;
    auto a = file(name);
    auto b = t.must_make(*root, name + "2");
    for (Inode *ip : {a.get(), b.get()}) {
      Attributes x = ip->attributes();
      x.flags |= nosum ? VX_INODE_NOSUM : 0;
      ASSERT_TRUE(set_attributes(*ip, VX_SET_FLAGS, x).ok());
    }
    ASSERT_EQ(t.write(*a, data), Errno::ok);
    ASSERT_EQ(clone(*a, *b), Errno::ok);
    u64 shared = disk_of(*a, 10);
    std::string piece = noise(3 * bs, 3);
    ASSERT_EQ(t.write(*a, piece, 10 * bs - 7), Errno::ok);
    data.replace(10 * bs - 7, piece.size(), piece);
    EXPECT_EQ(t.read(*a), data);
    EXPECT_EQ(t.read(*b), other);
    EXPECT_NE(disk_of(*a, 10), shared);
    EXPECT_EQ(disk_of(*b, 10), shared);
    // The other side has these to itself now, but they may not be told apart before they are written.
    ASSERT_EQ(t.write(*b, piece, 11 * bs), Errno::ok);
    other.replace(11 * bs, piece.size(), piece);
    write_back(*b, 60, noise(2 * bs, 4));
    other.replace(60 * bs, 2 * bs, noise(2 * bs, 4));
    EXPECT_EQ(t.read(*a), data);
    EXPECT_EQ(t.read(*b), other);
    a.reset(), b.reset();
    EXPECT_TRUE(sound());
    EXPECT_EQ(t.read(*t.open(*root, name)), data);
    EXPECT_EQ(t.read(*t.open(*root, name + "2")), other);
  }
}

// Whatever goes first, and however: what is left stays, and at the end all is free.
TEST_F(FsReflink, EveryOrderOfGoing) {
  u64 before = used();
  std::string data = noise(40 * bs, 5);
  std::vector<int> order{0, 1, 2};
  do {
    for (int how = 0; how < 4; how++) {
      {
        auto a = file("f0", data);
        cloned(*a, "f1").reset();
        cloned(*t.open(*root, "f1"), "f2").reset();
      }
      EXPECT_EQ(used(), before + 40);
      for (int i : order) {
        std::string name = "f" + std::to_string(i);
        {
          auto f = t.open(*root, name);
          EXPECT_EQ(t.read(*f), data);
          if (how == 1) {
            EXPECT_TRUE(truncate_file(*f, 5 * bs + 3, TestFs::now()).ok());
          }
          if (how == 2) {
            EXPECT_TRUE(fallocate(*f, VX_FALLOC_PUNCH | VX_FALLOC_KEEP_SIZE, 3 * bs, 30 * bs, 0, TestFs::now()).ok());
          }
          if (how == 3) {
            EXPECT_TRUE(fallocate(*f, VX_FALLOC_ZERO | VX_FALLOC_KEEP_SIZE, 0, 9 * bs, 0, TestFs::now()).ok());
          }
        }
        for (int j : order)
          if (j != i && std::find(order.begin(), order.end(), j) > std::find(order.begin(), order.end(), i)) {
            EXPECT_EQ(t.read(*t.open(*root, "f" + std::to_string(j))), data);
          }
        EXPECT_EQ(remove(name), Errno::ok);
      }
      EXPECT_EQ(entries().size(), 0u);
      EXPECT_EQ(used(), before);
    }
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_F(FsReflink, PartsAndCounts) {
  std::string data = noise(100 * bs, 6);
  auto a = file("a", data);
  auto b = cloned(*a, "b");
  ASSERT_EQ(entries().size(), 1u);
  u64 start = entries()[0].start;
  auto c = t.must_make(*root, "c");
  ASSERT_EQ(clone(*b, 40 * bs, *c, 10 * bs, 20 * bs), Errno::ok);
  EXPECT_EQ(c->size(), 30 * bs);
  EXPECT_EQ(t.read(*c), std::string(10 * bs, 0) + data.substr(40 * bs, 20 * bs));
  EXPECT_EQ(entries(), (std::vector<Entry>{{start, 40, 2}, {start + 40, 20, 3}, {start + 60, 40, 2}}));
  // Gone again, the entries are one again.
  c.reset();
  ASSERT_EQ(remove("c"), Errno::ok);
  EXPECT_EQ(entries(), (std::vector<Entry>{{start, 100, 2}}));
  // Within one file, over what is shared already.
  ASSERT_EQ(clone(*a, 0, *a, 50 * bs, 10 * bs), Errno::ok);
  data.replace(50 * bs, 10 * bs, data, 0, 10 * bs);
  EXPECT_EQ(t.read(*a), data);
  EXPECT_EQ(entries(), (std::vector<Entry>{{start, 10, 3}, {start + 10, 40, 2}, {start + 60, 40, 2}}));
  // The target's blocks overlap the source's.
  ASSERT_EQ(clone(*b, 5 * bs, *a, 0, 10 * bs), Errno::ok);
  EXPECT_EQ(t.read(*a, 0, 10 * bs), t.read(*b, 5 * bs, 10 * bs));
  a.reset(), b.reset();
  EXPECT_TRUE(sound());
  EXPECT_EQ(remove("b"), Errno::ok);
  EXPECT_TRUE(sound());
  EXPECT_EQ(remove("a"), Errno::ok);
  EXPECT_EQ(entries().size(), 0u);
}

// A file whose blocks have many different counts: nothing that lets go of all of them is one transaction.
TEST_F(FsReflink, ManyRuns) {
  std::string data = noise(600 * bs, 7);
  u64 before = used();
  for (int how = 0; how < 6; how++) {
    auto a = file("a", data);
    auto b = t.must_make(*root, "b");
    for (u64 i = 0; i < 600; i += 2) ASSERT_EQ(clone(*a, i * bs, *b, i * bs, bs), Errno::ok);
    auto c = cloned(*a, "c");
    EXPECT_EQ(entries().size(), 600u);
    std::string now = data;
    if (how == 1) {
      EXPECT_TRUE(truncate_file(*a, 0, TestFs::now()).ok());
      now = "";
    } else if (how == 2) {
      EXPECT_TRUE(fallocate(*a, VX_FALLOC_PUNCH | VX_FALLOC_KEEP_SIZE, 0, 600 * bs, 0, TestFs::now()).ok());
      now.assign(now.size(), 0);
    } else if (how == 3) {
      EXPECT_TRUE(fallocate(*a, VX_FALLOC_ZERO | VX_FALLOC_KEEP_SIZE, 0, 600 * bs, 0, TestFs::now()).ok());
      now.assign(now.size(), 0);
    } else if (how == 4) {
      now = noise(600 * bs, 8);
      EXPECT_EQ(t.write(*a, now), Errno::ok);
    } else if (how == 5) {
      now = noise(600 * bs, 9);
      write_back(*a, 0, now);
    } else {
      a.reset();
      EXPECT_EQ(remove("a"), Errno::ok);
    }
    if (how) {
      EXPECT_EQ(t.read(*a), now);
    }
    EXPECT_EQ(t.read(*c), data);
    EXPECT_EQ(t.read(*b, 2 * bs, bs), data.substr(2 * bs, bs));
    a.reset(), b.reset(), c.reset();
    EXPECT_TRUE(sound()) << how;
    for (const char *n : {"a", "b", "c"})
      if (how || *n != 'a') {
        EXPECT_EQ(remove(n), Errno::ok);
      }
    EXPECT_EQ(entries().size(), 0u);
    EXPECT_EQ(used(), before);
  }
}

TEST_F(FsReflink, SmallFiles) {
  auto a = file("a", "hello");
  auto b = cloned(*a, "b");
  EXPECT_TRUE(b->is_inline());
  EXPECT_EQ(t.read(*b), "hello");
  ASSERT_EQ(t.write(*a, "J"), Errno::ok);
  EXPECT_EQ(t.read(*b), "hello");
  // Over a shorter one, over a longer one's end, behind the end, into a large file.
  auto c = file("c", "hi");
  EXPECT_EQ(clone(*a, *c), Errno::ok);
  EXPECT_EQ(t.read(*c), "Jello");
  auto d = file("d", noise(3 * bs, 10));
  EXPECT_EQ(clone(*b, 0, *d, 0, 5), Errno::inval) << "the rest of the block is the target's";
  EXPECT_EQ(clone(*b, 0, *d, 4 * bs, 5), Errno::ok);
  EXPECT_FALSE(b->is_inline());
  EXPECT_EQ(t.read(*d), noise(3 * bs, 10) + std::string(bs, 0) + "hello");
  auto e = file("e", "tiny");
  EXPECT_EQ(clone(*d, 0, *e, bs, bs), Errno::ok);
  EXPECT_EQ(t.read(*e), "tiny" + std::string(bs - 4, 0) + noise(3 * bs, 10).substr(0, bs));
  auto f = file("f");
  EXPECT_TRUE(fallocate(*f, VX_FALLOC_KEEP_SIZE, 0, 4 * bs, 0, TestFs::now()).ok());
  EXPECT_EQ(clone(*a, *f), Errno::ok);
  EXPECT_EQ(t.read(*f), "Jello");
  EXPECT_EQ(clone(*a, 0, *a, bs, 5), Errno::ok);
  EXPECT_EQ(t.read(*a), "Jello" + std::string(bs - 5, 0) + "Jello");
}

TEST_F(FsReflink, HolesAndEnds) {
  auto a = file("a", noise(bs, 11));
  ASSERT_EQ(t.write(*a, noise(2 * bs + 77, 12), 10 * bs), Errno::ok);
  ASSERT_TRUE(fallocate(*a, VX_FALLOC_KEEP_SIZE, 5 * bs, 2 * bs, 0, TestFs::now()).ok());
  auto b = file("b", noise(20 * bs, 13));
  // An end in the middle of a block is the end of the target, or it is not.
  EXPECT_EQ(clone(*a, *b), Errno::inval);
  EXPECT_EQ(clone(*a, 0, *b, 0, 12 * bs), Errno::ok);
  std::string want = t.read(*a, 0, 12 * bs) + noise(20 * bs, 13).substr(12 * bs);
  EXPECT_EQ(t.read(*b), want);
  EXPECT_EQ(b->attributes().blocks, 3u + 8u);
  EXPECT_EQ(clone(*a, 0, *b, 20 * bs, a->size()), Errno::ok);
  EXPECT_EQ(t.read(*b), want + t.read(*a));
  EXPECT_EQ(b->size(), 32 * bs + 77);
  // What lay behind the end is not seen when the file grows.
  ASSERT_TRUE(truncate_file(*b, 33 * bs, TestFs::now()).ok());
  EXPECT_EQ(t.read(*b, 32 * bs), t.read(*a, 12 * bs) + std::string(bs - 77, 0));
  auto c = file("c", "0123456789");
  EXPECT_EQ(clone(*a, 10 * bs, *c, 3 * bs, 2 * bs + 77), Errno::ok);
  EXPECT_EQ(t.read(*c), "0123456789" + std::string(3 * bs - 10, 0) + t.read(*a, 10 * bs));
}

TEST_F(FsReflink, Refusals) {
  auto a = file("a", noise(10 * bs + 5, 14)), b = file("b", noise(10 * bs, 15));
  EXPECT_EQ(clone(*a, 1, *b, 0, bs), Errno::inval);
  EXPECT_EQ(clone(*a, 0, *b, 100, bs), Errno::inval);
  EXPECT_EQ(clone(*a, 0, *b, 0, bs + 1), Errno::inval);
  EXPECT_EQ(clone(*a, 0, *a, bs, 2 * bs), Errno::inval);
  EXPECT_EQ(clone(*a, 2 * bs, *a, bs, 2 * bs), Errno::inval);
  EXPECT_EQ(clone(*a, 0, *b, 0, 20 * bs), Errno::inval);
  EXPECT_EQ(clone(*a, 0, *b, disk::kFileSizeMax - bs, 2 * bs), Errno::fbig);
  EXPECT_EQ(clone(*a, 0, *root, 0, bs), Errno::isdir);
  EXPECT_EQ(clone(*a, 0, *b, 0, 0), Errno::ok);
  EXPECT_EQ(t.read(*b), noise(10 * bs, 15));
  auto c = file("c");
  Attributes x = c->attributes();
  x.flags |= VX_INODE_NOSUM;
  ASSERT_TRUE(set_attributes(*c, VX_SET_FLAGS, x).ok());
  EXPECT_EQ(clone(*a, 0, *c, 0, bs), Errno::inval);
  // What is in flight cannot be shared.
  MapOut m;
  ASSERT_TRUE(map_reserve(*a, 2 * bs, bs, m).ok());
  ASSERT_TRUE(map_allocate(*a, 2 * bs, bs, false, m).ok());
  u64 done;
  EXPECT_EQ(clone_range(*a, *b, {0, 0, 5 * bs, false}, TestFs::now(), done).code(), Errno::busy);
  ASSERT_TRUE(write_done(*a, 2 * bs, bs, 0, -5).ok());
  EXPECT_EQ(entries().size(), 0u);
  a.reset(), b.reset(), c.reset(), root.reset();
  ASSERT_EQ(t.unmount(), Errno::ok);
  ASSERT_EQ(t.mount(true), Errno::ok);
  root = t.root();
  a = t.open(*root, "a"), b = t.open(*root, "b");
  EXPECT_EQ(clone(*a, 0, *b, 0, bs), Errno::rofs);
}

// A filesystem that was made before files could share blocks.
TEST_F(FsReflink, WithoutTheFeature) {
  auto a = file("a", noise(10 * bs, 16));
  auto b = cloned(*a, "b");
  a.reset(), b.reset(), root.reset();
  ASSERT_EQ(t.unmount(), Errno::ok);
  auto set = [&](bool on) {
    for (u64 at : {disk::kSuperOffset, (u64{64} << 20) - disk::kSuperBytes}) {
      disk::SuperDisk s;
      t.device().peek(at, &s, sizeof s);
      s.incompat = on ? s.incompat | disk::kIncompatReflink : s.incompat & ~disk::kIncompatReflink;
      disk::seal_super(s, at);
      t.device().poke(at, &s, sizeof s);
    }
  };
  set(false);
  EXPECT_NE(TestFs::check_device(&t.device()).text().find("made without that feature"), std::string::npos);
  ASSERT_EQ(t.mount(), Errno::ok);
  root = t.root();
  a = t.open(*root, "a"), b = file("c");
  EXPECT_EQ(clone(*a, *b), Errno::opnotsupp);
  a.reset(), b.reset(), root.reset();
  ASSERT_EQ(t.unmount(), Errno::ok);
  set(true);
  ASSERT_EQ(t.mount(), Errno::ok);
}

TEST_F(FsReflink, Dedupe) {
  std::string data = noise(50 * bs + 9, 17);
  u64 before = used();
  auto a = file("a", data), b = file("b", data);
  EXPECT_EQ(used(), before + 102);
  Attributes was = b->attributes();
  auto dedupe = [](Inode &x, Inode &y, u64 len) { return clone_file(x, y, {0, 0, len, true}, TestFs::now()); };
  EXPECT_TRUE(*dedupe(*a, *b, data.size()));
  EXPECT_EQ(used(), before + 51);
  EXPECT_EQ(t.read(*b), data);
  EXPECT_EQ(b->version(), was.version);
  EXPECT_EQ(b->attributes().mtime.sec, was.mtime.sec);
  EXPECT_EQ(b->attributes().blocks, was.blocks);
  ASSERT_EQ(t.write(*b, "x", 4000), Errno::ok);
  EXPECT_FALSE(*dedupe(*a, *b, 2 * bs));
  auto small = file("s", "same"), small2 = file("s2", "same");
  EXPECT_TRUE(*dedupe(*small, *small2, 4));
}

TEST_F(FsReflink, CrashBeforeAndAfterCommit) {
  std::string data = noise(30 * bs, 18), other = noise(30 * bs, 19);
  {
    auto a = file("a", data), b = file("b", other);
    t.commit();
    ASSERT_EQ(clone(*a, *b), Errno::ok);
  }
  crash();
  EXPECT_EQ(t.read(*t.open(*root, "b")), other);
  EXPECT_EQ(entries().size(), 0u);
  {
    auto a = t.open(*root, "a"), b = t.open(*root, "b");
    ASSERT_EQ(clone(*a, *b), Errno::ok);
    t.commit();
    ASSERT_EQ(t.write(*a, other), Errno::ok);
  }
  crash();
  EXPECT_EQ(t.read(*t.open(*root, "a")), data);
  EXPECT_EQ(t.read(*t.open(*root, "b")), data);
  EXPECT_EQ(refs(), std::vector<u64>{2});
  EXPECT_TRUE(sound());
}

struct FsReflinkLog : FsReflink {
  FsReflinkLog() : FsReflink({.log_blocks = 1024}) {}
};

TEST_F(FsReflinkLog, SyncedClonesAreReplayed) {
  std::string data = noise(300 * bs, 20), piece = noise(7 * bs, 21);
  {
    auto a = file("a", data);
    t.commit();
    auto b = cloned(*a, "b"), c = t.must_make(*root, "c");
    for (u64 i = 0; i < 40; i += 2) ASSERT_EQ(clone(*b, i * bs, *c, (40 - i) * bs, bs), Errno::ok);
    ASSERT_EQ(t.write(*b, piece, 5 * bs), Errno::ok);
    ASSERT_TRUE(truncate_file(*a, 9 * bs, TestFs::now()).ok());
    ASSERT_TRUE(t.fs().sync().ok());
    ASSERT_EQ(t.write(*a, piece), Errno::ok);  // lost
  }
  auto counts = entries();
  std::string c = t.read(*t.open(*root, "c"));
  crash();
  EXPECT_GT(t.volume().counters().log_replayed.load(), 0u);
  EXPECT_EQ(t.read(*t.open(*root, "a")), data.substr(0, 9 * bs));
  data.replace(5 * bs, piece.size(), piece);
  EXPECT_EQ(t.read(*t.open(*root, "b")), data);
  EXPECT_EQ(t.read(*t.open(*root, "c")), c);
  EXPECT_TRUE(sound());
}

// ------------------------------------------------------------------------------------------------------------ damage
struct FsReflinkDamage : FsReflink {
  FsReflinkDamage() {
    auto a = file("a", noise(20 * bs, 30));
    auto b = cloned(*a, "b");
    EXPECT_EQ(clone(*a, 5 * bs, *b, 30 * bs, 5 * bs), Errno::ok);
    ino_b = b->ino();
    mounted = false;
  }
  template <class F>
  void edit(F fn) {
    auto h = t.volume().begin({.items = 4});
    ASSERT_TRUE(h.ok());
    ASSERT_TRUE(fn(*h, t.volume().tree(store::TreeId::refcounts)).ok());
  }
  // The number of errors, and whether one of them says so.
  void expect(const char *text) {
    auto r = fsck();
    EXPECT_GT(r.errors, 0u);
    EXPECT_NE(r.text().find(text), std::string::npos) << r.text();
  }
  u64 ino_b = 0;
};

TEST_F(FsReflinkDamage, CountTooLarge) {
  auto e = entries().at(1);
  ASSERT_EQ(e.refs, 3u);
  edit([&](store::Handle &h, store::Tree &tr) {
    le32 n;
    n = 4;
    return tr.patch(h, {e.start, disk::kRefcountType, 0}, 0, bytes_of(n));
  });
  expect("3 extents refer to them, but their count is 4");
}

TEST_F(FsReflinkDamage, CountTooSmall) {
  auto e = entries().at(1);
  edit([&](store::Handle &h, store::Tree &tr) {
    le32 n;
    n = 2;
    return tr.patch(h, {e.start, disk::kRefcountType, 0}, 0, bytes_of(n));
  });
  expect("3 extents refer to them, but their count is 2");
}

TEST_F(FsReflinkDamage, CountOfOne) {
  auto e = entries().at(0);
  edit([&](store::Handle &h, store::Tree &tr) {
    le32 n;
    n = 1;
    return tr.patch(h, {e.start, disk::kRefcountType, 0}, 0, bytes_of(n));
  });
  expect("count of shared blocks at");
}

TEST_F(FsReflinkDamage, EntryMissing) {
  auto e = entries().at(0);
  edit([&](store::Handle &h, store::Tree &tr) { return tr.erase(h, {e.start, disk::kRefcountType, 0}); });
  expect("2 extents refer to them, but they have no count");
}

TEST_F(FsReflinkDamage, EntryTooMany) {
  u64 at = disk_of(*file("c", noise(4 * bs, 31)), 1) / bs;
  edit([&](store::Handle &h, store::Tree &tr) {
    disk::RefcountItem i;
    i.refs = 2;
    i.blocks = 2;
    i.birth = 1;
    return tr.insert(h, {at, disk::kRefcountType, 0}, bytes_of(i));
  });
  expect("0 extents refer to them, but their count is 2");
}

TEST_F(FsReflinkDamage, EntriesOverlap) {
  auto e = entries().at(0);
  edit([&](store::Handle &h, store::Tree &tr) {
    disk::RefcountItem i;
    i.refs = 2;
    i.blocks = 1;
    i.birth = 1;
    return tr.insert(h, {e.start + 1, disk::kRefcountType, 0}, bytes_of(i));
  });
  expect("overlaps the one before it");
}

TEST_F(FsReflinkDamage, EntryTooShort) {
  auto e = entries().at(2);
  edit([&](store::Handle &h, store::Tree &tr) {
    le32 n;
    n = static_cast<u32>(e.blocks - 1);
    return tr.patch(h, {e.start, disk::kRefcountType, 0}, offsetof(disk::RefcountItem, blocks), bytes_of(n));
  });
  expect("1: 2 extents refer to them, but they have no count");
}

TEST_F(FsReflinkDamage, OtherBirth) {
  auto e = entries().at(0);
  edit([&](store::Handle &h, store::Tree &tr) {
    le64 n;
    n = 1;
    return tr.patch(h, {e.start, disk::kRefcountType, 0}, offsetof(disk::RefcountItem, birth), bytes_of(n));
  });
  expect("another birth");
}

// Two extents refer to blocks, and one of them does not know that it is not alone.
TEST_F(FsReflinkDamage, ExtentWithoutTheMark) {
  edit([&](store::Handle &h, store::Tree &) {
    le32 flags;
    flags = disk::kExtentSummed;
    return t.fs().tree().patch(h, fs_key(ino_b, FsItem::extent, 0), offsetof(disk::DiskExtent, flags), bytes_of(flags));
  });
  expect("belong to something else too");
}

// A damaged count is met when a file lets go of its blocks: nothing that is still needed may become free.
TEST_F(FsReflinkDamage, NothingIsFreedOnTheStrengthOfIt) {
  auto e = entries().at(1);
  std::string data = t.read(*t.open(*root, "a"));
  edit([&](store::Handle &h, store::Tree &tr) {
    le32 n;
    n = 0;
    return tr.patch(h, {e.start, disk::kRefcountType, 0}, 0, bytes_of(n));
  });
  {
    auto b = t.open(*root, "b");
    EXPECT_EQ(truncate_file(*b, 0, TestFs::now()).code(), Errno::corrupt);
  }
  EXPECT_TRUE(t.volume().read_only()) << "errors=remount-ro";
  EXPECT_EQ(t.read(*t.open(*root, "a")), data);
}

// ------------------------------------------------------------------------------------------------------ a full disk
struct FsReflinkSmall : FsReflink {
  FsReflinkSmall() : FsReflink({.size = 12 << 20}) {}
};

TEST_F(FsReflinkSmall, FullDisk) {
  u64 before = used();
  std::string data = noise(64 * bs, 40);
  auto a = file("a", data);
  auto b = cloned(*a, "b");
  auto fill = file("fill");
  u64 filled = 0;
  for (std::string piece = noise(16 * bs, 41); t.write(*fill, piece, filled) == Errno::ok;) filled += piece.size();
  // To write over what is shared takes space, and there is none; nothing is lost.
  Errno e = Errno::ok;
  for (u64 i = 0; i < 64 && e == Errno::ok; i++) e = t.write(*b, noise(bs, 42), i * bs);
  EXPECT_EQ(e, Errno::nospc);
  EXPECT_EQ(t.read(*a), data);
  // Sharing takes little, and does what it can or says what it cannot.
  for (int i = 0; i < 2000 && e == Errno::nospc; i++) {
    auto c = t.make(*root, "c" + std::to_string(i));
    if (!c.ok()) break;
    Errno got = clone(*a, **c);
    EXPECT_TRUE(got == Errno::ok || got == Errno::nospc) << static_cast<int>(got);
    if (got != Errno::ok) break;
    EXPECT_EQ(t.read(**c), data);
  }
  a.reset(), b.reset(), fill.reset();
  EXPECT_TRUE(sound());
  for (auto &n : t.list(*root)) EXPECT_EQ(remove(n), Errno::ok) << n;
  EXPECT_EQ(entries().size(), 0u);
  EXPECT_EQ(used(), before);
}

}  // namespace
}  // namespace vexfs::fs::test
