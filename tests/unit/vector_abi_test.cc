// SPDX-License-Identifier: MIT
// The ABI as a caller meets it: sizes old and new, refusals that change nothing, rights, and every command's outputs.
#include <sys/ioctl.h>

#include <limits>

#include "vector_fixture.h"

namespace vexfs::vector::test {
namespace {

constexpr uint64_t any = VEXFS_ID_AUTO;
constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();
constexpr float infinite = std::numeric_limits<float>::infinity();

TEST(VectorAbi, NumbersAndLayout) {
  EXPECT_EQ(sizeof(vexfs_collection), 264u);
  EXPECT_EQ(sizeof(vexfs_row), 64u);
  EXPECT_EQ(sizeof(vexfs_hit), 64u);
  EXPECT_EQ(sizeof(vexfs_snapshot), 152u);
  EXPECT_EQ(sizeof(vexfs_change), 64u);
  EXPECT_EQ(sizeof(vexfs_snapshot_diff), 96u);
  EXPECT_EQ(offsetof(vexfs_embedding, row), 16u);
  EXPECT_EQ(_IOC_TYPE(VEXFS_IOCTL_VECTOR_SEARCH), 0xB7u);
  EXPECT_EQ(_IOC_NR(VEXFS_IOCTL_VECTOR_SEARCH), 0x50u);
  Mount m;
  vexfs_stats s{};
  s.size = sizeof s;
  EXPECT_EQ(m.ioctl(m.root(), _IOWR('x', 0x55, vexfs_stats), &s), -ENOTTY);
  EXPECT_EQ(m.ioctl(m.root(), _IOWR(VEXFS_IOC, 0x5f, vexfs_stats), &s), -ENOTTY);
  // Direction and size bits of the number do not count.
  s.collection = ~__u64{0};
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOC << 8 | 0x55, &s), 0);
}

TEST(VectorAbi, SmallerAndLargerStructs) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), 4), 0);
  struct {
    vexfs_stats s;
    uint8_t more[200];
  } big{};
  big.s.size = sizeof big;
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_GET_VECTOR_STATS, &big), 0);
  EXPECT_EQ(big.s.abi_version, static_cast<unsigned>(VEXFS_ABI_VERSION));
  big.more[199] = 1;
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_GET_VECTOR_STATS, &big), -E2BIG);
  // A caller that knows of the first fields only: nothing behind them is written.
  vexfs_stats small;
  memset(&small, 0xee, sizeof small);
  small.size = offsetof(vexfs_stats, slots);
  small.flags = 0;
  small.collection = 0;
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_GET_VECTOR_STATS, &small), 0);
  EXPECT_EQ(small.rows, 0u);
  EXPECT_EQ(small.slots, 0xeeeeeeeeeeeeeeeeull);
  small.size = 4;
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_GET_VECTOR_STATS, &small), -EINVAL);
  small.size = 1 << 20;
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_GET_VECTOR_STATS, &small), -E2BIG);
  EXPECT_EQ(vx_ioctl(m.fs(), m.root(), VEXFS_IOCTL_GET_VECTOR_STATS, 0, &m.caller), -EFAULT);
}

// A recall means something to CREATE, ALTER and to STATUS of an index: elsewhere it is refused, and nothing changes.
TEST(VectorAbi, RecallWhereItMeansNothing) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), 4), 0);
  vexfs_collection c{};
  c.size = sizeof c;
  for (const uint16_t bad : {1, 950, 1000, int{VEXFS_RECALL_OFF}}) {
    for (const auto command : {VEXFS_IOCTL_COLLECTION_INFO, VEXFS_IOCTL_COLLECTION_DROP}) {
      c.recall = bad;
      EXPECT_EQ(m.ioctl(m.root(), command, &c), -EINVAL) << bad;
    }
    for (const uint16_t op :
         {VEXFS_INDEX_BUILD, VEXFS_INDEX_REBUILD, VEXFS_INDEX_CHECKPOINT, VEXFS_INDEX_DROP, VEXFS_INDEX_STATUS}) {
      vexfs_index x{};
      x.size = sizeof x;
      x.op = op;
      x.recall = bad;
      const bool fine = op == VEXFS_INDEX_STATUS && bad <= VEXFS_RECALL_ALL;
      EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_MANAGE_INDEX, &x), fine ? 0 : -EINVAL) << op << " " << bad;
      EXPECT_EQ(m.info(m.root()).index, VEXFS_INDEX_FLAT);
    }
  }
  c.recall = 0;
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_INFO, &c), 0);
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_DROP, &c), 0);
}

