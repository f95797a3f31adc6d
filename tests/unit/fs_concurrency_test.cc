// SPDX-License-Identifier: MIT
// Many threads at once, with commits in between: nothing races (ThreadSanitizer), nothing hangs, and what is left is
// sound and is what the successful calls say.
#include "fs_fixture.h"

#include <atomic>
#include <random>
#include <thread>

namespace vexfs::fs::test {
namespace {

unsigned scale() {  // sanitizers make everything slower by an order of magnitude
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  return 1;
#else
  return 6;
#endif
}

// Another one by --gtest_random_seed=N.
unsigned seed() { return 1000 * static_cast<unsigned>(::testing::UnitTest::GetInstance()->random_seed()); }

struct Threads {
  std::vector<std::thread> all;
  template <class F>
  void start(unsigned n, F f) {
    for (unsigned i = 0; i < n; i++) all.emplace_back(f, i);
  }
  void join() {
    for (auto &t : all) t.join();
  }
};

// Everybody in the same few directories, with the same few names.
TEST(FsConcurrency, NamesOfSharedDirectories) {
  TestFs t(FixtureOptions{.size = 128 << 20, .commit_interval_ms = 20});
  std::vector<InodeRef> dirs;
  dirs.push_back(t.root());
  for (int i = 0; i < 3; i++) dirs.push_back(t.mkdir(*dirs[0], "d" + std::to_string(i)));
  dirs.push_back(t.mkdir(*dirs[1], "deep"));
  std::atomic<s64> made{0}, removed{0};
  std::atomic<int> strange{0};
  Threads threads;
  threads.start(4, [&](unsigned id) {
    std::mt19937 rng(seed() + id + 1);
    for (unsigned i = 0; i < 3000 * scale(); i++) {
      Inode &a = *dirs[rng() % dirs.size()], &b = *dirs[rng() % dirs.size()];
      std::string n = "x" + std::to_string(rng() % 12), m = "x" + std::to_string(rng() % 12);
      Errno e = Errno::ok;
      switch (rng() % 10) {
        case 0:
        case 1:
        case 2: {
          auto r = t.make(a, n, rng() % 4 ? disk::kModeFile | 0644 : disk::kModeDir | 0755);
          made += r.ok();
          e = r.code();
          break;
        }
        case 3:
          e = unlink(a, B(n), TestFs::now()).code();
          break;
        case 4:
          e = rmdir(a, B(n), TestFs::now()).code();
          break;
        case 5:
        case 6:
          e = rename(a, B(n), b, B(m), rng() % 5 ? 0 : VX_RENAME_EXCHANGE, nullptr, TestFs::now()).code();
          break;
        case 7: {
          auto ino = lookup(a, B(n));
          if (ino.ok()) {
            auto ip = t.fs().get(*ino);
            e = ip.code();
            if (ip.ok() && (*ip)->is_file()) e = link(b, B(m), **ip, TestFs::now()).code();
          }
          break;
        }
        case 8: {
          u64 pos = 0;
          e = readdir(a, pos, [](const DirEntry &) { return true; }).code();
          break;
        }
        default:
          e = lookup(a, B(n)).code();
      }
      switch (e) {
        case Errno::ok:
        case Errno::noent:
        case Errno::exist:
        case Errno::isdir:
        case Errno::notdir:
        case Errno::notempty:
        case Errno::inval:
        case Errno::stale:
          break;
        default:
          strange = static_cast<int>(e);
      }
    }
  });
  threads.join();
  EXPECT_EQ(strange.load(), 0) << "an error that none of these calls may return";
  EXPECT_FALSE(t.volume().read_only());
  dirs.clear();
  EXPECT_TRUE(t.check());
}

// Renames of directories across each other, so that loops would come about if nobody looked.
TEST(FsConcurrency, DirectoriesMoveAcrossEachOther) {
  TestFs t(FixtureOptions{.size = 64 << 20});
  auto root = t.root();
  std::vector<InodeRef> dirs;
  for (int i = 0; i < 6; i++) dirs.push_back(t.mkdir(*root, "d" + std::to_string(i)));
  std::atomic<u64> moved{0};
  Threads threads;
  threads.start(4, [&](unsigned id) {
    std::mt19937 rng(seed() + id + 77);
    for (unsigned i = 0; i < 1500 * scale(); i++) {
      Inode &to = rng() % 3 ? *dirs[rng() % dirs.size()] : *root;
      unsigned which = rng() % dirs.size();
      auto parent = t.fs().get(dirs[which]->attributes().parent);
      if (!parent.ok()) continue;
      std::string name = "d" + std::to_string(which);
      moved += rename(**parent, B(name), to, B(name), 0, nullptr, TestFs::now()).ok();
    }
  });
  threads.join();
  EXPECT_GT(moved.load(), 100u);
  dirs.clear();
  root.reset();
  EXPECT_TRUE(t.check());
}

TEST(FsConcurrency, DataOfSharedFiles) {
  TestFs t(FixtureOptions{.size = 256 << 20, .commit_interval_ms = 10});
  auto root = t.root();
  std::vector<InodeRef> files;
  for (int i = 0; i < 4; i++) files.push_back(t.must_make(*root, "f" + std::to_string(i)));
  std::atomic<int> torn{0}, strange{0};
  Threads threads;
  threads.start(4, [&](unsigned id) {
    std::mt19937 rng(seed() + id + 5);
    std::string buf(12000, 0);
    for (unsigned i = 0; i < 600 * scale(); i++) {
      Inode &f = *files[rng() % files.size()];
      u64 off = rng() % 20 * 4000;
      Errno e = Errno::ok;
      switch (rng() % 8) {
        case 0:
        case 1:
        case 2: {
          std::string data(1 + rng() % 9000, static_cast<char>('a' + id));
          e = write_file(f, B(data), off, TestFs::now()).code();
          break;
        }
        case 3:
        case 4: {
          auto r = read_file(f, {reinterpret_cast<u8 *>(buf.data()), buf.size()}, off);
          e = r.code();
          for (usize k = 0; r.ok() && k < *r; k++) torn += buf[k] != 0 && (buf[k] < 'a' || buf[k] > 'd');
          break;
        }
        case 5:
          e = truncate_file(f, rng() % 60000, TestFs::now()).code();
          break;
        case 6: {
          // What the kernel does by its own locks: nobody reads blocks that are about to be somebody else's.
          const Guard io(t.fs().io_lock(f.ino()));
          e = fallocate(f, rng() % 2 ? VX_FALLOC_PUNCH | VX_FALLOC_KEEP_SIZE : VX_FALLOC_KEEP_SIZE, rng() % 20 * 4096,
                        8 * 4096, 0, TestFs::now())
                  .code();
          break;
        }
        default: {
          MapOut m;
          e = map_reserve(f, rng() % 40 * 4096, 16384, m).code();
          if (rng() % 2) map_unreserve(f, 0, 44 * 4096);
          (void)f.attributes();
        }
      }
      if (e == Errno::ok && i % 97 == 0) e = t.fs().commit().code();
      if (e != Errno::ok) strange = static_cast<int>(e);
    }
  });
  threads.join();
  EXPECT_EQ(torn.load(), 0);
  EXPECT_EQ(strange.load(), 0);
  for (auto &f : files) map_unreserve(*f, 0, 100 * 4096);
  files.clear();
  root.reset();
  EXPECT_TRUE(t.check());
}

// The inode table: the same numbers loaded, dropped, deleted by everybody.
TEST(FsConcurrency, InodesComeAndGo) {
  TestFs t(FixtureOptions{.size = 64 << 20});
  auto root = t.root();
  std::atomic<u64> newest{2};
  std::atomic<int> strange{0};
  Threads threads;
  threads.start(4, [&](unsigned id) {
    std::mt19937 rng(seed() + id + 9);
    for (unsigned i = 0; i < 4000 * scale(); i++) {
      std::string n = "t" + std::to_string(id) + "-" + std::to_string(rng() % 8);
      if (rng() % 3 == 0) {
        auto r = t.make(*root, n);
        if (r.ok()) newest = (*r)->ino();
      } else if (rng() % 3 == 0) {
        (void)unlink(*root, B(n), TestFs::now());
      } else {
        auto ip = t.fs().get(newest.load() - rng() % 30);
        if (ip.ok()) {
          (*ip)->touch([](Attributes &a) { a.atime.sec++; });
          strange += (*ip)->attributes().nlink > 2 && !(*ip)->is_dir();
        } else {
          strange += ip.code() != Errno::noent && ip.code() != Errno::stale;
        }
      }
      if (i % 500 == 0) (void)t.fs().commit();
    }
  });
  threads.join();
  EXPECT_EQ(strange.load(), 0);
  root.reset();
  EXPECT_TRUE(t.check());
}

}  // namespace
}  // namespace vexfs::fs::test
