// SPDX-License-Identifier: MIT
// The tree of files that a stream is made from or applied to: a directory of a mounted filesystem, or an image. Paths
// are relative to its root, "" is the root itself; symbolic links are never followed, ".." is never used.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../client/place.h"
#include "format.h"

namespace vexfs::stream {

struct Attr {
  uint64_t ino = 0, size = 0;
  uint32_t mode = 0, uid = 0, gid = 0, nlink = 0, flags = 0, major = 0, minor = 0;
  Time atime, mtime, ctime, btime;
  uint32_t type() const { return mode & 0170000; }
  bool is_dir() const { return type() == 0040000; }
  bool is_file() const { return type() == 0100000; }
};

struct Entry {
  std::string name;
  uint64_t ino = 0;
  bool directory = false;
};

struct Extent {
  uint64_t end = 0;   // bytes, of the piece; beyond the place that was asked for
  bool data = false;  // else it reads as zeroes, and takes no space that matters
  uint64_t disk = 0;  // where the byte that was asked for lies on the device; 0: not known
};

class File {
 public:
  virtual ~File() = default;
  File(const File &) = delete;
  File &operator=(const File &) = delete;
  virtual Extent extent(uint64_t off) = 0;
  virtual size_t read(uint64_t off, void *buf, size_t n) = 0;  // less than n: the end of the file
  virtual void write(uint64_t off, const void *buf, size_t n) = 0;
  virtual void punch(uint64_t off, uint64_t n) = 0;
  virtual void resize(uint64_t size) = 0;

 protected:
  File() = default;
};

// Everything throws client::Error.
class Tree {
 public:
  virtual ~Tree() = default;
  Tree(const Tree &) = delete;
  Tree &operator=(const Tree &) = delete;

  // ---- reading
  virtual bool stat(const std::string &path, Attr *out) = 0;  // false: there is nothing
  virtual void list(const std::string &path, const std::function<void(const Entry &)> &each) = 0;
  virtual std::string read_link(const std::string &path) = 0;
  virtual std::vector<std::string> xattrs(const std::string &path) = 0;
  virtual bool xattr(const std::string &path, const std::string &name, std::string *value) = 0;  // false: none, ""
  virtual std::unique_ptr<File> open(const std::string &path, bool write) = 0;
  virtual std::unique_ptr<client::Target> target(const std::string &path) = 0;  // for commands

  // ---- changing
  virtual void make(const std::string &path, uint32_t type, uint32_t major, uint32_t minor,
                    const std::string &link) = 0;  // accessible to the owner alone
  virtual void link(const std::string &path, const std::string &to) = 0;
  virtual void move(const std::string &path, const std::string &to) = 0;  // EEXIST if `to` is there
  virtual void remove(const std::string &path, bool directory) = 0;
  virtual void set_flags(const std::string &path, uint32_t flags) = 0;
  virtual void set_owner(const std::string &path, uint32_t uid, uint32_t gid, uint32_t mode) = 0;
  virtual void set_xattr(const std::string &path, const std::string &name, const std::string &value) = 0;
  virtual void remove_xattr(const std::string &path, const std::string &name) = 0;  // no error when there is none
  virtual void set_times(const std::string &path, const Record &times) = 0;         // those that can be set
  virtual void sync() = 0;
  virtual std::string name() const = 0;  // for messages

  // The attribute, or an Error that says what is missing.
  Attr need(const std::string &path);

 protected:
  Tree() = default;
};

// A directory of a mounted filesystem, and what is below it in that filesystem.
std::unique_ptr<Tree> posix_tree(const std::string &directory);

std::string join(const std::string &dir, const std::string &name);

}  // namespace vexfs::stream
