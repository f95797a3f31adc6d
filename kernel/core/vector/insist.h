// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Patience where memory must be found.
#pragma once
#include "../base/result.h"
#include "../platform.h"

namespace vexfs::vector {

// Tries again for a while when f() says nomem. For what follows a change that has been made: its caller would take an
// error for "nothing happened".
template <class F>
auto insist(F &&f) -> decltype(f()) {
  for (u32 tries = 0;; tries++) {
    auto r = f();
    if (r.code() != Errno::nomem || tries == 2000) return r;
    vx_yield();
  }
}

}  // namespace vexfs::vector
