// SPDX-License-Identifier: MIT
// Corrupts every block that a filesystem needs, one at a time and many at once: what is wrong is always noticed, never
// is anything else returned than what was stored or an error, and a repair brings back all that does not hang on the block.
//
// Run as it is, it takes a share of the blocks. VX_CORRUPT=all in the environment: all of them, each way (make corrupt);
// VX_CORRUPT=N: a share, one case in N. VX_CORRUPT_ROUND=N or N-M: these rounds of ManyAtOnce alone.
#include <cstdio>

#include "repair_fixture.h"

namespace vexfs::repair::test {
namespace {

enum class How { flip, zero, random, stale };
constexpr How kHows[] = {How::flip, How::zero, How::random, How::stale};
constexpr const char *kHowNames[] = {"a bit flipped", "zeroed", "random bytes", "an older version"};

struct Counts {
  u64 cases = 0, same = 0, noticed = 0, harmless = 0, repaired = 0, lost = 0, unmountable = 0;
};

u64 share(u64 usual) {
  const char *e = getenv("VX_CORRUPT");
  if (!e) return usual;
  if (std::string(e) == "all") return 1;
  const u64 n = strtoull(e, nullptr, 10);
  return n ? n : usual;
}

class CorruptBlocks : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    host::set_log_hook([](vx_bdev *, int, const char *) {});
    host::seed_random(42);
    image_ = new Image();
    targets_ = new std::vector<Target>(targets_of(&image_->device()));
    whole_ = new Answers();
    inodes_ = new std::map<std::string, vx_u64>();
    std::string text;
    const auto errors = check_all(&image_->device(), &text);
    ASSERT_TRUE(errors.ok());
    ASSERT_EQ(text, "");
    ASSERT_TRUE(read_everything(&image_->device(), whole_, inodes_));
    for (const auto &[k, v] : *whole_) ASSERT_TRUE(v.has_value()) << k;
    find_older();
  }
  static void TearDownTestSuite() {
    delete inodes_;
    delete whole_;
    delete older_;
    delete targets_;
    delete image_;
    host::unseed_random();
    host::set_log_hook({});
  }

  static std::vector<u8> block_of(host::MemDevice &d, u64 block) {
    std::vector<u8> b(1024);
    d.peek(block * b.size(), b.data(), b.size());
    return b;
  }
  // False: the block says the same as before.
  static bool damage(host::MemDevice &d, u64 block, How how, std::mt19937_64 &rng) {
    const std::vector<u8> was = block_of(d, block);
    std::vector<u8> now = was;
    if (how == How::flip) now[rng() % now.size()] ^= static_cast<u8>(1u << (rng() % 8));
    if (how == How::zero) std::fill(now.begin(), now.end(), u8{0});
    if (how == How::random)
      for (u8 &b : now) b = static_cast<u8>(rng());
    if (how == How::stale) {
      const auto it = image_->history().older.find(block);
      if (it == image_->history().older.end()) return false;
      now = it->second;
    }
    if (now == was) return false;
    d.poke(block * now.size(), now.data(), now.size());
    return true;
  }

  // The path that an answer is about; "" is the root.
  static std::string path_in(const std::string &key) {
    const size_t from = key.find(':') + 1;
    return key.substr(from, key.find_first_of("@ ", from) - from);
  }
  static bool of_snapshot(const std::string &key) { return key.rfind("snapshot ", 0) == 0; }

  // The state before the last commit: what is there when every trace of the newest root is gone.
  static void find_older() {
    older_ = new Answers();
    auto dev = image_->device().clone();
    const auto m = model_of(dev.get());
    newest_ = m->txn % 2;
    std::mt19937_64 rng(1);
    for (u64 at : {m->geo.root_slot[newest_], m->geo.root_mirror[newest_]})
      for (u64 i = 0; i < m->geo.root_blocks; i++) {
        root_blocks_[at == m->geo.root_mirror[newest_]].push_back(at + i);
        damage(*dev, at + i, How::stale, rng);
      }
    ASSERT_EQ(model_of(dev.get())->txn + 1, m->txn);
    ASSERT_TRUE(read_everything(dev.get(), older_));
  }

