// SPDX-License-Identifier: MIT
// The store under power cuts: a seeded stream of tree mutations and commits runs on a simulated device; an image is made
// at every event, with every kind of loss the device model allows, mounted, and compared with the history.
//
// What must hold for every image: it mounts; the tree's contents equal exactly what some commit or sync held, none
// before the last one that was acknowledged; the allocation bitmaps can carry on (a further commit works). With the
// intent log the mount replays: then a second power cut in the middle of that changes nothing.
// VX_SEED=N replays one run, VX_CRASH_SECONDS=N makes the random runs go on for so long.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "../../kernel/core/store/check.h"
#include "../../kernel/core/store/format.h"
#include "../../kernel/core/store/volume.h"
#include "../../lib/host.h"
#include "sim_device.h"

namespace vexfs {
namespace {

using crash::CrashImages;
using crash::SimDevice;
using store::Key;
using store::TreeId;
using Model = std::map<std::tuple<u64, u8, u64>, std::string>;

struct Shape {
  u64 device_bytes;
  u32 block_size, node_size;
  int commits, ops_per_commit;
  u64 key_space;
  int max_value;
  int syncs_per_commit;  // by way of the intent log; 0: no log
};

struct Tally {
  u64 images = 0, flush_points = 0, torn = 0, replayed = 0, second_cuts = 0;
};

class Simulation {
 public:
  Simulation(u64 seed, const Shape &shape)
      : rng_(seed), shape_(shape), copies_(static_cast<u8>(1 + seed % 2)), dev_(shape.device_bytes) {}

  void record() {
    store::FormatOptions f;
    f.block_size = shape_.block_size;
    f.node_size = shape_.node_size;
    f.node_copies = copies_;
    f.log_blocks = shape_.syncs_per_commit ? disk::kLogBytesMin / shape_.block_size : 0;
    ASSERT_TRUE(store::format(&dev_, f, nullptr).ok());
    dev_.start_recording();
    auto vol = store::Volume::open(&dev_, {});
    ASSERT_TRUE(vol.ok());
    store::Volume &v = **vol;
    history_.push_back(model_);
    dev_.mark(0);
    for (int c = 0; c < shape_.commits; c++) {
      for (int s = shape_.syncs_per_commit; s >= 0; s--) {
        for (int i = 0; i < shape_.ops_per_commit; i++) ASSERT_NO_FATAL_FAILURE(mutate(v));
        history_.push_back(model_);
        u64 txn = v.open_txn();
        ASSERT_TRUE((s ? v.sync(true) : v.commit()).ok());
        if (s == 0) {
          ASSERT_GE(v.durable_txn(), txn);
        }
        dev_.mark(history_.size() - 1);
      }
    }
    if (shape_.syncs_per_commit) {
      EXPECT_GT(v.counters().log_groups.load(), 0u);
    }
    ASSERT_TRUE(v.close().ok());
  }

  void check_all(Tally &tally, int random_images_per_event) {
    for (CrashImages at(dev_);; at.step()) {
      if (at.just_flushed()) tally.flush_points++;
      check(*at.none_arrived(), at, "none arrived", tally);
      if (at.volatile_writes()) {
        check(*at.all_arrived(), at, "all arrived", tally);
        for (int i = 0; i < random_images_per_event; i++)
          check(*at.some_arrived(rng_, 0.4, 0.4), at, "some arrived, some torn", tally);
      }
      if (at.next_is_write()) {
        tally.torn++;
        check(*at.next_torn(rng_, 0.5, 0.3), at, "next write torn", tally);
      }
      if (::testing::Test::HasFatalFailure() || at.at_end()) return;
    }
  }

 private:
  static constexpr u64 file_oid = 1000;  // its items, by block number, say which blocks are taken
  Key random_key() { return {rng_() % 4, static_cast<u8>(1 + rng_() % 3), rng_() % shape_.key_space}; }
  std::string random_value() {
    std::string s(rng_() % (shape_.max_value + 1), '\0');
    for (char &c : s) c = static_cast<char>(rng_());
    return s;
  }
  static Bytes as_bytes(const std::string &s) { return {reinterpret_cast<const u8 *>(s.data()), s.size()}; }

