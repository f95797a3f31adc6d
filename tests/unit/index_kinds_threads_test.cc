// SPDX-License-Identifier: MIT
// Indexes that learn, with inserts, searches and checkpoints at once.
#include <mutex>
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
  std::atomic<u32> next{0}, running{3}, working[3] = {};
  std::vector<std::thread> threads;
  for (u32 t = 0; t < 3; t++)
    threads.emplace_back([&, t] {
      Scratch scratch;
      RowView view = rows.view();
      for (u32 s; (s = next.fetch_add(1)) < n;) {
        EXPECT_TRUE(index->insert(view, s, scratch).ok());
        working[t].store(s + 1);
      }
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
      // Lists and codes of a graph on disk are blobs of their own: one has no link to what is under way in the other.
      const u32 begun = std::min(next.load(), n);
      const u32 covered = GetParam() == IndexKind::diskann
                              ? std::min({working[0].load(), working[1].load(), working[2].load()})
                              : begun;
      Checkpoint c;
      c.save(*index.get(), covered, rows.view());
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
  c.save(*b.index.get(), 3000, b.rows.view());
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
  if (GetParam() != IndexKind::diskann) {  // which reads nodes one by one, here from whole blobs
    EXPECT_EQ(c.reads, c.blobs.size());
  }
}

// What lies on disk is replaced, and what is kept in memory goes, while others walk and insert.
TEST(DiskAnnThreads, ListsGoToDiskUnderWalksAndInserts) {
  const u32 n = 8000 / kinds_scale;
  KindBuilt b(IndexKind::diskann, 1000, simd::Element::f32, simd::Metric::l2, 24, n);
  for (u32 i = 1000; i < n; i++) ASSERT_TRUE(b.rows.add_f32(b.source.next().data()));
  struct Disk : Checkpoint {
    std::mutex lock;
  } disk;
  const BlobSource source{.ctx = &disk,
                          .read = [](void *ctx, u32 blob, MutBytes out) -> Status {
                            auto &d = *static_cast<Disk *>(ctx);
                            const std::lock_guard<std::mutex> g(d.lock);
                            if (blob >= d.blobs.size() || d.blobs[blob].size() != out.size()) return Errno::corrupt;
                            memcpy(out.data(), d.blobs[blob].data(), out.size());
                            return {};
                          },
                          .read_parts = [](void *ctx, const BlobPart *p, u32 parts) -> Status {
                            auto &d = *static_cast<Disk *>(ctx);
                            for (u32 i = 0; i < parts; i++) {
                              const std::lock_guard<std::mutex> g(d.lock);
                              if (p[i].blob >= d.blobs.size()) return Errno::corrupt;
                              memcpy(p[i].out.data(), d.blobs[p[i].blob].data() + p[i].at, p[i].out.size());
                            }
                            return {};
                          }};
  std::atomic<u32> next{1000}, running{2}, done[2] = {1000, 1000};
  std::vector<std::thread> threads;
  for (u32 t = 0; t < 2; t++)
    threads.emplace_back([&, t] {
      Scratch scratch;
      RowView view = b.rows.view();
      for (u32 s; (s = next.fetch_add(1)) < n;) {
        EXPECT_TRUE(b.index->insert(view, s, scratch).ok());
        done[t].store(s + 1);
      }
      running.fetch_sub(1);
    });
  std::vector<std::vector<float>> queries;
  for (u32 i = 0; i < 50; i++) queries.push_back(b.source.next());
  threads.emplace_back([&] {
    for (u32 i = 0; running.load(); i++) {
      PreparedQuery q(b.space, queries[i % queries.size()]);
      for (const Hit &h : search(*b.index.get(), b.rows, q.q, ask(10, 64)))
        EXPECT_EQ(h.key, b.space.score_one(q.q, b.rows.row(h.slot), 0));
    }
  });
  u32 checkpoints = 0;
  const auto checkpoint = [&](u32 covered) {
    const u32 blobs = b.index->blob_count(covered), before = static_cast<u32>(disk.blobs.size());
    std::vector<std::pair<u32, std::vector<u8>>> fresh;
    RowView rows = b.rows.view();
    for (u32 i = 0; i < blobs; i++) {
      if (i < before && !b.index->blob_dirty(i)) continue;
      fresh.emplace_back(i, std::vector<u8>(b.index->blob_bytes(i)));
      ASSERT_TRUE(b.index->save_blob(i, covered, fresh.back().second, rows).ok());
    }
    {
      const std::lock_guard<std::mutex> g(disk.lock);
      disk.blobs.resize(blobs);
      for (auto &[i, bytes] : fresh) disk.blobs[i] = std::move(bytes);
    }
    disk.header.resize(b.index->header_bytes());
    ASSERT_TRUE(b.index->save_header(covered, disk.header).ok());
    b.index->saved(covered, source);
    checkpoints++;
  };
  while (running.load()) ASSERT_NO_FATAL_FAILURE(checkpoint(std::min(done[0].load(), done[1].load())));
  for (std::thread &t : threads) t.join();
  ASSERT_NO_FATAL_FAILURE(checkpoint(n));
  EXPECT_GE(checkpoints, 2u);
  for (const BlobSource &from : {source, disk.source()}) {
    IndexPtr loaded = index_open(IndexKind::diskann, b.space, disk.header, from).take();
    VerifyReport r = verify(*loaded.get());
    EXPECT_TRUE(r.sound());
    EXPECT_EQ(r.nodes, n);
    EXPECT_LE(r.unreachable, n / 1000);  // pruning may take a node its last way in
    EXPECT_GE(recall(*loaded.get(), b.rows, b.source, 30, ask(10, 64)), 0.95);
  }
}

}  // namespace
}  // namespace vexfs::vector
