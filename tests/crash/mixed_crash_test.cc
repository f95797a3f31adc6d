// SPDX-License-Identifier: MIT
// Power cuts under long random runs of files and vectors together, on a disk that is nearly full: operations fail for
// lack of space, and commits happen in the middle of them, unasked, to find some.
//
// VX_SEED=N replays one run, VX_CRASH_SECONDS=N goes on for so long.
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "../../kernel/core/api_internal.h"
#include "session.h"

namespace vexfs::crash {
namespace {

using vector::test::Mount;

#if defined(__SANITIZE_ADDRESS__)
constexpr int kSeconds = 4, kOperations = 60;
#else
constexpr int kSeconds = 8, kOperations = 120;
#endif
constexpr uint32_t kBlock = 4096;
constexpr uint64_t kBlocksLeft = 70;  // for the run, of the whole disk

struct Figures {
  Tally tally;
  uint64_t runs = 0, operations = 0, full = 0, forced = 0, logged = 0;
};

class MixedRun {
 public:
  explicit MixedRun(uint64_t seed) : seed_(seed), rng_(seed), dev_(6 << 20) {}

  void record();
  void judge(Figures &f) {
    f.tally += Judge(*history_, dev_, seed_).run();
    f.runs++;
    f.operations += kOperations;
    f.full += full_;
    f.forced += forced_;
    f.logged += logged_;
  }

 private:
  void leave_little_space(Mount &m);
  void operate(Session &s);
  void change_names(Session &s);
  void change_file(Session &s);
  void change_vectors(Session &s);
  void persist(Mount &m, Session &s);
  void count(Mount &m);
  std::string name() { return std::string("n") + std::to_string(rng_() % 9); }
  std::string dir();   // one that is there
  std::string file();  // likewise, or ""
  std::string any();   // file or directory

