// SPDX-License-Identifier: MIT
// HNSW: what it finds, for every kind of row; deletes, filters, interruption, limits, failures.
// Thread sanitizer: Hnsw.InsertsSearchesDeletesAtOnce
#include <atomic>
#include <thread>

#include "hnsw_fixture.h"

namespace vexfs::vector {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr u32 many = 1500;
#else
constexpr u32 many = 12000;
#endif

IndexPtr make(const simd::Space &space, u32 m = 16, u32 efc = 120) {
  HnswParams p;
  p.m = m;
  p.ef_construction = efc;
  p.seed = 42;
  return hnsw_create(space, p).take();
}

SearchParams ask(u32 k, u32 ef) {
  SearchParams p;
  p.k = k;
  p.ef = ef;
  return p;
}

class EveryKind : public testing::TestWithParam<std::tuple<simd::Element, simd::Metric>> {};

TEST_P(EveryKind, FindsWhatAScanFinds) {
  auto [e, m] = GetParam();
  simd::Space space = space_of(e, m, 40);
  Clusters source(40, 50, 1);
  const u32 n = many / 3;
  MemoryRows rows(space, n);
  for (u32 i = 0; i < n; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
  IndexPtr index = make(space);
  insert_range(*index.get(), rows, 0, n);
  EXPECT_GE(recall(*index.get(), rows, source, 50, ask(10, 100)), 0.96);
  VerifyReport r = verify(*index.get());
  EXPECT_TRUE(r.sound());
  EXPECT_EQ(r.nodes, n);
  // Under the inner product rows of small length are nobody's near neighbour, not even their own.
  EXPECT_LE(r.unreachable, m == simd::Metric::ip ? n / 50 : n / 200);
}
INSTANTIATE_TEST_SUITE_P(Hnsw, EveryKind,
                         testing::Combine(testing::Values(simd::Element::f32, simd::Element::f16, simd::Element::bf16,
                                                          simd::Element::int8),
                                          testing::Values(simd::Metric::l2, simd::Metric::cosine, simd::Metric::ip)));

TEST(Hnsw, RefusesParametersOutOfRange) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 4);
  for (u32 m : {0u, 1u, 129u}) EXPECT_EQ(hnsw_create(space, HnswParams{m, 100, 0}).code(), Errno::inval);
  for (u32 efc : {0u, 65537u}) EXPECT_EQ(hnsw_create(space, HnswParams{16, efc, 0}).code(), Errno::inval);
}

TEST(Hnsw, SmallAndEmptyIndexes) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 8);
  Clusters source(8, 3, 5);
  for (u32 m : {2u, 3u, 16u, 128u}) {
    MemoryRows rows(space, 100);
    IndexPtr index = make(space, m, 1);
    PreparedQuery q(space, source.next());
    EXPECT_TRUE(search(*index.get(), rows, q.q, ask(5, 10)).empty());
    EXPECT_TRUE(verify(*index.get()).sound());
    for (u32 n = 1; n <= 20; n++) {
      ASSERT_TRUE(rows.add_f32(source.next().data()));
      insert_range(*index.get(), rows, n - 1, n);
      std::vector<Hit> got = search(*index.get(), rows, q.q, ask(50, 60)), want = exact(rows, q.q, ask(50, 0));
      EXPECT_EQ(slots_of(got), slots_of(want)) << "m " << m << " n " << n;
      for (size_t i = 0; i < std::min(got.size(), want.size()); i++) EXPECT_EQ(got[i].key, want[i].key);
    }
    Scratch scratch;
    RowView view = rows.view();
    EXPECT_EQ(index->insert(view, 3, scratch).code(), Errno::exist);
    EXPECT_EQ(index->insert(view, slot_none, scratch).code(), Errno::inval);
    EXPECT_EQ(index->insert(view, 3000000, scratch).code(), Errno::noent) << "a row that does not exist";
    EXPECT_TRUE(index->contains(3));
    EXPECT_FALSE(index->contains(99));
    EXPECT_FALSE(index->contains(slot_max));
    EXPECT_EQ(search(*index.get(), rows, q.q, ask(0, 10)).size(), 0u);
  }
}

