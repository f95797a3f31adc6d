// SPDX-License-Identifier: MIT
// Many batches of rows in flight at once: over io_uring to a mount, by threads otherwise.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "../../include/uapi/vexfs.h"
#include "place.h"

namespace vexfs::client {

// One BATCH_OPERATIONS with the memory it needs.
struct Batch {
  vexfs_batch command{};
  std::vector<vexfs_row> rows;  // empty: ADD with ids assigned and no owners
  std::vector<uint8_t> data;
  uint64_t first = 0;  // the caller's: which rows of the input these are
};

// The way batches are carried. Internal; see BatchPipe.
class Carrier {
 public:
  virtual ~Carrier() = default;
  virtual void start(Batch *b) = 0;
  virtual Batch *wait(int *err) = 0;  // the next one that is complete; *err: 0 or a negative errno
  virtual const char *name() const = 0;
};
std::unique_ptr<Carrier> thread_carrier(Target &t, unsigned threads);
// Null where there is no ring to be had (old kernel, forbidden, built without liburing, or an image).
std::unique_ptr<Carrier> ring_carrier(Target &t, unsigned depth);

// Used from one thread: take() a batch, fill it, submit() it; finish() waits for the rest. Batches are carried out in
// no particular order when depth is above 1. The first failure is kept: after it, submit() drops what it is given.
class BatchPipe {
 public:
  enum class Via { ring_or_threads, threads };
  BatchPipe(Target &t, unsigned depth, Via via);
  ~BatchPipe();
  BatchPipe(const BatchPipe &) = delete;
  BatchPipe &operator=(const BatchPipe &) = delete;

  std::unique_ptr<Batch> take();
  void submit(std::unique_ptr<Batch> b);
  void finish();

  uint64_t rows_done() const { return rows_done_; }
  int error() const { return error_; }  // 0 or a negative errno
  // Which rows of the input were done: first and last of each run of them, none adjacent to another.
  const std::map<uint64_t, uint64_t> &done() const { return done_; }
  uint64_t error_row() const { return error_row_; }  // of the input: `first` of the failed batch + rows it had done
  const char *carrier() const { return carrier_->name(); }

 private:
  void reap();
  void note_done(uint64_t first, uint64_t count);

  Target &target_;
  unsigned depth_;
  unsigned in_flight_ = 0;
  std::unique_ptr<Carrier> carrier_;
  std::vector<std::unique_ptr<Batch>> spare_;
  uint64_t rows_done_ = 0;
  std::map<uint64_t, uint64_t> done_;
  int error_ = 0;
  uint64_t error_row_ = 0;
};

}  // namespace vexfs::client
