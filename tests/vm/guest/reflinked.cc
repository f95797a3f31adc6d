// SPDX-License-Identifier: MIT
// Files that share blocks, by every system call that makes or meets them.
//   reflinked calls DIR               what each call does, and what it refuses
//   reflinked random DIR SEED STEPS   random operations on four files, which are compared with copies in memory
//   reflinked churn DIR SECONDS       clones are made of a file while others write to it, and each is one moment of it
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "check.h"

namespace {

constexpr size_t block = 4096;
using Text = std::string;

Text noise(size_t n, Random &rng) {
  Text s(n, 0);
  for (size_t i = 0; i < n; i += 8) {
    unsigned long long x = rng.next();
    memcpy(&s[i], &x, n - i < 8 ? n - i : 8);
  }
  return s;
}

int must_open(const Text &path, int flags = O_RDWR | O_CREAT) {
  int fd = open(path.c_str(), flags, 0644);
  CHECK(fd >= 0);
  return fd;
}

void put(int fd, const Text &data, off_t off = 0) {
  CHECK_EQ(pwrite(fd, data.data(), data.size(), off), static_cast<ssize_t>(data.size()));
}

Text get(int fd) {
  struct stat st;
  CHECK(fstat(fd, &st) == 0);
  Text s(static_cast<size_t>(st.st_size), '?');
  CHECK_EQ(pread(fd, s.data(), s.size(), 0), static_cast<ssize_t>(s.size()));
  return s;
}

int clone_range(int src, off_t from, int dst, off_t to, size_t len) {
  file_clone_range r{};
  r.src_fd = src;
  r.src_offset = static_cast<__u64>(from);
  r.src_length = len;
  r.dest_offset = static_cast<__u64>(to);
  return ioctl(dst, FICLONERANGE, &r);
}

// Bytes that share from then on; -1 when the contents differ, else a negative errno.
long dedupe(int src, off_t from, int dst, off_t to, size_t len) {
  alignas(file_dedupe_range) char buf[sizeof(file_dedupe_range) + sizeof(file_dedupe_range_info)] = {};
  auto *r = reinterpret_cast<file_dedupe_range *>(buf);
  r->src_offset = static_cast<__u64>(from);
  r->src_length = len;
  r->dest_count = 1;
  r->info[0].dest_fd = dst;
  r->info[0].dest_offset = static_cast<__u64>(to);
  CHECK(ioctl(src, FIDEDUPERANGE, r) == 0);
  if (r->info[0].status == FILE_DEDUPE_RANGE_DIFFERS) return -1;
  if (r->info[0].status < 0) return r->info[0].status;
  return static_cast<long>(r->info[0].bytes_deduped);
}

struct Mapped {
  Mapped(int fd, size_t n)
      : size(n), p(static_cast<char *>(mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0))) {
    CHECK(p != MAP_FAILED);
  }
  ~Mapped() { munmap(p, size); }
  size_t size;
  char *p;
};

struct Aligned {
  explicit Aligned(size_t n) : p(static_cast<char *>(aligned_alloc(block, n))) { CHECK(p); }
  ~Aligned() { free(p); }
  char *p;
};

