// SPDX-License-Identifier: MIT
// An image file or unmounted device as a Place: the same commands as on a mount, carried out by the core in this
// process, with no permission checks.
#pragma once
#include <memory>
#include <string>

#include "../../kernel/core/api.h"
#include "../client/place.h"
#include "caller.h"

namespace vexfs::client {

struct ImageOptions {
  bool read_only = false;
  uint32_t commit_interval_ms = 5000;
  uint32_t index_threads = 0;  // 0: the caller does the indexing
  std::string snapshot;        // not empty: show that snapshot, read-only
};

// Paths are absolute inside the image. Throws Error. close() commits and unmounts; the destructor does it too, but
// cannot report an error.
class ImagePlace : public Place {
 public:
  static std::unique_ptr<ImagePlace> open_image(const std::string &file, const ImageOptions &options);
  virtual vx_fs *fs() = 0;
  // A snapshot beside what is open, read-only, until close(). Throws Error: ENOENT.
  virtual vx_fs *view(const std::string &snapshot) = 0;
  // path_of() in a snapshot, which is not kept open. Throws Error: ENOENT.
  virtual std::string path_in(const std::string &snapshot, uint64_t ino) = 0;
  // A regular file or directory made at an absolute path, with its missing parents when `parents`.
  virtual void make(const std::string &path, bool directory, bool parents) = 0;
  virtual void write_file(const std::string &path, const std::string &contents) = 0;
  virtual void close() = 0;
};

}  // namespace vexfs::client
