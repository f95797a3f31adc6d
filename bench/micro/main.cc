// SPDX-License-Identifier: MIT
// vexfs-micro: distance evaluations per second of every kernel at every level, with rows in each cache and out of them,
// as shares of what the processor multiplies and the memory gives, which is measured in the same run. With --sections: how
// long FPU sections are.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <random>
#include <vector>

#include "../../kernel/core/simd/codes.h"
#include "../common/json.h"
#include "peak.h"
#include "sections.h"

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
    memset(p, 0, n);  // pages of its own, not one page of zeros many times
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

// A working set that lies in one level of the memory.
struct Place {
  const char *name;
  size_t bytes;
  double bandwidth = 0;  // bytes/s that one thread reads there
};

std::vector<Place> places(const Memory &big, double seconds) {
  const auto cache = [](int what, size_t otherwise) {
    const long n = sysconf(what);
    return n > 0 ? static_cast<size_t>(n) : otherwise;
  };
  const size_t l1 = cache(_SC_LEVEL1_DCACHE_SIZE, 32 << 10), l2 = cache(_SC_LEVEL2_CACHE_SIZE, 512 << 10);
  const size_t l3 = std::max(cache(_SC_LEVEL3_CACHE_SIZE, 8 << 20), 4 * l2);
  std::vector<Place> all = {{"L1", l1 / 2}, {"L2", l2 / 2}, {"L3", std::min(l3 / 4, 8 * l2)}, {"memory", big.bytes}};
  volatile u64 sink = 0;
  for (Place &p : all) {
    p.bytes = std::max<size_t>(p.bytes / 512 * 512, 4096);
    const size_t piece = std::min<size_t>(p.bytes, 1 << 20);
    size_t at = 0;
    p.bandwidth = rate(std::max(seconds, 0.05), static_cast<double>(piece), [&] {
      if (at + piece > p.bytes) at = 0;
      sink = read_all(big.p + at, piece);
      at += piece;
    });
  }
  return all;
}

struct Figures {
  std::vector<double> at;  // evaluations/s, for each place, rows one after the other
  double scattered = 0;    // any row of the largest
};

