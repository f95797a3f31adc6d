// SPDX-License-Identifier: MIT
// The intent log: what a sync writes, what a mount makes of it, and what happens when it cannot be written or read.
// Thread sanitizer: StoreLog.HalfAnOperationIsNeverLogged StoreLog.ManyThreadsShareWrites
#include <thread>

#include "kernel/core/store/log_reader.h"
#include "store_fixture.h"

namespace vexfs::test {
namespace {

using store::Key;
using store::TreeId;

class StoreLog : public StoreTest {
 protected:
  void SetUp() override {
    host::set_log_hook([](vx_bdev *, int, const char *) {});
    store::FormatOptions f;
    f.log_blocks = 256;  // 1 MiB, the least
    make(32 << 20, f);
    counting_ = std::make_unique<host::FaultDevice>(dev_.get());
  }
  void TearDown() override {
    StoreTest::TearDown();
    host::set_log_hook({});
  }
  void open_counting() {
    auto r = store::Volume::open(counting_.get(), options_);
    ASSERT_TRUE(r.ok());
    vol_ = r.take();
    put(0, "the first sync of a mount is a commit");
    ASSERT_TRUE(vol_->sync(true).ok());
    at_ = counting_->counters();
  }
  // Writes, flushes and writes with FUA since the last look.
  std::string traffic() {
    auto was = std::exchange(at_, counting_->counters());
    return std::to_string(at_.writes - was.writes) + " writes " + std::to_string(at_.flushes - was.flushes) +
           " flushes " + std::to_string(at_.fua - was.fua) + " fua";
  }
  // What was neither committed nor synced is lost.
  void crash() {
    vol_->abort(Errno::io);
    (void)vol_->close().ok();
    vol_.reset();
  }
  void reopen() {
    crash();
    auto r = store::Volume::open(dev_.get(), options_);
    ASSERT_TRUE(r.ok()) << static_cast<int>(r.code());
    vol_ = r.take();
  }
  void put(uint64_t n, const std::string &value) {
    auto h = vol_->begin({});
    ASSERT_TRUE(h.ok());
    ASSERT_TRUE(tree().upsert(*h, {1, 1, n}, bytes(value)).ok());
  }
  std::string value(uint64_t n) {
    std::string buf(4096, 0);
    auto r = tree().get({1, 1, n}, {reinterpret_cast<u8 *>(buf.data()), buf.size()});
    return r.ok() ? buf.substr(0, *r) : "(none)";
  }
  store::Tree &tree() { return vol_->tree(TreeId::fs); }
  store::Counters &counters() { return vol_->counters(); }
  uint64_t log_byte() const { return layout_.log_start * layout_.block_size; }

