// SPDX-License-Identifier: MIT
// A device on top of another that is only read: what is written stays in memory. So a program can see what a mount would
// make of an image (recovery included) without touching it.
#pragma once
#include <unordered_map>

#include "device.h"

namespace vexfs::host {

class OverlayDevice : public vx_bdev {
 public:
  explicit OverlayDevice(vx_bdev *below) : below_(below) {}  // not owned

  uint64_t size() const override { return below_->size(); }
  uint32_t logical_block() const override { return below_->logical_block(); }
  const char *name() const override { return below_->name(); }
  int submit(vx_io *ios, size_t n) override;
  int flush() override { return 0; }

 private:
  static constexpr uint64_t page_bytes = 4096;
  using Page = std::vector<uint8_t>;
  int read(const vx_io &io);
  int write(const vx_io &io);

  vx_bdev *below_;
  std::mutex lock_;
  std::unordered_map<uint64_t, Page> pages_;  // by number
};

}  // namespace vexfs::host
