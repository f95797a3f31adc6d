// SPDX-License-Identifier: MIT
// What goes wrong: no memory at every allocation, no space at every point, I/O errors.
#include "fs_fixture.h"

#include <functional>

namespace vexfs::fs::test {
namespace {

// ------------------------------------------------------------------- memory
struct Named {
  const char *name;
  std::function<Errno(TestFs &, Inode &root)> run;
};

template <class T>
Errno code(const Result<T> &r) {
  return r.code();
}

// A write that stopped half way for lack of memory counts as that.
Errno put(Inode &ip, const std::string &data, u64 off) {
  auto r = write_file(ip, B(data), off, TestFs::now());
  return !r.ok() ? r.code() : *r < data.size() ? Errno::nomem : Errno::ok;
}

std::vector<Named> operations() {
  auto file = [](TestFs &t, Inode &root, const char *name) { return t.open(root, name); };
  return {
      {"create", [](TestFs &t, Inode &root) { return code(t.make(root, "new")); }},
      {"mkdir", [](TestFs &t, Inode &root) { return code(t.make(root, "newdir", disk::kModeDir | 0700)); }},
      {"symlink",
       [](TestFs &t, Inode &root) {
         return code(t.make(root, "newlink", disk::kModeLink | 0777, std::string(3000, 't')));
       }},
      {"tmpfile",
       [](TestFs &, Inode &root) {
         return code(create_tmpfile(root, NewInode{disk::kModeFile | 0600, 0, 0, 0, 0, {}}, TestFs::now()));
       }},
      {"link",
       [=](TestFs &t, Inode &root) { return code(link(root, B("hard"), *file(t, root, "small"), TestFs::now())); }},
      {"unlink", [](TestFs &, Inode &root) { return code(unlink(root, B("big"), TestFs::now())); }},
      {"rmdir", [](TestFs &, Inode &root) { return code(rmdir(root, B("empty"), TestFs::now())); }},
      {"rename",
       [=](TestFs &t, Inode &root) {
         return code(rename(root, B("small"), *file(t, root, "dir"), B("x"), 0, nullptr, TestFs::now()));
       }},
      {"rename over",
       [](TestFs &, Inode &root) { return code(rename(root, B("small"), root, B("big"), 0, nullptr, TestFs::now())); }},
      {"write small", [=](TestFs &t, Inode &root) { return put(*file(t, root, "small"), "xyz", 3); }},
      {"write out of inline",
       [=](TestFs &t, Inode &root) { return put(*file(t, root, "small"), std::string(9000, 'w'), 100); }},
      {"write big",
       [=](TestFs &t, Inode &root) { return put(*file(t, root, "big"), std::string(70000, 'w'), 150001); }},
      {"read",
       [=](TestFs &t, Inode &root) {
         u8 buf[5000];
         return code(read_file(*file(t, root, "big"), buf, 1000));
       }},
      {"truncate",
       [=](TestFs &t, Inode &root) { return code(truncate_file(*file(t, root, "big"), 777, TestFs::now())); }},
      {"truncate up",
       [=](TestFs &t, Inode &root) { return code(truncate_file(*file(t, root, "small"), 99999, TestFs::now())); }},
      {"fallocate",
       [=](TestFs &t, Inode &root) {
         return code(fallocate(*file(t, root, "big"), 0, 0, 1 << 20, 1 << 20, TestFs::now()));
       }},
      {"punch",
       [=](TestFs &t, Inode &root) {
         return code(fallocate(*file(t, root, "big"), VX_FALLOC_PUNCH, 4096, 8192, 0, TestFs::now()));
       }},
      {"delayed write",
       [=](TestFs &t, Inode &root) {
         auto f = file(t, root, "big");
         MapOut m;
         Status st = map_reserve(*f, 1 << 20, 65536, m);
         if (st.ok()) st = map_allocate(*f, (1 << 20) + 16384, 16384, false, m);
         if (st.ok()) {
           Status d = write_done(*f, m.off, m.len, 1 << 21, 0);
           if (!d.ok()) (void)write_done(*f, m.off, m.len, 0, d.to_c());
           st = std::move(d);
         }
         map_unreserve(*f, 1 << 20, 65536);
         return st.code();
       }},
      {"clone",
       [=](TestFs &t, Inode &root) {
         return code(
             clone_file(*file(t, root, "big"), *file(t, root, "target"), {0, 4096, 196608, false}, TestFs::now()));
       }},
      {"clone small",
       [=](TestFs &t, Inode &root) {
         return code(
             clone_file(*file(t, root, "small"), *file(t, root, "target"), {0, 65536, 10, false}, TestFs::now()));
       }},
      {"dedupe",
       [=](TestFs &t, Inode &root) {
         return code(clone_file(*file(t, root, "big"), *file(t, root, "copy"), {0, 0, 200000, true}, TestFs::now()));
       }},
      {"write over shared",
       [=](TestFs &t, Inode &root) { return put(*file(t, root, "twin"), std::string(70000, 'w'), 99); }},
      {"truncate shared",
       [=](TestFs &t, Inode &root) { return code(truncate_file(*file(t, root, "twin"), 777, TestFs::now())); }},
      {"unlink shared", [](TestFs &, Inode &root) { return code(unlink(root, B("twin"), TestFs::now())); }},
      {"setxattr",
       [=](TestFs &t, Inode &root) {
         return code(xattr_set(*file(t, root, "small"), B("user.y"), B(std::string(9000, 'y')), 0, TestFs::now()));
       }},
      {"getxattr",
       [=](TestFs &t, Inode &root) {
         std::vector<u8> buf(9000);
         return code(xattr_get(*file(t, root, "small"), B("user.x"), {buf.data(), buf.size()}));
       }},
      {"removexattr",
       [=](TestFs &t, Inode &root) { return code(xattr_remove(*file(t, root, "small"), B("user.x"), TestFs::now())); }},
      {"readdir",
       [](TestFs &, Inode &root) {
         u64 pos = 0;
         return code(readdir(root, pos, [](const DirEntry &) { return true; }));
       }},
      {"setattr",
       [=](TestFs &t, Inode &root) {
         Attributes a;
         a.mode = 0400;
         return code(set_attributes(*file(t, root, "small"), VX_SET_MODE, a));
       }},
      {"commit",
       [](TestFs &t, Inode &root) {
         root.touch([](Attributes &a) { a.mtime.sec++; });
         return code(t.fs().commit());
       }},
  };
}

void populate(TestFs &t) {
  auto root = t.root();
  TestFs::write(*t.must_make(*root, "small"), "small file");
  TestFs::write(*t.must_make(*root, "big"), std::string(200000, 'b'));
  TestFs::write(*t.must_make(*root, "copy"), std::string(200000, 'b'));
  TestFs::write(*t.must_make(*root, "target"), std::string(20000, 't'));
  EXPECT_TRUE(
      clone_file(*t.open(*root, "big"), *t.must_make(*root, "twin"), {0, 0, 200000, false}, TestFs::now()).ok());
  EXPECT_TRUE(xattr_set(*t.open(*root, "small"), B("user.x"), B(std::string(8000, 'x')), 0, TestFs::now()).ok());
  t.mkdir(*root, "dir");
  t.mkdir(*root, "empty");
}

// Every allocation fails once, in every operation. The operation says nomem, or does without; nothing leaks, nothing is
// damaged, and the filesystem goes on working.
TEST(FsFaults, EveryAllocationFailsOnce) {
  host::set_log_level(VX_LOG_ERR);
  for (auto &op : operations()) {
    int failures = 0;
    for (int n = 0;; n++) {
      ASSERT_LT(n, 2000) << op.name;
      auto before = host::alloc_stats().outstanding;
      bool injected = false;
      {
        TestFs t(FixtureOptions{.size = 16 << 20});
        populate(t);
        t.remount();
        auto root = t.root();
        std::vector<InodeRef> keep;
        for (const char *name : {"small", "big", "copy", "target", "twin", "dir", "empty"})
          keep.push_back(t.open(*root, name));
        host::fail_alloc_after(n);
        Errno e = op.run(t, *root);
        injected = host::alloc_failed();
        host::fail_alloc_after(-1);
        if (e != Errno::ok) {
          EXPECT_EQ(e, Errno::nomem) << op.name << ", allocation " << n;
          EXPECT_TRUE(injected) << op.name;
          failures++;
        }
        EXPECT_FALSE(t.volume().aborted()) << op.name << ", allocation " << n;
        keep.clear();
        // It can be done again, unless it was done.
        Errno again = op.run(t, *root);
        if (e != Errno::ok) {
          EXPECT_EQ(again, Errno::ok) << op.name << ", allocation " << n;
        }
        root.reset();
        ASSERT_TRUE(t.check()) << op.name << ", allocation " << n;
      }
      EXPECT_EQ(host::alloc_stats().outstanding, before) << op.name << ", allocation " << n << ": memory leaked";
      if (HasFailure()) return;
      if (!injected) break;
    }
    if (std::string(op.name) == "readdir") {
      EXPECT_GT(failures, 0);
    }
  }
}

TEST(FsFaults, EveryAllocationOfAMountFailsOnce) {
  TestFs t(FixtureOptions{.size = 16 << 20});
  populate(t);
  {
    auto root = t.root();
    auto big = t.open(*root, "big");
    ASSERT_TRUE(unlink(*root, B("big"), TestFs::now()).ok());
    t.commit();
    t.volume().abort(Errno::io);
  }
  (void)t.unmount();
  auto before = host::alloc_stats().outstanding;
  int n = 0;
  for (;; n++) {
    ASSERT_LT(n, 5000);
    auto copy = t.device().clone();  // with a file to be deleted by the mount
    t.use_device(copy.get());
    host::fail_alloc_after(n);
    Errno e = t.mount();
    bool injected = host::alloc_failed();
    host::fail_alloc_after(-1);
    if (e == Errno::ok) {
      ASSERT_EQ(t.unmount(), Errno::ok);
    } else {
      EXPECT_EQ(e, Errno::nomem);
    }
    ASSERT_EQ(host::alloc_stats().outstanding, before) << "allocation " << n;
    t.use_device(nullptr);
    auto r = TestFs::check_device(copy.get());
    ASSERT_EQ(r.errors, 0u) << "allocation " << n << "\n" << r.text();
    if (!injected) break;
  }
  EXPECT_GT(n, 10);
  ASSERT_EQ(t.mount(), Errno::ok);
  EXPECT_TRUE(t.check());
}

// -------------------------------------------------------------------- space
TEST(FsFaults, FullDiskCanBeEmptiedAndFilledAgain) {
  TestFs t(FixtureOptions{.size = 24 << 20});
  u64 written[2];
  for (int round = 0; round < 2; round++) {
    auto root = t.root();
    written[round] = 0;
    int files = 0;
    for (bool full = false; !full && files < 10000; files++) {
      auto f = t.make(*root, "f" + std::to_string(files));
      if (!f.ok()) {
        EXPECT_EQ(f.code(), Errno::nospc);
        break;
      }
      auto w = write_file(**f, B(std::string(300000, 'x')), 0, TestFs::now());
      if (w.ok()) written[round] += *w;
      full = !w.ok() || *w < 300000;
      if (!w.ok()) {
        EXPECT_EQ(w.code(), Errno::nospc);
      }
    }
    // Names alone need no data blocks: fill up what is left of the space for metadata too.
    int more = 0;
    for (; more < 200000; more++) {
      auto f = t.make(*root, "m" + std::to_string(more));
      if (!f.ok()) {
        EXPECT_EQ(f.code(), Errno::nospc) << more;
        break;
      }
    }
    EXPECT_LT(more, 200000);
    printf("round %d: %d files, %llu bytes, then %d names\n", round, files,
           static_cast<unsigned long long>(written[round]), more);
    t.commit();
    // At 100 %: everything that frees must work.
    for (int i = 0; i < files; i += 2) (void)truncate_file(*t.open(*root, "f" + std::to_string(i)), 0, TestFs::now());
    for (auto &name : TestFs::list(*root)) {
      Errno e = unlink(*root, B(name), TestFs::now()).code();
      ASSERT_EQ(e, Errno::ok) << name;
    }
    root.reset();
    ASSERT_TRUE(t.check());
  }
  EXPECT_GT(written[0], u64{12} << 20);
  EXPECT_GE(written[1] + (1 << 20), written[0]);
}

TEST(FsFaults, DelayedWritesNeverLackSpaceLater) {
  TestFs t(FixtureOptions{.size = 24 << 20});
  auto root = t.root();
  auto f = t.must_make(*root, "f");
  u64 got = 0;
  MapOut m;
  while (map_reserve(*f, got * 8192, 4096, m).ok()) got++;  // every other block: the worst for the mapping
  EXPECT_EQ(map_reserve(*f, got * 8192, 4096, m).code(), Errno::nospc);
  EXPECT_GT(got, 2000u);
  EXPECT_EQ(t.make(*root, "other").code(), Errno::nospc);
  for (u64 i = 0; i < got; i++) {
    Status a = map_allocate(*f, i * 8192, 4096, false, m);
    ASSERT_TRUE(a.ok()) << i << " of " << got << ": " << static_cast<int>(a.code());
    Status d = write_done(*f, i * 8192, 4096, i * 8192 + 4096, 0);
    ASSERT_TRUE(d.ok()) << i << " of " << got << ": " << static_cast<int>(d.code());
  }
  EXPECT_TRUE(t.fs().commit().ok());
  EXPECT_EQ(f->attributes().blocks, got);
  f.reset();
  root.reset();
  EXPECT_TRUE(t.check());
}

// ---------------------------------------------------------------------- I/O
TEST(FsFaults, WriteErrorsDoNotDamage) {
  TestFs t(FixtureOptions{.size = 16 << 20});
  populate(t);
  ASSERT_EQ(t.unmount(), Errno::ok);
  for (int n = 0; n < 40; n++) {
    auto copy = t.device().clone();
    host::FaultDevice faulty(copy.get());
    t.use_device(&faulty);
    ASSERT_EQ(t.mount(), Errno::ok);
    faulty.fail_after(host::FaultDevice::Kind::write, n, -EIO);
    {
      auto root = t.root();
      for (int i = 0; i < 5; i++) {
        auto f = t.make(*root, "n" + std::to_string(i));
        if (f.ok()) (void)write_file(**f, B(std::string(50000, 'n')), 0, TestFs::now());
        (void)unlink(*root, B("big"), TestFs::now());
        (void)t.fs().commit();
      }
    }
    faulty.clear();
    (void)t.unmount();
    t.use_device(nullptr);
    auto r = TestFs::check_device(copy.get());
    EXPECT_EQ(r.errors, 0u) << "write " << n << "\n" << r.text();
  }
  ASSERT_EQ(t.mount(), Errno::ok);
}

}  // namespace
}  // namespace vexfs::fs::test
