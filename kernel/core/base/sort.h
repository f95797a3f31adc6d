// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Sorting in place: a heapsort, so neither memory nor the order of what comes in makes a difference.
#pragma once
#include "memory.h"

namespace vexfs {

namespace sort_impl {
// Lets v[at] sink to where the heap v[0, n) has its place.
template <class T, class F>
void sink(T *v, usize at, usize n, F &less) {
  for (usize child = 2 * at + 1; child < n; child = 2 * at + 1) {
    if (child + 1 < n && less(v[child], v[child + 1])) child++;
    if (!less(v[at], v[child])) return;
    std::swap(v[at], v[child]);
    at = child;
  }
}
}  // namespace sort_impl

// Ascending by less(a, b). Not stable.
template <class T, class F>
void sort(T *v, usize n, F less) {
  for (usize i = n / 2; i-- > 0;) sort_impl::sink(v, i, n, less);
  for (usize i = n; i-- > 1;) {
    std::swap(v[0], v[i]);
    sort_impl::sink(v, 0, i, less);
  }
}

}  // namespace vexfs
