// SPDX-License-Identifier: MIT
// What a sync of the filesystem sends to the device, and in which order: whatever a record lets a reader see is flushed
// before the record is written.
#include "fs_fixture.h"

namespace vexfs::fs::test {
namespace {

class FsSync : public ::testing::Test {
 protected:
  FsSync() : t_(FixtureOptions{.log_blocks = disk::kLogBytesMin / 4096}), device_(&t_.device()) {
    EXPECT_EQ(t_.unmount(), Errno::ok);
    t_.use_device(&device_);
    EXPECT_EQ(t_.mount(), Errno::ok);
    file_ = t_.must_make(*t_.root(), "file");
    other_ = t_.must_make(*t_.root(), "other");
    EXPECT_TRUE(write_file(*file_, B(std::string(5000, 'a')), 0, TestFs::now()).ok());
    EXPECT_TRUE(t_.fs().sync().ok());  // the first of a mount is a commit
    EXPECT_EQ(t_.volume().counters().log_groups.load(), 0u);
    at_ = device_.counters();
  }
  ~FsSync() override {
    file_.reset();
    other_.reset();
    EXPECT_TRUE(t_.check());
    EXPECT_EQ(t_.unmount(), Errno::ok);  // before the device goes
    t_.use_device(nullptr);
    EXPECT_EQ(t_.mount(), Errno::ok);
  }
  // What a sync on behalf of another file sends.
  std::string sync_other() {
    at_ = device_.counters();
    EXPECT_TRUE(t_.fs().sync(*other_).ok());
    auto now = device_.counters();
    return std::to_string(now.flushes - at_.flushes) + " flushes, " + std::to_string(now.writes - at_.writes) +
           " writes, " + std::to_string(now.fua - at_.fua) + " fua";
  }

  TestFs t_;
  host::FaultDevice device_;
  InodeRef file_, other_;
  host::FaultDevice::Counters at_;
};

constexpr const char *flush_first = "1 flushes, 1 writes, 1 fua";
constexpr const char *flush_after = "1 flushes, 1 writes, 0 fua";

TEST_F(FsSync, NamesNeedNoFlushBefore) {
  (void)t_.must_make(*t_.root(), "name");
  EXPECT_EQ(sync_other(), flush_after);
}

TEST_F(FsSync, NewBlocksDo) {
  ASSERT_TRUE(write_file(*file_, B(std::string(9000, 'b')), 20000, TestFs::now()).ok());
  EXPECT_EQ(sync_other(), flush_first);
}

TEST_F(FsSync, DataInABlockThatWasThereDoes) {
  ASSERT_TRUE(write_file(*file_, B("more"), 5000, TestFs::now()).ok());
  EXPECT_EQ(sync_other(), flush_first);
}

TEST_F(FsSync, ZerosBehindAnOldEndDo) {
  ASSERT_TRUE(truncate_file(*file_, 4200, TestFs::now()).ok());
  (void)sync_other();
  ASSERT_TRUE(truncate_file(*file_, 6000, TestFs::now()).ok());
  EXPECT_EQ(sync_other(), flush_first);
  ASSERT_TRUE(fallocate(*file_, 0, 0, 7000, 7000, TestFs::now()).ok());
  EXPECT_EQ(sync_other(), flush_first);
}

TEST_F(FsSync, UnwrittenBlocksThatWereWrittenDo) {
  ASSERT_TRUE(fallocate(*file_, VX_FALLOC_KEEP_SIZE, 40960, 8192, 0, TestFs::now()).ok());
  (void)sync_other();
  ASSERT_TRUE(write_file(*file_, B(std::string(8192, 'c')), 40960, TestFs::now()).ok());
  EXPECT_EQ(sync_other(), flush_first);
}

}  // namespace
}  // namespace vexfs::fs::test
