// SPDX-License-Identifier: MIT
// posix_names DIR: names and links, as POSIX and Linux define them. Run by root in an empty directory.
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <vector>

#include "check.h"

namespace {

void touch(const std::string &path, const char *text = "") {
  int fd = open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644);
  CHECK(fd >= 0);
  CHECK(write(fd, text, strlen(text)) == static_cast<ssize_t>(strlen(text)));
  CHECK(close(fd) == 0);
}

struct stat stat_of(const std::string &path) {
  struct stat st;
  CHECK(lstat(path.c_str(), &st) == 0);
  return st;
}

bool exists(const std::string &path) {
  struct stat st;
  return lstat(path.c_str(), &st) == 0;
}

std::string text_of(const std::string &path) {
  char buf[4096];
  int fd = open(path.c_str(), O_RDONLY);
  CHECK(fd >= 0);
  ssize_t n = read(fd, buf, sizeof buf);
  CHECK(n >= 0);
  close(fd);
  return std::string(buf, static_cast<size_t>(n));
}

int rename2(const char *from, const char *to, unsigned flags) {
  return static_cast<int>(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags));
}

void create_and_remove() {
  touch("a");
  CHECK_ERRNO(open("a", O_CREAT | O_EXCL | O_WRONLY, 0644), EEXIST);
  CHECK_ERRNO(open("missing/a", O_CREAT | O_WRONLY, 0644), ENOENT);
  CHECK_ERRNO(open("a/b", O_CREAT | O_WRONLY, 0644), ENOTDIR);
  CHECK_ERRNO(rmdir("a"), ENOTDIR);
  CHECK(mkdir("d", 0755) == 0);
  CHECK_ERRNO(mkdir("d", 0755), EEXIST);
  CHECK_ERRNO(unlink("d"), EISDIR);
  CHECK_ERRNO(open("d", O_WRONLY), EISDIR);
  touch("d/x");
  CHECK_ERRNO(rmdir("d"), ENOTEMPTY);
  CHECK(unlink("d/x") == 0);
  CHECK(rmdir("d") == 0);
  CHECK(unlink("a") == 0);
  CHECK_ERRNO(unlink("a"), ENOENT);
}

void name_lengths() {
  std::string longest(255, 'n');
  touch(longest);
  CHECK(exists(longest));
  CHECK(unlink(longest.c_str()) == 0);
  std::string too_long(256, 'n');
  CHECK_ERRNO(open(too_long.c_str(), O_CREAT | O_WRONLY, 0644), ENAMETOOLONG);
  CHECK_ERRNO(mkdir(too_long.c_str(), 0755), ENAMETOOLONG);
  // Any byte but '/' and NUL is a name.
  std::string odd;
  for (int c = 1; c < 256; c++)
    if (c != '/') odd.push_back(static_cast<char>(c));
  odd.resize(255, 'x');
  touch(odd);
  CHECK(unlink(odd.c_str()) == 0);
}

void hard_links() {
  touch("a", "text");
  CHECK_EQ(stat_of("a").st_nlink, 1u);
  CHECK(link("a", "b") == 0);
  CHECK_EQ(stat_of("a").st_nlink, 2u);
  CHECK_EQ(stat_of("a").st_ino, stat_of("b").st_ino);
  CHECK_ERRNO(link("a", "b"), EEXIST);
  CHECK(mkdir("d", 0755) == 0);
  CHECK_ERRNO(link("d", "e"), EPERM);
  CHECK(unlink("a") == 0);
  CHECK_EQ(stat_of("b").st_nlink, 1u);
  CHECK(text_of("b") == "text");
  // rename between two names of one file changes nothing
  CHECK(link("b", "c") == 0);
  CHECK(rename("b", "c") == 0);
  CHECK(exists("b") && exists("c"));
  CHECK(unlink("b") == 0 && unlink("c") == 0 && rmdir("d") == 0);
}

void directory_links() {
  CHECK(mkdir("d", 0755) == 0);
  CHECK_EQ(stat_of("d").st_nlink, 2u);
  CHECK(mkdir("d/1", 0755) == 0 && mkdir("d/2", 0755) == 0);
  CHECK_EQ(stat_of("d").st_nlink, 4u);
  CHECK(mkdir("e", 0755) == 0);
  CHECK(rename("d/1", "e/1") == 0);
  CHECK_EQ(stat_of("d").st_nlink, 3u);
  CHECK_EQ(stat_of("e").st_nlink, 3u);
  CHECK_EQ(stat_of("e/1/..").st_ino, stat_of("e").st_ino);
  CHECK(rmdir("e/1") == 0 && rmdir("e") == 0 && rmdir("d/2") == 0 && rmdir("d") == 0);
}

