// SPDX-License-Identifier: MIT
// vexfs-micro: distance evaluations per second of every kernel at every level, in cache and out of it, beside what the
// machine's memory gives.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <random>
#include <vector>

#include "../../kernel/core/simd/simd.h"

namespace vexfs::bench {
namespace {

using namespace simd;  // NOLINT(google-build-using-namespace)

double now() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

struct Memory {
  explicit Memory(size_t n) : bytes(n), p(static_cast<u8 *>(vx_alloc_large(n, VX_ALLOC_ZERO))) {
    if (!p) abort();
  }
  Memory(const Memory &) = delete;
  Memory &operator=(const Memory &) = delete;
  ~Memory() { vx_free_large(p, bytes); }
  size_t bytes;
  u8 *p;
};

// Best of three runs of about `seconds`, in calls per second times `per_call`.
template <class F>
double rate(double seconds, double per_call, F &&call) {
  double best = 0;
  for (int round = 0; round < 3; round++) {
    size_t calls = 0;
    const double start = now();
    double t = start;
    while (t - start < seconds) {
      for (int i = 0; i < 16; i++) call();
      calls += 16;
      t = now();
    }
    best = std::max(best, static_cast<double>(calls) * per_call / (t - start));
  }
  return best;
}

double read_bandwidth(const Memory &m) {
  volatile u64 sink = 0;
  return rate(0.2, static_cast<double>(m.bytes), [&] {
    const u64 *w = reinterpret_cast<const u64 *>(m.p);
    u64 s[4] = {0, 0, 0, 0};
    for (size_t i = 0; i < m.bytes / 8; i += 4)
      for (size_t j = 0; j < 4; j++) s[j] += w[i + j];
    sink = s[0] + s[1] + s[2] + s[3];
  });
}

struct Figures {
  double cached, streamed, scattered;
};

Figures measure(const Space &space, bool wide, const Memory &big, double seconds) {
  const size_t rb = align_up<size_t>(space.row_bytes(), 64);
  std::vector<u8> qsrc(size_t{4} * space.dim()), qbuf(space.query_bytes());
  std::vector<float> ones(space.dim(), 1.0f);
  memcpy(qsrc.data(), ones.data(), qsrc.size());
  u32 aux1 = 0;
  std::vector<u8> row(space.row_bytes());
  if (!space.encode_row(qsrc.data(), row.data(), &aux1).ok()) abort();
  Query q;
  if (!space
           .prepare_query(wide ? static_cast<void *>(qsrc.data()) : row.data(), wide ? Element::f32 : space.element(),
                          qbuf.data(), &q)
           .ok())
    abort();
  const u32 batch = 16;
  std::vector<u32> aux(batch, aux1), keys(batch);
  const void *rows[batch];
  Figures f{};
  for (u32 i = 0; i < batch; i++) rows[i] = big.p + i * rb;
  f.cached = rate(seconds, batch, [&] { space.score(q, rows, aux.data(), batch, keys.data()); });
  const size_t n = big.bytes / rb;
  size_t at = 0;
  f.streamed = rate(seconds, batch, [&] {
    if (at + batch > n) at = 0;
    space.scan(q, big.p + at * rb, rb, aux.data(), batch, keys.data());
    at += batch;
  });
  std::mt19937 rng(1);
  f.scattered = rate(seconds, batch, [&] {
    for (u32 i = 0; i < batch; i++) {
      rows[i] = big.p + rng() % n * rb;
      prefetch(rows[i], space.row_bytes(), 8);
    }
    space.score(q, rows, aux.data(), batch, keys.data());
  });
  return f;
}

const char *name(Element e) {
  return e == Element::f32 ? "f32" : e == Element::f16 ? "f16" : e == Element::bf16 ? "bf16" : "int8";
}
const char *name(Metric m) { return m == Metric::l2 ? "l2" : m == Metric::cosine ? "cosine" : "ip"; }

int run(double seconds, const std::vector<u32> &dims) {
  simd::init();
  const Memory big(size_t{256} << 20);
  printf("memory read by one thread: %.1f GB/s\n", read_bandwidth(big) * 1e-9);
  printf("%-7s %-5s %-7s %5s %18s %18s %8s %18s\n", "level", "type", "metric", "dim", "in cache M/s", "streamed M/s",
         "GB/s", "scattered M/s");
  for (Level l : {Level::sse2, Level::avx2, Level::avx512, Level::neon}) {
    if (!level_supported(l)) {
      printf("%-7s not run here: this CPU has no such instructions\n", level_name(l));
      continue;
    }
    if (!force_level(l).ok()) return 1;
    for (Element e : {Element::f32, Element::f16, Element::bf16, Element::int8})
      for (Metric m : {Metric::l2, Metric::cosine, Metric::ip})
        for (u32 dim : dims) {
          const Space space = Space::make(e, m, dim).take();
          const Figures f = measure(space, e == Element::f16 || e == Element::bf16, big, seconds);
          printf("%-7s %-5s %-7s %5u %18.2f %18.2f %8.1f %18.2f\n", level_name(l), name(e), name(m), dim,
                 f.cached * 1e-6, f.streamed * 1e-6, f.streamed * static_cast<double>(space.row_bytes()) * 1e-9,
                 f.scattered * 1e-6);
        }
  }
  return 0;
}

}  // namespace
}  // namespace vexfs::bench

// micro [SECONDS-PER-FIGURE [DIM...]]
int main(int argc, char **argv) {
  const double seconds = argc > 1 ? atof(argv[1]) : 0.02;
  std::vector<vexfs::u32> dims;
  for (int i = 2; i < argc; i++) {
    const long d = atol(argv[i]);
    if (d < 1 || d > static_cast<long>(vexfs::simd::dim_max)) {
      fprintf(stderr, "micro: dimension out of range: %s\n", argv[i]);
      return 2;
    }
    dims.push_back(static_cast<vexfs::u32>(d));
  }
  if (dims.empty()) dims = {128, 768};
  if (!(seconds > 0)) {
    fprintf(stderr, "usage: micro [SECONDS-PER-FIGURE [DIM...]]\n");
    return 2;
  }
  return vexfs::bench::run(seconds, dims);
}
