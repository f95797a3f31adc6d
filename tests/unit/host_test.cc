// SPDX-License-Identifier: MIT
// The userspace host: checksums against the published vectors, locks and epochs under threads, memory accounting and
// injected failures, devices and their errors.
#include "../../lib/host.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <thread>
#include <vector>

#include "../../lib/device.h"

namespace vexfs::host {
namespace {

// ---------------------------------------------------------------- checksums
uint32_t crc_by_bits(uint32_t c, const unsigned char *p, size_t n) {
  for (; n; n--, p++) {
    c ^= *p;
    for (int i = 0; i < 8; i++) c = (c >> 1) ^ ((c & 1) ? 0x82f63b78u : 0);
  }
  return c;
}

TEST(HostCrc32c, PublishedVectors) {  // RFC 3720, appendix B.4
  auto crc = [](const std::vector<unsigned char> &b) { return ~vx_crc32c(~0u, b.data(), b.size()); };
  std::vector<unsigned char> up(32);
  for (int i = 0; i < 32; i++) up[static_cast<size_t>(i)] = static_cast<unsigned char>(i);
  EXPECT_EQ(crc(std::vector<unsigned char>(32, 0)), 0x8a9136aau);
  EXPECT_EQ(crc(std::vector<unsigned char>(32, 0xff)), 0x62a8ab43u);
  EXPECT_EQ(crc(up), 0x46dd794eu);
  EXPECT_EQ(~vx_crc32c(~0u, "123456789", 9), 0xe3069283u);
  EXPECT_EQ(vx_crc32c(77, "", 0), 77u);
}

TEST(HostCrc32c, HardwareSoftwareAndBitwiseAgree) {
  std::vector<unsigned char> b(20000);
  seed_random(7);
  vx_random_bytes(b.data(), b.size());
  unseed_random();
  std::vector<size_t> lengths{4079, 4080, 4081, 8159, 8160, 12240, 16384, 19990};
  for (size_t n = 0; n < 100; n++) lengths.push_back(n);
  for (size_t at : {0u, 1u, 3u, 8u})
    for (size_t n : lengths) {
      limit_cpu_features(~0u);
      const uint32_t hard = vx_crc32c(0x12345678, b.data() + at, n);
      limit_cpu_features(0);
      const uint32_t soft = vx_crc32c(0x12345678, b.data() + at, n);
      limit_cpu_features(~0u);
      ASSERT_EQ(hard, soft) << n;
      ASSERT_EQ(soft, crc_by_bits(0x12345678, b.data() + at, n)) << n;
    }
}

// -------------------------------------------------------------------- locks
struct Counted {
  vx_rwsem s;
  int64_t value = 0;
  Counted() { vx_rwsem_init(&s, "test"); }
  ~Counted() { vx_rwsem_destroy(&s); }
};

TEST(HostLocks, WritersExcludeAndDowngradeKeepsTheState) {
  Counted c;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++)
    threads.emplace_back([&c] {
      for (int i = 0; i < 3000; i++) {
        vx_write_lock(&c.s, 0);
        const int64_t mine = ++c.value;
        vx_write_downgrade(&c.s);
        EXPECT_EQ(c.value, mine);  // no other writer came in between
        vx_read_unlock(&c.s);
        vx_read_lock(&c.s, 0);
        EXPECT_GE(c.value, mine);
        vx_read_unlock(&c.s);
      }
    });
  for (auto &t : threads) t.join();
  EXPECT_EQ(c.value, 12000);
}

TEST(HostLocks, TryLocks) {
  Counted c;
  auto elsewhere = [](auto f) {
    bool got = false;
    std::thread([&] { got = f(); }).join();
    return got;
  };
  vx_read_lock(&c.s, 0);
  EXPECT_TRUE(elsewhere([&] { return vx_read_trylock(&c.s) && (vx_read_unlock(&c.s), true); }));
  EXPECT_FALSE(elsewhere([&] { return vx_write_trylock(&c.s, 0); }));
  vx_read_unlock(&c.s);
  EXPECT_TRUE(elsewhere([&] { return vx_write_trylock(&c.s, 0) && (vx_write_unlock(&c.s), true); }));
  vx_write_lock(&c.s, 0);
  EXPECT_FALSE(elsewhere([&] { return vx_read_trylock(&c.s); }));
  EXPECT_FALSE(elsewhere([&] { return vx_write_trylock(&c.s, 0); }));
  vx_write_downgrade(&c.s);
  EXPECT_TRUE(elsewhere([&] { return vx_read_trylock(&c.s) && (vx_read_unlock(&c.s), true); }));
  vx_read_unlock(&c.s);

  vx_mutex m;
  vx_mutex_init(&m, "test");
  vx_mutex_lock(&m);
  EXPECT_FALSE(elsewhere([&] { return vx_mutex_trylock(&m); }));
  vx_mutex_unlock(&m);
  EXPECT_TRUE(vx_mutex_trylock(&m));
  vx_mutex_unlock(&m);
  vx_mutex_destroy(&m);
}

TEST(HostLocksDeathTest, SleepingUnderASpinlockIsCaught) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        vx_spin s;
        vx_spin_init(&s, "test");
        vx_spin_lock(&s);
        vx_free(vx_alloc(8, 0));
      },
      "vx_alloc may sleep");
  EXPECT_DEATH(
      {
        vx_fpu_begin();
        vx_yield();
      },
      "FPU depth 1");
}

