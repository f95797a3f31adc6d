// SPDX-License-Identifier: MIT
// Exact scans, and the small structures of the walks, against the standard library.
#include <queue>

#include "../../kernel/core/vector/beam.h"
#include "../../kernel/core/vector/visited.h"
#include "hnsw_fixture.h"

namespace vexfs::vector {
namespace {

struct Picky {
  std::set<u32> refused;
  static bool accept(void *ctx, u32 slot) { return !static_cast<Picky *>(ctx)->refused.count(slot); }
};

TEST(Flat, ScanAgreesWithSortingEverything) {
  std::mt19937 rng(4);
  for (simd::Element e : {simd::Element::f32, simd::Element::f16, simd::Element::bf16, simd::Element::int8})
    for (simd::Metric m : {simd::Metric::l2, simd::Metric::cosine, simd::Metric::ip}) {
      simd::Space space = space_of(e, m, 19);
      Clusters source(19, 8, 3);
      MemoryRows rows(space, 1000, 8192);
      for (u32 i = 0; i < 1000; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
      for (u32 i = 0; i < 1000; i += 9) rows.kill(i);
      Picky picky;
      for (int i = 0; i < 200; i++) picky.refused.insert(static_cast<u32>(rng() % 1000));
      const u32 begin = static_cast<u32>(rng() % 300), end = 700 + static_cast<u32>(rng() % 300), nq = 11, k = 13;
      std::vector<PreparedQuery> queries;
      std::vector<simd::Query> q;
      for (u32 i = 0; i < nq; i++) {
        queries.emplace_back(space, source.next());
        q.push_back(queries.back().q);
      }
      SearchParams p;
      p.k = k;
      p.ctx = &picky;
      p.accept = Picky::accept;
      std::vector<Hit> storage(nq * k);
      std::vector<TopK> tops;
      for (u32 i = 0; i < nq; i++) tops.push_back({&storage[i * k], k, 0});
      Scratch scratch;
      RowView view = rows.view();
      SearchStats stats;
      ASSERT_TRUE(scan_exact(view, space, q.data(), nq, begin, end, p, scratch, tops.data(), &stats).ok());
      EXPECT_EQ(stats.scanned, end - begin);
      std::vector<u32> chosen;
      for (u32 s = begin; s < end; s++) chosen.push_back(s);
      for (u32 i = 0; i < nq; i++) {
        std::vector<std::pair<u32, u32>> want;
        for (u32 s = begin; s < end; s++)
          if (s % 9 && !picky.refused.count(s)) want.emplace_back(space.score_one(q[i], rows.row(s), rows.aux(s)), s);
        std::sort(want.begin(), want.end());
        want.resize(k);
        ASSERT_EQ(tops[i].n, k);
        std::vector<Hit> by_slot(k);
        TopK other{by_slot.data(), k, 0};
        ASSERT_TRUE(scan_slots(view, space, &q[i], 1, chosen.data(), static_cast<u32>(chosen.size()), p, scratch,
                               &other, nullptr)
                        .ok());
        for (u32 j = 0; j < k; j++) {
          EXPECT_EQ(tops[i].hits[j].key, want[j].first);
          EXPECT_EQ(tops[i].hits[j].slot, want[j].second);
          EXPECT_EQ(by_slot[j].slot, want[j].second);
        }
      }
    }
}

TEST(Flat, MergesWithHitsAlreadyThereAndCanBeInterrupted) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 4);
  Clusters source(4, 8, 3);
  MemoryRows rows(space, 5000);
  for (u32 i = 0; i < 5000; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
  PreparedQuery q(space, source.next());
  SearchParams p;
  p.k = 7;
  std::vector<Hit> hits(7);
  TopK top{hits.data(), 7, 0};
  Scratch scratch;
  RowView view = rows.view();
  ASSERT_TRUE(scan_exact(view, space, &q.q, 1, 0, 2000, p, scratch, &top, nullptr).ok());
  ASSERT_TRUE(scan_exact(view, space, &q.q, 1, 2000, 5000, p, scratch, &top, nullptr).ok());
  EXPECT_EQ(slots_of(hits), slots_of(exact(rows, q.q, p)));
  p.interrupted = [](void *) { return true; };
  EXPECT_EQ(scan_exact(view, space, &q.q, 1, 0, 5000, p, scratch, &top, nullptr).code(), Errno::intr);
  EXPECT_TRUE(scan_exact(view, space, &q.q, 1, 5000, 5000, p, scratch, &top, nullptr).ok());
}

TEST(Beam, TakesABatchAsItTakesOneByOne) {
  std::mt19937 rng(2);
  for (u32 cap : {1u, 2u, 7u, 64u, 300u}) {
    std::vector<Entry> storage(cap), other_storage(cap);
    Beam beam, one_by_one;
    beam.reset(storage.data(), cap);
    one_by_one.reset(other_storage.data(), cap);
    for (u32 slot = 0; slot < 3000;) {
      std::vector<Entry> batch;
      for (u32 n = static_cast<u32>(rng() % 40); n; n--, slot++) {
        const Entry e = entry_of(static_cast<u32>(rng() % 5000), slot);
        if (e < beam.limit()) batch.push_back(e);
        one_by_one.add(e);
      }
      if (!batch.empty()) beam.add_below(batch.data(), static_cast<u32>(batch.size()));
      ASSERT_EQ(beam.size(), one_by_one.size());
      ASSERT_TRUE(std::equal(beam.entries(), beam.entries() + beam.size(), one_by_one.entries())) << cap;
      ASSERT_EQ(beam.peek_next(), one_by_one.peek_next());
      for (u32 take = static_cast<u32>(rng() % 3); take && beam.has_next(); take--) {
        ASSERT_EQ(beam.take_next(), one_by_one.take_next());
      }
    }
  }
}

TEST(Beam, KeepsTheNearestAndTakesThemInOrder) {
  std::mt19937 rng(1);
  for (u32 cap : {1u, 2u, 7u, 64u, 300u}) {
    std::vector<Entry> storage(cap);
    Beam beam;
    beam.reset(storage.data(), cap);
    std::vector<Entry> all;
    for (u32 slot = 0; slot < 1000; slot++) {
      const Entry e = entry_of(static_cast<u32>(rng() % 500), slot);
      beam.add(e);
      all.push_back(e);
      if (slot % 3 == 0 && beam.has_next()) {
        const u32 expected = beam.peek_next();
        EXPECT_EQ(beam.take_next(), expected);
      }
    }
    std::sort(all.begin(), all.end());
    ASSERT_EQ(beam.size(), cap);
    for (u32 i = 0; i < cap; i++) EXPECT_EQ(beam.entries()[i] & ~Entry{1}, all[i]);
    beam.expand_again();
    for (u32 i = 0; i < cap; i++) EXPECT_EQ(beam.take_next(), entry_slot(all[i]));
    EXPECT_FALSE(beam.has_next());
    EXPECT_EQ(beam.peek_next(), slot_none);
  }
}

TEST(MinHeap, PopsInOrderAndSurvivesMoving) {
  std::mt19937 rng(2);
  std::vector<Entry> a(600), b(2000);
  MinHeap heap;
  heap.reset(a.data(), 600);
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> reference;
  for (int i = 0; i < 5000; i++) {
    if (i == 900) heap.move_to(b.data(), 2000);
    if (rng() % 3 && heap.size() < 500) {
      const Entry e = entry_of(static_cast<u32>(rng() % 100), static_cast<u32>(rng() % 1000));
      heap.push(e);
      reference.push(e);
    } else if (!heap.empty()) {
      ASSERT_EQ(heap.top(), reference.top());
      heap.pop();
      reference.pop();
    }
    ASSERT_EQ(heap.size(), reference.size());
  }
}

TEST(Visited, BitmapAndHashBothRemember) {
  std::mt19937 rng(3);
  for (u32 slots : {100u, 70000u, Visited::bitmap_slots_max, Visited::bitmap_slots_max + 1, 1u << 30}) {
    Scratch scratch;
    Visited visited(scratch);
    for (int round = 0; round < 3; round++) {
      ASSERT_TRUE(visited.reset(slots, 10).ok());
      std::set<u32> reference;
      for (int i = 0; i < 20000; i++) {
        const u32 slot = static_cast<u32>(rng() % slots);
        if (i % 32 == 0) {
          ASSERT_TRUE(visited.reserve(32).ok());
        }
        ASSERT_EQ(visited.insert(slot), reference.insert(slot).second);
      }
    }
  }
  Scratch tiny(true, 20000);
  Visited v(tiny);
  ASSERT_TRUE(v.reset(1u << 30, 10).ok());
  Status st;
  for (u32 i = 0; st.ok() && i < 100000; i++) {
    st = v.reserve(1);
    if (st.ok()) v.insert(i);
  }
  EXPECT_EQ(st.code(), Errno::nomem);
}

}  // namespace
}  // namespace vexfs::vector