TEST(VectorAbi, CreateRefusesNonsense) {
  Mount m;
  auto attempt = [&](auto change) {
    vexfs_collection c{};
    c.size = sizeof c;
    c.dim = 8;
    c.element = VEXFS_F32;
    c.metric = VEXFS_L2;
    c.index = VEXFS_INDEX_FLAT;
    change(c);
    return m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_CREATE, &c);
  };
  EXPECT_EQ(attempt([](auto &c) { c.dim = 0; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.dim = VEXFS_DIM_MAX + 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.element = 0; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.element = 5; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.metric = 4; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.index = 7; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.index = 256 + VEXFS_INDEX_HNSW; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.lists = VEXFS_IVF_LISTS_MAX + 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.probes = VEXFS_PROBES_MAX + 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.pq_m = static_cast<__u16>(c.dim + 1); }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.dim = 8192, c.lists = 20000; }), -EINVAL) << "too much for centroids";
  EXPECT_EQ(attempt([](auto &c) { c.tables = VEXFS_LSH_TABLES_MAX + 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.bits = VEXFS_LSH_BITS_MAX + 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.m = 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.m = 129; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.ef_construction = VEXFS_EF_MAX + 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.ef_search = VEXFS_EF_MAX + 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.flags = 4; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.id = 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.reserved0 = 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.reserved[5] = 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { memset(c.name, 'x', sizeof c.name); }), -EINVAL);
  EXPECT_EQ(attempt([](auto &c) { c.model[0] = '\xff'; }), -EINVAL);
  int e = 0;
  m.info(m.root(), &e);
  EXPECT_EQ(e, -ENOENT);
  vx_inode *f = m.make(m.root(), "f");
  EXPECT_EQ(m.create(f, 8), -ENOTDIR);
  EXPECT_EQ(attempt([](auto &c) { strcpy(c.name, "na\xc3\xafve"); }), 0);
  EXPECT_EQ(attempt([](auto &) {}), -EEXIST);
  vexfs_collection c = m.info(f);  // by way of the directory
  EXPECT_STREQ(c.name, "na\xc3\xafve");
  EXPECT_EQ(c.m, 16);
  EXPECT_EQ(c.ef_construction, 200u);
  EXPECT_EQ(c.ef_search, 64u);
  EXPECT_EQ(c.dir_ino, vx_ino(m.root()));
}

TEST(VectorAbi, RefusedRowsChangeNothing) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), 2, VEXFS_F32, VEXFS_COSINE), 0);
  uint64_t id = any;
  EXPECT_EQ(m.add(m.root(), {nan_value, 1}, &id), -EINVAL);
  EXPECT_EQ(m.add(m.root(), {infinite, 1}, &id), -EINVAL);
  EXPECT_EQ(m.add(m.root(), {0, 0}, &id), -EINVAL);
  EXPECT_EQ(m.add(m.root(), {1, 2, 3}, &id), -EINVAL);
  EXPECT_EQ(m.add(m.root(), {1}, &id), -EINVAL);
  EXPECT_EQ(m.info(m.root()).slots, 0u);
  id = 5;
  ASSERT_EQ(m.add(m.root(), {1, 1}, &id), 0);
  EXPECT_EQ(m.update(m.root(), 5, {nan_value, 1}), -EINVAL);
  EXPECT_EQ(m.update(m.root(), 5, {0, 0}), -EINVAL);
  Row v;
  ASSERT_EQ(m.get(m.root(), 5, &v), 0);
  EXPECT_EQ(v, (Row{1, 1}));
  std::vector<vexfs_hit> hits;
  EXPECT_EQ(m.search(m.root(), {0, 0}, 1, &hits), -EINVAL);
  EXPECT_EQ(m.search(m.root(), {nan_value, 0}, 1, &hits), -EINVAL);
  EXPECT_EQ(m.search(m.root(), {1, 0, 0}, 1, &hits), -EINVAL);
  EXPECT_EQ(m.info(m.root()).slots, 1u);
  // A batch stops at the row that is refused; what came before it is in.
  std::vector<float> data{1, 0, 0, 1, infinite, 0, 1, 1};
  std::vector<vexfs_row> rows(4);
  for (auto &r : rows) r.id = any;
  uint32_t done = 77;
  EXPECT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, data, 2, &rows, &done), -EINVAL);
  EXPECT_EQ(done, 2u);
  EXPECT_EQ(rows[0].id, 1u);
  EXPECT_EQ(rows[1].id, 2u);
  EXPECT_EQ(rows[2].id, any);
  EXPECT_EQ(m.info(m.root()).rows, 3u);
}

