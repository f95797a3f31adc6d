// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Fixed-width integer names, alignment helpers and the assertion macro of the core.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace vexfs {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using s8 = std::int8_t;
using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;
using usize = std::size_t;

using Bytes = std::span<const u8>;
using MutBytes = std::span<u8>;

template <class T>
constexpr T align_up(T v, T a) {
  return (v + a - 1) / a * a;
}
template <class T>
constexpr T align_down(T v, T a) {
  return v / a * a;
}
template <class T>
constexpr T div_up(T v, T a) {
  return (v + a - 1) / a;
}
template <class T>
constexpr bool is_pow2(T v) {
  return v != 0 && (v & (v - 1)) == 0;
}
template <class T>
constexpr T min_of(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max_of(T a, T b) {
  return a < b ? b : a;
}

// The bytes of a trivially copyable object (an on-disk struct, usually).
template <class T>
inline Bytes bytes_of(const T &v) {
  return {reinterpret_cast<const u8 *>(&v), sizeof(T)};
}
template <class T>
inline MutBytes mut_bytes_of(T &v) {
  return {reinterpret_cast<u8 *>(&v), sizeof(T)};
}

// Non-copyable, non-movable base.
struct Pinned {
  Pinned() = default;
  Pinned(const Pinned &) = delete;
  Pinned &operator=(const Pinned &) = delete;
};

}  // namespace vexfs

// Freestanding memory primitives; the host links its own (string functions of the kernel or of libc).
extern "C" {
void *memcpy(void *dst, const void *src, std::size_t n) noexcept;
void *memmove(void *dst, const void *src, std::size_t n) noexcept;
void *memset(void *dst, int c, std::size_t n) noexcept;
int memcmp(const void *a, const void *b, std::size_t n) noexcept;
}

// An invariant of in-memory state. Never used for anything that a disk image or a caller can make false.
extern "C" void vx_assert_fail(const char *expr, const char *file, int line);
#ifdef __clang_analyzer__
// vx_assert_fail does not return, but objtool must not know it.
#define VX_ASSERT(expr) ((expr) ? (void)0 : __builtin_unreachable())
#else
#define VX_ASSERT(expr)                                 \
  do {                                                  \
    if (!(expr)) [[unlikely]]                           \
      ::vx_assert_fail(#expr, __FILE_NAME__, __LINE__); \
  } while (0)
#endif
#ifndef __FILE_NAME__
#define __FILE_NAME__ __FILE__
#endif
