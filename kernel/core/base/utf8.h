// SPDX-License-Identifier: GPL-2.0-only OR MIT
// UTF-8 as RFC 3629 has it.
#pragma once
#include "memory.h"
#include "types.h"

namespace vexfs {

// Bytes of the character at s[at]; 0: none begins there, or it is cut off. Surrogates and overlong forms of more than two
// bytes are let through: what is asked is whether a terminal can show it.
constexpr usize utf8_character(Bytes s, usize at) {
  u8 c = s[at];
  usize n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
  if (n > s.size() - at) return 0;
  for (usize i = 1; i < n; i++)
    if ((s[at + i] & 0xc0) != 0x80) return 0;
  return n;
}

}  // namespace vexfs