void renames() {
  touch("a", "a");
  touch("b", "b");
  CHECK_ERRNO(rename2("a", "b", RENAME_NOREPLACE), EEXIST);
  CHECK(rename2("a", "c", RENAME_NOREPLACE) == 0);
  CHECK(!exists("a") && text_of("c") == "a");
  CHECK(rename("c", "b") == 0);
  CHECK(!exists("c") && text_of("b") == "a");
  CHECK(mkdir("d", 0755) == 0 && mkdir("d/e", 0755) == 0);
  CHECK_ERRNO(rename("d", "d/e/f"), EINVAL);
  CHECK_ERRNO(rename("b", "d"), EISDIR);
  CHECK_ERRNO(rename("d", "b"), ENOTDIR);
  CHECK(mkdir("f", 0755) == 0);
  CHECK_ERRNO(rename("f", "d"), ENOTEMPTY);
  CHECK(rename("d", "f") == 0);  // onto an empty directory
  CHECK(!exists("d") && exists("f/e"));
  CHECK_ERRNO(rename("missing", "x"), ENOENT);
  // exchange: of a file and a directory too, across directories
  CHECK(rename2("b", "f/e", RENAME_EXCHANGE) == 0);
  CHECK(S_ISDIR(stat_of("b").st_mode) && text_of("f/e") == "a");
  CHECK_EQ(stat_of("f").st_nlink, 2u);
  CHECK_EQ(stat_of("b/..").st_ino, stat_of(".").st_ino);
  CHECK_ERRNO(rename2("b", "nothing", RENAME_EXCHANGE), ENOENT);
  // whiteout: a character device 0,0 stays behind
  CHECK(rename2("f/e", "g", RENAME_WHITEOUT) == 0);
  CHECK(S_ISCHR(stat_of("f/e").st_mode) && stat_of("f/e").st_rdev == makedev(0, 0));
  CHECK(text_of("g") == "a");
  CHECK(unlink("g") == 0 && unlink("f/e") == 0 && rmdir("f") == 0 && rmdir("b") == 0);
}

void symlinks() {
  for (size_t n : {1u, 59u, 255u, 1000u, 2047u, 4095u}) {
    std::string target(n, 't');
    CHECK(symlink(target.c_str(), "l") == 0);
    char buf[5000];
    ssize_t got = readlink("l", buf, sizeof buf);
    CHECK(got == static_cast<ssize_t>(n) && std::string(buf, n) == target);
    CHECK_EQ(stat_of("l").st_size, static_cast<off_t>(n));
    CHECK(unlink("l") == 0);
  }
  CHECK_ERRNO(symlink(std::string(4096, 't').c_str(), "l"), ENAMETOOLONG);
  touch("a", "through");
  CHECK(symlink("a", "l") == 0);
  CHECK(text_of("l") == "through");
  CHECK(symlink("m2", "m1") == 0 && symlink("m1", "m2") == 0);
  CHECK_ERRNO(open("m1", O_RDONLY), ELOOP);
  CHECK(unlink("a") == 0 && unlink("l") == 0 && unlink("m1") == 0 && unlink("m2") == 0);
}

void special_files() {
  CHECK(mkfifo("fifo", 0600) == 0);
  CHECK(S_ISFIFO(stat_of("fifo").st_mode));
  CHECK(mknod("chr", S_IFCHR | 0600, makedev(1, 3)) == 0);
  CHECK(stat_of("chr").st_rdev == makedev(1, 3));
  int fd = open("chr", O_WRONLY);  // the null device
  CHECK(fd >= 0 && write(fd, "x", 1) == 1);
  close(fd);
  CHECK(mknod("blk", S_IFBLK | 0600, makedev(259, 1000000)) == 0);
  CHECK(S_ISBLK(stat_of("blk").st_mode) && stat_of("blk").st_rdev == makedev(259, 1000000));
  CHECK(mknod("sock", S_IFSOCK | 0600, 0) == 0);
  CHECK(S_ISSOCK(stat_of("sock").st_mode));
  for (const char *n : {"fifo", "chr", "blk", "sock"}) CHECK(unlink(n) == 0);
}

