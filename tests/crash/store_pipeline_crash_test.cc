// SPDX-License-Identifier: MIT
// Power cuts while commits and operations overlap: several threads change the tree while another commits without pause.
//
// The order of operations is not known beforehand, so what is checked are properties that hold in every history: the
// image is sound, each operation is there with all of its items or with none, per thread the operations found are a
// prefix of those done, and none that a commit had acknowledged is missing. Interleaving is up to the scheduler;
// the images made from one recording are seeded (VX_SEED). VX_CRASH_SECONDS=N makes more recordings.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "../../kernel/core/store/check.h"
#include "../../kernel/core/store/format.h"
#include "../../kernel/core/store/volume.h"
#include "../../lib/host.h"
#include "sim_device.h"

namespace vexfs {
namespace {

using crash::CrashImages;
using crash::SimDevice;
using store::Key;
using store::TreeId;

constexpr u64 kThreads = 3, kSpread = 60, kPerThread = 500;

// Operation n of thread w writes n into its counter, into a twin of it far away in the tree, and into one of many
// slots.
Key counter_key(u64 w) { return {w, 1, 0}; }
Key twin_key(u64 w) { return {1000 + w, 1, 0}; }
Key slot_key(u64 w, u64 n) { return {100 + n % kSpread, 2, w}; }

std::string value_of(u64 n, usize len) {
  std::string s(len, static_cast<char>(n));
  memcpy(s.data(), &n, sizeof n);
  return s;
}
Bytes as_bytes(const std::string &s) { return {reinterpret_cast<const u8 *>(s.data()), s.size()}; }

u64 read_number(const store::Tree &t, const Key &k) {
  u8 buf[512];
  auto r = t.get(k, buf);
  if (!r.ok()) return 0;
  u64 n;
  memcpy(&n, buf, sizeof n);
  return n;
}

class Recording {
 public:
  explicit Recording(u32 node_size) : dev_(8 << 20) {
    store::FormatOptions f;
    f.block_size = 1024;
    f.node_size = node_size;
    f.node_copies = 2;
    f.log_blocks = 0;
    ok_ = store::format(&dev_, f, nullptr).ok();
  }

  void run() {
    ASSERT_TRUE(ok_);
    dev_.start_recording();
    auto vol = store::Volume::open(&dev_, {.node_cache_bytes = 1 << 20});
    ASSERT_TRUE(vol.ok());
    store::Volume &v = **vol;
    std::atomic<u64> done[kThreads] = {};
    std::atomic<int> failures{0}, running{kThreads};
    std::vector<std::thread> threads;
    for (u64 w = 0; w < kThreads; w++)
      threads.emplace_back([&, w] {
        store::Tree &t = v.tree(TreeId::fs);
        for (u64 n = 1; n <= kPerThread; n++) {
          auto h = v.begin({.items = 4});
          bool fine = h.ok() && t.upsert(*h, counter_key(w), as_bytes(value_of(n, 8))).ok() &&
                      t.upsert(*h, slot_key(w, n), as_bytes(value_of(n, 20 + n % 150))).ok() &&
                      t.upsert(*h, twin_key(w), as_bytes(value_of(n, 8))).ok();
          if (fine && n % 7 == 0) fine = t.erase(*h, slot_key(w, n - 3)).ok();
          if (!fine) failures++;
          if (h.ok()) h.value().end();
          done[w].store(n);
        }
        running--;
      });
    // Acknowledged: what was done before commit() was called. Kept by the number of the mark.
    u64 before = 0;
    while (running.load()) {
      Acknowledged a;
      u64 sum = 0;
      for (u64 w = 0; w < kThreads; w++) sum += a.n[w] = done[w].load();
      if (sum == before) {
        std::this_thread::yield();
        continue;
      }
      before = sum;
      if (!v.commit().ok()) failures++;
      acknowledged_.push_back(a);
      dev_.mark(acknowledged_.size());
    }
    for (auto &t : threads) t.join();
    ASSERT_EQ(failures.load(), 0);
    ASSERT_TRUE(v.close().ok());
  }

