// SPDX-License-Identifier: MIT
// Operations on a mounted filesystem as crash tests do them: by path, of any outcome, each state told to the history.
#pragma once
#include "history.h"

namespace vexfs::crash {

enum class Persist : uint8_t { fsync, sync, commit, none };  // fsync: of the inode that was touched last

struct Session {
  explicit Session(vector::test::Mount &mount) : m(mount) {}
  ~Session() { close_held(); }

  // Paths are relative to the root, which is "". What fails sets `failed`, unless something has before.
  void make(const std::string &dir, const std::string &name, uint32_t mode, const char *target = nullptr);
  void write(const std::string &path, uint64_t off, size_t n);
  void append(const std::string &path, size_t n);
  void truncate(const std::string &path, uint64_t size);
  void fallocate(const std::string &path, unsigned mode, uint64_t off, uint64_t n);
  // The blocks become those of the other file; n 0: all of them from `from` on.
  void clone(const std::string &source, uint64_t from, const std::string &path, uint64_t to, uint64_t n = 0);
  void link(const std::string &path, const std::string &dir, const std::string &name);
  void unlink(const std::string &dir, const std::string &name, bool rmdir = false);
  void rename(const std::string &from, const std::string &a, const std::string &to, const std::string &b,
              unsigned flags = 0);
  void set_xattr(const std::string &path, size_t n);
  void remove_xattr(const std::string &path);
  void chmod(const std::string &path, uint32_t mode);
  void tmpfile(const std::string &dir, const std::string &name);
  void unlink_open(const std::string &dir, const std::string &name);
  void create_collection(const std::string &dir, uint16_t index);
  void drop_collection(const std::string &dir);
  void add_row(const std::string &path, unsigned flags = 0);
  void add_rows(const std::string &dir);
  void update_row(const std::string &dir, uint64_t id);
  void delete_row(const std::string &dir, uint64_t id);
  void checkpoint(const std::string &dir);

  int persist(Persist p);
  void close_held();  // what was deleted while it was open goes

  vector::test::Mount &m;
  History *history = nullptr;  // told of every state, if there is one
  uint64_t touched = 0;        // inode number
  int failed = 0;              // the first error since it was set to 0
  unsigned position = 0;       // each operation has its own times and contents

 private:
  void done(int err);
  vx_time time() const { return {2000 + position, 7, 0}; }
  std::string filling(size_t n) const { return std::string(n, static_cast<char>('a' + (position + 10) % 26)); }
  std::vector<vx_inode *> held_;
};

}  // namespace vexfs::crash