TEST(HostWait, WakesAndTimesOut) {
  vx_waitq q;
  vx_waitq_init(&q, "test");
  std::atomic<int> turn{0};
  auto odd = [](void *p) -> vx_bool { return static_cast<std::atomic<int> *>(p)->load() % 2 == 1; };
  auto even = [](void *p) -> vx_bool { return static_cast<std::atomic<int> *>(p)->load() % 2 == 0; };
  std::thread other([&] {
    for (int i = 0; i < 2000; i++) {
      ASSERT_EQ(vx_wait(&q, odd, &turn, -1), 0);
      turn++;
      vx_wake(&q);
    }
  });
  for (int i = 0; i < 2000; i++) {
    ASSERT_EQ(vx_wait(&q, even, &turn, 60000), 0);
    turn++;
    vx_wake(&q);
  }
  other.join();
  EXPECT_EQ(turn, 4000);
  const uint64_t before = vx_clock_mono_ns();
  EXPECT_EQ(vx_wait(&q, odd, &turn, 20), -ETIMEDOUT);
  EXPECT_GE(vx_clock_mono_ns() - before, 19'000'000u);
  EXPECT_EQ(vx_wait(&q, odd, &turn, 0), -ETIMEDOUT);
  vx_waitq_destroy(&q);
}

TEST(HostEpoch, NothingIsFreedUnderAReader) {
  vx_epoch e;
  ASSERT_EQ(vx_epoch_init(&e), 0);
  std::atomic<int *> shared{new int(1)};
  std::atomic<bool> stop{false};
  std::vector<std::thread> readers;
  for (int t = 0; t < 3; t++)
    readers.emplace_back([&] {
      while (!stop) {
        const int token = vx_epoch_enter(&e);
        const int *p = shared.load(std::memory_order_acquire);
        for (int i = 0; i < 20; i++) ASSERT_EQ(*static_cast<const volatile int *>(p), 1);
        vx_epoch_leave(&e, token);
      }
    });
  for (int i = 0; i < 300; i++) {
    int *old = shared.exchange(new int(1));
    vx_epoch_synchronize(&e);
    *old = 0;
    delete old;
  }
  stop = true;
  for (auto &t : readers) t.join();
  delete shared.load();
  vx_epoch_destroy(&e);
}

TEST(HostEpoch, SynchronizeWaitsForTheOpenSectionOnly) {
  vx_epoch e;
  ASSERT_EQ(vx_epoch_init(&e), 0);
  const int token = vx_epoch_enter(&e);
  std::atomic<bool> done{false};
  std::thread waiter([&] {
    vx_epoch_synchronize(&e);
    done = true;
  });
  usleep(20000);
  EXPECT_FALSE(done);
  vx_epoch_leave(&e, token);
  waiter.join();
  EXPECT_TRUE(done);
  vx_epoch_destroy(&e);
}