void calls(const Text &dir) {
  Random rng(1);
  Text data = noise(100 * block + 77, rng), more = noise(3 * block, rng);
  int a = must_open(dir + "/a"), b = must_open(dir + "/b"), c = must_open(dir + "/c");
  put(a, data);
  // What has not been written back yet is part of it; privileges go, times change.
  CHECK(fchmod(b, 06755) == 0);
  struct stat before, after;
  CHECK(fstat(b, &before) == 0);
  CHECK(ioctl(b, FICLONE, a) == 0);
  CHECK(get(b) == data);
  CHECK(fstat(b, &after) == 0);
  CHECK_EQ(after.st_blocks, 101 * 8);
  CHECK(after.st_mtim.tv_sec > before.st_mtim.tv_sec || after.st_mtim.tv_nsec != before.st_mtim.tv_nsec);

  // Either side by write, by mmap, by O_DIRECT.
  put(b, more, 10 * block - 5);
  Text now = data;
  now.replace(10 * block - 5, more.size(), more);
  CHECK(get(b) == now && get(a) == data);
  CHECK(ioctl(c, FICLONE, b) == 0);
  Text copy = now;
  {
    Mapped m(c, now.size());
    memcpy(m.p + 50 * block + 3, more.data(), more.size());
    now.replace(50 * block + 3, more.size(), more);
    CHECK(get(c) == now && get(b) == copy);
    // A mapping stays one of the file when the file becomes a clone under it, and later stores go to the file alone.
    CHECK(ioctl(c, FICLONE, a) == 0);
    CHECK(memcmp(m.p, data.data(), data.size()) == 0);
    m.p[0] ^= 1;
    CHECK(get(a) == data);
    m.p[0] ^= 1;
    CHECK(msync(m.p, m.size, MS_SYNC) == 0);
  }
  CHECK(get(c) == data);
  int direct = must_open(dir + "/c", O_RDWR | O_DIRECT);
  Aligned buf(2 * block);
  memset(buf.p, 'd', 2 * block);
  CHECK_EQ(pwrite(direct, buf.p, 2 * block, 20 * block), 2 * block);
  now = data;
  now.replace(20 * block, 2 * block, 2 * block, 'd');
  CHECK(get(c) == now && get(a) == data);
  CHECK_EQ(pread(direct, buf.p, block, 19 * block), block);
  CHECK(memcmp(buf.p, data.data() + 19 * block, block) == 0);
  close(direct);

  // Ranges: into the middle, behind the end, within one file; copy_file_range takes the same way for whole blocks.
  CHECK(ftruncate(b, 0) == 0);
  put(b, "small");
  CHECK(clone_range(a, 90 * block, b, 4 * block, 0) == 0);
  CHECK(get(b) == "small" + Text(4 * block - 5, 0) + data.substr(90 * block));
  CHECK(clone_range(b, 4 * block, b, 0, block) == 0);
  CHECK(get(b).substr(0, block) == data.substr(90 * block, block));
  CHECK(ftruncate(c, 0) == 0);
  off_t from = block, to = 0;
  for (size_t left = data.size() - block; left;) {
    ssize_t n = copy_file_range(a, &from, c, &to, left, 0);
    CHECK(n > 0);
    left -= static_cast<size_t>(n);
  }
  CHECK(get(c) == data.substr(block));

  // Dedupe: the same, then not.
  int d = must_open(dir + "/d");
  put(d, data);
  CHECK_EQ(dedupe(a, 0, d, 0, data.size()), static_cast<long>(data.size()));
  CHECK(get(d) == data);
  put(d, "x", 5 * block);
  CHECK_EQ(dedupe(a, 0, d, 0, 10 * block), -1);
  CHECK_EQ(dedupe(a, 0, d, 0, 5 * block), 5 * static_cast<long>(block));

  // Refused.
  CHECK_ERRNO(clone_range(a, 1, b, 0, block), EINVAL);
  CHECK_ERRNO(clone_range(a, 0, b, 1, block), EINVAL);
  CHECK_ERRNO(clone_range(a, 0, b, 0, block + 1), EINVAL);
  CHECK_ERRNO(clone_range(a, 0, a, block, 2 * block), EINVAL);
  CHECK_ERRNO(clone_range(a, 0, b, 0, 1000 * block), EINVAL);
  int other = must_open("/tmp/elsewhere"), folder = must_open(dir, O_RDONLY | O_DIRECTORY);
  int reader = must_open(dir + "/b", O_RDONLY), appender = must_open(dir + "/b", O_WRONLY | O_APPEND);
  CHECK_ERRNO(ioctl(b, FICLONE, other), EXDEV);
  CHECK_ERRNO(ioctl(b, FICLONE, folder), EISDIR);
  CHECK_ERRNO(ioctl(reader, FICLONE, a), EBADF);
  CHECK_ERRNO(ioctl(appender, FICLONE, a), EBADF);
  int flags = FS_IMMUTABLE_FL;
  CHECK(ioctl(d, FS_IOC_SETFLAGS, &flags) == 0);
  CHECK_ERRNO(ioctl(d, FICLONE, a), EPERM);
  flags = 0;
  CHECK(ioctl(d, FS_IOC_SETFLAGS, &flags) == 0);
  int nosum = must_open(dir + "/nosum");
  flags = FS_NOCOW_FL;
  CHECK(ioctl(nosum, FS_IOC_SETFLAGS, &flags) == 0);
  CHECK_ERRNO(ioctl(nosum, FICLONE, a), EINVAL);
  // Two without checksums share too, and are written elsewhere then.
  put(nosum, data);
  CHECK(fsync(nosum) == 0);
  int nosum2 = must_open(dir + "/nosum2");
  flags = FS_NOCOW_FL;
  CHECK(ioctl(nosum2, FS_IOC_SETFLAGS, &flags) == 0);
  CHECK(ioctl(nosum2, FICLONE, nosum) == 0);
  put(nosum, more, 7 * block);
  CHECK(fsync(nosum) == 0);
  CHECK(get(nosum2) == data);
  direct = must_open(dir + "/nosum2", O_RDWR | O_DIRECT);
  memset(buf.p, 'e', block);
  CHECK_EQ(pwrite(direct, buf.p, block, 9 * block), block);
  CHECK(get(nosum).substr(9 * block, block) == more.substr(2 * block, block));
  // Contents kept inside the inode.
  int s = must_open(dir + "/s"), s2 = must_open(dir + "/s2");
  put(s, "tiny");
  CHECK(fsync(s) == 0);
  CHECK(ioctl(s2, FICLONE, s) == 0);
  CHECK(get(s2) == "tiny");
  put(s, "T");
  CHECK(get(s2) == "tiny");
  CHECK(ioctl(s2, FICLONE, s) == 0);
  CHECK(get(s2) == "Tiny");
  CHECK(ioctl(a, FICLONE, must_open(dir + "/empty")) == 0);
  CHECK(get(a) == data);
}

