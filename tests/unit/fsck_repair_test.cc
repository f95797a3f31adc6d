// SPDX-License-Identifier: MIT
// Repair, one kind of damage after the other: the check finds it, the repair puts it right and says what is lost, and
// what has nothing to do with it is as it was.
#include "../../kernel/core/disk/log.h"
#include "../../kernel/core/disk/vector_items_rows.h"
#include "../../kernel/core/store/volume.h"
#include "../../lib/repair/write.h"
#include "repair_fixture.h"

namespace vexfs::repair::test {
namespace {

using disk::FsItem;
using disk::VectorItem;
using store::TreeId;

Key fs_key(u64 ino, FsItem t, u64 off = 0) { return {ino, static_cast<u8>(t), off}; }
Key vec_key(u64 cid, VectorItem t, u64 off = 0) { return {cid, static_cast<u8>(t), off}; }

class FsckRepair : public ::testing::Test {
 protected:
  FsckRepair() {
    host::set_log_hook([](vx_bdev *, int, const char *) {});
    ImageOptions o;
    o.files = 26;
    image = std::make_unique<Image>(o);
    EXPECT_TRUE(read_everything(&dev(), &whole, &inodes));
  }
  ~FsckRepair() override { host::set_log_hook({}); }
  host::MemDevice &dev() { return image->device(); }
  u64 ino(const std::string &path) { return inodes.at(path); }

  // Changes items as nobody should, with all checksums in order.
  void edit(const std::function<void(store::Volume &, store::Handle &)> &fn) {
    auto v = store::Volume::open(&dev(), {});
    ASSERT_TRUE(v.ok());
    {
      auto h = (*v)->begin({.items = 64, .freeing = true});
      ASSERT_TRUE(h.ok());
      fn(**v, *h);
    }
    ASSERT_TRUE((*v)->close().ok());
  }
  template <class T>
  void change(TreeId tree, const Key &k, const std::function<void(T &)> &fn) {
    edit([&](store::Volume &v, store::Handle &h) {
      EXPECT_TRUE(v.tree(tree)
                      .modify(h, k,
                              [&](MutBytes b) -> Status {
                                T t{};
                                memcpy(&t, b.data(), std::min(b.size(), sizeof t));
                                fn(t);
                                memcpy(b.data(), &t, std::min(b.size(), sizeof t));
                                return {};
                              })
                      .ok());
    });
  }
  void erase(TreeId tree, const Key &first, const Key &last) {
    edit([&](store::Volume &v, store::Handle &h) {
      auto n = v.tree(tree).erase_range(h, first, last, ~usize{0}, [](const Key &, Bytes) {});
      ASSERT_TRUE(n.ok());
      ASSERT_GT(*n, 0u);
    });
  }
  void erase(TreeId tree, const Key &k) { erase(tree, k, k); }
  // First item of that kind.
  Key find(TreeId tree, const Key &from, const Key &to) {
    Key found = Key::max();
    edit([&](store::Volume &v, store::Handle &) {
      (void)v.tree(tree).scan(from, to, [&](const Key &k, Bytes) {
        found = k;
        return false;
      });
    });
    EXPECT_NE(found, Key::max());
    return found;
  }
  Key find_fs(u64 i, FsItem t) { return find(TreeId::fs, fs_key(i, t), {i, static_cast<u8>(t), ~u64{0}}); }
  // The entry of that name.
  Key dirent(u64 dir, u64 to) {
    Key found = Key::max();
    edit([&](store::Volume &v, store::Handle &) {
      (void)v.tree(TreeId::fs)
          .scan(fs_key(dir, FsItem::dirent), {dir, static_cast<u8>(FsItem::dirent), ~u64{0}},
                [&](const Key &k, Bytes b) {
                  disk::DiskDirent d;
                  memcpy(&d, b.data(), sizeof d);
                  if (d.ino == to) found = k;
                  return d.ino != to;
                });
    });
    EXPECT_NE(found, Key::max());
    return found;
  }
  void flip(u64 byte) {
    u8 b;
    dev().peek(byte, &b, 1);
    b ^= 0x10;
    dev().poke(byte, &b, 1);
  }
  void spoil_block(u64 block) {
    for (u64 i = 40; i < 1024; i += 100) flip(block * 1024 + i);
  }

