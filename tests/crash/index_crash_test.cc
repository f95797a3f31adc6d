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
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t one_in = 90;  // of the images of a long run
#else
constexpr size_t one_in = 30;
#endif

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

class IndexImages : public testing::Test {
 protected:
  explicit IndexImages(uint16_t kind) : kind_(kind), dev_(24 << 20) {}

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
    ASSERT_EQ(m.create(m.root(), dim, VEXFS_F32, VEXFS_L2, kind_, nullptr, 32, 40), 0);
    ASSERT_NO_FATAL_FAILURE(add_rows(m, rows_before));
    ASSERT_NO_FATAL_FAILURE(checkpoint(m));
    before_ = blobs_of(m, &first_);
    ASSERT_EQ(first_.covered, rows_before);
    ASSERT_EQ(before_.size(), first_.nblobs);
    ASSERT_GE(before_.size(), 2u);
  }

  // any: a checkpoint between the two may be there, too.
  void judge(std::unique_ptr<host::MemDevice> image, const char *what, size_t event, bool any = false) {
    SCOPED_TRACE(std::string(what) + " at event " + std::to_string(event));
    ASSERT_EQ(Mount::findings(image.get()), "");
    Mount m(Options{}, image.get());
    disk::IndexHeaderItem head{};
    for (const Item &i : blobs_of(m, &head)) leftovers_ += disk::blob_generation(i.off) > head.generation;
    ASSERT_TRUE(head.generation == first_.generation || head.generation == second_.generation || any);
    ASSERT_TRUE(head.generation >= first_.generation && head.generation <= second_.generation);
    judged_++;
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
  const uint16_t kind_;
  std::mt19937_64 rng_{5};
  CommittingDevice dev_;
  disk::IndexHeaderItem first_{}, second_{};
  std::vector<Item> before_;
  size_t images_ = 0, judged_ = 0, old_ = 0, leftovers_ = 0;
};
class IndexCrash : public IndexImages, public testing::WithParamInterface<uint16_t> {
 protected:
  IndexCrash() : IndexImages(GetParam()) {}
};
class DiskAnnCrash : public IndexImages {
 protected:
  DiskAnnCrash() : IndexImages(VEXFS_INDEX_DISKANN) {}
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

// Dead rows leave a graph on disk, and it is saved as often as it wants to be: each image has a graph without faults.
TEST_F(DiskAnnCrash, DeadRowsLeaveWholeOrNotAtAll) {
  ASSERT_NO_FATAL_FAILURE(begin());
  uint64_t nodes = 0;
  {
    Options o;
    o.cache_bytes = 4 << 20;  // lists are saved before the pass is over
    Mount m(o, &dev_);
    for (uint64_t id = 1; id < rows_before; id += 2) ASSERT_EQ(m.del(m.root(), id), 0);
    ASSERT_EQ(m.commit(), 0);
    dev_.start_recording();
    dev_.arm(m.fs()->volume.get());
    ASSERT_NO_FATAL_FAILURE(add_rows(m, 1));  // where no thread does it, who adds rows does
    ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_CHECKPOINT), 0);
    dev_.arm(nullptr);
    ASSERT_EQ(m.commit(), 0);
    blobs_of(m, &second_);
    vexfs_index x;
    ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_STATUS, &x), 0);
    EXPECT_LE(x.dead, rows_before / 8);
    EXPECT_GE(second_.generation, first_.generation + 2);
    nodes = x.indexed + x.dead;
  }
  EXPECT_LT(nodes, rows_before);
  std::mt19937_64 rng(3);
  for (CrashImages at(dev_);; at.step()) {
    if (images_ % one_in == 0 || at.at_end()) {
      ASSERT_NO_FATAL_FAILURE(judge(at.some_arrived(rng, 0.5, 0.4), "some arrived", at.position(), true));
    } else {
      images_++;
    }
    if (at.at_end()) break;
  }
  EXPECT_GT(old_, 0u);
  printf("explored: %zu images, %zu with the checkpoint before\n", judged_, old_);
  host::unseed_random();
  host::unfix_clock();
}

// An index that is built aside is saved as it goes: until it is the collection's, the one before counts.
TEST_F(DiskAnnCrash, ARebuildThatIsCutLeavesTheOneBefore) {
  ASSERT_NO_FATAL_FAILURE(begin());
  size_t most = 0;
  {
    Options o;
    o.cache_bytes = 4 << 20;
    Mount m(o, &dev_);
    dev_.start_recording();
    dev_.arm(m.fs()->volume.get());
    ASSERT_EQ(m.index(m.root(), VEXFS_INDEX_REBUILD), 0);
    dev_.arm(nullptr);
    ASSERT_EQ(m.commit(), 0);
    most = blobs_of(m, &second_).size();
    ASSERT_EQ(most, second_.nblobs) << "what was saved in between is gone";
    EXPECT_GE(second_.generation, first_.generation + 2);
  }
  std::mt19937_64 rng(3);
  for (CrashImages at(dev_);; at.step()) {
    if (images_ % one_in == 0) {
      ASSERT_NO_FATAL_FAILURE(judge(at.some_arrived(rng, 0.5, 0.4), "some arrived", at.position()));
    } else {
      images_++;
    }
    if (!at.at_end()) continue;
    ASSERT_NO_FATAL_FAILURE(judge(at.all_arrived(), "all arrived", at.position()));
    break;
  }
  EXPECT_GT(old_, 0u);
  EXPECT_LT(old_, judged_);
  EXPECT_GT(leftovers_, 0u);
  printf("explored: %zu images, %zu with the checkpoint before\n", judged_, old_);
  host::unseed_random();
  host::unfix_clock();
}

}  // namespace
}  // namespace vexfs::crash
