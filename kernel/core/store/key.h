// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The key of every item in a B+tree: (object id, item type, offset), compared in that order.
#pragma once
#include <compare>

#include "../base/types.h"

namespace vexfs::store {

struct Key {
  u64 oid = 0;
  u8 type = 0;
  u64 off = 0;

  friend constexpr bool operator==(const Key &, const Key &) = default;
  friend constexpr std::strong_ordering operator<=>(const Key &a, const Key &b) {
    if (a.oid != b.oid) return a.oid <=> b.oid;
    if (a.type != b.type) return a.type <=> b.type;
    return a.off <=> b.off;
  }
  static constexpr Key min() { return {0, 0, 0}; }
  static constexpr Key max() { return {~u64{0}, 0xff, ~u64{0}}; }
};

}  // namespace vexfs::store
