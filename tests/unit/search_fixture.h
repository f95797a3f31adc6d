// SPDX-License-Identifier: MIT
// A collection and, beside it, its rows as a list that is searched by hand. Components are small integers, so distances are
// exact and many rows are equally far.
#pragma once
#include <algorithm>
#include <bit>
#include <map>

#include "vector_fixture.h"

namespace vexfs::vector::test {

struct Known {  // a row
  Row v;
  uint64_t id, slot, owner, tag;
};
struct Found {
  float distance;
  uint64_t slot, id, owner;
  bool operator==(const Found &) const = default;
  bool operator<(const Found &o) const { return std::pair(distance, slot) < std::pair(o.distance, o.slot); }
};
inline std::ostream &operator<<(std::ostream &s, const Found &f) {
  return s << f.distance << " slot " << f.slot << " id " << f.id << " owner " << f.owner;
}

// What is asked beyond the query.
struct Question {
  uint32_t k = 10, flags = 0, ef = 0;
  std::vector<vexfs_filter> filters;
  float radius = 0, after_distance = 0;
  uint64_t after_slot = 0;
};
struct Reply {
  int error = 0;
  uint32_t plan = 0;
  uint64_t scanned = 0, distances = 0, hops = 0;
  std::vector<std::vector<Found>> hits;
  std::vector<bool> more;
};

class SearchTest : public ::testing::Test {
 protected:
  static constexpr uint32_t dim = 8;
  explicit SearchTest(const Options &o = {}) : m(o) {}

  void make(uint16_t index, uint32_t files = 20) {
    dir = m.mkdir(m.root(), "c");
    ASSERT_EQ(m.create(dir, dim, VEXFS_F32, VEXFS_L2, index, nullptr, 8, 60), 0);
    for (uint32_t i = 0; i < files; i++) owners.push_back(vx_ino(m.make(dir, "f" + std::to_string(i))));
  }
  Row point() {
    Row r(dim);
    for (float &x : r) x = static_cast<float>(rng() % 10);
    return r;
  }
  // n rows; every other one of a file, several rows of one behind each other. Tags go round in 0..999.
  void add(uint32_t n) {
    std::vector<vexfs_row> rs(n);
    std::vector<float> data;
    for (uint32_t i = 0; i < n; i++) {
      const uint64_t id = next_id++;
      Known k{point(), id, next_slot++, owners.empty() || id % 8 < 4 ? 0 : owners[id / 8 % owners.size()], id % 1000};
      rs[i].id = id;
      rs[i].owner = k.owner;
      rs[i].tag = k.tag;
      data.insert(data.end(), k.v.begin(), k.v.end());
      rows[id] = k;
    }
    uint32_t done = 0;
    ASSERT_EQ(m.batch(dir, VEXFS_BATCH_ADD, data, dim, &rs, &done), 0);
    ASSERT_EQ(done, n);
  }
  uint64_t any_id() {
    auto it = rows.lower_bound(rng() % next_id);
    return it == rows.end() ? rows.begin()->first : it->first;
  }
  void drop(uint32_t n) {
    for (; n && !rows.empty(); n--) {
      const uint64_t id = any_id();
      ASSERT_EQ(m.del(dir, id), 0);
      rows.erase(id);
    }
  }
  void update(uint32_t n) {
    for (; n; n--) {
      Known &k = rows.at(any_id());
      k.v = point();
      ASSERT_EQ(m.update(dir, k.id, k.v), 0);
      k.slot = next_slot++;
    }
  }

  bool passes(const Known &r, const std::vector<vexfs_filter> &filters) const {
    if (r.owner && m.caller.denied.count({r.owner, 4})) return false;
    for (const vexfs_filter &f : filters) {
      bool in = false;
      if (f.kind == VEXFS_FILTER_ID_RANGE) in = r.id >= f.a && r.id <= f.b;
      if (f.kind == VEXFS_FILTER_TAG_RANGE) in = r.tag >= f.a && r.tag <= f.b;
      if (f.kind == VEXFS_FILTER_OWNER) in = r.owner == f.a;
      if (f.kind == VEXFS_FILTER_SUBTREE) in = r.owner != 0;  // all files are in `dir`
      if (in == bool(f.flags & VEXFS_FILTER_NOT)) return false;
    }
    return true;
  }
  // Everything that matches, nearest first; grouped: the nearest of each owner.
  std::vector<Found> by_hand(const Row &q, const Question &a) const {
    std::vector<Found> all, out;
    for (const auto &[id, r] : rows) {
      float d = 0;
      for (uint32_t i = 0; i < dim; i++) d += (q[i] - r.v[i]) * (q[i] - r.v[i]);
      const Found f{d, r.slot, id, r.owner};
      if (!passes(r, a.filters) || (a.flags & VEXFS_SEARCH_RADIUS && d > a.radius)) continue;
      if (a.flags & VEXFS_SEARCH_AFTER && !(Found{a.after_distance, a.after_slot, 0, 0} < f)) continue;
      all.push_back(f);
    }
    std::sort(all.begin(), all.end());
    if (!(a.flags & VEXFS_SEARCH_BY_OWNER)) return all;
    std::set<uint64_t> seen{0};
    for (const Found &f : all)
      if (seen.insert(f.owner).second) out.push_back(f);
    return out;
  }

