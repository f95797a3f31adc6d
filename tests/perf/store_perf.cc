// SPDX-License-Identifier: MIT
// How fast the store is in memory: operations a second of one thread and of several, on a memory device.
//   store_perf [items] [threads]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "../../kernel/core/store/volume.h"
#include "../../lib/device.h"

using namespace vexfs;
using store::Key;
using store::TreeId;

namespace {

void must(bool ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "%s failed\n", what);
  exit(1);
}

void timed(const char *name, uint64_t n, const std::function<void()> &fn) {
  auto t0 = std::chrono::steady_clock::now();
  clock_t c0 = clock();
  fn();
  double cpu = static_cast<double>(clock() - c0) / CLOCKS_PER_SEC;
  double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - t0).count();
  printf("%-42s %9llu ops %8.1f ns CPU/op %8.1f ns/op %10.0f ops/s\n", name, static_cast<unsigned long long>(n),
         cpu * 1e9 / static_cast<double>(n), s * 1e9 / static_cast<double>(n), static_cast<double>(n) / s);
}

struct Bench {
  host::MemDevice dev{uint64_t{4} << 30};
  Box<store::Volume> vol;
  Bench() {
    must(store::format(&dev, {}, nullptr).ok(), "format");
    auto v = store::Volume::open(&dev, {.node_cache_bytes = uint64_t{1} << 30});
    must(v.ok(), "open");
    vol = v.take();
  }
  ~Bench() { must(vol->close().ok(), "close"); }
  store::Tree &tree() { return vol->tree(TreeId::fs); }
  store::Handle begin(uint32_t items = 1) {
    auto h = vol->begin({.items = items});
    must(h.ok(), "begin");
    return h.take();
  }
};

void single(uint64_t n) {
  Bench b;
  uint8_t value[96] = {1, 2, 3}, out[256];
  timed("insert, ascending keys", n, [&] {
    for (uint64_t i = 0; i < n; i++) {
      auto h = b.begin();
      must(b.tree().insert(h, {i, 1, 0}, value).ok(), "insert");
    }
  });
  timed("commit of all that", 1, [&] { must(b.vol->commit().ok(), "commit"); });
  std::mt19937_64 rng(1);
  timed("get, ascending keys", n, [&] {
    for (uint64_t i = 0; i < n; i++) must(b.tree().get({i, 1, 0}, out).ok(), "get");
  });
  timed("get, random keys", n, [&] {
    for (uint64_t i = 0; i < n; i++) must(b.tree().get({rng() % n, 1, 0}, out).ok(), "get");
  });
  timed("patch, random keys (first touch in txn)", n, [&] {
    for (uint64_t i = 0; i < n; i++) {
      auto h = b.begin();
      must(b.tree().patch(h, {rng() % n, 1, 0}, 0, {value, 8}).ok(), "patch");
    }
  });
  timed("patch, random keys (all touched)", n, [&] {
    for (uint64_t i = 0; i < n; i++) {
      auto h = b.begin();
      must(b.tree().patch(h, {rng() % n, 1, 0}, 0, {value, 8}).ok(), "patch");
    }
  });
  timed("begin and end of a handle", n, [&] {
    for (uint64_t i = 0; i < n; i++) auto h = b.begin();
  });
  timed("scan, items", n, [&] {
    uint64_t seen = 0;
    must(b.tree()
             .scan(Key::min(), Key::max(),
                   [&](const Key &, Bytes) {
                     seen++;
                     return true;
                   })
             .ok(),
         "scan");
    must(seen == n, "count");
  });
  timed("upsert, random keys of a directory", n, [&] {
    for (uint64_t i = 0; i < n; i++) {
      auto h = b.begin();
      must(b.tree().upsert(h, {n + 5, 8, rng()}, {value, 40}).ok(), "upsert");
    }
  });
  must(b.vol->commit().ok(), "commit");
  // What creating a file does: inode, directory entry, directory's inode; one handle.
  timed("create-like: 2 inserts + 1 patch", n, [&] {
    for (uint64_t i = 0; i < n; i++) {
      auto h = b.begin(4);
      uint64_t id = 10 * n + i;
      must(b.tree().insert(h, {id, 1, 0}, value).ok(), "insert");
      must(b.tree().insert(h, {n + 6, 8, rng()}, {value, 30}).ok(), "insert");
      must(b.tree().patch(h, {n / 2, 1, 0}, 8, {value, 24}).ok(), "patch");
    }
  });
  timed("erase, random order", n, [&] {
    std::vector<uint64_t> ids(n);
    for (uint64_t i = 0; i < n; i++) ids[i] = 10 * n + i;
    std::shuffle(ids.begin(), ids.end(), rng);
    for (uint64_t id : ids) {
      auto h = b.begin();
      must(b.tree().erase(h, {id, 1, 0}).ok(), "erase");
    }
  });
  timed("commit of that", 1, [&] { must(b.vol->commit().ok(), "commit"); });
  timed("alloc + publish of one block", n / 4, [&] {
    uint64_t goal = 0;
    for (uint64_t i = 0; i < n / 4; i++) {
      auto e = b.vol->alloc(goal, 1, 1, false);
      must(e.ok(), "alloc");
      goal = e->end();
      auto h = b.begin();
      b.vol->publish(h, *e);
    }
  });
}

void several(uint64_t n, unsigned threads) {
  Bench b;
  char name[64];
  auto run = [&](const char *what, const std::function<void(unsigned)> &fn) {
    snprintf(name, sizeof name, "%s, %u threads", what, threads);
    timed(name, n, [&] {
      std::vector<std::thread> t;
      for (unsigned w = 0; w < threads; w++) t.emplace_back([&, w] { fn(w); });
      for (auto &x : t) x.join();
    });
  };
  uint8_t value[96] = {};
  run("insert, each its own object", [&](unsigned w) {
    for (uint64_t i = 0; i < n / threads; i++) {
      auto h = b.begin();
      must(b.tree().insert(h, {w, 1, i * 7919 % (1 << 30)}, value).ok(), "insert");
    }
  });
  run("get, random keys", [&](unsigned w) {
    std::mt19937_64 rng(w);
    uint8_t out[256];
    for (uint64_t i = 0; i < n / threads; i++) {
      uint64_t j = rng() % (n / threads);
      must(b.tree().get({rng() % threads, 1, j * 7919 % (1 << 30)}, out).ok(), "get");
    }
  });
}

}  // namespace

int main(int argc, char **argv) {
  uint64_t n = argc > 1 ? strtoull(argv[1], nullptr, 0) : 500000;
  unsigned threads = argc > 2 ? static_cast<unsigned>(atoi(argv[2])) : 2;
  single(n);
  several(n, threads);
}
