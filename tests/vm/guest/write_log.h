// SPDX-License-Identifier: MIT
// Reading what dm-log-writes has recorded (the kernel's Documentation/admin-guide/device-mapper/log-writes.rst): every write
// to a device in the order in which it became durable, with the flushes and FUA writes that made it so, and marks.
//
//   [superblock: one sector] { [entry: one sector] [data, or of a mark nothing] } ...
//
// Writes stand before the flush that made them durable; those after it, up to the next flush or FUA write, were in the
// device's cache meanwhile. So at a power cut behind entry P all before P is on the device, and of the writes up to the next
// barrier any part (docs/testing.md).
#pragma once
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "ackload.h"
#include "check.h"

namespace write_log {

enum : uint64_t { kFlush = 1, kFua = 2, kDiscard = 4, kMark = 8 };

struct Entry {
  uint64_t off = 0, bytes = 0;  // on the device
  uint64_t flags = 0;
  uint64_t data_at = 0;  // in the log, bytes
  std::string mark;
  bool barrier() const { return flags & (kFlush | kFua); }
  bool written() const { return bytes != 0 && !(flags & (kMark | kDiscard)); }
};

class Log {
 public:
  explicit Log(const std::string &path) : fd_(open(path.c_str(), O_RDONLY)) {
    CHECK(fd_ >= 0);
    struct Super {
      uint64_t magic, version, entries;
      uint32_t sector;
    } super;
    read_at(0, &super, sizeof super);
    CHECK_EQ(super.magic, 0x6a736677736872ull);
    CHECK_EQ(super.version, 1u);
    sector_ = super.sector;
    CHECK(sector_ >= 512 && sector_ <= 65536);
    uint64_t at = sector_;
    for (uint64_t i = 0; i < super.entries; i++) {
      struct Disk {
        uint64_t sector, sectors, flags, data_len;
      } d;
      read_at(at, &d, sizeof d);
      Entry e;
      e.off = d.sector * sector_;
      e.bytes = d.sectors * sector_;
      e.flags = d.flags;
      if (d.flags & kMark) {
        CHECK(d.data_len < sector_ - sizeof d);
        e.mark.resize(d.data_len);
        read_at(at + sizeof d, e.mark.data(), e.mark.size());
      }
      at += sector_;
      e.data_at = at;
      if (e.written()) at += e.bytes;
      entries_.push_back(std::move(e));
    }
  }
  ~Log() { close(fd_); }
  Log(const Log &) = delete;

  const std::vector<Entry> &entries() const { return entries_; }
  uint32_t sector() const { return sector_; }
  // The place behind a mark, or behind the last entry.
  size_t behind(const std::string &mark) const {
    size_t i = 0;
    while (i < entries_.size() && entries_[i].mark != mark) i++;
    CHECK(i < entries_.size());
    return i + 1;
  }
  // Places where the power may fail: behind a barrier. From `from` on.
  std::vector<size_t> points(size_t from) const {
    std::vector<size_t> all;
    for (size_t i = from; i < entries_.size(); i++)
      if (entries_[i].barrier()) all.push_back(i + 1);
    return all;
  }
  // Where the writes end that may have arrived when the power failed at that point.
  size_t window_end(size_t point) const {
    while (point < entries_.size() && !entries_[point].barrier()) point++;
    return point;
  }
  std::string data(const Entry &e) const {
    std::string bytes(e.bytes, '\0');
    read_at(e.data_at, bytes.data(), bytes.size());
    return bytes;
  }

  using Put = std::function<void(uint64_t off, const char *bytes, size_t n)>;
  // All of [from, to) happens. Discarded blocks keep their bytes, as they may.
  void apply(size_t from, size_t to, const Put &put) const {
    for (size_t i = from; i < to; i++) {
      if (!entries_[i].written()) continue;
      const std::string bytes = data(entries_[i]);
      put(entries_[i].off, bytes.data(), bytes.size());
    }
  }
  // The power fails at that point: each of the writes behind it arrives whole, not at all or in some of its sectors.
  void tear(size_t point, uint64_t seed, const Put &put) const {
    std::mt19937_64 rng(seed);
    size_t end = window_end(point);
    if (end < entries_.size() && entries_[end].written()) end++;  // the FUA write itself
    for (size_t i = point; i < end; i++) {
      if (!entries_[i].written()) continue;
      const uint64_t dice = rng() % 4;
      if (dice == 0) continue;
      const std::string bytes = data(entries_[i]);
      for (size_t at = 0; at < bytes.size(); at += 512)
        if (dice < 3 || rng() % 2)
          put(entries_[i].off + at, bytes.data() + at, std::min<size_t>(512, bytes.size() - at));
    }
  }
  // What may be found then: the load's lines are marks, and a line that came before the next barrier was true without it.
  ackload::States states(size_t point) const {
    ackload::States s;
    for (size_t i = 0; i < window_end(point); i++)
      if (entries_[i].flags & kMark) s.line(entries_[i].mark);
    return s;
  }

 private:
  void read_at(uint64_t off, void *to, size_t n) const {
    CHECK(pread(fd_, to, n, static_cast<off_t>(off)) == static_cast<ssize_t>(n));
  }

  int fd_;
  uint32_t sector_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace write_log