void unlinked_while_open() {
  touch("a", "still here");
  int fd = open("a", O_RDWR);
  CHECK(fd >= 0);
  CHECK(unlink("a") == 0);
  struct stat st;
  CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0);
  char buf[32];
  CHECK(pread(fd, buf, sizeof buf, 0) == 10 && !memcmp(buf, "still here", 10));
  CHECK(pwrite(fd, "more", 4, 100000) == 4);
  CHECK(ftruncate(fd, 5) == 0);
  touch("a", "another");
  CHECK(pread(fd, buf, sizeof buf, 0) == 5 && !memcmp(buf, "still", 5));
  close(fd);
  CHECK(text_of("a") == "another");
  CHECK(unlink("a") == 0);
  // a directory that is removed while somebody is in it
  CHECK(mkdir("d", 0755) == 0);
  int dir = open("d", O_RDONLY | O_DIRECTORY);
  CHECK(dir >= 0 && rmdir("d") == 0);
  CHECK_ERRNO(openat(dir, "x", O_CREAT | O_WRONLY, 0644), ENOENT);
  close(dir);
}

void temporary_files() {
  int fd = open(".", O_TMPFILE | O_RDWR, 0600);
  CHECK(fd >= 0);
  CHECK(write(fd, "unnamed", 7) == 7);
  struct stat st;
  CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0);
  CHECK(linkat(AT_FDCWD, ("/proc/self/fd/" + std::to_string(fd)).c_str(), AT_FDCWD, "named", AT_SYMLINK_FOLLOW) == 0);
  CHECK(fstat(fd, &st) == 0 && st.st_nlink == 1);
  close(fd);
  CHECK(text_of("named") == "unnamed");
  CHECK(unlink("named") == 0);
  fd = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
  CHECK(fd >= 0);
  CHECK_ERRNO(linkat(AT_FDCWD, ("/proc/self/fd/" + std::to_string(fd)).c_str(), AT_FDCWD, "x", AT_SYMLINK_FOLLOW),
              ENOENT);
  close(fd);
}

// Every name that is there from beginning to end is seen exactly once, whatever happens to others meanwhile.
void reading_directories() {
  const int n = 3000;
  CHECK(mkdir("d", 0755) == 0 && chdir("d") == 0);
  for (int i = 0; i < n; i++) touch("stay" + std::to_string(i));
  for (int i = 0; i < n; i++) touch("go" + std::to_string(i));
  DIR *d = opendir(".");
  CHECK(d);
  std::multiset<std::string> seen;
  std::vector<std::pair<long, std::string>> places;
  int gone = 0;
  for (;;) {
    long place = telldir(d);
    dirent *e = readdir(d);
    if (!e) break;
    seen.insert(e->d_name);
    places.emplace_back(place, e->d_name);
    if (gone == n) continue;
    CHECK(unlink(("go" + std::to_string(gone++)).c_str()) == 0);
    if (gone % 3 == 0) touch("new" + std::to_string(gone));
  }
  for (int i = 0; i < n; i++) CHECK_EQ(seen.count("stay" + std::to_string(i)), 1u);
  CHECK_EQ(seen.count("."), 1u);
  CHECK_EQ(seen.count(".."), 1u);
  for (const std::string &s : seen) CHECK_EQ(seen.count(s), 1u);
  // a place is good for as long as the directory is open: seek to each remembered name that is still there
  for (size_t i = 0; i < places.size(); i += 97) {
    if (places[i].second.rfind("stay", 0) != 0) continue;
    seekdir(d, places[i].first);
    dirent *e = readdir(d);
    CHECK(e && places[i].second == e->d_name);
  }
  closedir(d);
  d = opendir(".");
  std::vector<std::string> all;
  while (dirent *e = readdir(d)) all.push_back(e->d_name);
  closedir(d);
  for (const std::string &s : all)
    if (s != "." && s != "..") CHECK(unlink(s.c_str()) == 0);
  CHECK(chdir("..") == 0 && rmdir("d") == 0);
}

void file_system_figures() {
  struct statfs s;
  CHECK(statfs(".", &s) == 0);
  CHECK_EQ(s.f_type, 0x56455846);
  CHECK_EQ(s.f_namelen, 255);
  CHECK(s.f_blocks > 0 && s.f_bfree <= s.f_blocks && s.f_bavail <= s.f_bfree);
  CHECK(s.f_files > 0 && s.f_ffree <= s.f_files);
}

}  // namespace

int main(int argc, char **argv) {
  CHECK(argc == 2 && chdir(argv[1]) == 0);
  const struct {
    const char *name;
    void (*run)();
  } cases[] = {
      {"create and remove", create_and_remove},
      {"name lengths", name_lengths},
      {"hard links", hard_links},
      {"directory links", directory_links},
      {"renames", renames},
      {"symlinks", symlinks},
      {"special files", special_files},
      {"unlinked while open", unlinked_while_open},
      {"temporary files", temporary_files},
      {"reading directories", reading_directories},
      {"file system figures", file_system_figures},
  };
  for (const auto &c : cases) {
    printf("-- %s\n", c.name);
    fflush(stdout);
    c.run();
  }
  return 0;
}