TEST(Hnsw, ManyEqualRowsAreAllFound) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 16);
  Clusters source(16, 10, 5);
  MemoryRows rows(space, 2000);
  std::vector<float> same = source.next();
  for (u32 i = 0; i < 2000; i++) ASSERT_TRUE(rows.add_f32(i % 4 ? source.next().data() : same.data()));
  IndexPtr index = make(space, 8, 100);
  insert_range(*index.get(), rows, 0, 2000);
  PreparedQuery q(space, same);
  std::vector<Hit> hits = search(*index.get(), rows, q.q, ask(20, 100));
  ASSERT_EQ(hits.size(), 20u);
  for (const Hit &h : hits) EXPECT_EQ(h.slot % 4, 0u);
}

TEST(Hnsw, EveryRowFindsItself) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 24);
  Clusters source(24, 40, 9);
  MemoryRows rows(space, many);
  IndexPtr index = make(space);
  u32 missed = 0;
  Scratch scratch;
  for (u32 i = 0; i < many; i++) {
    ASSERT_TRUE(rows.add_f32(source.next().data()));
    RowView view = rows.view();
    ASSERT_TRUE(index->insert(view, i, scratch).ok());
    std::vector<Hit> hit = search(*index.get(), rows, space.row_query(rows.row(i), 0), ask(1, 40));
    ASSERT_EQ(hit.size(), 1u);
    missed += hit[0].slot != i;
  }
  EXPECT_EQ(missed, 0u) << "a row is found by the search right after its insert";
  u32 later = 0;
  for (u32 i = 0; i < many; i++)
    later += search(*index.get(), rows, space.row_query(rows.row(i), 0), ask(1, 40))[0].slot != i;
  EXPECT_LE(later, many / 1000) << "and stays reachable";
}

TEST(Hnsw, SameSeedSameGraph) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 16);
  Clusters source(16, 10, 3);
  MemoryRows rows(space, 1500);
  for (u32 i = 0; i < 1500; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
  Checkpoint a, b;
  for (Checkpoint *c : {&a, &b}) {
    IndexPtr index = make(space);
    insert_range(*index.get(), rows, 0, 1500);
    c->save(*index.get(), 1500);
  }
  EXPECT_EQ(a.header, b.header);
  EXPECT_EQ(a.blobs, b.blobs);
}

TEST(Hnsw, HalfDeletedAndReplacedIsAsGoodAsFresh) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 32);
  const u32 half = many / 2;
  for (bool repair : {false, true}) {
    Clusters source(32, 60, 77);
    MemoryRows rows(space, many + half), fresh_rows(space, many);
    for (u32 i = 0; i < many; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
    IndexPtr index = make(space), fresh = make(space);
    insert_range(*index.get(), rows, 0, many);
    Scratch scratch;
    for (u32 i = 0; i < many; i += 2) {
      rows.kill(i);
      RowView view = rows.view();
      if (repair) {
        ASSERT_TRUE(index->remove(view, i, scratch).ok());
      }
    }
    for (u32 i = 0; i < 50; i++) {
      PreparedQuery q(space, source.next());
      for (const Hit &h : search(*index.get(), rows, q.q, ask(10, 64))) EXPECT_EQ(h.slot % 2, 1u) << "a dead row";
    }
    for (u32 i = 0; i < half; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
    insert_range(*index.get(), rows, many, many + half);
    for (u32 i = 1; i < many; i += 2) ASSERT_TRUE(fresh_rows.add(rows.row(i)));
    for (u32 i = many; i < many + half; i++) ASSERT_TRUE(fresh_rows.add(rows.row(i)));
    insert_range(*fresh.get(), fresh_rows, 0, many);
    Clusters qa = source, qb = source;
    const double now = recall(*index.get(), rows, qa, 200, ask(10, 40));
    const double then = recall(*fresh.get(), fresh_rows, qb, 200, ask(10, 40));
    EXPECT_GE(now, then - 0.01) << (repair ? "with repair" : "without repair");
    EXPECT_TRUE(verify(*index.get()).sound());
  }
}

TEST(Hnsw, FewLivingRowsAreStillFound) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 16);
  Clusters source(16, 20, 4);
  MemoryRows rows(space, 3000);
  for (u32 i = 0; i < 3000; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
  IndexPtr index = make(space);
  insert_range(*index.get(), rows, 0, 3000);
  for (u32 i = 0; i < 3000; i++)
    if (i % 100) rows.kill(i);
  for (int i = 0; i < 20; i++) {
    PreparedQuery q(space, source.next());
    std::vector<Hit> hits = search(*index.get(), rows, q.q, ask(30, 30));
    EXPECT_EQ(slots_of(hits), slots_of(exact(rows, q.q, ask(30, 0))));
  }
}