TEST(HostThread, RunsAndJoins) {
  std::atomic<int> n{0};
  vx_thread *t = nullptr;
  ASSERT_EQ(vx_thread_start(
                &t, "a-name-longer-than-fifteen", [](void *p) { (*static_cast<std::atomic<int> *>(p))++; }, &n),
            0);
  vx_thread_join(t);
  EXPECT_EQ(n, 1);
}

// ------------------------------------------------------------------- memory
TEST(HostMemory, AlignmentZeroingAndAccounts) {
  const AllocStats before = alloc_stats();
  for (size_t n : {size_t{0}, size_t{1}, size_t{64}, size_t{4095}, size_t{4096}, size_t{1} << 20, size_t{5} << 20}) {
    auto *p = static_cast<unsigned char *>(vx_alloc_large(n, VX_ALLOC_ZERO));
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0u);
    if (n >= 4096) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 4096, 0u);
    }
    for (size_t i = 0; i < n; i += 97) ASSERT_EQ(p[i], 0);
    EXPECT_EQ(alloc_stats().large_bytes, before.large_bytes + static_cast<int64_t>(n));
    vx_free_large(p, n);
  }
  void *p = vx_alloc(100, VX_ALLOC_ZERO);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 16, 0u);
  EXPECT_EQ(alloc_stats().outstanding, before.outstanding + 1);
  vx_free(p);
  vx_free(nullptr);
  vx_free_large(nullptr, 5);
  EXPECT_EQ(alloc_stats().outstanding, before.outstanding);
  EXPECT_EQ(alloc_stats().large_bytes, before.large_bytes);
  EXPECT_EQ(vx_alloc_large(SIZE_MAX - 10, 0), nullptr);
}

TEST(HostMemory, InjectedFailures) {
  auto pattern = [](int64_t n, bool keep) {
    fail_alloc_after(n, keep);
    std::string s;
    for (int i = 0; i < 5; i++) {
      void *p = vx_alloc(8, 0);
      s += p ? 'y' : 'n';
      vx_free(p);
    }
    s += alloc_failed() ? '!' : '.';
    fail_alloc_after(-1);
    return s;
  };
  EXPECT_EQ(pattern(0, false), "nyyyy!");
  EXPECT_EQ(pattern(2, false), "yynyy!");
  EXPECT_EQ(pattern(2, true), "yynnn!");
  EXPECT_EQ(pattern(9, false), "yyyyy.");
  EXPECT_EQ(pattern(-1, true), "yyyyy.");
}

TEST(HostFault, SitesFireAsArmed) {
  EXPECT_FALSE(vx_fault("a"));
  arm_fault("a", 2, 1);
  EXPECT_FALSE(vx_fault("b"));
  std::string s;
  for (int i = 0; i < 5; i++) s += vx_fault("a") ? 'x' : '.';
  EXPECT_EQ(s, "..x..");
  EXPECT_EQ(fault_hits("a"), 5u);
  arm_fault("a", 0, -1);
  EXPECT_TRUE(vx_fault("a") && vx_fault("a"));
  disarm_faults();
  EXPECT_FALSE(vx_fault("a"));
}

// ------------------------------------------------------------ random, clock
TEST(HostRandom, SeededStreamsRepeat) {
  unsigned char a[100];
  unsigned char b[100];
  seed_random(5);
  vx_random_bytes(a, sizeof a);
  seed_random(5);
  vx_random_bytes(b, sizeof b);
  EXPECT_EQ(memcmp(a, b, sizeof a), 0);
  unseed_random();
  vx_random_bytes(b, sizeof b);
  EXPECT_NE(memcmp(a, b, sizeof a), 0);
  EXPECT_GT(std::set<unsigned char>(a, a + 100).size(), 50u);
}

TEST(HostClock, CanBeFixed) {
  vx_s64 sec;
  vx_u32 nsec;
  fix_clock(123, 456);
  vx_clock_real(&sec, &nsec);
  EXPECT_EQ(sec, 123);
  EXPECT_EQ(nsec, 456u);
  unfix_clock();
  vx_clock_real(&sec, &nsec);
  EXPECT_GT(sec, 1700000000);
  EXPECT_LT(nsec, 1000000000u);
}

