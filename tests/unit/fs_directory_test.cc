// SPDX-License-Identifier: MIT
// Directories: listing while they change, cookies that stay, and one with a million names.
#include "fs_fixture.h"

#include <algorithm>
#include <random>
#include <set>

namespace vexfs::fs::test {
namespace {

TEST(FsDirectory, ListingSurvivesChanges) {
  TestFs t;
  auto root = t.root();
  std::set<std::string> stay;
  for (int i = 0; i < 3000; i++) {
    std::string name = "f" + std::to_string(i);
    t.must_make(*root, name);
    if (i % 3) stay.insert(name);
  }
  std::multiset<std::string> seen;
  u64 pos = 0;
  int made = 0, removed = 0;
  // Between any two entries others come and go; the core is entered from inside emit.
  ASSERT_TRUE(readdir(*root, pos, [&](const DirEntry &e) {
                seen.insert(S(e.name));
                if (made < 1000) t.must_make(*root, "new" + std::to_string(made++));
                if (removed < 3000) {
                  EXPECT_TRUE(unlink(*root, B("f" + std::to_string(removed)), TestFs::now()).ok());
                  removed += 3;
                }
                return true;
              }).ok());
  for (auto &n : stay) EXPECT_EQ(seen.count(n), 1u) << n;
  std::set<std::string> distinct(seen.begin(), seen.end());
  EXPECT_EQ(distinct.size(), seen.size());
  root.reset();
  EXPECT_TRUE(t.check());
}

TEST(FsDirectory, CookiesAreStableAcrossRemounts) {
  TestFs t;
  std::map<std::string, u64> cookies;
  {
    auto root = t.root();
    for (int i = 0; i < 500; i++) t.must_make(*root, std::to_string(i));
    u64 pos = 0;
    ASSERT_TRUE(readdir(*root, pos, [&](const DirEntry &e) {
                  EXPECT_GE(e.cookie, disk::kCookieFirst);
                  EXPECT_LE(e.cookie, disk::kCookieLast);
                  cookies[S(e.name)] = e.cookie;
                  return true;
                }).ok());
    EXPECT_GT(pos, disk::kCookieLast);
    EXPECT_EQ(cookies.size(), 500u);
  }
  t.remount();
  auto root = t.root();
  for (auto &[name, cookie] : cookies) {
    u64 pos = cookie;
    std::string first;
    ASSERT_TRUE(readdir(*root, pos, [&](const DirEntry &e) {
                  if (!first.empty()) return false;
                  first = S(e.name);
                  return true;
                }).ok());
    EXPECT_EQ(first, name);
    EXPECT_TRUE(pos > cookie);
  }
}

TEST(FsDirectory, OneMillionNames) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  constexpr int kNames = 100000;  // a million is for builds that are not ten times slower
#else
  constexpr int kNames = 1000000;
#endif
  TestFs t(FixtureOptions{.size = u64{2} << 30});
  auto root = t.root();
  auto d = t.mkdir(*root, "d");
  auto lap = [t0 = vx_clock_mono_ns()](const char *what, int n) mutable {
    printf("%-8s %8d: %.2f us each\n", what, n, static_cast<double>(vx_clock_mono_ns() - t0) / 1e3 / n);
    t0 = vx_clock_mono_ns();
  };
  for (int i = 0; i < kNames; i++) {
    auto r = t.make(*d, "file-" + std::to_string(i));
    ASSERT_TRUE(r.ok()) << i << ": " << static_cast<int>(r.code());
    if (i % 100000 == 99999) t.commit();
  }
  lap("create", kNames);
  std::mt19937 rng(3);
  for (int i = 0; i < 200000; i++) {
    ASSERT_TRUE(lookup(*d, B("file-" + std::to_string(rng() % kNames))).ok());
  }
  lap("lookup", 200000);
  for (int i = 0; i < 200000; i++) ASSERT_FALSE(lookup(*d, B("miss-" + std::to_string(i))).ok());
  lap("miss", 200000);
  std::vector<bool> seen(kNames);
  u64 pos = 0, count = 0;
  ASSERT_TRUE(readdir(*d, pos, [&](const DirEntry &e) {
                seen[static_cast<size_t>(atoi(S(e.name).c_str() + 5))] = true;
                count++;
                return true;
              }).ok());
  lap("readdir", kNames);
  EXPECT_EQ(count, static_cast<u64>(kNames));
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), kNames);
  EXPECT_EQ(d->attributes().entries, static_cast<u64>(kNames));
  for (int i = 0; i < kNames; i += 5) ASSERT_TRUE(unlink(*d, B("file-" + std::to_string(i)), TestFs::now()).ok());
  lap("unlink", kNames / 5);
  d.reset();
  root.reset();
  ASSERT_TRUE(t.check());
  lap("check", kNames);
  EXPECT_EQ(t.fs().inode_count(), 2u + kNames - kNames / 5);
}

}  // namespace
}  // namespace vexfs::fs::test
