// SPDX-License-Identifier: MIT
// The commands that streams of snapshots are made with: SNAPSHOT_ROWS, PARENT, FS_INFO, rows that come in stale.
#include "vector_fixture.h"

namespace vexfs::vector::test {
namespace {

uint64_t snapshot(Mount &m, const char *name) {
  vexfs_snapshot s{};
  s.size = sizeof s;
  strcpy(s.name, name);
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SNAPSHOT_CREATE, &s), 0);
  return s.id;
}

struct Asked {
  uint64_t from = 0, to = 0, collection = 1, owner = VEXFS_OWNER_ANY;
  uint32_t flags = 0;
};

std::vector<uint64_t> rows(Mount &m, const Asked &a, uint32_t capacity = 64) {
  std::vector<vexfs_snapshot_row> some(capacity);
  std::vector<uint64_t> ids;
  vexfs_snapshot_rows v{};
  v.size = sizeof v;
  v.flags = a.flags;
  v.from = a.from;
  v.to = a.to;
  v.collection = a.collection;
  v.owner = a.owner;
  v.rows = reinterpret_cast<__u64>(some.data());
  v.capacity = capacity;
  v.entry_size = sizeof(vexfs_snapshot_row);
  for (int calls = 0; !v.done && calls < 1000; calls++) {
    const int rc = m.ioctl(m.root(), VEXFS_IOCTL_SNAPSHOT_ROWS, &v);
    EXPECT_EQ(rc, 0);
    if (rc) break;
    for (uint32_t i = 0; i < v.count; i++) ids.push_back(some[i].row.id);
  }
  EXPECT_EQ(v.done, 1u);
  std::sort(ids.begin(), ids.end());
  return ids;
}

using Ids = std::vector<uint64_t>;

TEST(StreamAbi, RowsThatCameAndWent) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), 2), 0);
  vx_inode *f = m.make(m.root(), "f"), *g = m.make(m.root(), "g");
  uint64_t id;
  for (uint64_t i = 1; i <= 80; i++) ASSERT_EQ(m.add(i % 2 ? f : m.root(), {1, 2}, &(id = i)), 0);
  const uint64_t before = snapshot(m, "before");
  for (uint64_t i : {3u, 4u, 70u}) ASSERT_EQ(m.del(m.root(), i), 0);
  for (uint64_t i : {10u, 11u}) ASSERT_EQ(m.update(m.root(), i, {5, 5}), 0);
  ASSERT_EQ(m.add(g, {1, 1}, &(id = 100)), 0);
  ASSERT_EQ(m.add(m.root(), {1, 1}, &(id = 101)), 0);
  ASSERT_EQ(m.add(m.root(), {1, 1}, &(id = 102)), 0);
  ASSERT_EQ(m.del(m.root(), 102), 0);  // came and went
  const uint64_t after = snapshot(m, "after");
  ASSERT_EQ(m.del(m.root(), 50), 0);
  for (uint32_t capacity : {1u, 3u, 64u}) {
    EXPECT_EQ(rows(m, {before, after}, capacity), (Ids{10, 11, 100, 101}));
    EXPECT_EQ(rows(m, {before, after, 1, VEXFS_OWNER_ANY, VEXFS_ROWS_GONE}, capacity), (Ids{3, 4, 10, 11, 70}));
    EXPECT_EQ(rows(m, {after, before}, capacity), (Ids{3, 4, 10, 11, 70}));  // the other way round
    EXPECT_EQ(rows(m, {before, after, 1, 0}, capacity), (Ids{10, 101}));
    EXPECT_EQ(rows(m, {before, after, 0, vx_ino(f)}, capacity), (Ids{11}));
    EXPECT_EQ(rows(m, {before, after, 1, vx_ino(g)}, capacity), (Ids{100}));
    EXPECT_EQ(rows(m, {before, after, 0, vx_ino(m.root())}, capacity), Ids{});
    EXPECT_EQ(rows(m, {0, before}, capacity).size(), 80u);
    EXPECT_EQ(rows(m, {0, before, 0, vx_ino(f)}, capacity).size(), 40u);
  }
  EXPECT_EQ(rows(m, {after, 0, 1, VEXFS_OWNER_ANY, VEXFS_ROWS_GONE}), (Ids{50}));  // the present
  EXPECT_EQ(rows(m, {0, 0}).size(), 78u);
}

TEST(StreamAbi, RowsRefuseNonsense) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), 2), 0);
  const uint64_t s = snapshot(m, "s");
  vexfs_snapshot_row some[4];
  auto attempt = [&](auto change) {
    vexfs_snapshot_rows v{};
    v.size = sizeof v;
    v.from = s;
    v.collection = 1;
    v.owner = VEXFS_OWNER_ANY;
    v.rows = reinterpret_cast<__u64>(some);
    v.capacity = 4;
    v.entry_size = sizeof(vexfs_snapshot_row);
    change(v);
    return m.ioctl(m.root(), VEXFS_IOCTL_SNAPSHOT_ROWS, &v);
  };
  EXPECT_EQ(attempt([](auto &) {}), 0);
  EXPECT_EQ(attempt([](auto &v) { v.flags = 2; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &v) { v.capacity = 0; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &v) { v.entry_size = 63; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &v) { v.entry_size = 5000; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &v) { v.reserved[3] = 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &v) { v.collection = 0; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &v) { v.flags = VEXFS_ROWS_GONE, v.from = 0; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &v) { v.flags = VEXFS_ROWS_GONE, v.owner = 0; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &v) { v.position[1] = ~__u64{0}; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &v) { v.owner = 1, v.position[0] = ~__u64{0}; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &v) { v.collection = 2; }), -ENOENT);
  EXPECT_EQ(attempt([](auto &v) { v.collection = ~__u64{0}; }), -ENOENT);
  EXPECT_EQ(attempt([](auto &v) { v.from = 77; }), -ENOENT);
  EXPECT_EQ(attempt([](auto &v) { v.to = 77; }), -ENOENT);
}