// So few that walks let them take places: none of them is found, and as many others are as if they had never been there, even
// where the nearest ones of all are dead.
TEST(Hnsw, FewDeadRowsAreNotFound) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 32);
  for (const HnswParams::Codes codes : {HnswParams::Codes::none, HnswParams::Codes::sq8}) {
    Clusters source(32, 60, 78);
    MemoryRows rows(space, many);
    for (u32 i = 0; i < many; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
    HnswParams params;
    params.m = 12;
    params.ef_construction = 100;
    params.codes = codes;
    IndexPtr index = hnsw_create(space, params).take();
    insert_range(*index.get(), rows, 0, many);
    std::vector<std::vector<float>> queries;
    std::set<u32> dead;
    while (dead.size() < many / 40) {
      queries.push_back(source.next());
      PreparedQuery q(space, queries.back());
      for (const Hit &h : exact(rows, q.q, ask(12, 0))) {
        rows.kill(h.slot);
        dead.insert(h.slot);
      }
    }
    for (const auto &query : queries) {
      PreparedQuery q(space, query);
      const auto hits = search(*index.get(), rows, q.q, ask(10, 16));
      EXPECT_EQ(hits.size(), 10u);
      for (const Hit &h : hits) EXPECT_FALSE(dead.count(h.slot));
    }
    EXPECT_GT(recall(*index.get(), rows, source, 200, ask(10, 64)), 0.95);
  }
}

struct Filter {
  u32 modulus;
  u32 calls = 0;
  static bool accept(void *ctx, u32 slot) {
    auto *f = static_cast<Filter *>(ctx);
    f->calls++;
    return slot % f->modulus == 0;
  }
};

TEST(Hnsw, FilteredSearchReturnsKAcceptedRows) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 16);
  Clusters source(16, 20, 8);
  MemoryRows rows(space, many);
  for (u32 i = 0; i < many; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
  IndexPtr index = make(space);
  insert_range(*index.get(), rows, 0, many);
  for (u32 modulus : {1u, 2u, 10u, 100u, many}) {
    Filter f{modulus};
    SearchParams p = ask(10, 60);
    p.ctx = &f;
    p.accept = Filter::accept;
    size_t found = 0, all = 0;
    for (int i = 0; i < 20; i++) {
      PreparedQuery q(space, source.next());
      SearchStats stats;
      f.calls = 0;
      std::vector<Hit> got = search(*index.get(), rows, q.q, p, &stats);
      EXPECT_EQ(stats.accepts, f.calls);
      std::vector<u32> want = slots_of(exact(rows, q.q, p));
      EXPECT_EQ(got.size(), want.size());
      const std::set<u32> set(want.begin(), want.end());
      for (const Hit &h : got) {
        EXPECT_EQ(h.slot % modulus, 0u);
        found += set.count(h.slot);
      }
      EXPECT_TRUE(std::is_sorted(got.begin(), got.end(), [](Hit a, Hit b) { return a.key < b.key; }));
      all += want.size();
    }
    EXPECT_GE(static_cast<double>(found), 0.95 * static_cast<double>(all)) << modulus;
  }
}

