// SPDX-License-Identifier: MIT
// How long FPU sections are. In the kernel preemption is off from kernel_fpu_begin() to kernel_fpu_end(), so that their
// length is what others on the processor may have to wait for. Every section of the core is timed where it begins and ends,
// by the thread's processor time: what the machine does for others meanwhile does not count, waiting for memory does.
#include "sections.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <random>
#include <string>
#include <vector>

#include "../../include/uapi/vexfs.h"
#include "../../kernel/core/vector/flat.h"
#include "../../kernel/core/vector/index_kinds.h"
#include "../../lib/host.h"
#include "../common/memory_rows.h"

namespace vexfs::bench {
namespace {

using namespace vector;  // NOLINT(google-build-using-namespace)

constexpr u32 queries = 200, taught = 20000, removed = 200;

double now_us() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) * 1e-3;
}

// The sections of this thread, from its making on.
class Watch {
 public:
  Watch() {
    host::set_fpu_hook(
        [](void *self, bool begins) {
          Watch *w = static_cast<Watch *>(self);
          if (begins && w->depth_++ == 0) w->begun_ = now_us();
          if (!begins && --w->depth_ == 0) w->lengths_.push_back(static_cast<float>(now_us() - w->begun_));
        },
        this);
  }
  ~Watch() { host::set_fpu_hook(nullptr, nullptr); }
  Watch(const Watch &) = delete;
  Watch &operator=(const Watch &) = delete;

  void print(const char *what) {
    if (lengths_.empty()) return;
    std::sort(lengths_.begin(), lengths_.end());
    const auto at = [&](double share) {
      return static_cast<double>(lengths_[static_cast<size_t>(share * static_cast<double>(lengths_.size() - 1))]);
    };
    const auto longer = lengths_.end() - std::upper_bound(lengths_.begin(), lengths_.end(), 100.0f);
    printf("  %-34s %9zu %8.1f %8.1f %8.1f %8.1f %7zu\n", what, lengths_.size(), at(0.5), at(0.99), at(0.999), at(1),
           static_cast<size_t>(longer));
    lengths_.clear();
  }

 private:
  std::vector<float> lengths_;
  double begun_ = 0;
  int depth_ = 0;
};

// Rows around a thousand centres, as embeddings lie.
class Source {
 public:
  explicit Source(u32 dim) : dim_(dim), centres_(size_t{1000} * dim) {
    for (float &x : centres_) x = normal_(rng_);
  }
  const float *next() {
    row_.resize(dim_);
    const float *centre = &centres_[rng_() % 1000 * size_t{dim_}];
    for (u32 i = 0; i < dim_; i++) row_[i] = centre[i] + 0.3f * normal_(rng_);
    return row_.data();
  }

 private:
  u32 dim_;
  std::mt19937 rng_{1};
  std::normal_distribution<float> normal_;
  std::vector<float> centres_, row_;
};

struct Bench {
  Bench(u32 n, u32 dim)
      : space(simd::Space::make(simd::Element::f32, simd::Metric::l2, dim).take()), rows(space, n), source(dim) {
    for (u32 i = 0; i < n; i++)
      if (!rows.add_f32(source.next())) abort();
  }
  simd::Query next_query() {
    buf.resize(space.query_bytes());
    simd::Query q;
    if (!space.prepare_query(source.next(), simd::Element::f32, buf.data(), &q).ok()) abort();
    return q;
  }
  simd::Space space;
  MemoryRows rows;
  Source source;
  std::vector<u8> buf;
  Scratch scratch;
};

Status scans(Bench &b, Watch &watch) {
  RowView view = b.rows.view();
  SearchParams p;
  p.k = 10;
  for (u32 i = 0; i < 10; i++) {
    const simd::Query q = b.next_query();
    Hit hits[10];
    TopK top{hits, 10, 0};
    VX_TRY(scan_exact(view, b.space, &q, 1, 0, b.rows.size(), p, b.scratch, &top, nullptr));
  }
  watch.print("exact search");
  return {};
}

Status one_index(Bench &b, Watch &watch, const char *name, const IndexParams &params) {
  Result<IndexPtr> made = index_create(b.space, params);
  if (!made.ok()) return made.error();
  IndexPtr index = made.take();
  const auto say = [&](const char *what) { watch.print((std::string(name) + ", " + what).c_str()); };
  RowView view = b.rows.view();
  if (index->must_learn())
    VX_TRY(index->learn(
        view, std::min(b.rows.size(), taught), b.scratch, [](void *) { return false; }, nullptr));
  say("learn");
  for (u32 slot = 0; slot < b.rows.size(); slot++) VX_TRY(index->insert(view, slot, b.scratch));
  say("insert");
  for (u32 ef : {64, 512}) {
    SearchParams p;
    p.k = 10;
    p.ef = ef;
    for (u32 i = 0; i < queries; i++) {
      const simd::Query q = b.next_query();
      Hit hits[10];
      Result<u32> found = index->search(view, q, p, b.scratch, hits, nullptr);
      if (!found.ok()) return found.error();
    }
    say(ef == 64 ? "search, ef 64" : "search, ef 512");
  }
  for (u32 i = 0; i < removed; i++) {
    const u32 slot = b.rows.size() / removed * i;
    b.rows.kill(slot);
    RowView after = b.rows.view();
    VX_TRY(index->remove(after, slot, b.scratch));
  }
  say("remove");
  return {};
}

Status all_of(u32 rows, u32 dim) {
  printf("\n%u rows of %u f32, %s: microseconds of a section\n", rows, dim, simd::level_name(simd::level()));
  printf("  %-34s %9s %8s %8s %8s %8s %7s\n", "", "sections", "median", "99 %", "99.9 %", "longest", ">100");
  const struct {
    const char *name;
    IndexParams params;
  } kinds[] = {{"hnsw, no codes", {.kind = IndexKind::hnsw, .codes = VEXFS_CODES_NONE}},
               {"hnsw, sq8", {.kind = IndexKind::hnsw, .codes = VEXFS_CODES_SQ8}},
               {"hnsw, sq4", {.kind = IndexKind::hnsw, .codes = VEXFS_CODES_SQ4}},
               {"hnsw, rabitq2", {.kind = IndexKind::hnsw, .codes = VEXFS_CODES_RABITQ2}},
               {"hnsw, rabitq1", {.kind = IndexKind::hnsw, .codes = VEXFS_CODES_RABITQ1}},
               {"ivf", {.kind = IndexKind::ivf_flat}},
               {"ivf-pq", {.kind = IndexKind::ivf_pq}},
               {"lsh", {.kind = IndexKind::lsh}},
               {"diskann", {.kind = IndexKind::diskann}}};
  {
    Bench b(rows, dim);
    Watch watch;
    VX_TRY(scans(b, watch));
  }
  for (const auto &k : kinds) {
    Bench b(rows, dim);  // some were removed from the last one's
    Watch watch;
    VX_TRY(one_index(b, watch, k.name, k.params));
  }
  return {};
}

}  // namespace

int run_sections(unsigned rows, const unsigned *dims, unsigned ndims) {
  simd::init();
  for (unsigned i = 0; i < ndims; i++)
    if (Status s = all_of(rows, dims[i]); !s.ok()) {
      fprintf(stderr, "micro: dimension %u: errno %d\n", dims[i], static_cast<int>(s.code()));
      return 1;
    }
  return 0;
}

}  // namespace vexfs::bench
