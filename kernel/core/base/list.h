// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Intrusive doubly linked list: inserting cannot run out of memory; an object is on a list through a named hook.
#pragma once
#include "types.h"

namespace vexfs {

struct ListHook {
  ListHook *prev = nullptr;
  ListHook *next = nullptr;
  bool linked() const { return next != nullptr; }
  void unlink() {
    if (!linked()) return;
    prev->next = next;
    next->prev = prev;
    prev = next = nullptr;
  }
};

template <class T, ListHook T::*Hook>
class List : Pinned {
 public:
  List() { head_.prev = head_.next = &head_; }
  bool empty() const { return head_.next == &head_; }
  void push_back(T &t) { link(&(t.*Hook), head_.prev, &head_); }
  void push_front(T &t) { link(&(t.*Hook), &head_, head_.next); }
  T *front() { return empty() ? nullptr : owner(head_.next); }
  T *back() { return empty() ? nullptr : owner(head_.prev); }
  T *next(T &t) { return (t.*Hook).next == &head_ ? nullptr : owner((t.*Hook).next); }
  T *pop_front() {
    T *t = front();
    if (t) (t->*Hook).unlink();
    return t;
  }
  static void remove(T &t) { (t.*Hook).unlink(); }
  // Moves every element of `from` to the end of this list.
  void splice(List &from) {
    while (T *t = from.pop_front()) push_back(*t);
  }

 private:
  static void link(ListHook *h, ListHook *p, ListHook *n) {
    VX_ASSERT(!h->linked());
    h->prev = p;
    h->next = n;
    p->next = h;
    n->prev = h;
  }
  static T *owner(ListHook *h) {
    const T *probe = nullptr;
    auto off = reinterpret_cast<usize>(&(probe->*Hook));
    return reinterpret_cast<T *>(reinterpret_cast<u8 *>(h) - off);
  }
  ListHook head_;
};

}  // namespace vexfs
