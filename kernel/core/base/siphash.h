// SPDX-License-Identifier: GPL-2.0-only OR MIT
// SipHash-2-4: a keyed 64-bit hash of short strings that an attacker who does not know the key cannot make collide.
// Algorithm: J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF", 2012.
#pragma once
#include <bit>

#include "types.h"

namespace vexfs {

struct SipKey {
  u64 k0 = 0;
  u64 k1 = 0;
};

constexpr u64 siphash(const SipKey &key, Bytes in) {
  u64 v0 = key.k0 ^ 0x736f6d6570736575, v1 = key.k1 ^ 0x646f72616e646f6d;
  u64 v2 = key.k0 ^ 0x6c7967656e657261, v3 = key.k1 ^ 0x7465646279746573;
  auto round = [&] {
    v0 += v1;
    v1 = std::rotl(v1, 13);
    v1 ^= v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16);
    v3 ^= v2;
    v0 += v3;
    v3 = std::rotl(v3, 21);
    v3 ^= v0;
    v2 += v1;
    v1 = std::rotl(v1, 17);
    v1 ^= v2;
    v2 = std::rotl(v2, 32);
  };
  usize n = in.size(), whole = n / 8 * 8;
  for (usize i = 0; i < whole; i += 8) {
    u64 m = 0;
    for (usize j = 0; j < 8; j++) m |= static_cast<u64>(in[i + j]) << (8 * j);
    v3 ^= m;
    round();
    round();
    v0 ^= m;
  }
  u64 last = static_cast<u64>(n & 0xff) << 56;
  for (usize j = 0; whole + j < n; j++) last |= static_cast<u64>(in[whole + j]) << (8 * j);
  v3 ^= last;
  round();
  round();
  v0 ^= last;
  v2 ^= 0xff;
  for (int i = 0; i < 4; i++) round();
  return v0 ^ v1 ^ v2 ^ v3;
}

}  // namespace vexfs
