// SPDX-License-Identifier: MIT
// The overlay: pages that were written are in memory, everything else comes from below.
#include "overlay.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

namespace vexfs::host {

int OverlayDevice::submit(vx_io *ios, size_t n) {
  int first = 0;
  for (size_t i = 0; i < n; i++) {
    const std::lock_guard<std::mutex> g(lock_);
    try {
      ios[i].err = ios[i].flags & VX_IO_WRITE ? write(ios[i]) : read(ios[i]);
    } catch (const std::bad_alloc &) {  // the core that calls knows no exceptions
      ios[i].err = -ENOMEM;
    }
    if (first == 0) first = ios[i].err;
  }
  return first;
}

int OverlayDevice::read(const vx_io &io) {
  vx_io below{io.off, io.len, io.buf, 0, VX_IO_READ};
  if (const int rc = below_->submit(&below, 1)) return rc;
  const uint64_t end = io.off + io.len;
  for (uint64_t at = io.off; at < end;) {
    const uint64_t page = at / page_bytes, from = at % page_bytes, n = std::min(end - at, page_bytes - from);
    if (const auto p = pages_.find(page); p != pages_.end())
      memcpy(static_cast<uint8_t *>(io.buf) + (at - io.off), p->second.data() + from, n);
    at += n;
  }
  return 0;
}

int OverlayDevice::write(const vx_io &io) {
  const uint64_t end = io.off + io.len;
  for (uint64_t at = io.off; at < end;) {
    const uint64_t page = at / page_bytes, from = at % page_bytes, n = std::min(end - at, page_bytes - from);
    auto p = pages_.find(page);
    if (p == pages_.end()) {
      Page fresh(page_bytes);
      const uint64_t start = page * page_bytes, have = std::min(page_bytes, size() - start);
      vx_io below{start, have, fresh.data(), 0, VX_IO_READ};
      if (n < have)
        if (const int rc = below_->submit(&below, 1)) return rc;
      p = pages_.emplace(page, std::move(fresh)).first;
    }
    memcpy(p->second.data() + from, static_cast<const uint8_t *>(io.buf) + (at - io.off), n);
    at += n;
  }
  return 0;
}

}  // namespace vexfs::host
