// SPDX-License-Identifier: MIT
// Scrub of snapshots: damage to what only they have is found once, under the snapshot's id, and cured where a copy is;
// what the present or the snapshot before has too is not looked at again; and snapshots may come and go meanwhile.
// Thread sanitizer: VectorScrubPast.DeletedMeanwhile
#include <algorithm>
#include <atomic>
#include <thread>

#include "../../kernel/core/disk/vector_items.h"
#include "../../kernel/core/fs/filesystem.h"
#include "../../kernel/core/store/past.h"
#include "../../kernel/core/store/state.h"
#include "scrub_fixture.h"

namespace vexfs::vector::test {
namespace {

constexpr uint32_t dim = 64, rows = 3000;
constexpr uint64_t blocks = 74;  // of the file

struct VectorScrubPast : ScrubTest {
  uint64_t first = 0, second = 0;  // ids of snapshots
  uint64_t file = 0, c = 0;        // inodes
  std::vector<uint64_t> now;       // bytes on the device of the blocks of the present's file "whole"

  store::Volume &volume() { return static_cast<fs::Inode *>(m.root())->filesystem().volume(); }
  uint64_t snapshot(const char *name) {
    auto r = static_cast<fs::Inode *>(m.root())->filesystem().snapshot_create(
        {reinterpret_cast<const u8 *>(name), strlen(name)});
    EXPECT_TRUE(r.ok());
    return r.ok() ? *r : 0;
  }
  void rebuild(vx_inode *dir) {
    vexfs_index x{};
    x.size = sizeof x;
    for (uint16_t op : {VEXFS_INDEX_REBUILD, VEXFS_INDEX_CHECKPOINT}) {
      x.op = op;
      ASSERT_EQ(m.ioctl(dir, VEXFS_IOCTL_MANAGE_INDEX, &x), 0);
    }
  }

  // first: a file, names, vectors, an index. Then eight blocks are written over, vectors go, the index is made anew:
  // second. Then the file goes, and more vectors.
  void SetUp() override {
    vx_inode *dir = m.mkdir(m.root(), "c");
    c = vx_ino(dir);
    for (int i = 0; i < 2000; i++) m.close(m.make(m.root(), "some name or other " + std::to_string(i)));
    vx_inode *f = m.make(m.root(), "file");
    file = vx_ino(f);
    ASSERT_EQ(m.write(f, contents(blocks)), 0);
    ASSERT_EQ(m.write(m.make(m.root(), "whole"), contents(20)), 0);
    ASSERT_EQ(m.create(dir, dim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW, nullptr, 16, 20), 0);
    std::mt19937 rng(1);
    std::vector<float> data(dim * rows);
    for (auto &x : data) x = std::uniform_real_distribution<float>(-1, 1)(rng);
    ASSERT_EQ(m.batch(dir, VEXFS_BATCH_ADD, data, dim, nullptr), 0);
    rebuild(dir);
    ASSERT_EQ(m.commit(), 0);
    first = snapshot("first");
    ASSERT_EQ(m.write(f, contents(8), 3 * 4096), 0);
    for (uint64_t id = 1; id <= 50; id++) ASSERT_EQ(m.del(dir, id), 0);
    rebuild(dir);
    for (int i = 0; i < 2000; i += 100) ASSERT_EQ(m.unlink(m.root(), "some name or other " + std::to_string(i)), 0);
    ASSERT_EQ(m.commit(), 0);
    second = snapshot("second");
    m.close(f);
    ASSERT_EQ(m.unlink(m.root(), "file"), 0);
    for (uint64_t id = 51; id <= 60; id++) ASSERT_EQ(m.del(dir, id), 0);
    rebuild(dir);
    for (int i = 50; i < 2000; i += 100) ASSERT_EQ(m.unlink(m.root(), "some name or other " + std::to_string(i)), 0);
    m.remount();
  }
  static std::string contents(uint64_t n) {
    static uint32_t seed = 1;
    std::string s(n * 4096, 0);
    for (auto &x : s) x = static_cast<char>((seed = seed * 1664525 + 1013904223) >> 24);
    return s;
  }

