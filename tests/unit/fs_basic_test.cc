// SPDX-License-Identifier: MIT
// Names, attributes, data and remount: what every test above this stands on.
#include "fs_fixture.h"

#include <map>
#include <set>

namespace vexfs::fs::test {
namespace {

TEST(FsBasic, FreshFilesystemHasARoot) {
  TestFs t;
  auto root = t.root();
  ASSERT_TRUE(root);
  EXPECT_TRUE(root->is_dir());
  auto a = root->attributes();
  EXPECT_EQ(a.nlink, 2u);
  EXPECT_EQ(a.parent, root->ino());
  EXPECT_EQ(t.fs().inode_count(), 1u);
  EXPECT_TRUE(TestFs::list(*root).empty());
  root.reset();
  EXPECT_TRUE(t.check());
  EXPECT_EQ(t.root()->ino(), 1u);
}

TEST(FsBasic, CreateLookupWriteReadRemount) {
  TestFs t;
  std::string big(3 * 4096 + 17, 'x');
  for (size_t i = 0; i < big.size(); i++) big[i] = static_cast<char>('a' + i % 26);
  {
    auto root = t.root();
    auto dir = t.mkdir(*root, "dir");
    auto f = t.must_make(*dir, "small");
    EXPECT_EQ(TestFs::write(*f, "hello"), Errno::ok);
    auto g = t.must_make(*dir, "big");
    EXPECT_EQ(TestFs::write(*g, big), Errno::ok);
    EXPECT_EQ(TestFs::read(*g), big);
    EXPECT_EQ(t.make(*dir, "big").code(), Errno::exist);
    EXPECT_EQ(lookup(*dir, B("nothing")).code(), Errno::noent);
    EXPECT_EQ(lookup(*g, B("x")).code(), Errno::notdir);
    EXPECT_EQ(root->attributes().nlink, 3u);
    EXPECT_EQ(dir->attributes().entries, 2u);
    EXPECT_TRUE(f->is_inline());
    EXPECT_FALSE(g->is_inline());
    EXPECT_EQ(g->attributes().blocks, 4u);
  }
  ASSERT_TRUE(t.check());
  auto dir = t.open(*t.root(), "dir");
  EXPECT_EQ(TestFs::read(*t.open(*dir, "small")), "hello");
  EXPECT_EQ(TestFs::read(*t.open(*dir, "big")), big);
  EXPECT_EQ(TestFs::read(*t.open(*dir, "big"), 4090, 10), big.substr(4090, 10));
  EXPECT_EQ(t.fs().inode_count(), 4u);
}

TEST(FsBasic, NamesAreChecked) {
  TestFs t;
  auto root = t.root();
  EXPECT_EQ(t.make(*root, "").code(), Errno::noent);
  EXPECT_EQ(t.make(*root, ".").code(), Errno::inval);
  EXPECT_EQ(t.make(*root, "..").code(), Errno::inval);
  EXPECT_EQ(t.make(*root, "a/b").code(), Errno::inval);
  EXPECT_EQ(t.make(*root, std::string(256, 'n')).code(), Errno::nametoolong);
  EXPECT_TRUE(t.make(*root, std::string(255, 'n')).ok());
  EXPECT_TRUE(t.make(*root, "...").ok());
  EXPECT_EQ(t.make(*root, "bad", 0644).code(), Errno::inval);
}

TEST(FsBasic, EveryTypeOfInode) {
  TestFs t;
  std::string target(4095, 't');
  {
    auto root = t.root();
    t.must_make(*root, "fifo", disk::kModeFifo | 0600);
    t.must_make(*root, "sock", disk::kModeSocket | 0600);
    NewInode dev;
    dev.mode = disk::kModeBlock | 0660;
    dev.rdev = 0x1234567;
    ASSERT_TRUE(create(*root, B("dev"), dev, TestFs::now()).ok());
    t.must_make(*root, "short", disk::kModeLink | 0777, "to");
    t.must_make(*root, "long", disk::kModeLink | 0777, target);
    EXPECT_EQ(t.make(*root, "none", disk::kModeLink | 0777, "").code(), Errno::noent);
    EXPECT_EQ(t.make(*root, "toolong", disk::kModeLink | 0777, target + "x").code(), Errno::nametoolong);
  }
  ASSERT_TRUE(t.check());
  auto root = t.root();
  EXPECT_EQ(t.open(*root, "dev")->attributes().rdev, 0x1234567u);
  EXPECT_EQ(t.open(*root, "fifo")->type(), disk::kModeFifo);
  EXPECT_EQ(t.open(*root, "sock")->type(), disk::kModeSocket);
  std::string buf(5000, 0);
  MutBytes out{reinterpret_cast<u8 *>(buf.data()), buf.size()};
  auto n = readlink(*t.open(*root, "long"), out);
  ASSERT_TRUE(n.ok());
  EXPECT_EQ(buf.substr(0, *n), target);
  auto cut = readlink(*t.open(*root, "short"), out.subspan(0, 1));
  ASSERT_TRUE(cut.ok());
  EXPECT_EQ(buf.substr(0, *cut), "t");
  EXPECT_EQ(readlink(*t.open(*root, "fifo"), out).code(), Errno::inval);
}

TEST(FsBasic, UnlinkAndOrphans) {
  TestFs t;
  u64 ino;
  {
    auto root = t.root();
    auto f = t.must_make(*root, "f");
    ino = f->ino();
    TestFs::write(*f, std::string(100000, 'z'));
    ASSERT_TRUE(link(*root, B("g"), *f, TestFs::now()).ok());
    EXPECT_EQ(f->attributes().nlink, 2u);
    ASSERT_TRUE(unlink(*root, B("f"), TestFs::now()).ok());
    EXPECT_EQ(f->attributes().nlink, 1u);
    ASSERT_TRUE(unlink(*root, B("g"), TestFs::now()).ok());
    EXPECT_EQ(f->attributes().nlink, 0u);
    EXPECT_EQ(unlink(*root, B("g"), TestFs::now()).code(), Errno::noent);
    EXPECT_EQ(t.fs().get(ino).code(), Errno::stale);
    EXPECT_EQ(TestFs::read(*f).size(), 100000u);  // still there for who has it open
    EXPECT_EQ(link(*root, B("again"), *f, TestFs::now()).code(), Errno::noent);
    EXPECT_EQ(t.fs().inode_count(), 2u);
  }
  EXPECT_EQ(t.fs().inode_count(), 1u);
  EXPECT_EQ(t.fs().get(ino).code(), Errno::noent);
  EXPECT_TRUE(t.check());
}

TEST(FsBasic, OrphanSurvivesACrashAndIsDeletedByTheMount) {
  TestFs t;
  u64 before = t.volume().space().free;
  {
    auto root = t.root();
    auto f = t.must_make(*root, "f");
    TestFs::write(*f, std::string(1 << 20, 'z'));
    auto d = t.mkdir(*root, "d");
    auto tmp = create_tmpfile(*root, NewInode{disk::kModeFile | 0600, 0, 0, 0, 0, {}}, TestFs::now());
    ASSERT_TRUE(tmp.ok());
    ASSERT_TRUE(unlink(*root, B("f"), TestFs::now()).ok());
    ASSERT_TRUE(rmdir(*root, B("d"), TestFs::now()).ok());
    t.commit();
    EXPECT_EQ(t.fs().inode_count(), 4u);
    t.volume().abort(Errno::io);
  }
  auto r = TestFs::check_device(&t.device());
  EXPECT_EQ(r.errors, 0u) << r.text();
  t.crash();
  EXPECT_EQ(t.fs().inode_count(), 1u);
  EXPECT_TRUE(t.check());
  EXPECT_NEAR(static_cast<double>(t.volume().space().free), static_cast<double>(before), 24);
}

TEST(FsBasic, TmpfileCanBeLinkedOnce) {
  TestFs t;
  {
    auto root = t.root();
    auto tmp = create_tmpfile(*root, NewInode{disk::kModeFile | 0600, 0, 0, 0, 0, {}}, TestFs::now());
    ASSERT_TRUE(tmp.ok());
    TestFs::write(**tmp, "content");
    EXPECT_EQ((*tmp)->attributes().nlink, 0u);
    ASSERT_TRUE(link(*root, B("now-named"), **tmp, TestFs::now()).ok());
    EXPECT_EQ((*tmp)->attributes().nlink, 1u);
  }
  ASSERT_TRUE(t.check());
  EXPECT_EQ(TestFs::read(*t.open(*t.root(), "now-named")), "content");
}

TEST(FsBasic, DirectoriesCountTheirLinks) {
  TestFs t;
  auto root = t.root();
  auto a = t.mkdir(*root, "a");
  auto b = t.mkdir(*a, "b");
  EXPECT_EQ(a->attributes().nlink, 3u);
  EXPECT_EQ(rmdir(*root, B("a"), TestFs::now()).code(), Errno::notempty);
  EXPECT_EQ(unlink(*root, B("a"), TestFs::now()).code(), Errno::isdir);
  t.must_make(*root, "f");
  EXPECT_EQ(rmdir(*root, B("f"), TestFs::now()).code(), Errno::notdir);
  EXPECT_EQ(link(*root, B("hard"), *a, TestFs::now()).code(), Errno::perm);
  ASSERT_TRUE(rmdir(*a, B("b"), TestFs::now()).ok());
  EXPECT_EQ(t.make(*b, "in-removed").code(), Errno::noent);
  EXPECT_EQ(a->attributes().nlink, 2u);
  ASSERT_TRUE(rmdir(*root, B("a"), TestFs::now()).ok());
  EXPECT_EQ(root->attributes().nlink, 2u);
  a.reset();
  b.reset();
  root.reset();
  EXPECT_TRUE(t.check());
}

TEST(FsBasic, AttributesAndLazyTimes) {
  TestFs t;
  u64 ino;
  {
    auto root = t.root();
    auto f = t.must_make(*root, "f");
    ino = f->ino();
    Attributes a;
    a.mode = disk::kModeDir | 0751;  // the type must not change
    a.uid = 12;
    a.gid = 34;
    a.flags = VX_INODE_NODUMP | VX_INODE_COLLECTION;  // the second is not the host's to set
    ASSERT_TRUE(set_attributes(*f, VX_SET_MODE | VX_SET_UID | VX_SET_GID | VX_SET_FLAGS, a).ok());
    a.mtime = {-5, 999999999};
    a.atime = {1, 2};
    ASSERT_TRUE(set_attributes(*f, VX_SET_MTIME | VX_SET_ATIME, a).ok());
  }
  t.commit();
  t.crash();  // a commit includes what was lazy
  auto f = t.fs().get(ino);
  ASSERT_TRUE(f.ok());
  auto a = (*f)->attributes();
  EXPECT_EQ(a.mode, disk::kModeFile | 0751);
  EXPECT_EQ(a.uid, 12u);
  EXPECT_EQ(a.gid, 34u);
  EXPECT_EQ(a.flags, u32{VX_INODE_NODUMP});
  EXPECT_EQ(a.mtime, (Time{-5, 999999999}));
  EXPECT_EQ(a.atime, (Time{1, 2}));
}

TEST(FsBasic, UncommittedWorkIsLostAsAWhole) {
  TestFs t;
  {
    auto root = t.root();
    t.must_make(*root, "kept");
    t.commit();
    t.must_make(*root, "lost");
    ASSERT_TRUE(rename(*root, B("kept"), *root, B("moved"), 0, nullptr, TestFs::now()).ok());
  }
  t.crash();
  auto names = TestFs::list(*t.root());
  EXPECT_EQ(names, std::vector<std::string>{"kept"});
  EXPECT_TRUE(t.check());
}

TEST(FsBasic, ReadOnlyMountChangesNothing) {
  TestFs t;
  {
    auto root = t.root();
    auto f = t.must_make(*root, "f");
    TestFs::write(*f, "data");
  }
  ASSERT_EQ(t.unmount(), Errno::ok);
  t.device().set_read_only(true);
  ASSERT_EQ(t.mount(true), Errno::ok);
  {
    auto root = t.root();
    auto f = t.open(*root, "f");
    EXPECT_EQ(TestFs::read(*f), "data");
    EXPECT_EQ(t.make(*root, "g").code(), Errno::rofs);
    EXPECT_EQ(TestFs::write(*f, "x"), Errno::rofs);
    EXPECT_EQ(unlink(*root, B("f"), TestFs::now()).code(), Errno::rofs);
    EXPECT_EQ(set_attributes(*f, VX_SET_MTIME, Attributes{}).code(), Errno::rofs);
  }
  EXPECT_EQ(t.unmount(), Errno::ok);
  t.device().set_read_only(false);
  EXPECT_EQ(t.mount(), Errno::ok);
}

TEST(FsBasic, ContentVersionGrowsAndIsNeverGivenTwice) {
  TestFs t;
  u64 ino, lost;
  {
    auto root = t.root();
    auto f = t.must_make(*root, "f");
    ino = f->ino();
    u64 v0 = f->version();
    TestFs::write(*f, "one");
    u64 v1 = f->version();
    EXPECT_GT(v1, v0);
    Attributes a;
    a.mode = 0600;
    ASSERT_TRUE(set_attributes(*f, VX_SET_MODE, a).ok());
    EXPECT_EQ(f->version(), v1);  // not a change of content
    ASSERT_TRUE(truncate(*f, 1, TestFs::now()).ok());
    EXPECT_GT(f->version(), v1);
    t.commit();
    TestFs::write(*f, "two");
    TestFs::write(*f, "three");
    lost = f->version();
  }
  t.crash();
  auto f = t.fs().get(ino);
  ASSERT_TRUE(f.ok());
  EXPECT_LT((*f)->version(), lost);
  std::set<u64> after;
  for (int i = 0; i < 5; i++) {
    TestFs::write(**f, "x");
    after.insert((*f)->version());
  }
  EXPECT_EQ(after.size(), 5u);
}

}  // namespace
}  // namespace vexfs::fs::test
