// SPDX-License-Identifier: MIT
// Drives a real filesystem and the model with the same random operations, and compares them.
//
// A run is determined by its seed. step() does one operation on both and compares the outcome; compare() walks both as
// a whole; commit(), crash() and remount() do what they say, with comparison. Failures are gtest failures that name the
// seed and the number of the step. The vector tests derive from Driver, adding operations (extra_step) and state.
#pragma once
#include <map>
#include <random>
#include <set>

#include "../unit/fs_fixture.h"
#include "fs_model.h"

namespace vexfs::model {

struct DriverOptions {
  uint64_t seed = 1;
  fs::test::FixtureOptions fixture;
  size_t max_nodes = 300;
  uint64_t max_file = 200000;
};

class Driver {
 public:
  explicit Driver(const DriverOptions &o);
  virtual ~Driver() = default;

  void step();
  void run(uint64_t steps);  // with commits, crashes, remounts and comparisons in between; stops at the first failure
  void compare();
  void commit();
  void crash();
  void remount();
  bool failed() const { return ::testing::Test::HasFailure(); }
  uint64_t steps() const { return step_; }

 protected:
  // A higher layer's operation instead of one on files: true if it did one.
  virtual bool extra_step() { return false; }
  virtual void extra_commit() {}
  virtual void extra_crash() {}
  virtual void extra_compare() {}
  virtual void gone(uint64_t node) { (void)node; }  // its last name went

  uint64_t pick(uint64_t n) { return n ? std::uniform_int_distribution<uint64_t>(0, n - 1)(rng_) : 0; }
  uint64_t pick_node();
  uint64_t pick_dir();
  uint64_t pick_file();
  std::string pick_name(uint64_t dir);
  std::string bytes(uint64_t n);
  fs::InodeRef inode(uint64_t node);
  void expect(const char *what, int want, Errno got);
  int64_t tick() { return ++clock_; }

  fs::test::TestFs fs_;
  fs::Filesystem *shown_ = nullptr;  // compare() looks at this one instead
  FsModel model_, saved_;
  std::map<uint64_t, uint64_t> ino_of_, saved_ino_of_;  // model's node -> inode number
  std::mt19937_64 rng_;

 private:
  void do_create();
  void do_link();
  void do_unlink();
  void do_rename();
  void do_write(bool buffered);
  void do_truncate();
  void do_fallocate();
  void do_clone();
  void do_xattr();
  void do_setattr();
  void do_open_close();
  void do_readdir();
  void do_lookup();
  void write_buffered(fs::Inode &ip, uint64_t off, uint64_t len, const std::string &all);
  void changed_in_place(uint64_t node, uint64_t from);
  void was_removed(uint64_t node);
  void compare_node(uint64_t n, const Node &m);
  void compare_data(uint64_t n, const Node &m, fs::Inode &ip);
  void compare_xattrs(const Node &m, fs::Inode &ip);
  void compare_names(const Node &m, fs::Inode &ip);

  DriverOptions o_;
  uint64_t step_ = 0;
  int64_t clock_ = 1000;
  std::set<uint64_t> unsure_;  // contents may have changed in place since the last commit
  struct Held {
    fs::InodeRef ip;
    std::string data;  // of a file without names
    bool nameless = false;
  };
  std::map<uint64_t, Held> held_;
};

}  // namespace vexfs::model
