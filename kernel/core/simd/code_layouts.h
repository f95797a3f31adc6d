// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What the kernels of every instruction set have in common about the two kinds of codes; see codes_kernels.h. Included
// inside an anonymous namespace.
#pragma once

struct Layout8 {
  static constexpr bool doubled = false;
  static constexpr usize code_bytes(u32 n) { return n; }
  static constexpr usize query_bytes(u32 n) { return usize{2} * n; }
};
struct Layout4 {
  static constexpr bool doubled = true;
  static constexpr usize code_bytes(u32 n) { return n / 2; }
  static constexpr usize query_bytes(u32 n) { return n; }
};
