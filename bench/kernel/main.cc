// SPDX-License-Identifier: MIT
// searchcost [--image FILE] ROWS QUERIES [--into EMPTY] [--times N] [--rounds N] [--seconds S]: nanoseconds for a search and for an
// inserted row, one "name value" a line, through the doors that there are: the ioctls of a mount and its io_uring at
// depths from 1 to 64, or the same core in this process on an image file or a device. The best of the rounds counts.
//
// ROWS and EMPTY are collections of the queries' dimension. bench/vm/search and bench/vm/native run it on the same index
// behind both doors, so that the difference is what the kernel costs.
#include <time.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstring>
#include <functional>
#include <vector>

#include "../../lib/client/commands.h"
#include "../../lib/image/image.h"
#include "../../lib/vecfile/vecfile.h"
#include "ring.h"

namespace vexfs::bench {
namespace {

constexpr uint32_t k = 10, insert_rows = 100, insert_calls = 32;

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

struct Queries {
  // Those of the file, `times` over.
  Queries(const std::string &path, unsigned times) {
    auto file = vecfile::open(path);
    const size_t rows = file->rows();
    dim = file->dim();
    data.resize(rows * dim * times);
    for (unsigned i = 0; i < times; i++) file->read_f32(0, rows, &data[rows * dim * i]);
    n = static_cast<uint32_t>(rows * times);
  }
  uint32_t n = 0, dim = 0;
  std::vector<float> data;
};

// The arguments of a search and where its hits go.
struct Search {
  Search(const Queries &q, uint32_t first, uint32_t n, uint32_t ef, uint32_t flags) : hits(size_t{n} * k), counts(n) {
    command.size = sizeof command;
    command.flags = flags;
    command.queries = reinterpret_cast<uintptr_t>(&q.data[size_t{first} * q.dim]);
    command.hits = reinterpret_cast<uintptr_t>(hits.data());
    command.counts = reinterpret_cast<uintptr_t>(counts.data());
    command.nq = n;
    command.dim = q.dim;
    command.element = VEXFS_F32;
    command.k = k;
    command.ef = ef;
  }
  void judge(int err) const {
    if (err) throw client::Error(-err, std::string("searching: ") + strerror(-err));
    for (uint32_t c : counts)
      if (c != k) throw std::runtime_error("a search found " + std::to_string(c) + " rows");
  }
  vexfs_search command{};
  std::vector<vexfs_hit> hits;
  std::vector<uint32_t> counts;
};

struct Insert {
  explicit Insert(const Queries &q) {
    command.size = sizeof command;
    command.op = VEXFS_BATCH_ADD;
    command.data = reinterpret_cast<uintptr_t>(q.data.data());
    command.count = std::min(insert_rows, q.n);
    command.dim = q.dim;
    command.element = VEXFS_F32;
  }
  void judge(int err) const {
    if (err) throw client::Error(-err, std::string("inserting: ") + strerror(-err));
    if (command.done != command.count) throw std::runtime_error("an insert is incomplete");
  }
  vexfs_batch command{};
};

struct Options {
  std::string image, rows, queries, into, only;
  unsigned rounds = 3, times = 1;
  double seconds = 0.5;
  uint32_t ef = 64;
};

// Nanoseconds for each of `n` things that one call of op does, in the best of the rounds.
void measure(const Options &o, const std::string &name, uint32_t n, const std::function<void()> &op) {
  if (!o.only.empty() && name != o.only) return;
  double best = 0;
  op();  // what only the first one does
  for (unsigned round = 0; round < o.rounds; round++) {
    const double begin = now();
    double took;
    uint32_t calls = 0;
    do {
      op();
      calls++;
      took = now() - begin;
    } while (took < o.seconds * 1e9);
    took /= calls * static_cast<double>(n);
    if (round == 0 || took < best) best = took;
  }
  printf("%s %.0f\n", name.c_str(), best);
  fflush(stdout);
}

// Rows stay: a device has room for so many.
Options once(Options o) {
  o.rounds = 1;
  o.seconds = 0;
  return o;
}

void through_calls(client::Target &rows, const Queries &q, const Options &o) {
  std::vector<Search> singles;
  for (uint32_t i = 0; i < q.n; i++) singles.emplace_back(q, i, 1, o.ef, 0);
  const auto all_of = [&](std::vector<Search> &searches) {
    return [&] {
      for (Search &s : searches) s.judge(rows.command(VEXFS_IOCTL_VECTOR_SEARCH, &s.command));
    };
  };
  measure(o, "search", q.n, all_of(singles));
  std::vector<Search> together;
  together.emplace_back(q, 0, q.n, o.ef, 0);
  measure(o, "search_batch", q.n, all_of(together));
  std::vector<Search> exact;
  exact.emplace_back(q, 0, q.n, o.ef, VEXFS_SEARCH_EXACT);
  measure(o, "search_exact_batch", q.n, all_of(exact));
}

// Searches, each a command of its own, `depth` of them on their way.
void through_ring(client::Target &rows, client::Target *into, const Queries &q, unsigned depth, const Options &o) {
  Ring ring(depth);
  std::vector<Search> searches;
  for (uint32_t i = 0; i < q.n; i++) searches.emplace_back(q, i, 1, o.ef, 0);
  std::vector<void *> arguments;
  for (Search &s : searches) arguments.push_back(&s.command);
  measure(o, "ring_search_" + std::to_string(depth), q.n, [&] {
    ring.run(rows.fd(), VEXFS_IOCTL_VECTOR_SEARCH, arguments, [&](size_t i, int err) { searches[i].judge(err); });
  });
  if (!into) return;
  std::vector<Insert> inserts(insert_calls, Insert(q));
  arguments.clear();
  for (Insert &i : inserts) arguments.push_back(&i.command);
  measure(once(o), "ring_insert_" + std::to_string(depth), inserts[0].command.count * insert_calls, [&] {
    for (Insert &i : inserts) i.command.done = 0;
    ring.run(into->fd(), VEXFS_IOCTL_BATCH_OPERATIONS, arguments, [&](size_t i, int err) { inserts[i].judge(err); });
  });
}

int run(const Options &o) {
  const Queries q(o.queries, o.times);
  std::unique_ptr<client::Place> place;
  if (o.image.empty())
    place = client::mounted();
  else
    place = client::ImagePlace::open_image(o.image, {});
  auto rows = place->open(o.rows);
  std::unique_ptr<client::Target> into = o.into.empty() ? nullptr : place->open(o.into);
  through_calls(*rows, q, o);
  if (into)
    measure(once(o), "insert", std::min(insert_rows, q.n) * insert_calls, [&] {
      for (uint32_t n = 0; n < insert_calls; n++) {
        Insert i(q);
        i.judge(into->command(VEXFS_IOCTL_BATCH_OPERATIONS, &i.command));
      }
    });
  if (!place->is_image())
    for (unsigned depth = 1; depth <= 64; depth *= 4) through_ring(*rows, into.get(), q, depth, o);
  return 0;
}

}  // namespace
}  // namespace vexfs::bench

int main(int argc, char **argv) {
  vexfs::bench::Options o;
  CLI::App app("What a search and an inserted row cost, through a mount or in this process");
  app.add_option("--image", o.image, "An image file or a device, opened by the core in this process");
  app.add_option("ROWS", o.rows, "The collection that is searched")->required();
  app.add_option("QUERIES", o.queries, "Its queries: .npy, .fvecs, .bvecs")->required();
  app.add_option("--into", o.into, "A collection that rows are added to");
  app.add_option("--ef", o.ef, "Breadth of a search");
  app.add_option("--only", o.only, "Only this figure");
  app.add_option("--times", o.times, "So many times the queries of the file are searched for")
      ->check(CLI::Range(1, 100));
  app.add_option("--rounds", o.rounds)->check(CLI::Range(1, 1000));
  app.add_option("--seconds", o.seconds, "Of a round")->check(CLI::Range(0.0, 1000.0));
  CLI11_PARSE(app, argc, argv);
  try {
    return vexfs::bench::run(o);
  } catch (const std::exception &e) {
    fprintf(stderr, "searchcost: %s\n", e.what());
    return 1;
  }
}
