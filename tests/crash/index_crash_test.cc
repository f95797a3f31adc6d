// SPDX-License-Identifier: MIT
// Checkpoints of indexes under power cuts: of one that writes what changed since the last, cut at every event, no image
// has a block twice or not at all, nor a checkpoint that is not the one before or the new one, whole; and the next
// checkpoint frees what the cut one left.
// Thread sanitizer: none
#include <cstdio>
#include <map>
#include <thread>

#include "../../kernel/core/api_internal.h"
#include "../unit/vector_fixture.h"
#include "sim_device.h"

namespace vexfs::crash {
namespace {

using vector::test::Mount;
using vector::test::Options;

constexpr uint32_t dim = 16;

struct Item {
  disk::BlobItem blob;
  uint64_t off;
};

// What the collections tree says of blobs, and the header.
std::vector<Item> blobs_of(Mount &m, disk::IndexHeaderItem *head) {
  std::vector<Item> all;
  auto take = [&](const store::Key &k, Bytes b) {
    if (k.type == static_cast<u8>(disk::VectorItem::index_header)) memcpy(head, b.data(), sizeof *head);
    if (k.type != static_cast<u8>(disk::VectorItem::index_blob)) return true;
    Item i;
    i.off = k.off;
    memcpy(&i.blob, b.data(), sizeof i.blob);
    all.push_back(i);
    return true;
  };
  EXPECT_TRUE(m.fs()->volume->tree(store::TreeId::collections).scan(store::Key::min(), store::Key::max(), take).ok());
  return all;
}

// Commits before each write of the thread that it is armed for, so that a checkpoint is many commits.
class CommittingDevice : public SimDevice {
 public:
  using SimDevice::SimDevice;
  void arm(store::Volume *v) {
    volume_ = v;
    thread_ = std::this_thread::get_id();
  }
  int submit(vx_io *ios, size_t n) override {
    if (store::Volume *v = volume_; v && n && ios[0].flags & VX_IO_WRITE && std::this_thread::get_id() == thread_) {
      volume_ = nullptr;
      EXPECT_TRUE(v->commit().ok());
      volume_ = v;
    }
    return SimDevice::submit(ios, n);
  }

 private:
  std::atomic<store::Volume *> volume_{nullptr};
  std::thread::id thread_;
};

class IndexCrash : public testing::TestWithParam<uint16_t> {
 protected:
  IndexCrash() : dev_(24 << 20) {}

  void add_rows(Mount &m, uint32_t n) {
    ASSERT_EQ(m.batch(m.root(), VEXFS_BATCH_ADD, vector::test::random_rows(rng_, n, dim), dim, nullptr), 0);
  }
  void checkpoint(Mount &m) {
    ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_BUILD), 0);  // which ends with a checkpoint
    ASSERT_EQ(m.commit(), 0);
  }
  // Rows, and a checkpoint of all of them; recorded from here on.
  void begin() {
    host::seed_random(7);
    host::fix_clock(1700000000, 0);
    ASSERT_TRUE(store::format(&dev_, {}, nullptr).ok());
    Mount m(Options{}, &dev_);
    ASSERT_EQ(m.create(m.root(), dim, VEXFS_F32, VEXFS_L2, GetParam(), nullptr, 32, 40), 0);
    ASSERT_NO_FATAL_FAILURE(add_rows(m, rows_before));
    ASSERT_NO_FATAL_FAILURE(checkpoint(m));
    before_ = blobs_of(m, &first_);
    ASSERT_EQ(first_.covered, rows_before);
    ASSERT_EQ(before_.size(), first_.nblobs);
    ASSERT_GE(before_.size(), 2u);
  }

