// SPDX-License-Identifier: MIT
// The red-black tree against std::map, the overlay against an array, items against their verifiers and printers.
#include "../../kernel/core/fs/overlay.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "../../kernel/core/disk/fs_items.h"
#include "../../lib/host.h"

namespace vexfs::fs::test {
namespace {

struct Item {
  RbHook hook;
  u64 key = 0;
};
using ItemTree = RbTree<Item, &Item::hook, &Item::key>;

TEST(RbTree, AgreesWithStdMap) {
  std::mt19937_64 rng(1);
  for (u64 range : {8u, 100u, 5000u}) {
    ItemTree tree;
    std::map<u64, Item *> model;
    for (int step = 0; step < 20000; step++) {
      u64 k = rng() % range;
      auto it = model.find(k);
      if (it == model.end()) {
        auto *item = new Item;
        item->key = k;
        tree.insert(*item);
        model[k] = item;
      } else {
        tree.erase(*it->second);
        EXPECT_FALSE(it->second->hook.linked);
        delete it->second;
        model.erase(it);
      }
      u64 q = rng() % (range + 2);
      auto up = model.lower_bound(q);
      ASSERT_EQ(tree.at_or_after(q), up == model.end() ? nullptr : up->second);
      auto down = model.upper_bound(q);
      ASSERT_EQ(tree.at_or_before(q), down == model.begin() ? nullptr : std::prev(down)->second);
      if (step % 500 == 0) {
        ASSERT_EQ(tree.audit(), model.size());
        Item *i = tree.first();
        for (auto &[key, p] : model) {
          ASSERT_EQ(i, p);
          i = ItemTree::next(*i);
        }
        ASSERT_EQ(i, nullptr);
        i = tree.last();
        for (auto r = model.rbegin(); r != model.rend(); ++r, i = ItemTree::prev(*i)) ASSERT_EQ(i, r->second);
      }
    }
    for (auto &[k, p] : model) {
      tree.erase(*p);
      delete p;
    }
    EXPECT_TRUE(tree.empty());
  }
}

// One cell a block: 0 nothing, 1 delayed, else device block.
TEST(Overlay, AgreesWithAnArray) {
  auto before = host::alloc_stats().outstanding;
  {
    Overlay o;
    constexpr u64 n = 300;
    std::vector<u64> cell(n, 0);
    std::mt19937_64 rng(2);
    for (int step = 0; step < 30000; step++) {
      u64 a = rng() % n, len = 1 + rng() % 12, b = std::min(n, a + len);
      Spares spares;
      ASSERT_TRUE(spares.fill(Spares::kMax).ok());
      if (rng() % 2) {  // delays what is free from a on
        u64 e = a;
        while (e < b && cell[e] == 0) e++;
        if (e == a) continue;
        MapRange *r = Spares::make();
        r->first = a;
        r->count = e - a;
        o.add_delayed(r);
        for (u64 i = a; i < e; i++) cell[i] = 1;
      } else if (rng() % 2) {  // gives blocks to a part of a delayed range
        MapRange *r = o.find(a);
        if (!r || r->first > a || r->state != RangeState::delayed) continue;
        u64 e = std::min(b, r->end());
        o.split(a, e - a, spares);
        r = o.find(a);
        ASSERT_EQ(r->first, a);
        ASSERT_EQ(r->count, e - a);
        r->state = RangeState::allocated;
        r->disk = 1000 + rng() % 100000;
        for (u64 i = a; i < e; i++) cell[i] = r->disk + (i - a);
      } else {  // removes
        ASSERT_LE(o.splits_needed(a, b - a), 2u);
        o.split(a, b - a, spares);
        MapRange *next;
        for (MapRange *r = o.find(a); r && r->first < b; r = next) {
          next = o.next(*r);
          o.remove(*r);
          spares.give(r);
        }
        for (u64 i = a; i < b; i++) cell[i] = 0;
      }
      if (step % 50) continue;
      std::vector<u64> got(n, 0);
      u64 blocks = 0, last_end = 0;
      bool last_delayed = false;
      for (MapRange *r = o.find(0); r; r = o.next(*r)) {
        ASSERT_GE(r->first, last_end);
        ASSERT_FALSE(r->first == last_end && last_delayed && r->state == RangeState::delayed && last_end)
            << "not joined";
        for (u64 i = r->first; i < r->end(); i++)
          got[i] = r->state == RangeState::delayed ? 1 : r->disk + (i - r->first);
        blocks += r->count;
        last_end = r->end();
        last_delayed = r->state == RangeState::delayed;
      }
      ASSERT_EQ(got, cell) << step;
      ASSERT_EQ(o.blocks(), blocks);
      ASSERT_NE(o.audit(), ~usize{0});
    }
  }
  EXPECT_EQ(host::alloc_stats().outstanding, before);
}

TEST(FsItems, VerifiersRefuseAndPrintersSurviveAnything) {
  std::mt19937_64 rng(3);
  disk::FsLimits limits{100000, 4096};
  u64 good = 0;
  for (int i = 0; i < 200000; i++) {
    std::string v(rng() % 200, 0);
    for (auto &c : v) c = rng() % 3 ? 0 : static_cast<char>(rng());
    Bytes b{reinterpret_cast<const u8 *>(v.data()), v.size()};
    u8 type = static_cast<u8>(rng() % 70);
    u64 off = rng() % 2 ? rng() : rng() % 1000;
    good += disk::verify_fs_item(rng() % 3, type, off, b, limits) == nullptr;
    char text[160];
    Printer p(text);
    disk::print_fs_item(p, 1, type, off, b);
    ASSERT_LT(p.length(), sizeof text);
  }
  printf("%llu of 200000 random items pass for good\n", static_cast<unsigned long long>(good));
  disk::DiskExtent e{};
  e.disk = 99999;
  e.count = 1;
  EXPECT_EQ(disk::verify_extent(0, bytes_of(e), limits), nullptr);
  e.count = 2;
  EXPECT_STREQ(disk::verify_extent(0, bytes_of(e), limits), "extent: outside the device");
  char text[200];
  Printer p(text);
  disk::print_fs_item(p, 7, static_cast<u8>(disk::FsItem::extent), 5, bytes_of(e));
  EXPECT_STREQ(text, "(7 EXTENT 5) 32 bytes: disk 99999 count 2 birth 0");
}

}  // namespace
}  // namespace vexfs::fs::test