TEST(VectorAbi, ElementTypes) {
  for (uint16_t element : {VEXFS_F32, VEXFS_F16, VEXFS_BF16, VEXFS_I8}) {
    Mount m;
    ASSERT_EQ(m.create(m.root(), 3, element), 0);
    uint64_t id = any;
    ASSERT_EQ(m.add(m.root(), {1, -2, 3}, &id), 0);
    Row v;
    ASSERT_EQ(m.get(m.root(), id, &v), 0);
    EXPECT_EQ(v, (Row{1, -2, 3}));
    // In its own type too.
    uint8_t raw[12] = {}, back[12] = {};
    vexfs_embedding e{};
    e.size = sizeof e;
    e.row.id = id;
    e.data = reinterpret_cast<__u64>(raw);
    e.dim = 3;
    e.element = element;
    ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_GET_EMBEDDING, &e), 0);
    EXPECT_EQ(e.element, element);
    e.row.id = any;
    ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_ADD_EMBEDDING, &e), 0);
    e.data = reinterpret_cast<__u64>(back);
    ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_GET_EMBEDDING, &e), 0);
    EXPECT_EQ(memcmp(raw, back, sizeof raw), 0);
    if (element == VEXFS_I8) {
      id = any;
      EXPECT_EQ(m.add(m.root(), {200, 0, 0}, &id), -EINVAL);
    } else {
      e.element = VEXFS_I8;
      EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_ADD_EMBEDDING, &e), -EINVAL);
    }
    e.dim = 2;
    e.element = element;
    EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_GET_EMBEDDING, &e), -EINVAL);
  }
}

// What a command gave out may be given in again: fields that only come out are not looked at.
TEST(VectorAbi, AStructCanBeUsedAgain) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), 2, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW), 0);
  vx_inode *f = m.make(m.root(), "f");
  Row v{1, 2}, back(2);
  vexfs_embedding e{};
  e.size = sizeof e;
  e.row.id = any;
  e.row.owner = vx_ino(f);
  e.data = reinterpret_cast<__u64>(v.data());
  e.dim = 2;
  e.element = VEXFS_F32;
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_ADD_EMBEDDING, &e), 0);
  ASSERT_EQ(m.write(f, "changed"), 0);
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_GET_EMBEDDING, &e), 0);
  EXPECT_NE(e.row.flags & VEXFS_ROW_STALE, 0u);
  v = {3, 4};
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_UPDATE_EMBEDDING, &e), 0);
  EXPECT_EQ(e.row.flags & VEXFS_ROW_STALE, 0u);
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_GET_EMBEDDING, &e), 0);
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_DELETE_EMBEDDING, &e), 0);
}

