// SPDX-License-Identifier: MIT
// posix_attributes DIR: modes, owners, times, extended attributes, flags, file handles. Run by root.
#include <fcntl.h>
#include <grp.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <vector>

#include "check.h"

namespace {

int make(const char *name, mode_t mode = 0644) {
  int fd = open(name, O_CREAT | O_EXCL | O_RDWR, mode);
  CHECK(fd >= 0);
  return fd;
}

struct stat stat_of(const char *path) {
  struct stat st;
  CHECK(lstat(path, &st) == 0);
  return st;
}

struct statx statx_of(const char *path) {
  struct statx sx;
  CHECK(statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_ALL, &sx) == 0);
  return sx;
}

// Runs fn as another user and hands back whether it succeeded.
template <class F>
bool as_user(uid_t uid, gid_t gid, F fn) {
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    if (setgroups(0, nullptr) || setgid(gid) || setuid(uid)) _exit(2);
    _exit(fn() ? 0 : 1);
  }
  int status;
  CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) != 2);
  return WEXITSTATUS(status) == 0;
}

// A write over existing blocks with O_DIRECT takes the bits away as well, each time that they were set again.
void set_id_bits_and_direct_writes() {
  static char block[65536] __attribute__((aligned(4096)));
  int fd = make("direct", 0666);
  CHECK(write(fd, block, sizeof(block)) == sizeof(block) && fsync(fd) == 0 && close(fd) == 0);
  for (int flags : {O_DIRECT, 0, O_DIRECT}) {
    CHECK(chmod("direct", 06777) == 0);
    CHECK(as_user(1002, 1002, [flags] {
      int f = open("direct", O_WRONLY | flags);
      return f >= 0 && write(f, block, sizeof(block)) == sizeof(block) && pwrite(f, block, 4096, 0) == 4096;
    }));
    CHECK_EQ(stat_of("direct").st_mode & 07777, 0777u);
  }
  CHECK(unlink("direct") == 0);
}

void modes_and_owners() {
  umask(022);
  close(make("a", 0666));
  CHECK_EQ(stat_of("a").st_mode & 07777, 0644u);
  CHECK(chmod("a", 04755) == 0);
  CHECK_EQ(stat_of("a").st_mode & 07777, 04755u);
  CHECK(chown("a", 1000, 1001) == 0);  // takes the set-user-ID bit away
  CHECK_EQ(stat_of("a").st_mode & 07777, 0755u);
  CHECK_EQ(stat_of("a").st_uid, 1000u);
  CHECK_EQ(stat_of("a").st_gid, 1001u);
  CHECK(chmod("a", 0600) == 0);
  CHECK(chown(".", 0, 0) == 0 && chmod(".", 0755) == 0);
  CHECK(as_user(1000, 1001, [] { return open("a", O_RDWR) >= 0; }));
  CHECK(!as_user(1002, 1001, [] { return open("a", O_RDONLY) >= 0; }));
  CHECK(!as_user(1000, 1001, [] { return unlink("a") == 0; }));  // the directory is root's
  CHECK(!as_user(1000, 1001, [] { return chown("a", 0, 0) == 0; }));
  CHECK(chmod("a", 06777) == 0);
  CHECK(as_user(1002, 1002, [] {  // a write by another takes both bits away
    int fd = open("a", O_WRONLY);
    return fd >= 0 && write(fd, "x", 1) == 1;
  }));
  CHECK_EQ(stat_of("a").st_mode & 06000, 0u);
  set_id_bits_and_direct_writes();
  CHECK(unlink("a") == 0);
  // a set-group-ID directory hands its group on
  CHECK(mkdir("d", 0755) == 0 && chown("d", 0, 4321) == 0 && chmod("d", 02777) == 0);
  close(make("d/f"));
  CHECK_EQ(stat_of("d/f").st_gid, 4321u);
  CHECK(mkdir("d/e", 0755) == 0);
  CHECK_EQ(stat_of("d/e").st_gid, 4321u);
  CHECK(stat_of("d/e").st_mode & S_ISGID);
  // sticky: only owners remove
  CHECK(chmod("d", 01777) == 0);
  CHECK(!as_user(1000, 1000, [] { return unlink("d/f") == 0; }));
  CHECK(unlink("d/f") == 0 && rmdir("d/e") == 0 && rmdir("d") == 0);
}