  uint64_t seed_;
  std::mt19937_64 rng_;
  SimDevice dev_;
  std::optional<History> history_;
  uint64_t full_ = 0, forced_ = 0, logged_ = 0;
};

// A file without contents holds most of the disk: it costs nothing to compare.
void MixedRun::leave_little_space(Mount &m) {
  vx_inode *filler = m.make(m.root(), "filler");
  vx_time t{1, 0, 0};
  ASSERT_EQ(m.commit(), 0);
  uint64_t left = m.fs_info().blocks_avail, at = 0;
  ASSERT_GT(left, kBlocksLeft);
  // Step by step: each promises space for as many items as there could be, and gives it back.
  for (uint64_t n; left > kBlocksLeft; at += n, left -= n) {
    n = std::min<uint64_t>(left - kBlocksLeft, 64);
    ASSERT_EQ(vx_fallocate(filler, VX_FALLOC_KEEP_SIZE, at * kBlock, n * kBlock, 0, &t), 0);
  }
  m.close(filler);
  ASSERT_EQ(m.commit(), 0);
}

std::string MixedRun::dir() {
  std::vector<std::string> all;
  for (auto &[path, ino] : history_->latest().names)
    if (path.back() == '/') all.push_back(path);
  const std::string &p = all[rng_() % all.size()];
  return p.size() < 2 ? "" : p.substr(1, p.size() - 2);
}

std::string MixedRun::file() {
  std::vector<std::string> all;
  for (auto &[path, ino] : history_->latest().names)
    if (path.back() != '/' && path != "/filler") all.push_back(path.substr(1));
  return all.empty() ? "filler" : all[rng_() % all.size()];
}

std::string MixedRun::any() { return rng_() % 3 ? file() : dir(); }

void MixedRun::change_names(Session &s) {
  constexpr uint32_t file_mode = disk::kModeFile | 0644, dir_mode = disk::kModeDir | 0755;
  switch (rng_() % 10) {
    case 0:
    case 1:
      return s.make(dir(), name(), file_mode);
    case 2:
      return s.make(dir(), name(), dir_mode);
    case 3:
      return s.make(dir(), name(), disk::kModeLink | 0777, "a target");
    case 4:
      return s.link(file(), dir(), name());
    case 5:
      return s.unlink(dir(), name(), rng_() % 4 == 0);
    case 6:
    case 7:
      return s.rename(dir(), name(), dir(), name(), rng_() % 5 == 0 ? VX_RENAME_EXCHANGE : 0);
    case 8:
      return s.tmpfile(dir(), name());
    default:
      return s.unlink_open(dir(), name());
  }
}

// A commit may come between two transactions of one operation, so each of these is one, as far as can be seen: a block
// is written at a time, and no more is punched or zeroed than one transaction does.
void MixedRun::change_file(Session &s) {
  std::string f = file();
  if (f == "filler") return;
  uint64_t block = rng_() % 12;
  switch (rng_() % 13) {
    case 10:
    case 11:
    case 12: {
      std::string from = file();
      if (from == "filler") return;
      uint64_t first = rng_() % 12;
      for (uint64_t n = 1 + rng_() % 4; n; n--, block++, first++)
        if (from != f || first != block) s.clone(from, first * kBlock, f, block * kBlock, kBlock);
      return;
    }
    case 0:
    case 1:
    case 2:
      for (uint64_t n = 1 + rng_() % 5; n; n--, block++) s.write(f, block * kBlock, kBlock);
      return;
    case 3:
      return s.write(f, block * kBlock + rng_() % 2000, 1 + rng_() % 2000);
    case 4:
      return s.write(f, 0, 1 + rng_() % 700);  // kept inside the tree, if it is all there is
    case 5:
      return s.truncate(f, rng_() % 2 ? rng_() % 40000 : block * kBlock);
    case 6:
      return s.fallocate(f, VX_FALLOC_PUNCH, block * kBlock, (1 + rng_() % 6) * kBlock);
    case 7:
      return rng_() % 2 ? s.fallocate(f, VX_FALLOC_KEEP_SIZE, block * kBlock, (1 + rng_() % 6) * kBlock)
                        : s.fallocate(f, VX_FALLOC_ZERO, block * kBlock, kBlock);
    case 8:
      return s.set_xattr(any(), rng_() % 3 ? rng_() % 100 : rng_() % 9000);
    default:
      return rng_() % 2 ? s.remove_xattr(any()) : s.chmod(f, disk::kModeFile | (rng_() & 0777));
  }
}

void MixedRun::change_vectors(Session &s) {
  switch (rng_() % 10) {
    case 0:
      if (rng_() % 2) return s.create_collection(dir(), rng_() % 2 ? VEXFS_INDEX_FLAT : VEXFS_INDEX_HNSW);
      return;
    case 1:
      if (rng_() % 5 == 0) return s.drop_collection(dir());
      return;
    case 2:
    case 3:
    case 4:
      return s.add_row(file(), rng_() % 8 ? 0 : VEXFS_VEC_DURABLE);
    case 5:
    case 6:
      return s.add_row(dir());
    case 7:
      return s.update_row(dir(), 1 + rng_() % 12);
    case 8:
      return s.delete_row(dir(), 1 + rng_() % 12);
    default:
      return s.checkpoint(dir());
  }
}

void MixedRun::operate(Session &s) {
  s.failed = 0;
  switch (rng_() % 3) {
    case 0:
      change_names(s);
      break;
    case 1:
      change_file(s);
      break;
    default:
      change_vectors(s);
  }
  full_ += s.failed == -ENOSPC;
}

void MixedRun::count(Mount &m) {
  auto &c = m.fs()->volume->counters();
  forced_ += c.commits_forced.load();
  logged_ += c.log_groups.load();
}

void MixedRun::persist(Mount &m, Session &s) {
  unsigned which = static_cast<unsigned>(rng_() % 16);
  if (which < 15) {
    ASSERT_EQ(s.persist(which < 6 ? Persist::fsync : which < 12 ? Persist::sync : Persist::commit), 0);
    return;
  }
  s.close_held();
  count(m);
  ASSERT_NO_FATAL_FAILURE(m.remount());
  history_->acknowledged(0);
  history_->note();
  history_->acknowledged(0);
}

void MixedRun::record() {
  host::seed_random(seed_);
  store::FormatOptions f;
  f.node_size = 4096;
  f.node_copies = static_cast<u8>(1 + seed_ % 2);
  f.log_blocks = disk::kLogBytesMin / kBlock;
  ASSERT_TRUE(store::format(&dev_, f, nullptr).ok());
  Mount m(kSmallMount, &dev_);
  ASSERT_NO_FATAL_FAILURE(leave_little_space(m));
  Session s(m);
  s.create_collection("", VEXFS_INDEX_FLAT);
  ASSERT_EQ(m.commit(), 0);
  dev_.start_recording();
  history_.emplace(dev_, m, false);
  s.history = &*history_;
  for (int i = 1; i <= kOperations; i++) {
    s.position = static_cast<unsigned>(i);
    operate(s);
    ASSERT_FALSE(m.fs_info().aborted) << "operation " << i;
    if (rng_() % 5) continue;
    ASSERT_NO_FATAL_FAILURE(persist(m, s));
  }
  count(m);
}

TEST(MixedCrash, FilesAndVectorsOnAFullDisk) {
  host::set_log_level(VX_LOG_ERR);
  host::fix_clock(1700000000, 0);
  const char *s = getenv("VX_SEED"), *budget = getenv("VX_CRASH_SECONDS");
  uint64_t first = s ? strtoull(s, nullptr, 0) : 1, seed = first;
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(budget ? atoi(budget) : kSeconds);
  Figures f;
  do {
    SCOPED_TRACE("VX_SEED=" + std::to_string(seed) + " mixed_crash_test");
    MixedRun run(seed++);
    run.record();
    if (!HasFailure()) run.judge(f);
    // However slow the machine: two runs, and more until the disk was full in one of them.
  } while (!HasFailure() && (std::chrono::steady_clock::now() < end || f.runs < 2 ||
                             ((f.full == 0 || f.forced == 0 || f.tally.replayed == 0) && f.runs < 20)));
  auto n = [](uint64_t v) { return static_cast<unsigned long long>(v); };
  printf(
      "explored: seeds %llu to %llu, %llu operations, %llu failed on a full disk, %llu commits forced, %llu groups "
      "logged, %llu images, %llu replayed a log, %llu cut again\n",
      n(first), n(seed - 1), n(f.operations), n(f.full), n(f.forced), n(f.logged), n(f.tally.images),
      n(f.tally.replayed), n(f.tally.second_cuts));
  if (!HasFailure()) {
    EXPECT_GT(f.full, 0u);
    EXPECT_GT(f.forced, 0u);
    EXPECT_GT(f.tally.replayed, 0u);
  }
  host::set_log_level(VX_LOG_NOTICE);
  host::unseed_random();
  host::unfix_clock();
}

}  // namespace
}  // namespace vexfs::crash