TEST(VectorAbi, OwnersAndFds) {
  Mount m;
  vx_inode *d = m.mkdir(m.root(), "c"), *other = m.mkdir(m.root(), "other");
  ASSERT_EQ(m.create(d, 2), 0);
  uint64_t cid = m.info(d).id;
  vx_inode *f = m.make(d, "f"), *g = m.make(other, "g");
  m.caller.fds = {vx_ino(f), vx_ino(g), vx_ino(other)};
  auto add = [&](vx_inode *ip, uint32_t flags, uint64_t owner, int fd, vexfs_row *out = nullptr) {
    Row v{1, 2};
    vexfs_embedding e{};
    e.size = sizeof e;
    e.flags = flags;
    e.collection = cid;
    e.row.id = any;
    e.row.owner = owner;
    e.row.owner_fd = fd;
    e.row.offset = 10;
    e.row.length = 20;
    e.data = reinterpret_cast<__u64>(v.data());
    e.dim = 2;
    e.element = VEXFS_F32;
    int r = m.ioctl(ip, VEXFS_IOCTL_ADD_EMBEDDING, &e);
    if (out) *out = e.row;
    return r;
  };
  vexfs_row row;
  ASSERT_EQ(add(f, 0, 0, -1, &row), 0);
  EXPECT_EQ(row.owner, vx_ino(f));
  EXPECT_EQ(row.offset, 10u);
  vx_attr a;
  vx_getattr(f, &a);
  EXPECT_EQ(row.generation, a.generation);
  EXPECT_EQ(row.owner_version, a.version);
  EXPECT_NE(a.flags & VX_INODE_HAS_VECTORS, 0u);
  ASSERT_EQ(add(f, VEXFS_VEC_NO_OWNER, 0, -1, &row), 0);
  EXPECT_EQ(row.owner, 0u);
  EXPECT_EQ(add(f, VEXFS_VEC_NO_OWNER, vx_ino(f), -1), -EINVAL);
  EXPECT_EQ(add(f, 0, vx_ino(g), -1), -EINVAL);
  ASSERT_EQ(add(d, 0, vx_ino(g), -1, &row), 0);
  EXPECT_EQ(row.owner, vx_ino(g));
  ASSERT_EQ(add(d, VEXFS_VEC_OWNER_FD, 0, 1, &row), 0);
  EXPECT_EQ(row.owner, vx_ino(g));
  EXPECT_EQ(add(d, VEXFS_VEC_OWNER_FD, 0, 9), -EBADF);
  EXPECT_EQ(add(d, VEXFS_VEC_OWNER_FD, 0, 2), -EINVAL);  // a directory owns no rows
  EXPECT_EQ(add(d, 0, 123456, -1), -ENOENT);
  EXPECT_EQ(add(d, 0x100, 0, -1), -EINVAL);
  // Offsets that wrap around.
  vexfs_embedding e{};
  e.size = sizeof e;
  e.row.id = any;
  e.row.offset = ~__u64{0};
  e.row.length = 2;
  Row v{1, 2};
  e.data = reinterpret_cast<__u64>(v.data());
  e.dim = 2;
  e.element = VEXFS_F32;
  EXPECT_EQ(m.ioctl(d, VEXFS_IOCTL_ADD_EMBEDDING, &e), -EINVAL);
  EXPECT_EQ(m.info(d).rows, 4u);
  EXPECT_TRUE(m.check());
}

TEST(VectorAbi, Rights) {
  Mount m;
  vx_inode *d = m.mkdir(m.root(), "c");
  ASSERT_EQ(m.create(d, 2), 0);
  vx_inode *f = m.make(d, "f"), *g = m.make(d, "g");
  uint64_t a = any, b = any, c = any;
  ASSERT_EQ(m.add(f, {1, 0}, &a), 0);
  ASSERT_EQ(m.add(g, {2, 0}, &b), 0);
  ASSERT_EQ(m.add(d, {3, 0}, &c), 0);
  std::vector<vexfs_hit> hits;
  // A file that may not be read is left out, and the result is filled up with others.
  m.caller.denied = {{vx_ino(f), 4}};
  ASSERT_EQ(m.search(d, {0, 0}, 2, &hits), 0);
  ASSERT_EQ(hits.size(), 2u);
  EXPECT_EQ(hits[0].id, b);
  EXPECT_EQ(hits[1].id, c);
  Row v;
  EXPECT_EQ(m.get(d, a, &v), -EACCES);
  EXPECT_EQ(m.search(f, {}, 1, &hits, VEXFS_SEARCH_LIKE), -EACCES);
  // One that may not be written keeps its rows.
  m.caller.denied = {{vx_ino(f), 2}};
  EXPECT_EQ(m.del(d, a), -EACCES);
  EXPECT_EQ(m.update(d, a, {9, 9}), -EACCES);
  EXPECT_EQ(m.add(f, {9, 9}, &c), -EACCES);
  std::vector<vexfs_row> rows(1);
  rows[0].id = a;
  EXPECT_EQ(m.batch(d, VEXFS_BATCH_DELETE, {}, 2, &rows), -EACCES);
  EXPECT_EQ(m.batch(d, VEXFS_BATCH_UPSERT, {1, 1}, 2, &rows), -EACCES);
  ASSERT_EQ(m.get(d, a, &v), 0);
  // The directory rules over rows of nobody, and over the collection.
  m.caller.denied = {{vx_ino(d), 2}};
  uint64_t id = any;
  EXPECT_EQ(m.add(d, {1, 1}, &id), -EACCES);
  EXPECT_EQ(m.del(d, c), -EACCES);
  EXPECT_EQ(m.index(d, VEXFS_INDEX_REBUILD, nullptr, VEXFS_INDEX_HNSW), -EACCES);
  EXPECT_EQ(m.index(d, VEXFS_INDEX_STATUS), 0);
  EXPECT_EQ(m.create(m.mkdir(m.root(), "x"), 2), 0);
  vexfs_collection k{};
  k.size = sizeof k;
  EXPECT_EQ(m.ioctl(d, VEXFS_IOCTL_COLLECTION_DROP, &k), -EACCES);
  EXPECT_EQ(m.ioctl(d, VEXFS_IOCTL_COLLECTION_ALTER, &k), -EACCES);
  ASSERT_EQ(m.add(f, {4, 0}, &id), 0);  // a file's own vectors need no right on the directory
  m.caller.denied = {{vx_ino(d), 4}};
  EXPECT_EQ(m.search(d, {0, 0}, 2, &hits), -EACCES);
  int e = 0;
  m.info(d, &e);
  EXPECT_EQ(e, -EACCES);
  // Tools on an image ask nobody.
  m.caller.trusted = true;
  EXPECT_EQ(m.search(d, {0, 0}, 9, &hits), 0);
  EXPECT_EQ(hits.size(), 4u);
}

