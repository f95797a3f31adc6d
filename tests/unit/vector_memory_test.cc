// SPDX-License-Identifier: MIT
// The memory limit: rows and indexes of collections that are larger than it, under load and when things fail.
// Thread sanitizer: VectorMemory.LimitHoldsUnderLoad
#include <atomic>
#include <thread>

#include "../../kernel/core/api_internal.h"
#include "plane_rows.h"

namespace vexfs::vector::test {
namespace {

constexpr uint32_t dim = 512;
constexpr uint64_t whole = ~uint64_t{0};
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint32_t rows = 1500, rounds = 60;
constexpr uint64_t limit = 6 << 20;
#else
constexpr uint32_t rows = 4000, rounds = 400;
constexpr uint64_t limit = 16 << 20;
#endif
constexpr uint32_t collections = 8;

Row row_of(uint32_t collection, uint64_t id) { return plane_row(id * 64 + collection, dim); }

std::string name_of(uint32_t collection) { return "c" + std::to_string(collection); }

void add_rows(Mount &m, vx_inode *d, uint32_t collection, uint64_t first, uint32_t n) {
  std::vector<float> data;
  std::vector<vexfs_row> ids(n);
  for (uint32_t i = 0; i < n; i++) {
    Row r = row_of(collection, first + i);
    data.insert(data.end(), r.begin(), r.end());
    ids[i].id = first + i;
  }
  ASSERT_EQ(m.batch(d, VEXFS_BATCH_ADD, data, dim, &ids), 0);
}

void populate(Mount &m, uint32_t n, uint32_t per) {
  for (uint32_t c = 0; c < n; c++) {
    vx_inode *d = m.mkdir(m.root(), name_of(c));
    ASSERT_EQ(m.create(d, dim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW, nullptr, 8, 30), 0);
    for (uint32_t at = 0; at < per; at += 500) add_rows(m, d, c, 1 + at, std::min(500u, per - at));
    ASSERT_EQ(m.index(d, VEXFS_INDEX_BUILD), 0);
  }
}

uint64_t in_memory(Mount &m) {
  vexfs_stats s = m.stats(m.root(), whole);
  return s.resident_bytes + s.index_memory_bytes;
}

// The row itself must be what a search for it finds first; a graph may miss a few of many.
std::atomic<uint32_t> asked{0}, missed{0};
int find(Mount &m, vx_inode *d, uint32_t collection, uint64_t id, uint32_t flags = 0) {
  std::vector<vexfs_hit> hits;
  int e = m.search(d, row_of(collection, id), 3, &hits, flags, 100);
  if (e != 0) return e;
  asked++;
  EXPECT_EQ(hits.size(), 3u);
  if (!hits.empty() && hits[0].id != id && !(flags & VEXFS_SEARCH_EXACT)) {
    EXPECT_LE(++missed, 2 + asked / 100);
    return find(m, d, collection, id, VEXFS_SEARCH_EXACT);
  }
  if (!hits.empty()) {
    EXPECT_EQ(hits[0].id, id) << "collection " << collection;
    EXPECT_EQ(distance_of(hits[0]), 0.0f);
  }
  return 0;
}

TEST(VectorMemory, LimitHoldsUnderLoad) {
  Options o;
  o.size = 1 << 30;
  o.cache_bytes = limit;
  o.threads = 1;
  o.commit_interval_ms = 200;
  Mount m(o);
  const int64_t before = host::alloc_stats().large_bytes;
  populate(m, collections, rows);
  vexfs_stats s = m.stats(m.root(), whole);
  ASSERT_GT(s.table_bytes + collections * rows * 300, 4 * limit) << "too small to tell anything";
  constexpr uint32_t workers = 3;
  std::vector<std::vector<vx_inode *>> dirs(workers);
  for (auto &mine : dirs)
    for (uint32_t c = 0; c < collections; c++) mine.push_back(m.open(m.root(), name_of(c)));
  std::atomic<uint64_t> next[collections];
  for (auto &n : next) n = rows + 1;
  std::atomic<bool> stop{false};
  uint64_t most = 0;
  int64_t most_large = 0;
  std::thread watch([&] {
    while (!stop) {
      most = std::max(most, in_memory(m));
      most_large = std::max(most_large, host::alloc_stats().large_bytes - before);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  });
  std::vector<std::thread> threads;
  for (uint32_t w = 0; w < workers; w++)
    threads.emplace_back([&, w] {
      std::mt19937_64 rng(w);
      for (uint32_t i = 0; i < rounds; i++) {
        const uint32_t c = rng() % collections;
        if (rng() % 8 == 0) {
          add_rows(m, dirs[w][c], c, next[c].fetch_add(20), 20);
        } else {
          EXPECT_EQ(find(m, dirs[w][c], c, 1 + rng() % rows, rng() % 16 ? 0u : unsigned{VEXFS_SEARCH_EXACT}), 0);
        }
      }
    });
  for (auto &t : threads) t.join();
  stop = true;
  watch.join();
  s = m.stats(m.root(), whole);
  printf("limit %llu, at most %llu, %lld of large allocations; chunks: %llu loads, %llu evictions\n",
         static_cast<unsigned long long>(limit), static_cast<unsigned long long>(most),
         static_cast<long long>(most_large), static_cast<unsigned long long>(s.chunk_loads),
         static_cast<unsigned long long>(s.chunk_evictions));
  // An index and two chunks for each thread that is at work, and what no commit has written yet.
  constexpr uint64_t slack = (workers + 1) * ((2 << 20) + 2 * (2 << 20) + rows * 400) + (4 << 20);
  EXPECT_LE(most, limit + slack);
  EXPECT_GT(s.chunk_evictions, 0u);
  // When nobody is at work any more all of it is within the limit, after at most one turn of the thread.
  for (int i = 0; i < 1000 && in_memory(m) > limit; i++) {
    EXPECT_EQ(find(m, dirs[0][0], 0, 7), 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_LE(in_memory(m), limit);
  for (uint32_t c = 0; c < collections; c++)
    for (uint64_t id : {uint64_t{1}, next[c].load() - 1}) EXPECT_EQ(find(m, dirs[0][c], c, id), 0);
  EXPECT_TRUE(m.check());
}

// An index that was let go of is as good as before, and costs its checkpoint's reading once.
// A graph on disk of rows that take four times the limit is built, and built again aside, within it: what it keeps for
// its checkpoint is written as it goes, in each of the ways in which rows come to an index.
class DiskGraphMemory : public testing::TestWithParam<uint32_t> {};
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
INSTANTIATE_TEST_SUITE_P(Threads, DiskGraphMemory, testing::Values(1u));
#else
INSTANTIATE_TEST_SUITE_P(Threads, DiskGraphMemory, testing::Values(0u, 1u));
#endif

TEST_P(DiskGraphMemory, IsBuiltWithinTheLimit) {
  constexpr uint32_t n = 4096;
  constexpr uint64_t most = uint64_t{n} * dim;  // bytes, a quarter of the rows
  constexpr uint32_t m = 32, efc = 16;          // lists of all rows would not fit
  Options o;
  o.cache_bytes = most;
  o.threads = GetParam();
  const auto peak_of = [](Mount &f, auto &&what) {
    std::atomic<bool> stop{false};
    uint64_t peak = 0;
    std::thread watch([&] {
      while (!stop) {
        peak = std::max<uint64_t>(peak, f.stats(f.root(), whole).index_memory_bytes);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    });
    what();
    stop = true;
    watch.join();
    return peak;
  };
  vexfs_index x{};
  {
    Mount f(o);
    vx_inode *d = f.mkdir(f.root(), "c");
    ASSERT_EQ(f.create(d, dim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_FLAT, nullptr, m, efc), 0);
    for (uint32_t at = 0; at < n; at += 512) add_rows(f, d, 0, 1 + at, 512);
    const uint64_t built = peak_of(f, [&] { EXPECT_EQ(f.index(d, VEXFS_INDEX_BUILD, &x, VEXFS_INDEX_DISKANN, 2), 0); });
    EXPECT_EQ(x.indexed, n);
    EXPECT_EQ(x.checkpoint_slots, n);
    EXPECT_GT(built, most / 8);
    EXPECT_LE(built, most) << "aside";
    for (uint64_t id = 1; id < 200; id++) find(f, d, 0, id * 7);
    const uint64_t one = x.memory_bytes;
    const uint64_t again =
        peak_of(f, [&] { EXPECT_EQ(f.index(d, VEXFS_INDEX_REBUILD, &x, VEXFS_INDEX_DISKANN, 2), 0); });
    EXPECT_LE(again, one + most) << "beside the one before";
    f.remount();
    d = f.open(f.root(), "c");
    EXPECT_EQ(f.index(d, VEXFS_INDEX_STATUS, &x), 0);
    EXPECT_EQ(x.indexed, n);
    for (uint64_t id = 1; id < 200; id++) find(f, d, 0, id * 7);
    EXPECT_TRUE(f.check());
  }
  Mount f(o);  // from the first row on
  ASSERT_EQ(f.create(f.root(), dim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_DISKANN, nullptr, m, efc), 0);
  const uint64_t grown = peak_of(f, [&] {
    for (uint32_t at = 0; at < n; at += 512) add_rows(f, f.root(), 1, 1 + at, 512);
    EXPECT_EQ(f.index(f.root(), VEXFS_INDEX_BUILD, &x), 0);
  });
  // It may have been let go of since: what then is beyond its checkpoint is scanned.
  EXPECT_GE(x.indexed + walked_slots_min, n);
  EXPECT_LE(grown, most) << "in place";
  for (uint64_t id = 1; id < 200; id++) find(f, f.root(), 1, id * 7);
  EXPECT_TRUE(f.check());
}

// An append that came to nothing leaves an empty chunk behind. Memory gets short before it is used after all: what is put in
// then stays, and chunks still go.
TEST(VectorMemory, AnAppendComesToAChunkThatIsAboutToGo) {
  constexpr uint32_t wide = 4096, in_chunk = 128;
  Mount m;
  std::mt19937_64 rng(3);
  ASSERT_EQ(m.create(m.root(), wide, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_FLAT), 0);
  ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, random_rows(rng, in_chunk - 1, wide), wide, nullptr), 0);
  std::vector<vexfs_row> twice(2);
  for (vexfs_row &r : twice) r.id = 5000;
  EXPECT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, random_rows(rng, 2, wide), wide, &twice), -EEXIST);
  ASSERT_EQ(m.commit(), 0);
  ChunkCache &cache = m.fs()->engine->cache();
  EXPECT_GT(cache.reclaim(1900000), 0u);  // enough is freed before the empty one
  const std::vector<float> last = random_rows(rng, 1, wide);
  ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, last, wide, nullptr), 0);
  cache.reclaim(1);
  ASSERT_EQ(m.commit(), 0);
  std::vector<vexfs_hit> hits;
  ASSERT_EQ(m.search(m.root(), Row(last.begin(), last.end()), 1, &hits), 0);
  EXPECT_EQ(hits[0].distance, 0.f);
  EXPECT_GT(cache.reclaim(1900000), 0u);
  EXPECT_TRUE(m.check());
}

