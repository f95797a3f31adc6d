// SPDX-License-Identifier: MIT
// The states that a recorded run went through, and the judgement of what a power cut left: an image must hold exactly one
// of them, not older than what was acknowledged, not younger than what had begun.
//
//   History h(device, mount);      // the present state is state 0
//   ... an operation ...           h.note();
//   ... a sync that returned 0 ... h.acknowledged(ino or 0);
//   Judge(h, device, seed).run();
//
// Where a state may differ from the history, and no further: bytes that an operation overwrote in place may be those of
// any state since the last acknowledged sync, sector by sector; times and the content version of an inode may be as old
// as the last sync of that inode or of everything.
#pragma once
#include <functional>
#include <optional>

#include "sim_device.h"
#include "snapshot.h"

namespace vexfs::crash {

class History {
 public:
  History(SimDevice &dev, vector::test::Mount &m, bool mapping = true);

  // Called with true before a state is looked at, and with false after it: for those that make requests fail.
  std::function<void(bool)> looking;

  void note();                      // an operation has ended
  void acknowledged(uint64_t ino);  // a sync of the inode, or (0) of everything, has returned 0
  size_t states() const { return states_.size(); }
  const Snapshot &latest() const { return states_.back().what; }
  bool mapping() const { return mapping_; }

  // Where in the stream of the device's events the power failed: so many had happened, and that many had begun.
  struct Moment {
    size_t happened, begun;
  };
  // Why `got` is none of the states allowed then; nothing if it is one.
  std::optional<std::string> refuse(const Snapshot &got, Moment when) const;

 private:
  struct State {
    Snapshot what;
    size_t begun;  // events of the device before the operation that leads here
  };
  struct Ack {
    size_t state, at;  // at: events of the device when it came
    uint64_t ino;
  };
  struct Bounds {
    size_t least = 0, most = 0;
  };
  Bounds bounds(Moment when) const;
  size_t floor_of(uint64_t ino, size_t happened) const;
  std::string refuse_as(const Snapshot &got, size_t as, Bounds b, size_t happened) const;
  bool sector_allowed(const InodeState &got, uint64_t ino, size_t off, size_t as, Bounds b) const;
  bool lazy_allowed(const InodeState &got, uint64_t ino, size_t first, size_t last) const;
  const InodeState *inode(size_t state, uint64_t ino) const;
  std::string differences(const Snapshot &got, size_t as) const;

  SimDevice &dev_;
  vector::test::Mount &mount_;
  bool mapping_;
  size_t now_ = 0;  // events at the last note or acknowledgement
  std::vector<State> states_;
  std::vector<Ack> acks_;
};

struct Tally {
  uint64_t images = 0, replayed = 0, second_cuts = 0;
  Tally &operator+=(const Tally &o) {
    images += o.images;
    replayed += o.replayed;
    second_cuts += o.second_cuts;
    return *this;
  }
};

// Makes images at every event of a recording and judges each: it mounts, holds an allowed state, can be written to, and
// a check of all of it finds nothing. Some of those that replay a log are cut a second time in the middle of that.
class Judge {
 public:
  Judge(const History &h, const SimDevice &dev, uint64_t seed) : h_(h), dev_(dev), rng_(seed) {}
  // Stops at the first failure, which GoogleTest then knows of.
  Tally run();
  // No power cut: what is on the device at the end.
  Tally what_is_there(host::MemDevice &contents);

 private:
  void event(const CrashImages &at);
  void image(std::unique_ptr<host::MemDevice> image, History::Moment when, const char *what);
  void cut_again(const host::MemDevice &image, History::Moment when);
  bool compare(vector::test::Mount &m, History::Moment when);

  const History &h_;
  const SimDevice &dev_;
  std::mt19937_64 rng_;
  Tally tally_;
};

}  // namespace vexfs::crash