  void mutate(store::Volume &v) {
    store::Tree &t = v.tree(TreeId::fs);
    auto h = v.begin({.items = 2});
    ASSERT_TRUE(h.ok()) << static_cast<int>(h.code());
    Key k = random_key();
    auto mk = std::make_tuple(k.oid, k.type, k.off);
    std::string value = random_value();
    // Blocks that an extent item would speak of: taken, and given back later.
    if (rng_() % 6 == 0) {
      auto e = v.alloc(0, 1, 1 + rng_() % 4, false);
      ASSERT_TRUE(e.ok());
      v.publish(*h, *e);
      files_.push_back(*e);
      ASSERT_TRUE(t.upsert(*h, {file_oid, 16, e->start}, as_bytes(std::string(1, static_cast<char>(e->count)))).ok());
      model_[{file_oid, 16, e->start}] = std::string(1, static_cast<char>(e->count));
      return;
    }
    if (rng_() % 12 == 0 && !files_.empty()) {
      store::Extent e = files_[rng_() % files_.size()];
      std::erase_if(files_, [&](const store::Extent &f) { return f.start == e.start; });
      v.free(*h, e, 0);
      ASSERT_TRUE(t.erase(*h, {file_oid, 16, e.start}).ok());
      model_.erase({file_oid, 16, e.start});
      return;
    }
    switch (rng_() % 8) {
      case 0:
      case 1:
        ASSERT_EQ(t.erase(*h, k).code(), model_.erase(mk) ? Errno::ok : Errno::noent);
        break;
      case 2: {
        Key last{k.oid, k.type, k.off + rng_() % 8};
        auto n = t.erase_range(*h, k, last, 100, [](const Key &, Bytes) {});
        ASSERT_TRUE(n.ok());
        usize expect = 0;
        for (auto it = model_.lower_bound(mk);
             it != model_.end() && it->first <= std::make_tuple(last.oid, last.type, last.off);) {
          it = model_.erase(it);
          expect++;
        }
        ASSERT_EQ(n.take(), expect);
        break;
      }
      default:
        ASSERT_TRUE(t.upsert(*h, k, as_bytes(value)).ok());
        model_[mk] = value;
    }
  }

  void check(host::MemDevice &image, const CrashImages &at, const char *what, Tally &tally) {
    tally.images++;
    SCOPED_TRACE(std::string(what) + ", event " + std::to_string(at.position()) + " of " +
                 std::to_string(dev_.events()));
    ASSERT_NO_FATAL_FAILURE(fsck(image));
    if (shape_.syncs_per_commit && rng_() % 4 == 0) {
      ASSERT_NO_FATAL_FAILURE(cut_replay(image, at, tally));
    }
    auto vol = store::Volume::open(&image, {});
    ASSERT_TRUE(vol.ok()) << "errno " << static_cast<int>(vol.code());
    store::Volume &v = **vol;
    tally.replayed += v.counters().log_replayed.load() != 0;
    compare(v, at.last_mark());
    if (::testing::Test::HasFatalFailure()) return;
    carry_on(v);
    ASSERT_TRUE(v.close().ok());
    ASSERT_NO_FATAL_FAILURE(fsck(image));
  }

  // Every node, every allocation bit. A torn root slot is a warning, not an error.
  static void fsck(host::MemDevice &image) {
    std::string errors;
    store::Checker c(&image, {[](void *ctx, store::Severity severity, const char *text) {
                                if (severity == store::Severity::error)
                                  *static_cast<std::string *>(ctx) += std::string(text) + "\n";
                              },
                              nullptr, &errors});
    ASSERT_TRUE(c.open().ok()) << errors;
    for (u8 t = 0; t < disk::kTrees; t++) {
      auto claim = [&](const Key &k, Bytes v) {
        return k.oid != file_oid || c.claim({k.off, v[0]}, "file", k.oid, k.off).ok();
      };
      ASSERT_TRUE(c.walk(static_cast<TreeId>(t), claim).ok());
    }
    ASSERT_TRUE(c.compare_space().ok());
    ASSERT_EQ(errors, "");
  }

  // Equal to a moment of the history that is not before `least`.
  void compare(store::Volume &v, u64 least) {
    Model found;
    auto st = v.tree(TreeId::fs).scan(Key::min(), Key::max(), [&](const Key &k, Bytes value) {
      found[{k.oid, k.type, k.off}] = std::string(reinterpret_cast<const char *>(value.data()), value.size());
      return true;
    });
    ASSERT_TRUE(st.ok()) << "errno " << static_cast<int>(st.code());
    for (usize i = least; i < history_.size(); i++)
      if (found == history_[i]) return;
    for (usize i = 0; i < least; i++) ASSERT_NE(found, history_[i]) << "what was acknowledged is lost: moment " << i;
    FAIL() << "a state that never was";
  }

