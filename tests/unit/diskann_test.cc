// SPDX-License-Identifier: MIT
// What is particular about a graph on disk: nodes are read by themselves, lists are kept in memory until a checkpoint has
// them, rows may be longer than a unit, units say themselves whether they are good, dead rows leave in place.
// Thread sanitizer: DiskAnn.SearchesAndInsertsWhileDeadRowsLeave
#include <thread>

#include "../../kernel/core/vector/diskann_format.h"
#include "../../kernel/core/vector/learnt_format.h"
#include "index_kinds_fixture.h"

namespace vexfs::vector {
namespace {

// A checkpoint of which parts can be read.
struct PartedCheckpoint : Checkpoint {
  std::atomic<u32> parts{0}, calls{0}, widest{0};  // searches of several threads count here
  u32 spoil = 0;                                   // so many parts come back wrong; one thread

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
      u32 seen = c.widest;
      while (seen < n && !c.widest.compare_exchange_weak(seen, n)) {
      }
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
  EXPECT_EQ(c.widest, 8u);
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

// A record of two units and more.
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

// ------------------------------------------------------------------------------------------------------------ dead rows
MendParams room(u32 settled, usize memory = usize{64} << 20) { return {.settled = settled, .memory = memory}; }

// A pass. Returns its pieces.
u32 mend(Index &index, const MemoryRows &rows, const MendParams &params, Errno *said = nullptr) {
  Scratch scratch(false);
  for (u32 pieces = 1;; pieces++) {
    RowView view = rows.view();
    Result<bool> more = index.mend(view, params, scratch);
    if (said) *said = more.code();
    if (!said) {
      EXPECT_TRUE(more.ok());
    }
    if (!more.ok() || !*more) return pieces;
  }
}

double hops(Index &index, const MemoryRows &rows, u32 seed, u32 ef, double *share) {
  Clusters source(24, 60, 11);
  SearchStats stats;
  size_t found = 0;
  const u32 queries = 100;
  for (u32 i = 0; i < seed; i++) source.next();
  for (u32 i = 0; i < queries; i++) {
    PreparedQuery q(rows.space(), source.next());
    const std::vector<u32> want = slots_of(exact(rows, q.q, ask(10, ef)));
    const std::set<u32> set(want.begin(), want.end());
    for (u32 s : slots_of(search(index, rows, q.q, ask(10, ef), &stats))) found += set.count(s);
  }
  *share = static_cast<double>(found) / (10 * queries);
  return static_cast<double>(stats.hops) / queries;
}

// Half of the rows go, as many come; what is left is as good as a graph of these rows alone.
TEST(DiskAnn, DeadRowsLeaveInPlace) {
  const u32 n = 6000 / kinds_scale, all = n + n / 2;
  KindBuilt b(IndexKind::diskann, n, simd::Element::f32, simd::Metric::l2, 24, all);
  PartedCheckpoint c;
  c.save(*b.index.get(), n, b.rows.view());
  b.index->saved(n, c.source());
  const usize stored = b.index->memory_bytes();
  for (u32 i = 0; i < n; i += 2) b.rows.kill(i);
  while (b.rows.size() < all) ASSERT_TRUE(b.rows.add_f32(b.source.next().data()));
  insert_range(*b.index.get(), b.rows, n, n + n / 4);
  const u64 before = b.index->departures();
  EXPECT_GT(mend(*b.index.get(), b.rows, room(n)), n / 256);
  EXPECT_GT(b.index->departures(), before);
  EXPECT_FALSE(b.index->mending());
  insert_range(*b.index.get(), b.rows, n + n / 4, all);
  for (u32 i = 0; i < all; i++) ASSERT_EQ(b.index->contains(i), i >= n || i % 2) << i;
  VerifyReport r = verify(*b.index.get());
  EXPECT_TRUE(r.sound());
  EXPECT_EQ(r.nodes, n);
  EXPECT_EQ(r.unreachable, 0u);
  EXPECT_EQ(b.index->counts().nodes, n);
  EXPECT_TRUE(b.index->wants_saving()) << "what was let go of is still on disk";
  PartedCheckpoint next;
  next.save(*b.index.get(), all, b.rows.view());
  c.blobs = next.blobs;
  b.index->saved(all, c.source());
  EXPECT_FALSE(b.index->wants_saving());
  EXPECT_EQ(b.index->unsaved_bytes(), 0u);
  EXPECT_LT(b.index->memory_bytes(), stored * 3 / 2 + (usize{2} << 20)) << "lists are gone, and what the pass took";

  MemoryRows rest(b.space, n);
  for (u32 i = 0; i < all; i++)
    if (i >= n || i % 2) {
      ASSERT_TRUE(rest.add(b.rows.row(i)));
    }
  IndexPtr fresh = make_kind(b.space, IndexKind::diskann);
  ASSERT_TRUE(learn(*fresh.get(), rest, n).ok());
  insert_range(*fresh.get(), rest, 0, n);
  for (u32 ef : {16u, 40u}) {
    double mended, anew;
    const double reads = hops(*b.index.get(), b.rows, 7, ef, &mended), fewest = hops(*fresh.get(), rest, 7, ef, &anew);
    EXPECT_GE(mended, anew - 0.01) << ef;
    EXPECT_LE(reads, fewest * 1.1) << ef;
  }
  IndexPtr loaded = index_open(IndexKind::diskann, b.space, next.header, next.source()).take();
  r = verify(*loaded.get());
  EXPECT_TRUE(r.sound());
  EXPECT_EQ(r.nodes, n);
  EXPECT_EQ(r.unreachable, 0u);
}

// Each pass makes most lists anew. What it does not give them is gone for good.
TEST(DiskAnn, ListsDoNotDwindleFromPassToPass) {
  const u32 n = 3000 / kinds_scale, step = n / 4, passes = 6, all = n + passes * step;
  for (const auto metric : {simd::Metric::l2, simd::Metric::cosine, simd::Metric::ip}) {
    KindBuilt b(IndexKind::diskann, n, simd::Element::f32, metric, 24, all);
    for (u32 i = 0; i < passes; i++) {
      for (u32 slot = i * step; slot < (i + 1) * step; slot++) b.rows.kill(slot);
      for (u32 j = 0; j < step; j++) ASSERT_TRUE(b.rows.add_f32(b.source.next().data()));
      insert_range(*b.index.get(), b.rows, n + i * step, n + (i + 1) * step);
      mend(*b.index.get(), b.rows, room(n + (i + 1) * step));
    }
    MemoryRows rest(b.space, n);
    for (u32 i = passes * step; i < all; i++) ASSERT_TRUE(rest.add(b.rows.row(i)));
    IndexPtr fresh = make_kind(b.space, IndexKind::diskann);
    ASSERT_TRUE(learn(*fresh.get(), rest, n).ok());
    insert_range(*fresh.get(), rest, 0, n);
    const VerifyReport r = verify(*b.index.get()), anew = verify(*fresh.get());
    EXPECT_TRUE(r.sound());
    EXPECT_EQ(r.nodes, n);
    EXPECT_EQ(r.unreachable, 0u);
    EXPECT_GE(r.links * 10, anew.links * 9) << static_cast<u32>(metric);
    double mended, best;
    hops(*b.index.get(), b.rows, 7, 20, &mended);
    hops(*fresh.get(), rest, 7, 20, &best);
    EXPECT_GE(mended, best - 0.015) << static_cast<u32>(metric);
  }
}

// With room for few lists a pass takes as many dead rows as that, and they do leave in the end; the entry is one of them.
TEST(DiskAnn, PassesTakeWhatMemoryAllows) {
  const u32 n = 4000 / kinds_scale;
  KindBuilt b(IndexKind::diskann, n);
  for (u32 i = 0; i < n; i++)
    if (i % 4) b.rows.kill(i);
  const usize before = b.index->memory_bytes(), memory = 64 << 10;
  u32 passes = 0;
  for (u32 nodes = n; nodes > n / 4; passes++) {
    Scratch scratch(false);
    for (bool more = true; more;) {
      RowView view = b.rows.view();
      Result<bool> r = b.index->mend(view, room(n, memory), scratch);
      ASSERT_TRUE(r.ok());
      more = *r;
      EXPECT_LE(b.index->memory_bytes(), before + 4 * memory + (usize{1} << 20));
    }
    const u32 now = b.index->counts().nodes;
    ASSERT_LT(now, nodes);
    nodes = now;
  }
  EXPECT_GT(passes, kinds_scale == 1 ? 2u : 0u);
  const VerifyReport r = verify(*b.index.get());
  EXPECT_TRUE(r.sound());
  EXPECT_EQ(r.unreachable, 0u);
  EXPECT_GE(recall(*b.index.get(), b.rows, b.source, 30, ask(10, 64)), 0.95);
  EXPECT_LE(mend(*b.index.get(), b.rows, room(n)), n / 256 + 2) << "nothing is left to do";
}

TEST(DiskAnn, APassThatFailsBeginsAnew) {
  const u32 n = 2000;
  KindBuilt b(IndexKind::diskann, n);
  PartedCheckpoint c;
  c.save(*b.index.get(), n, b.rows.view());
  b.index->saved(n, c.source());
  for (u32 i = 0; i < n; i += 2) b.rows.kill(i);
  bool torn = false;
  for (u32 pieces : {1u, 5u, 12u, 20u}) {
    struct Left {
      u32 n;
    } left{pieces};
    MendParams p = room(n);
    p.ctx = &left;
    p.interrupted = [](void *ctx) { return static_cast<Left *>(ctx)->n-- == 0; };
    Errno said = Errno::ok;
    mend(*b.index.get(), b.rows, p, &said);
    EXPECT_EQ(said, Errno::intr);
    EXPECT_EQ(b.index->mending(), torn = torn || pieces > n / 256 + 1) << "links are gone: there is to be another";
    EXPECT_TRUE(verify(*b.index.get()).sound());
  }
  c.fail = true;
  Errno said = Errno::ok;
  mend(*b.index.get(), b.rows, room(n), &said);
  EXPECT_EQ(said, Errno::io);
  c.fail = false;
  mend(*b.index.get(), b.rows, room(n));
  const VerifyReport r = verify(*b.index.get());
  EXPECT_TRUE(r.sound());
  EXPECT_EQ(r.nodes, n / 2);
  EXPECT_EQ(r.unreachable, 0u);
  for (u32 i = 0; i < n; i++) b.rows.kill(i);
  mend(*b.index.get(), b.rows, room(n), &said);
  EXPECT_EQ(said, Errno::again) << "nothing to begin walks at";
}

// Codes of rows that have all gone are no more in memory once a checkpoint says so, nor after it was opened.
TEST(DiskAnn, SegmentsThatNobodyIsInAreFreed) {
  const u32 n = 9000, dim = 16;
  const simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, dim);
  Clusters source(dim, 30, 3);
  MemoryRows rows(space, n);
  while (rows.size() < n) ASSERT_TRUE(rows.add_f32(source.next().data()));
  const IndexParams params{.kind = IndexKind::diskann, .m = 4, .ef_construction = 12};
  IndexPtr index = index_create(space, params).take();
  ASSERT_TRUE(learn(*index.get(), rows, n).ok());
  insert_range(*index.get(), rows, 0, n);
  PartedCheckpoint c;
  c.save(*index.get(), n, rows.view());
  index->saved(n, c.source());
  const usize before = index->memory_bytes();
  for (u32 i = 0; i < 2 * 4096; i++)
    if (i != 5000) rows.kill(i);
  mend(*index.get(), rows, room(n));
  PartedCheckpoint next;
  next.save(*index.get(), n, rows.view());
  c.blobs = next.blobs;
  index->saved(n, c.source());
  const usize segment = 4096 * (4 + 8 + dim / 2);
  EXPECT_LE(index->memory_bytes() + segment, before) << "one of the three; one row is left in the second";
  EXPECT_EQ(index->counts().nodes, n - 2 * 4096 + 1);
  EXPECT_TRUE(index->contains(5000));
  EXPECT_FALSE(index->contains(50));
  EXPECT_FALSE(index->may_contain(50));
  EXPECT_TRUE(verify(*index.get()).sound());
  IndexPtr loaded = index_open(IndexKind::diskann, space, next.header, next.source()).take();
  EXPECT_EQ(verify(*loaded.get()).nodes, n - 2 * 4096 + 1);
  EXPECT_LE(loaded->memory_bytes(), index->memory_bytes() + (usize{1} << 20));
}

// Two clusters far apart, led to from each other by way of rows that go alone: nothing that stays is lost.
TEST(DiskAnn, WhatDeadRowsAloneLedToIsJoined) {
  const u32 dim = 16, each = 700, n = 3 * each;
  const simd::Space space = space_of(simd::Element::f32, simd::Metric::l2, dim);
  std::mt19937 rng(7);
  std::normal_distribution<float> gauss(0, 1);
  MemoryRows rows(space, n);
  for (u32 i = 0; i < n; i++) {
    std::vector<float> v(dim);
    for (float &f : v) f = gauss(rng);
    // The first, a row of rows that leads away from it, the second at its end.
    v[0] += i < each ? 0 : i < 2 * each ? 300.f * static_cast<float>(i - each) / each : 300.f;
    ASSERT_TRUE(rows.add_f32(v.data()));
  }
  for (const bool stored : {false, true}) {
    MemoryRows left(space, n);
    for (u32 i = 0; i < n; i++) ASSERT_TRUE(left.add(rows.row(i)));
    IndexPtr index = make_kind(space, IndexKind::diskann);
    ASSERT_TRUE(learn(*index.get(), left, n).ok());
    insert_range(*index.get(), left, 0, n);
    PartedCheckpoint c;
    if (stored) {
      c.save(*index.get(), n, left.view());
      index->saved(n, c.source());
    }
    for (u32 i = each; i < 2 * each; i++) left.kill(i);
    mend(*index.get(), left, room(n));
    EXPECT_TRUE(index->mends());
    const VerifyReport r = verify(*index.get());
    EXPECT_TRUE(r.sound());
    EXPECT_EQ(r.nodes, 2 * each);
    EXPECT_EQ(r.unreachable, 0u);
    u32 found = 0;
    for (u32 i = 0; i < n; i++) {
      if (i >= each && i < 2 * each) continue;
      const auto hits = search(*index.get(), left, space.row_query(left.row(i), 0), ask(1, 300));
      found += hits.size() == 1 && hits[0].slot == i;
    }
    EXPECT_EQ(found, 2 * each) << stored;
  }
}

// What changed, onto what there is, as owners do.
void save_changes(Index &index, const MemoryRows &rows, PartedCheckpoint &c) {
  const u32 n = rows.size();
  RowView view = rows.view();
  c.header.resize(index.header_bytes());
  c.blobs.resize(index.blob_count(n));
  for (u32 i = 0; i < c.blobs.size(); i++) {
    if (!c.blobs[i].empty() && !index.blob_dirty(i)) continue;
    std::vector<u8> blob(index.blob_bytes(i));
    ASSERT_TRUE(index.save_blob(i, n, {blob.data(), blob.size()}, view).ok());
    c.blobs[i] = blob;
  }
  ASSERT_TRUE(index.save_header(n, {c.header.data(), c.header.size()}).ok());
  index.saved(n, c.source());
}

// Checkpoints between any two pieces of a pass are without faults; what is loaded from one knows that a pass was on, and
// that of dead rows it cannot say where they are, until another has ended.
TEST(DiskAnn, CheckpointsWhileDeadRowsLeave) {
  const u32 n = 2500;
  KindBuilt b(IndexKind::diskann, n);
  PartedCheckpoint c;
  save_changes(*b.index.get(), b.rows, c);
  for (u32 i = 0; i < n; i++)
    if (i % 3) b.rows.kill(i);
  const u32 lives = (n + 2) / 3;
  u32 whole = 0, torn = 0;
  for (bool more = true; more;) {
    {
      Scratch scratch(false);
      RowView view = b.rows.view();
      Result<bool> r = b.index->mend(view, room(n), scratch);
      ASSERT_TRUE(r.ok());
      more = *r;
    }
    save_changes(*b.index.get(), b.rows, c);
    IndexPtr loaded = index_open(IndexKind::diskann, b.space, c.header, c.source()).take();
    VerifyReport r = verify(*loaded.get());
    ASSERT_TRUE(r.sound()) << r.bad_links;
    ASSERT_TRUE(r.nodes == n || r.nodes == lives) << r.nodes;
    ASSERT_EQ(loaded->departures(), 0u);
    if (!loaded->mending()) {
      whole++;
      for (u32 i = 0; i < n; i++) ASSERT_EQ(loaded->contains(i), r.nodes == n || i % 3 == 0) << i;
      continue;
    }
    torn++;
    for (u32 i = 0; i < n; i++) ASSERT_FALSE(loaded->contains(i) && i % 3) << i;
    if (torn % 8) continue;
    mend(*loaded.get(), b.rows, room(n));
    r = verify(*loaded.get());
    EXPECT_TRUE(r.sound());
    EXPECT_EQ(r.nodes, lives);
    EXPECT_EQ(r.unreachable, 0u);
    EXPECT_FALSE(loaded->mending());
    EXPECT_TRUE(loaded->contains(0));
  }
  EXPECT_GT(whole, n / 256) << "while it but looks, and in the end";
  EXPECT_GT(torn, n / 256);
  EXPECT_EQ(verify(*b.index.get()).nodes, lives);
  LearntHeader h;
  memcpy(&h, c.header.data(), sizeof h);
  EXPECT_EQ(h.torn, 0);
  h.torn = 2;
  memcpy(c.header.data(), &h, sizeof h);
  EXPECT_EQ(index_open(IndexKind::diskann, b.space, c.header, c.source()).code(), Errno::corrupt);
}

// Dead rows whose links an unfinished pass has taken away are not said to be findable: who searches a snapshot scores them.
TEST(DiskAnn, APassThatIsCutShortLeavesNobodyToBeMissed) {
  const u32 n = 2000;
  KindBuilt b(IndexKind::diskann, n);
  for (u32 i = 0; i < n; i += 2) b.rows.kill(i);
  const u64 before = b.index->departures();
  struct Left {
    u32 n;
  } left{15};
  MendParams p = room(n);
  p.ctx = &left;
  p.interrupted = [](void *ctx) { return static_cast<Left *>(ctx)->n-- == 0; };
  Errno said = Errno::ok;
  mend(*b.index.get(), b.rows, p, &said);
  EXPECT_EQ(said, Errno::intr);
  EXPECT_GT(b.index->departures(), before);
  for (u32 i = 0; i < n; i += 2) ASSERT_FALSE(b.index->contains(i)) << i;
  for (u32 i = 0; i < n; i++) ASSERT_TRUE(b.index->may_contain(i)) << i;
  // With room for few lists, passes go on until nobody is left who was to leave.
  u32 passes = 0;
  for (; b.index->mending(); passes++) mend(*b.index.get(), b.rows, room(n, 1));
  EXPECT_GE(passes, 1u);
  for (u32 i = 0; i < n; i++) ASSERT_EQ(b.index->contains(i), i % 2 == 1) << i;
  EXPECT_EQ(verify(*b.index.get()).unreachable, 0u);
}

TEST(DiskAnn, SearchesAndInsertsWhileDeadRowsLeave) {
  const u32 n = 3000 / kinds_scale + 600, all = 2 * n;
  KindBuilt b(IndexKind::diskann, n, simd::Element::f32, simd::Metric::l2, 24, all);
  while (b.rows.size() < all) ASSERT_TRUE(b.rows.add_f32(b.source.next().data()));
  PartedCheckpoint c;
  c.save(*b.index.get(), n, b.rows.view());
  b.index->saved(n, c.source());
  std::atomic<u32> next{n};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (u32 t = 0; t < 2; t++)
    threads.emplace_back([&] {
      Scratch scratch(false);
      RowView view = b.rows.view();
      view.any_dead = true;
      for (u32 slot; (slot = next++) < all;) {
        EXPECT_TRUE(b.index->insert(view, slot, scratch).ok());
        if (slot % 3 == 0) b.rows.kill(slot);
      }
    });
  threads.emplace_back([&] {
    Clusters source(24, 60, 11);
    while (!stop) {
      PreparedQuery q(b.space, source.next());
      for (const Hit &h : search(*b.index.get(), b.rows, q.q, ask(10, 32))) EXPECT_LT(h.slot, all);
    }
  });
  for (u32 i = 0; i < n; i += 2) b.rows.kill(i);
  for (u32 i = 0; i < 3; i++) mend(*b.index.get(), b.rows, room(n));
  threads[0].join();
  threads[1].join();
  stop = true;
  threads[2].join();
  mend(*b.index.get(), b.rows, room(all));
  const VerifyReport r = verify(*b.index.get());
  EXPECT_TRUE(r.sound());
  EXPECT_EQ(r.nodes, b.rows.view().live);
  EXPECT_EQ(r.unreachable, 0u);
  EXPECT_GE(recall(*b.index.get(), b.rows, b.source, 30, ask(10, 64)), 0.95);
}

// Nodes that lead nowhere anybody comes from: all that leads to a few is taken out of the lists of a checkpoint.
TEST(DiskAnn, VerifyFollowsAllPaths) {
  KindBuilt b(IndexKind::diskann, 1500);
  PartedCheckpoint c;
  c.save(*b.index.get(), b.rows.size(), b.rows.view());
  EXPECT_EQ(verify(*b.index.get()).unreachable, 0u);
  LearntHeader h;
  memcpy(&h, c.header.data(), sizeof h);
  const DiskShape shape(b.space.row_bytes(), 16);
  const auto lost = [&](u32 slot) { return slot % 100 == 7 && slot != h.entry; };
  u32 n = 0;
  for (u32 slot = 0; slot < b.rows.size(); slot++) {
    n += lost(slot);
    std::vector<u8> &blob = c.blobs[2 + (slot >> shape.shift)];  // the model, records
    u8 *unit = blob.data() + usize{shape.unit_of(slot)} * disk_unit_bytes;
    u8 *record = unit + shape.record_at(slot);
    auto *head = reinterpret_cast<DiskRecordHeader *>(record);
    auto *links = reinterpret_cast<le32 *>(record + shape.links_at());
    u32 kept = 0;
    // Some of them lead to each other, in a ring that nothing leads into.
    if (lost(slot)) links[0].set(slot + 100 < b.rows.size() ? slot + 100 : 7), kept = 1;
    for (u32 i = 0; i < head->degree && !lost(slot); i++)
      if (!lost(links[i])) links[kept++] = links[i];
    head->degree = static_cast<u16>(kept);
    DiskUnitHeader u;
    memcpy(&u, unit, sizeof u);
    u.crc = disk_unit_crc(h.seed, unit);
    memcpy(unit, &u, sizeof u);
  }
  ASSERT_GT(n, 10u);
  for (bool parts : {true, false}) {
    IndexPtr loaded =
        index_open(IndexKind::diskann, b.space, c.header, parts ? c.source() : c.Checkpoint::source()).take();
    const VerifyReport r = verify(*loaded.get());
    EXPECT_EQ(r.unreachable, n);
    EXPECT_EQ(r.nodes, b.rows.size());
    EXPECT_TRUE(r.sound());
    Scratch scratch;
    VerifyReport killed;
    EXPECT_EQ(loaded
                  ->verify(
                      &killed, scratch, [](void *) { return true; }, nullptr)
                  .code(),
              Errno::intr);
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
