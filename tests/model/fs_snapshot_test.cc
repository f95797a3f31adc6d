// SPDX-License-Identifier: MIT
// Snapshots of files against the model: whatever is done to the files afterwards (writing over them, both ways that hosts
// write, truncating, punching, renaming, deleting; commits, crashes, remounts), a view of the snapshot shows every name,
// attribute and byte as the model was at that moment. VX_SEED replays a run, VX_STEPS makes it longer.
#include <cstdlib>
#include <list>

#include "fs_driver.h"

namespace vexfs::model {
namespace {

class SnapshotDriver : public Driver {
 public:
  using Driver::Driver;
  uint64_t made = 0, deleted = 0, views = 0, kept_blocks = 0;

  void finish() {
    for (auto &k : kept_) view(k);
    while (!kept_.empty() && !failed()) remove(kept_.begin());
    for (bool more = true; more && !failed();) {
      auto r = fs_.volume().snapshot_reclaim(100);
      ASSERT_TRUE(r.ok());
      more = *r;
    }
    EXPECT_TRUE(fs_.check());
    size_t dead = 0;
    EXPECT_TRUE(fs_.volume()
                    .tree(store::TreeId::dead)
                    .scan(store::Key::min(), store::Key::max(),
                          [&](const store::Key &, Bytes) {
                            dead++;
                            return true;
                          })
                    .ok());
    EXPECT_EQ(dead, 0u) << "blocks are lost";
  }

 private:
  struct Kept {
    uint64_t id;
    FsModel model;
    std::map<uint64_t, uint64_t> ino_of;
  };

  bool extra_step() override {
    kept_blocks = std::max<uint64_t>(kept_blocks, fs_.volume().counters().dead_blocks.load());
    uint64_t dice = pick(1000);
    if (dice < 4 && kept_.size() < 8) return create();
    if (dice < 6 && kept_.size() > 2) return remove(std::next(kept_.begin(), static_cast<long>(pick(kept_.size()))));
    if (dice < 10 && !kept_.empty()) return view(*std::next(kept_.begin(), static_cast<long>(pick(kept_.size()))));
    if (dice >= 20) return false;
    auto more = fs_.volume().snapshot_reclaim(static_cast<uint32_t>(1 + pick(200)));
    EXPECT_TRUE(more.ok());
    commit();  // the end of a deletion is one, and a crash goes back to what the model knows
    return true;
  }

  bool create() {
    std::string name = "s" + std::to_string(made++);
    auto id = fs_.fs().snapshot_create(fs::test::B(name));
    EXPECT_TRUE(id.ok()) << static_cast<int>(id.code());
    if (!id.ok()) return true;
    kept_.push_back(Kept{*id, model_, ino_of_});
    commit();
    return true;
  }

  bool remove(std::list<Kept>::iterator k) {
    EXPECT_TRUE(fs_.volume().snapshot_delete(k->id).ok());
    kept_.erase(k);
    deleted++;
    commit();
    return true;
  }

  bool view(Kept &k) {
    views++;
    auto v = fs_.volume().open_snapshot(k.id, {});
    EXPECT_TRUE(v.ok());
    if (!v.ok()) return true;
    {
      auto f = fs::Filesystem::open(**v, {});
      EXPECT_TRUE(f.ok()) << static_cast<int>(f.code());
      if (f.ok()) {
        EXPECT_TRUE((*f)->recover().ok());
        shown_ = f->get();
        std::swap(model_, k.model);
        std::swap(ino_of_, k.ino_of);
        compare();
        std::swap(model_, k.model);
        std::swap(ino_of_, k.ino_of);
        shown_ = nullptr;
        EXPECT_TRUE((*f)->shutdown().ok());
      }
    }
    EXPECT_TRUE((*v)->close().ok());
    if (failed()) printf("in a view of snapshot %llu\n", static_cast<unsigned long long>(k.id));
    return true;
  }