TEST(Hnsw, InterruptAndBudgetEndAWalk) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 16);
  Clusters source(16, 20, 8);
  MemoryRows rows(space, 3000);
  for (u32 i = 0; i < 3000; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
  IndexPtr index = make(space);
  insert_range(*index.get(), rows, 0, 3000);
  PreparedQuery q(space, source.next());
  for (bool filtered : {false, true}) {
    SearchParams p = ask(10, 2000);
    p.interrupted = [](void *) { return true; };
    if (filtered) p.accept = [](void *, u32) { return true; };
    Scratch scratch;
    RowView view = rows.view();
    std::vector<Hit> hits(10);
    EXPECT_EQ(index->search(view, q.q, p, scratch, hits.data(), nullptr).code(), Errno::intr);
    p.interrupted = nullptr;
    p.distances_max = 500;
    SearchStats stats;
    EXPECT_TRUE(index->search(view, q.q, p, scratch, hits.data(), &stats).ok());
    EXPECT_TRUE(stats.truncated);
    EXPECT_LE(stats.distances, 600u);
  }
}

// --------------------------------------------------------------------------------------------------------- threads
TEST(Hnsw, InsertsSearchesDeletesAtOnce) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::cosine, 24);
  Clusters source(24, 30, 6);
  const u32 n = many / 2;
  MemoryRows rows(space, n);
  for (u32 i = 0; i < n; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
  IndexPtr index = make(space, 8, 60);
  EXPECT_EQ(
      [&] {
        Scratch scratch;
        RowView view = rows.view();
        return index->remove(view, 1, scratch).code();
      }(),
      Errno::inval)
      << "a living row";
  rows.kill(0);
  std::atomic<u32> next{0}, errors{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> writers, readers;
  for (int t = 0; t < 3; t++)
    writers.emplace_back([&] {
      Scratch scratch;
      for (u32 i; (i = next++) < n;) {
        RowView view = rows.view();
        if (!index->insert(view, i, scratch).ok()) errors++;
        if (i % 16 == 0) {
          rows.kill(i / 2);
          if (!index->remove(view, i / 2, scratch).ok()) errors++;
        }
      }
    });
  for (int t = 0; t < 2; t++)
    readers.emplace_back([&, t] {
      std::mt19937 rng(static_cast<u32>(t));
      Scratch scratch;
      std::vector<Hit> hits(10);
      while (!stop) {
        const u32 at = static_cast<u32>(rng() % n);
        RowView view = rows.view();
        SearchParams p = ask(10, 40);
        if (rng() % 2) p.accept = [](void *, u32 slot) { return slot % 3 != 0; };
        Result<u32> got =
            index->search(view, space.row_query(rows.row(at), rows.aux(at)), p, scratch, hits.data(), nullptr);
        if (!got.ok()) errors++;
        for (u32 i = 0; got.ok() && i < *got; i++)
          if (hits[i].slot >= n) errors++;
      }
    });
  std::thread saver([&] {
    while (!stop) {
      const u32 covered = std::min(next.load(), n) / 2;
      Checkpoint c;
      c.save(*index.get(), covered);
    }
  });
  for (auto &t : writers) t.join();
  stop = true;
  for (auto &t : readers) t.join();
  saver.join();
  EXPECT_EQ(errors.load(), 0u);
  VerifyReport r = verify(*index.get());
  EXPECT_TRUE(r.sound());
  EXPECT_EQ(r.nodes, n);
  EXPECT_GE(recall(*index.get(), rows, source, 50, ask(10, 120)), 0.95);
}

// -------------------------------------------------------------------------------------------------------- failures
// Every allocation of an insert and of a search fails once: the call says so, and the index is as sound as before.
TEST(Hnsw, EveryAllocationMayFail) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 8);
  Clusters source(8, 5, 2);
  MemoryRows rows(space, 600);
  for (u32 i = 0; i < 600; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
  const host::AllocStats before = host::alloc_stats();
  {
    IndexPtr index = make(space, 4, 30);
    u32 done = 0, failures = 0;
    for (int64_t fail = 0; done < 600; fail++) {
      Scratch scratch;  // fresh: its buffers are allocated anew each time
      RowView view = rows.view();
      host::fail_alloc_after(fail % 12, false);
      Status st = index->insert(view, done, scratch);
      const bool hit = host::alloc_failed();
      host::fail_alloc_after(-1, false);
      if (st.ok()) {
        done++;
      } else {
        ASSERT_TRUE(hit);
        EXPECT_EQ(st.code(), Errno::nomem);
        EXPECT_FALSE(index->contains(done));
        failures++;
      }
    }
    EXPECT_GT(failures, 500u);
    VerifyReport r = verify(*index.get());
    EXPECT_TRUE(r.sound());
    EXPECT_EQ(r.nodes, 600u);
    PreparedQuery q(space, source.next());
    u32 refused = 0;
    for (int64_t fail = 0; fail < 12; fail++) {
      Scratch scratch;
      RowView view = rows.view();
      std::vector<Hit> hits(10);
      SearchParams p = ask(10, 50);
      if (fail % 2) p.accept = [](void *, u32) { return true; };
      host::fail_alloc_after(fail / 2, false);
      Result<u32> n = index->search(view, q.q, p, scratch, hits.data(), nullptr);
      host::fail_alloc_after(-1, false);
      refused += !n.ok();
      if (!n.ok()) {
        EXPECT_EQ(n.code(), Errno::nomem);
      }
    }
    EXPECT_GT(refused, 3u);
    for (int64_t fail = 0; fail < 3; fail++) {
      host::fail_alloc_after(fail, false);
      Result<IndexPtr> made = hnsw_create(space, HnswParams{});
      host::fail_alloc_after(-1, false);
      EXPECT_EQ(made.ok(), fail > 0);
    }
  }
  EXPECT_EQ(host::alloc_stats().outstanding, before.outstanding);
}