// ------------------------------------------------------------------ random operations
struct File {
  int fd = -1, direct = -1;
  Text data;
};

class Randomly {
 public:
  Randomly(const Text &dir, unsigned long long seed) : rng_(seed) {
    for (size_t i = 0; i < files; i++) {
      Text path = dir + "/r" + std::to_string(i);
      f_[i].fd = must_open(path, O_RDWR | O_CREAT | O_TRUNC);
      f_[i].direct = must_open(path, O_RDWR | O_DIRECT);
    }
  }
  void run(int steps) {
    for (int i = 0; i < steps; i++) {
      step();
      size_t k = rng_.below(files);
      if (rng_.below(4) == 0) compare(k);
    }
    for (size_t k = 0; k < files; k++) compare(k);
    for (auto &f : f_) {
      CHECK(fsync(f.fd) == 0);
      CHECK(posix_fadvise(f.fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    }
    for (size_t k = 0; k < files; k++) compare(k);
  }

 private:
  static constexpr size_t files = 4, largest = 120 * block;
  void grow(Text &s, size_t n) {
    if (s.size() < n) s.resize(n, 0);
  }
  void step() {
    File &f = f_[rng_.below(files)], &g = f_[rng_.below(files)];
    size_t off = rng_.below(largest - 20 * block), n = 1 + rng_.below(rng_.below(3) ? 3 * block : 20 * block);
    switch (rng_.below(14)) {
      case 0:
      case 1: {
        Text piece = noise(n, rng_);
        put(f.fd, piece, static_cast<off_t>(off));
        grow(f.data, off + n);
        f.data.replace(off, n, piece);
        return;
      }
      case 2: {
        if (f.data.empty()) return;
        off = rng_.below(f.data.size());
        n = std::min(n, f.data.size() - off);
        Text piece = noise(n, rng_);
        Mapped m(f.fd, f.data.size());
        memcpy(m.p + off, piece.data(), n);
        f.data.replace(off, n, piece);
        return;
      }
      case 3: {
        off = off / block * block;
        n = (n + block - 1) / block * block;
        Aligned buf(n);
        Text piece = noise(n, rng_);
        memcpy(buf.p, piece.data(), n);
        CHECK_EQ(pwrite(f.direct, buf.p, n, static_cast<off_t>(off)), static_cast<ssize_t>(n));
        grow(f.data, off + n);
        f.data.replace(off, n, piece);
        return;
      }
      case 4: {
        size_t size = rng_.below(3) ? rng_.below(f.data.size() + 1) : rng_.below(largest);
        CHECK(ftruncate(f.fd, static_cast<off_t>(size)) == 0);
        f.data.resize(size, 0);
        return;
      }
      case 5: {
        int mode = (rng_.below(2) ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE;
        CHECK(fallocate(f.fd, mode, static_cast<off_t>(off), static_cast<off_t>(n)) == 0);
        for (size_t i = off; i < std::min(off + n, f.data.size()); i++) f.data[i] = 0;
        return;
      }
      case 6:
        CHECK(fallocate(f.fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(off), static_cast<off_t>(n)) == 0);
        return;
      case 7:
        CHECK(fsync(f.fd) == 0);
        return;
      case 8:
        CHECK(posix_fadvise(f.fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
        return;
      case 9:
        return copy(f, g, off, n);
      default:
        return share(f, g);
    }
  }
  void copy(File &f, File &g, size_t off, size_t n) {
    if (&f == &g || off >= f.data.size()) return;
    if (rng_.below(2)) off = off / block * block;
    n = std::min(n, f.data.size() - off);
    off_t from = static_cast<off_t>(off), to = static_cast<off_t>(rng_.below(2) ? off : rng_.below(90) * block);
    size_t at = static_cast<size_t>(to);
    for (size_t left = n; left;) {
      ssize_t done = copy_file_range(f.fd, &from, g.fd, &to, left, 0);
      CHECK(done > 0);
      left -= static_cast<size_t>(done);
    }
    grow(g.data, at + n);
    g.data.replace(at, n, f.data, off, n);
  }
  void share(File &f, File &g) {
    if (rng_.below(6) == 0 && &f != &g) {
      if (f.data.empty()) return;
      // The rest of the target's last block would stay: only over one that is not longer.
      bool fits = f.data.size() % block == 0 || g.data.size() <= f.data.size();
      int got = ioctl(g.fd, FICLONE, f.fd);
      CHECK((got == 0) == fits);
      if (got == 0) g.data.replace(0, std::min(g.data.size(), f.data.size()), f.data);
      return;
    }
    size_t blocks = f.data.size() / block;
    if (blocks == 0) return;
    size_t from = rng_.below(blocks), n = 1 + rng_.below(std::min<size_t>(blocks - from, 25));
    size_t to = rng_.below(3) ? from : rng_.below(90);
    if (&f == &g && from < to + n && to < from + n) return;
    from *= block, to *= block, n *= block;
    if (rng_.below(3) == 0 && to + n <= g.data.size()) {
      bool same = f.data.compare(from, n, g.data, to, n) == 0;
      long got = dedupe(f.fd, static_cast<off_t>(from), g.fd, static_cast<off_t>(to), n);
      CHECK_EQ(got, same ? static_cast<long>(n) : -1);
      return;
    }
    CHECK(clone_range(f.fd, static_cast<off_t>(from), g.fd, static_cast<off_t>(to), n) == 0);
    Text piece = f.data.substr(from, n);
    grow(g.data, to + n);
    g.data.replace(to, n, piece);
  }
  void compare(size_t k) {
    File &f = f_[k];
    Text got;
    unsigned how = static_cast<unsigned>(rng_.below(3));
    if (how == 0 || f.data.empty()) {
      got = get(f.fd);
    } else if (how == 1) {
      Mapped m(f.fd, f.data.size());
      got.assign(m.p, f.data.size());
    } else {
      size_t n = (f.data.size() + block - 1) / block * block;
      Aligned buf(n);
      CHECK_EQ(pread(f.direct, buf.p, n, 0), static_cast<ssize_t>(f.data.size()));
      got.assign(buf.p, f.data.size());
    }
    if (got == f.data) return;
    size_t at = 0;
    while (at < got.size() && at < f.data.size() && got[at] == f.data[at]) at++;
    fprintf(stderr, "FAILED: file %zu by way %u differs at %zu of %zu (%zu)\n", k, how, at, f.data.size(), got.size());
    exit(1);
  }

  Random rng_;
  File f_[files];
};

// ------------------------------------------------------------------ beside writers
// Writers put one number into all of a block, larger with each time: no block of a clone may be torn, or change later.
void churn(const Text &dir, int seconds) {
  constexpr size_t blocks = 400;
  int a = must_open(dir + "/churned");
  std::vector<unsigned long long> zero(block / 8);
  for (size_t i = 0; i < blocks; i++)
    put(a, Text(reinterpret_cast<char *>(zero.data()), block), static_cast<off_t>(i * block));
  std::atomic<bool> stop{false};
  auto writer = [&](unsigned long long which) {
    Random rng(which);
    std::vector<unsigned long long> number(block / 8);
    Mapped m(a, blocks * block);
    for (unsigned long long i = 1; !stop; i++) {
      size_t at = (2 * rng.below(blocks / 2) + which) * block;
      if (rng.below(2)) {
        for (auto &x : number) x = i;
        CHECK_EQ(pwrite(a, number.data(), block, static_cast<off_t>(at)), block);
      } else {
        m.p[at] = static_cast<char>(m.p[at] ^ 0);  // makes the page writable; the number stays
      }
      if (rng.below(200) == 0) CHECK(fdatasync(a) == 0);
    }
  };
  std::thread one(writer, 0), two(writer, 1);
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  int rounds = 0;
  for (; std::chrono::steady_clock::now() < end; rounds++) {
    int c = must_open(dir + "/moment" + std::to_string(rounds % 4));
    CHECK(ioctl(c, FICLONE, a) == 0);
    Text first = get(c);
    std::vector<unsigned long long> words(first.size() / 8);
    memcpy(words.data(), first.data(), first.size());
    for (size_t i = 0; i < words.size(); i++) CHECK(words[i] == words[i / 512 * 512]);
    CHECK(posix_fadvise(c, 0, 0, POSIX_FADV_DONTNEED) == 0);
    usleep(20000);
    CHECK(get(c) == first);
    close(c);
  }
  stop = true;
  one.join();
  two.join();
  printf("%d clones\n", rounds);
}

}  // namespace

int main(int argc, char **argv) {
  CHECK(argc >= 3);
  Text what = argv[1], dir = argv[2];
  if (what == "calls") {
    calls(dir);
  } else if (what == "random" && argc == 5) {
    Randomly(dir, strtoull(argv[3], nullptr, 0)).run(atoi(argv[4]));
  } else if (what == "churn" && argc == 4) {
    churn(dir, atoi(argv[3]));
  } else {
    return 2;
  }
  return 0;
}
