// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What the kernels of every instruction set have in common about the kinds of codes; see codes_kernels.h. Included
// inside an anonymous namespace.
#pragma once

struct Layout8 {
  static constexpr bool doubled = false, packed = false;
  static constexpr usize code_bytes(u32 n) { return n; }
  static constexpr usize query_bytes(u32 n) { return usize{2} * n; }
};
struct Layout4 {
  static constexpr bool doubled = true, packed = false;
  static constexpr usize code_bytes(u32 n) { return n / 2; }
  static constexpr usize query_bytes(u32 n) { return n; }
};
// Rotated, with a head that is packed into a word: in 16 bytes, byte j has elements j, 16 + j, ... from the lowest bits up.
struct Layout2 {
  static constexpr bool doubled = true, packed = true;
  static constexpr usize code_bytes(u32 n) { return n / 4; }
  static constexpr usize query_bytes(u32 n) { return n; }
};
struct Layout1 {
  static constexpr bool doubled = true, packed = true;
  static constexpr usize code_bytes(u32 n) { return n / 8; }
  static constexpr usize query_bytes(u32 n) { return n; }
};
