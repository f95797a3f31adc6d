// SPDX-License-Identifier: MIT
// HNSW checkpoints: the same answers after loading, lazily; coverage; damage of every kind.
#include "../../kernel/core/vector/hnsw_format.h"
#include "hnsw_fixture.h"

namespace vexfs::vector {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr u32 scale = 4;  // sanitizers are slow: fewer rows and rounds
#else
constexpr u32 scale = 1;
#endif

struct Built {
  Built(u32 count, u32 m, u32 dim = 16, u32 room = 0)
      : space(space_of(simd::Element::f32, simd::Metric::l2, dim)),
        source(dim, 30, 11),
        rows(space, std::max(room, count)) {
    for (u32 i = 0; i < count; i++) EXPECT_TRUE(rows.add_f32(source.next().data()));
    HnswParams p;
    p.m = m;
    p.ef_construction = 60;
    p.seed = 7;
    index = hnsw_create(space, p).take();
    insert_range(*index.get(), rows, 0, count);
  }
  simd::Space space;
  Clusters source;
  MemoryRows rows;
  IndexPtr index;
};

SearchParams ask(u32 k, u32 ef) {
  SearchParams p;
  p.k = k;
  p.ef = ef;
  return p;
}

TEST(HnswCheckpoint, LoadsToTheSameAnswers) {
  for (u32 m : {4u, 16u, 128u}) {
    Built b((m == 128 ? 1500 : 9000) / scale, m);
    Checkpoint c;
    c.save(*b.index.get(), b.rows.size());
    EXPECT_EQ(*hnsw_covered(c.header), b.rows.size());
    BlobSource src = c.source();
    IndexPtr loaded = hnsw_open(b.space, c.header, src).take();
    for (int i = 0; i < 50; i++) {
      PreparedQuery q(b.space, b.source.next());
      EXPECT_EQ(slots_of(search(*b.index.get(), b.rows, q.q, ask(10, 50))),
                slots_of(search(*loaded.get(), b.rows, q.q, ask(10, 50))));
    }
    VerifyReport r = verify(*loaded.get()), o = verify(*b.index.get());
    EXPECT_TRUE(r.sound());
    EXPECT_EQ(r.nodes, o.nodes);
    EXPECT_EQ(r.links, o.links);
    Checkpoint again;
    again.save(*loaded.get(), b.rows.size());
    EXPECT_EQ(c.blobs, again.blobs);
    EXPECT_EQ(c.header, again.header);
  }
}

TEST(HnswCheckpoint, BlobsAreReadWhenTouchedAndOnce) {
  Built b(9000, 16, 4);
  Checkpoint c;
  c.save(*b.index.get(), b.rows.size());
  ASSERT_GE(c.blobs.size(), 3u);
  BlobSource src = c.source();
  IndexPtr loaded = hnsw_open(b.space, c.header, src).take();
  EXPECT_EQ(c.reads, 0u);
  for (int i = 0; i < 100; i++) {
    PreparedQuery q(b.space, b.source.next());
    search(*loaded.get(), b.rows, q.q, ask(10, 50));
    EXPECT_LE(c.reads, c.blobs.size());
  }
  EXPECT_GE(c.reads, 1u);
  for (u32 i = 0; i < c.blobs.size(); i++) EXPECT_FALSE(loaded->blob_dirty(i));
}

TEST(HnswCheckpoint, CoversWhatItSaysAndTheRestIsInsertedAgain) {
  const u32 all = 6000 / scale;
  Built b(all, 8);
  for (u32 covered : {0u, 1u, 17u, all / 2, all - 1}) {
    Checkpoint c;
    c.save(*b.index.get(), covered);
    BlobSource src = c.source();
    IndexPtr loaded = hnsw_open(b.space, c.header, src).take();
    VerifyReport r = verify(*loaded.get());
    EXPECT_TRUE(r.sound()) << covered;
    EXPECT_EQ(r.nodes, covered);
    for (u32 s = 0; s < all; s += 7) EXPECT_EQ(loaded->contains(s), s < covered);
    insert_range(*loaded.get(), b.rows, covered, all);
    EXPECT_EQ(verify(*loaded.get()).nodes, all);
    EXPECT_GE(recall(*loaded.get(), b.rows, b.source, 50, ask(10, 100)), 0.95);
  }
}

TEST(HnswCheckpoint, CleanBlobsNeedNotBeWrittenAgain) {
  Built b(9000, 16, 4, 9001);
  Checkpoint c;
  c.save(*b.index.get(), 9000);
  for (u32 i = 0; i < c.blobs.size(); i++) EXPECT_FALSE(b.index->blob_dirty(i)) << i;
  ASSERT_TRUE(b.rows.add_f32(b.source.next().data()));
  insert_range(*b.index.get(), b.rows, 9000, 9001);
  u32 dirty = 0;
  for (u32 i = 0; i < b.index->blob_count(9001); i++) dirty += b.index->blob_dirty(i);
  EXPECT_GE(dirty, 1u);
  // Only the dirty ones are stored: the result must equal a full save.
  RowView rows = b.rows.view();
  Checkpoint full, part = c;
  part.blobs.resize(b.index->blob_count(9001));
  part.header.resize(b.index->header_bytes());
  ASSERT_TRUE(b.index->save_header(9001, part.header).ok());
  for (u32 i = 0; i < part.blobs.size(); i++) {
    if (!b.index->blob_dirty(i)) continue;
    part.blobs[i].resize(b.index->blob_bytes(i));
    ASSERT_TRUE(b.index->save_blob(i, 9001, part.blobs[i], rows).ok());
  }
  full.save(*b.index.get(), 9001);
  EXPECT_EQ(part.blobs, full.blobs);
}

TEST(HnswCheckpoint, ReadErrorsComeOutAndGoAway) {
  Built b(3000, 8);
  Checkpoint c;
  c.save(*b.index.get(), 3000);
  BlobSource src = c.source();
  IndexPtr loaded = hnsw_open(b.space, c.header, src).take();
  c.fail = true;
  PreparedQuery q(b.space, b.source.next());
  Scratch scratch;
  RowView view = b.rows.view();
  std::vector<Hit> hits(10);
  EXPECT_EQ(loaded->search(view, q.q, ask(10, 50), scratch, hits.data(), nullptr).code(), Errno::io);
  c.fail = false;
  EXPECT_EQ(*loaded->search(view, q.q, ask(10, 50), scratch, hits.data(), nullptr), 10u);
}

TEST(HnswCheckpoint, AllocationFailuresWhileLoading) {
  Built b(3000, 8);
  Checkpoint c;
  c.save(*b.index.get(), 3000);
  const host::AllocStats before = host::alloc_stats();
  {
    u32 failed = 0;
    for (int64_t fail = 0; fail < 14; fail++) {
      BlobSource src = c.source();
      host::fail_alloc_after(fail, false);
      Result<IndexPtr> loaded = hnsw_open(b.space, c.header, src);
      if (loaded.ok()) {
        IndexPtr index = loaded.take();
        Scratch scratch;
        RowView view = b.rows.view();
        std::vector<Hit> hits(10);
        Result<u32> n =
            index->search(view, b.space.row_query(b.rows.row(5), 0), ask(10, 50), scratch, hits.data(), nullptr);
        const bool injected = host::alloc_failed();
        host::fail_alloc_after(-1, false);
        EXPECT_EQ(n.ok(), !injected);
        failed += !n.ok();
        Result<u32> again =
            index->search(view, b.space.row_query(b.rows.row(5), 0), ask(10, 50), scratch, hits.data(), nullptr);
        EXPECT_TRUE(again.ok() && *again == 10);
      } else {
        host::fail_alloc_after(-1, false);
        failed++;
      }
    }
    EXPECT_GT(failed, 4u);
  }
  EXPECT_EQ(host::alloc_stats().outstanding, before.outstanding);
}

TEST(HnswCheckpoint, HeadersThatLieAreRefused) {
  Built b(500, 8);
  Checkpoint c;
  c.save(*b.index.get(), 500);
  BlobSource src = c.source();
  EXPECT_FALSE(hnsw_open(b.space, Bytes(c.header.data(), 63), src).ok());
  simd::Space other = space_of(simd::Element::f32, simd::Metric::ip, 16);
  EXPECT_EQ(hnsw_open(other, c.header, src).code(), Errno::inval);
  auto broken = [&](auto change) {
    std::vector<u8> h = c.header;
    change(*reinterpret_cast<HnswHeader *>(h.data()));
    return hnsw_open(b.space, h, src).code();
  };
  EXPECT_EQ(broken([](HnswHeader &h) { h.magic = 1; }), Errno::corrupt);
  EXPECT_EQ(broken([](HnswHeader &h) { h.version = 9; }), Errno::corrupt);
  EXPECT_EQ(broken([](HnswHeader &h) { h.m = 1; }), Errno::corrupt);
  EXPECT_EQ(broken([](HnswHeader &h) { h.m = 1000; }), Errno::corrupt);
  EXPECT_EQ(broken([](HnswHeader &h) { h.ef_construction = 0; }), Errno::corrupt);
  EXPECT_EQ(broken([](HnswHeader &h) { h.shift = 31; }), Errno::corrupt);
  EXPECT_EQ(broken([](HnswHeader &h) { h.covered = 0xffffffff; }), Errno::corrupt);
  EXPECT_EQ(broken([](HnswHeader &h) { h.entry_slot = 500; }), Errno::corrupt);
  EXPECT_EQ(broken([](HnswHeader &h) { h.entry_level = h.entry_level + 1; }), Errno::corrupt);
  EXPECT_EQ(broken([](HnswHeader &h) { h.entry_level = 99; }), Errno::corrupt);
  EXPECT_EQ(broken([](HnswHeader &h) {
              h.seed = h.seed + 1;
              h.entry_level = 20;
            }),
            Errno::corrupt);
}

// Bytes changed anywhere: loading says so or the graph works on what is left; never a wild link.
TEST(HnswCheckpoint, DamagedBlobsNeverLeadAstray) {
  Built b(2000, 6);
  Checkpoint good;
  good.save(*b.index.get(), 2000);
  std::mt19937 rng(99);
  host::set_log_level(0);
  u32 refused = 0;
  for (int round = 0; round < static_cast<int>(300 / scale); round++) {
    Checkpoint c = good;
    const int hits_wanted = 1 << (rng() % 12);
    for (int i = 0; i < hits_wanted; i++) {
      std::vector<u8> &blob = c.blobs[rng() % c.blobs.size()];
      const size_t header_bias = rng() % 8 == 0 ? 32 : blob.size();
      blob[rng() % header_bias] = static_cast<u8>(rng());
    }
    BlobSource src = c.source();
    IndexPtr index = hnsw_open(b.space, c.header, src).take();
    Scratch scratch;
    RowView view = b.rows.view();
    std::vector<Hit> hits(10);
    Result<u32> n =
        index->search(view, b.space.row_query(b.rows.row(round), 0), ask(10, 200), scratch, hits.data(), nullptr);
    if (!n.ok()) {
      EXPECT_EQ(n.code(), Errno::corrupt);
      refused++;
      continue;
    }
    for (u32 i = 0; i < *n; i++) EXPECT_LT(hits[i].slot, 2000u);
    VerifyReport r;
    EXPECT_TRUE(index->verify(&r, scratch).ok());
    EXPECT_EQ(r.bad_levels, 0u);
    for (u32 s = 0; s < 2000; s++)
      if (!index->contains(s)) {
        Status st = index->insert(view, s, scratch);
        EXPECT_TRUE(st.ok());
      }
  }
  host::set_log_level(VX_LOG_INFO);
  EXPECT_GT(refused, 0u);
  EXPECT_LT(refused, 250u / scale);
}

}  // namespace
}  // namespace vexfs::vector