  // The check has found something; the repair is done, and said what is asked for; nothing is left.
  void repaired(const std::vector<std::string> &says, bool all = true) {
    std::string before, after;
    const Result<u64> found = check_all(&dev(), &before);
    EXPECT_TRUE(found.ok() && *const_cast<Result<u64> &>(found) > 0) << "the check has found nothing";
    mended = mend(&dev(), true, all, [](vx_bdev *d) { return check_all(d); });
    EXPECT_EQ(mended.failure, Errno::ok);
    EXPECT_FALSE(mended.refused) << lines_of(mended.actions);
    EXPECT_TRUE(mended.written) << lines_of(mended.actions);
    EXPECT_EQ(mended.errors_left, 0u) << lines_of(mended.actions);
    Result<u64> left = check_all(&dev(), &after);
    EXPECT_TRUE(left.ok() && *left == 0) << after;
    const std::string said = lines_of(mended.actions);
    for (const std::string &s : says) EXPECT_NE(said.find(s), std::string::npos) << s << " not in:\n" << said;
    now.clear();
    EXPECT_TRUE(read_everything(&dev(), &now));
  }
  // Only answers that have one of these in their question are different, or new.
  void only(const std::vector<std::string> &parts) {
    auto allowed = [&](const std::string &k) {
      return std::any_of(parts.begin(), parts.end(),
                         [&](const std::string &p) { return k.find(p) != std::string::npos; });
    };
    for (const auto &[k, v] : whole) {
      const auto it = now.find(k);
      if ((it == now.end() || it->second != v) && !allowed(k)) ADD_FAILURE() << "changed: " << k;
    }
    for (const auto &[k, v] : now)
      if (!whole.count(k) && !allowed(k)) ADD_FAILURE() << "new: " << k;
  }