  // May a mount show the state before the last commit without a word? Only if the newest root is gone and the device is
  // what a power cut during the commit leaves: the first copy of the root torn or not written, the mirror not written.
  static bool as_before_the_root(host::MemDevice &d) {
    host::MemDevice &whole = image_->device();
    bool torn = false, mirror_old = true;
    for (u64 b : root_blocks_[0]) torn = torn || block_of(d, b) != block_of(whole, b);
    for (u64 b : root_blocks_[1]) {
      const auto it = image_->history().older.find(b);
      mirror_old =
          mirror_old && block_of(d, b) == (it != image_->history().older.end() ? it->second : block_of(whole, b));
    }
    return torn && mirror_old;
  }

  // What was read must be what was stored; where the newest root is lost, and that cannot be known or was said, what was
  // stored before.
  static u64 compare_many(host::MemDevice &d, const Answers &now, bool warned) {
    if (warned || as_before_the_root(d)) {
      const auto it = now.find(kLastChange);
      if (it != now.end() && it->second && it->second != whole_->at(kLastChange))
        return compare(now, "before", *older_);
    }
    return compare(now, "before");
  }

  // Never anything else than what was stored. Returns how many errors there were.
  static u64 compare(const Answers &now, const std::string &what, const Answers &stored = *whole_) {
    u64 errors = 0;
    bool row_missing = false;
    for (const auto &[k, v] : now) row_missing = row_missing || (!v && k.find("row:") != std::string::npos);
    for (const auto &[k, v] : now) {
      if (!v) {
        errors++;
        continue;
      }
      if (row_missing && k.find("search:") != std::string::npos) continue;  // it is told which rows are left out
      const auto it = stored.find(k);
      if (it == stored.end())
        ADD_FAILURE() << what << ": answers what was never there: " << k;
      else if (it->second != v)
        ADD_FAILURE() << what << ": wrong answer for " << k;
    }
    return errors;
  }

  // Paths of what hangs on these objects: the inodes, what is below them, the directories they are in, their other names.
  static std::set<std::string> hanging(const std::set<u64> &objects) {
    std::set<std::string> out;
    std::set<u64> inodes;
    for (int round = 0; round < 3; round++) {
      for (const auto &[path, ino] : *inodes_) {
        bool hit = objects.count(ino) || inodes.count(ino) || objects.count(inodes_->at(""));
        for (size_t at = path.rfind('/'); !hit && at != std::string::npos && at; at = path.rfind('/', at - 1)) {
          const auto up = inodes_->find(path.substr(0, at));
          hit = up != inodes_->end() && objects.count(up->second);
        }
        if (!hit) continue;
        out.insert(path);
        inodes.insert(ino);
        if (!path.empty()) out.insert(path.substr(0, path.rfind('/')));
      }
    }
    return out;
  }

  // What may be different after the repair of a single block.
  static bool may_differ(const Target &t, const std::set<std::string> &paths, const std::string &key) {
    if (of_snapshot(key)) return t.of_snapshot || (t.use == Use::node && t.tree == kSnapshots);
    const std::string path = path_in(key);
    const bool vectors = key.rfind("row", 0) == 0 || key.rfind("search", 0) == 0;
    if (path.empty() && (key.rfind("attr", 0) == 0 || key.rfind("names", 0) == 0)) return true;  // lost+found
    if (path.rfind("/lost+found", 0) == 0) return true;
    switch (t.use) {
      case Use::file:
        return paths.count(path) && key.rfind("data", 0) == 0;
      case Use::chunk:
        return vectors;
      case Use::node:
        if (t.level || !t.of_present) return false;
        if (t.tree == kCollections) return vectors;
        if (t.tree != kFs) return false;
        return paths.count(path) || (vectors && (paths.count("/vec") || paths.count("/flat") || !paths.empty()));
      default:
        return false;
    }
  }

