// SPDX-License-Identifier: MIT
// filefuzz FILE [--seed N] [--ops N] [--max BYTES] [--sync-drop]: random operations on one file, each compared with a
// copy in memory: write, read, O_DIRECT both ways, mmap both ways, truncate, fallocate, punch, zero, SEEK_DATA, fsync,
// reopening, dropping the page cache. --expected PATH stores the copy at the end, so that a script can compare again
// after a remount.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "check.h"

namespace {

constexpr size_t direct_align = 512;

class Fuzz {
 public:
  Fuzz(std::string path, unsigned long long seed, size_t max, bool sync_drop)
      : path_(std::move(path)), random_(seed), max_(max), sync_drop_(sync_drop), model_(max, 0) {
    CHECK(posix_memalign(reinterpret_cast<void **>(&buf_), 4096, max_ + 8192) == 0);
    fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0644);
    CHECK(fd_ >= 0);
    direct_ = open(path_.c_str(), O_RDWR | O_DIRECT);
    CHECK(direct_ >= 0);
  }

  void step(unsigned long long i) {
    step_ = i;
    unsigned long long kind = random_.below(18);
    size_t before = size_;
    act(kind);
    struct stat st;
    CHECK(fstat(fd_, &st) == 0);
    if (st.st_size != static_cast<off_t>(size_)) {
      fprintf(stderr, "FAILED: step %llu: operation of kind %llu left size %lld, expected %zu (was %zu)\n", i, kind,
              static_cast<long long>(st.st_size), size_, before);
      exit(1);
    }
  }

  void act(unsigned long long kind) {
    switch (kind) {
      case 0:
      case 1:
      case 2:
        return write_some();
      case 3:
        return append();
      case 4:
      case 5:
        return read_some();
      case 6:
        return write_direct();
      case 7:
        return read_direct();
      case 8:
        return write_mapped();
      case 9:
        return read_mapped();
      case 10:
        return resize();
      case 11:
        return reserve();
      case 12:
        return punch();
      case 13:
        return zero();
      case 14:
        return seek();
      case 15:
        return sync_some();
      case 16:
        return random_.below(4) ? read_some() : reopen();
      default:
        return random_.below(8) ? small_write() : drop_cache();
    }
  }

  void verify_all() {
    struct stat st;
    CHECK(fstat(fd_, &st) == 0);
    CHECK_EQ(st.st_size, static_cast<off_t>(size_));
    check_read(fd_, 0, size_);
  }

  void save_expected(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    CHECK(fd >= 0);
    for (size_t done = 0; done < size_;) {
      ssize_t n = write(fd, model_.data() + done, size_ - done);
      CHECK(n > 0);
      done += static_cast<size_t>(n);
    }
    close(fd);
  }

 private:
  // A range that is often short, often at the end, often on a boundary.
  void pick(size_t limit, size_t *off, size_t *len) {
    size_t unit = size_t{1} << random_.below(17);
    *off = random_.below(limit);
    if (random_.below(3) == 0) *off = *off / 4096 * 4096;
    *len = 1 + random_.below(std::min(unit, limit - *off));
    if (random_.below(3) == 0 && limit - *off >= 4096) *len = std::max<size_t>(4096, *len / 4096 * 4096);
    *len = std::min(*len, limit - *off);
  }

  void fill(size_t n) {
    unsigned long long v = random_.next();
    for (size_t i = 0; i < n; i++) buf_[i] = static_cast<unsigned char>((v >> (8 * (i & 7))) + i);
  }

  void grow(size_t end) { size_ = std::max(size_, end); }

  void check_read(int fd, size_t off, size_t len) {
    memset(buf_, 0xa5, len);
    size_t done = 0;
    while (done < len) {
      ssize_t n = pread(fd, buf_ + done, len - done, static_cast<off_t>(off + done));
      CHECK(n >= 0);
      if (n == 0) break;
      done += static_cast<size_t>(n);
    }
    CHECK_EQ(done, off >= size_ ? 0 : std::min(len, size_ - off));
    compare(off, done, "read");
  }

