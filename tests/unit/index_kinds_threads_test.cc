// SPDX-License-Identifier: MIT
// Indexes that learn, with inserts, searches and checkpoints at once.
#include <thread>

#include "index_kinds_fixture.h"

namespace vexfs::vector {
namespace {

class KindThreads : public testing::TestWithParam<IndexKind> {};
INSTANTIATE_TEST_SUITE_P(Learning, KindThreads, testing::ValuesIn(learning_kinds),
                         [](const auto &i) { return kind_text(i.param); });

TEST_P(KindThreads, InsertsSearchesAndCheckpointsAtOnce) {
  const u32 n = 12000 / kinds_scale, taught = 1000;
  simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, 16);
  Clusters source(16, 30, 2);
  MemoryRows rows(space, n);
  for (u32 i = 0; i < n; i++) ASSERT_TRUE(rows.add_f32(source.next().data()));
  IndexPtr index = make_kind(space, GetParam());
  ASSERT_TRUE(learn(*index.get(), rows, taught).ok());
  std::atomic<u32> next{0}, running{3};
  std::vector<std::thread> threads;
  for (u32 t = 0; t < 3; t++)
    threads.emplace_back([&] {
      Scratch scratch;
      RowView view = rows.view();
      for (u32 s; (s = next.fetch_add(1)) < n;) EXPECT_TRUE(index->insert(view, s, scratch).ok());
      running.fetch_sub(1);
    });
  std::vector<std::vector<float>> queries;
  for (u32 i = 0; i < 50; i++) queries.push_back(source.next());
  for (u32 t = 0; t < 2; t++)
    threads.emplace_back([&, t] {
      for (u32 i = t; running.load(); i++) {
        PreparedQuery q(space, queries[i % queries.size()]);
        std::vector<Hit> hits = search(*index.get(), rows, q.q, ask(10, 64));
        for (size_t j = 0; j < hits.size(); j++) {
          EXPECT_LT(hits[j].slot, n);
          EXPECT_EQ(hits[j].key, space.score_one(q.q, rows.row(hits[j].slot), 0));
        }
      }
    });
  threads.emplace_back([&] {
    while (running.load()) {
      const u32 covered = std::min(next.load(), n);
      Checkpoint c;
      c.save(*index.get(), covered);
      BlobSource src = c.source();
      IndexPtr loaded = index_open(GetParam(), space, c.header, src).take();
      VerifyReport r = verify(*loaded.get());
      EXPECT_TRUE(r.sound());
      EXPECT_LE(r.nodes, covered);
    }
  });
  for (std::thread &t : threads) t.join();
  VerifyReport r = verify(*index.get());
  EXPECT_TRUE(r.sound());
  EXPECT_EQ(r.nodes, n);
  EXPECT_EQ(r.unreachable, 0u);
  EXPECT_GE(recall(*index.get(), rows, source, 30, ask(10, 64)), 0.8);
}

TEST_P(KindThreads, ACheckpointIsReadOnceByManyWhoWantIt) {
  KindBuilt b(GetParam(), 3000);
  Checkpoint c;
  c.save(*b.index.get(), 3000);
  BlobSource src = c.source();
  IndexPtr loaded = index_open(GetParam(), b.space, c.header, src).take();
  std::vector<std::vector<float>> queries;
  for (u32 i = 0; i < 4; i++) queries.push_back(b.source.next());
  std::vector<std::thread> threads;
  for (u32 t = 0; t < 4; t++)
    threads.emplace_back([&, t] {
      PreparedQuery q(b.space, queries[t]);
      EXPECT_EQ(slots_of(search(*loaded.get(), b.rows, q.q, ask(10, 64))),
                slots_of(search(*b.index.get(), b.rows, q.q, ask(10, 64))));
    });
  for (std::thread &t : threads) t.join();
  EXPECT_EQ(c.reads, c.blobs.size());
}

}  // namespace
}  // namespace vexfs::vector