Figures measure(const Space &space, bool wide, const Memory &big, const std::vector<Place> &in, double seconds) {
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
  Figures f;
  for (const Place &place : in) {
    // Rows of a power of two of bytes would meet in few sets of a cache; they are packed as tables pack them.
    const size_t n = std::max<size_t>(place.bytes / rb, 1);
    const u32 part = static_cast<u32>(std::min<size_t>(batch, n));
    size_t at = 0;
    f.at.push_back(rate(seconds, part, [&] {
      if (at + part > n) at = 0;
      space.scan(q, big.p + at * rb, rb, aux.data(), part, keys.data());
      at += part;
    }));
  }
  const size_t n = big.bytes / rb;
  const void *rows[batch];
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

// Distances on codes of every kind, from a query: of those that lie in the second cache, and of any of the largest place.
void code_kernels(Level level, double seconds, u32 dim, const Memory &big, size_t cached, Json &j) {
  constexpr struct {
    const char *name;
    CodeKind kind;
  } kinds[] = {
      {"sq8", CodeKind::sq8}, {"sq4", CodeKind::sq4}, {"rabitq2", CodeKind::rabitq2}, {"rabitq1", CodeKind::rabitq1}};
  const Space space = Space::make(Element::f32, Metric::l2, dim).take();
  std::vector<float> centre(dim, 0.0f), q(dim, 1.0f);
  std::mt19937 rng(1);
  printf("%-7s codes   l2      %5u", level_name(level), dim);
  for (const auto &k : kinds) {
    CodeSpace codes = CodeSpace::make(space, k.kind).take();
    if (!codes.set_centre(centre.data()).ok()) abort();
    std::vector<u8> work(codes.work_bytes()), buf(codes.query_bytes());
    CodeQuery query;
    codes.prepare(space.row_query(q.data(), 0), work.data(), buf.data(), &query);
    constexpr u32 batch = 32;
    const void *at[batch];
    u32 keys[batch];
    const auto from = [&](size_t bytes) {
      const size_t n = bytes / codes.bytes();
      return rate(seconds, batch, [&] {
        for (u32 i = 0; i < batch; i++) {
          at[i] = big.p + rng() % n * codes.bytes();
          prefetch(at[i], codes.bytes(), 8);
        }
        codes.score(query, at, batch, keys);
      });
    };
    const double near = from(cached), far = from(big.bytes);
    printf("  %s %.1f, scattered %.1f", k.name, near * 1e-6, far * 1e-6);
    j.begin_object()
        .field("level", level_name(level))
        .field("codes", k.name)
        .field("dim", uint32_t{dim})
        .field("per_s", near)
        .field("scattered_per_s", far)
        .end_object();
  }
  printf("\n");
}

struct Task {
  double seconds = 0.02;
  std::vector<u32> dims;
  std::string json;
};

void one_kernel(const Space &space, Level level, const Task &task, const Memory &big, const std::vector<Place> &in,
                double peak, Json &j) {
  const Element e = space.element();
  const Figures f = measure(space, e == Element::f16 || e == Element::bf16, big, in, task.seconds);
  printf("%-7s %-5s %-7s %5u", level_name(level), name(e), name(space.metric()), space.dim());
  j.begin_object()
      .field("level", level_name(level))
      .field("element", name(e))
      .field("metric", name(space.metric()))
      .field("dim", uint32_t{space.dim()});
  for (size_t i = 0; i < in.size(); i++) {
    const double of_peak = f.at[i] * space.dim() / peak;
    const double of_bandwidth = f.at[i] * static_cast<double>(space.row_bytes()) / in[i].bandwidth;
    printf("  %8.2f %3.0f%% %3.0f%%", f.at[i] * 1e-6, of_peak * 100, of_bandwidth * 100);
    j.key(in[i].name)
        .begin_object()
        .field("per_s", f.at[i])
        .field("of_peak", of_peak)
        .field("of_bandwidth", of_bandwidth)
        .end_object();
  }
  printf("  %8.2f\n", f.scattered * 1e-6);
  j.field("scattered_per_s", f.scattered).end_object();
}

int run(const Task &task) {
  simd::init();
  const Memory big(size_t{256} << 20);
  const std::vector<Place> in = places(big, task.seconds);
  Json j;
  j.begin_object().key("read_bytes_per_s").begin_object();
  printf("one thread reads, GB/s:");
  for (const Place &p : in) {
    printf("  %s (%zu kB) %.1f", p.name, p.bytes >> 10, p.bandwidth * 1e-9);
    j.field(p.name, p.bandwidth);
  }
  j.end_object().key("kernels").begin_array();
  printf("\nmillion distances/s; share of the peak of multiply-adds; share of the bandwidth\n%-7s %-5s %-7s %5s",
         "level", "type", "metric", "dim");
  for (const Place &p : in) printf("  %18s", p.name);
  printf("  %8s\n", "scattered");
  for (const Level l : {Level::sse2, Level::avx2, Level::avx512, Level::neon}) {
    if (!level_supported(l)) {
      printf("%-7s not run here: this CPU has no such instructions\n", level_name(l));
      continue;
    }
    if (!force_level(l).ok()) return 1;
    double peak[2];
    for (const bool integers : {false, true})
      peak[integers] = rate(std::max(task.seconds, 0.05), multiply_adds(l, integers, 1000),
                            [&] { multiply_adds(l, integers, 1000); });
    printf("%-7s peak: %.1f G multiply-adds/s of f32, %.1f G of 16-bit integers\n", level_name(l), peak[0] * 1e-9,
           peak[1] * 1e-9);
    for (const Element e : {Element::f32, Element::f16, Element::bf16, Element::int8})
      for (const Metric m : {Metric::l2, Metric::cosine, Metric::ip})
        for (const u32 dim : task.dims)
          one_kernel(Space::make(e, m, dim).take(), l, task, big, in, peak[e == Element::int8], j);
    for (const u32 dim : task.dims) code_kernels(l, task.seconds, dim, big, in[1].bytes, j);
  }
  j.end_array().end_object();
  if (task.json.empty()) return 0;
  std::ofstream f(task.json);
  f << j.text();
  f.close();
  if (!f) fprintf(stderr, "micro: cannot write %s\n", task.json.c_str());
  return f ? 0 : 1;
}

}  // namespace
}  // namespace vexfs::bench

// micro [--json FILE] [SECONDS-PER-FIGURE [DIM...]]
int main(int argc, char **argv) {
  vexfs::bench::Task task;
  int i = 1;
  const bool sections = argc > 1 && std::string(argv[1]) == "--sections";
  if (sections) {
    i++;
    task.seconds = 50000;
  } else if (i + 1 < argc && std::string(argv[i]) == "--json") {
    task.json = argv[i + 1];
    i += 2;
  }
  if (i < argc) task.seconds = atof(argv[i++]);
  for (; i < argc; i++) {
    const long d = atol(argv[i]);
    if (d < 1 || d > static_cast<long>(vexfs::simd::dim_max)) {
      fprintf(stderr, "micro: dimension out of range: %s\n", argv[i]);
      return 2;
    }
    task.dims.push_back(static_cast<vexfs::u32>(d));
  }
  if (task.dims.empty()) task.dims = {128, 768};
  if (!(task.seconds > 0) || (sections && (task.seconds < 2000 || task.seconds > 1e7))) {
    fprintf(stderr,
            "usage: micro [--json FILE] [SECONDS-PER-FIGURE [DIM...]]\n"
            "       micro --sections [ROWS(2000..10000000) [DIM...]]\n");
    return 2;
  }
  if (sections)
    return vexfs::bench::run_sections(static_cast<unsigned>(task.seconds), task.dims.data(),
                                      static_cast<unsigned>(task.dims.size()));
  return vexfs::bench::run(task);
}
