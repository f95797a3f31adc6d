// SPDX-License-Identifier: MIT
// The checker: silent about a sound filesystem, and no damaged metadata block escapes it.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "../../kernel/core/store/check.h"
#include "../../kernel/core/store/format.h"
#include "../../kernel/core/store/volume.h"
#include "../../lib/device.h"
#include "../../lib/host.h"

namespace vexfs {
namespace {

using store::Checker;
using store::Key;
using store::Severity;
using store::TreeId;

constexpr u64 kBytes = 4 << 20;
constexpr u32 kBlock = 1024, kNode = 4096;

struct Report {
  std::string errors, all;
  u64 items = 0;
  bool opened = false;
};

Report check(vx_bdev &dev) {
  Report r;
  Checker c(&dev, {[](void *ctx, Severity severity, const char *text) {
                     auto *out = static_cast<Report *>(ctx);
                     if (severity == Severity::error) out->errors += std::string(text) + "\n";
                     if (severity != Severity::note) out->all += std::string(text) + "\n";
                   },
                   nullptr, &r});
  r.opened = c.open().ok();
  if (!r.opened) return r;
  for (u8 t = 0; t < disk::kTrees; t++) {
    Key last{};
    bool any = false;
    EXPECT_TRUE(c.walk(static_cast<TreeId>(t), [&](const Key &k, Bytes) {
                   EXPECT_TRUE(!any || last < k);
                   last = k;
                   any = true;
                   r.items++;
                   return true;
                 }).ok());
  }
  EXPECT_TRUE(c.compare_space().ok());
  return r;
}

class StoreCheck : public ::testing::Test {
 protected:
  void SetUp() override {
    host::set_log_hook([](vx_bdev *, int, const char *) {});
    store::FormatOptions f;
    f.block_size = kBlock;
    f.node_size = kNode;
    f.log_blocks = 0;
    ASSERT_TRUE(store::format(&dev_, f, &layout_).ok());
    auto v = store::Volume::open(&dev_, {});
    ASSERT_TRUE(v.ok());
    std::vector<u8> value(200);
    for (u64 i = 0; i < kItems; i++) {
      auto h = (*v)->begin({.items = 1});
      ASSERT_TRUE(h.ok());
      value[0] = static_cast<u8>(i);
      ASSERT_TRUE((*v)->tree(i % 2 ? TreeId::fs : TreeId::collections)
                      .insert(*h, {i * 7 % 101, 1, i}, {value.data(), value.size()})
                      .ok());
    }
    ASSERT_TRUE((*v)->close().ok());
  }
  void TearDown() override { host::set_log_hook({}); }

  std::vector<u64> blocks_with(disk::Magic magic) {
    std::vector<u64> found;
    for (u64 off = 0; off < kBytes; off += kBlock) {
      disk::BlockHeader h;
      dev_.peek(off, &h, sizeof(h));
      if (h.magic == static_cast<u32>(magic)) found.push_back(off);
    }
    return found;
  }

  static constexpr u64 kItems = 2000;
  host::MemDevice dev_{kBytes};
  store::Layout layout_;
};

TEST_F(StoreCheck, SoundIsSilent) {
  Report r = check(dev_);
  EXPECT_TRUE(r.opened);
  EXPECT_EQ(r.all, "");
  EXPECT_EQ(r.items, kItems);
}

// A block of the current state that is damaged gives a finding; one that only an older state used does not count. At
// least the nodes of both trees and the current bitmaps must be found out.
TEST_F(StoreCheck, DamagedBlocksAreFound) {
  int noticed = 0, nodes = 0;
  for (disk::Magic magic : {disk::Magic::node, disk::Magic::bitmap, disk::Magic::descriptor, disk::Magic::root}) {
    for (u64 off : blocks_with(magic)) {
      auto image = dev_.clone();
      u8 byte;
      image->peek(off + 100, &byte, 1);
      byte ^= 0x10;
      image->poke(off + 100, &byte, 1);
      Report r = check(*image);
      if (!r.all.empty()) noticed++;
      if (magic == disk::Magic::node && r.errors.find("checksum") != std::string::npos) nodes++;
      if (magic == disk::Magic::root) {
        EXPECT_NE(r.all, "") << "root slot at " << off;
      }
    }
  }
  EXPECT_GE(noticed, 100);
  EXPECT_GE(nodes, 100);
}

TEST_F(StoreCheck, ChecksummedLiesAboutSpaceAreFound) {
  int found = 0;
  for (u64 off : blocks_with(disk::Magic::bitmap)) {
    auto image = dev_.clone();
    std::vector<u8> block(kBlock);
    image->peek(off, block.data(), kBlock);
    // Swaps a used and a free bit, so that the count stays right: only a look at every block can tell.
    u8 *map = block.data() + sizeof(disk::BitmapDisk);
    usize used = 0, free = 0;
    for (usize i = 0; i < (kBlock - sizeof(disk::BitmapDisk)) * 8; i++) (map[i / 8] >> (i % 8) & 1 ? used : free) = i;
    map[used / 8] = static_cast<u8>(map[used / 8] & ~(1u << (used % 8)));
    map[free / 8] = static_cast<u8>(map[free / 8] | 1u << (free % 8));
    disk::checksum_block({block.data(), kBlock});
    image->poke(off, block.data(), kBlock);
    if (check(*image).errors.find("bitmap") != std::string::npos) found++;
  }
  EXPECT_GE(found, 1);
}

TEST_F(StoreCheck, GarbageIsNoFilesystem) {
  host::MemDevice garbage(kBytes);
  EXPECT_FALSE(check(garbage).opened);
  std::vector<u8> noise(kBytes);
  for (usize i = 0; i < noise.size(); i++) noise[i] = static_cast<u8>(i * 2654435761u >> 13);
  garbage.poke(0, noise.data(), noise.size());
  EXPECT_FALSE(check(garbage).opened);
}

TEST_F(StoreCheck, LosesTheFirstSuperblockAndGoesOnWithTheCopy) {
  std::vector<u8> zero(4096);
  dev_.poke(disk::kSuperOffset, zero.data(), zero.size());
  Report r = check(dev_);
  EXPECT_TRUE(r.opened);
  EXPECT_NE(r.errors, "");
  EXPECT_EQ(r.items, kItems);
}

}  // namespace
}  // namespace vexfs