TEST(VectorAbi, ReadOnlyMount) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), 2, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW), 0);
  uint64_t id = any;
  ASSERT_EQ(m.add(m.root(), {1, 2}, &id), 0);
  m.remount(true);
  std::vector<vexfs_hit> hits;
  ASSERT_EQ(m.search(m.root(), {1, 2}, 1, &hits), 0);
  EXPECT_EQ(hits.size(), 1u);
  EXPECT_EQ(m.add(m.root(), {1, 2}, &id), -EROFS);
  EXPECT_EQ(m.del(m.root(), id), -EROFS);
  EXPECT_EQ(m.create(m.root(), 2), -EROFS);
  EXPECT_EQ(m.index(m.root(), VEXFS_INDEX_REBUILD), -EROFS);
  vexfs_collection k{};
  k.size = sizeof k;
  EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_DROP, &k), -EROFS);
}

TEST(VectorAbi, SearchArguments) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), 2), 0);
  std::vector<float> queries(32, 1);
  std::vector<vexfs_hit> hits(64);
  std::vector<__u32> counts(16);
  auto attempt = [&](auto change) {
    vexfs_search s{};
    s.size = sizeof s;
    s.queries = reinterpret_cast<__u64>(queries.data());
    s.hits = reinterpret_cast<__u64>(hits.data());
    s.counts = reinterpret_cast<__u64>(counts.data());
    s.nq = 16;
    s.dim = 2;
    s.element = VEXFS_F32;
    s.k = 4;
    change(s);
    return m.ioctl(m.root(), VEXFS_IOCTL_VECTOR_SEARCH, &s);
  };
  EXPECT_EQ(attempt([](auto &) {}), 0);
  EXPECT_EQ(attempt([](auto &s) { s.nq = 0; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &s) { s.nq = VEXFS_QUERIES_MAX + 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &s) { s.k = 0; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &s) { s.k = VEXFS_K_MAX + 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &s) { s.ef = VEXFS_EF_MAX + 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &s) { s.counts = 0; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &s) { s.counts = 0, s.nq = 1; }), 0);
  EXPECT_EQ(attempt([](auto &s) { s.as_of = 1; }), -EOPNOTSUPP);
  EXPECT_EQ(attempt([](auto &s) { s.flags = 64; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &s) { s.flags = VEXFS_SEARCH_RADIUS; }), 0);  // 0 is a radius
  EXPECT_EQ(attempt([](auto &s) { s.radius = 1; }), -EINVAL);
  for (__u32 nan : {0x7fc00000u, 0xffc00000u, 0x7f800001u}) {
    EXPECT_EQ(attempt([&](auto &s) { s.flags = VEXFS_SEARCH_RADIUS, s.radius = nan; }), -EINVAL);
    EXPECT_EQ(attempt([&](auto &s) { s.flags = VEXFS_SEARCH_AFTER, s.nq = 1, s.after_distance = nan; }), -EINVAL);
  }
  for (__u32 infinity : {0x7f800000u, 0xff800000u}) {
    EXPECT_EQ(attempt([&](auto &s) { s.flags = VEXFS_SEARCH_RADIUS, s.radius = infinity; }), 0);
    EXPECT_EQ(attempt([&](auto &s) { s.flags = VEXFS_SEARCH_AFTER, s.nq = 1, s.after_distance = infinity; }), 0);
  }
  EXPECT_EQ(attempt([](auto &s) { s.flags = VEXFS_SEARCH_AFTER; }), -EINVAL);  // of one query
  EXPECT_EQ(attempt([](auto &s) { s.flags = VEXFS_SEARCH_AFTER, s.nq = 1; }), 0);
  EXPECT_EQ(attempt([](auto &s) { s.flags = VEXFS_SEARCH_AFTER, s.nq = 1, s.after_slot = ~0ull; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &s) { s.flags = VEXFS_SEARCH_AFTER | VEXFS_SEARCH_BY_OWNER, s.nq = 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &s) { s.after_slot = 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &s) { s.after_distance = 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &s) { s.reserved1 = 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &s) { s.flags = VEXFS_SEARCH_BY_OWNER, s.k = VEXFS_K_MAX, s.nq = 1; }), 0);
  EXPECT_EQ(attempt([](auto &s) { s.element = VEXFS_I8; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &s) { s.like_owner = 5; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &s) { s.reserved1 = 1; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &s) { s.ef_used = 77; }), 0) << "only out";
  EXPECT_EQ(attempt([](auto &s) { s.recall = 900; }), 0);
  EXPECT_EQ(attempt([](auto &s) { s.recall = 900, s.ef = 10; }), -EINVAL);
  EXPECT_EQ(attempt([](auto &s) { s.collection = 99; }), -ENOENT);
  EXPECT_EQ(attempt([](auto &s) { s.queries = 0; }), -EFAULT);
}