  Box<store::Volume> view(uint64_t id) {
    auto v = volume().open_snapshot(id, {.read_only = true});
    EXPECT_TRUE(v.ok());
    return v.take();
  }
  template <class T>
  static std::vector<T> items(store::Volume &v, store::TreeId id, store::Key from, store::Key to) {
    std::vector<T> all;
    auto take = [&](const store::Key &, Bytes b) {
      T t{};
      memcpy(&t, b.data(), std::min(b.size(), sizeof t));
      all.push_back(t);
      return true;
    };
    EXPECT_TRUE(v.tree(id).scan(from, to, take).ok());
    return all;
  }
  // Byte on the device of a block of a file, in a snapshot.
  uint64_t place(uint64_t id, uint64_t ino, uint64_t block) {
    auto v = view(id);
    disk::DiskExtent e{};
    auto f = v->tree(store::TreeId::fs)
                 .seek_back({ino, static_cast<u8>(disk::FsItem::extent), block},
                            {ino, static_cast<u8>(disk::FsItem::extent), 0}, mut_bytes_of(e));
    EXPECT_TRUE(f.ok());
    return (e.disk + (block - f->key.off)) * 4096;
  }
  static constexpr store::Key of(disk::VectorItem type, uint64_t off) { return {1, static_cast<u8>(type), off}; }
  uint64_t row_place(uint64_t slot) {  // as first has it; the chunk's first piece
    auto v = view(first);
    auto chunks = items<disk::ChunkItem>(*v, store::TreeId::collections, of(disk::VectorItem::chunk, 0),
                                         of(disk::VectorItem::chunk, 0));
    EXPECT_FALSE(chunks.empty());
    return chunks[0].pieces[0].start * 4096 + slot * dim * 4;
  }
  // The nodes that only a snapshot has: {first copy, second copy}.
  std::vector<std::pair<uint64_t, uint64_t>> own_nodes(uint64_t id, uint64_t before) {
    std::vector<std::pair<uint64_t, uint64_t>> all;
    auto mine = view(id);
    Box<store::Volume> older;
    if (before) older = view(before);
    store::PastWalk w(*mine, older.get(), volume());
    EXPECT_TRUE(w.make().ok());
    for (u8 tree : disk::kKeptTrees)
      for (u8 level = 0; level < 12; level++) {
        store::Key at;
        store::PastWalk::Found n;
        for (;;) {
          auto r = w.next(static_cast<store::TreeId>(tree), level, &at, &n);
          EXPECT_TRUE(r.ok());
          if (!r.ok() || !*r) break;
          all.emplace_back(n.addr * 4096, n.mirror * 4096);
          if (n.last) break;
        }
      }
    return all;
  }
  static bool is(const vexfs_found &f, uint32_t kind, uint64_t snapshot, uint64_t ino, uint64_t offset) {
    return f.kind == kind && f.snapshot == snapshot && f.ino == ino && f.offset == offset && f.flags == 0;
  }
};

TEST_F(VectorScrubPast, OnlyWhatIsTheirs) {
  EXPECT_TRUE(scrub(VEXFS_SCRUB_SNAPSHOTS).empty());
  // first: all of the file, which the present has not. second: the eight blocks that it does not share with first.
  EXPECT_EQ(totals.data_bytes, (blocks + 8) * 4096);
  EXPECT_GT(totals.nodes, 4u);
  EXPECT_EQ(totals.nodes, own_nodes(first, 0).size() + own_nodes(second, first).size());
  // Two indexes, and 60 rows.
  EXPECT_GT(totals.vector_bytes, uint64_t{rows} * 8);
  EXPECT_LT(totals.vector_bytes, uint64_t{rows} * dim * 4 * 3);  // codes make an index as large as half of the rows
  EXPECT_TRUE(scrub(VEXFS_SCRUB_SNAPSHOTS | VEXFS_SCRUB_DATA).empty());
  EXPECT_EQ(totals.nodes + totals.vector_bytes, 0u);
  EXPECT_EQ(totals.data_bytes, (blocks + 8 + 20) * 4096);
  EXPECT_TRUE(scrub().empty());
  scrub(VEXFS_SCRUB_NODES | VEXFS_SCRUB_DATA | VEXFS_SCRUB_VECTORS | VEXFS_SCRUB_FIXED);
  EXPECT_EQ(totals.data_bytes, 20u * 4096) << "the present alone";
}

TEST_F(VectorScrubPast, FileData) {
  flip(place(first, file, 5) + 100);    // written over before second
  flip(place(second, file, 5) + 4095);  // what it was written over with
  flip(place(second, file, 20));        // both have it
  vx_inode *f = m.open(m.root(), "whole");
  flip(place(second, vx_ino(f), 7));  // and so has the present
  for (uint32_t capacity : {1u, 2u, 64u}) {
    auto found = scrub(0, capacity * 20000, capacity);
    ASSERT_EQ(found.size(), 4u) << capacity;
    EXPECT_TRUE(is(found[0], VEXFS_FOUND_DATA, 0, vx_ino(f), 7 * 4096));
    EXPECT_TRUE(is(found[1], VEXFS_FOUND_DATA, first, file, 5 * 4096));
    EXPECT_TRUE(is(found[2], VEXFS_FOUND_DATA, first, file, 20 * 4096));
    EXPECT_TRUE(is(found[3], VEXFS_FOUND_DATA, second, file, 5 * 4096));
    EXPECT_EQ(found[3].device, place(second, file, 5));
  }
  EXPECT_TRUE(scrub(VEXFS_SCRUB_SNAPSHOTS | VEXFS_SCRUB_NODES | VEXFS_SCRUB_VECTORS).empty());
}

TEST_F(VectorScrubPast, Rows) {
  flip(row_place(9) + 3);  // slots and ids begin together, at 0 and 1: dead before second
  flip(row_place(54));     // dead since
  flip(row_place(70));     // alive
  for (uint32_t capacity : {1u, 64u}) {
    auto found = scrub(0, 200000, capacity);
    ASSERT_EQ(found.size(), 3u);
    EXPECT_TRUE(is(found[0], VEXFS_FOUND_ROW, 0, c, 71));
    EXPECT_TRUE(is(found[1], VEXFS_FOUND_ROW, first, c, 10));
    EXPECT_TRUE(is(found[2], VEXFS_FOUND_ROW, first, c, 55));
    EXPECT_EQ(found[1].device, row_place(9));
  }
}

TEST_F(VectorScrubPast, Index) {
  for (uint64_t id : {first, second}) {
    auto v = view(id);
    auto blobs = items<disk::BlobItem>(*v, store::TreeId::collections, of(disk::VectorItem::index_blob, 0),
                                       of(disk::VectorItem::index_blob, ~u64{0}));
    ASSERT_FALSE(blobs.empty());
    v.reset();
    flip(blobs.back().start * 4096 + 5);
    auto found = scrub();
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].kind, u32{VEXFS_FOUND_INDEX});
    EXPECT_EQ(found[0].snapshot, id);
    EXPECT_EQ(found[0].ino, c);
    flip(blobs.back().start * 4096 + 5);
  }
}

