// SPDX-License-Identifier: MIT
// The store under many threads: writers, readers, commits and memory pressure at once. Meant for ThreadSanitizer too.
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "store_fixture.h"

namespace vexfs::test {
namespace {

using store::Handle;
using store::Key;
using store::Reserve;
using store::Tree;
using store::TreeId;

// A value tells which key it belongs to and is the same byte throughout, so that any reader can judge it.
std::string value_for(const Key &k, uint32_t generation) {
  size_t len = 16 + (k.off * 7 + generation * 13) % 180;
  std::string v(len, static_cast<char>(generation));
  uint64_t h = k.oid * 1000003 + k.off;
  memcpy(v.data(), &h, 8);
  return v;
}
bool value_fits(const Key &k, Bytes v) {
  uint64_t h;
  if (v.size() < 16) return false;
  memcpy(&h, v.data(), 8);
  if (h != k.oid * 1000003 + k.off) return false;
  for (size_t i = 9; i < v.size(); i++)
    if (v[i] != v[8]) return false;
  return true;
}

class StoreConcurrency : public StoreTest {
 protected:
  void build(uint32_t block, uint32_t node, uint64_t cache_nodes, uint32_t interval_ms) {
    store::FormatOptions f;
    f.block_size = block;
    f.node_size = node;
    f.log_blocks = 0;
    make(64 << 20, f);
    options_.node_cache_bytes = cache_nodes * node;
    options_.commit_interval_ms = interval_ms;
    open();
  }

  void writer(uint64_t oid, uint64_t seed, int ops, Model &model) {
    std::mt19937_64 rng(seed);
    Tree &t = vol().tree(TreeId::fs);
    for (int i = 0; i < ops; i++) {
      Key k{oid, 1, rng() % 600};
      auto mk = model_key(k);
      bool have = model.count(mk);
      Reserve r;
      r.items = 2;
      auto h = vol().begin(r);
      if (!h.ok()) {
        failures_++;
        return;
      }
      std::string v = value_for(k, static_cast<uint32_t>(rng() % 100));
      Status st;
      int phase = (i / 2000) % 2 ? 3 : 6;
      if (static_cast<int>(rng() % 8) < phase) {
        st = t.upsert(*h, k, bytes(v));
        model[mk] = v;
      } else if (have) {
        st = t.erase(*h, k);
        model.erase(mk);
      } else {
        st = t.erase(*h, k);
        if (st.code() == Errno::noent) st = {};
      }
      if (!st.ok()) failures_++;
      // Two items of one operation: always changed together.
      std::string n(16, 0);
      memcpy(n.data(), &i, sizeof i);
      if (!t.upsert(*h, {oid, 2, 0}, bytes(n)).ok()) failures_++;
    }
    std::string n(16, 0);
    ops--;
    memcpy(n.data(), &ops, sizeof ops);
    model[model_key({oid, 2, 0})] = n;
  }

  void reader(uint64_t seed, std::atomic<bool> &stop) {
    std::mt19937_64 rng(seed);
    const Tree &t = vol().tree(TreeId::fs);
    uint8_t buf[512];
    do {
      Key k{1 + rng() % 4, 1, rng() % 600};
      auto r = t.get(k, buf);
      if (r.ok() ? !value_fits(k, {buf, *r}) : r.code() != Errno::noent) failures_++;
      auto s = t.seek(k, {k.oid, 1, ~0ull}, buf);
      if (s.ok() ? s->key < k || !value_fits(s->key, {buf, s->len}) : s.code() != Errno::noent) failures_++;
      auto b = t.seek_back(k, {k.oid, 1, 0}, buf);
      if (b.ok() ? b->key > k || !value_fits(b->key, {buf, b->len}) : b.code() != Errno::noent) failures_++;
      if (rng() % 16 == 0) {
        Key last = Key::min();
        bool first = true;
        Status st = t.scan({k.oid, 1, 0}, {k.oid, 1, ~0ull}, [&](const Key &at, Bytes v) {
          if (!value_fits(at, v) || (!first && !(last < at))) failures_++;
          last = at;
          first = false;
          return true;
        });
        if (!st.ok()) failures_++;
      }
      reads_++;
    } while (!stop.load());
  }

