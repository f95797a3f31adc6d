// SPDX-License-Identifier: MIT
// The store when things fail: every allocation, every read, every write and flush once; damage in every byte.
#include <gtest/gtest.h>

#include "store_fixture.h"

namespace vexfs::test {
namespace {

using host::FaultDevice;
using store::Key;
using store::Reserve;
using store::Tree;
using store::TreeId;
using store::Volume;

// With sanitizers every step costs many times as much: a sample of the same cases then.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kThin = 8;
#else
constexpr int kThin = 1;
#endif

class StoreFault : public StoreTest {
 protected:
  void SetUp() override {
    // These tests provoke hundreds of messages.
    host::set_log_hook([this](vx_bdev *, int level, const char *line) {
      if (level <= VX_LOG_ERR) errors_logged_++;
      last_line_ = line;
    });
  }
  void TearDown() override {
    host::fail_alloc_after(-1);
    StoreTest::TearDown();
    host::set_log_hook({});
  }

  void format(uint64_t size = 4 << 20, uint32_t node = 1024) {
    store::FormatOptions f;
    f.block_size = 1024;
    f.node_size = node;
    f.log_blocks = 0;
    make(size, f);
  }

  // One operation of three items; what it did goes into the model only if it was complete.
  static Status operate(Volume &v, uint64_t n, Model &model) {
    Reserve r;
    r.items = 3;
    auto h = v.begin(r);
    if (!h.ok()) return h.error();
    Model next = model;
    bool changed = false;
    for (uint64_t i = 0; i < 3; i++) {
      Key k{(n * 7 + i * 5) % 11, 1, (n * 13 + i) % 90};
      Status st;
      if ((n + i) % 4 == 0 && next.count(model_key(k))) {
        st = v.tree(TreeId::fs).erase(*h, k);
        next.erase(model_key(k));
      } else {
        std::string value(40 + (n * 31 + i) % 130, static_cast<char>('a' + n % 26));
        st = v.tree(TreeId::fs).upsert(*h, k, bytes(value));
        next[model_key(k)] = value;
      }
      if (!st.ok()) {
        if (changed) h->abort(st.error());
        return st;
      }
      changed = true;
    }
    model = std::move(next);
    return {};
  }

  void expect_model(vx_bdev *dev, const std::vector<Model> &any) {
    EXPECT_EQ(check_device(dev), "");
    auto v = Volume::open(dev, {.read_only = true});
    ASSERT_TRUE(v.ok());
    Model now = contents((*v)->tree(TreeId::fs));
    bool found = false;
    for (const Model &m : any) found = found || m == now;
    EXPECT_TRUE(found) << "the disk holds a state that never was committed";
    EXPECT_TRUE((*v)->close().ok());
  }