TEST(VectorAbi, HybridFilters) {
  Mount m;
  vx_inode *d = m.mkdir(m.root(), "c");
  vx_inode *sub = m.mkdir(d, "sub");
  ASSERT_EQ(m.create(d, 1, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW), 0);
  vx_inode *f = m.make(sub, "f"), *g = m.make(d, "g");
  for (int i = 0; i < 600; i++) {  // enough that the index is walked
    uint64_t id = static_cast<uint64_t>(i);
    ASSERT_EQ(m.add(d, {static_cast<float>(i)}, &id, 0,
                    i % 3 == 0   ? vx_ino(f)
                    : i % 3 == 1 ? vx_ino(g)
                                 : 0,
                    static_cast<uint64_t>(i % 10)),
              0);
  }
  auto ask = [&](std::vector<vexfs_filter> filters, uint32_t *plan = nullptr) {
    std::vector<vexfs_hit> hits;
    EXPECT_EQ(m.search(d, {0}, 3, &hits, 0, 0, nullptr, &filters, plan), 0);
    std::vector<uint64_t> ids;
    for (auto &h : hits) ids.push_back(h.id);
    return ids;
  };
  using Ids = std::vector<uint64_t>;
  uint32_t plan = 0;
  EXPECT_EQ(ask({}, &plan), (Ids{0, 1, 2}));
  EXPECT_EQ(plan, static_cast<unsigned>(VEXFS_PLAN_INDEX));
  EXPECT_EQ(ask({{VEXFS_FILTER_ID_RANGE, 0, 100, 120, 0}}, &plan), (Ids{100, 101, 102}));
  EXPECT_EQ(plan, static_cast<unsigned>(VEXFS_PLAN_NAMED));
  EXPECT_EQ(ask({{VEXFS_FILTER_OWNER, 0, vx_ino(f), 0, 0}}), (Ids{0, 3, 6}));
  EXPECT_EQ(ask({{VEXFS_FILTER_OWNER, VEXFS_FILTER_NOT, vx_ino(f), 0, 0}}), (Ids{1, 2, 4}));
  EXPECT_EQ(ask({{VEXFS_FILTER_SUBTREE, 0, vx_ino(sub), 0, 0}}), (Ids{0, 3, 6}));
  EXPECT_EQ(ask({{VEXFS_FILTER_SUBTREE, 0, vx_ino(d), 0, 0}}), (Ids{0, 1, 3}));
  EXPECT_EQ(ask({{VEXFS_FILTER_TAG_RANGE, 0, 7, 8, 0}}), (Ids{7, 8, 17}));
  EXPECT_EQ(ask({{VEXFS_FILTER_TAG_RANGE, 0, 7, 8, 0}, {VEXFS_FILTER_OWNER, 0, vx_ino(g), 0, 0}}), (Ids{7, 28, 37}));
  EXPECT_EQ(ask({{VEXFS_FILTER_ID_RANGE, 0, 5, 4, 0}}), Ids{});
  std::vector<vexfs_hit> hits;
  auto refuse = [&](vexfs_filter f1) {
    std::vector<vexfs_filter> one{f1};
    return m.search(d, {0}, 3, &hits, 0, 0, nullptr, &one);
  };
  EXPECT_EQ(refuse({VEXFS_FILTER_PROGRAM, 0, 0, 0, 0}), -EOPNOTSUPP);
  EXPECT_EQ(refuse({99, 0, 0, 0, 0}), -EOPNOTSUPP);
  EXPECT_EQ(refuse({0, 0, 0, 0, 0}), -EINVAL);
  EXPECT_EQ(refuse({VEXFS_FILTER_OWNER, 2, 0, 0, 0}), -EINVAL);
  EXPECT_EQ(refuse({VEXFS_FILTER_OWNER, 0, 0, 0, 1}), -EINVAL);
}