TEST(VectorMemory, ParkedIndexComesBack) {
  Options o;
  o.cache_bytes = 256 << 20;
  Mount m(o);
  populate(m, 2, 1200);
  vx_inode *a = m.open(m.root(), name_of(0)), *b = m.open(m.root(), name_of(1));
  EXPECT_EQ(find(m, a, 0, 5), 0);
  vexfs_index x{}, before{};
  ASSERT_EQ(m.index(a, VEXFS_INDEX_STATUS, &before), 0);
  EXPECT_GT(before.memory_bytes, 100000u);
  vx_fs_set_vector_cache(m.fs(), 1 << 20);
  EXPECT_EQ(m.stats(a).resident_limit_bytes, 1u << 20);
  EXPECT_EQ(find(m, b, 1, 5), 0);
  ASSERT_EQ(m.index(a, VEXFS_INDEX_STATUS, &x), 0);
  EXPECT_LT(x.memory_bytes, 4096u);
  EXPECT_EQ(x.indexed, before.indexed);
  EXPECT_EQ(x.max_level, before.max_level);
  EXPECT_EQ(x.codes_used, before.codes_used);
  EXPECT_EQ(x.checkpoint_slots, before.checkpoint_slots);
  // A few rows more do not bring it back, and are found.
  add_rows(m, a, 0, 5000, 10);
  ASSERT_EQ(m.index(a, VEXFS_INDEX_STATUS, &x), 0);
  EXPECT_LT(x.memory_bytes, 4096u);
  Row stored;
  vexfs_row row{};
  ASSERT_EQ(m.get(a, 3, &stored, &row), 0);
  EXPECT_TRUE(row.flags & VEXFS_ROW_INDEXED);
  ASSERT_EQ(m.get(a, 5003, &stored, &row), 0);
  EXPECT_FALSE(row.flags & VEXFS_ROW_INDEXED);
  vx_fs_set_vector_cache(m.fs(), 0);
  EXPECT_GE(m.stats(a).resident_limit_bytes, 512u << 20);
  std::vector<vexfs_hit> hits;
  vexfs_search s{};
  ASSERT_EQ(m.search(a, row_of(0, 5004), 3, &hits, 0, 100, &s), 0);
  ASSERT_FALSE(hits.empty());
  EXPECT_EQ(hits[0].id, 5004u);
  EXPECT_EQ(s.scanned, 10u) << "rows of the parked index are scanned";
  EXPECT_LT(s.distances, 1200u);
  ASSERT_EQ(m.index(a, VEXFS_INDEX_STATUS, &x), 0);
  EXPECT_GT(x.memory_bytes, 100000u);
  // So many that they are worth indexing do.
  vx_fs_set_vector_cache(m.fs(), 1 << 20);
  EXPECT_EQ(find(m, b, 1, 6), 0);
  add_rows(m, a, 0, 6000, 600);
  vx_fs_set_vector_cache(m.fs(), 0);
  ASSERT_EQ(m.index(a, VEXFS_INDEX_BUILD, &x), 0);
  EXPECT_EQ(x.indexed, 1810u);
  EXPECT_EQ(x.checkpoint_slots, 1810u);
  EXPECT_TRUE(m.check());
}