  std::unique_ptr<Image> image;
  Answers whole, now;
  std::map<std::string, vx_u64> inodes;
  Mended mended;
};

const std::vector<std::string> kLostFound = {"lost+found", "attr:", "names:"};

// ------------------------------------------------------------------ copies
TEST_F(FsckRepair, CopiesAndSpaceMapsArePreened) {
  const auto m = model_of(&dev());
  const auto targets = targets_of(&dev());
  flip(disk::kSuperOffset + 200);
  flip(m->geo.last_backup_byte() + 300);
  flip((m->geo.root_slot[0] << 10) + 100);
  flip((m->geo.root_mirror[1] << 10) + 100);
  for (const Target &t : targets)
    if (t.use == Use::descriptors || t.use == Use::bitmap) spoil_block(t.block);
  repaired({"the superblock is written anew", "the copy of the superblock", "the space maps of"}, false);
  only({});
  EXPECT_TRUE(std::all_of(mended.actions.begin(), mended.actions.end(),
                          [](const Action &a) { return a.kind == Action::Kind::safe; }));
}

TEST_F(FsckRepair, BothCopiesOfTheOlderRoot) {
  const auto m = model_of(&dev());
  const unsigned older = 1 - m->txn % 2;
  flip((m->geo.root_slot[older] << 10) + 100);
  flip((m->geo.root_mirror[older] << 10) + 100);
  mended = mend(&dev(), false, false, [](vx_bdev *d) { return check_all(d); });
  EXPECT_TRUE(mended.written);
  u64 warnings = 1;
  EXPECT_EQ(*check_all(&dev(), nullptr, &warnings), 0u);
  EXPECT_EQ(warnings, 0u);
}

// The power fails while the new root is written over a slot whose mirror was no good.
TEST_F(FsckRepair, ACutInTheNewRootLeavesAUsableCopy) {
  const auto m = model_of(&dev());
  const unsigned older = 1 - m->txn % 2;
  m->root().state = m->root().state | disk::kRootStateErrors;
  for (unsigned mirror = 0; mirror < 2; mirror++) {
    const Write w = root_write(*m, m->root_block, m->txn, mirror);
    dev().poke(w.off, w.bytes.data(), w.bytes.size());
  }
  flip((m->geo.root_mirror[older] << 10) + 100);
  Repair r(&dev());
  ASSERT_EQ(r.plan(Depth::checked), Errno::ok);
  host::FaultDevice cut(&dev());
  cut.fail_range(host::FaultDevice::Kind::write, m->geo.root_slot[older] << 10, 1024, -EIO);
  EXPECT_EQ(r.apply(&cut), Errno::io);
  flip((m->geo.root_slot[older] << 10) + 100);  // torn
  EXPECT_TRUE(store::Volume::open(&dev(), {}).ok());
}

TEST_F(FsckRepair, NoRootAtAll) {
  const auto m = model_of(&dev());
  for (unsigned s = 0; s < 2; s++) {
    flip((m->geo.root_slot[s] << 10) + 100);
    flip((m->geo.root_mirror[s] << 10) + 100);
  }
  repaired({"no root can be used"});
  u64 warnings = 1;
  EXPECT_EQ(*check_all(&dev(), nullptr, &warnings), 0u);
  EXPECT_EQ(warnings, 0u);  // both slots are in order
  u64 same = 0;
  for (const auto &[k, v] : whole) same += now.count(k) && now[k] == v;
  EXPECT_GT(same * 10, whole.size() * 9);
}

TEST_F(FsckRepair, TheMarkOfDamageGoesWhenNoneIsLeft) {
  const auto m = model_of(&dev());
  m->root().state = m->root().state | disk::kRootStateErrors;
  for (unsigned mirror = 0; mirror < 2; mirror++) {
    const Write w = root_write(*m, m->root_block, m->txn, mirror);
    dev().poke(w.off, w.bytes.data(), w.bytes.size());
  }
  u64 warnings = 0;
  ASSERT_EQ(*check_all(&dev(), nullptr, &warnings), 0u);
  ASSERT_EQ(warnings, 1u);
  const auto check = [](vx_bdev *d) { return check_all(d); };
  mended = mend(&dev(), false, false, check);
  EXPECT_TRUE(mended.written);
  EXPECT_EQ(lines_of(mended.actions), "the mark that damage was met is taken away\n");
  EXPECT_EQ(*check_all(&dev(), nullptr, &warnings), 0u);
  EXPECT_EQ(warnings, 0u);
  EXPECT_EQ(model_of(&dev())->root().state & disk::kRootStateErrors, 0u);
  EXPECT_FALSE(mend(&dev(), false, false, check).written);  // once is enough
  ASSERT_TRUE(read_everything(&dev(), &now));
  only({});
}

TEST_F(FsckRepair, PreenLeavesWhatTakesADecision) {
  edit([&](store::Volume &v, store::Handle &h) {
    ASSERT_TRUE(v.tree(TreeId::fs).erase(h, fs_key(ino("/d1/file3"), FsItem::inode)).ok());
  });
  const auto before = dev().clone();
  mended = mend(&dev(), true, false, [](vx_bdev *d) { return check_all(d); });
  EXPECT_TRUE(mended.refused);
  EXPECT_FALSE(mended.written);
  std::vector<u8> a(1 << 20), b(1 << 20);
  for (u64 at = 0; at < dev().size(); at += a.size()) {
    dev().peek(at, a.data(), a.size());
    before->peek(at, b.data(), b.size());
    ASSERT_EQ(a, b) << at;
  }
}

// ------------------------------------------------------------------- files
TEST_F(FsckRepair, InodesWithoutNames) {
  const u64 file = ino("/d1/file7"), dir = ino("/d2");
  erase(TreeId::fs, dirent(ino("/d1"), file));
  erase(TreeId::fs, dirent(ino(""), dir));
  repaired({cat("inode ", file, " has no name"), cat("inode ", dir, " has no name"), "/lost+found is made"});
  for (const char *at : {"@0", "@4096"})
    if (whole.count(std::string("data:/d1/file7") + at)) {
      EXPECT_EQ(now.at(cat("data:/lost+found/#", file, at)), whole.at(cat("data:/d1/file7", at)));
    }
  EXPECT_EQ(now.at(cat("data:/lost+found/#", dir, "/file2@0")), whole.at("data:/d2/file2@0"));
  only({"lost+found", "/d2", ":/d1/file7", "attr:", "names:/d1", "names:"});
}

TEST_F(FsckRepair, NamesOfLostInodes) {
  const u64 file = ino("/d0/empty");
  erase(TreeId::fs, fs_key(file, FsItem::inode));
  repaired({cat("the name \"empty\" leads to inode ", file, ", which is lost")});
  only({":/d0/empty", "attr:/d0", "names:/d0"});
}

TEST_F(FsckRepair, AnInodeIsMadeAnewForItsData) {
  erase(TreeId::fs, fs_key(ino("/d1/file8"), FsItem::inode));
  repaired({"/d1/file8", "its inode is lost: it gets a new one"});
  EXPECT_EQ(now.at("data:/d1/file8@0")->substr(0, 4096), *whole.at("data:/d1/file8@0"));
  only({":/d1/file8"});
}

TEST_F(FsckRepair, CountsLinksParents) {
  change<disk::DiskInode>(TreeId::fs, fs_key(ino("/d0/file7"), FsItem::inode), [](auto &i) { i.nlink = 9; });
  change<disk::DiskInode>(TreeId::fs, fs_key(ino("/d0"), FsItem::inode), [&](auto &i) {
    i.entries = i.entries + 3;
    i.parent = ino("/d1");
  });
  change<disk::DiskInode>(TreeId::fs, fs_key(ino("/d1/file8"), FsItem::inode), [](auto &i) {
    i.blocks = 1;
    i.xattrs = 77;
  });
  repaired({"link count 9 is corrected to 2", "its parent directory is corrected", "its count of names is corrected",
            "the count of its blocks is corrected", "the count of its xattrs is corrected"});
  only({});
}

TEST_F(FsckRepair, ADirectoryBelowItself) {
  const u64 d1 = ino("/d1"), empty = ino("/d1/empty");
  const Key k = dirent(ino(""), d1);
  edit([&](store::Volume &v, store::Handle &h) {  // the name of d1 moves below d1
    std::vector<u8> b(512);
    auto n = v.tree(TreeId::fs).get(k, {b.data(), b.size()});
    ASSERT_TRUE(n.ok());
    ASSERT_TRUE(v.tree(TreeId::fs).erase(h, k).ok());
    ASSERT_TRUE(v.tree(TreeId::fs).insert(h, {empty, k.type, k.off}, {b.data(), *n}).ok());
  });
  repaired({"is its own ancestor", "lost+found"});
  only({"/d1", "lost+found", "attr:", "names:"});
}

TEST_F(FsckRepair, TwoOwnersOfABlock) {
  const Key a = find_fs(ino("/d0/file8"), FsItem::extent), b = find_fs(ino("/d1/file8"), FsItem::extent);
  u64 disk = 0;
  change<disk::DiskExtent>(TreeId::fs, a, [&](auto &e) { disk = e.disk; });
  change<disk::DiskExtent>(TreeId::fs, b, [&](auto &e) {
    e.disk = disk;
    e.birth = e.birth + 1;  // younger, but not what the checksums say
  });
  repaired({"/d1/file8", "belong to something else: a hole is left", "the space maps of"});
  only({":/d1/file8"});
}

// ------------------------------------------------------------- shared blocks
struct FsckRepairShares : FsckRepair {
  FsckRepairShares() {
    vector::test::Options o;
    {
      Mount m(o, &dev());
      vx_inode *from = m.open(m.open(m.root(), "d0"), "file8"), *to = m.make(m.root(), "twin");
      const vx_time t = Mount::now();
      EXPECT_EQ(vx_pclone(from, 0, to, 0, 8100, &t), 0);
      m.unmount();
    }
    whole.clear();
    EXPECT_TRUE(read_everything(&dev(), &whole, &inodes));
    EXPECT_EQ(*check_all(&dev()), 0u);
    twin = find_fs(ino("/twin"), FsItem::extent);
  }
  Key twin;
};

TEST_F(FsckRepairShares, OneBirth) {
  change<disk::DiskExtent>(TreeId::fs, twin, [](auto &e) { e.birth = e.birth - 1; });
  repaired({"the birth of its extent at block 0 is corrected"});
  only({});
}

TEST_F(FsckRepairShares, TheFlagOfOneIsLost) {
  for (const Key &k : {twin, find_fs(ino("/d0/file8"), FsItem::extent)}) {
    change<disk::DiskExtent>(TreeId::fs, k, [](auto &e) { e.flags = e.flags & ~disk::kExtentShared; });
    repaired({"has the same data as another file: it is marked as shared"});
    only({});
  }
}

TEST_F(FsckRepairShares, WithoutTheFeature) {
  const auto m = model_of(&dev());
  ASSERT_TRUE(m->super.incompat & disk::kIncompatReflink);
  m->super.incompat = m->super.incompat & ~disk::kIncompatReflink;
  std::vector<u64> places{disk::kSuperOffset, m->geo.last_backup_byte()};
  for (u64 g = 1; g < m->geo.groups; g *= 3) places.push_back(m->geo.backup_block(g) << m->geo.block_shift);
  for (u64 at : places) {
    disk::seal_super(m->super, at);
    dev().poke(at, &m->super, sizeof m->super);
  }
  repaired({"which this filesystem does not have", "belong to something else: a hole is left"});
  only({":/twin"});
}

TEST_F(FsckRepair, ExtentsThatCannotBe) {
  change<disk::DiskExtent>(TreeId::fs, find_fs(ino("/d0/file8"), FsItem::extent), [](auto &e) { e.disk = 1u << 30; });
  change<disk::DiskExtent>(TreeId::fs, find_fs(ino("/d2/file8"), FsItem::extent), [](auto &e) { e.disk = 66; });
  repaired({"/d0/file8", "/d2/file8"});
  only({":/d0/file8", ":/d2/file8"});
}

TEST_F(FsckRepair, LostChecksums) {
  const u64 f = ino("/d0/file8");
  erase(TreeId::fs, fs_key(f, FsItem::extent_checksum), {f, static_cast<u8>(FsItem::extent_checksum), ~u64{0}});
  repaired({"/d0/file8", "the data is kept unchecked"});
  only({});
}

TEST_F(FsckRepair, WrongDataIsNotMadeRight) {
  const Key k = find_fs(ino("/d0/file8"), FsItem::extent);
  u64 disk = 0;
  change<disk::DiskExtent>(TreeId::fs, k, [&](auto &e) { disk = e.disk; });
  spoil_block(disk);
  erase(TreeId::fs, dirent(ino("/d1"), ino("/d1/file7")));  // something to repair
  repaired({});
  EXPECT_FALSE(now.at("data:/d0/file8@0").has_value());
}

TEST_F(FsckRepair, XattrsAndSymlinks) {
  const u64 f = ino("/d0/file5");
  erase(TreeId::fs, find_fs(f, FsItem::xattr_chunk));
  change<disk::DiskInode>(TreeId::fs, fs_key(ino("/link"), FsItem::inode), [](auto &i) { i.size = 3; });
  repaired({"the value of xattr \"user.large\" is incomplete", "the target of the symlink is damaged"});
  only({"/d0/file5", ":/link", "names:", "attr:"});
}

TEST_F(FsckRepair, InlineContents) {
  const u64 f = ino("/d0/file0");
  erase(TreeId::fs, fs_key(f, FsItem::inline_data));
  repaired({"/d0/file0", "its contents are lost: it is empty now"});
  only({":/d0/file0"});
}

TEST_F(FsckRepair, TheRootDirectory) {
  erase(TreeId::fs, fs_key(ino(""), FsItem::inode));
  repaired({"its inode is lost"});
  only({"attr:"});
}

// ----------------------------------------------------------------- vectors
struct FsckRepairVectors : FsckRepair {
  u64 cid(const std::string &path) {
    u64 id = 0;
    change<disk::DirEntryItem>(TreeId::collections, {0, disk::kRegistryByDir, ino(path)}, [&](auto &d) { id = d.cid; });
    return id;
  }
};

TEST_F(FsckRepairVectors, LostRowGroup) {
  const u64 c = cid("/flat");
  erase(TreeId::collections, find(TreeId::collections, vec_key(c, VectorItem::rows), vec_key(c, VectorItem::rows, 99)));
  repaired({"slots have lost their metadata", "vectors 1, 2"});
  only({":/flat"});
  EXPECT_EQ(now.at("row:/flat 60"), whole.at("row:/flat 60"));
  EXPECT_EQ(now.at("row:/flat 1"), "none");
}

TEST_F(FsckRepairVectors, IdsCountersMarks) {
  const u64 c = cid("/vec");
  erase(TreeId::collections, vec_key(c, VectorItem::ids), vec_key(c, VectorItem::ids, ~u64{0}));
  erase(TreeId::collections, vec_key(c, VectorItem::dead), vec_key(c, VectorItem::dead, ~u64{0}));
  change<disk::StateItem>(TreeId::collections, vec_key(c, VectorItem::state), [](auto &s) { s.live = 3; });
  repaired({"the map of ids is made anew", "the marks of dead vectors", "its counters are corrected"});
  only({});
}

TEST_F(FsckRepairVectors, LostChunk) {
  const u64 c = cid("/flat");
  erase(TreeId::collections, vec_key(c, VectorItem::chunk));
  repaired({"have lost their data"});
  only({":/flat"});
  // New rows can be added.
  vector::test::Options o;
  Mount m(o, &dev());
  uint64_t id = 5000;
  EXPECT_EQ(m.add(m.open(m.root(), "flat"), vector::test::Row(Reader::kDim, 1.f), &id), 0);
  m.unmount();
  EXPECT_EQ(*check_all(&dev()), 0u);
}

TEST_F(FsckRepairVectors, DamagedRow) {
  const u64 c = cid("/flat");
  u64 disk = 0;
  change<disk::ChunkItem>(TreeId::collections, vec_key(c, VectorItem::chunk),
                          [&](auto &i) { disk = i.pieces[0].start; });
  flip(disk * 1024 + 5);
  repaired({"vector 1 (slot 0) is damaged"});
  only({"row:/flat 1", "search:/flat", "snapshot"});
  EXPECT_EQ(now.at("row:/flat 1"), "none");
  EXPECT_EQ(now.at("row:/flat 12"), whole.at("row:/flat 12"));
}

TEST_F(FsckRepairVectors, References) {
  const u64 f = ino("/flat/owner");
  erase(TreeId::fs, {f, disk::kOwnerRefType, 0}, {f, disk::kOwnerRefType, ~u64{0}});
  change<disk::DiskInode>(TreeId::fs, fs_key(ino("/vec"), FsItem::inode),
                          [](auto &i) { i.flags = i.flags & ~u64{VX_INODE_COLLECTION}; });
  repaired({"its references to vectors are corrected", "what it says of its vectors is corrected"});
  only({});
}

TEST_F(FsckRepairVectors, MoreReferencesThanRows) {
  const u64 f = ino("/flat/owner");
  const Key k = find(TreeId::fs, {f, disk::kOwnerRefType, 0}, {f, disk::kOwnerRefType, ~u64{0}});
  change<disk::OwnerRefItem>(TreeId::fs, k, [](auto &r) { r.count = 1u << 24; });
  repaired({"its references to vectors are corrected"});
  only({});
}

TEST_F(FsckRepairVectors, KeysFarAway) {
  const u64 c = cid("/flat");
  edit([&](store::Volume &v, store::Handle &h) {
    store::Tree &t = v.tree(TreeId::collections);
    std::vector<u8> b(4096);
    auto n = t.get(vec_key(c, VectorItem::config), {b.data(), b.size()});
    ASSERT_TRUE(n.ok());
    disk::ConfigItem config;
    memcpy(&config, b.data(), sizeof config);
    const u64 far = disk::kSlotsMax / config.chunk_rows - 1;
    std::vector<u8> chunk(4096), rows(4096);
    auto in_chunk = t.get(vec_key(c, VectorItem::chunk), {chunk.data(), chunk.size()});
    ASSERT_TRUE(in_chunk.ok());
    ASSERT_TRUE(t.erase(h, vec_key(c, VectorItem::chunk)).ok());
    ASSERT_TRUE(t.insert(h, vec_key(c, VectorItem::chunk, far), {chunk.data(), *in_chunk}).ok());
    auto in_rows = t.get(vec_key(c, VectorItem::rows), {rows.data(), rows.size()});
    ASSERT_TRUE(in_rows.ok());
    const u64 group = far * config.chunk_rows / config.rows_per_group;
    ASSERT_TRUE(t.insert(h, vec_key(c, VectorItem::rows, group), {rows.data(), *in_rows}).ok());
  });
  repaired({"have lost their data"});
  only({":/flat"});
}

TEST_F(FsckRepairVectors, LostOwner) {
  const u64 f = ino("/flat/owner");
  erase(TreeId::fs, fs_key(f, FsItem::inode), {f, 255, ~u64{0}});
  repaired({"which is gone: it is marked as dead"});
  only({":/flat"});
  EXPECT_EQ(now.at("row:/flat 41"), "none");
  EXPECT_EQ(now.at("row:/flat 40"), whole.at("row:/flat 40"));
}

TEST_F(FsckRepairVectors, LostConfiguration) {
  erase(TreeId::collections, vec_key(cid("/flat"), VectorItem::config));
  repaired({"(\"/flat\"): its configuration is damaged (lost)", "carries no collection any more",
            "(\"/flat\"): its collection is lost; it is still in snapshot \"first\", \"second\""});
  only({"row:/flat", "search:/flat"});
}

TEST_F(FsckRepairVectors, LostDirectory) {
  erase(TreeId::fs, fs_key(ino("/flat"), FsItem::inode));
  repaired({"the inode of a collection's directory is lost"});
  only({"attr:/flat"});
}

TEST_F(FsckRepairVectors, DamagedIndex) {
  for (const Target &t : targets_of(&dev()))
    if (t.use == Use::blob && t.of_present) {
      spoil_block(t.block);
      break;
    }
  repaired({"its index checkpoint is damaged: it is dropped"}, false);
  only({});
  vector::test::Options o;
  Mount m(o, &dev());
  std::vector<vexfs_hit> hits;
  EXPECT_EQ(m.search(m.open(m.root(), "vec"), vector::test::Row(Reader::kDim, 0.25f), 10, &hits), 0);
  EXPECT_EQ(hits.size(), 10u);
}

// --------------------------------------------------------------- snapshots
TEST_F(FsckRepair, NotesOfSnapshots) {
  erase(TreeId::dead, Key::min(), Key::max());
  repaired({"blocks that only snapshots need are noted"}, false);
  only({});
  // Deleting both gives everything back.
  {
    vector::test::Options o;
    Mount m(o, &dev());
    for (u64 id : {1, 2}) {
      vexfs_snapshot s{};
      s.size = sizeof s;
      s.id = id;
      EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SNAPSHOT_DELETE, &s), 0);
    }
  }
  auto v = store::Volume::open(&dev(), {});
  ASSERT_TRUE(v.ok());
  for (;;) {
    auto more = (*v)->snapshot_reclaim(100000);
    ASSERT_TRUE(more.ok());
    if (!*more) break;
  }
  ASSERT_TRUE((*v)->close().ok());
  std::string text;
  EXPECT_EQ(*check_all(&dev(), &text), 0u) << text;
  EXPECT_TRUE(model_of(&dev())->trees[kDead].items.empty());
}