TEST(VectorAbi, LikeLeavesItselfOut) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), 2), 0);
  vx_inode *f = m.make(m.root(), "f"), *g = m.make(m.root(), "g"), *h = m.make(m.root(), "h");
  uint64_t a = any, b = any, c = any;
  ASSERT_EQ(m.add(f, {1, 1}, &a), 0);
  ASSERT_EQ(m.add(g, {1, 2}, &b), 0);
  ASSERT_EQ(m.add(f, {5, 5}, &c), 0);
  std::vector<vexfs_hit> hits;
  ASSERT_EQ(m.search(f, {}, 5, &hits, VEXFS_SEARCH_LIKE), 0);
  ASSERT_EQ(hits.size(), 1u);
  EXPECT_EQ(hits[0].id, b);
  EXPECT_FLOAT_EQ(distance_of(hits[0]), 1);
  vexfs_search s{};
  s.like_owner = vx_ino(g);
  ASSERT_EQ(m.search(m.root(), {}, 5, &hits, VEXFS_SEARCH_LIKE, 0, &s), 0);
  EXPECT_EQ(hits.size(), 2u);
  EXPECT_EQ(m.search(h, {}, 5, &hits, VEXFS_SEARCH_LIKE), -ENOENT);
}

TEST(VectorAbi, ListAlterAndStats) {
  Mount m;
  vx_inode *a = m.mkdir(m.root(), "a"), *b = m.mkdir(m.root(), "b"), *c = m.mkdir(m.root(), "c");
  for (vx_inode *d : {a, b, c}) ASSERT_EQ(m.create(d, 8), 0);
  std::mt19937_64 rng(1);
  ASSERT_EQ(m.batch(b, VEXFS_BATCH_ADD, random_rows(rng, 100, 8), 8, nullptr), 0);
  std::vector<vexfs_collection> out(8);
  vexfs_collection_list l{};
  l.size = sizeof l;
  l.collections = reinterpret_cast<__u64>(out.data());
  l.capacity = 2;
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_LIST, &l), 0);
  EXPECT_EQ(l.count, 2u);
  EXPECT_EQ(out[1].rows, 100u);
  l.after = out[1].id;
  l.capacity = 8;
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_LIST, &l), 0);
  EXPECT_EQ(l.count, 1u);
  EXPECT_EQ(out[0].dir_ino, vx_ino(c));
  l.after = 0;
  m.caller.denied = {{vx_ino(b), 4}};
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_COLLECTION_LIST, &l), 0);
  EXPECT_EQ(l.count, 2u);
  m.caller.denied.clear();

  vexfs_collection k{};
  k.size = sizeof k;
  k.ef_search = 99;
  strcpy(k.name, "words");
  strcpy(k.model, "m1");
  ASSERT_EQ(m.ioctl(b, VEXFS_IOCTL_COLLECTION_ALTER, &k), 0);
  k = {};
  k.size = sizeof k;
  k.dim = 9;
  EXPECT_EQ(m.ioctl(b, VEXFS_IOCTL_COLLECTION_ALTER, &k), -EINVAL);
  k.dim = 8;
  k.index = VEXFS_INDEX_HNSW;
  ASSERT_EQ(m.ioctl(b, VEXFS_IOCTL_COLLECTION_ALTER, &k), 0);
  m.remount();
  b = m.open(m.root(), "b");
  k = m.info(b);
  EXPECT_EQ(k.ef_search, 99u);
  EXPECT_STREQ(k.name, "words");
  EXPECT_STREQ(k.model, "m1");
  EXPECT_EQ(k.index, VEXFS_INDEX_HNSW);
  vexfs_index x;
  ASSERT_EQ(m.index(b, VEXFS_INDEX_STATUS, &x), 0);
  EXPECT_EQ(x.indexed, 100u);

  ASSERT_EQ(m.del(b, 1), 0);
  std::vector<vexfs_hit> hits;
  ASSERT_EQ(m.search(b, Row(8, 0.5f), 3, &hits), 0);
  vexfs_stats s = m.stats(b);
  EXPECT_EQ(s.rows, 99u);
  EXPECT_EQ(s.dead, 1u);
  EXPECT_EQ(s.slots, 100u);
  EXPECT_EQ(s.raw_bytes, 99u * 32);
  EXPECT_GE(s.table_bytes, s.raw_bytes);
  EXPECT_EQ(s.searches, 1u);
  EXPECT_EQ(s.deletes, 1u);
  EXPECT_GT(s.resident_bytes, 0u);
  EXPECT_GT(s.distances, 0u);
  vexfs_stats all = m.stats(m.root(), ~uint64_t{0});
  EXPECT_EQ(all.rows, 99u);
}

