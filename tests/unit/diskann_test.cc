// SPDX-License-Identifier: MIT
// What is particular about a graph on disk: nodes are read by themselves, lists are kept in memory until a checkpoint has
// them, rows may be longer than a unit, units say themselves whether they are good.
#include "../../kernel/core/vector/diskann_format.h"
#include "../../kernel/core/vector/learnt_format.h"
#include "index_kinds_fixture.h"

namespace vexfs::vector {
namespace {

// A checkpoint of which parts can be read.
struct PartedCheckpoint : Checkpoint {
  u32 parts = 0, calls = 0, widest = 0, spoil = 0;  // spoil: so many parts come back wrong

  BlobSource source() {
    BlobSource s = Checkpoint::source();
    s.ctx = this;
    s.read = [](void *ctx, u32 blob, MutBytes out) -> Status {
      BlobSource whole = static_cast<PartedCheckpoint *>(ctx)->Checkpoint::source();
      return whole.read(whole.ctx, blob, out);
    };
    s.read_parts = [](void *ctx, const BlobPart *p, u32 n) -> Status {
      auto &c = *static_cast<PartedCheckpoint *>(ctx);
      c.calls++;
      c.parts += n;
      c.widest = std::max(c.widest, n);
      for (u32 i = 0; i < n; i++) {
        EXPECT_EQ(p[i].at % disk_unit_bytes, 0u);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(p[i].out.data()) % 512, 0u);
        if (c.fail) return Errno::io;
        if (p[i].blob >= c.blobs.size() || p[i].at + p[i].out.size() > c.blobs[p[i].blob].size()) return Errno::corrupt;
        memcpy(p[i].out.data(), c.blobs[p[i].blob].data() + p[i].at, p[i].out.size());
        if (c.spoil) c.spoil--, p[i].out.data()[17] ^= 1;
      }
      return {};
    };
    return s;
  }
};

TEST(DiskAnn, WalksReadNodesAndNothingElse) {
  KindBuilt b(IndexKind::diskann, 4000);  // more than the cache holds
  PartedCheckpoint c;
  c.save(*b.index.get(), b.rows.size(), b.rows.view());
  IndexPtr loaded = index_open(IndexKind::diskann, b.space, c.header, c.source()).take();
  EXPECT_GE(recall(*loaded.get(), b.rows, b.source, 1, ask(10, 64)), 0.5);
  const u32 whole = c.reads;  // the centre, codes
  c.parts = c.calls = 0;
  const u32 queries = 50, ef = 40;
  EXPECT_GE(recall(*loaded.get(), b.rows, b.source, queries, ask(10, ef)), 0.95);
  EXPECT_EQ(c.reads, whole) << "no blob is read as a whole for a search";
  EXPECT_GT(c.parts, 0u);
  EXPECT_LE(c.parts, queries * 2 * ef);
  EXPECT_EQ(c.widest, 4u);
  EXPECT_LT(c.calls, c.parts / 2) << "several at once";
}

// Codes of every kind: as many bytes in memory as they say, the same answers after loading, and no others than were saved.
TEST(DiskAnn, TakesCodesOfEveryKind) {
  constexpr u32 dim = 128, n = 3000 / kinds_scale;
  usize longer = ~usize{0};
  for (const u32 codes : {2u, 3u, 5u, 4u}) {  // enum vexfs_codes, 8 bits to 1
    KindBuilt b(IndexKind::diskann, n, simd::Element::f32, simd::Metric::l2, dim, 0, codes);
    EXPECT_EQ(b.index->counts().codes, codes);
    PartedCheckpoint c;
    c.save(*b.index.get(), n, b.rows.view());
    IndexPtr loaded = index_open(IndexKind::diskann, b.space, c.header, c.source()).take();
    EXPECT_GE(recall(*loaded.get(), b.rows, b.source, 30, ask(10, 64)), 0.95) << codes;
    EXPECT_EQ(loaded->counts().codes, codes);
    EXPECT_TRUE(verify(*loaded.get()).sound());
    EXPECT_LE(verify(*loaded.get()).unreachable, n / 100) << "a list may lose the last link to a row";
    EXPECT_LT(loaded->memory_bytes(), longer) << codes;
    longer = loaded->memory_bytes();
    // A header that speaks of codes there are not, or not these.
    for (const u8 said : {u8{5}, u8{255}, u8{1}}) {
      if (said + 1u == codes) continue;
      std::vector<u8> header = c.header;
      reinterpret_cast<LearntHeader *>(header.data())->codes = said;
      Result<IndexPtr> wrong = index_open(IndexKind::diskann, b.space, header, c.source());
      if (!wrong.ok()) {
        EXPECT_EQ(wrong.code(), Errno::corrupt);
        continue;
      }
      EXPECT_EQ(said, 1);
      Scratch scratch(false);
      RowView view = b.rows.view();
      Hit hits[10];
      EXPECT_EQ((*wrong)->search(view, b.space.row_query(b.rows.row(0), 0), ask(10, 64), scratch, hits, nullptr).code(),
                Errno::corrupt);
    }
  }
}

TEST(DiskAnn, ListsLeaveMemoryWhenACheckpointHasThem) {
  const u32 all = 6000 / kinds_scale, half = all / 2;
  KindBuilt b(IndexKind::diskann, half, simd::Element::f32, simd::Metric::l2, 24, all);
  const usize full = b.index->memory_bytes();
  PartedCheckpoint c;
  c.save(*b.index.get(), half, b.rows.view());
  b.index->saved(half, c.source());
  EXPECT_LT(b.index->memory_bytes() + half * 4 * 32, full + (usize{1} << 20)) << "lists went, a cache of units came";
  EXPECT_GE(recall(*b.index.get(), b.rows, b.source, 30, ask(10, 64)), 0.95);
  EXPECT_GT(c.parts, 0u);
  // Rows that came since are found, and so is what links to them.
  for (u32 i = half; i < all; i++) ASSERT_TRUE(b.rows.add_f32(b.source.next().data()));
  insert_range(*b.index.get(), b.rows, half, all);
  EXPECT_GE(recall(*b.index.get(), b.rows, b.source, 30, ask(10, 64)), 0.95);
  VerifyReport r = verify(*b.index.get());
  EXPECT_TRUE(r.sound());
  EXPECT_EQ(r.nodes, all);
  EXPECT_EQ(r.unreachable, 0u);
  // The next checkpoint takes the rest, from memory and from the one before.
  PartedCheckpoint next;
  next.save(*b.index.get(), all, b.rows.view());
  c.blobs = next.blobs;
  b.index->saved(all, c.source());
  for (u32 i = 0; i < next.blobs.size(); i++) EXPECT_FALSE(b.index->blob_dirty(i)) << i;
  EXPECT_GE(recall(*b.index.get(), b.rows, b.source, 30, ask(10, 64)), 0.95);
  IndexPtr loaded = index_open(IndexKind::diskann, b.space, next.header, next.source()).take();
  EXPECT_TRUE(verify(*loaded.get()).sound());
  EXPECT_EQ(verify(*loaded.get()).links, verify(*b.index.get()).links);
}

// A record of two units and more.
TEST(DiskAnn, AnEntryThatIsNotInTheGraphIsRefused) {
  KindBuilt b(IndexKind::diskann, 900, simd::Element::f32, simd::Metric::l2, 24, 1000);
  while (b.rows.size() < 1000) ASSERT_TRUE(b.rows.add_f32(b.source.next().data()));  // not inserted
  PartedCheckpoint c;
  c.save(*b.index.get(), 1000, b.rows.view());
  for (u32 entry : {950u, slot_none}) {
    LearntHeader h;
    ASSERT_EQ(c.header.size(), sizeof h);
    memcpy(&h, c.header.data(), sizeof h);
    h.entry.set(entry);
    std::vector<u8> header(sizeof h);
    memcpy(header.data(), &h, sizeof h);
    for (bool by_insert : {false, true}) {
      IndexPtr loaded = index_open(IndexKind::diskann, b.space, header, c.source()).take();
      Scratch scratch(false);
      RowView view = b.rows.view();
      Errno said;
      if (by_insert) {
        said = loaded->insert(view, 999, scratch).code();
      } else {
        Hit hits[10];
        said = loaded->search(view, b.space.row_query(b.rows.row(0), 0), ask(10, 64), scratch, hits, nullptr).code();
      }
      EXPECT_EQ(said, Errno::corrupt) << entry << by_insert;
      EXPECT_TRUE(loaded->damaged());
    }
  }
}

TEST(DiskAnn, RowsLongerThanAUnit) {
  for (u32 dim : {1000u, 1100u, 3000u}) {
    const DiskShape shape(usize{4} * dim, 16);
    EXPECT_EQ(shape.units_of_node > 1, dim >= 1000);
    KindBuilt b(IndexKind::diskann, 700 / kinds_scale + 512, simd::Element::f32, simd::Metric::cosine, dim);
    PartedCheckpoint c;
    c.save(*b.index.get(), b.rows.size(), b.rows.view());
    IndexPtr loaded = index_open(IndexKind::diskann, b.space, c.header, c.source()).take();
    EXPECT_GE(recall(*loaded.get(), b.rows, b.source, 10, ask(10, 64)), 0.95);
    EXPECT_TRUE(verify(*loaded.get()).sound());
    PartedCheckpoint again;
    again.save(*loaded.get(), b.rows.size(), b.rows.view());
    EXPECT_EQ(again.blobs, c.blobs);
  }
}

TEST(DiskAnn, AUnitThatIsNotGoodIsReadAgainThenRefused) {
  KindBuilt b(IndexKind::diskann, 1500);
  PartedCheckpoint c;
  c.save(*b.index.get(), b.rows.size(), b.rows.view());
  IndexPtr loaded = index_open(IndexKind::diskann, b.space, c.header, c.source()).take();
  c.spoil = 2;  // as while a checkpoint is written
  EXPECT_GE(recall(*loaded.get(), b.rows, b.source, 1, ask(10, 64)), 0.5);
  EXPECT_FALSE(loaded->damaged());
  Scratch scratch;
  RowView view = b.rows.view();
  std::vector<Hit> hits(10);
  IndexPtr fresh = index_open(IndexKind::diskann, b.space, c.header, c.source()).take();
  PreparedQuery q(b.space, b.source.next());
  c.fail = true;
  EXPECT_EQ(fresh->search(view, q.q, ask(10, 64), scratch, hits.data(), nullptr).code(), Errno::io);
  EXPECT_FALSE(fresh->damaged());
  c.fail = false;
  c.spoil = 1000;
  host::set_log_level(0);
  EXPECT_EQ(fresh->search(view, q.q, ask(10, 64), scratch, hits.data(), nullptr).code(), Errno::corrupt);
  host::set_log_level(VX_LOG_INFO);
  EXPECT_TRUE(fresh->damaged());
}

}  // namespace
}  // namespace vexfs::vector