bool later(const struct timespec &a, const struct timespec &b) {
  return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

bool same(const struct timespec &a, const struct timespec &b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

void times() {
  int fd = make("a");
  struct statx before = statx_of("a");
  CHECK(before.stx_mask & STATX_BTIME);
  CHECK(before.stx_btime.tv_sec > 1500000000);
  // nanoseconds, and years far away
  const struct timespec set[2] = {{.tv_sec = 12345678901, .tv_nsec = 123456789},
                                  {.tv_sec = -5000000000, .tv_nsec = 999999999}};
  CHECK(futimens(fd, set) == 0);
  struct stat st = stat_of("a");
  CHECK(same(st.st_atim, set[0]));
  CHECK(same(st.st_mtim, set[1]));
  struct statx after = statx_of("a");
  CHECK(after.stx_btime.tv_sec == before.stx_btime.tv_sec && after.stx_btime.tv_nsec == before.stx_btime.tv_nsec);
  // writing moves mtime and ctime; chmod only ctime; reading neither
  usleep(20000);
  struct stat s0 = stat_of("a");
  CHECK(write(fd, "x", 1) == 1);
  struct stat s1 = stat_of("a");
  CHECK(later(s1.st_mtim, s0.st_mtim) && later(s1.st_ctim, s0.st_ctim));
  usleep(20000);
  CHECK(fchmod(fd, 0600) == 0);
  struct stat s2 = stat_of("a");
  CHECK(same(s2.st_mtim, s1.st_mtim) && later(s2.st_ctim, s1.st_ctim));
  usleep(20000);
  CHECK(truncate("a", 100) == 0);
  struct stat s3 = stat_of("a");
  CHECK(later(s3.st_mtim, s2.st_mtim) && later(s3.st_ctim, s2.st_ctim));
  // a new name moves the directory's times and the file's ctime
  struct stat d0 = stat_of(".");
  usleep(20000);
  CHECK(link("a", "b") == 0);
  CHECK(later(stat_of(".").st_mtim, d0.st_mtim) && later(stat_of("a").st_ctim, s3.st_ctim));
  CHECK(same(stat_of("a").st_mtim, s3.st_mtim));
  close(fd);
  CHECK(unlink("a") == 0 && unlink("b") == 0);
}

void extended_attributes() {
  int fd = make("a");
  std::vector<char> big(65536), got(65536);
  Random random(7);
  for (char &c : big) c = static_cast<char>(random.next());
  for (size_t n : {size_t{0}, size_t{1}, size_t{100}, size_t{3000}, size_t{5000}, size_t{40000}, size_t{65536}}) {
    std::string name = "user.size" + std::to_string(n);
    CHECK(fsetxattr(fd, name.c_str(), big.data(), n, XATTR_CREATE) == 0);
    CHECK_ERRNO(fsetxattr(fd, name.c_str(), big.data(), n, XATTR_CREATE), EEXIST);
    CHECK_EQ(fgetxattr(fd, name.c_str(), nullptr, 0), static_cast<ssize_t>(n));
    CHECK_EQ(fgetxattr(fd, name.c_str(), got.data(), got.size()), static_cast<ssize_t>(n));
    CHECK(!memcmp(got.data(), big.data(), n));
    if (n > 1) CHECK_ERRNO(fgetxattr(fd, name.c_str(), got.data(), n - 1), ERANGE);
  }
  CHECK_ERRNO(fgetxattr(fd, "user.none", got.data(), got.size()), ENODATA);
  CHECK_ERRNO(fremovexattr(fd, "user.none"), ENODATA);
  CHECK_ERRNO(fsetxattr(fd, "user.none", "x", 1, XATTR_REPLACE), ENODATA);
  CHECK(fsetxattr(fd, "user.size40000", "short", 5, XATTR_REPLACE) == 0);
  CHECK_EQ(fgetxattr(fd, "user.size40000", got.data(), got.size()), 5);
  CHECK(fsetxattr(fd, "trusted.t", "1", 1, 0) == 0 && fsetxattr(fd, "security.s", "2", 1, 0) == 0);
  CHECK_ERRNO(fsetxattr(fd, "unknown.u", "3", 1, 0), EOPNOTSUPP);
  ssize_t n = flistxattr(fd, got.data(), got.size());
  CHECK(n > 0);
  std::string names(got.data(), static_cast<size_t>(n));
  for (const char *want : {"user.size0", "user.size65536", "trusted.t", "security.s"})
    CHECK(names.find(std::string(want) + '\0') != std::string::npos);
  CHECK_EQ(flistxattr(fd, nullptr, 0), n);
  CHECK_ERRNO(flistxattr(fd, got.data(), static_cast<size_t>(n) - 1), ERANGE);
  CHECK(fremovexattr(fd, "user.size65536") == 0);
  CHECK_ERRNO(fgetxattr(fd, "user.size65536", got.data(), got.size()), ENODATA);
  close(fd);
  // directories and symlinks have them too, and many are possible
  CHECK(mkdir("d", 0755) == 0 && symlink("a", "l") == 0);
  for (int i = 0; i < 200; i++) {
    std::string name = "user.many" + std::to_string(i);
    CHECK(setxattr("d", name.c_str(), name.data(), name.size(), 0) == 0);
  }
  for (int i = 0; i < 200; i++) {
    std::string name = "user.many" + std::to_string(i);
    CHECK_EQ(getxattr("d", name.c_str(), got.data(), got.size()), static_cast<ssize_t>(name.size()));
    CHECK(!memcmp(got.data(), name.data(), name.size()));
  }
  CHECK(lsetxattr("l", "trusted.l", "x", 1, 0) == 0);
  CHECK_ERRNO(lsetxattr("l", "user.l", "x", 1, 0), EPERM);
  CHECK(unlink("a") == 0 && unlink("l") == 0 && rmdir("d") == 0);
}

void inode_flags() {
  int fd = make("a");
  int flags = FS_IMMUTABLE_FL;
  CHECK(ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0);
  CHECK_ERRNO(open("a", O_WRONLY), EPERM);
  CHECK_ERRNO(unlink("a"), EPERM);
  CHECK(statx_of("a").stx_attributes & STATX_ATTR_IMMUTABLE);
  flags = FS_APPEND_FL | FS_NODUMP_FL;
  CHECK(ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0);
  CHECK_ERRNO(open("a", O_WRONLY), EPERM);
  int append = open("a", O_WRONLY | O_APPEND);
  CHECK(append >= 0 && write(append, "x", 1) == 1);
  close(append);
  int got = 0;
  CHECK(ioctl(fd, FS_IOC_GETFLAGS, &got) == 0);
  CHECK_EQ(got, FS_APPEND_FL | FS_NODUMP_FL);
  flags = FS_COMPR_FL;  // not ours
  CHECK_ERRNO(ioctl(fd, FS_IOC_SETFLAGS, &flags), EOPNOTSUPP);
  flags = 0;
  CHECK(ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0);
  close(fd);
  CHECK(unlink("a") == 0);
}

void file_handles() {
  close(make("a"));
  CHECK(mkdir("d", 0755) == 0);
  struct {
    struct file_handle h;
    unsigned char bytes[MAX_HANDLE_SZ];
  } h, hd;
  int mount_id;
  h.h.handle_bytes = hd.h.handle_bytes = MAX_HANDLE_SZ;
  CHECK(name_to_handle_at(AT_FDCWD, "a", &h.h, &mount_id, 0) == 0);
  CHECK(name_to_handle_at(AT_FDCWD, "d", &hd.h, &mount_id, 0) == 0);
  int mount = open(".", O_RDONLY | O_DIRECTORY);
  int fd = open_by_handle_at(mount, &h.h, O_RDONLY);
  CHECK(fd >= 0);
  struct stat st;
  CHECK(fstat(fd, &st) == 0 && st.st_ino == stat_of("a").st_ino);
  close(fd);
  CHECK(rename("a", "d/b") == 0);  // a handle survives a rename
  fd = open_by_handle_at(mount, &h.h, O_RDONLY);
  CHECK(fd >= 0);
  close(fd);
  CHECK(unlink("d/b") == 0);
  CHECK_ERRNO(open_by_handle_at(mount, &h.h, O_RDONLY), ESTALE);
  close(make("a"));
  CHECK_ERRNO(open_by_handle_at(mount, &h.h, O_RDONLY), ESTALE);
  fd = open_by_handle_at(mount, &hd.h, O_RDONLY | O_DIRECTORY);
  CHECK(fd >= 0);
  CHECK(openat(fd, "..", O_RDONLY) >= 0);
  close(fd);
  close(mount);
  CHECK(unlink("a") == 0 && rmdir("d") == 0);
}

}  // namespace

int main(int argc, char **argv) {
  CHECK(argc == 2 && chdir(argv[1]) == 0);
  const struct {
    const char *name;
    void (*run)();
  } cases[] = {
      {"modes and owners", modes_and_owners},
      {"times", times},
      {"extended attributes", extended_attributes},
      {"inode flags", inode_flags},
      {"file handles", file_handles},
  };
  for (const auto &c : cases) {
    printf("-- %s\n", c.name);
    fflush(stdout);
    c.run();
  }
  return 0;
}
