// SPDX-License-Identifier: MIT
// Checkpoints of indexes that learn: the same answers after loading; coverage; damage of every kind.
#include "../../kernel/core/vector/learnt_format.h"
#include "index_kinds_fixture.h"

namespace vexfs::vector {
namespace {

class KindCheckpoint : public testing::TestWithParam<IndexKind> {};
INSTANTIATE_TEST_SUITE_P(Learning, KindCheckpoint, testing::ValuesIn(learning_kinds),
                         [](const auto &i) { return kind_text(i.param); });

TEST_P(KindCheckpoint, LoadsToTheSameAnswers) {
  for (simd::Metric m : {simd::Metric::l2, simd::Metric::cosine}) {
    KindBuilt b(GetParam(), 9000 / kinds_scale, simd::Element::f32, m);
    Checkpoint c;
    c.save(*b.index.get(), b.rows.size(), b.rows.view());
    EXPECT_EQ(*index_covered(GetParam(), c.header), b.rows.size());
    BlobSource src = c.source();
    IndexPtr loaded = index_open(GetParam(), b.space, c.header, src).take();
    EXPECT_EQ(c.reads, 0u) << "opening reads the header only";
    EXPECT_EQ(loaded->counts().nodes, b.rows.size());
    for (int i = 0; i < 50; i++) {
      PreparedQuery q(b.space, b.source.next());
      EXPECT_EQ(slots_of(search(*b.index.get(), b.rows, q.q, ask(10, 50))),
                slots_of(search(*loaded.get(), b.rows, q.q, ask(10, 50))));
    }
    VerifyReport r = verify(*loaded.get()), o = verify(*b.index.get());
    EXPECT_TRUE(r.sound());
    EXPECT_EQ(r.nodes, o.nodes);
    EXPECT_EQ(r.links, o.links);
    for (u32 i = 0; i < c.blobs.size(); i++) EXPECT_FALSE(loaded->blob_dirty(i));
    Checkpoint again;
    again.save(*loaded.get(), b.rows.size(), b.rows.view());
    EXPECT_EQ(c.blobs, again.blobs);
    EXPECT_EQ(c.header, again.header);
  }
}

TEST_P(KindCheckpoint, CoversWhatItSaysAndTheRestIsInsertedAgain) {
  const u32 all = 6000 / kinds_scale;
  KindBuilt b(GetParam(), all);
  for (u32 covered : {0u, 1u, 17u, all / 2, all - 1}) {
    Checkpoint c;
    c.save(*b.index.get(), covered, b.rows.view());
    BlobSource src = c.source();
    IndexPtr loaded = index_open(GetParam(), b.space, c.header, src).take();
    VerifyReport r = verify(*loaded.get());
    EXPECT_TRUE(r.sound()) << covered;
    EXPECT_EQ(r.nodes, covered);
    for (u32 s = 0; s < all; s += 7) EXPECT_EQ(loaded->contains(s), s < covered);
    insert_range(*loaded.get(), b.rows, covered, all);
    EXPECT_EQ(verify(*loaded.get()).nodes, all);
    EXPECT_GE(recall(*loaded.get(), b.rows, b.source, 30, ask(10, 64)), 0.85);
  }
}

TEST_P(KindCheckpoint, CleanBlobsNeedNotBeWrittenAgain) {
  KindBuilt b(GetParam(), 9000, simd::Element::f32, simd::Metric::l2, 4, 9001);
  Checkpoint c;
  for (u32 i = 0; i < b.index->blob_count(9000); i++) EXPECT_TRUE(b.index->blob_dirty(i)) << i;
  c.save(*b.index.get(), 9000, b.rows.view());
  for (u32 i = 0; i < c.blobs.size(); i++) EXPECT_FALSE(b.index->blob_dirty(i)) << i;
  ASSERT_TRUE(b.rows.add_f32(b.source.next().data()));
  insert_range(*b.index.get(), b.rows, 9000, 9001);
  u32 dirty = 0;
  for (u32 i = 0; i < b.index->blob_count(9001); i++) dirty += b.index->blob_dirty(i);
  // The one with the new slot; of a graph, those too of which a node has a link to it.
  EXPECT_EQ(GetParam() == IndexKind::diskann ? min_of(dirty, 3u) : dirty, GetParam() == IndexKind::diskann ? 3u : 1u);
  RowView rows = b.rows.view();
  Checkpoint full, part = c;
  part.header.resize(b.index->header_bytes());
  part.blobs.resize(b.index->blob_count(9001));
  ASSERT_TRUE(b.index->save_header(9001, part.header).ok());
  for (u32 i = 0; i < part.blobs.size(); i++)
    if (b.index->blob_dirty(i)) {
      ASSERT_TRUE(b.index->save_blob(i, 9001, part.blobs[i], rows).ok());
    }
  full.save(*b.index.get(), 9001, b.rows.view());
  EXPECT_EQ(part.blobs, full.blobs);
  EXPECT_EQ(part.header, full.header);
}

TEST_P(KindCheckpoint, ReadErrorsComeOutAndGoAway) {
  KindBuilt b(GetParam(), 3000);
  Checkpoint c;
  c.save(*b.index.get(), 3000, b.rows.view());
  BlobSource src = c.source();
  IndexPtr loaded = index_open(GetParam(), b.space, c.header, src).take();
  c.fail = true;
  PreparedQuery q(b.space, b.source.next());
  Scratch scratch;
  RowView view = b.rows.view();
  std::vector<Hit> hits(10);
  EXPECT_EQ(loaded->search(view, q.q, ask(10, 50), scratch, hits.data(), nullptr).code(), Errno::io);
  EXPECT_FALSE(loaded->contains(5));
  EXPECT_FALSE(loaded->damaged());
  c.fail = false;
  EXPECT_EQ(*loaded->search(view, q.q, ask(10, 50), scratch, hits.data(), nullptr), 10u);
}

TEST_P(KindCheckpoint, AllocationFailuresWhileLoading) {
  KindBuilt b(GetParam(), 1500);
  Checkpoint c;
  c.save(*b.index.get(), 1500, b.rows.view());
  const host::AllocStats before = host::alloc_stats();
  u32 failed = 0;
  for (int64_t fail = 0; fail < 4000; fail += 1 + fail / 6) {
    BlobSource src = c.source();
    host::fail_alloc_after(fail, false);
    Result<IndexPtr> loaded = index_open(GetParam(), b.space, c.header, src);
    if (!loaded.ok()) {
      host::fail_alloc_after(-1, false);
      failed++;
      continue;
    }
    Scratch scratch;
    RowView view = b.rows.view();
    std::vector<Hit> hits(10);
    const simd::Query q = b.space.row_query(b.rows.row(5), 0);
    Result<u32> n = loaded->get()->search(view, q, ask(10, 50), scratch, hits.data(), nullptr);
    const bool injected = host::alloc_failed();
    host::fail_alloc_after(-1, false);
    if (GetParam() == IndexKind::diskann)  // goes without a cache of units
      EXPECT_TRUE(n.ok() || injected);
    else
      EXPECT_EQ(n.ok(), !injected);
    failed += !n.ok();
    Result<u32> again = loaded->get()->search(view, q, ask(10, 50), scratch, hits.data(), nullptr);
    EXPECT_TRUE(again.ok() && *again == 10);
    EXPECT_EQ(verify(*loaded->get()).nodes, 1500u);
  }
  EXPECT_GT(failed, 8u);
  EXPECT_EQ(host::alloc_stats().outstanding, before.outstanding);
}

// Every bit of the header, one by one.
TEST_P(KindCheckpoint, HeadersThatLieAreRefusedOrHarmless) {
  KindBuilt b(GetParam(), 700);
  Checkpoint c;
  c.save(*b.index.get(), 700, b.rows.view());
  BlobSource src = c.source();
  host::set_log_level(0);
  EXPECT_FALSE(index_open(GetParam(), b.space, Bytes(c.header.data(), 63), src).ok());
  EXPECT_FALSE(index_open(IndexKind::flat, b.space, c.header, src).ok());
  for (IndexKind other : learning_kinds) {
    if (other != GetParam()) {
      EXPECT_EQ(index_open(other, b.space, c.header, src).code(), Errno::corrupt);
    }
  }
  simd::Space space = space_of(simd::Element::f32, simd::Metric::ip, 24);
  EXPECT_EQ(index_open(GetParam(), space, c.header, src).code(), Errno::inval);
  u32 refused = 0;
  for (size_t bit = 0; bit < c.header.size() * 8; bit++) {
    std::vector<u8> h = c.header;
    h[bit / 8] = static_cast<u8>(h[bit / 8] ^ 1u << (bit % 8));
    Result<IndexPtr> opened = index_open(GetParam(), b.space, h, src);
    if (!opened.ok()) {
      refused++;
      continue;
    }
    std::vector<Hit> hits(10);
    Scratch scratch;
    RowView view = b.rows.view();
    const simd::Query q = b.space.row_query(b.rows.row(5), 0);
    Result<u32> n = opened->get()->search(view, q, ask(10, 50), scratch, hits.data(), nullptr);
    refused += !n.ok();
    for (u32 i = 0; n.ok() && i < *n; i++) EXPECT_LT(hits[i].slot, 700u);
  }
  host::set_log_level(VX_LOG_INFO);
  EXPECT_GT(refused, 150u);
}

// Bytes changed anywhere: loading says so or the index works on what is left; never a wild list.
TEST_P(KindCheckpoint, DamagedBlobsNeverLeadAstray) {
  KindBuilt b(GetParam(), 2000);
  Checkpoint good;
  good.save(*b.index.get(), 2000, b.rows.view());
  std::mt19937 rng(99);
  host::set_log_level(0);
  u32 refused = 0, rounds = 300 / kinds_scale;
  for (u32 round = 0; round < rounds; round++) {
    Checkpoint c = good;
    const u32 hits_wanted = 1u << (rng() % 8);
    for (u32 i = 0; i < hits_wanted; i++) {
      std::vector<u8> &blob = c.blobs[rng() % c.blobs.size()];
      const size_t header_bias = rng() % 16 == 0 ? 16 : blob.size();
      blob[rng() % header_bias] = static_cast<u8>(rng());
    }
    BlobSource src = c.source();
    IndexPtr index = index_open(GetParam(), b.space, c.header, src).take();
    Scratch scratch;
    RowView view = b.rows.view();
    std::vector<Hit> hits(10);
    const simd::Query q = b.space.row_query(b.rows.row(round), 0);
    Result<u32> n = index->search(view, q, ask(10, 200), scratch, hits.data(), nullptr);
    if (!n.ok()) {
      EXPECT_EQ(n.code(), Errno::corrupt);
      EXPECT_TRUE(index->damaged());
      refused++;
      continue;
    }
    for (u32 i = 0; i < *n; i++) EXPECT_LT(hits[i].slot, 2000u);
    VerifyReport report;
    if (!index->verify(&report, scratch).ok()) {  // what the search did not need
      EXPECT_TRUE(index->damaged());
      refused++;
      continue;
    }
    EXPECT_TRUE(report.sound());
    for (u32 s = 0; s < 2000; s++) {
      if (!index->contains(s)) {
        EXPECT_TRUE(index->insert(view, s, scratch).ok());
      }
    }
    EXPECT_EQ(verify(*index.get()).nodes, 2000u);
  }
  host::set_log_level(VX_LOG_INFO);
  EXPECT_GT(refused, rounds / 20);
  // Units have checksums of their own.
  if (GetParam() != IndexKind::diskann) {
    EXPECT_LT(refused, rounds);
  }
}

}  // namespace
}  // namespace vexfs::vector