TEST(HostLog, HookTakesEverything) {
  std::vector<std::string> lines;
  set_log_hook([&](vx_bdev *d, int level, const char *line) {
    lines.push_back(std::to_string(level) + (d ? d->name() : "-") + line);
  });
  MemDevice dev(1 << 20, 512, "m");
  vx_log(&dev, VX_LOG_ERR, "bad");
  vx_log(nullptr, VX_LOG_DEBUG, "fine");
  set_log_hook({});
  EXPECT_EQ(lines, (std::vector<std::string>{"3mbad", "7-fine"}));
}

// ------------------------------------------------------------------ devices
struct Buffer {
  explicit Buffer(size_t bytes, int fill = 0) : n(bytes), p(static_cast<unsigned char *>(vx_alloc_large(bytes, 0))) {
    memset(p, fill, n);
  }
  ~Buffer() { vx_free_large(p, n); }
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;
  size_t n;
  unsigned char *p;
};
int put(vx_bdev &d, uint64_t off, Buffer &b, uint32_t flags = VX_IO_WRITE) {
  vx_io io{off, b.n, b.p, 0, flags};
  const int rc = vx_bdev_submit(&d, &io, 1);
  EXPECT_EQ(rc, io.err);
  return rc;
}
int get(vx_bdev &d, uint64_t off, Buffer &b) { return put(d, off, b, VX_IO_READ); }

void exercise(vx_bdev &d) {
  ASSERT_GE(d.size(), 1u << 20);
  Buffer a(8192, 0xa5);
  Buffer b(8192);
  EXPECT_EQ(put(d, 65536 - 4096, a), 0);
  EXPECT_EQ(get(d, 65536 - 4096, b), 0);
  EXPECT_EQ(memcmp(a.p, b.p, a.n), 0);
  EXPECT_EQ(put(d, 4096, a, VX_IO_WRITE | VX_IO_FUA), 0);
  EXPECT_EQ(get(d, 0, b), 0);
  EXPECT_EQ(b.p[0], 0);
  EXPECT_EQ(b.p[4096], 0xa5);
  EXPECT_EQ(vx_bdev_flush(&d), 0);
  EXPECT_EQ(put(d, d.size() - 8192, a), 0);
  EXPECT_EQ(put(d, d.size() - 4096, a), -EIO);
  EXPECT_EQ(get(d, UINT64_MAX - 511, b), -EIO);
  EXPECT_EQ(get(d, 100, b), -EINVAL);
  vx_io odd{0, 100, b.p, 0, VX_IO_READ};
  EXPECT_EQ(vx_bdev_submit(&d, &odd, 1), -EINVAL);
  const int rc = vx_bdev_discard(&d, 0, 1 << 20);
  EXPECT_TRUE(rc == 0 || rc == -EOPNOTSUPP);
  EXPECT_EQ(vx_bdev_discard(&d, d.size(), 4096), -EINVAL);
}

TEST(HostDevice, Memory) {
  MemDevice d(uint64_t{1} << 40);
  exercise(d);
  EXPECT_LT(d.resident_bytes(), 1u << 20);
  d.poke(5, "hello", 5);
  auto copy = d.clone();
  d.poke(5, "HELLO", 5);
  char s[6] = {};
  copy->peek(5, s, 5);
  EXPECT_STREQ(s, "hello");
  d.set_read_only(true);
  Buffer a(512);
  EXPECT_EQ(put(d, 0, a), -EROFS);
  EXPECT_EQ(get(d, 0, a), 0);
}

class HostFile : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "hostfile.XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::string dir_;
};

TEST_F(HostFile, Image) {
  const std::string path = dir_ + "/image";
  std::unique_ptr<FileDevice> d;
  EXPECT_EQ(FileDevice::open(path, {}, &d), -ENOENT);
  EXPECT_EQ(FileDevice::open(dir_, {}, &d), -EISDIR);
  EXPECT_EQ(FileDevice::open("/dev/null", {}, &d), -ENOTBLK);
  FileDevice::Options create;
  create.create_size = 4 << 20;
  ASSERT_EQ(FileDevice::open(path, create, &d), 0);
  EXPECT_EQ(d->size(), 4u << 20);
  EXPECT_STREQ(d->name(), "image");
  EXPECT_FALSE(d->is_block_device());
  exercise(*d);
  std::unique_ptr<FileDevice> second;
  EXPECT_EQ(FileDevice::open(path, {}, &second), -EBUSY);
  d.reset();
  FileDevice::Options ro;
  ro.read_only = true;
  ASSERT_EQ(FileDevice::open(path, ro, &d), 0);
  ASSERT_EQ(FileDevice::open(path, ro, &second), 0);  // readers share
  Buffer a(4096);
  EXPECT_EQ(put(*d, 0, a), -EROFS);
  ASSERT_EQ(truncate(path.c_str(), 8192), 0);
  EXPECT_EQ(get(*d, 1 << 20, a), -EIO);  // cut short under an open device
}