  u64 check_some(std::mt19937_64 &rng, int every) {
    u64 images = 0;
    for (CrashImages at(dev_); !at.at_end() && !::testing::Test::HasFatalFailure(); at.step()) {
      if (rng() % every) continue;
      check(*at.all_arrived(), at);
      check(*at.some_arrived(rng, 0.4, 0.4), at);
      if (at.next_is_write()) check(*at.next_torn(rng, 0.5, 0.3), at);
      images += 2 + at.next_is_write();
    }
    return images;
  }
  usize commits() const { return acknowledged_.size(); }

 private:
  struct Acknowledged {
    u64 n[kThreads] = {};
  };

  void check(host::MemDevice &image, const CrashImages &at) {
    SCOPED_TRACE("event " + std::to_string(at.position()) + " of " + std::to_string(dev_.events()));
    std::string errors;
    store::Checker c(&image, {[](void *ctx, store::Severity s, const char *text) {
                                if (s == store::Severity::error)
                                  *static_cast<std::string *>(ctx) += std::string(text) + "\n";
                              },
                              nullptr, &errors});
    ASSERT_TRUE(c.open().ok()) << errors;
    ASSERT_TRUE(c.walk(TreeId::fs, [](const Key &, Bytes) { return true; }).ok());
    ASSERT_TRUE(c.compare_space().ok());
    ASSERT_EQ(errors, "");
    auto vol = store::Volume::open(&image, {.read_only = true});
    ASSERT_TRUE(vol.ok());
    const store::Tree &t = (*vol)->tree(TreeId::fs);
    for (u64 w = 0; w < kThreads; w++) {
      u64 n = read_number(t, counter_key(w));
      ASSERT_EQ(n, read_number(t, twin_key(w))) << "half of an operation";
      if (at.last_mark()) {
        ASSERT_GE(n, acknowledged_[at.last_mark() - 1].n[w]) << "an acknowledged operation is lost";
      }
      for (u64 s = 0; s < kSpread; s++) {
        // The last operation up to n that touched slot s, replayed.
        u64 expect = 0;
        for (u64 m = n > 3 * kSpread ? n - 3 * kSpread : 1; m <= n; m++) {
          if (m % kSpread == s) expect = m;
          if (m % 7 == 0 && (m - 3) % kSpread == s) expect = 0;
        }
        ASSERT_EQ(read_number(t, slot_key(w, s)), expect) << "thread " << w << " at " << n << " slot " << s;
      }
    }
    ASSERT_TRUE((*vol)->close().ok());
  }

  SimDevice dev_;
  bool ok_;
  std::vector<Acknowledged> acknowledged_;
};

TEST(StorePipelineCrash, OverlappingCommits) {
  host::set_log_hook([](vx_bdev *, int, const char *) {});
  const char *s = getenv("VX_SEED"), *budget = getenv("VX_CRASH_SECONDS");
  u64 seed = s ? strtoull(s, nullptr, 0) : 1;
  std::mt19937_64 rng(seed);
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(budget ? atoi(budget) : 8);
  u64 images = 0, recordings = 0, commits = 0;
  do {
    SCOPED_TRACE("VX_SEED=" + std::to_string(seed));
    Recording r(recordings % 2 ? 4096 : 1024);
    r.run();
    if (::testing::Test::HasFatalFailure()) break;
    images += r.check_some(rng, 20);
    commits += r.commits();
    recordings++;
  } while (std::chrono::steady_clock::now() < end && !::testing::Test::HasFatalFailure());
  host::set_log_hook({});
  printf("explored: seed %llu, %llu recordings with %llu commits, %llu images checked\n",
         static_cast<unsigned long long>(seed), static_cast<unsigned long long>(recordings),
         static_cast<unsigned long long>(commits), static_cast<unsigned long long>(images));
  EXPECT_GT(commits, recordings);
}

}  // namespace
}  // namespace vexfs
