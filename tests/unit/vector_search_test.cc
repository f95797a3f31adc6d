// SPDX-License-Identifier: MIT
// Searches with filters, a radius, pages and groups, against the same by hand: flat and indexed, with dead rows, updates,
// files that the caller may not read, in snapshots, and while rows come and go.
#include <thread>

#include "search_fixture.h"

namespace vexfs::vector::test {
namespace {

const std::vector<std::pair<const char *, std::vector<vexfs_filter>>> kFilters = {
    {"50 %", {{VEXFS_FILTER_TAG_RANGE, 0, 0, 499, 0}}},
    {"10 %", {{VEXFS_FILTER_TAG_RANGE, 0, 100, 199, 0}}},
    {"1 %", {{VEXFS_FILTER_TAG_RANGE, 0, 200, 209, 0}}},
    {"0.1 %", {{VEXFS_FILTER_TAG_RANGE, 0, 321, 321, 0}}},
    {"none", {{VEXFS_FILTER_TAG_RANGE, 0, 1000, ~0ull, 0}}},
    {"backwards", {{VEXFS_FILTER_TAG_RANGE, 0, 9, 8, 0}}},
    {"all", {{VEXFS_FILTER_TAG_RANGE, 0, 0, ~0ull, 0}}},
    {"opposite of all", {{VEXFS_FILTER_TAG_RANGE, VEXFS_FILTER_NOT, 0, ~0ull, 0}}},
    {"99 %", {{VEXFS_FILTER_TAG_RANGE, VEXFS_FILTER_NOT, 0, 9, 0}}},
    {"two", {{VEXFS_FILTER_TAG_RANGE, 0, 0, 99, 0}, {VEXFS_FILTER_ID_RANGE, 0, 1000, 5000, 0}}},
    {"below", {{VEXFS_FILTER_SUBTREE, 0, 0, 0, 0}, {VEXFS_FILTER_TAG_RANGE, 0, 0, 19, 0}}},
    {"not below", {{VEXFS_FILTER_SUBTREE, VEXFS_FILTER_NOT, 0, 0, 0}}},
};

class Search : public SearchTest, public ::testing::WithParamInterface<uint16_t> {
 protected:
  void fill(uint32_t n, uint32_t files = 20) {
    make(GetParam(), files);
    add(n);
    update(n / 50);
    drop(n / 10);
  }
  std::vector<vexfs_filter> filters(const std::vector<vexfs_filter> &given) {
    auto f = given;
    for (auto &x : f)
      if (x.kind == VEXFS_FILTER_SUBTREE) x.a = vx_ino(dir);
    return f;
  }
  void all_filters() {
    for (const auto &[name, given] : kFilters) {
      for (uint32_t nq : {1u, 40u}) {
        SCOPED_TRACE(name);
        Question a;
        a.filters = filters(given);
        const auto q = points(nq);
        expect_exact(q, a);
        EXPECT_GT(expect_sound(q, a), nq == 1 ? 0.5 : 0.9);
      }
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Kinds, Search, ::testing::Values(VEXFS_INDEX_FLAT, VEXFS_INDEX_HNSW));

TEST_P(Search, FiltersOfEveryShare) {
  fill(9000);
  all_filters();
}

TEST_P(Search, FiltersOfAFewRows) {
  fill(300);
  all_filters();
}

// Permission is a filter that nobody has asked for.
TEST_P(Search, WhatTheCallerMayNotReadIsPassedBy) {
  fill(6000);
  for (size_t i = 0; i + 1 < owners.size(); i++) m.caller.denied.insert({owners[i], 4});
  all_filters();
  Question a;
  a.filters = {{VEXFS_FILTER_OWNER, VEXFS_FILTER_NOT, 0, 0, 0}};  // of files alone: one in forty is left
  const auto q = points(20);
  expect_exact(q, a);
  EXPECT_GT(expect_sound(q, a), 0.9);
  a.filters.clear();
  expect_exact(q, a);
  // In one call permission is asked once for each file, however many queries there are.
  a.filters = {{VEXFS_FILTER_OWNER, VEXFS_FILTER_NOT, 0, 0, 0}};
  m.caller.may_calls = 0;
  ASSERT_EQ(ask(points(64), a).error, 0);
  EXPECT_LE(m.caller.may_calls, owners.size() + 2);
}

TEST_P(Search, PlansAreAsTheyShouldBe) {
  fill(9000);
  const bool indexed = GetParam() == VEXFS_INDEX_HNSW;
  auto plan = [&](std::vector<vexfs_filter> f) {
    Question a;
    a.filters = filters(f);
    return ask(points(20), a).plan;
  };
  EXPECT_EQ(plan({}), u32{indexed ? VEXFS_PLAN_INDEX : VEXFS_PLAN_SCAN});
  EXPECT_EQ(plan({tags(321, 321)}), u32{VEXFS_PLAN_MATCHING});
  EXPECT_EQ(plan({tags(0, 9)}), u32{VEXFS_PLAN_MATCHING});
  EXPECT_EQ(plan({{VEXFS_FILTER_OWNER, 0, owners[3], 0, 0}}), u32{VEXFS_PLAN_NAMED});
  EXPECT_EQ(plan({{VEXFS_FILTER_ID_RANGE, 0, 7, 20, 0}}), u32{VEXFS_PLAN_NAMED});
  if (!indexed) return;
  for (size_t i = 0; i < owners.size(); i++) m.caller.denied.insert({owners[i], 4});
  Question a;
  a.filters = {{VEXFS_FILTER_OWNER, VEXFS_FILTER_NOT, 0, 0, 0}};
  EXPECT_EQ(ask(points(1), a).plan, u32{VEXFS_PLAN_INDEX_MATCHING});
  EXPECT_EQ(ask(points(20), a).plan, u32{VEXFS_PLAN_MATCHING});  // the seventeenth query knows better
}

TEST_P(Search, WithinARadius) {
  fill(5000);
  for (float radius : {-1.f, 0.f, 8.f, 20.f, 60.f, 1e30f}) {
    SCOPED_TRACE(radius);
    for (uint32_t k : {1u, 10u, 700u}) {
      Question a;
      a.k = k;
      a.flags = VEXFS_SEARCH_RADIUS;
      a.radius = radius;
      const auto q = points(8);
      expect_exact(q, a);
      const Reply r = ask(q, a);
      ASSERT_EQ(r.error, 0);
      size_t found = 0, there = 0;
      for (size_t i = 0; i < q.size(); i++) {
        const auto all = by_hand(q[i], a);
        EXPECT_TRUE(std::includes(all.begin(), all.end(), r.hits[i].begin(), r.hits[i].end()));
        if (r.more[i]) {
          EXPECT_GT(all.size(), k);
        }
        found += r.hits[i].size();
        there += std::min<size_t>(k, all.size());
      }
      EXPECT_GE(static_cast<double>(found), 0.95 * static_cast<double>(there));
      a.filters = {tags(0, 99)};
      expect_exact(q, a, "filtered");
      expect_sound(q, a);
    }
  }
}

// One page behind the other is the whole in order, whatever comes and goes between two pages.
TEST_P(Search, PagesAreTheWhole) {
  fill(3000);
  for (const bool filtered : {false, true}) {
    const Row q = point();
    Question a;
    if (filtered) a.filters = {tags(0, 299)};
    a.k = 70;
    a.flags = VEXFS_SEARCH_EXACT | VEXFS_SEARCH_AFTER;
    a.after_distance = -INFINITY;
    const auto all = by_hand(q, a);
    std::vector<Found> got;
    for (;;) {
      const Reply r = ask({q}, a);
      ASSERT_EQ(r.error, 0);
      got.insert(got.end(), r.hits[0].begin(), r.hits[0].end());
      ASSERT_EQ(r.more[0], got.size() < all.size());
      if (!r.more[0]) break;
      a.after_distance = got.back().distance;
      a.after_slot = got.back().slot;
    }
    EXPECT_EQ(got, all);
  }
}

TEST_P(Search, PagesStandStillWhenRowsComeAndGo) {
  fill(4000);
  const Row q = point();
  Question a;
  a.k = 50;
  a.flags = VEXFS_SEARCH_AFTER;
  a.after_distance = -INFINITY;
  const auto before = by_hand(q, a);
  std::set<uint64_t> seen;
  Found last{-INFINITY, 0, 0, 0};
  for (int page = 0;; page++) {
    const Reply r = ask({q}, a);
    ASSERT_EQ(r.error, 0);
    for (const Found &f : r.hits[0]) {
      EXPECT_TRUE(seen.insert(f.slot).second) << f;  // never twice
      EXPECT_TRUE(last < f) << f;                    // always on
      last = f;
    }
    if (!r.more[0]) break;
    a.after_distance = last.distance;
    a.after_slot = last.slot;
    if (page % 5 == 0) add(20), drop(20), update(5);
  }
  // What was there all the time has come, but for what the index has passed by.
  size_t there = 0, came = 0;
  for (const Found &f : before) {
    const auto it = rows.find(f.id);
    if (it == rows.end() || it->second.slot != f.slot) continue;
    there++;
    came += seen.count(f.slot);
  }
  if (GetParam() == VEXFS_INDEX_FLAT)
    EXPECT_EQ(came, there);
  else
    EXPECT_GT(came * 100, there * 97);
}

TEST_P(Search, TheNearestOfEachFile) {
  fill(6000, 60);
  for (uint32_t k : {1u, 10u, 60u, 500u}) {
    SCOPED_TRACE(k);
    Question a;
    a.k = k;
    a.flags = VEXFS_SEARCH_BY_OWNER;
    const auto q = points(18);
    expect_exact(q, a);
    EXPECT_GT(expect_sound(q, a), 0.9);
    for (const auto &f : {tags(0, 99), tags(5, 5), tags(7, 6)}) {
      a.filters = {f};
      expect_exact(q, a);
      EXPECT_GT(expect_sound(q, a), 0.9);
    }
    a.filters.clear();
    a.flags |= VEXFS_SEARCH_RADIUS;
    a.radius = 30;
    expect_exact(q, a, "within a radius");
  }
  for (size_t i = 0; i < 55; i++) m.caller.denied.insert({owners[i], 4});
  Question a;
  a.flags = VEXFS_SEARCH_BY_OWNER;
  const auto q = points(18);
  expect_exact(q, a);
  expect_sound(q, a);  // five files are left, and all five come
}

// In a snapshot everything is as it was, by way of the present and without it.
TEST_P(Search, InASnapshot) {
  fill(5000);
  vexfs_snapshot s{};
  s.size = sizeof s;
  memcpy(s.name, "then", 4);
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SNAPSHOT_CREATE, &s), 0);
  auto rows_then = rows;
  add(1500);
  update(300);
  drop(1200);
  std::swap(rows, rows_then);
  for (const auto &[name, given] : kFilters) {
    SCOPED_TRACE(name);
    vx_mount_opts o{};
    o.read_only = true;
    vx_fs *view = nullptr;
    vx_inode *at = nullptr;
    ASSERT_EQ(vx_snapshot_mount(m.fs(), s.id, &o, &view), 0);
    ASSERT_EQ(vx_iget(view, vx_ino(dir), 0, &at), 0);
    const auto q = points(20);
    for (uint32_t extra : {0u, u32{VEXFS_SEARCH_BY_OWNER}, u32{VEXFS_SEARCH_RADIUS}}) {
      Question a;
      a.filters = filters(given);
      a.flags = extra | VEXFS_SEARCH_EXACT;
      if (extra & VEXFS_SEARCH_RADIUS) a.radius = 40;
      Reply r = ask(q, a, view, at);
      ASSERT_EQ(r.error, 0);
      for (size_t i = 0; i < q.size(); i++) EXPECT_EQ(r.hits[i], first(by_hand(q[i], a), a.k)) << i;
      a.flags = extra;
      r = ask(q, a, view, at);
      ASSERT_EQ(r.error, 0);
      for (size_t i = 0; i < q.size(); i++) {
        const auto all = by_hand(q[i], a);
        if (!(extra & VEXFS_SEARCH_RADIUS)) {
          EXPECT_EQ(r.hits[i].size(), std::min<size_t>(a.k, all.size())) << i;
        }
        for (const Found &f : r.hits[i]) EXPECT_TRUE(rows.count(f.id) && rows.at(f.id).slot == f.slot) << f;
      }
    }
    Question page;
    page.flags = VEXFS_SEARCH_AFTER;
    page.after_distance = 30;
    page.after_slot = 2000;
    page.filters = filters(given);
    Reply r = ask({q[0]}, page, view, at);
    ASSERT_EQ(r.error, 0);
    for (const Found &f : r.hits[0]) EXPECT_TRUE((Found{30, 2000, 0, 0}) < f);
    vx_iput(at);
    vx_fs_unmount(view);
  }
  std::swap(rows, rows_then);
}

// Rows are added, updated and deleted meanwhile. Those with odd tags stay, and are always enough.
TEST_P(Search, WhileRowsComeAndGo) {
  make(GetParam());
  add(3000);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    Caller caller;
    std::mt19937_64 r(5);
    auto one = [&](unsigned cmd, uint64_t id, uint64_t owner) {
      Row v(dim, static_cast<float>(r() % 10));
      vexfs_embedding e{};
      e.size = sizeof e;
      e.row.id = id;
      e.row.tag = id % 1000;
      e.row.owner = owner;
      e.data = reinterpret_cast<__u64>(v.data());
      e.dim = dim;
      e.element = VEXFS_F32;
      return vx_ioctl(m.fs(), dir, cmd, reinterpret_cast<vx_u64>(&e), &caller);
    };
    for (uint64_t i = 0; !stop.load(); i++) {
      EXPECT_EQ(one(VEXFS_IOCTL_UPDATE_EMBEDDING, 1 + r() % 3000, 0), 0);
      const uint64_t id = 100000 + 2 * i;
      EXPECT_EQ(one(VEXFS_IOCTL_ADD_EMBEDDING, id, owners[i % owners.size()]), 0);
      if (i > 50) {
        EXPECT_EQ(one(VEXFS_IOCTL_DELETE_EMBEDDING, id - 100, 0), 0);
      }
    }
  });
  std::vector<std::thread> readers;
  for (int t = 0; t < 2; t++)
    readers.emplace_back([&, t] {
      Caller caller;
      std::mt19937_64 r(static_cast<uint64_t>(t));
      for (int i = 0; i < 150; i++) {
        Question a;
        const uint64_t from = r() % 900, width = i % 3 == 0 ? 0 : r() % 100;
        a.k = 3;
        a.filters = {tags(from, from + width)};
        a.flags = i % 5 == 4 ? VEXFS_SEARCH_EXACT : i % 5 == 3 ? VEXFS_SEARCH_BY_OWNER : 0;
        std::vector<Row> q(1 + i % 20, Row(dim, static_cast<float>(r() % 10)));
        const Reply reply = ask(q, a, nullptr, nullptr, &caller);
        EXPECT_EQ(reply.error, 0);
        for (const auto &hits : reply.hits) {
          // Three rows of the first 3000 have each tag, and an update keeps a row.
          if (!(a.flags & VEXFS_SEARCH_BY_OWNER)) {
            EXPECT_EQ(hits.size(), a.k);
          }
          for (const Found &f : hits) EXPECT_TRUE(f.id % 1000 >= from && f.id % 1000 <= from + width) << f;
        }
      }
    });
  for (auto &t : readers) t.join();
  stop = true;
  writer.join();
}

// Memory that runs out in the middle is ENOMEM, and nothing else.
TEST_P(Search, WithoutMemory) {
  fill(6000);
  Question a;
  a.filters = {tags(0, 9)};
  a.flags = VEXFS_SEARCH_BY_OWNER;
  const auto q = points(3);
  const Reply whole = ask(q, a);
  ASSERT_EQ(whole.error, 0);
  bool failed = true;
  for (int64_t n = 0; failed; n++) {
    host::fail_alloc_after(n);
    const Reply r = ask(q, a);
    failed = host::alloc_failed();
    host::fail_alloc_after(-1);
    EXPECT_TRUE(r.error == -ENOMEM || (r.error == 0 && r.hits == whole.hits)) << r.error;
    ASSERT_LT(n, 10000);
  }
}

}  // namespace
}  // namespace vexfs::vector::test