  void judge(std::unique_ptr<host::MemDevice> image, const char *what, size_t event) {
    SCOPED_TRACE(std::string(what) + " at event " + std::to_string(event));
    ASSERT_EQ(Mount::findings(image.get()), "");
    Mount m(Options{}, image.get());
    disk::IndexHeaderItem head{};
    for (const Item &i : blobs_of(m, &head)) leftovers_ += disk::blob_generation(i.off) > head.generation;
    ASSERT_TRUE(head.generation == first_.generation || head.generation == second_.generation);
    old_ += head.generation == first_.generation;
    vexfs_index x;
    ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_STATUS, &x), 0);
    ASSERT_EQ(x.checkpoint_slots, head.covered) << "the checkpoint was opened";
    std::vector<vexfs_hit> hits;
    ASSERT_EQ(m.search(m.root(), vector::test::Row(dim, 0.25f), 10, &hits), 0);
    ASSERT_EQ(hits.size(), 10u);
    if (images_++ % 8) return;
    ASSERT_NO_FATAL_FAILURE(add_rows(m, 1));
    ASSERT_NO_FATAL_FAILURE(checkpoint(m));
    const std::vector<Item> now = blobs_of(m, &head);
    ASSERT_EQ(now.size(), head.nblobs) << "what the cut one left is gone";
    m.unmount();
    ASSERT_EQ(Mount::findings(image.get()), "");
    ASSERT_EQ(m.mount(), 0);
  }

  static constexpr uint32_t rows_before = 9000;
  std::mt19937_64 rng_{5};
  CommittingDevice dev_;
  disk::IndexHeaderItem first_{}, second_{};
  std::vector<Item> before_;
  size_t images_ = 0, old_ = 0, leftovers_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Kinds, IndexCrash,
                         testing::Values(VEXFS_INDEX_HNSW, VEXFS_INDEX_IVF_FLAT, VEXFS_INDEX_LSH, VEXFS_INDEX_DISKANN),
                         [](const auto &i) {
                           return i.param == VEXFS_INDEX_HNSW      ? "Hnsw"
                                  : i.param == VEXFS_INDEX_LSH     ? "Lsh"
                                  : i.param == VEXFS_INDEX_DISKANN ? "DiskAnn"
                                                                   : "IvfFlat";
                         });

TEST_P(IndexCrash, ACutCheckpointOfWhatChangedLosesNothing) {
  ASSERT_NO_FATAL_FAILURE(begin());
  {
    Mount m(Options{}, &dev_);
    ASSERT_NO_FATAL_FAILURE(add_rows(m, 1));
    ASSERT_EQ(m.commit(), 0);
    dev_.start_recording();
    dev_.arm(m.fs()->volume.get());
    ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_BUILD), 0);
    dev_.arm(nullptr);
    ASSERT_EQ(m.commit(), 0);
    std::map<uint64_t, uint64_t> was;  // by its place
    for (const Item &i : before_) was[i.blob.start] = i.off;
    const std::vector<Item> after = blobs_of(m, &second_);
    ASSERT_EQ(second_.generation, first_.generation + 1);
    ASSERT_EQ(second_.covered, rows_before + 1);
    ASSERT_EQ(after.size(), second_.nblobs);
    size_t kept = 0;
    for (const Item &i : after) {
      if (disk::blob_generation(i.off) == second_.generation) continue;
      kept++;
      EXPECT_EQ(was[i.blob.start], i.off);
    }
    EXPECT_GE(kept, 1u) << "of " << after.size();
    EXPECT_LT(kept, after.size());
  }
  std::mt19937_64 rng(3);
  for (CrashImages at(dev_);; at.step()) {
    ASSERT_NO_FATAL_FAILURE(judge(at.none_arrived(), "nothing arrived", at.position()));
    if (at.volatile_writes()) {
      ASSERT_NO_FATAL_FAILURE(judge(at.some_arrived(rng, 0.4, 0.4), "some arrived", at.position()));
    }
    if (at.at_end()) break;
  }
  EXPECT_GT(old_, 0u);
  EXPECT_LT(old_, images_);
  if (GetParam() == VEXFS_INDEX_HNSW) {  // of the others no more changes than one transaction holds
    EXPECT_GT(leftovers_, 0u);
  }
  printf("explored: %zu images, %zu with the checkpoint before\n", images_, old_);
  host::unseed_random();
  host::unfix_clock();
}

}  // namespace
}  // namespace vexfs::crash
