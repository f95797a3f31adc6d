// SPDX-License-Identifier: MIT
// Where commands go: a Place is a mounted VexFS or an image file, a Target one open file or directory in it.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

namespace vexfs::client {

// An open file or directory. command() may be called from several threads at once.
class Target {
 public:
  virtual ~Target() = default;
  Target(const Target &) = delete;
  Target &operator=(const Target &) = delete;

  // One command of <uapi/vexfs.h>; arg is its struct. 0 or a negative errno.
  virtual int command(uint32_t cmd, void *arg) = 0;
  virtual int fd() const { return -1; }  // of a mount; -1 on an image

  const std::string &path() const { return path_; }
  uint64_t ino() const { return ino_; }
  bool is_directory() const { return is_directory_; }

 protected:
  Target() = default;
  std::string path_;
  uint64_t ino_ = 0;
  bool is_directory_ = false;
};

struct Space {
  uint32_t block_size = 0;  // bytes
  uint64_t blocks = 0;
  uint64_t blocks_free = 0;
  uint64_t blocks_available = 0;
  uint64_t inodes_used = 0;
};

class Place {
 public:
  virtual ~Place() = default;
  Place(const Place &) = delete;
  Place &operator=(const Place &) = delete;

  // Throws Error: not there, no permission, not on a VexFS.
  virtual std::unique_ptr<Target> open(const std::string &path) = 0;
  // A path that leads to the inode, looked for below `near` when there is no direct way. "" when none is found.
  virtual std::string path_of(uint64_t ino, uint32_t generation, const Target &near) = 0;
  virtual Space space(const Target &at) = 0;
  virtual void sync(const Target &at) = 0;  // everything done so far is durable; throws Error
  virtual std::string default_path() const = 0;
  virtual bool is_image() const = 0;

 protected:
  Place() = default;
};

// Mounted filesystems: paths are the system's.
std::unique_ptr<Place> mounted();

struct MountInfo {
  std::string point;    // where it is mounted
  std::string source;   // the device
  std::string options;  // mount and superblock options
};
// The mount that `path` lies in; throws Error when it is no VexFS.
MountInfo find_mount(const std::string &path);
// The same file or directory as it was in a snapshot: a path below the mount's .vexfs/snapshots.
std::string path_in_snapshot(const std::string &path, const std::string &name);

}  // namespace vexfs::client