  static std::string name_of(const Target &t, How how) {
    return cat("block ", t.block, " (", use_name(t.use),
               t.use == Use::node ? cat(" of tree ", t.tree, " level ", t.level) : "", ") ",
               kHowNames[static_cast<int>(how)]);
  }

  static void one(const Target &t, How how, u64 seed, Counts &c) {
    auto dev = image_->device().clone();
    std::mt19937_64 rng(seed);
    if (!damage(*dev, t.block, how, rng)) {
      c.same++;
      return;
    }
    c.cases++;
    const std::string what = name_of(t, how);
    SCOPED_TRACE(what);
    // Read as it is.
    Answers now;
    const bool mounted = read_everything(dev.get(), &now);
    c.unmountable += !mounted;
    const u64 answered_errors = compare(now, what);
    // Checked.
    u64 warnings = 0;
    std::string text;
    Result<u64> found = check_all(dev.get(), &text, &warnings);
    ASSERT_TRUE(found.ok());
    const bool noticed = *found || warnings || answered_errors || !mounted;
    // The unused ends of a table's last chunk, and of blobs, hold nothing.
    const bool slack = t.use == Use::chunk || t.use == Use::blob || t.use == Use::kept;
    if (!noticed && !slack) ADD_FAILURE() << "nobody has noticed";
    (noticed ? c.noticed : c.harmless)++;
    if (t.use == Use::node && !*found) ADD_FAILURE() << "the check has not noticed";
    // Repaired.
    const Mended m = mend(dev.get(), *found != 0, true, [](vx_bdev *d) { return check_all(d); });
    EXPECT_EQ(m.failure, Errno::ok) << static_cast<int>(m.failure) << "\n" << lines_of(m.actions);
    EXPECT_EQ(m.errors_left, 0u) << lines_of(m.actions);
    Result<u64> left = check_all(dev.get(), &text, &warnings);
    // Data that is damaged in a snapshot, or of rows that are dead now, is told of for as long as it is there.
    EXPECT_TRUE(left.ok() && *left == 0 && (warnings == 0 || slack)) << text << lines_of(m.actions);
    Answers after;
    ASSERT_TRUE(read_everything(dev.get(), &after)) << lines_of(m.actions);
    const u64 lost = judge(t, after, m);
    c.lost += lost;
    c.repaired += m.written;
  }

  static u64 judge(const Target &t, const Answers &after, const Mended &m) {
    const std::set<std::string> paths = hanging(t.objects);
    const std::string said = lines_of(m.actions);
    u64 lost = 0;
    for (const auto &[k, v] : *whole_) {
      const auto it = after.find(k);
      if (it != after.end() && it->second == v) continue;
      lost++;
      if (!may_differ(t, paths, k)) {
        ADD_FAILURE() << "after the repair something else has changed: " << k << "\n" << said;
        continue;
      }
      if (it == after.end() || !it->second || of_snapshot(k) || k.rfind("data", 0) != 0) continue;
      const std::string path = path_in(k);
      EXPECT_TRUE(said.find(path) != std::string::npos ||
                  said.find(cat("inode ", inodes_->at(path))) != std::string::npos)
          << "contents have changed without a word: " << k << "\n"
          << said;
    }
    for (const auto &[k, v] : after)
      if (!whole_->count(k) && !may_differ(t, paths, k)) ADD_FAILURE() << "new after the repair: " << k << "\n" << said;
    return lost;
  }