TEST(VectorAbi, CopiesThatFailAndCallersThatDie) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), 4), 0);
  std::mt19937_64 rng(1);
  auto data = random_rows(rng, 1000, 4);
  ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, data, 4, nullptr), 0);
  std::vector<vexfs_hit> hits;
  for (int n = 0; n < 6; n++) {
    m.caller.fault_after = n;
    int e = m.search(m.root(), Row(4, 1.0f), 3, &hits);
    EXPECT_TRUE(e == -EFAULT || e == 0) << e;
    m.caller.fault_after = n;
    uint64_t id = any;
    e = m.add(m.root(), Row(4, 1.0f), &id);
    EXPECT_TRUE(e == -EFAULT || e == 0) << e;
    m.caller.fault_after = -1;
  }
  m.caller.killed = true;
  EXPECT_EQ(m.search(m.root(), Row(4, 1.0f), 3, &hits), -EINTR);
  uint32_t done = 9;
  EXPECT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, data, 4, nullptr, &done), -EINTR);
  EXPECT_EQ(done, 0u);
  m.caller.killed = false;
  EXPECT_TRUE(m.check());
}

TEST(VectorAbi, LargestRows) {
  Mount m;
  ASSERT_EQ(m.create(m.root(), VEXFS_DIM_MAX), 0);
  std::mt19937_64 rng(1);
  auto data = random_rows(rng, 200, VEXFS_DIM_MAX);
  auto before = host::alloc_stats();
  ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, data, VEXFS_DIM_MAX, nullptr), 0);
  EXPECT_EQ(host::alloc_stats().calls > before.calls, true);
  m.remount();
  Row v;
  ASSERT_EQ(m.get(m.root(), 200, &v), 0);
  EXPECT_EQ(memcmp(v.data(), &data[size_t{199} * VEXFS_DIM_MAX], VEXFS_DIM_MAX * 4), 0);
  EXPECT_TRUE(m.check());
}

// A batch works in memory that earlier calls left, whatever they were, and clears none of it: what it takes and gives is its own.
class VectorAbiBatch : public testing::TestWithParam<unsigned> {};
INSTANTIATE_TEST_SUITE_P(Dimensions, VectorAbiBatch, testing::Values(64u, 129u, 300u));

TEST_P(VectorAbiBatch, KeepsItsMemory) {
  const unsigned dim = GetParam();
  Mount m;
  ASSERT_EQ(m.create(m.root(), dim, VEXFS_F16), 0);
  constexpr unsigned rows = 256;
  std::vector<float> in(rows * dim), out(rows * dim);
  for (size_t i = 0; i < in.size(); i++) in[i] = static_cast<float>(i % 1000);
  std::vector<vexfs_row> given(rows);
  for (unsigned i = 0; i < rows; i++) given[i].id = 1 + i;
  vexfs_batch b{};
  b.size = sizeof b;
  b.op = VEXFS_BATCH_ADD;
  b.rows = reinterpret_cast<__u64>(given.data());
  b.data = reinterpret_cast<__u64>(in.data());
  b.count = rows;
  b.dim = dim;
  b.element = VEXFS_F32;
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_BATCH_OPERATIONS, &b), 0);
  b.op = VEXFS_BATCH_GET;
  b.data = reinterpret_cast<__u64>(out.data());
  unsigned quiet = 0;
  for (unsigned round = 0; round < 32; round++) {
    const unsigned count = round % 4 ? rows : 1;
    const auto before = host::alloc_stats().calls;
    std::fill(out.begin(), out.end(), -1.0f);
    b.count = count;
    ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_BATCH_OPERATIONS, &b), 0);
    EXPECT_EQ(b.done, count);
    EXPECT_EQ(memcmp(in.data(), out.data(), count * dim * sizeof(float)), 0);
    quiet += host::alloc_stats().calls == before;
  }
  EXPECT_GT(quiet, 8u);  // where the thread moves to another processor there is other memory
}

}  // namespace
}  // namespace vexfs::vector::test
