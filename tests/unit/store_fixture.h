// SPDX-License-Identifier: MIT
// What tests of the store share: a volume on a memory device, a map as the model, random operations, the checker.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernel/core/store/check.h"
#include "kernel/core/store/state.h"
#include "kernel/core/store/volume.h"
#include "lib/device.h"
#include "lib/host.h"

namespace vexfs::test {

inline uint64_t seed_from_env(uint64_t fallback) {
  const char *s = getenv("VX_SEED");
  return s ? strtoull(s, nullptr, 0) : fallback;
}

using ModelKey = std::tuple<uint64_t, uint8_t, uint64_t>;
using Model = std::map<ModelKey, std::string>;
inline ModelKey model_key(const store::Key &k) { return {k.oid, k.type, k.off}; }
inline Bytes bytes(const std::string &s) { return {reinterpret_cast<const uint8_t *>(s.data()), s.size()}; }
inline std::string text(Bytes b) { return {reinterpret_cast<const char *>(b.data()), b.size()}; }

// Runs the checker over a device that nobody has open; the texts of all errors, one a line.
inline std::string check_device(vx_bdev *dev, const std::vector<store::Extent> &data = {}) {
  std::string out;
  store::Checker c(dev, {[](void *ctx, store::Severity s, const char *line) {
                           if (s == store::Severity::error)
                             *static_cast<std::string *>(ctx) += std::string(line) + "\n";
                         },
                         nullptr, &out});
  if (!c.open().ok()) return out + "checker cannot open\n";
  for (uint8_t t = 0; t < disk::kTrees; t++)
    if (!c.walk(static_cast<store::TreeId>(t), [](const store::Key &, Bytes) { return true; }).ok())
      out += "walk failed\n";
  for (auto &e : data)
    if (!c.claim(e, "test data", 0, 0).ok()) out += "claim failed\n";
  if (!c.compare_space().ok()) out += "compare failed\n";
  return out;
}

inline Model contents(const store::Tree &t) {
  Model m;
  Status st = t.scan(store::Key::min(), store::Key::max(), [&](const store::Key &k, Bytes v) {
    m[model_key(k)] = text(v);
    return true;
  });
  EXPECT_TRUE(st.ok());
  return m;
}

class StoreTest : public ::testing::Test {
 protected:
  void TearDown() override {
    if (vol_) {
      EXPECT_TRUE(vol_->close().ok());
    }
    vol_.reset();
    dev_.reset();
    host::AllocStats now = host::alloc_stats();
    EXPECT_EQ(now.outstanding, before_.outstanding) << "memory leaked";
    EXPECT_EQ(now.large_bytes, before_.large_bytes) << "memory leaked, or freed with a wrong size";
  }

  void make(uint64_t bytes, const store::FormatOptions &f) {
    dev_ = std::make_unique<host::MemDevice>(bytes);
    ASSERT_TRUE(store::format(dev_.get(), f, &layout_).ok());
  }
  void open() {
    auto r = store::Volume::open(dev_.get(), options_);
    ASSERT_TRUE(r.ok()) << static_cast<int>(r.code());
    vol_ = r.take();
  }
  void reopen() {
    ASSERT_TRUE(vol_->close().ok());
    vol_.reset();
    open();
  }
  store::Volume &vol() { return *vol_; }

  store::Handle begin(uint32_t items = 1, bool freeing = false) {
    store::Reserve r;
    r.items = items;
    r.freeing = freeing;
    auto h = vol().begin(r);
    EXPECT_TRUE(h.ok()) << static_cast<int>(h.code());
    return h.take();
  }
  static std::string get(const store::Tree &t, const store::Key &k) {
    std::vector<uint8_t> buf(20000);
    auto r = t.get(k, buf);
    return r.ok() ? text({buf.data(), *r}) : "error " + std::to_string(static_cast<int>(r.code()));
  }
  static size_t count(const store::Tree &t) { return contents(t).size(); }
  void check_commit() {
    ASSERT_TRUE(vol().commit().ok());
    EXPECT_EQ(check_device(dev_.get()), "");
  }
  void check() {
    ASSERT_TRUE(vol_->close().ok());
    vol_.reset();
    EXPECT_EQ(check_device(dev_.get()), "");
  }

  store::Key random_key(std::mt19937_64 &rng) { return {rng() % 40, static_cast<uint8_t>(rng() % 3), rng() % 1000}; }
  std::string random_value(std::mt19937_64 &rng) {
    size_t max = vol().max_item();
    size_t len = rng() % 10 == 0 ? rng() % (max + 1) : rng() % 120;
    return std::string(std::min(len, max), static_cast<char>('a' + rng() % 26));
  }
  void random_op(std::mt19937_64 &rng, Model &model, int grow) {
    auto &t = vol().tree(store::TreeId::fs);
    store::Key k = random_key(rng);
    auto it = model.find(model_key(k));
    bool have = it != model.end();
    auto h = begin(rng() % 30 == 0 ? 16 : 1);
    if (static_cast<int>(rng() % 100) < grow) {
      std::string v = random_value(rng);
      switch (rng() % 3) {
        case 0:
          ASSERT_EQ(t.insert(h, k, bytes(v)).code(), have ? Errno::exist : Errno::ok);
          if (!have) model[model_key(k)] = v;
          break;
        case 1:
          ASSERT_EQ(t.update(h, k, bytes(v)).code(), have ? Errno::ok : Errno::noent);
          if (have) it->second = v;
          break;
        default:
          ASSERT_TRUE(t.upsert(h, k, bytes(v)).ok());
          model[model_key(k)] = v;
      }
      return;
    }
    switch (rng() % 16) {
      case 0: {
        store::Key to = k;
        to.off += rng() % 300;
        size_t limit = 1 + rng() % 40;
        size_t expect = 0;
        auto a = model.lower_bound(model_key(k));
        while (a != model.end() && a->first <= model_key(to) && expect < limit) {
          a = model.erase(a);
          expect++;
        }
        auto r = t.erase_range(h, k, to, limit, [](const store::Key &, Bytes) {});
        ASSERT_TRUE(r.ok());
        ASSERT_EQ(*r, expect);
        break;
      }
      case 1: {
        Status st = t.modify(h, k, [&](MutBytes b) -> Status {
          for (auto &c : b) c ^= 1;
          return {};
        });
        ASSERT_EQ(st.code(), have ? Errno::ok : Errno::noent);
        if (have)
          for (auto &c : it->second) c ^= 1;
        break;
      }
      default:
        ASSERT_EQ(t.erase(h, k).code(), have ? Errno::ok : Errno::noent);
        if (have) model.erase(it);
    }
  }
  void compare(const Model &model) {
    Model now = contents(vol().tree(store::TreeId::fs));
    ASSERT_EQ(now.size(), model.size());
    ASSERT_TRUE(now == model);
  }

  host::AllocStats before_ = host::alloc_stats();
  std::unique_ptr<host::MemDevice> dev_;
  store::Layout layout_;
  store::OpenOptions options_;
  Box<store::Volume> vol_;
};

}  // namespace vexfs::test