  // The power fails again while the log is replayed: what arrived of that does not matter.
  void cut_replay(host::MemDevice &image, const CrashImages &at, Tally &tally) {
    SimDevice again(image);
    again.start_recording();
    {
      auto vol = store::Volume::open(&again, {});
      ASSERT_TRUE(vol.ok());
      if ((*vol)->counters().log_replayed.load() == 0) {
        (*vol)->abort(Errno::io);
        (void)(*vol)->close().ok();
        return;
      }
      (*vol)->abort(Errno::io);
      (void)(*vol)->close().ok();
    }
    u64 point = rng_() % (again.events() + 1);
    CrashImages cut(again);
    while (cut.position() < point && !cut.at_end()) cut.step();
    auto second = cut.some_arrived(rng_, 0.5, 0.3);
    tally.second_cuts++;
    ASSERT_NO_FATAL_FAILURE(fsck(*second));
    auto vol = store::Volume::open(second.get(), {});
    ASSERT_TRUE(vol.ok()) << "errno " << static_cast<int>(vol.code());
    compare(**vol, at.last_mark());
    ASSERT_TRUE((*vol)->close().ok());
  }

  // The volume must be usable, not only readable: blocks that the lost transaction took are free again.
  static void carry_on(store::Volume &v) {
    {
      auto h = v.begin({.items = 1});
      ASSERT_TRUE(h.ok());
      ASSERT_TRUE(v.tree(TreeId::fs).upsert(*h, {99, 9, 9}, as_bytes("after the crash")).ok());
    }
    ASSERT_TRUE(v.commit().ok());
  }

  std::mt19937_64 rng_;
  Shape shape_;
  u8 copies_;  // of tree nodes
  SimDevice dev_;
  Model model_;
  std::vector<Model> history_;
  std::vector<store::Extent> files_;
};

constexpr Shape kShapes[] = {
    {4 << 20, 1024, 1024, 6, 25, 200, 150, 0},  // deep trees: many splits and merges in few operations
    {4 << 20, 1024, 4096, 6, 40, 400, 500, 0},    {8 << 20, 4096, 16384, 4, 60, 1000, 2000, 0},
    {4 << 20, 1024, 1024, 3, 15, 200, 150, 4},    {4 << 20, 1024, 4096, 3, 25, 400, 500, 3},
    {8 << 20, 4096, 16384, 2, 40, 1000, 2000, 4},
};
constexpr usize kShapeCount = sizeof kShapes / sizeof kShapes[0];

u64 first_seed() {
  const char *s = getenv("VX_SEED");
  return s ? strtoull(s, nullptr, 0) : 1;
}

class StoreCrash : public ::testing::Test {
 protected:
  // Torn root slots are reported at every other mount here; they are expected.
  void SetUp() override {
    host::set_log_hook([](vx_bdev *, int, const char *) {});
  }
  void TearDown() override { host::set_log_hook({}); }
};

TEST_F(StoreCrash, EveryPointOfEveryShape) {
  u64 seed = first_seed();
  for (const Shape &shape : kShapes) {
    SCOPED_TRACE("VX_SEED=" + std::to_string(seed) + " node size " + std::to_string(shape.node_size));
    Simulation run(seed, shape);
    run.record();
    if (HasFatalFailure()) return;
    Tally tally;
    run.check_all(tally, 2);
    if (HasFatalFailure()) return;
    printf(
        "explored: node size %u, %d syncs a commit, seed %llu: %llu images mounted (%llu flush points, %llu with a "
        "torn write in flight, %llu replayed, %llu cut again while replaying)\n",
        shape.node_size, shape.syncs_per_commit, static_cast<unsigned long long>(seed),
        static_cast<unsigned long long>(tally.images), static_cast<unsigned long long>(tally.flush_points),
        static_cast<unsigned long long>(tally.torn), static_cast<unsigned long long>(tally.replayed),
        static_cast<unsigned long long>(tally.second_cuts));
    EXPECT_GT(tally.flush_points, 0u);
    EXPECT_GT(tally.torn, 0u);
    if (shape.syncs_per_commit) {
      EXPECT_GT(tally.replayed, 0u);
      EXPECT_GT(tally.second_cuts, 0u);
    }
  }
}

TEST_F(StoreCrash, RandomRuns) {
  const char *budget = getenv("VX_CRASH_SECONDS");
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(budget ? atoi(budget) : 10);
  u64 seed = first_seed() + 1000, runs = 0;
  Tally tally;
  do {
    Shape shape = kShapes[seed % kShapeCount];
    shape.commits = 3;
    SCOPED_TRACE("VX_SEED=" + std::to_string(seed - 1000));
    Simulation run(seed++, shape);
    run.record();
    if (HasFatalFailure()) return;
    run.check_all(tally, 1);
    if (HasFatalFailure()) return;
    runs++;
  } while (std::chrono::steady_clock::now() < end);
  printf("explored: %llu runs from seed %llu, %llu images mounted\n", static_cast<unsigned long long>(runs),
         static_cast<unsigned long long>(first_seed()), static_cast<unsigned long long>(tally.images));
}

}  // namespace
}  // namespace vexfs
