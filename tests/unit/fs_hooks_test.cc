// SPDX-License-Identifier: MIT
// The hooks by which a higher room takes part: when they are called, in which transaction, and what a veto does.
#include "fs_fixture.h"

namespace vexfs::fs::test {
namespace {

struct Recorder {
  std::vector<std::string> calls;
  u64 unlinked_txn = 0;
  Errno veto = Errno::ok;
  Errno keep = Errno::ok;  // what deleting() says
  u64 version = 0;
  Hooks hooks;

  Recorder() {
    hooks.ctx = this;
    hooks.before_unlink = [](void *c, Inode &ip) -> Result<u32> {
      auto *r = static_cast<Recorder *>(c);
      r->calls.push_back("before " + std::to_string(ip.ino()));
      if (r->veto != Errno::ok) return r->veto;
      return 2u;
    };
    hooks.unlinked = [](void *c, store::Handle &h, Inode &ip) -> Status {
      auto *r = static_cast<Recorder *>(c);
      r->calls.push_back("unlinked " + std::to_string(ip.ino()));
      r->unlinked_txn = h.txn();
      // Two mutations of its own, in the same transaction: a row dies, and a note is made of it.
      auto &tree = ip.filesystem().volume().tree(store::TreeId::collections);
      VX_TRY(tree.erase(h, {ip.ino(), 1, 0}));
      return tree.insert(h, {ip.ino(), 2, 0}, B("dead"));
    };
    hooks.deleting = [](void *c, Inode &ip) -> Status {
      auto *r = static_cast<Recorder *>(c);
      r->calls.push_back("deleting " + std::to_string(ip.ino()));
      if (r->keep != Errno::ok) return r->keep;
      auto h = VX_TRY(ip.filesystem().volume().begin({.items = 1, .freeing = true}));
      return ip.filesystem().volume().tree(store::TreeId::collections).erase(h, {ip.ino(), 2, 0});
    };
    hooks.content_changed = [](void *c, Inode &, u64 v) { static_cast<Recorder *>(c)->version = v; };
    hooks.released = [](void *c, Inode &ip) {
      if (ip.upper.exchange(nullptr))
        static_cast<Recorder *>(c)->calls.push_back("released " + std::to_string(ip.ino()));
    };
  }
};

void own_a_row(TestFs &t, Inode &ip, u32 flag = VX_INODE_HAS_VECTORS) {
  auto h = t.volume().begin({.items = 3});
  ASSERT_TRUE(h.ok());
  ASSERT_TRUE(t.volume().tree(store::TreeId::collections).insert(*h, {ip.ino(), 1, 0}, B("row")).ok());
  ASSERT_TRUE(t.fs().tree().insert(*h, fs_key(ip.ino(), FsItem::vector_ref, 7), B("x")).ok());
  ASSERT_TRUE(ip.change_flags(*h, flag, 0).ok());
}

bool has(TestFs &t, u64 ino, u8 type) {
  u8 buf[16];
  return t.volume().tree(store::TreeId::collections).get({ino, type, 0}, buf).ok();
}

TEST(FsHooks, TheLastNameTakesTheRowsWithIt) {
  Recorder r;
  TestFs t;
  t.fs().set_hooks(&r.hooks);
  auto root = t.root();
  auto f = t.must_make(*root, "f");
  std::string n = std::to_string(f->ino());
  u64 ino = f->ino();
  own_a_row(t, *f);
  f->upper = &r;
  TestFs::write(*f, "content");
  EXPECT_EQ(r.version, f->version());
  ASSERT_TRUE(link(*root, B("g"), *f, TestFs::now()).ok());
  ASSERT_TRUE(unlink(*root, B("f"), TestFs::now()).ok());
  EXPECT_TRUE(r.calls.empty());  // it has another name
  ASSERT_TRUE(unlink(*root, B("g"), TestFs::now()).ok());
  EXPECT_EQ(r.calls, (std::vector<std::string>{"before " + n, "unlinked " + n}));
  EXPECT_FALSE(has(t, ino, 1));
  EXPECT_TRUE(has(t, ino, 2));
  f.reset();
  EXPECT_EQ(r.calls, (std::vector<std::string>{"before " + n, "unlinked " + n, "deleting " + n, "released " + n}));
  EXPECT_FALSE(has(t, ino, 2));
  u8 buf[8];
  EXPECT_EQ(t.fs().tree().get(fs_key(ino, FsItem::vector_ref, 7), buf).code(), Errno::noent);
  root.reset();
  EXPECT_TRUE(t.check());
}

TEST(FsHooks, FilesWithoutVectorsCallNothing) {
  Recorder r;
  TestFs t;
  t.fs().set_hooks(&r.hooks);
  auto root = t.root();
  auto f = t.must_make(*root, "f");
  TestFs::write(*f, "content");
  ASSERT_TRUE(unlink(*root, B("f"), TestFs::now()).ok());
  f.reset();
  EXPECT_TRUE(r.calls.empty());
  EXPECT_EQ(r.version, 0u);
}

TEST(FsHooks, VetoLeavesEverything) {
  Recorder r;
  TestFs t;
  t.fs().set_hooks(&r.hooks);
  auto root = t.root();
  auto d = t.mkdir(*root, "d");
  own_a_row(t, *d, VX_INODE_COLLECTION);
  auto e = t.mkdir(*root, "e");
  r.veto = Errno::busy;
  EXPECT_EQ(rmdir(*root, B("d"), TestFs::now()).code(), Errno::busy);
  EXPECT_EQ(rename(*root, B("e"), *root, B("d"), 0, nullptr, TestFs::now()).code(), Errno::busy);
  EXPECT_TRUE(lookup(*root, B("d")).ok());
  EXPECT_EQ(root->attributes().nlink, 4u);
  EXPECT_FALSE(t.volume().aborted());
  r.veto = Errno::ok;
  EXPECT_TRUE(rename(*root, B("e"), *root, B("d"), 0, nullptr, TestFs::now()).ok());
  EXPECT_FALSE(has(t, d->ino(), 1));
}

TEST(FsHooks, RowsDieWithTheNameAlsoAcrossACrash) {
  Recorder r;
  TestFs t;
  t.use_hooks(&r.hooks);
  t.remount();
  u64 ino;
  {
    auto root = t.root();
    auto f = t.must_make(*root, "f");
    ino = f->ino();
    own_a_row(t, *f);
    t.commit();
    ASSERT_TRUE(unlink(*root, B("f"), TestFs::now()).ok());
    t.volume().abort(Errno::io);  // the unlink is lost: name and row are both there
  }
  t.crash();
  EXPECT_TRUE(lookup(*t.root(), B("f")).ok());
  EXPECT_TRUE(has(t, ino, 1));
  {
    auto root = t.root();
    auto f = t.open(*root, "f");
    ASSERT_TRUE(unlink(*root, B("f"), TestFs::now()).ok());
    t.commit();  // the unlink is durable, the deletion is not done
    t.volume().abort(Errno::io);
  }
  r.calls.clear();
  t.crash();
  EXPECT_EQ(r.calls, std::vector<std::string>{"deleting " + std::to_string(ino)});
  EXPECT_FALSE(has(t, ino, 1));
  EXPECT_FALSE(has(t, ino, 2));
  EXPECT_EQ(t.fs().get(ino).code(), Errno::noent);
}

TEST(FsHooks, AFailedDeletionIsLeftToTheNextMount) {
  Recorder r;
  TestFs t;
  t.use_hooks(&r.hooks);
  t.remount();
  u64 ino;
  {
    auto root = t.root();
    auto f = t.must_make(*root, "f");
    ino = f->ino();
    own_a_row(t, *f);
    r.keep = Errno::nomem;
    ASSERT_TRUE(unlink(*root, B("f"), TestFs::now()).ok());
  }
  EXPECT_EQ(t.fs().inode_count(), 2u);
  r.keep = Errno::ok;
  t.remount();
  EXPECT_EQ(t.fs().inode_count(), 1u);
  EXPECT_FALSE(has(t, ino, 2));
}

TEST(FsHooks, FlushWritesTheVersionInTheCallersTransaction) {
  TestFs t;
  u64 ino, version;
  {
    auto root = t.root();
    auto f = t.must_make(*root, "f");
    ino = f->ino();
    f->bump_version();
    f->bump_version();
    version = f->version();
    auto h = t.volume().begin({.items = 1});
    ASSERT_TRUE(h.ok());
    ASSERT_TRUE(f->flush(*h).ok());
    h->end();
    disk::DiskInode item;
    ASSERT_TRUE(t.fs().tree().get(fs_key(ino, FsItem::inode), mut_bytes_of(item)).ok());
    EXPECT_EQ(item.version.get(), version);
  }
}

}  // namespace
}  // namespace vexfs::fs::test
