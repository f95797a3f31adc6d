// SPDX-License-Identifier: MIT
// Vector operations when something fails: every allocation once, every read and every write of the device once.
//
// VEXFS_FAULTS=all tries every single one where a run in CI takes a sample.
#include <algorithm>
#include <cstdlib>
#include <functional>

#include "../../kernel/core/api_internal.h"
#include "vector_fixture.h"

namespace vexfs::vector::test {
namespace {

constexpr uint64_t any = VEXFS_ID_AUTO;
constexpr uint32_t dim = 16;
constexpr uint32_t rows = 700;  // enough for an index that is walked and checkpointed

// The number after n: the first ones all, then a sample, which differs from operation to operation. With the address
// sanitizer every step costs many times as much.
int after(int n) {
  static const bool all = getenv("VEXFS_FAULTS") != nullptr;
  static std::mt19937 rng(20261121);
#if defined(__SANITIZE_ADDRESS__)
  constexpr unsigned dense = 8, thin = 24;
#else
  constexpr unsigned dense = 40, thin = 10;
#endif
  return all || n < int{dense} ? n + 1 : n + 1 + static_cast<int>(rng() % (2 * thin));
}

Row row_of(uint64_t seed) {
  std::mt19937_64 rng(seed);
  return random_row(rng, dim);
}

// A filesystem with a collection of each kind of index under "hnsw" and "flat", their rows partly owned by files, some
// deleted; and an empty directory "plain".
void populate(Mount &m) {
  for (const char *name : {"hnsw", "flat"}) {
    vx_inode *d = m.mkdir(m.root(), name);
    bool hnsw = name[0] == 'h';
    ASSERT_EQ(m.create(d, dim, VEXFS_F32, VEXFS_L2, hnsw ? VEXFS_INDEX_HNSW : VEXFS_INDEX_FLAT, nullptr, 4, 20), 0);
    std::mt19937_64 rng(1);
    ASSERT_EQ(m.batch(d, VEXFS_BATCH_ADD, random_rows(rng, rows, dim), dim, nullptr), 0);
    vx_inode *f = m.make(d, "owner");
    for (uint64_t i = 0; i < 40; i++) {
      uint64_t id = 10000 + i;
      ASSERT_EQ(m.add(d, row_of(i), &id, 0, vx_ino(f), i), 0);
    }
    for (uint64_t id = 1; id < 60; id += 2) ASSERT_EQ(m.del(d, id), 0);
  }
  m.mkdir(m.root(), "plain");
}

std::unique_ptr<host::MemDevice> populated() {
  Mount m(Options{.size = 32 << 20});
  populate(m);
  m.unmount();
  return m.device().clone();
}

struct Operation {
  const char *name;
  std::function<int(Mount &)> run;
  bool repeats = false;  // a second run is as good as the first
};

int with_dir(Mount &m, const char *name, const std::function<int(vx_inode *)> &f) {
  vx_inode *d = m.open(m.root(), name);
  if (!d) return -ENOMEM;
  int e = f(d);
  m.close(d);
  return e;
}

int search_both(Mount &m, vx_inode *d, uint32_t flags) {
  std::vector<vexfs_hit> hits;
  int e = m.search(d, row_of(77), 5, &hits, flags, 50);
  if (e != 0) return e;
  EXPECT_EQ(hits.size(), 5u);
  return 0;
}

std::vector<Operation> operations() {
  std::vector<Operation> all;
  all.push_back({"create", [](Mount &m) {
                   return with_dir(m, "plain", [&](vx_inode *d) {
                     return m.create(d, dim, VEXFS_F16, VEXFS_COSINE, VEXFS_INDEX_HNSW);
                   });
                 }});
  for (const char *dir : {"hnsw", "flat"}) {
    auto add = [&](const char *name, std::function<int(Mount &, vx_inode *)> f, bool repeats = false) {
      all.push_back(
          {name, [dir, f](Mount &m) { return with_dir(m, dir, [&](vx_inode *d) { return f(m, d); }); }, repeats});
    };
    add(
        "alter",
        [](Mount &m, vx_inode *d) {
          vexfs_collection c{};
          c.size = sizeof c;
          c.ef_search = 77;
          strcpy(c.name, "another");
          return m.ioctl(d, VEXFS_IOCTL_COLLECTION_ALTER, &c);
        },
        true);
    add(
        "alter recall",
        [](Mount &m, vx_inode *d) {
          vexfs_collection c{};
          c.size = sizeof c;
          c.recall = 950;
          return m.ioctl(d, VEXFS_IOCTL_COLLECTION_ALTER, &c);
        },
        true);
    add(
        "search for a recall",
        [](Mount &m, vx_inode *d) {
          vexfs_search s{};
          std::vector<vexfs_hit> hits(5);
          const Row q = row_of(77);
          s.size = sizeof s;
          s.queries = reinterpret_cast<__u64>(q.data());
          s.hits = reinterpret_cast<__u64>(hits.data());
          s.nq = 1;
          s.dim = dim;
          s.element = VEXFS_F32;
          s.k = 5;
          s.recall = 900;
          return m.ioctl(d, VEXFS_IOCTL_VECTOR_SEARCH, &s);
        },
        true);
    add(
        "alter index",
        [](Mount &m, vx_inode *d) {
          int e = 0;
          vexfs_collection c{}, now = m.info(d, &e);
          if (e != 0) return e;
          c.size = sizeof c;
          c.index = now.index == VEXFS_INDEX_FLAT ? VEXFS_INDEX_HNSW : VEXFS_INDEX_FLAT;
          return m.ioctl(d, VEXFS_IOCTL_COLLECTION_ALTER, &c);
        },
        true);
    add("drop", [](Mount &m, vx_inode *d) {
      vexfs_collection c{};
      c.size = sizeof c;
      return m.ioctl(d, VEXFS_IOCTL_COLLECTION_DROP, &c);
    });
    add("add", [](Mount &m, vx_inode *d) {
      uint64_t id = 20000;
      return m.add(d, row_of(5), &id);
    });
    add("add with owner", [](Mount &m, vx_inode *d) {
      vx_inode *f = m.open(d, "owner");
      if (!f) return -ENOMEM;
      uint64_t id = 20001;
      int e = m.add(f, row_of(5), &id, 0, 0, 3);
      m.close(f);
      return e;
    });
    add("add durable", [](Mount &m, vx_inode *d) {
      uint64_t id = 20002;
      return m.add(d, row_of(5), &id, VEXFS_VEC_DURABLE);
    });
    add(
        "update", [](Mount &m, vx_inode *d) { return m.update(d, 10003, row_of(6)); }, true);
    add("delete", [](Mount &m, vx_inode *d) { return m.del(d, 10004); });
    add(
        "get",
        [](Mount &m, vx_inode *d) {
          Row v;
          return m.get(d, 10005, &v);
        },
        true);
    add(
        "batch add",
        [](Mount &m, vx_inode *d) {
          std::mt19937_64 rng(3);
          std::vector<vexfs_row> r(300);
          for (uint32_t i = 0; i < r.size(); i++) r[i].id = 30000 + i * (i % 7 + 1);
          std::sort(r.begin(), r.end(), [](auto &a, auto &b) { return a.id < b.id; });
          r.erase(std::unique(r.begin(), r.end(), [](auto &a, auto &b) { return a.id == b.id; }), r.end());
          return m.batch(d, VEXFS_BATCH_UPSERT, random_rows(rng, static_cast<uint32_t>(r.size()), dim), dim, &r);
        },
        true);
    add(
        "batch delete",
        [](Mount &m, vx_inode *d) {
          std::vector<vexfs_row> r(20);
          for (uint32_t i = 0; i < r.size(); i++) r[i].id = 200 + i;
          uint32_t done = 0;
          int e = m.batch(d, VEXFS_BATCH_DELETE, {}, dim, &r, &done);
          return e == -ENOENT && done == 0 ? 0 : e;  // the first run went through
        },
        true);
    add(
        "search", [](Mount &m, vx_inode *d) { return search_both(m, d, 0); }, true);
    add(
        "search exact", [](Mount &m, vx_inode *d) { return search_both(m, d, VEXFS_SEARCH_EXACT); }, true);
    add(
        "search of a subtree",
        [](Mount &m, vx_inode *d) {
          std::vector<vexfs_filter> f{{VEXFS_FILTER_SUBTREE, 0, vx_ino(d), 0, 0}};
          std::vector<vexfs_hit> hits;
          return m.search(d, row_of(8), 5, &hits, 0, 50, nullptr, &f);
        },
        true);
    add(
        "search like",
        [](Mount &m, vx_inode *d) {
          vx_inode *f = m.open(d, "owner");
          if (!f) return -ENOMEM;
          std::vector<vexfs_hit> hits;
          int e = m.search(f, {}, 5, &hits, VEXFS_SEARCH_LIKE);
          m.close(f);
          return e;
        },
        true);
    add(
        "index rebuild",
        [](Mount &m, vx_inode *d) { return m.index(d, VEXFS_INDEX_REBUILD, nullptr, VEXFS_INDEX_HNSW, 2, 6); }, true);
    add(
        "index build", [](Mount &m, vx_inode *d) { return m.index(d, VEXFS_INDEX_BUILD, nullptr, VEXFS_INDEX_HNSW); },
        true);
    add(
        "index drop", [](Mount &m, vx_inode *d) { return m.index(d, VEXFS_INDEX_DROP); }, true);
    add(
        "index checkpoint", [](Mount &m, vx_inode *d) { return m.index(d, VEXFS_INDEX_CHECKPOINT); }, true);
    add("unlink of an owner", [](Mount &m, vx_inode *d) { return m.unlink(d, "owner"); });
    add(
        "stats",
        [](Mount &m, vx_inode *d) {
          vexfs_stats s{};
          s.size = sizeof s;
          return m.ioctl(d, VEXFS_IOCTL_GET_VECTOR_STATS, &s);
        },
        true);
    all.push_back({"commit",
                   [dir](Mount &m) {
                     int e = with_dir(m, dir, [&](vx_inode *d) { return m.update(d, 10006, row_of(9)); });
                     return e ? e : m.commit();
                   },
                   true});
  }
  return all;
}

// After a failure everything is still there, but for what the operation itself removes.
void expect_usable(Mount &m, const std::string &what) {
  for (const char *name : {"hnsw", "flat"}) {
    vx_inode *d = m.open(m.root(), name);
    ASSERT_NE(d, nullptr) << what;
    int e = 0;
    m.info(d, &e);
    if (e == -ENOENT && what.rfind("drop", 0) == 0) continue;
    ASSERT_EQ(e, 0) << what;
    Row v;
    EXPECT_EQ(m.get(d, 300, &v), 0) << what;
    EXPECT_EQ(search_both(m, d, 0), 0) << what;
    m.close(d);
  }
}

// Every allocation fails once, in every operation: it says ENOMEM or does without, nothing leaks, nothing is damaged,
// the filesystem stays writable, and the operation can be done again.
TEST(VectorFaults, EveryAllocationFailsOnce) {
  host::set_log_level(VX_LOG_ERR);
  auto image = populated();
  int refused = 0, injected_in_all = 0;
  for (auto &op : operations()) {
    for (int n = 0;; n = after(n)) {
      ASSERT_LT(n, 20000) << op.name;
      std::string what = std::string(op.name) + ", allocation " + std::to_string(n);
      auto copy = image->clone();
      auto before = host::alloc_stats().outstanding;
      bool injected = false;
      {
        Mount m(Options{.size = 1 << 20}, copy.get());
        host::fail_alloc_after(n);
        int e = op.run(m);
        injected = host::alloc_failed();
        host::fail_alloc_after(-1);
        if (e != 0) {
          ASSERT_EQ(e, -ENOMEM) << what;
          ASSERT_TRUE(injected) << what;
          refused++;
        }
        ASSERT_FALSE(m.fs_info().aborted) << what;
        if (e != 0 || op.repeats) {
          ASSERT_EQ(op.run(m), 0) << what << ", again";
        }
        expect_usable(m, what);
        if (HasFatalFailure()) return;
      }
      ASSERT_EQ(host::alloc_stats().outstanding, before) << what << ": memory leaked";
      ASSERT_EQ(Mount::findings(copy.get()), "") << what;
      injected_in_all += injected;
      if (!injected) break;
    }
    if (HasFailure()) return;
  }
  printf("%d allocations failed, %d operations refused\n", injected_in_all, refused);
  EXPECT_GT(refused, 200);
}

// The state that can be seen from outside, to tell whether an operation that reported an error left anything behind.
struct Seen {
  uint64_t rows[2] = {}, slots[2] = {};
  bool operator==(const Seen &) const = default;
};
Seen look(Mount &m) {
  Seen s;
  int i = 0;
  for (const char *name : {"hnsw", "flat"}) {
    vx_inode *d = m.open(m.root(), name);
    int e = 0;
    vexfs_collection c = m.info(d, &e);
    s.rows[i] = e ? 0 : uint64_t{c.rows};
    s.slots[i++] = e ? 0 : uint64_t{c.slots};
    m.close(d);
  }
  return s;
}

// Each read of an operation that starts cold fails once. It is reported as such; once the device reads again the
// operation goes through, after a mount if the failure came in the middle of a change; nothing is damaged.
TEST(VectorFaults, EveryReadFailsOnce) {
  host::set_log_level(VX_LOG_ERR - 1);
  auto image = populated();
  int refused = 0;
  for (auto &op : operations()) {
    for (int n = 0;; n = after(n)) {
      ASSERT_LT(n, 20000) << op.name;
      std::string what = std::string(op.name) + ", read " + std::to_string(n);
      auto copy = image->clone();
      host::FaultDevice faulty(copy.get());
      uint64_t injected = 0;
      {
        Mount m(Options{.size = 1 << 20}, &faulty);
        faulty.fail_after(host::FaultDevice::Kind::read, n, -EIO);
        int e = op.run(m);
        injected = faulty.counters().injected;
        faulty.clear();
        // (A name that cannot be looked up shows as "no memory" in this test's own code.)
        ASSERT_TRUE(e == 0 || e == -EIO || e == -EUCLEAN || e == -ENOMEM) << what << ": " << e;
        ASSERT_TRUE(e == 0 || injected) << what;
        refused += e != 0;
        if (m.fs_info().aborted) m.remount();
        if (e != 0) {
          ASSERT_EQ(op.run(m), 0) << what << ", again";
        }
        expect_usable(m, what);
        if (HasFatalFailure()) return;
      }
      ASSERT_EQ(Mount::findings(copy.get()), "") << what;
      if (!injected) break;
    }
    if (HasFailure()) return;
  }
  printf("%d operations refused\n", refused);
  EXPECT_GT(refused, 20);
  host::set_log_level(VX_LOG_NOTICE);
}

// Each write, and each flush, of an operation and the commit after it fails, and all from there on. The device then
// holds the state before or after, whole.
TEST(VectorFaults, EveryWriteFailsForGood) {
  host::set_log_level(VX_LOG_ERR - 1);
  auto image = populated();
  int failed = 0;
  for (auto &op : operations()) {
    Seen before, afterwards;
    {
      auto copy = image->clone();
      Mount m(Options{.size = 1 << 20}, copy.get());
      before = look(m);
      ASSERT_EQ(op.run(m), 0) << op.name;
      afterwards = look(m);
    }
    for (auto kind : {host::FaultDevice::Kind::write, host::FaultDevice::Kind::flush}) {
      for (int n = 0;; n = after(n)) {
        ASSERT_LT(n, 20000) << op.name;
        std::string what = std::string(op.name) + ", write or flush " + std::to_string(n);
        auto copy = image->clone();
        host::FaultDevice faulty(copy.get());
        uint64_t injected = 0;
        {
          Mount m(Options{.size = 1 << 20}, &faulty);
          faulty.fail_after(kind, n, -EIO, true);
          int e = op.run(m);
          if (e == 0) e = m.commit();
          injected = faulty.counters().injected;
          ASSERT_EQ(e != 0, injected != 0) << what << ": " << e;
          m.unmount();
        }
        faulty.clear();
        ASSERT_EQ(Mount::findings(copy.get()), "") << what;
        Mount m(Options{.size = 1 << 20}, copy.get());
        Seen now = look(m);
        bool batch = strncmp(op.name, "batch", 5) == 0;  // goes in piece by piece
        bool gradual = batch || op.name == std::string("unlink of an owner");
        if (!gradual) {
          ASSERT_TRUE(now == before || now == afterwards) << what << ": rows " << now.rows[0] << " " << now.rows[1];
        }
        expect_usable(m, what);
        if (HasFatalFailure()) return;
        failed += injected != 0;
        if (!injected) break;
      }
    }
    if (HasFailure()) return;
  }
  printf("%d writes and flushes failed\n", failed);
  EXPECT_GT(failed, 100);
  host::set_log_level(VX_LOG_NOTICE);
}

// A graph on disk is read as it is searched, and a part of it cannot be: the search is a scan then, the index is built again.
TEST(VectorFaults, PartOfAGraphOnDiskCannotBeRead) {
  host::set_log_level(VX_LOG_ERR - 1);
  constexpr uint32_t wide = 64, n = 4000;
  host::MemDevice mem(64 << 20);
  host::FaultDevice faulty(&mem);
  vx_core_init();
  ASSERT_TRUE(store::format(&mem, store::FormatOptions{}, nullptr).ok());
  Mount m(Options{}, &faulty);
  ASSERT_EQ(m.create(m.root(), wide, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_DISKANN), 0);
  std::mt19937_64 rng(1);
  const std::vector<float> data = random_rows(rng, n, wide);
  ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, data, wide, nullptr), 0);
  ASSERT_EQ(m.commit(), 0);
  std::vector<vx_io> blobs;
  faulty.on_write([&](const vx_io &io) {
    if (io.len >= 100 << 10) blobs.push_back(io);
    return 0;
  });
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_BUILD), 0);
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_CHECKPOINT), 0);
  faulty.on_write(nullptr);
  ASSERT_FALSE(blobs.empty());
  m.remount();
  std::vector<vexfs_hit> hits;
  const auto first = [&](uint32_t i) {
    hits.clear();
    const int e = m.search(m.root(), Row(data.begin() + i * wide, data.begin() + (i + 1) * wide), 10, &hits);
    EXPECT_EQ(e, 0);
    return e == 0 && !hits.empty() ? hits[0].distance : 1;  // bits: 0 is 0
  };
  EXPECT_EQ(first(0), 0u);
  for (const vx_io &io : blobs) faulty.fail_range(host::FaultDevice::Kind::read, io.off + io.len / 2, 64 << 10, -EIO);
  for (uint32_t i = 0; i < 200; i++) ASSERT_EQ(first(i * 20), 0u) << i;
  EXPECT_GT(faulty.counters().injected, 0u);
  EXPECT_EQ(m.fs()->engine->stats().index_dropped.load(), 1u);
  faulty.clear();
  EXPECT_EQ(m.index(m.root(), VEXFS_INDEX_BUILD), 0);
  vexfs_index x;
  ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_STATUS, &x), 0);
  EXPECT_EQ(x.indexed, n);
  host::set_log_level(VX_LOG_NOTICE);
}

}  // namespace
}  // namespace vexfs::vector::test
