// SPDX-License-Identifier: MIT
// The client library against a target that answers as the ABI says: paging, splitting, errors, batches in flight.
#include "../../lib/client/commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <functional>
#include <mutex>
#include <set>

#include "../../lib/client/pipe.h"

namespace vexfs::client {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

class FakeTarget : public Target {
 public:
  using Handler = std::function<int(uint32_t cmd, void *arg)>;
  explicit FakeTarget(Handler h) : handler_(std::move(h)) { path_ = "/fake"; }
  int command(uint32_t cmd, void *arg) override {
    calls++;
    return handler_(cmd, arg);
  }
  std::atomic<int> calls{0};

 private:
  Handler handler_;
};

TEST(ClientNames, EveryNameIsFoundAgain) {
  for (uint16_t e : {VEXFS_F32, VEXFS_F16, VEXFS_BF16, VEXFS_I8}) EXPECT_EQ(element_from(element_name(e)), e);
  for (uint16_t m : {VEXFS_L2, VEXFS_COSINE, VEXFS_IP}) EXPECT_EQ(metric_from(metric_name(m)), m);
  for (uint16_t k : {VEXFS_INDEX_FLAT, VEXFS_INDEX_HNSW}) EXPECT_EQ(index_from(index_name(k)), k);
  EXPECT_EQ(element_from("Float32"), VEXFS_F32);
  EXPECT_EQ(metric_from("DOT"), VEXFS_IP);
  EXPECT_FALSE(element_from("f64"));
  EXPECT_FALSE(metric_from(""));
  EXPECT_STREQ(metric_name(99), "unknown");
}

TEST(ClientCollections, ListIsPagedByIdUntilTheEnd) {
  FakeTarget t([](uint32_t cmd, void *arg) {
    EXPECT_EQ(cmd, VEXFS_IOCTL_COLLECTION_LIST);
    auto *l = static_cast<vexfs_collection_list *>(arg);
    EXPECT_EQ(l->size, sizeof *l);
    auto *out = reinterpret_cast<vexfs_collection *>(static_cast<uintptr_t>(l->collections));
    l->count = 0;
    for (uint64_t id = l->after + 1; id <= 150 && l->count < l->capacity; id++) out[l->count++].id = id;
    return 0;
  });
  const auto all = collection_list(t);
  ASSERT_EQ(all.size(), 150u);
  for (size_t i = 0; i < all.size(); i++) EXPECT_EQ(all[i].id, i + 1);
  EXPECT_EQ(t.calls, 3);
}

TEST(ClientCollections, AListThatDoesNotAdvanceIsAnErrorNotALoop) {
  FakeTarget t([](uint32_t, void *arg) {
    auto *l = static_cast<vexfs_collection_list *>(arg);
    l->count = l->capacity;
    return 0;
  });
  EXPECT_THROW(collection_list(t), Error);
}

TEST(ClientErrors, SayWhatToDo) {
  FakeTarget none([](uint32_t, void *) { return -ENOENT; });
  EXPECT_THAT([&] { collection_info(none); }, ThrowsMessage<Error>(HasSubstr("no collection here")));
  EXPECT_THAT([&] { vector_get(none, 0, 7, 3, VEXFS_F32); }, ThrowsMessage<Error>(HasSubstr("no vector with id 7")));
  FakeTarget other([](uint32_t, void *) { return -ENOTTY; });
  EXPECT_THAT([&] { stats(other); }, ThrowsMessage<Error>(HasSubstr("not on a VexFS")));
  FakeTarget damaged([](uint32_t, void *) { return -EUCLEAN; });
  try {
    stats(damaged);
    FAIL();
  } catch (const Error &e) {
    EXPECT_EQ(e.err(), EUCLEAN);
    EXPECT_THAT(e.what(), HasSubstr("fsck.vexfs"));
  }
}

TEST(ClientSearch, ManyQueriesAreSplitAndPutTogether) {
  std::set<uint32_t> sizes;
  FakeTarget t([&](uint32_t cmd, void *arg) {
    EXPECT_EQ(cmd, VEXFS_IOCTL_VECTOR_SEARCH);
    auto *s = static_cast<vexfs_search *>(arg);
    EXPECT_LE(s->nq, VEXFS_QUERIES_MAX);
    sizes.insert(s->nq);
    const auto *q = reinterpret_cast<const float *>(static_cast<uintptr_t>(s->queries));
    auto *hits = reinterpret_cast<vexfs_hit *>(static_cast<uintptr_t>(s->hits));
    auto *counts = reinterpret_cast<uint32_t *>(static_cast<uintptr_t>(s->counts));
    for (uint32_t i = 0; i < s->nq; i++) {
      counts[i] = i % 3;  // fewer than k
      for (uint32_t j = 0; j < s->k; j++) {
        hits[i * s->k + j].id = static_cast<uint64_t>(q[i * s->dim]) * 10 + j;
        hits[i * s->k + j].distance = std::bit_cast<uint32_t>(0.5f);
      }
    }
    s->distances = s->nq;
    return 0;
  });
  const size_t n = 10000;
  std::vector<float> queries(n * 2);
  for (size_t i = 0; i < n; i++) queries[2 * i] = static_cast<float>(i);
  Query q;
  q.dim = 2;
  q.k = 3;
  const Answer a = search(t, q, queries.data(), n);
  ASSERT_EQ(a.hits.size(), n);
  EXPECT_EQ(t.calls, 3);
  EXPECT_EQ(sizes, (std::set<uint32_t>{4096, 10000 - 2 * 4096}));
  EXPECT_EQ(a.distances, n);
  for (size_t i = 0; i < n; i++) {
    ASSERT_EQ(a.hits[i].size(), (i % 4096) % 3);
    for (size_t j = 0; j < a.hits[i].size(); j++) ASSERT_EQ(a.hits[i][j].id, i * 10 + j);
  }
  EXPECT_EQ(hit_distance(a.hits[1][0]), 0.5f);
}

TEST(ClientSearch, FiltersMakeItHybrid) {
  FakeTarget t([](uint32_t cmd, void *arg) {
    EXPECT_EQ(cmd, VEXFS_IOCTL_HYBRID_SEARCH);
    auto *h = static_cast<vexfs_hybrid_search *>(arg);
    EXPECT_EQ(h->size, sizeof *h);
    EXPECT_EQ(h->search.size, sizeof h->search);
    EXPECT_EQ(h->nfilters, 1u);
    EXPECT_EQ(reinterpret_cast<const vexfs_filter *>(static_cast<uintptr_t>(h->filters))->b, 9u);
    h->plan = VEXFS_PLAN_SCAN;
    return 0;
  });
  Query q;
  q.dim = 1;
  q.filters.push_back(vexfs_filter{VEXFS_FILTER_ID_RANGE, 0, 1, 9, 0});
  const float one = 1;
  const Answer a = search(t, q, &one, 1);
  EXPECT_EQ(a.plan, static_cast<uint32_t>(VEXFS_PLAN_SCAN));
  EXPECT_TRUE(a.hits[0].empty());
}

TEST(ClientDelete, GoesOnAfterFullBatchesAndStopsAtTheFirstError) {
  FakeTarget t([](uint32_t, void *arg) {
    auto *b = static_cast<vexfs_batch *>(arg);
    const auto *rows = reinterpret_cast<const vexfs_row *>(static_cast<uintptr_t>(b->rows));
    for (b->done = 0; b->done < b->count; b->done++)
      if (rows[b->done].id == 70000) return -ENOENT;
    return 0;
  });
  std::vector<uint64_t> ids(100000);
  for (size_t i = 0; i < ids.size(); i++) ids[i] = i;
  int err = 0;
  EXPECT_EQ(vectors_delete(t, 0, ids, &err), 70000u);
  EXPECT_EQ(err, ENOENT);
  EXPECT_EQ(t.calls, 2);
  FakeTarget stuck([](uint32_t, void *) { return 0; });  // success, but nothing done
  EXPECT_EQ(vectors_delete(stuck, 0, ids, &err), 0u);
  EXPECT_EQ(err, EIO);
}

TEST(ClientPipe, EveryBatchIsSentOnceAndMemoryIsUsedAgain) {
  std::mutex lock;
  std::multiset<uint64_t> seen;
  FakeTarget t([&](uint32_t cmd, void *arg) {
    EXPECT_EQ(cmd, VEXFS_IOCTL_BATCH_OPERATIONS);
    auto *b = static_cast<vexfs_batch *>(arg);
    std::lock_guard<std::mutex> g(lock);
    seen.insert(*reinterpret_cast<const uint64_t *>(static_cast<uintptr_t>(b->data)));
    return 0;
  });
  BatchPipe pipe(t, 3, BatchPipe::Via::ring_or_threads);
  EXPECT_STREQ(pipe.carrier(), "threads");  // no descriptor, no ring
  std::set<Batch *> objects;
  for (uint64_t i = 0; i < 500; i++) {
    auto b = pipe.take();
    objects.insert(b.get());
    b->first = i * 10;
    b->command.count = 10;
    b->data.resize(8);
    memcpy(b->data.data(), &i, 8);
    pipe.submit(std::move(b));
  }
  pipe.finish();
  EXPECT_EQ(pipe.rows_done(), 5000u);
  EXPECT_EQ(pipe.done(), (std::map<uint64_t, uint64_t>{{0, 4999}}));
  EXPECT_EQ(pipe.error(), 0);
  EXPECT_LE(objects.size(), 3u);
  EXPECT_EQ(seen.size(), 500u);
  EXPECT_EQ(std::set<uint64_t>(seen.begin(), seen.end()).size(), 500u);
}

TEST(ClientPipe, TheFirstErrorIsKeptAndStopsTheRest) {
  FakeTarget t([&](uint32_t, void *arg) {
    auto *b = static_cast<vexfs_batch *>(arg);
    if (*reinterpret_cast<const uint64_t *>(static_cast<uintptr_t>(b->data)) != 7) return 0;
    b->done = 4;
    return -EEXIST;
  });
  BatchPipe pipe(t, 1, BatchPipe::Via::threads);
  for (uint64_t i = 0; i < 20; i++) {
    auto b = pipe.take();
    b->first = i * 10;
    b->command.count = 10;
    b->data.resize(8);
    memcpy(b->data.data(), &i, 8);
    pipe.submit(std::move(b));
  }
  pipe.finish();
  EXPECT_EQ(pipe.error(), -EEXIST);
  EXPECT_EQ(pipe.error_row(), 74u);
  EXPECT_EQ(pipe.rows_done(), 74u);
  EXPECT_EQ(pipe.done(), (std::map<uint64_t, uint64_t>{{0, 73}}));
  EXPECT_EQ(t.calls, 8);
}

}  // namespace
}  // namespace vexfs::client
