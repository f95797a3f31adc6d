// SPDX-License-Identifier: MIT
// A vx_caller for programs that work on an image themselves: addresses are their own, nothing is forbidden.
#pragma once
#include "../../kernel/core/api.h"

namespace vexfs::client {

vx_caller trusted_caller();

// Commands of trusted callers stop at the next safe point once this is set (a signal handler does).
void interrupt_image_commands();

}  // namespace vexfs::client
