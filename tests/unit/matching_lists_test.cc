// SPDX-License-Identifier: MIT
// Lists of where walks among matching rows go on: written once, read by many, within their memory; walks by them find what
// walks without them do; and no answer of a search is older than the rows because of them.
// Thread sanitizer: MatchingListsTest.WrittenOnceReadByMany ListedSearchesInThreads.ByManyWhileRowsComeAndGo
#include "../../kernel/core/vector/matching_lists.h"

#include <thread>

#include "../../kernel/core/api_internal.h"
#include "hnsw_fixture.h"
#include "search_fixture.h"

namespace vexfs::vector::test {
namespace {

struct Bits {
  std::vector<u64> word;
  u32 count = 0;
  explicit Bits(u32 n) : word(div_up(n, 64u)) {}
  void set(u32 slot) {
    count += !has(slot);
    word[slot / 64] |= u64{1} << (slot % 64);
  }
  void clear(u32 slot) {
    count -= has(slot);
    word[slot / 64] &= ~(u64{1} << (slot % 64));
  }
  bool has(u32 slot) const { return word[slot / 64] >> (slot % 64) & 1; }
  static bool accept(void *ctx, u32 slot) { return static_cast<Bits *>(ctx)->has(slot); }
};

u64 taken(FilterMemory &m) { return m.bytes.load(std::memory_order_relaxed); }

// The content of a list follows from its row, so that whoever reads it can tell.
std::vector<u32> content(u32 slot, u32 most) {
  std::vector<u32> l(slot % (most + 1));
  for (u32 i = 0; i < l.size(); i++) l[i] = slot * 31 + i;
  return l;
}

TEST(MatchingListsTest, KeepWhatIsWritten) {
  Mount m;
  FilterMemory &memory = m.fs()->engine->filter_memory();
  const u64 before = taken(memory);
  constexpr u32 end = 9990;  // within a word
  Bits bits(end + 100);
  std::mt19937 rng(1);
  for (u32 i = 0; i < end + 100; i++)
    if (rng() % 10 == 0 || i >= end) bits.set(i);
  const MatchingOf of{.edits = 7, .end = end, .damaged = 0};
  MatchingLists *l = MatchingLists::make(memory, bits.word.data(), 31, of);
  ASSERT_TRUE(l);
  EXPECT_EQ(l->of(), of);
  ASSERT_EQ(l->most(), 31u);
  u32 n = 0;
  for (u32 s = 0; s < end + 100; s++) {
    ASSERT_EQ(l->has(s), s < end && bits.has(s)) << s;
    if (!l->has(s)) continue;
    ASSERT_FALSE(l->find(s, &n));
    const auto c = content(s, 31);
    if (s % 3) l->keep(s, c.data(), static_cast<u32>(c.size()));
  }
  for (u32 s = 0; s < end; s++) {
    if (!l->has(s)) continue;
    const auto c = content(s, 31);
    const u32 other[1] = {0};
    if (s % 3) l->keep(s, other, 1);  // comes too late
    const u32 *found = l->find(s, &n);
    ASSERT_EQ(found != nullptr, s % 3 != 0);
    if (found) {
      ASSERT_EQ(std::vector<u32>(found, found + n), c);
    }
  }
  EXPECT_GT(taken(memory), before);
  MatchingLists::release(l);
  EXPECT_EQ(taken(memory), before);
}

TEST(MatchingListsTest, WrittenOnceReadByMany) {
  Mount m;
  FilterMemory &memory = m.fs()->engine->filter_memory();
  constexpr u32 end = 4096;
  Bits bits(end);
  for (u32 i = 0; i < end; i += 3) bits.set(i);
  MatchingLists *l = MatchingLists::make(memory, bits.word.data(), 15, {.edits = 1, .end = end, .damaged = 0});
  ASSERT_TRUE(l);
  std::vector<std::thread> threads;
  for (u32 t = 0; t < 4; t++)
    threads.emplace_back([&, t] {
      std::mt19937 rng(t);
      for (int i = 0; i < 4000; i++) {
        const u32 slot = rng() % end / 3 * 3;
        if (!bits.has(slot)) continue;
        const auto c = content(slot, 15);
        u32 n = 0;
        const u32 *found = l->find(slot, &n);
        if (found)
          EXPECT_EQ(std::vector<u32>(found, found + n), c);
        else
          l->keep(slot, c.data(), static_cast<u32>(c.size()));
      }
    });
  for (auto &t : threads) t.join();
  MatchingLists::release(l);
}

// No memory for the whole, or for more lists: whoever asks goes without.
TEST(MatchingListsTest, WithoutMemory) {
  Options o;
  o.cache_bytes = 1 << 20;
  Mount m(o);
  FilterMemory &memory = m.fs()->engine->filter_memory();
  const u64 before = taken(memory);
  constexpr u32 end = 1 << 16;
  Bits bits(end);
  for (u32 i = 0; i < end; i++) bits.set(i);
  const MatchingOf of{.edits = 1, .end = end, .damaged = 0};
  MatchingLists *l = MatchingLists::make(memory, bits.word.data(), 63, of);
  ASSERT_TRUE(l);
  const u32 list[3] = {1, 2, 3};
  u32 kept = 0, n = 0;
  for (u32 s = 0; s < end; s++) {
    l->keep(s, list, 3);
    kept += l->find(s, &n) != nullptr;
  }
  EXPECT_GT(kept, 0u);
  EXPECT_LT(kept, end / 2);
  EXPECT_TRUE(l->full());
  EXPECT_LE(taken(memory), memory.limit());
  host::fail_alloc_after(0, false);
  EXPECT_FALSE(MatchingLists::make(memory, bits.word.data(), 1, of));
  host::fail_alloc_after(-1, false);
  MatchingLists::release(l);
  EXPECT_EQ(taken(memory), before);
}

// What lists of another state take is given back as soon as it is asked for, so that there is room for others; and of several
// filters the one asked for longest ago makes room.
TEST(MatchingListsTest, OldOnesMakeRoom) {
  Options o;
  o.cache_bytes = 8 << 20;
  Mount m(o);
  FilterMemory &memory = m.fs()->engine->filter_memory();
  FilterCache cache(memory);
  constexpr u32 end = 1 << 18;
  Bits bits(end);
  for (u32 i = 0; i < end; i += 5) bits.set(i);
  const auto of_filter = [&](u64 number) {
    ColumnRanges r;
    r.add({ColumnRange::tag, 0, number, number});
    KnownRows *k = cache.make(r, end / 1024);
    if (!k) k = cache.make(r, end / 1024);
    if (k) cache.keep(k);
    EXPECT_TRUE(k);
    return r;
  };
  const auto filled = [&](const ColumnRanges &r, const MatchingOf &of) {
    for (int i = 0; i < 10; i++) {
      bool worth = false;
      MatchingLists *l = cache.lists(r, of, &worth);
      if (worth) l = cache.make_lists(r, of, bits.word.data(), 31);
      if (!l) continue;
      const u32 x[1] = {0};
      for (u32 s = 0; s < end; s += 5) l->keep(s, x, 1);
      u32 n = 0;
      const bool any = l->find(0, &n) != nullptr;
      MatchingLists::release(l);
      return any;
    }
    return false;
  };
  const ColumnRanges a = of_filter(1), b = of_filter(2);
  for (u64 edits = 1; edits < 20; edits++) {
    const MatchingOf of{.edits = edits, .end = end, .damaged = 0, .deaths = 0};
    EXPECT_TRUE(filled(a, of)) << edits;
    EXPECT_TRUE(filled(b, of)) << edits;
    EXPECT_LE(memory.of_lists.load(), memory.limit() / 2);
  }
  cache.drop();
  EXPECT_EQ(memory.of_lists.load(), 0u);
}

// ------------------------------------------------------------------------------------------------------------- walks
class ListedWalks : public ::testing::TestWithParam<HnswParams::Codes> {};
INSTANTIATE_TEST_SUITE_P(Codes, ListedWalks, ::testing::Values(HnswParams::Codes::none, HnswParams::Codes::sq8));

TEST_P(ListedWalks, FindWhatOthersDo) {
  constexpr u32 n = 8000, dim = 24;
  Mount m;
  FilterMemory &memory = m.fs()->engine->filter_memory();
  const simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, dim);
  Clusters source(dim, 40, 9);
  MemoryRows rows(space, n);
  for (u32 i = 0; i < n; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
  HnswParams params;
  params.m = 12;
  params.ef_construction = 100;
  params.codes = GetParam();
  IndexPtr index = hnsw_create(space, params).take(), other = hnsw_create(space, params).take();
  EXPECT_NE(index->edits(), other->edits());
  insert_range(*index.get(), rows, 0, n - 1);
  const u64 edits = index->edits();
  std::mt19937 rng(4);
  for (const u32 one_in : {5u, 10u, 20u}) {
    SCOPED_TRACE(one_in);
    Bits bits(n);
    for (u32 i = 0; i < n - 1; i++)
      if (rng() % one_in == 0) bits.set(i);
    SearchParams p;
    p.k = 10;
    p.ef = 11;  // fewer codes than are looked at one by one
    p.ctx = &bits;
    p.accept = Bits::accept;
    p.matching = bits.word.data();
    p.matching_end = n;
    p.matching_count = bits.count;
    p.lists = MatchingLists::make(memory, bits.word.data(), index->counts().links - 1,
                                  {.edits = index->edits(), .end = n, .damaged = 0});
    ASSERT_TRUE(p.lists);
    const double cold = recall(*index.get(), rows, source, 300, p), warm = recall(*index.get(), rows, source, 300, p);
    EXPECT_GT(cold, 0.75);
    EXPECT_GT(warm, 0.75);
    u32 known = 0, len = 0;
    for (u32 s = 0; s < n; s++) {
      const u32 *list = p.lists->has(s) ? p.lists->find(s, &len) : nullptr;
      known += list != nullptr;
      std::set<u32> once;
      for (u32 i = 0; list && i < len; i++)
        EXPECT_TRUE(bits.has(list[i]) && list[i] != s && once.insert(list[i]).second);
    }
    EXPECT_GT(known, bits.count / 3);
    p.ef = 60;
    EXPECT_GT(recall(*index.get(), rows, source, 100, p), 0.95);
    // Some match no more, as dead ones do: they are not returned.
    PreparedQuery q(space, source.next());
    for (const Hit &h : search(*index.get(), rows, q.q, p)) bits.clear(h.slot);
    const auto hits = search(*index.get(), rows, q.q, p);
    EXPECT_EQ(hits.size(), 10u);
    for (const Hit &h : hits) EXPECT_TRUE(bits.has(h.slot));
    MatchingLists::release(p.lists);
  }
  EXPECT_EQ(index->edits(), edits);
  insert_range(*index.get(), rows, n - 1, n);
  EXPECT_NE(index->edits(), edits);
}

// ---------------------------------------------------------------------------------------------------------- searches
Options of_threads(uint32_t n) {
  Options o;
  o.threads = n;
  return o;
}
class ListedSearches : public SearchTest {
 protected:
  explicit ListedSearches(uint32_t threads = 0) : SearchTest(of_threads(threads)) {}
  static constexpr uint64_t from = 100, to = 299;
  Question question() {
    Question a;
    a.filters = {tags(from, to)};
    a.ef = 45;
    return a;
  }
  // A call each, since calls with many queries are scans.
  double recall_of(const Question &a, int queries = 200) {
    double sum = 0;
    for (int i = 0; i < queries; i++) {
      uint32_t plan = 0;
      sum += expect_sound(points(1), a, &plan);
      EXPECT_EQ(plan, VEXFS_PLAN_FILTERED_INDEX);
    }
    return sum / queries;
  }
  // Asks until there are lists, and then some more.
  void warm(const Question &a, double least = 0.9) {
    for (int i = 0; i < 5; i++) ask(points(1), a);
    EXPECT_GT(recall_of(a), least);
    Result<CollectionRef> c = m.fs()->engine->find(1);
    ASSERT_TRUE(c.ok());
    ColumnRanges ranges;
    ranges.add({ColumnRange::tag, 0, from, to});
    KnownRows *k = (*c)->filters().find(ranges);
    ASSERT_TRUE(k);
    EXPECT_TRUE(k->lists);
    (*c)->filters().release(k);
  }
};

TEST_F(ListedSearches, AnswersFollowTheRows) {
  make(VEXFS_INDEX_HNSW, 0);
  add(20000);
  const Question a = question();
  warm(a);
  // A row comes, and is found by the next searches; goes, and is not.
  uint32_t looked = 0, found = 0;
  for (int round = 0; round < 100; round++) {
    const Row v = point();
    std::vector<vexfs_row> r(1);
    r[0].id = 1'000'000 + static_cast<uint64_t>(round);
    r[0].tag = 200;
    uint32_t done = 0;
    ASSERT_EQ(m.batch(dir, VEXFS_BATCH_ADD, v, dim, &r, &done), 0);
    next_slot++;
    const auto there = [&](const Reply &reply) {
      return std::any_of(reply.hits[0].begin(), reply.hits[0].end(), [&](const Found &f) { return f.id == r[0].id; });
    };
    for (int again = 0; again < 4; again++, looked++) found += there(ask({v}, a));
    if (round % 2) continue;
    ASSERT_EQ(m.del(dir, r[0].id), 0);
    for (int again = 0; again < 4; again++) EXPECT_FALSE(there(ask({v}, a)));
  }
  EXPECT_GT(found, looked * 95 / 100);
  for (uint64_t round = 1; round < 100; round += 2) ASSERT_EQ(m.del(dir, 1'000'000 + round), 0);
  warm(a);
  drop(3000);
  EXPECT_GT(recall_of(a), 0.9);
  add(2000);
  warm(a);
  // What is not asked for any more is forgotten, and what it took is given back.
  Result<CollectionRef> c = m.fs()->engine->find(1);
  ASSERT_TRUE(c.ok());
  (*c)->filters().drop();
  EXPECT_EQ(taken(m.fs()->engine->filter_memory()), 0u);
}

// Most of what lists name dies: what lies behind is found as it is without them.
TEST_F(ListedSearches, WhatDiedIsLookedPast) {
  make(VEXFS_INDEX_HNSW, 0);
  add(30000);
  Question a = question();
  a.ef = 12;
  warm(a, 0.5);
  std::vector<uint64_t> gone;
  for (const auto &[id, k] : rows)
    if (k.tag >= from && k.tag <= to && k.v[0] > 0 && k.v[0] < 9) gone.push_back(id);
  for (const uint64_t id : gone) {
    ASSERT_EQ(m.del(dir, id), 0);
    rows.erase(id);
  }
  const double with = recall_of(a, 600);
  Result<CollectionRef> c = m.fs()->engine->find(1);
  ASSERT_TRUE(c.ok());
  double without = 0;
  for (int i = 0; i < 600; i++) {
    (*c)->filters().drop();
    without += expect_sound(points(1), a);
  }
  EXPECT_GT(with, without / 600 - 0.03);
}

// A caller's memory does not suffice for finding out all that it may see: what is kept for others does not lack the rest.
TEST_F(ListedSearches, NothingOfOneCallerIsKeptForAnother) {
  make(VEXFS_INDEX_HNSW, 64);
  auto files = std::exchange(owners, {});
  add(20000);
  owners = files;
  add(10000);
  Question a = question();
  a.ef = 12;
  for (int i = 0; i < 3; i++) ask(points(1), a);
  Question narrow = a;
  narrow.filters.push_back({VEXFS_FILTER_SUBTREE, 0, vx_ino(dir), 0, 0});
  Caller other;
  Result<CollectionRef> c = m.fs()->engine->find(1);
  ASSERT_TRUE(c.ok());
  ColumnRanges ranges;
  ranges.add({ColumnRange::tag, 0, from, to});
  u32 failed = 0, looked_at = 0;
  for (int n = 0; n < 60; n++) {
    for (int i = 0; i < 4; i++) {
      host::fail_alloc_after(n, false);
      ask(points(1), narrow, nullptr, nullptr, &other);
      failed += host::alloc_failed();
      host::fail_alloc_after(-1, false);
    }
    KnownRows *k = (*c)->filters().find(ranges);
    if (!k) continue;
    if (k->lists) {
      looked_at++;
      for (const auto &[id, row] : rows)
        EXPECT_TRUE(row.tag < from || row.tag > to || k->lists->has(static_cast<u32>(row.slot)));
      MatchingLists::release(std::exchange(k->lists, nullptr));
    }
    (*c)->filters().release(k);
  }
  EXPECT_GT(failed, 30u);
  EXPECT_GT(looked_at, 0u);
}

class ListedSearchesInThreads : public ListedSearches {
 protected:
  ListedSearchesInThreads() : ListedSearches(1) {}
};
TEST_F(ListedSearchesInThreads, ByManyWhileRowsComeAndGo) {
  make(VEXFS_INDEX_HNSW, 0);
  add(12000);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    Caller caller;
    for (uint64_t i = 0; !stop.load(); i++) {
      std::vector<vexfs_row> rs(50);
      const Row v(50 * dim, 3.0f);
      for (uint32_t j = 0; j < 50; j++) {
        rs[j].id = 100000 + 50 * i + j;
        rs[j].tag = rs[j].id % 1000;
      }
      vexfs_batch b{};
      b.size = sizeof b;
      b.op = VEXFS_BATCH_ADD;
      b.rows = reinterpret_cast<__u64>(rs.data());
      b.data = reinterpret_cast<__u64>(v.data());
      b.count = 50;
      b.dim = dim;
      b.element = VEXFS_F32;
      EXPECT_EQ(vx_ioctl(m.fs(), dir, VEXFS_IOCTL_BATCH_OPERATIONS, reinterpret_cast<vx_u64>(&b), &caller), 0);
      if (i % 4 == 0) vx_fs_cache_shrink(m.fs(), 1, 1);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));  // in which lists are begun
    }
  });
  std::vector<std::thread> readers;
  for (int t = 0; t < 3; t++)
    readers.emplace_back([&, t] {
      Caller caller;
      std::mt19937_64 r(static_cast<uint64_t>(t));
      for (int i = 0; i < 300; i++) {
        const uint64_t least = 100 * (r() % 2);
        Question a;
        a.ef = 40;
        a.filters = {tags(least, least + 149)};
        const Reply reply = ask({Row(dim, static_cast<float>(r() % 10))}, a, nullptr, nullptr, &caller);
        EXPECT_EQ(reply.error, 0);
        for (const auto &hits : reply.hits) {
          EXPECT_EQ(hits.size(), a.k);
          for (const Found &f : hits) EXPECT_TRUE(f.id % 1000 >= least && f.id % 1000 <= least + 149) << f;
        }
      }
    });
  for (auto &t : readers) t.join();
  stop = true;
  writer.join();
}

}  // namespace
}  // namespace vexfs::vector::test
