// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Little-endian integers as they lie on disk: unaligned, trivially copyable, read and written by value.
#pragma once
#include <bit>
#include <type_traits>

#include "types.h"

namespace vexfs {

template <class T>
struct Le {
  u8 raw[sizeof(T)];

  constexpr T get() const {
    if (std::is_constant_evaluated()) {
      T v = 0;
      for (usize i = 0; i < sizeof(T); i++) v = static_cast<T>(v | (static_cast<T>(raw[i]) << (8 * i)));
      return v;
    }
    T v;
    __builtin_memcpy(&v, raw, sizeof(T));
    return swap(v);
  }
  constexpr void set(T v) {
    if (std::is_constant_evaluated()) {
      for (usize i = 0; i < sizeof(T); i++) raw[i] = static_cast<u8>(v >> (8 * i));
      return;
    }
    v = swap(v);
    __builtin_memcpy(raw, &v, sizeof(T));
  }
  static constexpr T swap(T v) {
    if constexpr (std::endian::native == std::endian::little) return v;
    if constexpr (sizeof(T) == 2) return __builtin_bswap16(v);
    if constexpr (sizeof(T) == 4) return __builtin_bswap32(v);
    return static_cast<T>(__builtin_bswap64(v));
  }
  constexpr operator T() const { return get(); }  // NOLINT(google-explicit-constructor)
  constexpr Le &operator=(T v) {
    set(v);
    return *this;
  }
};
using le16 = Le<u16>;
using le32 = Le<u32>;
using le64 = Le<u64>;
static_assert(sizeof(le16) == 2 && sizeof(le32) == 4 && sizeof(le64) == 8 && alignof(le64) == 1);

}  // namespace vexfs