TEST(Hnsw, ScratchBoundHolds) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 8);
  Clusters source(8, 5, 2);
  MemoryRows rows(space, 500);
  for (u32 i = 0; i < 500; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
  IndexPtr index = make(space, 4, 30);
  insert_range(*index.get(), rows, 0, 500);
  PreparedQuery q(space, source.next());
  Scratch small(true, 4096);
  RowView view = rows.view();
  std::vector<Hit> hits(10);
  EXPECT_EQ(index->search(view, q.q, ask(10, 60000), small, hits.data(), nullptr).code(), Errno::nomem);
  EXPECT_LE(small.bytes(), 4096u + 2 * sizeof(u64) * 1024);
}

// Rows whose chunk cannot be had, for a while or for ever.
struct FlakyRows {
  const MemoryRows *rows;
  std::vector<ChunkRef> chunks;
  u32 countdown = ~0u;
  Errno why = Errno::io;
  explicit FlakyRows(const MemoryRows &r) : rows(&r), chunks(r.view().nchunks) {}
  static Status fault(RowView &v, u32 chunk) {
    auto *f = static_cast<FlakyRows *>(v.ctx);
    if (f->countdown-- == 0) return f->why;
    if (chunk >= f->chunks.size()) return Errno::noent;
    f->chunks[chunk].data.store(f->rows->view().chunks[chunk].data.load());
    return f->chunks[chunk].data.load() ? Status() : Status(Errno::noent);
  }
  RowView view() {
    for (ChunkRef &c : chunks) c.data.store(nullptr);
    RowView v = rows->view();
    v.chunks = chunks.data();
    v.nchunks = static_cast<u32>(chunks.size());
    v.ctx = this;
    v.fault = fault;
    return v;
  }
};

TEST(Hnsw, RowsThatCannotBeReadLeaveTheGraphSound) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 8);
  Clusters source(8, 5, 2);
  MemoryRows rows(space, 1000, 2048);  // many small chunks
  for (u32 i = 0; i < 1000; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
  IndexPtr index = make(space, 4, 30);
  FlakyRows flaky(rows);
  u32 failures = 0;
  for (u32 done = 0, n = 0; done < 1000; n++) {
    Scratch scratch;
    flaky.countdown = n % 17;
    RowView view = flaky.view();
    Status st = index->insert(view, done, scratch);
    if (st.ok()) {
      done++;
      continue;
    }
    EXPECT_EQ(st.code(), Errno::io);
    EXPECT_FALSE(index->contains(done));
    failures++;
  }
  EXPECT_GT(failures, 100u);
  EXPECT_TRUE(verify(*index.get()).sound());
  PreparedQuery q(space, source.next());
  Scratch scratch;
  std::vector<Hit> hits(10);
  flaky.countdown = 0;
  RowView view = flaky.view();
  EXPECT_EQ(index->search(view, q.q, ask(10, 40), scratch, hits.data(), nullptr).code(), Errno::io);
  flaky.countdown = ~0u;
  RowView again = flaky.view();
  EXPECT_EQ(*index->search(again, q.q, ask(10, 40), scratch, hits.data(), nullptr), 10u);
}

