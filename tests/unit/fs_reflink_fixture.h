// SPDX-License-Identifier: MIT
// A filesystem with files that share blocks, for the tests of that: cloning, counting, checking.
#pragma once
#include <algorithm>
#include <random>

#include "../../kernel/core/disk/refcount_items.h"
#include "fs_fixture.h"

namespace vexfs::fs::test {
inline constexpr u64 bs = 4096;

inline std::string noise(u64 n, u64 seed) {
  std::mt19937_64 rng(seed);
  std::string s(n, 0);
  for (auto &c : s) c = static_cast<char>(rng());
  return s;
}

struct Entry {
  u64 start, blocks, refs;
  bool operator==(const Entry &) const = default;
};

struct FsReflink : ::testing::Test {
  explicit FsReflink(FixtureOptions o = {}) : t(o), root(t.root()) {}
  ~FsReflink() override {
    root.reset();
    if (mounted) {
      EXPECT_TRUE(t.check());
    }
  }

  InodeRef file(const std::string &name, const std::string &data = "") {
    auto f = t.must_make(*root, name);
    if (!data.empty()) {
      EXPECT_EQ(t.write(*f, data), Errno::ok);
    }
    return f;
  }
  static Errno clone(Inode &src, u64 from, Inode &dst, u64 to, u64 len) {
    return clone_file(src, dst, {from, to, len, false}, TestFs::now()).code();
  }
  static Errno clone(Inode &src, Inode &dst) { return clone(src, 0, dst, 0, src.size()); }
  InodeRef cloned(Inode &src, const std::string &name) {
    auto f = t.must_make(*root, name);
    EXPECT_EQ(clone(src, *f), Errno::ok);
    return f;
  }
  Errno remove(const std::string &name) { return unlink(*root, B(name), TestFs::now()).code(); }
  std::vector<Entry> entries() {
    std::vector<Entry> all;
    EXPECT_TRUE(t.volume()
                    .tree(store::TreeId::refcounts)
                    .scan(store::Key::min(), store::Key::max(),
                          [&](const store::Key &k, Bytes b) {
                            disk::RefcountItem i;
                            EXPECT_EQ(disk::verify_refcount(b, k.oid, k.type, k.off, t.volume().geometry()), nullptr);
                            memcpy(&i, b.data(), sizeof i);
                            all.push_back({k.oid, i.blocks, i.refs});
                            return true;
                          })
                    .ok());
    return all;
  }
  std::vector<u64> refs() {
    std::vector<u64> all;
    for (const Entry &e : entries()) all.push_back(e.refs);
    return all;
  }
  static u64 disk_of(Inode &ip, u64 block) {
    MapOut m{};
    EXPECT_TRUE(map(ip, block * bs, bs, m).ok());
    return m.type == VX_MAP_MAPPED ? m.disk : 0;
  }
  // Data blocks in use: what the bitmaps say, less the nodes of trees.
  u64 used() {
    t.commit();
    t.commit();
    auto s = t.volume().space();
    return s.total - s.free - s.meta;
  }
  void remount() {
    root.reset();
    t.remount();
    root = t.root();
  }
  void crash() {
    root.reset();
    t.crash();
    root = t.root();
  }
  // fsck, with the volume closed meanwhile.
  TestFs::Report fsck() {
    root.reset();
    EXPECT_EQ(t.unmount(), Errno::ok);
    auto r = TestFs::check_device(&t.device());
    EXPECT_EQ(r.failure, Errno::ok);
    EXPECT_EQ(t.mount(), Errno::ok);
    root = t.root();
    return r;
  }
  ::testing::AssertionResult sound() {
    auto r = fsck();
    return r.errors ? ::testing::AssertionFailure() << r.text() : ::testing::AssertionSuccess();
  }
  // A host's writeback of whole blocks, in one go.
  void write_back(Inode &ip, u64 first, const std::string &data) {
    u64 end = first * bs + data.size();
    MapOut m;
    ASSERT_TRUE(map_reserve(ip, first * bs, data.size(), m).ok());
    for (u64 at = first * bs; at < end;) {
      ASSERT_TRUE(map_allocate(ip, at, end - at, false, m).ok());
      u64 n = std::min(m.len - (at - m.off), end - at);
      std::string piece = data.substr(at - first * bs, n);
      t.device().poke(m.disk + (at - m.off), piece.data(), n);
      auto sums = sums_of(B(piece));
      ASSERT_TRUE(write_done(ip, at, n, 0, 0, wants_sums(ip) ? sums.data() : nullptr).ok());
      at += n;
    }
  }

  TestFs t;
  InodeRef root;
  bool mounted = true;
};

}  // namespace vexfs::fs::test