  void storm(int ops) {
    std::atomic<bool> stop{false};
    std::vector<Model> models(4);
    std::vector<std::thread> threads, helpers;
    uint64_t seed = seed_from_env(7);
    for (uint64_t w = 0; w < models.size(); w++)
      threads.emplace_back([&, w] { writer(w + 1, seed * 10 + w, ops, models[w]); });
    for (int r = 0; r < 2; r++) helpers.emplace_back([&, r] { reader(seed * 100 + r, stop); });
    helpers.emplace_back([&] {
      do {
        if (!vol().commit().ok()) failures_++;
        commits_++;
      } while (!stop.load());
    });
    helpers.emplace_back([&] {
      while (!stop.load()) {
        vol().cache_shrink(4);
        std::this_thread::yield();
      }
    });
    for (auto &t : threads) t.join();
    stop = true;
    for (auto &t : helpers) t.join();
    EXPECT_EQ(failures_.load(), 0);
    EXPECT_GT(reads_.load(), 0);
    EXPECT_GT(commits_.load(), 0);
    Model all;
    for (auto &m : models) all.insert(m.begin(), m.end());
    compare(all);
    reopen();
    compare(all);
    check();
  }

  std::atomic<int> failures_{0}, reads_{0}, commits_{0};
};

TEST_F(StoreConcurrency, SmallNodesSmallCache) {
  build(1024, 1024, 96, 0);
  storm(2000);
}

TEST_F(StoreConcurrency, LargeNodesCommitThread) {
  build(4096, 16384, 128, 5);
  storm(6000);
}

// Writers that meet in the same leaves.
TEST_F(StoreConcurrency, SharedLeaves) {
  build(1024, 2048, 512, 3);
  constexpr int kThreads = 4, kKeys = 3000;
  std::vector<std::thread> threads;
  for (int w = 0; w < kThreads; w++)
    threads.emplace_back([&, w] {
      Tree &t = vol().tree(TreeId::fs);
      for (int i = 0; i < kKeys; i++) {
        Key k{7, 1, static_cast<uint64_t>(i * kThreads + w)};
        auto h = vol().begin({});
        if (!h.ok() || !t.insert(*h, k, bytes(value_for(k, w))).ok()) failures_++;
      }
      for (int i = 0; i < kKeys; i += 2) {
        Key k{7, 1, static_cast<uint64_t>(i * kThreads + w)};
        auto h = vol().begin({});
        if (!h.ok() || !t.erase(*h, k).ok()) failures_++;
      }
    });
  for (auto &t : threads) t.join();
  EXPECT_EQ(failures_.load(), 0);
  EXPECT_EQ(count(vol().tree(TreeId::fs)), size_t{kThreads} * kKeys / 2);
  check();
}

// Allocation, publication and freeing of data from many threads; bitmaps must add up in the end.
TEST_F(StoreConcurrency, DataExtents) {
  build(4096, 16384, 256, 4);
  std::vector<std::vector<store::Extent>> kept(4);
  std::vector<std::thread> threads;
  for (size_t w = 0; w < kept.size(); w++)
    threads.emplace_back([&, w] {
      std::mt19937_64 rng(w + 1);
      auto &mine = kept[w];
      for (int i = 0; i < 2000; i++) {
        if (rng() % 3 || mine.empty()) {
          uint64_t want = 1 + rng() % 16;
          if (!vol().reserve_blocks(want).ok()) continue;
          auto e = vol().alloc(mine.empty() ? 0 : mine.back().end(), 1, want, true);
          if (!e.ok()) {
            failures_++;
            vol().unreserve_blocks(want);
            continue;
          }
          if (e->count < want) vol().unreserve_blocks(want - e->count);
          if (rng() % 8 == 0) {
            vol().cancel(*e);
            continue;
          }
          auto h = vol().begin({});
          if (!h.ok()) {
            failures_++;
            vol().cancel(*e);
            continue;
          }
          vol().publish(*h, *e);
          mine.push_back(*e);
        } else {
          size_t at = rng() % mine.size();
          auto h = vol().begin({.items = 1, .data_blocks = 0, .freeing = true});
          if (!h.ok()) {
            failures_++;
            continue;
          }
          vol().free(*h, mine[at], h->txn());
          mine[at] = mine.back();
          mine.pop_back();
        }
      }
    });
  for (auto &t : threads) t.join();
  EXPECT_EQ(failures_.load(), 0);
  EXPECT_EQ(vol().space().reserved, 0u);
  ASSERT_TRUE(vol().close().ok());
  vol_.reset();
  std::vector<store::Extent> all;
  for (auto &k : kept) all.insert(all.end(), k.begin(), k.end());
  EXPECT_EQ(check_device(dev_.get(), all), "");
}

// Copies the device whenever a root has been written (the committer is the only one that writes, and waits here).
class CopyAtRoot : public vx_bdev {
 public:
  explicit CopyAtRoot(host::MemDevice *inner) : inner_(inner) {}
  uint64_t size() const override { return inner_->size(); }
  int flush() override { return inner_->flush(); }
  int submit(vx_io *ios, size_t n) override {
    bool root = n && (ios[0].flags & VX_IO_FUA);
    int e = inner_->submit(ios, n);
    if (root && wanted_.exchange(false)) {
      auto copy = inner_->clone();
      std::lock_guard<std::mutex> g(lock_);
      last_ = std::move(copy);
    }
    return e;
  }
  std::unique_ptr<host::MemDevice> take() {
    std::lock_guard<std::mutex> g(lock_);
    wanted_ = true;
    return std::move(last_);
  }