  Reply ask(const std::vector<Row> &queries, const Question &a, vx_fs *fs = nullptr, vx_inode *at = nullptr,
            Caller *caller = nullptr) {
    const auto nq = static_cast<uint32_t>(queries.size());
    std::vector<float> data;
    for (const Row &q : queries) data.insert(data.end(), q.begin(), q.end());
    std::vector<vexfs_hit> hits(size_t{nq} * a.k);
    std::vector<uint32_t> counts(nq);
    vexfs_hybrid_search h{};
    vexfs_search &s = h.search;
    h.size = sizeof h;
    s.size = sizeof s;
    s.flags = a.flags;
    s.queries = reinterpret_cast<__u64>(data.data());
    s.hits = reinterpret_cast<__u64>(hits.data());
    s.counts = reinterpret_cast<__u64>(counts.data());
    s.nq = nq;
    s.dim = dim;
    s.element = VEXFS_F32;
    s.k = a.k;
    s.ef = a.ef;
    s.radius = std::bit_cast<uint32_t>(a.radius);
    s.after_distance = std::bit_cast<uint32_t>(a.after_distance);
    s.after_slot = a.after_slot;
    h.filters = reinterpret_cast<__u64>(a.filters.data());
    h.nfilters = static_cast<__u32>(a.filters.size());
    Reply r;
    r.error = vx_ioctl(fs ? fs : m.fs(), at ? at : dir, VEXFS_IOCTL_HYBRID_SEARCH, reinterpret_cast<vx_u64>(&h),
                       caller ? caller : &m.caller);
    r.plan = h.plan;
    r.scanned = s.scanned;
    r.distances = s.distances;
    r.hops = s.hops;
    if (r.error != 0) return r;
    EXPECT_EQ(s.plan, h.plan);
    for (uint32_t i = 0; i < nq; i++) {
      r.hits.emplace_back();
      r.more.push_back(false);
      for (uint32_t j = 0; j < counts[i]; j++) {
        const vexfs_hit &hit = hits[size_t{i} * a.k + j];
        r.hits.back().push_back({std::bit_cast<float>(hit.distance), hit.slot, hit.id, hit.owner});
        if (hit.flags & VEXFS_ROW_MORE) {
          EXPECT_EQ(j + 1, counts[i]);
          r.more.back() = true;
        }
      }
    }
    return r;
  }

  static std::vector<Found> first(std::vector<Found> all, size_t k) {
    if (all.size() > k) all.resize(k);
    return all;
  }
  static vexfs_filter tags(uint64_t a, uint64_t b, uint32_t flags = 0) {
    return {VEXFS_FILTER_TAG_RANGE, flags, a, b, 0};
  }
  std::vector<Row> points(uint32_t n) {
    std::vector<Row> out;
    for (; n; n--) out.push_back(point());
    return out;
  }
  // Exact answers are those by hand, also whether there are more.
  void expect_exact(const std::vector<Row> &queries, Question a, const char *what = "") {
    SCOPED_TRACE(what);
    a.flags |= VEXFS_SEARCH_EXACT;
    const Reply r = ask(queries, a);
    ASSERT_EQ(r.error, 0);
    for (size_t i = 0; i < queries.size(); i++) {
      const auto all = by_hand(queries[i], a);
      ASSERT_EQ(r.hits[i], first(all, a.k)) << i;
      if (a.flags & (VEXFS_SEARCH_RADIUS | VEXFS_SEARCH_AFTER | VEXFS_SEARCH_BY_OWNER)) {
        ASSERT_EQ(r.more[i], all.size() > a.k);
      }
    }
  }
  // Answers of any plan: as many as there are (up to k), each a row that matches, in order, and mostly the nearest.
  double expect_sound(const std::vector<Row> &queries, const Question &a, uint32_t *plan = nullptr) {
    const Reply r = ask(queries, a);
    EXPECT_EQ(r.error, 0);
    if (plan) *plan = r.plan;
    size_t near = 0, wanted = 0;
    for (size_t i = 0; i < r.hits.size(); i++) {
      Question unbounded = a;
      unbounded.flags &= ~VEXFS_SEARCH_BY_OWNER;
      const auto match = by_hand(queries[i], unbounded), all = by_hand(queries[i], a);
      if (!(a.flags & VEXFS_SEARCH_RADIUS)) {
        EXPECT_EQ(r.hits[i].size(), std::min<size_t>(a.k, all.size()));
      }
      EXPECT_TRUE(std::is_sorted(r.hits[i].begin(), r.hits[i].end()));
      std::set<uint64_t> of;
      for (const Found &f : r.hits[i]) {
        EXPECT_TRUE(std::binary_search(match.begin(), match.end(), f)) << f;
        if (a.flags & VEXFS_SEARCH_BY_OWNER) {
          EXPECT_TRUE(f.owner && of.insert(f.owner).second) << f;
        }
      }
      wanted += std::min<size_t>(a.k, all.size());
      for (size_t j = 0; j < r.hits[i].size() && j < all.size(); j++) near += r.hits[i][j].distance <= all[j].distance;
    }
    return wanted ? static_cast<double>(near) / static_cast<double>(wanted) : 1;
  }

  Mount m;
  vx_inode *dir = nullptr;
  std::vector<uint64_t> owners;
  std::map<uint64_t, Known> rows;
  uint64_t next_id = 1, next_slot = 0;
  std::mt19937_64 rng{11};
};

}  // namespace vexfs::vector::test
