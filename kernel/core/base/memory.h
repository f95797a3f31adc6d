// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Owning pointers and a growable array whose every allocation can fail and says so.
#pragma once
#include <new>

#include "../platform.h"
#include "result.h"

namespace vexfs {

// Sole owner of one heap object.
template <class T>
class Box {
 public:
  Box() = default;
  explicit Box(T *p) : p_(p) {}
  Box(Box &&o) noexcept : p_(o.release()) {}
  Box &operator=(Box &&o) noexcept {
    if (this != &o) {
      reset();
      p_ = o.release();
    }
    return *this;
  }
  Box(const Box &) = delete;
  Box &operator=(const Box &) = delete;
  ~Box() { reset(); }

  template <class... A>
  static Result<Box> make(A &&...a) {
    void *m = vx_alloc(sizeof(T), 0);
    if (!m) return Errno::nomem;
    return Box(new (m) T(std::forward<A>(a)...));
  }
  T *get() const { return p_; }
  T *operator->() const { return p_; }
  T &operator*() const { return *p_; }
  explicit operator bool() const { return p_ != nullptr; }
  T *release() { return std::exchange(p_, nullptr); }
  void reset() {
    // The analyzer thinks that a VX_TRY which returns destroys the value that it never made.
    if (p_) {  // NOLINT(clang-analyzer-core.uninitialized.Branch)
      p_->~T();
      vx_free(p_);
      p_ = nullptr;
    }
  }

 private:
  T *p_ = nullptr;
};

// A growable array. Growth returns ENOMEM and leaves the contents as they were.
template <class T>
class Vec {
 public:
  Vec() = default;
  Vec(Vec &&o) noexcept
      : p_(std::exchange(o.p_, nullptr)), n_(std::exchange(o.n_, 0)), cap_(std::exchange(o.cap_, 0)) {}
  Vec &operator=(Vec &&o) noexcept {
    if (this != &o) {
      free_all();
      p_ = std::exchange(o.p_, nullptr);
      n_ = std::exchange(o.n_, 0);
      cap_ = std::exchange(o.cap_, 0);
    }
    return *this;
  }
  Vec(const Vec &) = delete;
  Vec &operator=(const Vec &) = delete;
  ~Vec() { free_all(); }

  Status reserve(usize want) {
    if (want <= cap_) return {};
    if (want > ~usize{0} / sizeof(T)) return Errno::nomem;
    T *m = static_cast<T *>(vx_alloc_large(want * sizeof(T), 0));
    if (!m) return Errno::nomem;
    for (usize i = 0; i < n_; i++) {
      new (m + i) T(std::move(p_[i]));
      p_[i].~T();
    }
    if (p_) vx_free_large(p_, cap_ * sizeof(T));
    p_ = m;
    cap_ = want;
    return {};
  }
  Status push(T v) {
    if (n_ == cap_) VX_TRY(reserve(cap_ ? cap_ * 2 : 8));
    new (p_ + n_++) T(std::move(v));
    return {};
  }
  // Grows with value-initialised elements, or shrinks.
  Status resize(usize n) {
    VX_TRY(reserve(n));
    while (n_ < n) new (p_ + n_++) T();
    while (n_ > n) p_[--n_].~T();
    return {};
  }
  Status insert(usize at, T v) {
    VX_ASSERT(at <= n_);
    VX_TRY(push(std::move(v)));
    for (usize i = n_ - 1; i > at; i--) std::swap(p_[i], p_[i - 1]);
    return {};
  }
  void erase(usize at) {
    VX_ASSERT(at < n_);
    for (usize i = at; i + 1 < n_; i++) p_[i] = std::move(p_[i + 1]);
    p_[--n_].~T();
  }
  void pop() {
    VX_ASSERT(n_ > 0);
    p_[--n_].~T();
  }
  void clear() {
    while (n_) p_[--n_].~T();
  }
  T &operator[](usize i) {
    VX_ASSERT(i < n_);
    return p_[i];
  }
  const T &operator[](usize i) const {
    VX_ASSERT(i < n_);
    return p_[i];
  }
  T &back() { return (*this)[n_ - 1]; }
  T *data() { return p_; }
  const T *data() const { return p_; }
  usize size() const { return n_; }
  usize capacity() const { return cap_; }
  bool empty() const { return n_ == 0; }
  T *begin() { return p_; }
  T *end() { return p_ + n_; }
  const T *begin() const { return p_; }
  const T *end() const { return p_ + n_; }

 private:
  void free_all() {
    clear();
    if (p_) vx_free_large(p_, cap_ * sizeof(T));
    p_ = nullptr;
    cap_ = 0;
  }
  T *p_ = nullptr;
  usize n_ = 0;
  usize cap_ = 0;
};

// A non-owning reference to something callable. The callee must not keep it.
template <class Sig>
class FnRef;
template <class R, class... A>
class FnRef<R(A...)> {
 public:
  // A copy refers to the callable, not to the FnRef that was copied.
  template <class F, class = std::enable_if_t<!std::is_same_v<std::remove_cvref_t<F>, FnRef>>>
  FnRef(F &&f)  // NOLINT(google-explicit-constructor)
      : obj_(const_cast<void *>(static_cast<const void *>(&f))), call_([](void *o, A... a) -> R {
          return (*static_cast<std::remove_reference_t<F> *>(o))(std::forward<A>(a)...);
        }) {}
  R operator()(A... a) const { return call_(obj_, std::forward<A>(a)...); }

 private:
  void *obj_;
  R (*call_)(void *, A...);
};

}  // namespace vexfs