  std::list<Kept> kept_;
};

uint64_t from_env(const char *name, uint64_t fallback) {
  const char *s = getenv(name);
  return s ? strtoull(s, nullptr, 0) : fallback;
}

class FsSnapshotModel : public ::testing::TestWithParam<uint32_t> {};

TEST_P(FsSnapshotModel, ViewsShowWhatWas) {
  host::set_log_level(VX_LOG_ERR - 1);
  DriverOptions o;
  o.seed = from_env("VX_SEED", 0x5eed0007 + GetParam());
  o.fixture.size = 1024 << 20;
  o.fixture.log_blocks = GetParam() ? 1024 : 0;
  o.max_nodes = 150;
  printf("seed %llu\n", static_cast<unsigned long long>(o.seed));
  SnapshotDriver d(o);
#if defined(__SANITIZE_ADDRESS__)
  constexpr uint64_t steps = 6000;
#else
  constexpr uint64_t steps = 30000;
#endif
  d.run(from_env("VX_STEPS", steps));
  if (!d.failed()) d.finish();
  host::set_log_level(VX_LOG_NOTICE);
  printf("%llu snapshots, %llu deleted, %llu views, up to %llu blocks kept\n", static_cast<unsigned long long>(d.made),
         static_cast<unsigned long long>(d.deleted), static_cast<unsigned long long>(d.views),
         static_cast<unsigned long long>(d.kept_blocks));
  EXPECT_GT(d.made, 5u);
  EXPECT_GT(d.views, 5u);
  EXPECT_GT(d.kept_blocks, 100u);
}

// One write over many extents that were born one after the other, as a file that is appended to and synced has them.
TEST(FsSnapshot, OneWriteOverManyExtents) {
  using fs::test::B;
  fs::test::TestFs t;
  auto root = t.root();
  auto f = t.must_make(*root, "log");
  constexpr uint64_t pieces = 40, block = 4096;
  for (uint64_t i = 0; i < pieces; i++) {
    ASSERT_TRUE(fs::write_file(*f, B(std::string(block, static_cast<char>('a' + i % 26))), i * block, t.now()).ok());
    t.commit();
  }
  auto id = t.fs().snapshot_create(B("s"));
  ASSERT_TRUE(id.ok());
  // As a host with a page cache: all of it is reserved, then given blocks and completed at once.
  fs::MapOut m;
  for (uint64_t at = 0; at < pieces * block;) {
    ASSERT_TRUE(fs::map_reserve(*f, at, pieces * block - at, m).ok());
    at = m.off + m.len;
  }
  auto *buf = static_cast<uint8_t *>(aligned_alloc(block, pieces * block));
  memset(buf, 'N', pieces * block);
  for (uint64_t at = 0; at < pieces * block;) {
    ASSERT_TRUE(fs::map_allocate(*f, at, pieces * block - at, false, m).ok());
    ASSERT_TRUE(m.flags & VX_MAP_F_INFLIGHT) << "would be written in place";
    ASSERT_TRUE(t.volume().write_blocks(m.disk / block, {buf, m.len}).ok());
    at += m.len;
  }
  auto sums = fs::test::sums_of({buf, pieces * block});
  free(buf);
  ASSERT_TRUE(fs::write_done(*f, 0, pieces * block, pieces * block, 0, sums.data()).ok());
  EXPECT_EQ(fs::test::TestFs::read(*f), std::string(pieces * block, 'N'));
  EXPECT_EQ(f->attributes().blocks, pieces);
  {
    auto v = t.volume().open_snapshot(*id, {});
    ASSERT_TRUE(v.ok());
    auto then = fs::Filesystem::open(**v, {});
    ASSERT_TRUE(then.ok());
    auto old = (*then)->get(f->ino());
    ASSERT_TRUE(old.ok());
    std::string text = fs::test::TestFs::read(**old);
    for (uint64_t i = 0; i < pieces; i++) EXPECT_EQ(text[i * block], static_cast<char>('a' + i % 26));
    old->reset();
    (*then).reset();
    ASSERT_TRUE((*v)->close().ok());
  }
  f.reset();
  root.reset();
  EXPECT_TRUE(t.check());
}

INSTANTIATE_TEST_SUITE_P(All, FsSnapshotModel, ::testing::Values(0, 1),
                         [](const auto &i) { return std::string(i.param ? "with_log" : "without_log"); });

}  // namespace
}  // namespace vexfs::model
