// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The two orders a graph walk keeps, both over u64 entries whose integer order is (distance key, slot).
#pragma once
#include "rows.h"
#include "scratch.h"

namespace vexfs::vector {

// key << 32 | slot << 1 | expanded. The flag does not disturb the order: a slot occurs once.
using Entry = u64;
constexpr Entry entry_of(u32 key, u32 slot) { return u64{key} << 32 | u64{slot} << 1; }
constexpr u32 entry_key(Entry e) { return static_cast<u32>(e >> 32); }
constexpr u32 entry_slot(Entry e) { return static_cast<u32>(e) >> 1; }

// The nearest `cap` entries seen so far, ascending, each marked when it has been expanded.
class Beam {
 public:
  // storage: cap entries.
  void reset(Entry *storage, u32 cap) {
    e_ = storage;
    cap_ = cap;
    n_ = next_ = 0;
  }
  u32 size() const { return n_; }
  bool full() const { return n_ == cap_; }
  const Entry *entries() const { return e_; }
  // Entries not below this one cannot enter.
  Entry limit() const { return n_ < cap_ ? ~Entry{0} : e_[n_ - 1]; }

  void add(Entry e) {
    if (e >= limit()) return;
    const u32 lo = place(e, n_);
    const u32 tail = (n_ < cap_ ? n_ : cap_ - 1) - lo;
    memmove(e_ + lo + 1, e_ + lo, usize{tail} * sizeof(Entry));
    e_[lo] = e;
    if (n_ < cap_) n_++;
    if (lo < next_) next_ = lo;
  }
  // Adds entries below the limit, in any order; works in the array given. What is there moves up once, not once for each:
  // in a short beam one by one, where nothing but the end of the loop is to be foretold, in a long one in runs.
  void add_below(Entry *in, u32 m) {
    if (m == 1) return add(in[0]);
    sort(in, m);
    u32 n = n_, end = min_of(cap_, n_ + m);
    for (u32 beyond = n_ + m - end; beyond; beyond--) in[m - 1] > (n ? e_[n - 1] : 0) ? m-- : n--;
    n_ = end;
    if (end <= merged_max) return merge(in, m, n, end);
    while (m) {
      const Entry e = in[m - 1];
      const u32 lo = place(e, n);
      memmove(e_ + lo + m, e_ + lo, usize{n - lo} * sizeof(Entry));
      e_[lo + m - 1] = e;
      n = lo;
      if (--m == 0 && lo < next_) next_ = lo;
    }
  }
  bool has_next() const { return next_ < n_; }
  // The same among the nearest `reach`.
  bool has_next(u32 reach) const { return next_ < min_of(n_, reach); }
  // The nearest entry not yet expanded; marks it.
  u32 take_next() {
    const u32 slot = entry_slot(e_[next_]);
    e_[next_] |= 1;
    while (++next_ < n_ && (e_[next_] & 1)) {
    }
    return slot;
  }
  // What take_next would give, or slot_none.
  u32 peek_next() const { return next_ < n_ ? entry_slot(e_[next_]) : slot_none; }
  void expand_again() {
    for (u32 i = 0; i < n_; i++) e_[i] &= ~Entry{1};
    next_ = 0;
  }

 private:
  // Where it belongs among the first n: without branches, as that is a coin's toss each time.
  u32 place(Entry e, u32 n) const {
    u32 lo = 0;
    for (u32 len = n; len > 1;) {
      const u32 half = len / 2;
      lo += half & -u32{e_[lo + half - 1] < e};
      len -= half;
    }
    return lo + (n && e_[lo] < e);
  }
  // The first n entries and m > 0 ascending ones, into [0, end).
  void merge(const Entry *in, u32 m, u32 n, u32 end) {
    while (m) {
      const Entry old = n ? e_[n - 1] : 0, e = in[m - 1];
      const bool stays_above = old > e;
      e_[--end] = stays_above ? old : e;
      n -= stays_above;
      m -= !stays_above;
    }
    if (n < next_) next_ = n;
  }
  // Few of a batch are below the limit: as long as they are, every comparison is made, but none is to be foretold.
  static void sort(Entry *in, u32 m) {
    for (u32 i = 1; i < m; i++) {
      Entry e = in[i];
      u32 j = i;
      if (m <= unforetold_max) {
        for (; j; j--) {
          const Entry below = in[j - 1];
          in[j] = max_of(below, e);
          e = min_of(below, e);
        }
      } else {
        for (; j && in[j - 1] > e; j--) in[j] = in[j - 1];
      }
      in[j] = e;
    }
  }
  static constexpr u32 merged_max = 64, unforetold_max = 16;
  Entry *e_ = nullptr;
  u32 cap_ = 0;
  u32 n_ = 0;
  u32 next_ = 0;  // every entry before it is expanded
};

// A binary heap with the least entry on top. The storage is the caller's.
class MinHeap {
 public:
  void reset(Entry *storage, u32 cap) {
    e_ = storage;
    cap_ = cap;
    n_ = 0;
  }
  // Moves the contents into a larger storage.
  void move_to(Entry *storage, u32 cap) {
    memcpy(storage, e_, usize{n_} * sizeof(Entry));
    e_ = storage;
    cap_ = cap;
  }
  u32 size() const { return n_; }
  u32 capacity() const { return cap_; }
  bool empty() const { return n_ == 0; }
  Entry top() const { return e_[0]; }
  void push(Entry e) {
    u32 i = n_++;
    while (i) {
      const u32 up = (i - 1) / 2;
      if (e_[up] <= e) break;
      e_[i] = e_[up];
      i = up;
    }
    e_[i] = e;
  }
  void pop() {
    const Entry e = e_[--n_];
    u32 i = 0;
    for (;;) {
      u32 c = 2 * i + 1;
      if (c >= n_) break;
      if (c + 1 < n_ && e_[c + 1] < e_[c]) c++;
      if (e_[c] >= e) break;
      e_[i] = e_[c];
      i = c;
    }
    if (n_) e_[i] = e;
  }

 private:
  Entry *e_ = nullptr;
  u32 cap_ = 0;
  u32 n_ = 0;
};

}  // namespace vexfs::vector