  std::unique_ptr<host::FaultDevice> counting_;
  host::FaultDevice::Counters at_;
};

TEST_F(StoreLog, SyncedSurvivesTheRestDoesNot) {
  open_counting();
  put(1, "one");
  ASSERT_TRUE(vol_->sync(true).ok());
  put(2, "two");
  ASSERT_TRUE(vol_->sync(false).ok());
  put(1, "one again");
  EXPECT_EQ(counters().log_groups.load(), 2u);
  EXPECT_EQ(counters().commits.load(), 1u);
  reopen();
  EXPECT_EQ(value(1), "one");
  EXPECT_EQ(value(2), "two");
  EXPECT_EQ(counters().log_replayed.load(), 2u);
  reopen();  // it was committed by the mount: nothing to replay
  EXPECT_EQ(value(2), "two");
  EXPECT_EQ(counters().log_replayed.load(), 0u);
  ASSERT_TRUE(vol_->close().ok());
  vol_.reset();
  EXPECT_EQ(check_device(dev_.get()), "");
}

TEST_F(StoreLog, OneWriteAndOneFlush) {
  open_counting();
  put(1, "a name, say");
  ASSERT_TRUE(vol_->sync(false).ok());
  EXPECT_EQ(traffic(), "1 writes 1 flushes 0 fua");
  {  // new blocks: their data must be there first
    auto h = vol_->begin({.items = 1, .data_blocks = 1});
    ASSERT_TRUE(h.ok());
    auto e = vol_->alloc(*h, 0, 1, 1);
    ASSERT_TRUE(e.ok());
    vol_->publish(*h, *e);
    ASSERT_TRUE(tree().upsert(*h, {2, 1, e->start}, bytes("x")).ok());
  }
  ASSERT_TRUE(vol_->sync(false).ok());
  EXPECT_EQ(traffic(), "1 writes 1 flushes 1 fua");
  ASSERT_TRUE(vol_->sync(false).ok());  // nothing new: data in place may still be in the device's cache
  EXPECT_EQ(traffic(), "0 writes 1 flushes 0 fua");
}

TEST_F(StoreLog, RecordsOfEveryKind) {
  open_counting();
  std::mt19937_64 rng(seed_from_env(5));
  Model model = contents(tree());
  std::vector<store::Extent> extents;
  u8 blob[store::kUserBlobBytes] = {};
  u64 next_id = 0;
  for (int i = 0; i < 3000; i++) {
    Key k{2 + rng() % 3, static_cast<u8>(1 + rng() % 2), rng() % 300};
    std::string v(rng() % 400, static_cast<char>('a' + rng() % 26));
    auto &slot = model[model_key(k)];
    bool there = model.count(model_key(k)) && !slot.empty();
    if (!there) model.erase(model_key(k));
    auto h = vol_->begin({.items = 4, .data_blocks = 4});
    ASSERT_TRUE(h.ok());
    switch (rng() % 9) {
      case 0:
      case 1:
      case 2:
        v += "!";
        ASSERT_TRUE(tree().upsert(*h, k, bytes(v)).ok());
        model[model_key(k)] = v;
        break;
      case 3:
        if (!there) break;
        v = model[model_key(k)];
        v.insert(rng() % (v.size() + 1), "in the middle");
        if (v.size() > 2000) v.resize(100);
        ASSERT_TRUE(tree().update(*h, k, bytes(v)).ok());
        model[model_key(k)] = v;
        break;
      case 4: {
        if (!there) break;
        std::string &m = model[model_key(k)];
        usize at = rng() % m.size(), n = rng() % (m.size() - at + 1);
        std::string p(n, '#');
        ASSERT_TRUE(tree().patch(*h, k, static_cast<u32>(at), bytes(p)).ok());
        m.replace(at, n, p);
        break;
      }
      case 5:
        if (!there) break;
        ASSERT_TRUE(tree()
                        .modify(*h, k,
                                [](MutBytes b) -> Status {
                                  b[0] ^= 1;
                                  return {};
                                })
                        .ok());
        model[model_key(k)][0] ^= 1;
        break;
      case 6: {
        Key last{k.oid, k.type, k.off + rng() % 30};
        ASSERT_TRUE(tree().erase_range(*h, k, last, 1000, [](const Key &, Bytes) {}).ok());
        for (auto it = model.lower_bound(model_key(k)); it != model.end() && it->first <= model_key(last);)
          it = model.erase(it);
        break;
      }
      case 7: {
        auto e = vol_->alloc(*h, 0, 1, 1 + rng() % 4);
        ASSERT_TRUE(e.ok());
        vol_->publish(*h, *e);
        extents.push_back(*e);
        if (rng() % 3 || extents.empty()) break;
        usize which = rng() % extents.size();
        vol_->free(*h, extents[which], 0);
        extents.erase(extents.begin() + static_cast<ptrdiff_t>(which));
        break;
      }
      default:
        blob[rng() % sizeof blob]++;
        vol_->set_blob(*h, TreeId::collections, blob);
        next_id = vol_->take_object_id() + 1;
    }
    h->end();
    if (rng() % 20 == 0) {
      ASSERT_TRUE(vol_->sync(false).ok());
    }
  }
  ASSERT_TRUE(vol_->sync(false).ok());
  std::erase_if(model, [](const auto &m) { return m.second.empty(); });
  reopen();
  EXPECT_GT(counters().log_replayed.load(), 1000u);
  EXPECT_TRUE(contents(tree()) == model);
  u8 found[store::kUserBlobBytes];
  vol_->get_blob(TreeId::collections, found);
  EXPECT_EQ(memcmp(found, blob, sizeof blob), 0);
  EXPECT_GE(vol_->next_object_id(), next_id);
  ASSERT_TRUE(vol_->close().ok());
  vol_.reset();
  EXPECT_EQ(check_device(dev_.get(), extents), "");
}

TEST_F(StoreLog, AFullRegionMeansACommit) {
  open_counting();
  std::mt19937_64 rng(1);
  Model model = contents(tree());
  u64 groups = 0, commits = 0;
  for (int i = 0; i < 2000; i++) {
    std::string v(3000, static_cast<char>('a' + rng() % 26));
    put(1 + rng() % 50, v);
    ASSERT_TRUE(vol_->sync(false).ok());
    model = contents(tree());
    if (i % 250 != 249) continue;
    groups += counters().log_groups.load();
    commits += counters().syncs_committed.load();
    reopen();
    ASSERT_TRUE(contents(tree()) == model) << i;
  }
  EXPECT_GT(groups, 1900u);
  EXPECT_GE(commits, 8u);  // each mount fills the region once
  EXPECT_LT(commits, 80u);
}

TEST_F(StoreLog, TooManyRecordsMeanACommit) {
  open_counting();
  std::string v(3000, 'v');
  for (uint64_t i = 1; i < 400; i++) put(i, v);
  u64 commits = counters().commits.load();
  ASSERT_TRUE(vol_->sync(false).ok());
  EXPECT_GE(counters().log_overflows.load(), 1u);
  EXPECT_EQ(counters().commits.load(), commits + 1);
  put(7, "and the log is in use again");
  ASSERT_TRUE(vol_->sync(false).ok());
  EXPECT_EQ(counters().commits.load(), commits + 1);
  reopen();
  EXPECT_EQ(value(399), v);
  EXPECT_EQ(value(7), "and the log is in use again");
}

// Whatever happens to the region: the mount works, and the state is one that a sync left.
TEST_F(StoreLog, DamageOfTheRegionCostsTheEndOfHistoryAtMost) {
  open_counting();
  u64 before = vol_->state().log.head();
  std::vector<Model> history{contents(tree())};
  std::vector<u64> ends{before};
  for (uint64_t i = 1; i <= 12; i++) {
    put(i, std::string(i * 300, 'x'));
    ASSERT_TRUE(vol_->sync(false).ok());
    history.push_back(contents(tree()));
    ends.push_back(vol_->state().log.head());
  }
  ASSERT_LT(before, ends.back());  // it has not begun again at the start
  crash();
  std::mt19937_64 rng(seed_from_env(3));
  for (int round = 0; round < 300; round++) {
    auto image = dev_->clone();
    u64 at = before * 4096 + rng() % ((ends.back() - before) * 4096);
    u8 byte;
    image->peek(log_byte() + at, &byte, 1);
    byte ^= static_cast<u8>(1 + rng() % 255);
    image->poke(log_byte() + at, &byte, 1);
    usize expect = 0;
    while (ends[expect + 1] * 4096 <= at) expect++;
    auto r = store::Volume::open(image.get(), options_);
    ASSERT_TRUE(r.ok()) << "byte " << at << " errno " << static_cast<int>(r.code());
    EXPECT_TRUE(contents((*r)->tree(TreeId::fs)) == history[expect]) << "byte " << at;
    // A group that others followed was whole once, so this is no torn write of a crash, and is said to be damage.
    bool damage = (*r)->state().root_state.load() & disk::kRootStateErrors;
    EXPECT_EQ(damage, expect + 2 < ends.size()) << "byte " << at;
    ASSERT_TRUE((*r)->close().ok());
    r->reset();
    ASSERT_EQ(check_device(image.get()), "");
  }
}

// The newest root is lost without a trace in its slot, but what was synced after it is still in the log. Nobody may go on
// from the older state as if there had been nothing else.
TEST_F(StoreLog, TellsOfALaterRoot) {
  open_counting();
  put(1, "before");
  ASSERT_TRUE(vol_->sync(true).ok());
  ASSERT_TRUE(vol_->commit().ok());
  const disk::Geometry geo = vol_->state().geo;
  const unsigned slot = (vol_->durable_txn() + 1) % 2;
  std::vector<u8> old[2];
  for (unsigned m = 0; m < 2; m++) {
    old[m].resize(usize{geo.root_blocks} << geo.block_shift);
    dev_->peek((m ? geo.root_mirror[slot] : geo.root_slot[slot]) << geo.block_shift, old[m].data(), old[m].size());
  }
  put(2, "in the newest root");
  ASSERT_TRUE(vol_->commit().ok());
  put(3, "after it");
  ASSERT_TRUE(vol_->sync(false).ok());
  const u64 at[2] = {geo.root_slot[slot] << geo.block_shift, geo.root_mirror[slot] << geo.block_shift};
  crash();
  for (unsigned m = 0; m < 2; m++) dev_->poke(at[m], old[m].data(), old[m].size());
  EXPECT_EQ(store::Volume::open(dev_.get(), options_).code(), Errno::corrupt);
  std::string warned;
  host::set_log_hook([&](vx_bdev *, int level, const char *line) {
    if (level <= VX_LOG_WARN) warned += line;
  });
  auto o = options_;
  o.read_only = true;
  auto r = store::Volume::open(dev_.get(), o);
  host::set_log_hook([](vx_bdev *, int, const char *) {});
  ASSERT_TRUE(r.ok());
  vol_ = r.take();
  EXPECT_EQ(value(1), "before");
  EXPECT_EQ(value(2), "(none)");
  EXPECT_NE(warned.find("a later state"), std::string::npos) << warned;
  ASSERT_TRUE(vol_->close().ok());
  vol_.reset();
  // A log that only says so is damaged, and is no proof.
  u8 byte;
  const u64 end = log_byte() + (geo.log_blocks << geo.block_shift);
  for (u64 b = log_byte(); b < end; b += 4096) {
    dev_->peek(b + 200, &byte, 1);
    byte ^= 1;
    dev_->poke(b + 200, &byte, 1);
  }
  EXPECT_TRUE(store::Volume::open(dev_.get(), options_).ok());
}

// Pieces of an earlier mount lie where the new ones end, whole and sound; they must not be taken for their successors.
TEST_F(StoreLog, StalePiecesNeverCount) {
  open_counting();
  for (uint64_t i = 1; i <= 8; i++) {
    put(i, "stale");
    ASSERT_TRUE(vol_->sync(false).ok());
  }
  u64 first = vol_->state().log.head() - 8;
  crash();
  u8 zero = 0;
  dev_->poke(log_byte() + first * 4096 + 9, &zero, 1);  // the first one is torn
  for (int mounts = 0; mounts < 4; mounts++) {
    auto r = store::Volume::open(dev_.get(), options_);
    ASSERT_TRUE(r.ok());
    vol_ = r.take();
    EXPECT_EQ(value(5), "(none)") << mounts;
    for (int i = 0; i <= mounts; i++) {
      put(100, std::to_string(mounts) + "." + std::to_string(i));
      ASSERT_TRUE(vol_->sync(false).ok());
    }
    crash();
  }
  auto r = store::Volume::open(dev_.get(), options_);
  ASSERT_TRUE(r.ok());
  vol_ = r.take();
  EXPECT_EQ(value(100), "3.3");
  EXPECT_EQ(value(5), "(none)");
}

TEST_F(StoreLog, ReadOnlyMounts) {
  open_counting();
  put(1, "synced");
  ASSERT_TRUE(vol_->sync(false).ok());
  crash();
  options_.read_only = true;
  auto image = dev_->clone();
  image->set_read_only(true);
  auto refused = store::Volume::open(image.get(), options_);
  EXPECT_EQ(refused.code(), Errno::rofs);
  options_.ignore_log = true;
  auto old = store::Volume::open(image.get(), options_);
  ASSERT_TRUE(old.ok());
  EXPECT_FALSE((*old)->tree(TreeId::fs).get({1, 1, 1}, {}).ok());
  image->set_read_only(false);
  EXPECT_EQ((*old)->set_read_only(false).code(), Errno::rofs);
  ASSERT_TRUE((*old)->close().ok());
  old->reset();
  options_.ignore_log = false;
  auto r = store::Volume::open(dev_.get(), options_);  // read-only, but the device is not: recovered
  ASSERT_TRUE(r.ok());
  vol_ = r.take();
  EXPECT_EQ(value(1), "synced");
  EXPECT_FALSE(vol_->begin({}).ok());
  ASSERT_TRUE(vol_->set_read_only(false).ok());
  put(2, "more");
  ASSERT_TRUE(vol_->sync(false).ok());
  put(3, "and more");
  ASSERT_TRUE(vol_->sync(false).ok());
  options_.read_only = false;
  reopen();
  EXPECT_EQ(value(3), "and more");
}

TEST_F(StoreLog, ALogThatCannotBeWrittenIsDoneWithout) {
  open_counting();
  counting_->fail_range(host::FaultDevice::Kind::write, log_byte(), 1 << 20, -EIO);
  for (uint64_t i = 1; i < 5; i++) {
    put(i, "by a commit");
    ASSERT_TRUE(vol_->sync(false).ok());
  }
  EXPECT_FALSE(vol_->read_only());
  reopen();
  EXPECT_EQ(value(4), "by a commit");
  EXPECT_EQ(counters().log_replayed.load(), 0u);
}

TEST_F(StoreLog, RegionsTooSmallAreNotUsed) {
  store::FormatOptions f;
  f.log_blocks = 100;
  make(32 << 20, f);
  open();
  put(1, "one");
  ASSERT_TRUE(vol_->sync(false).ok());
  EXPECT_EQ(counters().log_groups.load(), 0u);
  reopen();
  EXPECT_EQ(value(1), "one");
}

// The last piece ends where the region ends: the root must say where the next one is in a way that it accepts itself.
TEST_F(StoreLog, PiecesThatEndWithTheRegion) {
  open_counting();
  std::mt19937_64 rng(9);
  int ended = 0;
  for (int round = 0; round < 40; round++) {
    for (uint64_t i = 0; i < 43; i++) {
      std::string v(3000, 0);
      for (char &c : v) c = static_cast<char>(rng());
      put(i + 1, v);
    }
    ASSERT_TRUE(vol_->sync(false).ok());
    if (vol_->state().log.head() != 0) continue;
    ended++;
    put(99, std::to_string(round));
    if (round % 2) {
      ASSERT_TRUE(vol_->commit().ok());
    } else {
      ASSERT_TRUE(vol_->sync(false).ok());
    }
    reopen();
    EXPECT_EQ(value(99), std::to_string(round));
  }
  EXPECT_GT(ended, 1);
}

TEST_F(StoreLog, HalfAnOperationIsNeverLogged) {
  open_counting();
  put(1, "whole");
  Status synced;
  {
    auto h = vol_->begin({.items = 2});
    ASSERT_TRUE(h.ok());
    ASSERT_TRUE(tree().upsert(*h, {1, 1, 2}, bytes("the first half")).ok());
    std::thread syncer([&] { synced = vol_->sync(false); });
    while (!vol_->state().frozen.load()) std::this_thread::yield();
    h->abort(Errno::io);  // the second half failed
    h->end();
    syncer.join();
  }
  EXPECT_EQ(synced.code(), Errno::rofs);
  reopen();
  EXPECT_EQ(value(2), "(none)");
}

TEST_F(StoreLog, UnreadableIsNotEmpty) {
  open_counting();
  put(1, "synced");
  u64 at = vol_->state().log.head();
  ASSERT_TRUE(vol_->sync(false).ok());
  crash();
  counting_->fail_range(host::FaultDevice::Kind::read, log_byte() + at * 4096, 4096, -EIO);
  auto r = store::Volume::open(counting_.get(), options_);
  EXPECT_EQ(r.code(), Errno::io);
  options_.read_only = options_.ignore_log = true;
  auto old = store::Volume::open(counting_.get(), options_);
  ASSERT_TRUE(old.ok());
  ASSERT_TRUE((*old)->close().ok());
  old->reset();
  options_ = {};
  counting_->clear();
  auto again = store::Volume::open(counting_.get(), options_);  // it was the path to the device
  ASSERT_TRUE(again.ok());
  vol_ = again.take();
  EXPECT_EQ(value(1), "synced");
  ASSERT_TRUE(vol_->sync(true).ok());
  ASSERT_TRUE(vol_->close().ok());
  vol_.reset();
  counting_->fail_range(host::FaultDevice::Kind::read, log_byte(), 1 << 20, -EIO);
  auto last = store::Volume::open(counting_.get(), options_);  // unmounted: nothing can be there
  ASSERT_TRUE(last.ok());
  vol_ = last.take();
}

TEST_F(StoreLog, ManyThreadsShareWrites) {
  options_.commit_interval_ms = 5;
  open_counting();
  constexpr int threads = 6, rounds = 60;
  std::vector<std::thread> all;
  for (int t = 0; t < threads; t++)
    all.emplace_back([&, t] {
      for (int i = 0; i < rounds; i++) {
        put(static_cast<uint64_t>(1000 * t + i), "thread " + std::to_string(t));
        if (!vol_->sync(i % 7 == 0).ok()) abort();
      }
    });
  for (auto &t : all) t.join();
  EXPECT_EQ(counters().syncs.load(), threads * rounds + 1u);
  Model model = contents(tree());
  options_.commit_interval_ms = 0;
  reopen();
  EXPECT_TRUE(contents(tree()) == model);
}

TEST_F(StoreLog, AnyBytesAreDecodedOrRefused) {
  open();
  std::mt19937_64 rng(seed_from_env(11));
  const disk::Geometry &geo = vol_->state().geo;
  u64 understood = 0;
  for (int i = 0; i < 200000; i++) {
    std::vector<u8> in(1 + rng() % 80);
    for (u8 &b : in) b = static_cast<u8>(rng());
    in[0] = static_cast<u8>(rng() % 8);
    if (in.size() > 4 && rng() % 2) in[1] = static_cast<u8>(rng() % 9), in[2] = static_cast<u8>(rng() % 40), in[3] = 0;
    disk::LogRecord r;
    usize n = disk::decode_log_record({in.data(), in.size()}, geo, &r);
    ASSERT_LE(n, in.size());
    understood += n != 0;
    if (n == 0 || r.bytes.empty()) continue;
    ASSERT_TRUE(r.bytes.data() >= in.data() && r.bytes.data() + r.bytes.size() <= in.data() + n);
  }
  EXPECT_GT(understood, 1000u);
}

}  // namespace
}  // namespace vexfs::test