// What cannot be written stays: a read-only filesystem keeps what is beyond the checkpoint, and lets go of what is not.
TEST(VectorMemory, ReadOnlyParksWhatIsSaved) {
  Options o;
  o.cache_bytes = 256 << 20;
  Mount m(o);
  populate(m, 2, 1200);
  m.remount(true);
  vx_inode *a = m.open(m.root(), name_of(0)), *b = m.open(m.root(), name_of(1));
  EXPECT_EQ(find(m, a, 0, 5), 0);
  vx_fs_set_vector_cache(m.fs(), 1 << 20);
  EXPECT_EQ(find(m, b, 1, 5), 0);
  vexfs_index x{};
  ASSERT_EQ(m.index(a, VEXFS_INDEX_STATUS, &x), 0);
  EXPECT_LT(x.memory_bytes, 4096u);
  for (uint64_t id = 1; id < 1200; id += 111) EXPECT_EQ(find(m, a, 0, id), 0);
}

// Indexes and chunks come and go while allocations fail and the device does not read: errors are those, nothing else.
TEST(VectorMemory, FailuresWhileShortOfMemory) {
  Options o;
  o.size = 512 << 20;
  o.cache_bytes = 2 << 20;
  Mount m(o);
  constexpr uint32_t some = 3, per = 1100;
  populate(m, some, per);
  m.unmount();
  host::FaultDevice device(&m.device());
  m.use_device(&device);
  ASSERT_EQ(m.mount(), 0);
  host::set_log_hook([](vx_bdev *, int, const char *) {});
  std::mt19937_64 rng(5);
  uint32_t failed = 0, fine = 0;
  for (uint32_t i = 0; i < 300; i++) {
    const uint32_t c = rng() % some;
    vx_inode *d = m.open(m.root(), name_of(c));
    if (!d) continue;
    if (i % 2)
      host::fail_alloc_after(static_cast<int64_t>(rng() % 60));
    else
      device.fail_after(host::FaultDevice::Kind::read, static_cast<int64_t>(rng() % 30), -EIO);
    const int e = find(m, d, c, 1 + rng() % per);
    host::fail_alloc_after(-1);
    device.clear();
    m.close(d);
    EXPECT_TRUE(e == 0 || e == -ENOMEM || e == -EIO) << e;
    (e ? failed : fine)++;
  }
  EXPECT_GT(failed, 0u);
  EXPECT_GT(fine, 0u);
  for (uint32_t c = 0; c < some; c++) {
    vx_inode *d = m.open(m.root(), name_of(c));
    ASSERT_EQ(m.index(d, VEXFS_INDEX_BUILD), 0);
    for (uint64_t id = 1; id <= per; id += 97) EXPECT_EQ(find(m, d, c, id), 0);
  }
  host::set_log_hook({});
  m.unmount();
  m.use_device(nullptr);
  EXPECT_EQ(Mount::findings(&m.device()), "");
  ASSERT_EQ(m.mount(), 0);
}

}  // namespace
}  // namespace vexfs::vector::test
