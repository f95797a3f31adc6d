// SPDX-License-Identifier: MIT
// The two copies of the two roots: what power cuts, one after the other, leave of them; and a newest root that is lost.
#include <algorithm>

#include "store_fixture.h"

namespace vexfs::test {
namespace {

using store::TreeId;

constexpr u32 kSector = 512;

// How much of a root's write the power cut lets through.
enum class Cut { nothing, first_sector, all_but_first_sector, within_a_sector };
constexpr Cut kCuts[] = {Cut::nothing, Cut::first_sector, Cut::all_but_first_sector, Cut::within_a_sector};
constexpr u32 kRootWrites = 6;  // of three commits: each comes to each slot

class StoreRoots : public StoreTest {
 protected:
  void SetUp() override {
    host::set_log_hook([](vx_bdev *, int, const char *) {});
  }
  void TearDown() override {
    StoreTest::TearDown();
    host::set_log_hook({});
  }
  void format(u64 log_blocks) {
    store::FormatOptions f;
    f.block_size = 1024;
    f.node_size = 1024;
    f.log_blocks = static_cast<u32>(log_blocks);
    make(4 << 20, f);
    geo_ = geometry_of(*dev_);
  }
  static disk::Geometry geometry_of(host::MemDevice &d) {
    auto v = store::Volume::open(&d, {.read_only = true});
    EXPECT_TRUE(v.ok());
    const disk::Geometry g = (*v)->geometry();
    EXPECT_TRUE((*v)->close().ok());
    return g;
  }
  u64 root_byte(unsigned slot, unsigned mirror) const {
    return (mirror ? geo_.root_mirror[slot] : geo_.root_slot[slot]) << geo_.block_shift;
  }
  bool is_root(u64 byte) const {
    for (unsigned i = 0; i < 4; i++)
      if (byte == root_byte(i / 2, i % 2)) return true;
    return false;
  }
  bool usable(host::MemDevice &d, unsigned slot, unsigned mirror) const {
    const u64 bytes = u64{geo_.root_blocks} << geo_.block_shift;
    std::vector<u8> b(bytes);
    d.peek(root_byte(slot, mirror), b.data(), bytes);
    return disk::verify_root({b.data(), b.size()}, geo_, slot, mirror).ok();
  }
  void spoil(host::MemDevice &d, unsigned slot, unsigned mirror) const {
    u8 byte;
    d.peek(root_byte(slot, mirror) + 100, &byte, 1);
    byte ^= 0x10;
    d.poke(root_byte(slot, mirror) + 100, &byte, 1);
  }
  static Status put(store::Volume &v, u64 n) {
    auto h = v.begin({.items = 1});
    if (!h.ok()) return h.error();
    return v.tree(TreeId::fs).upsert(*h, {1, 1, 1}, bytes(std::to_string(n)));
  }
  static u64 value(store::Volume &v) {
    const std::string s = get(v.tree(TreeId::fs), {1, 1, 1});
    return s.rfind("error", 0) == 0 ? 0 : std::stoull(s);
  }

  static void tear(host::MemDevice &to, const vx_io &io, Cut cut) {
    const u8 *b = static_cast<const u8 *>(io.buf);
    if (cut == Cut::first_sector) to.poke(io.off, b, kSector);
    if (cut == Cut::all_but_first_sector) to.poke(io.off + kSector, b + kSector, io.len - kSector);
    if (cut == Cut::within_a_sector) {
      const std::vector<u8> noise(kSector / 2, 0x5a);
      to.poke(io.off, b, io.len);
      to.poke(io.off + kSector / 2, noise.data(), noise.size());
    }
  }

  struct Moment {  // what must be found: one of these values
    u64 acknowledged = 0, tried = 0;
  };

  // Mounts and commits until the power fails at root write `at`. False if the mount was refused without a cut.
  bool work(host::MemDevice &d, u32 at, Cut cut, bool by_log, Moment *m) {
    host::FaultDevice dying(&d);
    bool dead = false;
    u32 roots = 0;
    dying.on_write([&](const vx_io &io) {
      if (!dead && is_root(io.off) && roots++ == at) {
        tear(d, io, cut);
        dead = true;
      }
      return dead ? -EIO : 0;
    });
    auto r = store::Volume::open(&dying, {});
    if (!r.ok()) return dead;
    store::Volume &v = **r;
    const u64 found = value(v);
    EXPECT_GE(found, m->acknowledged) << "what was acknowledged is lost";
    EXPECT_LE(found, m->tried);
    *m = {found, found};  // shown once, it stays: nothing of it is volatile
    while (!dead) {
      m->tried++;
      EXPECT_TRUE(put(v, m->tried).ok());
      if (by_log && v.sync(true).ok()) m->acknowledged = m->tried;
      if (v.commit().ok()) m->acknowledged = m->tried;
      EXPECT_LE(roots, kRootWrites);
    }
    v.abort(Errno::io);
    (void)v.close().ok();
    return true;
  }

