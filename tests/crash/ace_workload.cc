// SPDX-License-Identifier: MIT
// See ace_workload.h.
#include "ace_workload.h"

#include <cerrno>

namespace vexfs::crash {
namespace {

using vector::test::Mount;
using vector::test::Row;

constexpr uint32_t kDim = 8;

vx_time time_of(const Session &s) { return {2000 + s.position, 7, 0}; }

// Each operation writes bytes of its own.
std::string filling(const Session &s, size_t n) { return std::string(n, static_cast<char>('k' + s.position)); }

Row row_of(unsigned n) {
  Row r(kDim);
  for (unsigned i = 0; i < kDim; i++) r[i] = static_cast<float>(n * 3 + i) / 8;
  return r;
}

// An inode by path, for as long as this lives; null when there is none.
class At {
 public:
  At(Session &s, const std::string &path) : ip_(s.m.root()) {
    vx_ihold(ip_);
    for (size_t from = 0; ip_ && from < path.size();) {
      size_t end = std::min(path.find('/', from), path.size());
      vx_u64 ino = 0;
      int err = vx_lookup(ip_, path.data() + from, end - from, &ino);
      vx_iput(ip_);
      ip_ = nullptr;
      if (err == 0) err = vx_iget(s.m.fs(), ino, 0, &ip_);
      if (err != 0 && s.failed == 0) s.failed = err;
      from = end + 1;
    }
    if (ip_) s.touched = vx_ino(ip_);
  }
  At(const At &) = delete;
  ~At() {
    if (ip_) vx_iput(ip_);
  }
  vx_inode *get() const { return ip_; }
  explicit operator bool() const { return ip_ != nullptr; }