TEST_F(FsckRepair, ASnapshotThatCannotBeRead) {
  for (const Target &t : targets_of(&dev()))
    if (t.use == Use::node && !t.of_present) {
      spoil_block(t.block);
      break;
    }
  repaired({"its trees are damaged: it is dropped"});
  only({"snapshot "});
}

TEST_F(FsckRepair, TheListOfSnapshots) {
  for (const Target &t : targets_of(&dev())) {
    if (t.use == Use::node && t.of_present && t.tree == kSnapshots) spoil_block(t.block);
  }
  repaired({"the snapshots tree: a leaf is damaged", "snapshots may have been lost: the list of snapshots is damaged",
            "entries that no snapshot that is left needs are removed"});
  only({"snapshot "});
  for (const Action &a : mended.actions) {
    if (a.text.find("dead tree") != std::string::npos) {
      EXPECT_EQ(a.kind, Action::Kind::asks) << a.text;
    }
  }
}

TEST_F(FsckRepairVectors, TheListOfCollections) {
  // So that the leaf is not the snapshots' too.
  change<disk::ConfigItem>(TreeId::collections, vec_key(cid("/vec"), VectorItem::config), [](auto &c) { c.m = c.m; });
  for (const Target &t : targets_of(&dev()))
    if (t.use == Use::node && t.of_present && !t.of_snapshot && t.tree == kCollections && t.level == 0 &&
        t.objects.count(0))
      spoil_block(t.block);
  repaired({"the collections tree: a leaf is damaged", "the collections tree is damaged: collections, or vectors",
            "(\"/vec\"): its collection is lost; it is still in snapshot \"first\", \"second\""});
  only({"vec", "flat"});
}

