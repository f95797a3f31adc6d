// SPDX-License-Identifier: MIT
// Indexes that learn (IVF-flat, IVF-PQ, LSH): what they find, for every kind of row; learning, deletes, filters,
// interruption, limits, failures.
#include <filesystem>

#include "../../lib/vecfile/vecfile.h"
#include "index_kinds_fixture.h"

namespace vexfs::vector {
namespace {

class Kinds : public testing::TestWithParam<IndexKind> {};
INSTANTIATE_TEST_SUITE_P(Learning, Kinds, testing::ValuesIn(learning_kinds),
                         [](const auto &i) { return kind_text(i.param); });

class EveryRow : public testing::TestWithParam<std::tuple<IndexKind, simd::Element, simd::Metric>> {};

TEST_P(EveryRow, FindsWhatAScanFinds) {
  auto [kind, e, m] = GetParam();
  const u32 n = 8000 / kinds_scale;
  KindBuilt b(kind, n, e, m, 40);
  // Hashing by direction cannot tell rows of one direction and different lengths apart.
  const double wanted = kind == IndexKind::lsh ? (m == simd::Metric::ip ? 0.5 : 0.85) : 0.95;
  EXPECT_GE(recall(*b.index.get(), b.rows, b.source, 50, ask(10, 64)), wanted);
  VerifyReport r = verify(*b.index.get());
  EXPECT_TRUE(r.sound());
  EXPECT_EQ(r.nodes, n);
  // Under inner product a graph's lists may all turn to longer rows.
  EXPECT_LE(r.unreachable, kind == IndexKind::diskann && m == simd::Metric::ip ? n / 20 : 0u);
  EXPECT_EQ(b.index->counts().nodes, n);
}
INSTANTIATE_TEST_SUITE_P(Learning, EveryRow,
                         testing::Combine(testing::ValuesIn(learning_kinds),
                                          testing::Values(simd::Element::f32, simd::Element::f16, simd::Element::bf16,
                                                          simd::Element::int8),
                                          testing::Values(simd::Metric::l2, simd::Metric::cosine, simd::Metric::ip)),
                         [](const auto &i) {
                           return kind_text(std::get<0>(i.param)) + "_" +
                                  std::to_string(static_cast<int>(std::get<1>(i.param))) + "_" +
                                  std::to_string(static_cast<int>(std::get<2>(i.param)));
                         });

// Real embeddings, against their exact neighbours.
TEST_P(Kinds, RecallOnRealEmbeddings) {
  const std::string dir = (std::filesystem::path(__FILE__).parent_path().parent_path() / "data").string();
  simd::Space space = space_of(simd::Element::f16, simd::Metric::cosine, 256);
  MemoryRows rows(space, 10000);
  std::vector<float> row(256);
  const u32 limit = 10000 / kinds_scale;
  for (const char *name : {"rfc10k_base_0.npy", "rfc10k_base_1.npy", "rfc10k_base_2.npy"}) {
    auto reader = vecfile::open(dir + "/" + name);
    for (size_t i = 0; i < reader->rows() && rows.size() < limit; i++) {
      reader->read_f32(i, 1, row.data());
      ASSERT_TRUE(rows.add_f32(row.data()));
    }
  }
  IndexPtr index = make_kind(space, GetParam());
  ASSERT_TRUE(learn(*index.get(), rows, rows.size()).ok());
  insert_range(*index.get(), rows, 0, rows.size());
  auto queries = vecfile::open(dir + "/rfc10k_query.npy");
  size_t found = 0, all = 0;
  SearchStats stats;
  for (size_t i = 0; i < queries->rows(); i++) {
    queries->read_f32(i, 1, row.data());
    PreparedQuery q(space, row);
    std::vector<u32> want = slots_of(exact(rows, q.q, ask(10, 0)));
    for (const Hit &h : search(*index.get(), rows, q.q, ask(10, 64), &stats))
      found += static_cast<size_t>(std::count(want.begin(), want.end(), h.slot));
    all += want.size();
  }
  const double share = static_cast<double>(found) / static_cast<double>(all);
  EXPECT_GE(share, GetParam() == IndexKind::lsh ? 0.75 : 0.9);
  // Of few rows hashing looks at most.
  const u64 tenths = GetParam() == IndexKind::lsh ? 9 : 6;
  EXPECT_LT(stats.distances, queries->rows() * u64{rows.size()} * tenths / 10) << "no better than a scan";
  RecordProperty("recall", std::to_string(share));
}

TEST_P(Kinds, LearnsFirst) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 8);
  Clusters source(8, 20, 3);
  MemoryRows rows(space, 600);
  for (u32 i = 0; i < 600; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
  IndexPtr index = make_kind(space, GetParam());
  Scratch scratch;
  RowView view = rows.view();
  PreparedQuery q(space, source.next());
  EXPECT_TRUE(index->must_learn());
  EXPECT_EQ(index->learn_min(), 512u);
  EXPECT_EQ(index->insert(view, 0, scratch).code(), Errno::again);
  EXPECT_TRUE(search(*index.get(), rows, q.q, ask(5, 10)).empty());
  EXPECT_FALSE(index->contains(0));
  EXPECT_EQ(index->blob_count(0), 0u);
  EXPECT_TRUE(verify(*index.get()).sound());
  index->print([](const char *text, usize n) {
    EXPECT_GT(n, strlen("dim="));
    EXPECT_TRUE(strstr(text, "dim=8"));
  });
  // Killed while it learns: nothing was learnt, and the next attempt succeeds.
  u32 calls = 0;
  auto kill = [](void *p) { return ++*static_cast<u32 *>(p) > 3; };
  EXPECT_EQ(learn(*index.get(), rows, 600, kill, &calls).code(), Errno::intr);
  EXPECT_TRUE(index->must_learn());
  ASSERT_TRUE(learn(*index.get(), rows, 600).ok());
  EXPECT_FALSE(index->must_learn());
  insert_range(*index.get(), rows, 0, 600);
  EXPECT_EQ(index->insert(view, 3, scratch).code(), Errno::exist);
  EXPECT_EQ(index->insert(view, slot_none, scratch).code(), Errno::inval);
  EXPECT_EQ(index->insert(view, 3000000, scratch).code(), Errno::noent) << "a row that does not exist";
  EXPECT_TRUE(index->contains(3));
  EXPECT_FALSE(index->contains(slot_max));
  EXPECT_EQ(search(*index.get(), rows, q.q, ask(0, 10)).size(), 0u);
  EXPECT_FALSE(index->outgrown(600));
  EXPECT_FALSE(index->outgrown(2399));
  EXPECT_EQ(index->outgrown(2400), GetParam() != IndexKind::diskann);
}

TEST_P(Kinds, TooFewLiveRowsTeachNothing) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::cosine, 8);
  Clusters source(8, 20, 3);
  MemoryRows rows(space, 600);
  for (u32 i = 0; i < 600; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
  for (u32 i = 0; i < 600; i++) rows.kill(i);
  IndexPtr index = make_kind(space, GetParam());
  Status s = learn(*index.get(), rows, 600);
  EXPECT_EQ(s.code(), Errno::again);
  EXPECT_TRUE(index->must_learn());
}