  // All ways of `cuts` power cuts, one after the other.
  void cut_again(host::MemDevice &d, u32 cuts, bool by_log, const Moment &before, const std::string &what) {
    for (u32 at = 0; at < kRootWrites; at++)
      for (Cut cut : kCuts) {
        SCOPED_TRACE(what + " root write " + std::to_string(at) + " cut " + std::to_string(static_cast<int>(cut)));
        auto image = d.clone();
        Moment m = before;
        ASSERT_TRUE(work(*image, at, cut, by_log, &m)) << "cannot be mounted for writing";
        seen_++;
        for (unsigned slot = 0; slot < 2; slot++) {
          torn_mirrors_ += !usable(*image, slot, 1);
          ASSERT_TRUE(usable(*image, slot, 0) || usable(*image, slot, 1)) << "slot " << slot;
        }
        if (cuts > 1) {
          cut_again(*image, cuts - 1, by_log, m,
                    what + std::to_string(at) + "." + std::to_string(static_cast<int>(cut)));
          if (HasFatalFailure()) return;
          continue;
        }
        ASSERT_EQ(check_device(image.get()), "");
        auto r = store::Volume::open(image.get(), {});
        ASSERT_TRUE(r.ok()) << "errno " << static_cast<int>(r.code());
        ASSERT_GE(value(**r), m.acknowledged);
        ASSERT_LE(value(**r), m.tried);
        ASSERT_TRUE((*r)->close().ok());
      }
  }

  disk::Geometry geo_;
  u64 seen_ = 0, torn_mirrors_ = 0;
};

TEST_F(StoreRoots, PowerCutsOneAfterTheOther) {
  for (bool by_log : {false, true}) {
    SCOPED_TRACE(by_log ? "synced by the log" : "committed");
    format(by_log ? disk::kLogBytesMin / 1024 : 0);
    ASSERT_NO_FATAL_FAILURE(cut_again(*dev_, 2, by_log, {}, ""));
  }
  EXPECT_EQ(seen_, 2 * 24 * 25u);
  EXPECT_GT(torn_mirrors_, 100u);
}

// A copy that is unusable for whatever reason is written from its twin before the first root is.
TEST_F(StoreRoots, CopiesAreMendedFirst) {
  format(0);
  std::vector<std::string> order;
  const auto commits = [&](host::MemDevice &d, int n) {
    order.clear();
    host::FaultDevice watched(&d);
    watched.on_write([&](const vx_io &io) {
      for (unsigned i = 0; i < 4; i++)
        if (io.off == root_byte(i / 2, i % 2)) order.push_back(std::to_string(i / 2) + (i % 2 ? "m" : "f"));
      return 0;
    });
    auto v = store::Volume::open(&watched, {});
    ASSERT_TRUE(v.ok());
    for (int i = 0; i < n; i++) {
      ASSERT_TRUE(put(**v, static_cast<u64>(i)).ok());
      ASSERT_TRUE((*v)->commit().ok());
    }
    (*v)->abort(Errno::io);
    (void)(*v)->close().ok();
  };
  commits(*dev_, 2);
  ASSERT_EQ(order.size(), 4u);
  const unsigned next = static_cast<unsigned>(order[0][0] - '0');
  const std::string a = std::to_string(next), b = std::to_string(1 - next);
  using Order = std::vector<std::string>;
  EXPECT_EQ(order, (Order{a + "f", a + "m", b + "f", b + "m"}));
  spoil(*dev_, 1 - next, 1);  // of the newest root
  commits(*dev_, 2);
  EXPECT_EQ(order, (Order{b + "m", a + "f", a + "m", b + "f", b + "m"}));
  spoil(*dev_, next, 1);
  spoil(*dev_, 1 - next, 0);
  commits(*dev_, 2);
  ASSERT_EQ(order.size(), 6u);
  EXPECT_NE(std::find(order.begin(), order.begin() + 2, a + "m"), order.begin() + 2);
  EXPECT_NE(std::find(order.begin(), order.begin() + 2, b + "f"), order.begin() + 2);
  EXPECT_EQ(Order(order.begin() + 2, order.end()), (Order{a + "f", a + "m", b + "f", b + "m"}));
}

// Where the newest root is lost, nothing is written on top of the older state: not after a remount either.
TEST_F(StoreRoots, ALostRootIsNotWrittenOver) {
  enum class Kind { no_log, empty_log, used_log, closed };
  for (Kind kind : {Kind::no_log, Kind::empty_log, Kind::used_log, Kind::closed}) {
    SCOPED_TRACE(static_cast<int>(kind));
    format(kind == Kind::no_log ? 0 : disk::kLogBytesMin / 1024);
    open();
    for (u64 n : {1, 2, 3}) {
      ASSERT_TRUE(put(vol(), n).ok());
      ASSERT_TRUE(vol().commit().ok());
    }
    if (kind == Kind::used_log) {
      ASSERT_TRUE(put(vol(), 4).ok());
      ASSERT_TRUE(vol().sync(true).ok());
    }
    if (kind != Kind::closed) vol().abort(Errno::io);
    const bool closed = vol().close().ok();
    EXPECT_TRUE(closed);
    const unsigned newest = vol().durable_txn() % 2;
    vol_.reset();
    for (unsigned m = 0; m < 2; m++) spoil(*dev_, newest, m);
    EXPECT_EQ(store::Volume::open(dev_.get(), {}).code(), Errno::corrupt);
    host::FaultDevice watched(dev_.get());
    auto r = store::Volume::open(&watched, {.read_only = true});
    ASSERT_TRUE(r.ok());
    EXPECT_LT(value(**r), 4u);
    EXPECT_EQ((*r)->set_read_only(false).code(), Errno::rofs);
    EXPECT_TRUE((*r)->read_only());
    EXPECT_EQ((*r)->begin({}).code(), Errno::rofs);
    EXPECT_TRUE((*r)->commit().ok());
    EXPECT_TRUE((*r)->close().ok());
    EXPECT_EQ(watched.counters().writes, 0u);
  }
}

}  // namespace
}  // namespace vexfs::test
