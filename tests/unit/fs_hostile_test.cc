// SPDX-License-Identifier: MIT
// Images that lie: items of the fs tree changed behind a good checksum. Nothing may crash, hang or leak, and the
// checker must survive too. VX_SEED and VX_ROUNDS replay and lengthen.
#include "fs_fixture.h"

#include <cstdlib>
#include <functional>
#include <random>

namespace vexfs::fs::test {
namespace {

u64 from_env(const char *name, u64 fallback) {
  const char *s = getenv(name);
  return s ? strtoull(s, nullptr, 0) : fallback;
}

void populate(TestFs &t) {
  auto root = t.root();
  auto d = t.mkdir(*root, "d");
  auto e = t.mkdir(*d, "e");
  TestFs::write(*t.must_make(*root, "small"), "small file");
  auto big = t.must_make(*d, "big");
  for (int i = 0; i < 6; i++) TestFs::write(*big, std::string(5000, 'b'), static_cast<u64>(i) * 20000);
  EXPECT_TRUE(fallocate(*big, VX_FALLOC_KEEP_SIZE, 200000, 50000, 0, TestFs::now()).ok());
  t.must_make(*e, "link", disk::kModeLink | 0777, std::string(3000, 't'));
  t.must_make(*e, "fifo", disk::kModeFifo | 0600);
  EXPECT_TRUE(xattr_set(*big, B("user.small"), B("v"), 0, TestFs::now()).ok());
  EXPECT_TRUE(xattr_set(*big, B("user.large"), B(std::string(10000, 'v')), 0, TestFs::now()).ok());
  for (int i = 0; i < 20; i++) t.must_make(*e, "n" + std::to_string(i));
}

// Does everything to everything that can be reached.
void use(TestFs &t, std::mt19937_64 &rng) {
  auto root = t.fs().get(t.fs().root_ino());
  if (!root.ok()) return;
  std::vector<InodeRef> seen;
  for (u64 ino = 0; ino < 40; ino++) {
    auto ip = t.fs().get(ino);
    if (ip.ok()) seen.push_back(ip.take());
  }
  std::vector<u8> buf(70000);
  for (auto &ip : seen) {
    u64 pos = 0, limit = 1000;
    (void)readdir(*ip, pos, [&](const DirEntry &e) {
      (void)t.fs().get(e.ino);
      return limit-- > 0;
    });
    (void)readlink(*ip, buf);
    (void)read_file(*ip, buf, 0);
    (void)read_file(*ip, buf, ip->size() / 2);
    (void)xattr_list(*ip, [](Bytes) { return true; });
    (void)xattr_get(*ip, B("user.small"), buf);
    (void)xattr_get(*ip, B("user.large"), buf);
    MapOut m;
    for (u64 off = 0; off < 300000; off += 4096) (void)map(*ip, off, 4096, m);
  }
  auto any = [&]() -> Inode & { return *seen[rng() % seen.size()]; };
  const char *names[] = {"d", "e", "small", "big", "link", "fifo", "n1", "n2", "n3", "fresh"};
  auto name = [&] { return std::string(names[rng() % 10]); };
  for (int i = 0; i < 60; i++) {
    switch (rng() % 11) {
      case 0:
        (void)t.make(any(), name());
        break;
      case 1:
        (void)unlink(any(), B(name()), TestFs::now());
        break;
      case 2:
        (void)rmdir(any(), B(name()), TestFs::now());
        break;
      case 3:
        (void)rename(any(), B(name()), any(), B(name()), static_cast<u32>(rng() % 8), nullptr, TestFs::now());
        break;
      case 4:
        (void)write_file(any(), B(std::string(6000, 'w')), rng() % 100000, TestFs::now());
        break;
      case 5:
        (void)truncate_file(any(), rng() % 200000, TestFs::now());
        break;
      case 6:
        (void)fallocate(any(), rng() % 2 ? 0 : VX_FALLOC_PUNCH, rng() % 50 * 4096, 40960, 40960, TestFs::now());
        break;
      case 7:
        (void)xattr_set(any(), B("user.large"), B(std::string(rng() % 9000, 'x')), 0, TestFs::now());
        break;
      case 8:
        (void)xattr_remove(any(), B("user.small"), TestFs::now());
        break;
      case 9:
        (void)link(any(), B(name()), any(), TestFs::now());
        break;
      default:
        (void)t.fs().commit();
    }
  }
}

// Changes one item of the fs tree through the store, so that all checksums are right.
void damage(store::Volume &v, std::mt19937_64 &rng) {
  std::vector<std::pair<store::Key, std::string>> items;
  auto &tree = v.tree(store::TreeId::fs);
  (void)tree.scan(store::Key::min(), store::Key::max(), [&](const store::Key &k, Bytes b) {
    items.emplace_back(k, S(b));
    return true;
  });
  auto h = v.begin({.items = 4});
  ASSERT_TRUE(h.ok());
  auto &[key, value] = items[rng() % items.size()];
  auto put = [&](const store::Key &k, const std::string &s) { (void)tree.upsert(*h, k, B(s)); };
  switch (rng() % 8) {
    case 0:
      (void)tree.erase(*h, key);
      break;
    case 1:
    case 2:
    case 3: {  // one byte, one bit, or a whole word
      if (value.empty()) break;
      usize at = rng() % value.size();
      if (rng() % 2)
        value[at] = static_cast<char>(value[at] ^ (1 << rng() % 8));
      else
        value[at] = static_cast<char>(rng());
      put(key, value);
      break;
    }
    case 4: {
      if (value.size() < 8) break;
      u64 words[] = {0, 1, ~u64{0}, ~u64{0} >> 1, u64{1} << 32, rng() % 64, items[rng() % items.size()].first.oid};
      usize at = rng() % (value.size() / 4) * 4;
      if (at + 8 <= value.size()) memcpy(value.data() + at, &words[rng() % 7], 8);
      put(key, value);
      break;
    }
    case 5:
      value.resize(rng() % (value.size() + 20));
      put(key, value);
      break;
    case 6: {  // the value of another item
      put(key, items[rng() % items.size()].second);
      break;
    }
    default: {  // an item where none should be
      store::Key k = key;
      k.off = rng() % 3 ? k.off + rng() % 300 : rng();
      if (rng() % 3 == 0) k.type = static_cast<u8>(rng() % 70);
      if (rng() % 4 == 0) k.oid = rng() % 40;
      put(k, value);
    }
  }
}

TEST(FsHostile, ItemsThatLie) {
  host::set_log_hook([](vx_bdev *, int, const char *) {});
  u64 seed = from_env("VX_SEED", 42), rounds = from_env("VX_ROUNDS", 1500);
  printf("seed %llu, %llu rounds\n", static_cast<unsigned long long>(seed), static_cast<unsigned long long>(rounds));
  TestFs t(FixtureOptions{.size = 16 << 20});
  populate(t);
  ASSERT_EQ(t.unmount(), Errno::ok);
  auto before = host::alloc_stats().outstanding;
  u64 refused = 0, found = 0;
  for (u64 round = 0; round < rounds; round++) {
    std::mt19937_64 rng(seed + round);
    auto copy = t.device().clone();
    {
      auto v = store::Volume::open(copy.get(), {});
      ASSERT_TRUE(v.ok());
      for (u64 n = 1 + rng() % 4; n; n--) damage(**v, rng);
      ASSERT_TRUE((*v)->close().ok());
    }
    auto r = TestFs::check_device(copy.get());
    EXPECT_EQ(r.failure, Errno::ok);
    found += r.errors != 0;
    t.use_device(copy.get());
    // Two of three go on after damage was met, so that it is met more often.
    t.on_error(round % 3 ? store::ErrorPolicy::keep_going : store::ErrorPolicy::read_only);
    if (t.mount() == Errno::ok) {
      use(t, rng);
      (void)t.unmount();
    } else {
      refused++;
    }
    t.use_device(nullptr);
    ASSERT_EQ(host::alloc_stats().outstanding, before) << "leak in round " << round;
    (void)TestFs::check_device(copy.get());
  }
  printf("the checker found something in %llu rounds, the mount was refused in %llu\n",
         static_cast<unsigned long long>(found), static_cast<unsigned long long>(refused));
  EXPECT_GT(found, rounds / 2);
  host::set_log_hook({});
  ASSERT_EQ(t.mount(), Errno::ok);
}

// Damage that the checker must name.
TEST(FsHostile, TheCheckerNamesWhatIsWrong) {
  struct Case {
    const char *expect;
    std::function<void(TestFs &, store::Handle &)> harm;
  };
  auto patch = [](TestFs &t, store::Handle &h, u64 ino, u32 at, u64 v, u32 n) {
    EXPECT_TRUE(t.fs().tree().patch(h, fs_key(ino, FsItem::inode), at, {reinterpret_cast<u8 *>(&v), n}).ok());
  };
  auto number = [](TestFs &t, const char *name) { return *lookup(*t.root(), B(name)); };
  std::vector<Case> cases{
      {"link count",
       [&](TestFs &t, store::Handle &h) { patch(t, h, number(t, "small"), offsetof(disk::DiskInode, nlink), 5, 4); }},
      {"number of entries",
       [&](TestFs &t, store::Handle &h) { patch(t, h, number(t, "d"), offsetof(disk::DiskInode, entries), 9, 8); }},
      {"its parent is said",
       [&](TestFs &t, store::Handle &h) { patch(t, h, number(t, "d"), offsetof(disk::DiskInode, parent), 3, 8); }},
      {"length of the inline data",
       [&](TestFs &t, store::Handle &h) { patch(t, h, number(t, "small"), offsetof(disk::DiskInode, size), 3, 8); }},
      {"no name leads",
       [&](TestFs &t, store::Handle &h) {
         EXPECT_TRUE(t.fs().tree().erase(h, fs_key(1, FsItem::dirent, t.fs().name_cookie(B("small")))).ok());
       }},
      {"which does not exist",
       [&](TestFs &t, store::Handle &h) {
         EXPECT_TRUE(t.fs().tree().erase(h, fs_key(number(t, "small"), FsItem::inode)).ok());
       }},
      {"number of inodes", [&](TestFs &t, store::Handle &h) { t.fs().count_inodes(h, 3); }},
      {"wrong hash",
       [&](TestFs &t, store::Handle &h) {
         u8 c = 'S';
         EXPECT_TRUE(
             t.fs()
                 .tree()
                 .patch(h, fs_key(1, FsItem::dirent, t.fs().name_cookie(B("small"))), sizeof(disk::DiskDirent), {&c, 1})
                 .ok());
       }},
      {"overlaps",
       [&](TestFs &t, store::Handle &h) {
         u64 big = *lookup(*t.open(*t.root(), "d"), B("big"));
         le32 n;
         n = 9;
         EXPECT_TRUE(t.fs()
                         .tree()
                         .patch(h, fs_key(big, FsItem::extent, 0), offsetof(disk::DiskExtent, count), bytes_of(n))
                         .ok());
       }},
      {"xattr",
       [&](TestFs &t, store::Handle &h) {
         u64 big = *lookup(*t.open(*t.root(), "d"), B("big"));
         auto r =
             t.fs().tree().erase_range(h, fs_key(big, FsItem::xattr_chunk), fs_key(big, FsItem::xattr_chunk, ~u64{0}),
                                       1, [](const store::Key &, Bytes) {});
         EXPECT_TRUE(r.ok() && *r == 1);
       }},
      {"orphan list",
       [&](TestFs &t, store::Handle &h) {
         disk::DiskOrphan o{};
         EXPECT_TRUE(t.fs().tree().insert(h, fs_key(0, FsItem::orphan, number(t, "small")), bytes_of(o)).ok());
       }},
  };
  for (auto &c : cases) {
    TestFs t(FixtureOptions{.size = 16 << 20});
    populate(t);
    ASSERT_TRUE(t.check());
    {
      auto h = t.volume().begin({.items = 4});
      ASSERT_TRUE(h.ok());
      c.harm(t, *h);
    }
    ASSERT_EQ(t.unmount(), Errno::ok);
    auto r = TestFs::check_device(&t.device());
    EXPECT_GT(r.errors, 0u) << c.expect;
    EXPECT_NE(r.text().find(c.expect), std::string::npos) << c.expect << " is not in:\n" << r.text();
  }
}

}  // namespace
}  // namespace vexfs::fs::test
