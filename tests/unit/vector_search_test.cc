// SPDX-License-Identifier: MIT
// Searches with filters, a radius, pages and groups, against the same by hand: flat and indexed, with dead rows, updates,
// files that the caller may not read, in snapshots, and while rows come and go.
// Thread sanitizer: Search.FilesThatGoWhileTheyAreRemembered Search.WhileRowsComeAndGo
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
  // A row of each of so many files, of which one in a hundred may be read.
  void many_files(uint32_t files) {
    make(GetParam(), 0);
    for (uint32_t i = 0; i < files; i++) {
      vx_inode *ip = m.make(dir, std::to_string(i));
      ASSERT_TRUE(ip);
      owners.push_back(vx_ino(ip));
      m.close(ip);
      if (i % 100) m.caller.denied.insert({owners.back(), 4});
    }
    std::vector<vexfs_row> rs(files);
    std::vector<float> data;
    for (uint32_t i = 0; i < files; i++) {
      const Known k{point(), next_id++, next_slot++, owners[i], i % 1000};
      rs[i].id = k.id;
      rs[i].owner = k.owner;
      rs[i].tag = k.tag;
      data.insert(data.end(), k.v.begin(), k.v.end());
      rows[k.id] = k;
    }
    for (uint32_t at = 0; at < files; at += 5000) {
      std::vector<vexfs_row> some(rs.begin() + at, rs.begin() + at + 5000);
      const std::vector<float> of(data.begin() + at * dim, data.begin() + (at + 5000) * dim);
      ASSERT_EQ(m.batch(dir, VEXFS_BATCH_ADD, of, dim, &some), 0);
    }
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

// How many rows have a tag is not told by what it costs to find them, if files hide some.
TEST_P(Search, WorkIsNotToldWhereRowsAreHidden) {
  make(GetParam(), 0);
  add(6000);
  ASSERT_EQ(m.index(dir, VEXFS_INDEX_BUILD), 0);
  Question exact, tag, near;
  exact.flags = VEXFS_SEARCH_EXACT;
  tag.filters = {tags(5, 5)};
  const auto q = points(1);
  for (const Question &a : {exact, tag, near}) {
    const Reply r = ask(q, a);
    EXPECT_GT(r.distances, 0u) << "nothing is hidden";
    EXPECT_GT(r.scanned + r.hops, 0u);
  }
  EXPECT_EQ(ask(q, tag).scanned, 6u);
  owners.push_back(vx_ino(m.make(dir, "hidden")));
  add(20);
  m.caller.denied.insert({owners[0], 4});
  Question named;
  named.filters = {{VEXFS_FILTER_OWNER, 0, owners[0], 0, 0}};
  for (const Question &a : {exact, tag, near, named}) {
    const Reply r = ask(q, a);
    ASSERT_EQ(r.error, 0);
    EXPECT_EQ(r.distances, 0u) << r.plan;
    EXPECT_EQ(r.scanned, 0u) << r.plan;
    EXPECT_EQ(r.hops, 0u) << r.plan;
  }
  m.caller.trusted = true;
  EXPECT_GT(ask(q, tag).scanned, 0u);
}

// What is learnt of files is forgotten when there are too many of them, and asked again.
TEST_P(Search, MoreFilesThanAreRemembered) {
  constexpr uint32_t files = 40000;  // 16384 are
  many_files(files);
  const auto few = points(1), many = points(40);
  Question a;
  m.caller.may_calls = 0;
  expect_exact(few, a);
  for (const auto &f : {vexfs_filter{VEXFS_FILTER_SUBTREE, 0, vx_ino(dir), 0, 0}, tags(0, 899)}) {
    a.filters = {f};
    expect_exact(few, a);
    EXPECT_GT(expect_sound(few, a), 0.5);
    EXPECT_GT(expect_sound(many, a), 0.9);
  }
  EXPECT_GT(m.caller.may_calls, files) << "all were asked for";
}

// Some of what is forgotten was unlinked meanwhile, and the search is the last to hold it.
TEST_P(Search, FilesThatGoWhileTheyAreRemembered) {
  constexpr uint32_t files = 20000, gone = 300;
  struct Unlinking : Caller {
    std::function<void()> at_last;
  } caller;
  many_files(files);
  caller.denied = m.caller.denied;
  std::vector<uint64_t> asked;
  caller.at_last = [&] {
    for (uint64_t i = 1; i < files && asked.size() < gone; i++)
      if (i % 100) asked.push_back(i);
    std::thread([&] {
      for (uint64_t i : asked) EXPECT_EQ(m.unlink(dir, std::to_string(i)), 0);
    }).join();
  };
  caller.may = [](vx_caller *c, vx_u64 ino, unsigned mask) {
    auto *self = static_cast<Unlinking *>(c);
    if (++self->may_calls == 16000) self->at_last();
    return self->denied.count({ino, mask}) ? -EACCES : 0;
  };
  Question a;
  a.k = 150;  // of 200 that may be read
  a.flags = VEXFS_SEARCH_EXACT;
  const auto q = points(1);
  const Reply r = ask(q, a, nullptr, nullptr, &caller);
  ASSERT_EQ(r.error, 0);
  EXPECT_EQ(r.hits[0], first(by_hand(q[0], a), a.k));
  EXPECT_GT(caller.may_calls, 16384u);
  EXPECT_EQ(asked.size(), gone);
  EXPECT_TRUE(m.check());
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

// What died since does not match: all that does is found, though the index looks for it in the wrong place.
TEST_F(SearchTest, InASnapshotWhenWhatDoesNotMatchHasDied) {
  constexpr uint32_t n = 20000, matching = 4000, k = 10;
  dir = m.mkdir(m.root(), "c");
  vexfs_collection c{};
  c.size = sizeof c;
  c.dim = dim;
  c.element = VEXFS_F32;
  c.metric = VEXFS_L2;
  c.index = VEXFS_INDEX_IVF_FLAT;
  c.lists = 64;
  c.probes = 1;
  ASSERT_EQ(m.ioctl(dir, VEXFS_IOCTL_COLLECTION_CREATE, &c), 0);
  std::vector<vexfs_row> rs(n);
  std::vector<float> data;
  for (uint32_t i = 0; i < n; i++) {
    const bool match = i % 5 == 0;
    rs[i].id = i + 1;
    rs[i].tag = match;
    for (float x : point()) data.push_back(match ? x + 1000 : x);
  }
  ASSERT_EQ(m.batch(dir, VEXFS_BATCH_ADD, data, dim, &rs), 0);
  ASSERT_EQ(m.index(dir, VEXFS_INDEX_BUILD), 0);
  vexfs_snapshot s{};
  s.size = sizeof s;
  memcpy(s.name, "then", 4);
  ASSERT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SNAPSHOT_CREATE, &s), 0);
  uint32_t died = 0;
  for (uint32_t i = 0; i < n && died < matching + 1000; i++)
    if (i % 5) {
      ASSERT_EQ(m.del(dir, i + 1), 0);
      died++;
    }
  vx_mount_opts o{};
  o.read_only = true;
  vx_fs *view = nullptr;
  vx_inode *at = nullptr;
  ASSERT_EQ(vx_snapshot_mount(m.fs(), s.id, &o, &view), 0);
  ASSERT_EQ(vx_iget(view, vx_ino(dir), 0, &at), 0);
  Question a;
  a.k = a.ef = k;
  a.filters = {tags(1, 1)};
  const Reply r = ask(points(4), a, view, at);
  ASSERT_EQ(r.error, 0);
  EXPECT_EQ(r.plan, u32{VEXFS_PLAN_INDEX_MATCHING});
  for (const auto &hits : r.hits) EXPECT_EQ(hits.size(), k);
  vx_iput(at);
  vx_fs_unmount(view);
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
          for (size_t x = 0; x < hits.size(); x++)
            for (size_t y = 0; y < x; y++) EXPECT_NE(hits[x].id, hits[y].id) << "old and new of one row";
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
