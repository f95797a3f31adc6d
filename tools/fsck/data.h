// SPDX-License-Identifier: MIT
// fsck.vexfs --check-data: file data against its checksums, snapshots included, each block of the device once.
#pragma once
#include <vector>

#include "../../kernel/core/store/check.h"

namespace vexfs::fsck {

class DataCheck {
 public:
  struct Figures {
    uint64_t blocks = 0, unsummed = 0, damaged = 0;  // compared; without a checksum; that do not fit
  };
  explicit DataCheck(store::Checker &c) : c_(c) {}
  ~DataCheck();
  DataCheck(const DataCheck &) = delete;
  DataCheck &operator=(const DataCheck &) = delete;
  // Of the state that the checker is at: the present, or a snapshot. fs::check() has found its tree to make sense, or has
  // said what does not. Findings go to the checker. The error is a system one.
  Status run();
  const Figures &figures() const { return figures_; }

 private:
  struct Extent {
    uint64_t first, count, disk;  // blocks
  };
  struct Damage {
    uint64_t ino, first, count, disk;
    bool read_error;
  };
  bool visit(const store::Key &k, Bytes v);
  void compare(uint64_t first, Bytes sums);
  void compare_run(uint64_t block, uint64_t disk, uint64_t count, const uint32_t *sums);
  void read_and_compare(uint64_t block, uint64_t disk, uint64_t count, const uint32_t *sums);
  void damaged(uint64_t block, uint64_t disk, bool read_error);
  Status report();

  store::Checker &c_;
  Figures figures_;
  std::vector<bool> seen_;       // blocks of the device
  uint8_t *buf_ = nullptr;       // aligned as devices want it
  uint64_t ino_ = 0;             // the file whose items are passing by
  std::vector<Extent> extents_;  // of it, summed ones, ascending
  std::vector<Damage> damages_;  // of this state
};

}  // namespace vexfs::fsck