TEST_P(Kinds, EqualRowsDoNoHarm) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 16);
  MemoryRows rows(space, 1000);
  std::vector<float> same(16, 1.5f);
  for (u32 i = 0; i < 1000; i++) ASSERT_TRUE(rows.add_f32(same.data()));
  IndexPtr index = make_kind(space, GetParam());
  ASSERT_TRUE(learn(*index.get(), rows, 1000).ok());
  insert_range(*index.get(), rows, 0, 1000);
  PreparedQuery q(space, same);
  EXPECT_EQ(search(*index.get(), rows, q.q, ask(20, 64)).size(), 20u);
  EXPECT_TRUE(verify(*index.get()).sound());
}

TEST_P(Kinds, OddDimensions) {
  for (u32 dim : {1u, 2u, 3u, 5u, 67u, 700u}) {
    KindBuilt b(GetParam(), 1200, simd::Element::f32, simd::Metric::l2, dim);
    EXPECT_GE(recall(*b.index.get(), b.rows, b.source, 20, ask(5, 64)), dim == 1 ? 0.3 : 0.7) << dim;
    EXPECT_TRUE(verify(*b.index.get()).sound());
  }
}

TEST_P(Kinds, ParametersAreTaken) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 16);
  Clusters source(16, 20, 3);
  MemoryRows rows(space, 2000);
  for (u32 i = 0; i < 2000; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
  IndexParams p{.kind = GetParam(), .lists = 50, .probes = 50, .pq_m = 16, .tables = 3, .bits = 5};
  IndexPtr index = index_create(space, p).take();
  const bool has_lists = GetParam() == IndexKind::ivf_flat || GetParam() == IndexKind::ivf_pq;
  EXPECT_EQ(index->learn_min(), has_lists ? 1500u : 512u);
  ASSERT_TRUE(learn(*index.get(), rows, 2000).ok());
  insert_range(*index.get(), rows, 0, 2000);
  const double found = recall(*index.get(), rows, source, 20, ask(10, 64));
  EXPECT_GE(found, GetParam() == IndexKind::ivf_flat ? 1.0 : 0.5);  // all lists: exact
  EXPECT_EQ(index->outgrown(slot_max), GetParam() == IndexKind::lsh) << "the number of lists was asked for";
  p.lists = 65537;
  EXPECT_EQ(index_create(space, p).code(), Errno::inval);
  p.lists = 0;
  p.pq_m = 17;
  EXPECT_EQ(index_create(space, p).code(), Errno::inval);
  p.pq_m = 0;
  p.bits = 33;
  EXPECT_EQ(index_create(space, p).code(), Errno::inval);
}

