// SPDX-License-Identifier: MIT
// Files that share blocks beside snapshots: what a snapshot keeps, what a rollback brings back, and what is free at the end.
#include <map>

#include "fs_reflink_fixture.h"

namespace vexfs::fs::test {
namespace {

struct FsReflinkSnapshots : FsReflink {
  u64 snapshot(const std::string &name) {
    auto id = t.fs().snapshot_create(B(name));
    EXPECT_TRUE(id.ok());
    return id.ok() ? *id : 0;
  }
  void reclaim() {
    for (;;) {
      auto more = t.volume().snapshot_reclaim(100);
      ASSERT_TRUE(more.ok());
      if (!*more) return;
    }
  }
  void drop(const std::string &name) {
    auto id = t.volume().snapshot_find(B(name));
    ASSERT_TRUE(id.ok()) << name;
    ASSERT_TRUE(t.volume().snapshot_delete(*id).ok()) << name;
    reclaim();
  }
  // Leaves that lie between the files before and those to come.
  void far_away() {
    auto dir = t.mkdir(*root, "many" + std::to_string(++many));
    for (int i = 0; i < 300; i++) t.must_make(*dir, "file with a longer name " + std::to_string(i)).reset();
  }
  int many = 0;
  void drop_all() {
    store::SnapshotInfo info;
    while (t.volume().snapshot_next(1, &info).ok()) drop(info.name);
  }
  std::string read_in(const std::string &snapshot, const std::string &name) {
    auto v = t.volume().open_snapshot(*t.volume().snapshot_find(B(snapshot)), {});
    EXPECT_TRUE(v.ok());
    auto f = Filesystem::open(**v, {});
    EXPECT_TRUE(f.ok());
    auto top = (*f)->get((*f)->root_ino());
    auto ino = lookup(**top, B(name));
    if (!ino.ok()) return "<none>";
    return TestFs::read(**(*f)->get(*ino));
  }
  void roll_back(const std::string &name) {
    ASSERT_TRUE(t.volume().rollback_request(*t.volume().snapshot_find(B(name))).ok());
    remount();
  }
};

TEST_F(FsReflinkSnapshots, BeforeAndAfter) {
  u64 before = used();
  std::string data = noise(60 * bs, 22), piece = noise(10 * bs, 23);
  {
    auto a = file("a", data);
    snapshot("one");
    auto b = cloned(*a, "b");
    snapshot("two");
    ASSERT_EQ(t.write(*a, piece, bs), Errno::ok);
    ASSERT_EQ(t.write(*b, piece, 30 * bs), Errno::ok);
    EXPECT_EQ(read_in("two", "a"), data);
    EXPECT_EQ(read_in("two", "b"), data);
    ASSERT_TRUE(truncate_file(*a, 20 * bs, TestFs::now()).ok());
  }
  EXPECT_TRUE(sound());
  EXPECT_EQ(remove("b"), Errno::ok);
  EXPECT_EQ(read_in("one", "b"), "<none>");
  EXPECT_EQ(read_in("two", "b"), data);
  EXPECT_TRUE(sound());
  drop("one");
  EXPECT_EQ(read_in("two", "a"), data);
  EXPECT_TRUE(sound());
  EXPECT_EQ(remove("a"), Errno::ok);
  drop("two");
  EXPECT_TRUE(sound());
  EXPECT_EQ(used(), before);
}

// References in nodes that both states share keep blocks alive, which the walk over what differs does not see.
TEST_F(FsReflinkSnapshots, RollbackCountsReferences) {
  u64 before = used();
  std::string kept = noise(30 * bs, 24), mine = noise(20 * bs, 25);
  far_away();  // so that what comes before and behind is in other leaves
  {
    auto a = file("a", kept);
    cloned(*a, "b").reset();
    far_away();
    file("alone", mine).reset();
    ASSERT_EQ(clone(*t.open(*root, "alone"), 0, *t.open(*root, "b"), 40 * bs, 10 * bs), Errno::ok);
  }
  far_away();
  snapshot("good");
  u64 good = used();
  {
    auto c = cloned(*t.open(*root, "b"), "c");  // shares with what stays
    auto d = file("d", noise(50 * bs, 26));     // goes, with its clones
    auto e = cloned(*d, "e"), f = t.must_make(*root, "f");
    ASSERT_EQ(clone(*d, 10 * bs, *f, 0, 20 * bs), Errno::ok);
    ASSERT_EQ(clone(*c, 5 * bs, *f, 20 * bs, 25 * bs), Errno::ok);
  }
  ASSERT_EQ(remove("alone"), Errno::ok);  // lives again, in part only by its own reference
  EXPECT_TRUE(sound());
  roll_back("good");
  EXPECT_EQ(t.read(*t.open(*root, "a")), kept);
  EXPECT_EQ(t.read(*t.open(*root, "alone")), mine);
  EXPECT_TRUE(sound()) << "before blocks are noted";
  reclaim();
  EXPECT_TRUE(sound()) << "after";
  drop_all();
  EXPECT_TRUE(sound());
  EXPECT_EQ(used(), good);
  EXPECT_EQ(t.read(*t.open(*root, "a")), kept);
  EXPECT_EQ(t.read(*t.open(*root, "b"), 0, 30 * bs), kept);
  for (const char *n : {"a", "b", "alone"}) EXPECT_EQ(remove(n), Errno::ok);
  EXPECT_EQ(entries().size(), 0u);
  EXPECT_EQ(used(), before);
}

TEST_F(FsReflinkSnapshots, RandomWithRollbacks) {
  for (u64 seed = 1; seed <= 6; seed++) {
    std::mt19937_64 rng(seed);
    auto pick = [&rng](u64 n) { return rng() % n; };
    std::vector<std::string> now(5);
    std::map<std::string, std::vector<std::string>> states;
    for (u64 i = 0; i < now.size(); i++) {
      far_away();
      file("r" + std::to_string(i)).reset();
    }
    for (int step = 0; step < 250; step++) {
      u64 i = pick(5), j = pick(5);
      {
        auto a = t.open(*root, "r" + std::to_string(i)), b = t.open(*root, "r" + std::to_string(j));
        std::string &x = now[i], &y = now[j];
        u64 what = pick(10);
        if (what < 3) {
          u64 off = pick(60) * bs + (pick(2) ? pick(bs) : 0);
          std::string piece = noise(1 + pick(20 * bs), rng());
          ASSERT_EQ(t.write(*a, piece, off), Errno::ok);
          if (x.size() < off + piece.size()) x.resize(off + piece.size());
          x.replace(off, piece.size(), piece);
        } else if (what < 8 && !x.empty()) {
          u64 from = pick(x.size() / bs + 1) * bs, to = pick(80) * bs, len = x.size() - std::min<u64>(from, x.size());
          if (pick(2) || to + len < y.size()) len = std::min(len, (1 + pick(15)) * bs) / bs * bs;
          if (len == 0 || (i == j && from < to + len && to < from + len)) continue;
          if (i == j && len % bs) continue;
          ASSERT_EQ(clone(*a, from, *b, to, len), Errno::ok) << seed << " " << step;
          std::string piece = x.substr(from, len);
          if (y.size() < to + len) y.resize(to + len);
          y.replace(to, len, piece);
        } else if (what == 8) {
          u64 size = pick(x.size() + 1);
          ASSERT_TRUE(truncate_file(*a, size, TestFs::now()).ok());
          x.resize(size);
        } else {
          u64 from = pick(40) * bs, len = (1 + pick(20)) * bs;
          ASSERT_TRUE(fallocate(*a, VX_FALLOC_PUNCH | VX_FALLOC_KEEP_SIZE, from, len, 0, TestFs::now()).ok());
          for (u64 p = from; p < std::min<u64>(x.size(), from + len); p++) x[p] = 0;
        }
      }
      u64 event = pick(60);
      if (event == 0) {
        std::string name = "s" + std::to_string(step);
        snapshot(name);
        states[name] = now;
      } else if (event == 1 && !states.empty()) {
        auto it = std::next(states.begin(), static_cast<long>(pick(states.size())));
        roll_back(it->first);
        now = it->second;
        if (pick(2)) reclaim();
      } else if (event == 2 && !states.empty()) {
        auto it = std::next(states.begin(), static_cast<long>(pick(states.size())));
        reclaim();
        drop(it->first);
        states.erase(it);
      } else if (event == 3) {
        ASSERT_TRUE(sound()) << seed << " " << step;
      }
      for (u64 k = 0; k < now.size(); k++)
        ASSERT_TRUE(t.read(*t.open(*root, "r" + std::to_string(k))) == now[k]) << seed << " " << step << " " << k;
    }
    for (auto &[name, files] : states)
      for (u64 k = 0; k < files.size(); k++) EXPECT_EQ(read_in(name, "r" + std::to_string(k)), files[k]);
    ASSERT_TRUE(sound()) << seed;
    for (u64 k = 0; k < now.size(); k++) EXPECT_EQ(remove("r" + std::to_string(k)), Errno::ok);
    reclaim();
    drop_all();
    ASSERT_TRUE(sound()) << seed;
    EXPECT_EQ(entries().size(), 0u);
  }
}

}  // namespace
}  // namespace vexfs::fs::test
