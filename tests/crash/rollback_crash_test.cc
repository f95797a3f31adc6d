// SPDX-License-Identifier: MIT
// Rollbacks under power cuts: going back to a snapshot, noting the blocks a few at a time beside changes, syncs and commits,
// and deleting both snapshots, cut at every event with every kind of loss that the device model allows.
//
// What must hold for every image: the check finds nothing; it mounts; the present equals a moment of the history, none
// before the last that was acknowledged; both snapshots hold what they held; and after the notes have been finished, the
// check finds nothing again. VX_SEED=N replays one run, VX_CRASH_SECONDS=N makes the random runs go on for so long.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "../../kernel/core/disk/fs_items.h"
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
constexpr u8 extent_type = static_cast<u8>(disk::FsItem::extent);

Bytes as_bytes(const std::string &s) { return {reinterpret_cast<const u8 *>(s.data()), s.size()}; }

Model contents(const store::Volume &v) {
  Model m;
  auto st = v.tree(TreeId::fs).scan(Key::min(), Key::max(), [&](const Key &k, Bytes value) {
    m[{k.oid, k.type, k.off}] = std::string(reinterpret_cast<const char *>(value.data()), value.size());
    return true;
  });
  EXPECT_TRUE(st.ok());
  return m;
}

class Rollback {
 public:
  Rollback(u64 seed, bool log) : rng_(seed), log_(log), copies_(static_cast<u8>(1 + seed / 2 % 2)), dev_(6 << 20) {}

  void record() {
    store::FormatOptions f;
    f.block_size = 1024;
    f.node_size = 4096;
    f.node_copies = copies_;
    f.log_blocks = log_ ? disk::kLogBytesMin / 1024 : 0;
    ASSERT_TRUE(store::format(&dev_, f, nullptr).ok());
    open();
    for (int i = 0; i < 120; i++) ASSERT_NO_FATAL_FAILURE(mutate());
    auto id = vol_->snapshot_create(as_bytes("target"));
    ASSERT_TRUE(id.ok());
    target_ = model_;
    for (int i = 0; i < 120; i++) ASSERT_NO_FATAL_FAILURE(mutate());
    ASSERT_TRUE(vol_->commit().ok());
    replaced_ = model_;
    dev_.start_recording();
    moment();
    ASSERT_TRUE(vol_->rollback_request(*id).ok());
    ASSERT_TRUE(vol_->close().ok());
    open();
    model_ = target_;
    ASSERT_EQ(contents(*vol_), model_);
    moment();
    for (int round = 0; round < 14; round++) {
      for (u64 i = 0, n = rng_() % 6; i < n; i++) ASSERT_NO_FATAL_FAILURE(mutate());
      history_.push_back(model_);
      if (rng_() % 3) {
        ASSERT_TRUE((rng_() % 2 ? vol_->sync(true) : vol_->commit()).ok());
        dev_.mark(history_.size() - 1);
      }
      ASSERT_TRUE(vol_->snapshot_reclaim(1 + rng_() % 12).ok());
    }
    finish_notes(*vol_);
    for (int which = 0; which < 2; which++) {
      store::SnapshotInfo info;
      auto any = vol_->snapshot_next(1, &info);
      ASSERT_TRUE(any.ok());
      ASSERT_TRUE(vol_->snapshot_delete(*any).ok());
      finish_notes(*vol_);
    }
    ASSERT_TRUE(vol_->close().ok());
  }

  u64 check_all(int random_images) {
    u64 images = 0;
    for (CrashImages at(dev_);; at.step()) {
      images += check(*at.none_arrived(), at);
      if (at.volatile_writes())
        for (int i = 0; i < random_images; i++) images += check(*at.some_arrived(rng_, 0.4, 0.4), at);
      if (at.next_is_write()) images += check(*at.next_torn(rng_, 0.5, 0.3), at);
      if (::testing::Test::HasFatalFailure() || at.at_end()) return images;
    }
  }

 private:
  void open() {
    auto v = store::Volume::open(&dev_, {});
    ASSERT_TRUE(v.ok());
    vol_ = std::move(*v);
  }
  void moment() {
    history_.push_back(model_);
    dev_.mark(history_.size() - 1);
  }
  static void finish_notes(store::Volume &v) {
    for (bool more = true; more;) {
      auto r = v.snapshot_reclaim(100);
      ASSERT_TRUE(r.ok()) << static_cast<int>(r.code());
      more = *r;
    }
  }

