// SPDX-License-Identifier: MIT
// See session.h.
#include "session.h"

#include <cerrno>

namespace vexfs::crash {
namespace {

using vector::test::Row;

constexpr uint32_t kDim = 8;

std::string path_in(const std::string &dir, const std::string &name) { return dir.empty() ? name : dir + "/" + name; }

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

}  // namespace

void Session::done(int err) {
  if (err != 0 && failed == 0) failed = err;
  if (history) history->note();
}

// ------------------------------------------------------------------- files
void Session::make(const std::string &dir, const std::string &name, uint32_t mode, const char *target) {
  At d(*this, dir);
  if (!d) return;
  vx_attr a{};
  a.mode = mode;
  vx_time t = time();
  vx_inode *ip = nullptr;
  int err = vx_create(d.get(), name.data(), name.size(), &a, target, target ? strlen(target) : 0, &t, &ip);
  if (ip) {
    touched = vx_ino(ip);
    vx_iput(ip);
  }
  done(err);
}

void Session::write(const std::string &path, uint64_t off, size_t n) {
  At f(*this, path);
  if (!f) return;
  std::string data = filling(n);
  vx_time t = time();
  size_t got = 0;
  int err = vx_pwrite(f.get(), data.data(), n, off, &t, &got);
  done(err ? err : got == n ? 0 : -ENOSPC);
}

void Session::append(const std::string &path, size_t n) {
  vx_attr a{};
  {
    At f(*this, path);
    if (!f) return;
    vx_getattr(f.get(), &a);
  }
  write(path, a.size, n);
}

void Session::truncate(const std::string &path, uint64_t size) {
  At f(*this, path);
  if (!f) return;
  vx_time t = time();
  done(vx_ptruncate(f.get(), size, &t));
}

void Session::fallocate(const std::string &path, unsigned mode, uint64_t off, uint64_t n) {
  At f(*this, path);
  if (!f) return;
  vx_time t = time();
  done(vx_fallocate(f.get(), mode, off, n, off + n, &t));
}

void Session::clone(const std::string &source, uint64_t from, const std::string &path, uint64_t to, uint64_t n) {
  At a(*this, source), b(*this, path);
  if (!a || !b) return;
  vx_attr x{};
  vx_getattr(a.get(), &x);
  vx_time t = time();
  done(vx_pclone(a.get(), from, b.get(), to, n || from > x.size ? n : x.size - from, &t));
}

void Session::link(const std::string &path, const std::string &dir, const std::string &name) {
  At d(*this, dir), f(*this, path);
  if (!d || !f) return;
  vx_time t = time();
  done(vx_link(d.get(), name.data(), name.size(), f.get(), &t));
}

void Session::unlink(const std::string &dir, const std::string &name, bool rmdir) {
  At d(*this, dir);
  if (!d) return;
  vx_time t = time();
  done(vx_unlink(d.get(), name.data(), name.size(), rmdir, &t));
}

void Session::rename(const std::string &from, const std::string &a, const std::string &to, const std::string &b,
                     unsigned flags) {
  At od(*this, from), nd(*this, to);
  if (!od || !nd) return;
  vx_time t = time();
  done(vx_rename(od.get(), a.data(), a.size(), nd.get(), b.data(), b.size(), flags, nullptr, &t));
  At moved(*this, path_in(to, b));
}

void Session::set_xattr(const std::string &path, size_t n) {
  At f(*this, path);
  if (!f) return;
  std::string name = "user.x", v = filling(n);
  vx_time t = time();
  done(vx_xattr_set(f.get(), name.data(), name.size(), v.data(), v.size(), 0, &t));
}

void Session::remove_xattr(const std::string &path) {
  At f(*this, path);
  if (!f) return;
  std::string name = "user.x";
  vx_time t = time();
  done(vx_xattr_remove(f.get(), name.data(), name.size(), &t));
}

void Session::chmod(const std::string &path, uint32_t mode) {
  At f(*this, path);
  if (!f) return;
  vx_attr a{};
  a.mode = mode;
  a.ctime = time();
  done(vx_setattr(f.get(), VX_SET_MODE | VX_SET_CTIME, &a));
}

void Session::tmpfile(const std::string &dir, const std::string &name) {
  At d(*this, dir);
  if (!d) return;
  vx_attr a{};
  a.mode = disk::kModeFile | 0600;
  vx_time t = time();
  vx_inode *ip = nullptr;
  int err = vx_tmpfile(d.get(), &a, &t, &ip);
  done(err);
  if (!ip) return;
  std::string data = filling(5000);
  size_t got = 0;
  err = vx_pwrite(ip, data.data(), data.size(), 0, &t, &got);
  if (err == 0) err = vx_link(d.get(), name.data(), name.size(), ip, &t);
  touched = err == 0 ? vx_ino(ip) : vx_ino(d.get());
  vx_iput(ip);
  done(err);
}

// Deleted while it is open, as it stays, and written to after that, in a new block: what is overwritten in place would be
// seen in the states before, and the history does not know what files without names hold.
void Session::unlink_open(const std::string &dir, const std::string &name) {
  At f(*this, path_in(dir, name));
  if (!f) return;
  unlink(dir, name);
  if (failed) return;
  std::string data = filling(4000);
  vx_time t = time();
  size_t got = 0;
  vx_attr a;
  vx_getattr(f.get(), &a);
  done(vx_pwrite(f.get(), data.data(), data.size(), (a.size + 4095) / 4096 * 4096, &t, &got));
  vx_ihold(f.get());
  held_.push_back(f.get());
}

void Session::close_held() {
  for (vx_inode *ip : held_) vx_iput(ip);
  held_.clear();
}

// ----------------------------------------------------------------- vectors
void Session::create_collection(const std::string &dir, uint16_t index) {
  At d(*this, dir);
  if (!d) return;
  done(m.create(d.get(), kDim, VEXFS_F32, VEXFS_L2, index, nullptr, 4, 8));
}

void Session::drop_collection(const std::string &dir) {
  At d(*this, dir);
  if (!d) return;
  vexfs_collection c{};
  c.size = sizeof c;
  done(m.ioctl(d.get(), VEXFS_IOCTL_COLLECTION_DROP, &c));
}

// On a file: the row is the file's.
void Session::add_row(const std::string &path, unsigned flags) {
  At f(*this, path);
  if (!f) return;
  uint64_t id = VEXFS_ID_AUTO;
  int err = m.add(f.get(), row_of(20 + position), &id, flags, 0, position);
  done(err);
  if (err == 0 && (flags & VEXFS_VEC_DURABLE) && history) history->acknowledged(0);
}

// Three rows of nobody, in one call.
void Session::add_rows(const std::string &dir) {
  At d(*this, dir);
  if (!d) return;
  std::vector<float> data;
  for (unsigned i = 0; i < 3; i++)
    for (float x : row_of(60 + 5 * position + i)) data.push_back(x);
  done(m.batch(d.get(), VEXFS_BATCH_ADD, data, kDim, nullptr));
}

void Session::update_row(const std::string &dir, uint64_t id) {
  At d(*this, dir);
  if (d) done(m.update(d.get(), id, row_of(40 + position)));
}

void Session::delete_row(const std::string &dir, uint64_t id) {
  At d(*this, dir);
  if (d) done(m.del(d.get(), id));
}

void Session::checkpoint(const std::string &dir) {
  At d(*this, dir);
  if (d) done(m.index(d.get(), VEXFS_INDEX_CHECKPOINT));
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

}  // namespace vexfs::crash