TEST(StreamAbi, StaleRowsComeInStale) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), 2), 0);
  vx_inode *f = m.make(m.root(), "f");
  ASSERT_EQ(m.write(f, "text"), 0);
  std::vector<vexfs_row> r(2);
  const float data[4] = {1, 2, 3, 4};
  auto attempt = [&](uint16_t op, uint32_t flags, uint32_t row_flags) {
    for (uint32_t i = 0; i < 2; i++) {
      r[i] = {};
      r[i].id = 1 + i;
      r[i].owner = vx_ino(f);
      r[i].flags = i ? row_flags : 0;
    }
    vexfs_batch b{};
    b.size = sizeof b;
    b.flags = flags;
    b.op = op;
    b.rows = reinterpret_cast<__u64>(r.data());
    b.data = reinterpret_cast<__u64>(data);
    b.count = 2;
    b.dim = 2;
    b.element = VEXFS_F32;
    return m.ioctl(m.root(), VEXFS_IOCTL_BATCH_OPERATIONS, &b);
  };
  EXPECT_EQ(attempt(VEXFS_BATCH_UPSERT, VEXFS_BATCH_F_ROW_FLAGS, VEXFS_ROW_INDEXED), -EINVAL);
  EXPECT_EQ(attempt(VEXFS_BATCH_UPDATE, VEXFS_BATCH_F_ROW_FLAGS, 0), -EINVAL);
  EXPECT_EQ(attempt(VEXFS_BATCH_GET, VEXFS_BATCH_F_ROW_FLAGS, 0), -EINVAL);
  for (int again = 0; again < 2; again++) {
    ASSERT_EQ(attempt(VEXFS_BATCH_UPSERT, VEXFS_BATCH_F_ROW_FLAGS, VEXFS_ROW_STALE), 0);
    Row v;
    vexfs_row row;
    ASSERT_EQ(m.get(m.root(), 1, &v, &row), 0);
    EXPECT_EQ(row.flags & VEXFS_ROW_STALE, 0u);
    ASSERT_EQ(m.get(m.root(), 2, &v, &row), 0);
    EXPECT_EQ(row.flags & VEXFS_ROW_STALE, VEXFS_ROW_STALE);
    m.remount();
    f = m.open(m.root(), "f");
  }
  EXPECT_TRUE(m.check());
}

TEST(StreamAbi, ParentsAndTheFilesystem) {
  Mount m({.block_size = 8192});
  vx_inode *d = m.mkdir(m.root(), "d"), *f = m.make(d, "f");
  auto parent = [&](uint64_t ino, vexfs_parent *p) {
    *p = {};
    p->size = sizeof *p;
    p->ino = ino;
    return m.ioctl(m.root(), VEXFS_IOCTL_PARENT, p);
  };
  vexfs_parent p;
  ASSERT_EQ(parent(vx_ino(f), &p), 0);
  EXPECT_EQ(p.parent, vx_ino(d));
  EXPECT_EQ(p.mode, 0100644u);
  ASSERT_EQ(parent(vx_ino(m.root()), &p), 0);
  EXPECT_EQ(p.parent, vx_ino(m.root()));
  EXPECT_EQ(parent(1000, &p), -ENOENT);
  EXPECT_EQ(parent(0, &p), -ENOENT);
  ASSERT_EQ(m.unlink(d, "f"), 0);
  EXPECT_EQ(parent(vx_ino(f), &p), -ENOENT);  // open, without a name
  vexfs_fs_info i{};
  i.size = sizeof i;
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_FS_INFO, &i), 0);
  EXPECT_EQ(i.block_size, 8192u);
  EXPECT_EQ(i.root_ino, vx_ino(m.root()));
  EXPECT_EQ(i.view, 0u);
  EXPECT_EQ(memcmp(i.uuid, m.fs_info().uuid, 16), 0);
  i.reserved[0] = 1;
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_FS_INFO, &i), -EINVAL);
}

// What was written to is told of, whether or not that has changed anything.
TEST(StreamAbi, WrittenWithWhatItHad) {
  Mount m;
  vx_inode *f = m.make(m.root(), "f"), *g = m.make(m.root(), "g");
  ASSERT_EQ(m.write(f, "text"), 0);
  ASSERT_EQ(m.write(g, "text"), 0);
  const uint64_t s = snapshot(m, "s");
  ASSERT_EQ(m.write(f, "text"), 0);
  vx_attr a{};
  a.mode = 0100600;
  ASSERT_EQ(vx_setattr(g, VX_SET_MODE, &a), 0);
  ASSERT_EQ(m.commit(), 0);
  vexfs_change some[8];
  vexfs_snapshot_diff d{};
  d.size = sizeof d;
  d.from = s;
  d.changes = reinterpret_cast<__u64>(some);
  d.capacity = 8;
  d.entry_size = sizeof(vexfs_change);
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SNAPSHOT_DIFF, &d), 0);
  ASSERT_EQ(d.count, 2u);
  EXPECT_NE(some[0].what & VEXFS_CHANGED_WRITTEN, 0u);
  EXPECT_EQ(some[1].what & VEXFS_CHANGED_WRITTEN, 0u);
}

}  // namespace
}  // namespace vexfs::vector::test