  std::atomic<int> errors_logged_{0};
  std::string last_line_;
};

// Each allocation of open, operations, commit and close fails once. Nothing may crash or leak, an operation that
// reported failure has changed nothing, and what was committed stays.
TEST_F(StoreFault, EveryAllocationFailsOnce) {
  format();
  auto pristine = dev_->clone();
  int refused = 0, survived = 0;
  for (int64_t n = 0;; n += n < 40 ? 1 : kThin) {
    ASSERT_LT(n, 20000);
    dev_ = pristine->clone();
    Model model, committed;
    host::fail_alloc_after(n);
    auto opened = Volume::open(dev_.get(), {.node_cache_bytes = 64 * 1024});
    bool ok = opened.ok();
    if (!ok) {
      ASSERT_EQ(opened.code(), Errno::nomem) << "allocation " << n;
    } else {
      Volume &v = **opened;
      for (uint64_t i = 0; i < 120 && ok; i++) {
        Status st = operate(v, i, model);
        if (!st.ok()) {
          ASSERT_EQ(st.code(), Errno::nomem) << "allocation " << n << " operation " << i;
          ASSERT_FALSE(v.aborted());
          refused++;
          i--;  // the failure was injected once: again
        }
        if (i % 40 == 39) {
          Status c = v.commit();
          ASSERT_TRUE(c.ok()) << "allocation " << n;
        }
      }
      ASSERT_EQ(contents(v.tree(TreeId::fs)), model) << "allocation " << n;
      ASSERT_TRUE(v.close().ok());
      survived++;
    }
    bool fired = host::alloc_failed();
    host::fail_alloc_after(-1);
    if (ok) expect_model(dev_.get(), {model});
    if (HasFatalFailure()) return;
    if (!fired) break;
  }
  printf("refused %d operations, %d volumes went through\n", refused, survived);
  EXPECT_GT(survived, 20);
}

TEST_F(StoreFault, LookupsReportMissingMemory) {
  format();
  Model model;
  options_.node_cache_bytes = 64 * 1024;
  open();
  for (uint64_t i = 0; i < 600; i++) ASSERT_TRUE(operate(vol(), i, model).ok());
  reopen();
  vol().cache_shrink(1000);
  host::fail_alloc_after(0, true);
  uint8_t buf[512];
  int nomem = 0;
  for (auto &[k, v] : model) {
    auto r = vol().tree(TreeId::fs).get({std::get<0>(k), std::get<1>(k), std::get<2>(k)}, buf);
    if (!r.ok()) {
      ASSERT_EQ(r.code(), Errno::nomem);
      nomem++;
    }
  }
  host::fail_alloc_after(-1);
  EXPECT_GT(nomem, 0);
  compare(model);
}

TEST_F(StoreFault, EveryReadFailsOnce) {
  format();
  Model model;
  open();
  for (uint64_t i = 0; i < 400; i++) ASSERT_TRUE(operate(vol(), i, model).ok());
  ASSERT_TRUE(vol().close().ok());
  vol_.reset();
  auto pristine = dev_->clone();
  int mounted = 0, reads_failed = 0;
  for (int64_t n = 0;; n++) {
    ASSERT_LT(n, 5000);
    dev_ = pristine->clone();
    FaultDevice faulty(dev_.get());
    faulty.fail_after(FaultDevice::Kind::read, n, -EIO);
    auto opened = Volume::open(&faulty, {.node_cache_bytes = 64 * 1024});
    if (opened.ok()) {
      mounted++;
      Volume &v = **opened;
      Model now;
      // The first pass may meet the error; the second reads again and finds everything.
      for (int pass = 0; pass < 2; pass++) {
        now.clear();
        Status st = v.tree(TreeId::fs).scan(Key::min(), Key::max(), [&](const Key &k, Bytes b) {
          now[model_key(k)] = text(b);
          return true;
        });
        if (st.ok()) break;
        ASSERT_EQ(st.code(), Errno::io);
        reads_failed++;
        ASSERT_EQ(pass, 0);
      }
      ASSERT_EQ(now, model);
      Model next = model;
      Status st = operate(v, 5000, next);
      if (!st.ok()) {
        ASSERT_TRUE(st.code() == Errno::io) << static_cast<int>(st.code());
        if (!v.aborted()) {
          ASSERT_TRUE(operate(v, 5000, next).ok());
        }
      }
      Status closed = v.close();
      if (closed.ok() && !v.aborted()) {
        expect_model(dev_.get(), {next});
      } else {
        expect_model(dev_.get(), {model});
      }
    } else {
      ASSERT_EQ(opened.code(), Errno::io) << n;
    }
    if (HasFatalFailure()) return;
    if (faulty.counters().injected == 0) break;
  }
  printf("%d mounts, %d scans met the error\n", mounted, reads_failed);
  EXPECT_GT(reads_failed, 5);
}

// A write or flush that fails makes the commit fail and the volume read-only; the disk holds the last commit.
TEST_F(StoreFault, EveryWriteAndFlushFailsOnce) {
  for (auto kind : {FaultDevice::Kind::write, FaultDevice::Kind::flush}) {
    format();
    auto pristine = dev_->clone();
    int failed_commits = 0;
    for (int64_t n = 0;; n++) {
      ASSERT_LT(n, 5000);
      dev_ = pristine->clone();
      FaultDevice faulty(dev_.get());
      auto opened = Volume::open(&faulty, {});
      ASSERT_TRUE(opened.ok());
      Volume &v = **opened;
      faulty.fail_after(kind, n, -EIO);
      Model model, committed;
      std::vector<Model> possible{committed};
      for (uint64_t i = 0; i < 90; i++) {
        Status st = operate(v, i, model);
        if (!st.ok()) {
          ASSERT_EQ(st.code(), Errno::rofs);
          ASSERT_TRUE(v.aborted());
          ASSERT_TRUE(v.read_only());
        }
        if (i % 30 != 29) continue;
        Status c = v.commit();
        if (c.ok()) {
          possible = {model};
        } else {
          if (failed_commits++ == 0) {
            ASSERT_EQ(c.code(), Errno::io);
          }
          ASSERT_TRUE(v.aborted()) << "a failed commit must abort";
          // The root may have reached the disk all the same.
          if (c.code() == Errno::io) possible.push_back(model);
        }
      }
      // Reading goes on.
      ASSERT_EQ(contents(v.tree(TreeId::fs)), model);
      bool aborted = v.aborted();
      Status closed = v.close();
      ASSERT_TRUE(closed.ok() || (!aborted && closed.code() == Errno::io));
      bool fired = faulty.counters().injected != 0;
      opened.value().reset();
      expect_model(dev_.get(), possible);
      if (HasFatalFailure()) return;
      if (!fired) break;
    }
    EXPECT_GE(failed_commits, kind == FaultDevice::Kind::write ? 6 : 3);
  }
}

TEST_F(StoreFault, AbortKeepsTheLastCommit) {
  format();
  Model model, committed;
  open();
  for (uint64_t i = 0; i < 50; i++) ASSERT_TRUE(operate(vol(), i, model).ok());
  ASSERT_TRUE(vol().commit().ok());
  committed = model;
  for (uint64_t i = 50; i < 80; i++) ASSERT_TRUE(operate(vol(), i, model).ok());
  {
    auto h = begin();
    h.abort(Errno::io);
  }
  EXPECT_TRUE(vol().aborted());
  EXPECT_EQ(vol().begin({}).code(), Errno::rofs);
  EXPECT_EQ(vol().commit().code(), Errno::rofs);
  EXPECT_EQ(vol().set_read_only(false).code(), Errno::rofs);
  EXPECT_EQ(contents(vol().tree(TreeId::fs)), model);
  ASSERT_TRUE(vol().close().ok());
  vol_.reset();
  expect_model(dev_.get(), {committed});
}

// Every byte of the metadata of a small image is flipped, one at a time: open and a walk over everything may fail, but
// never crash, and never return contents that were not written.
TEST_F(StoreFault, EveryByteFlipped) {
  format(2 << 20);
  Model model;
  open();
  for (uint64_t i = 0; i < 150; i++) ASSERT_TRUE(operate(vol(), i, model).ok());
  ASSERT_TRUE(vol().close().ok());
  vol_.reset();
  auto pristine = dev_->clone();
  std::vector<uint8_t> block(1024), zero(1024, 0);
  int opened_n = 0, noticed = 0, flips = 0;
  for (uint64_t b = 0; b < (2 << 10); b++) {
    pristine->peek(b * 1024, block.data(), 1024);
    if (block == zero) continue;
    for (uint64_t i = b % 5; i < 1024; i += (b * 1024 < 8192 ? 5 : 3) * kThin) {
      uint8_t bad = block[i] ^ static_cast<uint8_t>(1 << (i % 8));
      dev_->poke(b * 1024 + i, &bad, 1);
      flips++;
      errors_logged_ = 0;
      auto v = Volume::open(dev_.get(), {.read_only = true, .node_cache_bytes = 64 * 1024});
      if (v.ok()) {
        opened_n++;
        Model now;
        Status st = (*v)->tree(TreeId::fs).scan(Key::min(), Key::max(), [&](const Key &k, Bytes value) {
          now[model_key(k)] = text(value);
          return true;
        });
        if (st.ok()) {
          ASSERT_EQ(now, model) << "byte " << b * 1024 + i;
        } else {
          ASSERT_EQ(st.code(), Errno::corrupt);
          ASSERT_GT(errors_logged_.load(), 0) << "damage without a message";
          noticed++;
        }
        ASSERT_TRUE((*v)->close().ok());
      } else {
        noticed++;
      }
      dev_->poke(b * 1024 + i, &block[i], 1);
    }
  }
  printf("%d bytes flipped, %d volumes opened, damage met in %d\n", flips, opened_n, noticed);
  EXPECT_GT(flips, 5000 / kThin);
  EXPECT_GT(noticed, 500 / kThin);
}

// The same, with checksums put right again: what a hostile image can say. Reading, writing and checking must stay
// within bounds and come to an end.
TEST_F(StoreFault, HostileNodes) {
  format(2 << 20);
  Model model;
  open();
  for (uint64_t i = 0; i < 150; i++) ASSERT_TRUE(operate(vol(), i, model).ok());
  ASSERT_TRUE(vol().close().ok());
  vol_.reset();
  auto pristine = dev_->clone();
  uint64_t seed = seed_from_env(3);
  SCOPED_TRACE("VX_SEED=" + std::to_string(seed));
  std::mt19937_64 rng(seed);
  std::vector<uint64_t> metadata;
  std::vector<uint8_t> block(1024);
  for (uint64_t b = 16; b < (2 << 10); b++) {
    pristine->peek(b * 1024, block.data(), 1024);
    uint32_t magic;
    memcpy(&magic, block.data(), 4);
    if (magic == 0x4e445856 || magic == 0x4d425856 || magic == 0x53445856 || magic == 0x54525856) metadata.push_back(b);
  }
  ASSERT_GT(metadata.size(), 20u);
  for (int round = 0; round < 6000 / kThin; round++) {
    dev_ = pristine->clone();
    for (uint64_t hits = 1 + rng() % 3; hits; hits--) {
      uint64_t b = metadata[rng() % metadata.size()];
      dev_->peek(b * 1024, block.data(), 1024);
      for (uint64_t c = 1 + rng() % 4; c; c--) {
        // Headers and counts are more interesting than values.
        size_t at = rng() % 2 ? 32 + rng() % 80 : rng() % 1024;
        if (at < 32) at += 32;
        block[at] = rng() % 3 ? static_cast<uint8_t>(rng()) : static_cast<uint8_t>(block[at] + (rng() % 5) - 2);
      }
      disk::checksum_block(MutBytes(block.data(), block.size()));
      dev_->poke(b * 1024, block.data(), 1024);
    }
    auto v = Volume::open(dev_.get(), {.node_cache_bytes = 64 * 1024, .on_error = store::ErrorPolicy::keep_going});
    if (v.ok()) {
      Volume &vol = **v;
      size_t items = 0;
      (void)vol.tree(TreeId::fs)
          .scan(Key::min(), Key::max(), [&](const Key &, Bytes) { return ++items < 100000; })
          .ok();
      ASSERT_LT(items, 100000u);
      Model ignored = model;
      for (uint64_t i = 0; i < 60 && !vol.aborted(); i++) (void)operate(vol, rng() % 200, ignored).ok();
      if (!vol.aborted()) {
        Reserve r;
        r.items = 16;
        auto h = vol.begin(r);
        if (h.ok())
          (void)vol.tree(TreeId::fs).erase_range(*h, Key::min(), Key::max(), 200, [](const Key &, Bytes) {}).ok();
      }
      (void)vol.close().ok();
    }
    (void)check_device(dev_.get());
  }
}

}  // namespace
}  // namespace vexfs::test