// Of each node either copy, then both.
TEST_F(VectorScrubPast, NodesAreCuredInPlace) {
  const uint32_t node = m.fs_info().node_size;
  for (auto [id, before] : {std::pair(first, uint64_t{0}), std::pair(second, first)}) {
    auto places = own_nodes(id, before);
    ASSERT_GE(places.size(), 3u);
    for (int copy : {0, 1}) {
      for (auto &[a, b] : places) {
        ASSERT_NE(b, 0u);
        flip((copy ? b : a) + node / 2);
      }
      auto found = scrub(0, 30000, 3);
      EXPECT_EQ(found.size(), places.size());
      for (const auto &f : found) {
        EXPECT_EQ(f.kind, u32{VEXFS_FOUND_NODE});
        EXPECT_EQ(f.snapshot, id);
        EXPECT_EQ(f.flags, VEXFS_FOUND_REPAIRED);
        EXPECT_TRUE(std::any_of(places.begin(), places.end(),
                                [&](const auto &p) { return f.device == (copy ? p.second : p.first); }));
      }
      EXPECT_TRUE(scrub().empty());
    }
  }
  EXPECT_TRUE(m.check());
  auto places = own_nodes(first, 0);  // leaves of the fs tree come first
  flip(places[0].first + node / 2);
  flip(places[0].second + node / 2);
  for (int i : {0, 1}) {
    auto found = scrub();
    ASSERT_EQ(found.size(), 1u) << i;
    EXPECT_TRUE(is(found[0], VEXFS_FOUND_NODE, first, 0, 0));
    EXPECT_EQ(found[0].device, places[0].first);
  }
  EXPECT_FALSE(scrub(VEXFS_SCRUB_SNAPSHOTS | VEXFS_SCRUB_NODES).empty());
}