  static Image *image_;
  static std::vector<Target> *targets_;
  static constexpr const char *kLastChange = "names:/d3";  // what the last commit has changed
  static Answers *whole_, *older_;
  static unsigned newest_;                  // slot
  static std::vector<u64> root_blocks_[2];  // of that slot: first copy, mirror
  static std::map<std::string, vx_u64> *inodes_;
};
Image *CorruptBlocks::image_;
std::vector<Target> *CorruptBlocks::targets_;
Answers *CorruptBlocks::whole_, *CorruptBlocks::older_;
unsigned CorruptBlocks::newest_;
std::vector<u64> CorruptBlocks::root_blocks_[2];
std::map<std::string, vx_u64> *CorruptBlocks::inodes_;

TEST_F(CorruptBlocks, OneAtATime) {
  const u64 step = share(61);
  std::map<Use, Counts> counts;
  u64 n = 0;
  std::map<std::string, u64> kinds;  // the first of each kind is always looked at
  for (const Target &t : *targets_) {
    for (How how : kHows) {
      const std::string kind =
          cat(use_name(t.use), " ", t.tree, " ", std::min<u8>(t.level, 1), " ", static_cast<int>(how));
      if (n++ % step && kinds[kind]++) continue;
      one(t, how, n, counts[t.use]);
      if (HasFatalFailure()) return;
    }
  }
  for (const auto &[use, c] : counts)
    printf(
        "%-16s %6llu cases, %6llu noticed, %4llu in what nothing refers to, %5llu not mountable before, %6llu written "
        "by repair, %6llu answers lost\n",
        use_name(use), static_cast<unsigned long long>(c.cases), static_cast<unsigned long long>(c.noticed),
        static_cast<unsigned long long>(c.harmless), static_cast<unsigned long long>(c.unmountable),
        static_cast<unsigned long long>(c.repaired), static_cast<unsigned long long>(c.lost));
}

TEST_F(CorruptBlocks, ManyAtOnce) {
  const char *e = getenv("VX_CORRUPT"), *only = getenv("VX_CORRUPT_ROUND");
  u64 first = 0, end = e && std::string(e) == "all" ? 1000 : 12;
  if (only) {
    char *rest = nullptr;
    first = strtoull(only, &rest, 10);
    end = (*rest == '-' ? strtoull(rest + 1, nullptr, 10) : first) + 1;
  }
  const u64 rounds = end - first;
  u64 mended = 0, lost = 0, refused = 0;
  for (u64 round = first; round < end; round++) {
    SCOPED_TRACE(cat("round ", round));
    std::mt19937_64 rng(round + 1000);
    auto dev = image_->device().clone();
    const u64 n = 2 + rng() % (round % 3 ? 8 : 80);
    std::string what;
    for (u64 i = 0; i < n; i++) {
      const Target &t = (*targets_)[rng() % targets_->size()];
      const How how = kHows[rng() % 4];
      if (damage(*dev, t.block, how, rng)) what += name_of(t, how) + "\n";
    }
    SCOPED_TRACE(what);
    Answers now;
    bool warned = false;
    host::set_log_hook([&](vx_bdev *, int level, const char *line) {
      warned = warned || (level <= VX_LOG_WARN && std::string(line).find("later state") != std::string::npos);
    });
    const bool mounted = read_everything(dev.get(), &now);
    host::set_log_hook([](vx_bdev *, int, const char *) {});
    compare_many(*dev, now, warned);
    const Result<u64> found = check_all(dev.get());
    ASSERT_TRUE(found.ok() || (found.code() == Errno::inval && !mounted));  // inval: no superblock is left
    auto before = dev->clone();
    const Mended m = mend(dev.get(), true, true, [](vx_bdev *d) { return check_all(d); });
    if (m.failure != Errno::ok || m.errors_left) {  // then nothing was written
      std::string text;
      host::OverlayDevice trial(dev.get());
      EXPECT_EQ(m.errors_left, 0u) << lines_of(m.actions);
      EXPECT_TRUE(m.failure == Errno::ok || m.failure == Errno::inval || m.failure == Errno::corrupt)
          << static_cast<int>(m.failure);
      refused++;
      continue;
    }
    mended++;
    std::string text;
    Result<u64> left = check_all(dev.get(), &text);
    EXPECT_TRUE(left.ok() && *left == 0) << text;
    Answers after;
    ASSERT_TRUE(read_everything(dev.get(), &after)) << lines_of(m.actions);
    const std::string said = lines_of(m.actions);
    for (const auto &[k, v] : *whole_) {
      const auto it = after.find(k);
      if (it != after.end() && it->second == v) continue;
      lost++;
      if (it == after.end() || !it->second || of_snapshot(k) || k.rfind("data", 0) != 0) continue;
      const std::string path = path_in(k);
      EXPECT_TRUE(said.find(path) != std::string::npos ||
                  said.find(cat("inode ", inodes_->at(path))) != std::string::npos)
          << "contents have changed without a word: " << k;
    }
  }
  printf("%llu images with many damaged blocks: %llu repaired, %llu left alone, %llu answers lost of %llu\n",
         static_cast<unsigned long long>(rounds), static_cast<unsigned long long>(mended),
         static_cast<unsigned long long>(refused), static_cast<unsigned long long>(lost),
         static_cast<unsigned long long>(rounds * whole_->size()));
}