// It is known which rows match: hits are of these alone, as many as there are up to k, and mostly the nearest; at random,
// and where all that match lie together. Few, for the breadth, are found by looking at all of their codes.
TEST(HnswMatching, WalksAmongThem) {
  constexpr u32 n = 8000, dim = 24;
  struct Bits {
    std::vector<u64> word;
    static bool accept(void *ctx, u32 slot) { return static_cast<Bits *>(ctx)->word[slot / 64] >> (slot % 64) & 1; }
  };
  for (const HnswParams::Codes codes : {HnswParams::Codes::none, HnswParams::Codes::sq8}) {
    const simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, dim);
    Clusters source(dim, 40, 9);
    MemoryRows rows(space, n);
    std::vector<std::vector<float>> all;
    for (u32 i = 0; i < n; i++) all.push_back(source.next());
    for (const auto &v : all) ASSERT_TRUE(rows.add_f32(v.data()));
    HnswParams params;
    params.m = 12;
    params.ef_construction = 100;
    params.codes = codes;
    IndexPtr index = hnsw_create(space, params).take();
    if (index->must_learn()) {
      Scratch scratch;
      RowView view = rows.view();
      ASSERT_TRUE(index->learn(view, n, scratch, nullptr, nullptr).ok());
    }
    insert_range(*index.get(), rows, 0, n);
    std::mt19937 rng(4);
    for (const u32 one_in : {1u, 2u, 5u, 10u, 20u, 100u, 2000u, 0u}) {  // 0: a half of space
      SCOPED_TRACE(one_in);
      Bits bits{std::vector<u64>(div_up(n, 64u))};
      u32 count = 0;
      for (u32 i = 0; i < n; i++) {
        if (one_in ? rng() % one_in != 0 : all[i][0] < 0) continue;
        bits.word[i / 64] |= u64{1} << (i % 64);
        count++;
      }
      SearchParams p;
      p.k = 10;
      p.ef = 80;
      p.ctx = &bits;
      p.accept = Bits::accept;
      p.matching = bits.word.data();
      p.matching_end = n;
      p.matching_count = count;
      for (int i = 0; i < 40; i++) {
        PreparedQuery q(space, source.next());
        const auto hits = search(*index.get(), rows, q.q, p);
        EXPECT_EQ(hits.size(), min_of(p.k, count));
        std::set<u32> once;
        for (const Hit &h : hits) EXPECT_TRUE(Bits::accept(&bits, h.slot) && once.insert(h.slot).second);
      }
      EXPECT_GT(recall(*index.get(), rows, source, 100, p), one_in ? 0.93 : 0.85);
      if (one_in != 5 && one_in != 100) continue;
      p.ef = 10;
      PreparedQuery q(space, source.next());
      RowView view = rows.view();
      Scratch scratch;
      Hit hits[10];
      SearchStats stats;
      EXPECT_EQ(*index->search(view, q.q, p, scratch, hits, &stats), 10u);
      const bool looked_at_all = codes != HnswParams::Codes::none && one_in == 100;
      EXPECT_EQ(stats.hops == 0, looked_at_all);
      EXPECT_TRUE(!looked_at_all || stats.distances <= count + 3 * p.k + p.ef);
      EXPECT_GT(recall(*index.get(), rows, source, 100, p), looked_at_all ? 0.99 : 0.5);
    }
  }
}

}  // namespace
}  // namespace vexfs::vector