 private:
  host::MemDevice *inner_;
  std::atomic<bool> wanted_{true};
  std::mutex lock_;
  std::unique_ptr<host::MemDevice> last_;
};

// Operations of two items are in the same commit or in none, whatever the commit's timing.
TEST_F(StoreConcurrency, OperationsAreAtomicAcrossCommits) {
  store::FormatOptions f;
  f.block_size = f.node_size = 1024;
  make(16 << 20, f);
  CopyAtRoot copier(dev_.get());
  auto opened = store::Volume::open(&copier, options_);
  ASSERT_TRUE(opened.ok());
  vol_ = opened.take();
  std::atomic<bool> stop{false};
  std::thread committer([&] {
    while (!stop.load())
      if (!vol().commit().ok()) failures_++;
  });
  Tree &t = vol().tree(TreeId::fs);
  int images = 0;
  for (uint32_t i = 1; images < 40; i++) {
    auto h = vol().begin({.items = 3});
    ASSERT_TRUE(h.ok());
    std::string v(8, 0);
    memcpy(v.data(), &i, sizeof i);
    ASSERT_TRUE(t.upsert(*h, {1, 1, 0}, bytes(v)).ok());
    ASSERT_TRUE(t.upsert(*h, {500, 1, i % 3000}, bytes(std::string(100, 'x'))).ok());
    ASSERT_TRUE(t.upsert(*h, {900, 1, 0}, bytes(v)).ok());
    h.value().end();
    auto image = copier.take();
    if (!image) continue;
    images++;
    ASSERT_EQ(check_device(image.get()), "");
    auto other = store::Volume::open(image.get(), {.read_only = true});
    ASSERT_TRUE(other.ok());
    EXPECT_EQ(get((*other)->tree(TreeId::fs), {1, 1, 0}), get((*other)->tree(TreeId::fs), {900, 1, 0}));
    EXPECT_TRUE((*other)->close().ok());
  }
  stop = true;
  committer.join();
  EXPECT_EQ(failures_.load(), 0);
  ASSERT_TRUE(vol().close().ok());
  vol_.reset();
  EXPECT_EQ(check_device(dev_.get()), "");
}

}  // namespace
}  // namespace vexfs::test