// Who may only read cures nothing.
// Each call gets on, however little it may do.
TEST_F(VectorScrubPast, LittleBudget) {
  std::vector<vexfs_found> some(8);
  for (uint32_t part : {VEXFS_SCRUB_DATA, VEXFS_SCRUB_VECTORS, VEXFS_SCRUB_NODES}) {
    vexfs_scrub v = asked(VEXFS_SCRUB_SNAPSHOTS | part, some, 1);
    int calls = 0;
    for (; !v.done && calls < 20000; calls++) {
      const std::vector<uint64_t> before(std::begin(v.position), std::end(v.position));
      ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SCRUB, &v), 0);
      ASSERT_EQ(v.count, 0u);
      ASSERT_TRUE(v.done || !std::equal(before.begin(), before.end(), v.position)) << part << " call " << calls;
    }
    EXPECT_EQ(v.done, 1u) << part;
    EXPECT_GT(calls, 2) << part;
  }
}

TEST_F(VectorScrubPast, ReadOnly) {
  auto places = own_nodes(first, 0);
  m.remount(true);
  flip(places[0].second + 100);
  for (int i : {0, 1}) {
    auto found = scrub();
    ASSERT_EQ(found.size(), 1u) << i;
    EXPECT_TRUE(is(found[0], VEXFS_FOUND_NODE, first, 0, 0));
  }
}

// The top of a tree that has no copy left: the snapshot cannot be opened, and what follows it is still looked at.
TEST_F(VectorScrubPast, OneThatCannotBeOpened) {
  auto info = [&] {
    auto v = view(first);
    return std::pair(v->state().trees[0].height(), v->tree(store::TreeId::fs).height());
  }();
  ASSERT_GE(info.first, 2u);
  auto places = own_nodes(first, 0);
  std::pair<uint64_t, uint64_t> top{};
  {
    auto mine = view(first);
    store::PastWalk w(*mine, nullptr, volume());
    ASSERT_TRUE(w.make().ok());
    store::Key at;
    store::PastWalk::Found n;
    ASSERT_TRUE(w.next(store::TreeId::fs, static_cast<u8>(info.first - 1), &at, &n).ok());
    top = {n.addr * 4096, n.mirror * 4096};
  }
  flip(top.first + 100);
  flip(top.second + 100);
  flip(place(second, file, 5));
  auto found = scrub(VEXFS_SCRUB_SNAPSHOTS);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].kind, u32{VEXFS_FOUND_NODE});
  EXPECT_EQ(found[0].snapshot, first);
  EXPECT_TRUE(is(found[1], VEXFS_FOUND_DATA, second, file, 5 * 4096));
}

// A node that the present and a snapshot have: it is cured for both.
TEST_F(VectorScrubPast, WhatThePresentHasToo) {
  const uint32_t node = m.fs_info().node_size;
  uint64_t third = snapshot("third");
  std::vector<uint64_t> places;
  {
    const std::unique_ptr<u8, void (*)(void *)> buf(static_cast<u8 *>(aligned_alloc(4096, node)), free);
    store::ScrubPlace p;
    store::ScrubbedNode n;
    for (bool more = true; more && p.tree == 0;) {
      auto r = volume().scrub_node(p, {buf.get(), node}, n);
      ASSERT_TRUE(r.ok());
      more = *r;
      if (n.read) places.push_back(n.block * 4096);
    }
  }
  flip(places[0] + node / 2);
  auto found = scrub(VEXFS_SCRUB_NODES);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].flags, VEXFS_FOUND_REPAIRED);
  ASSERT_EQ(m.commit(), 0);
  EXPECT_TRUE(scrub().empty());
  EXPECT_NE(third, 0u);
  EXPECT_TRUE(m.check());
}

