// SPDX-License-Identifier: MIT
// See sim_device.h.
#include "sim_device.h"

#include <cerrno>

namespace vexfs::crash {

namespace {
constexpr uint64_t kSector = 512;

void poke_torn(host::MemDevice &image, const SimDevice::Event &e, std::mt19937_64 &rng) {
  for (uint64_t s = 0; s < e.data.size(); s += kSector)
    if (rng() & 1) image.poke(e.off + s, e.data.data() + s, std::min<uint64_t>(kSector, e.data.size() - s));
}
}  // namespace

SimDevice::SimDevice(const host::MemDevice &image) : now_(image.size(), image.logical_block(), "sim") {
  std::vector<uint8_t> piece(64 << 10), empty(64 << 10);
  for (uint64_t at = 0; at < image.size(); at += piece.size()) {
    uint64_t n = std::min<uint64_t>(piece.size(), image.size() - at);
    image.peek(at, piece.data(), n);
    if (piece != empty) now_.poke(at, piece.data(), n);
  }
}

int SimDevice::submit(vx_io *ios, size_t n) {
  std::lock_guard guard(lock_);
  int first = 0;
  for (size_t i = 0; i < n; i++) {
    vx_io &io = ios[i];
    io.err = now_.submit(&io, 1);
    if (io.err && !first) first = io.err;
    if (io.err || !(io.flags & VX_IO_WRITE) || !recording_) continue;
    Event e{Event::Kind::write, (io.flags & VX_IO_FUA) != 0, io.off, {}};
    const auto *p = static_cast<const uint8_t *>(io.buf);
    e.data.assign(p, p + io.len);
    log_.push_back(std::move(e));
  }
  return first;
}

int SimDevice::flush() {
  std::lock_guard guard(lock_);
  if (recording_) log_.push_back({Event::Kind::flush, false, 0, {}});
  return 0;
}

void SimDevice::start_recording() {
  std::lock_guard guard(lock_);
  start_ = now_.clone();
  log_.clear();
  recording_ = true;
}

void SimDevice::mark(uint64_t value) {
  std::lock_guard guard(lock_);
  if (recording_) log_.push_back({Event::Kind::mark, false, value, {}});
}

size_t SimDevice::events() const {
  std::lock_guard guard(lock_);
  return log_.size();
}

void CrashImages::step() {
  const SimDevice::Event &e = dev_.log_[at_++];
  switch (e.kind) {
    case SimDevice::Event::Kind::mark:
      last_mark_ = std::max(last_mark_, e.off);
      break;
    case SimDevice::Event::Kind::flush:
      for (size_t i : volatile_) durable_->poke(dev_.log_[i].off, dev_.log_[i].data.data(), dev_.log_[i].data.size());
      volatile_.clear();
      break;
    case SimDevice::Event::Kind::write:
      if (e.fua)
        durable_->poke(e.off, e.data.data(), e.data.size());
      else
        volatile_.push_back(at_ - 1);
      break;
  }
}

std::unique_ptr<host::MemDevice> CrashImages::all_arrived() const {
  auto image = durable_->clone();
  for (size_t i : volatile_) image->poke(dev_.log_[i].off, dev_.log_[i].data.data(), dev_.log_[i].data.size());
  return image;
}

std::unique_ptr<host::MemDevice> CrashImages::some_arrived(std::mt19937_64 &rng, double p_whole, double p_none) const {
  auto image = durable_->clone();
  std::uniform_real_distribution<double> coin(0, 1);
  for (size_t i : volatile_) {
    const SimDevice::Event &e = dev_.log_[i];
    double c = coin(rng);
    if (c < p_whole) {
      image->poke(e.off, e.data.data(), e.data.size());
    } else if (c >= p_whole + p_none) {
      poke_torn(*image, e, rng);
    }
  }
  return image;
}

std::unique_ptr<host::MemDevice> CrashImages::next_torn(std::mt19937_64 &rng, double p_whole, double p_none) const {
  auto image = some_arrived(rng, p_whole, p_none);
  poke_torn(*image, dev_.log_[at_], rng);
  return image;
}

}  // namespace vexfs::crash