// ----------------------------------------------------------- second copies
// What is looked at before a full check does not pass over it.
TEST(FsckRepairCopies, BothCopiesOfATreesTopAreLookedAt) {
  ImageOptions o;
  o.files = 26;
  o.node_copies = 2;
  o.snapshots = false;
  Image image(o);
  const auto m = model_of(&image.device());
  const auto tops_sound = [](vx_bdev *d) {
    store::Checker c(d, {[](void *, store::Severity, const char *) {}, nullptr, nullptr});
    EXPECT_TRUE(c.open().ok());
    auto sound = c.tops_sound();
    EXPECT_TRUE(sound.ok());
    return *sound;
  };
  EXPECT_TRUE(tops_sound(&image.device()));
  const disk::NodePtr &top = m->root().trees[kFs].node;
  for (u64 at : {top.addr.get(), top.mirror.get()}) {
    auto dev = image.device().clone();
    const std::vector<u8> junk(1024, 0x5a);
    dev->poke(at * 1024, junk.data(), junk.size());
    EXPECT_FALSE(tops_sound(dev.get()));
  }
}

TEST(FsckRepairCopies, EitherCopyOfANodeIsEnough) {
  host::set_log_hook([](vx_bdev *, int, const char *) {});
  ImageOptions o;
  o.files = 26;
  o.node_copies = 2;
  Image image(o);
  Answers whole;
  ASSERT_TRUE(read_everything(&image.device(), &whole));
  std::string text;
  ASSERT_EQ(*check_all(&image.device(), &text), 0u) << text;
  const auto check = [](vx_bdev *d) { return check_all(d); };
  u64 n = 0, nodes = 0;
  for (const Target &t : targets_of(&image.device())) {
    if (t.use != Use::node || n++ % 23) continue;
    auto dev = image.device().clone();
    const std::vector<u8> junk(1024, 0x5a);
    dev->poke(t.block * 1024, junk.data(), junk.size());
    ASSERT_GT(*check_all(dev.get(), &text), 0u) << t.block;
    const Mended m = mend(dev.get(), true, false, check);
    EXPECT_FALSE(m.refused) << t.block << "\n" << lines_of(m.actions);
    EXPECT_EQ(*check_all(dev.get()), 0u) << t.block << "\n" << lines_of(m.actions);
    Answers now;
    ASSERT_TRUE(read_everything(dev.get(), &now));
    EXPECT_EQ(now, whole) << t.block;
    nodes++;
  }
  EXPECT_GT(nodes, 10u);
  // Trees that have to be written anew have two copies as well.
  auto dev = image.device().clone();
  const auto model = model_of(dev.get());
  const NodePlace leaf = model->trees[kFs].nodes.back();
  const std::vector<u8> junk(1024, 0x5a);
  for (u64 at : {leaf.addr, leaf.mirror}) dev->poke(at * 1024, junk.data(), junk.size());
  const Mended m = mend(dev.get(), true, true, check);
  EXPECT_TRUE(m.written) << lines_of(m.actions);
  EXPECT_EQ(*check_all(dev.get(), &text), 0u) << text;
  const auto again = model_of(dev.get());
  for (const NodePlace &p : again->trees[kFs].nodes) EXPECT_NE(p.mirror, 0u);
  host::set_log_hook({});
}