TEST_F(VectorScrubPast, AnyPositionIsTaken) {
  std::mt19937_64 rng(7);
  std::vector<vexfs_found> some(8);
  std::vector<vexfs_scrub> seen;
  for (vexfs_scrub v = asked(VEXFS_SCRUB_SNAPSHOTS, some, 20000); !v.done;) {
    ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SCRUB, &v), 0);
    seen.push_back(v);
  }
  ASSERT_GT(seen.size(), 10u);
  for (int i = 0; i < 3000; i++) {
    vexfs_scrub v = asked(0, some, 100000);
    for (int x = 0; x < 4; x++) {
      uint64_t r = rng() >> (rng() % 64);
      v.position[x] = rng() % 3 ? seen[rng() % seen.size()].position[x] : r;
    }
    v.position[0] = (v.position[0] & ~uint64_t{0xff}) | 4;
    ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SCRUB, &v), 0);
    EXPECT_EQ(v.count, 0u);
  }
}

TEST_F(VectorScrubPast, WhoDoesNotKnowOfSnapshots) {
  flip(place(first, file, 5));
  std::vector<vexfs_found> some(8);
  for (uint32_t flags : {0u, uint32_t{VEXFS_SCRUB_SNAPSHOTS}}) {
    vexfs_scrub v = asked(flags, some, 64 << 20);
    v.found_size = 64;
    while (!v.done) {
      int e = m.ioctl(m.root(), VEXFS_IOCTL_SCRUB, &v);
      ASSERT_EQ(e, flags ? -EINVAL : 0);
      if (e) break;
      EXPECT_EQ(v.count, 0u);
    }
  }
}

// Deleted, and made, between any two calls: nothing goes wrong, and what is there all the time is found.
TEST_F(VectorScrubPast, SnapshotsComeAndGo) {
  std::vector<vexfs_found> some(8);
  flip(place(second, file, 5));  // second's own
  for (int after : {0, 1, 3, 9, 20}) {
    ASSERT_EQ(m.write(m.make(m.root(), "more " + std::to_string(after)), contents(3)), 0);
    uint64_t gone = snapshot(("gone " + std::to_string(after)).c_str());
    ASSERT_EQ(m.unlink(m.root(), "more " + std::to_string(after)), 0);
    uint32_t count = 0, calls = 0;
    for (vexfs_scrub v = asked(VEXFS_SCRUB_SNAPSHOTS, some, 20000); !v.done && calls < 10000; calls++) {
      ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SCRUB, &v), 0);
      for (uint32_t i = 0; i < v.count; i++) EXPECT_TRUE(is(some[i], VEXFS_FOUND_DATA, second, file, 5 * 4096));
      count += v.count;
      if (static_cast<int>(calls) == after) {
        ASSERT_TRUE(volume().snapshot_delete(after == 9 ? first : gone).ok());
        while (*volume().snapshot_reclaim(1000)) {
        }
      }
    }
    EXPECT_EQ(count, 1u) << after;
  }
}

// At the same time: a deletion is not refused for the sake of a scrub.
TEST_F(VectorScrubPast, DeletedMeanwhile) {
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> done{0};
  std::thread scrubber([&] {
    std::vector<vexfs_found> some(8);
    while (!stop) {
      vexfs_scrub v = asked(VEXFS_SCRUB_SNAPSHOTS, some, 1 << 20);
      while (!v.done && !stop) {
        EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SCRUB, &v), 0);
        EXPECT_EQ(v.count, 0u);
      }
      done++;
    }
  });
  for (int i = 0; i < 60 || done < 3; i++) {
    std::string name = "more " + std::to_string(i);
    vx_inode *f = m.make(m.root(), name);
    ASSERT_EQ(m.write(f, contents(4)), 0);
    m.close(f);
    uint64_t id = snapshot(name.c_str());
    ASSERT_EQ(m.unlink(m.root(), name), 0);
    ASSERT_EQ(m.commit(), 0);
    Status st = volume().snapshot_delete(i == 30 ? first : i == 40 ? second : id);
    EXPECT_TRUE(st.ok()) << static_cast<int>(st.code());
    if (i % 3 == 0)
      while (*volume().snapshot_reclaim(1000)) {
      }
  }
  stop = true;
  scrubber.join();
  EXPECT_TRUE(m.check());
}

}  // namespace
}  // namespace vexfs::vector::test