// The newest root is lost in each way that its two copies can be. What no power cut leaves is noticed: nothing is
// written on top of the older state, who reads is told, and only -y accepts it.
TEST_F(CorruptBlocks, NewestRootLost) {
  for (How first : {How::flip, How::zero, How::random, How::stale}) {
    for (How second : {How::flip, How::zero, How::random, How::stale}) {
      SCOPED_TRACE(cat(kHowNames[static_cast<int>(first)], ", mirror ", kHowNames[static_cast<int>(second)]));
      auto dev = image_->device().clone();
      std::mt19937_64 rng(7);
      // All of a stale root, so that it is one; of a damaged one the first block.
      for (unsigned mirror = 0; mirror < 2; mirror++)
        for (u64 b : root_blocks_[mirror]) {
          damage(*dev, b, mirror ? second : first, rng);
          if ((mirror ? second : first) != How::stale) break;
        }
      const bool unknowable = second == How::stale;
      EXPECT_EQ(as_before_the_root(*dev), unknowable);
      bool warned = false;
      host::set_log_hook([&](vx_bdev *, int level, const char *line) {
        warned = warned || (level <= VX_LOG_WARN && std::string(line).find("later state") != std::string::npos);
      });
      Answers now;
      EXPECT_TRUE(read_everything(dev.get(), &now));
      EXPECT_EQ(warned, !unknowable);
      EXPECT_EQ(now, *older_);
      vx_mount_opts o{};
      vx_fs *fs = nullptr;
      host::OverlayDevice trial(dev.get());
      const bool likely = !unknowable && first != How::stale;
      EXPECT_EQ(vx_fs_mount(&trial, &o, &fs), likely ? -EUCLEAN : 0);
      if (fs) vx_fs_unmount(fs);
      host::set_log_hook([](vx_bdev *, int, const char *) {});
      Result<u64> errors = check_all(dev.get());
      ASSERT_TRUE(errors.ok());
      EXPECT_EQ(*errors, likely ? 1u : 0u);
      if (!likely) continue;
      Mended m = mend(dev.get(), true, false, [](vx_bdev *d) { return check_all(d); });
      EXPECT_TRUE(m.refused);
      EXPECT_EQ(vx_fs_mount(&trial, &o, &fs), -EUCLEAN);  // as it was
      m = mend(dev.get(), true, true, [](vx_bdev *d) { return check_all(d); });
      EXPECT_TRUE(m.written);
      EXPECT_NE(lines_of(m.actions).find("both copies of the newest root"), std::string::npos) << lines_of(m.actions);
      EXPECT_EQ(*check_all(dev.get()), 0u);
      EXPECT_EQ(vx_fs_mount(dev.get(), &o, &fs), 0);
      vx_fs_unmount(fs);
    }
  }
}

}  // namespace
}  // namespace vexfs::repair::test