// ------------------------------------------------- crashes, space, the log
TEST_F(FsckRepair, ACrashInBetweenLeavesTheOldOrTheNewState) {
  for (const Target &t : targets_of(&dev()))
    if (t.use == Use::node && t.tree == kFs && t.level == 1) {
      spoil_block(t.block);
      break;
    }
  for (int n = 0; n < 200; n++) {
    auto d = dev().clone();
    host::FaultDevice f(d.get());
    f.fail_after(host::FaultDevice::Kind::write, n, -EIO, true);
    Mended first = mend(&f, true, true, [](vx_bdev *x) { return check_all(x); });
    f.clear();
    if (first.failure == Errno::ok) {
      EXPECT_GT(n, 3);
      return;
    }
    const u64 left = *check_all(d.get());
    if (left) {
      const Mended again = mend(d.get(), true, true, [](vx_bdev *x) { return check_all(x); });
      EXPECT_EQ(again.failure, Errno::ok) << n;
      EXPECT_EQ(again.errors_left, 0u) << n;
    }
    EXPECT_EQ(*check_all(d.get()), 0u) << n;
    now.clear();
    ASSERT_TRUE(read_everything(d.get(), &now));
    only({});
  }
  FAIL() << "it never came to an end";
}

TEST_F(FsckRepair, OnAFullDisk) {
  {
    vector::test::Options o;
    Mount m(o, &dev());
    vx_inode *f = m.make(m.root(), "filler");
    const std::string piece(64 << 10, 'f');
    for (u64 at = 0; m.write(f, piece, at) == 0; at += piece.size()) {
    }
  }
  whole.clear();
  ASSERT_TRUE(read_everything(&dev(), &whole, &inodes));
  for (const Target &t : targets_of(&dev()))
    if (t.use == Use::node && t.tree == kFs && t.level == 1) spoil_block(t.block);
  repaired({"items in"});
  only({"snapshot "});
}