TEST_P(Kinds, DeadRowsAreLeftOut) {
  KindBuilt b(GetParam(), 3000 / kinds_scale);
  std::set<u32> dead;
  std::mt19937 rng(3);
  for (u32 i = 0; i < b.rows.size() / 2; i++) {
    const u32 s = rng() % b.rows.size();
    b.rows.kill(s);
    dead.insert(s);
    Scratch scratch;
    RowView view = b.rows.view();
    EXPECT_TRUE(b.index->remove(view, s, scratch).ok());
  }
  Scratch scratch;
  RowView view = b.rows.view();
  u32 alive = 0;
  while (dead.count(alive)) alive++;
  EXPECT_EQ(b.index->remove(view, alive, scratch).code(), Errno::inval);
  for (int i = 0; i < 30; i++) {
    PreparedQuery q(b.space, b.source.next());
    for (const Hit &h : search(*b.index.get(), b.rows, q.q, ask(20, 64))) EXPECT_FALSE(dead.count(h.slot));
  }
  EXPECT_GE(recall(*b.index.get(), b.rows, b.source, 30, ask(10, 64)), 0.85);
}

TEST_P(Kinds, FiltersAreAskedForNearRowsOnly) {
  KindBuilt b(GetParam(), 4000 / kinds_scale);
  SearchParams p = ask(10, 64);
  p.accept = [](void *, u32 slot) { return slot % 3 == 0; };
  SearchStats stats;
  size_t found = 0, all = 0;
  for (int i = 0; i < 30; i++) {
    PreparedQuery q(b.space, b.source.next());
    std::vector<u32> want = slots_of(exact(b.rows, q.q, p));
    for (const Hit &h : search(*b.index.get(), b.rows, q.q, p, &stats)) {
      EXPECT_EQ(h.slot % 3, 0u);
      found += static_cast<size_t>(std::count(want.begin(), want.end(), h.slot));
    }
    all += want.size();
  }
  EXPECT_GE(static_cast<double>(found), 0.85 * static_cast<double>(all));
  EXPECT_GT(stats.accepts, 0u);
  EXPECT_LT(stats.accepts, stats.distances / 2);
}

TEST_P(Kinds, HitsAreInOrderAndOnce) {
  KindBuilt b(GetParam(), 2000);
  for (int i = 0; i < 20; i++) {
    PreparedQuery q(b.space, b.source.next());
    std::vector<Hit> hits = search(*b.index.get(), b.rows, q.q, ask(50, 64));
    ASSERT_EQ(hits.size(), 50u);
    for (size_t j = 1; j < hits.size(); j++)
      EXPECT_TRUE(hits[j - 1].key < hits[j].key || (hits[j - 1].key == hits[j].key && hits[j - 1].slot < hits[j].slot));
    for (const Hit &h : hits) EXPECT_EQ(h.key, b.space.score_one(q.q, b.rows.row(h.slot), b.rows.aux(h.slot)));
  }
}

TEST_P(Kinds, SearchesAreInterruptedAndLimited) {
  KindBuilt b(GetParam(), 8000);
  Scratch scratch;
  RowView view = b.rows.view();
  std::vector<Hit> hits(100);
  PreparedQuery q(b.space, b.source.next());
  SearchParams p = ask(100, 60000);
  u32 calls = 0;
  p.ctx = &calls;
  p.interrupted = [](void *c) { return ++*static_cast<u32 *>(c) == 2; };
  EXPECT_EQ(b.index->search(view, q.q, p, scratch, hits.data(), nullptr).code(), Errno::intr);
  EXPECT_EQ(calls, 2u);
  p.interrupted = nullptr;
  p.distances_max = 1500;
  SearchStats stats;
  EXPECT_TRUE(b.index->search(view, q.q, p, scratch, hits.data(), &stats).ok());
  EXPECT_TRUE(stats.truncated);
  EXPECT_LE(stats.distances, 1500u + 64);
}

