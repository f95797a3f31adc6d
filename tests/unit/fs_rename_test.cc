// SPDX-License-Identifier: MIT
// rename: every flag, every combination of kinds, and no directory below itself.
#include "fs_fixture.h"

namespace vexfs::fs::test {
namespace {

Errno mv(Inode &o, const std::string &on, Inode &n, const std::string &nn, u32 flags = 0) {
  return rename(o, B(on), n, B(nn), flags, nullptr, TestFs::now()).code();
}

struct FsRename : ::testing::Test {
  TestFs t;
  InodeRef root = t.root();
  ~FsRename() override {
    root.reset();
    EXPECT_TRUE(t.check());
  }
};

TEST_F(FsRename, MovesFilesWithinAndAcross) {
  auto a = t.mkdir(*root, "a"), b = t.mkdir(*root, "b");
  auto f = t.must_make(*a, "f");
  EXPECT_EQ(mv(*a, "f", *a, "g"), Errno::ok);
  EXPECT_EQ(*lookup(*a, B("g")), f->ino());
  EXPECT_EQ(lookup(*a, B("f")).code(), Errno::noent);
  EXPECT_EQ(mv(*a, "g", *b, "h"), Errno::ok);
  EXPECT_EQ(*lookup(*b, B("h")), f->ino());
  EXPECT_EQ(f->attributes().parent, b->ino());
  EXPECT_EQ(a->attributes().entries, 0u);
  EXPECT_EQ(a->attributes().size, 0u);
  EXPECT_EQ(b->attributes().entries, 1u);
  EXPECT_EQ(mv(*a, "nothing", *b, "x"), Errno::noent);
  EXPECT_EQ(mv(*b, "h", *b, "h"), Errno::ok);
}

TEST_F(FsRename, ReplacesFilesAndEmptyDirectories) {
  auto f = t.must_make(*root, "f");
  auto g = t.must_make(*root, "g");
  TestFs::write(*g, std::string(10000, 'g'));
  u64 gino = g->ino();
  EXPECT_EQ(mv(*root, "f", *root, "g", VX_RENAME_NOREPLACE), Errno::exist);
  EXPECT_EQ(mv(*root, "f", *root, "g"), Errno::ok);
  EXPECT_EQ(*lookup(*root, B("g")), f->ino());
  EXPECT_EQ(g->attributes().nlink, 0u);
  EXPECT_EQ(TestFs::read(*g).size(), 10000u);
  g.reset();
  EXPECT_EQ(t.fs().get(gino).code(), Errno::noent);
  auto d = t.mkdir(*root, "d"), e = t.mkdir(*root, "e");
  t.must_make(*e, "x");
  EXPECT_EQ(mv(*root, "d", *root, "e"), Errno::notempty);
  EXPECT_EQ(mv(*root, "f", *root, "e"), Errno::noent);
  EXPECT_EQ(mv(*root, "g", *root, "e"), Errno::isdir);
  EXPECT_EQ(mv(*root, "e", *root, "g"), Errno::notdir);
  EXPECT_EQ(mv(*root, "e", *root, "d"), Errno::ok);  // onto an empty directory
  EXPECT_EQ(d->attributes().nlink, 0u);
  EXPECT_EQ(t.make(*d, "y").code(), Errno::noent);
  EXPECT_EQ(root->attributes().nlink, 3u);
  auto h = t.must_make(*root, "h");
  ASSERT_TRUE(link(*root, B("h2"), *h, TestFs::now()).ok());
  EXPECT_EQ(mv(*root, "h", *root, "h2"), Errno::ok);  // one inode: nothing happens
  EXPECT_TRUE(lookup(*root, B("h")).ok());
  EXPECT_TRUE(lookup(*root, B("h2")).ok());
}

TEST_F(FsRename, DirectoriesChangeTheirParent) {
  auto a = t.mkdir(*root, "a"), b = t.mkdir(*root, "b"), c = t.mkdir(*a, "c");
  EXPECT_EQ(mv(*a, "c", *b, "c2"), Errno::ok);
  EXPECT_EQ(c->attributes().parent, b->ino());
  EXPECT_EQ(a->attributes().nlink, 2u);
  EXPECT_EQ(b->attributes().nlink, 3u);
  auto d = t.mkdir(*a, "d");
  EXPECT_EQ(mv(*a, "d", *b, "c2"), Errno::ok);  // replaces c: b keeps one subdirectory
  EXPECT_EQ(b->attributes().nlink, 3u);
  EXPECT_EQ(a->attributes().nlink, 2u);
}

TEST_F(FsRename, NoDirectoryGoesBelowItself) {
  auto a = t.mkdir(*root, "a"), b = t.mkdir(*a, "b"), c = t.mkdir(*b, "c");
  EXPECT_EQ(mv(*root, "a", *a, "x"), Errno::inval);
  EXPECT_EQ(mv(*root, "a", *c, "x"), Errno::inval);
  EXPECT_EQ(mv(*a, "b", *b, "x"), Errno::inval);
  EXPECT_EQ(mv(*root, "a", *c, "x", VX_RENAME_EXCHANGE), Errno::noent);
  t.must_make(*c, "x");
  EXPECT_EQ(mv(*root, "a", *c, "x", VX_RENAME_EXCHANGE), Errno::inval);
  EXPECT_EQ(mv(*b, "c", *root, "a", VX_RENAME_EXCHANGE), Errno::inval);
  EXPECT_EQ(mv(*b, "c", *root, "a"), Errno::notempty);
  EXPECT_EQ(mv(*b, "c", *a, "b"), Errno::notempty);
  EXPECT_EQ(mv(*b, "c", *root, "c"), Errno::ok);
}

TEST_F(FsRename, Exchange) {
  auto a = t.mkdir(*root, "a"), b = t.mkdir(*root, "b");
  auto f = t.must_make(*a, "f");
  auto d = t.mkdir(*b, "d");
  EXPECT_EQ(mv(*a, "f", *b, "d", VX_RENAME_EXCHANGE), Errno::ok);
  EXPECT_EQ(*lookup(*a, B("f")), d->ino());
  EXPECT_EQ(*lookup(*b, B("d")), f->ino());
  EXPECT_EQ(d->attributes().parent, a->ino());
  EXPECT_EQ(a->attributes().nlink, 3u);
  EXPECT_EQ(b->attributes().nlink, 2u);
  EXPECT_EQ(mv(*a, "f", *a, "f", VX_RENAME_EXCHANGE), Errno::ok);
  EXPECT_EQ(mv(*a, "f", *b, "d", VX_RENAME_EXCHANGE | VX_RENAME_NOREPLACE), Errno::inval);
  EXPECT_EQ(mv(*a, "f", *b, "d", 64), Errno::inval);
}

TEST_F(FsRename, Whiteout) {
  auto f = t.must_make(*root, "f");
  auto g = t.must_make(*root, "g");
  EXPECT_EQ(mv(*root, "f", *root, "g", VX_RENAME_WHITEOUT), Errno::ok);
  EXPECT_EQ(*lookup(*root, B("g")), f->ino());
  auto w = t.open(*root, "f");
  EXPECT_EQ(w->type(), disk::kModeChar);
  EXPECT_EQ(w->attributes().rdev, 0u);
  g.reset();
  w.reset();
  EXPECT_EQ(t.fs().inode_count(), 3u);
}

TEST_F(FsRename, NamesOfOneHash) {
  TestFs few(FixtureOptions{.hash_bits = 1});  // two or three hashes for all names
  auto r = few.root();
  for (int i = 0; i < 60; i++) few.must_make(*r, "n" + std::to_string(i));
  for (int i = 0; i < 60; i += 2) EXPECT_EQ(mv(*r, "n" + std::to_string(i), *r, "m" + std::to_string(i)), Errno::ok);
  for (int i = 0; i < 60; i += 3) {
    EXPECT_TRUE(unlink(*r, B((i % 2 ? "n" : "m") + std::to_string(i)), TestFs::now()).ok());
  }
  for (int i = 0; i < 60; i++) {
    EXPECT_EQ(lookup(*r, B((i % 2 ? "n" : "m") + std::to_string(i))).ok(), i % 3 != 0) << i;
  }
  EXPECT_EQ(mv(*r, "n1", *r, "m1", VX_RENAME_WHITEOUT), Errno::ok);
  EXPECT_EQ(TestFs::list(*r).size(), 41u);
  // At most 128 names of one hash: the rest is refused, not lost.
  bool refused = false;
  for (int i = 0; i < 400 && !refused; i++) refused = few.make(*r, "x" + std::to_string(i)).code() == Errno::nospc;
  EXPECT_TRUE(refused);
  EXPECT_GT(few.fs().stats().hash_collisions.load(), 0u);
  r.reset();
  EXPECT_TRUE(few.check());
}

}  // namespace
}  // namespace vexfs::fs::test