TEST(FsckRepairLog, AnErasureEndsBehindItsBeginning) {
  disk::LogItemDisk head{};
  head.op = static_cast<u8>(disk::LogOp::erase);
  head.len = sizeof(disk::DiskKey);
  head.key.oid = 7;
  head.key.off = 5;
  const auto decoded = [&](u64 oid, u64 off) {
    disk::DiskKey last{};
    last.oid = oid;
    last.off = off;
    std::vector<u8> b(sizeof head + sizeof last);
    memcpy(b.data(), &head, sizeof head);
    memcpy(b.data() + sizeof head, &last, sizeof last);
    disk::LogRecord r{};
    return disk::decode_log_record({b.data(), b.size()}, {}, &r);
  };
  for (auto [oid, off] : {std::pair<u64, u64>{7, 5}, {7, 6}, {8, 0}})
    EXPECT_EQ(decoded(oid, off), sizeof head + sizeof(disk::DiskKey)) << oid << " " << off;
  for (auto [oid, off] : {std::pair<u64, u64>{7, 4}, {6, 9}}) EXPECT_EQ(decoded(oid, off), 0u) << oid << " " << off;
}

TEST(FsckRepairLog, IsReplayedOrGivenUp) {
  host::set_log_hook([](vx_bdev *, int, const char *) {});
  host::MemDevice d(64 << 20);
  store::Layout layout;
  ASSERT_TRUE(store::format(&d, {}, &layout).ok());
  vector::test::Options o;
  std::unique_ptr<host::MemDevice> crashed;
  {
    Mount m(o, &d);
    for (int i = 0; i < 30; i++) ASSERT_EQ(m.write(m.make(m.root(), "old" + std::to_string(i)), "text"), 0);
    ASSERT_EQ(m.commit(), 0);
    for (int i = 0; i < 5; i++) {
      ASSERT_EQ(m.write(m.make(m.root(), "new" + std::to_string(i)), std::string(9000, 'n')), 0);
      ASSERT_EQ(vx_fs_sync(m.fs()), 0);
    }
    crashed = d.clone();
  }
  auto names = [](vx_bdev *dev) {
    Answers a;
    EXPECT_TRUE(read_everything(dev, &a));
    return a;
  };
  const auto check = [](vx_bdev *x) { return check_all(x); };
  {  // Sound: as a mount would.
    auto dev = crashed->clone();
    const Mended m = mend(dev.get(), false, false, check);
    EXPECT_TRUE(m.replayed);
    EXPECT_EQ(*check_all(dev.get()), 0u);
    EXPECT_EQ(names(dev.get()).at("data:/new4@0"), std::string(4096, 'n'));
  }
  const auto model = model_of(crashed.get());
  for (bool hole : {false, true}) {  // together with damage of the trees; with and without a hole in the log
    auto dev = crashed->clone();
    u8 b;
    const u64 at = (model->trees[kFs].nodes.back().addr << model->geo.block_shift) + 500;
    dev->peek(at, &b, 1);
    b ^= 1;
    dev->poke(at, &b, 1);
    if (hole) {
      std::vector<u8> block(4096);
      const u64 from = (model->geo.log_start + model->root().log_tail) << model->geo.block_shift;
      for (u64 p = from + 4096; p < from + (64 << 10); p += 4096) {  // the second piece, wherever it begins
        dev->peek(p, block.data(), block.size());
        if (memcmp(block.data(), "VXLG", 4) != 0) continue;
        memset(block.data(), 0x55, block.size());
        dev->poke(p, block.data(), block.size());
        break;
      }
    }
    const Mended m = mend(dev.get(), true, true, check);
    EXPECT_EQ(m.failure, Errno::ok);
    EXPECT_EQ(m.errors_left, 0u) << lines_of(m.actions);
    EXPECT_NE(lines_of(m.actions).find("the intent log is replayed"), std::string::npos) << lines_of(m.actions);
    EXPECT_EQ(lines_of(m.actions).find("the end is lost") != std::string::npos, hole) << lines_of(m.actions);
    EXPECT_EQ(*check_all(dev.get()), 0u);
  }
  host::set_log_hook({});
}

}  // namespace
}  // namespace vexfs::repair::test