  void mutate() {
    store::Tree &t = vol_->tree(TreeId::fs);
    auto h = vol_->begin({.items = 2});
    ASSERT_TRUE(h.ok()) << static_cast<int>(h.code());
    u64 dice = rng_() % 10;
    if (dice < 3) {
      auto e = vol_->alloc(0, 1, 1 + rng_() % 4, false);
      ASSERT_TRUE(e.ok());
      vol_->publish(*h, *e);
      disk::DiskExtent x{};
      x.disk = e->start;
      x.count = static_cast<u32>(e->count);
      x.birth = h->txn();
      put(*h, {1000 + rng_() % 40, extent_type, serial_++}, std::string(reinterpret_cast<char *>(&x), sizeof x));
    } else if (dice < 6) {
      drop_extent(*h);
    } else {
      Key k{rng_() % 4, static_cast<u8>(1 + rng_() % 3), rng_() % 150};
      if (dice < 8)
        put(*h, k, std::string(rng_() % 150, static_cast<char>('a' + rng_() % 26)));
      else
        ASSERT_EQ(t.erase(*h, k).code(), model_.erase({k.oid, k.type, k.off}) ? Errno::ok : Errno::noent);
    }
  }
  void put(store::Handle &h, Key k, const std::string &v) {
    ASSERT_TRUE(vol_->tree(TreeId::fs).upsert(h, k, as_bytes(v)).ok());
    model_[{k.oid, k.type, k.off}] = v;
  }
  void drop_extent(store::Handle &h) {
    auto it = model_.lower_bound({1000 + rng_() % 40, 0, 0});
    if (it == model_.end()) return;
    auto [oid, type, off] = it->first;
    disk::DiskExtent x;
    memcpy(&x, it->second.data(), sizeof x);
    ASSERT_TRUE(vol_->tree(TreeId::fs).erase(h, {oid, type, off}).ok());
    vol_->free(h, {x.disk, x.count}, x.birth);
    model_.erase(it);
  }

  u64 check(host::MemDevice &image, const CrashImages &at) {
    SCOPED_TRACE("event " + std::to_string(at.position()) + " of " + std::to_string(dev_.events()));
    check_mounted(image, at.last_mark());
    return 1;
  }
  void check_mounted(host::MemDevice &image, u64 least) {
    ASSERT_NO_FATAL_FAILURE(fsck(image));
    auto vol = store::Volume::open(&image, {});
    ASSERT_TRUE(vol.ok()) << "errno " << static_cast<int>(vol.code());
    store::Volume &v = **vol;
    Model found = contents(v);
    bool known = false;
    for (usize i = least; i < history_.size() && !known; i++) known = found == history_[i];
    ASSERT_TRUE(known) << "the present is lost, or never was";
    ASSERT_NO_FATAL_FAILURE(check_snapshots(v));
    ASSERT_NO_FATAL_FAILURE(finish_notes(v));
    ASSERT_NO_FATAL_FAILURE(check_snapshots(v));
    ASSERT_EQ(contents(v), found);
    ASSERT_TRUE(v.close().ok());
    ASSERT_NO_FATAL_FAILURE(fsck(image));
  }
  void check_snapshots(store::Volume &v) {
    store::SnapshotInfo info;
    for (u64 id = 1;; id++) {
      auto found = v.snapshot_next(id, &info);
      if (!found.ok()) return;
      id = *found;
      auto view = v.open_snapshot(id, {});
      ASSERT_TRUE(view.ok());
      ASSERT_EQ(contents(**view), std::string(info.name) == "target" ? target_ : replaced_) << info.name;
    }
  }
  static void claim(store::Checker &c) {
    auto visit = [&](const Key &k, Bytes v) {
      if (k.type != extent_type) return true;
      disk::DiskExtent x;
      memcpy(&x, v.data(), sizeof x);
      return c.claim({x.disk, x.count}, "file", k.oid, k.off).ok();
    };
    ASSERT_TRUE(c.walk(TreeId::fs, visit).ok());
    ASSERT_TRUE(c.walk(TreeId::collections, visit).ok());
  }
  static void fsck(host::MemDevice &image) {
    std::string errors;
    store::Checker c(&image, {[](void *ctx, store::Severity severity, const char *text) {
                                if (severity == store::Severity::error)
                                  *static_cast<std::string *>(ctx) += std::string(text) + "\n";
                              },
                              nullptr, &errors});
    ASSERT_TRUE(c.open().ok()) << errors;
    ASSERT_NO_FATAL_FAILURE(claim(c));
    ASSERT_TRUE(c.walk(TreeId::refcounts, [](const Key &, Bytes) { return true; }).ok());
    ASSERT_TRUE(c.check_snapshots().ok());
    for (usize i = 0; c.enter_snapshot(i); i++) ASSERT_NO_FATAL_FAILURE(claim(c));
    ASSERT_TRUE(c.compare_space().ok());
    ASSERT_EQ(errors, "");
  }

  std::mt19937_64 rng_;
  bool log_;
  u8 copies_;  // of tree nodes
  SimDevice dev_;
  Box<store::Volume> vol_;
  Model model_, target_, replaced_;
  std::vector<Model> history_;
  u64 serial_ = 0;
};

class RollbackCrash : public ::testing::Test {
 protected:
  void SetUp() override {
    host::set_log_hook([](vx_bdev *, int, const char *) {});
  }
  void TearDown() override { host::set_log_hook({}); }
};

TEST_F(RollbackCrash, EveryPoint) {
  const char *s = getenv("VX_SEED"), *budget = getenv("VX_CRASH_SECONDS");
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(budget ? atoi(budget) : 5);
  u64 first = s ? strtoull(s, nullptr, 0) : 1, seed = first, images = 0;
  do {
    SCOPED_TRACE("VX_SEED=" + std::to_string(seed));
    Rollback run(seed, seed % 2 != 0);
    seed++;
    run.record();
    if (HasFatalFailure()) return;
    images += run.check_all(1);
    if (HasFatalFailure()) return;
  } while (std::chrono::steady_clock::now() < end);
  printf("explored: %llu rollbacks from seed %llu, %llu images mounted\n",
         static_cast<unsigned long long>(seed - first), static_cast<unsigned long long>(first),
         static_cast<unsigned long long>(images));
}

}  // namespace
}  // namespace vexfs
