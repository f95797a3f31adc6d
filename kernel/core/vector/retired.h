// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Something that readers may still hold after it was replaced: freed after an epoch (ChunkCache::reclaim).
#pragma once
#include "../base/list.h"

namespace vexfs::vector {

struct Retired {
  ListHook retired_hook;
  void (*destroy)(Retired *) = nullptr;
};

}  // namespace vexfs::vector
