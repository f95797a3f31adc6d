// SPDX-License-Identifier: MIT
// Repairing a filesystem that nobody has open: fsck.vexfs -p and -y.
//
// A repair reads everything and decides everything first; nothing is written before that. What is to be written then goes
// to places that neither the old state nor the new one refers to, and becomes true with one root slot: a crash leaves the
// old state or the new one, and to run it again finishes it.
//
//   Repair r(device);
//   r.plan(Depth::all);              // what is wrong, and what would be done: r.actions()
//   r.apply(overlay) ... check ...   // the caller looks whether the result is sound
//   r.apply(device)
#pragma once
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "../../kernel/core/base/result.h"
#include "../device.h"

namespace vexfs::repair {

struct Action {
  // safe: nothing is lost by it, it follows from what is intact. asks: something was lost, or is decided by a rule.
  enum class Kind { safe, asks };
  Kind kind;
  std::string text;
};

enum class Depth {
  copies,   // copies of the superblock and of the roots
  checked,  // these, and the mark that damage was met goes: a check of everything has found no errors
  all,      // trees, space, and what the items mean
};

// Memory that a device can read into and write from.
template <class T>
struct Aligned {
  using value_type = T;
  Aligned() = default;
  template <class U>
  Aligned(const Aligned<U> &) {}  // NOLINT(google-explicit-constructor)
  T *allocate(usize n) { return static_cast<T *>(::operator new (n * sizeof(T), std::align_val_t{4096})); }
  void deallocate(T *p, usize) { ::operator delete (p, std::align_val_t{4096}); }
  friend bool operator==(const Aligned &, const Aligned &) { return true; }
};
using Buffer = std::vector<u8, Aligned<u8>>;

struct Write {
  u64 off;  // bytes from the start of the device
  Buffer bytes;
};

struct Model;

class Repair {
 public:
  explicit Repair(vx_bdev *dev);
  ~Repair();
  // inval: no VexFS here; opnotsupp: features that this program does not know; corrupt: nothing to begin with is left;
  // nospc: what has to be written finds no place. Nothing is written.
  Errno plan(Depth depth);
  const std::vector<Action> &actions() const;
  bool only_safe() const;
  bool anything() const { return !before_.empty() || !root_.empty() || !after_.empty(); }
  // What was planned, written to that device (the one that was read, or an overlay on it). The first error stops it.
  Errno apply(vx_bdev *to) const;

 private:
  Errno plan_new_state();
  void plan_copies();
  void plan_mark();

  std::unique_ptr<Model> m_;
  std::vector<Write> before_;  // to places that the old state does not use
  std::vector<Write> root_;    // make the new state true
  std::vector<Write> after_;   // copies
};

}  // namespace vexfs::repair
