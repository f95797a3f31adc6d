// SPDX-License-Identifier: MIT
// A simulated block device with a volatile write cache: records every write, flush and mark, and makes the images that
// a power cut could leave behind.
//
// Model: a write is volatile until a later flush completes, or durable by itself when it carries FUA. At a power cut,
// of the volatile writes any subset has reached the medium, in any order, and each of them may be torn at 512-byte
// sectors; of two that overlap, the later one wins where both arrived. (This is what the block layer promises; the
// idea of replaying it exhaustively: Mohan et al., "Finding Crash-Consistency Bugs with Bounded Black-Box Crash
// Testing", OSDI 2018.)
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "../../lib/device.h"

namespace vexfs::crash {

class SimDevice : public vx_bdev {
 public:
  struct Event {
    enum class Kind : uint8_t { write, flush, mark } kind;
    bool fua = false;
    uint64_t off = 0;           // write: byte offset; mark: the caller's value
    std::vector<uint8_t> data;  // write
  };

  explicit SimDevice(uint64_t size, uint32_t logical_block = 512) : now_(size, logical_block, "sim") {}

  explicit SimDevice(const host::MemDevice &image);  // begins as a copy

  uint64_t size() const override { return now_.size(); }
  uint32_t logical_block() const override { return now_.logical_block(); }
  const char *name() const override { return "sim"; }
  int submit(vx_io *ios, size_t n) override;
  int flush() override;

  // From here on, events are recorded; what the device holds now is the starting image.
  void start_recording();
  // Remembers where in the stream of events something became true ("sync returned", value = number of the operation).
  void mark(uint64_t value);
  host::MemDevice &contents() { return now_; }
  size_t events() const;
  const Event &event(size_t i) const { return log_[i]; }

 private:
  friend class CrashImages;
  mutable std::mutex lock_;
  bool recording_ = false;
  host::MemDevice now_;
  std::unique_ptr<host::MemDevice> start_;
  std::vector<Event> log_;
};

// Walks the recorded events forward and makes images of power cuts at the place it stands at.
class CrashImages {
 public:
  explicit CrashImages(const SimDevice &dev) : dev_(dev), durable_(dev.start_->clone()) {}

  size_t position() const { return at_; }  // events before this one have happened
  bool at_end() const { return at_ == dev_.log_.size(); }
  void step();  // the next event happens
  bool just_flushed() const { return at_ > 0 && dev_.log_[at_ - 1].kind == SimDevice::Event::Kind::flush; }
  bool just_wrote() const { return at_ > 0 && dev_.log_[at_ - 1].kind == SimDevice::Event::Kind::write; }
  uint64_t last_mark() const { return last_mark_; }  // highest mark that has been passed, 0 = none
  size_t volatile_writes() const { return volatile_.size(); }

  std::unique_ptr<host::MemDevice> none_arrived() const { return durable_->clone(); }
  std::unique_ptr<host::MemDevice> all_arrived() const;
  // Every volatile write arrives whole (p_whole), not at all (p_none), or torn: each of its sectors by a coin.
  std::unique_ptr<host::MemDevice> some_arrived(std::mt19937_64 &rng, double p_whole, double p_none) const;
  // The power fails while the next event, a write, is under way: the volatile ones as in some_arrived, and that one torn.
  bool next_is_write() const { return !at_end() && dev_.log_[at_].kind == SimDevice::Event::Kind::write; }
  std::unique_ptr<host::MemDevice> next_torn(std::mt19937_64 &rng, double p_whole, double p_none) const;

 private:
  const SimDevice &dev_;
  std::unique_ptr<host::MemDevice> durable_;
  std::vector<size_t> volatile_;  // indexes of writes not yet durable, in order
  size_t at_ = 0;
  uint64_t last_mark_ = 0;
};

}  // namespace vexfs::crash