// Blocks 0, 2, 4 ... of a device whose every byte says which block it is in, in one call. Returns what the call returned.
constexpr size_t block = 4096;
int read_even_blocks(vx_bdev &d, size_t n, Buffer &b, std::vector<vx_io> *ios) {
  ios->clear();
  for (size_t i = 0; i < n; i++) ios->push_back({2 * i * block, block, b.p + i * block, -1, VX_IO_READ});
  return vx_bdev_submit(&d, ios->data(), n);
}
bool even_blocks(const Buffer &b, size_t n) {
  for (size_t i = 0; i < n * block; i++)
    if (b.p[i] != static_cast<unsigned char>(2 * (i / block) + 1)) return false;
  return true;
}
void fill_blocks(vx_bdev &d, size_t n) {
  Buffer b(n * block);
  std::vector<vx_io> ios;
  for (size_t i = 0; i < n; i++) {
    memset(b.p + i * block, static_cast<int>(i + 1), block);
    uint32_t flags = VX_IO_WRITE;
    if (i % 3 == 0) flags |= VX_IO_FUA;
    ios.push_back({i * block, block, b.p + i * block, -1, flags});
  }
  ASSERT_EQ(vx_bdev_submit(&d, ios.data(), n), 0);
  for (const vx_io &io : ios) ASSERT_EQ(io.err, 0);
}

TEST_F(HostFile, ManyAtOnce) {
  constexpr size_t n = 150;  // more than are on their way together
  for (const bool direct : {false, true}) {
    std::unique_ptr<FileDevice> d;
    FileDevice::Options o;
    o.create_size = 2 * n * block;
    o.direct = direct;
    ASSERT_EQ(FileDevice::open(dir_ + "/image", o, &d), 0);
    fill_blocks(*d, 2 * n);
    std::vector<std::thread> threads;
    std::atomic<int> good = 0;
    for (int t = 0; t < 4; t++)
      threads.emplace_back([&] {
        Buffer b(n * block);
        std::vector<vx_io> ios;
        for (int round = 0; round < 10; round++) {
          memset(b.p, 0, b.n);
          good += read_even_blocks(*d, n, b, &ios) == 0 && even_blocks(b, n);
        }
      });
    for (std::thread &t : threads) t.join();
    EXPECT_EQ(good, 40);
    ASSERT_EQ(truncate((dir_ + "/image").c_str(), 200 * block), 0);  // under the open device: the last fifty are gone
    Buffer b(n * block);
    std::vector<vx_io> ios;
    EXPECT_EQ(read_even_blocks(*d, n, b, &ios), -EIO);
    for (size_t i = 0; i < n; i++) EXPECT_EQ(ios[i].err, i < 100 ? 0 : -EIO) << i;
    EXPECT_TRUE(even_blocks(b, 100));
  }
}

