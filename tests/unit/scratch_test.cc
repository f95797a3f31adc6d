// SPDX-License-Identifier: MIT
// Working memory of searches, and what is kept of it between calls: bounded, freed when memory is short, and nothing that a
// call left there shows in the next.
// Thread sanitizer: ScratchPool.ThreadsShareIt ScratchOfCalls.ThreadsSearchWhileItIsFreed
#include <sched.h>

#include <span>
#include <thread>

#include "../../kernel/core/vector/scratch.h"
#include "search_fixture.h"

namespace vexfs::vector::test {
namespace {

// Stays on the processor that it runs on, so that it is known which place of a pool counts.
class Stay {
 public:
  Stay() {
    sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    EXPECT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  }
  ~Stay() { sched_setaffinity(0, sizeof before_, &before_); }

 private:
  cpu_set_t before_;
};

u8 *bytes_of(Scratch &s, Scratch::Use use, usize n) {
  Result<u8 *> r = s.array<u8>(use, n);
  return r.ok() ? *r : nullptr;
}

TEST(Scratch, GrowsToItsBound) {
  Scratch s(true, 16384);
  u8 *p = bytes_of(s, Scratch::beam, 100);
  ASSERT_NE(p, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0u);
  memset(p, 7, 100);
  EXPECT_EQ(bytes_of(s, Scratch::beam, 50), p);
  EXPECT_EQ(p[99], 7);
  EXPECT_NE(bytes_of(s, Scratch::heap, 12000), nullptr);
  EXPECT_EQ(bytes_of(s, Scratch::scan, 8000), nullptr);
  EXPECT_EQ(s.array<u64>(Scratch::scan, ~usize{0} / 4).code(), Errno::nomem);
  EXPECT_NE(bytes_of(s, Scratch::beam, 1000), nullptr);
}

TEST(Scratch, TrimGivesUpTheLargest) {
  Scratch s;
  u8 *small = bytes_of(s, Scratch::beam, 4096);
  ASSERT_NE(bytes_of(s, Scratch::visited, 65536), nullptr);
  ASSERT_NE(bytes_of(s, Scratch::scan, 32768), nullptr);
  s.trim(40000);
  EXPECT_EQ(s.bytes(), 4096u + 32768u);
  EXPECT_EQ(bytes_of(s, Scratch::beam, 4096), small);
  s.trim(0);
  EXPECT_EQ(s.bytes(), 0u);
  EXPECT_NE(bytes_of(s, Scratch::visited, 10), nullptr);
}

TEST(ScratchPool, KeepsOneForTheNextCall) {
  const Stay here;
  ScratchPool pool;
  Scratch *first;
  {
    const ScratchLease lease(pool);
    first = lease.get();
    ASSERT_NE(first, nullptr);
    ASSERT_NE(bytes_of(*first, Scratch::beam, 2048), nullptr);
    EXPECT_EQ(pool.bytes(), 0u);  // it is in use
    const ScratchLease other(pool);
    EXPECT_NE(other.get(), first);
  }
  // The one that came back first was kept, and has no buffers.
  EXPECT_EQ(pool.bytes(), sizeof(Scratch));
  EXPECT_EQ(pool.drain(), sizeof(Scratch));
  EXPECT_EQ(pool.bytes(), 0u);
  EXPECT_EQ(pool.drain(), 0u);
  {
    const ScratchLease lease(pool);
    first = lease.get();
    ASSERT_NE(bytes_of(*first, Scratch::beam, 2048), nullptr);
  }
  EXPECT_EQ(pool.bytes(), 2048 + sizeof(Scratch));
  const ScratchLease again(pool);
  EXPECT_EQ(again.get(), first);
  EXPECT_EQ(again.get()->bytes(), 2048u);
}

TEST(ScratchPool, KeepsNoLargeOne) {
  ScratchPool pool;
  for (const usize n : {ScratchPool::keep_max, 2 * ScratchPool::keep_max}) {
    {
      const ScratchLease lease(pool);
      ASSERT_NE(bytes_of(*lease.get(), Scratch::visited, n), nullptr);
      ASSERT_NE(bytes_of(*lease.get(), Scratch::beam, 1024), nullptr);
    }
    EXPECT_EQ(pool.drain(), 1024 + sizeof(Scratch));
  }
}

// Nobody writes into a scratch but the one that has it.
TEST(ScratchPool, ThreadsShareIt) {
  constexpr unsigned threads = 4, calls = 4000;
  ScratchPool pool;
  std::atomic<unsigned> done{0}, mixed{0};
  std::vector<std::thread> all;
  for (unsigned t = 0; t < threads; t++)
    all.emplace_back([&, t] {
      for (unsigned i = 0; i < calls; i++) {
        const ScratchLease lease(pool);
        u8 *p = bytes_of(*lease.get(), Scratch::beam, 256);
        memset(p, static_cast<int>(t), 256);
        if (i % 64 == 0) std::this_thread::yield();
        for (unsigned b = 0; b < 256; b++) mixed += p[b] != t;
      }
      done++;
    });
  while (done != threads) {
    EXPECT_LE(pool.bytes(), ScratchPool::places * (ScratchPool::keep_max + sizeof(Scratch)));
    pool.drain();
    std::this_thread::yield();
  }
  for (std::thread &t : all) t.join();
  EXPECT_EQ(mixed, 0u);
}

class ScratchOfCalls : public SearchTest {
 protected:
  static constexpr int rows_and_indexes = 1;  // kind of vx_fs_cache_count()
};

// One call after another, each of another shape, against the same by hand.
TEST_F(ScratchOfCalls, NothingOfOneShowsInTheNext) {
  make(VEXFS_INDEX_HNSW);
  add(1500);
  drop(100);
  ASSERT_EQ(m.index(dir, VEXFS_INDEX_BUILD), 0);
  for (unsigned round = 0; round < 60; round++) {
    SCOPED_TRACE(round);
    Question a;
    a.k = 1 + static_cast<uint32_t>(rng() % (round % 7 == 0 ? 2000 : 40));
    if (round % 3 == 1) a.filters = {tags(100, 100 + rng() % 300)};
    if (round % 5 == 2) a.flags |= VEXFS_SEARCH_BY_OWNER;
    if (round % 5 == 4) {
      a.flags |= VEXFS_SEARCH_RADIUS;
      a.radius = static_cast<float>(rng() % 60);
    }
    const auto q = points(1 + static_cast<uint32_t>(rng() % 20));
    expect_exact(q, a);
    EXPECT_GT(expect_sound(q, a), 0.5);
    if (round % 10 == 9) vx_fs_cache_shrink(m.fs(), rows_and_indexes, 1);
  }
}

// What fails halfway leaves nothing behind either.
TEST_F(ScratchOfCalls, AfterFailures) {
  make(VEXFS_INDEX_HNSW);
  add(600);
  ASSERT_EQ(m.index(dir, VEXFS_INDEX_BUILD), 0);
  const auto q = points(3);
  for (int copies = 0;; copies++) {
    ASSERT_LT(copies, 40);
    m.caller.fault_after = copies;
    const int error = ask(q, {}).error;
    m.caller.fault_after = -1;
    expect_exact(q, {});
    if (error == 0) break;
    EXPECT_EQ(error, -EFAULT);
  }
  m.caller.killed = true;
  EXPECT_EQ(ask(q, {}).error, -EINTR);
  m.caller.killed = false;
  EXPECT_GT(expect_sound(q, {}), 0.9);
}

// What another call left in a buffer of hits is nobody's to see.
TEST_F(ScratchOfCalls, OnlyHitsAreCopied) {
  make(VEXFS_INDEX_FLAT);
  add(200);
  Question many;
  many.k = 100;
  ASSERT_EQ(ask(points(16), many).error, 0);
  drop(195);
  std::vector<vexfs_hit> hits(100);
  memset(hits.data(), 0x5a, hits.size() * sizeof hits[0]);
  const Row q = point();
  vexfs_search s{};
  s.size = sizeof s;
  s.queries = reinterpret_cast<__u64>(q.data());
  s.hits = reinterpret_cast<__u64>(hits.data());
  s.nq = 1;
  s.dim = dim;
  s.element = VEXFS_F32;
  s.k = 100;
  ASSERT_EQ(vx_ioctl(m.fs(), dir, VEXFS_IOCTL_VECTOR_SEARCH, reinterpret_cast<vx_u64>(&s), &m.caller), 0);
  ASSERT_EQ(s.found, rows.size());
  for (const vexfs_hit &h : std::span(hits).first(s.found)) {
    EXPECT_TRUE(rows.count(h.id));
    EXPECT_EQ(h.reserved0, 0u);
  }
  for (const vexfs_hit &h : std::span(hits).subspan(s.found)) EXPECT_EQ(h.id, 0x5a5a5a5a5a5a5a5au);
}

TEST_F(ScratchOfCalls, IsFreedWhenMemoryIsShort) {
  make(VEXFS_INDEX_FLAT);
  const size_t before = vx_fs_cache_count(m.fs(), rows_and_indexes);
  add(100);
  ASSERT_EQ(ask(points(1), {}).error, 0);
  const size_t with = vx_fs_cache_count(m.fs(), rows_and_indexes);
  EXPECT_GT(with, before);
  while (vx_fs_cache_shrink(m.fs(), rows_and_indexes, 1)) {
  }
  EXPECT_LT(vx_fs_cache_count(m.fs(), rows_and_indexes), with);
  expect_exact(points(1), {});
}

TEST_F(ScratchOfCalls, ThreadsSearchWhileItIsFreed) {
  make(VEXFS_INDEX_HNSW, 0);
  add(800);
  ASSERT_EQ(m.index(dir, VEXFS_INDEX_BUILD), 0);
  const auto q = points(8);
  std::vector<std::vector<Found>> expected;
  for (const Row &one : q) expected.push_back(first(by_hand(one, {}), 10));
  Question exact;
  exact.flags = VEXFS_SEARCH_EXACT;
  constexpr unsigned threads = 4, calls = 60;
  std::atomic<unsigned> done{0};
  std::vector<std::thread> all;
  for (unsigned t = 0; t < threads; t++)
    all.emplace_back([&, t] {
      for (unsigned i = 0; i < calls; i++) {
        const Reply r = ask({q[(i + t) % 8]}, i % 2 ? exact : Question());
        EXPECT_EQ(r.error, 0);
        EXPECT_EQ(r.hits[0].size(), 10u);
        if (i % 2) {
          EXPECT_EQ(r.hits[0], expected[(i + t) % 8]);
        }
      }
      done++;
    });
  while (done != threads) {
    vx_fs_cache_shrink(m.fs(), rows_and_indexes, 1);
    std::this_thread::yield();
  }
  for (std::thread &t : all) t.join();
}

}  // namespace
}  // namespace vexfs::vector::test