TEST_P(Kinds, TheSameRowsAndSeedGiveTheSameIndex) {
  Checkpoint a, c, other;
  {
    KindBuilt b(GetParam(), 2000);
    a.save(*b.index.get(), 2000);
    IndexPtr again = make_kind(b.space, GetParam());
    ASSERT_TRUE(learn(*again.get(), b.rows, 2000).ok());
    insert_range(*again.get(), b.rows, 0, 2000);
    c.save(*again.get(), 2000);
    IndexPtr seeded = make_kind(b.space, GetParam(), 6);
    ASSERT_TRUE(learn(*seeded.get(), b.rows, 2000).ok());
    other.save(*seeded.get(), 0);
  }
  EXPECT_EQ(a.header, c.header);
  EXPECT_EQ(a.blobs, c.blobs);
  EXPECT_NE(a.blobs[0], other.blobs[0]);
}

TEST_P(Kinds, EveryAllocationMayFail) {
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 8);
  Clusters source(8, 20, 3);
  MemoryRows rows(space, 700);
  for (u32 i = 0; i < 700; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
  const host::AllocStats before = host::alloc_stats();
  u32 failures = 0;
  for (int64_t fail = 0;; fail++) {
    host::fail_alloc_after(fail, false);
    Result<IndexPtr> made = index_create(space, IndexParams{.kind = GetParam(), .seed = 1});
    Status s = made.ok() ? learn(*made->get(), rows, 700) : Status(made.error());
    if (s.ok()) {
      Scratch scratch;
      RowView view = rows.view();
      bool injected = false;
      for (u32 i = 0; i < 700 && s.ok(); i++) {
        s = made->get()->insert(view, i, scratch);
        if (!s.ok()) {
          EXPECT_EQ(s.code(), Errno::nomem);
          failures++;
          injected = true;
          host::fail_alloc_after(-1, false);
          s = made->get()->insert(view, i, scratch);  // the same row, once more
          EXPECT_TRUE(s.ok());
        }
      }
      host::fail_alloc_after(-1, false);
      VerifyReport r = verify(*made->get());
      EXPECT_TRUE(r.sound());
      EXPECT_EQ(r.nodes, 700u);
      EXPECT_EQ(r.unreachable, 0u);
      if (!injected) break;
    } else {
      EXPECT_EQ(s.code(), Errno::nomem);
      failures++;
      host::fail_alloc_after(-1, false);
      if (made.ok()) {
        EXPECT_TRUE(made->get()->must_learn());
        if (fail % 8 == 0) {
          EXPECT_TRUE(learn(*made->get(), rows, 700).ok());
        }
      }
    }
    if (fail > 60) fail += fail / 8;  // segments of lists are many, and all alike
  }
  EXPECT_GT(failures, 10u);
  EXPECT_EQ(host::alloc_stats().outstanding, before.outstanding);
}

TEST_P(Kinds, EveryAllocationOfASearchMayFail) {
  KindBuilt b(GetParam(), 1000);
  u32 refused = 0;
  PreparedQuery q(b.space, b.source.next());
  for (int64_t fail = 0; fail < 16; fail++) {
    Scratch scratch;
    RowView view = b.rows.view();
    std::vector<Hit> hits(10);
    host::fail_alloc_after(fail, false);
    Result<u32> n = b.index->search(view, q.q, ask(10, 64), scratch, hits.data(), nullptr);
    host::fail_alloc_after(-1, false);
    refused += !n.ok();
    if (!n.ok()) {
      EXPECT_EQ(n.code(), Errno::nomem);
    }
  }
  EXPECT_GE(refused, 4u);
  EXPECT_LT(refused, 16u);
}

TEST(IvfPq, TakesLessMemoryThanTheRows) {
  KindBuilt b(IndexKind::ivf_pq, 20000 / kinds_scale, simd::Element::f32, simd::Metric::l2, 128);
  EXPECT_LT(b.index->memory_bytes(), usize{b.rows.size()} * 512 / 3);
}

}  // namespace
}  // namespace vexfs::vector
