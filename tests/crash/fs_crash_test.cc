// SPDX-License-Identifier: MIT
// Power cuts under the filesystem: at every event of a recorded run, with volatile writes lost, reordered and torn, the
// mount succeeds, the checker finds nothing, and what is there is exactly the state of the last commit that was
// acknowledged or of the one that was under way. VX_SEED replays a run.
#include <cstdlib>
#include <map>
#include <random>
#include <string>

#include "../unit/fs_fixture.h"
#include "sim_device.h"

namespace vexfs::fs::test {
namespace {

using Tree = std::map<std::string, std::string>;  // path -> what is there

std::string describe(Inode &ip) {
  auto a = ip.attributes();
  std::string s = std::to_string(a.mode) + " " + std::to_string(a.nlink) + " " + std::to_string(a.mtime.sec);
  if (ip.is_file())
    s += " " + std::to_string(a.size) + " " + std::to_string(std::hash<std::string>()(TestFs::read(ip)));
  if (ip.is_link()) {
    u8 buf[4096];
    auto r = readlink(ip, buf);
    s += r.ok() ? " -> " + S({buf, *r}) : " broken";
  }
  EXPECT_TRUE(xattr_list(ip, [&](Bytes name) {
                std::string v(70000, 0);
                auto r = xattr_get(ip, name, {reinterpret_cast<u8 *>(v.data()), v.size()});
                v.resize(r.ok() ? *r : 0);
                s += " " + S(name) + "=" + std::to_string(std::hash<std::string>()(v));
                return true;
              }).ok());
  return s;
}

void walk(Filesystem &fs, Inode &dir, const std::string &path, Tree &out) {
  out[path + "/"] = describe(dir);
  u64 pos = 0;
  EXPECT_TRUE(readdir(dir, pos, [&](const DirEntry &e) {
                auto ip = fs.get(e.ino);
                EXPECT_TRUE(ip.ok()) << path << "/" << S(e.name);
                if (!ip.ok()) return true;
                std::string p = path + "/" + S(e.name);
                if ((*ip)->is_dir())
                  walk(fs, **ip, p, out);
                else
                  out[p] = describe(**ip);
                return true;
              }).ok());
}

// The running filesystem, so that its states can be noted down as they are committed.
struct Mounted {
  explicit Mounted(vx_bdev *dev) {
    store::OpenOptions o;
    auto v = store::Volume::open(dev, o);
    EXPECT_TRUE(v.ok());
    volume = v.take();
    auto f = Filesystem::open(*volume, {});
    EXPECT_TRUE(f.ok()) << static_cast<int>(f.code());
    fs = f.take();
    Status st = fs->recover();
    EXPECT_TRUE(st.ok()) << static_cast<int>(st.code());
  }
  ~Mounted() {
    fs.reset();
    EXPECT_TRUE(volume->close().ok());
  }
  Tree tree() {
    Tree t;
    auto root = fs->get(fs->root_ino());
    EXPECT_TRUE(root.ok());
    if (root.ok()) walk(*fs, **root, "", t);
    return t;
  }
  Box<store::Volume> volume;
  Box<Filesystem> fs;
};

InodeRef at_path(Filesystem &fs, const std::string &path) {  // "/a/b/", a directory
  auto ip = fs.get(fs.root_ino()).take();
  for (usize i = 1; i < path.size();) {
    usize end = path.find('/', i);
    auto ino = lookup(*ip, B(path.substr(i, end - i)));
    if (!ino.ok()) return {};
    ip = fs.get(*ino).take();
    i = end + 1;
  }
  return ip;
}

// One random operation. Contents are written once, to new blocks: what is overwritten in place is not undone by a
// crash.
void operate(Mounted &r, std::mt19937_64 &rng, int i) {
  Tree now = r.tree();
  std::vector<std::string> dirs, files;
  for (auto &[p, what] : now) (p.back() == '/' ? dirs : files).push_back(p);
  auto dir = at_path(*r.fs, dirs[rng() % dirs.size()]);
  auto to = at_path(*r.fs, dirs[rng() % dirs.size()]);
  std::string name = "n" + std::to_string(rng() % 25), other = "n" + std::to_string(rng() % 25);
  Time t{1000 + i, 0};
  switch (rng() % 12) {
    case 0:
    case 1:
    case 2:
    case 3: {
      auto f = create(*dir, B(name), NewInode{disk::kModeFile | 0600, 0, 0, 0, 0, {}}, t);
      if (f.ok())
        (void)write_file(**f, B(std::string(rng() % 30000, static_cast<char>('a' + i % 26))), rng() % 2 * 50000, t);
      break;
    }
    case 4:
      (void)create(*dir, B(name), NewInode{disk::kModeDir | 0700, 0, 0, 0, 0, {}}, t);
      break;
    case 5:
      (void)unlink(*dir, B(name), t);
      break;
    case 6:
      (void)rmdir(*dir, B(name), t);
      break;
    case 7:
    case 8:
      (void)rename(*dir, B(name), *to, B(other), rng() % 4 == 0 ? VX_RENAME_EXCHANGE : 0, nullptr, t);
      break;
    case 9: {
      auto ino = lookup(*dir, B(name));
      auto ip = ino.ok() ? r.fs->get(*ino) : Result<InodeRef>(Errno::noent);
      if (ip.ok() && (*ip)->is_file()) (void)truncate_file(**ip, rng() % 8 * 4096, t);
      break;
    }
    case 10: {
      auto ino = lookup(*dir, B(name));
      auto ip = ino.ok() ? r.fs->get(*ino) : Result<InodeRef>(Errno::noent);
      if (ip.ok()) (void)xattr_set(**ip, B("user.x"), B(std::string(rng() % 6000, 'x')), 0, t);
      break;
    }
    default: {
      auto ino = lookup(*dir, B(name));
      auto ip = ino.ok() ? r.fs->get(*ino) : Result<InodeRef>(Errno::noent);
      if (ip.ok()) (void)link(*to, B(other), **ip, t);
    }
  }
}

// with_log: three of four states are made durable by the intent log, the fourth by a commit.
void every_cut(bool with_log) {
  const char *env = getenv("VX_SEED");
  u64 seed = env ? strtoull(env, nullptr, 0) : 11;
  printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 rng(seed);
  crash::SimDevice dev(12 << 20);
  store::FormatOptions f;
  f.node_copies = static_cast<u8>(1 + seed % 2);
  f.log_blocks = with_log ? disk::kLogBytesMin / 4096 : 0;
  ASSERT_TRUE(store::format(&dev, f, nullptr).ok());
  { Mounted first(&dev); }  // makes the root directory
  std::vector<Tree> states;
  {
    Mounted r(&dev);
    dev.start_recording();
    states.push_back(r.tree());
    InodeRef open_file;  // deleted while open, across commits
    for (int c = 1; c <= 14; c++) {
      for (int i = 0; i < 12; i++) operate(r, rng, c * 100 + i);
      if (c % 3 == 0) {
        auto root = r.fs->get(r.fs->root_ino()).take();
        auto tmp = create_tmpfile(*root, NewInode{disk::kModeFile | 0600, 0, 0, 0, 0, {}}, {1, 0});
        ASSERT_TRUE(tmp.ok());
        (void)write_file(**tmp, B(std::string(40000, 't')), 0, {1, 0});
        open_file = tmp.take();
      }
      states.push_back(r.tree());
      ASSERT_TRUE((with_log && c % 4 ? r.fs->sync() : r.fs->commit()).ok());
      dev.mark(static_cast<u64>(c));
    }
    EXPECT_EQ(r.volume->counters().commits_forced.load(), 0u);
    EXPECT_EQ(r.volume->counters().log_groups.load() != 0, with_log);
  }
  host::set_log_level(VX_LOG_ERR);
  u64 images = 0, replayed = 0;
  crash::CrashImages cut(dev);
  auto judge = [&](std::unique_ptr<host::MemDevice> image) {
    images++;
    u64 k = cut.last_mark();
    {
      Mounted r(image.get());
      replayed += r.volume->counters().log_replayed.load() != 0;
      Tree got = r.tree();
      bool known = got == states[k] || (k + 1 < states.size() && got == states[k + 1]);
      EXPECT_TRUE(known) << "event " << cut.position() << ", after commit " << k << ": neither state";
    }
    auto rep = TestFs::check_device(image.get());
    EXPECT_EQ(rep.errors, 0u) << "event " << cut.position() << "\n" << rep.text();
  };
  while (!cut.at_end() && !::testing::Test::HasFailure()) {
    cut.step();
    judge(cut.none_arrived());
    judge(cut.some_arrived(rng, 0.5, 0.3));
    if (cut.next_is_write() && rng() % 2) judge(cut.next_torn(rng, 0.6, 0.2));
  }
  host::set_log_level(VX_LOG_NOTICE);
  printf("explored: seed %llu, %llu images of %zu events, %llu replayed a log\n", static_cast<unsigned long long>(seed),
         static_cast<unsigned long long>(images), dev.events(), static_cast<unsigned long long>(replayed));
  EXPECT_EQ(replayed != 0, with_log);
}

TEST(FsCrash, EveryCutLeavesACommittedState) { every_cut(false); }
TEST(FsCrash, EveryCutLeavesASyncedState) { every_cut(true); }

}  // namespace
}  // namespace vexfs::fs::test
