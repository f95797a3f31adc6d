// SPDX-License-Identifier: MIT
// A short run with syncs by the intent log, in which one thing fails: each write, each flush, each read, each
// allocation in turn; and the same while a mount replays the log. Whoever asked is told or served, and what a later
// mount finds is a state of the run, not older than the last sync that returned 0.
//
// VEXFS_FAULTS=all tries every single one where a run in CI takes a sample.
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "../../kernel/core/api_internal.h"
#include "ace_workload.h"

namespace vexfs::crash {
namespace {

using host::FaultDevice;
using vector::test::Mount;

enum class Fault { write, flush, read, allocation };
constexpr const char *kNames[] = {"write", "flush", "read", "allocation"};
constexpr FaultDevice::Kind kKinds[] = {FaultDevice::Kind::write, FaultDevice::Kind::flush, FaultDevice::Kind::read};

// The site after n: the first ones all, then a sample.
int64_t after(int64_t n) {
  static const bool all = getenv("VEXFS_FAULTS") != nullptr;
#if defined(__SANITIZE_ADDRESS__)
  return n + (all || n < 10 ? 1 : 23);
#else
  return n + (all || n < 60 ? 1 : 7);
#endif
}

// Makes request number n of a kind fail, of those that are made while it is not paused.
class Injector {
 public:
  Injector(FaultDevice &dev, Fault kind, bool for_good) : dev_(dev), kind_(kind), for_good_(for_good) {}
  ~Injector() { pause(); }
  void arm(int64_t n) {
    left_ = n;
    resume();
  }
  void pause() {
    if (!armed_) return;
    armed_ = false;
    fired_ = fired_ || (kind_ == Fault::allocation ? host::alloc_failed() : dev_.counters().injected != 0);
    left_ = std::max<int64_t>(0, left_ - static_cast<int64_t>(made() - before_));
    kind_ == Fault::allocation ? host::fail_alloc_after(-1) : dev_.clear();
  }
  void resume() {
    if (fired_ && !for_good_) return;
    before_ = made();
    armed_ = true;
    if (kind_ == Fault::allocation)
      host::fail_alloc_after(left_);
    else
      dev_.fail_after(kKinds[static_cast<int>(kind_)], left_, -EIO, for_good_);
  }
  bool fired() const { return fired_; }

 private:
  uint64_t made() const {
    auto c = dev_.counters();
    uint64_t all[] = {c.writes, c.flushes, c.reads, host::alloc_stats().calls};
    return all[static_cast<int>(kind_)];
  }
  FaultDevice &dev_;
  Fault kind_;
  bool for_good_, armed_ = false, fired_ = false;
  int64_t left_ = 0;
  uint64_t before_ = 0;
};

struct FixedStep {
  void (*run)(Session &s);
  Persist persist;
};
constexpr uint32_t kFile = disk::kModeFile | 0644;
constexpr FixedStep kSteps[] = {
    {[](Session &s) { s.make("A", "bar", kFile); }, Persist::none},
    {[](Session &s) { s.append("A/foo", 9000); }, Persist::sync},
    {[](Session &s) { s.add_row("B/foo"); }, Persist::fsync},
    {[](Session &s) { s.write("A/bar", 0, 300); }, Persist::none},
    {[](Session &s) { s.add_rows("B"); }, Persist::sync},
    {[](Session &s) { s.create_collection("A", VEXFS_INDEX_HNSW); }, Persist::none},
    {[](Session &s) { s.add_row("A/foo"); }, Persist::none},
    {[](Session &s) { s.update_row("B", 2); }, Persist::sync},
    {[](Session &s) { s.rename("A", "bar", "B", "foo"); }, Persist::fsync},  // over the owner of rows
    {[](Session &s) { s.fallocate("A/foo", VX_FALLOC_PUNCH, 4096, 4096); }, Persist::commit},
    {[](Session &s) { s.set_xattr("A/foo", 6000); }, Persist::none},
    {[](Session &s) { s.tmpfile("A", "bar"); }, Persist::sync},
    {[](Session &s) { s.add_row("A"); }, Persist::none},
    {[](Session &s) { s.drop_collection("B"); }, Persist::sync},
    {[](Session &s) { s.truncate("A/foo", 5000); }, Persist::none},
    {[](Session &s) { s.unlink_open("A", "bar"); }, Persist::fsync},
    {[](Session &s) { s.write("A/foo", 20000, 5000); }, Persist::none},
    {[](Session &s) { s.add_row("A/foo"); }, Persist::sync},
};

// What may be said when a request has failed, or an earlier operation that this one builds on. (A write of a part counts
// as ENOSPC here.)
bool fits(int err, Fault kind) {
  for (int e : {0, -ENOENT, -EEXIST, -ENOSPC, kind == Fault::allocation ? -ENOMEM : -EIO})
    if (err == e) return true;
  return kind != Fault::allocation && err == -EROFS;
}

class LogFaults : public ::testing::Test {
 protected:
  void SetUp() override {
    host::set_log_level(VX_LOG_ERR - 1);
    start_ = starting_image();
  }
  void TearDown() override {
    host::fail_alloc_after(-1);
    host::set_log_level(VX_LOG_NOTICE);
    host::unseed_random();
    host::unfix_clock();
  }

