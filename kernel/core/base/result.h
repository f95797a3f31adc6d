// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Errors as values: Result<T> carries either a T or a Linux errno; VX_TRY hands an error to the caller.
#pragma once
#include <new>

#include "types.h"

namespace vexfs {

// Linux errno numbers (asm-generic), so that the edge needs no table. Always positive here.
enum class Errno : int {
  ok = 0,
  perm = 1,
  noent = 2,
  intr = 4,
  io = 5,
  nxio = 6,
  toobig = 7,
  again = 11,
  nomem = 12,
  acces = 13,
  fault = 14,
  busy = 16,
  exist = 17,
  xdev = 18,
  notdir = 20,
  isdir = 21,
  inval = 22,
  mfile = 24,
  notty = 25,
  fbig = 27,
  nospc = 28,
  rofs = 30,
  mlink = 31,
  dom = 33,
  range = 34,
  deadlk = 35,
  nametoolong = 36,
  notempty = 39,
  nodata = 61,
  overflow = 75,
  opnotsupp = 95,
  stale = 116,
  corrupt = 117,  // EUCLEAN: "structure needs cleaning", the filesystem convention for damage
  canceled = 125,
};

class [[nodiscard]] Error {
 public:
  constexpr Error(Errno e) : code_(e) {}  // NOLINT(google-explicit-constructor)
  constexpr Errno code() const { return code_; }
  constexpr int negative() const { return -static_cast<int>(code_); }

 private:
  Errno code_;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T v) : code_(Errno::ok) { new (&storage_) T(std::move(v)); }   // NOLINT(google-explicit-constructor)
  Result(Error e) : code_(e.code()) { VX_ASSERT(code_ != Errno::ok); }  // NOLINT(google-explicit-constructor)
  Result(Errno e) : Result(Error(e)) {}                                 // NOLINT(google-explicit-constructor)
  Result(Result &&o) noexcept : code_(o.code_) {
    if (ok()) new (&storage_) T(std::move(o.ref()));
  }
  Result(const Result &) = delete;
  Result &operator=(const Result &) = delete;
  Result &operator=(Result &&) = delete;
  ~Result() {
    if (ok()) ref().~T();
  }

  bool ok() const { return code_ == Errno::ok; }
  explicit operator bool() const { return ok(); }
  Error error() const { return Error(code_); }
  Errno code() const { return code_; }
  T &value() {
    VX_ASSERT(ok());
    return ref();
  }
  const T &value() const {
    VX_ASSERT(ok());
    return *reinterpret_cast<const T *>(&storage_);
  }
  T &operator*() { return value(); }
  T *operator->() { return &value(); }
  T take() {
    VX_ASSERT(ok());
    return std::move(ref());
  }

 private:
  T &ref() { return *reinterpret_cast<T *>(&storage_); }
  Errno code_;
  alignas(T) unsigned char storage_[sizeof(T)];
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error e) : code_(e.code()) {}  // NOLINT(google-explicit-constructor)
  Result(Errno e) : code_(e) {}         // NOLINT(google-explicit-constructor)
  bool ok() const { return code_ == Errno::ok; }
  explicit operator bool() const { return ok(); }
  Error error() const { return Error(code_); }
  Errno code() const { return code_; }
  void take() const { VX_ASSERT(ok()); }
  // 0 or a negative errno, for the C edge.
  int to_c() const { return -static_cast<int>(code_); }

 private:
  Errno code_ = Errno::ok;
};
using Status = Result<void>;

}  // namespace vexfs

// Yields the value of a Result, or returns its error from the enclosing function.
#define VX_TRY(expr)                  \
  ({                                  \
    auto vx_try_r_ = (expr);          \
    if (!vx_try_r_.ok()) [[unlikely]] \
      return vx_try_r_.error();       \
    vx_try_r_.take();                 \
  })
