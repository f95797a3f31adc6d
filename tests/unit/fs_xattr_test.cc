// SPDX-License-Identifier: MIT
// Extended attributes of every size, their errors, listing, and what is left when the inode goes.
#include "fs_fixture.h"

#include <set>

namespace vexfs::fs::test {
namespace {

Result<std::string> get(Inode &ip, const std::string &name) {
  std::string buf(70000, 0);
  usize n = VX_TRY(xattr_get(ip, B(name), {reinterpret_cast<u8 *>(buf.data()), buf.size()}));
  buf.resize(n);
  return buf;
}
Errno set(Inode &ip, const std::string &name, const std::string &value, u32 flags = 0) {
  return xattr_set(ip, B(name), B(value), flags, TestFs::now()).code();
}

TEST(FsXattr, EverySizeSurvivesARemount) {
  TestFs t;
  std::vector<usize> sizes{0, 1, 511, 512, 513, 3071, 3072, 3073, 6144, 40000, 65535, 65536};
  auto value = [](usize n) {
    std::string s(n, 0);
    for (usize i = 0; i < n; i++) s[i] = static_cast<char>(i * 7 + n);
    return s;
  };
  {
    auto f = t.must_make(*t.root(), "f");
    for (usize n : sizes) EXPECT_EQ(set(*f, "user.s" + std::to_string(n), value(n)), Errno::ok) << n;
    EXPECT_EQ(set(*f, "user.big", std::string(65537, 'x')), Errno::toobig);
    EXPECT_EQ(set(*f, "", "x"), Errno::inval);
    EXPECT_EQ(set(*f, std::string(256, 'n'), "x"), Errno::range);
    EXPECT_EQ(set(*f, std::string(255, 'n'), value(512)), Errno::ok);
  }
  ASSERT_TRUE(t.check());
  auto f = t.open(*t.root(), "f");
  for (usize n : sizes) {
    auto got = get(*f, "user.s" + std::to_string(n));
    ASSERT_TRUE(got.ok()) << n;
    EXPECT_TRUE(*got == value(n)) << n;
    auto len = xattr_get(*f, B("user.s" + std::to_string(n)), {});
    ASSERT_TRUE(len.ok());
    EXPECT_EQ(*len, n);
  }
  u8 one[1];
  EXPECT_EQ(xattr_get(*f, B("user.s511"), one).code(), Errno::range);
  EXPECT_EQ(xattr_get(*f, B("user.s40000"), one).code(), Errno::range);
  EXPECT_EQ(get(*f, "user.none").code(), Errno::nodata);
}

TEST(FsXattr, FlagsReplaceAndRemove) {
  TestFs t;
  auto root = t.root();
  auto d = t.mkdir(*root, "d");
  EXPECT_EQ(set(*d, "user.a", "1", VX_XATTR_REPLACE), Errno::nodata);
  EXPECT_EQ(set(*d, "user.a", "1", VX_XATTR_CREATE), Errno::ok);
  EXPECT_EQ(set(*d, "user.a", "2", VX_XATTR_CREATE), Errno::exist);
  // Between every pair of small, chunked and empty.
  for (const std::string &v :
       {std::string(5000, 'l'), std::string("s"), std::string(60000, 'L'), std::string(9000, 'm'), std::string()}) {
    EXPECT_EQ(set(*d, "user.a", v, VX_XATTR_REPLACE), Errno::ok);
    EXPECT_TRUE(*get(*d, "user.a") == v);
    EXPECT_EQ(d->attributes().xattrs, 1u);
  }
  EXPECT_TRUE(xattr_remove(*d, B("user.a"), TestFs::now()).ok());
  EXPECT_EQ(xattr_remove(*d, B("user.a"), TestFs::now()).code(), Errno::nodata);
  EXPECT_EQ(d->attributes().xattrs, 0u);
  d.reset();
  root.reset();
  EXPECT_TRUE(t.check());
}

TEST(FsXattr, ListsManyAndCollidingNames) {
  for (u32 bits : {56u, 2u}) {
    TestFs t(FixtureOptions{.hash_bits = bits});
    auto f = t.must_make(*t.root(), "f");
    std::set<std::string> want;
    for (int i = 0; i < 150; i++) {
      std::string name = "user." + std::string(static_cast<size_t>(i), 'p') + std::to_string(i);
      ASSERT_EQ(set(*f, name, "v" + std::to_string(i)), Errno::ok);
      want.insert(name);
    }
    for (int i = 0; i < 150; i += 3) {
      std::string name = "user." + std::string(static_cast<size_t>(i), 'p') + std::to_string(i);
      ASSERT_TRUE(xattr_remove(*f, B(name), TestFs::now()).ok());
      want.erase(name);
    }
    std::set<std::string> got;
    ASSERT_TRUE(xattr_list(*f, [&](Bytes n) { return got.insert(S(n)).second; }).ok());
    EXPECT_EQ(got, want);
    for (auto &n : want) EXPECT_EQ(get(*f, n)->substr(0, 1), "v") << n;
    usize seen = 0;
    ASSERT_TRUE(xattr_list(*f, [&](Bytes) { return ++seen < 3; }).ok());
    EXPECT_EQ(seen, 3u);
    f.reset();
    EXPECT_TRUE(t.check());
  }
}

TEST(FsXattr, GoWithTheInode) {
  TestFs t;
  u64 before = t.volume().space().free;
  {
    auto root = t.root();
    auto f = t.must_make(*root, "f");
    for (int i = 0; i < 40; i++) ASSERT_EQ(set(*f, "user." + std::to_string(i), std::string(20000, 'x')), Errno::ok);
    ASSERT_TRUE(unlink(*root, B("f"), TestFs::now()).ok());
  }
  EXPECT_TRUE(t.check());
  EXPECT_NEAR(static_cast<double>(t.volume().space().free), static_cast<double>(before), 24);
}

}  // namespace
}  // namespace vexfs::fs::test