  void compare(size_t off, size_t len, const char *how) {
    if (!memcmp(buf_, model_.data() + off, len)) return;
    for (size_t i = 0; i < len; i++) {
      if (buf_[i] == model_[off + i]) continue;
      fprintf(stderr, "FAILED: step %llu: %s at %zu (of %zu..%zu, size %zu): %#x, expected %#x\n", step_, how, off + i,
              off, off + len, size_, buf_[i], model_[off + i]);
      exit(1);
    }
  }

  void write_at(int fd, size_t off, size_t len) {
    fill(len);
    memcpy(model_.data() + off, buf_, len);
    for (size_t done = 0; done < len;) {
      ssize_t n = pwrite(fd, buf_ + done, len - done, static_cast<off_t>(off + done));
      CHECK(n > 0);
      done += static_cast<size_t>(n);
    }
    grow(off + len);
  }

  void write_some() {
    size_t off, len;
    pick(max_, &off, &len);
    write_at(fd_, off, len);
  }
  void small_write() {  // keeps the file small enough to live in its inode now and then
    if (random_.below(3) == 0) set_size(random_.below(3000));
    size_t off = random_.below(2500), len = 1 + random_.below(600);
    write_at(fd_, off, len);
  }
  void append() {
    if (size_ >= max_ - 1) return;
    write_at(fd_, size_, 1 + random_.below(std::min<size_t>(20000, max_ - size_)));
  }
  void read_some() {
    size_t off, len;
    pick(max_, &off, &len);
    check_read(fd_, off, len);
  }
  void write_direct() {
    size_t off, len;
    pick(max_ - direct_align, &off, &len);
    off = off / direct_align * direct_align;
    len = (len + direct_align - 1) / direct_align * direct_align;
    len = std::min(len, (max_ - off) / direct_align * direct_align);
    write_at(direct_, off, len);
  }
  void read_direct() {
    size_t off, len;
    pick(max_ - direct_align, &off, &len);
    off = off / direct_align * direct_align;
    len = (len + direct_align - 1) / direct_align * direct_align;
    memset(buf_, 0xa5, len);
    ssize_t n = pread(direct_, buf_, len, static_cast<off_t>(off));
    CHECK(n >= 0);
    CHECK_EQ(static_cast<size_t>(n), off >= size_ ? 0 : std::min(len, size_ - off));
    compare(off, static_cast<size_t>(n), "direct read");
  }
  void write_mapped() {
    if (size_ == 0) return;
    size_t off, len;
    pick(size_, &off, &len);
    void *p = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    CHECK(p != MAP_FAILED);
    fill(len);
    memcpy(static_cast<unsigned char *>(p) + off, buf_, len);
    memcpy(model_.data() + off, buf_, len);
    // what is written behind the end, within the last page, must never be seen
    if (random_.below(4) == 0 && size_ % 4096)
      memset(static_cast<unsigned char *>(p) + size_, 0xee, 4096 - size_ % 4096);
    if (random_.below(4) == 0) CHECK(msync(p, size_, MS_SYNC) == 0);
    CHECK(munmap(p, size_) == 0);
  }
  void read_mapped() {
    if (size_ == 0) return;
    size_t off, len;
    pick(size_, &off, &len);
    void *p = mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd_, 0);
    CHECK(p != MAP_FAILED);
    memcpy(buf_, static_cast<unsigned char *>(p) + off, len);
    CHECK(munmap(p, size_) == 0);
    compare(off, len, "mapped read");
  }
  void set_size(size_t n) {
    CHECK(ftruncate(fd_, static_cast<off_t>(n)) == 0);
    if (n < size_) memset(model_.data() + n, 0, size_ - n);
    size_ = n;
  }
  void resize() {
    size_t off, len;
    pick(max_, &off, &len);
    set_size(off);
  }
  void reserve() {
    size_t off, len;
    pick(max_, &off, &len);
    bool keep = random_.below(2);
    CHECK(fallocate(fd_, keep ? FALLOC_FL_KEEP_SIZE : 0, static_cast<off_t>(off), static_cast<off_t>(len)) == 0);
    if (!keep) grow(off + len);
  }
  void clear(size_t off, size_t len) {
    if (off < size_) memset(model_.data() + off, 0, std::min(len, size_ - off));
  }
  void punch() {
    size_t off, len;
    pick(max_, &off, &len);
    CHECK(fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(off),
                    static_cast<off_t>(len)) == 0);
    clear(off, len);
  }
  void zero() {
    size_t off, len;
    pick(max_, &off, &len);
    bool keep = random_.below(2);
    CHECK(fallocate(fd_, FALLOC_FL_ZERO_RANGE | (keep ? FALLOC_FL_KEEP_SIZE : 0), static_cast<off_t>(off),
                    static_cast<off_t>(len)) == 0);
    clear(off, len);
    if (!keep) grow(off + len);
  }
  // Everything outside what SEEK_DATA and SEEK_HOLE call data must be zero.
  void seek() {
    off_t at = 0;
    while (at < static_cast<off_t>(size_)) {
      off_t data = lseek(fd_, at, SEEK_DATA);
      if (data < 0) {
        CHECK(errno == ENXIO);
        data = static_cast<off_t>(size_);
      }
      CHECK(data >= at);
      for (off_t i = at; i < data; i++) CHECK_EQ(model_[static_cast<size_t>(i)], 0);
      if (data >= static_cast<off_t>(size_)) return;
      off_t hole = lseek(fd_, data, SEEK_HOLE);
      // Linux takes a cached block right behind an unwritten extent for data of that extent: hole == data is possible.
      if (hole < data || hole > static_cast<off_t>(size_)) {
        fprintf(stderr, "FAILED: step %llu: SEEK_DATA from %lld said %lld, SEEK_HOLE from there %lld, size %zu\n",
                step_, static_cast<long long>(at), static_cast<long long>(data), static_cast<long long>(hole), size_);
        exit(1);
      }
      at = std::max(hole, data + 1);
    }
    CHECK_ERRNO(lseek(fd_, static_cast<off_t>(size_), SEEK_DATA), ENXIO);
  }
  void sync_some() { CHECK((random_.below(2) ? fsync(fd_) : fdatasync(fd_)) == 0); }
  void reopen() {
    CHECK(close(fd_) == 0 && close(direct_) == 0);
    fd_ = open(path_.c_str(), O_RDWR);
    direct_ = open(path_.c_str(), O_RDWR | O_DIRECT);
    CHECK(fd_ >= 0 && direct_ >= 0);
    verify_all();
  }
  void drop_cache() {
    if (!sync_drop_) return;
    CHECK(fsync(fd_) == 0);
    int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
    CHECK(fd >= 0 && write(fd, "3", 1) == 1);
    close(fd);
    verify_all();
  }

  std::string path_;
  Random random_;
  size_t max_;
  bool sync_drop_;
  std::vector<unsigned char> model_;
  size_t size_ = 0;
  unsigned char *buf_ = nullptr;
  int fd_ = -1, direct_ = -1;
  unsigned long long step_ = 0;
};

}  // namespace

int main(int argc, char **argv) {
  CHECK(argc >= 2);
  unsigned long long seed = 1, ops = 1000;
  size_t max = 1 << 20;
  bool sync_drop = false;
  const char *expected = nullptr;
  for (int i = 2; i < argc; i++) {
    std::string arg = argv[i];
    auto value = [&] {
      CHECK(i + 1 < argc);
      return argv[++i];
    };
    if (arg == "--seed")
      seed = strtoull(value(), nullptr, 0);
    else if (arg == "--ops")
      ops = strtoull(value(), nullptr, 0);
    else if (arg == "--max")
      max = strtoull(value(), nullptr, 0);
    else if (arg == "--expected")
      expected = value();
    else if (arg == "--sync-drop")
      sync_drop = true;
    else
      CHECK(!"unknown argument");
  }
  CHECK(max > 4096);  // direct I/O is done in pages
  printf("-- filefuzz %s seed %llu, %llu operations on up to %zu bytes\n", argv[1], seed, ops, max);
  fflush(stdout);
  Fuzz fuzz(argv[1], seed, max, sync_drop);
  for (unsigned long long i = 0; i < ops; i++) fuzz.step(i);
  fuzz.verify_all();
  if (expected) fuzz.save_expected(expected);
  return 0;
}