// A tool that goes into the background after it has looked at the image.
TEST_F(HostFile, ManyAtOnceAfterAFork) {
  constexpr size_t n = 40;
  std::unique_ptr<FileDevice> d;
  FileDevice::Options o;
  o.create_size = 2 * n * block;
  ASSERT_EQ(FileDevice::open(dir_ + "/image", o, &d), 0);
  fill_blocks(*d, 2 * n);
  Buffer b(n * block);
  std::vector<vx_io> ios;
  ASSERT_EQ(read_even_blocks(*d, n, b, &ios), 0);
  const pid_t child = fork();
  if (child == 0) {
    memset(b.p, 0, b.n);
    const bool good = read_even_blocks(*d, n, b, &ios) == 0 && even_blocks(b, n);
    d.reset();
    _exit(good ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  memset(b.p, 0, b.n);
  EXPECT_EQ(read_even_blocks(*d, n, b, &ios), 0);
  EXPECT_TRUE(even_blocks(b, n));
}

// Where no ring can be made (here: no descriptor for it), all is read and written as well.
TEST_F(HostFile, ManyWithoutARing) {
  constexpr size_t n = 40;
  for (const bool direct : {false, true}) {
    std::unique_ptr<FileDevice> d;
    FileDevice::Options o;
    o.create_size = 2 * n * block;
    o.direct = direct;
    ASSERT_EQ(FileDevice::open(dir_ + (direct ? "/direct" : "/image"), o, &d), 0);
    rlimit was{};
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &was), 0);
    rlimit none = was;
    none.rlim_cur = 0;
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    fill_blocks(*d, 2 * n);
    Buffer b(n * block);
    std::vector<vx_io> ios;
    const int rc = read_even_blocks(*d, n, b, &ios);
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &was), 0);
    EXPECT_EQ(rc, 0);
    EXPECT_TRUE(even_blocks(b, n));
  }
}

TEST_F(HostFile, SparseSaveAndLoad) {
  MemDevice d(10 << 20);
  d.poke(3 << 20, "abc", 3);
  ASSERT_EQ(d.save(dir_ + "/x"), 0);
  EXPECT_EQ(std::filesystem::file_size(dir_ + "/x"), 10u << 20);
  MemDevice e(10 << 20);
  ASSERT_EQ(e.load(dir_ + "/x"), 0);
  char s[4] = {};
  e.peek(3 << 20, s, 3);
  EXPECT_STREQ(s, "abc");
  EXPECT_LE(e.resident_bytes(), 1u << 17);
  EXPECT_EQ(e.load(dir_ + "/none"), -ENOENT);
}

TEST(HostDevice, InjectedErrorsAmongMany) {
  constexpr size_t n = 20;
  MemDevice mem(2 * n * block);
  fill_blocks(mem, 2 * n);
  FaultDevice d(&mem);
  d.fail_range(FaultDevice::Kind::read, 16 * block, block, -EILSEQ);
  Buffer b(n * block);
  std::vector<vx_io> ios;
  EXPECT_EQ(read_even_blocks(d, n, b, &ios), -EILSEQ);
  for (size_t i = 0; i < n; i++) {
    EXPECT_EQ(ios[i].err, i == 8 ? -EILSEQ : 0);
    EXPECT_EQ(b.p[i * block], i == 8 ? 0 : 2 * i + 1);
  }
  EXPECT_EQ(d.counters().reads, n);
}

TEST(HostDevice, InjectedErrors) {
  MemDevice mem(1 << 20);
  FaultDevice d(&mem);
  Buffer a(4096, 1);
  d.fail_after(FaultDevice::Kind::write, 1, -EIO);
  EXPECT_EQ(put(d, 0, a), 0);
  EXPECT_EQ(put(d, 4096, a), -EIO);
  EXPECT_EQ(put(d, 4096, a), 0);
  d.fail_after(FaultDevice::Kind::flush, 0, -ENOSPC, true);
  EXPECT_EQ(vx_bdev_flush(&d), -ENOSPC);
  EXPECT_EQ(vx_bdev_flush(&d), -ENOSPC);
  d.clear();
  EXPECT_EQ(vx_bdev_flush(&d), 0);
  d.fail_range(FaultDevice::Kind::read, 8192, 512, -EILSEQ);
  EXPECT_EQ(get(d, 4096, a), 0);
  EXPECT_EQ(get(d, 8192, a), -EILSEQ);
  EXPECT_EQ(put(d, 8192, a), 0);
  d.on_write([](const vx_io &io) { return io.off == 0 ? -EROFS : 0; });
  EXPECT_EQ(put(d, 0, a), -EROFS);
  const FaultDevice::Counters c = d.counters();
  EXPECT_EQ(c.writes, 5u);
  EXPECT_EQ(c.reads, 2u);
  EXPECT_EQ(c.flushes, 3u);
  EXPECT_EQ(c.injected, 4u);
}

}  // namespace
}  // namespace vexfs::host