  // A run on a device of its own.
  struct Recorded {
    explicit Recorded(const host::MemDevice &start) : dev(start), faulty(&dev) {}
    SimDevice dev;
    FaultDevice faulty;
    std::optional<History> history;
    bool fired = false;
    std::unique_ptr<host::MemDevice> before_unmount;
  };
  std::unique_ptr<Recorded> record(Fault kind, int64_t n, bool for_good);
  void steps(Mount &m, Session &s, Fault kind);
  void one_kind(Fault kind, bool for_good);
  void mount_with(const Recorded &run, Fault kind, int64_t n, bool *fired);

  std::unique_ptr<host::MemDevice> start_;
  uint64_t refused_ = 0, images_ = 0;
};

void LogFaults::steps(Mount &m, Session &s, Fault kind) {
  for (unsigned i = 0; i < sizeof kSteps / sizeof kSteps[0]; i++) {
    s.failed = 0;
    s.position = i;
    kSteps[i].run(s);
    ASSERT_TRUE(fits(s.failed, kind)) << "step " << i << ": " << s.failed;
    refused_ += s.failed != 0;
    if (m.fs_info().aborted) return;
    int err = s.persist(kSteps[i].persist);
    ASSERT_TRUE(fits(err, kind)) << "step " << i << ", sync: " << err;
    refused_ += err != 0;
    if (m.fs_info().aborted) return;
  }
}

std::unique_ptr<LogFaults::Recorded> LogFaults::record(Fault kind, int64_t n, bool for_good) {
  host::seed_random(1);
  auto r = std::make_unique<Recorded>(*start_);
  Mount m(kSmallMount, &r->faulty);
  Session s(m);
  s.position = 99;
  s.chmod("", 040755);  // the first sync of a mount is a commit
  EXPECT_EQ(m.commit(), 0);
  r->dev.start_recording();
  r->history.emplace(r->dev, m);
  s.history = &*r->history;
  Injector injector(r->faulty, kind, for_good);
  r->history->looking = [&](bool begin) {
    if (begin) return injector.pause();
    if (kind == Fault::read) (void)vx_fs_cache_shrink(m.fs(), 0, 1000);  // what was looked at is read again
    injector.resume();
  };
  if (n >= 0) injector.arm(n);
  steps(m, s, kind);
  injector.pause();
  r->history->looking = nullptr;
  r->fired = injector.fired();
  r->before_unmount = r->dev.contents().clone();
  if (kind == Fault::allocation && !HasFailure()) {  // that was no reason to become read-only
    EXPECT_FALSE(m.fs_info().aborted);
    EXPECT_EQ(m.commit(), 0);
    r->history->acknowledged(0);
  }
  if (for_good) injector.resume();
  s.close_held();
  m.unmount();
  return r;
}

// Of every eighth site all power cuts are tried, of the others what is there at the end.
void LogFaults::one_kind(Fault kind, bool for_good) {
  uint64_t sites = 0;
  for (int64_t n = 0;; n = after(n)) {
    ASSERT_LT(n, 20000);
    SCOPED_TRACE(std::string(kNames[static_cast<int>(kind)]) + " " + std::to_string(n) + (for_good ? " and on" : ""));
    auto before = host::alloc_stats().outstanding;
    {
      auto run = record(kind, n, for_good);
      if (HasFailure()) return;
      Judge judge(*run->history, run->dev, static_cast<uint64_t>(n));
      images_ += (sites % 8 == 0 ? judge.run() : judge.what_is_there(run->dev.contents())).images;
      if (!run->fired) break;
    }
    ASSERT_EQ(host::alloc_stats().outstanding, before) << "memory leaked";
    sites++;
    if (HasFailure()) return;
  }
  printf("explored: %llu sites at which one %s fails%s, %llu calls refused, %llu images\n",
         static_cast<unsigned long long>(sites), kNames[static_cast<int>(kind)], for_good ? " and all after it" : "",
         static_cast<unsigned long long>(refused_), static_cast<unsigned long long>(images_));
  EXPECT_GT(sites, 3u);
}

TEST_F(LogFaults, EveryWriteFailsOnce) { one_kind(Fault::write, false); }
TEST_F(LogFaults, EveryWriteFailsForGood) { one_kind(Fault::write, true); }
TEST_F(LogFaults, EveryFlushFailsOnce) { one_kind(Fault::flush, false); }
TEST_F(LogFaults, EveryFlushFailsForGood) { one_kind(Fault::flush, true); }
TEST_F(LogFaults, EveryReadFailsOnce) { one_kind(Fault::read, false); }
TEST_F(LogFaults, EveryAllocationFailsOnce) { one_kind(Fault::allocation, false); }

// A mount with a log to replay, under a fault; then one without.
void LogFaults::mount_with(const Recorded &run, Fault kind, int64_t n, bool *fired) {
  History::Moment end{run.dev.events(), run.dev.events()};
  auto image = run.before_unmount->clone();
  auto before = host::alloc_stats().outstanding;
  {
    FaultDevice faulty(image.get());
    Injector injector(faulty, kind, false);
    injector.arm(n);
    vx_mount_opts o{};
    vx_fs *fs = nullptr;
    int err = vx_fs_mount(&faulty, &o, &fs);
    if (err == 0) vx_fs_unmount(fs);
    injector.pause();
    *fired = injector.fired();
    ASSERT_TRUE(err == 0 || *fired) << err;
    ASSERT_TRUE(fits(err, kind)) << err;
    refused_ += err != 0;
  }
  ASSERT_EQ(host::alloc_stats().outstanding, before) << "memory leaked";
  {
    Mount m(kSmallMount, image.get());
    ASSERT_TRUE(m.fs() && m.root());
    auto why = run.history->refuse(take_snapshot(m), end);
    ASSERT_FALSE(why) << *why;
  }
  ASSERT_EQ(errors_found(image.get()), "");
}

TEST_F(LogFaults, WhileTheLogIsReplayed) {
  auto run = record(Fault::write, -1, false);
  ASSERT_FALSE(HasFailure());
  {
    auto image = run->before_unmount->clone();
    Mount m(kSmallMount, image.get());
    ASSERT_GT(m.fs()->volume->counters().log_replayed.load(), 0u);
  }
  uint64_t sites = 0;
  for (Fault kind : {Fault::write, Fault::flush, Fault::read, Fault::allocation}) {
    bool fired = true;
    for (int64_t n = 0; fired; n++) {
      SCOPED_TRACE(std::string(kNames[static_cast<int>(kind)]) + " " + std::to_string(n));
      ASSERT_NO_FATAL_FAILURE(mount_with(*run, kind, n, &fired));
      sites += fired;
    }
  }
  printf("explored: %llu sites at which something fails while the log is replayed, %llu mounts refused\n",
         static_cast<unsigned long long>(sites), static_cast<unsigned long long>(refused_));
  EXPECT_GT(refused_, 20u);
}

}  // namespace
}  // namespace vexfs::crash