 private:
  vx_inode *ip_;
};

void done(Session &s, int err) {
  if (err != 0 && s.failed == 0) s.failed = err;
  if (s.history) s.history->note();
}

// ------------------------------------------------------------------- files
void make(Session &s, const char *dir, const std::string &name, uint32_t mode, const char *target = nullptr) {
  At d(s, dir);
  if (!d) return;
  vx_attr a{};
  a.mode = mode;
  vx_time t = time_of(s);
  vx_inode *ip = nullptr;
  int err = vx_create(d.get(), name.data(), name.size(), &a, target, target ? strlen(target) : 0, &t, &ip);
  if (ip) {
    s.touched = vx_ino(ip);
    vx_iput(ip);
  }
  done(s, err);
}

void write(Session &s, const char *path, uint64_t off, size_t n) {
  At f(s, path);
  if (!f) return;
  std::string data = filling(s, n);
  vx_time t = time_of(s);
  size_t got = 0;
  int err = vx_pwrite(f.get(), data.data(), n, off, &t, &got);
  done(s, err ? err : got == n ? 0 : -ENOSPC);
}

void append(Session &s, const char *path, size_t n) {
  vx_attr a{};
  {
    At f(s, path);
    if (!f) return;
    vx_getattr(f.get(), &a);
  }
  write(s, path, a.size, n);
}

void truncate(Session &s, const char *path, uint64_t size) {
  At f(s, path);
  if (!f) return;
  vx_time t = time_of(s);
  done(s, vx_ptruncate(f.get(), size, &t));
}

void fallocate(Session &s, const char *path, unsigned mode, uint64_t off, uint64_t n) {
  At f(s, path);
  if (!f) return;
  vx_time t = time_of(s);
  done(s, vx_fallocate(f.get(), mode, off, n, off + n, &t));
}

void link(Session &s, const char *path, const char *dir, const std::string &name) {
  At d(s, dir), f(s, path);
  if (!d || !f) return;
  vx_time t = time_of(s);
  done(s, vx_link(d.get(), name.data(), name.size(), f.get(), &t));
}

void unlink(Session &s, const char *dir, const std::string &name, bool rmdir = false) {
  At d(s, dir);
  if (!d) return;
  vx_time t = time_of(s);
  done(s, vx_unlink(d.get(), name.data(), name.size(), rmdir, &t));
}

void rename(Session &s, const char *from, const std::string &a, const char *to, const std::string &b,
            unsigned flags = 0) {
  At od(s, from), nd(s, to);
  if (!od || !nd) return;
  vx_time t = time_of(s);
  done(s, vx_rename(od.get(), a.data(), a.size(), nd.get(), b.data(), b.size(), flags, nullptr, &t));
  At moved(s, std::string(to) + (*to ? "/" : "") + b);
}

void set_xattr(Session &s, const char *path, size_t n) {
  At f(s, path);
  if (!f) return;
  std::string name = "user.x", v = filling(s, n);
  vx_time t = time_of(s);
  done(s, vx_xattr_set(f.get(), name.data(), name.size(), v.data(), v.size(), 0, &t));
}

void remove_xattr(Session &s, const char *path) {
  At f(s, path);
  if (!f) return;
  std::string name = "user.x";
  vx_time t = time_of(s);
  done(s, vx_xattr_remove(f.get(), name.data(), name.size(), &t));
}

void chmod(Session &s, const char *path, uint32_t mode) {
  At f(s, path);
  if (!f) return;
  vx_attr a{};
  a.mode = mode;
  a.ctime = time_of(s);
  done(s, vx_setattr(f.get(), VX_SET_MODE | VX_SET_CTIME, &a));
}

void tmpfile(Session &s, const char *dir, const std::string &name) {
  At d(s, dir);
  if (!d) return;
  vx_attr a{};
  a.mode = disk::kModeFile | 0600;
  vx_time t = time_of(s);
  vx_inode *ip = nullptr;
  int err = vx_tmpfile(d.get(), &a, &t, &ip);
  done(s, err);
  if (!ip) return;
  std::string data = filling(s, 5000);
  size_t got = 0;
  err = vx_pwrite(ip, data.data(), data.size(), 0, &t, &got);
  if (err == 0) err = vx_link(d.get(), name.data(), name.size(), ip, &t);
  s.touched = err == 0 ? vx_ino(ip) : vx_ino(d.get());
  vx_iput(ip);
  done(s, err);
}

// Deleted while it is open, and written to after that, in new blocks: what is overwritten in place would be seen in the
// states before, and the history does not know what files without names hold.
void unlink_open(Session &s, const char *dir, const std::string &name) {
  At f(s, std::string(dir) + "/" + name);
  if (!f) return;
  unlink(s, dir, name);
  if (s.failed) return;
  std::string data = filling(s, 9000);
  vx_time t = time_of(s);
  size_t got = 0;
  done(s, vx_pwrite(f.get(), data.data(), data.size(), 1 << 20, &t, &got));
}

// ----------------------------------------------------------------- vectors
void create_collection(Session &s, const char *dir, uint16_t index) {
  At d(s, dir);
  if (!d) return;
  done(s, s.m.create(d.get(), kDim, VEXFS_F32, VEXFS_L2, index, nullptr, 4, 8));
}

void drop_collection(Session &s, const char *dir) {
  At d(s, dir);
  if (!d) return;
  vexfs_collection c{};
  c.size = sizeof c;
  done(s, s.m.ioctl(d.get(), VEXFS_IOCTL_COLLECTION_DROP, &c));
}

// On a file: the row is the file's.
void add_row(Session &s, const char *path, unsigned flags = 0) {
  At f(s, path);
  if (!f) return;
  uint64_t id = VEXFS_ID_AUTO;
  int err = s.m.add(f.get(), row_of(20 + s.position), &id, flags, 0, s.position);
  done(s, err);
  if (err == 0 && (flags & VEXFS_VEC_DURABLE) && s.history) s.history->acknowledged(0);
}

void update_row(Session &s, const char *dir, uint64_t id) {
  At d(s, dir);
  if (d) done(s, s.m.update(d.get(), id, row_of(40 + s.position)));
}

void delete_row(Session &s, const char *dir, uint64_t id) {
  At d(s, dir);
  if (d) done(s, s.m.del(d.get(), id));
}

void checkpoint(Session &s, const char *dir) {
  At d(s, dir);
  if (d) done(s, s.m.index(d.get(), VEXFS_INDEX_CHECKPOINT));
}

constexpr uint32_t kFile = disk::kModeFile | 0644, kDir = disk::kModeDir | 0755, kLink = disk::kModeLink | 0777;

struct Operation {
  const char *name;
  void (*run)(Session &s);
};

constexpr Operation kOperations[] = {
    {"create A/bar", [](Session &s) { make(s, "A", "bar", kFile); }},
    {"mkdir C", [](Session &s) { make(s, "", "C", kDir); }},
    {"symlink A/bar", [](Session &s) { make(s, "A", "bar", kLink, "../B/foo"); }},
    {"rmdir C", [](Session &s) { unlink(s, "", "C", true); }},
    {"rmdir A", [](Session &s) { unlink(s, "", "A", true); }},
    {"append two blocks to A/foo", [](Session &s) { append(s, "A/foo", 8192); }},
    {"create and write a little to A/bar",
     [](Session &s) {
       make(s, "A", "bar", kFile);
       write(s, "A/bar", 0, 50);
     }},
    {"write B/foo beyond what is kept inline", [](Session &s) { write(s, "B/foo", 30, 6000); }},
    {"overwrite in A/foo", [](Session &s) { write(s, "A/foo", 1000, 3000); }},
    {"overwrite in B/foo", [](Session &s) { write(s, "B/foo", 10, 20); }},
    {"write A/foo behind a hole", [](Session &s) { write(s, "A/foo", 65536, 4096); }},
    {"truncate A/foo to 5000", [](Session &s) { truncate(s, "A/foo", 5000); }},
    {"truncate A/foo to 0", [](Session &s) { truncate(s, "A/foo", 0); }},
    {"truncate A/foo to 30000", [](Session &s) { truncate(s, "A/foo", 30000); }},
    {"truncate B/foo to 7000", [](Session &s) { truncate(s, "B/foo", 7000); }},
    {"punch a block out of A/foo", [](Session &s) { fallocate(s, "A/foo", VX_FALLOC_PUNCH, 4096, 4096); }},
    {"zero a block of A/foo", [](Session &s) { fallocate(s, "A/foo", VX_FALLOC_ZERO, 0, 4096); }},
    {"fallocate A/foo, size kept", [](Session &s) { fallocate(s, "A/foo", VX_FALLOC_KEEP_SIZE, 12288, 16384); }},
    {"fallocate A/foo", [](Session &s) { fallocate(s, "A/foo", 0, 8192, 16384); }},
    {"link A/foo as B/bar", [](Session &s) { link(s, "A/foo", "B", "bar"); }},
    {"link B/foo as A/bar", [](Session &s) { link(s, "B/foo", "A", "bar"); }},
    {"unlink A/foo", [](Session &s) { unlink(s, "A", "foo"); }},
    {"unlink A/bar", [](Session &s) { unlink(s, "A", "bar"); }},
    {"unlink B/foo", [](Session &s) { unlink(s, "B", "foo"); }},
    {"unlink A/foo while open", [](Session &s) { unlink_open(s, "A", "foo"); }},
    {"rename A/foo to A/bar", [](Session &s) { rename(s, "A", "foo", "A", "bar"); }},
    {"rename A/foo to B/foo", [](Session &s) { rename(s, "A", "foo", "B", "foo"); }},
    {"rename B/foo to A/foo", [](Session &s) { rename(s, "B", "foo", "A", "foo"); }},
    {"rename A to C", [](Session &s) { rename(s, "", "A", "", "C"); }},
    {"rename B to A/bar", [](Session &s) { rename(s, "", "B", "A", "bar"); }},
    {"exchange A/foo and B/foo", [](Session &s) { rename(s, "A", "foo", "B", "foo", VX_RENAME_EXCHANGE); }},
    {"exchange A and B", [](Session &s) { rename(s, "", "A", "", "B", VX_RENAME_EXCHANGE); }},
    {"rename A/foo to A/bar, whiteout", [](Session &s) { rename(s, "A", "foo", "A", "bar", VX_RENAME_WHITEOUT); }},
    {"tmpfile, linked as A/bar", [](Session &s) { tmpfile(s, "A", "bar"); }},
    {"chmod A/foo", [](Session &s) { chmod(s, "A/foo", kFile & ~044u); }},
    {"small xattr on A/foo", [](Session &s) { set_xattr(s, "A/foo", 40); }},
    {"large xattr on A/foo", [](Session &s) { set_xattr(s, "A/foo", 6000); }},
    {"xattr on A", [](Session &s) { set_xattr(s, "A", 100); }},
    {"remove the xattr of A/foo", [](Session &s) { remove_xattr(s, "A/foo"); }},
    {"create a collection on A", [](Session &s) { create_collection(s, "A", VEXFS_INDEX_FLAT); }},
    {"drop the collection of A", [](Session &s) { drop_collection(s, "A"); }},
    {"drop the collection of B", [](Session &s) { drop_collection(s, "B"); }},
    {"add a row of A/foo", [](Session &s) { add_row(s, "A/foo"); }},
    {"add a row of B/foo", [](Session &s) { add_row(s, "B/foo"); }},
    {"add a row of nobody to B", [](Session &s) { add_row(s, "B"); }},
    {"add a row of nobody to B, durably", [](Session &s) { add_row(s, "B", VEXFS_VEC_DURABLE); }},
    {"update the row of B/foo", [](Session &s) { update_row(s, "B", 1); }},
    {"update the row of nobody", [](Session &s) { update_row(s, "B", 2); }},
    {"delete the row of B/foo", [](Session &s) { delete_row(s, "B", 1); }},
    {"delete the row of nobody", [](Session &s) { delete_row(s, "B", 2); }},
    {"checkpoint the index of B", [](Session &s) { checkpoint(s, "B"); }},
};
constexpr uint64_t kN = sizeof kOperations / sizeof kOperations[0];

// Of n operations, any; after each but the last any persistence point or none, after the last one.
constexpr uint64_t choices(bool last) { return kN * (last ? 3 : 4); }

void populate(Mount &m) {
  Session s(m);
  make(s, "", "A", kDir);
  make(s, "", "B", kDir);
  make(s, "A", "foo", kFile);
  write(s, "A/foo", 0, 10000);
  set_xattr(s, "A/foo", 20);
  make(s, "B", "foo", kFile);
  write(s, "B/foo", 0, 60);
  create_collection(s, "B", VEXFS_INDEX_HNSW);
  add_row(s, "B/foo");
  add_row(s, "B");
  EXPECT_EQ(s.failed, 0);
}

}  // namespace

uint64_t count_of_length(unsigned n) {
  uint64_t count = 1;
  for (unsigned i = 1; i <= n; i++) count *= choices(i == n);
  return count;
}

uint64_t first_of_length(unsigned n) {
  uint64_t first = 0;
  for (unsigned i = 1; i < n; i++) first += count_of_length(i);
  return first;
}

std::vector<Step> workload(uint64_t number) {
  unsigned n = 1;
  while (n < kLongest && number >= first_of_length(n + 1)) n++;
  number -= first_of_length(n);
  std::vector<Step> steps;
  for (unsigned i = 1; i <= n; i++) {
    uint64_t c = number % choices(i == n);
    number /= choices(i == n);
    steps.push_back({static_cast<unsigned>(c % kN), static_cast<Persist>(c / kN)});
  }
  return steps;
}

std::string describe(const std::vector<Step> &steps) {
  static constexpr const char *points[] = {", fsync", ", sync", ", commit", ""};
  std::string s;
  for (auto &step : steps)
    s += (s.empty() ? "" : "; ") + std::string(kOperations[step.operation].name) +
         points[static_cast<unsigned>(step.persist)];
  return s;
}

unsigned operations() { return kN; }
const char *operation_name(unsigned operation) { return kOperations[operation].name; }

int Session::operate(unsigned operation, unsigned at) {
  failed = 0;
  position = at;
  kOperations[operation].run(*this);
  return failed;
}

int Session::persist(Persist p) {
  if (p == Persist::none) return 0;
  int err = 0;
  uint64_t whose = 0;
  if (p == Persist::fsync) {
    vx_inode *ip = nullptr;
    if (!touched || vx_iget(m.fs(), touched, 0, &ip) != 0) {  // it has been deleted
      ip = m.root();
      vx_ihold(ip);
    }
    whose = vx_ino(ip);
    err = vx_inode_sync(ip);
    vx_iput(ip);
  } else {
    err = p == Persist::sync ? vx_fs_sync(m.fs()) : vx_fs_commit(m.fs());
  }
  if (err == 0 && history) history->acknowledged(whose);
  return err;
}

std::unique_ptr<host::MemDevice> starting_image() {
  host::seed_random(4711);
  host::fix_clock(1700000000, 0);
  auto dev = std::make_unique<host::MemDevice>(6 << 20);
  store::FormatOptions f;
  f.node_size = 4096;
  f.log_blocks = disk::kLogBytesMin / 4096;
  EXPECT_TRUE(store::format(dev.get(), f, nullptr).ok());
  Mount m(vector::test::Options{.size = 1 << 20}, dev.get());
  populate(m);
  m.unmount();
  EXPECT_EQ(errors_found(dev.get()), "");
  return dev;
}

Tally run_workload(const host::MemDevice &start, const std::vector<Step> &steps, uint64_t seed) {
  host::seed_random(seed);
  SimDevice dev(start);
  std::optional<History> history;
  {
    Mount m(vector::test::Options{.size = 1 << 20}, &dev);
    Session s(m);
    // The first sync of a mount is a commit: that one is not of interest here.
    s.position = 99;
    chmod(s, "", 040755);
    EXPECT_EQ(m.commit(), 0);
    dev.start_recording();
    history.emplace(dev, m);
    s.history = &*history;
    for (unsigned i = 0; i < steps.size(); i++) {
      (void)s.operate(steps[i].operation, i);
      EXPECT_EQ(s.persist(steps[i].persist), 0);
    }
  }
  return Judge(*history, dev, seed).run();
}

}  // namespace vexfs::crash
