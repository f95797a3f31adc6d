// SPDX-License-Identifier: MIT
// A regular file open for reading at offsets, as the vector file readers need it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace vexfs::vecfile {

class File {
 public:
  explicit File(std::string path);  // throws Error
  ~File();
  File(const File &) = delete;
  File &operator=(const File &) = delete;

  uint64_t size() const { return size_; }
  const std::string &path() const { return path_; }
  void read(uint64_t off, void *buf, size_t n) const;  // all of it, or throws Error

 private:
  std::string path_;
  int fd_;
  uint64_t size_ = 0;
};

}  // namespace vexfs::vecfile
